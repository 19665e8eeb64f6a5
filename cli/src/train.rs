//! `filbert train`: a head for an encoder, from labelled texts.

use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use filbert::training::{Fit, HeadTrainer, Monitor, TrainingOptions, TrainingStep};
use filbert::{Classifier, Features, Input, Options, TrainedHead};
use filbert_convert::dataset::Dataset;
use filbert_convert::evaluation::{Evaluation, evaluate};
use filbert_convert::output::OutputFile;
use filbert_convert::progress::Progress;
use serde_json::json;

use crate::help::{self, ALWAYS, CONVERT};
use crate::terminal::{ProgressBars, note, readable_size};
use crate::{Failure, model};

const ABOUT: &str = "\
Train a head on a frozen encoder: multinomial logistic regression on the encoder's features, as \
LogisticRegression of scikit-learn fits it, in seconds for some thousand texts.

The head is a small file of its own. `filbert classify ENCODER --head FILE` and `filbert eval \
ENCODER TSV --head FILE` use it, and refuse another encoder. Many heads can share one encoder. \
Any model is an encoder: its own head is not used.

TSV is a file of tab-separated lines. The first is `text<TAB>label`, or \
`text_a<TAB>text_b<TAB>label` for pairs. Nothing is quoted. The labels are those that occur.

The strength is found by cross-validation, unless it is given. The same texts and the same \
encoder give the same file, on every CPU and with any number of threads.";

/// Train a head on a frozen encoder
#[derive(Args)]
#[command(
    long_about = ABOUT,
    after_help = help::lines(&[
        (ALWAYS, "Examples:"),
        (CONVERT, "  filbert train models/tiny-sst2 reviews.tsv -o reviews.filbert-head"),
        (ALWAYS, "  filbert train tiny.filbert reviews.tsv -o reviews.filbert-head --eval dev.tsv"),
        (ALWAYS, "  filbert classify tiny.filbert --head reviews.filbert-head \"good coffee\""),
    ])
)]
pub(crate) struct Arguments {
    #[arg(help = help::ENCODER)]
    encoder: PathBuf,
    /// The labelled texts
    tsv: PathBuf,
    /// The head's file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What of a text the head reads
    #[arg(long, value_name = "KIND", value_enum, default_value = "mean")]
    features: Kind,
    /// Divide features by their Euclidean norm
    #[arg(long)]
    normalize: bool,
    /// scikit-learn's C: the smaller, the more weights are penalised; or auto
    #[arg(long, value_name = "C", default_value = "auto", value_parser = parse_strength)]
    strength: Strength,
    /// Parts of the texts, each held out once to compare strengths
    #[arg(long, value_name = "N", default_value = "5")]
    folds: usize,
    /// Scale features to the same variance before their weights are penalised
    #[arg(long)]
    standardize: bool,
    /// Let labels count the same, however many texts they have
    #[arg(long)]
    balanced: bool,
    /// Labelled texts to measure the head on
    #[arg(long, value_name = "TSV")]
    eval: Option<PathBuf>,
    /// Threads; the head does not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// The last row of the first token
    Cls,
    /// The mean of the last rows of all tokens
    Mean,
}

#[derive(Clone, Copy)]
enum Strength {
    Auto,
    Given(f64),
}

fn parse_strength(text: &str) -> Result<Strength, String> {
    if text == "auto" {
        return Ok(Strength::Auto);
    }
    match text.parse::<f64>() {
        Ok(strength) if strength > 0.0 && strength.is_finite() => Ok(Strength::Given(strength)),
        _ => Err("expected auto, or a number above 0 such as 0.1".to_owned()),
    }
}

impl Arguments {
    fn features(&self) -> Features {
        let features = match self.features {
            Kind::Cls => Features::first_token(),
            Kind::Mean => Features::mean(),
        };
        match self.normalize {
            true => features.normalized(),
            false => features,
        }
    }

