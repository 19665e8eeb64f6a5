//! `filbert eval`: how good a model is on labelled texts, or on texts whose words are tagged.

use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use filbert::{Classifier, Head, Model, Options, TokenClassifier};
use filbert_convert::dataset::Dataset;
use filbert_convert::evaluation::{ClassFigures, Evaluation, evaluate};
use filbert_convert::tags::{SpanFigures, evaluate_tags};
#[cfg(feature = "onnx")]
use filbert_convert::{
    Checkpoint,
    comparison::{compare, compare_tags},
    hub,
};

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

For a model for token classification, words have one space between, and the label is a tag for \
each word, with one space between: `Marta lives in Oslo<TAB>B-PER O O B-LOC`. A word has the tag \
of its first token. A span that the tags make is found if its words and its kind are the very same.
";
const OUTPUT: &str = if ONNX {
    "\
JSON has the keys accuracy, count, truncated, per_class and texts_per_second; with --reference \
also reference_accuracy, accuracy_drop (in points), agreement (the share of texts with the same \
label), max_abs_diff and mean_abs_diff (of the logits), reference_per_class, and flipped (the \
texts whose label differs), which are null without it.

Where words are tagged, all but count, truncated and texts_per_second are of words, and there is \
the key spans: an object with precision, recall, f1, support, per_type, words, and unseen (words \
without a token); with --reference also reference_f1, f1_drop and reference_per_type."
} else {
    "\
JSON has the keys accuracy, count, truncated, per_class and texts_per_second. Where words are \
tagged, accuracy and per_class are of words, and there is the key spans: an object with precision, \
recall, f1, support, per_type, words, and unseen (words without a token)."
};

/// Measure a model on labelled texts, or on texts whose words are tagged
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
    let options = Options::new().threads(threads);
    let subject = if head.is_none() && model.head() == Head::TokenClassification {
        Subject::Words(Box::new(TokenClassifier::new(model, &options)?))
    } else {
        Subject::Texts(Box::new(model::classifier(model, head, &options)?))
    };
    #[cfg(feature = "onnx")]
    let evaluation = match &reference {
        Some(checkpoint) => subject.compare(&dataset, checkpoint)?,
        None => subject.evaluate(&dataset)?,
    };
    #[cfg(not(feature = "onnx"))]
    let evaluation = subject.evaluate(&dataset)?;
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        let json = serde_json::to_string(&evaluation)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        writeln!(out, "{json}")?;
    } else {
        write_evaluation(&mut out, &evaluation, &subject, threads)?;
    }
    out.flush()?;
    if evaluation.truncated > 0 {
        note(&format!(
            "{} of {} texts were cut to {} tokens",
            evaluation.truncated,
            evaluation.count,
            subject.model().shape().max_tokens
        ));
    }
    Ok(())
}

/// What is measured.
enum Subject {
    /// A model that labels texts.
    Texts(Box<Classifier>),
    /// A model that tags words.
    Words(Box<TokenClassifier>),
}

impl Subject {
    fn model(&self) -> &Model {
        match self {
            Self::Texts(classifier) => classifier.model(),
            Self::Words(classifier) => classifier.model(),
        }
    }

    fn kernels(&self) -> &'static str {
        match self {
            Self::Texts(classifier) => classifier.kernels(),
            Self::Words(classifier) => classifier.kernels(),
        }
    }

    fn evaluate(&self, dataset: &Dataset) -> Result<Evaluation, Failure> {
        let progress = &mut ProgressBars::default();
        Ok(match self {
            Self::Texts(classifier) => evaluate(classifier, dataset, progress)?,
            Self::Words(classifier) => evaluate_tags(classifier, dataset, progress)?,
        })
    }

    #[cfg(feature = "onnx")]
    fn compare(&self, dataset: &Dataset, checkpoint: &Checkpoint) -> Result<Evaluation, Failure> {
        let progress = &mut ProgressBars::default();
        Ok(match self {
            Self::Texts(classifier) => compare(classifier, dataset, checkpoint, progress)?.0,
            Self::Words(classifier) => compare_tags(classifier, dataset, checkpoint, progress)?.0,
        })
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn write_evaluation(
    out: &mut impl Write,
    evaluation: &Evaluation,
    subject: &Subject,
    threads: usize,
) -> io::Result<()> {
    let accuracy = percent(evaluation.accuracy);
    match &evaluation.spans {
        Some(spans) => {
            write_spans(out, spans)?;
            let words = spans.words - spans.unseen;
            writeln!(out, "accuracy    {accuracy} of the tags of {words} words")?;
        }
        None => writeln!(out, "accuracy    {accuracy} of {} texts", evaluation.count)?,
    }
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
        let kernels = subject.kernels();
        writeln!(
            out,
            "speed       {speed:.0} texts/s ({kernels}, {threads} thread{plural})"
        )?;
    }
    match &evaluation.spans {
        Some(spans) => write_classes(out, "kind", &spans.per_type),
        None => write_classes(out, "label", &evaluation.per_class),
    }
}

fn write_spans(out: &mut impl Write, spans: &SpanFigures) -> io::Result<()> {
    writeln!(
        out,
        "spans       F1 {}, precision {}, recall {} of {}",
        percent(spans.f1),
        percent(spans.precision),
        percent(spans.recall),
        spans.support
    )?;
    if let Some(f1) = spans.reference_f1 {
        writeln!(out, "float32     F1 {}", percent(f1))?;
    }
    if spans.unseen > 0 {
        writeln!(out, "unseen      {} words without a token", spans.unseen)?;
    }
    Ok(())
}

/// A table; `what` is what its rows are.
fn write_classes(out: &mut impl Write, what: &str, classes: &[ClassFigures]) -> io::Result<()> {
    let labels: Vec<_> = classes.iter().map(|c| one_line(&c.label)).collect();
    let width = labels
        .iter()
        .map(|l| l.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    writeln!(
        out,
        "\n{:<width$}  precision    recall        F1   support",
        what
    )?;
    for (class, label) in classes.iter().zip(&labels) {
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
