//! Weights as `torch.save` writes them: a pickle that says which tensors there are, beside the
//! bytes of their storages. Nothing is executed.
//!
//! Since PyTorch 1.6 the file is a ZIP archive without compression; before it was a run of
//! pickles, then the storages one after another. Both are described by
//! `torch/serialization.py`.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Object, Pickle};
use super::state_dict::{self, Storage, TensorView};
use super::{Tensor, Tensors, Values};
use crate::Error;

/// The weights in one file.
pub const FILE_NAME: &str = "pytorch_model.bin";
/// Which file holds which tensor, where the weights are several files.
pub const INDEX_FILE_NAME: &str = "pytorch_model.bin.index.json";

/// The first pickle of a file before PyTorch 1.6.
const LEGACY_MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The second.
const LEGACY_PROTOCOL: i128 = 1001;

/// Reads which tensors a file has; `path` is for errors.
pub fn read(file: &[u8], path: &Path) -> Result<Tensors, Error> {
    let tensors = if file.starts_with(b"PK") {
        read_archive(file)
    } else if file.starts_with(&[0x80]) {
        read_legacy(file)
    } else {
        Err(
            "is not what torch.save writes, neither a ZIP archive nor pickles; download or save \
             it again"
                .to_owned(),
        )
    };
    tensors.map_err(|message| Error::in_file(path, message))
}

/// Reads the format since PyTorch 1.6.
fn read_archive(file: &[u8]) -> Result<Tensors, String> {
    let mut archive = Archive::open(file)?;
    if let Some(order) = archive.find("byteorder")?
        && &file[order] != b"little"
    {
        return Err(big_endian());
    }
    let stream = archive.find("data.pkl")?.ok_or_else(|| {
        "is a ZIP archive without data.pkl, so not one that torch.save wrote".to_owned()
    })?;
    let pickle = pickle::read(&file[stream])?;
    collect(&pickle, |storage| {
        let name = format!("data/{}", storage.key);
        archive.find(&name)?.ok_or_else(|| {
            format!("has no {name}, where values should be; download or save it again")
        })
    })
}

/// A ZIP archive whose entries are all in one folder.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Of the file.
    length: usize,
    folder: String,
}

impl<'a> Archive<'a> {
    fn open(file: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(file)).map_err(damaged)?;
        let folder = zip.name_for_index(0).transpose().map_err(damaged)?;
        let folder = folder.as_deref().and_then(|name| name.split_once('/'));
        let folder = folder.map_or(String::new(), |(folder, _)| folder.to_owned());
        Ok(Self {
            zip,
            length: file.len(),
            folder,
        })
    }

    /// Where the bytes of an entry lie in the file.
    fn find(&mut self, name: &str) -> Result<Option<Range<usize>>, String> {
        let path = format!("{}/{name}", self.folder);
        let Some(number) = self.zip.index_for_name_raw(path.as_bytes()) else {
            return Ok(None);
        };
        let entry = self.zip.by_index_raw(number).map_err(damaged)?;
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            return Err(format!(
                "{path} in it is compressed or encrypted, which torch.save never does; save it \
                 again"
            ));
        }
        let start = entry.data_start().and_then(|at| usize::try_from(at).ok());
        let end = start.and_then(|start| start.checked_add(entry.size().try_into().ok()?));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.length => Ok(Some(start..end)),
            _ => Err(format!(
                "{path} in it passes the end of the file; download or save it again"
            )),
        }
    }
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("not a valid ZIP archive: {error}; download or save it again")
}

/// Reads the format before PyTorch 1.6.
fn read_legacy(file: &[u8]) -> Result<Tensors, String> {
    let mut rest = file;
    let magic = next_pickle(&mut rest)?;
    if !matches!(magic.root, Object::Int(LEGACY_MAGIC)) {
        return Err(format!(
            "is a pickle, but not one that torch.save wrote; {}",
            state_dict::SAVE_STATE_DICT
        ));
    }
    let protocol = next_pickle(&mut rest)?;
    if !matches!(protocol.root, Object::Int(LEGACY_PROTOCOL)) {
        return Err("has another protocol of torch.save than 1001".to_owned());
    }
    let system = next_pickle(&mut rest)?;
    let system = system.heap.entries(system.root).unwrap_or_default();
    let is_little = |(key, value): &(Object<'_>, Object<'_>)| {
        matches!(
            (key, value),
            (Object::Text("little_endian"), Object::Bool(true))
        )
    };
    if !system.iter().any(is_little) {
        return Err(big_endian());
    }
    let state = next_pickle(&mut rest)?;
    let keys = next_pickle(&mut rest)?;
    let places = legacy_storages(&state, &keys, file, rest)?;
    collect(&state, |storage| {
        let place = places.get(storage.key).cloned();
        place.ok_or_else(|| format!("has no storage {}", storage.key))
    })
}

