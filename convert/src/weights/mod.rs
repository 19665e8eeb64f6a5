//! The weights of a checkpoint folder: named tensors in mapped files, one or several.

pub mod safetensors;

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
    range: Range<usize>,
}

/// The data types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DataType {
    F32,
    F16,
    BF16,
}

impl DataType {
    /// Bytes of one value.
    const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// Reads values that follow one another.
    fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
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
    /// Some values, numbered row-major, as float32; `file` has all bytes of the file.
    ///
    /// # Panics
    /// If the tensor does not have them, or `file` is not the one that was read.
    pub fn read(&self, file: &[u8], values: Range<usize>) -> Vec<f32> {
        let size = self.data_type.size();
        let bytes = &file[self.range.clone()];
        self.data_type
            .read(&bytes[values.start * size..values.end * size])
    }
}

/// One mapped file of weights.
pub(crate) struct WeightFile {
    pub(crate) path: PathBuf,
    pub(crate) map: Mmap,
    pub(crate) tensors: Tensors,
}

impl WeightFile {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let map = map_file(&path)?;
        let tensors = safetensors::read(&map, &path)?;
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

/// Opens the weights of a folder: `model.safetensors`, or the shards of its index.
pub(crate) fn open(folder: &Path) -> Result<Vec<WeightFile>, Error> {
    let single = folder.join(safetensors::FILE_NAME);
    if single.exists() {
        return Ok(vec![WeightFile::open(single)?]);
    }
    let index = folder.join(safetensors::INDEX_FILE_NAME);
    if index.exists() {
        return open_index(folder, &index);
    }
    let other_formats = [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "tf_model.h5",
        "flax_model.msgpack",
    ];
    for name in other_formats {
        if folder.join(name).exists() {
            return Err(Error::in_file(
                folder,
                format!(
                    "found {name}, but only safetensors are read; save the model as one, in \
                     Python: AutoModelForSequenceClassification.from_pretrained(folder)\
                     .save_pretrained(folder, safe_serialization=True)"
                ),
            ));
        }
    }
    Err(Error::in_file(
        folder,
        format!(
            "found neither {} nor {}; one of them holds the weights",
            safetensors::FILE_NAME,
            safetensors::INDEX_FILE_NAME
        ),
    ))
}

/// Opens the files that an index names.
fn open_index(folder: &Path, index: &Path) -> Result<Vec<WeightFile>, Error> {
    let in_index = |message: String| Error::in_file(index, message);
    let bytes = fs::read(index).map_err(|error| in_index(error.to_string()))?;
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|error| in_index(format!("not JSON: {error}")))?;
    let weight_map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| in_index("weight_map is missing or not an object".to_owned()))?;
    let mut placed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
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
        placed.entry(name).or_default().push(tensor);
    }
    let mut files = Vec::with_capacity(placed.len());
    for (name, tensors) in placed {
        let file = WeightFile::open(folder.join(name))?;
        for tensor in tensors {
            if !file.tensors.contains_key(tensor) {
                return Err(in_index(format!(
                    "weight_map places {tensor} in {name}, which does not hold it; download or \
                     save the checkpoint again"
                )));
            }
        }
        files.push(file);
    }
    Ok(files)
}
