//! What the fuzzer begins with. All of it is made by the converter, so that it follows the
//! format.

use std::collections::HashSet;
use std::path::Path;

use filbert::format::{Activation, Problem};
use filbert_convert::Checkpoint;
use filbert_convert::config::Architecture;
use filbert_convert::synthetic::pytorch::{self, Container};
use filbert_convert::synthetic::{DataType, SyntheticCheckpoint, tokenizer_json};
use filbert_convert::vocabulary::VocabularySource;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::checkpoint::{ARCHIVE, LEGACY};
use super::{FRAME, SIGN, model_input, vocabulary_input};
use crate::{byte_level, fine};

/// An input of a target, with a name for its file.
pub type Seed = (String, Vec<u8>);

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The texts of each vocabulary. A line feed divides a pair.
const TEXTS: [&str; 4] = [
    "",
    "A gorgeous, witty film that earns every laugh.\nThé thing: unaffable abababab 日本語!",
    "[SEP] yes  [x]Yes [MASK]\u{3000}[PAD]-no\u{A0} [UNK ]word \u{302E}\u{301}\u{1D15F}İSTANBUL\n\n  ",
    "naïve café — 映画 👩\u{200D}👧 \u{0}\u{FFFD}\u{F900}ΟΔΥΣΣΕΥΣ don't e\u{323}\u{301} 각\u{11A8} ﬃ\r\n\taaaaaaaaaaaa",
];

/// The seeds of [`vocabulary`](super::vocabulary).
pub(super) fn vocabulary() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, json) in tokenizers() {
        let (section, rows) = section(&json);
        for (number, text) in TEXTS.iter().enumerate() {
            let max_tokens = [8, 64, 12, 17][number];
            let input = vocabulary_input(&section, rows, max_tokens, text);
            seeds.push((format!("{name}-{number}"), input));
        }
    }
    for (name, json) in byte_level::tokenizers() {
        let (section, rows) = section(&json);
        for (number, text) in TEXTS.into_iter().chain(byte_level::TEXTS).enumerate() {
            let input = vocabulary_input(&section, rows, [64, 9][number % 2], text);
            seeds.push((format!("{name}-{number}"), input));
        }
    }
    // Tokens that each take all of the whitespace around them.
    let (_, spaces) = tokenizers().pop().expect("some");
    let (section, rows) = section(&spaces);
    let input = vocabulary_input(&section, rows, 64, &" \t  \u{3000}".repeat(400));
    seeds.push(("spaces".to_owned(), input));
    seeds
}

/// The smallest checkpoint that has everything.
pub(super) fn smallest() -> SyntheticCheckpoint {
    SyntheticCheckpoint {
        layers: 1,
        hidden: 4,
        heads: 1,
        intermediate: 6,
        vocabulary: 82,
        positions: 8,
        token_types: 1,
        ..SyntheticCheckpoint::default()
    }
}

/// The seeds of [`model`](super::model).
pub(super) fn model() -> Vec<Seed> {
    let smallest = smallest();
    let checkpoints = [
        ("bert", smallest.clone()),
        (
            "distilbert",
            SyntheticCheckpoint {
                architecture: Architecture::DistilBert,
                activation: Activation::Relu,
                problem: Problem::MultiLabel,
                labels: 3,
                heads: 2,
                ..smallest.clone()
            },
        ),
        (
            "layers",
            SyntheticCheckpoint {
                activation: Activation::GeluTanh,
                problem: Problem::Regression,
                labels: 1,
                layers: 2,
                hidden: 10,
                intermediate: 17,
                token_types: 2,
                positions: 20,
                ..smallest.clone()
            },
        ),
        (
            "fine",
            SyntheticCheckpoint {
                layers: 2,
                ..smallest
            },
        ),
    ];
    let mut seeds = Vec::new();
    for (name, checkpoint) in checkpoints {
        let folder = tempfile::tempdir().expect("a temporary folder");
        checkpoint.write(folder.path()).expect("a checkpoint");
        if name == "bert" {
            let (_, json) = tokenizers().swap_remove(0);
            write_tokenizer(folder.path(), &json);
        }
        let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
        let count = if name == "fine" { 4 } else { 0 };
        let [file] = fine::models(&checkpoint, [count]);
        for right in [0, SIGN, FRAME | SIGN] {
            seeds.push((format!("{name}-{right}"), model_input(&file, right)));
        }
    }
    for right in [0, SIGN, FRAME | SIGN] {
        let input = model_input(&byte_level::model(), right);
        seeds.push((format!("byte-level-{right}"), input));
    }
    seeds
}

