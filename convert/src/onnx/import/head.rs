//! What is computed from the encoder's last rows: one function for each head.

use filbert::format::Activation;

use super::activation::activation;
use super::graph::{Graph, Value};
use super::linear::{self, Linear, linear};
use crate::Error;

/// The head of a sequence classifier: the first token's row to logits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classifier {
    /// The encoder's last rows.
    pub(super) hidden: Value,
    pub(super) dense: Linear,
    pub(super) activation: Activation,
    pub(super) classifier: Linear,
}

/// The head that computes logits of whole texts.
pub(super) fn classifier(graph: &Graph, logits: Value) -> Result<Classifier, Error> {
    let linear_at = |value| {
        linear(graph, value).ok_or_else(|| graph.refuse(graph.origin(value), linear::EXPECTED))
    };
    let classifier = linear_at(logits)?;
    let activated = classifier.input;
    let (activation, input) = activation(graph, activated).ok_or_else(|| {
        graph.refuse(
            activated,
            "the activation of a classifier's first layer: Tanh of BERT's, Relu of DistilBERT's",
        )
    })?;
    let dense = linear_at(input)?;
    let hidden = first_token(graph, dense.input).ok_or_else(|| {
        graph.refuse(
            dense.input,
            "the rows of first tokens: Gather of 0 along axis 1, or Slice from 0 to 1 and Squeeze",
        )
    })?;
    Ok(Classifier {
        hidden,
        dense,
        activation,
        classifier,
    })
}

/// The rows whose first token's a value has.
fn first_token(graph: &Graph, value: Value) -> Option<Value> {
    if let Some(node) = graph.operation(value, "Gather") {
        let first = node.int("axis") == Some(1) && graph.scalar(node.input(1)?) == Some(0.0);
        return first.then(|| Some(graph.origin(node.input(0)?)))?;
    }
    let squeeze = graph.operation(value, "Squeeze")?;
    if graph.list(squeeze, "axes", 1)? != [1] {
        return None;
    }
    let inner = squeeze.input(0)?;
    if let Some(node) = graph.operation(inner, "Slice") {
        let is = |attribute, input, number: i64| {
            let list = graph.list(node, attribute, input)?;
            (list == [number]).then_some(())
        };
        is("starts", 1, 0)
            .and(is("ends", 2, 1))
            .and(is("axes", 3, 1))?;
        return Some(graph.origin(node.input(0)?));
    }
    let node = graph.operation(inner, "Gather")?;
    let first = node.int("axis") == Some(1) && graph.integers(node.input(1)?)? == [0];
    first.then(|| Some(graph.origin(node.input(0)?)))?
}
