//! The exported ONNX in ONNX Runtime, against PyTorch; and in int8 on labelled texts, against
//! Filbert, beside what ONNX Runtime's own `quantize_dynamic` makes of the float32 export.
//!
//! Tests that need Python with `onnx` and `onnxruntime`, or the shared models, are reported as
//! ignored where these are absent.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use filbert::{Classifier, Input};
use filbert_convert::conversion::{Conversion, Format};
use filbert_convert::dataset::Dataset;
use filbert_convert::progress::Quiet;
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

/// The largest and the mean difference of a logit to PyTorch.
#[derive(Clone, Copy)]
struct Tolerance {
    largest: f64,
    mean: f64,
}

const FLOAT32: Tolerance = Tolerance {
    largest: 1e-4,
    mean: 1e-4,
};

const INT8: Tolerance = Tolerance {
    largest: 0.5,
    mean: 0.03,
};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let python = shared::python_with_onnxruntime();
    let folder = shared::shared();
    let mut trials = Vec::new();
    let mut add = |name: &str, model: PathBuf, files: &[&str], absent: bool| {
        let files: Vec<PathBuf> = files.iter().map(|file| model.join(file)).collect();
        for (precision, tolerance) in [("float32", FLOAT32), ("int8", INT8)] {
            let (model, files, python) = (model.clone(), files.clone(), python.clone());
            let trial = Trial::test(
                format!("{precision}_of_{name}_runs_in_onnx_runtime"),
                move || {
                    let python = python.ok_or("no Python with onnx and onnxruntime")?;
                    check(&python, &model, &files, tolerance, precision == "int8")
                },
            );
            trials.push(trial.with_ignored_flag(absent));
        }
    };
    let no_python = python.is_none();
    let own = &["golden-own.jsonl"][..];
    let both = &["golden-own.jsonl", "golden.jsonl"][..];
    add("tiny_sst2", shared::tiny_model(), own, no_python);
    let absent = no_python || folder.is_none();
    let folder = folder.unwrap_or_default();
    let models = folder.join("models");
    for (name, files) in [
        ("tiny-sst2", both),
        ("minilm-sst2", both),
        ("distil-minilm-sst2", both),
        ("minilm-pair", &["golden.jsonl"]),
    ] {
        add(&format!("shared_{name}"), models.join(name), files, absent);
    }
    // The last is the least share of the texts for which the int8 ONNX has Filbert's best label.
    for (name, data, agreement) in [
        ("minilm-sst2", "sst2", 0.995),
        ("distil-minilm-sst2", "sst2", 0.995),
        ("tiny-sst2", "sst2", 0.995),
        ("minilm-pair", "mrpc", 0.995),
    ] {
        let (model, python) = (models.join(name), python.clone());
        let dataset = folder.join("data").join(data).join("dev.tsv");
        let trial = Trial::test(
            format!("int8_of_shared_{name}_has_the_labels_of_filbert_on_{data}"),
            move || {
                let python = python.ok_or("no Python with onnx and onnxruntime")?;
                compare(&python, &model, &dataset, agreement)
            },
        );
        trials.push(trial.with_ignored_flag(absent));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn check(
    python: &Path,
    checkpoint: &Path,
    golden: &[PathBuf],
    tolerance: Tolerance,
    int8: bool,
) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.onnx");
    let format = match int8 {
        false => Format::Onnx,
        true => Format::OnnxInt8,
    };
    let conversion = Conversion {
        files: vec![(format, file.clone())],
        ..Conversion::default()
    };
    conversion.run(checkpoint, &mut Quiet)?;
    run(Command::new(python)
        .arg(shared::repository().join("tests/oracle/check_onnx.py"))
        .arg(&file)
        .args(golden)
        .args(["--tolerance", &tolerance.largest.to_string()])
        .args(["--mean-tolerance", &tolerance.mean.to_string()]))
}

/// The best labels of Filbert and of its int8 ONNX in ONNX Runtime, on the same token ids.
fn compare(python: &Path, checkpoint: &Path, dataset: &Path, agreement: f64) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name);
    let (model, float32, int8) = (
        place("model.filbert"),
        place("float32.onnx"),
        place("int8.onnx"),
    );
    let conversion = Conversion {
        files: vec![
            (Format::Filbert, model.clone()),
            (Format::Onnx, float32.clone()),
            (Format::OnnxInt8, int8.clone()),
        ],
        ..Conversion::default()
    };
    conversion.run(checkpoint, &mut Quiet)?;
    let texts = place("texts.jsonl");
    let lines = answers(&Classifier::open(&model)?, &Dataset::read(dataset)?)?;
    std::fs::write(&texts, lines)?;
    println!("{} on {}", checkpoint.display(), dataset.display());
    run(Command::new(python)
        .arg(shared::repository().join("tests/oracle/compare_int8.py"))
        .args([&float32, &int8, &texts])
        .args(["--agreement", &agreement.to_string()]))
}

/// A line of JSON for each text: its tokens, its right label, and Filbert's logits.
fn answers(classifier: &Classifier, dataset: &Dataset) -> Result<String, Failed> {
    let labels: Vec<&str> = classifier.labels().collect();
    let targets = dataset.targets(&labels)?;
    let inputs: Vec<Input<'_>> = dataset.examples().iter().map(|e| e.input()).collect();
    let results = classifier.classify_batch(&inputs)?;
    let mut lines = String::new();
    for ((input, target), result) in inputs.iter().zip(targets).zip(results) {
        let tokens = classifier.tokenize(*input)?;
        let (ids, token_types): (Vec<_>, Vec<_>) =
            tokens.iter().map(|t| (t.id, t.token_type)).unzip();
        let line = json!({
            "input_ids": ids,
            "token_type_ids": token_types,
            "label": target,
            "logits": result.logits(),
        });
        writeln!(lines, "{line}")?;
    }
    Ok(lines)
}

/// Runs a program of Python; its message, where it fails, is the error.
fn run(command: &mut Command) -> Result<(), Failed> {
    let output = command.output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}
