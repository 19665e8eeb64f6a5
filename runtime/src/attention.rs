//! Self-attention (arXiv 1706.03762) in int8: every text with itself, head by head.
//!
//! Queries are quantized by row, keys by row and values by column, all symmetric;
//! probabilities are `u8` steps of the row's largest. So both products are those of the
//! weights: keys and values are packed as panels, and the same kernels multiply.

use std::ops::Range;

use crate::cancellation::Stop;
use crate::executor::Executor;
use crate::fine;
use crate::format::{BLOCK, Columns, LinearShape, PANEL, Shape, padded};
use crate::kernels::matrix::{Matrix, MatrixMut, PanelRuns, PanelsMut};
use crate::kernels::rows::{RowOperation, RowScale};
use crate::kernels::{Kernels, Product};
use crate::linear::{self, QuantizedRows};
use crate::model::LayerWeights;
use crate::workspace::{Buffer, ThreadScratch};

/// Queries of one block: their scores stay in the second-level cache for 512 keys.
const QUERIES: usize = 32;

/// The buffers of one thread.
#[derive(Default)]
pub(crate) struct AttentionScratch {
    pub(crate) keys: Buffer<i8>,
    pub(crate) key_columns: Vec<Columns>,
    pub(crate) values: Buffer<i8>,
    pub(crate) value_columns: Vec<Columns>,
    pub(crate) queries: Buffer<u8>,
    pub(crate) scores: Buffer<f32>,
    pub(crate) probabilities: Buffer<u8>,
    pub(crate) scales: Vec<RowScale>,
}

/// What attention reads.
#[derive(Clone, Copy)]
pub(crate) struct AttentionInput<'a> {
    pub(crate) shape: &'a Shape,
    /// Of queries, keys and values, each of all heads.
    pub(crate) weights: LayerWeights<'a>,
    /// The tokens that have a query. In a fine product there are two rows for each, of these and
    /// of the keys.
    pub(crate) queries: QuantizedRows<'a>,
    /// Where each text's queries begin, and where the last one's end.
    pub(crate) query_boundaries: &'a [usize],
    /// All tokens.
    pub(crate) keys: QuantizedRows<'a>,
    /// Where each text's keys begin, and where the last one's end.
    pub(crate) key_boundaries: &'a [usize],
    /// The weights of the next product.
    pub(crate) upcoming: &'a [i8],
}

/// Heads of one task: as many as make a product as wide as a kernel's widest tile, unless the
/// threads would not have as many tasks each.
fn heads_per_task(head_panels: usize, heads: usize, threads: usize) -> usize {
    let wide = (4 / head_panels).max(1);
    if heads.div_ceil(wide).is_multiple_of(threads) {
        wide
    } else {
        1
    }
}

/// Writes the context of every query to `context`, `[queries, heads]`.
///
/// A task has some heads from their projections to their context, so that queries, keys and
/// values stay in the second-level cache of one core.
pub(crate) fn attend(
    executor: Executor<'_>,
    input: AttentionInput<'_>,
    context: PanelsMut<'_>,
    threads: &mut [ThreadScratch],
) {
    let head_panels = input.shape.head_stride() / PANEL;
    let heads = input.shape.heads as usize;
    let width = heads_per_task(head_panels, heads, executor.threads());
    executor.run(
        heads.div_ceil(width),
        threads,
        PanelRuns::new(context, width * head_panels),
        |number, scratch, context| {
            let first = number * width;
            let heads = first..(first + width).min(heads);
            attend_heads(executor.kernels, input, heads, context, scratch);
        },
    );
}

