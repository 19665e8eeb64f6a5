//! Our byte-level BPE against the `tokenizers` crate: every Unicode scalar value, random texts of
//! mixed scripts, every setting, added tokens, pairs and truncation; ids, types and offsets. Then
//! long words, and the section itself, damaged in many ways.
//!
//! The vocabulary is trained here, on the texts of the tiny model. Offsets are compared by
//! characters, as Python has them: those that `tokenizers` gives in bytes are wrong where it
//! takes a space that is not ASCII for one byte.
//!
//! Every random choice comes from a seed, so a failure repeats.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use filbert::{ErrorCode, Token, Truncation, tokenize_section};
use filbert_convert::vocabulary::VocabularySource;
use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Encoding, Tokenizer, TruncationParams, TruncationStrategy};

/// More ids than any vocabulary here has.
const ROWS: u32 = 1 << 20;

const SPECIAL: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

/// What the vocabulary is trained on: English, and enough of other scripts that characters are
/// merged of their bytes, whole and in part.
fn corpus() -> Vec<String> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-sst2");
    let golden = std::fs::read_to_string(model.join("golden-own.jsonl")).unwrap();
    let texts = golden.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["text"].as_str().unwrap().to_owned()
    });
    let words = std::fs::read_to_string(model.join("vocab.txt")).unwrap();
    let words = words.lines().skip(1000).map(|word| {
        let word = word.trim_start_matches("##");
        format!("{word} {} it's {word}ing  \n", word.to_uppercase())
    });
    let others = [
        "Ελληνικά και ελληνικά, ένα δύο τρία ½ ",
        "Русский текст, русский текст 123 ",
        "日本語の映画 日本語です。　全角　空白 ",
        "नमस्ते दुनिया नमस्ते ",
        "👩\u{200D}👧 👍🏽 🇩🇪🇩🇪 ",
        "e\u{301} café café naïve \u{A0}\u{A0} \u{2003}\u{2003}  ",
        "don't we'll they've I'm he'd you're \t\t\r\n\r\n ",
    ];
    let others = others.iter().map(|text| text.repeat(20));
    texts.chain(words).chain(others).collect()
}

/// A tokenizer as RoBERTa's.
static TRAINED: LazyLock<Value> = LazyLock::new(|| {
    let special = SPECIAL.map(|token| AddedToken::from(token, true));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(6_000)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special.to_vec())
        .build()
        .into();
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    tokenizer.train(&mut trainer, corpus().into_iter()).unwrap();
    let mut json: Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    let added = json["added_tokens"].as_array_mut().unwrap();
    for token in added {
        if token["content"] == "<mask>" {
            token["lstrip"] = json!(true);
        }
    }
    json["post_processor"] = json!({
        "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
        "trim_offsets": true, "add_prefix_space": false,
    });
    json
});

/// With these settings of both byte-level steps.
fn with_settings(prefix: bool, trim: bool, keep: bool) -> Value {
    let mut json = TRAINED.clone();
    json["pre_tokenizer"]["add_prefix_space"] = json!(prefix);
    json["post_processor"]["trim_offsets"] = json!(trim);
    json["post_processor"]["add_prefix_space"] = json!(keep);
    json
}

/// One tokenizer twice: ours and theirs.
struct Twins {
    section: Vec<u8>,
    theirs: Tokenizer,
    max_tokens: usize,
    truncation: Truncation,
}

