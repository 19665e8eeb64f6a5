//! `filbert_classifier`: open, classify, free.

use std::ffi::c_char;
use std::ptr;

use runtime::{Classifier, Options};

use crate::arguments::{Output, reference, text};
use crate::classification::ClassificationHandle;
use crate::error::{ErrorHandle, Failure, guard, guard_value};

/// `filbert_options`. It grows at its end, without padding; zero is the default of each field.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct OptionsRecord {
    size: usize,
    threads: usize,
}

impl OptionsRecord {
    /// Reads as much as the caller's version of the record has. What this version does not know
    /// must be zero, which asks for nothing.
    ///
    /// # Safety
    /// `options` is null, or points to a size and so many bytes, itself included, that nobody
    /// changes meanwhile.
    unsafe fn read(options: *const Self) -> Result<Self, Failure> {
        // SAFETY: the caller says so, and `usize` is the record's first field.
        let Some(&size) = (unsafe { options.cast::<usize>().as_ref() }) else {
            return Ok(Self::default());
        };
        if size < size_of::<usize>() || size > isize::MAX as usize {
            return Err(Failure::invalid(format!(
                "options: expected their size in the first field, found {size}"
            )));
        }
        // SAFETY: the caller says that `size` bytes are there.
        let bytes = unsafe { std::slice::from_raw_parts(options.cast::<u8>(), size) };
        let (known, unknown) = bytes.split_at(size.min(size_of::<Self>()));
        if unknown.iter().any(|&byte| byte != 0) {
            return Err(Failure::unsupported(
                "options: one is set that this version of the library does not know".into(),
            ));
        }
        let mut record = Self::default();
        // SAFETY: `known` is at most as long as the record, whose fields are integers, so that
        // any bytes are a value of them.
        unsafe {
            ptr::copy_nonoverlapping(known.as_ptr(), (&raw mut record).cast(), known.len());
        }
        Ok(record)
    }

    fn into_options(self) -> Options {
        match self.threads {
            0 => Options::new(),
            threads => Options::new().threads(threads),
        }
    }
}

/// # Safety
/// As `filbert.h` has it: `path` points to `path_length` bytes, `options` is null or a record
/// that begins with its size, and `classifier` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classifier_open(
    path: *const c_char,
    path_length: usize,
    options: *const OptionsRecord,
    classifier: *mut *mut Classifier,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let classifier = unsafe { Output::new(classifier, "classifier", ptr::null_mut()) }?;
        // SAFETY: the caller says that so many bytes are there, and they stay during the call.
        let path = unsafe { text(path, path_length, "path") }?;
        // SAFETY: the caller says that the record is as long as it states.
        let options = unsafe { OptionsRecord::read(options) }?.into_options();
        let opened = Classifier::open_with(path, &options)?;
        classifier.set(Box::into_raw(Box::new(opened)));
        Ok(())
    })
}

/// # Safety
/// `classifier` is null or open; `text` points to `text_length` bytes; `classification` may be
/// written.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classifier_classify(
    classifier: *const Classifier,
    text: *const c_char,
    text_length: usize,
    classification: *mut *mut ClassificationHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let classification =
            unsafe { Output::new(classification, "classification", ptr::null_mut()) }?;
        // SAFETY: an open classifier is what `filbert_classifier_open` boxed. It is shared, as
        // `Classifier: Sync` allows, and freed after this call at the earliest.
        let classifier = unsafe { reference(classifier, "classifier") }?;
        // SAFETY: the caller says that so many bytes are there, and they stay during the call.
        let text = unsafe { crate::arguments::text(text, text_length, "text") }?;
        let result = ClassificationHandle::new(&classifier.classify(text)?);
        classification.set(Box::into_raw(Box::new(result)));
        Ok(())
    })
}

/// # Safety
/// `classifier` is null, or open and in no call.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classifier_free(classifier: *mut Classifier) {
    if !classifier.is_null() {
        guard_value((), || {
            // SAFETY: `filbert_classifier_open` made it from a box; nobody uses it any more.
            drop(unsafe { Box::from_raw(classifier) });
        });
    }
}

/// What the header says of threads.
const _: fn() = || {
    fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Classifier>();
};

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[usize]) -> Result<usize, Failure> {
        // SAFETY: no case states a size that is larger than its words.
        unsafe { OptionsRecord::read(words.as_ptr().cast()) }.map(|record| record.threads)
    }

    #[test]
    fn options_of_other_versions_are_read() {
        let word = size_of::<usize>();
        // SAFETY: null is a case of its own.
        let none = unsafe { OptionsRecord::read(ptr::null()) };
        assert_eq!(none.ok().map(|record| record.threads), Some(0));
        assert_eq!(read(&[word]).ok(), Some(0));
        assert_eq!(read(&[2 * word, 3]).ok(), Some(3));
        assert_eq!(read(&[4 * word, 3, 0, 0]).ok(), Some(3));
    }

    #[test]
    fn options_that_are_not_known_or_have_no_size_are_refused() {
        let word = size_of::<usize>();
        assert!(read(&[4 * word, 3, 0, 1]).is_err());
        assert!(read(&[0, 3]).is_err());
        assert!(read(&[usize::MAX, 3]).is_err());
    }
}
