//! Encoder and head as a config and parameters.

use std::collections::HashMap;

use filbert::format::{Activation, Problem, limits};

use super::embeddings::{Embeddings, Numbering};
use super::encoder::{Encoder, Layer};
use super::graph::Graph;
use super::head::FoundHead;
use super::linear::Linear;
use super::norm::Norm;
use super::parameter::Stored;
use crate::Error;
use crate::checkpoint::{LayerParameter, Parameter};
use crate::config::{Architecture, Config};
use crate::task::Task;

/// What the graph alone says of the model.
pub(super) fn config(graph: &Graph, encoder: &Encoder, head: &FoundHead) -> Result<Config, Error> {
    let Embeddings {
        words,
        positions,
        numbering,
        token_types,
    } = encoder.embeddings;
    let first = encoder
        .layers
        .first()
        .ok_or_else(|| graph.refuse(head.hidden, "the rows of an encoder of at least one layer"))?;
    // DistilBERT is the one without token types, and RoBERTa numbers positions its own way.
    let architecture = match (token_types, numbering) {
        (None, Numbering::FromZero) => Architecture::DistilBert,
        (Some(_), Numbering::FromZero) => Architecture::Bert,
        (_, Numbering::AfterPadding(_)) => Architecture::Roberta,
    };
    let position_offset = numbering.offset();
    if position_offset >= positions.rows {
        return Err(Error::new(format!(
            "the graph has {} positions and begins with number {position_offset}; export the \
             model again",
            positions.rows
        )));
    }
    if let Some((dense, function)) = head.dense {
        let expected = head.task.head_activation(architecture, first.activation);
        if function != expected {
            return Err(graph.refuse(
                head.classifier.map_or(dense.input, |linear| linear.input),
                &format!("{expected:?} between the products of the head, as in {architecture:?}"),
            ));
        }
    }
    check_alike(graph, encoder, head)?;
    let outputs = head.classifier.map_or(0, |linear| linear.weight.rows);
    let labels = match head.task {
        Task::SequenceClassification | Task::TokenClassification => outputs,
        _ => 0,
    };
    for (what, extent, limit) in [
        ("rows of hidden values", words.columns, limits::HIDDEN),
        (
            "intermediate values",
            first.feed_forward_in.weight.rows,
            limits::INTERMEDIATE,
        ),
        ("tokens", words.rows, limits::VOCABULARY),
        ("positions", positions.rows, limits::POSITIONS),
        (
            "token types",
            token_types.map_or(0, |types| types.table.rows),
            limits::TOKEN_TYPES,
        ),
        ("labels", labels, limits::LABELS),
    ] {
        if extent > limit as usize {
            return Err(Error::new(format!(
                "the graph has {extent} {what}; at most {limit} are supported"
            )));
        }
    }
    Ok(Config {
        architecture,
        task: head.task,
        layers: encoder.layers.len(),
        hidden: words.columns,
        heads: first.attention.heads,
        intermediate: first.feed_forward_in.weight.rows,
        vocabulary: words.rows,
        positions: positions.rows - position_offset,
        position_offset,
        token_types: token_types.map_or(0, |types| if types.given { types.table.rows } else { 1 }),
        activation: first.activation,
        layer_norm_eps: encoder.norm.epsilon,
        labels: match head.task.fixed_labels() {
            Some(labels) => labels.iter().map(|&label| label.to_owned()).collect(),
            None => (0..labels).map(|id| format!("LABEL_{id}")).collect(),
        },
        problem: match (head.task, labels) {
            (Task::SequenceClassification, 1) => Problem::Regression,
            _ => Problem::SingleLabel,
        },
        // The constant that multiplies last is a parameter of its own.
        tied: false,
        max_tokens: None,
    })
}

/// Refuses layers that differ in what a model has once.
fn check_alike(graph: &Graph, encoder: &Encoder, head: &FoundHead) -> Result<(), Error> {
    let epsilon = encoder.norm.epsilon;
    if !(f32::MIN_POSITIVE..=1.0).contains(&epsilon) {
        return Err(graph.refuse(
            encoder.norm.input,
            &format!("a layer norm with an epsilon above 0 and at most 1; it is {epsilon}"),
        ));
    }
    let layers = encoder.layers.iter();
    let mut norms = layers
        .flat_map(|layer| [layer.attention_norm, layer.norm])
        .chain(head.norm);
    if let Some(norm) = norms.find(|norm| norm.epsilon != epsilon) {
        return Err(graph.refuse(
            norm.input,
            &format!(
                "the same epsilon in each layer norm; there are {epsilon} and {}",
                norm.epsilon
            ),
        ));
    }
    let first = encoder.layers[0];
    for layer in &encoder.layers {
        if layer.activation != first.activation || layer.activation == Activation::Tanh {
            return Err(graph.refuse(
                layer.feed_forward_out.input,
                "GELU or Relu, the same in each layer",
            ));
        }
        if layer.attention.heads != first.attention.heads {
            return Err(graph.refuse(
                layer.attention_output.input,
                &format!(
                    "as many heads in each layer; there are {} and {}",
                    first.attention.heads, layer.attention.heads
                ),
            ));
        }
    }
    Ok(())
}