impl Twins {
    fn new(json: &Value) -> Self {
        let text = json.to_string();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), &text).unwrap();
        let source = VocabularySource::read(folder.path(), ROWS as usize).unwrap();
        Self {
            section: source.section(),
            theirs: text.parse().unwrap(),
            max_tokens: usize::MAX,
            truncation: Truncation::default(),
        }
    }

    fn truncate(&mut self, max_tokens: usize, truncation: Truncation) {
        (self.max_tokens, self.truncation) = (max_tokens, truncation);
        let strategy = match truncation {
            Truncation::LongestFirst => Some(TruncationStrategy::LongestFirst),
            Truncation::OnlyFirst => Some(TruncationStrategy::OnlyFirst),
            Truncation::OnlySecond => Some(TruncationStrategy::OnlySecond),
            Truncation::Refuse => None,
        };
        let params = strategy.map(|strategy| TruncationParams {
            max_length: max_tokens,
            strategy,
            ..TruncationParams::default()
        });
        self.theirs.with_truncation(params).unwrap();
    }

    fn ours(&self, first: &str, second: Option<&str>) -> Result<Vec<Token>, filbert::Error> {
        let (max_tokens, truncation) = (self.max_tokens, self.truncation);
        tokenize_section(&self.section, ROWS, first, second, max_tokens, truncation)
    }

    /// Ids, types and offsets are theirs; or neither of us can truncate. Tells whether we can.
    #[track_caller]
    fn check(&self, first: &str, second: Option<&str>) -> bool {
        let theirs = match second {
            Some(second) => self.theirs.encode_char_offsets((first, second), true),
            None => self.theirs.encode_char_offsets(first, true),
        };
        let refused = self.truncation == Truncation::Refuse;
        let theirs = theirs
            .ok()
            .filter(|theirs| !refused || theirs.len() <= self.max_tokens);
        let context = || {
            let (max_tokens, truncation) = (self.max_tokens, self.truncation);
            format!("{first:?} {second:?} {max_tokens} {truncation:?}")
        };
        match (self.ours(first, second), theirs) {
            (Ok(ours), Some(theirs)) => {
                let theirs = encoding_tuples(&theirs, [first, second.unwrap_or("")]);
                assert_eq!(tuples(&ours), theirs, "{}", context());
                true
            }
            (Err(error), None) => {
                assert_eq!(error.code(), ErrorCode::TextTooLong);
                false
            }
            (ours, theirs) => panic!("{ours:?} {theirs:?} {}", context()),
        }
    }
}

/// Id, type, text and offsets in bytes of each token; the text is told of those in a text only.
type Tuples = Vec<(u32, u32, Option<usize>, (usize, usize))>;

fn tuples(tokens: &[Token]) -> Tuples {
    let mut special = Vec::new();
    // The first, the last, and between texts as many as there are separators.
    let last = tokens.len() - 1;
    special.extend([0, last]);
    if let Some(second) = tokens.iter().position(|token| token.text == 1) {
        let separators = 1 + usize::from(tokens[last].token_type == 0);
        special.extend(second - separators..second);
    }
    let tokens = tokens.iter().enumerate();
    tokens
        .map(|(at, token)| {
            let text = (!special.contains(&at)).then_some(usize::from(token.text));
            let range = (token.start, token.end);
            (token.id, u32::from(token.token_type), text, range)
        })
        .collect()
}

fn encoding_tuples(encoding: &Encoding, texts: [&str; 2]) -> Tuples {
    let places = texts.map(|text| {
        let starts = text.char_indices().map(|(at, _)| at);
        starts.chain([text.len()]).collect::<Vec<_>>()
    });
    let texts = encoding.get_sequence_ids();
    let others = encoding.get_type_ids().iter().zip(encoding.get_offsets());
    let all = encoding.get_ids().iter().zip(others).zip(texts);
    all.map(|((&id, (&kind, &(start, end))), text)| {
        let places = &places[text.unwrap_or(0)];
        (id, kind, text, (places[start], places[end]))
    })
    .collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Words, contractions, scripts, marks, controls, whitespace of all kinds, special tokens.
    fn text(&mut self, most_parts: usize) -> String {
        let mut text = String::new();
        for _ in 0..self.below(most_parts + 1) {
            match self.below(8) {
                0..3 => {
                    text.push_str(self.pick::<&str>(&WORDS));
                    text.push_str(self.pick::<&str>(&["", " ", " ", "  "]));
                }
                3 => text.push_str(self.pick::<&str>(&ODDITIES)),
                4 => {
                    let &space = self.pick(&SPACES);
                    text.extend((0..=self.below(4)).map(|_| space));
                }
                5 => {
                    // A run of one script.
                    let &(first, last) = self.pick(&RANGES);
                    for _ in 0..self.below(8) {
                        let code = first + self.below((last - first + 1) as usize) as u32;
                        text.extend(char::from_u32(code));
                    }
                }
                _ => {
                    let &(first, last) = self.pick(&RANGES);
                    let code = first + self.below((last - first + 1) as usize) as u32;
                    text.extend(char::from_u32(code));
                }
            }
        }
        text
    }
}

