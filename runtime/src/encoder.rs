//! The encoder's layers (arXiv 1810.04805), on a ragged batch of texts.
//!
//! A layer is two phases. In the first a task has some heads, from their projections to their
//! context ([`attention`]); in the second it has some rows, from their context to the next
//! layer ([`finish_rows`]). What a task makes on the way stays in the cache of its core. Where
//! there are few rows, the second phase is divided by the columns of each product instead, so
//! that each weight is read by one thread only.
//!
//! Where the head reads the first token of each text only, only those rows have queries,
//! attention output and feed-forward in the last layer; keys and values are needed of all. The
//! rows' bits are the same as if all had been computed.

use crate::attention::{self, AttentionInput};
use crate::executor::{Executor, RowBlock};
use crate::format::{Shape, padded};
use crate::head::HeadRows;
use crate::kernels::matrix::{Chunks, Matrix, MatrixMut, PanelsMut, RowBlocks};
use crate::kernels::rows::{Balance, Norm, RowOperation, RowScale};
use crate::linear::{self, QuantizedRows};
use crate::model::{LayerWeights, Model, NormWeights};
use crate::observation::ObservedLayer;
use crate::profile::Profile;
use crate::workspace::{LayerScratch, ThreadScratch, Workspace};

/// Rows of a thread from which on it reads all weights for them. With fewer, the threads divide
/// the weights instead: each row then passes from core to core at every step. Measured.
const ROWS_PER_THREAD: usize = 4;

/// The same, where the weights come from memory.
const ROWS_PER_THREAD_FROM_MEMORY: usize = 12;

/// Bytes of weights in the second phase that stay in the caches.
const CACHED_WEIGHTS: usize = 2 << 20;

/// Rows of a task at most: more do not make the products faster, and need a larger workspace.
const MOST_ROWS: usize = 128;

/// Runs all layers on the embedded tokens. Leaves the rows that the head reads in `hidden`,
/// `[texts or tokens, hidden]`, and quantized in `quantized` and `scales`; or anything, if the
/// call is to stop.
pub(crate) fn encode(
    executor: Executor<'_>,
    model: &Model,
    head_rows: HeadRows,
    workspace: &mut Workspace,
) {
    let layers = model.shape().layers as usize;
    for index in 0..layers {
        if executor.stop.is_requested() {
            return;
        }
        set_layer(workspace, Some(index));
        observe_layer_input(model, workspace, index);
        let first_only = head_rows == HeadRows::First && index + 1 == layers;
        attend(executor, model, (index, first_only), workspace);
        finish_layer(executor, model, index, workspace);
    }
    set_layer(workspace, None);
    observe_layer_input(model, workspace, layers);
}

/// Notes to which layer the steps belong from now on.
fn set_layer(workspace: &mut Workspace, layer: Option<usize>) {
    if let Some(profile) = &mut workspace.profile {
        profile.layer = layer;
    }
}

/// Notes the residual stream, which is what the layer, or after the last the head, reads.
fn observe_layer_input(model: &Model, workspace: &mut Workspace, layer: usize) {
    if let Some(observed) = &mut workspace.observed {
        let hidden = padded(model.shape().hidden as usize);
        let values = workspace.hidden.first(workspace.scales.len() * hidden);
        observed.layer_input(layer).add(Matrix::new(values, hidden));
    }
}

