//! Files that were damaged, or made to do harm: each is an error that names what is wrong, or a
//! model that classifies without a panic and without a value that is not finite.
//!
//! Checksums are made right after each change, so that the checks behind them are reached.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;

use bytemuck::Pod;
use filbert::format::{
    Columns, DataType, Header, Labels, NO_TEXT, PANEL, Section, SectionKind, SelfTest,
    SelfTestCase, Shape, Tensor, TensorKind, Vocabulary, features, limits,
};
use filbert::{Classifier, ErrorCode, Head, Input, Model, Options, Runner, Truncation};
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_convert::synthetic::SyntheticCheckpoint;
use filbert_tests::byte_level;
use filbert_tests::fine;
use filbert_tests::fuzz::check_inputs_of_products;
use filbert_tests::kernel_sets;
use filbert_tests::model_file::{ModelFile, TABLE_END, edit, edit_head, sign_head};
use filbert_tests::random::Random;

// The memory that a thread has now, and the most that it had.
thread_local! {
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    let in_use = IN_USE.get() + bytes;
    IN_USE.set(in_use);
    PEAK.set(PEAK.get().max(in_use));
}

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: all is handed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result, and the most memory that this thread took for it.
fn measure<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let before = IN_USE.get();
    PEAK.set(before);
    let result = run();
    (result, (PEAK.get() - before) as usize)
}

/// A small model, and the same with some fine products.
static MODELS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = SyntheticCheckpoint {
        hidden: 12,
        heads: 2,
        intermediate: 10,
        positions: 8,
        labels: 3,
        ..SyntheticCheckpoint::default()
    };
    synthetic.write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    fine::models(&checkpoint, [0, 5])
});

/// The model that most tests change.
static VALID: LazyLock<Vec<u8>> = LazyLock::new(|| MODELS[0].clone());

fn valid() -> ModelFile {
    ModelFile::new(&VALID)
}

fn fine() -> ModelFile {
    ModelFile::new(&MODELS[1])
}

/// The records of fine products' columns, each behind that of the weights, by their numbers.
fn fine_columns() -> Vec<(usize, Tensor)> {
    let (plain, fine) = (valid().tensors(), fine().tensors());
    let columns = (0..plain.len()).filter(|&index| {
        let is_columns = plain[index].data_type == DataType::Columns as u32;
        is_columns && fine[index].dims[0] == 2 * plain[index].dims[0]
    });
    columns.map(|index| (index, fine[index])).collect()
}

/// What every message of the parser names one of.
const NAMES: &[&str] = &[
    "is not a .filbert file",
    "is version",
    "needs features",
    "header",
    "section",
    "shape",
    "tensor table",
    "labels",
    "vocabulary",
    "selftest",
    "weights",
];

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Opens a file and, if it is a model, classifies with it: `Err` is the error, `Ok` the bits of
/// all logits.
///
/// # Panics
/// If the runtime does what it must not.
fn try_file(bytes: &[u8], threads: usize) -> Result<Vec<u32>, filbert::Error> {
    let (model, peak) = measure(|| Model::from_bytes(bytes));
    // One copy of the file, and the tensor table of as many layers as there may be.
    assert!(
        peak < bytes.len() + (512 << 10),
        "opening took {peak} bytes"
    );
    let model = match model {
        Ok(model) => model,
        Err(error) => {
            let message = error.to_string();
            assert!(NAMES.iter().any(|name| message.contains(name)), "{message}");
            assert!(message.len() < 2000, "{message}");
            return Err(error);
        }
    };
    let _ = model.verify();
    assert_eq!(model.labels().len(), model.shape().labels as usize);
    assert_eq!(model.sections().count(), SectionKind::ALL.len());
    let runner = Runner::new(model, &Options::new().threads(threads)).unwrap();
    let inputs: [Input<'_>; 6] = [
        "".into(),
        "a word1 b2".into(),
        "word2 ü[MASK]' ,a 映 word1 xyzzy word3".into(),
        ("word1", "word2 b").into(),
        "???".into(),
        ("", "a a a a a a a a a a a").into(),
    ];
    let (all, peak) = measure(|| {
        let batch = runner.run(&inputs).unwrap();
        let mut all = Vec::new();
        for (output, &input) in batch.iter().zip(&inputs) {
            assert!(output.values.iter().all(|x| x.is_finite()), "{output:?}");
            let alone = runner.run(&[input]).unwrap().remove(0);
            assert_eq!(bits(&alone.values), bits(&output.values));
            all.extend(bits(&output.values));
        }
        all
    });
    assert!(peak < 1 << 20, "running took {peak} bytes");
    let _ = runner.self_test();
    check_inputs_of_products(&runner, &inputs);
    if runner.model().head() == Head::Classification {
        let classifier = Classifier::new(runner.into_model(), &Options::new()).unwrap();
        for result in classifier.classify_batch(&inputs).unwrap() {
            assert!(result.categories().iter().all(|c| c.score.is_finite()));
        }
    }
    Ok(all)
}

/// As [`try_file`]; a panic tells what the file was.
fn attempt(what: impl std::fmt::Display, bytes: &[u8]) -> Result<Vec<u32>, filbert::Error> {
    catch_unwind(AssertUnwindSafe(|| try_file(bytes, 1)))
        .unwrap_or_else(|_| panic!("the file with {what}"))
}

/// The message of a file that must be refused.
fn refused(what: impl std::fmt::Display, bytes: &[u8]) -> (ErrorCode, String) {
    match attempt(&what, bytes) {
        Ok(_) => panic!("the file with {what} passes"),
        Err(error) => (error.code(), error.to_string()),
    }
}

#[test]
fn the_valid_files_pass_whole_and_taken_apart() {
    for file in &*MODELS {
        assert_eq!(ModelFile::new(file).to_bytes(), *file);
        let one = try_file(file, 1).unwrap();
        let two = try_file(file, 2).unwrap();
        assert_eq!(one, two);
        let model = Model::from_bytes(&**file).unwrap();
        model.verify().unwrap();
        let classifier = Classifier::new(model, &Options::default()).unwrap();
        assert!(classifier.self_test().unwrap() > 0);
    }
    assert_eq!(fine_columns().len(), 5);
}

