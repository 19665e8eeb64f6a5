//! The model that a command works on.

use std::path::Path;

use filbert::Model;
#[cfg(feature = "convert")]
use filbert_convert::{Checkpoint, package::Package};

use crate::Failure;
use crate::help::CONVERT;
#[cfg(feature = "convert")]
use crate::terminal::{self, ProgressBars};

/// Opens a `.filbert` file, or converts a checkpoint folder in memory and says so.
pub(crate) fn open(path: &Path) -> Result<Model, Failure> {
    #[cfg(feature = "convert")]
    if path.is_dir() {
        return Ok(Model::from_vec(convert(path)?.into_bytes())?);
    }
    check_file(path)?;
    Ok(Model::open(path)?)
}

/// Converts a checkpoint folder in memory and says so.
#[cfg(feature = "convert")]
pub(crate) fn convert(folder: &Path) -> Result<Package, Failure> {
    let checkpoint = Checkpoint::open(folder)?;
    terminal::note(&format!(
        "{0} is a checkpoint: converting it in memory; `filbert convert {0} -o FILE` does so once \
         and for all",
        folder.display()
    ));
    Ok(Package::build(&checkpoint, &mut ProgressBars::default())?)
}

/// Refuses a folder, with the advice to convert it.
pub(crate) fn check_file(path: &Path) -> Result<(), Failure> {
    if !path.is_dir() {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Failed(if CONVERT {
        format!(
            "{path}: is a folder, not a .filbert file; make one with `filbert convert {path} -o \
             FILE`"
        )
    } else {
        format!(
            "{path}: is a folder, not a .filbert file, and this build has no converter; run \
             `filbert convert {path} -o FILE` with a build that has it, and copy the file here"
        )
    }))
}
