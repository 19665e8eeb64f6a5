//! `filbert bench`: how fast a model is on this machine, and what it costs.

mod comparison;
mod engine;
mod measurement;
mod memory;
mod plot;
mod processor;
mod record;
mod report;
mod start;
mod statistics;
mod subject;
mod summary;
mod texts;
mod throughput;
mod work;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use filbert_convert::output::OutputFile;

use self::comparison::Earlier;
use self::engine::Engine;
use self::measurement::{BATCHES, Task};
use self::processor::Peak;
use self::record::{ModelRecord, Record, rounded};
use self::start::Load;
use self::subject::Subject;
use self::texts::{Corpus, Writer};
use crate::Failure;
use crate::help::{self, ALWAYS, CONVERT};
use crate::terminal::ProgressBars;

/// Lengths that are measured where none are asked for, up to what the model takes.
const TOKENS: [usize; 5] = [16, 32, 64, 128, 256];
/// Length of the first text that a started process answers.
const FIRST_TOKENS: usize = 16;
/// The runtime takes no more.
const MAX_THREADS: u64 = 1024;
const MAX_TEXTS: u64 = 4096;

const EXAMPLES: &str = "\
Examples:
  filbert bench tiny.filbert
  filbert bench tiny.filbert --tokens 16,64 --threads 1,2 --profile
  filbert bench tiny.filbert --json > before.json
  filbert bench tiny.filbert --compare before.json";

/// Measure how fast a model is on this machine
#[derive(Args)]
#[command(
    long_about = "\
Measure how fast a model is on this machine: the time from text to label for texts of exact \
lengths, the tokenizer included; the time to open the file and to the first label; memory; and \
texts per second over texts of many lengths. For a model that is no classification, instead of a \
label, what its head computes: logits or a vector; for masked words, the last layer.

All runs are measured in turn, slice by slice, so that whatever else the machine does meets them \
all alike. GMAC/s counts the multiplications that the answer needs, and the peak is what the \
dot products of the same kernels reach on registers, on one core of this machine: their quotient \
is how much of the CPU the model gets.

docs/benchmarking.md says what every figure is, and what to beware of.",
    after_help = help::lines(&[
        (ALWAYS, EXAMPLES),
        (CONVERT, "  filbert bench --random minilm-l6 --report minilm.html"),
        (!CONVERT, "  filbert bench tiny.filbert --report tiny.html"),
    ])
)]
pub(crate) struct Arguments {
    #[arg(help = help::MODEL)]
    #[cfg_attr(
        feature = "convert",
        arg(required_unless_present = "random", conflicts_with = "random")
    )]
    #[cfg_attr(not(feature = "convert"), arg(required = true))]
    model: Option<PathBuf>,
    /// Instead of MODEL: a published shape with random weights, such as bert-base, minilm-l6 or
    /// bert-tiny
    #[cfg(feature = "convert")]
    #[arg(long, value_name = "NAME")]
    random: Option<String>,
    /// Lengths in tokens, special tokens included [default: 16,32,64,128,256, as far as the
    /// model goes]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    tokens: Vec<usize>,
    /// Numbers of threads; the first is also that of opening, starting and memory
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=MAX_THREADS)
    )]
    threads: Vec<u64>,
    /// Texts in one call
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=MAX_TEXTS)
    )]
    texts: u64,
    /// How long each run is measured; longer if there are fewer than 30 samples
    #[arg(
        long,
        value_name = "S",
        default_value = "1",
        allow_negative_numbers = true,
        value_parser = parse_seconds
    )]
    seconds: f64,
    /// Measure texts per second on these texts: one a line, or a labelled set
    ///
    /// A labelled set has the header `text<TAB>label`, or `text_a<TAB>text_b<TAB>label` for
    /// pairs. Of more than 256 texts, 256 that lie evenly among them are taken. Without this
    /// option, texts are made up whose lengths are distributed as those of reviews are.
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Stay on these CPUs (Linux and Android)
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Tell where the time goes, by operation; with --json also by layer
    #[arg(long)]
    profile: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Compare with an earlier measurement: what --json printed
    #[arg(long, value_name = "JSON")]
    compare: Option<PathBuf>,
    /// Write a page with plots and tables, for a browser
    #[arg(long, value_name = "HTML")]
    report: Option<PathBuf>,
    /// Answer this text, and say how long it took: what a started process does
    #[arg(long, value_name = "TEXT", hide = true)]
    first_label: Option<String>,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected a number of seconds up to 3600, such as 0.5".to_owned()),
    }
}

/// The numbers without those that came before.
fn distinct(numbers: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut found = Vec::new();
    for number in numbers {
        if !found.contains(&number) {
            found.push(number);
        }
    }
    found
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let threads = distinct(arguments.threads.iter().map(|&threads| threads as usize));
    if let Some(text) = &arguments.first_label {
        let load = Load {
            path: arguments.model.as_deref().unwrap_or(Path::new("")),
            threads: threads[0],
            tokens: &arguments.tokens,
            texts: arguments.texts as usize,
        };
        return start::answer(&load, text);
    }
    if !arguments.cpus.is_empty() {
        processor::pin(&arguments.cpus)?;
    }
    // Whatever can be refused is refused before the time is spent.
    let earlier = arguments.compare.as_deref().map(Earlier::read);
    let earlier = earlier.transpose()?;
    let report = arguments.report.as_deref().map(OutputFile::create);
    let report = report.transpose()?;
    let subject = subject(arguments)?;
    let record = measure(arguments, &subject, &threads, earlier.as_ref())?;

    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        let json =
            serde_json::to_string(&record).map_err(|error| Failure::Failed(error.to_string()))?;
        writeln!(out, "{json}")?;
    } else {
        summary::write(&mut out, &record)?;
    }
    out.flush()?;
    if let Some(mut file) = report {
        file.write_all(report::page(&record).as_bytes())
            .map_err(|error| Failure::Failed(format!("{}: {error}", file.target().display())))?;
        file.commit()?;
    }
    Ok(())
}

