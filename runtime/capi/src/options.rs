//! `filbert_options`: how a classifier works.

use std::ptr;
use std::slice;

use runtime::{Options, Truncation};

use crate::arguments::{TextRecord, check_aligned, texts};
use crate::error::Failure;

/// The longer of two texts is cut, token by token; a single text at its end.
pub const FILBERT_TRUNCATION_LONGEST_FIRST: u32 = 0;
/// Only the first text is cut.
pub const FILBERT_TRUNCATION_ONLY_FIRST: u32 = 1;
/// Only the second text of a pair is cut.
pub const FILBERT_TRUNCATION_ONLY_SECOND: u32 = 2;
/// None is cut: a long text is the error FILBERT_ERROR_TEXT_TOO_LONG.
pub const FILBERT_TRUNCATION_REFUSE: u32 = 3;

/// How a classifier works. Zero stands for the default of every field, so write
///
///     filbert_options options = {0};
///     options.size = sizeof options;
///
/// and set what you need. A library older than the program refuses options that it does not
/// know, unless they are zero (FILBERT_ERROR_UNSUPPORTED). Nothing that it points to is kept.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OptionsRecord {
    /// The size of this struct in bytes.
    pub size: usize,
    /// Threads that work on a call, the caller's included: 1 to 1024; 0 stands for 1. The
    /// results do not depend on it.
    pub threads: usize,
    /// Categories in a result, the best ones; 0 stands for all.
    pub max_results: usize,
    /// The least score of a category in a result; 0 stands for none. (Of a regression model, whose
    /// scores may be negative, FLT_MIN is next to 0.)
    pub score_threshold: f32,
    /// What is done with a text that is too long for the model: a FILBERT_TRUNCATION_*.
    pub truncation: u32,
    /// The labels that may be in a result, if any are given.
    pub allowed_labels: *const TextRecord,
    /// How many there are.
    pub allowed_label_count: usize,
    /// The labels that may not. Not together with allowed ones.
    pub denied_labels: *const TextRecord,
    /// How many there are.
    pub denied_label_count: usize,
}

/// More bytes than the options of any version have: a size above it was not set.
const LARGEST: usize = 4096;

impl OptionsRecord {
    /// Zeros, which are the defaults.
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        threads: 0,
        max_results: 0,
        score_threshold: 0.0,
        truncation: FILBERT_TRUNCATION_LONGEST_FIRST,
        allowed_labels: ptr::null(),
        allowed_label_count: 0,
        denied_labels: ptr::null(),
        denied_label_count: 0,
    };

    /// Reads as much as the caller's version of the record has. What this version does not know
    /// must be zero, which asks for nothing.
    ///
    /// # Safety
    /// `options` is null, or points to a size and so many bytes, itself included, that nobody
    /// changes meanwhile.
    unsafe fn read(options: *const Self) -> Result<Self, Failure> {
        if options.is_null() {
            return Ok(Self::DEFAULT);
        }
        check_aligned(options, "options")?;
        // SAFETY: it is neither null nor askew, and begins with a size, as the caller says.
        let size = unsafe { options.cast::<usize>().read() };
        if size < size_of::<usize>() || size > LARGEST || !size.is_multiple_of(align_of::<usize>())
        {
            return Err(Failure::invalid(format!(
                "options: expected their size in the first field, found {size}"
            )));
        }
        // SAFETY: the caller says that `size` bytes are there.
        let bytes = unsafe { slice::from_raw_parts(options.cast::<u8>(), size) };
        let (known, unknown) = bytes.split_at(size.min(size_of::<Self>()));
        if unknown.iter().any(|&byte| byte != 0) {
            return Err(Failure::unsupported(
                "options: one is set that this version of the library does not know".into(),
            ));
        }
        let mut record = Self::DEFAULT;
        // SAFETY: `known` is at most as long as the record. It has no padding, as is asserted
        // below, and its fields are numbers and pointers, of which any bytes are a value; no
        // pointer is divided, since the size is a multiple of a pointer's.
        unsafe {
            ptr::copy_nonoverlapping(known.as_ptr(), (&raw mut record).cast(), known.len());
        }
        Ok(record)
    }

    /// # Safety
    /// As [`OptionsRecord::read`], and what the record points to is there.
    pub(crate) unsafe fn into_options(options: *const Self) -> Result<Options, Failure> {
        // SAFETY: the caller says so.
        let record = unsafe { Self::read(options) }?;
        let truncation = match record.truncation {
            FILBERT_TRUNCATION_LONGEST_FIRST => Truncation::LongestFirst,
            FILBERT_TRUNCATION_ONLY_FIRST => Truncation::OnlyFirst,
            FILBERT_TRUNCATION_ONLY_SECOND => Truncation::OnlySecond,
            FILBERT_TRUNCATION_REFUSE => Truncation::Refuse,
            other => {
                return Err(Failure::invalid(format!(
                    "options, truncation: expected 0 to {FILBERT_TRUNCATION_REFUSE}, found {other}"
                )));
            }
        };
        let mut options = Options::new().truncation(truncation);
        if record.threads != 0 {
            options = options.threads(record.threads);
        }
        if record.max_results != 0 {
            options = options.max_results(record.max_results);
        }
        if record.score_threshold != 0.0 {
            options = options.score_threshold(record.score_threshold);
        }
        let (data, count) = (record.allowed_labels, record.allowed_label_count);
        // SAFETY: the caller says so.
        let allowed = unsafe { texts(data, count, "options, allowed_labels") }?;
        let (data, count) = (record.denied_labels, record.denied_label_count);
        // SAFETY: the caller says so.
        let denied = unsafe { texts(data, count, "options, denied_labels") }?;
        Ok(options.allow_labels(allowed).deny_labels(denied))
    }
}

/// The record has no padding, which a program would not set to zero: its size is that of its
/// fields.
const _: () = assert!(
    size_of::<OptionsRecord>()
        == 3 * size_of::<usize>() + 8 + 2 * (size_of::<*const u8>() + size_of::<usize>())
);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[usize]) -> Result<OptionsRecord, Failure> {
        // SAFETY: no case states a size that is larger than its words.
        unsafe { OptionsRecord::read(words.as_ptr().cast()) }
    }

    #[test]
    fn options_of_other_versions_are_read() {
        let word = size_of::<usize>();
        let whole = size_of::<OptionsRecord>() / word;
        // SAFETY: null is a case of its own.
        let none = unsafe { OptionsRecord::read(ptr::null()) };
        assert_eq!(none.ok().map(|record| record.threads), Some(0));
        assert_eq!(read(&[word]).ok().map(|record| record.threads), Some(0));
        let old = read(&[2 * word, 3]).ok();
        assert_eq!(
            old.map(|record| (record.threads, record.max_results)),
            Some((3, 0))
        );
        let mut newer = vec![0; whole + 2];
        newer[..2].copy_from_slice(&[(whole + 2) * word, 3]);
        assert_eq!(read(&newer).ok().map(|record| record.threads), Some(3));
        newer[whole + 1] = 1;
        assert!(read(&newer).is_err());
    }

    #[test]
    fn options_without_a_size_are_refused() {
        assert!(read(&[0, 3]).is_err());
        assert!(read(&[usize::MAX, 3]).is_err());
        assert!(read(&[LARGEST + size_of::<usize>(), 3]).is_err());
        assert!(read(&[size_of::<usize>() + 1, 3]).is_err());
    }
}
