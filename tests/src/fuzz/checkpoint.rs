//! What the converter reads of a checkpoint: weights in each format, and the tokenizer's JSON.

use std::fs;
use std::path::Path;

use filbert::{Truncation, tokenize_section};
use filbert_convert::synthetic::pytorch::{archive, legacy_head};
use filbert_convert::vocabulary::VocabularySource;
use filbert_convert::weights::{self, Tensors};

/// The target `safetensors`: the header; a zero; what follows it. Whether it is taken.
///
/// # Panics
/// If a tensor that is taken cannot be read.
pub(super) fn safetensors(input: &[u8]) -> bool {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let [header, data] = [(); 2].map(|()| parts.next().unwrap_or_default());
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length, header, data].concat();
    let tensors = weights::safetensors::read(&file, Path::new("model.safetensors"));
    tensors.is_ok_and(|tensors| read_all(&file, &tensors))
}

/// In the first byte of an input of [`pytorch`]: an archive is made around a pickle, with the
/// rest of the input as the bytes of two storages.
pub(super) const ARCHIVE: u8 = 1;
/// In the first byte of an input of [`pytorch`]: the head of the old format comes before it.
pub(super) const LEGACY: u8 = 2;

/// The target `pytorch`: what to make of the rest; for an archive the length of the pickle in
/// two bytes; the rest. Whether it is taken.
///
/// # Panics
/// If a tensor that is taken cannot be read.
pub(super) fn pytorch(input: &[u8]) -> bool {
    let file = match input {
        [ARCHIVE, low, high, rest @ ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high]));
            let (pickle, storage) = rest.split_at(length.min(rest.len()));
            archive(pickle, &[storage, storage]).expect("an archive in memory")
        }
        [LEGACY, rest @ ..] => [&legacy_head(), rest].concat(),
        [_, rest @ ..] => rest.to_vec(),
        [] => return false,
    };
    let tensors = weights::pytorch::read(&file, Path::new("pytorch_model.bin"));
    tensors.is_ok_and(|tensors| read_all(&file, &tensors))
}

/// Reads every value of every tensor; there are no more than the file has bytes.
fn read_all(file: &[u8], tensors: &Tensors) -> bool {
    for (name, tensor) in tensors {
        if let Ok(values) = &tensor.values {
            let count = tensor.shape.iter().product();
            assert!(count <= file.len(), "{name}: {:?}", tensor.shape);
            assert_eq!(values.read(file, 0..count).len(), count, "{name}");
        }
    }
    true
}

/// The target `tokenizer`: the rows of the word embedding in two bytes; `tokenizer.json`;
/// a zero; `tokenizer_config.json`; a zero; `vocab.txt`. What is empty is not there. Whether it
/// is taken.
///
/// # Panics
/// If the runtime refuses what the converter takes.
pub(super) fn tokenizer(input: &[u8]) -> bool {
    let Some((rows, rest)) = input.split_first_chunk() else {
        return false;
    };
    let rows = u16::from_le_bytes(*rows);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names = ["tokenizer.json", "tokenizer_config.json", "vocab.txt"];
    for (name, content) in names.into_iter().zip(rest.splitn(3, |&byte| byte == 0)) {
        if !content.is_empty() {
            fs::write(folder.path().join(name), content).expect("a temporary file");
        }
    }
    let Ok(source) = VocabularySource::read(folder.path(), rows.into()) else {
        return false;
    };
    let section = source.section();
    let longest = Truncation::LongestFirst;
    let text = "A text, [MASK] thé 日本 aaa\u{301} don't.";
    let tokens = tokenize_section(&section, rows.into(), text, Some(text), 64, longest);
    let tokens = tokens.expect("what the converter takes, the runtime takes");
    assert!(tokens.iter().all(|token| token.id < rows.into()));
    true
}
