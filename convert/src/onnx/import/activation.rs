//! Activations, as one operator or as the sums and products that exporters write.

use filbert::format::Activation;

use super::graph::{Graph, Value};

/// What is expected where an activation of a feed-forward layer should be.
pub(super) const EXPECTED: &str =
    "an activation: Relu, Gelu, or the operators of GELU by Erf or by Tanh";

/// How far the constants of a decomposed GELU may be from theirs, relatively: float16 rounds
/// them.
const TOLERANCE: f64 = 1e-3;

/// The activation that computes a value, and its input.
pub(super) fn activation(graph: &Graph, value: Value) -> Option<(Activation, Value)> {
    let node = graph.producer(graph.origin(value))?;
    let input = || Some(graph.origin(node.input(0)?));
    match node.operator.as_str() {
        "Relu" => Some((Activation::Relu, input()?)),
        "Tanh" => Some((Activation::Tanh, input()?)),
        "Gelu" => match node.text("approximate").unwrap_or(b"none") {
            b"none" => Some((Activation::Gelu, input()?)),
            b"tanh" => Some((Activation::GeluTanh, input()?)),
            _ => None,
        },
        _ => gelu(graph, value),
    }
}

/// `0.5 · x · (1 + erf(x / √2))` or `0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`, in any
/// order.
fn gelu(graph: &Graph, value: Value) -> Option<(Activation, Value)> {
    let (half, factors) = product(graph, value)?;
    let [first, second] = factors.as_slice() else {
        return None;
    };
    if !is_near(half, 0.5) {
        return None;
    }
    [(*first, *second), (*second, *first)]
        .into_iter()
        .find_map(|(x, gate)| {
            let (one, inner) = sum_with_scalar(graph, gate)?;
            if !is_near(one, 1.0) {
                return None;
            }
            if let Some(node) = graph.operation(inner, "Erf") {
                let (factor, inner) = product(graph, node.input(0)?)?;
                let fits = inner == [x] && is_near(factor, std::f64::consts::FRAC_1_SQRT_2);
                return fits.then_some((Activation::Gelu, x));
            }
            let node = graph.operation(inner, "Tanh")?;
            is_inner_of_tanh(graph, node.input(0)?, x).then_some((Activation::GeluTanh, x))
        })
}

/// Whether a value is `√(2/π) · (x + 0.044715 · x³)`.
fn is_inner_of_tanh(graph: &Graph, value: Value, x: Value) -> bool {
    let Some((factor, inner)) = product(graph, value) else {
        return false;
    };
    // √(2/π)
    if !is_near(
        factor,
        std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2,
    ) {
        return false;
    }
    let [sum] = inner.as_slice() else {
        return false;
    };
    let Some([first, second]) = graph.operands(*sum, "Add") else {
        return false;
    };
    [(first, second), (second, first)]
        .into_iter()
        .any(|(linear, cubic)| {
            graph.origin(linear) == x
                && product(graph, cubic).is_some_and(|(factor, factors)| {
                    is_near(factor, 0.044715)
                        && match factors.as_slice() {
                            [power] => is_cube(graph, *power, x),
                            factors => factors == [x; 3],
                        }
                })
        })
}

fn is_cube(graph: &Graph, value: Value, x: Value) -> bool {
    graph
        .operands(value, "Pow")
        .is_some_and(|[base, exponent]| {
            graph.origin(base) == x && graph.scalar(exponent) == Some(3.0)
        })
}

/// A value as the product of a number and of values that are no products themselves.
fn product(graph: &Graph, value: Value) -> Option<(f64, Vec<Value>)> {
    const MOST: usize = 8;
    let mut number = 1.0;
    let mut factors = Vec::new();
    let mut rest = vec![value];
    // Each step resolves one value; a GELU has fewer than this.
    for _ in 0..4 * MOST {
        let Some(value) = rest.pop() else {
            return Some((number, factors));
        };
        if let Some(scalar) = graph.scalar(value) {
            number *= scalar;
        } else if let Some([first, second]) = graph.operands(value, "Mul") {
            rest.extend([second, first]);
        } else if let Some([dividend, divisor]) = graph.operands(value, "Div") {
            number /= graph.scalar(divisor)?;
            rest.push(dividend);
        } else {
            factors.push(graph.origin(value));
            if factors.len() > MOST {
                return None;
            }
        }
    }
    None
}

/// A number and what it is added to.
fn sum_with_scalar(graph: &Graph, value: Value) -> Option<(f64, Value)> {
    let [first, second] = graph.operands(value, "Add")?;
    match (graph.scalar(first), graph.scalar(second)) {
        (Some(number), None) => Some((number, second)),
        (None, Some(number)) => Some((number, first)),
        _ => None,
    }
}

fn is_near(number: f64, expected: f64) -> bool {
    (number - expected).abs() <= TOLERANCE * expected.abs()
}