const WORDS: [&str; 24] = [
    "the",
    "film",
    "THE",
    "laughs",
    "unaffable",
    "don't",
    "we'll",
    "'s",
    "'re",
    "'S",
    "''",
    "it's'",
    "123",
    "4th",
    "a",
    "I",
    "Ελληνικά",
    "текст",
    "日本語",
    "नमस्ते",
    "café",
    "½²",
    "_",
    "...",
];

const SPACES: [char; 12] = [
    ' ', ' ', ' ', '\t', '\n', '\r', '\u{85}', '\u{A0}', '\u{2003}', '\u{2028}', '\u{3000}',
    '\u{C}',
];

const RANGES: [(u32, u32); 16] = [
    (0x00, 0x7F),
    (0x20, 0x7E),
    (0x41, 0x7A),
    (0x80, 0x24F),
    (0x2B0, 0x36F),
    (0x370, 0x58F),
    (0x590, 0x6FF),
    (0x900, 0xDFF),
    (0x1680, 0x1800),
    (0x2000, 0x206F),
    (0x2070, 0x218F),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xFFFF),
    (0x10000, 0x1FFFF),
    (0x20000, 0x10FFFF),
];

const ODDITIES: [&str; 20] = [
    "<mask>",
    " <mask> ",
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<mask",
    "\u{3000}<mask>",
    "\r\n",
    "\n\n",
    "\0",
    "👩\u{200D}👩\u{200D}👧\u{200D}👦",
    "👍🏽",
    "🇩🇪",
    "e\u{301}\u{323}",
    "İstanbul",
    "Ġ",
    "ĠĠthe",
    "\u{FEFF}",
    "ßﬃ\u{1E9E}",
];

#[test]
fn every_scalar() {
    let spaced = with_settings(true, true, true);
    for (json, contexts) in [
        (&*TRAINED, &[["", " "], ["a", "b "], ["1", "2\n"]][..]),
        (&spaced, &[[".", "' "]]),
    ] {
        let twins = Twins::new(json);
        let scalars: Vec<char> = ('\0'..=char::MAX).collect();
        for some in scalars.chunks(128) {
            for [before, after] in contexts {
                let each = some.iter().map(|c| format!("{before}{c}{after}"));
                twins.check(&each.collect::<String>(), None);
            }
        }
    }
}

#[test]
fn every_scalar_as_a_whole_text() {
    let twins = Twins::new(&with_settings(true, true, true));
    for c in ('\0'..'\u{3100}').chain('\u{FE00}'..'\u{1_0100}') {
        twins.check(&c.to_string(), None);
    }
}

#[test]
fn random_texts_with_every_setting() {
    for case in 0..8 {
        let twins = Twins::new(&with_settings(case & 1 != 0, case & 2 != 0, case & 4 != 0));
        let mut random = Random(case);
        for _ in 0..3_000 {
            let (first, second) = (random.text(20), random.text(8));
            twins.check(&first, None);
            twins.check(&first, Some(&second));
        }
    }
}