#[test]
fn every_shorter_and_longer_file_is_refused() {
    let ends = (0..1024)
        .chain((1024..VALID.len()).step_by(61))
        .chain(VALID.len() - 300..VALID.len());
    for length in ends {
        refused(format_args!("{length} bytes"), &VALID[..length]);
        // As if the header told the truth.
        if length >= TABLE_END {
            let mut bytes = VALID[..length].to_vec();
            edit_head(&mut bytes, |header, _| header.file_length = length as u64);
            refused(format_args!("{length} bytes, stated"), &bytes);
        }
    }
    for extra in [1, 7, 64, 1 << 14, 1 << 20] {
        let mut bytes = [&VALID[..], &vec![0; extra]].concat();
        refused(format_args!("{extra} more bytes"), &bytes);
        let length = bytes.len() as u64;
        edit_head(&mut bytes, |header, _| header.file_length = length);
        refused(format_args!("{extra} more bytes, stated"), &bytes);
    }
}

#[test]
fn every_changed_byte_of_the_head_is_refused_unless_a_reader_may_ignore_it() {
    let minor = std::mem::offset_of!(Header, minor);
    for at in 0..TABLE_END {
        for change in [1, 0x80, 0xFF] {
            let mut bytes = VALID.clone();
            bytes[at] ^= change;
            refused(format_args!("byte {at} damaged"), &bytes);
            sign_head(&mut bytes);
            if bytes == *VALID {
                continue; // It was the checksum.
            }
            let what = format!("byte {at} changed by {change:#x}");
            if (minor..minor + 2).contains(&at) {
                attempt(what, &bytes).unwrap();
                continue;
            }
            // The weights' checksum is for `verify`.
            let weights = size_of::<Header>()
                + 7 * size_of::<Section>()
                + std::mem::offset_of!(Section, checksum);
            if (weights..weights + 4).contains(&at) {
                attempt(what, &bytes).unwrap();
                let model = Model::from_bytes(&bytes).unwrap();
                assert_eq!(model.verify().unwrap_err().code(), ErrorCode::Checksum);
                continue;
            }
            refused(what, &bytes);
        }
    }
}

#[test]
fn versions_and_features_are_told_apart() {
    let with = |change: fn(&mut Header)| {
        let mut bytes = VALID.clone();
        edit_head(&mut bytes, |header, _| change(header));
        bytes
    };
    for bytes in [
        with(|header| header.major += 1),
        with(|header| header.major = u16::MAX),
        with(|header| header.required_features = 1 << 31),
        with(|header| header.required_features = u32::MAX),
        // A newer file has features before it has anything else that is known.
        with(|header| {
            header.major += 1;
            header.section_count = 9;
        }),
    ] {
        let (code, message) = refused("a newer version", &bytes);
        assert_eq!(code, ErrorCode::Unsupported);
        assert!(message.contains("update the library"), "{message}");
    }
    for minor in [1, 7, u16::MAX] {
        let mut bytes = VALID.clone();
        edit_head(&mut bytes, |header, _| header.minor = minor);
        assert_eq!(
            attempt("a newer minor version", &bytes).unwrap(),
            try_file(&VALID, 1).unwrap()
        );
        assert_eq!(Model::from_bytes(&bytes).unwrap().version().1, minor);
    }
    let (code, _) = refused("version 0", &with(|header| header.major = 0));
    assert_eq!(code, ErrorCode::Unsupported);
    let (code, _) = refused("other magic", &with(|header| header.magic[0] = b'f'));
    assert_eq!(code, ErrorCode::NotAModel);
}

#[test]
fn hostile_section_tables_are_refused() {
    type Change = fn(&mut Header, &mut [Section; 8]);
    let changes: &[(&str, Change)] = &[
        ("no sections", |header, _| header.section_count = 0),
        ("nine sections", |header, _| header.section_count = 9),
        ("2^32 sections", |header, _| header.section_count = u32::MAX),
        ("a length of 0", |header, _| header.file_length = 0),
        ("the largest length", |header, _| {
            header.file_length = u64::MAX
        }),
        ("another order", |_, sections| sections.swap(1, 2)),
        ("kinds in another order", |_, sections| {
            sections[1].kind = 3;
            sections[2].kind = 2;
        }),
        ("a section twice", |_, sections| sections[4] = sections[3]),
        ("an unknown kind", |_, sections| sections[5].kind = 99),
        ("a reserved value", |_, sections| sections[5].reserved = 1),
        ("an overlap", |_, sections| {
            sections[2].offset = sections[1].offset
        }),
        ("an overlap with the head", |_, sections| {
            sections[0].offset = 0
        }),
        ("a gap", |_, sections| sections[7].offset += 1 << 14),
        ("an odd offset", |_, sections| sections[1].offset += 1),
        ("an offset beyond the file", |_, sections| {
            sections[7].offset = 1 << 40
        }),
        ("the largest offset", |_, sections| {
            sections[7].offset = u64::MAX
        }),
        ("an end beyond 2^64", |_, sections| {
            sections[7].offset = 1 << 63;
            sections[7].length = 1 << 63;
        }),
        ("the largest section", |_, sections| {
            sections[0].length = u64::MAX
        }),
        ("a section over the next", |_, sections| {
            sections[0].length = 1 << 15
        }),
        ("a section beyond the file", |_, sections| {
            sections[7].length += 1
        }),
        ("a section too short", |_, sections| sections[7].length -= 1),
        ("empty sections", |_, sections| {
            for section in sections {
                section.length = 0;
            }
        }),
    ];
    for (what, change) in changes {
        let mut bytes = VALID.clone();
        edit_head(&mut bytes, change);
        let (code, message) = refused(what, &bytes);
        assert!(
            matches!(code, ErrorCode::Malformed | ErrorCode::Checksum),
            "{what}: {message}"
        );
    }
    let mut bytes = VALID.clone();
    let weights = Model::from_bytes(&bytes).unwrap().sections().last();
    bytes[weights.unwrap().offset as usize - 1] = 1;
    let (_, message) = refused("padding that is not zero", &bytes);
    assert!(message.contains("padding"), "{message}");
}

/// The valid file with one record of a section changed.
fn with<T: Pod>(kind: SectionKind, at: usize, change: impl FnOnce(&mut T)) -> Vec<u8> {
    let mut file = valid();
    edit(&mut file.section_mut(kind)[at..], change);
    file.to_bytes()
}

