//! A call whose like came before allocates nothing, on any of its threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use filbert::{Classification, Classifier, Input, Model, Options};
use filbert_convert::checkpoint::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_tests::shared;

/// The system's allocator, which counts what is asked of it.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often memory is allocated meanwhile.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// One test alone in this program: others would allocate too.
#[test]
fn the_warm_path_allocates_nothing() {
    let checkpoint = Checkpoint::open(&shared::tiny_model()).unwrap();
    let file = Package::build(&checkpoint, &mut Quiet)
        .unwrap()
        .into_bytes();
    let words = "A Gorgeous, wìtty FILM 日本 untranslatable ";
    let texts: Vec<String> = [0, 1, 2, 5, 9, 14, 30, 100].map(|n| words.repeat(n)).into();
    let lengths: Vec<String> = (0..140).map(|n| "film ".repeat(n)).collect();
    let many: Vec<Input<'_>> = texts
        .iter()
        .chain(&texts)
        .map(|text| (&**text).into())
        .collect();
    let even: Vec<Input<'_>> = vec![Input::from(&*texts[3]); 64];

    for threads in [1, 2, 3] {
        let model = Model::from_bytes(&file).unwrap();
        let options = Options::new().threads(threads);
        let classifier = Classifier::new(model, &options).unwrap();
        assert!(
            allocations(|| drop(classifier.classify("film"))) > 0,
            "nothing is counted"
        );

        let mut result = Classification::default();
        let mut one = |input: Input<'_>| classifier.classify_into(input, &mut result).unwrap();
        one((&*texts[7]).into());
        one((&*texts[7], &*texts[7]).into());
        for (number, text) in texts.iter().enumerate().cycle().take(100) {
            let input = Input::from(&**text);
            assert_eq!(
                allocations(|| one(input)),
                0,
                "text {number}, {threads} threads"
            );
            let input = Input::from((&**text, &*texts[3]));
            assert_eq!(
                allocations(|| one(input)),
                0,
                "pair {number}, {threads} threads"
            );
        }
        // Texts that are shorter than those before, whatever their length.
        for text in lengths.iter().rev() {
            let input = Input::from(&**text);
            assert_eq!(allocations(|| one(input)), 0, "{} bytes", text.len());
        }

        for (name, batch) in [("uneven", &many), ("even", &even)] {
            let mut results = Vec::new();
            let mut classify = || classifier.classify_batch_into(batch, &mut results).unwrap();
            classify();
            for round in 0..50 {
                let count = allocations(&mut classify);
                assert_eq!(count, 0, "{name} batch, round {round}, {threads} threads");
            }
            let alone = classifier.classify_batch(batch).unwrap();
            assert_eq!(results, alone);
        }
    }
}
