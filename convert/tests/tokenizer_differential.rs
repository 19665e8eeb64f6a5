//! Our tokenizer against the `tokenizers` crate: every Unicode scalar value, random texts of
//! mixed scripts, every setting, added tokens, marks in any order, pairs and truncation; ids,
//! types and offsets. Then the section itself,
//! damaged in many ways.
//!
//! Every random choice comes from a seed, so a failure repeats.

use std::path::{Path, PathBuf};

use filbert::{ErrorCode, Token, Truncation, tokenize_section};
use filbert_convert::vocabulary::VocabularySource;
use serde_json::{Value, json};
use tokenizers::{Encoding, Tokenizer, TruncationParams, TruncationStrategy};

/// More ids than any vocabulary here has.
const ROWS: u32 = 1 << 20;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-sst2")
}

fn tokenizer_json() -> Value {
    let text = std::fs::read_to_string(model().join("tokenizer.json")).unwrap();
    serde_json::from_str(&text).unwrap()
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
        Self::read(json).unwrap()
    }

    fn read(json: &Value) -> Result<Self, filbert_convert::Error> {
        let text = json.to_string();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), &text).unwrap();
        let source = VocabularySource::read(folder.path(), ROWS as usize)?;
        Ok(Self {
            section: source.section(),
            theirs: text.parse().unwrap(),
            max_tokens: usize::MAX,
            truncation: Truncation::default(),
        })
    }

    /// With the tokens of the tiny model, and other settings.
    fn with_settings(normalizer: Value) -> Self {
        let mut json = tokenizer_json();
        json["normalizer"] = normalizer;
        Self::new(&json)
    }

    fn truncate(&mut self, max_tokens: usize, truncation: Truncation) {
        (self.max_tokens, self.truncation) = (max_tokens, truncation);
        let strategy = match truncation {
            Truncation::LongestFirst => TruncationStrategy::LongestFirst,
            Truncation::OnlyFirst => TruncationStrategy::OnlyFirst,
            Truncation::OnlySecond => TruncationStrategy::OnlySecond,
            Truncation::Refuse => {
                self.theirs.with_truncation(None).unwrap();
                return;
            }
        };
        let params = TruncationParams {
            max_length: max_tokens,
            strategy,
            ..TruncationParams::default()
        };
        self.theirs.with_truncation(Some(params)).unwrap();
    }

    fn ours(&self, first: &str, second: Option<&str>) -> Result<Vec<Token>, filbert::Error> {
        tokenize_section(
            &self.section,
            ROWS,
            first,
            second,
            self.max_tokens,
            self.truncation,
        )
    }

    /// Ids, types and offsets are theirs; or neither of us can truncate. Tells whether we can.
    #[track_caller]
    fn check(&self, first: &str, second: Option<&str>) -> bool {
        let theirs = match second {
            Some(second) => self.theirs.encode((first, second), true),
            None => self.theirs.encode(first, true),
        };
        let refused = self.truncation == Truncation::Refuse;
        let theirs = theirs
            .ok()
            .filter(|theirs| !refused || theirs.len() <= self.max_tokens);
        let context = || {
            format!(
                "{first:?} {second:?} {} {:?}",
                self.max_tokens, self.truncation
            )
        };
        match (self.ours(first, second), theirs) {
            (Ok(ours), Some(theirs)) => {
                assert_eq!(tuples(&ours), encoding_tuples(&theirs), "{}", context());
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

/// Id, type and offsets of each token.
type Tuples = Vec<(u32, u32, (usize, usize))>;

fn tuples(tokens: &[Token]) -> Tuples {
    let tuple = |t: &Token| (t.id, u32::from(t.token_type), (t.start, t.end));
    tokens.iter().map(tuple).collect()
}

fn encoding_tuples(encoding: &Encoding) -> Tuples {
    let others = encoding.get_type_ids().iter().zip(encoding.get_offsets());
    let all = encoding.get_ids().iter().zip(others);
    all.map(|(&id, (&kind, &range))| (id, kind, range))
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
}

fn settings(clean: bool, chinese: bool, strip: Option<bool>, lowercase: bool) -> Value {
    json!({
        "type": "BertNormalizer",
        "clean_text": clean,
        "handle_chinese_chars": chinese,
        "strip_accents": strip,
        "lowercase": lowercase,
    })
}

/// Whether a scalar value is a token of its own in [`revealing`].
fn revealed(c: char) -> bool {
    matches!(c as u32,
        0..0x3400 | 0x4E00..0xA000 | 0xA000..0xAC00 | 0xF900..0x20000 | 0x2F800..0x2FA20
        | 0xE0000..0xE0200)
}

/// A vocabulary that hides nothing: where that of a real model has `[UNK]` for most of Unicode,
/// it has a token for each character, begun or continued.
fn revealing(normalizer: Value) -> Value {
    let mut json = tokenizer_json();
    let mut vocab = serde_json::Map::new();
    for special in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] {
        vocab.insert(special.to_owned(), json!(vocab.len()));
    }
    for c in ('\0'..=char::MAX).filter(|&c| revealed(c)) {
        vocab.insert(c.to_string(), json!(vocab.len()));
        vocab.insert(format!("##{c}"), json!(vocab.len()));
    }
    for token in json["added_tokens"].as_array_mut().unwrap() {
        token["id"] = vocab[token["content"].as_str().unwrap()].clone();
    }
    let special_tokens = &mut json["post_processor"]["special_tokens"];
    for name in ["[CLS]", "[SEP]"] {
        special_tokens[name]["ids"] = json!([vocab[name]]);
    }
    json["model"]["vocab"] = Value::Object(vocab);
    json["normalizer"] = normalizer;
    json
}

/// Every scalar value alone between spaces, and inside a word, many to a text.
fn check_scalars(twins: &Twins, keep: impl Fn(char) -> bool) {
    let scalars: Vec<char> = ('\0'..=char::MAX).filter(|&c| keep(c)).collect();
    for some in scalars.chunks(128) {
        let alone: String = some.iter().flat_map(|&c| [c, ' ']).collect();
        twins.check(&alone, None);
        let inside: String = some.iter().map(|c| format!("a{c}b ")).collect();
        twins.check(&inside, None);
    }
}

#[test]
fn every_scalar_uncased() {
    let twins = Twins::new(&revealing(settings(true, true, None, true)));
    check_scalars(&twins, |_| true);
    // Between two marks that stay, whose order tells whether it keeps them apart.
    let scalars: Vec<char> = ('\0'..='\u{20000}').collect();
    for some in scalars.chunks(128) {
        let between = some.iter().map(|c| format!("\u{302E}{c}\u{1B44} "));
        twins.check(&between.collect::<String>(), None);
    }
}

#[test]
fn every_scalar_cased() {
    check_scalars(
        &Twins::new(&revealing(settings(true, true, None, false))),
        |_| true,
    );
}

#[test]
fn every_scalar_lowercase_with_accents() {
    let twins = Twins::new(&revealing(settings(false, false, Some(false), true)));
    check_scalars(&twins, revealed);
}

#[test]
fn every_scalar_stripped_only() {
    let twins = Twins::new(&revealing(settings(false, false, Some(true), false)));
    check_scalars(&twins, |c| c < '\u{30000}');
}

#[test]
fn every_scalar_as_a_whole_text() {
    // A small vocabulary, since each text here opens the section anew.
    let mut json = tokenizer_json();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    vocab.retain(|_, id| id.as_u64().unwrap() < 3_000);
    let twins = Twins::new(&json);
    let mut text = String::new();
    for c in '\0'..=char::MAX {
        text.clear();
        text.push(c);
        twins.check(&text, None);
    }
}

/// Random texts: words, scripts, marks, controls, whitespace, emoji, special tokens.
struct Texts {
    random: Random,
    words: Vec<String>,
}

/// Blocks of letters, marks, symbols and oddities.
const RANGES: [(u32, u32); 30] = [
    (0x20, 0x7E),
    (0x20, 0x7E),
    (0x41, 0x7A),
    (0x00, 0xFF),
    (0xA0, 0x24F),
    (0x250, 0x36F),
    (0x300, 0x36F),
    (0x370, 0x58F),
    (0x590, 0x6FF),
    (0x900, 0xDFF),
    (0xE00, 0xEFF),
    (0xF00, 0xFFF),
    (0xF71, 0xF84),
    (0x1100, 0x11FF),
    (0x1AB0, 0x1BFF),
    (0x1DC0, 0x1DFF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F),
    (0x20D0, 0x214F),
    (0x2C00, 0x2FFF),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xA640, 0xABFF),
    (0xAC00, 0xD7FF),
    (0xE000, 0xFFFF),
    (0xFB00, 0xFE2F),
    (0x10000, 0x1FFFF),
    (0x1D100, 0x1D1FF),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x10FFFF),
];

