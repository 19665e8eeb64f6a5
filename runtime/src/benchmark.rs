//! Single kernels on made-up values, for benchmarks: every set of this CPU by name.

use crate::format::{Activation, BLOCK, Columns, LinearShape, PANEL, padded};
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::{Norm, RowOperation, RowScale};
use crate::kernels::{Features, Kernels, Product, available};

/// The names of this CPU's kernel sets, best first.
pub fn sets() -> Vec<&'static str> {
    available(Features::detect()).map(|set| set.name).collect()
}

fn set(name: &str) -> &'static Kernels {
    available(Features::detect())
        .find(|set| set.name == name)
        .expect("the set is one of `sets`")
}

/// A fixed sequence that looks random (Knuth's 64-bit linear congruential generator).
fn sequence() -> impl Iterator<Item = u8> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

/// A product of `[rows, inputs]` and `[inputs, outputs]`.
#[derive(Debug)]
pub struct ProductBenchmark {
    set: &'static str,
    shape: LinearShape,
    rows: Vec<u8>,
    scales: Vec<RowScale>,
    weights: Vec<i8>,
    columns: Vec<Columns>,
    out: Vec<f32>,
}

impl ProductBenchmark {
    /// Prepares the product for a kernel set.
    pub fn new(set: &'static str, rows: usize, inputs: usize, outputs: usize) -> Self {
        let shape = LinearShape {
            inputs: padded(inputs),
            outputs: padded(outputs),
        };
        let weights = shape.panels() * shape.panel_bytes();
        let scale = RowScale {
            scale: 0.01,
            zero_point: 3,
        };
        Self {
            set,
            shape,
            rows: sequence().take(rows * shape.inputs).collect(),
            scales: vec![scale; rows],
            weights: sequence()
                .take(weights)
                .map(|b| (b as i8).max(-127))
                .collect(),
            columns: vec![bytemuck::Zeroable::zeroed(); shape.panels()],
            out: vec![0.0; rows * shape.outputs],
        }
    }

    /// Multiplications of one run.
    pub fn multiplications(&self) -> u64 {
        (self.scales.len() * self.shape.blocks() * BLOCK * self.shape.panels() * PANEL) as u64
    }

    /// Multiplies once.
    pub fn run(&mut self) {
        set(self.set).multiply(
            Product {
                rows: Matrix::new(&self.rows, self.shape.inputs),
                scales: &self.scales,
                weights: &self.weights,
                columns: &self.columns,
                blocks: self.shape.blocks(),
                upcoming: &[],
            },
            PanelsMut::new(MatrixMut::new(&mut self.out, self.shape.outputs)),
        );
    }
}

/// A row kernel on `[rows, columns]`.
#[derive(Debug)]
pub struct RowBenchmark {
    set: &'static str,
    columns: usize,
    values: Vec<f32>,
    other: Vec<f32>,
    scratch: Vec<f32>,
    out: Vec<u8>,
    scales: Vec<RowScale>,
}

/// Which row kernel.
#[derive(Clone, Copy, Debug)]
pub enum RowKernel {
    /// GELU in its erf form, and the quantization of its result.
    Gelu,
    /// Add, normalize, quantize.
    Normalize,
    /// Quantize.
    Quantize,
    /// Scores to quantized probabilities.
    Softmax,
}

impl RowBenchmark {
    /// Prepares the rows for a kernel set.
    pub fn new(set: &'static str, rows: usize, columns: usize) -> Self {
        let columns = padded(columns);
        let values: Vec<f32> = sequence()
            .take(rows * columns)
            .map(|b| f32::from(b) / 32.0 - 4.0)
            .collect();
        Self {
            set,
            columns,
            other: values.clone(),
            values,
            scratch: vec![0.0; columns],
            out: vec![0; rows * columns],
            scales: vec![RowScale::default(); rows],
        }
    }

    /// Runs the kernel once over all rows.
    pub fn run(&mut self, kernel: RowKernel) {
        let width = self.columns;
        let (values, other) = (&mut self.values, Matrix::new(&self.other, width));
        let (out, scales) = (MatrixMut::new(&mut self.out, width), &mut self.scales[..]);
        set(self.set).run_rows(match kernel {
            RowKernel::Gelu => RowOperation::Activate {
                values: Matrix::new(values, width),
                activation: Activation::Gelu,
                balance: Some(other.row(0)),
                scratch: &mut self.scratch,
                out,
                scales,
            },
            RowKernel::Normalize => RowOperation::Normalize {
                values: MatrixMut::new(values, width),
                residual: Some(other),
                norm: Norm {
                    weight: other.row(0),
                    bias: other.row(0),
                    balance: other.row(0),
                    eps: 1e-12,
                    columns: width,
                },
                out,
                scales,
            },
            RowKernel::Quantize => RowOperation::Quantize {
                values: other,
                balance: None,
                out,
                scales,
            },
            RowKernel::Softmax => RowOperation::Softmax {
                scores: other,
                keys: width,
                out,
                scales,
            },
        });
    }
}
