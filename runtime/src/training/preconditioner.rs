//! An approximate inverse of the objective's second derivatives, from which L-BFGS starts.
//!
//! The second derivatives are `X' diag(p (1 - p)) X / n + penalty`. With one number in place of
//! all `p (1 - p)` they are the features' covariance, which is computed once, and which a
//! Cholesky factorisation inverts for each penalty (D. Böhning, "Multinomial logistic regression
//! algorithm", 1992, has the bound that this comes from). The search is then as long for
//! features of any scale and correlation, and ends after some ten passes instead of hundreds.

use super::samples::{Moments, Samples};
use crate::kernels::matrix::Chunks;
use crate::workers::Workers;

/// Features whose correlations count: a bound on memory and time.
const BLOCK: usize = 1024;

/// Rows whose covariance stands for that of all: enough for twice as many features.
const MOST_ROWS: usize = 8192;

/// Rows that are added at once.
const ROWS: usize = 8;

/// Rows of a matrix for one task.
const BAND: usize = 32;

/// The covariance of the centred and scaled features, by blocks of [`BLOCK`].
pub(super) struct Covariance {
    /// The lower triangle of each block, row after row, `[size, size]`.
    blocks: Vec<Vec<f64>>,
}

/// Cholesky factors: `L L' = curvature · covariance + penalty`, and the intercepts' part.
pub(super) struct Preconditioner {
    factors: Vec<Factor>,
    curvature: f64,
}

/// A lower triangle, `[size, size]`.
struct Factor {
    size: usize,
    values: Vec<f64>,
}

impl Covariance {
    pub(super) fn new(samples: &Samples<'_>, moments: &Moments, workers: &Workers) -> Self {
        let features: Vec<usize> = (0..samples.width).collect();
        let blocks = features.chunks(BLOCK).map(|block| {
            let first = block[0];
            add_covariance(samples, moments, first, block.len(), workers)
        });
        Self {
            blocks: blocks.collect(),
        }
    }
}

/// The covariance of `size` features from the `first` on: each task has a band of its rows.
fn add_covariance(
    samples: &Samples<'_>,
    moments: &Moments,
    first: usize,
    size: usize,
    workers: &Workers,
) -> Vec<f64> {
    let count = samples.targets.len();
    let step = count.div_ceil(MOST_ROWS);
    let rows: Vec<usize> = (0..count).step_by(step).collect();
    let mut values = vec![0.0; size * size];
    let mut scratch = vec![Vec::new(); workers.threads()];
    workers.run(
        size.div_ceil(BAND),
        &mut scratch,
        Chunks::new(&mut values, BAND * size),
        |number, centred, band| {
            let (begin, height) = (number * BAND, band.len() / size);
            // The triangle ends at the diagonal.
            let columns = begin + height;
            for block in rows.chunks(ROWS) {
                centred.clear();
                for &row in block {
                    let values = &samples.row(row)[first..first + columns];
                    let moments = moments.mean[first..].iter().zip(&moments.scale[first..]);
                    let pairs = values.iter().zip(moments);
                    centred.extend(pairs.map(|(&x, (mean, scale))| (f64::from(x) - mean) / scale));
                }
                centred.resize(ROWS * columns, 0.0);
                for (line, sums) in band.chunks_exact_mut(size).enumerate() {
                    add_products(&mut sums[..columns], centred, begin + line);
                }
            }
            let count = rows.len() as f64;
            band.iter_mut().for_each(|value| *value /= count);
        },
    );
    values
}

/// Adds the products of one feature with those before it, of [`ROWS`] rows `[ROWS, columns]`.
fn add_products(sums: &mut [f64], rows: &[f64], feature: usize) {
    let columns = sums.len();
    let [a, b, c, d, e, f, g, h]: [&[f64]; ROWS] =
        std::array::from_fn(|row| &rows[row * columns..][..columns]);
    let factors: [f64; ROWS] = std::array::from_fn(|row| rows[row * columns + feature]);
    for (j, sum) in sums.iter_mut().enumerate() {
        let first =
            (factors[0] * a[j] + factors[1] * b[j]) + (factors[2] * c[j] + factors[3] * d[j]);
        let second =
            (factors[4] * e[j] + factors[5] * f[j]) + (factors[6] * g[j] + factors[7] * h[j]);
        *sum += first + second;
    }
}

