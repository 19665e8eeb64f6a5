//! The weights of a checkpoint folder: named tensors in mapped files, one or several.

mod pickle;
pub mod pytorch;
pub mod safetensors;
mod state_dict;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use serde_json::Value;

use crate::Error;

/// The tensors of one file, in the order of their names, so that of several errors always the
/// same is told.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a file says of one tensor.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its extents, outermost first.
    pub shape: Vec<usize>,
    /// Where its values lie; for a data type that is not read, the name of that type.
    pub values: Result<Values, String>,
}

/// Where the values of a tensor lie among the bytes of its file.
#[derive(Clone, Debug)]
pub struct Values {
    data_type: DataType,
    /// From the first value to the end of the last.
    range: Range<usize>,
    /// For each dimension its extent, and from one step to the next how many values; none if
    /// they follow one another row-major.
    steps: Option<Vec<(usize, usize)>>,
}

/// The data types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataType {
    /// Rounded to the nearest float32.
    F64,
    F32,
    F16,
    BF16,
}

impl DataType {
    /// Bytes of one value.
    const fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Reads values that follow one another.
    fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => {
                let (values, _) = bytes.as_chunks();
                let values = values.iter().copied();
                values.map(|v| f64::from_le_bytes(v) as f32).collect()
            }
            Self::F32 => {
                let (values, _) = bytes.as_chunks();
                values.iter().copied().map(f32::from_le_bytes).collect()
            }
            Self::F16 => {
                let (values, _) = bytes.as_chunks();
                let values = values.iter().copied();
                values.map(|v| f16::from_le_bytes(v).to_f32()).collect()
            }
            Self::BF16 => {
                let (values, _) = bytes.as_chunks();
                let values = values.iter().copied();
                values.map(|v| bf16::from_le_bytes(v).to_f32()).collect()
            }
        }
    }
}

impl Values {
    /// Values that follow one another.
    fn contiguous(data_type: DataType, range: Range<usize>) -> Self {
        Self {
            data_type,
            range,
            steps: None,
        }
    }

    /// A view with strides, counted in values, that begins at byte `start` of the file. Nothing
    /// if it has more values than lie between its first and its last: then the file's size would
    /// not bound the memory that it takes.
    fn strided(
        data_type: DataType,
        start: usize,
        shape: &[usize],
        strides: &[usize],
    ) -> Option<Self> {
        let span = state_dict::span(shape, strides)?;
        let count = shape.iter().try_fold(1_usize, |n, &m| n.checked_mul(m))?;
        let mut values = Self::contiguous(data_type, start..start + span * data_type.size());
        if count > span {
            return None;
        }
        if count == 0 {
            return Some(values);
        }
        let mut next = 1;
        let row_major = shape.iter().zip(strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == next;
            next *= extent;
            fits
        });
        if !row_major {
            let steps = shape.iter().copied().zip(strides.iter().copied());
            values.steps = Some(steps.collect());
        }
        Some(values)
    }

    /// Some values, numbered row-major, as float32; `file` has all bytes of the file.
    ///
    /// # Panics
    /// If the tensor does not have them, or `file` is not the one that was read.
    pub fn read(&self, file: &[u8], values: Range<usize>) -> Vec<f32> {
        let size = self.data_type.size();
        let bytes = &file[self.range.clone()];
        let Some(steps) = &self.steps else {
            return self
                .data_type
                .read(&bytes[values.start * size..values.end * size]);
        };
        let place = |number: usize| {
            let mut rest = number;
            let mut place = 0;
            for (extent, stride) in steps.iter().rev() {
                place += rest % extent * stride;
                rest /= extent;
            }
            assert_eq!(rest, 0, "value {number}");
            place
        };
        let gathered: Vec<u8> = values
            .map(place)
            .flat_map(|at| &bytes[at * size..(at + 1) * size])
            .copied()
            .collect();
        self.data_type.read(&gathered)
    }
}

/// One mapped file of weights.
pub(crate) struct WeightFile {
    pub(crate) path: PathBuf,
    pub(crate) map: Mmap,
    pub(crate) tensors: Tensors,
}

