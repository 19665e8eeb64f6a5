//! The file format as its document describes it: `tests/oracle/read_filbert.py`, a reader
//! written from `docs/format.md`, against the runtime.
//!
//! Reported as ignored where there is no Python.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use filbert::format::byte_level::{DOUBLE_SEPARATOR, PREFIX_SPACE};
use filbert::format::{
    Activation, Columns, PANEL, SectionKind, Shape, TensorKind, Vocabulary, features,
};
use filbert::{Input, Model, Options, Runner};
use filbert_convert::Checkpoint;
use filbert_convert::checkpoint::{LayerParameter, Parameter};
use filbert_convert::config::Architecture;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::quantization::Quantization;
use filbert_convert::synthetic::SyntheticCheckpoint;
use filbert_tests::byte_level;
use filbert_tests::fine;
use filbert_tests::model_file::{ModelFile, edit, edit_head};
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

/// Small models of every head.
const FIXTURES: [&str; 21] = [
    "bert-multilabel",
    "bert-regression",
    "bert-pairs",
    "bert-next",
    "bert-cased-classes",
    "bert-tokens",
    "distilbert-tokens",
    "bert-answers",
    "distilbert-answers",
    "bert-embeddings",
    "bert-cls-embeddings",
    "distilbert-embeddings",
    "bert-masked",
    "distilbert-masked",
    "roberta-classes",
    "roberta-classes-transformers5",
    "roberta-pairs",
    "roberta-tokens",
    "roberta-answers",
    "roberta-embeddings",
    "roberta-masked",
];

/// How far the second reader's values may lie from the file's, as a share of these, both as roots
/// of mean squares. The fixtures' wide weights make int8 costly, up to 0.03; wrong formulas that
/// were tried gave 0.09 and more.
const WIDE_WEIGHTS: f64 = 0.05;
const TRAINED: f64 = 0.005;
const SYNTHETIC: f64 = 0.02;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = Command::new(shared::python())
        .arg("--version")
        .output()
        .is_ok();
    let odd = SyntheticCheckpoint {
        hidden: 78,
        heads: 3,
        intermediate: 50,
        positions: 300,
        labels: 5,
        ..SyntheticCheckpoint::default()
    };
    let distil = SyntheticCheckpoint {
        architecture: Architecture::DistilBert,
        hidden: 20,
        heads: 5,
        activation: Activation::GeluTanh,
        ..odd.clone()
    };
    let mut trials = vec![
        Trial::test("a_trained_model_is_read_as_documented", || {
            check(&shared::tiny_model(), TRAINED)
        }),
        Trial::test("fine_products_are_read_as_documented", check_some_fine),
        Trial::test("a_model_of_fine_products_is_read_as_documented", {
            let odd = odd.clone();
            move || check_all_fine(&odd)
        }),
        Trial::test("padded_heads_are_read_as_documented", move || {
            check_synthetic(&odd)
        }),
        Trial::test("a_distilbert_is_read_as_documented", move || {
            check_synthetic(&distil)
        }),
        Trial::test("a_damaged_file_is_refused", check_damage),
        Trial::test("a_heads_balance_is_read_as_documented", check_balances),
        Trial::test(
            "every_byte_level_bpe_is_read_as_documented",
            check_byte_level,
        ),
        Trial::test("a_damaged_byte_level_bpe_is_refused", check_merges),
        Trial::test("a_head_out_of_place_is_refused", check_heads),
    ];
    for name in FIXTURES {
        trials.push(Trial::test(
            format!("{name}_is_read_as_documented"),
            move || check(&fixture(name), WIDE_WEIGHTS),
        ));
    }
    let trials = trials
        .into_iter()
        .map(|trial| trial.with_ignored_flag(!found))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn fixture(name: &str) -> PathBuf {
    shared::repository().join("tests/fixtures").join(name)
}

fn convert(folder: &Path) -> Result<Vec<u8>, Failed> {
    let checkpoint = Checkpoint::open(folder)?;
    Ok(Package::build(&checkpoint, &mut Quiet)?.into_bytes())
}

fn check_synthetic(synthetic: &SyntheticCheckpoint) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    synthetic.write(folder.path())?;
    check(folder.path(), SYNTHETIC)
}

