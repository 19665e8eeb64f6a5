//! Constant tensors: where their values lie, and how they are read.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

use super::files::Files;
use super::wire::{self, Field};
use crate::Error;

/// Fields of `TensorProto`, by their numbers in onnx.proto.
const RAW_DATA: u32 = 9;
const DOC_STRING: u32 = 12;

/// An initializer, or the value of a `Constant` node.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data_type: DataType,
    data: Data,
}

/// Where the values lie, row-major and little-endian.
#[derive(Clone, Debug)]
enum Data {
    /// In one of the files.
    Stored(usize, Range<usize>),
    /// Here, since the file does not have them in one piece.
    Here(Arc<[u8]>),
}

impl Tensor {
    /// A list of integers, or one.
    pub(super) fn integers(name: &str, shape: Vec<usize>, values: &[i64]) -> Self {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            name: name.to_owned(),
            shape,
            data_type: DataType::Int64,
            data: Data::Here(bytes.into()),
        }
    }

    /// A list of floats, or one.
    pub(super) fn floats(name: &str, shape: Vec<usize>, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            name: name.to_owned(),
            shape,
            data_type: DataType::Float,
            data: Data::Here(bytes.into()),
        }
    }

    /// Reads what the model's file says of a tensor, whose message has these fields.
    pub(super) fn read(files: &mut Files, fields: &[Field]) -> Result<Self, Error> {
        let raw = fields.iter().rfind(|field| field.number == RAW_DATA);
        let raw = raw.map(|field| field.value.clone());
        let proto: TensorProto = wire::decode(files.model(), fields, |number| {
            number != RAW_DATA && number != DOC_STRING
        })?;
        let refuse = |what: String| Error::new(format!("the tensor {:?} {what}", proto.name));
        let data_type = DataType::try_from(proto.data_type)
            .ok()
            .filter(|&data_type| size(data_type).is_some())
            .ok_or_else(|| {
                refuse(format!(
                    "has the data type {}; the floats, integers and booleans of ONNX are read",
                    DataType::try_from(proto.data_type)
                        .map_or("unknown", |data_type| data_type.as_str_name())
                ))
            })?;
        let shape = proto
            .dims
            .iter()
            .map(|&extent| usize::try_from(extent).ok());
        let shape: Option<Vec<usize>> = shape.collect();
        let bytes = shape.as_ref().and_then(|shape| {
            shape
                .iter()
                .try_fold(size(data_type)?, |bytes, &extent| bytes.checked_mul(extent))
        });
        let (Some(shape), Some(bytes)) = (shape, bytes) else {
            return Err(refuse(format!("has the impossible shape {:?}", proto.dims)));
        };
        let data = if proto.data_location() == DataLocation::External {
            let (file, range) = external(files, &proto, bytes).map_err(refuse)?;
            Data::Stored(file, range)
        } else if let Some(range) = raw {
            Data::Stored(Files::MODEL, range)
        } else {
            Data::Here(typed_values(&proto, data_type).into())
        };
        let length = match &data {
            Data::Stored(_, range) => range.len(),
            Data::Here(bytes) => bytes.len(),
        };
        if length != bytes {
            return Err(refuse(format!(
                "has {length} bytes of values, but its shape {shape:?} needs {bytes}; download or \
                 export the model again"
            )));
        }
        Ok(Self {
            name: proto.name,
            shape,
            data_type,
            data,
        })
    }

    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether its values are floats.
    pub(super) fn is_float(&self) -> bool {
        use DataType as T;
        matches!(
            self.data_type,
            T::Float | T::Float16 | T::Bfloat16 | T::Double
        )
    }

    /// Some values of a tensor of floats, as float32.
    ///
    /// # Panics
    /// If it has no floats, or not these.
    pub(super) fn read_floats(&self, files: &Files, values: Range<usize>) -> Vec<f32> {
        let bytes = self.bytes(files, values);
        match self.data_type {
            DataType::Float => each(bytes, f32::from_le_bytes),
            DataType::Float16 => each(bytes, |value| f16::from_le_bytes(value).to_f32()),
            DataType::Bfloat16 => each(bytes, |value| bf16::from_le_bytes(value).to_f32()),
            DataType::Double => each(bytes, |value| f64::from_le_bytes(value) as f32),
            other => panic!("{} has {}, not floats", self.name, other.as_str_name()),
        }
    }

    /// Some values of a tensor of integers or booleans.
    ///
    /// # Panics
    /// If it has floats, or not these.
    pub(super) fn read_integers(&self, files: &Files, values: Range<usize>) -> Vec<i64> {
        let bytes = self.bytes(files, values);
        match self.data_type {
            DataType::Int8 => each(bytes, |value| i8::from_le_bytes(value).into()),
            DataType::Uint8 | DataType::Bool => each(bytes, |[value]| value.into()),
            DataType::Int16 => each(bytes, |value| i16::from_le_bytes(value).into()),
            DataType::Uint16 => each(bytes, |value| u16::from_le_bytes(value).into()),
            DataType::Int32 => each(bytes, |value| i32::from_le_bytes(value).into()),
            DataType::Uint32 => each(bytes, |value| u32::from_le_bytes(value).into()),
            DataType::Int64 => each(bytes, i64::from_le_bytes),
            other => panic!("{} has {}, not integers", self.name, other.as_str_name()),
        }
    }

    /// Some values of a tensor of 8-bit integers.
    ///
    /// # Panics
    /// If it has others, or not these.
    pub(super) fn read_8_bit(&self, files: &Files, values: Range<usize>) -> Vec<i16> {
        let bytes = self.bytes(files, values);
        match self.data_type {
            DataType::Int8 => each(bytes, |value| i8::from_le_bytes(value).into()),
            DataType::Uint8 => each(bytes, |[value]| value.into()),
            other => panic!("{} has {}, not 8 bits", self.name, other.as_str_name()),
        }
    }

    fn bytes<'a>(&'a self, files: &'a Files, values: Range<usize>) -> &'a [u8] {
        let size = size(self.data_type).expect("checked when it was read");
        let bytes = match &self.data {
            Data::Stored(file, range) => &files.bytes(*file)[range.clone()],
            Data::Here(bytes) => bytes,
        };
        &bytes[values.start * size..values.end * size]
    }
}