impl Preconditioner {
    /// For second derivatives of about `curvature · covariance + penalty`.
    pub(super) fn new(covariance: &Covariance, curvature: f64, penalty: f64) -> Self {
        let blocks = covariance.blocks.iter();
        let factors = blocks.map(|block| factorize(block, curvature, penalty));
        Self {
            factors: factors.collect(),
            curvature,
        }
    }

    /// Multiplies parameters by the inverse: each output's weights, and its intercept.
    pub(super) fn apply(&self, parameters: &mut [f64]) {
        let width: usize = self.factors.iter().map(|factor| factor.size).sum();
        for row in parameters.chunks_exact_mut(width + 1) {
            let mut rest = &mut row[..];
            for factor in &self.factors {
                let (own, others) = rest.split_at_mut(factor.size);
                factor.solve(own);
                rest = others;
            }
            rest[0] /= self.curvature;
        }
    }
}

/// The Cholesky factor of `curvature · covariance + penalty`.
fn factorize(covariance: &[f64], curvature: f64, penalty: f64) -> Factor {
    let size = covariance.len().isqrt();
    let mut values: Vec<f64> = covariance.iter().map(|value| value * curvature).collect();
    for i in 0..size {
        let (above, own) = values.split_at_mut(i * size);
        let own = &mut own[..size];
        let diagonal = own[i] + penalty;
        for j in 0..i {
            let row = &above[j * size..][..size];
            own[j] = (own[j] - dot(&own[..j], &row[..j])) / row[j];
        }
        // Where rounding has left nothing of a dependent feature, it counts as hardly dependent.
        let pivot = diagonal - dot(&own[..i], &own[..i]);
        let least = penalty.max(diagonal * 1e-14);
        own[i] = (if pivot > least { pivot } else { least }).sqrt();
    }
    Factor { size, values }
}

impl Factor {
    /// Multiplies by the inverse of `L L'`.
    fn solve(&self, values: &mut [f64]) {
        for i in 0..self.size {
            let row = &self.values[i * self.size..][..=i];
            values[i] = (values[i] - dot(&row[..i], &values[..i])) / row[i];
        }
        for i in (0..self.size).rev() {
            let row = &self.values[i * self.size..][..=i];
            values[i] /= row[i];
            let value = values[i];
            for (earlier, factor) in values[..i].iter_mut().zip(row) {
                *earlier -= value * factor;
            }
        }
    }
}

/// The sum of products, in an order that depends on the length only.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tails = a_blocks.remainder().iter().zip(b_blocks.remainder());
    let tail = tails.fold(0.0, |sum, (x, y)| sum + x * y);
    for (a, b) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    (((a + b) + (c + d)) + ((e + f) + (g + h))) + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_inverts_the_covariance_and_the_penalty() {
        let features = [
            1.0, 2.0, 0.5, 3.0, -1.0, 0.25, -2.0, 0.0, 4.0, 0.0, 1.0, 1.0,
        ];
        let targets = [0, 1, 0, 1];
        let samples = Samples::new(&features, 3, &targets, 2).unwrap();
        let moments = Moments::new(&samples, false);
        let workers = Workers::new(1).unwrap();
        let covariance = Covariance::new(&samples, &moments, &workers);
        let inverse = Preconditioner::new(&covariance, 0.25, 0.5);
        let expected = [1.0, -2.0, 0.75];
        let mut product = [0.0, 0.0, 0.0, 3.0];
        for i in 0..3 {
            product[i] = 0.5 * expected[i];
            for (j, factor) in expected.iter().enumerate() {
                let of_row = |row: &[f32]| {
                    let x = |k: usize| f64::from(row[k]) - moments.mean[k];
                    x(i) * x(j)
                };
                let sum: f64 = features.chunks(3).map(of_row).sum();
                product[i] += 0.25 * sum / 4.0 * factor;
            }
        }
        inverse.apply(&mut product);
        for (value, expected) in product.iter().zip([1.0, -2.0, 0.75, 12.0]) {
            assert!((value - expected).abs() < 1e-12, "{product:?}");
        }
    }
}