/// A text or pair, and its ids where PyTorch's tokenizer has told them.
struct Text {
    first: String,
    second: Option<String>,
    ids: Option<Value>,
}

impl Text {
    fn new(first: &str, second: Option<&str>) -> Self {
        Self {
            first: first.to_owned(),
            second: second.map(str::to_owned),
            ids: None,
        }
    }

    fn input(&self) -> Input<'_> {
        match &self.second {
            Some(second) => (self.first.as_str(), second.as_str()).into(),
            None => self.first.as_str().into(),
        }
    }
}

/// Texts of every script and awkward ones, alone and in pairs.
fn texts() -> Result<Vec<Text>, Failed> {
    let file = std::fs::read_to_string(shared::texts_file())?;
    let lines: Vec<&str> = file.lines().collect();
    let mut texts: Vec<_> = lines.iter().map(|line| Text::new(line, None)).collect();
    for pair in lines.chunks_exact(2) {
        // All of a long text and its beginning, to reach every way to cut a pair.
        let short: String = pair[1].chars().take(5).collect();
        for (first, second) in [(pair[0], pair[1]), (pair[0], &short), (&short, pair[0])] {
            texts.push(Text::new(first, Some(second)));
        }
    }
    for text in byte_level::TEXTS {
        texts.push(Text::new(text, None));
        texts.push(Text::new(
            text,
            text.split_once('\n').map(|(_, second)| second),
        ));
    }
    texts.push(Text::new("", Some("")));
    // Added tokens that begin alike.
    texts.push(Text::new("[x] [x a [SE] no- don't", None));
    // Truncation stops counting after a word, not after an added token.
    let masks = "<mask>".repeat(12) + "qwertyuz";
    texts.push(Text::new(&masks, Some("qwertyuiopasdfg")));
    Ok(texts)
}

/// The texts of a fixture's golden lines that were tokenized as a whole; none for other folders.
fn golden_texts(folder: &Path) -> Result<Vec<Text>, Failed> {
    let path = folder.join("golden.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut texts = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let text = |names: [&str; 3]| names.into_iter().find_map(|name| line[name].as_str());
        let first = text(["text", "text_a", "question"]).ok_or("no text")?;
        if line["input_ids"].is_array() {
            texts.push(Text {
                ids: Some(line["input_ids"].clone()),
                ..Text::new(first, text(["text_b", "context", ""]))
            });
        }
    }
    Ok(texts)
}

/// What the second reader prints, or its message.
fn read(file: &[u8], texts: &[Text]) -> Result<Value, Failed> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.filbert");
    std::fs::write(&path, file)?;
    let lines = texts
        .iter()
        .map(|text| json!([text.first, text.second]).to_string() + "\n");
    let texts_path = folder.path().join("texts.jsonl");
    std::fs::write(&texts_path, lines.collect::<String>())?;
    let output = Command::new(shared::python())
        .arg(shared::repository().join("tests/oracle/read_filbert.py"))
        .args([&path, &texts_path])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn same(what: &str, found: &Value, expected: &Value) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: the second reader has {found}, the runtime {expected}").into())
}

/// The converted checkpoint as both readers see it.
fn check(folder: &Path, tolerance: f64) -> Result<(), Failed> {
    check_file(folder, &convert(folder)?, tolerance)
}

