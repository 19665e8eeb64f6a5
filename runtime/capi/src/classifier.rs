//! `filbert_classifier`: open, ask, classify, close.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock};

use runtime::{Cancellation, Classifier, Input, Model, Options};

use crate::arguments::{self, InputRecord, Output, TextRecord, inputs, reference, text};
use crate::cancellation::CancellationHandle;
use crate::error::{ErrorHandle, Failure, guard, guard_value, ignore_null};
use crate::options::OptionsRecord;
use crate::results::{Labels, ResultsHandle};

/// A model that is open and ready to classify.
///
/// Threads: several may use one classifier at once, and any of them may close it. It is freed
/// once, when no thread uses it any more.
pub struct ClassifierHandle {
    /// None once it is closed. Calls read; closing writes, and so waits for them.
    classifier: RwLock<Option<Classifier>>,
    labels: Arc<Labels>,
    kernel_set: CString,
}

impl ClassifierHandle {
    fn open(model: Model, options: &Options) -> Result<*mut Self, Failure> {
        let classifier = Classifier::new(model, options)?;
        let handle = Self {
            labels: Arc::new(Labels::new(classifier.model())),
            kernel_set: CString::new(classifier.kernels()).unwrap_or_default(),
            classifier: RwLock::new(Some(classifier)),
        };
        Ok(Box::into_raw(Box::new(handle)))
    }

    /// Does something with the classifier, unless it is closed.
    fn with<T>(&self, work: impl FnOnce(&Classifier) -> Result<T, Failure>) -> Result<T, Failure> {
        let classifier = self.classifier.read();
        let classifier = classifier.unwrap_or_else(PoisonError::into_inner);
        work(classifier.as_ref().ok_or_else(Failure::closed)?)
    }

    fn classify(
        &self,
        inputs: &[Input<'_>],
        cancellation: Option<&Cancellation>,
    ) -> Result<*mut ResultsHandle, Failure> {
        self.with(|classifier| {
            let mut results = Vec::new();
            match cancellation {
                Some(by) => classifier.classify_batch_until(inputs, by, &mut results)?,
                None => classifier.classify_batch_into(inputs, &mut results)?,
            }
            let results = ResultsHandle::new(&results, &self.labels);
            Ok(Box::into_raw(Box::new(results)))
        })
    }

    fn close(&self) {
        // Calls that run end soon after this, and only then can the lock be had.
        let _ = self.with(|classifier| {
            classifier.close();
            Ok(())
        });
        let classifier = self.classifier.write();
        let mut classifier = classifier.unwrap_or_else(PoisonError::into_inner);
        // Under the lock: who closes at the same time returns when it is closed too.
        *classifier = None;
    }
}

/// Opens a .filbert file, as `filbert convert` makes it, with some options or, for NULL, the
/// default ones.
///
/// The file is mapped, not copied, and must not change while it is open: replace a model by
/// renaming a new file over it.
///
/// Errors: IO, NOT_A_MODEL, UNSUPPORTED, MALFORMED, CHECKSUM; INVALID_ARGUMENT also for labels
/// that the model does not have, for threads that cannot be started, and for a FILBERT_ISA in the
/// environment that names no kernel set of this CPU.
///
/// # Safety
/// `path` points to `path_length` bytes, `options` is null or a record that begins with its
/// size, and `classifier` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_open(
    path: *const c_char,
    path_length: usize,
    options: *const OptionsRecord,
    classifier: *mut *mut ClassifierHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let classifier = unsafe { Output::new(classifier, "classifier", ptr::null_mut()) }?;
        // SAFETY: the caller says that so many bytes are there, and they stay during the call.
        let path = unsafe { text(path, path_length, "path") }?;
        // SAFETY: the caller says that the record is as long as it states.
        let options = unsafe { OptionsRecord::into_options(options) }?;
        classifier.set(ClassifierHandle::open(Model::open(path)?, &options)?);
        Ok(())
    })
}

/// Opens a model that is a part of an open file: of an Android package, say, whose assets are
/// given by descriptor, offset and length. The offset is a multiple of 4, as `zipalign` makes
/// it, and the asset is not compressed.
///
/// The descriptor may be closed after the call; where it stands in the file does not matter.
/// Else as for filbert_classifier_open. Systems that are not Unix have no descriptors:
/// UNSUPPORTED.
///
/// # Safety
/// `descriptor` is open during the call; else as for `filbert_classifier_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_open_descriptor(
    descriptor: c_int,
    offset: u64,
    length: u64,
    options: *const OptionsRecord,
    classifier: *mut *mut ClassifierHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let classifier = unsafe { Output::new(classifier, "classifier", ptr::null_mut()) }?;
        // SAFETY: the caller says that the record is as long as it states.
        let options = unsafe { OptionsRecord::into_options(options) }?;
        // SAFETY: the caller says that it is open.
        let file = unsafe { duplicate(descriptor) }?;
        let model = Model::from_file(&file, offset, length)?;
        classifier.set(ClassifierHandle::open(model, &options)?);
        Ok(())
    })
}

