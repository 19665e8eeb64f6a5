//! `filbert_classification`: what the model says of one text.

use std::ffi::c_char;
use std::ptr;

use runtime::Classification;

use crate::arguments::{Output, reference};
use crate::error::{ErrorHandle, Failure, guard, guard_value};

/// `filbert_category`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CategoryRecord {
    index: usize,
    /// In the classifier, which C keeps open as long as it reads labels.
    label: *const c_char,
    label_length: usize,
    score: f32,
}

impl CategoryRecord {
    const EMPTY: Self = Self {
        index: 0,
        label: ptr::null(),
        label_length: 0,
        score: 0.0,
    };
}

/// `filbert_classification`.
pub(crate) struct ClassificationHandle {
    categories: Vec<CategoryRecord>,
    logits: Vec<f32>,
}

impl ClassificationHandle {
    pub(crate) fn new(classification: &Classification<'_>) -> Self {
        let categories = classification.categories().iter();
        Self {
            categories: categories
                .map(|category| CategoryRecord {
                    index: category.index,
                    label: category.label.as_ptr().cast(),
                    label_length: category.label.len(),
                    score: category.score,
                })
                .collect(),
            logits: classification.logits().to_vec(),
        }
    }
}

/// # Safety
/// `classification` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classification_category_count(
    classification: *const ClassificationHandle,
) -> usize {
    // SAFETY: null is `None`; what this library returned is a handle until it is freed.
    unsafe { classification.as_ref() }.map_or(0, |result| result.categories.len())
}

/// # Safety
/// `classification` is null, or came from this library and is not yet freed; `category` may be
/// written.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classification_category(
    classification: *const ClassificationHandle,
    position: usize,
    category: *mut CategoryRecord,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let category = unsafe { Output::new(category, "category", CategoryRecord::EMPTY) }?;
        // SAFETY: what this library returned is a handle until it is freed.
        let result = unsafe { reference(classification, "classification") }?;
        let found = result.categories.get(position).ok_or_else(|| {
            Failure::invalid(format!(
                "category {position}: the result has {}",
                result.categories.len()
            ))
        })?;
        category.set(*found);
        Ok(())
    })
}

/// # Safety
/// `classification` is null, or came from this library and is not yet freed; `count` is null, or
/// may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classification_logits(
    classification: *const ClassificationHandle,
    count: *mut usize,
) -> *const f32 {
    // SAFETY: null is `None`; what this library returned is a handle until it is freed.
    let logits = unsafe { classification.as_ref() }.map(|result| &*result.logits);
    if !count.is_null() {
        // SAFETY: it is not null, so the caller says that it may be written.
        unsafe { count.write(logits.map_or(0, <[f32]>::len)) };
    }
    logits.map_or(ptr::null(), <[f32]>::as_ptr)
}

/// # Safety
/// `classification` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
unsafe extern "C" fn filbert_classification_free(classification: *mut ClassificationHandle) {
    if !classification.is_null() {
        guard_value((), || {
            // SAFETY: `filbert_classifier_classify` made it from a box, and it is freed once.
            drop(unsafe { Box::from_raw(classification) });
        });
    }
}