    fn training_options(&self) -> TrainingOptions {
        let options = TrainingOptions::new()
            .folds(self.folds)
            .standardize(self.standardize)
            .balanced(self.balanced)
            .threads(self.threads.get());
        match self.strength {
            Strength::Auto => options,
            Strength::Given(strength) => options.strength(strength),
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dataset = Dataset::read(&arguments.tsv)?;
    let held_out = arguments.eval.as_deref().map(Dataset::read).transpose()?;
    let mut file = OutputFile::create(&arguments.output)?;
    let encoder = model::open(&arguments.encoder)?;
    let options = Options::new().threads(arguments.threads.get());
    let trainer = HeadTrainer::new(encoder, arguments.features(), &options)?;
    let (head, fit) = train(&trainer, &dataset, arguments)?;
    let report = report(&dataset, &fit, arguments)?;
    let head = head.with_report(report);
    file.write_all(&head.to_bytes()?)
        .map_err(|error| filbert_convert::Error::in_file(&arguments.output, error))?;
    let length = file.length();

    let mut out = BufWriter::new(io::stdout().lock());
    write_fit(&mut out, &dataset, &head, &fit)?;
    if let Some(held_out) = held_out {
        let classifier = Classifier::with_head(trainer.into_model(), head, &options)?;
        let evaluation = evaluate(&classifier, &held_out, &mut ProgressBars::default())?;
        write_evaluation(&mut out, &evaluation)?;
    }
    file.commit()?;
    let size = readable_size(length);
    writeln!(out, "wrote       {}, {size}", arguments.output.display())?;
    out.flush()?;
    if !fit.converged {
        note(
            "the search for the weights ended before it was exact; a smaller --strength makes it \
             shorter",
        );
    }
    Ok(())
}

/// Trains with a bar for each part.
fn train(
    trainer: &HeadTrainer,
    dataset: &Dataset,
    arguments: &Arguments,
) -> Result<(TrainedHead, Fit), Failure> {
    let examples = dataset.examples();
    let inputs: Vec<Input<'_>> = examples.iter().map(|example| example.input()).collect();
    let labels: Vec<&str> = examples.iter().map(|example| &*example.label).collect();
    let mut bars = ProgressBars::default();
    let mut last = 0;
    let mut show = |step: TrainingStep| {
        let (what, done, total) = match step {
            TrainingStep::Features { done, total } => ("computing features", done, total),
            TrainingStep::Validation { done, total } => ("comparing strengths", done, total),
            _ => ("fitting", 0, 1),
        };
        if done == 0 {
            bars.begin(what, total as u64);
            last = 0;
        }
        bars.advance((done - last) as u64);
        last = done;
    };
    let mut monitor = Monitor {
        cancellation: None,
        progress: Some(&mut show),
    };
    let options = arguments.training_options();
    trainer
        .train(&inputs, &labels, &options, &mut monitor)
        .map_err(|error| Failure::Failed(format!("{}: {error}", dataset.path().display())))
}

/// What the file tells of its training: the same for the same input, so without time and path.
fn report(dataset: &Dataset, fit: &Fit, arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    let texts = dataset.examples().len();
    let validation = |validation: &filbert::training::Validation| json!({"strength": validation.strength, "accuracy": validation.accuracy});
    let report = json!({
        "tool": concat!("filbert ", env!("CARGO_PKG_VERSION")),
        "dataset": dataset.path().file_name().map(|name| name.to_string_lossy()),
        "texts": texts,
        "strength": fit.strength,
        "standardized": arguments.standardize,
        "balanced": arguments.balanced,
        "folds": (!fit.validations.is_empty()).then_some(arguments.folds),
        "cross_validation": fit.validations.iter().map(validation).collect::<Vec<_>>(),
        "training_accuracy": fit.correct as f64 / texts as f64,
        "iterations": fit.iterations,
        "converged": fit.converged,
    });
    serde_json::to_vec(&report).map_err(|error| Failure::Failed(error.to_string()))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn write_fit(
    out: &mut impl Write,
    dataset: &Dataset,
    head: &TrainedHead,
    fit: &Fit,
) -> io::Result<()> {
    if !fit.validations.is_empty() {
        writeln!(out, "strength    accuracy by cross-validation")?;
        for validation in &fit.validations {
            let mark = if validation.strength == fit.strength {
                "  best"
            } else {
                ""
            };
            let accuracy = percent(validation.accuracy);
            writeln!(out, "{:>8}    {accuracy:>8}{mark}", validation.strength)?;
        }
        writeln!(out)?;
    }
    let texts = dataset.examples().len();
    writeln!(
        out,
        "trained     strength {}, {} labels, {} features",
        fit.strength,
        head.labels().len(),
        head.width()
    )?;
    let accuracy = percent(fit.correct as f64 / texts as f64);
    writeln!(out, "own texts   {accuracy} of {texts} right")
}

fn write_evaluation(out: &mut impl Write, evaluation: &Evaluation) -> io::Result<()> {
    let (accuracy, count) = (percent(evaluation.accuracy), evaluation.count);
    writeln!(
        out,
        "accuracy    {accuracy} of {count} texts in {}",
        evaluation.dataset
    )
}
