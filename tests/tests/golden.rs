//! Filbert against PyTorch on real models, and against itself in every way to run.
//!
//! Tests of the shared models are reported as ignored where these are absent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use filbert::{Classifier, Input, Options};
use filbert_convert::Checkpoint;
use filbert_convert::comparison::compare;
use filbert_convert::dataset::Dataset;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::quantization::Quantization;
use filbert_convert::reference::Reference;
use filbert_tests::golden::{self, Golden};
use filbert_tests::{fine, kernel_sets, shared};
use libtest_mimic::{Arguments, Failed, Trial};

/// Set in a child process that only prints a hash of its logits.
const HASH: &str = "FILBERT_TEST_HASH";

/// A test of what lies in the shared folder.
type SharedTest = Box<dyn FnOnce(&Path) -> Result<(), Failed> + Send>;

fn main() -> ExitCode {
    if let Some(model) = std::env::var_os(HASH) {
        print!("{:016x}", hash_logits(Path::new(&model)));
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let mut trials = vec![
        Trial::test("tiny_sst2_agrees_with_pytorch", || {
            check_golden(&shared::tiny_model(), &["golden-own.jsonl"], 0.05)
        }),
        Trial::test("tiny_sst2_has_the_same_bits_in_every_way_to_run", || {
            check_bits(&convert(&shared::tiny_model())?.1)
        }),
        Trial::test(
            "fine_products_have_the_same_bits_in_every_way_to_run",
            || {
                let checkpoint = Checkpoint::open(&shared::tiny_model())?;
                let [half, all] = fine::models(&checkpoint, [6, 12]);
                check_bits(&half)?;
                check_bits(&all)
            },
        ),
    ];
    let found = shared::shared();
    let absent = found.is_none();
    let folder = Arc::new(found.unwrap_or_default());
    let mut add = |name: String, run: SharedTest| {
        let folder = Arc::clone(&folder);
        trials.push(Trial::test(name, move || run(&folder)).with_ignored_flag(absent));
    };
    for (model, files, mean_difference) in [
        (
            "minilm-sst2",
            &["golden.jsonl", "golden-own.jsonl"][..],
            0.025,
        ),
        (
            "distil-minilm-sst2",
            &["golden.jsonl", "golden-own.jsonl"],
            0.025,
        ),
        ("tiny-sst2", &["golden.jsonl", "golden-own.jsonl"], 0.025),
        ("minilm-pair", &["golden.jsonl"], 0.05),
    ] {
        add(
            format!("{model}_agrees_with_pytorch"),
            Box::new(move |folder| {
                check_golden(&folder.join("models").join(model), files, mean_difference)
            }),
        );
        add(
            format!("{model}_has_the_same_bits_in_every_way_to_run"),
            Box::new(move |folder| check_bits(&convert(&folder.join("models").join(model))?.1)),
        );
    }
    for (model, data, mean_difference) in [
        ("minilm-sst2", "sst2", 0.0135),
        ("minilm-sst2", "sst2-glue", 0.0135),
        ("distil-minilm-sst2", "sst2", 0.0135),
        ("distil-minilm-sst2", "sst2-glue", 0.0135),
        ("tiny-sst2", "sst2", 0.0085),
        ("tiny-sst2", "sst2-glue", 0.0085),
        ("minilm-pair", "mrpc", 0.02),
    ] {
        add(
            format!("{model}_keeps_its_accuracy_on_{data}"),
            Box::new(move |folder| check_accuracy(folder, model, data, None, mean_difference)),
        );
    }
    for (model, data, mean_difference) in [
        ("minilm-sst2", "sst2", 0.012),
        ("distil-minilm-sst2", "sst2", 0.012),
        ("tiny-sst2", "sst2", 0.0075),
        ("minilm-pair", "mrpc", 0.018),
    ] {
        add(
            format!("{model}_keeps_its_accuracy_on_{data}_when_calibrated"),
            Box::new(move |folder| {
                let train = folder.join("data").join(data).join("train.tsv");
                check_accuracy(folder, model, data, Some(&train), mean_difference)
            }),
        );
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn convert(folder: &Path) -> Result<(Checkpoint, Vec<u8>), Failed> {
    convert_calibrated(folder, None)
}

fn convert_calibrated(
    folder: &Path,
    texts: Option<&Path>,
) -> Result<(Checkpoint, Vec<u8>), Failed> {
    let checkpoint = Checkpoint::open(folder)?;
    let texts = texts.map(Dataset::read).transpose()?;
    let quantization = Quantization::choose(&checkpoint, texts.as_ref(), &mut Quiet)?;
    let package = Package::build_quantized(&checkpoint, &quantization, &mut Quiet)?;
    Ok((checkpoint, package.into_bytes()))
}

fn input(golden: &Golden) -> Input<'_> {
    match &golden.second {
        Some(second) => (golden.first.as_str(), second.as_str()).into(),
        None => golden.first.as_str().into(),
    }
}

fn best(logits: &[f32]) -> usize {
    let by_value = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]);
    (0..logits.len())
        .max_by(by_value)
        .expect("a model has labels")
}

