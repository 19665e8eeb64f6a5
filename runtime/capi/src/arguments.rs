//! What C hands over, checked.

use std::ffi::c_char;

use crate::error::Failure;

/// What an argument that must not be null points to.
///
/// # Safety
/// `pointer` is null, or points to a `T` that nobody changes or frees while `'a` lasts.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller says so; a null pointer is `None`.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(name))
}

/// The place where a result goes.
pub(crate) struct Output<T>(*mut T);

impl<T> Output<T> {
    /// Puts `empty` there, which stays if the call fails.
    ///
    /// # Safety
    /// `pointer` is null, or may be written as a `T` until the call of C returns.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str, empty: T) -> Result<Self, Failure> {
        if pointer.is_null() {
            return Err(Failure::null(name));
        }
        let output = Self(pointer);
        output.set(empty);
        Ok(output)
    }

    pub(crate) fn set(&self, value: T) {
        // SAFETY: the pointer is not null, as `new` checked, and its caller said that it may
        // then be written. What was there before is not dropped: it may be uninitialized.
        unsafe { self.0.write(value) };
    }
}

/// A text that is given by its first byte and its length. No bytes at no address are a text
/// too, the empty one.
///
/// # Safety
/// `data` is null, or points to `length` bytes that nobody changes or frees while `'a` lasts.
pub(crate) unsafe fn text<'a>(
    data: *const c_char,
    length: usize,
    name: &str,
) -> Result<&'a str, Failure> {
    if data.is_null() {
        return match length {
            0 => Ok(""),
            _ => Err(Failure::null(name)),
        };
    }
    if length > isize::MAX as usize {
        return Err(Failure::invalid(format!(
            "{name}: has {length} bytes, more than any memory"
        )));
    }
    // SAFETY: the pointer is not null, the length is one that a slice may have, and the caller
    // says that so many bytes are there and stay.
    let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) };
    str::from_utf8(bytes).map_err(|error| Failure::invalid(format!("{name}: {error}")))
}
