//! `filbert_error`: errors as C sees them.

use std::any::Any;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use runtime::ErrorCode;

/// No error.
pub const FILBERT_OK: u32 = 0;
/// The file could not be read.
pub const FILBERT_ERROR_IO: u32 = 1;
/// The bytes are not a .filbert file.
pub const FILBERT_ERROR_NOT_A_MODEL: u32 = 2;
/// The file or an option needs what this version of the library does not have.
pub const FILBERT_ERROR_UNSUPPORTED: u32 = 3;
/// The file contradicts itself or the format.
pub const FILBERT_ERROR_MALFORMED: u32 = 4;
/// A section of the file does not have the checksum that the file states.
pub const FILBERT_ERROR_CHECKSUM: u32 = 5;
/// An argument or option cannot be used: a null pointer, text that is not UTF-8, a number out of
/// its range.
pub const FILBERT_ERROR_INVALID_ARGUMENT: u32 = 6;
/// The text has more tokens than the model takes, and may not be cut to that.
pub const FILBERT_ERROR_TEXT_TOO_LONG: u32 = 7;
/// The self-test did not reproduce the logits in the file.
pub const FILBERT_ERROR_SELF_TEST: u32 = 8;
/// The call was cancelled before it was done.
pub const FILBERT_ERROR_CANCELLED: u32 = 9;
/// The classifier is closed, or was before the call was done.
pub const FILBERT_ERROR_CLOSED: u32 = 10;
/// A defect of the library. What was in use is still whole and can be freed.
pub const FILBERT_ERROR_INTERNAL: u32 = 1000;

/// The runtime's codes are those of the header.
const _: () = assert!(
    ErrorCode::Io as u32 == FILBERT_ERROR_IO
        && ErrorCode::NotAModel as u32 == FILBERT_ERROR_NOT_A_MODEL
        && ErrorCode::Unsupported as u32 == FILBERT_ERROR_UNSUPPORTED
        && ErrorCode::Malformed as u32 == FILBERT_ERROR_MALFORMED
        && ErrorCode::Checksum as u32 == FILBERT_ERROR_CHECKSUM
        && ErrorCode::InvalidArgument as u32 == FILBERT_ERROR_INVALID_ARGUMENT
        && ErrorCode::TextTooLong as u32 == FILBERT_ERROR_TEXT_TOO_LONG
        && ErrorCode::SelfTest as u32 == FILBERT_ERROR_SELF_TEST
        && ErrorCode::Cancelled as u32 == FILBERT_ERROR_CANCELLED
        && ErrorCode::Closed as u32 == FILBERT_ERROR_CLOSED
);

/// Why a call of C failed.
pub(crate) struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    pub(crate) fn invalid(message: String) -> Self {
        Self {
            code: FILBERT_ERROR_INVALID_ARGUMENT,
            message,
        }
    }

    pub(crate) fn io(message: String) -> Self {
        Self {
            code: FILBERT_ERROR_IO,
            message,
        }
    }

    pub(crate) fn closed() -> Self {
        Self {
            code: FILBERT_ERROR_CLOSED,
            message: "the classifier is closed; open the model again".into(),
        }
    }

    /// Says which of several values it is about.
    pub(crate) fn at(mut self, number: usize) -> Self {
        self.message = format!("number {number}: {}", self.message);
        self
    }

    pub(crate) fn null(argument: &str) -> Self {
        Self::invalid(format!("{argument}: expected a pointer, found null"))
    }

    /// An argument asks for what a newer version of this library has.
    pub(crate) fn unsupported(message: String) -> Self {
        Self {
            code: FILBERT_ERROR_UNSUPPORTED,
            message,
        }
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self {
            code: FILBERT_ERROR_INTERNAL,
            message: format!(
                "a defect of this library: {}; please report it",
                said.unwrap_or("a panic")
            ),
        }
    }
}

impl From<runtime::Error> for Failure {
    fn from(error: runtime::Error) -> Self {
        Self {
            code: error.code() as u32,
            message: error.to_string(),
        }
    }
}