/// A file made of a checkpoint, as both readers see it.
fn check_file(folder: &Path, file: &[u8], tolerance: f64) -> Result<(), Failed> {
    let checkpoint = Checkpoint::open(folder)?;
    let mut texts = texts()?;
    texts.extend(golden_texts(folder)?);
    let summary = read(file, &texts)?;
    let runner = Runner::new(Model::from_bytes(file)?, &Options::default())?;
    let model = runner.model();
    let shape = model.shape();

    let (major, minor) = model.version();
    same("version", &summary["version"], &json!([major, minor]))?;
    let dimensions = json!({
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "head_size": shape.head_size,
        "intermediate": shape.intermediate,
        "vocabulary": shape.vocabulary,
        "positions": shape.positions,
        "token_types": shape.token_types,
        "labels": shape.labels,
        "max_tokens": shape.max_tokens,
        "activation": shape.activation,
        "head_activation": shape.head_activation,
        "problem": shape.problem,
        "head": shape.head,
        "head_options": shape.head_options,
    });
    let mut found = summary["shape"].clone();
    let eps = found["layer_norm_eps"].take().as_f64().map(|x| x as f32);
    found
        .as_object_mut()
        .ok_or("no shape")?
        .remove("layer_norm_eps");
    same("shape", &found, &dimensions)?;
    if eps != Some(shape.layer_norm_eps) {
        return Err(format!("layer norm eps: {eps:?}, not {}", shape.layer_norm_eps).into());
    }
    let labels: Vec<_> = model.labels().collect();
    same("labels", &summary["labels"], &json!(labels))?;
    let sections: Vec<_> = model
        .sections()
        .map(|section| json!([section.name, section.offset, section.length]))
        .collect();
    same("sections", &summary["sections"], &json!(sections))?;

    let start = model.sections().last().ok_or("a file has sections")?.offset;
    // The runtime has compared them with those that the shape implies.
    let tensors = ModelFile::new(file).tensors();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|tensor| {
            let bytes = &file[(start + tensor.offset) as usize..][..tensor.length as usize];
            let checksum = crc32fast::hash(bytes);
            json!([
                tensor.kind,
                tensor.layer,
                tensor.offset,
                tensor.length,
                checksum
            ])
        })
        .collect();
    same("tensors", &summary["tensors"], &json!(tensors))?;

    same("tokens", &summary["tokens"], &tokens(folder)?)?;

    check_weights(&checkpoint, &summary)?;
    check_tokens(&runner, &texts, &summary)?;
    check_values(&runner, &summary, tolerance)
}

/// The tokens' texts; of a byte-level BPE one character for each byte, and null for the added
/// tokens, which are not made of bytes.
fn tokens(folder: &Path) -> Result<Value, Failed> {
    if let Ok(tokens) = std::fs::read_to_string(folder.join("vocab.txt")) {
        return Ok(tokens.lines().collect());
    }
    let json = std::fs::read_to_string(folder.join("tokenizer.json"))?;
    let json: Value = serde_json::from_str(&json)?;
    let bytes: HashMap<char, char> = (0..=u8::MAX)
        .map(|byte| (byte_level::character(byte), char::from(byte)))
        .collect();
    let vocabulary = json["model"]["vocab"].as_object().ok_or("no vocabulary")?;
    let mut tokens = vec![Value::Null; vocabulary.len()];
    for (text, id) in vocabulary {
        let added = json["added_tokens"].as_array().ok_or("no added tokens")?;
        if !added.iter().any(|token| token["id"] == *id) {
            let id = id.as_u64().ok_or("no id")? as usize;
            tokens[id] = text.chars().map(|c| bytes[&c]).collect::<String>().into();
        }
    }
    Ok(tokens.into())
}

/// The tokens of texts; how many the second reader could read.
fn check_tokens(runner: &Runner, texts: &[Text], summary: &Value) -> Result<usize, Failed> {
    let found = summary["texts"].as_array().ok_or("no texts")?;
    if found.len() != texts.len() {
        return Err(format!("{} texts, not {}", found.len(), texts.len()).into());
    }
    let mut count = 0;
    for (text, found) in texts.iter().zip(found) {
        if found["ids"].is_null() {
            continue;
        }
        let tokens = runner.tokenize(text.input())?;
        let (ids, types): (Vec<_>, Vec<_>) = tokens.iter().map(|t| (t.id, t.token_type)).unzip();
        same(&text.first, &found["ids"], &json!(ids))?;
        same(&text.first, &found["token_types"], &json!(types))?;
        if let Some(golden) = &text.ids {
            same(&text.first, &found["ids"], golden)?;
        }
        count += 1;
    }
    let least = match summary["vocabulary"]["kind"].as_u64() {
        Some(1) => texts.len(),
        // Only texts in ASCII.
        _ => 20,
    };
    if count < least {
        return Err(format!("only {count} of {} texts tokenized", texts.len()).into());
    }
    Ok(count)
}

