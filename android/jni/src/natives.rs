//! The functions of `dev.filbert.Native`.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use filbert::{Cancellation, Classification, Classifier, Input, Model, Options, Truncation};
use jni_sys::{JNI_ERR, JNI_VERSION_1_6, JavaVM, jint, jlong};

use crate::env::{self, Buffer, ByteArrays, Bytes, Env, Ints, Kept, Object, Strings};
use crate::error::{Failure, guard};
use crate::registry::Registry;

/// A classifier, and after it, so that it goes first, the buffer that its model lies in.
struct Entry {
    classifier: Classifier,
    _buffer: Option<Kept>,
}

static CLASSIFIERS: Registry<Entry> = Registry::new();
static CANCELLATIONS: Registry<Cancellation> = Registry::new();

fn open_classifier(id: jlong) -> Result<Arc<Entry>, Failure> {
    CLASSIFIERS.get(id).ok_or_else(Failure::closed)
}

/// The options of a classifier as `Native.kt` packs them.
fn read_options(
    env: Env<'_>,
    numbers: Ints<'_>,
    allowed: ByteArrays<'_>,
    denied: ByteArrays<'_>,
) -> Result<Options, Failure> {
    let numbers = env.ints(numbers)?;
    let &[threads, truncation, max_results, score_threshold] = &numbers[..] else {
        return Err(Failure::invalid(format!(
            "options: expected 4 numbers, found {}",
            numbers.len()
        )));
    };
    let truncation = match truncation {
        0 => Truncation::LongestFirst,
        1 => Truncation::OnlyFirst,
        2 => Truncation::OnlySecond,
        3 => Truncation::Refuse,
        other => return Err(Failure::invalid(format!("truncation: found {other}"))),
    };
    let mut options = Options::new()
        // What is negative is refused as 0 is.
        .threads(usize::try_from(threads).unwrap_or(0))
        .truncation(truncation)
        .score_threshold(f32::from_bits(score_threshold.cast_unsigned()))
        .allow_labels(env.texts(allowed)?)
        .deny_labels(env.texts(denied)?);
    // MediaPipe's way to say all.
    if let Ok(count) = usize::try_from(max_results) {
        options = options.max_results(count);
    }
    Ok(options)
}

fn add(classifier: Classifier, buffer: Option<Kept>) -> jlong {
    CLASSIFIERS.insert(Entry {
        classifier,
        _buffer: buffer,
    })
}

extern "system" fn version<'a>(env: Env<'a>, _class: Object<'a>) -> Strings<'a> {
    guard(env, Strings::NULL, || {
        env.new_strings(&[env!("CARGO_PKG_VERSION")])
    })
}

extern "system" fn open_file(
    env: Env<'_>,
    _class: Object<'_>,
    path: Bytes<'_>,
    numbers: Ints<'_>,
    allowed: ByteArrays<'_>,
    denied: ByteArrays<'_>,
) -> jlong {
    guard(env, 0, || {
        let options = read_options(env, numbers, allowed, denied)?;
        let classifier = Classifier::open_with(env.text(path)?, &options)?;
        Ok(add(classifier, None))
    })
}

/// Of a descriptor that stays the caller's.
extern "system" fn open_descriptor(
    env: Env<'_>,
    _class: Object<'_>,
    descriptor: jint,
    offset: jlong,
    length: jlong,
    numbers: Ints<'_>,
    allowed: ByteArrays<'_>,
    denied: ByteArrays<'_>,
) -> jlong {
    guard(env, 0, || {
        let options = read_options(env, numbers, allowed, denied)?;
        let (Ok(offset), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
            return Err(Failure::invalid(format!(
                "offset and length: expected no negative numbers, found {offset} and {length}"
            )));
        };
        if descriptor < 0 {
            return Err(Failure::io("the file descriptor is closed"));
        }
        // SAFETY: it is not -1. Kotlin keeps it open during this call, to which the borrow is
        // confined; of one that is not open the system says so. The file is then our own.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let file: File = borrowed
            .try_clone_to_owned()
            .map_err(|error| Failure::io(format!("the file descriptor: {error}")))?
            .into();
        let model = Model::from_file(&file, offset, length)?;
        Ok(add(Classifier::new(model, &options)?, None))
    })
}

