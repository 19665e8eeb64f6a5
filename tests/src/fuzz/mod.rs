//! What the fuzzer in `fuzz/` runs, and the test that runs its kept inputs again: one function
//! for each target, which takes any bytes and panics where a promise is broken.
//!
//! An input is laid out so that a mutation changes one thing: what holds lengths and options
//! comes first, and what is cut at the end of the input comes last.

mod checkpoint;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "onnx")]
mod quantize_dynamic;
mod seeds;

use std::iter;

use bytemuck::{bytes_of, pod_read_unaligned};
use filbert::format::{self, Header, Section, SectionKind, VocabularyKind};
use filbert::{
    Classifier, Embedder, Head, Input, Model, ObservedRows, Options, QuestionAnswerer, Runner,
    TokenClassifier, Truncation, WordFiller, tokenize_section,
};

use crate::model_file::{TABLE_END, edit, sign_head};
pub use seeds::Seed;
pub(crate) use seeds::with_every_flag;

/// What takes any bytes.
pub struct Target {
    /// By which `fuzz/run` knows it, and of its folders.
    pub name: &'static str,
    /// Runs an input; whether it is taken for what it should be. Panics where a promise is broken.
    pub run: fn(&[u8]) -> bool,
    /// What the fuzzer begins with, all of which is taken.
    pub seeds: fn() -> Vec<Seed>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("vocabulary", vocabulary, seeds::vocabulary),
    target("model", model, seeds::model),
    target("safetensors", checkpoint::safetensors, seeds::safetensors),
    target("pytorch", checkpoint::pytorch, seeds::pytorch),
    target("tokenizer", checkpoint::tokenizer, seeds::tokenizer_files),
    #[cfg(feature = "onnx")]
    target("onnx", onnx::model, onnx::seeds),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Seed>) -> Target {
    Target { name, run, seeds }
}

/// The number of sections.
const COUNT: usize = SectionKind::ALL.len();

/// The options of an input of [`vocabulary`].
const VOCABULARY_HEAD: usize = 6;

/// An input of [`vocabulary`]. A line feed in the text divides it into a pair.
pub fn vocabulary_input(section: &[u8], rows: u16, max_tokens: u16, text: &str) -> Vec<u8> {
    let length = u16::try_from(section.len()).expect("a section of a small vocabulary");
    let head = [length, rows, max_tokens].map(u16::to_le_bytes);
    [head.as_flattened(), section, text.as_bytes()].concat()
}

/// The target `vocabulary`: any section, with any text. Whether the section is taken.
///
/// # Panics
/// If a token is none of the model's, or the answer is otherwise not what it must be.
pub fn vocabulary(input: &[u8]) -> bool {
    let Some((head, rest)) = input.split_at_checked(VOCABULARY_HEAD) else {
        return false;
    };
    let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let (section, text) = rest.split_at(rest.len().min(number(0).into()));
    let rows = u32::from(number(2));
    let max_tokens = usize::from(number(4));
    let text = String::from_utf8_lossy(text);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));

    let vocabulary = Vocabulary { section, rows };
    let Some(whole) = vocabulary.tokenize(&text, None, usize::MAX) else {
        return false;
    };
    let again = vocabulary.tokenize(&text, None, usize::MAX);
    assert_eq!(again.as_ref(), Some(&whole), "at random");
    // A text keeps its beginning, and the last separator.
    let cut = vocabulary.tokenize(&text, None, max_tokens);
    let cut = cut.expect("the section was taken");
    let kept = whole.len().min(max_tokens.max(2)) - 1;
    assert_eq!(cut[..kept], whole[..kept]);
    assert_eq!(cut[kept..], whole[whole.len() - 1..]);

    let [whole, cut] = [usize::MAX, max_tokens].map(|max_tokens| {
        let ids = vocabulary.tokenize(first, Some(second), max_tokens);
        ids.expect("the section was taken").len()
    });
    assert_eq!(cut, whole.min(max_tokens.max(vocabulary.special(true))));
    true
}

/// A section that may be anything.
struct Vocabulary<'a> {
    section: &'a [u8],
    /// Of the word embedding.
    rows: u32,
}