/// Bytes of one value, if the type is read.
const fn size(data_type: DataType) -> Option<usize> {
    use DataType as T;
    match data_type {
        T::Int8 | T::Uint8 | T::Bool => Some(1),
        T::Int16 | T::Uint16 | T::Float16 | T::Bfloat16 => Some(2),
        T::Float | T::Int32 | T::Uint32 => Some(4),
        T::Double | T::Int64 => Some(8),
        _ => None,
    }
}

fn each<T, const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (values, _) = bytes.as_chunks();
    values.iter().copied().map(read).collect()
}

/// The values of the fields that hold each type on its own, where there are no raw bytes.
fn typed_values(proto: &TensorProto, data_type: DataType) -> Vec<u8> {
    use DataType as T;
    // The types below 32 bits are in `int32_data`, which holds their bits.
    let narrow = |size: usize| -> Vec<u8> {
        let values = proto.int32_data.iter();
        values
            .flat_map(|value| value.to_le_bytes().into_iter().take(size))
            .collect()
    };
    match data_type {
        T::Float => proto
            .float_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        T::Double => proto
            .double_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        T::Int64 => proto
            .int64_data
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        T::Uint32 => {
            let values = proto.uint64_data.iter();
            values.flat_map(|&v| (v as u32).to_le_bytes()).collect()
        }
        other => narrow(size(other).unwrap_or(0)),
    }
}

/// The file and the place of values outside the model's file; an error is what is said of the
/// tensor.
fn external(
    files: &mut Files,
    proto: &TensorProto,
    bytes: usize,
) -> Result<(usize, Range<usize>), String> {
    let entry = |key: &str| {
        let entry = proto.external_data.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.as_str())
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| format!("has external data whose {key} is {text:?}, no number of bytes")),
    };
    let location =
        entry("location").ok_or_else(|| "has external data without a location".to_owned())?;
    let start = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(bytes);
    let file = files
        .external(Path::new(location))
        .map_err(|error| format!("has its values in {location:?}: {error}"))?;
    let end = start
        .checked_add(length)
        .filter(|&end| end <= files.bytes(file).len())
        .ok_or_else(|| {
            format!(
                "has its values in {location:?} at {start}, {length} bytes of them, but that file \
                 has {} bytes; download or export both files again",
                files.bytes(file).len()
            )
        })?;
    Ok((file, start..end))
}
