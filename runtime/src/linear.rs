//! A product of quantized rows and int8 weights, divided over threads by columns.

use crate::executor::Executor;
use crate::format::PANEL;
use crate::kernels::Product;
use crate::kernels::matrix::{Matrix, MatrixMut, Tiles};
use crate::kernels::rows::RowScale;
use crate::model::LinearWeights;

/// Columns of one task: as many panels as a kernel's widest tile has, so that each weight is
/// read by one thread only.
fn columns_per_task(rows: usize, columns: usize, threads: usize) -> usize {
    match (threads, rows) {
        (1, _) => columns,
        (_, 0..=2) => 8 * PANEL,
        _ => 4 * PANEL,
    }
}

/// Writes `rows * weights + bias` to `out`, `[rows, outputs]`.
pub(crate) fn multiply(
    executor: Executor<'_>,
    weights: LinearWeights<'_>,
    rows: Matrix<'_, u8>,
    scales: &[RowScale],
    out: MatrixMut<'_, f32>,
) {
    let columns = out.columns();
    let width = columns_per_task(rows.rows(), columns, executor.workers.threads());
    let mut scratch = vec![(); executor.workers.threads()];
    executor.workers.run(
        columns.div_ceil(width),
        &mut scratch,
        Tiles::of_columns(out, width),
        |number, (), out| {
            let first = number * width / PANEL;
            let weights = weights.part(first..first + out.columns() / PANEL);
            executor.kernels.multiply(
                Product {
                    rows,
                    scales,
                    weights: weights.values,
                    columns: weights.columns,
                    blocks: weights.shape.blocks(),
                },
                out,
            );
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_hold_whole_tiles() {
        assert_eq!(columns_per_task(128, 1536, 1), 1536);
        assert_eq!(columns_per_task(1, 1536, 2), 128);
        assert_eq!(columns_per_task(3, 1536, 2), 64);
    }
}