impl Vocabulary<'_> {
    /// The ids of a text or a pair, or nothing if the section is refused.
    ///
    /// # Panics
    /// If they are not what any section must give.
    fn tokenize(&self, first: &str, second: Option<&str>, max_tokens: usize) -> Option<Vec<u32>> {
        let longest = Truncation::LongestFirst;
        let tokens = tokenize_section(self.section, self.rows, first, second, max_tokens, longest);
        let tokens = tokens.ok()?;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let types: Vec<u8> = tokens.iter().map(|token| token.token_type).collect();
        assert!(ids.iter().all(|&id| id < self.rows), "{ids:?}");
        for token in &tokens {
            let text = [first, second.unwrap_or("")][usize::from(token.text)];
            assert!(text.get(token.start..token.end).is_some(), "{token:?}");
        }
        let special = self.special(second.is_some());
        assert!(ids.len() >= special, "{ids:?}");
        assert!(ids.len() <= max_tokens.max(special), "{ids:?}");
        assert_eq!(types.len(), ids.len());
        assert!(types.is_sorted(), "{types:?}");
        // Two separators make types that do not tell the texts apart.
        let last_type = second.is_some() && special == 3;
        assert_eq!(types.last(), Some(&u8::from(last_type)));
        let texts: Vec<u8> = tokens.iter().map(|token| token.text).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts.last(), Some(&u8::from(second.is_some())));
        Some(ids)
    }

    /// The special tokens of a text, or of a pair. The section was taken.
    fn special(&self, pair: bool) -> usize {
        let head: format::Vocabulary =
            pod_read_unaligned(&self.section[..size_of::<format::Vocabulary>()]);
        let bpe = head.kind == VocabularyKind::ByteLevelBpe as u32;
        let doubled = bpe && head.flags & format::byte_level::DOUBLE_SEPARATOR != 0;
        2 + usize::from(pair) + usize::from(pair && doubled)
    }
}

/// In the last byte of an input of [`model`]: make the checksums right.
const SIGN: u8 = 1;
/// In the last byte of an input of [`model`]: make the section table and the file's length right.
const FRAME: u8 = 2;

/// An input of [`model`]: a file without the zeros between sections, which mutations would
/// mostly meet, and what to make right of the rest.
fn model_input(file: &[u8], right: u8) -> Vec<u8> {
    let mut input = file[..TABLE_END].to_vec();
    for section in table(file) {
        input.extend_from_slice(&file[section.offset as usize..][..section.length as usize]);
    }
    input.push(right);
    input
}

/// The section table.
fn table(head: &[u8]) -> [Section; COUNT] {
    pod_read_unaligned(&head[size_of::<Header>()..TABLE_END])
}

/// Where each section lies in an input of [`model`], as far as its table tells.
fn section_places(input: &[u8]) -> Option<[std::ops::Range<usize>; COUNT]> {
    let last = input
        .len()
        .checked_sub(1)
        .filter(|&last| last >= TABLE_END)?;
    let mut end = TABLE_END;
    Some(table(input).map(|section| {
        let start = end;
        let length = usize::try_from(section.length).unwrap_or(usize::MAX);
        end = start.saturating_add(length).min(last);
        start..end
    }))
}

/// The file that an input of [`model`] stands for.
fn model_file(input: &[u8]) -> Option<Vec<u8>> {
    let places = section_places(input)?;
    let right = *input.last()?;
    let mut bytes = input[..TABLE_END].to_vec();
    let mut table = table(input);
    for (index, (place, record)) in places.into_iter().zip(&mut table).enumerate() {
        let section = &input[place];
        let align = SectionKind::align(index) as usize;
        bytes.resize(bytes.len().next_multiple_of(align), 0);
        if right & FRAME != 0 {
            *record = Section {
                kind: SectionKind::ALL[index] as u32,
                checksum: record.checksum,
                offset: bytes.len() as u64,
                length: section.len() as u64,
                reserved: 0,
            };
        }
        if right & SIGN != 0 {
            record.checksum = crc32fast::hash(section);
        }
        bytes.extend_from_slice(section);
    }
    bytes[size_of::<Header>()..TABLE_END].copy_from_slice(bytes_of(&table));
    if right & FRAME != 0 {
        let length = bytes.len() as u64;
        edit(&mut bytes, |header: &mut Header| {
            header.file_length = length
        });
    }
    if right & SIGN != 0 {
        sign_head(&mut bytes);
    }
    Some(bytes)
}

