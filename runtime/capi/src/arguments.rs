//! What C hands over, checked.

use std::ffi::c_char;
use std::slice;

use runtime::Input;

use crate::error::Failure;

/// Some text: its first byte and its length in bytes. It is UTF-8, need not end with a NUL, and
/// may contain some, even a label of a model. NULL with length 0 is the empty text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TextRecord {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes there are.
    pub length: usize,
}

/// What is classified: a text or a pair of texts, such as a question and its answer. Where
/// second.data is NULL there is one text; an empty second text needs another pointer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InputRecord {
    /// The text, or the first of a pair.
    pub first: TextRecord,
    /// The second text of a pair.
    pub second: TextRecord,
}

/// What an argument that must not be null points to.
///
/// # Safety
/// `pointer` is null, or points to a `T` that nobody changes or frees while `'a` lasts.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check_aligned(pointer, name)?;
    // SAFETY: it is aligned, and the caller says the rest; a null pointer is `None`.
    unsafe { pointer.as_ref() }.ok_or_else(|| Failure::null(name))
}

/// Refuses an address at which no `T` can be.
pub(crate) fn check_aligned<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{name}: expected a multiple of {} as address, found {pointer:p}",
        align_of::<T>()
    )))
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
        check_aligned(pointer, name)?;
        let output = Self(pointer);
        output.set(empty);
        Ok(output)
    }

    pub(crate) fn set(&self, value: T) {
        // SAFETY: the pointer is neither null nor askew, as `new` checked, and its caller said that
        // it may then be written. What was there before is not dropped: it may be uninitialized.
        unsafe { self.0.write(value) };
    }
}

/// Values that are given by the first one and their number. No values at no address are none.
///
/// # Safety
/// `data` is null, or points to `count` values that nobody changes or frees while `'a` lasts.
pub(crate) unsafe fn values<'a, T>(
    data: *const T,
    count: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    if data.is_null() {
        return match count {
            0 => Ok(&[]),
            _ => Err(Failure::null(name)),
        };
    }
    if count > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::invalid(format!(
            "{name}: {count} are more than any memory"
        )));
    }
    check_aligned(data, name)?;
    // SAFETY: the pointer is neither null nor askew, there are no more values than a slice may
    // have, and the caller says that so many are there and stay.
    Ok(unsafe { slice::from_raw_parts(data, count) })
}

/// A text that is given by its first byte and its length.
///
/// # Safety
/// As for [`values`].
pub(crate) unsafe fn text<'a>(
    data: *const c_char,
    length: usize,
    name: &str,
) -> Result<&'a str, Failure> {
    // SAFETY: the caller says so.
    let bytes = unsafe { values(data.cast::<u8>(), length, name) }?;
    str::from_utf8(bytes).map_err(|error| Failure::invalid(format!("{name}: {error}")))
}

/// Texts in records.
///
/// # Safety
/// As for [`values`], and each record is of a text of which that holds too.
pub(crate) unsafe fn texts<'a>(
    data: *const TextRecord,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>, Failure> {
    // SAFETY: the caller says so.
    let records = unsafe { values(data, count, name) }?;
    let texts = records.iter().enumerate().map(|(number, record)| {
        // SAFETY: the caller says so of every record.
        let text = unsafe { text(record.data, record.length, name) };
        text.map_err(|failure| failure.at(number))
    });
    texts.collect()
}

/// Inputs in records.
///
/// # Safety
/// As for [`texts`].
pub(crate) unsafe fn inputs<'a>(
    data: *const InputRecord,
    count: usize,
) -> Result<Vec<Input<'a>>, Failure> {
    // SAFETY: the caller says so.
    let records = unsafe { values(data, count, "inputs") }?;
    let inputs = records.iter().enumerate().map(|(number, record)| {
        // SAFETY: the caller says so of every record.
        unsafe { input(record) }.map_err(|failure| failure.at(number))
    });
    inputs.collect()
}

/// # Safety
/// As for [`texts`].
unsafe fn input<'a>(record: &InputRecord) -> Result<Input<'a>, Failure> {
    let InputRecord { first, second } = record;
    // SAFETY: the caller says so.
    let first = unsafe { text(first.data, first.length, "first text") }?;
    if second.data.is_null() && second.length == 0 {
        return Ok(first.into());
    }
    // SAFETY: the caller says so.
    let second = unsafe { text(second.data, second.length, "second text") }?;
    Ok((first, second).into())
}
