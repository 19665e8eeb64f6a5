//! Small vocabularies of byte-level BPE, of every kind.

use std::fs;

use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::synthetic::SyntheticCheckpoint;
use serde_json::{Map, Value, json};

use crate::fuzz::with_every_flag;

/// Texts for them: contractions, whitespace of all kinds, long words. A line feed divides a pair.
pub const TEXTS: [&str; 3] = [
    "it's we'll 'tis don''t I'M 12th½ a_b \u{A0}\u{3000} the\n\n the  <mask> the\t",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabababababababababababab\néééééé",
    " \n",
];

/// Merges of the texts, in the order of their ranks, in which tokens are made in several ways.
const MERGES: [[&str; 2]; 20] = [
    ["Ġ", "t"],
    ["h", "e"],
    ["Ġt", "he"],
    ["t", "h"],
    ["th", "e"],
    ["a", "a"],
    ["aa", "aa"],
    ["aa", "a"],
    ["a", "b"],
    ["ab", "ab"],
    ["b", "a"],
    ["Ã", "©"],
    ["Ã©", "Ã"],
    ["Ġ", "Ġ"],
    ["ĠĠ", "the"],
    ["'", "s"],
    ["Ċ", "Ċ"],
    ["æĹ", "¥"],
    ["æ", "Ĺ"],
    ["Â", "ł"],
];

/// The smallest model with a byte-level BPE, as a file.
///
/// # Panics
/// If it cannot be made.
pub fn model() -> Vec<u8> {
    model_with(&tokenizer(&MERGES), 3 + 256 + MERGES.len())
}

/// As [`model`], with each of the [`tokenizers`].
///
/// # Panics
/// If one cannot be made.
pub fn models() -> Vec<(&'static str, Vec<u8>)> {
    let models = tokenizers().into_iter();
    models
        .map(|(name, json)| (name, model_with(&json, 300)))
        .collect()
}

fn model_with(tokenizer: &Value, rows: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let synthetic = SyntheticCheckpoint {
        layers: 1,
        hidden: 4,
        heads: 1,
        intermediate: 6,
        vocabulary: rows,
        positions: 12,
        token_types: 1,
        ..SyntheticCheckpoint::default()
    };
    synthetic.write(folder.path()).expect("a checkpoint");
    let json = tokenizer.to_string();
    fs::write(folder.path().join("tokenizer.json"), json).expect("a temporary file");
    fs::remove_file(folder.path().join("tokenizer_config.json")).expect("a temporary file");
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let package = Package::build(&checkpoint, &mut Quiet).expect("a small model");
    package.into_bytes()
}

/// Each as a `tokenizer.json`.
pub fn tokenizers() -> Vec<(&'static str, Value)> {
    let mut without = tokenizer(&MERGES[..0]);
    without["pre_tokenizer"]["add_prefix_space"] = json!(true);
    without["post_processor"]["add_prefix_space"] = json!(true);
    let mut plain = tokenizer(&MERGES);
    plain["post_processor"] =
        json!({"type": "BertProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]});
    vec![
        ("bpe", tokenizer(&MERGES)),
        ("bpe-without-merges", without),
        ("bpe-plain", plain),
        ("bpe-added", with_every_flag(&tokenizer(&MERGES[..8]))),
    ]
}

fn tokenizer(merges: &[[&str; 2]]) -> Value {
    let mut vocab = Map::new();
    let mut put = |token: String| {
        let id = json!(vocab.len());
        vocab.entry(token).or_insert(id);
    };
    let special = ["<s>", "</s>", "<mask>"].map(str::to_owned).into_iter();
    let bytes = (0..=u8::MAX).map(|byte| character(byte).to_string());
    let made = merges.iter().map(|merge| merge.concat());
    special.chain(bytes).chain(made).for_each(&mut put);
    json!({
        "added_tokens": [{
            "id": 2, "content": "<mask>", "single_word": false, "lstrip": true, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        },
        "post_processor": {
            "type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0],
            "trim_offsets": true, "add_prefix_space": false,
        },
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

/// The character that stands for a byte in the texts of tokens.
pub fn character(byte: u8) -> char {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if seen(&byte) {
        return char::from(byte);
    }
    let unseen = (0..byte).filter(|byte| !seen(byte)).count();
    char::from_u32(0x100 + unseen as u32).unwrap_or_default()
}