#[test]
fn other_templates() {
    let special = |name: &str, kind: u32| json!({"SpecialToken": {"id": name, "type_id": kind}});
    let text = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let template = |pair: Value| {
        json!({
            "type": "TemplateProcessing",
            "single": [special("<s>", 0), text("A", 0), special("</s>", 0)],
            "pair": pair,
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]},
            },
        })
    };
    let roberta = template(json!([
        special("<s>", 0),
        text("A", 0),
        special("</s>", 0),
        special("</s>", 0),
        text("B", 0),
        special("</s>", 0)
    ]));
    let bert = template(json!([
        special("<s>", 0),
        text("A", 0),
        special("</s>", 0),
        text("B", 1),
        special("</s>", 1)
    ]));
    let trimming = json!({
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            roberta,
        ],
    });
    let processing = json!({"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]});
    for (seed, processor) in (0..).zip([roberta, bert, trimming, processing]) {
        let mut json = with_settings(true, true, true);
        json["post_processor"] = processor;
        let mut twins = Twins::new(&json);
        let mut random = Random(100 + seed);
        for round in 0..1_500 {
            if round == 1_000 {
                twins.truncate(12, Truncation::LongestFirst);
            }
            let (first, second) = (random.text(12), random.text(12));
            twins.check(&first, None);
            twins.check(&first, Some(&second));
        }
    }
}

#[test]
fn added_tokens() {
    let parts = [
        "a", "b", "é", " ", "  ", "-", "日", "Ġ", "<x>", "\u{3000}", "_", "the",
    ];
    let mut random = Random(5);
    for _ in 0..100 {
        let flags: [bool; 3] = std::array::from_fn(|_| random.below(2) == 0);
        let mut json = with_settings(flags[0], flags[1], flags[2]);
        let mut added = json["added_tokens"].as_array().unwrap().clone();
        let mut next = json["model"]["vocab"].as_object().unwrap().len();
        for _ in 0..=random.below(5) {
            let content: String = (0..=random.below(3))
                .map(|_| *random.pick(&parts))
                .collect();
            if added.iter().any(|other| other["content"] == content) {
                continue;
            }
            let known = json["model"]["vocab"][&content].as_u64();
            let id = known.unwrap_or(next as u64);
            next += usize::from(known.is_none());
            let mut flag = || random.below(2) == 0;
            added.push(json!({
                "id": id, "content": content, "single_word": flag(), "lstrip": flag(),
                "rstrip": flag(), "normalized": flag(), "special": flag(),
            }));
        }
        json["added_tokens"] = json!(added);
        let twins = Twins::new(&json);
        let contents: Vec<_> = added
            .iter()
            .map(|token| token["content"].as_str().unwrap())
            .collect();
        for _ in 0..40 {
            let text: String = (0..random.below(14))
                .map(|_| match random.below(3) {
                    0 => *random.pick(&contents),
                    _ => *random.pick(&parts),
                })
                .collect();
            // Two tokens that take the same whitespace make theirs panic.
            let encode = || twins.theirs.encode_char_offsets(text.as_str(), true);
            match std::panic::catch_unwind(encode) {
                Ok(theirs) => {
                    let ours = tuples(&twins.ours(&text, None).unwrap());
                    let theirs = encoding_tuples(&theirs.unwrap(), [&text, ""]);
                    assert_eq!(ours, theirs, "{text:?} {added:?}");
                }
                Err(_) => drop(twins.ours(&text, None).unwrap()),
            }
        }
    }
}

#[test]
fn truncation() {
    let mut twins = Twins::new(&with_settings(false, true, false));
    let mut random = Random(9);
    for truncation in [
        Truncation::LongestFirst,
        Truncation::OnlyFirst,
        Truncation::OnlySecond,
        Truncation::Refuse,
    ] {
        let (mut cut, mut not_cut) = (0, 0);
        for max_tokens in (2..40).chain([64, 65, 128]) {
            twins.truncate(max_tokens, truncation);
            for round in 0..60 {
                let parts = [30, 1 + max_tokens.min(40) / 4][round % 2];
                let (first, second) = (random.text(parts), random.text(parts));
                let mut count = |done| *(if done { &mut cut } else { &mut not_cut }) += 1;
                count(twins.check(&first, None));
                // With fewer, theirs counts below zero.
                if max_tokens >= 4 {
                    count(twins.check(&first, Some(&second)));
                }
            }
            twins.check("", None);
            if max_tokens >= 4 {
                twins.check("", Some(""));
                twins.check("a a a", Some(""));
                twins.check("", Some("a a a"));
            }
        }
        assert!(cut > 300, "{truncation:?} {cut}");
        let all = truncation == Truncation::LongestFirst;
        assert_eq!(not_cut > 300, !all, "{truncation:?} {not_cut}");
    }
}

#[test]
fn both_spellings_of_merges_give_the_same_section() {
    let pairs = Twins::new(&TRAINED).section;
    let mut json = TRAINED.clone();
    for merge in json["model"]["merges"].as_array_mut().unwrap() {
        let [left, right] = [0, 1].map(|at| merge[at].as_str().unwrap());
        *merge = json!(format!("{left} {right}"));
    }
    assert!(Twins::new(&json).section == pairs);
}

#[test]
fn vocab_json_and_merges_give_the_same_section() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("vocab.json", &TRAINED["model"]["vocab"].to_string());
    let mut merges = String::from("#version: 0.2\n");
    for merge in TRAINED["model"]["merges"].as_array().unwrap() {
        merges += &format!(
            "{} {}\n",
            merge[0].as_str().unwrap(),
            merge[1].as_str().unwrap()
        );
    }
    write("merges.txt", &merges);
    let source = VocabularySource::read(folder.path(), ROWS as usize).unwrap();
    assert!(source.section() == Twins::new(&TRAINED).section);
    assert_eq!(source.mask(), Some((4, "<mask>")));
    write(
        "tokenizer_config.json",
        r#"{"add_prefix_space": true, "tokenizer_class": "RobertaTokenizer"}"#,
    );
    let source = VocabularySource::read(folder.path(), ROWS as usize).unwrap();
    assert!(source.section() == Twins::new(&with_settings(true, true, true)).section);
}

