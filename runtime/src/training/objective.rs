//! What training makes small: scikit-learn's objective of `LogisticRegression`, divided by
//! `C` and the sum of the texts' weights.
//!
//! For three classes and more it is the multinomial one,
//! `mean(-ln softmax(W x + b)[class]) + strength / 2 · |W|²`; for two it is the binomial one,
//! with one row `w` whose sign decides, as scikit-learn has it. The intercepts are not
//! penalised.
//!
//! Parameters are those of the centred and scaled features `(x - mean) / scale`; the rows are
//! read as they are, and the difference is made up for before and after each pass. Without
//! scaling this changes nothing but the intercept, and the search is much shorter.
//!
//! A pass is divided into chunks of rows that depend on the problem's size only, and their sums
//! are added in order: the bits do not depend on the number of threads.

use super::elementary::{exp, ln};
use super::samples::{Moments, Samples};
use crate::kernels::matrix::Chunks;
use crate::workers::Workers;

/// Rows that are computed side by side.
const ROWS: usize = 4;

/// Values of a row that are computed side by side; rows are padded to it.
const LANES: usize = 4;

/// Chunks of a pass at most.
const MOST_CHUNKS: usize = 64;

/// Rows of a chunk at least.
const LEAST_ROWS: usize = 128;

/// Values that the sums of all chunks have together at most, if there is more than one.
const MOST_SUMS: usize = 4 << 20;

/// A training problem: some rows and the strength of the penalty.
pub(super) struct Objective<'a> {
    pub(super) samples: &'a Samples<'a>,
    pub(super) moments: &'a Moments,
    /// The rows that count.
    pub(super) rows: &'a [u32],
    /// Of each class, what a row of it counts.
    pub(super) class_weights: Vec<f64>,
    /// `1 / (C · sum of the rows' weights)`.
    pub(super) penalty: f64,
}

/// The memory of passes, used again.
#[derive(Default)]
pub(super) struct PassBuffers {
    /// The parameters as they meet rows that are neither centred nor scaled:
    /// `[outputs, padded width]`.
    raw_weights: Vec<f64>,
    /// `[outputs]`.
    offsets: Vec<f64>,
    /// What each chunk adds up: see [`Sums`].
    sums: Vec<f64>,
    threads: Vec<RowBuffers>,
}

/// The buffers of one thread.
#[derive(Clone, Default)]
struct RowBuffers {
    /// `[ROWS, padded width]`.
    rows: Vec<f64>,
    /// Scores, then residuals: `[outputs, ROWS]`.
    scores: Vec<f64>,
}

/// The sums over the rows of a chunk.
struct Sums<'a> {
    loss: &'a mut f64,
    /// The sum of `p (1 - p)` over rows and outputs.
    curvature: &'a mut f64,
    /// The sums of the residuals, `[outputs]`.
    residuals: &'a mut [f64],
    /// The sums of residual times row, `[outputs, padded width]`.
    products: &'a mut [f64],
}

impl<'a> Sums<'a> {
    fn length(outputs: usize, width: usize) -> usize {
        2 + outputs + outputs * width
    }

    fn split(values: &'a mut [f64], outputs: usize) -> Self {
        let (head, rest) = values.split_at_mut(2);
        let (loss, curvature) = head.split_at_mut(1);
        let (residuals, products) = rest.split_at_mut(outputs);
        Self {
            loss: &mut loss[0],
            curvature: &mut curvature[0],
            residuals,
            products,
        }
    }
}

/// What a pass finds beside the gradient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) objective: f64,
    /// The mean of `p (1 - p)`: the size of the second derivatives.
    pub(super) curvature: f64,
}

impl<'a> Objective<'a> {
    /// For the penalty that scikit-learn calls `C`.
    pub(super) fn new(
        samples: &'a Samples<'a>,
        moments: &'a Moments,
        rows: &'a [u32],
        balanced: bool,
        strength: f64,
    ) -> Self {
        let counts = samples.count_classes(rows);
        let class_weights: Vec<f64> = counts
            .iter()
            .map(|&count| match balanced && count > 0 {
                true => rows.len() as f64 / (counts.len() as f64 * count as f64),
                false => 1.0,
            })
            .collect();
        let mut objective = Self {
            samples,
            moments,
            rows,
            class_weights,
            penalty: 0.0,
        };
        objective.penalty = 1.0 / (strength * objective.total_weight());
        objective
    }

    /// The sum of the rows' weights.
    fn total_weight(&self) -> f64 {
        let counts = self.samples.count_classes(self.rows);
        let pairs = counts.iter().zip(&self.class_weights);
        pairs.map(|(&count, weight)| count as f64 * weight).sum()
    }