const ODDITIES: [&str; 28] = [
    "[SEP]",
    "[CLS]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "[sep]",
    "[[SEP]]",
    "[SEP",
    "##ing",
    "👩\u{200D}👩\u{200D}👧\u{200D}👦",
    "👍🏽",
    "🇩🇪",
    "e\u{301}\u{323}",
    "\u{344}\u{F73}",
    "\u{302E}\u{301}\u{1B44}\u{16FF0}",
    "\u{1D15F}\u{1D166}",
    "각\u{11A8}",
    "İstanbul",
    "ΟΔΥΣΣΕΥΣ",
    "ß\u{1E9E}ﬃ",
    "\u{FEFF}",
    "\u{0}\u{85}\u{B}\u{C}",
    "\u{2028}\u{3000}\u{A0}",
    "\r\n",
    "don't",
    "日本語の",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààààà",
];

impl Texts {
    fn new(seed: u64) -> Self {
        let json = tokenizer_json();
        let vocab = json["model"]["vocab"].as_object().unwrap();
        Self {
            random: Random(seed),
            words: vocab
                .keys()
                .map(|token| token.trim_start_matches("##").to_owned())
                .collect(),
        }
    }

    fn scalar(&mut self) -> char {
        let &(first, last) = self.random.pick(&RANGES);
        let code = first + self.random.below((last - first + 1) as usize) as u32;
        char::from_u32(code).unwrap_or('x')
    }

