//! `filbert_cancellation`: ends calls from another thread.

use runtime::Cancellation;

use crate::error::{guard_value, ignore_null};

/// Ends calls from another thread.
///
/// Threads: several may use one at once. It is freed once, when no thread and no call uses it any
/// more.
pub struct CancellationHandle(pub(crate) Cancellation);

/// A cancellation that nobody has used yet.
#[unsafe(no_mangle)]
pub extern "C" fn filbert_cancellation_new() -> *mut CancellationHandle {
    guard_value(std::ptr::null_mut(), || {
        Box::into_raw(Box::new(CancellationHandle(Cancellation::new())))
    })
}

/// Ends every call that was given this cancellation, within the time of one layer of the model or
/// of a long text's tokens: FILBERT_ERROR_CANCELLED. It stays cancelled: a call that begins later
/// ends at once. NULL is ignored.
///
/// # Safety
/// `cancellation` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_cancellation_cancel(cancellation: *const CancellationHandle) {
    // SAFETY: null is `None`; what this library returned is a cancellation until it is freed.
    if let Some(cancellation) = unsafe { cancellation.as_ref() } {
        cancellation.0.cancel();
    }
}

/// Frees a cancellation, which no call may use any more. NULL is ignored.
///
/// # Safety
/// `cancellation` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_cancellation_free(cancellation: *mut CancellationHandle) {
    // SAFETY: `filbert_cancellation_new` made it from a box, and it is freed once.
    ignore_null(cancellation, |cancellation| unsafe {
        drop(Box::from_raw(cancellation));
    });
}