#[test]
fn hostile_shapes_are_refused() {
    // Every field is a word; each value but the true one contradicts the rest of the file.
    let values = [
        0,
        1,
        2,
        3,
        5,
        15,
        16,
        17,
        100,
        255,
        256,
        257,
        16_384,
        16_385,
        65_536,
        65_537,
        1 << 24,
        0x7F80_0000,
        i32::MAX as u32,
        1 << 31,
        0xFF80_0000,
        u32::MAX,
    ];
    for field in 0..size_of::<Shape>() / 4 {
        for value in values {
            let bytes = with(SectionKind::Shape, 4 * field, |word: &mut u32| {
                *word = value
            });
            let _ = attempt(
                format_args!("{value} in field {field} of the shape"),
                &bytes,
            );
        }
    }
    for eps in [
        0.0,
        -0.0,
        -1e-12,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1.000_001,
    ] {
        let bytes = with(SectionKind::Shape, 0, |shape: &mut Shape| {
            shape.layer_norm_eps = eps
        });
        let (_, message) = refused(format_args!("an eps of {eps}"), &bytes);
        assert!(message.contains("eps"), "{message}");
    }
    for eps in [f32::from_bits(1), f32::MIN_POSITIVE, 1.0] {
        let bytes = with(SectionKind::Shape, 0, |shape: &mut Shape| {
            shape.layer_norm_eps = eps
        });
        attempt(format_args!("an eps of {eps}"), &bytes).unwrap();
    }
    // The largest dimensions at once, with the tensor table left as it is.
    let bytes = with(SectionKind::Shape, 0, |shape: &mut Shape| {
        *shape = Shape {
            layers: limits::LAYERS,
            hidden: limits::HIDDEN,
            heads: limits::HIDDEN,
            head_size: 1,
            intermediate: limits::INTERMEDIATE,
            vocabulary: limits::VOCABULARY,
            positions: limits::POSITIONS,
            token_types: limits::TOKEN_TYPES,
            labels: limits::LABELS,
            max_tokens: limits::POSITIONS,
            ..*shape
        };
    });
    refused("the largest shape", &bytes);
}

#[test]
fn every_changed_byte_of_a_small_section_is_an_error_or_a_model() {
    for kind in SectionKind::ALL {
        if kind == SectionKind::Weights {
            continue;
        }
        for at in 0..valid().section(kind).len() {
            for change in [0x01, 0x80, 0xFF] {
                let bytes = with(kind, at, |byte: &mut u8| *byte ^= change);
                let name = kind.name();
                let what = format!("byte {at} of {name} changed by {change:#x}");
                let outcome = attempt(&what, &bytes);
                let strict = [SectionKind::Tensors].contains(&kind);
                assert!(!strict || outcome.is_err(), "{what} passes");
            }
        }
    }
}

#[test]
fn hostile_tensor_tables_are_refused() {
    let count = valid().tensors().len();
    let size = size_of::<Tensor>();
    for (model, index) in [valid(), fine()]
        .iter()
        .flat_map(|model| (0..count).map(move |index| (model, index)))
    {
        let changes: &[fn(&mut Tensor)] = &[
            |tensor| tensor.offset = u64::MAX,
            |tensor| tensor.offset += 64,
            |tensor| tensor.length = u64::MAX,
            |tensor| tensor.length = 0,
            |tensor| tensor.dims = [u32::MAX; 4],
            |tensor| tensor.dims[0] = tensor.dims[0].wrapping_mul(3),
            |tensor| tensor.dims[0] |= 1 << 31,
            |tensor| tensor.kind = 0,
            |tensor| tensor.layer += 1,
            |tensor| tensor.rank = u32::MAX,
            |tensor| tensor.data_type ^= 1 << 31,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut file = model.clone();
            let table = file.section_mut(SectionKind::Tensors);
            edit(&mut table[index * size..], |tensor: &mut Tensor| {
                change(tensor);
            });
            let bytes = file.to_bytes();
            let what = format!("change {number} of tensor {index}");
            let (_, message) = refused(&what, &bytes);
            assert!(
                message.contains(&format!("tensor table, record {index}:")),
                "{message}"
            );
        }
    }
    for length in [0, 1, size - 1, (count - 1) * size, count * size - 1] {
        let mut file = valid();
        file.section_mut(SectionKind::Tensors).truncate(length);
        refused("a short tensor table", &file.to_bytes());
    }
    let mut file = valid();
    let table = file.section_mut(SectionKind::Tensors);
    table.extend_from_within(..size);
    refused("a tensor too many", &file.to_bytes());
}

#[test]
fn hostile_labels_are_refused() {
    let labels = |change: fn(&mut Labels)| with(SectionKind::Labels, 0, change);
    let offsets =
        |change: fn(&mut [u32; 4])| with(SectionKind::Labels, size_of::<Labels>(), change);
    let text = size_of::<Labels>() + 4 * 4;
    let text = |change: fn(&mut [u8; 8])| with(SectionKind::Labels, text, change);
    for (what, bytes) in [
        ("no labels", labels(|head| head.count = 0)),
        ("2^32 labels", labels(|head| head.count = u32::MAX)),
        ("a longer text", labels(|head| head.text_length += 1)),
        (
            "the longest text",
            labels(|head| head.text_length = u32::MAX),
        ),
        ("descending offsets", offsets(|offsets| offsets.swap(1, 2))),
        ("an offset beyond", offsets(|offsets| offsets[1] = u32::MAX)),
        ("a late start", offsets(|offsets| offsets[0] = 1)),
        ("an early end", offsets(|offsets| offsets[3] -= 1)),
        ("no UTF-8", text(|text| text[0] = 0xFF)),
        (
            "half a surrogate",
            text(|text| text[..3].copy_from_slice(&[0xED, 0xA0, 0x80])),
        ),
        // UTF-8 as a whole, but not each label: `label 0` ends with byte 6.
        (
            "a character in two labels",
            text(|text| text[6..8].copy_from_slice("é".as_bytes())),
        ),
    ] {
        let (_, message) = refused(what, &bytes);
        assert!(message.contains("labels"), "{what}: {message}");
    }
    let bytes = offsets(|offsets| *offsets = [0, 0, offsets[3], offsets[3]]);
    attempt("empty labels", &bytes).unwrap();
    for length in 0..valid().section(SectionKind::Labels).len() {
        let mut file = valid();
        file.section_mut(SectionKind::Labels).truncate(length);
        refused(format_args!("{length} bytes of labels"), &file.to_bytes());
    }
}

#[test]
fn hostile_self_tests_are_refused_or_fail() {
    let head = |change: fn(&mut SelfTest)| with(SectionKind::SelfTest, 0, change);
    let case = |change: fn(&mut SelfTestCase)| {
        let second = size_of::<SelfTest>() + size_of::<SelfTestCase>();
        with(SectionKind::SelfTest, second, change)
    };
    for (what, bytes) in [
        ("no cases", head(|head| head.count = 0)),
        ("2^32 cases", head(|head| head.count = u32::MAX)),
        ("2^31 cases", head(|head| head.count = 1 << 31)),
        ("a longer text", head(|head| head.text_length += 1)),
        (
            "an offset beyond",
            case(|case| case.first_offset = u32::MAX),
        ),
        ("a length beyond", case(|case| case.first_length = u32::MAX)),
        (
            "an end beyond 2^32",
            case(|case| {
                case.first_offset = u32::MAX;
                case.first_length = u32::MAX;
            }),
        ),
        (
            "a second offset beyond",
            case(|case| {
                case.second_offset = u32::MAX;
                case.second_length = 0;
            }),
        ),
        (
            "a second length beyond",
            case(|case| case.second_length = NO_TEXT - 1),
        ),
    ] {
        let (_, message) = refused(what, &bytes);
        assert!(message.contains("selftest"), "{what}: {message}");
    }
    let bytes = case(|case| {
        case.second_offset = 0;
        case.second_length = 3;
    });
    attempt("another case", &bytes).unwrap();
    let classifier = Classifier::from_bytes(&bytes, &Options::default()).unwrap();
    assert_eq!(
        classifier.self_test().unwrap_err().code(),
        ErrorCode::SelfTest
    );
}