/// The seeds of [`safetensors`](super::checkpoint::safetensors).
pub(super) fn safetensors() -> Vec<Seed> {
    let seed = |data_type: DataType| {
        let file = weights(data_type);
        let (length, rest) = file.split_first_chunk().expect("a header");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        (format!("{data_type:?}"), [header, &[0], data].concat())
    };
    [DataType::F32, DataType::F16, DataType::BF16]
        .map(seed)
        .into()
}

/// The seeds of [`pytorch`](super::checkpoint::pytorch): each file as it is, and what the target
/// puts into a container itself.
pub(super) fn pytorch() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for data_type in [DataType::F32, DataType::BF16] {
        let weights = weights(data_type);
        let tensors = SafeTensors::deserialize(&weights).expect("safetensors");
        for container in [Container::Archive, Container::Legacy] {
            let file = pytorch::file(&tensors, container).expect("a file in memory");
            let name = format!("{data_type:?}-{container:?}");
            seeds.push((name, [&[0], &file[..]].concat()));
            if container == Container::Legacy {
                let rest = &file[pytorch::legacy_head().len()..];
                let name = format!("{data_type:?}-head");
                seeds.push((name, [&[LEGACY], rest].concat()));
            }
        }
    }
    seeds.push(("shared".to_owned(), shared_storage()));
    seeds
}

/// A pickle with two views of one storage, one of which is transposed.
fn shared_storage() -> Vec<u8> {
    let text = |text: &str| [b"\x8c", &[text.len() as u8], text.as_bytes()].concat();
    let storage = [
        &b"("[..],
        &text("storage"),
        b"ctorch\nFloatStorage\n",
        &text("0"),
        &text("cpu"),
        b"K\x06tQ",
    ]
    .concat();
    let tensor = |name: &str, place: &[u8]| {
        let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(";
        [&text(name), &rebuild[..], &storage, place, b"\x89}tR"].concat()
    };
    let pickle = [
        &b"\x80\x02ccollections\nOrderedDict\n)R("[..],
        &tensor("row", b"K\x03K\x03\x85K\x01\x85"),
        &tensor("transposed", b"K\x00K\x03K\x02\x86K\x01K\x03\x86"),
        b"u}}b.",
    ]
    .concat();
    let length = (pickle.len() as u16).to_le_bytes();
    [&[ARCHIVE], &length[..], &pickle, &[1; 24]].concat()
}

/// The weights of a small model, as safetensors.
fn weights(data_type: DataType) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let checkpoint = SyntheticCheckpoint {
        layers: 1,
        hidden: 2,
        heads: 1,
        intermediate: 3,
        vocabulary: 5,
        positions: 2,
        data_type,
        legacy_names: true,
        ..SyntheticCheckpoint::default()
    };
    checkpoint.write(folder.path()).expect("a checkpoint");
    std::fs::read(folder.path().join("model.safetensors")).expect("weights")
}

/// The seeds of [`tokenizer`](super::checkpoint::tokenizer).
pub(super) fn tokenizer_files() -> Vec<Seed> {
    let config = json!({
        "do_lower_case": false,
        "model_max_length": 64,
        "tokenizer_class": "BertTokenizer",
        "mask_token": "[MASK]",
        "added_tokens_decoder": {"5": {"content": "new", "special": true}},
    });
    let config = config.to_string();
    let words = [&SPECIAL[..], &["new", "text", "##t", "a", "."]].concat();
    let input =
        |rows: u16, parts: [&str; 3]| [&rows.to_le_bytes(), parts.join("\0").as_bytes()].concat();
    let words = words.join("\n");
    let mut seeds = vec![("words".to_owned(), input(20, ["", &config, &words]))];
    for (name, json) in tokenizers().into_iter().chain(byte_level::tokenizers()) {
        let (_, rows) = section(&json);
        let input = input(rows, [&json.to_string(), "{}", ""]);
        if input.len() <= LONGEST {
            seeds.push((name.to_owned(), input));
        }
    }
    seeds
}

/// The fuzzer cuts what is longer.
const LONGEST: usize = 16384;