#[test]
fn long_words_take_no_longer_than_their_length() {
    let twins = Twins::new(&TRAINED);
    let mut random = Random(11);
    let letters: String = (0..300_000)
        .map(|_| *random.pick(&['a', 'e', 't', 'h', 's']))
        .collect();
    for word in [
        letters,
        "a".repeat(300_000),
        " ".repeat(300_000),
        "é".repeat(150_000),
        "!?".repeat(150_000),
    ] {
        let start = Instant::now();
        let tokens = twins.ours(&word, None).unwrap();
        let time = start.elapsed();
        // Quadratic time would take minutes.
        assert!(time < Duration::from_secs(3), "{time:?}");
        assert!(tokens.len() > 100);
    }
    let word: String = (0..20_000)
        .map(|_| *random.pick(&['a', 'e', 't', 'h', 's']))
        .collect();
    twins.check(&word, None);
    twins.check(&"a".repeat(5_000), Some(&" ".repeat(5_000)));
}

/// A damaged section is refused, or gives some ids that the model has.
fn survive(section: &[u8], rows: u32) -> bool {
    let text = "Thé thing,  it's! <mask> 日本 \u{302E}\u{301} aaaaaaaaaaaaaaaa\n\n";
    match tokenize_section(section, rows, text, Some(text), 16, Truncation::default()) {
        Ok(tokens) => {
            assert!(tokens.len() <= 16);
            assert!(tokens.iter().all(|token| token.id < rows), "{tokens:?}");
            let mut parts = tokens.iter().map(|token| text.get(token.start..token.end));
            assert!(parts.all(|part| part.is_some()), "{tokens:?}");
            true
        }
        Err(_) => false,
    }
}

/// Small enough to damage thoroughly.
fn small_section() -> (Vec<u8>, u32) {
    let mut json = with_settings(true, true, true);
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    merges.truncate(40);
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    vocab.retain(|_, id| id.as_u64().unwrap() < 5 + 256 + 40);
    let rows = vocab.len() as u32;
    (Twins::new(&json).section, rows)
}

#[test]
fn truncated_sections_are_refused() {
    let (section, rows) = small_section();
    assert!(survive(&section, rows));
    for length in 0..section.len() {
        assert!(!survive(&section[..length], rows), "{length}");
    }
    assert!(!survive(&[&section[..], &[0]].concat(), rows));
    assert!(!survive(&section, rows - 1));
}

#[test]
fn damaged_sections_do_no_harm() {
    let (section, rows) = small_section();
    let mut random = Random(7);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..40_000 {
        let mut damaged = section.clone();
        for _ in 0..=random.below(6) {
            let reach = if round % 4 == 0 { 64 } else { damaged.len() };
            let at = random.below(reach);
            match random.below(3) {
                0 => damaged[at] = random.next() as u8,
                1 => damaged[at] ^= 1 << random.below(8),
                _ => damaged[at] = *random.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
            }
        }
        *(if survive(&damaged, rows) {
            &mut taken
        } else {
            &mut refused
        }) += 1;
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} {refused}");
}