#[test]
fn hostile_vocabularies_are_refused_or_find_nothing() {
    let head = |change: fn(&mut Vocabulary)| with(SectionKind::Vocabulary, 0, change);
    for (what, bytes) in [
        ("more tokens", head(|head| head.tokens += 1)),
        ("2^32 tokens", head(|head| head.tokens = u32::MAX)),
        ("fewer tokens", head(|head| head.tokens -= 1)),
        ("no nodes", head(|head| head.nodes = 0)),
        ("2^30 nodes", head(|head| head.nodes = 1 << 30)),
        ("2^32 nodes", head(|head| head.nodes = u32::MAX)),
        ("2^32 added tokens", head(|head| head.added_raw = u32::MAX)),
        (
            "2^33 added tokens",
            head(|head| {
                head.added_raw = u32::MAX;
                head.added_normalized = u32::MAX;
            }),
        ),
        (
            "the longest prefix",
            head(|head| head.prefix_text = u32::MAX),
        ),
        ("unknown beyond", head(|head| head.unknown = 100)),
        (
            "classification beyond",
            head(|head| head.classification = 100),
        ),
        ("separator beyond", head(|head| head.separator = u32::MAX)),
        ("unknown flags", head(|head| head.flags = 1 << 31)),
        ("reserved values", head(|head| head.reserved[1] = 1)),
    ] {
        let (_, message) = refused(what, &bytes);
        assert!(message.contains("vocabulary"), "{what}: {message}");
    }
    for (what, bytes) in [
        (
            "the longest words",
            head(|head| head.max_word_chars = u32::MAX),
        ),
        ("no words", head(|head| head.max_word_chars = 0)),
        ("no normalizer", head(|head| head.flags = 0)),
        (
            "one token for all",
            head(|head| {
                head.unknown = 0;
                head.classification = 0;
                head.separator = 0;
            }),
        ),
    ] {
        attempt(what, &bytes).unwrap();
    }
    // The trie: all its bits and numbers the same, in reverse, and moved.
    let vocabulary: Vocabulary =
        bytemuck::pod_read_unaligned(&valid().section(SectionKind::Vocabulary)[..64]);
    let added = (vocabulary.added_raw + vocabulary.added_normalized) as usize * 16;
    let rest = added + (vocabulary.prefix_text + vocabulary.added_text) as usize;
    let trie = size_of::<Vocabulary>()..valid().section(SectionKind::Vocabulary).len() - rest;
    let words = 8 * (2 * vocabulary.nodes as usize - 1).div_ceil(64);
    for range in [
        trie.clone(),
        trie.start..trie.start + words,
        trie.start + words..trie.end,
    ] {
        for fill in [0, 0x55, 0x7F, 0xFE, 0xFF] {
            let mut file = valid();
            file.section_mut(SectionKind::Vocabulary)[range.clone()].fill(fill);
            match attempt(format_args!("a trie of {fill:#x}"), &file.to_bytes()) {
                Ok(_) => {}
                // The added tokens lie among the arrays.
                Err(error) => assert!(error.to_string().contains("added token"), "{error}"),
            }
        }
        let mut file = valid();
        file.section_mut(SectionKind::Vocabulary)[range.clone()].rotate_left(1);
        let _ = attempt("a trie that is moved", &file.to_bytes());
        file.section_mut(SectionKind::Vocabulary)[range].reverse();
        let _ = attempt("a trie in reverse", &file.to_bytes());
    }
    for length in 0..valid().section(SectionKind::Vocabulary).len() {
        let mut file = valid();
        file.section_mut(SectionKind::Vocabulary).truncate(length);
        refused(
            format_args!("{length} bytes of vocabulary"),
            &file.to_bytes(),
        );
    }
}

#[test]
fn hostile_merges_are_refused_or_make_nothing() {
    let whole = ModelFile::new(&byte_level::model());
    attempt("a byte-level BPE", &whole.to_bytes()).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = whole.clone();
        change(file.section_mut(SectionKind::Vocabulary));
        file.to_bytes()
    };
    let head = |change: fn(&mut Vocabulary)| changed(&|section| edit(section, change));
    for (what, bytes) in [
        ("another kind", head(|head| head.kind = 2)),
        ("a WordPiece", head(|head| head.kind = 0)),
        ("nodes", head(|head| head.nodes = 1)),
        ("a prefix", head(|head| head.prefix_text = 1)),
        ("an unknown token", head(|head| head.unknown = 1)),
        ("the longest word", head(|head| head.max_word_chars = 1)),
        ("more merges", head(|head| head.merges += 1)),
        ("2^32 merges", head(|head| head.merges = u32::MAX)),
        ("2^24 tokens", head(|head| head.tokens = 1 << 24)),
        ("2^32 added tokens", head(|head| head.added_raw = u32::MAX)),
        ("flags of another kind", head(|head| head.flags = 1 << 4)),
    ] {
        let (_, message) = refused(what, &bytes);
        assert!(message.contains("vocabulary"), "{what}: {message}");
    }
    for (what, bytes) in [
        ("no merges", changed(&|section| section.truncate(64))),
        ("no feature", {
            let mut bytes = whole.to_bytes();
            edit_head(&mut bytes, |header, _| header.required_features = 0);
            bytes
        }),
        ("a feature of others", {
            let mut bytes = VALID.clone();
            edit_head(&mut bytes, |header, _| {
                header.required_features = features::BYTE_LEVEL_BPE;
            });
            bytes
        }),
        ("no room for a pair", {
            let mut file = whole.clone();
            edit(file.section_mut(SectionKind::Shape), |shape: &mut Shape| {
                shape.max_tokens = 3;
            });
            file.to_bytes()
        }),
    ] {
        refused(what, &bytes);
    }
    // All numbers of the merges the same, in reverse, and moved.
    let section = whole.section(SectionKind::Vocabulary);
    let vocabulary: Vocabulary = bytemuck::pod_read_unaligned(&section[..64]);
    let starts = 64..64 + 4 * (vocabulary.tokens as usize + 1);
    let bytes = starts.end + 16 * vocabulary.added_raw as usize;
    let merges = bytes + 512..section.len() - vocabulary.added_text as usize;
    for range in [starts, merges] {
        for fill in [0, 1, 0x55, 0x7F, 0xFE, 0xFF] {
            let bytes = changed(&|section| section[range.clone()].fill(fill));
            attempt(format_args!("merges of {fill:#x}"), &bytes).unwrap();
        }
        let bytes = changed(&|section| section[range.clone()].rotate_left(1));
        attempt("merges that are moved", &bytes).unwrap();
        let bytes = changed(&|section| section[range.clone()].reverse());
        attempt("merges in reverse", &bytes).unwrap();
    }
    let beyond = changed(&|section| section[bytes..bytes + 512].fill(0xFF));
    let (_, message) = refused("a byte without token", &beyond);
    assert!(message.contains("byte"), "{message}");
}

