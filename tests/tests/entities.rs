//! A real model for entities against PyTorch: its tokens, their logits, and the spans it finds.
//!
//! Tests of the shared model are reported as ignored where it is absent.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use filbert::{Model, Options, TokenClassifier};
use filbert_convert::Checkpoint;
use filbert_convert::comparison::compare_tags;
use filbert_convert::dataset::Dataset;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::reference::Reference;
use filbert_tests::shared;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// Largest difference of the float32 reference's logits from PyTorch's.
const FLOAT32: f32 = 1e-4;
/// Mean difference of the int8 logits from PyTorch's.
const MEAN_DIFFERENCE: f64 = 0.012;
/// Share of the tokens, or words, that have float32's label.
const AGREEMENT: f64 = 0.998;
/// What F1 may differ by from float32's.
const F1: f64 = 0.01;
/// F1 of PyTorch in float32, which is known to two decimals.
const PYTORCH_F1: f64 = 0.52;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let found = shared::shared();
    let absent = found.is_none();
    let folder = Arc::new(found.unwrap_or_default());
    let test = |name: &str, run: fn(&Path) -> Result<(), Failed>| {
        let folder = Arc::clone(&folder);
        Trial::test(name, move || run(&folder)).with_ignored_flag(absent)
    };
    let trials = vec![
        test("minilm_ner_agrees_with_pytorch", check_golden),
        test("minilm_ner_finds_the_spans_that_float32_finds", check_spans),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn open(folder: &Path) -> Result<(Checkpoint, TokenClassifier), Failed> {
    let checkpoint = Checkpoint::open(&folder.join("models/minilm-ner"))?;
    let package = Package::build(&checkpoint, &mut Quiet)?;
    let model = Model::from_bytes(package.bytes())?;
    let classifier = TokenClassifier::new(model, &Options::default())?;
    Ok((checkpoint, classifier))
}

fn array(line: &Value, key: &str) -> Vec<Value> {
    line[key].as_array().cloned().unwrap_or_default()
}

fn best(logits: &[f32]) -> usize {
    let by_value = |a: &usize, b: &usize| logits[*a].total_cmp(&logits[*b]);
    (0..logits.len())
        .max_by(by_value)
        .expect("a model has labels")
}

/// The golden lines were encoded word by word. The words lie between spaces and the tokenizer
/// looks at nothing beyond a space, so the text as a whole has the same tokens.
fn check_golden(folder: &Path) -> Result<(), Failed> {
    let (checkpoint, classifier) = open(folder)?;
    let reference = Reference::new(&checkpoint)?;
    let labels = classifier.model().shape().labels as usize;
    let (mut sum, mut count, mut largest, mut agreed, mut tokens) = (0.0, 0, 0.0_f64, 0, 0);
    let file = std::fs::read_to_string(folder.join("models/minilm-ner/golden.jsonl"))?;
    for line in file.lines() {
        let line: Value = serde_json::from_str(line)?;
        let text = line["text"].as_str().ok_or("no text")?;
        let result = classifier.classify(text)?;
        let ids: Vec<u32> = result.tokens().iter().map(|token| token.id).collect();
        let expected: Vec<u64> = array(&line, "input_ids")
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        if !ids
            .iter()
            .map(|&id| u64::from(id))
            .eq(expected.iter().copied())
        {
            return Err(format!("{text:?}: ids {ids:?}, expected {expected:?}").into());
        }
        // Which word each token belongs to, by the spaces before it.
        let words: Vec<Option<u64>> = result
            .tokens()
            .iter()
            .map(|token| {
                let before = text[..token.start].matches(' ').count() as u64;
                (token.start < token.end).then_some(before)
            })
            .collect();
        let expected: Vec<Option<u64>> =
            array(&line, "word_ids").iter().map(Value::as_u64).collect();
        if words != expected {
            return Err(format!("{text:?}: words {words:?}, expected {expected:?}").into());
        }
        let pytorch: Vec<f32> = array(&line, "logits")
            .iter()
            .filter_map(Value::as_array)
            .flatten()
            .filter_map(Value::as_f64)
            .map(|logit| logit as f32)
            .collect();
        let types: Vec<u8> = result.tokens().iter().map(|t| t.token_type).collect();
        let float32 = reference.logits(&ids, &types)?;
        if pytorch.len() != ids.len() * labels
            || float32.len() != pytorch.len()
            || result.logits().len() != pytorch.len()
        {
            return Err(format!("{text:?}: {} logits", pytorch.len()).into());
        }
        let rows = pytorch
            .chunks_exact(labels)
            .zip(float32.chunks_exact(labels));
        for ((pytorch, float32), int8) in rows.zip(result.logits().chunks_exact(labels)) {
            for ((&pytorch, &float32), &int8) in pytorch.iter().zip(float32).zip(int8) {
                if (float32 - pytorch).abs() > FLOAT32 {
                    return Err(format!("{text:?}: ONNX {float32}, PyTorch {pytorch}").into());
                }
                let difference = f64::from((int8 - pytorch).abs());
                largest = largest.max(difference);
                sum += difference;
                count += 1;
            }
            agreed += usize::from(best(int8) == best(pytorch));
            tokens += 1;
        }
    }
    let mean = sum / f64::from(count);
    println!(
        "minilm-ner: {agreed} of {tokens} labels, mean difference of logits {mean:.4}, largest {largest:.3}"
    );
    if tokens == 0 || mean > MEAN_DIFFERENCE || (agreed as f64) < AGREEMENT * tokens as f64 {
        return Err(format!("{agreed} of {tokens} labels, mean difference {mean:.4}").into());
    }
    Ok(())
}

/// Spans of the whole development set, against float32 by tract.
fn check_spans(folder: &Path) -> Result<(), Failed> {
    let (checkpoint, classifier) = open(folder)?;
    let dataset = Dataset::read(&folder.join("data/wnut17/dev.tsv"))?;
    let (evaluation, _) = compare_tags(&classifier, &dataset, &checkpoint, &mut Quiet)?;
    let spans = evaluation.spans.ok_or("no spans")?;
    let float32 = spans.reference_f1.ok_or("no reference")?;
    let agreement = evaluation.agreement.ok_or("no reference")?;
    println!(
        "minilm-ner on wnut17: F1 {:.4} (float32 {float32:.4}) of {} spans, {} words of which {} have no token; accuracy of tags {:.4} (float32 {:.4}), agreement {agreement:.4}, mean {:.4}, max {:.4}",
        spans.f1,
        spans.support,
        spans.words,
        spans.unseen,
        evaluation.accuracy,
        evaluation.reference_accuracy.ok_or("no reference")?,
        evaluation.mean_abs_diff.ok_or("no reference")?,
        evaluation.max_abs_diff.ok_or("no reference")?,
    );
    if (float32 - PYTORCH_F1).abs() > 0.005 {
        return Err(format!("F1 {float32} in float32, PyTorch has {PYTORCH_F1}").into());
    }
    if (spans.f1 - float32).abs() > F1 || agreement < AGREEMENT {
        return Err(format!("F1 {}, float32 {float32}; agreement {agreement}", spans.f1).into());
    }
    Ok(())
}
