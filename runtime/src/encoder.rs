//! The encoder's layers (arXiv 1810.04805), on a ragged batch of texts.
//!
//! The head reads the first token of each text only. So in the last layer only those rows have
//! queries, attention output and feed-forward; keys and values are needed of all. The rows'
//! bits are the same as if all had been computed.

use crate::attention::{self, Heads, Projections};
use crate::executor::{Executor, RowBlock};
use crate::format::{PANEL, Shape, padded};
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::{Norm, RowOperation, RowScale};
use crate::linear;
use crate::model::{Model, NormWeights};
use crate::profile::Profile;
use crate::workspace::Workspace;

/// Runs all layers on the embedded tokens. Leaves the first token of each text in `hidden`,
/// `[texts, hidden]`, and quantized in `quantized` and `scales`.
pub(crate) fn encode(executor: Executor<'_>, model: &Model, workspace: &mut Workspace) {
    let layers = model.shape().layers as usize;
    for index in 0..layers {
        observe_layer_input(model, workspace, index);
        let last = index + 1 == layers;
        if last {
            project_last(executor, model, index, workspace);
        } else {
            project(executor, model, index, workspace);
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
fn project(executor: Executor<'_>, model: &Model, index: usize, workspace: &mut Workspace) {
    let (shape, layer) = (model.shape(), model.layer(index));
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let tokens = workspace.encoding.ids.len();
    let wide = workspace.wide.first(tokens * 3 * heads);
    linear::multiply(
        executor,
        layer.query_key_value,
        Matrix::new(workspace.quantized.first(tokens * hidden), hidden),
        &workspace.scales,
        PanelsMut::grouped(wide, tokens, shape.head_stride()),
    );
    end_product(
        &mut workspace.profile,
        "query, key, value",
        index,
        tokens,
        (shape.hidden, 3 * shape.heads * shape.head_size),
    );
    let all = |third: usize| Heads {
        values: &wide[third * tokens * heads..][..tokens * heads],
        rows: tokens,
        width: shape.head_stride(),
    };
    attention::attend(
        executor,
        Projections {
            queries: all(0),
            query_boundaries: &workspace.boundaries,
            keys: all(1),
            values: all(2),
            key_boundaries: &workspace.boundaries,
        },
        shape.head_size as usize,
        MatrixMut::new(workspace.update.first(tokens * heads), heads),
        &mut workspace.attention,
    );
    end_attention(
        &mut workspace.profile,
        index,
        shape,
        &workspace.boundaries,
        None,
    );
}

/// As [`project`], but with the queries and the context of each text's first token only; the
/// residual stream is reduced to these rows.
fn project_last(executor: Executor<'_>, model: &Model, index: usize, workspace: &mut Workspace) {
    let (shape, layer) = (model.shape(), model.layer(index));
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let tokens = workspace.encoding.ids.len();
    let texts = workspace.boundaries.len() - 1;
    let quantized = workspace.quantized.first(tokens * hidden);
    let panels = heads / PANEL;

    let wide = workspace.wide.first(tokens * 2 * heads);
    linear::multiply(
        executor,
        layer.query_key_value.part(panels..3 * panels),
        Matrix::new(quantized, hidden),
        &workspace.scales,
        PanelsMut::grouped(wide, tokens, shape.head_stride()),
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
        PanelsMut::grouped(queries, texts, shape.head_stride()),
    );
    if let Some(profile) = &mut workspace.profile {
        let width = (shape.heads * shape.head_size) as usize;
        let inputs = shape.hidden as usize;
        profile.end_step(
            "query, key, value",
            Some(index),
            (2 * tokens + texts) * inputs * width,
            tokens * (inputs + 8 * width) + 3 * inputs * width,
        );
    }
    workspace.units.clear();
    workspace.units.extend(0..=texts);
    workspace.scales.truncate(texts);
    let heads_of = |values, rows| Heads {
        values,
        rows,
        width: shape.head_stride(),
    };
    let (keys, values) = wide.split_at(tokens * heads);
    attention::attend(
        executor,
        Projections {
            queries: heads_of(queries, texts),
            query_boundaries: &workspace.units,
            keys: heads_of(keys, tokens),
            values: heads_of(values, tokens),
            key_boundaries: &workspace.boundaries,
        },
        shape.head_size as usize,
        MatrixMut::new(workspace.update.first(texts * heads), heads),
        &mut workspace.attention,
    );
    end_attention(
        &mut workspace.profile,
        index,
        shape,
        &workspace.boundaries,
        Some(1),
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
    end_rows(
        &mut workspace.profile,
        "quantize context",
        index,
        rows * heads * 5,
    );
    let update = workspace.update.first(rows * hidden);
    linear::multiply(
        executor,
        layer.attention_output,
        Matrix::new(quantized, heads),
        scales,
        PanelsMut::new(MatrixMut::new(update, hidden)),
    );
    end_product(
        &mut workspace.profile,
        "attention output",
        index,
        rows,
        (shape.heads * shape.head_size, shape.hidden),
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
    end_rows(
        &mut workspace.profile,
        "attention norm",
        index,
        rows * hidden * 13,
    );

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
        PanelsMut::new(MatrixMut::new(wide, intermediate)),
    );
    end_product(
        &mut workspace.profile,
        "feed forward in",
        index,
        rows,
        (shape.hidden, shape.intermediate),
    );
    let quantized = workspace.quantized.first(rows * intermediate);
    let (activation, balance) = (model.activation(), layer.feed_forward_balance);
    if let Some(observed) = &mut observed {
        // The same in two steps, to see what lies between them.
        executor.kernels.run_rows(RowOperation::Map {
            values: MatrixMut::new(wide, intermediate),
            activation,
        });
        let values = Matrix::new(wide, intermediate);
        observed.feed_forward_out.add(values);
        executor.kernels.run_rows(RowOperation::Quantize {
            values,
            balance: Some(balance),
            out: MatrixMut::new(quantized, intermediate),
            scales,
        });
    } else {
        executor.activate(
            Matrix::new(wide, intermediate),
            activation,
            Some(balance),
            &mut workspace.activated,
            MatrixMut::new(quantized, intermediate),
            scales,
        );
    }
    end_rows(
        &mut workspace.profile,
        "activation",
        index,
        rows * intermediate * 5,
    );
    let update = workspace.update.first(rows * hidden);
    linear::multiply(
        executor,
        layer.feed_forward_out,
        Matrix::new(quantized, intermediate),
        scales,
        PanelsMut::new(MatrixMut::new(update, hidden)),
    );
    end_product(
        &mut workspace.profile,
        "feed forward out",
        index,
        rows,
        (shape.intermediate, shape.hidden),
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
    end_rows(
        &mut workspace.profile,
        "feed forward norm",
        index,
        rows * hidden * 13,
    );
}

/// Ends a product of `rows` rows with weights of these dimensions, without padding.
fn end_product(
    profile: &mut Option<Profile>,
    operation: &'static str,
    layer: usize,
    rows: usize,
    (inputs, outputs): (u32, u32),
) {
    if let Some(profile) = profile {
        let (inputs, outputs) = (inputs as usize, outputs as usize);
        profile.end_step(
            operation,
            Some(layer),
            rows * inputs * outputs,
            inputs * outputs + rows * (inputs + 4 * outputs),
        );
    }
}

/// Ends the attention of texts; of each, of all its queries or of `queries`.
fn end_attention(
    profile: &mut Option<Profile>,
    layer: usize,
    shape: &Shape,
    boundaries: &[usize],
    queries: Option<usize>,
) {
    if let Some(profile) = profile {
        let width = (shape.heads * shape.head_size) as usize;
        let (mut multiplications, mut bytes) = (0, 0);
        for keys in boundaries.windows(2).map(|text| text[1] - text[0]) {
            let queries = queries.unwrap_or(keys);
            multiplications += 2 * queries * keys * width;
            bytes += 8 * (queries + keys) * width;
        }
        profile.end_step("attention", Some(layer), multiplications, bytes);
    }
}

/// Ends a step between two products.
fn end_rows(profile: &mut Option<Profile>, operation: &'static str, layer: usize, bytes: usize) {
    if let Some(profile) = profile {
        profile.end_step(operation, Some(layer), 0, bytes);
    }
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