/// Tensors of floats, whose values are checked at open.
fn float_tensors() -> Vec<Tensor> {
    let tensors = valid().tensors().into_iter();
    let is_float = |tensor: &Tensor| {
        [DataType::F32 as u32, DataType::Columns as u32].contains(&tensor.data_type)
    };
    tensors.filter(is_float).collect()
}

#[test]
fn weights_that_are_not_finite_or_far_too_large_are_refused_wherever_they_are() {
    let plain = float_tensors().into_iter().map(|tensor| (valid(), tensor));
    let fine = fine_columns()
        .into_iter()
        .map(|(_, tensor)| (fine(), tensor));
    for (model, tensor) in plain.chain(fine) {
        let columns = tensor.data_type == DataType::Columns as u32;
        for at in (0..tensor.length as usize).step_by(4) {
            // The integers among the floats.
            let within = at % size_of::<Columns>();
            if columns && (4 * PANEL..8 * PANEL).contains(&within) {
                continue;
            }
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e38] {
                let place = tensor.offset as usize + at;
                let mut file = model.clone();
                let weights = file.section_mut(SectionKind::Weights);
                edit(&mut weights[place..], |x: &mut f32| *x = value);
                let what = format!("{value} at {at} of {tensor:?}");
                let (_, message) = refused(&what, &file.to_bytes());
                assert!(message.contains("weights"), "{what}: {message}");
            }
        }
    }
}

#[test]
fn extreme_floats_are_refused_or_give_finite_logits() {
    let values = [
        0.0,
        -0.0,
        f32::from_bits(1),
        -f32::MIN_POSITIVE,
        1e-30,
        -1e-20,
        1e10,
        -1e18,
    ];
    for tensor in float_tensors() {
        for value in values {
            let mut file = valid();
            let place = tensor.offset as usize..(tensor.offset + tensor.length) as usize;
            let floats = &mut file.section_mut(SectionKind::Weights)[place];
            if tensor.data_type == DataType::Columns as u32 {
                for columns in floats.chunks_exact_mut(size_of::<Columns>()) {
                    edit(columns, |columns: &mut Columns| {
                        columns.scale = [value; PANEL]
                    });
                }
            } else {
                for float in floats.chunks_exact_mut(4) {
                    float.copy_from_slice(&value.to_le_bytes());
                }
            }
            let _ = attempt(
                format_args!("{value} all over {tensor:?}"),
                &file.to_bytes(),
            );
        }
    }
}

/// Layers' tensors of [`Columns`], and the head's.
fn column_tensors() -> Vec<(TensorKind, u32)> {
    use TensorKind as K;
    let mut all = vec![(K::HeadDenseColumns, 0), (K::ClassifierColumns, 0)];
    for layer in 0..valid().shape().layers {
        all.extend(
            [
                K::QueryKeyValueColumns,
                K::AttentionOutputColumns,
                K::FeedForwardInColumns,
                K::FeedForwardOutColumns,
            ]
            .map(|kind| (kind, layer)),
        );
    }
    all
}

fn scale_columns(tensor: &mut [u8], factor: f32) {
    for columns in tensor.chunks_exact_mut(size_of::<Columns>()) {
        edit(columns, |columns: &mut Columns| {
            columns.scale = columns.scale.map(|scale| scale * factor);
        });
    }
}

#[test]
fn rotation_is_stated_only_where_rows_can_be_rotated() {
    let mut bytes = VALID.clone();
    edit_head(&mut bytes, |header, _| {
        header.required_features |= features::ROTATION;
    });
    let (_, message) = refused("nothing to rotate", &bytes);
    assert!(message.contains("bit 2 only where"), "{message}");
}

#[test]
fn rotated_values_count_in_the_proof_of_the_range() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = SyntheticCheckpoint {
        hidden: 16,
        heads: 2,
        intermediate: 256,
        positions: 8,
        ..SyntheticCheckpoint::default()
    };
    synthetic.write(folder.path()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let package = Package::build(&checkpoint, &mut Quiet).unwrap();
    // The largest power of two by which the balance may be multiplied.
    let largest = |rotated: bool| {
        let accepted = (0..120).filter(|&power| {
            let mut file = ModelFile::new(package.bytes());
            let balance = file.tensor_mut(TensorKind::FeedForwardBalance, 0);
            for value in balance.chunks_exact_mut(4) {
                edit(value, |value: &mut f32| *value *= 2f32.powi(power));
            }
            // What reads it makes it small again, so that only the balance is in question.
            scale_columns(
                file.tensor_mut(TensorKind::FeedForwardOutColumns, 0),
                2f32.powi(-power),
            );
            let mut bytes = file.to_bytes();
            edit_head(&mut bytes, |header, _| match rotated {
                true => assert_eq!(header.required_features, features::ROTATION),
                false => header.required_features = 0,
            });
            attempt(format!("a balance times 2^{power}"), &bytes).is_ok()
        });
        accepted.max().unwrap()
    };
    assert_eq!(largest(true), largest(false) - 4);
}