/// Token ids exactly; float32 by tract within 1e-4; int8 near it.
fn check_golden(folder: &Path, files: &[&str], mean_difference: f64) -> Result<(), Failed> {
    let (checkpoint, bytes) = convert(folder)?;
    let classifier = Classifier::from_bytes(bytes, &Options::default())?;
    let reference = Reference::new(&checkpoint)?;
    let (mut sum, mut count, mut agreed, mut lines) = (0.0, 0, 0, 0);
    for file in files {
        for golden in golden::read(&folder.join(file)) {
            let tokens = classifier.tokenize(input(&golden))?;
            let (ids, token_types): (Vec<_>, Vec<_>) =
                tokens.iter().map(|t| (t.id, t.token_type)).unzip();
            if ids != golden.ids {
                return Err(format!("{file}: {:?}: ids {ids:?}", golden.first).into());
            }
            if !golden.token_types.is_empty() && token_types != golden.token_types {
                return Err(format!("{file}: {:?}: types {token_types:?}", golden.first).into());
            }
            let float32 = reference.logits(&ids, &token_types)?;
            for (ours, theirs) in float32.iter().zip(&golden.logits) {
                if (ours - theirs).abs() > 1e-4 {
                    return Err(format!(
                        "{file}: {:?}: ONNX {float32:?}, PyTorch {:?}",
                        golden.first, golden.logits
                    )
                    .into());
                }
            }
            let result = classifier.classify_batch(&[input(&golden)])?.remove(0);
            for (ours, theirs) in result.logits().iter().zip(&golden.logits) {
                sum += f64::from((ours - theirs).abs());
                count += 1;
            }
            agreed += usize::from(best(result.logits()) == best(&golden.logits));
            lines += 1;
        }
    }
    let mean = sum / f64::from(count);
    println!(
        "{}: {agreed} of {lines} labels, mean difference of logits {mean:.4}",
        folder.display()
    );
    if mean > mean_difference {
        return Err(format!(
            "mean difference of logits {mean:.4}, expected at most {mean_difference}"
        )
        .into());
    }
    Ok(())
}

/// Labels, logits and accuracy on a labelled set, against float32 by tract.
fn check_accuracy(
    folder: &Path,
    model: &str,
    data: &str,
    calibration: Option<&Path>,
    mean_difference: f64,
) -> Result<(), Failed> {
    let (checkpoint, bytes) = convert_calibrated(&folder.join("models").join(model), calibration)?;
    let classifier = Classifier::from_bytes(bytes, &Options::default())?;
    let dataset = Dataset::read(&folder.join("data").join(data).join("dev.tsv"))?;
    let (measured, _) = compare(&classifier, &dataset, &checkpoint, &mut Quiet)?;
    let report = serde_json::from_slice::<serde_json::Value>(&measured.report()?)?;
    let figure = |key: &str| {
        report[key]
            .as_f64()
            .ok_or_else(|| Failed::from(format!("no {key} in {report}")))
    };
    let (accuracy, float32) = (figure("accuracy")?, figure("reference_accuracy")?);
    let (agreed, mean) = (figure("agreement")?, figure("mean_abs_diff")?);
    println!(
        "{model} on {data}, calibrated {}: accuracy {accuracy:.4} (float32 {float32:.4}), agreement {agreed:.4}, mean {mean:.4}, max {:.4}",
        calibration.is_some(),
        figure("max_abs_diff")?
    );
    if agreed < 0.995 || mean > mean_difference || accuracy < float32 - 0.002 {
        return Err(report.to_string().into());
    }
    Ok(())
}

