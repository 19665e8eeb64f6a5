//! An ONNX graph under construction, and its streaming to a file.
//!
//! Initializers hold no values until they are written, one at a time: the memory for a model
//! is that of its largest tensor. Their sizes are known beforehand, which is all that
//! protobuf's length prefixes need.

use std::collections::HashMap;
use std::io::{self, Write};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use crate::{Checkpoint, Error};

/// The operator set: the first with `Gelu`.
const OPERATOR_SET: i64 = 20;
/// The version of the file format that came with [`OPERATOR_SET`].
const IR_VERSION: i64 = 9;

/// Fields of the messages that are streamed, by their numbers in onnx.proto.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// The values of an initializer.
pub(super) enum Values {
    F32(Vec<f32>),
    I8(Vec<i8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Makes the values of one or several initializers when they are to be written.
type Load = Box<dyn Fn(&Checkpoint) -> Result<Vec<Values>, Error>>;

/// Initializers that are loaded together.
struct Initializers {
    /// Everything but the values.
    headers: Vec<TensorProto>,
    load: Load,
}

/// A dimension of an input or output.
pub(super) enum Extent {
    Named(&'static str),
    Fixed(usize),
}

/// A node's attribute. Not zero: the encoder omits zeros, and the checker misses them.
pub(super) enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
    Float(&'static str, f32),
    Text(&'static str, &'static str),
}

/// Nodes, inputs, outputs and initializers; nodes are in the order of their execution.
#[derive(Default)]
pub(super) struct Graph {
    proto: GraphProto,
    initializers: Vec<Initializers>,
    /// How many nodes have a name, but for the number at its end.
    nodes_named: HashMap<String, usize>,
}

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        Self {
            proto: GraphProto {
                name: name.to_owned(),
                ..GraphProto::default()
            },
            ..Self::default()
        }
    }

    /// Adds an int64 input and returns its name.
    pub(super) fn input(&mut self, name: &str, shape: &[Extent]) -> String {
        self.proto
            .input
            .push(value_info(name, DataType::Int64, shape));
        name.to_owned()
    }

    /// Makes a node's float32 output, which no other node reads, an output of the graph.
    pub(super) fn output(&mut self, value: &str, name: &str, shape: &[Extent]) {
        for output in self.proto.node.iter_mut().flat_map(|node| &mut node.output) {
            if output == value {
                name.clone_into(output);
            }
        }
        self.proto
            .output
            .push(value_info(name, DataType::Float, shape));
    }

    /// Adds a node of one output and returns the output's name.
    pub(super) fn node(&mut self, scope: &str, operator: &str, inputs: &[&str]) -> String {
        self.node_with(scope, operator, inputs, &[])
    }

    /// Adds a node with attributes.
    ///
    /// Its name is `scope/operator`, numbered from the second one on.
    pub(super) fn node_with(
        &mut self,
        scope: &str,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute],
    ) -> String {
        let count = self
            .nodes_named
            .entry(format!("{scope}/{operator}"))
            .or_insert(0);
        let name = match *count {
            0 => format!("{scope}/{operator}"),
            count => format!("{scope}/{operator}_{count}"),
        };
        *count += 1;
        let output = format!("{name}_output_0");
        self.proto.node.push(NodeProto {
            name,
            op_type: operator.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes.iter().map(attribute_proto).collect(),
            ..NodeProto::default()
        });
        output
    }

    /// Adds initializers that are loaded together: names, data types and shapes.
    pub(super) fn initializers(
        &mut self,
        headers: &[(&str, DataType, &[usize])],
        load: impl Fn(&Checkpoint) -> Result<Vec<Values>, Error> + 'static,
    ) {
        let headers = headers.iter().map(|&(name, data_type, shape)| TensorProto {
            name: name.to_owned(),
            data_type: data_type as i32,
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            ..TensorProto::default()
        });
        self.initializers.push(Initializers {
            headers: headers.collect(),
            load: Box::new(load),
        });
    }

