//! A call whose like came before allocates nothing, on any of its threads, but what it returns.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use filbert::{
    Classification, Classifier, Embedder, Input, Model, Options, QuestionAnswerer, TokenClassifier,
    WordFiller,
};
use filbert_convert::checkpoint::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_tests::{fine, shared};

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

/// How often a call allocates whose like came before: as a rule the same. A worker thread that
/// starts late allocates for itself meanwhile, so the middle of many counts is taken.
fn repeated_allocations(what: &str, call: impl Fn()) -> usize {
    call();
    let mut counts: Vec<usize> = (0..41).map(|_| allocations(&call)).collect();
    counts.sort_unstable();
    let count = counts[counts.len() / 2];
    assert_eq!(counts[0], count, "{what}: {counts:?}");
    count
}

/// A model of `fixtures/`, as a file.
fn fixture(name: &str) -> Vec<u8> {
    let folder = shared::repository().join("tests/fixtures").join(name);
    let checkpoint = Checkpoint::open(&folder).unwrap();
    let package = Package::build(&checkpoint, &mut Quiet).unwrap();
    package.into_bytes()
}

/// Embeddings go into vectors of the caller's, and nothing is allocated. The other heads return
/// vectors of their own: how often a call allocates is the same each time, and with any number of
/// threads. For a masked word it is the same for any length too: none of it is the encoder's,
/// which all heads share.
fn check_other_heads() {
    let [tokens, answers, embeddings, masked] = [
        "bert-tokens",
        "bert-answers",
        "bert-embeddings",
        "bert-masked",
    ]
    .map(fixture);
    // The models take 64 tokens.
    let texts = [4, 2, 1].map(|n| "The film was gorgeous. ".repeat(n));
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| (&**text).into()).collect();
    let counts = [1, 2, 3].map(|threads| {
        let options = Options::new().threads(threads);
        let model = |file: &[u8]| Model::from_bytes(file).unwrap();
        let classifier = TokenClassifier::new(model(&tokens), &options).unwrap();
        let answerer = QuestionAnswerer::new(model(&answers), &options).unwrap();
        let embedder = Embedder::new(model(&embeddings), &options).unwrap();
        let filler = WordFiller::new(model(&masked), &options).unwrap();

        let vectors = RefCell::new(Vec::new());
        let embed = || {
            let vectors = &mut *vectors.borrow_mut();
            embedder.embed_batch_into(&inputs, None, vectors).unwrap();
        };
        assert_eq!(repeated_allocations("embed", embed), 0, "{threads} threads");

        let fill = texts.each_ref().map(|text| {
            let masked = format!("{text}{}", filler.mask());
            let fill = || drop(filler.fill(&masked, 3).unwrap());
            repeated_allocations("fill", fill)
        });
        assert_eq!(fill, [fill[0]; 3], "{threads} threads");
        let others = texts.each_ref().map(|text| {
            let classify = || drop(classifier.classify(text).unwrap());
            let answer = || drop(answerer.answer("film", text, 1).unwrap());
            [
                repeated_allocations("classify", classify),
                repeated_allocations("answer", answer),
            ]
        });
        (fill, others)
    });
    assert!(counts[0].0[0] > 0, "nothing is counted");
    for more in &counts[1..] {
        assert_eq!(*more, counts[0], "threads");
    }
}

/// One test alone in this program: others would allocate too.
#[test]
fn the_warm_path_allocates_nothing() {
    let checkpoint = Checkpoint::open(&shared::tiny_model()).unwrap();
    // Half of the second one's products are fine.
    let files = fine::models(&checkpoint, [0, 6]);
    let words = "A Gorgeous, wìtty FILM 日本 untranslatable ";
    let texts: Vec<String> = [0, 1, 2, 5, 9, 14, 30, 100].map(|n| words.repeat(n)).into();
    let lengths: Vec<String> = (0..140).map(|n| "film ".repeat(n)).collect();
    let many: Vec<Input<'_>> = texts
        .iter()
        .chain(&texts)
        .map(|text| (&**text).into())
        .collect();
    let even: Vec<Input<'_>> = vec![Input::from(&*texts[3]); 64];

    for (file, threads) in files.iter().flat_map(|file| [1, 2, 3].map(|n| (file, n))) {
        let model = Model::from_bytes(&**file).unwrap();
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
    check_other_heads();
}