    fn text(&mut self, most_parts: usize) -> String {
        let mut text = String::new();
        for _ in 0..self.random.below(most_parts + 1) {
            match self.random.below(10) {
                0..4 => {
                    let word = self.random.pick(&self.words);
                    match self.random.below(4) {
                        0 => text.push_str(&word.to_uppercase()),
                        _ => text.push_str(word),
                    }
                }
                4 => text.push_str(self.random.pick::<&str>(&ODDITIES)),
                5..7 => {
                    // A run of one script.
                    let &(first, last) = self.random.pick(&RANGES);
                    for _ in 0..self.random.below(8) {
                        let code = first + self.random.below((last - first + 1) as usize) as u32;
                        text.extend(char::from_u32(code));
                    }
                }
                _ => {
                    let c = self.scalar();
                    text.push(c);
                }
            }
            if self.random.below(2) == 0 {
                text.push(' ');
            }
        }
        text
    }
}

#[test]
fn random_texts() {
    let twins = Twins::new(&tokenizer_json());
    let mut texts = Texts::new(1);
    for _ in 0..60_000 {
        twins.check(&texts.text(24), None);
    }
}

/// Longer than what is normalized at once.
#[test]
fn long_texts() {
    let twins = Twins::new(&tokenizer_json());
    let mut texts = Texts::new(8);
    for _ in 0..60 {
        let long: String = (0..400).map(|_| texts.text(24)).collect();
        twins.check(&long, None);
        let without_spaces = long.replace(' ', "\u{302E}\u{301}");
        twins.check(&without_spaces, None);
        twins.check(&" ".repeat(5_000), Some(&long));
    }
}

#[test]
fn random_texts_with_nothing_hidden() {
    let mut texts = Texts::new(2);
    for (lowercase, count) in [(true, 25_000), (false, 15_000)] {
        let twins = Twins::new(&revealing(settings(true, true, Some(true), lowercase)));
        for _ in 0..count {
            twins.check(&texts.text(24), None);
        }
    }
}