/// Of a direct buffer, which is borrowed, not copied.
extern "system" fn open_buffer(
    env: Env<'_>,
    _class: Object<'_>,
    buffer: Buffer<'_>,
    position: jint,
    length: jint,
    numbers: Ints<'_>,
    allowed: ByteArrays<'_>,
    denied: ByteArrays<'_>,
) -> jlong {
    guard(env, 0, || {
        let options = read_options(env, numbers, allowed, denied)?;
        let (address, capacity) = env.direct(buffer)?;
        let range = usize::try_from(position)
            .ok()
            .zip(usize::try_from(length).ok());
        let Some((position, length)) = range.filter(|(position, length)| {
            position
                .checked_add(*length)
                .is_some_and(|end| end <= capacity)
        }) else {
            return Err(Failure::invalid(format!(
                "{length} bytes from {position} on are not in a buffer of {capacity}"
            )));
        };
        let kept = env.keep(buffer)?;
        // SAFETY: `position` is at most the capacity, so the result is in the buffer or at its
        // end. The range lies in the buffer, whose memory is there and does not move as long as
        // the buffer is not collected. `kept` prevents that, and is dropped after the classifier:
        // at once if opening fails, and else with the entry, whose fields are dropped in order.
        // Nothing in the runtime keeps the bytes longer than the model. As for a file that is
        // mapped, `TextClassifier.fromBuffer` demands that nobody changes them meanwhile.
        let bytes: &'static [u8] =
            unsafe { std::slice::from_raw_parts(address.add(position), length) };
        // What does not lie where words can be read is copied.
        let model = match address.addr().wrapping_add(position).is_multiple_of(4) {
            true => Model::from_static(bytes)?,
            false => Model::from_bytes(bytes)?,
        };
        Ok(add(Classifier::new(model, &options)?, Some(kept)))
    })
}

/// Of a part of an array, which is copied.
extern "system" fn open_bytes(
    env: Env<'_>,
    _class: Object<'_>,
    bytes: Bytes<'_>,
    start: jint,
    length: jint,
    numbers: Ints<'_>,
    allowed: ByteArrays<'_>,
    denied: ByteArrays<'_>,
) -> jlong {
    guard(env, 0, || {
        let options = read_options(env, numbers, allowed, denied)?;
        // What is negative lies outside any array.
        let number = |value: jint| usize::try_from(value).unwrap_or(usize::MAX);
        let model = Model::from_vec(env.part(bytes, number(start), number(length))?)?;
        Ok(add(Classifier::new(model, &options)?, None))
    })
}

/// The kernel set, then the labels.
extern "system" fn describe<'a>(env: Env<'a>, _class: Object<'a>, id: jlong) -> Strings<'a> {
    guard(env, Strings::NULL, || {
        let entry = open_classifier(id)?;
        let mut texts = vec![entry.classifier.kernels()];
        texts.extend(entry.classifier.model().labels());
        env.new_strings(&texts)
    })
}

extern "system" fn close(env: Env<'_>, _class: Object<'_>, id: jlong) {
    guard(env, (), || {
        if let Some(entry) = CLASSIFIERS.remove(id) {
            // Calls that run end soon; the last one gives the memory back.
            entry.classifier.close();
        }
        Ok(())
    });
}

extern "system" fn self_test(env: Env<'_>, _class: Object<'_>, id: jlong) -> jint {
    guard(env, 0, || {
        let count = open_classifier(id)?.classifier.self_test()?;
        Ok(jint::try_from(count).unwrap_or(jint::MAX))
    })
}

extern "system" fn verify(env: Env<'_>, _class: Object<'_>, id: jlong) {
    guard(env, (), || {
        Ok(open_classifier(id)?.classifier.model().verify()?)
    });
}

extern "system" fn new_cancellation(env: Env<'_>, _class: Object<'_>) -> jlong {
    guard(env, 0, || Ok(CANCELLATIONS.insert(Cancellation::new())))
}

extern "system" fn cancel(env: Env<'_>, _class: Object<'_>, id: jlong) {
    guard(env, (), || {
        if let Some(cancellation) = CANCELLATIONS.get(id) {
            cancellation.cancel();
        }
        Ok(())
    });
}

extern "system" fn free_cancellation(env: Env<'_>, _class: Object<'_>, id: jlong) {
    guard(env, (), || {
        CANCELLATIONS.remove(id);
        Ok(())
    });
}

/// Classifies texts that lie one after another in `utf8`. Without lengths they are one text;
/// else each has two lengths, the second of which is -1 where there is no second text. A
/// cancellation of 0 is none.
extern "system" fn classify<'a>(
    env: Env<'a>,
    _class: Object<'a>,
    id: jlong,
    cancellation: jlong,
    utf8: Bytes<'a>,
    lengths: Ints<'a>,
) -> Ints<'a> {
    guard(env, Ints::NULL, || {
        let entry = open_classifier(id)?;
        let text = env.text(utf8)?;
        if lengths.is_null() && cancellation == 0 {
            let result = entry.classifier.classify(&text)?;
            return env.new_ints(&pack(std::slice::from_ref(&result)));
        }
        let inputs = match lengths.is_null() {
            true => vec![text.as_str().into()],
            false => split(&text, &env.ints(lengths)?)?,
        };
        let mut results = Vec::new();
        if cancellation == 0 {
            entry
                .classifier
                .classify_batch_into(&inputs, &mut results)?;
        } else {
            let cancellation = CANCELLATIONS
                .get(cancellation)
                .ok_or_else(Failure::cancelled)?;
            entry
                .classifier
                .classify_batch_until(&inputs, &cancellation, &mut results)?;
        }
        env.new_ints(&pack(&results))
    })
}