/// The formats, best first: where a folder has several, transformers too takes safetensors. Of
/// each the names of the one file, and of the index of several.
pub(crate) const FILE_NAMES: [[&str; 2]; 2] = [
    [safetensors::FILE_NAME, safetensors::INDEX_FILE_NAME],
    [pytorch::FILE_NAME, pytorch::INDEX_FILE_NAME],
];

/// The tensors of a file in each format.
const READERS: [Reader; FILE_NAMES.len()] = [safetensors::read, pytorch::read];

type Reader = fn(&[u8], &Path) -> Result<Tensors, Error>;

impl WeightFile {
    fn open(path: PathBuf, read: Reader) -> Result<Self, Error> {
        let map = map_file(&path)?;
        if map.starts_with(b"version https://git-lfs") {
            return Err(Error::in_file(
                &path,
                "is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`",
            ));
        }
        let tensors = read(&map, &path)?;
        Ok(Self { path, map, tensors })
    }
}

/// Maps a file for reading: the one `unsafe` of the crate.
#[expect(unsafe_code)]
fn map_file(path: &Path) -> Result<Mmap, Error> {
    let in_file = |error| Error::in_file(path, error);
    let file = File::open(path).map_err(in_file)?;
    if !file.metadata().map_err(in_file)?.is_file() {
        return Err(Error::in_file(path, "not a regular file"));
    }
    // SAFETY: the map is read as plain bytes. That nobody truncates or rewrites a checkpoint
    // while it is converted cannot be enforced; a map has this condition on every system.
    unsafe { Mmap::map(&file) }.map_err(in_file)
}

/// Opens the weights of a folder: of the best format that it has the one file, or those that
/// the index names.
pub(crate) fn open(folder: &Path) -> Result<Vec<WeightFile>, Error> {
    for (names, read) in FILE_NAMES.iter().zip(READERS) {
        let [single, index] = names.map(|name| folder.join(name));
        if single.exists() {
            return Ok(vec![WeightFile::open(single, read)?]);
        }
        if index.exists() {
            return open_index(folder, &index, read);
        }
    }
    for (name, option) in [
        ("tf_model.h5", "from_tf"),
        ("flax_model.msgpack", "from_flax"),
    ] {
        if folder.join(name).exists() {
            return Err(Error::in_file(
                folder,
                format!(
                    "found {name}, but only safetensors and PyTorch's files are read; save the \
                     model as one, with transformers 4 in Python: \
                     AutoModelForSequenceClassification.from_pretrained(folder, {option}=True)\
                     .save_pretrained(folder)"
                ),
            ));
        }
    }
    Err(Error::in_file(
        folder,
        format!(
            "found none of {}; one of them holds the weights",
            FILE_NAMES.as_flattened().join(", ")
        ),
    ))
}

/// Opens the files that an index names.
fn open_index(folder: &Path, index: &Path, read: Reader) -> Result<Vec<WeightFile>, Error> {
    let placed = read_index(index)?;
    let mut files = Vec::with_capacity(placed.len());
    for (name, tensors) in placed {
        let file = WeightFile::open(folder.join(&name), read)?;
        for tensor in tensors {
            if !file.tensors.contains_key(&tensor) {
                return Err(Error::in_file(
                    index,
                    format!(
                        "weight_map places {tensor} in {name}, which does not hold it; download \
                         or save the checkpoint again"
                    ),
                ));
            }
        }
        files.push(file);
    }
    Ok(files)
}

/// The files that an index names, all in its own folder, with the tensors of each.
pub(crate) fn read_index(index: &Path) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let in_index = |message: String| Error::in_file(index, message);
    let bytes = fs::read(index).map_err(|error| in_index(error.to_string()))?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|error| in_index(format!("not JSON: {error}")))?;
    let weight_map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| in_index("weight_map is missing or not an object".to_owned()))?;
    let mut placed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in weight_map {
        let name = file
            .as_str()
            .filter(|name| Path::new(name).file_name() == Some(name.as_ref()))
            .ok_or_else(|| {
                in_index(format!(
                    "weight_map places {tensor} in {file}, which is not a file name in the same \
                     folder"
                ))
            })?;
        placed
            .entry(name.to_owned())
            .or_default()
            .push(tensor.clone());
    }
    Ok(placed)
}
