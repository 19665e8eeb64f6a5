//! A model in float32 as `quantize_dynamic` of ONNX Runtime writes it: the matrices of products
//! and the tables of embeddings in 8 bits, and the inputs of products quantized when it runs.

use std::collections::{HashMap, HashSet};
use std::{iter, mem};

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// Which values of the matrix of a product share a scale and a zero point.
#[derive(Clone, Copy)]
pub(super) enum Steps {
    OfTensor,
    OfChannels,
}

/// An export of ours in integers of a type, `Int8` or `Uint8`.
pub(super) fn quantize_dynamic(model: &[u8], data_type: DataType, steps: Steps) -> Vec<u8> {
    let mut model = ModelProto::decode(model).expect("an export");
    let graph = model.graph.as_mut().expect("an export");
    let matrices: HashSet<String> = graph
        .initializer
        .iter()
        .filter(|tensor| tensor.dims.len() == 2)
        .map(|tensor| tensor.name.clone())
        .collect();
    let mut quantized = HashMap::new();
    let mut inputs = HashSet::new();
    for mut node in mem::take(&mut graph.node) {
        match (node.op_type.as_str(), node.input.as_slice()) {
            ("MatMul", [input, matrix]) if matrices.contains(matrix) => {
                // Queries, keys and values have the same input.
                if inputs.insert(input.clone()) {
                    graph.node.push(quantize(input));
                }
                graph.node.extend(product(input, matrix, &node.output[0]));
                quantized.insert(matrix.clone(), steps);
            }
            ("Gather", [table, _]) if matrices.contains(table) => {
                let rows = mem::take(&mut node.output[0]);
                let [integers, scale, zero_point] = quantized_names(table);
                quantized.insert(table.clone(), Steps::OfTensor);
                node.input[0] = integers;
                node.output[0] = format!("{rows}_quantized");
                let inputs = [&node.output[0], &scale, &zero_point];
                let dequantize = self::node("DequantizeLinear", inputs, [&rows]);
                graph.node.extend([node, dequantize]);
            }
            _ => graph.node.push(node),
        }
    }
    for tensor in mem::take(&mut graph.initializer) {
        match quantized.get(&tensor.name) {
            Some(&steps) => {
                let tensors = integers(&tensor, data_type, steps);
                graph.initializer.extend(tensors);
            }
            None => graph.initializer.push(tensor),
        }
    }
    shorten_names(graph);
    model.encode_to_vec()
}

/// What a tensor in integers is called, its scale and its zero point.
fn quantized_names(name: &str) -> [String; 3] {
    ["quantized", "scale", "zero_point"].map(|part| format!("{name}_{part}"))
}

/// The node that quantizes the input of products.
fn quantize(input: &str) -> NodeProto {
    let outputs = quantized_names(input);
    node("DynamicQuantizeLinear", [input], outputs.each_ref())
}

/// The nodes of a product with a quantized matrix.
fn product(input: &str, matrix: &str, output: &str) -> [NodeProto; 4] {
    let [input, input_scale, input_zero_point] = quantized_names(input);
    let [matrix, matrix_scale, matrix_zero_point] = quantized_names(matrix);
    let [sums, floats, scale] =
        ["integers", "floats", "scale"].map(|part| format!("{output}_{part}"));
    let operands = [&input, &matrix, &input_zero_point, &matrix_zero_point];
    let mut cast = node("Cast", [&sums], [&floats]);
    cast.attribute.push(AttributeProto {
        name: "to".to_owned(),
        r#type: AttributeType::Int as i32,
        i: DataType::Float as i64,
        ..AttributeProto::default()
    });
    [
        node("MatMulInteger", operands, [&sums]),
        cast,
        node("Mul", [&input_scale, &matrix_scale], [&scale]),
        node("Mul", [&floats, &scale], [output]),
    ]
}

fn node<const I: usize, const O: usize>(
    operator: &str,
    inputs: [impl AsRef<str>; I],
    outputs: [impl AsRef<str>; O],
) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.map(|name| name.as_ref().to_owned()).into(),
        output: outputs.map(|name| name.as_ref().to_owned()).into(),
        ..NodeProto::default()
    }
}

/// A matrix in integers, its scales and its zero points. These are not in the middle, so that
/// there are rows that the importer quantizes again.
fn integers(matrix: &TensorProto, data_type: DataType, steps: Steps) -> [TensorProto; 3] {
    let (values, _) = matrix.raw_data.as_chunks();
    let values: Vec<f32> = values.iter().copied().map(f32::from_le_bytes).collect();
    let dims = match steps {
        Steps::OfTensor => vec![],
        Steps::OfChannels => vec![matrix.dims[1]],
    };
    let channels = dims.first().map_or(1, |&channels| channels as usize);
    let steps: Vec<(f32, f32)> = (0..channels)
        .map(|channel| {
            let values = values.iter().skip(channel).step_by(channels);
            let (low, high) = values.fold((0f32, 0f32), |(low, high), &value| {
                (low.min(value), high.max(value))
            });
            let scale = (high - low) / f32::from(u8::MAX);
            (scale, (-low / scale).round())
        })
        .collect();
    // From 0 to 255; of signed integers 128 less, which is the highest bit.
    let sign = if data_type == DataType::Int8 { 0x80 } else { 0 };
    let byte = |steps: f32| steps.round() as u8 ^ sign;
    let quantized = iter::zip(&values, steps.iter().cycle())
        .map(|(value, (scale, zero_point))| byte(value / scale + zero_point));
    let scales = steps.iter().flat_map(|(scale, _)| scale.to_le_bytes());
    let zero_points = steps.iter().map(|&(_, zero_point)| byte(zero_point));
    let [quantized_name, scale_name, zero_point_name] = quantized_names(&matrix.name);
    let tensor = |name, dims: &[i64], data_type: DataType, raw_data| TensorProto {
        name,
        dims: dims.to_vec(),
        data_type: data_type as i32,
        raw_data,
        ..TensorProto::default()
    };
    [
        tensor(quantized_name, &matrix.dims, data_type, quantized.collect()),
        tensor(scale_name, &dims, DataType::Float, scales.collect()),
        tensor(zero_point_name, &dims, data_type, zero_points.collect()),
    ]
}

/// Numbers as the names of all values but inputs and outputs: names would be most of the file,
/// and a mutation of one reaches nothing.
fn shorten_names(graph: &mut GraphProto) {
    let kept: HashSet<String> = graph
        .input
        .iter()
        .chain(&graph.output)
        .map(|value| value.name.clone())
        .collect();
    let mut numbers = HashMap::new();
    let mut shorten = |name: &mut String| {
        if !kept.contains(name) {
            let next = numbers.len();
            let number = *numbers.entry(mem::take(name)).or_insert(next);
            *name = number.to_string();
        }
    };
    for tensor in &mut graph.initializer {
        shorten(&mut tensor.name);
    }
    for node in &mut graph.node {
        node.name.clear();
        let values = node.input.iter_mut().chain(&mut node.output);
        values.for_each(&mut shorten);
    }
}