fn subject(arguments: &Arguments) -> Result<Subject, Failure> {
    #[cfg(feature = "convert")]
    if let Some(name) = &arguments.random {
        return Subject::random(name);
    }
    match &arguments.model {
        Some(path) => Subject::at(path),
        None => Err(Failure::Usage("expected a MODEL".to_owned())),
    }
}

fn measure(
    arguments: &Arguments,
    subject: &Subject,
    threads: &[usize],
    earlier: Option<&Earlier>,
) -> Result<Record, Failure> {
    let mut progress = ProgressBars::default();
    let seconds = Duration::from_secs_f64(arguments.seconds);
    let count = arguments.texts as usize;
    let open = |threads| Engine::open(subject.path(), threads);

    let engine = open(threads[0])?;
    let model = ModelRecord::new(&subject.name, engine.model());
    if let Some(earlier) = earlier {
        earlier.check_shape(&model.shape)?;
    }
    let mut writer = Writer::new(&engine)?;
    let tokens = lengths(
        &arguments.tokens,
        writer.special(),
        model.max_tokens as usize,
    )?;
    if let Some(earlier) = earlier {
        earlier.check_runs(&tokens, threads, count)?;
    }
    let batch = |writer: &mut Writer<'_>, length| -> Result<Vec<String>, Failure> {
        (0..count).map(|_| writer.text(length)).collect()
    };
    let batches = |writer: &mut Writer<'_>, length| -> Result<Vec<Vec<String>>, Failure> {
        (0..BATCHES).map(|_| batch(writer, length)).collect()
    };
    let first_text = writer.text(FIRST_TOKENS.min(model.max_tokens as usize))?;
    let texts: Result<Vec<_>, Failure> = tokens
        .iter()
        .map(|&length| batches(&mut writer, length))
        .collect();
    let texts = texts?;
    let corpus = match &arguments.corpus {
        Some(path) => Corpus::read(path)?,
        None => Corpus::typical(&mut writer)?,
    };

    let open_ms = start::open_ms(subject.path(), threads[0])?;
    let load = Load {
        path: subject.path(),
        threads: threads[0],
        tokens: &tokens,
        texts: count,
    };
    let start = start::measure(&load, &first_text, &mut progress);

    let mut peak = Peak::measure(&engine);
    let engines: Result<Vec<(usize, Engine)>, Failure> = threads
        .iter()
        .map(|&threads| Ok((threads, open(threads)?)))
        .collect();
    let engines = engines?;
    let mut tasks = Vec::new();
    for (&length, texts) in tokens.iter().zip(&texts) {
        for (threads, engine) in &engines {
            tasks.push(Task::new(engine, *threads, length, texts));
        }
    }
    measurement::measure(&mut tasks, seconds, &mut peak, &mut progress)?;
    let throughput = throughput::measure(&engines, &corpus, seconds, &mut progress)?;

    let peak_gmacs = peak.gmacs();
    let profiled = arguments.profile || arguments.report.is_some();
    let mut record = Record {
        cpu: processor::name(),
        kernels: engine.kernels().to_owned(),
        peak_gmacs: rounded(peak_gmacs, 3),
        open_ms,
        first_ms: start.first_ms,
        private_bytes: start.private_bytes,
        runs: tasks.iter().map(|task| task.run(peak_gmacs)).collect(),
        process_first_ms: start.process_first_ms,
        peak_rss_bytes: start.peak_rss_bytes,
        throughput,
        profile: profiled.then(|| tasks.iter().map(Task::profile).collect()),
        comparison: None,
        model,
        cpus: (!arguments.cpus.is_empty()).then(|| arguments.cpus.clone()),
        seconds: arguments.seconds,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    record.comparison = earlier.map(|earlier| earlier.compare(&record));
    Ok(record)
}

/// The lengths to measure: those asked for, which the model must take, or the usual ones.
fn lengths(asked: &[usize], shortest: usize, longest: usize) -> Result<Vec<usize>, Failure> {
    if asked.is_empty() {
        return Ok(distinct(TOKENS.map(|tokens| tokens.min(longest))));
    }
    match asked
        .iter()
        .find(|tokens| !(shortest..=longest).contains(tokens))
    {
        None => Ok(distinct(asked.iter().copied())),
        Some(tokens) => Err(Failure::Usage(format!(
            "--tokens: {tokens}: the model takes {shortest} to {longest} tokens, special tokens \
             included"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_what_the_model_takes() {
        assert_eq!(lengths(&[], 2, 512).ok(), Some(vec![16, 32, 64, 128, 256]));
        assert_eq!(lengths(&[], 2, 100).ok(), Some(vec![16, 32, 64, 100]));
        assert_eq!(lengths(&[], 2, 10).ok(), Some(vec![10]));
        assert_eq!(lengths(&[8, 2, 8, 512], 2, 512).ok(), Some(vec![8, 2, 512]));
        assert!(lengths(&[1], 2, 512).is_err());
        assert!(lengths(&[8, 513], 2, 512).is_err());
    }
}
