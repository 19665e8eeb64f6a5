//! The exported ONNX in ONNX Runtime, against PyTorch.
//!
//! Tests that need Python with `onnx` and `onnxruntime`, or the shared models, are reported as
//! ignored where these are absent.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use filbert_convert::conversion::{Conversion, Format};
use filbert_convert::progress::Quiet;
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};

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
    let models = folder.unwrap_or_default().join("models");
    for (name, files) in [
        ("tiny-sst2", both),
        ("minilm-sst2", both),
        ("distil-minilm-sst2", both),
        ("minilm-pair", &["golden.jsonl"]),
    ] {
        add(&format!("shared_{name}"), models.join(name), files, absent);
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
    let output = Command::new(python)
        .arg(shared::repository().join("tests/oracle/check_onnx.py"))
        .arg(&file)
        .args(golden)
        .args(["--tolerance", &tolerance.largest.to_string()])
        .args(["--mean-tolerance", &tolerance.mean.to_string()])
        .output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
    }
}