/// One row of the word embedding and one of the first query, dequantized, against the
/// checkpoint's: at most half a step away.
fn check_weights(checkpoint: &Checkpoint, summary: &Value) -> Result<(), Failed> {
    let hidden = checkpoint.config().hidden;
    let separator = summary["vocabulary"]["separator"]
        .as_u64()
        .ok_or("no separator")? as usize;
    let words = checkpoint.load(Parameter::WordEmbedding)?;
    let word = &words[separator * hidden..][..hidden];
    let largest = word.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let query = checkpoint.load(Parameter::Layer(0, LayerParameter::QueryWeight))?;
    let query_step = summary["query_step"].as_f64().ok_or("no step")?;
    for (name, expected, step) in [
        ("word_row", word, f64::from(largest) / 127.0),
        ("query_row", &query[..hidden], query_step),
    ] {
        let found = summary[name].as_array().ok_or("no row")?;
        let found: Vec<f64> = found.iter().filter_map(Value::as_f64).collect();
        if found.len() != expected.len() {
            return Err(format!("{name}: {} values, not {}", found.len(), expected.len()).into());
        }
        for (found, &expected) in found.iter().zip(expected) {
            if (found - f64::from(expected)).abs() > 0.501 * step {
                return Err(format!("{name}: {found}, not {expected}").into());
            }
        }
    }
    Ok(())
}

/// The self-test's texts and their values, which the second reader has in float64 where it could
/// read the text and it is not too long.
fn check_values(runner: &Runner, summary: &Value, tolerance: f64) -> Result<(), Failed> {
    let cases = summary["selftest"].as_array().ok_or("no cases")?;
    let count = runner.self_test()?;
    if cases.len() != count {
        return Err(format!("{} cases, not {count}", cases.len()).into());
    }
    let mut computed = 0;
    let (mut difference, mut magnitude) = (0.0, 0.0);
    for case in cases {
        let text = Text::new(
            case["first"].as_str().ok_or("no text")?,
            case["second"].as_str(),
        );
        let values = runner.self_test_values(text.input())?;
        let bits: Vec<_> = values.iter().map(|x| x.to_bits()).collect();
        same("values", &case["value_bits"], &json!(bits))?;
        let Some(float64) = case["float64_values"].as_array() else {
            continue;
        };
        let float64: Vec<f64> = float64.iter().filter_map(Value::as_f64).collect();
        if float64.len() != values.len() {
            return Err(format!("{:?}: {float64:?}, not {values:?}", text.first).into());
        }
        for (found, expected) in float64.iter().zip(&values) {
            difference += (found - f64::from(*expected)).powi(2);
            magnitude += f64::from(*expected).powi(2);
        }
        computed += 1;
    }
    let error = (difference / magnitude).sqrt();
    println!("{computed} texts computed, error {error:.4}");
    if computed < 5 {
        return Err(format!("only {computed} computed").into());
    }
    if error.is_nan() || error > tolerance {
        return Err(format!("the values differ by {error}, more than {tolerance}").into());
    }
    Ok(())
}

/// Merges and added tokens of every kind, and every flag that ids depend on.
fn check_byte_level() -> Result<(), Failed> {
    let texts = texts()?;
    let mut files = byte_level::models();
    let pairs = convert(&fixture("roberta-pairs"))?;
    for flags in [
        0,
        PREFIX_SPACE,
        DOUBLE_SEPARATOR,
        PREFIX_SPACE | DOUBLE_SEPARATOR,
    ] {
        let mut parts = ModelFile::new(&pairs);
        edit(
            parts.section_mut(SectionKind::Vocabulary),
            |head: &mut Vocabulary| head.flags = flags,
        );
        files.push(("roberta-pairs", parts.to_bytes()));
    }
    for (name, file) in files {
        let runner = Runner::new(Model::from_bytes(&file)?, &Options::default())?;
        let count = check_tokens(&runner, &texts, &read(&file, &texts)?)?;
        println!("{name}: {count} texts tokenized");
    }
    Ok(())
}

