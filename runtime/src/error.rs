//! What can go wrong, with a code for programs and a sentence for people.

use std::fmt;

/// Why a call failed. The numbers are frozen: bindings hand them on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum ErrorCode {
    /// The file could not be read.
    Io = 1,
    /// The bytes are not a `.filbert` file.
    NotAModel = 2,
    /// The file is a newer version, or needs a feature that this library lacks.
    Unsupported = 3,
    /// The file contradicts itself or the format.
    Malformed = 4,
    /// A section's bytes do not have the checksum that the file states.
    Checksum = 5,
    /// An option or argument cannot be used with this model.
    InvalidArgument = 6,
    /// The text has more tokens than the model takes, and may not be cut to that.
    TextTooLong = 7,
    /// The self-test did not reproduce the logits in the file.
    SelfTest = 8,
    /// The call was cancelled before it was done.
    Cancelled = 9,
    /// The classifier is closed, or was before the call was done.
    Closed = 10,
}

/// An error of the runtime: a code, and a message that names the file and field, says what was
/// expected and what to do.
#[derive(Debug)]
pub struct Error {
    code: ErrorCode,
    message: String,
}

impl Error {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The file contradicts the format or itself: what is wrong, and where.
    pub(crate) fn malformed(problem: fmt::Arguments<'_>) -> Self {
        Self::new(
            ErrorCode::Malformed,
            format!("{problem}; the file is damaged, convert the model again"),
        )
    }

    /// Puts the file's name before the message.
    pub(crate) fn in_file(mut self, path: &std::path::Path) -> Self {
        self.message = format!("{}: {}", path.display(), self.message);
        self
    }

    /// Says where in a file the model lies.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.message = format!("the model at offset {offset}: {}", self.message);
        self
    }

    /// The reason, for programs.
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
