//! `filbert_results`: what the model says of the texts of one call.

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use runtime::{Classification, Model};

use crate::arguments::{Output, TextRecord, reference};
use crate::error::{ErrorHandle, Failure, guard, ignore_null};

/// The labels of a model, each with a NUL behind it. Results keep them, so that they can be read
/// after the classifier is closed.
pub(crate) struct Labels {
    text: String,
    /// Where each begins; the last one is where all end.
    starts: Vec<usize>,
}

impl Labels {
    pub(crate) fn new(model: &Model) -> Self {
        let mut labels = Self {
            text: String::new(),
            starts: vec![0],
        };
        for label in model.labels() {
            labels.text.push_str(label);
            labels.text.push('\0');
            labels.starts.push(labels.text.len());
        }
        labels
    }

    pub(crate) fn count(&self) -> usize {
        self.starts.len() - 1
    }

    pub(crate) fn get(&self, index: usize) -> Option<TextRecord> {
        let end = self.starts.get(index.checked_add(1)?)?;
        let label = self.text.get(self.starts[index]..*end)?;
        Some(TextRecord {
            data: label.as_ptr().cast(),
            length: label.len() - 1,
        })
    }
}

/// One label of the model and how well it fits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CategoryRecord {
    /// The label's place among the model's labels, and its logit's among the logits.
    pub index: usize,
    /// The label's name in UTF-8. It ends with a NUL, and lives as long as the results.
    pub label: *const c_char,
    /// The length of the name in bytes, without the NUL.
    pub label_length: usize,
    /// A probability, 0 to 1; of a regression model, the logit.
    pub score: f32,
}

/// What the model says of one text. What it points to lives as long as the results.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ResultRecord {
    /// The categories that the options let through, the best first.
    pub categories: *const CategoryRecord,
    /// How many there are.
    pub category_count: usize,
    /// The model's raw answer, one number for each of its labels, in the model's order: the same
    /// bits on every machine.
    pub logits: *const f32,
    /// How many there are.
    pub logit_count: usize,
    /// Tokens that the model saw, special tokens included.
    pub tokens: usize,
    /// Whether the text was cut to what the model takes.
    pub truncated: bool,
}

impl ResultRecord {
    const EMPTY: Self = Self {
        categories: ptr::null(),
        category_count: 0,
        logits: ptr::null(),
        logit_count: 0,
        tokens: 0,
        truncated: false,
    };
}

/// Where the parts of one text's result end, and what else there is of it.
struct Entry {
    categories: usize,
    logits: usize,
    tokens: usize,
    truncated: bool,
}

/// What the model says of the texts of one call.
///
/// Threads: several may read them at once. They stay when the classifier is closed or freed.
pub struct ResultsHandle {
    entries: Vec<Entry>,
    categories: Vec<CategoryRecord>,
    logits: Vec<f32>,
    /// Keeps what the categories point to.
    _labels: Arc<Labels>,
}

// SAFETY: the pointers in the categories are to the text of the labels, which this keeps and
// nobody changes.
unsafe impl Send for ResultsHandle {}
// SAFETY: as above.
unsafe impl Sync for ResultsHandle {}

impl ResultsHandle {
    pub(crate) fn new(results: &[Classification<'_>], labels: &Arc<Labels>) -> Self {
        let categories = results.iter().map(|result| result.categories().len()).sum();
        let logits = results.iter().map(|result| result.logits().len()).sum();
        let mut handle = Self {
            entries: Vec::with_capacity(results.len()),
            categories: Vec::with_capacity(categories),
            logits: Vec::with_capacity(logits),
            _labels: Arc::clone(labels),
        };
        for result in results {
            handle
                .categories
                .extend(result.categories().iter().map(|category| {
                    let label = labels.get(category.index).expect("a label of this model");
                    CategoryRecord {
                        index: category.index,
                        label: label.data,
                        label_length: label.length,
                        score: category.score,
                    }
                }));
            handle.logits.extend(result.logits());
            handle.entries.push(Entry {
                categories: handle.categories.len(),
                logits: handle.logits.len(),
                tokens: result.tokens(),
                truncated: result.truncated(),
            });
        }
        handle
    }

    fn get(&self, text: usize) -> Option<ResultRecord> {
        let entry = self.entries.get(text)?;
        let before = text.checked_sub(1).map(|before| &self.entries[before]);
        let (categories, logits) = before.map_or((0, 0), |e| (e.categories, e.logits));
        let categories = &self.categories[categories..entry.categories];
        let logits = &self.logits[logits..entry.logits];
        Some(ResultRecord {
            categories: categories.as_ptr(),
            category_count: categories.len(),
            logits: logits.as_ptr(),
            logit_count: logits.len(),
            tokens: entry.tokens,
            truncated: entry.truncated,
        })
    }
}

/// Of how many texts there are results: one, or as many as the batch had. 0 for NULL.
///
/// # Safety
/// `results` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_results_count(results: *const ResultsHandle) -> usize {
    // SAFETY: null is `None`; what this library returned is a handle until it is freed.
    unsafe { results.as_ref() }.map_or(0, |results| results.entries.len())
}

/// The result of one text, by its number in the batch, from 0.
///
/// Errors: INVALID_ARGUMENT, also for a number that is not below the count.
///
/// # Safety
/// `results` is null, or came from this library and is not yet freed; `result` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_results_get(
    results: *const ResultsHandle,
    text: usize,
    result: *mut ResultRecord,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let result = unsafe { Output::new(result, "result", ResultRecord::EMPTY) }?;
        // SAFETY: what this library returned is a handle until it is freed.
        let results = unsafe { reference(results, "results") }?;
        let found = results.get(text).ok_or_else(|| {
            Failure::invalid(format!(
                "text: expected less than {} results, found {text}",
                results.entries.len()
            ))
        })?;
        result.set(found);
        Ok(())
    })
}

/// Frees results. NULL is ignored.
///
/// # Safety
/// `results` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_results_free(results: *mut ResultsHandle) {
    // SAFETY: a function of this library made them from a box, and they are freed once.
    ignore_null(results, |results| unsafe { drop(Box::from_raw(results)) });
}
