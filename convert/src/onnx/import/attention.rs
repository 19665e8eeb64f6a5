//! Attention: how a layer's context comes from its queries, keys and values.

use super::graph::{Graph, Node, Value};
use super::linear::{Linear, linear};
use super::mask;
use crate::Error;

/// The attention of a layer, before its output's linear layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) heads: usize,
}

/// How far the scale of the scores may be from `1 / √(head size)`, relatively.
const TOLERANCE: f64 = 1e-3;

/// The largest number of nodes between a linear layer and the product that reads it.
const MOST_STEPS: usize = 16;

/// From `[batch, sequence, heads, head size]` to the operands of the products.
const HEADS_FIRST: [usize; 4] = [0, 2, 1, 3];
const TRANSPOSED_KEYS: [usize; 4] = [0, 2, 3, 1];

/// The attention that computes a layer's context.
pub(super) fn attention(graph: &Graph, context: Value) -> Result<Attention, Error> {
    let merge = expect(graph, context, "Reshape", "the heads put side by side")?;
    let swap = input(graph, merge, 0, context)?;
    let node = expect(graph, swap, "Transpose", "the heads put side by side")?;
    if node.ints("perm") != Some(&[0, 2, 1, 3]) {
        return Err(graph.refuse(swap, "a Transpose by [0, 2, 1, 3], which puts heads last"));
    }
    let mut product = input(graph, node, 0, swap)?;
    // A shape that is asked for though the product has it.
    if let Some(node) = graph.operation(product, "Reshape")
        && shape_entries(graph, node).is_some_and(|entries| entries.len() == 4)
    {
        product = input(graph, node, 0, product)?;
    }
    if let Some(node) = graph.operation(product, "Attention") {
        return operator(graph, node, product);
    }
    let [probabilities, value] = graph
        .operands(product, "MatMul")
        .ok_or_else(|| graph.refuse(product, "MatMul of attention's probabilities and values"))?;
    let (scores, scale) = scores(graph, probabilities)?;
    let [query, key] = graph
        .operands(scores, "MatMul")
        .ok_or_else(|| graph.refuse(scores, "MatMul of queries and keys"))?;
    let query = heads(graph, query, HEADS_FIRST)?;
    let key = heads(graph, key, TRANSPOSED_KEYS)?;
    let value = heads(graph, value, HEADS_FIRST)?;
    check_scale(graph, scores, &query, &key, scale)?;
    together(graph, context, [query, key, value])
}

/// The operator that came with operator set 23: of heads that are divided already.
fn operator(graph: &Graph, node: &Node, output: Value) -> Result<Attention, Error> {
    if node.int("is_causal").unwrap_or(0) != 0 {
        return Err(graph.refuse(output, mask::EXPECTED));
    }
    if node.float("softcap").unwrap_or(0.0) != 0.0 {
        return Err(graph.refuse(output, "attention without softcap"));
    }
    if let Some(mask) = node.input(3) {
        mask::check(graph, mask)?;
    }
    let divided = |index| heads(graph, input(graph, node, index, output)?, HEADS_FIRST);
    let (query, key, value) = (divided(0)?, divided(1)?, divided(2)?);
    if let Some(scale) = node.float("scale") {
        check_scale(graph, output, &query, &key, Scale::of(scale.into()))?;
    }
    together(graph, output, [query, key, value])
}

fn together(graph: &Graph, at: Value, parts: [Heads; 3]) -> Result<Attention, Error> {
    let [query, key, value] = parts;
    if query.count != key.count || query.count != value.count {
        return Err(graph.refuse(
            at,
            &format!(
                "queries, keys and values of as many heads each; there are {}, {} and {}",
                query.count, key.count, value.count
            ),
        ));
    }
    Ok(Attention {
        query: query.linear,
        key: key.linear,
        value: value.linear,
        heads: query.count,
    })
}

/// What the scores are multiplied by; parts may be computed from the head size.
#[derive(Clone, Copy)]
struct Scale {
    number: f64,
    /// Of the head size.
    power: f64,
}

impl Scale {
    const ONE: Self = Self::of(1.0);

    const fn of(number: f64) -> Self {
        Self { number, power: 0.0 }
    }

    fn times(self, other: Self) -> Self {
        Self {
            number: self.number * other.number,
            power: self.power + other.power,
        }
    }

    fn to_the(self, exponent: f64) -> Self {
        Self {
            number: self.number.powf(exponent),
            power: self.power * exponent,
        }
    }
}

fn check_scale(
    graph: &Graph,
    scores: Value,
    query: &Heads,
    key: &Heads,
    scale: Scale,
) -> Result<(), Error> {
    let size = query.size() as f64;
    let Scale { number, power } = scale.times(query.scale).times(key.scale);
    let scale = number * size.powf(power);
    let expected = size.sqrt().recip();
    if (scale - expected).abs() <= TOLERANCE * expected {
        return Ok(());
    }
    Err(graph.refuse(
        scores,
        &format!(
            "scores times {expected}, one by the root of the head size; they are times {scale}"
        ),
    ))
}

