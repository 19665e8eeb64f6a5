//! What `filbert convert` does beside the `.filbert` file: ONNX, and the comparison with float32.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use filbert_convert::comparison::Comparison;
use filbert_convert::conversion::{Conversion, Format, Outcome};
use filbert_convert::dataset::Dataset;
use filbert_convert::evaluation::Evaluation;
use filbert_convert::output::OutputFile;

use super::report;
use crate::Failure;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Write ONNX with float32 weights, as Optimum names and shapes it
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Write ONNX with the int8 weights, for ONNX Runtime
    #[arg(long, value_name = "FILE")]
    onnx_int8: Option<PathBuf>,
    /// Compare int8 with float32 on these labelled texts; the report goes into the .filbert file
    ///
    /// A file of tab-separated lines. The first is `text<TAB>label`, or
    /// `text_a<TAB>text_b<TAB>label` for pairs. Nothing is quoted. For token classification the
    /// label is a tag for each word, with one space between.
    #[arg(long, value_name = "TSV")]
    eval: Option<PathBuf>,
    /// Write nothing, and end with code 3, if int8 loses more points of accuracy than this
    ///
    /// One point is one text of a hundred: with 0.5, or 0.5%, accuracy may fall from 92.0 % to
    /// 91.5 %. For token classification these are points of F1 of the spans. With --calibrate,
    /// products are kept in 16 bits before that, as many as it takes.
    #[arg(
        long,
        value_name = "POINTS",
        requires = "eval",
        allow_negative_numbers = true,
        value_parser = parse_points
    )]
    max_drop: Option<f64>,
    /// Write the comparison as a page with plots, which shows the texts whose label changed
    #[arg(long, value_name = "HTML", requires = "eval")]
    report: Option<PathBuf>,
}

fn parse_points(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    match number.parse::<f64>() {
        Ok(points) if points.is_finite() => Ok(points),
        _ => Err("expected a number of points, such as 0.5".to_owned()),
    }
}

impl Arguments {
    /// Adds to a conversion what is asked for here.
    pub(crate) fn ask(&self, conversion: &mut Conversion) {
        for (format, path) in [
            (Format::Onnx, &self.onnx),
            (Format::OnnxInt8, &self.onnx_int8),
        ] {
            conversion
                .files
                .extend(path.clone().map(|path| (format, path)));
        }
        conversion.comparison = self.eval.clone().map(|dataset| Comparison {
            dataset,
            max_drop: self.max_drop,
        });
    }

    /// Writes the page, whether or not the limit was passed.
    pub(crate) fn write_report(&self, model: &Path, outcome: &Outcome) -> Result<(), Failure> {
        let (Some(target), Some(dataset), Some(evaluation)) =
            (&self.report, &self.eval, &outcome.evaluation)
        else {
            return Ok(());
        };
        let dataset = Dataset::read(dataset)?;
        let name = model.file_name().unwrap_or(model.as_os_str());
        let page = report::page(
            &name.to_string_lossy(),
            evaluation,
            &outcome.compared,
            (&outcome.products, &outcome.sensitivities),
            &dataset,
        );
        let mut file = OutputFile::create(target)?;
        file.write_all(page.as_bytes())
            .map_err(|error| filbert_convert::Error::in_file(target, error))?;
        Ok(file.commit()?)
    }

    /// Tells what int8 costs, and fails if it is more than allowed.
    pub(crate) fn judge(&self, out: &mut impl Write, outcome: &Outcome) -> Result<(), Failure> {
        let Some(evaluation) = &outcome.evaluation else {
            return Ok(());
        };
        write_evaluation(out, evaluation)?;
        match self.max_drop {
            Some(max) if outcome.limit_passed => Err(Failure::AccuracyLimit(format!(
                "nothing written: int8 loses {} points of {} on {}, more than the {max} of \
                 --max-drop",
                points(evaluation.points_lost().unwrap_or_default()),
                if evaluation.spans.is_some() {
                    "F1"
                } else {
                    "accuracy"
                },
                evaluation.dataset
            ))),
            _ => Ok(()),
        }
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
    let mut write_figure = |name: &str, int8: f64, float32: f64, drop: f64| {
        writeln!(
            out,
            "{name} on {}: {:.2} % in int8, {:.2} % in float32: {}",
            evaluation.dataset,
            100.0 * int8,
            100.0 * float32,
            match drop {
                0.0 => "none lost".to_owned(),
                drop if drop > 0.0 => format!("{} points lost", points(drop)),
                drop => format!("{} points won", points(-drop)),
            }
        )
    };
    let (mut of, mut count) = ("texts", evaluation.count);
    let spans = evaluation.spans.as_ref();
    if let Some((spans, float32)) = spans.and_then(|spans| Some((spans, spans.reference_f1?))) {
        let drop = spans.f1_drop.unwrap_or_default();
        write_figure("F1 of spans", spans.f1, float32, drop)?;
        (of, count) = ("words", spans.words - spans.unseen);
    }
    write_figure("accuracy", evaluation.accuracy, *reference_accuracy, *drop)?;
    writeln!(
        out,
        "the same label for {:.2} % of {count} {of}; logits differ by {mean_abs_diff:.4} on average, \
         {max_abs_diff:.4} at most",
        100.0 * agreement
    )
}

/// Points, without zeros that say nothing.
fn points(points: f64) -> f64 {
    (points * 100.0).round() / 100.0
}
