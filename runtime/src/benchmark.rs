//! Single kernels on made-up values, and the tokenizer alone, for benchmarks. Memory is aligned
//! as the runtime's is.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::format::{Activation, BLOCK, Columns, LinearShape, PANEL, padded, rotated_vectors};
use crate::kernels::matrix::{Matrix, MatrixMut, PanelsMut};
use crate::kernels::rows::{Balance, Norm, RowOperation, RowScale};
use crate::kernels::{Kernels, Product, available};
use crate::model::Model;
use crate::tokenizer::{EncodeOptions, Encoding, Scratch, Truncation};
use crate::workspace::Buffer;

/// The names of this CPU's kernel sets, best first.
pub fn sets() -> Vec<&'static str> {
    available().map(|set| set.name).collect()
}

fn find_set(name: &str) -> &'static Kernels {
    available()
        .find(|set| set.name == name)
        .expect("the set is one of `sets`")
}

/// Values made of a fixed sequence of bytes that looks random (Knuth's 64-bit linear
/// congruential generator).
fn made_up<T: Pod>(count: usize, value: impl Fn(u8) -> T) -> Buffer<T> {
    let mut buffer = Buffer::default();
    let mut state = 1u64;
    for to in buffer.first(count) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *to = value((state >> 56) as u8);
    }
    buffer
}

/// A product of `[rows, inputs]` and `[inputs, outputs]`.
pub struct ProductBenchmark {
    kernels: &'static Kernels,
    shape: LinearShape,
    rows: Buffer<u8>,
    scales: Vec<RowScale>,
    weights: Buffer<i8>,
    columns: Vec<Columns>,
    out: Buffer<f32>,
}

impl ProductBenchmark {
    /// Prepares the product for a kernel set.
    pub fn new(set: &str, rows: usize, inputs: usize, outputs: usize) -> Self {
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
            kernels: find_set(set),
            shape,
            rows: made_up(rows * shape.inputs, |byte| byte),
            scales: vec![scale; rows],
            weights: made_up(weights, |byte| (byte as i8).max(-127)),
            columns: vec![Zeroable::zeroed(); shape.panels()],
            out: Buffer::default(),
        }
    }

    /// Multiplications of one run.
    pub fn multiplications(&self) -> u64 {
        (self.scales.len() * self.shape.blocks() * BLOCK * self.shape.panels() * PANEL) as u64
    }

    /// Multiplies once.
    pub fn run(&mut self) {
        let LinearShape { inputs, outputs } = self.shape;
        let rows = self.scales.len();
        let weights = self.shape.panels() * self.shape.panel_bytes();
        self.kernels.multiply(
            Product {
                rows: Matrix::new(self.rows.first(rows * inputs), inputs),
                scales: &self.scales,
                weights: self.weights.first(weights),
                columns: &self.columns,
                checks: None,
                blocks: self.shape.blocks(),
                upcoming: &[],
            },
            PanelsMut::new(MatrixMut::new(self.out.first(rows * outputs), outputs)),
        );
    }
}

/// A row kernel on `[rows, columns]`.
pub struct RowBenchmark {
    kernels: &'static Kernels,
    columns: usize,
    values: Buffer<f32>,
    other: Buffer<f32>,
    scratch: Buffer<f32>,
    embeddings: (Buffer<i8>, Buffer<i16>),
    out: Buffer<u8>,
    scales: Vec<RowScale>,
    weights: Buffer<i8>,
    weight_columns: Vec<Columns>,
}

/// Which row kernel.
#[derive(Clone, Copy, Debug)]
pub enum RowKernel {
    /// Two embeddings to a row.
    Embed,
    /// GELU in its erf form, and the quantization of its result.
    Gelu,
    /// Add, normalize, quantize.
    Normalize,
    /// Quantize.
    Quantize,
    /// Quantize the queries of a head.
    QuantizeQueries,
    /// Pack the keys of a head: a row is a key.
    PackKeys,
    /// Pack the values of a head: a row is a key's value.
    PackValues,
    /// Scores to quantized probabilities.
    Softmax,
}

impl RowBenchmark {
    /// Prepares the rows for a kernel set.
    pub fn new(set: &str, rows: usize, columns: usize) -> Self {
        let columns = padded(columns);
        let float = |byte| f32::from(byte) / 32.0 - 4.0;
        Self {
            kernels: find_set(set),
            columns,
            values: made_up(rows * columns, float),
            other: made_up(rows * columns, float),
            scratch: Buffer::default(),
            embeddings: (
                made_up(columns, |byte| byte as i8),
                made_up(columns, i16::from),
            ),
            out: Buffer::default(),
            scales: vec![RowScale::default(); rows],
            weights: Buffer::default(),
            weight_columns: Vec::new(),
        }
    }

