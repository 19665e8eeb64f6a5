//! What a call costs from C beside the same call from Rust, and what threads that share a
//! classifier cost beside threads that have one each.
//!
//! The C library is loaded as a program of C would load it. Both sides run in turn, some
//! milliseconds each, and what is printed are medians of these rounds; `--test` runs one round.

use std::ffi::{c_char, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr;
use std::sync::Barrier;
use std::time::Instant;

use filbert::{Classifier, Options};
use filbert_benches::model::{self, NANO};
use filbert_tests::shared;
use libloading::{Library, Symbol};

/// Calls of a round, and rounds.
const CALLS: u32 = 400;
const ROUNDS: usize = 300;

/// Threads that share a classifier, and calls of each in a round.
const THREADS: usize = 16;
const CALLS_OF_THREAD: usize = 100;
const ROUNDS_OF_THREADS: usize = 60;

type Open =
    unsafe extern "C" fn(*const c_char, usize, *const c_void, *mut *mut c_void) -> *mut c_void;
type Classify =
    unsafe extern "C" fn(*const c_void, *const c_char, usize, *mut *mut c_void) -> *mut c_void;
type Get = unsafe extern "C" fn(*const c_void, usize, *mut ResultRecord) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

/// `filbert_result`.
#[repr(C)]
struct ResultRecord {
    categories: *const c_void,
    category_count: usize,
    logits: *const f32,
    logit_count: usize,
    tokens: usize,
    truncated: bool,
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let nano = NANO.file(folder).expect("the model is written");
    let tiny = folder.join("bridges.filbert");
    model::convert(&shared::tiny_model(), &tiny).expect("the checkpoint converts");
    let library = build_library();
    for (name, file) in [(NANO.name, &nano), ("tiny-sst2", &tiny)] {
        let rounds = if is_test { 1 } else { ROUNDS };
        let [rust, c] = compare_calls(&library, file, rounds);
        println!(
            "{name}, a word: {rust:.2} µs from Rust, {c:.2} µs from C, {:+.2} µs",
            c - rust
        );
    }
    let rounds = if is_test { 1 } else { ROUNDS_OF_THREADS };
    let [shared, separate] = compare_threads(&tiny, rounds);
    println!(
        "tiny-sst2, a word, {THREADS} threads: {shared:.2} µs a call with one classifier, \
         {separate:.2} µs with one each, {:.3} times",
        shared / separate
    );
}

/// Builds the C library in this profile.
fn build_library() -> PathBuf {
    let bench = std::env::current_exe().expect("this program has a path");
    let target = bench
        .ancestors()
        .nth(3)
        .expect("this program lies in a target folder");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "-p", "filbert-capi"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(shared::repository())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the C library does not build");
    target.join("release/libfilbert.so")
}

/// Microseconds of a call from Rust and from C: medians.
#[expect(unsafe_code, reason = "a library of C")]
fn compare_calls(library: &Path, file: &Path, rounds: usize) -> [f64; 2] {
    let path = file.to_str().expect("the path is UTF-8");
    let classifier = Classifier::open(file).expect("the model opens");
    // SAFETY: the library was built from this repository, and what it does when loaded and
    // unloaded is what Rust's standard library does.
    let library = unsafe { Library::new(library) }.expect("the library loads");
    // SAFETY: these are the types of `filbert.h`, with `c_void` for each handle; of a symbol that
    // is not there this is an error.
    let (open, classify, get, free_results, free_classifier) = unsafe {
        let open: Symbol<'_, Open> = library.get(b"filbert_classifier_open").unwrap();
        let classify: Symbol<'_, Classify> = library.get(b"filbert_classifier_classify").unwrap();
        let get: Symbol<'_, Get> = library.get(b"filbert_results_get").unwrap();
        let free_results: Symbol<'_, Free> = library.get(b"filbert_results_free").unwrap();
        let free_classifier: Symbol<'_, Free> = library.get(b"filbert_classifier_free").unwrap();
        (open, classify, get, free_results, free_classifier)
    };
    let mut handle = ptr::null_mut();
    // SAFETY: a path with its length, no options, and a place for the handle.
    let error = unsafe { open(path.as_ptr().cast(), path.len(), ptr::null(), &mut handle) };
    assert!(error.is_null(), "the model opens");

    let from_rust = || {
        let result = classifier.classify(black_box("film")).expect("classified");
        black_box(result.logits()[0]);
    };
    let from_c = || {
        let text = black_box("film");
        let mut results = ptr::null_mut();
        // SAFETY: the handle is open, and each pointer is to what `filbert.h` says; a result is
        // read before its results are freed, once.
        unsafe {
            let error = classify(handle, text.as_ptr().cast(), text.len(), &mut results);
            assert!(error.is_null());
            let mut result = std::mem::zeroed::<ResultRecord>();
            assert!(get(results, 0, &mut result).is_null());
            black_box(*result.logits);
            free_results(results);
        }
    };
    let times = take_turns(rounds, [&from_rust, &from_c]);
    // SAFETY: it is open, and in no call.
    unsafe { free_classifier(handle) };
    times.map(|seconds| seconds * 1e6 / f64::from(CALLS))
}

/// Seconds of [`CALLS`] calls of each: medians.
fn take_turns(rounds: usize, sides: [&dyn Fn(); 2]) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + 1 {
        for (side, times) in sides.iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..CALLS {
                side();
            }
            // The first round makes caches warm.
            if round > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    times.map(median)
}

/// Microseconds of a call where threads share a classifier, and where each has one: medians.
fn compare_threads(file: &Path, rounds: usize) -> [f64; 2] {
    let open = || Classifier::open_with(file, &Options::new()).expect("the model opens");
    let shared = open();
    let separate: Vec<_> = (0..THREADS).map(|_| open()).collect();
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + 1 {
        for (is_shared, times) in [true, false].into_iter().zip(&mut times) {
            let of = |thread: usize| {
                if is_shared {
                    &shared
                } else {
                    &separate[thread]
                }
            };
            let seconds = run_threads(&of);
            if round > 0 {
                times.push(seconds);
            }
        }
    }
    times.map(|times| median(times) * 1e6 / (THREADS * CALLS_OF_THREAD) as f64)
}

/// Seconds that the threads take together.
fn run_threads<'a>(classifier_of: &(impl Fn(usize) -> &'a Classifier + Sync)) -> f64 {
    let ready = Barrier::new(THREADS);
    let starts = std::thread::scope(|scope| {
        let run = |thread: usize| {
            let ready = &ready;
            scope.spawn(move || {
                let classifier = classifier_of(thread);
                ready.wait();
                let start = Instant::now();
                for _ in 0..CALLS_OF_THREAD {
                    let result = classifier.classify(black_box("film"));
                    black_box(result.expect("classified").logits()[0]);
                }
                start
            })
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        let starts = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        starts.min()
    });
    // From the first one's start to the last one's end.
    starts.expect("there are threads").elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
