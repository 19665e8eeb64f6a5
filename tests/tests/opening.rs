//! Models that are not a file of their own: in a part of a file, in memory that stays, in bytes.

use std::fs::File;
use std::io::Write;

use filbert::{Classifier, ErrorCode, Model, Options};
use filbert_convert::Checkpoint;
use filbert_convert::package::Package;
use filbert_convert::progress::Quiet;
use filbert_tests::shared;

fn package() -> Vec<u8> {
    let checkpoint = Checkpoint::open(&shared::tiny_model()).unwrap();
    Package::build(&checkpoint, &mut Quiet)
        .unwrap()
        .into_bytes()
}

/// The bits of some logits.
fn answer(model: Model) -> Vec<u32> {
    model.verify().unwrap();
    let classifier = Classifier::new(model, &Options::new()).unwrap();
    classifier.self_test().unwrap();
    let result = classifier.classify("a gorgeous, witty film 😀").unwrap();
    result
        .logits()
        .iter()
        .map(|logit| logit.to_bits())
        .collect()
}

/// Bytes at an address that is `offset` more than a multiple of 16, for ever.
fn place(bytes: &[u8], offset: usize) -> &'static [u8] {
    let memory = vec![0_u128; bytes.len() / 16 + 2].leak();
    let memory: &mut [u8] = bytemuck::cast_slice_mut(memory);
    let place = &mut memory[offset..][..bytes.len()];
    place.copy_from_slice(bytes);
    place
}

#[test]
fn a_part_of_a_file_is_a_model() {
    let bytes = package();
    let expected = answer(Model::from_bytes(&bytes).unwrap());
    for offset in [0, 4, 8, 12, 60, 4096, 4100, 16380, 65540] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![0xA5; offset]).unwrap();
        file.write_all(&bytes).unwrap();
        file.write_all(b"what follows").unwrap();
        let model = Model::from_file(&file, offset as u64, bytes.len() as u64).unwrap();
        drop(file);
        assert_eq!(answer(model), expected, "at {offset}");
    }
}

#[test]
fn parts_that_are_no_model_are_refused() {
    let bytes = package();
    let length = bytes.len() as u64;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0; 8]).unwrap();
    file.write_all(&bytes).unwrap();
    let refuse = |offset, length, code, part: &str| {
        let error = Model::from_file(&file, offset, length).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    use ErrorCode::{InvalidArgument, Malformed, NotAModel};
    for offset in [1, 2, 3, 5, 7, 9] {
        refuse(offset, length, InvalidArgument, "zipalign");
    }
    refuse(8, length + 1, InvalidArgument, "offset and length");
    refuse(12, u64::MAX, InvalidArgument, "offset and length");
    refuse(u64::MAX - 3, 8, InvalidArgument, "offset and length");
    refuse(8, length - 4, Malformed, "offset 8: header, file length");
    refuse(0, length, NotAModel, "offset 0: is not a .filbert file");
    refuse(8, 0, NotAModel, "0 bytes");
    refuse(length + 8, 0, NotAModel, "0 bytes");

    let folder = File::open(shared::tiny_model()).unwrap();
    let error = Model::from_file(&folder, 0, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Io, "{error}");
}

#[test]
fn memory_that_stays_is_a_model() {
    let bytes = package();
    let expected = answer(Model::from_bytes(&bytes).unwrap());
    for offset in 0..16 {
        let model = Model::from_static(place(&bytes, offset));
        if offset % 4 == 0 {
            assert_eq!(answer(model.unwrap()), expected, "at {offset}");
        } else {
            let error = model.unwrap_err();
            assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
            // A copy is aligned.
            assert_eq!(
                answer(Model::from_bytes(place(&bytes, offset)).unwrap()),
                expected
            );
        }
    }
}
