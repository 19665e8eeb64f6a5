//! How a step of the model is carried out: by which kernels, and divided over which threads.

use crate::cancellation::Stop;
use crate::format::Activation;
use crate::kernels::Kernels;
use crate::kernels::matrix::{Chunks, Matrix, MatrixMut, Parts, RowBlocks};
use crate::kernels::rows::{Balance, RowOperation, RowScale};
use crate::workers::{self, Workers};
use crate::workspace::ThreadScratch;

/// The kernels of this CPU and the threads to run them on.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    pub(crate) kernels: &'static Kernels,
    /// None: the calling thread alone.
    pub(crate) workers: Option<&'a Workers>,
    pub(crate) stop: Stop<'a>,
}

/// Values below which rows stay on one thread, which takes some ten microseconds for them.
const FEW: usize = 1 << 15;

/// What a row step writes: some rows of its matrices.
pub(crate) struct RowBlock<'a> {
    /// The first row of the block.
    pub(crate) first: usize,
    pub(crate) values: MatrixMut<'a, f32>,
    pub(crate) scratch: &'a mut [f32],
    pub(crate) out: MatrixMut<'a, u8>,
    pub(crate) scales: &'a mut [RowScale],
}

/// Rows that are read, and what is made of them.
struct QuantizedBlock<'a> {
    values: Matrix<'a, f32>,
    out: MatrixMut<'a, u8>,
    scales: &'a mut [RowScale],
}

impl<'a> Executor<'a> {
    /// The calling thread.
    pub(crate) fn alone(kernels: &'static Kernels, stop: Stop<'a>) -> Self {
        Self {
            kernels,
            workers: None,
            stop,
        }
    }

    /// Threads that work, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.map_or(1, Workers::threads)
    }

    /// See [`Workers::run`].
    pub(crate) fn run<P: Parts, S: Send>(
        &self,
        tasks: usize,
        scratch: &mut [S],
        output: P,
        task: impl Fn(usize, &mut S, P::Part) + Sync,
    ) {
        match self.workers {
            Some(workers) => workers.run(tasks, scratch, output, task),
            None => workers::run_alone(tasks, &mut scratch[0], &output, &task),
        }
    }

    /// Divides `values`, and the quantized rows and scales made of them, by rows, and runs
    /// `step` on each block.
    pub(crate) fn for_each_row_block(
        &self,
        values: MatrixMut<'_, f32>,
        threads: &mut [ThreadScratch],
        out: MatrixMut<'_, u8>,
        scales: &mut [RowScale],
        step: impl Fn(&Kernels, RowBlock<'_>) + Sync,
    ) {
        let (rows, columns) = (values.rows(), values.columns());
        let height = rows_per_task(rows, columns, self.threads());
        let parts = (
            RowBlocks::new(values, height),
            RowBlocks::new(out, height),
            Chunks::new(scales, height),
        );
        self.run(
            rows.div_ceil(height),
            threads,
            parts,
            |number, scratch, (values, out, scales)| {
                let block = RowBlock {
                    first: number * height,
                    values,
                    scratch: scratch.balanced.first(columns),
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
        let mut scratch = vec![(); self.threads()];
        self.for_each_quantized_block(values, &mut scratch, out, scales, |(), block| {
            self.kernels.run_rows(RowOperation::Quantize {
                values: block.values,
                out: block.out,
                scales: block.scales,
            });
        });
    }

    /// Activates rows and quantizes the result.
    pub(crate) fn activate(
        &self,
        values: Matrix<'_, f32>,
        activation: Activation,
        balance: Option<Balance<'_>>,
        threads: &mut [ThreadScratch],
        out: MatrixMut<'_, u8>,
        scales: &mut [RowScale],
    ) {
        self.for_each_quantized_block(values, threads, out, scales, |scratch, block| {
            self.kernels.run_rows(RowOperation::Activate {
                values: block.values,
                activation: Some(activation),
                balance,
                scratch: scratch.balanced.first(values.columns()),
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
        let height = rows_per_task(values.rows(), values.columns(), self.threads());
        let parts = (RowBlocks::new(out, height), Chunks::new(scales, height));
        self.run(
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
}

/// Rows of one task: as many as each thread gets.
fn rows_per_task(rows: usize, columns: usize, threads: usize) -> usize {
    if rows.saturating_mul(columns) < FEW {
        return rows.max(1);
    }
    rows.div_ceil(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_stay_on_one_thread() {
        assert_eq!(rows_per_task(128, 384, 1), 128);
        assert_eq!(rows_per_task(128, 384, 2), 64);
        assert_eq!(rows_per_task(3, 1 << 14, 2), 2);
        assert_eq!(rows_per_task(16, 384, 2), 16);
        assert_eq!(rows_per_task(0, 384, 2), 1);
    }
}
