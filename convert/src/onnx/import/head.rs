//! What is computed from the encoder's last rows: one function for each head.

use filbert::format::Activation;

use super::activation::activation;
use super::graph::{Graph, Value};
use super::linear::{self, Linear, linear};
use super::norm::{Norm, norm};
use crate::Error;
use crate::task::{Pooling, Task};

/// A head, whose parts are those of its task.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundHead {
    pub(super) task: Task,
    /// The encoder's last rows.
    pub(super) hidden: Value,
    /// The first of two products, and what follows it.
    pub(super) dense: Option<(Linear, Activation)>,
    pub(super) norm: Option<Norm>,
    /// The last product.
    pub(super) classifier: Option<Linear>,
}

/// The head of a graph, by its outputs.
pub(super) fn head(graph: &Graph) -> Result<FoundHead, Error> {
    let named = |name: &str| {
        let mut outputs = graph.outputs.iter().copied();
        outputs.find(|&value| graph.name(value) == name)
    };
    if let (Some(start), Some(end)) = (named("start_logits"), named("end_logits")) {
        return question_answering(graph, start, end);
    }
    if let Some(rows) = named("last_hidden_state").or_else(|| named("token_embeddings")) {
        return Ok(embedding(graph, rows));
    }
    let logits = match (named("logits"), graph.outputs.as_slice()) {
        (Some(value), _) | (None, &[value]) => value,
        (None, outputs) => {
            let names: Vec<&str> = outputs.iter().map(|&value| graph.name(value)).collect();
            return Err(Error::new(format!(
                "the graph has the outputs {names:?}; expected \"logits\" or a single output, \
                 \"start_logits\" and \"end_logits\", or \"last_hidden_state\", so export the \
                 model with its head (optimum-cli export onnx --task text-classification)"
            )));
        }
    };
    let classifier = linear_at(graph, logits)?;
    let rows = classifier.input;
    if let Some(found) = masked_words(graph, classifier) {
        return Ok(found);
    }
    if norm(graph, rows).is_some() {
        return Ok(token_classification(rows, classifier));
    }
    sequence_classification(graph, classifier)
}

fn linear_at(graph: &Graph, value: Value) -> Result<Linear, Error> {
    linear(graph, value).ok_or_else(|| graph.refuse(graph.origin(value), linear::EXPECTED))
}

/// The first token's row, a product, an activation and another product.
fn sequence_classification(graph: &Graph, classifier: Linear) -> Result<FoundHead, Error> {
    let activated = classifier.input;
    let (function, input) = activation(graph, activated).ok_or_else(|| {
        graph.refuse(
            activated,
            "what the last product of a head reads: Tanh or Relu of a text's first product, or \
             the encoder's layer norm for labels of tokens",
        )
    })?;
    let dense = linear_at(graph, input)?;
    let hidden = first_token(graph, dense.input).ok_or_else(|| {
        graph.refuse(
            dense.input,
            "the rows of first tokens: Gather of 0 along axis 1, or Slice from 0 to 1 and Squeeze",
        )
    })?;
    Ok(FoundHead {
        task: Task::SequenceClassification,
        hidden,
        dense: Some((dense, function)),
        norm: None,
        classifier: Some(classifier),
    })
}

/// One product with each row.
fn token_classification(hidden: Value, classifier: Linear) -> FoundHead {
    FoundHead {
        task: Task::TokenClassification,
        hidden,
        dense: None,
        norm: None,
        classifier: Some(classifier),
    }
}

/// One product of two columns, which are divided: the first is the beginning's.
fn question_answering(graph: &Graph, start: Value, end: Value) -> Result<FoundHead, Error> {
    let refuse = || {
        graph.refuse(
            start,
            "the first column of a linear layer with two outputs, and the second one as \
             \"end_logits\": Split and Squeeze, or Gather along axis 2",
        )
    };
    let (first, second) = (column(graph, start), column(graph, end));
    let (Some((logits, 0)), Some((other, 1))) = (first, second) else {
        return Err(refuse());
    };
    if logits != other {
        return Err(refuse());
    }
    let classifier = linear_at(graph, logits)?;
    Ok(FoundHead {
        task: Task::QuestionAnswering,
        hidden: classifier.input,
        dense: None,
        norm: None,
        classifier: Some(classifier),
    })
}

/// Of what a value is a column, and the column's number.
fn column(graph: &Graph, value: Value) -> Option<(Value, usize)> {
    let last = |axis| matches!(axis, Some(-1 | 2));
    if let Some(node) = graph.operation(value, "Gather") {
        let number = graph.scalar(node.input(1)?)?;
        let number = [0.0, 1.0].iter().position(|&known| known == number)?;
        return last(node.int("axis")).then_some((graph.origin(node.input(0)?), number));
    }
    let squeeze = graph.operation(value, "Squeeze")?;
    if !matches!(graph.list(squeeze, "axes", 1)?.as_slice(), [-1 | 2]) {
        return None;
    }
    let part = graph.origin(squeeze.input(0)?);
    let split = graph.operation(part, "Split")?;
    let number = split.outputs.iter().position(|&output| output == part)?;
    let whole = graph.origin(split.input(0)?);
    (last(split.int("axis")) && split.outputs.len() == 2).then_some((whole, number))
}

/// A product, an activation, a layer norm, and a product with the vocabulary.
fn masked_words(graph: &Graph, classifier: Linear) -> Option<FoundHead> {
    let norm = norm(graph, classifier.input)?;
    let (function, input) = activation(graph, norm.input)?;
    let dense = linear(graph, input)?;
    Some(FoundHead {
        task: Task::MaskedWords,
        hidden: dense.input,
        dense: Some((dense, function)),
        norm: Some(norm),
        classifier: Some(classifier),
    })
}

/// The rows themselves.
fn embedding(graph: &Graph, rows: Value) -> FoundHead {
    FoundHead {
        task: Task::Embedding(Pooling::DEFAULT),
        hidden: graph.origin(rows),
        dense: None,
        norm: None,
        classifier: None,
    }
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
