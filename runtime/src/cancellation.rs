//! How calls end before they are done: at the caller's wish, or because the classifier closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorCode};

/// Ends calls from another thread: give a clone of it to the call, and keep one to cancel with.
///
/// It stays cancelled. A call ends within the time of one layer of the model, or of a long
/// text's tokens, and one that begins later ends at once.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    /// One that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends all calls that have it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What can end a call.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stop<'a> {
    /// Of the classifier.
    pub(crate) closed: Option<&'a Cancellation>,
    /// Of the call.
    pub(crate) cancelled: Option<&'a Cancellation>,
}

impl Stop<'_> {
    /// Whether the call is to end. Once true, it stays true.
    pub(crate) fn is_requested(self) -> bool {
        let requested = |by: Option<&Cancellation>| by.is_some_and(Cancellation::is_cancelled);
        requested(self.closed) || requested(self.cancelled)
    }

    /// The error with which the call ends, if it is to.
    pub(crate) fn check(self) -> Result<(), Error> {
        if !self.is_requested() {
            return Ok(());
        }
        if self.closed.is_some_and(Cancellation::is_cancelled) {
            return Err(Error::new(
                ErrorCode::Closed,
                "the classifier is closed; open the model again",
            ));
        }
        Err(Error::new(ErrorCode::Cancelled, "the call was cancelled"))
    }
}
