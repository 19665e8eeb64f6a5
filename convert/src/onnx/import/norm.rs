//! Layer norms, as one operator or as those that exporters wrote before there was one.

use super::graph::{Graph, Node, Value};
use super::linear::vector;

/// A layer norm over the last axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub(super) input: Value,
    pub(super) weight: Value,
    pub(super) bias: Value,
    pub(super) width: usize,
    pub(super) epsilon: f32,
}

/// What is expected where a layer norm should be.
pub(super) const EXPECTED: &str = "a layer norm over the last axis, with a constant weight and \
     bias: LayerNormalization, or ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul and Add";

/// The layer norm that computes a value.
pub(super) fn norm(graph: &Graph, value: Value) -> Option<Norm> {
    match graph.operation(value, "LayerNormalization") {
        Some(node) => operator(graph, node),
        None => decomposed(graph, value),
    }
}

fn operator(graph: &Graph, node: &Node) -> Option<Norm> {
    // The last axis: the values are `[batch, sequence, width]`.
    if !matches!(node.int("axis").unwrap_or(-1), -1 | 2) {
        return None;
    }
    let (weight, tensor) = graph.float_constant(node.input(1)?)?;
    let width = tensor.len();
    Some(Norm {
        input: graph.origin(node.input(0)?),
        weight: vector(graph, weight, width)?,
        bias: vector(graph, node.input(2)?, width)?,
        width,
        epsilon: node.float("epsilon").unwrap_or(1e-5),
    })
}

/// `(x - mean(x)) / sqrt(mean((x - mean(x))²) + epsilon) · weight + bias`.
fn decomposed(graph: &Graph, value: Value) -> Option<Norm> {
    let [first, second] = graph.operands(value, "Add")?;
    let (scaled, bias) = with_constant(graph, first, second)?;
    let [first, second] = graph.operands(scaled, "Mul")?;
    let (normalized, weight) = with_constant(graph, first, second)?;
    let (weight, tensor) = graph.float_constant(weight)?;
    let width = tensor.len();

    let (centred, deviation) = quotient(graph, normalized)?;
    let [variance, epsilon] = graph.operands(deviation, "Add")?;
    let (variance, epsilon) = match (graph.scalar(epsilon), graph.scalar(variance)) {
        (Some(number), _) => (variance, number),
        (None, Some(number)) => (epsilon, number),
        _ => return None,
    };
    let square = mean(graph, variance)?;
    let input = centre(graph, centred)?;
    (centre(graph, squared(graph, square)?)? == input).then_some(Norm {
        input,
        weight: vector(graph, weight, width)?,
        bias: vector(graph, bias, width)?,
        width,
        epsilon: epsilon as f32,
    })
}

/// Of two values the one that is no constant, and the one that is.
fn with_constant(graph: &Graph, first: Value, second: Value) -> Option<(Value, Value)> {
    match (graph.constant(first), graph.constant(second)) {
        (None, Some(_)) => Some((first, second)),
        (Some(_), None) => Some((second, first)),
        _ => None,
    }
}

/// `a` and `b`, if the value is `a / sqrt(b)`.
fn quotient(graph: &Graph, value: Value) -> Option<(Value, Value)> {
    let root = |value| graph.operation(value, "Sqrt")?.input(0);
    if let Some([dividend, divisor]) = graph.operands(value, "Div") {
        return Some((dividend, root(divisor)?));
    }
    let [first, second] = graph.operands(value, "Mul")?;
    [(first, second), (second, first)]
        .into_iter()
        .find_map(|(factor, inverse)| {
            let divisor = graph.operation(inverse, "Reciprocal")?.input(0)?;
            Some((factor, root(divisor)?))
        })
}

/// What a value is the square of.
fn squared(graph: &Graph, value: Value) -> Option<Value> {
    if let Some([base, exponent]) = graph.operands(value, "Pow") {
        return (graph.scalar(exponent) == Some(2.0)).then_some(base);
    }
    let [first, second] = graph.operands(value, "Mul")?;
    (graph.origin(first) == graph.origin(second)).then_some(first)
}

/// What a value is the mean of, over the last axis.
fn mean(graph: &Graph, value: Value) -> Option<Value> {
    let node = graph.operation(value, "ReduceMean")?;
    let last = graph
        .list(node, "axes", 1)
        .is_some_and(|axes| matches!(axes.as_slice(), [-1 | 2]));
    (last && node.int("keepdims").unwrap_or(1) == 1)
        .then(|| node.input(0))
        .flatten()
}

/// `x`, if the value is `x - mean(x)`.
fn centre(graph: &Graph, value: Value) -> Option<Value> {
    let [input, subtracted] = graph.operands(value, "Sub")?;
    let input = graph.origin(input);
    (graph.origin(mean(graph, subtracted)?) == input).then_some(input)
}