/// The second reader looks at every number of the merges.
fn check_merges() -> Result<(), Failed> {
    let file = byte_level::model();
    let section = ModelFile::new(&file)
        .section(SectionKind::Vocabulary)
        .to_vec();
    let head: Vocabulary = bytemuck::pod_read_unaligned(&section[..size_of::<Vocabulary>()]);
    let starts = size_of::<Vocabulary>();
    let of_bytes = starts + 4 * (head.tokens as usize + 1) + 16 * head.added_raw as usize;
    let rights = of_bytes + 2 * 256;
    let made = rights + 2 * head.merges as usize;
    let ranks = made + 2 * head.merges as usize;
    for (at, bytes, message) in [
        (44, [0, 0], "required features of the vocabulary"),
        (starts, [1, 0], "merges, first or last start"),
        (starts + 4, [255, 0], "merges, starts"),
        (of_bytes, [255, 255], "tokens of bytes"),
        (rights, [255, 255], "merges, tokens"),
        (made, [255, 255], "merges, tokens"),
        (made, [3, 0], "is made of different bytes"),
        (ranks, [255, 0], "merges, ranks"),
        (24, [1, 0], "vocabulary, max_word_chars"),
        (52, [1, 0], "vocabulary, reserved"),
    ] {
        let mut parts = ModelFile::new(&file);
        parts.section_mut(SectionKind::Vocabulary)[at..at + 2].copy_from_slice(&bytes);
        expect_refusal(&parts.to_bytes(), message)?;
    }
    let mut parts = ModelFile::new(&file);
    edit(
        parts.section_mut(SectionKind::Shape),
        |shape: &mut Shape| {
            shape.max_tokens = 3;
        },
    );
    expect_refusal(&parts.to_bytes(), "shape, max_tokens of a pair")?;
    // The merges of "a": with "a" and with "b".
    let a = usize::from(u16::from_le_bytes([
        section[of_bytes + 2 * usize::from(b'a')],
        section[of_bytes + 2 * usize::from(b'a') + 1],
    ]));
    let first = u32::from_le_bytes(section[starts + 4 * a..][..4].try_into()?) as usize;
    let mut parts = ModelFile::new(&file);
    parts.section_mut(SectionKind::Vocabulary)[rights + 2 * first..][..4].rotate_left(2);
    expect_refusal(&parts.to_bytes(), &format!("merges of token {a}, order"))
}

/// Some products of a trained model are fine.
fn check_some_fine() -> Result<(), Failed> {
    let folder = shared::tiny_model();
    let checkpoint = Checkpoint::open(&folder)?;
    let texts = fine::calibration();
    let mut quantization = Quantization::choose(&checkpoint, Some(&texts), &mut Quiet)?;
    quantization.refine(&checkpoint, &texts, 5, &mut Quiet)?;
    let count = |is_fine: bool| {
        let sensitivities = quantization.sensitivities();
        let products = sensitivities.iter().filter(|p| p.is_fine == is_fine);
        products.count()
    };
    same(
        "products",
        &json!([count(true), count(false)]),
        &json!([5, 7]),
    )?;
    let package = Package::build_quantized(&checkpoint, &quantization, &mut Quiet)?;
    check_file(&folder, package.bytes(), TRAINED)
}

/// All products of layers are fine; and where the header and the tensor table do not agree on it,
/// or a half is damaged, the second reader sees it.
fn check_all_fine(synthetic: &SyntheticCheckpoint) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    synthetic.write(folder.path())?;
    let checkpoint = Checkpoint::open(folder.path())?;
    let [plain, fine] = fine::models(&checkpoint, [0, usize::MAX]);
    check_file(folder.path(), &fine, SYNTHETIC)?;

    let with_other_features = |mut file: Vec<u8>| {
        edit_head(&mut file, |header, _| {
            header.required_features ^= features::FINE_PRODUCTS;
        });
        file
    };
    let message = "required features of fine products";
    expect_refusal(&with_other_features(plain), message)?;
    expect_refusal(&with_other_features(fine.clone()), "tensor table, record")?;

    // A sum and the scale of a padded output, both of what is left of the weights.
    let head_size = synthetic.hidden / synthetic.heads;
    let padding = head_size / PANEL * size_of::<Columns>() + head_size % PANEL * size_of::<f32>();
    for (at, message) in [(64, "the sum of output"), (padding, "padded output")] {
        let mut parts = ModelFile::new(&fine);
        let columns = parts.tensor_mut(TensorKind::QueryKeyValueColumns, 0);
        let rest = columns.len() / 2;
        columns[rest + at] ^= 1;
        expect_refusal(&parts.to_bytes(), message)?;
    }
    Ok(())
}