/// The texts and pairs of a batch.
fn split<'a>(mut text: &'a str, lengths: &[i32]) -> Result<Vec<Input<'a>>, Failure> {
    let mut take = |length: i32| -> Result<&str, Failure> {
        let (taken, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| text.split_at_checked(length))
            .ok_or_else(|| Failure::invalid("lengths: they do not divide the bytes into texts"))?;
        text = rest;
        Ok(taken)
    };
    let mut inputs = Vec::with_capacity(lengths.len() / 2);
    for pair in lengths.chunks(2) {
        let first = take(pair[0])?;
        inputs.push(match pair.get(1) {
            None | Some(-1) => first.into(),
            Some(&second) => (first, take(second)?).into(),
        });
    }
    Ok(inputs)
}

/// Of each text: tokens, whether it was cut, the number of categories, an index and the bits of
/// a score for each of them, and the bits of the logits.
fn pack(results: &[Classification<'_>]) -> Vec<i32> {
    let length =
        |result: &Classification<'_>| 3 + 2 * result.categories().len() + result.logits().len();
    // Tokens, indices and counts are bounded by the file's words of 32 bits.
    let number = |value: usize| value as i32;
    let bits = |value: f32| value.to_bits().cast_signed();
    let mut packed = Vec::with_capacity(results.iter().map(length).sum());
    for result in results {
        packed.extend([
            number(result.tokens()),
            result.truncated().into(),
            number(result.categories().len()),
        ]);
        for category in result.categories() {
            packed.extend([number(category.index), bits(category.score)]);
        }
        packed.extend(result.logits().iter().map(|&logit| bits(logit)));
    }
    packed
}

/// The options at the end of every function that opens a classifier.
macro_rules! opens {
    ($arguments:literal) => {
        match CStr::from_bytes_with_nul(concat!("(", $arguments, "[I[[B[[B)J\0").as_bytes()) {
            Ok(signature) => signature,
            Err(_) => panic!("a signature has no NUL"),
        }
    };
}

/// What `Native.kt` declares.
fn functions() -> [(&'static CStr, &'static CStr, *const c_void); 13] {
    [
        (
            c"version",
            c"()[Ljava/lang/String;",
            version as *const c_void,
        ),
        (c"openFile", opens!("[B"), open_file as *const c_void),
        (
            c"openDescriptor",
            opens!("IJJ"),
            open_descriptor as *const c_void,
        ),
        (
            c"openBuffer",
            opens!("Ljava/nio/ByteBuffer;II"),
            open_buffer as *const c_void,
        ),
        (c"openBytes", opens!("[BII"), open_bytes as *const c_void),
        (
            c"describe",
            c"(J)[Ljava/lang/String;",
            describe as *const c_void,
        ),
        (c"close", c"(J)V", close as *const c_void),
        (c"selfTest", c"(J)I", self_test as *const c_void),
        (c"verify", c"(J)V", verify as *const c_void),
        (
            c"newCancellation",
            c"()J",
            new_cancellation as *const c_void,
        ),
        (c"cancel", c"(J)V", cancel as *const c_void),
        (
            c"freeCancellation",
            c"(J)V",
            free_cancellation as *const c_void,
        ),
        (c"classify", c"(JJ[B[I)[I", classify as *const c_void),
    ]
}

/// Called by the JVM when the library is loaded. If it fails, so does `System.loadLibrary`, with
/// the exception that tells why.
///
/// # Safety
/// `vm` points to the JVM, and its native method interface.
#[unsafe(no_mangle)]
unsafe extern "system" fn JNI_OnLoad(vm: *mut JavaVM, _reserved: *mut c_void) -> jint {
    // SAFETY: the JVM passes itself.
    let Some(env) = (unsafe { env::attached(vm) }) else {
        return JNI_ERR;
    };
    guard(env, JNI_ERR, || {
        // SAFETY: the list has each function beside its signature, which `Native.kt` declares;
        // the tests on the JVM call each of them.
        unsafe { env.register(c"dev/filbert/Native", &functions()) }?;
        Ok(JNI_VERSION_1_6)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_divided_into_texts_and_pairs() {
        let inputs = split("aäbc", &[1, -1, 2, 1, 0, 0, 1, -1]).unwrap();
        let expected: [Input<'_>; 4] = ["a".into(), ("ä", "b").into(), ("", "").into(), "c".into()];
        assert_eq!(inputs, expected);
        assert_eq!(split("", &[]).unwrap(), []);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for lengths in [
            &[2, -1][..],
            &[-1, -1],
            &[1, 3],
            &[1, -2],
            &[9, -1],
            &[i32::MAX, -1],
        ] {
            assert!(split("aä", lengths).is_err(), "{lengths:?}");
        }
    }
}