/// The product of queries and keys that the probabilities come from, and what it is multiplied
/// by. Checks the mask.
fn scores(graph: &Graph, probabilities: Value) -> Result<(Value, Scale), Error> {
    let mut value = probabilities;
    // Rows that may attend to nothing at all are made zeros.
    if let Some(node) = graph.operation(value, "Where")
        && let [Some(condition), Some(_), Some(otherwise)] = node.inputs.as_slice()
        && graph.operation(*condition, "IsNaN").is_some()
    {
        value = *otherwise;
    }
    let softmax = expect(graph, value, "Softmax", "the probabilities of attention")?;
    let default_axis = if graph.operator_set < 13 { 1 } else { -1 };
    if !matches!(softmax.int("axis").unwrap_or(default_axis), -1 | 3) {
        return Err(graph.refuse(value, "a Softmax over the last axis"));
    }
    value = input(graph, softmax, 0, value)?;
    let mut scale = Scale::ONE;
    for _ in 0..MOST_STEPS {
        if let Some((scaled, factor)) = scaled(graph, value) {
            scale = scale.times(factor);
            value = scaled;
        } else if let Some((scores, mask)) = masked(graph, value) {
            // What is added to masked scores is beyond all others, scaled or not.
            mask::check(graph, mask)?;
            value = scores;
        } else {
            break;
        }
    }
    Ok((graph.origin(value), scale))
}

/// The scores that a mask is applied to, and the mask.
fn masked(graph: &Graph, value: Value) -> Option<(Value, Value)> {
    if let Some([first, second]) = graph.operands(value, "Add") {
        return if leads_to_product(graph, first) {
            Some((first, second))
        } else {
            leads_to_product(graph, second).then_some((second, first))
        };
    }
    let node = graph.operation(value, "Where")?;
    let (condition, kept, filled) = (node.input(0)?, node.input(1)?, node.input(2)?);
    if leads_to_product(graph, kept) {
        Some((kept, condition))
    } else {
        leads_to_product(graph, filled).then_some((filled, condition))
    }
}

/// Whether a value is a product of two values that are no constants, perhaps scaled.
fn leads_to_product(graph: &Graph, mut value: Value) -> bool {
    for _ in 0..MOST_STEPS {
        match scaled(graph, value) {
            Some((inner, _)) => value = inner,
            None => break,
        }
    }
    graph
        .operands(value, "MatMul")
        .is_some_and(|operands| operands.iter().all(|&v| graph.constant(v).is_none()))
}

/// What is multiplied or divided by a number, and the number.
fn scaled(graph: &Graph, value: Value) -> Option<(Value, Scale)> {
    if let Some([first, second]) = graph.operands(value, "Mul") {
        if let Some(factor) = number(graph, second, 0) {
            return Some((first, factor));
        }
        return Some((second, number(graph, first, 0)?));
    }
    let [dividend, divisor] = graph.operands(value, "Div")?;
    Some((dividend, number(graph, divisor, 0)?.to_the(-1.0)))
}

/// A number: a constant, or computed from constants and the head size.
fn number(graph: &Graph, value: Value, depth: usize) -> Option<Scale> {
    const DEEPEST: usize = 8;
    if depth > DEEPEST {
        return None;
    }
    if let Some(scalar) = graph.scalar(value) {
        return Some(Scale::of(scalar));
    }
    let next = |value| number(graph, value, depth + 1);
    if let Some([first, second]) = graph.operands(value, "Mul") {
        return Some(next(first)?.times(next(second)?));
    }
    if let Some([first, second]) = graph.operands(value, "Div") {
        return Some(next(first)?.times(next(second)?.to_the(-1.0)));
    }
    if let Some(node) = graph.operation(value, "Sqrt") {
        return Some(next(node.input(0)?)?.to_the(0.5));
    }
    if let Some(node) = graph.operation(value, "Reciprocal") {
        return Some(next(node.input(0)?)?.to_the(-1.0));
    }
    is_last_extent(graph, value).then_some(Scale {
        number: 1.0,
        power: 1.0,
    })
}

/// Whether a value is the last extent of a shape: before the scores are computed, the head size.
fn is_last_extent(graph: &Graph, value: Value) -> bool {
    let mut value = graph.integer_origin(graph.origin(value));
    let mut last = false;
    for _ in 0..MOST_STEPS {
        let Some(node) = graph.producer(value) else {
            return false;
        };
        match node.operator.as_str() {
            "Shape" => return last || node.int("start") == Some(-1),
            "Gather" => last = node.input(1).and_then(|v| graph.scalar(v)) == Some(-1.0),
            "Slice" => {
                let starts = graph.list(node, "starts", 1);
                last = starts.is_some_and(|starts| starts == [-1]);
            }
            "Squeeze" | "Unsqueeze" | "Reshape" => {}
            _ => return false,
        }
        match node.input(0) {
            Some(input) => value = graph.integer_origin(input),
            None => return false,
        }
    }
    false
}