    /// Adds a float32 scalar and returns its name.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> String {
        self.initializers(&[(name, DataType::Float, &[])], move |_| {
            Ok(vec![Values::F32(vec![value])])
        });
        name.to_owned()
    }

    /// Adds a list of integers, such as a shape or axes, and returns its name.
    pub(super) fn integers(&mut self, name: &str, values: Vec<i64>) -> String {
        let shape = [values.len()];
        self.initializers(&[(name, DataType::Int64, &shape)], move |_| {
            Ok(vec![Values::I64(values.clone())])
        });
        name.to_owned()
    }

    /// Writes the model that consists of this graph.
    pub(super) fn write(self, checkpoint: &Checkpoint, out: &mut dyn Write) -> Result<(), Error> {
        let failed = |error: io::Error| Error::new(format!("cannot write the ONNX file: {error}"));
        let model = ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: OPERATOR_SET,
            }],
            producer_name: "filbert".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ModelProto::default()
        };
        let graph_length = self.encoded_len();
        let total = model.encoded_len() as u64 + field_len(MODEL_GRAPH, graph_length);
        // Readers of protobuf refuse what an i32 does not count.
        if total > i32::MAX as u64 {
            return Err(Error::in_file(
                checkpoint.folder(),
                format!(
                    "as ONNX, the model would have {total} bytes, and protobuf ends at 2 GiB; \
                     such a model cannot be exported to one ONNX file"
                ),
            ));
        }

        let mut buffer = model.encode_to_vec();
        encode_length_prefix(MODEL_GRAPH, graph_length, &mut buffer);
        self.proto
            .encode(&mut buffer)
            .expect("a Vec grows as needed");
        out.write_all(&buffer).map_err(failed)?;
        for Initializers { headers, load } in &self.initializers {
            let values = load(checkpoint)?;
            assert_eq!(headers.len(), values.len());
            for (header, values) in headers.iter().zip(values) {
                let data_length = data_len(header);
                buffer.clear();
                encode_length_prefix(GRAPH_INITIALIZER, tensor_len(header), &mut buffer);
                header.encode(&mut buffer).expect("a Vec grows as needed");
                encode_length_prefix(TENSOR_RAW_DATA, data_length, &mut buffer);
                out.write_all(&buffer).map_err(failed)?;
                let written = match values {
                    Values::F32(values) => write_values(&values, f32::to_le_bytes, out),
                    Values::I8(values) => write_values(&values, i8::to_le_bytes, out),
                    Values::I32(values) => write_values(&values, i32::to_le_bytes, out),
                    Values::I64(values) => write_values(&values, i64::to_le_bytes, out),
                };
                assert_eq!(written.map_err(failed)?, data_length, "{}", header.name);
            }
        }
        out.flush().map_err(failed)
    }

    /// The length of the graph's message with all initializers.
    fn encoded_len(&self) -> u64 {
        let initializers = self
            .initializers
            .iter()
            .flat_map(|initializers| &initializers.headers)
            .map(|header| field_len(GRAPH_INITIALIZER, tensor_len(header)));
        self.proto.encoded_len() as u64 + initializers.sum::<u64>()
    }
}

/// Bytes of an initializer's values.
fn data_len(header: &TensorProto) -> u64 {
    let element = match header.data_type() {
        DataType::Float | DataType::Int32 => 4,
        DataType::Int64 => 8,
        DataType::Int8 => 1,
        other => unreachable!("no initializer is {other:?}"),
    };
    header.dims.iter().map(|&dim| dim as u64).product::<u64>() * element
}

/// Bytes of an initializer's message, values included.
fn tensor_len(header: &TensorProto) -> u64 {
    header.encoded_len() as u64 + field_len(TENSOR_RAW_DATA, data_len(header))
}

/// Bytes of a field whose value has this length.
fn field_len(field: u32, length: u64) -> u64 {
    key_len(field) as u64 + encoded_len_varint(length) as u64 + length
}

fn encode_length_prefix(field: u32, length: u64, buffer: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, buffer);
    encode_varint(length, buffer);
}

/// Writes values little-endian and returns the number of bytes.
fn write_values<T: Copy, const N: usize>(
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
    out: &mut dyn Write,
) -> io::Result<u64> {
    const AT_ONCE: usize = 16 * 1024;
    let mut buffer = Vec::with_capacity(AT_ONCE * N);
    for values in values.chunks(AT_ONCE) {
        buffer.clear();
        buffer.extend(values.iter().flat_map(|&value| to_bytes(value)));
        out.write_all(&buffer)?;
    }
    Ok((values.len() * N) as u64)
}

fn value_info(name: &str, data_type: DataType, shape: &[Extent]) -> ValueInfoProto {
    let dim = shape.iter().map(|extent| Dimension {
        value: Some(match extent {
            Extent::Named(name) => dimension::Value::DimParam((*name).to_owned()),
            Extent::Fixed(size) => dimension::Value::DimValue(*size as i64),
        }),
        ..Dimension::default()
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: data_type as i32,
                shape: Some(TensorShapeProto { dim: dim.collect() }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn attribute_proto(attribute: &Attribute) -> AttributeProto {
    let new = |name: &str, kind: AttributeType| AttributeProto {
        name: name.to_owned(),
        r#type: kind as i32,
        ..AttributeProto::default()
    };
    match attribute {
        Attribute::Int(name, value) => AttributeProto {
            i: *value,
            ..new(name, AttributeType::Int)
        },
        Attribute::Ints(name, values) => AttributeProto {
            ints: values.clone(),
            ..new(name, AttributeType::Ints)
        },
        Attribute::Float(name, value) => AttributeProto {
            f: *value,
            ..new(name, AttributeType::Float)
        },
        Attribute::Text(name, value) => AttributeProto {
            s: value.as_bytes().to_vec(),
            ..new(name, AttributeType::String)
        },
    }
}
