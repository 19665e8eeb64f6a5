//! Errors as Kotlin sees them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use filbert::ErrorCode;

use crate::env::Env;

/// The code of a defect of the library: of a panic. The runtime's own codes stay below 1000.
const INTERNAL: i32 = 1000;

/// Why a call failed.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    /// To be thrown as a `FilbertException`.
    Filbert { code: i32, message: String },
    /// The JVM has thrown already, such as an `OutOfMemoryError`.
    Thrown,
}

impl Failure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Filbert {
            code: code as u32 as i32,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Io, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(
            ErrorCode::Closed,
            "the classifier is closed; open the model again",
        )
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorCode::Cancelled, "the call was cancelled")
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Filbert {
            code: INTERNAL,
            message: format!(
                "a defect of this library: {}; please report it",
                said.unwrap_or("a panic")
            ),
        }
    }
}

impl From<filbert::Error> for Failure {
    fn from(error: filbert::Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// What the work returns. A panic ends here: beyond, it would unwind through frames of the JVM.
///
/// It is sound to go on after a panic: the runtime shares nothing between calls but its workers,
/// which survive one, and workspaces, of which a call that panics returns none; a registry is
/// locked only while its map is looked at or changed.
fn attempt<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Failure::of_panic(&*panic)))
}

/// Does the work of a function that Kotlin calls. If it fails, an exception is pending when this
/// returns, and the JVM does not look at `otherwise`.
pub(crate) fn guard<T>(env: Env<'_>, otherwise: T, work: impl FnOnce() -> Result<T, Failure>) -> T {
    match attempt(work) {
        Ok(value) => value,
        Err(failure) => {
            if let Failure::Filbert { code, message } = failure {
                env.throw(code, &message);
            }
            otherwise
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_of_its_own_code() {
        let failed = |work: fn() -> i32| attempt(|| Ok(work()));
        let Err(Failure::Filbert { code, message }) = failed(|| panic!("tile {} is missing", 3))
        else {
            panic!("the panic is lost");
        };
        assert_eq!(code, INTERNAL);
        assert!(message.contains("tile 3 is missing"), "{message}");
        assert!(matches!(
            failed(|| std::panic::panic_any(7)),
            Err(Failure::Filbert { code: INTERNAL, .. })
        ));
        assert_eq!(attempt(|| Ok(5)), Ok(5));
        assert_eq!(
            attempt::<i32>(|| Err(Failure::Thrown)),
            Err(Failure::Thrown)
        );
    }
}
