//! Products with constant matrices: linear layers, and the rows of embeddings.

use tract_onnx::pb::tensor_proto::DataType;

use super::graph::{Graph, Node, Value};

/// A constant matrix, as a float or in int8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Matrix {
    /// `[rows, columns]`, or the transpose.
    pub(super) values: Value,
    pub(super) transposed: bool,
    /// Outputs of a product, rows of a table.
    pub(super) rows: usize,
    /// Inputs of a product, the width of a table.
    pub(super) columns: usize,
    pub(super) steps: Option<Steps>,
}

/// What integers stand for: `(value - zero point) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Steps {
    /// Of each row, or one of all.
    pub(super) scale: Value,
    /// As the scale; none stands for 0.
    pub(super) zero_point: Option<Value>,
}

/// A product with its bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Linear {
    pub(super) input: Value,
    pub(super) weight: Matrix,
    pub(super) bias: Value,
}

/// What is expected where a linear layer should be.
pub(super) const EXPECTED: &str = "a linear layer: MatMul with a constant matrix, or that of \
     quantize_dynamic, and Add of a constant vector; or Gemm with both";

/// The linear layer that computes a value.
pub(super) fn linear(graph: &Graph, value: Value) -> Option<Linear> {
    if let Some(node) = graph.operation(value, "Gemm") {
        return gemm(graph, node);
    }
    let [first, second] = graph.operands(value, "Add")?;
    [(first, second), (second, first)]
        .into_iter()
        .find_map(|(bias, product)| {
            let (input, weight) = product_with_constant(graph, product)?;
            let bias = vector(graph, bias, weight.rows)?;
            Some(Linear {
                input,
                weight,
                bias,
            })
        })
}

/// A constant vector of floats of this width.
pub(super) fn vector(graph: &Graph, value: Value, width: usize) -> Option<Value> {
    let (value, tensor) = graph.float_constant(value)?;
    (tensor.len() == width && tensor.shape.last() == Some(&width)).then_some(value)
}

fn gemm(graph: &Graph, node: &Node) -> Option<Linear> {
    let one = |name| node.float(name).is_none_or(|factor| factor == 1.0);
    if !one("alpha") || !one("beta") || node.int("transA").unwrap_or(0) != 0 {
        return None;
    }
    // As PyTorch stores it: `[outputs, inputs]`.
    let transposed = node.int("transB").unwrap_or(0) == 0;
    let weight = float_matrix(graph, node.input(1)?, transposed)?;
    let bias = vector(graph, node.input(2)?, weight.rows)?;
    Some(Linear {
        input: graph.origin(node.input(0)?),
        weight,
        bias,
    })
}

/// What a product with a constant multiplies, and the constant.
fn product_with_constant(graph: &Graph, value: Value) -> Option<(Value, Matrix)> {
    if let Some([input, weight]) = graph.operands(value, "MatMul") {
        let weight = float_matrix(graph, weight, true)?;
        return Some((graph.origin(input), weight));
    }
    let [first, second] = graph.operands(value, "Mul")?;
    [(first, second), (second, first)]
        .into_iter()
        .find_map(|(product, scale)| integer_product(graph, product, scale))
}

/// A constant matrix of floats, behind as many transpositions as there are.
fn float_matrix(graph: &Graph, value: Value, mut transposed: bool) -> Option<Matrix> {
    let mut value = value;
    while let Some(node) = graph.operation(value, "Transpose") {
        if node.ints("perm") != Some(&[1, 0]) {
            return None;
        }
        value = node.input(0)?;
        transposed = !transposed;
    }
    let (values, tensor) = graph.float_constant(value)?;
    matrix(values, &tensor.shape, transposed, None)
}

fn matrix(
    values: Value,
    shape: &[usize],
    transposed: bool,
    steps: Option<Steps>,
) -> Option<Matrix> {
    let &[first, second] = shape else {
        return None;
    };
    let (rows, columns) = if transposed {
        (second, first)
    } else {
        (first, second)
    };
    (rows > 0 && columns > 0).then_some(Matrix {
        values,
        transposed,
        rows,
        columns,
        steps,
    })
}

/// The product of `quantize_dynamic`: `MatMulInteger` of what `DynamicQuantizeLinear` makes of
/// the input, times `scale`, the product of both scales.
fn integer_product(graph: &Graph, product: Value, scale: Value) -> Option<(Value, Matrix)> {
    let node = graph.operation(product, "MatMulInteger")?;
    let quantize = graph.operation(node.input(0)?, "DynamicQuantizeLinear")?;
    let [quantized, input_scale, input_zero_point] = quantize.outputs.as_slice() else {
        return None;
    };
    let is_input = |index, output| node.input(index).map(|v| graph.origin(v)) == Some(output);
    if !is_input(0, *quantized) || !is_input(2, *input_zero_point) {
        return None;
    }
    let [first, second] = graph.operands(scale, "Mul")?;
    let scale = if graph.origin(first) == *input_scale {
        second
    } else if graph.origin(second) == *input_scale {
        first
    } else {
        return None;
    };
    let values = graph.origin(node.input(1)?);
    let tensor = graph
        .constant(values)
        .filter(|tensor| is_8_bit(tensor.data_type))?;
    let shape = &tensor.shape;
    let steps = steps(graph, scale, node.input(3), *shape.get(1)?)?;
    let weight = matrix(values, shape, true, Some(steps))?;
    Some((graph.origin(quantize.input(0)?), weight))
}

/// The scale and zero point of a matrix of so many rows, if there is one of each row or of all.
fn steps(graph: &Graph, scale: Value, zero_point: Option<Value>, rows: usize) -> Option<Steps> {
    let fits = |length: usize| length == 1 || length == rows;
    let (scale, tensor) = graph.float_constant(scale)?;
    if !fits(tensor.len()) {
        return None;
    }
    let zero_point = match zero_point {
        None => None,
        Some(value) => {
            let value = graph.origin(value);
            let tensor = graph.constant(value)?;
            if !is_8_bit(tensor.data_type) || !fits(tensor.len()) {
                return None;
            }
            Some(value)
        }
    };
    Some(Steps { scale, zero_point })
}

fn is_8_bit(data_type: DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Uint8)
}

/// A constant table of floats.
pub(super) fn table(graph: &Graph, value: Value) -> Option<Matrix> {
    let (values, tensor) = graph.float_constant(value)?;
    matrix(values, &tensor.shape, false, None)
}

/// Which rows of which table a value has: its `Gather`, in floats or dequantized.
pub(super) fn rows_of_table(graph: &Graph, value: Value) -> Option<(Matrix, Value)> {
    let first_axis = |node: &&Node| node.int("axis").unwrap_or(0) == 0;
    if let Some(node) = graph.operation(value, "Gather").filter(first_axis) {
        return Some((table(graph, node.input(0)?)?, node.input(1)?));
    }
    let dequantize = graph.operation(value, "DequantizeLinear")?;
    let node = graph
        .operation(dequantize.input(0)?, "Gather")
        .filter(first_axis)?;
    let table = graph.origin(node.input(0)?);
    let tensor = graph
        .constant(table)
        .filter(|tensor| is_8_bit(tensor.data_type))?;
    // One scale of the whole table: others would be of columns.
    let steps = steps(graph, dequantize.input(1)?, dequantize.input(2), 1)?;
    let table = matrix(table, &tensor.shape, false, Some(steps))?;
    Some((table, node.input(1)?))
}