/// The texts whose logits must not depend on how they are computed.
fn own_texts() -> Vec<Golden> {
    golden::read(&shared::tiny_model().join("golden-own.jsonl"))
}

/// Hashes the logits' bits of all texts alone, and checks that threads, batches and order do
/// not change them.
fn hash_logits(model: &Path) -> u64 {
    let open = |threads| {
        let classifier = Classifier::open_with(model, &Options::new().threads(threads))
            .expect("the model opens");
        eprintln!("kernels {}", classifier.kernels());
        classifier
    };
    let one = open(1);
    // The reference is slow. So of a real model it computes only a part of the texts, none of
    // the longest, and each once.
    let large = one.model().shape().layers >= 6;
    let texts: Vec<_> = own_texts()
        .into_iter()
        .filter(|golden| !large || golden.ids.len() < 60)
        .step_by(if large { 3 } else { 1 })
        .collect();
    let ways = if large && one.kernels() == "scalar" {
        &[][..]
    } else {
        &[1, 2, 3, 8]
    };
    let inputs: Vec<_> = texts.iter().map(input).collect();
    let pairs: Vec<Input<'_>> = texts
        .windows(2)
        .map(|pair| (pair[0].first.as_str(), pair[1].first.as_str()).into())
        .collect();
    let inputs = [inputs, pairs].concat();
    let bits = |classifier: &Classifier, inputs: &[Input<'_>]| -> Vec<Vec<u32>> {
        let results = classifier
            .classify_batch(inputs)
            .expect("texts are classified");
        results
            .iter()
            .map(|result| result.logits().iter().map(|x| x.to_bits()).collect())
            .collect()
    };
    let alone: Vec<_> = inputs
        .iter()
        .flat_map(|&input| bits(&one, &[input]))
        .collect();
    for &threads in ways {
        let classifier = open(threads);
        assert_eq!(
            alone,
            bits(&classifier, &inputs),
            "batched, {threads} threads"
        );
        // An order of its own: 31 has no factor in common with the number of inputs.
        assert!(!inputs.len().is_multiple_of(31));
        let order: Vec<_> = (0..inputs.len()).map(|i| i * 31 % inputs.len()).collect();
        let shuffled: Vec<_> = order.iter().map(|&i| inputs[i]).collect();
        let expected: Vec<_> = order.iter().map(|&i| alone[i].clone()).collect();
        assert_eq!(
            expected,
            bits(&classifier, &shuffled),
            "shuffled, {threads} threads"
        );
        for (&input, expected) in inputs.iter().zip(&alone).take(20) {
            assert_eq!(
                expected,
                &bits(&classifier, &[input])[0],
                "alone, {threads} threads"
            );
        }
    }
    // FNV-1a, 64 bits.
    let bytes = alone.iter().flatten().flat_map(|bits| bits.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// One process for each kernel set of this CPU, as `FILBERT_ISA` forces it.
fn check_bits(file: &[u8]) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let model: PathBuf = directory.path().join("model.filbert");
    std::fs::write(&model, file)?;
    let mut hashes: Vec<(&str, String)> = Vec::new();
    let outputs = kernel_sets::run_each(|child| {
        child.env(HASH, &model);
    });
    for (isa, output) in outputs {
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{isa}: {errors}").into());
        }
        if !errors.contains(&format!("kernels {isa}")) {
            return Err(format!("{isa} was not used: {errors}").into());
        }
        hashes.push((isa, String::from_utf8(output.stdout)?));
    }
    println!("{hashes:?}");
    let ran: Vec<_> = hashes.iter().map(|(isa, _)| *isa).collect();
    for isa in std::env::var("FILBERT_REQUIRE_ISA")
        .unwrap_or_default()
        .split_whitespace()
    {
        if !ran.contains(&isa) {
            return Err(format!("{isa} did not run; this CPU ran {ran:?}").into());
        }
    }
    if hashes.iter().any(|(_, hash)| *hash != hashes[0].1) {
        return Err(format!("{hashes:?}").into());
    }
    Ok(())
}
