//! The model that a command works on.

use std::path::Path;

use filbert::Model;
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;

use crate::Failure;
use crate::terminal::{self, ProgressBars};

/// Opens a `.filbert` file, or converts a checkpoint folder in memory and says so.
pub(crate) fn open(path: &Path) -> Result<Model, Failure> {
    if !path.is_dir() {
        return Ok(Model::open(path)?);
    }
    Ok(Model::from_vec(convert(path)?.into_bytes())?)
}

/// Converts a checkpoint folder in memory and says so.
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
    Err(Failure::Failed(format!(
        "{0}: is a folder, not a .filbert file; make one with `filbert convert {0} -o FILE`",
        path.display()
    )))
}