#[test]
fn fine_products_are_stated_where_they_are() {
    let with_features = |file: &ModelFile, change: fn(&mut u32)| {
        let mut bytes = file.to_bytes();
        edit_head(&mut bytes, |header, _| {
            change(&mut header.required_features)
        });
        bytes
    };
    let state = |features: &mut u32| *features |= features::FINE_PRODUCTS;
    let (_, message) = refused("no fine product", &with_features(&valid(), state));
    assert!(message.contains("bit 3 only where"), "{message}");

    let deny = |features: &mut u32| *features &= !features::FINE_PRODUCTS;
    let (_, message) = refused("fine products", &with_features(&fine(), deny));
    let (columns, _) = fine_columns()[0];
    let expected = format!("tensor table, record {}:", columns - 1);
    assert!(message.contains(&expected), "{message}");

    // No product of the head is fine.
    for kind in [TensorKind::HeadDense, TensorKind::Classifier] {
        let mut file = valid();
        let index = file.tensors().iter().position(|t| t.kind == kind as u32);
        let place = index.unwrap() * size_of::<Tensor>();
        let table = file.section_mut(SectionKind::Tensors);
        for record in table[place..].chunks_exact_mut(size_of::<Tensor>()).take(2) {
            edit(record, |tensor: &mut Tensor| tensor.dims[0] *= 2);
        }
        let (_, message) = refused(format_args!("{kind:?} twice"), &with_features(&file, state));
        assert!(message.contains("bit 3 only where"), "{message}");
    }
}

#[test]
fn a_product_with_half_of_what_is_fine_is_refused() {
    for (columns, _) in fine_columns() {
        // One of the two tensors as that of a plain product, and all that follows where it is then.
        for index in [columns - 1, columns] {
            let mut file = fine();
            let mut tensors = file.tensors();
            let half = tensors[index].length / 2;
            assert!(half.is_multiple_of(64));
            tensors[index].dims[0] /= 2;
            tensors[index].length = half;
            let end = (tensors[index].offset + half) as usize;
            for tensor in &mut tensors[index + 1..] {
                tensor.offset -= half;
            }
            let weights = file.section_mut(SectionKind::Weights);
            weights.drain(end..end + half as usize);
            *file.section_mut(SectionKind::Tensors) = bytemuck::cast_slice(&tensors).to_vec();
            let what = format!("half of tensor {index}");
            let (_, message) = refused(&what, &file.to_bytes());
            let expected = format!("tensor table, record {columns}:");
            assert!(message.contains(&expected), "{what}: {message}");
        }
    }
}

#[test]
fn columns_of_what_is_left_of_weights_are_checked_as_others() {
    let record = size_of::<Columns>();
    for (_, tensor) in fine_columns() {
        let (start, half) = (tensor.offset as usize, tensor.length as usize / 2);
        // In the padding, and a sum of more than there are weights.
        let changes: &[fn(&mut Columns, usize)] = &[
            |columns, padding| columns.scale[padding] = 1e-3,
            |columns, padding| columns.sum[padding] = 1,
            |columns, padding| columns.bias[padding] = 1e-3,
            |columns, _| columns.sum[0] = 1 << 24,
            |columns, _| columns.sum[0] = i32::MIN,
        ];
        for panel in 0..half / record {
            for (number, change) in changes.iter().enumerate() {
                let mut file = fine();
                let place = start + half + panel * record;
                let weights = file.section_mut(SectionKind::Weights);
                // Each panel's last columns are padding: 6, 10 and 12 columns are padded.
                edit(&mut weights[place..], |columns| change(columns, PANEL - 1));
                let what = format!("change {number} of panel {panel} of {tensor:?}");
                let (_, message) = refused(&what, &file.to_bytes());
                assert!(
                    message.contains("zeros in the padding"),
                    "{what}: {message}"
                );
            }
        }
    }
}

#[test]
fn both_halves_of_a_fine_product_count_in_the_proof_of_the_range() {
    for (_, tensor) in fine_columns() {
        // The largest power of two by which the scales may be multiplied of those halves alone.
        let largest = |counts: [bool; 2]| {
            let accepted = (0..120).filter(|&power| {
                let mut file = fine();
                let weights = file.section_mut(SectionKind::Weights);
                let columns = &mut weights[tensor.offset as usize..][..tensor.length as usize];
                let (first, rest) = columns.split_at_mut(tensor.length as usize / 2);
                rest.copy_from_slice(first);
                for (half, counts) in [first, rest].into_iter().zip(counts) {
                    let factor = if counts { 2f32.powi(power) } else { 0.0 };
                    scale_columns(half, factor);
                }
                let what = format!("scales of {counts:?} times 2^{power} in {tensor:?}");
                attempt(what, &file.to_bytes()).is_ok()
            });
            accepted.max().unwrap()
        };
        let one = largest([true, false]);
        assert_eq!(largest([false, true]), one, "{tensor:?}");
        assert_eq!(largest([true, true]), one - 1, "{tensor:?}");
    }
}

#[test]
fn column_sums_that_are_not_the_weights_are_harmless() {
    let products = || column_tensors().into_iter();
    let plain = products().map(|product| (valid(), product));
    let fine = products().map(|product| (fine(), product));
    for (model, (kind, layer)) in plain.chain(fine) {
        for sum in [i32::MAX, i32::MIN, 1 << 24] {
            // As large as the check of the range lets pass, and as they are.
            for factor in [1.0f32, 1e3, 1e6, 1e9, 1e12, 1e13, 1e14, 1e15] {
                let mut file = model.clone();
                // The next product makes small again what this one makes large.
                for (next, layer) in column_tensors() {
                    scale_columns(file.tensor_mut(next, layer), 1e-3);
                }
                let tensor = file.tensor_mut(kind, layer);
                scale_columns(tensor, 1e3 * factor);
                for columns in tensor.chunks_exact_mut(size_of::<Columns>()) {
                    edit(columns, |columns: &mut Columns| columns.sum = [sum; PANEL]);
                }
                let what = format!("sums of {sum}, scales times {factor}, in {kind:?} of {layer}");
                let _ = attempt(what, &file.to_bytes());
            }
        }
    }
}

#[test]
fn scores_far_below_what_the_padding_of_keys_would_have_count_alone() {
    // Biases so large that the weights are lost in their rounding: every key is the same, and so
    // is every score, of either sign.
    let logits = [1e8f32, -1e8].map(|key| {
        let mut file = valid();
        let shape = file.shape();
        let (heads, size) = (shape.heads as usize, (shape.hidden / shape.heads) as usize);
        assert!(size <= PANEL, "a panel a head");
        for layer in 0..shape.layers {
            let tensor = file.tensor_mut(TensorKind::QueryKeyValueColumns, layer);
            let panels = tensor.chunks_exact_mut(size_of::<Columns>());
            for (number, columns) in panels.take(2 * heads).enumerate() {
                let bias = if number < heads { 1e8 } else { key };
                edit(columns, |columns: &mut Columns| {
                    columns.bias[..size].fill(bias);
                });
            }
        }
        attempt(format_args!("key biases of {key}"), &file.to_bytes()).unwrap()
    });
    assert_eq!(logits[0], logits[1]);
}

