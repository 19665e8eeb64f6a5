//! The last part of a graph: from the encoder's rows to what the model answers.

use filbert::format::Head;
use tract_onnx::pb::tensor_proto::DataType;

use super::graph::{Attribute, Extent, Graph, Values};
use super::{BATCH, FIRST_TOKEN, Precision, SEQUENCE, activation, layer_norm};
use crate::checkpoint::Parameter;
use crate::config::Config;
use crate::task::{Pooling, Task};

const SECOND: &str = "second";
const TOKEN_AXIS: &str = "token_axis";
const COLUMN_AXIS: &str = "column_axis";
const LEAST_NORM: &str = "least_norm";

/// Adds the head and its outputs, which are named as Optimum names them.
pub(super) fn add<P: Precision>(precision: &P, graph: &mut Graph, config: &Config, hidden: &str) {
    let batch = Extent::Named(BATCH);
    let sequence = Extent::Named(SEQUENCE);
    let last = |extent| Extent::Fixed(extent);
    match config.task.head().0 {
        Head::Classification => {
            let logits = classify(precision, graph, config, hidden);
            let shape = [batch, last(config.labels.len())];
            graph.output(&logits, "logits", &shape);
        }
        Head::TokenClassification => {
            let logits = multiply(precision, graph, config, hidden);
            let shape = [batch, sequence, last(config.labels.len())];
            graph.output(&logits, "logits", &shape);
        }
        Head::QuestionAnswering => {
            let logits = multiply(precision, graph, config, hidden);
            graph.initializers(&[(SECOND, DataType::Int64, &[])], |_| {
                Ok(vec![Values::I64(vec![1])])
            });
            for (column, name) in [(FIRST_TOKEN, "start_logits"), (SECOND, "end_logits")] {
                let axis = Attribute::Int("axis", 2);
                let column = graph.node_with("", "Gather", &[&logits, column], &[axis]);
                let shape = [Extent::Named(BATCH), Extent::Named(SEQUENCE)];
                graph.output(&column, name, &shape);
            }
        }
        Head::Embedding => {
            if let Task::Embedding(pooling) = config.task {
                let vector = pool(graph, pooling, hidden);
                graph.output(&vector, "sentence_embedding", &[batch, last(config.hidden)]);
            }
        }
        Head::MaskedWords => {
            let dense = dense(precision, graph, config, hidden);
            let (weight, bias) = (Parameter::HeadNormWeight, Parameter::HeadNormBias);
            let normalized = layer_norm(graph, config, &dense, weight, bias);
            let logits = multiply(precision, graph, config, &normalized);
            let shape = [batch, sequence, last(config.vocabulary)];
            graph.output(&logits, "logits", &shape);
        }
    }
}

/// The first token's row to logits.
fn classify<P: Precision>(
    precision: &P,
    graph: &mut Graph,
    config: &Config,
    hidden: &str,
) -> String {
    let first = first_token(graph, hidden);
    let dense = dense(precision, graph, config, &first);
    multiply(precision, graph, config, &dense)
}

fn first_token(graph: &mut Graph, hidden: &str) -> String {
    let axis = Attribute::Int("axis", 1);
    graph.node_with("", "Gather", &[hidden, FIRST_TOKEN], &[axis])
}

/// The first product of a head that has two, and what follows it.
fn dense<P: Precision>(precision: &P, graph: &mut Graph, config: &Config, rows: &str) -> String {
    let parameters = (Parameter::HeadDenseWeight, Parameter::HeadDenseBias);
    let [dense] = precision.products(graph, config, rows, [parameters]);
    let task = config.task;
    let function = task.head_activation(config.architecture, config.activation);
    activation(graph, "", function, &dense)
}

/// The last product.
fn multiply<P: Precision>(precision: &P, graph: &mut Graph, config: &Config, rows: &str) -> String {
    let parameters = (Parameter::ClassifierWeight, Parameter::ClassifierBias);
    let [logits] = precision.products(graph, config, rows, [parameters]);
    logits
}

/// One vector of the tokens' rows, `[batch, hidden]`.
fn pool(graph: &mut Graph, pooling: Pooling, hidden: &str) -> String {
    const SCOPE: &str = "/pooling";
    graph.integers(COLUMN_AXIS, vec![-1]);
    let mut vector = match pooling.mean {
        false => first_token(graph, hidden),
        true => {
            graph.integers(TOKEN_AXIS, vec![1]);
            let to = Attribute::Int("to", DataType::Float as i64);
            let mask = graph.node_with(SCOPE, "Cast", &["attention_mask"], &[to]);
            let mask = graph.node(SCOPE, "Unsqueeze", &[&mask, COLUMN_AXIS]);
            let rows = graph.node(SCOPE, "Mul", &[hidden, &mask]);
            let drop = || [Attribute::Int("keepdims", 0)];
            let sum = graph.node_with(SCOPE, "ReduceSum", &[&rows, TOKEN_AXIS], &drop());
            let count = graph.node_with(SCOPE, "ReduceSum", &[&mask, TOKEN_AXIS], &drop());
            graph.node(SCOPE, "Div", &[&sum, &count])
        }
    };
    if pooling.normalized {
        // As PyTorch's `normalize` has it.
        graph.scalar(LEAST_NORM, 1e-12);
        let squares = graph.node(SCOPE, "Mul", &[&vector, &vector]);
        let sum = graph.node(SCOPE, "ReduceSum", &[&squares, COLUMN_AXIS]);
        let norm = graph.node(SCOPE, "Sqrt", &[&sum]);
        let norm = graph.node(SCOPE, "Max", &[&norm, LEAST_NORM]);
        vector = graph.node(SCOPE, "Div", &[&vector, &norm]);
    }
    vector
}