#[test]
fn every_setting() {
    let mut texts = Texts::new(3);
    for case in 0..24 {
        let twins = Twins::with_settings(settings(
            case & 1 != 0,
            case & 2 != 0,
            [None, Some(false), Some(true)][case / 8],
            case & 4 != 0,
        ));
        for _ in 0..600 {
            twins.check(&texts.text(30), None);
        }
    }
    let twins = Twins::with_settings(Value::Null);
    for _ in 0..600 {
        twins.check(&texts.text(30), None);
    }
}

#[test]
fn names_prefix_and_word_length_of_its_own() {
    let mut json = tokenizer_json();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    for (from, to) in [("[UNK]", "<unk>"), ("[CLS]", "<s>"), ("[SEP]", "</s>")] {
        let id = vocab.remove(from).unwrap();
        vocab.insert(to.to_owned(), id);
    }
    let pieces: Vec<_> = vocab
        .keys()
        .filter(|token| token.starts_with("##"))
        .cloned()
        .collect();
    for piece in pieces {
        let id = vocab.remove(&piece).unwrap();
        vocab.insert(piece.replacen("##", "é", 1), id);
    }
    json["model"]["unk_token"] = json!("<unk>");
    json["model"]["continuing_subword_prefix"] = json!("é");
    json["model"]["max_input_chars_per_word"] = json!(9);
    json["added_tokens"] = json!([]);
    json["post_processor"] =
        json!({"type": "BertProcessing", "sep": ["</s>", 102], "cls": ["<s>", 101]});
    let twins = Twins::new(&json);
    let mut texts = Texts::new(4);
    for _ in 0..5_000 {
        let (first, second) = (texts.text(20), texts.text(20));
        twins.check(&first, Some(&second));
    }
}

#[test]
fn added_tokens() {
    let parts = [
        "a", "b", "A", "é", "E\u{301}", " ", "  ", "-", "日", "[", "[x]", "\u{200D}", "_",
    ];
    let mut random = Random(5);
    let mut built = 0;
    for _ in 0..600 {
        let mut json = tokenizer_json();
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        vocab.retain(|_, id| id.as_u64().unwrap() < 104);
        for token in [
            "a", "b", "##a", "##b", "é", "e", "##e", "日", "-", "_", "##_", "ab",
        ] {
            vocab.insert(token.to_owned(), json!(vocab.len()));
        }
        let mut added = json["added_tokens"].as_array().unwrap().clone();
        for _ in 0..=random.below(6) {
            let content: String = (0..=random.below(3))
                .map(|_| *random.pick(&parts))
                .collect();
            let mut flag = || random.below(2) == 0;
            let token = json!({
                "content": content, "single_word": flag(), "lstrip": flag(),
                "rstrip": flag(), "normalized": flag(), "special": flag(),
            });
            if !added
                .iter()
                .any(|other| other["content"] == token["content"])
            {
                added.push(token);
            }
        }
        let size = json["model"]["vocab"].as_object().unwrap().len();
        let mut next = size;
        for token in &mut added {
            let known = &json["model"]["vocab"][token["content"].as_str().unwrap()];
            token["id"] = if known.is_null() {
                next += 1;
                json!(next - 1)
            } else {
                known.clone()
            };
        }
        json["added_tokens"] = json!(added);
        json["normalizer"] = settings(true, true, None, random.below(3) > 0);

        let twins = match Twins::read(&json) {
            Ok(twins) => twins,
            // Theirs would match the empty string, or choose by the order of a hash map.
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("once normalized"), "{message}");
                continue;
            }
        };
        built += 1;
        let contents: Vec<_> = added
            .iter()
            .map(|token| token["content"].as_str().unwrap())
            .collect();
        for _ in 0..60 {
            let text: String = (0..random.below(14))
                .map(|_| match random.below(3) {
                    0 => *random.pick(&contents),
                    _ => *random.pick(&parts),
                })
                .collect();
            let ours = twins.ours(&text, None).unwrap();
            // Two tokens that take the same whitespace make theirs panic.
            let encoded = std::panic::catch_unwind(|| twins.theirs.encode(text.as_str(), true));
            if let Ok(theirs) = encoded {
                let theirs = encoding_tuples(&theirs.unwrap());
                assert_eq!(tuples(&ours), theirs, "{text:?} {added:?}");
            }
        }
    }
    assert!(built > 300, "{built}");
}

