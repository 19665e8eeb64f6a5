//! Fine products: about as exact as 16 bits are, with the kernels of 8.
//!
//! Both sides are quantized twice: as always, and then what that left of them. The four products
//! are ordinary ones, and are added. See [`crate::format::tensor_table`]. It takes four times as
//! long, so it is for the few products of a model that 8 bits hurt; the functions are not inlined,
//! to be small.

use crate::executor::Executor;
use crate::kernels::Kernels;
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::{Balance, RowOperation, RowScale};
use crate::linear::{self, QuantizedRows};
use crate::model::LinearWeights;
use crate::workspace::Buffer;

/// The buffers of a fine product.
#[derive(Default)]
pub(crate) struct FineScratch {
    /// The input: for each row two, `[2 rows, inputs]`.
    pub(crate) quantized: Buffer<u8>,
    /// Two for each row.
    pub(crate) scales: Vec<RowScale>,
    /// `[2, 2 rows, outputs]`: by the weights, and by the rest of them.
    pub(crate) products: Buffer<f32>,
}

impl FineScratch {
    /// Makes room for as many rows of these widths.
    pub(crate) fn make_ready(&mut self, rows: usize, inputs: usize, outputs: usize) {
        self.quantized.first(2 * rows * inputs);
        self.scales
            .reserve_exact((2 * rows).saturating_sub(self.scales.len()));
        self.products.first(4 * rows * outputs);
    }

    /// Quantizes rows, each twice, on the calling thread.
    #[inline(never)]
    pub(crate) fn quantize(
        &mut self,
        kernels: &Kernels,
        values: Matrix<'_, f32>,
        balance: Option<Balance<'_>>,
        scratch: &mut Buffer<f32>,
    ) {
        let (rows, columns) = (values.rows(), values.columns());
        let scratch = scratch.first(columns);
        self.scales.resize(2 * rows, RowScale::default());
        let mut out = MatrixMut::new(self.quantized.first(2 * rows * columns), columns);
        for (row, [scale, rest]) in self.scales.as_chunks_mut().0.iter_mut().enumerate() {
            kernels.run_rows(RowOperation::Activate {
                values: values.rows_part(row..row + 1),
                activation: None,
                balance,
                scratch,
                out: out.part_mut(2 * row..2 * row + 1, 0..columns),
                scales: std::slice::from_mut(scale),
            });
            kernels.run_rows(RowOperation::TakeQuantized { row: scratch });
            kernels.run_rows(RowOperation::Quantize {
                values: Matrix::new(scratch, columns),
                out: out.part_mut(2 * row + 1..2 * row + 2, 0..columns),
                scales: std::slice::from_mut(rest),
            });
        }
    }

    /// Writes the product of `values`, balanced, and of weights and their rest to `out`.
    #[inline(never)]
    pub(crate) fn multiply(
        &mut self,
        executor: Executor<'_>,
        weights: [LinearWeights<'_>; 2],
        (values, balance): (Matrix<'_, f32>, Option<Balance<'_>>),
        upcoming: &[i8],
        scratch: &mut Buffer<f32>,
        out: MatrixMut<'_, f32>,
    ) {
        self.quantize(executor.kernels, values, balance, scratch);
        let columns = values.columns();
        let rows = QuantizedRows {
            values: Matrix::new(self.quantized.first(self.scales.len() * columns), columns),
            scales: &self.scales,
        };
        multiply(executor, weights, rows, upcoming, &mut self.products, out);
    }

    /// The rows that [`FineScratch::quantize`] was given, of so many columns.
    pub(crate) fn rows(&mut self, columns: usize) -> QuantizedRows<'_> {
        let values = self.quantized.first(self.scales.len() * columns);
        QuantizedRows {
            values: Matrix::new(values, columns),
            scales: &self.scales,
        }
    }
}

/// Writes the product of rows, of each of which there are two, and of weights and their rest to
/// `out`: groups of as many columns as it has, one below the other.
#[inline(never)]
pub(crate) fn multiply(
    executor: Executor<'_>,
    weights: [LinearWeights<'_>; 2],
    rows: QuantizedRows<'_>,
    upcoming: &[i8],
    products: &mut Buffer<f32>,
    out: MatrixMut<'_, f32>,
) {
    let width = out.columns();
    let half = 2 * out.rows() * width;
    let (by_weights, by_rest) = products.first(2 * half).split_at_mut(half);
    for (weights, upcoming, out) in [
        (weights[0], weights[1].values, &mut *by_weights),
        (weights[1], upcoming, &mut *by_rest),
    ] {
        let out = PanelsMut::grouped(out, rows.scales.len(), width);
        linear::multiply(executor, weights, rows, upcoming, out);
    }
    executor.kernels.run_rows(RowOperation::SumFine {
        products: [Matrix::new(by_weights, width), Matrix::new(by_rest, width)],
        out,
    });
}
