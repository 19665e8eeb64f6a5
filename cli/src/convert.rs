//! `filbert convert`: a checkpoint to files.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use filbert_convert::comparison::Comparison;
use filbert_convert::conversion::{Conversion, Format, Outcome};
use filbert_convert::evaluation::Evaluation;

use crate::Failure;
use crate::terminal::{ProgressBars, readable_size};

/// Convert a Hugging Face checkpoint to a .filbert file, ONNX, or both
#[derive(Args)]
#[command(
    long_about = "\
Convert a Hugging Face checkpoint to a .filbert file, ONNX, or both.

The checkpoint is a folder with config.json, model.safetensors (or its shards) and tokenizer.json \
or vocab.txt, as save_pretrained of transformers writes it: BertForSequenceClassification or \
DistilBertForSequenceClassification.

Files appear under their names when everything is done, or not at all. The same checkpoint gives \
the same bytes, on every machine; only the last decimals of an --eval report may differ.",
    after_help = "\
Examples:
  filbert convert models/tiny-sst2 -o tiny.filbert
  filbert convert models/tiny-sst2 -o tiny.filbert --eval reviews.tsv --max-drop 0.5
  filbert convert models/tiny-sst2 --onnx tiny.onnx --onnx-int8 tiny-int8.onnx"
)]
pub(crate) struct Arguments {
    /// The checkpoint's folder
    checkpoint: PathBuf,
    /// Where to write the .filbert file; may be left out if ONNX is asked for
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present_any = ["onnx", "onnx_int8"]
    )]
    output: Option<PathBuf>,
    /// Write ONNX with float32 weights, as Optimum names and shapes it
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Write ONNX with the int8 weights, for ONNX Runtime
    #[arg(long, value_name = "FILE")]
    onnx_int8: Option<PathBuf>,
    /// Compare int8 with float32 on these labelled texts; the report goes into the .filbert file
    ///
    /// A file of tab-separated lines. The first is `text<TAB>label`, or
    /// `text_a<TAB>text_b<TAB>label` for pairs. Nothing is quoted.
    #[arg(long, value_name = "TSV")]
    eval: Option<PathBuf>,
    /// Write nothing, and end with code 3, if int8 loses more points of accuracy than this
    ///
    /// One point is one text of a hundred: with 0.5, accuracy may fall from 92.0 % to 91.5 %.
    #[arg(
        long,
        value_name = "POINTS",
        requires = "eval",
        allow_negative_numbers = true,
        value_parser = parse_points
    )]
    max_drop: Option<f64>,
}

fn parse_points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if points.is_finite() => Ok(points),
        _ => Err("expected a number of points, such as 0.5".to_owned()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let files = [
        (Format::Filbert, &arguments.output),
        (Format::Onnx, &arguments.onnx),
        (Format::OnnxInt8, &arguments.onnx_int8),
    ];
    let conversion = Conversion {
        files: files
            .into_iter()
            .filter_map(|(format, path)| Some((format, path.clone()?)))
            .collect(),
        comparison: arguments.eval.clone().map(|dataset| Comparison {
            dataset,
            max_drop: arguments.max_drop,
        }),
    };
    let outcome = conversion.run(&arguments.checkpoint, &mut ProgressBars::default())?;
    write_summary(&mut io::stdout().lock(), &outcome)?;
    match (&outcome.evaluation, arguments.max_drop) {
        (Some(evaluation), Some(max)) if outcome.limit_passed => {
            Err(Failure::AccuracyLimit(format!(
                "nothing written: int8 loses {} points of accuracy on {}, more than the {max} of \
                 --max-drop",
                points(evaluation.accuracy_drop.unwrap_or_default()),
                evaluation.dataset
            )))
        }
        _ => Ok(()),
    }
}

fn write_summary(out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    for (path, length) in &outcome.files {
        writeln!(
            out,
            "{}: {}, {:.0} % of the {} that float32 weights take",
            path.display(),
            readable_size(*length),
            100.0 * *length as f64 / outcome.float32_length.max(1) as f64,
            readable_size(outcome.float32_length)
        )?;
    }
    match &outcome.evaluation {
        Some(evaluation) => write_evaluation(out, evaluation),
        None => Ok(()),
    }
}

fn write_evaluation(out: &mut impl Write, evaluation: &Evaluation) -> io::Result<()> {
    let Evaluation {
        reference_accuracy: Some(reference_accuracy),
        agreement: Some(agreement),
        max_abs_diff: Some(max_abs_diff),
        mean_abs_diff: Some(mean_abs_diff),
        accuracy_drop: Some(drop),
        ..
    } = evaluation
    else {
        return Ok(());
    };
    writeln!(
        out,
        "accuracy on {}: {:.2} % in int8, {:.2} % in float32: {}",
        evaluation.dataset,
        100.0 * evaluation.accuracy,
        100.0 * reference_accuracy,
        match *drop {
            0.0 => "none lost".to_owned(),
            drop if drop > 0.0 => format!("{} points lost", points(drop)),
            drop => format!("{} points won", points(-drop)),
        }
    )?;
    writeln!(
        out,
        "the same label for {:.2} % of {} texts; logits differ by {mean_abs_diff:.4} on average, \
         {max_abs_diff:.4} at most",
        100.0 * agreement,
        evaluation.count
    )
}

/// Points of accuracy, without zeros that say nothing.
fn points(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}
