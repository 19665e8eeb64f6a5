//! `filbert verify`: whether a file is as it was written.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use filbert::Model;

use crate::{Failure, model};

/// Check that every byte of a .filbert file is as it was written
#[derive(Args)]
#[command(
    long_about = "\
Check that every byte of a .filbert file is as it was written: the checksum of each section.

Opening a model checks only the small sections, so that it stays fast; this reads the weights \
too. It finds damage, not malice: for that, sign the file.",
    after_help = "\
Examples:
  filbert verify tiny.filbert"
)]
pub(crate) struct Arguments {
    /// The .filbert file
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    model::check_file(&arguments.file)?;
    let model = Model::open(&arguments.file)?;
    model.verify().map_err(|error| {
        Failure::Failed(format!(
            "{}: {error}; copy or convert it again",
            arguments.file.display()
        ))
    })?;
    writeln!(
        std::io::stdout(),
        "{}: the checksums of all {} sections match",
        arguments.file.display(),
        model.sections().count()
    )?;
    Ok(())
}
