//! What can go wrong in a conversion.

use std::fmt;
use std::path::Path;

/// Why a conversion failed: a sentence that names the file, the field or tensor, what was
/// expected and what to do.
#[derive(Debug)]
pub struct Error {
    message: String,
}

impl Error {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// An error about a file or folder.
    pub fn in_file(path: &Path, message: impl fmt::Display) -> Self {
        Self::new(format!("{}: {message}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<filbert::Error> for Error {
    fn from(error: filbert::Error) -> Self {
        Self::new(error.to_string())
    }
}