    /// The objective at `parameters`, and its gradient.
    pub(super) fn evaluate(
        &self,
        workers: &Workers,
        buffers: &mut PassBuffers,
        parameters: &[f64],
        gradient: &mut [f64],
    ) -> Value {
        let outputs = self.samples.outputs();
        let width = self.samples.width.next_multiple_of(LANES);
        let length = Sums::length(outputs, width);
        let chunks = self
            .rows
            .len()
            .div_ceil(LEAST_ROWS)
            .min(MOST_CHUNKS)
            .min(MOST_SUMS / length)
            .max(1);
        let chunk_rows = self.rows.len().div_ceil(chunks).next_multiple_of(ROWS);
        let chunks = self.rows.len().div_ceil(chunk_rows);

        let PassBuffers {
            raw_weights,
            offsets,
            sums,
            threads,
        } = buffers;
        self.write_raw_weights(parameters, width, raw_weights, offsets);
        sums.clear();
        sums.resize(chunks * length, 0.0);
        threads.resize(workers.threads(), RowBuffers::default());
        workers.run(
            chunks,
            threads,
            Chunks::new(sums, length),
            |number, scratch, sums| {
                let rows = self.rows.chunks(chunk_rows).nth(number).unwrap_or(&[]);
                let sums = Sums::split(sums, outputs);
                self.add_rows(rows, width, (raw_weights, offsets), scratch, sums);
            },
        );
        let (total, others) = sums.split_at_mut(length);
        for chunk in others.chunks_exact(length) {
            for (total, value) in total.iter_mut().zip(chunk) {
                *total += value;
            }
        }
        self.write_gradient(parameters, Sums::split(total, outputs), width, gradient)
    }

    /// The parameters for rows that are neither centred nor scaled.
    fn write_raw_weights(
        &self,
        parameters: &[f64],
        width: usize,
        raw_weights: &mut Vec<f64>,
        offsets: &mut Vec<f64>,
    ) {
        let features = self.samples.width;
        raw_weights.clear();
        offsets.clear();
        for (output, row) in parameters.chunks_exact(features + 1).enumerate() {
            let (weights, intercept) = self.moments.raw(row);
            raw_weights.extend(weights);
            raw_weights.resize((output + 1) * width, 0.0);
            offsets.push(intercept);
        }
    }

    /// Adds the loss of some rows, and what its gradient is made of.
    fn add_rows(
        &self,
        rows: &[u32],
        width: usize,
        (weights, offsets): (&[f64], &[f64]),
        scratch: &mut RowBuffers,
        sums: Sums<'_>,
    ) {
        let outputs = offsets.len();
        scratch.rows.clear();
        scratch.rows.resize(ROWS * width, 0.0);
        scratch.scores.resize(outputs * ROWS, 0.0);
        for block in rows.chunks(ROWS) {
            for (row, &index) in scratch.rows.chunks_exact_mut(width).zip(block) {
                let values = self.samples.row(index as usize);
                for (value, &x) in row.iter_mut().zip(values) {
                    *value = f64::from(x);
                }
            }
            let four = four_rows(&scratch.rows, width);
            for (output, scores) in scratch.scores.chunks_exact_mut(ROWS).enumerate() {
                let products = multiply_rows(&weights[output * width..][..width], four);
                for (score, product) in scores.iter_mut().zip(products) {
                    *score = product + offsets[output];
                }
            }
            for slot in 0..ROWS {
                match block.get(slot) {
                    Some(&row) => {
                        let class = self.samples.targets[row as usize] as usize;
                        let weight = self.class_weights[class];
                        let found = replace_scores(&mut scratch.scores[slot..], class, weight);
                        *sums.loss += found.objective * weight;
                        *sums.curvature += found.curvature * weight;
                    }
                    // What an earlier block left there does not count.
                    None => (0..outputs).for_each(|o| scratch.scores[o * ROWS + slot] = 0.0),
                }
            }
            for (output, residuals) in scratch.scores.chunks_exact(ROWS).enumerate() {
                let factors = [residuals[0], residuals[1], residuals[2], residuals[3]];
                sums.residuals[output] += (factors[0] + factors[1]) + (factors[2] + factors[3]);
                add_multiples(&mut sums.products[output * width..][..width], factors, four);
            }
        }
    }