/// Mutates one section of an input of [`model`], whose length may change, by a function that
/// mutates the first so many bytes of a buffer and returns how many there are then. Returns the
/// input's length.
pub fn mutate_section(
    input: &mut [u8],
    length: usize,
    section: usize,
    mutate: impl FnOnce(&mut [u8], usize) -> usize,
) -> usize {
    let place = section_places(&input[..length]).map(|places| places[section % COUNT].clone());
    // An empty section of an input that has all its room has none.
    let Some(place) = place.filter(|place| !place.is_empty() || length < input.len()) else {
        return mutate(input, length);
    };
    let rest = input[place.end..length].to_vec();
    let room = input.len() - rest.len();
    let mutated = mutate(&mut input[place.start..room], place.len());
    let end = place.start + mutated;
    input[end..end + rest.len()].copy_from_slice(&rest);
    let mut table = table(input);
    table[section % COUNT].length = mutated as u64;
    input[size_of::<Header>()..TABLE_END].copy_from_slice(bytes_of(&table));
    end + rest.len()
}

/// The target `model`: any file, with some texts. Whether the file is taken.
///
/// # Panics
/// If a value is not finite, or the answer is otherwise not what it must be.
pub fn model(input: &[u8]) -> bool {
    let Some(file) = model_file(input) else {
        return false;
    };
    let Ok(model) = Model::from_bytes(&file) else {
        return false;
    };
    let _ = model.verify();
    assert_eq!(model.labels().len(), model.shape().labels as usize);
    assert!(model.sections().count() >= COUNT);
    let max_tokens = model.shape().max_tokens as usize;
    let runner = Runner::new(model, &Options::new()).expect("the default options");
    let inputs: [Input<'_>; 3] = [
        "".into(),
        "word2 ü[MASK]' ,a 映 b2 xyzzy".into(),
        ("a b", "word1 a a a a a a a a").into(),
    ];
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let batch = runner.run(&inputs).expect("cut, not refused");
    for (output, &input) in iter::zip(&batch, &inputs) {
        assert!(output.values.iter().all(|x| x.is_finite()), "{output:?}");
        assert!((2..=max_tokens).contains(&output.tokens), "{output:?}");
        let alone = runner.run(&[input]).expect("as before");
        assert_eq!(bits(&alone[0].values), bits(&output.values));
    }
    let _ = runner.self_test();
    check_inputs_of_products(&runner, &inputs);
    check_answers(runner.into_model());
    true
}

/// Asks a model what its head is for.
///
/// # Panics
/// If a score is not finite, or a part of a text is none.
fn check_answers(model: Model) {
    const TEXT: &str = "word2 ü[MASK]' ,a 映 b2 xyzzy";
    let options = Options::new();
    match model.head() {
        Head::Classification => {
            let classifier = Classifier::new(model, &options).expect("its head");
            let result = classifier.classify(TEXT).expect("cut, not refused");
            assert!(result.categories().iter().all(|c| c.score.is_finite()));
        }
        Head::TokenClassification => {
            let classifier = TokenClassifier::new(model, &options).expect("its head");
            for entity in classifier.find_entities(TEXT).expect("cut, not refused") {
                assert!(entity.score.is_finite() && TEXT.get(entity.bytes).is_some());
            }
        }
        Head::QuestionAnswering => {
            let answerer = QuestionAnswerer::new(model, &options).expect("its head");
            // A question may leave no room for the text.
            for answer in answerer.answer("b2", TEXT, 3).unwrap_or_default() {
                assert!(answer.score.is_finite() && TEXT.get(answer.bytes).is_some());
            }
        }
        Head::Embedding => {
            let embedder = Embedder::new(model, &options).expect("its head");
            let embedding = embedder.embed(TEXT).expect("cut, not refused");
            assert!(embedding.cosine(&embedding).is_finite());
        }
        Head::MaskedWords => {
            let filler = WordFiller::new(model, &options).expect("its head");
            for mask in filler.fill(TEXT, 3).expect("cut, not refused") {
                assert!(mask.words.iter().all(|word| word.score.is_finite()));
            }
        }
    }
}

/// Checks that no infinity or NaN reached a product: quantization would make numbers of them,
/// not the same on every CPU.
///
/// # Panics
/// If one did.
pub fn check_inputs_of_products(runner: &Runner, inputs: &[Input<'_>]) {
    let observed = runner.observe(inputs).unwrap();
    let check = |what: &str, rows: &ObservedRows| {
        assert!(!rows.values.is_empty(), "{what}");
        let at = rows.values.iter().position(|x| !x.is_finite());
        assert_eq!(at, None, "{what}: a value that is not finite");
    };
    for (number, layer) in observed.layers.iter().enumerate() {
        let check = |what, columns| check(&format!("{what} of layer {number}"), columns);
        check("query, key and value", &layer.query_key_value);
        check("attention output", &layer.attention_output);
        check("feed forward in", &layer.feed_forward_in);
        check("feed forward out", &layer.feed_forward_out);
    }
    check("head", &observed.head);
}