#[test]
fn marks_in_any_order() {
    // Letters and syllables that decompose; marks that are stripped, of several classes and of
    // none; marks that stay, since they are spacing or newer than the categories; marks that
    // decompose into marks; and what keeps marks apart, or seems to.
    let parts = [
        "a",
        "é",
        "ệ",
        "ǖ",
        "각",
        "\u{9CB}",
        "\u{D4A}",
        "\u{1D15F}",
        "\u{1D161}",
        "日",
        "\u{301}",
        "\u{323}",
        "\u{334}",
        "\u{345}",
        "\u{5B0}",
        "\u{651}",
        "\u{94D}",
        "\u{F71}",
        "\u{F72}",
        "\u{E31}",
        "\u{20DD}",
        "\u{302E}",
        "\u{302F}",
        "\u{1B44}",
        "\u{1BAA}",
        "\u{16FF0}",
        "\u{1D165}",
        "\u{1D166}",
        "\u{1D16D}",
        "\u{1AC1}",
        "\u{344}",
        "\u{340}",
        "\u{F73}",
        "\u{F75}",
        "\u{F81}",
        "\u{200D}",
        "\u{0}",
        " ",
        "\u{34F}",
        "B",
        "İ",
        "-",
    ];
    let mut random = Random(8);
    for (clean, strip, lowercase, count) in [
        (true, Some(true), true, 30_000),
        (true, None, false, 2_000),
        (false, Some(true), false, 10_000),
    ] {
        let twins = Twins::new(&revealing(settings(clean, true, strip, lowercase)));
        for _ in 0..count {
            let text: String = (0..random.below(16))
                .map(|_| *random.pick(&parts))
                .collect();
            twins.check(&text, None);
        }
    }
}

#[test]
fn pairs() {
    let twins = Twins::new(&tokenizer_json());
    let mut texts = Texts::new(6);
    for _ in 0..3_000 {
        let (first, second) = (texts.text(12), texts.text(12));
        twins.check(&first, Some(&second));
    }
}

#[test]
fn truncation() {
    let mut twins = Twins::new(&tokenizer_json());
    let mut texts = Texts::new(9);
    for truncation in [
        Truncation::LongestFirst,
        Truncation::OnlyFirst,
        Truncation::OnlySecond,
        Truncation::Refuse,
    ] {
        let (mut cut, mut not_cut) = (0, 0);
        for max_tokens in (2..40).chain([64, 65, 128, 511, 512]) {
            twins.truncate(max_tokens, truncation);
            for round in 0..150 {
                // Short texts too, where the limit is.
                let parts = [40, 1 + max_tokens.min(40) / 4][round % 2];
                let (first, second) = (texts.text(parts), texts.text(parts));
                let mut count = |done| *(if done { &mut cut } else { &mut not_cut }) += 1;
                count(twins.check(&first, None));
                // With two, theirs counts below zero.
                if max_tokens > 2 {
                    count(twins.check(&first, Some(&second)));
                }
            }
            twins.check("", None);
            if max_tokens > 2 {
                twins.check("", Some(""));
                twins.check("a a a", Some(""));
                twins.check("", Some("a a a"));
            }
        }
        assert!(cut > 1_000, "{truncation:?} {cut}");
        assert_eq!(
            not_cut > 1_000,
            truncation != Truncation::LongestFirst,
            "{truncation:?} {not_cut}"
        );
    }
}

#[test]
fn vocab_txt_gives_the_same_section() {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "vocab.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ] {
        std::fs::copy(model().join(file), folder.path().join(file)).unwrap();
    }
    let of_text = VocabularySource::read(folder.path(), 30_522).unwrap();
    let of_json = VocabularySource::read(&model(), 30_522).unwrap();
    assert!(of_text.section() == of_json.section());
    assert_eq!(of_text.max_tokens(), Some(512));
    // Without settings, those of transformers' `BertTokenizer`.
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    std::fs::remove_file(folder.path().join("special_tokens_map.json")).unwrap();
    let bare = VocabularySource::read(folder.path(), 30_522).unwrap();
    assert!(bare.section() == of_json.section());
    assert_eq!(bare.max_tokens(), None);
}

