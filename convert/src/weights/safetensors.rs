//! Weights as safetensors.

use std::fmt;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use super::{DataType, Tensor, Tensors, Values};
use crate::Error;

/// The weights in one file.
pub const FILE_NAME: &str = "model.safetensors";
/// Which file holds which tensor, where the weights are several files.
pub const INDEX_FILE_NAME: &str = "model.safetensors.index.json";

/// Reads which tensors a file has; `path` is for errors.
pub fn read(file: &[u8], path: &Path) -> Result<Tensors, Error> {
    let damaged = |what: fmt::Arguments<'_>| {
        Error::in_file(
            path,
            format!("not a valid safetensors file: {what}; download or save it again"),
        )
    };
    let Some((length, rest)) = file.split_first_chunk() else {
        return Err(damaged(format_args!(
            "it has {} bytes, fewer than a header",
            file.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let Some(header) = header else {
        return Err(damaged(format_args!(
            "its header of {length} bytes passes the end of the file ({} bytes)",
            file.len()
        )));
    };
    // The crate's own reader of whole files adds the lengths without a check for overflow,
    // so only its validation of the header is used.
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|error| damaged(format_args!("in its header, {error}")))?;
    let data_start = size_of::<u64>() + header.len();
    if metadata.data_len() != file.len() - data_start {
        return Err(damaged(format_args!(
            "its header describes {} bytes of tensors, but {} follow",
            metadata.data_len(),
            file.len() - data_start
        )));
    }
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        let values = data_type(info.dtype)
            .map(|data_type| Values {
                data_type,
                range: data_start + start..data_start + end,
            })
            .ok_or_else(|| info.dtype.to_string());
        let shape = info.shape.clone();
        (name, Tensor { shape, values })
    });
    Ok(tensors.collect())
}

const fn data_type(data_type: Dtype) -> Option<DataType> {
    match data_type {
        Dtype::F32 => Some(DataType::F32),
        Dtype::F16 => Some(DataType::F16),
        Dtype::BF16 => Some(DataType::BF16),
        _ => None,
    }
}