/// The second reader checks what it reads: one changed byte of each section is an error.
fn check_damage() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    SyntheticCheckpoint::default().write(folder.path())?;
    let file = convert(folder.path())?;
    read(&file, &[])?;
    let sections: Vec<_> = Model::from_bytes(&file)?
        .sections()
        .filter(|section| section.length > 0)
        .map(|section| section.offset as usize)
        .collect();
    for at in [0, 9, 30, 64, 320].into_iter().chain(sections) {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        if read(&damaged, &[]).is_ok() {
            return Err(format!("a changed byte {at} was not noticed").into());
        }
    }
    // With the right checksums, the contents are looked at.
    let mut parts = ModelFile::new(&file);
    let sums = parts.tensor_mut(TensorKind::QueryKeyValueColumns, 0);
    sums[64] ^= 1;
    expect_refusal(&parts.to_bytes(), "sum of output 0")
}

fn expect_refusal(file: &[u8], message: &str) -> Result<(), Failed> {
    match read(file, &[]) {
        Err(error) if format!("{error:?}").contains(message) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(format!("not refused: {message}").into()),
    }
}

/// Balances that the converter does not write: that of the head norm, which *classifier* reads,
/// and that of the last norm before an embedding, which nothing reads. Twice the balance and half
/// the scales are the same values, to the bit.
fn check_balances() -> Result<(), Failed> {
    let change = |values: &mut [u8], factor: f32| {
        for value in values.as_chunks_mut::<4>().0 {
            *value = (f32::from_le_bytes(*value) * factor).to_le_bytes();
        }
    };
    let folder = fixture("bert-masked");
    let mut parts = ModelFile::new(&convert(&folder)?);
    let norm = parts.tensor_mut(TensorKind::HeadNorm, 0);
    let balance = norm.len() / 3 * 2;
    change(&mut norm[balance..], 2.0);
    let columns = parts.tensor_mut(TensorKind::ClassifierColumns, 0);
    for columns in columns.chunks_exact_mut(size_of::<Columns>()) {
        change(&mut columns[..64], 0.5);
    }
    check_file(&folder, &parts.to_bytes(), WIDE_WEIGHTS)?;

    let folder = fixture("bert-embeddings");
    let mut parts = ModelFile::new(&convert(&folder)?);
    let last = parts.shape().layers - 1;
    let norm = parts.tensor_mut(TensorKind::FeedForwardNorm, last);
    change(&mut norm[balance..], 2.0);
    check_file(&folder, &parts.to_bytes(), WIDE_WEIGHTS)
}

/// What the shape and the header say of the head must fit together.
fn check_heads() -> Result<(), Failed> {
    let file = convert(&fixture("bert-embeddings"))?;
    let masked = convert(&fixture("bert-masked"))?;
    type Change = fn(&mut Shape);
    let changes: [(Change, &str); 5] = [
        (|shape| shape.head = 5, "shape, head"),
        (|shape| shape.head = 0, "required features of the head"),
        (|shape| shape.head_options = 4, "shape, head_options"),
        (|shape| shape.labels = 1, "shape, labels"),
        (|shape| shape.problem = 2, "shape, problem of the head"),
    ];
    for (change, message) in changes {
        let mut parts = ModelFile::new(&file);
        edit(parts.section_mut(SectionKind::Shape), change);
        expect_refusal(&parts.to_bytes(), message)?;
    }
    let mut parts = ModelFile::new(&masked);
    edit(
        parts.section_mut(SectionKind::Shape),
        |shape: &mut Shape| {
            shape.head_options = shape.vocabulary;
        },
    );
    expect_refusal(&parts.to_bytes(), "shape, head_options")?;
    let mut unstated = file.clone();
    edit_head(&mut unstated, |header, _| header.required_features = 0);
    expect_refusal(&unstated, "required features of the head")?;
    let mut unknown = file;
    edit_head(&mut unknown, |header, _| header.required_features |= 16);
    expect_refusal(&unknown, "required features 0x15")
}
