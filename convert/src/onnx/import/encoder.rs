//! The encoder: its layers, found from the last to the first.

use filbert::format::{Activation, limits};

use super::activation::{self, activation};
use super::attention::{Attention, attention};
use super::embeddings::{Embeddings, embeddings};
use super::graph::{Graph, Value};
use super::linear::{self, Linear, linear};
use super::norm::{self, Norm, norm};
use crate::Error;

/// All that lies between ids and the last rows.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) embeddings: Embeddings,
    pub(super) norm: Norm,
    /// From the first to the last.
    pub(super) layers: Vec<Layer>,
}

/// One layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub(super) attention: Attention,
    pub(super) attention_output: Linear,
    pub(super) attention_norm: Norm,
    pub(super) feed_forward_in: Linear,
    pub(super) activation: Activation,
    pub(super) feed_forward_out: Linear,
    pub(super) norm: Norm,
}

/// The encoder that computes these rows.
pub(super) fn encoder(graph: &Graph, rows: Value) -> Result<Encoder, Error> {
    let mut layers = Vec::new();
    let mut rows = rows;
    loop {
        let norm = norm_at(graph, rows)?;
        let Some((feed_forward_out, attended)) = residual(graph, norm.input) else {
            layers.reverse();
            return Ok(Encoder {
                embeddings: embeddings(graph, norm.input)?,
                norm,
                layers,
            });
        };
        if layers.len() == limits::LAYERS as usize {
            return Err(graph.refuse(
                rows,
                &format!("an encoder of at most {} layers", limits::LAYERS),
            ));
        }
        let layer;
        (layer, rows) = self::layer(graph, norm, feed_forward_out, attended)?;
        layers.push(layer);
    }
}

/// A layer, whose end is known, and the rows that it reads.
fn layer(
    graph: &Graph,
    norm: Norm,
    feed_forward_out: Linear,
    attended: Value,
) -> Result<(Layer, Value), Error> {
    let inner = feed_forward_out.input;
    let (activation, inner) =
        activation(graph, inner).ok_or_else(|| graph.refuse(inner, activation::EXPECTED))?;
    let feed_forward_in =
        linear(graph, inner).ok_or_else(|| graph.refuse(inner, linear::EXPECTED))?;
    same_rows(graph, &feed_forward_in, attended, inner)?;

    let attention_norm = norm_at(graph, attended)?;
    let (attention_output, rows) = residual(graph, attention_norm.input).ok_or_else(|| {
        graph.refuse(
            attention_norm.input,
            "the sum of a layer's input and of a linear layer of its attention",
        )
    })?;
    let attention = attention(graph, attention_output.input)?;
    for part in [&attention.query, &attention.key, &attention.value] {
        same_rows(graph, part, rows, attention_output.input)?;
    }
    let layer = Layer {
        attention,
        attention_output,
        attention_norm,
        feed_forward_in,
        activation,
        feed_forward_out,
        norm,
    };
    Ok((layer, rows))
}

fn norm_at(graph: &Graph, value: Value) -> Result<Norm, Error> {
    norm(graph, value).ok_or_else(|| graph.refuse(value, norm::EXPECTED))
}

/// A linear layer, and what it is added to.
fn residual(graph: &Graph, sum: Value) -> Option<(Linear, Value)> {
    let [first, second] = graph.operands(sum, "Add")?;
    [(first, second), (second, first)]
        .into_iter()
        .find_map(|(product, rows)| Some((linear(graph, product)?, graph.origin(rows))))
}

/// Refuses a linear layer that does not read the rows that are added to its result.
fn same_rows(graph: &Graph, linear: &Linear, rows: Value, at: Value) -> Result<(), Error> {
    if linear.input == rows {
        return Ok(());
    }
    Err(graph.refuse(
        at,
        &format!(
            "to come from the rows {:?}, which are added afterwards, as in BERT; it comes from {:?}",
            graph.name(rows),
            graph.name(linear.input)
        ),
    ))
}
