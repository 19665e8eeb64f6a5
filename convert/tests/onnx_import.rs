//! Models in ONNX, as exporters write them: read, or refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use filbert_convert::checkpoint::Checkpoint;
use filbert_convert::reference::Reference;
use serde_json::Value;

/// The tolerance that the project promises for float32.
const TOLERANCE: f64 = 1e-4;

/// Whether a folder's name has this part.
fn is(folder: &Path, part: &str) -> bool {
    folder.file_name().unwrap().to_str().unwrap().contains(part)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The folders of ONNX fixtures.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is(path, "onnx-"))
        .collect();
    folders.sort();
    folders
}

/// All numbers of a list, or of lists of them.
fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(values) => values.iter().flat_map(numbers).collect(),
        None => value.as_f64().into_iter().collect(),
    }
}

/// What the fixture's golden file says that the model answers: for int8, with the same weights
/// and float32 activations. The two numbers of each token stand side by side.
fn expected(line: &Value) -> Vec<f64> {
    let exact = |name: &str| line.get(format!("float_{name}")).unwrap_or(&line[name]);
    match line.get("start_logits") {
        None => numbers(exact("logits")),
        Some(_) => {
            let [starts, ends] = ["start_logits", "end_logits"].map(|name| numbers(exact(name)));
            let pairs = starts.into_iter().zip(ends);
            pairs.flat_map(|(start, end)| [start, end]).collect()
        }
    }
}

fn check_logits(folder: &Path) {
    let checkpoint = Checkpoint::open(folder).unwrap_or_else(|error| panic!("{error}"));
    let reference = Reference::new(&checkpoint).unwrap();
    let golden = fs::read_to_string(folder.join("golden.jsonl")).unwrap();
    for line in golden.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let ids = numbers(&line["input_ids"]);
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let types = match &line["token_type_ids"] {
            Value::Null => vec![0; ids.len()],
            types => numbers(types).iter().map(|&kind| kind as u8).collect(),
        };
        let (found, expected) = (reference.logits(&ids, &types).unwrap(), expected(&line));
        assert_eq!(found.len(), expected.len(), "{}", folder.display());
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() <= TOLERANCE,
                "{}: {found}, not {expected}",
                folder.display()
            );
        }
    }
}

#[test]
fn every_exporters_model_gives_its_logits() {
    let folders = folders();
    let readable = folders.iter().filter(|folder| !is(folder, "fused"));
    let checked = readable.map(|folder| check_logits(folder)).count();
    assert!(checked >= 28, "{checked} of the fixtures' exports");
}
