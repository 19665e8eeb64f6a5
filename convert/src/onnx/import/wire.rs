//! The fields of a protobuf message, where they lie.
//!
//! A model is nearly all weights. So the large messages are walked, and only small ones are
//! decoded: no weight is copied, and what a file can make us allocate is a small multiple of
//! what it has outside its tensors.

use std::ops::Range;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::Error;

/// One field of a message.
pub(super) struct Field {
    /// Its number in onnx.proto.
    pub(super) number: u32,
    /// Where its key begins.
    start: usize,
    /// Where the value lies: for a message, a string or bytes, what follows the length.
    pub(super) value: Range<usize>,
}

/// The most fields of a message that is decoded. Graphs have more, and are walked.
const MOST_FIELDS: usize = 1 << 20;

/// The fields of the message that lies at `place` of a file, one after another.
pub(super) fn walk(
    file: &[u8],
    place: Range<usize>,
) -> impl Iterator<Item = Result<Field, Error>> + '_ {
    let Range { mut start, end } = place;
    std::iter::from_fn(move || {
        if start == end {
            return None;
        }
        let field = field(file, start, end).map_err(|what| {
            Error::new(format!(
                "not a valid ONNX file: at byte {start}, {what}; download or export it again"
            ))
        });
        start = field.as_ref().map_or(end, |field| field.value.end);
        Some(field)
    })
}

/// All fields of the message that lies at `place` of a file.
pub(super) fn fields(file: &[u8], place: Range<usize>) -> Result<Vec<Field>, Error> {
    let start = place.start;
    let fields: Vec<Field> = walk(file, place)
        .take(MOST_FIELDS + 1)
        .collect::<Result<_, _>>()?;
    if fields.len() > MOST_FIELDS {
        return Err(Error::new(format!(
            "not a usual ONNX file: the message at byte {start} has more than {MOST_FIELDS} fields"
        )));
    }
    Ok(fields)
}

/// The field that begins at `start` of a message that ends at `end`.
fn field(file: &[u8], start: usize, end: usize) -> Result<Field, String> {
    let mut rest = &file[start..end];
    let (number, wire_type) = decode_key(&mut rest).map_err(|error| error.to_string())?;
    let length = match wire_type {
        WireType::Varint => {
            let mut after = rest;
            decode_varint(&mut after).map_err(|error| error.to_string())?;
            rest.len() - after.len()
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            let length = decode_varint(&mut rest).map_err(|error| error.to_string())?;
            usize::try_from(length).unwrap_or(usize::MAX)
        }
        WireType::StartGroup | WireType::EndGroup => {
            return Err("there is a group, which ONNX does not have".to_owned());
        }
    };
    if length > rest.len() {
        return Err(format!(
            "a field of {length} bytes passes the end of what it is in"
        ));
    }
    let value = end - rest.len();
    Ok(Field {
        number,
        start,
        value: value..value + length,
    })
}

/// Decodes a message from those of its fields that `wanted` takes.
pub(super) fn decode<M: Message + Default>(
    file: &[u8],
    fields: &[Field],
    wanted: impl Fn(u32) -> bool,
) -> Result<M, Error> {
    let kept: Vec<&[u8]> = fields
        .iter()
        .filter(|field| wanted(field.number))
        .map(|field| &file[field.start..field.value.end])
        .collect();
    M::decode(kept.concat().as_slice()).map_err(|error| {
        Error::new(format!(
            "not a valid ONNX file: {error}; download or export it again"
        ))
    })
}
