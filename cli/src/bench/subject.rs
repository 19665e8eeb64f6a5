//! The file that is measured.

use std::path::{Path, PathBuf};

#[cfg(feature = "convert")]
use filbert_convert::{package::Package, published::PublishedShape};
use tempfile::TempPath;

#[cfg(feature = "convert")]
use crate::terminal::ProgressBars;
use crate::{Failure, model};

/// A `.filbert` file: one that is there, or one written for this measurement and removed at
/// its end, so that opening it is always a real map.
pub(crate) struct Subject {
    pub(crate) name: String,
    path: PathBuf,
    /// Removes the file when it is dropped.
    _temporary: Option<TempPath>,
}

impl Subject {
    /// A file, or a checkpoint.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let name = path.canonicalize().ok();
        let name = name.as_deref().unwrap_or(path);
        let name = if model::is_checkpoint(path) {
            name.file_name()
        } else {
            name.file_stem()
        };
        let name = name
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        #[cfg(feature = "convert")]
        if model::is_checkpoint(path) {
            return Self::write(name, model::convert(path)?);
        }
        model::check_file(path)?;
        Ok(Self {
            name,
            path: path.to_owned(),
            _temporary: None,
        })
    }

    /// A published shape with random weights.
    #[cfg(feature = "convert")]
    pub(crate) fn random(name: &str) -> Result<Self, Failure> {
        let shape =
            PublishedShape::find(name).map_err(|error| Failure::Usage(error.to_string()))?;
        let package = shape.build(&mut ProgressBars::default())?;
        Self::write(format!("{name} (random weights)"), package)
    }

    #[cfg(feature = "convert")]
    fn write(name: String, package: Package) -> Result<Self, Failure> {
        use std::io::Write;

        let failed = |error: std::io::Error| {
            Failure::Failed(format!(
                "{}: the converted model cannot be written there: {error}",
                std::env::temp_dir().display()
            ))
        };
        let mut file = tempfile::Builder::new()
            .prefix("filbert-")
            .suffix(".filbert")
            .tempfile()
            .map_err(failed)?;
        file.write_all(package.bytes()).map_err(failed)?;
        let path = file.into_temp_path();
        Ok(Self {
            name,
            path: path.to_path_buf(),
            _temporary: Some(path),
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
