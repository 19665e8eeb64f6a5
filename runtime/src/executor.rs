//! How a step of the model is carried out: by which kernels, and divided over which threads.

use crate::format::Activation;
use crate::kernels::Kernels;
use crate::kernels::matrix::{Chunks, Matrix, MatrixMut, RowBlocks};
use crate::kernels::rows::{RowOperation, RowScale};
use crate::workers::Workers;
use crate::workspace::Buffer;

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

/// Rows that are read, and what is made of them.
struct QuantizedBlock<'a> {
    values: Matrix<'a, f32>,
    out: MatrixMut<'a, u8>,
    scales: &'a mut [RowScale],
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
        let height = self.rows_per_task(rows);
        let parts = (
            RowBlocks::new(values, height),
            RowBlocks::new(out, height),
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
        let mut scratch = vec![(); self.workers.threads()];
        self.for_each_quantized_block(values, &mut scratch, out, scales, |(), block| {
            self.kernels.run_rows(RowOperation::Quantize {
                values: block.values,
                balance: None,
                out: block.out,
                scales: block.scales,
            });
        });
    }

    /// Activates rows and quantizes the result; `scratch` has a buffer for each thread.
    pub(crate) fn activate(
        &self,
        values: Matrix<'_, f32>,
        activation: Activation,
        balance: Option<&[f32]>,
        scratch: &mut [Buffer<f32>],
        out: MatrixMut<'_, u8>,
        scales: &mut [RowScale],
    ) {
        self.for_each_quantized_block(values, scratch, out, scales, |scratch, block| {
            self.kernels.run_rows(RowOperation::Activate {
                values: block.values,
                activation,
                balance,
                scratch: scratch.first(values.columns()),
                out: block.out,
                scales: block.scales,
            });
        });
    }

    /// Divides rows and what is made of them by rows, and runs `step` on each block.
    fn for_each_quantized_block<S: Send>(
        &self,
        values: Matrix<'_, f32>,
        scratch: &mut [S],
        out: MatrixMut<'_, u8>,
        scales: &mut [RowScale],
        step: impl Fn(&mut S, QuantizedBlock<'_>) + Sync,
    ) {
        let height = self.rows_per_task(values.rows());
        let parts = (RowBlocks::new(out, height), Chunks::new(scales, height));
        self.workers.run(
            values.rows().div_ceil(height),
            scratch,
            parts,
            |number, scratch, (out, scales)| {
                let first = number * height;
                let block = QuantizedBlock {
                    values: values.rows_part(first..first + out.rows()),
                    out,
                    scales,
                };
                step(scratch, block);
            },
        );
    }

    fn rows_per_task(&self, rows: usize) -> usize {
        match self.workers.threads() {
            1 => rows.max(1),
            _ => ROWS_PER_TASK,
        }
    }
}