/// A linear layer, whose outputs are divided into heads.
struct Heads {
    linear: Linear,
    count: usize,
    scale: Scale,
}

impl Heads {
    fn size(&self) -> usize {
        self.linear.weight.rows / self.count
    }
}

/// The linear layer behind an operand of attention, which must have its axes in this order.
fn heads(graph: &Graph, operand: Value, order: [usize; 4]) -> Result<Heads, Error> {
    const EXPECTED: &str = "the outputs of a linear layer, divided into heads: Reshape to [batch, \
                            sequence, heads, head size], then Transpose, both with constants";
    let refuse = |value| graph.refuse(value, EXPECTED);
    let mut value = operand;
    let mut scale = Scale::ONE;
    // Which axis of what the linear layer gives is in which place.
    let mut axes = [0, 1, 2, 3];
    for _ in 0..MOST_STEPS {
        if let Some((inner, factor)) = scaled(graph, value) {
            scale = scale.times(factor);
            value = inner;
        } else if let Some(inner) = last_axes_swapped(graph, value) {
            axes.swap(2, 3);
            value = inner;
        } else if let Some(node) = graph.operation(value, "Transpose") {
            let order = node.ints("perm").and_then(permutation);
            let order = order.ok_or_else(|| refuse(value))?;
            axes = axes.map(|axis| order[axis]);
            value = input(graph, node, 0, value)?;
        } else if let Some(node) = graph.operation(value, "Reshape") {
            if axes != order {
                return Err(refuse(operand));
            }
            let inner = input(graph, node, 0, value)?;
            let linear =
                linear(graph, inner).ok_or_else(|| graph.refuse(inner, super::linear::EXPECTED))?;
            let count = head_count(graph, node, linear.weight.rows).ok_or_else(|| refuse(value))?;
            return Ok(Heads {
                linear,
                count,
                scale,
            });
        } else {
            break;
        }
    }
    Err(refuse(value))
}

fn permutation(order: &[i64]) -> Option<[usize; 4]> {
    let order: [i64; 4] = order.try_into().ok()?;
    let mut seen = [false; 4];
    for axis in order {
        *seen.get_mut(usize::try_from(axis).ok()?)? = true;
    }
    (seen == [true; 4]).then(|| order.map(|axis| axis as usize))
}

/// A value whose last two axes are swapped while the first two are one.
fn last_axes_swapped(graph: &Graph, value: Value) -> Option<Value> {
    let divide = graph.operation(value, "Reshape")?;
    let swap = graph.operation(divide.input(0)?, "Transpose")?;
    if swap.ints("perm") != Some(&[0, 2, 1]) {
        return None;
    }
    let merge = graph.operation(swap.input(0)?, "Reshape")?;
    let entries = shape_entries(graph, merge)?;
    (entries.len() == 3 && entries[0] == Some(-1)).then(|| merge.input(0))?
}

/// How many heads a Reshape to `[batch, sequence, heads, head size]` makes of so many columns.
fn head_count(graph: &Graph, reshape: &Node, columns: usize) -> Option<usize> {
    let entries = shape_entries(graph, reshape)?;
    let &[.., heads, size] = entries.as_slice() else {
        return None;
    };
    let known = |entry: Option<i64>| {
        let extent = usize::try_from(entry?).ok()?;
        (extent > 0).then_some(extent)
    };
    let count = match (known(heads), known(size)) {
        (Some(heads), Some(size)) if heads.checked_mul(size) != Some(columns) => return None,
        (Some(heads), _) => heads,
        (None, Some(size)) => columns.checked_div(size)?,
        (None, None) => return None,
    };
    (count > 0 && columns.is_multiple_of(count)).then_some(count)
}

/// The entries of the shape that a Reshape asks for, as far as they are constant. What is
/// computed counts as one entry.
fn shape_entries(graph: &Graph, reshape: &Node) -> Option<Vec<Option<i64>>> {
    let shape = reshape.input(1)?;
    if let Some(entries) = graph.integers(shape) {
        return (entries.len() <= MOST_STEPS).then(|| entries.into_iter().map(Some).collect());
    }
    let concat = graph.producer(graph.integer_origin(shape))?;
    if concat.operator != "Concat" {
        return None;
    }
    let mut entries = Vec::new();
    for &part in &concat.inputs {
        match graph.integers(part?) {
            Some(part) => entries.extend(part.into_iter().map(Some)),
            None => entries.push(None),
        }
        if entries.len() > MOST_STEPS {
            return None;
        }
    }
    Some(entries)
}

fn expect<'g>(
    graph: &'g Graph,
    value: Value,
    operator: &str,
    what: &str,
) -> Result<&'g Node, Error> {
    graph
        .operation(value, operator)
        .ok_or_else(|| graph.refuse(value, &format!("{operator}, which makes {what}")))
}

fn input(graph: &Graph, node: &Node, index: usize, at: Value) -> Result<Value, Error> {
    node.input(index)
        .ok_or_else(|| graph.refuse(at, "a node with all its inputs"))
}
