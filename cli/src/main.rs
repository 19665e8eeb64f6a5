//! The `filbert` command.
//!
//! Results go to standard output, everything else to standard error. The exit code is 0 when
//! done, 1 on failure, 2 for wrong usage and 3 when int8 lost more accuracy than allowed.

mod answer;
mod bench;
mod classify;
#[cfg(feature = "convert")]
mod convert;
mod embed;
mod entities;
mod eval;
mod fill;
mod help;
mod inspect;
mod lines;
mod model;
mod page;
mod selftest;
mod terminal;
mod train;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::help::{ALWAYS, CONVERT, ONNX};

/// Classify text on this machine, with int8 BERT models in one file.
#[derive(Parser)]
#[command(
    name = "filbert",
    version,
    after_help = short_examples(),
    after_long_help = long_examples()
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn short_examples() -> String {
    let convert = "  \
  filbert classify models/tiny-sst2 \"a gorgeous, witty film\"
  filbert convert models/tiny-sst2 -o tiny.filbert";
    let file = "  filbert classify tiny.filbert \"a gorgeous, witty film\"";
    let reference = "  filbert eval tiny.filbert reviews.tsv --reference models/tiny-sst2";
    let end = "  \
  filbert bench tiny.filbert

`filbert COMMAND --help` tells more, with examples.";
    help::lines(&[
        (ALWAYS, "Examples:"),
        (CONVERT, convert),
        (!CONVERT, file),
        (ALWAYS, "  filbert classify tiny.filbert < reviews.txt"),
        (ONNX, reference),
        (!ONNX, "  filbert eval tiny.filbert reviews.tsv"),
        (ALWAYS, end),
    ])
}

fn long_examples() -> String {
    let convert = "  \
  A checkpoint as Hugging Face transformers saves it, converted on the spot:
    filbert classify models/tiny-sst2 \"a gorgeous, witty film\"

  Converted once, then used, one text a line:
    filbert convert models/tiny-sst2 -o tiny.filbert";
    let file = "  \
  Texts that are arguments, or lines of standard input:
    filbert classify tiny.filbert \"a gorgeous, witty film\"";
    let reference = "  \
  What int8 costs on your own labelled texts:
    filbert eval tiny.filbert reviews.tsv --reference models/tiny-sst2";
    let accuracy = "  \
  How good it is on your own labelled texts:
    filbert eval tiny.filbert reviews.tsv";
    let end = "
  How fast it is on this machine:
    filbert bench tiny.filbert

Results go to standard output, everything else to standard error.

Exit codes:
  0  done
  1  failed: the reason is on standard error
  2  wrong usage";
    let limit = "  3  int8 lost more accuracy than --max-drop allows; nothing was written";
    help::lines(&[
        (ALWAYS, "Examples:"),
        (CONVERT, convert),
        (!CONVERT, file),
        (ALWAYS, "    filbert classify tiny.filbert < reviews.txt\n"),
        (ONNX, reference),
        (!ONNX, accuracy),
        (ALWAYS, end),
        (ONNX, limit),
    ])
}

#[derive(Subcommand)]
enum Command {
    Classify(classify::Arguments),
    Entities(entities::Arguments),
    Answer(answer::Arguments),
    Embed(embed::Arguments),
    Fill(fill::Arguments),
    #[cfg(feature = "convert")]
    Convert(convert::Arguments),
    Eval(eval::Arguments),
    Train(train::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Selftest(selftest::Arguments),
    Bench(bench::Arguments),
}

/// Why a command did not end with code 0.
#[derive(Debug)]
enum Failure {
    /// It could not be done.
    Failed(String),
    /// It cannot be asked for.
    Usage(String),
    /// int8 lost more accuracy than allowed.
    #[cfg(feature = "onnx")]
    AccuracyLimit(String),
    /// Whoever read the results has seen enough.
    OutputClosed,
}

impl From<filbert::Error> for Failure {
    fn from(error: filbert::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<filbert_convert::Error> for Failure {
    fn from(error: filbert_convert::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The only input and output that commands do themselves is on the standard streams.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Classify(arguments) => classify::run(&arguments),
        Command::Entities(arguments) => entities::run(&arguments),
        Command::Answer(arguments) => answer::run(&arguments),
        Command::Embed(arguments) => embed::run(&arguments),
        Command::Fill(arguments) => fill::run(&arguments),
        #[cfg(feature = "convert")]
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Selftest(arguments) => selftest::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    let (message, code) = match result {
        Ok(()) | Err(Failure::OutputClosed) => return ExitCode::SUCCESS,
        Err(Failure::Failed(message)) => (message, 1),
        Err(Failure::Usage(message)) => (message, 2),
        #[cfg(feature = "onnx")]
        Err(Failure::AccuracyLimit(message)) => (message, 3),
    };
    terminal::note(&message);
    ExitCode::from(code)
}
