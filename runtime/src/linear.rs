//! A product of quantized rows and int8 weights, divided over threads by columns.

use crate::executor::Executor;
use crate::kernels::Product;
use crate::kernels::matrix::{Matrix, PanelRuns, PanelsMut};
use crate::kernels::rows::RowScale;
use crate::model::LinearWeights;

/// Multiplications below which a product is not worth a job for other threads.
const FEW: usize = 1 << 20;

/// Panels of one task: as many as a kernel's widest tile has, so that each weight is read by one
/// thread only.
fn panels_per_task(rows: usize, panels: usize, multiplications: usize, threads: usize) -> usize {
    match (threads, rows) {
        (1, _) => panels.max(1),
        _ if multiplications < FEW => panels.max(1),
        (_, 0..=2) => 8,
        _ => 4,
    }
}

/// Rows of bytes and what they stand for.
#[derive(Clone, Copy)]
pub(crate) struct QuantizedRows<'a> {
    pub(crate) values: Matrix<'a, u8>,
    pub(crate) scales: &'a [RowScale],
}

/// Writes `rows * weights + bias` to `out`; `upcoming` weights are fetched meanwhile.
pub(crate) fn multiply(
    executor: Executor<'_>,
    weights: LinearWeights<'_>,
    rows: QuantizedRows<'_>,
    upcoming: &[i8],
    out: PanelsMut<'_>,
) {
    let panels = out.panels();
    let threads = executor.threads();
    let multiplications = rows.scales.len().saturating_mul(weights.values.len());
    let width = panels_per_task(rows.scales.len(), panels, multiplications, threads);
    let mut scratch = vec![(); threads];
    executor.run(
        panels.div_ceil(width),
        &mut scratch,
        PanelRuns::new(out, width),
        |number, (), out| {
            let first = number * width;
            let end = first + out.panels();
            let part = weights.part(first..end);
            executor.kernels.multiply(
                Product {
                    rows: rows.values,
                    scales: rows.scales,
                    weights: part.values,
                    columns: part.columns,
                    checks: Some(part.checks),
                    blocks: part.shape.blocks(),
                    upcoming: match weights.part(end..panels).values {
                        [] => upcoming,
                        next => next,
                    },
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
        assert_eq!(panels_per_task(128, 96, FEW, 1), 96);
        assert_eq!(panels_per_task(1, 96, FEW, 2), 8);
        assert_eq!(panels_per_task(3, 96, FEW, 2), 4);
        assert_eq!(panels_per_task(3, 96, FEW - 1, 2), 96);
    }
}