/// Fills `context`: of every token, or of each text's first only, to which the residual stream
/// is then reduced.
fn attend(
    executor: Executor<'_>,
    model: &Model,
    (index, first_only): (usize, bool),
    workspace: &mut Workspace,
) {
    let (shape, layer) = (model.shape(), model.layer(index));
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let tokens = workspace.encoding.ids.len();
    let is_fine = layer.query_key_value.rest.is_some();
    let quantize_fine = |workspace: &mut Workspace, fine: usize, rows: usize| {
        let values = Matrix::new(workspace.hidden.first(rows * hidden), hidden);
        let balance = Balance {
            factors: model.norm_before(index).balance,
            rotation: model.rotation(shape.hidden),
        };
        let row = &mut workspace.threads[0].balanced;
        workspace.fine[fine].quantize(executor.kernels, values, Some(balance), row);
    };
    if is_fine {
        quantize_fine(workspace, 0, tokens);
    }
    if first_only {
        gather_first_tokens(hidden, workspace);
    }
    let texts = workspace.gathered_scales.len();
    if is_fine && first_only {
        quantize_fine(workspace, 1, texts);
    }
    let [fine, first_fine] = &mut workspace.fine;
    let all = match is_fine {
        true => fine.rows(hidden),
        false => QuantizedRows {
            values: Matrix::new(workspace.quantized.first(tokens * hidden), hidden),
            scales: &workspace.scales,
        },
    };
    let (count, queries, query_boundaries) = if first_only {
        let first = match is_fine {
            true => first_fine.rows(hidden),
            false => QuantizedRows {
                values: Matrix::new(workspace.gathered.first(texts * hidden), hidden),
                scales: &workspace.gathered_scales,
            },
        };
        (texts, first, &workspace.units)
    } else {
        (tokens, all, &workspace.boundaries)
    };
    let context = workspace.context.first(count * heads);
    attention::attend(
        executor,
        AttentionInput {
            shape,
            weights: layer.query_key_value,
            queries,
            query_boundaries,
            keys: all,
            key_boundaries: &workspace.boundaries,
            upcoming: layer.attention_output.weights.values,
        },
        PanelsMut::new(MatrixMut::new(context, heads)),
        &mut workspace.threads,
    );
    if first_only {
        workspace.scales.truncate(texts);
    }
    workspace.end_phase();
}

/// Moves the first token of each text to the front of the residual stream, and copies its
/// quantized row.
fn gather_first_tokens(hidden: usize, workspace: &mut Workspace) {
    let tokens = workspace.encoding.ids.len();
    let texts = workspace.boundaries.len() - 1;
    let quantized = workspace.quantized.first(tokens * hidden);
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
    workspace.units.clear();
    workspace.units.extend(0..=texts);
}

/// How the second phase is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    /// By rows, at most as many a task.
    Rows(usize),
    /// By the columns of each product.
    Columns,
}

/// Rows of a thread from which on the division is by rows.
fn least_rows(weights: usize) -> usize {
    match weights > CACHED_WEIGHTS {
        true => ROWS_PER_THREAD_FROM_MEMORY,
        false => ROWS_PER_THREAD,
    }
}

/// Rows of a task at most, for as many rows or fewer: what memory is made ready for, so that
/// after a long text no shorter one needs more.
fn most_rows(rows: usize, weights: usize, threads: usize) -> usize {
    let by_rows = rows.div_ceil(threads).min(MOST_ROWS);
    let by_columns = rows.min(least_rows(weights) * threads);
    match threads {
        1 => by_rows,
        _ => by_rows.max(by_columns),
    }
}

fn divide(rows: usize, weights: usize, threads: usize) -> Division {
    let least = least_rows(weights);
    if threads > 1 && rows < least * threads {
        return Division::Columns;
    }
    let tasks = rows.div_ceil(threads * MOST_ROWS).max(1) * threads;
    Division::Rows(rows.div_ceil(tasks).max(1))
}

/// Bytes of a layer's weights that the second phase reads.
fn second_phase_weights(shape: &Shape) -> usize {
    let products = [
        shape.attention_output(),
        shape.feed_forward_in(),
        shape.feed_forward_out(),
    ];
    products
        .map(|product| product.panels() * product.panel_bytes())
        .iter()
        .sum()
}

