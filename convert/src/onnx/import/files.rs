//! The file of a model, and those that hold the values of its larger tensors.

use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;

use crate::Error;
use crate::weights::map_file;

/// Mapped files: first the model's, then those that its tensors name.
pub(super) struct Files {
    /// In which all others must be; none if there may be no others.
    folder: Option<PathBuf>,
    files: Vec<(PathBuf, Bytes)>,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Files {
    /// The number of the model's file.
    pub(super) const MODEL: usize = 0;

    /// Maps the model's file.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let map = map_file(path)?;
        Ok(Self {
            folder: Some(path.parent().unwrap_or(Path::new("")).to_owned()),
            files: vec![(path.to_owned(), Bytes::Mapped(map))],
        })
    }

    /// A model in memory, which can have no other files.
    pub(super) fn from_bytes(model: Vec<u8>) -> Self {
        Self {
            folder: None,
            files: vec![(PathBuf::from("model.onnx"), Bytes::Owned(model))],
        }
    }

    /// The model's bytes.
    pub(super) fn model(&self) -> &[u8] {
        self.bytes(Self::MODEL)
    }

    /// The path of the model.
    pub(super) fn path(&self) -> &Path {
        &self.files[Self::MODEL].0
    }

    /// A file's bytes.
    pub(super) fn bytes(&self, file: usize) -> &[u8] {
        &self.files[file].1
    }

    /// Every file with its bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files
            .iter()
            .map(|(path, bytes)| (path.as_path(), &bytes[..]))
    }

    /// The number of a file that a tensor names; an error is a part of a sentence.
    pub(super) fn external(&mut self, location: &Path) -> Result<usize, String> {
        let Some(folder) = &self.folder else {
            return Err("a model in memory has no other files".to_owned());
        };
        // Links within the folder are followed: the cache of Hugging Face consists of them.
        let inside = location
            .components()
            .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
        if !inside || location.as_os_str().is_empty() {
            return Err(
                "that is outside the model's folder, and no file of another is read; \
                        export the model again"
                    .to_owned(),
            );
        }
        let path = folder.join(location);
        if let Some(file) = self.files.iter().position(|(known, _)| *known == path) {
            return Ok(file);
        }
        let map = map_file(&path)
            .map_err(|error| format!("{error}; copy that file to the folder of the model"))?;
        self.files.push((path, Bytes::Mapped(map)));
        Ok(self.files.len() - 1)
    }
}