/// A file of our own for a descriptor of the caller's.
///
/// # Safety
/// The descriptor is open during the call.
#[cfg(unix)]
unsafe fn duplicate(descriptor: c_int) -> Result<File, Failure> {
    if descriptor < 0 {
        return Err(Failure::invalid(format!(
            "descriptor: expected an open file, found {descriptor}"
        )));
    }
    // SAFETY: it is not -1, and open, as the caller says.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    match borrowed.try_clone_to_owned() {
        Ok(owned) => Ok(owned.into()),
        Err(error) => Err(Failure::io(format!("descriptor {descriptor}: {error}"))),
    }
}

#[cfg(not(unix))]
unsafe fn duplicate(_: c_int) -> Result<File, Failure> {
    Err(Failure::unsupported(
        "descriptor: this system has none; open the file by its path".into(),
    ))
}

/// Opens a model that lies in memory, at an address that is a multiple of 4. The memory is not
/// copied: it must stay, and not change, until the classifier is closed or freed.
///
/// Errors: as for filbert_classifier_open, without IO.
///
/// # Safety
/// `data` points to `length` bytes that nobody changes or frees until the classifier is closed;
/// else as for `filbert_classifier_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_open_memory(
    data: *const c_void,
    length: usize,
    options: *const OptionsRecord,
    classifier: *mut *mut ClassifierHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let classifier = unsafe { Output::new(classifier, "classifier", ptr::null_mut()) }?;
        // SAFETY: the caller says that the record is as long as it states.
        let options = unsafe { OptionsRecord::into_options(options) }?;
        // SAFETY: the caller says that so many bytes are there, and stay until the classifier is
        // closed. That drops the `Classifier`, whose model alone keeps the bytes: results copy
        // what they need, and closing waits for calls that run.
        let bytes: &'static [u8] = unsafe { arguments::values(data.cast(), length, "data") }?;
        classifier.set(ClassifierHandle::open(
            Model::from_static(bytes)?,
            &options,
        )?);
        Ok(())
    })
}

/// How many labels the model has; it gives as many logits. 0 for NULL.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_label_count(
    classifier: *const ClassifierHandle,
) -> usize {
    // SAFETY: null is `None`; what this library returned is a handle until it is freed.
    unsafe { classifier.as_ref() }.map_or(0, |handle| handle.labels.count())
}

/// The name of the label with this index, which ends with a NUL too, and lives as long as the
/// classifier.
///
/// Errors: INVALID_ARGUMENT, also for an index that is not below the count.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed; `label` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_label(
    classifier: *const ClassifierHandle,
    index: usize,
    label: *mut TextRecord,
) -> *mut ErrorHandle {
    guard(|| {
        let empty = TextRecord {
            data: ptr::null(),
            length: 0,
        };
        // SAFETY: the caller says that it may be written if it is not null.
        let label = unsafe { Output::new(label, "label", empty) }?;
        // SAFETY: what this library returned is a handle until it is freed.
        let handle = unsafe { reference(classifier, "classifier") }?;
        let found = handle.labels.get(index).ok_or_else(|| {
            Failure::invalid(format!(
                "index: expected less than {} labels, found {index}",
                handle.labels.count()
            ))
        })?;
        label.set(found);
        Ok(())
    })
}

/// The kernel set in use, such as "avx512vnni" or "i8mm"; it ends with a NUL, and lives as long
/// as the classifier. Empty for NULL.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_kernel_set(
    classifier: *const ClassifierHandle,
) -> *const c_char {
    // SAFETY: null is `None`; what this library returned is a handle until it is freed.
    let handle = unsafe { classifier.as_ref() };
    handle
        .map_or(c"", |handle| -> &CStr { &handle.kernel_set })
        .as_ptr()
}

/// Classifies one text.
///
/// Errors: CLOSED; TEXT_TOO_LONG, if the options do not let it be cut.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed; `text` points to
/// `text_length` bytes; `results` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_classify(
    classifier: *const ClassifierHandle,
    text: *const c_char,
    text_length: usize,
    results: *mut *mut ResultsHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let results = unsafe { Output::new(results, "results", ptr::null_mut()) }?;
        // SAFETY: what this library returned is a handle until it is freed.
        let handle = unsafe { reference(classifier, "classifier") }?;
        // SAFETY: the caller says that so many bytes are there, and they stay during the call.
        let text = unsafe { arguments::text(text, text_length, "text") }?;
        results.set(handle.classify(&[text.into()], None)?);
        Ok(())
    })
}