    /// Values of one run.
    pub fn values(&self) -> u64 {
        (self.scales.len() * self.columns) as u64
    }

    /// Runs the kernel once over all rows.
    pub fn run(&mut self, kernel: RowKernel) {
        let (rows, width) = (self.scales.len(), self.columns);
        let values = self.values.first(rows * width);
        let other = Matrix::new(self.other.first(rows * width), width);
        let out = MatrixMut::new(self.out.first(rows * width), width);
        let scales = &mut self.scales[..];
        // As `attention` has them: a key is a column, and its value an input.
        let packed = match kernel {
            RowKernel::PackKeys => LinearShape {
                inputs: width,
                outputs: padded(rows),
            },
            _ => LinearShape {
                inputs: rows,
                outputs: width,
            },
        };
        let weights = self.weights.first(packed.panels() * packed.panel_bytes());
        self.weight_columns
            .resize(packed.panels(), Zeroable::zeroed());
        let columns = &mut self.weight_columns[..];
        let balance = Balance {
            factors: other.row(0),
            rotation: rotated_vectors(width),
        };
        let operation = match kernel {
            RowKernel::Embed => {
                let (word, position) = &mut self.embeddings;
                let (word, position) = (word.first(width), position.first(width));
                for out in values.chunks_exact_mut(width) {
                    self.kernels.run_rows(RowOperation::Embed {
                        word: (word, 0.01),
                        position: (position, 0.01),
                        token_type: None,
                        out,
                    });
                }
                return;
            }
            RowKernel::Gelu => RowOperation::Activate {
                values: Matrix::new(values, width),
                activation: Some(Activation::Gelu),
                balance: Some(balance),
                scratch: self.scratch.first(width),
                out,
                scales,
            },
            RowKernel::Normalize => RowOperation::Normalize {
                values: MatrixMut::new(values, width),
                residual: Some(other),
                norm: Norm {
                    weight: other.row(0),
                    bias: other.row(0),
                    balance,
                    eps: 1e-12,
                    columns: width,
                },
                scratch: self.scratch.first(width),
                out,
                scales,
            },
            RowKernel::Quantize => RowOperation::Quantize {
                values: other,
                out,
                scales,
            },
            RowKernel::QuantizeQueries => RowOperation::QuantizeQueries {
                values: other,
                factor: 0.125,
                out,
                scales,
            },
            RowKernel::PackKeys => RowOperation::PackKeys {
                values: other,
                weights,
                columns,
            },
            RowKernel::PackValues => RowOperation::PackValues {
                values: other,
                weights,
                columns,
            },
            RowKernel::Softmax => RowOperation::Softmax {
                scores: other,
                keys: width,
                out,
                scales,
            },
        };
        self.kernels.run_rows(operation);
    }
}

/// A model's tokenizer, with the buffers that a call has once warm.
pub struct TokenizerBenchmark<'a> {
    model: &'a Model,
    encoding: Encoding,
    scratch: Scratch,
}

impl<'a> TokenizerBenchmark<'a> {
    /// Prepares the tokenizer.
    pub fn new(model: &'a Model) -> Self {
        Self {
            model,
            encoding: Encoding::default(),
            scratch: Scratch::default(),
        }
    }

    /// The ids of a text.
    pub fn run(&mut self, text: &str) -> &[u32] {
        self.encode(text, false);
        &self.encoding.ids
    }

    /// The ids of a text, and the bytes of it that each stands for.
    pub fn run_with_offsets(&mut self, text: &str) -> (&[u32], &[Range<usize>]) {
        self.encode(text, true);
        (&self.encoding.ids, &self.encoding.offsets)
    }

    fn encode(&mut self, text: &str, offsets: bool) {
        self.encoding.clear();
        let options = EncodeOptions {
            max_tokens: self.model.shape().max_tokens as usize,
            truncation: Truncation::LongestFirst,
            offsets,
        };
        let tokenizer = self.model.tokenizer();
        tokenizer
            .encode(text, None, &options, &mut self.encoding, &mut self.scratch)
            .expect("the longest text may be cut");
    }
}