#[test]
fn values_in_the_padding_are_harmless() {
    // The model's 12 columns are padded to 16. Rows that are zero but for their padding, whose
    // sum is zero, have no variance: whatever counts in a norm is then divided by eps.
    for eps in [1e-12, f32::from_bits(1)] {
        for scale in [1.0, 1e6, 1e12, 1e14] {
            let mut file = valid();
            edit(file.section_mut(SectionKind::Shape), |shape: &mut Shape| {
                shape.layer_norm_eps = eps;
            });
            for row in file
                .tensor_mut(TensorKind::WordRows, 0)
                .chunks_exact_mut(16)
            {
                row.fill(0);
                row[12..].copy_from_slice(&[127, 129, 127, 129]);
            }
            file.tensor_mut(TensorKind::PositionRows, 0).fill(0);
            file.tensor_mut(TensorKind::TokenTypeRows, 0).fill(0);
            for value in file
                .tensor_mut(TensorKind::WordScales, 0)
                .chunks_exact_mut(4)
            {
                value.copy_from_slice(&f32::to_le_bytes(scale));
            }
            for norm_weight in [1.0f32, 1e10, 1e15] {
                let mut file = file.clone();
                let norm = file.tensor_mut(TensorKind::EmbeddingNorm, 0);
                for value in norm[..64].chunks_exact_mut(4) {
                    value.copy_from_slice(&norm_weight.to_le_bytes());
                }
                let what = format!("padding of {scale}, eps {eps}, norm weights of {norm_weight}");
                let _ = attempt(what, &file.to_bytes());
            }
        }
    }
}

/// Fills the weights' bytes of every integer tensor.
fn filled_with(value: i8) -> Vec<u8> {
    let mut file = valid();
    for tensor in file.tensors() {
        if tensor.data_type == DataType::I8 as u32 {
            let place = tensor.offset as usize..(tensor.offset + tensor.length) as usize;
            file.section_mut(SectionKind::Weights)[place].fill(value as u8);
        }
    }
    file.to_bytes()
}

#[test]
fn integer_weights_may_be_anything_but_verify_refuses_what_no_converter_writes() {
    for value in [-128, -127, 0, 127] {
        let bytes = filled_with(value);
        let outcome = attempt(format_args!("weights of {value}"), &bytes);
        if value != -128 {
            outcome.unwrap();
        } else if outcome.is_ok() {
            let error = Model::from_bytes(&bytes).unwrap().verify().unwrap_err();
            assert_eq!(error.code(), ErrorCode::Malformed);
            assert!(error.to_string().contains("-128"));
        }
    }
}

#[test]
fn verify_detects_every_changed_byte_of_the_weights() {
    let model = Model::from_bytes(&*VALID).unwrap();
    let section = model.sections().last().unwrap();
    assert_eq!(section.name, "weights");
    let mut bytes = VALID.clone();
    for at in section.offset as usize..VALID.len() {
        bytes[at] ^= 1 << (at % 8);
        let detected = Model::from_bytes(&bytes).and_then(|model| model.verify());
        assert!(detected.is_err(), "byte {at}");
        bytes[at] = VALID[at];
    }
    Model::from_bytes(&bytes).unwrap().verify().unwrap();
}

#[test]
fn verify_refuses_what_lies_between_tensors() {
    let tensors = valid().tensors();
    let (before, after) = tensors
        .iter()
        .zip(&tensors[1..])
        .find(|(a, b)| a.offset + a.length < b.offset)
        .expect("a tensor whose length is no multiple of 64");
    assert!(before.offset < after.offset);
    let place = (before.offset + before.length) as usize;
    let bytes = with(SectionKind::Weights, place, |byte: &mut u8| *byte = 1);
    let error = Model::from_bytes(&bytes).and_then(|model| model.verify());
    assert!(error.unwrap_err().to_string().contains("between tensors"));
}

/// Words that are more likely than others to do harm.
const WORDS: &[u32] = &[
    0,
    1,
    2,
    0x7F,
    0xFFFF,
    1 << 24,
    0x7F7F_FFFF,
    0x7F80_0000,
    0x7FC0_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFF7F_FFFF,
    0xFFFF_FFFE,
    u32::MAX,
];

/// Changes one to eight places of some section.
fn mutate(random: &mut Random, file: &mut ModelFile) -> String {
    use SectionKind as S;
    let mut what = String::new();
    for _ in 0..1 + random.below(8) {
        let kind = random.choose(&[
            S::Shape,
            S::Labels,
            S::Vocabulary,
            S::Vocabulary,
            S::SelfTest,
            S::Weights,
            S::Weights,
            S::Weights,
        ]);
        let tensors = file.tensors();
        let section = file.section_mut(kind);
        let length = section.len().max(1);
        let at = random.below(length);
        let word = at & !3;
        let choice = random.below(if kind == S::Weights { 8 } else { 5 });
        what.push_str(&format!("{} {choice} at {at}; ", kind.name()));
        match choice {
            0 if !section.is_empty() => section[at] = random.bits() as u8,
            1 if word + 4 <= section.len() => {
                section[word..word + 4].copy_from_slice(&random.choose(WORDS).to_le_bytes());
            }
            2 if word + 4 <= section.len() => edit(&mut section[word..], |x: &mut u32| {
                *x = x.wrapping_add(random.choose(&[1, 2, u32::MAX, 16, 1 << 16]));
            }),
            3 if !section.is_empty() => {
                let end = section.len().min(at + random.below(64));
                let last = section.len() - (end - at);
                section.copy_within(at..end, random.below(last + 1));
            }
            4 if kind != S::Weights && random.below(8) == 0 => section.truncate(at),
            // Weights: whole tensors, to extremes that may well pass the checks.
            _ if kind == S::Weights && !section.is_empty() => {
                let tensor = tensors[random.below(tensors.len())];
                let place = tensor.offset as usize..(tensor.offset + tensor.length) as usize;
                change_tensor(random, tensor.data_type, &mut section[place]);
            }
            _ => {}
        }
    }
    what
}

fn change_tensor(random: &mut Random, data_type: u32, bytes: &mut [u8]) {
    let power = 2f32.powi(random.below(140) as i32 - 90);
    if data_type == DataType::F32 as u32 {
        for float in bytes.chunks_exact_mut(4) {
            edit(float, |x: &mut f32| *x *= power);
        }
    } else if data_type == DataType::Columns as u32 {
        let choice = random.below(4);
        for columns in bytes.chunks_exact_mut(size_of::<Columns>()) {
            edit(columns, |columns: &mut Columns| match choice {
                0 => columns.scale = columns.scale.map(|x| x * power),
                1 => columns.bias = columns.bias.map(|x| x * power),
                2 => columns.sum = columns.sum.map(|_| random.bits() as i32),
                _ => columns.scale = columns.scale.map(|_| power),
            });
        }
    } else {
        let fill = random.choose(&[-128i8, -127, 0, 1, 127]) as u8;
        let random_values = random.below(2) == 0;
        for byte in bytes {
            *byte = if random_values {
                random.bits() as u8
            } else {
                fill
            };
        }
    }
}