/// Classifies a pair of texts, such as a premise and a hypothesis.
///
/// Errors: as for filbert_classifier_classify.
///
/// # Safety
/// As for `filbert_classifier_classify`, for both texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_classify_pair(
    classifier: *const ClassifierHandle,
    first: *const c_char,
    first_length: usize,
    second: *const c_char,
    second_length: usize,
    results: *mut *mut ResultsHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let results = unsafe { Output::new(results, "results", ptr::null_mut()) }?;
        // SAFETY: what this library returned is a handle until it is freed.
        let handle = unsafe { reference(classifier, "classifier") }?;
        // SAFETY: the caller says that so many bytes are there, and they stay during the call.
        let first = unsafe { text(first, first_length, "first") }?;
        // SAFETY: as above.
        let second = unsafe { text(second, second_length, "second") }?;
        results.set(handle.classify(&[(first, second).into()], None)?);
        Ok(())
    })
}

/// Classifies many texts or pairs together, which is faster than one by one. Each has the result
/// that it would have alone, to the bit. The first one that fails ends the batch.
///
/// With a cancellation, which may be NULL, another thread can end the call.
///
/// Errors: as for filbert_classifier_classify, and CANCELLED.
///
/// # Safety
/// As for `filbert_classifier_classify`; `inputs` points to `count` records of texts that are
/// there; `cancellation` is null, or came from this library and is freed after the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_classify_batch(
    classifier: *const ClassifierHandle,
    inputs: *const InputRecord,
    count: usize,
    cancellation: *const CancellationHandle,
    results: *mut *mut ResultsHandle,
) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: the caller says that it may be written if it is not null.
        let results = unsafe { Output::new(results, "results", ptr::null_mut()) }?;
        // SAFETY: what this library returned is a handle until it is freed.
        let handle = unsafe { reference(classifier, "classifier") }?;
        // SAFETY: the caller says that so many are there, and they stay during the call.
        let inputs = unsafe { self::inputs(inputs, count) }?;
        // SAFETY: null is `None`; what this library returned is a cancellation until it is
        // freed, which is after the call.
        let cancellation = unsafe { cancellation.as_ref() }.map(|handle| &handle.0);
        results.set(handle.classify(&inputs, cancellation)?);
        Ok(())
    })
}

/// Recomputes the logits of the texts that travel in the file, and compares their bits: whether
/// this device computes what the converter did. It takes as long as some dozen texts.
///
/// Errors: SELF_TEST, CLOSED.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_selftest(classifier: *const ClassifierHandle) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: what this library returned is a handle until it is freed.
        let handle = unsafe { reference(classifier, "classifier") }?;
        handle.with(|classifier| Ok(classifier.self_test().map(|_| ())?))
    })
}

/// Checks every checksum of the file, the weights' too, which opening it does not: for a file
/// that was downloaded. It reads the whole file.
///
/// Errors: CHECKSUM, MALFORMED, CLOSED.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_verify(classifier: *const ClassifierHandle) -> *mut ErrorHandle {
    guard(|| {
        // SAFETY: what this library returned is a handle until it is freed.
        let handle = unsafe { reference(classifier, "classifier") }?;
        handle.with(|classifier| Ok(classifier.model().verify()?))
    })
}

/// Closes the classifier while other threads may use it: calls that run end within the time of
/// one layer of the model, or of a long text's tokens, with FILBERT_ERROR_CLOSED, and so does
/// each call that begins later. (filbert_verify runs to its end.) When this returns, the file is
/// closed, and memory that was given to filbert_classifier_open_memory is no longer used. Results
/// and labels stay.
///
/// The classifier must still be freed. It may be closed twice; NULL is ignored.
///
/// # Safety
/// `classifier` is null, or came from this library and is not yet freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_close(classifier: *const ClassifierHandle) {
    // SAFETY: null is `None`; what this library returned is a handle until it is freed.
    if let Some(handle) = unsafe { classifier.as_ref() } {
        guard_value((), || handle.close());
    }
}

/// Frees the classifier, and closes it if it is open. No other thread may use it any more: where
/// one might, close it first, and free it when that thread is done. Results stay. NULL is
/// ignored.
///
/// # Safety
/// `classifier` is null, or came from this library, is not yet freed, and is in no call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn filbert_classifier_free(classifier: *mut ClassifierHandle) {
    // SAFETY: a function of this library made it from a box; nobody uses it any more.
    ignore_null(classifier, |classifier| unsafe {
        drop(Box::from_raw(classifier));
    });
}

/// What the header says of threads.
const _: fn() = || {
    fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<ClassifierHandle>();
    shared_by_threads::<CancellationHandle>();
};