/// From `context` to the next layer's input; there are as many rows as scales.
fn finish_layer(executor: Executor<'_>, model: &Model, index: usize, workspace: &mut Workspace) {
    let shape = model.shape();
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let rows = workspace.scales.len();
    let context = Matrix::new(workspace.context.first(rows * heads), heads);
    let residual = MatrixMut::new(workspace.hidden.first(rows * hidden), hidden);
    let quantized = MatrixMut::new(workspace.quantized.first(rows * hidden), hidden);
    let scales = &mut workspace.scales[..];
    let weights = second_phase_weights(shape);
    let most = most_rows(rows, weights, executor.threads());
    let intermediate = padded(shape.intermediate as usize);
    let layer = model.layer(index);
    let products = [
        (layer.attention_output, heads, hidden),
        (layer.feed_forward_in, hidden, intermediate),
        (layer.feed_forward_out, intermediate, hidden),
    ];
    for thread in &mut workspace.threads {
        thread.layer.make_ready(most, hidden, heads, intermediate);
        for (product, inputs, outputs) in products {
            if product.rest.is_some() {
                thread.fine.make_ready(most, inputs, outputs);
            }
        }
    }
    // What is observed is observed in one piece.
    let division = match workspace.observed {
        Some(_) => Division::Columns,
        None => divide(rows, weights, executor.threads()),
    };
    match division {
        Division::Columns => {
            let layer_rows = LayerRows {
                context,
                hidden: residual,
                quantized,
                scales,
            };
            let observed = workspace.observed.as_mut();
            let observed = observed.map(|observed| &mut observed.layers[index]);
            finish_rows(
                executor,
                model,
                index,
                layer_rows,
                &mut workspace.threads,
                observed,
            );
        }
        Division::Rows(height) => {
            let parts = (
                RowBlocks::new(residual, height),
                RowBlocks::new(quantized, height),
                Chunks::new(scales, height),
            );
            executor.run(
                rows.div_ceil(height),
                &mut workspace.threads,
                parts,
                |number, scratch, (hidden, quantized, scales)| {
                    let first = number * height;
                    let layer_rows = LayerRows {
                        context: context.rows_part(first..first + scales.len()),
                        hidden,
                        quantized,
                        scales,
                    };
                    finish_rows(
                        Executor::alone(executor.kernels, executor.stop),
                        model,
                        index,
                        layer_rows,
                        std::slice::from_mut(scratch),
                        None,
                    );
                },
            );
        }
    }
    workspace.end_phase();
}

/// Some rows in the second phase of a layer.
struct LayerRows<'a> {
    context: Matrix<'a, f32>,
    /// The residual stream: the layer's input, then its output.
    hidden: MatrixMut<'a, f32>,
    /// The layer's output as the next product reads it.
    quantized: MatrixMut<'a, u8>,
    scales: &'a mut [RowScale],
}