/// Vocabularies of every kind, each as a `tokenizer.json`.
fn tokenizers() -> Vec<(&'static str, Value)> {
    let real = real_tokens();
    let some = |step| real.iter().step_by(step).map(String::as_str);
    let letters = || some(1).filter(|token| token.trim_start_matches("##").chars().count() == 1);
    let deep: Vec<String> = (1..12)
        .flat_map(|length| ["a".repeat(length), format!("##{}", "ab".repeat(length))])
        .collect();
    let other_prefix: Vec<String> = some(307).map(|token| token.replace("##", "é")).collect();
    let uncased = normalizer(true, true, None, true);
    let cased = normalizer(true, true, None, false);

    let mut all = vec![
        // Small enough for the smallest model.
        ("added", with_every_flag(&tokenizer(&uncased, some(700)))),
        ("none", tokenizer(&uncased, [])),
        ("letters", tokenizer(&uncased, letters().step_by(16))),
        ("words", tokenizer(&uncased, some(307))),
        ("deep", tokenizer(&uncased, deep.iter().map(String::as_str))),
        (
            "cased",
            with_every_flag(&tokenizer(
                &cased,
                some(211).chain(["A", "Yes", "日", "##é", "İ", "ΟΔ", "##Σ"]),
            )),
        ),
        ("plain", tokenizer(&Value::Null, some(307))),
        (
            "accents",
            with_every_flag(&tokenizer(
                &normalizer(false, false, Some(false), true),
                some(307).chain(["thé", "日本", "##語", "e\u{323}", "##\u{301}", "\u{302E}"]),
            )),
        ),
        (
            "stripped",
            tokenizer(&normalizer(true, false, Some(true), false), some(307)),
        ),
    ];
    let mut other = tokenizer(&uncased, other_prefix.iter().map(String::as_str));
    other["model"]["continuing_subword_prefix"] = json!("é");
    other["model"]["max_input_chars_per_word"] = json!(9);
    all.push(("prefix", other));
    let mut no_prefix = tokenizer(&uncased, ["a", "b", "ab", "the", "ing"]);
    no_prefix["model"]["continuing_subword_prefix"] = json!("");
    all.push(("no-prefix", no_prefix));
    let mut spaces = tokenizer(&uncased, ["a"]);
    let tokens = spaces["added_tokens"].as_array_mut().expect("a list");
    for (content, flags) in [(" ", 6), ("\t", 4), ("\u{3000}", 2), ("\n", 14), ("  ", 6)] {
        tokens.push(added(tokens.len() + 1, content, flags));
    }
    all.push(("spaces", spaces));
    all
}

/// The tokens of the model in this repository, in the order of their ids.
fn real_tokens() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny-sst2/vocab.txt");
    let text = std::fs::read_to_string(path).expect("a vocabulary");
    text.lines()
        .filter(|token| !token.starts_with('['))
        .map(str::to_owned)
        .collect()
}

fn normalizer(clean: bool, chinese: bool, strip: Option<bool>, lowercase: bool) -> Value {
    json!({
        "type": "BertNormalizer",
        "clean_text": clean,
        "handle_chinese_chars": chinese,
        "strip_accents": strip,
        "lowercase": lowercase,
    })
}

/// The special tokens, then these.
fn tokenizer<'a>(normalizer: &Value, tokens: impl IntoIterator<Item = &'a str>) -> Value {
    let mut distinct = Vec::new();
    let mut seen = HashSet::new();
    for token in SPECIAL.into_iter().chain(tokens) {
        if seen.insert(token) {
            distinct.push(token.to_owned());
        }
    }
    let mut json = tokenizer_json(&distinct);
    json["normalizer"] = normalizer.clone();
    json
}

/// An entry of `added_tokens`; bits of `flags`: single word, strip left, strip right, normalized.
fn added(id: usize, content: &str, flags: usize) -> Value {
    json!({
        "id": id,
        "content": content,
        "single_word": flags & 1 != 0,
        "lstrip": flags & 2 != 0,
        "rstrip": flags & 4 != 0,
        "normalized": flags & 8 != 0,
        "special": flags == 0,
    })
}

/// With an added token of every combination of flags, some of which overlap.
pub(crate) fn with_every_flag(json: &Value) -> Value {
    let contents = [
        "yes", "[x", "no", "-", "\u{A0}-", "[x]", "ab", "日", "laugh", "it", "don't", "a b", "aba",
        "[SE", "film", "th",
    ];
    let mut json = json.clone();
    let mut next = json["model"]["vocab"].as_object().map_or(0, Map::len);
    for (flags, content) in contents.into_iter().enumerate() {
        let known = json["model"]["vocab"][content].as_u64();
        let id = known.map_or(next, |id| id as usize);
        next += usize::from(known.is_none());
        let tokens = json["added_tokens"].as_array_mut().expect("a list");
        tokens.push(added(id, content, flags));
    }
    json
}

fn write_tokenizer(folder: &Path, json: &Value) {
    std::fs::write(folder.join("tokenizer.json"), json.to_string()).expect("a temporary file");
}

/// The section of a tokenizer, and the least number of rows that a model with it has.
fn section(json: &Value) -> (Vec<u8>, u16) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_tokenizer(folder.path(), json);
    let tokens = json["model"]["vocab"].as_object().into_iter().flatten();
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let ids = tokens
        .map(|(_, id)| id)
        .chain(added.map(|token| &token["id"]));
    let rows = 1 + ids.filter_map(Value::as_u64).max().expect("tokens");
    let source = VocabularySource::read(folder.path(), rows as usize).expect("a vocabulary");
    (source.section(), rows as u16)
}