/// Every parameter of a model, with its place in the graph.
pub(super) fn parameters(
    graph: &Graph,
    encoder: &Encoder,
    head: &FoundHead,
) -> HashMap<Parameter, Stored> {
    use Parameter as P;
    let mut all = Parameters {
        graph,
        found: HashMap::new(),
    };
    let embeddings = &encoder.embeddings;
    all.add(P::WordEmbedding, Stored::matrix(graph, &embeddings.words));
    let positions = Stored::matrix(graph, &embeddings.positions);
    let offset = embeddings.numbering.offset();
    let rows = embeddings.positions.rows - offset;
    all.add(P::PositionEmbedding, positions.part(offset, rows));
    if let Some(types) = &embeddings.token_types {
        let table = Stored::matrix(graph, &types.table);
        let rows = if types.given { types.table.rows } else { 1 };
        let table = table.part(0, rows);
        all.add(P::TokenTypeEmbedding, table);
    }
    all.add_norm(&encoder.norm, P::EmbeddingNormWeight, P::EmbeddingNormBias);
    for (number, layer) in encoder.layers.iter().enumerate() {
        all.add_layer(number, layer);
    }
    if let Some((dense, _)) = &head.dense {
        all.add_linear(dense, P::HeadDenseWeight, P::HeadDenseBias);
    }
    if let Some(norm) = &head.norm {
        all.add_norm(norm, P::HeadNormWeight, P::HeadNormBias);
    }
    if let Some(classifier) = &head.classifier {
        all.add_linear(classifier, P::ClassifierWeight, P::ClassifierBias);
    }
    all.found
}

struct Parameters<'g> {
    graph: &'g Graph,
    found: HashMap<Parameter, Stored>,
}

impl Parameters<'_> {
    fn add(&mut self, parameter: Parameter, stored: Stored) {
        self.found.insert(parameter, stored);
    }

    fn add_norm(&mut self, norm: &Norm, weight: Parameter, bias: Parameter) {
        self.add(weight, Stored::vector(self.graph, norm.weight));
        self.add(bias, Stored::vector(self.graph, norm.bias));
    }

    fn add_linear(&mut self, linear: &Linear, weight: Parameter, bias: Parameter) {
        self.add(weight, Stored::matrix(self.graph, &linear.weight));
        self.add(bias, Stored::vector(self.graph, linear.bias));
    }

    fn add_layer(&mut self, number: usize, layer: &Layer) {
        use LayerParameter as L;
        let p = |parameter| Parameter::Layer(number, parameter);
        for (linear, weight, bias) in [
            (&layer.attention.query, L::QueryWeight, L::QueryBias),
            (&layer.attention.key, L::KeyWeight, L::KeyBias),
            (&layer.attention.value, L::ValueWeight, L::ValueBias),
            (
                &layer.attention_output,
                L::AttentionOutputWeight,
                L::AttentionOutputBias,
            ),
            (
                &layer.feed_forward_in,
                L::FeedForwardInWeight,
                L::FeedForwardInBias,
            ),
            (
                &layer.feed_forward_out,
                L::FeedForwardOutWeight,
                L::FeedForwardOutBias,
            ),
        ] {
            self.add_linear(linear, p(weight), p(bias));
        }
        for (norm, weight, bias) in [
            (
                &layer.attention_norm,
                L::AttentionNormWeight,
                L::AttentionNormBias,
            ),
            (
                &layer.norm,
                L::FeedForwardNormWeight,
                L::FeedForwardNormBias,
            ),
        ] {
            self.add_norm(norm, p(weight), p(bias));
        }
    }
}

/// Refuses parameters that do not fit together.
pub(super) fn check_shapes(
    config: &Config,
    parameters: &HashMap<Parameter, Stored>,
) -> Result<(), Error> {
    if !config.hidden.is_multiple_of(config.heads) {
        return Err(Error::new(format!(
            "the graph has {} heads for a width of {}, which is no multiple of it",
            config.heads, config.hidden
        )));
    }
    for parameter in Parameter::all(config) {
        let wanted = parameter.shape(config);
        let name = parameter.name(config);
        let stored = parameters.get(&parameter).ok_or_else(|| {
            Error::new(format!("the graph has no {name}; export the model again"))
        })?;
        let [rows, columns] = stored.shape();
        let found = if wanted.len() == 1 {
            vec![rows * columns]
        } else {
            vec![rows, columns]
        };
        if found != wanted {
            return Err(Error::new(format!(
                "the constant {:?}, {name} by its place, has the shape {found:?}, but the rest of \
                 the graph implies {wanted:?}; export the model again",
                stored.name()
            )));
        }
    }
    Ok(())
}
