//! A product of quantized rows and int8 weights, divided over threads by columns.

use crate::executor::Executor;
use crate::kernels::Product;
use crate::kernels::matrix::{Matrix, PanelRuns, PanelsMut};
use crate::kernels::rows::RowScale;
use crate::model::LinearWeights;

/// Panels of one task: as many as a kernel's widest tile has, so that each weight is read by one
/// thread only.
fn panels_per_task(rows: usize, panels: usize, threads: usize) -> usize {
    match (threads, rows) {
        (1, _) => panels.max(1),
        (_, 0..=2) => 8,
        _ => 4,
    }
}

/// Writes `rows * weights + bias` to `out`.
pub(crate) fn multiply(
    executor: Executor<'_>,
    weights: LinearWeights<'_>,
    rows: Matrix<'_, u8>,
    scales: &[RowScale],
    out: PanelsMut<'_>,
) {
    let panels = out.panels();
    let width = panels_per_task(rows.rows(), panels, executor.workers.threads());
    let mut scratch = vec![(); executor.workers.threads()];
    executor.workers.run(
        panels.div_ceil(width),
        &mut scratch,
        PanelRuns::new(out, width),
        |number, (), out| {
            let first = number * width;
            let weights = weights.part(first..first + out.panels());
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
        assert_eq!(panels_per_task(128, 96, 1), 96);
        assert_eq!(panels_per_task(1, 96, 2), 8);
        assert_eq!(panels_per_task(3, 96, 2), 4);
    }
}
