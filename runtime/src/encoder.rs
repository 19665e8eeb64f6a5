//! The encoder's layers (arXiv 1810.04805), on a ragged batch of texts.
//!
//! The head reads the first token of each text only. So in the last layer only those rows have
//! queries, attention output and feed-forward; keys and values are needed of all. The rows'
//! bits are the same as if all had been computed.

use crate::attention::{self, Projections};
use crate::executor::{Executor, RowBlock};
use crate::format::{PANEL, Shape, padded};
use crate::kernels::matrix::{Matrix, MatrixMut};
use crate::kernels::rows::{Norm, RowOperation, RowScale};
use crate::linear;
use crate::model::{Layer, Model, NormWeights};
use crate::workspace::Workspace;

/// Runs all layers on the embedded tokens. Leaves the first token of each text in `hidden`,
/// `[texts, hidden]`, and quantized in `quantized` and `scales`.
pub(crate) fn encode(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let layers = model.shape().layers as usize;
    for index in 0..layers {
        let layer = model.layer(index);
        observe_layer_input(model, workspace, index);
        let last = index + 1 == layers;
        if last {
            project_last(executor, model, &layer, workspace);
        } else {
            project(executor, model, &layer, workspace);
        }
        finish_layer(executor, model, index, workspace);
    }
    observe_layer_input(model, workspace, layers);
}

/// Notes the residual stream, which is what the layer, or after the last the head, reads.
fn observe_layer_input(model: &Model, workspace: &mut Workspace, layer: usize) {
    if let Some(observed) = &mut workspace.observed {
        let hidden = padded(model.shape().hidden as usize);
        let values = workspace.hidden.first(workspace.scales.len() * hidden);
        observed.layer_input(layer).add(Matrix::new(values, hidden));
    }
}

/// Queries, keys and values of every token, and the context of every token in `update`.
fn project(executor: Executor<'_>, model: &Model, layer: &Layer<'_>, workspace: &mut Workspace) {
    let shape = model.shape();
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let tokens = workspace.encoding.ids.len();
    let wide = workspace.wide.first(tokens * 3 * heads);
    linear::multiply(
        executor,
        layer.query_key_value,
        Matrix::new(workspace.quantized.first(tokens * hidden), hidden),
        &workspace.scales,
        MatrixMut::new(wide, 3 * heads),
    );
    let all = Matrix::new(wide, 3 * heads);
    attention::attend(
        executor,
        Projections {
            queries: all.part(0..tokens, 0..heads),
            query_boundaries: &workspace.boundaries,
            keys: all.part(0..tokens, heads..2 * heads),
            values: all.part(0..tokens, 2 * heads..3 * heads),
            key_boundaries: &workspace.boundaries,
        },
        shape.head_size as usize,
        MatrixMut::new(workspace.update.first(tokens * heads), heads),
        &mut workspace.attention,
    );
}

/// As [`project`], but with the queries and the context of each text's first token only; the
/// residual stream is reduced to these rows.
fn project_last(
    executor: Executor<'_>,
    model: &Model,
    layer: &Layer<'_>,
    workspace: &mut Workspace,
) {
    let shape = model.shape();
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let tokens = workspace.encoding.ids.len();
    let texts = workspace.boundaries.len() - 1;
    let quantized = workspace.quantized.first(tokens * hidden);
    let panels = heads / PANEL;

    let wide = workspace.wide.first(tokens * 3 * heads);
    linear::multiply(
        executor,
        layer.query_key_value.part(panels..3 * panels),
        Matrix::new(quantized, hidden),
        &workspace.scales,
        MatrixMut::new(wide, 3 * heads).part_mut(0..tokens, heads..3 * heads),
    );

    let gathered = workspace.gathered.first(texts * hidden);
    let residual = workspace.hidden.first(tokens * hidden);
    workspace.gathered_scales.clear();
    for (text, &token) in workspace.boundaries[..texts].iter().enumerate() {
        let row = token * hidden..(token + 1) * hidden;
        gathered[text * hidden..][..hidden].copy_from_slice(&quantized[row.clone()]);
        workspace.gathered_scales.push(workspace.scales[token]);
        // Upwards: a text's first token never lies before the text's number.
        residual.copy_within(row, text * hidden);
    }
    let queries = workspace.queries.first(texts * heads);
    linear::multiply(
        executor,
        layer.query_key_value.part(0..panels),
        Matrix::new(gathered, hidden),
        &workspace.gathered_scales,
        MatrixMut::new(queries, heads),
    );
    workspace.units.clear();
    workspace.units.extend(0..=texts);
    workspace.scales.truncate(texts);
    let all = Matrix::new(wide, 3 * heads);
    attention::attend(
        executor,
        Projections {
            queries: Matrix::new(queries, heads),
            query_boundaries: &workspace.units,
            keys: all.part(0..tokens, heads..2 * heads),
            values: all.part(0..tokens, 2 * heads..3 * heads),
            key_boundaries: &workspace.boundaries,
        },
        shape.head_size as usize,
        MatrixMut::new(workspace.update.first(texts * heads), heads),
        &mut workspace.attention,
    );
}

