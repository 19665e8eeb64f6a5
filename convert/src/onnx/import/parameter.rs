//! The parameters of an imported model: where each lies in the graph, and how it is read.

use std::ops::Range;

use super::files::Files;
use super::graph::{Graph, Value};
use super::linear::Matrix;
use super::tensor::Tensor;
use crate::quantize::{QuantizedRows, quantize_rows};

/// A parameter's values, as rows.
pub(super) struct Stored {
    tensor: Tensor,
    transposed: bool,
    /// Rows before those that the model reads: only of a table, which has one scale at most.
    skipped: usize,
    rows: usize,
    columns: usize,
    steps: Option<Steps>,
}

/// What a parameter's integers stand for, for each row or for all.
struct Steps {
    scales: Vec<f32>,
    zero_points: Vec<i16>,
}

impl Steps {
    fn of(&self, row: usize) -> (f32, i16) {
        (
            self.scales[row.min(self.scales.len() - 1)],
            self.zero_points[row.min(self.zero_points.len() - 1)],
        )
    }
}

/// The largest magnitude that a quantized row can hold.
const LARGEST: i16 = 127;

impl Stored {
    /// A constant vector.
    pub(super) fn vector(graph: &Graph, value: Value) -> Self {
        let tensor = tensor(graph, value).clone();
        Self {
            rows: tensor.len(),
            columns: 1,
            tensor,
            transposed: false,
            skipped: 0,
            steps: None,
        }
    }

    /// A constant matrix.
    pub(super) fn matrix(graph: &Graph, matrix: &Matrix) -> Self {
        let steps = matrix.steps.map(|steps| {
            let scales = tensor(graph, steps.scale);
            let zero_points = steps.zero_point.map(|value| {
                let tensor = tensor(graph, value);
                tensor.read_8_bit(&graph.files, 0..tensor.len())
            });
            Steps {
                scales: scales.read_floats(&graph.files, 0..scales.len()),
                zero_points: zero_points.unwrap_or_else(|| vec![0]),
            }
        });
        Self {
            tensor: tensor(graph, matrix.values).clone(),
            transposed: matrix.transposed,
            skipped: 0,
            rows: matrix.rows,
            columns: matrix.columns,
            steps,
        }
    }

    /// What the graph calls it.
    pub(super) fn name(&self) -> &str {
        &self.tensor.name
    }

    /// Its shape, as PyTorch has it.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Whether it has integers.
    pub(super) fn is_quantized(&self) -> bool {
        self.steps.is_some()
    }

    /// Some rows of a table alone.
    pub(super) fn part(mut self, skipped: usize, rows: usize) -> Self {
        self.skipped = skipped;
        self.rows = rows;
        self
    }

    /// Some rows in float32; integers as what they stand for.
    pub(super) fn read(&self, files: &Files, rows: Range<usize>) -> Vec<f32> {
        let Some(steps) = &self.steps else {
            return self.gather(rows, |range| self.tensor.read_floats(files, range));
        };
        let first = rows.start;
        let values = self.integers(files, rows);
        let rows = values.chunks_exact(self.columns).enumerate();
        rows.flat_map(|(row, values)| {
            let (scale, zero_point) = steps.of(first + row);
            values
                .iter()
                .map(move |&value| f32::from(value - zero_point) * scale)
        })
        .collect()
    }

    /// Some rows of integers as they are, where they fit; others are quantized again. None if
    /// it has floats.
    ///
    /// A row fits if, less its zero point, all its values are in [-127, 127]: what they stand
    /// for is then the same to the bit.
    pub(super) fn quantized(&self, files: &Files, rows: Range<usize>) -> Option<QuantizedRows> {
        let steps = self.steps.as_ref()?;
        let count = rows.len();
        let mut quantized = QuantizedRows {
            rows: count,
            columns: self.columns,
            values: Vec::with_capacity(count * self.columns),
            scales: Vec::with_capacity(count),
        };
        let first = rows.start;
        let values = self.integers(files, rows);
        for (row, values) in values.chunks_exact(self.columns).enumerate() {
            let (scale, zero_point) = steps.of(first + row);
            if fits(values, zero_point) {
                let values = values.iter().map(|&value| (value - zero_point) as i8);
                quantized.values.extend(values);
                quantized.scales.push(scale);
            } else {
                let values = values.iter().map(|&v| f32::from(v - zero_point) * scale);
                let again = quantize_rows(&values.collect::<Vec<f32>>(), self.columns);
                quantized.values.extend(again.values);
                quantized.scales.extend(again.scales);
            }
        }
        Some(quantized)
    }

    /// How many rows of integers do not fit.
    pub(super) fn misfits(&self, files: &Files) -> usize {
        let Some(steps) = &self.steps else {
            return 0;
        };
        let at_once = if self.transposed { self.rows } else { 1024 };
        let mut misfits = 0;
        for first in (0..self.rows).step_by(at_once) {
            let values = self.integers(files, first..self.rows.min(first + at_once));
            let rows = values.chunks_exact(self.columns).enumerate();
            misfits += rows
                .filter(|&(row, values)| !fits(values, steps.of(first + row).1))
                .count();
        }
        misfits
    }

    fn integers(&self, files: &Files, rows: Range<usize>) -> Vec<i16> {
        self.gather(rows, |range| self.tensor.read_8_bit(files, range))
    }

    /// Some rows, by a function that reads values that lie side by side.
    fn gather<T: Copy>(&self, rows: Range<usize>, read: impl Fn(Range<usize>) -> Vec<T>) -> Vec<T> {
        if !self.transposed {
            let rows = rows.start + self.skipped..rows.end + self.skipped;
            return read(rows.start * self.columns..rows.end * self.columns);
        }
        let values = read(0..self.rows * self.columns);
        rows.flat_map(|row| values.iter().skip(row).step_by(self.rows).copied())
            .collect()
    }
}

/// The tensor of a constant that was recognised.
fn tensor(graph: &Graph, value: Value) -> &Tensor {
    graph.constant(value).expect("recognised as a constant")
}

fn fits(values: &[i16], zero_point: i16) -> bool {
    values
        .iter()
        .all(|value| (value - zero_point).abs() <= LARGEST)
}
