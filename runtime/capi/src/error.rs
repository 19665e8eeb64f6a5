//! Errors as C sees them.

use std::any::Any;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use runtime::ErrorCode;

/// The code of a defect of the library: of a panic. The runtime's own codes stay below 1000.
const INTERNAL: u32 = 1000;

/// Why a call of C failed.
pub(crate) struct Failure {
    code: u32,
    message: String,
}

impl Failure {
    pub(crate) fn invalid(message: String) -> Self {
        Self {
            code: ErrorCode::InvalidArgument as u32,
            message,
        }
    }

    pub(crate) fn null(argument: &str) -> Self {
        Self::invalid(format!("{argument}: expected a pointer, found null"))
    }

    /// An argument asks for what a newer version of this library has.
    pub(crate) fn unsupported(message: String) -> Self {
        Self {
            code: ErrorCode::Unsupported as u32,
            message,
        }
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self {
            code: INTERNAL,
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

/// `filbert_error`.
pub(crate) struct ErrorHandle {
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

/// # Safety
/// `error` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_error_code(error: *const ErrorHandle) -> u32 {
    // SAFETY: null is `None`; what this library returned is an `ErrorHandle` until it is freed.
    unsafe { error.as_ref() }.map_or(0, |error| error.code)
}

/// # Safety
/// `error` is null, or came from this library and is not yet freed; `length` is null, or may be
/// written.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_error_message(
    error: *const ErrorHandle,
    length: *mut usize,
) -> *const c_char {
    // SAFETY: null is `None`; what this library returned is an `ErrorHandle` until it is freed.
    let message = unsafe { error.as_ref() }.map_or(c"", |error| &error.message);
    if !length.is_null() {
        // SAFETY: it is not null, so the caller says that it may be written.
        unsafe { length.write(message.count_bytes()) };
    }
    message.as_ptr()
}

/// # Safety
/// `error` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_error_free(error: *mut ErrorHandle) {
    if !error.is_null() {
        // SAFETY: `guard` made every error from a box, and the caller frees it once.
        drop(unsafe { Box::from_raw(error) });
    }
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
        assert_eq!(code, INTERNAL);
        assert!(message.contains("tile 3 is missing"), "{message}");
        let (code, _) = of(guard(|| std::panic::panic_any(7)));
        assert_eq!(code, INTERNAL);
        assert_eq!(guard_value(5, || panic!("none")), 5);
    }

    #[test]
    fn success_is_null_and_a_failure_keeps_its_message() {
        assert!(guard(|| Ok(())).is_null());
        let failed = guard(|| Err(Failure::invalid("a \0 in ü".into())));
        assert_eq!(of(failed), (6, "a \u{fffd} in ü".into()));
    }
}