/// From the context in `update` to the next layer's input; there are as many rows as scales.
fn finish_layer(executor: Executor<'_>, model: &Model, index: usize, workspace: &mut Workspace) {
    let layer = model.layer(index);
    let shape = model.shape();
    let rows = workspace.scales.len();
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let intermediate = padded(shape.intermediate as usize);
    let scales = &mut workspace.scales;
    let mut observed = workspace
        .observed
        .as_mut()
        .map(|observed| &mut observed.layers[index]);

    if let Some(observed) = &mut observed {
        let context = workspace.update.first(rows * heads);
        observed.attention_output.add(Matrix::new(context, heads));
    }
    let quantized = workspace.quantized.first(rows * heads);
    executor.quantize(
        Matrix::new(workspace.update.first(rows * heads), heads),
        MatrixMut::new(quantized, heads),
        scales,
    );
    let update = workspace.update.first(rows * hidden);
    linear::multiply(
        executor,
        layer.attention_output,
        Matrix::new(quantized, heads),
        scales,
        MatrixMut::new(update, hidden),
    );
    let quantized = workspace.quantized.first(rows * hidden);
    normalize(
        executor,
        model,
        layer.attention_norm,
        Matrix::new(workspace.hidden.first(rows * hidden), hidden),
        MatrixMut::new(update, hidden),
        MatrixMut::new(quantized, hidden),
        scales,
    );
    std::mem::swap(&mut workspace.hidden, &mut workspace.update);

    if let Some(observed) = &mut observed {
        let values = workspace.hidden.first(rows * hidden);
        observed.feed_forward_in.add(Matrix::new(values, hidden));
    }
    let wide = workspace.wide.first(rows * intermediate);
    linear::multiply(
        executor,
        layer.feed_forward_in,
        Matrix::new(quantized, hidden),
        scales,
        MatrixMut::new(wide, intermediate),
    );
    let quantized = workspace.quantized.first(rows * intermediate);
    executor.for_each_row_block(
        MatrixMut::new(wide, intermediate),
        MatrixMut::new(quantized, intermediate),
        scales,
        |kernels, block| {
            kernels.run_rows(RowOperation::Activate {
                values: block.values,
                activation: model.activation(),
                balance: Some(layer.feed_forward_balance),
                out: block.out,
                scales: block.scales,
            });
        },
    );
    if let Some(observed) = &mut observed {
        observed
            .feed_forward_out
            .add(Matrix::new(wide, intermediate));
    }
    let update = workspace.update.first(rows * hidden);
    linear::multiply(
        executor,
        layer.feed_forward_out,
        Matrix::new(quantized, intermediate),
        scales,
        MatrixMut::new(update, hidden),
    );
    normalize(
        executor,
        model,
        layer.feed_forward_norm,
        Matrix::new(workspace.hidden.first(rows * hidden), hidden),
        MatrixMut::new(update, hidden),
        MatrixMut::new(workspace.quantized.first(rows * hidden), hidden),
        scales,
    );
    std::mem::swap(&mut workspace.hidden, &mut workspace.update);
}

/// `values = norm(values + residual)`, and its quantized rows.
fn normalize(
    executor: Executor<'_>,
    model: &Model,
    norm: NormWeights<'_>,
    residual: Matrix<'_, f32>,
    values: MatrixMut<'_, f32>,
    out: MatrixMut<'_, u8>,
    scales: &mut [RowScale],
) {
    let norm = layer_norm(model.shape(), norm);
    executor.for_each_row_block(values, out, scales, |kernels, block: RowBlock<'_>| {
        let rows = block.first..block.first + block.values.rows();
        kernels.run_rows(RowOperation::Normalize {
            values: block.values,
            residual: Some(residual.rows_part(rows)),
            norm,
            out: block.out,
            scales: block.scales,
        });
    });
}

/// A layer norm of the model as the kernels take it.
pub(crate) fn layer_norm<'a>(shape: &Shape, weights: NormWeights<'a>) -> Norm<'a> {
    Norm {
        weight: weights.weight,
        bias: weights.bias,
        balance: weights.balance,
        eps: shape.layer_norm_eps,
        columns: shape.hidden as usize,
    }
}