/// Why a call failed.
///
/// Threads: several may read one error at once.
pub struct ErrorHandle {
    code: u32,
    message: CString,
}

impl From<Failure> for ErrorHandle {
    fn from(failure: Failure) -> Self {
        // A path or label in the message may have a NUL, at which C would stop reading.
        let message = failure.message.replace('\0', "\u{fffd}");
        Self {
            code: failure.code,
            message: CString::new(message).unwrap_or_default(),
        }
    }
}

/// Does the work of a function that can fail, and returns null or the error. A panic ends here:
/// beyond, it would unwind through frames of C.
///
/// It is sound to go on after a panic: the runtime shares nothing between calls but its
/// workers, which survive one, and workspaces, of which a call that panics returns none.
pub(crate) fn guard(work: impl FnOnce() -> Result<(), Failure>) -> *mut ErrorHandle {
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return ptr::null_mut(),
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::of_panic(&*panic),
    };
    Box::into_raw(Box::new(failure.into()))
}

/// Does the work of a function that gives something back or frees it, and cannot fail. Should
/// it panic all the same, it returns `otherwise`.
pub(crate) fn guard_value<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Frees what C hands back, unless it is null.
pub(crate) fn ignore_null<T>(pointer: *mut T, free: impl FnOnce(*mut T)) {
    if !pointer.is_null() {
        guard_value((), || free(pointer));
    }
}

/// The code of an error: a FILBERT_ERROR_*; FILBERT_OK for NULL.
///
/// # Safety
/// `error` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_error_code(error: *const ErrorHandle) -> u32 {
    // SAFETY: null is `None`; what this library returned is an `ErrorHandle` until it is freed.
    unsafe { error.as_ref() }.map_or(FILBERT_OK, |error| error.code)
}

/// A sentence that names the file or argument, and says what was expected and what to do. It is
/// UTF-8, ends with a NUL, and lives as long as the error; for NULL it is empty. Its length in
/// bytes, without the NUL, goes to length, unless that is NULL.
///
/// # Safety
/// `error` is null, or came from this library and is not yet freed; `length` is null, or may be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_error_message(
    error: *const ErrorHandle,
    length: *mut usize,
) -> *const c_char {
    // SAFETY: null is `None`; what this library returned is an `ErrorHandle` until it is freed.
    let message = unsafe { error.as_ref() }.map_or(c"", |error| &error.message);
    if !length.is_null() {
        // SAFETY: it is not null, so the caller says that it may be written.
        unsafe { length.write_unaligned(message.count_bytes()) };
    }
    message.as_ptr()
}

/// Frees an error. NULL is ignored.
///
/// # Safety
/// `error` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_error_free(error: *mut ErrorHandle) {
    // SAFETY: `guard` made every error from a box, and the caller frees it once.
    ignore_null(error, |error| unsafe { drop(Box::from_raw(error)) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: *mut ErrorHandle) -> (u32, String) {
        // SAFETY: the tests below hand over what `guard` returned, once.
        let error = unsafe { Box::from_raw(error) };
        (error.code, error.message.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_panic_is_an_error_of_its_own_code() {
        let (code, message) = of(guard(|| panic!("tile {} is missing", 3)));
        assert_eq!(code, FILBERT_ERROR_INTERNAL);
        assert!(message.contains("tile 3 is missing"), "{message}");
        let (code, _) = of(guard(|| std::panic::panic_any(7)));
        assert_eq!(code, FILBERT_ERROR_INTERNAL);
        assert_eq!(guard_value(5, || panic!("none")), 5);
    }

    #[test]
    fn success_is_null_and_a_failure_keeps_its_message() {
        assert!(guard(|| Ok(())).is_null());
        let failed = guard(|| Err(Failure::invalid("a \0 in ü".into())));
        assert_eq!(of(failed), (6, "a \u{fffd} in ü".into()));
    }
}
