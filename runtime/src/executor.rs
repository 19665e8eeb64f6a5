//! How a step of the model is carried out: by which kernels, and divided over which threads.

use crate::kernels::Kernels;
use crate::kernels::matrix::{Chunks, Matrix, MatrixMut, Tiles};
use crate::kernels::rows::{RowOperation, RowScale};
use crate::workers::Workers;

/// The kernels of this CPU and the threads to run them on.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) workers: &'a Workers,
}

/// Rows of one task, where there are several threads.
const ROWS_PER_TASK: usize = 8;

/// What a row step writes: some rows of its matrices.
pub(crate) struct RowBlock<'a> {
    /// The first row of the block.
    pub(crate) first: usize,
    pub(crate) values: MatrixMut<'a, f32>,
    pub(crate) out: MatrixMut<'a, u8>,
    pub(crate) scales: &'a mut [RowScale],
}

impl Executor<'_> {
    /// Divides `values`, and the quantized rows and scales made of them, by rows, and runs
    /// `step` on each block.
    pub(crate) fn for_each_row_block(
        &self,
        values: MatrixMut<'_, f32>,
        out: MatrixMut<'_, u8>,
        scales: &mut [RowScale],
        step: impl Fn(&Kernels, RowBlock<'_>) + Sync,
    ) {
        let rows = values.rows();
        let height = if self.workers.threads() == 1 {
            rows.max(1)
        } else {
            ROWS_PER_TASK
        };
        let parts = (
            Tiles::of_rows(values, height),
            Tiles::of_rows(out, height),
            Chunks::new(scales, height),
        );
        let mut scratch = vec![(); self.workers.threads()];
        self.workers.run(
            rows.div_ceil(height),
            &mut scratch,
            parts,
            |number, (), (values, out, scales)| {
                let block = RowBlock {
                    first: number * height,
                    values,
                    out,
                    scales,
                };
                step(self.kernels, block);
            },
        );
    }

    /// Quantizes rows as the input of a product.
    pub(crate) fn quantize(
        &self,
        values: Matrix<'_, f32>,
        out: MatrixMut<'_, u8>,
        scales: &mut [RowScale],
    ) {
        let height = values.rows().div_ceil(self.workers.threads()).max(1);
        let parts = (Tiles::of_rows(out, height), Chunks::new(scales, height));
        let mut scratch = vec![(); self.workers.threads()];
        self.workers.run(
            values.rows().div_ceil(height),
            &mut scratch,
            parts,
            |number, (), (out, scales)| {
                let first = number * height;
                self.kernels.run_rows(RowOperation::Quantize {
                    values: values.rows_part(first..first + out.rows()),
                    out,
                    scales,
                });
            },
        );
    }
}