/// Some heads of all texts.
fn attend_heads(
    kernels: &'static Kernels,
    input: AttentionInput<'_>,
    heads: Range<usize>,
    mut context: PanelsMut<'_>,
    scratch: &mut ThreadScratch,
) {
    let (shape, LayerWeights { weights, rest }) = (input.shape, input.weights);
    let (stride, head_size) = (shape.head_stride(), shape.head_size as usize);
    let head_panels = stride / PANEL;
    let executor = Executor::alone(kernels, Stop::default());
    let profile = &mut scratch.profile;
    if let Some(profile) = profile {
        profile.begin_step();
    }

    let panels_of = |kind: usize| {
        let start = (kind * shape.heads as usize + heads.start) * head_panels;
        start..start + heads.len() * head_panels
    };
    let rows_of_token = 1 + usize::from(rest.is_some());
    let queries = input.queries.scales.len() / rows_of_token;
    let keys = input.keys.scales.len() / rows_of_token;
    let columns = heads.len() * stride;
    let projections = scratch.projections.first((queries + 2 * keys) * columns);
    let (query_values, others) = projections.split_at_mut(queries * columns);
    let (key_values, value_values) = others.split_at_mut(keys * columns);
    let [query_panels, key_panels, value_panels] = [0, 1, 2].map(panels_of);
    let (key_weights, value_weights) = (
        weights.part(key_panels.clone()),
        weights.part(value_panels.clone()),
    );
    let next = match weights.part(heads.end * head_panels..weights.shape.panels()) {
        _ if heads.end == shape.heads as usize => input.upcoming,
        next => next.values,
    };
    let products = [
        (
            query_panels,
            input.queries,
            &mut *query_values,
            key_weights.values,
        ),
        (
            key_panels,
            input.keys,
            &mut *key_values,
            value_weights.values,
        ),
        (value_panels, input.keys, &mut *value_values, next),
    ];
    for (panels, rows, out, upcoming) in products {
        let weights = weights.part(panels.clone());
        if let Some(rest) = rest {
            let weights = [weights, rest.part(panels)];
            let (products, out) = (&mut scratch.fine.products, MatrixMut::new(out, stride));
            fine::multiply(executor, weights, rows, upcoming, products, out);
        } else {
            let out = PanelsMut::grouped(out, rows.scales.len(), stride);
            linear::multiply(executor, weights, rows, upcoming, out);
        }
    }
    if let Some(profile) = profile {
        let (inputs, outputs) = (shape.hidden as usize, heads.len() * head_size);
        profile.end_step(
            "query, key, value",
            (queries + 2 * keys) * inputs * outputs,
            3 * inputs * outputs + keys * inputs + (queries + 2 * keys) * 4 * outputs,
        );
    }

    // Scores in units of ln 2: a probability is then a power of two.
    let factor = std::f32::consts::LOG2_E / (head_size as f32).sqrt();
    let (mut multiplications, mut bytes) = (0, 0);
    for text in 0..input.key_boundaries.len() - 1 {
        let of_text = |boundaries: &[usize]| boundaries[text]..boundaries[text + 1];
        let (query_rows, key_rows) = (
            of_text(input.query_boundaries),
            of_text(input.key_boundaries),
        );
        for head in 0..heads.len() {
            let of_head = |rows: usize, part: &Range<usize>| {
                let start = (head * rows + part.start) * stride;
                start..start + part.len() * stride
            };
            let query_part = of_head(queries, &query_rows);
            let key_part = of_head(keys, &key_rows);
            attend_head(
                kernels,
                Matrix::new(&query_values[query_part], stride),
                Matrix::new(&key_values[key_part.clone()], stride),
                Matrix::new(&value_values[key_part], stride),
                factor,
                context.part_mut(
                    query_rows.clone(),
                    head * head_panels..(head + 1) * head_panels,
                ),
                &mut scratch.attention,
            );
        }
        if profile.is_some() {
            let width = heads.len() * head_size;
            multiplications += 2 * query_rows.len() * key_rows.len() * width;
            bytes += 8 * (query_rows.len() + key_rows.len()) * width;
        }
    }
    if let Some(profile) = profile {
        profile.end_step("attention", multiplications, bytes);
    }
}

fn attend_head(
    kernels: &Kernels,
    queries: Matrix<'_, f32>,
    keys: Matrix<'_, f32>,
    values: Matrix<'_, f32>,
    factor: f32,
    mut context: PanelsMut<'_>,
    scratch: &mut AttentionScratch,
) {
    let (count, width) = (keys.rows(), keys.columns());
    let key_shape = LinearShape {
        inputs: width,
        outputs: padded(count),
    };
    let value_shape = LinearShape {
        inputs: count,
        outputs: width,
    };
    let key_weights = scratch
        .keys
        .first(key_shape.panels() * key_shape.panel_bytes());
    let value_weights = scratch
        .values
        .first(value_shape.panels() * value_shape.panel_bytes());
    scratch
        .key_columns
        .resize(key_shape.panels(), bytemuck::Zeroable::zeroed());
    scratch
        .value_columns
        .resize(value_shape.panels(), bytemuck::Zeroable::zeroed());
    kernels.run_rows(RowOperation::PackKeys {
        values: keys,
        weights: key_weights,
        columns: &mut scratch.key_columns,
    });
    kernels.run_rows(RowOperation::PackValues {
        values,
        weights: value_weights,
        columns: &mut scratch.value_columns,
    });

    let score_width = key_shape.panels() * PANEL;
    for first in (0..queries.rows()).step_by(QUERIES) {
        let height = QUERIES.min(queries.rows() - first);
        scratch.scales.resize(height, RowScale::default());
        let quantized = scratch.queries.first(height * width);
        let scores = scratch.scores.first(height * score_width);
        let probabilities = scratch.probabilities.first(height * score_width);
        kernels.run_rows(RowOperation::QuantizeQueries {
            values: queries.rows_part(first..first + height),
            factor,
            out: MatrixMut::new(quantized, width),
            scales: &mut scratch.scales,
        });
        kernels.multiply(
            Product {
                rows: Matrix::new(quantized, width),
                scales: &scratch.scales,
                weights: key_weights,
                columns: &scratch.key_columns,
                checks: None,
                blocks: key_shape.blocks(),
                upcoming: &[],
            },
            PanelsMut::new(MatrixMut::new(scores, score_width)),
        );
        kernels.run_rows(RowOperation::Softmax {
            scores: Matrix::new(scores, score_width),
            keys: count,
            out: MatrixMut::new(probabilities, score_width),
            scales: &mut scratch.scales,
        });
        kernels.multiply(
            Product {
                rows: Matrix::new(probabilities, score_width),
                scales: &scratch.scales,
                weights: value_weights,
                columns: &scratch.value_columns,
                checks: None,
                blocks: count.div_ceil(BLOCK),
                upcoming: &[],
            },
            context.part_mut(first..first + height, 0..width / PANEL),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_wide_products_where_every_thread_has_work() {
        assert_eq!(heads_per_task(2, 12, 1), 2);
        assert_eq!(heads_per_task(2, 12, 2), 2);
        assert_eq!(heads_per_task(2, 12, 4), 1);
        assert_eq!(heads_per_task(4, 12, 8), 1);
        assert_eq!(heads_per_task(8, 3, 1), 1);
        assert_eq!(heads_per_task(2, 1, 1), 2);
    }
}
