//! The mask of attention: any computation, as long as it hides padding and no more.

use std::collections::HashSet;

use super::graph::{Graph, Value};
use crate::Error;

/// What is expected of a mask.
pub(super) const EXPECTED: &str = "a mask that hides padding alone, so that every token attends \
     to those before and after it; decoders and relative positions are not supported";

/// Refuses a mask, added or a condition, that is computed from more than the attention mask:
/// from comparisons of positions, or from tables.
pub(super) fn check(graph: &Graph, mask: Value) -> Result<(), Error> {
    let mut seen = HashSet::new();
    let mut rest = vec![mask];
    while let Some(value) = rest.pop() {
        if !seen.insert(value) {
            continue;
        }
        if let Some(tensor) = graph.constant(value) {
            let values = || tensor.read_integers(&graph.files, 0..tensor.len());
            if tensor.len() > 1 && (tensor.is_float() || !is_uniform(&values())) {
                return Err(graph.refuse(mask, EXPECTED));
            }
            continue;
        }
        let Some(node) = graph.producer(value) else {
            continue;
        };
        match node.operator.as_str() {
            // Their values are those of the first input; the others say where they go.
            "Reshape" | "Expand" | "Unsqueeze" | "Squeeze" | "Slice" | "Tile" | "Flatten"
            | "Gather" | "GatherND" | "GatherElements" => rest.extend(node.input(0)),
            // Extents and counts, and what is made of them alone.
            "Shape" | "Size" | "ConstantOfShape" | "Range" => {}
            "Trilu" => return Err(graph.refuse(mask, EXPECTED)),
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Sub"
                if !node
                    .inputs
                    .iter()
                    .flatten()
                    .any(|&input| graph.scalar(input).is_some()) =>
            {
                return Err(graph.refuse(mask, EXPECTED));
            }
            _ => rest.extend(node.inputs.iter().flatten()),
        }
    }
    Ok(())
}

fn is_uniform(values: &[i64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}