/// From the context of some rows to the next layer's input.
fn finish_rows(
    executor: Executor<'_>,
    model: &Model,
    index: usize,
    mut rows: LayerRows<'_>,
    threads: &mut [ThreadScratch],
    mut observed: Option<&mut ObservedLayer>,
) {
    let (shape, layer) = (model.shape(), model.layer(index));
    let count = rows.scales.len();
    let (hidden, heads) = (padded(shape.hidden as usize), shape.attention_width());
    let intermediate = padded(shape.intermediate as usize);
    let attention_width = shape.heads * shape.head_size;
    // The first thread's buffers hold the rows; `balanced` is used by each thread.
    let mut profile = threads[0].profile.take();
    let mut scratch = std::mem::take(&mut threads[0].layer);
    let mut fine = std::mem::take(&mut threads[0].fine);
    let LayerScratch {
        quantized,
        scales,
        hidden: between,
        intermediate: wide,
    } = &mut scratch;
    scales.resize(count, RowScale::default());
    if let Some(profile) = &mut profile {
        profile.begin_step();
    }

    if let Some(observed) = &mut observed {
        observed.attention_output.add(rows.context);
    }
    let between = between.first(count * hidden);
    let LayerWeights { weights, rest } = layer.attention_output;
    let upcoming = layer.feed_forward_in.weights.values;
    let out = MatrixMut::new(&mut *between, hidden);
    if let Some(rest) = rest {
        let input = (rows.context, None);
        let row = &mut threads[0].balanced;
        fine.multiply(executor, [weights, rest], input, upcoming, row, out);
    } else {
        let bytes = quantized.first(count * heads);
        executor.quantize(rows.context, MatrixMut::new(bytes, heads), scales);
        end_rows(&mut profile, "quantize context", count * heads * 5);
        let values = Matrix::new(bytes, heads);
        let input = QuantizedRows { values, scales };
        linear::multiply(executor, weights, input, upcoming, PanelsMut::new(out));
    }
    end_product(
        &mut profile,
        "attention output",
        count,
        (attention_width, shape.hidden),
    );
    let bytes = quantized.first(count * hidden);
    let attention_norm = layer_norm(shape, layer.attention_norm, model.rotation(shape.hidden));
    normalize(
        executor,
        attention_norm,
        rows.hidden.as_matrix(),
        MatrixMut::new(between, hidden),
        threads,
        MatrixMut::new(bytes, hidden),
        scales,
    );
    end_rows(&mut profile, "attention norm", count * hidden * 13);

    if let Some(observed) = &mut observed {
        observed.feed_forward_in.add(Matrix::new(between, hidden));
    }
    let wide = wide.first(count * intermediate);
    let LayerWeights { weights, rest } = layer.feed_forward_in;
    let upcoming = layer.feed_forward_out.weights.values;
    let out = MatrixMut::new(&mut *wide, intermediate);
    if let Some(rest) = rest {
        let input = (Matrix::new(between, hidden), Some(attention_norm.balance));
        let row = &mut threads[0].balanced;
        fine.multiply(executor, [weights, rest], input, upcoming, row, out);
    } else {
        let values = Matrix::new(bytes, hidden);
        let input = QuantizedRows { values, scales };
        linear::multiply(executor, weights, input, upcoming, PanelsMut::new(out));
    }
    end_product(
        &mut profile,
        "feed forward in",
        count,
        (shape.hidden, shape.intermediate),
    );
    let bytes = quantized.first(count * intermediate);
    let activation = model.activation();
    let balance = Balance {
        factors: layer.feed_forward_balance,
        rotation: model.rotation(shape.intermediate),
    };
    let LayerWeights { weights, rest } = layer.feed_forward_out;
    let in_two_steps = observed.is_some() || rest.is_some();
    if in_two_steps {
        // To see what lies between them.
        executor.kernels.run_rows(RowOperation::Map {
            values: MatrixMut::new(wide, intermediate),
            activation,
        });
    }
    let values = Matrix::new(wide, intermediate);
    if let Some(observed) = &mut observed {
        observed.feed_forward_out.add(values);
    }
    let upcoming = match index + 1 < shape.layers as usize {
        true => model.layer(index + 1).query_key_value.weights.values,
        false => model.first_head_weights(),
    };
    let product = rows.hidden.part_mut(0..count, 0..hidden);
    if let Some(rest) = rest {
        let input = (values, Some(balance));
        let row = &mut threads[0].balanced;
        fine.multiply(executor, [weights, rest], input, upcoming, row, product);
    } else {
        let out = MatrixMut::new(&mut *bytes, intermediate);
        if in_two_steps {
            executor.kernels.run_rows(RowOperation::Activate {
                values,
                activation: None,
                balance: Some(balance),
                scratch: threads[0].balanced.first(intermediate),
                out,
                scales,
            });
        } else {
            executor.activate(values, activation, Some(balance), threads, out, scales);
        }
        end_rows(&mut profile, "activation", count * intermediate * 5);
        let values = Matrix::new(bytes, intermediate);
        let input = QuantizedRows { values, scales };
        linear::multiply(executor, weights, input, upcoming, PanelsMut::new(product));
    }
    end_product(
        &mut profile,
        "feed forward out",
        count,
        (shape.intermediate, shape.hidden),
    );
    normalize(
        executor,
        layer_norm(shape, layer.feed_forward_norm, model.rotation(shape.hidden)),
        Matrix::new(between, hidden),
        rows.hidden,
        threads,
        rows.quantized,
        rows.scales,
    );
    end_rows(&mut profile, "feed forward norm", count * hidden * 13);
    threads[0].layer = scratch;
    threads[0].fine = fine;
    threads[0].profile = profile;
}

