//! The models that are measured, as `.filbert` files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use filbert::Model;
use filbert_convert::config::Architecture;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::synthetic::{DataType, SyntheticCheckpoint};
use filbert_convert::{Checkpoint, Error};
use tempfile::NamedTempFile;

/// A published shape with random weights: speed does not depend on what they are.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    /// As the benchmark is called.
    pub name: &'static str,
    architecture: Architecture,
    layers: usize,
    hidden: usize,
}

/// Six layers of BERT, half as wide.
pub const MINILM: Synthetic = Synthetic {
    name: "MiniLM",
    architecture: Architecture::Bert,
    layers: 6,
    hidden: 384,
};

/// Half of BERT-base's layers.
pub const DISTILBERT: Synthetic = Synthetic {
    name: "DistilBERT",
    architecture: Architecture::DistilBert,
    layers: 6,
    hidden: 768,
};

/// The original.
pub const BERT_BASE: Synthetic = Synthetic {
    name: "BERT-base",
    architecture: Architecture::Bert,
    layers: 12,
    hidden: 768,
};

/// So small that what surrounds the model shows.
pub const NANO: Synthetic = Synthetic {
    name: "one layer of 24",
    architecture: Architecture::Bert,
    layers: 1,
    hidden: 24,
};

impl Synthetic {
    /// The model as a file in `folder`: the one that an earlier run left there, if this runtime
    /// opens it, or else a new one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn file(&self, folder: &Path) -> Result<PathBuf, Error> {
        let Self {
            name,
            architecture,
            layers,
            hidden,
        } = *self;
        let path = folder.join(format!("{name}-{layers}x{hidden}.filbert"));
        if Model::open(&path).is_ok() {
            return Ok(path);
        }
        let checkpoint = tempfile::tempdir_in(folder).map_err(|e| Error::in_file(folder, e))?;
        SyntheticCheckpoint {
            architecture,
            layers,
            hidden,
            heads: 12,
            intermediate: 4 * hidden,
            vocabulary: 30_522,
            positions: 512,
            data_type: DataType::F16,
            ..SyntheticCheckpoint::default()
        }
        .write(checkpoint.path())?;
        convert(checkpoint.path(), &path)?;
        Ok(path)
    }
}

/// Converts a checkpoint to a file, which appears whole. It is not waited for until it is on the
/// disk, which may take minutes and would add nothing: it can be made again.
///
/// # Errors
/// If the checkpoint cannot be read or the file not written.
pub fn convert(checkpoint: &Path, file: &Path) -> Result<(), Error> {
    let package = Package::build(&Checkpoint::open(checkpoint)?, &mut Quiet)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let failed = |error: io::Error| Error::in_file(file, error);
    let mut temporary = NamedTempFile::new_in(folder).map_err(failed)?;
    temporary.write_all(package.bytes()).map_err(failed)?;
    temporary.persist(file).map_err(|e| failed(e.error))?;
    Ok(())
}
