//! Self-attention (arXiv 1706.03762) in int8: every text with itself, head by head.
//!
//! Queries are quantized by row, keys by row and values by column, all symmetric;
//! probabilities are `u8` steps of the row's largest. So both products are those of the
//! weights: keys and values are packed as panels, and the same kernels multiply.

use crate::executor::Executor;
use crate::format::{BLOCK, Columns, LinearShape, PANEL, padded};
use crate::kernels::matrix::{Bands, Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::{RowOperation, RowScale};
use crate::kernels::{Kernels, Product};
use crate::workspace::Buffer;

/// Queries of one block: their scores stay in the second-level cache for 512 keys.
const QUERIES: usize = 32;

/// The buffers of one thread.
#[derive(Default)]
pub(crate) struct AttentionScratch {
    keys: Buffer<i8>,
    key_columns: Vec<Columns>,
    values: Buffer<i8>,
    value_columns: Vec<Columns>,
    queries: Buffer<u8>,
    scores: Buffer<f32>,
    probabilities: Buffer<u8>,
    scales: Vec<RowScale>,
}

/// Queries, keys or values of all heads, one head after another: `[heads, rows, width]`, so that
/// a head's rows lie side by side.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a> {
    pub(crate) values: &'a [f32],
    /// Rows of a head.
    pub(crate) rows: usize,
    /// Columns of a head, padded ones included.
    pub(crate) width: usize,
}

impl<'a> Heads<'a> {
    fn head(&self, head: usize) -> Matrix<'a, f32> {
        let length = self.rows * self.width;
        Matrix::new(&self.values[head * length..][..length], self.width)
    }
}

/// One layer's queries, keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Projections<'a> {
    pub(crate) queries: Heads<'a>,
    /// Where each text's queries begin, and where the last one's end.
    pub(crate) query_boundaries: &'a [usize],
    pub(crate) keys: Heads<'a>,
    pub(crate) values: Heads<'a>,
    /// Where each text's keys begin, and where the last one's end.
    pub(crate) key_boundaries: &'a [usize],
}

/// Writes the context of every query to `context`, `[queries, heads * width]`; of each head,
/// `head_size` columns count.
pub(crate) fn attend(
    executor: Executor<'_>,
    projections: Projections<'_>,
    head_size: usize,
    context: MatrixMut<'_, f32>,
    scratch: &mut [AttentionScratch],
) {
    let width = projections.keys.width;
    let heads = context.columns() / width;
    let texts = projections.key_boundaries.len() - 1;
    // Scores in units of ln 2: a probability is then a power of two.
    let factor = std::f32::consts::LOG2_E / (head_size as f32).sqrt();
    executor.workers.run(
        texts * heads,
        scratch,
        Bands::new(context, projections.query_boundaries, width),
        |number, scratch, context| {
            let (text, head) = (number / heads, number % heads);
            let queries =
                projections.query_boundaries[text]..projections.query_boundaries[text + 1];
            let keys = projections.key_boundaries[text]..projections.key_boundaries[text + 1];
            attend_head(
                executor.kernels,
                projections.queries.head(head).rows_part(queries),
                projections.keys.head(head).rows_part(keys.clone()),
                projections.values.head(head).rows_part(keys),
                factor,
                context,
                scratch,
            );
        },
    );
}

fn attend_head(
    kernels: &Kernels,
    queries: Matrix<'_, f32>,
    keys: Matrix<'_, f32>,
    values: Matrix<'_, f32>,
    factor: f32,
    mut context: MatrixMut<'_, f32>,
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
                blocks: key_shape.blocks(),
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
                blocks: count.div_ceil(BLOCK),
            },
            PanelsMut::new(context.part_mut(first..first + height, 0..width)),
        );
    }
}
