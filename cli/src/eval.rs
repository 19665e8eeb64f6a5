//! `filbert eval`: how good a model is on labelled texts.

use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use filbert::{Classifier, Options};
use filbert_convert::dataset::Dataset;
use filbert_convert::evaluation::{Evaluation, evaluate};
#[cfg(feature = "onnx")]
use filbert_convert::{comparison::compare, hub};

use crate::help::{self, ALWAYS, CONVERT, ONNX};
use crate::terminal::{ProgressBars, note, one_line};
use crate::{Failure, model};

const ABOUT: &str = if ONNX {
    "\
Measure a model on labelled texts: accuracy, the figures of each label, and speed. With \
--reference, also what int8 costs: every text is run in float32 too, by another runtime (tract, \
on the exported ONNX)."
} else {
    "Measure a model on labelled texts: accuracy, the figures of each label, and speed."
};
const INPUT: &str = "
TSV is a file of tab-separated lines. The first is `text<TAB>label`, or \
`text_a<TAB>text_b<TAB>label` for pairs. Nothing is quoted. A label is one of the model's.
";
const OUTPUT: &str = if ONNX {
    "\
JSON has the keys accuracy, count, truncated, per_class and texts_per_second; with --reference \
also reference_accuracy, accuracy_drop (in points), agreement (the share of texts with the same \
label), max_abs_diff and mean_abs_diff (of the logits), reference_per_class, and flipped (the \
texts whose label differs), which are null without it."
} else {
    "JSON has the keys accuracy, count, truncated, per_class and texts_per_second."
};

/// Measure a model on labelled texts
#[derive(Args)]
#[command(
    long_about = help::lines(&[(ALWAYS, ABOUT), (ALWAYS, INPUT), (ALWAYS, OUTPUT)]),
    after_help = help::lines(&[
        (ALWAYS, "Examples:\n  filbert eval tiny.filbert reviews.tsv"),
        (ONNX, "  filbert eval tiny.filbert reviews.tsv --reference models/tiny-sst2"),
        (CONVERT, "  filbert eval models/tiny-sst2 reviews.tsv --json"),
        (!CONVERT, "  filbert eval tiny.filbert reviews.tsv --json"),
    ])
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    model: PathBuf,
    /// The labelled texts
    tsv: PathBuf,
    /// A head that `filbert train` made on this encoder, in place of the model's own
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The checkpoint that the model came from: compare with it, in float32
    #[cfg(feature = "onnx")]
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "head")]
    reference: Option<PathBuf>,
    /// Threads; the answers do not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dataset = Dataset::read(&arguments.tsv)?;
    #[cfg(feature = "onnx")]
    let reference = match &arguments.reference {
        Some(source) => Some(hub::open(source, &mut ProgressBars::default())?),
        None => None,
    };
    let threads = arguments.threads.get();
    let model = model::open(&arguments.model)?;
    let head = model::open_head(arguments.head.as_deref(), &model)?;
    let classifier = model::classifier(model, head, &Options::new().threads(threads))?;
    let mut progress = ProgressBars::default();
    #[cfg(feature = "onnx")]
    let evaluation = match &reference {
        Some(checkpoint) => compare(&classifier, &dataset, checkpoint, &mut progress)?.0,
        None => evaluate(&classifier, &dataset, &mut progress)?,
    };
    #[cfg(not(feature = "onnx"))]
    let evaluation = evaluate(&classifier, &dataset, &mut progress)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        let json = serde_json::to_string(&evaluation)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        writeln!(out, "{json}")?;
    } else {
        write_evaluation(&mut out, &evaluation, &classifier, threads)?;
    }
    out.flush()?;
    if evaluation.truncated > 0 {
        note(&format!(
            "{} of {} texts were cut to {} tokens",
            evaluation.truncated,
            evaluation.count,
            classifier.model().shape().max_tokens
        ));
    }
    Ok(())
}

fn write_evaluation(
    out: &mut impl Write,
    evaluation: &Evaluation,
    classifier: &Classifier,
    threads: usize,
) -> io::Result<()> {
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let accuracy = percent(evaluation.accuracy);
    writeln!(out, "accuracy    {accuracy} of {} texts", evaluation.count)?;
    if let Some(accuracy) = evaluation.reference_accuracy {
        writeln!(out, "float32     {}", percent(accuracy))?;
    }
    if let Some(agreement) = evaluation.agreement {
        writeln!(out, "agreement   {} of labels", percent(agreement))?;
    }
    if let (Some(mean), Some(max)) = (evaluation.mean_abs_diff, evaluation.max_abs_diff) {
        writeln!(
            out,
            "logits      differ by {mean:.4} on average, {max:.4} at most"
        )?;
    }
    if let Some(speed) = evaluation.texts_per_second {
        let plural = if threads == 1 { "" } else { "s" };
        let kernels = classifier.kernels();
        writeln!(
            out,
            "speed       {speed:.0} texts/s ({kernels}, {threads} thread{plural})"
        )?;
    }

    let labels: Vec<_> = evaluation
        .per_class
        .iter()
        .map(|c| one_line(&c.label))
        .collect();
    let width = labels
        .iter()
        .map(|l| l.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    writeln!(
        out,
        "\n{:<width$}  precision    recall        F1   support",
        "label"
    )?;
    for (class, label) in evaluation.per_class.iter().zip(&labels) {
        writeln!(
            out,
            "{label:<width$}  {:>9} {:>9} {:>9} {:>9}",
            percent(class.precision),
            percent(class.recall),
            percent(class.f1),
            class.support
        )?;
    }
    Ok(())
}