/// Opens and tries mutated files; returns how many were models, and a hash of their logits.
fn run_mutations(seed: u64, files: usize) -> (usize, u64) {
    let mut random = Random::new(seed);
    let (mut models, mut hash) = (0, 0xCBF2_9CE4_8422_2325u64);
    for number in 0..files {
        let mut file = [valid, valid, fine][number % 3]();
        let what = mutate(&mut random, &mut file);
        let bytes = file.to_bytes();
        let what = format!("mutation {number} of seed {seed}: {what}");
        if let Ok(logits) = attempt(&what, &bytes) {
            models += 1;
            for bits in &logits {
                hash = (hash ^ u64::from(*bits)).wrapping_mul(0x100_0000_01B3);
            }
            if number % 16 == 0 {
                assert_eq!(try_file(&bytes, 2).unwrap(), logits, "2 threads, {what}");
            }
        }
    }
    (models, hash)
}

#[test]
fn random_mutations_are_errors_or_models_first_half() {
    let (models, _) = run_mutations(1, 20_000);
    assert!(
        models > 1000,
        "only {models} mutations reach the arithmetic"
    );
}

#[test]
fn random_mutations_are_errors_or_models_second_half() {
    let (models, _) = run_mutations(2, 20_000);
    assert!(
        models > 1000,
        "only {models} mutations reach the arithmetic"
    );
}

/// In a child process: prints the hash and nothing else.
const CHILD: &str = "FILBERT_TEST_HOSTILE_CHILD";

#[test]
fn hostile_models_give_the_same_bits_on_every_kernel_set() {
    let run = || {
        let (models, hash) = run_mutations(3, 3_000);
        let hash = [-128, -127, 127].into_iter().fold(hash, |hash, value| {
            let logits = attempt("filled weights", &filled_with(value)).unwrap_or_default();
            logits.iter().fold(hash, |hash, &bits| {
                (hash ^ u64::from(bits)).wrapping_mul(0x100_0000_01B3)
            })
        });
        format!("hash {models} {hash:016x}")
    };
    if std::env::var_os(CHILD).is_some() {
        println!("\n{}", run());
        return;
    }
    let name = "hostile_models_give_the_same_bits_on_every_kernel_set";
    let mut hashes = Vec::new();
    let outputs = kernel_sets::run_each(|child| {
        child.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
    });
    for (isa, output) in outputs {
        let (out, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let hash = out.lines().find(|line| line.starts_with("hash "));
        let hash = hash.unwrap_or_else(|| panic!("{isa}: {out}{errors}"));
        hashes.push((isa, hash.to_owned()));
    }
    println!("{hashes:?}");
    assert!(
        hashes.iter().all(|(_, hash)| *hash == hashes[0].1),
        "{hashes:?}"
    );
}

/// The message of a path that cannot be opened as a model.
fn open_error(path: &Path) -> (ErrorCode, String) {
    let error = Model::open(path).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with(&path.display().to_string()),
        "{message}"
    );
    assert_eq!(Classifier::open(path).unwrap_err().to_string(), message);
    (error.code(), message)
}

#[test]
fn paths_that_are_no_model_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.filbert");
    let (code, message) = open_error(&path);
    assert_eq!(code, ErrorCode::Io);
    assert!(message.contains("No such file"), "{message}");

    let (code, message) = open_error(folder.path());
    assert_eq!(code, ErrorCode::Io);
    assert!(message.contains("expected a .filbert file"), "{message}");

    for contents in [
        &b""[..],
        b"\x89",
        b"I loved this film.\n",
        &[0; 63],
        &[0; 64],
        &[0; 100_000],
        &[b' '; 100_000],
        // A transfer in text mode.
        &String::from_utf8_lossy(&VALID)
            .replace("\r\n", "\n")
            .into_bytes(),
    ] {
        std::fs::write(&path, contents).unwrap();
        let (code, message) = open_error(&path);
        assert_eq!(code, ErrorCode::NotAModel);
        assert!(
            message.contains("make one with `filbert convert`"),
            "{message}"
        );
    }

    std::fs::write(&path, &VALID[..VALID.len() - 1]).unwrap();
    let (code, message) = open_error(&path);
    assert_eq!(code, ErrorCode::Malformed);
    assert!(
        message.contains("file length") && message.contains("convert"),
        "{message}"
    );

    std::fs::write(&path, &*VALID).unwrap();
    let mapped = Classifier::open(&path).unwrap();
    let copied = Classifier::from_bytes(&*VALID, &Options::default()).unwrap();
    let logits = |classifier: &Classifier| bits(classifier.classify("a").unwrap().logits());
    assert_eq!(logits(&mapped), logits(&copied));
}

#[test]
fn hostile_texts_have_a_defined_answer() {
    let classifier = Classifier::from_bytes(&*VALID, &Options::default()).unwrap();
    let refuse = Options::new().truncation(Truncation::Refuse);
    let refusing = Classifier::from_bytes(&*VALID, &refuse).unwrap();
    let million = |part: &str| part.repeat((1 << 20) / part.len());
    for text in [
        String::new(),
        "\0".to_owned(),
        " \t\r\n\u{3000}".to_owned(),
        "\u{FFFD}\u{FEFF}\u{10FFFF}\u{E000}".to_owned(),
        million("a"),
        million("word1 "),
        million("[SEP]"),
        million("[MASK"),
        million(" "),
        million("\0"),
        // Marks without a letter, and in an order that normalization changes.
        million("\u{0301}\u{0316}"),
        million("\u{1D160}"),
        million("\u{FDFA}"),
        million("映"),
        million("👨‍👩‍👧"),
        million("İ"),
    ] {
        let start = text.chars().take(8).collect::<String>();
        let (result, peak) = measure(|| classifier.classify(&text).unwrap());
        assert!(result.logits().iter().all(|x| x.is_finite()), "{start:?}");
        assert!((2..=8).contains(&result.tokens()));
        assert!(peak < 32 << 20, "{start:?}: {peak} bytes");
        let pair = classifier.classify_pair(&text, &text).unwrap();
        assert!((3..=8).contains(&pair.tokens()));
        match refusing.classify(&text) {
            Ok(same) => assert_eq!(same, result),
            Err(error) => {
                assert!(result.truncated());
                assert_eq!(error.code(), ErrorCode::TextTooLong);
            }
        }
    }
}