fn next_pickle<'a>(rest: &mut &'a [u8]) -> Result<Pickle<'a>, String> {
    let pickle = pickle::read(rest)?;
    *rest = &rest[pickle.length..];
    Ok(pickle)
}

/// Where the storages lie: in the order of the list of keys, each after its number of values.
fn legacy_storages<'a>(
    state: &Pickle<'a>,
    keys: &Pickle<'a>,
    file: &[u8],
    mut rest: &[u8],
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let sizes: HashMap<&str, usize> = state
        .heap
        .storages
        .iter()
        .map(|storage| (storage.key, storage.storage_type.size))
        .collect();
    let keys = keys.heap.items(keys.root).ok_or("lacks its storages")?;
    let mut places = HashMap::with_capacity(keys.len());
    for &key in keys {
        let Object::Text(key) = key else {
            return Err(format!("names a storage by {}", key.kind()));
        };
        let size = *sizes
            .get(key)
            .ok_or_else(|| format!("has a storage {key} of no known type"))?;
        let short =
            || format!("its storage {key} passes the end of the file; download or save it again");
        let (count, values) = rest.split_first_chunk().ok_or_else(short)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| short())?;
        let length = count.checked_mul(size).ok_or_else(short)?;
        let (_, after) = values.split_at_checked(length).ok_or_else(short)?;
        let start = file.len() - values.len();
        places.insert(key, start..start + length);
        rest = after;
    }
    Ok(places)
}

fn big_endian() -> String {
    "was written on a big-endian machine, whose byte order is not read; save it again on another"
        .to_owned()
}

/// The tensors of a state dict, each storage at the place that `find` gives.
fn collect<'a>(
    pickle: &Pickle<'a>,
    mut find: impl FnMut(&Storage<'a>) -> Result<Range<usize>, String>,
) -> Result<Tensors, String> {
    let mut places: HashMap<&str, Range<usize>> = HashMap::new();
    let mut tensors = Tensors::new();
    for (name, number) in state_dict::tensors(pickle)? {
        let view = &pickle.heap.tensors[number];
        let storage = &pickle.heap.storages[view.storage];
        let place = match places.get(storage.key) {
            Some(place) => place.clone(),
            None => {
                let place = find(storage)?;
                places.insert(storage.key, place.clone());
                place
            }
        };
        let bytes = storage.length.checked_mul(storage.storage_type.size);
        if bytes.is_none_or(|bytes| bytes > place.len()) {
            return Err(format!(
                "its storage {} has {} bytes, too few for {} values of {}; download or save it \
                 again",
                storage.key,
                place.len(),
                storage.length,
                storage.storage_type.name
            ));
        }
        let values = values(name, view, storage, place.start)?;
        let shape = view.shape.clone();
        tensors.insert(name.to_owned(), Tensor { shape, values });
    }
    Ok(tensors)
}

/// Where the values of a tensor lie, if they are of a type that is read.
fn values(
    name: &str,
    view: &TensorView,
    storage: &Storage<'_>,
    start: usize,
) -> Result<Result<Values, String>, String> {
    let Some(data_type) = storage.storage_type.data_type else {
        return Ok(Err(storage.storage_type.name.to_owned()));
    };
    let start = start + view.offset * data_type.size();
    Values::strided(data_type, start, &view.shape, &view.strides)
        .map(Ok)
        .ok_or_else(|| {
            format!(
                "its tensor {name} of shape {:?} repeats {} stored values, so that it may be of \
                 any size; save it as tensor.contiguous()",
                view.shape, storage.length
            )
        })
}