    /// From the sums over all rows to the value and the gradient.
    fn write_gradient(
        &self,
        parameters: &[f64],
        sums: Sums<'_>,
        width: usize,
        gradient: &mut [f64],
    ) -> Value {
        let features = self.samples.width;
        let total = self.total_weight();
        let mut squares = 0.0;
        for output in 0..self.samples.outputs() {
            let own = output * (features + 1)..(output + 1) * (features + 1);
            let residual = sums.residuals[output];
            let products = &sums.products[output * width..];
            for (j, (slope, &parameter)) in gradient[own.clone()][..features]
                .iter_mut()
                .zip(&parameters[own.clone()])
                .enumerate()
            {
                let product = products[j] - self.moments.mean[j] * residual;
                *slope = product / self.moments.scale[j] / total + self.penalty * parameter;
                squares += parameter * parameter;
            }
            gradient[own.end - 1] = residual / total;
        }
        Value {
            objective: *sums.loss / total + 0.5 * self.penalty * squares,
            curvature: *sums.curvature / (total * self.samples.outputs() as f64),
        }
    }

    /// Rows of these whose class the parameters tell.
    pub(super) fn count_correct(&self, rows: &[u32], parameters: &[f64]) -> usize {
        let (mut weights, mut offsets) = (Vec::new(), Vec::new());
        self.write_raw_weights(parameters, self.samples.width, &mut weights, &mut offsets);
        let is_correct = |&&row: &&u32| {
            let values = self.samples.row(row as usize);
            let mut scores = weights.chunks_exact(self.samples.width).zip(&offsets);
            let score = |(weights, offset): (&[f64], &f64)| {
                let products = weights.iter().zip(values);
                offset + products.map(|(w, &x)| w * f64::from(x)).sum::<f64>()
            };
            let class = if self.samples.outputs() == 1 {
                usize::from(scores.next().map(score) > Some(0.0))
            } else {
                let mut best = (0, f64::NEG_INFINITY);
                for (class, output) in scores.enumerate() {
                    let score = score(output);
                    if score > best.1 {
                        best = (class, score);
                    }
                }
                best.0
            };
            class == self.samples.targets[row as usize] as usize
        };
        rows.iter().filter(is_correct).count()
    }
}

/// Turns the scores of one row, every [`ROWS`]th of `scores`, into its residuals times `weight`:
/// the derivatives of its loss.
fn replace_scores(scores: &mut [f64], class: usize, weight: f64) -> Value {
    if scores.len() <= ROWS {
        return replace_score(&mut scores[0], class, weight);
    }
    let own = scores[class * ROWS];
    let largest = scores
        .iter()
        .step_by(ROWS)
        .fold(f64::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let mut sum = 0.0;
    for score in scores.iter_mut().step_by(ROWS) {
        *score = exp(*score - largest);
        sum += *score;
    }
    let mut curvature = 0.0;
    for (output, score) in scores.iter_mut().step_by(ROWS).enumerate() {
        let p = *score / sum;
        curvature += p * (1.0 - p);
        *score = weight * (p - f64::from(u8::from(output == class)));
    }
    Value {
        objective: ln(sum) + (largest - own),
        curvature,
    }
}

/// As [`replace_scores`], for the one output of two classes.
fn replace_score(score: &mut f64, class: usize, weight: f64) -> Value {
    let z = if class == 1 { *score } else { -*score };
    let small = exp(-z.abs());
    // The probabilities of the row's class and of the other.
    let (own, other) = match z > 0.0 {
        true => (1.0 / (1.0 + small), small / (1.0 + small)),
        false => (small / (1.0 + small), 1.0 / (1.0 + small)),
    };
    let residual = if class == 1 { -other } else { other };
    *score = weight * residual;
    Value {
        objective: ln(1.0 + small) + if z > 0.0 { 0.0 } else { -z },
        curvature: own * other,
    }
}

fn four_rows(values: &[f64], width: usize) -> [&[f64]; ROWS] {
    std::array::from_fn(|row| &values[row * width..][..width])
}

/// The products of four rows with one row of weights, whose length is a multiple of [`LANES`].
fn multiply_rows(weights: &[f64], rows: [&[f64]; ROWS]) -> [f64; ROWS] {
    let mut sums = [[0.0; LANES]; ROWS];
    for (block, w) in weights.chunks_exact(LANES).enumerate() {
        let at = block * LANES..(block + 1) * LANES;
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = &row[at.clone()];
            for lane in 0..LANES {
                sums[lane] += w[lane] * x[lane];
            }
        }
    }
    sums.map(|sum| (sum[0] + sum[1]) + (sum[2] + sum[3]))
}

/// Adds multiples of four rows.
fn add_multiples(sums: &mut [f64], factors: [f64; ROWS], rows: [&[f64]; ROWS]) {
    let [a, b, c, d] = rows.map(|row| &row[..sums.len()]);
    let [fa, fb, fc, fd] = factors;
    for (j, sum) in sums.iter_mut().enumerate() {
        *sum += (fa * a[j] + fb * b[j]) + (fc * c[j] + fd * d[j]);
    }
}
