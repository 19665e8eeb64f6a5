//! `filbert selftest`: whether this machine computes what the converter's did.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use filbert::Classifier;

use crate::{Failure, model};

/// Check that this CPU computes the very bits that the converter's did
#[derive(Args)]
#[command(
    long_about = "\
Check that this CPU computes the very bits that the converter's did.

A .filbert file carries some texts and the logits that the converter computed for them. Every \
CPU must reproduce them, to the last bit. Set FILBERT_ISA to try another of the kernel sets \
that this CPU can run.",
    after_help = "\
Examples:
  filbert selftest tiny.filbert
  FILBERT_ISA=scalar filbert selftest tiny.filbert"
)]
pub(crate) struct Arguments {
    /// The .filbert file
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    model::check_file(&arguments.file)?;
    let classifier = Classifier::open(&arguments.file)?;
    let cases = classifier.self_test().map_err(|error| {
        Failure::Failed(format!(
            "{}: with the {} kernels: {error}",
            arguments.file.display(),
            classifier.kernels()
        ))
    })?;
    writeln!(
        std::io::stdout(),
        "{}: the {} kernels reproduce all {cases} texts to the bit",
        arguments.file.display(),
        classifier.kernels()
    )?;
    Ok(())
}