/// Ends a product of `rows` rows with weights of these dimensions, without padding.
fn end_product(
    profile: &mut Option<Profile>,
    operation: &'static str,
    rows: usize,
    (inputs, outputs): (u32, u32),
) {
    if let Some(profile) = profile {
        let (inputs, outputs) = (inputs as usize, outputs as usize);
        profile.end_step(
            operation,
            rows * inputs * outputs,
            inputs * outputs + rows * (inputs + 4 * outputs),
        );
    }
}

/// Ends a step between two products.
fn end_rows(profile: &mut Option<Profile>, operation: &'static str, bytes: usize) {
    if let Some(profile) = profile {
        profile.end_step(operation, 0, bytes);
    }
}

/// `values = norm(values + residual)`, and its quantized rows.
fn normalize(
    executor: Executor<'_>,
    norm: Norm<'_>,
    residual: Matrix<'_, f32>,
    values: MatrixMut<'_, f32>,
    threads: &mut [ThreadScratch],
    out: MatrixMut<'_, u8>,
    scales: &mut [RowScale],
) {
    executor.for_each_row_block(
        values,
        threads,
        out,
        scales,
        |kernels, block: RowBlock<'_>| {
            let rows = block.first..block.first + block.values.rows();
            kernels.run_rows(RowOperation::Normalize {
                values: block.values,
                residual: Some(residual.rows_part(rows)),
                norm,
                scratch: block.scratch,
                out: block.out,
                scales: block.scales,
            });
        },
    );
}

/// A layer norm of the model as the kernels take it.
pub(crate) fn layer_norm<'a>(shape: &Shape, weights: NormWeights<'a>, rotation: usize) -> Norm<'a> {
    Norm {
        weight: weights.weight,
        bias: weights.bias,
        balance: Balance {
            factors: weights.balance,
            rotation,
        },
        eps: shape.layer_norm_eps,
        columns: shape.hidden as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_ready_for_shorter_texts() {
        for weights in [1 << 20, 5 << 20] {
            for threads in [1, 2, 3, 8] {
                let mut largest = 0;
                for rows in 1..600 {
                    let height = match divide(rows, weights, threads) {
                        Division::Rows(height) => height,
                        Division::Columns => rows,
                    };
                    largest = height.max(largest);
                    let ready = most_rows(rows, weights, threads);
                    assert!(ready >= largest, "{rows} {threads}");
                    assert!(ready <= rows.min(MOST_ROWS), "{rows} {threads}");
                }
            }
        }
    }

    #[test]
    fn every_thread_has_rows_or_columns() {
        let (small, large) = (1 << 20, 5 << 20);
        for weights in [small, large] {
            assert_eq!(divide(384, weights, 1), Division::Rows(128));
            assert_eq!(divide(130, weights, 1), Division::Rows(65));
            assert_eq!(divide(1, weights, 1), Division::Rows(1));
            assert_eq!(divide(0, weights, 1), Division::Rows(1));
            assert_eq!(divide(1, weights, 2), Division::Columns);
            assert_eq!(divide(384, weights, 2), Division::Rows(96));
        }
        assert_eq!(divide(8, small, 2), Division::Rows(4));
        assert_eq!(divide(23, large, 2), Division::Columns);
        assert_eq!(divide(24, large, 2), Division::Rows(12));
        assert_eq!(divide(31, small, 8), Division::Columns);
    }
}