#[test]
fn golden() {
    let section = VocabularySource::read(&model(), 30_522).unwrap().section();
    let golden = std::fs::read_to_string(model().join("golden-own.jsonl")).unwrap();
    let mut count = 0;
    for line in golden.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = line["text"].as_str().unwrap();
        let truncation = Truncation::default();
        let tokens = tokenize_section(&section, 30_522, text, None, 512, truncation).unwrap();
        let (ids, types): (Vec<_>, Vec<_>) = tokens.iter().map(|t| (t.id, t.token_type)).unzip();
        assert_eq!(json!(ids), line["input_ids"], "{text:?}");
        assert_eq!(json!(types), line["token_type_ids"], "{text:?}");
        count += 1;
    }
    assert_eq!(count, 57);
}

/// A section with all its parts, small enough to damage thoroughly.
fn small_section() -> Vec<u8> {
    let mut json = tokenizer_json();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    vocab.retain(|_, id| id.as_u64().unwrap() < 104);
    for token in ["a", "##b", "the", "##ing", "日"] {
        vocab.insert(token.to_owned(), json!(vocab.len()));
    }
    let added = json["added_tokens"].as_array_mut().unwrap();
    added.push(json!({
        "id": 109, "content": "Yes", "single_word": true, "lstrip": true, "rstrip": true,
        "normalized": true, "special": false,
    }));
    Twins::new(&json).section
}

/// A damaged section is refused, or gives some ids that the model has.
fn survive(section: &[u8]) -> bool {
    let text = "Thé thing, yes! [SEP] 日本 \u{302E}\u{301} abababab";
    match tokenize_section(section, 110, text, Some(text), 16, Truncation::default()) {
        Ok(tokens) => {
            assert!(tokens.len() <= 16);
            assert!(tokens.iter().all(|token| token.id < 110), "{tokens:?}");
            let parts = tokens.iter().map(|token| text.get(token.start..token.end));
            assert!(parts.clone().all(|part| part.is_some()), "{tokens:?}");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn truncated_sections_are_refused() {
    let section = small_section();
    assert!(survive(&section));
    for length in 0..section.len() {
        assert!(!survive(&section[..length]), "{length}");
    }
    assert!(!survive(&[&section[..], &[0]].concat()));
    let too_few_rows = tokenize_section(&section, 109, "a", None, 16, Truncation::default());
    assert!(too_few_rows.is_err());
}

#[test]
fn damaged_sections_do_no_harm() {
    let section = small_section();
    let mut random = Random(7);
    let (mut taken, mut refused) = (0, 0);
    for round in 0..60_000 {
        let mut damaged = section.clone();
        for _ in 0..=random.below(4) {
            // Half of the damage goes where most of the checks are.
            let reach = if round % 2 == 0 { 64 } else { damaged.len() };
            let at = random.below(reach);
            match random.below(3) {
                0 => damaged[at] = random.next() as u8,
                1 => damaged[at] ^= 1 << random.below(8),
                _ => damaged[at] = *random.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
            }
        }
        if survive(&damaged) {
            taken += 1;
        } else {
            refused += 1;
        }
    }
    assert!(taken > 1_000 && refused > 1_000, "{taken} {refused}");
    for _ in 0..20_000 {
        let length = random.below(512);
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        survive(&noise);
    }
}

#[test]
fn a_trie_without_end_ends_a_search() {
    // Nodes with nothing but children, and children that are their own.
    let section = small_section();
    let nodes = u32::from_le_bytes(section[4..8].try_into().unwrap()) as usize;
    let degrees = 64..64 + 8 * (2 * nodes - 1).div_ceil(64);
    for fill in [0xFF, 0x55, 0x01] {
        let mut section = section.clone();
        section[degrees.clone()].fill(fill);
        assert!(survive(&section));
    }
}

#[test]
fn the_section_is_smaller_than_the_text_of_its_tokens() {
    let section = VocabularySource::read(&model(), 30_522).unwrap().section();
    let text = std::fs::metadata(model().join("vocab.txt")).unwrap().len() - 30_522;
    assert!((section.len() as u64) < text, "{} {text}", section.len());
}
