//! How the burden of quantization is shared between inputs and weights (as SmoothQuant,
//! arXiv 2211.10438, does by largest magnitudes).
//!
//! A row of activations has one scale, so a few wide columns cost all others their precision.
//! Each column `k` of a product's input is therefore multiplied by a factor `f_k` before it is
//! quantized, and the weights that read it are divided by `f_k` before they are: the product
//! is the same, the errors are smaller.
//!
//! By the sizes of columns a factor is `√(w_k / x_k)`. Where there is calibration text, factors
//! make the expected error of the product's outputs least instead. Rounding to steps of `s` has the
//! variance `s² / 12`, so over rows `x` and outputs `n`
//!
//! ```text
//! inputs:   mean_x(range(f x)²) / (12 · 255²) · Σ_nk (W_nk / f_k)²
//! weights:  Σ_n (max_k |W_nk / f_k| / 127)² / 12 · Σ_k mean(x_k²) f_k²
//! ```
//!
//! Errors of weights are the same for every token and add up where those of inputs cancel, so they
//! count [`WEIGHT_ERRORS`] times. The sum is made small by gradient descent over the logarithms of
//! the factors (Adam, arXiv 1412.6980), which begins at the factors by largest magnitudes.
//!
//! Where the input is then rotated ([`crate::rotation`]), `f x` and `W / f` are what the rotation
//! makes of them, and both errors are divided by as many as are rotated together.
//!
//! Every operation is exact or correctly rounded and its order is fixed, so the factors are the
//! same on every host.

use crate::input::InputRows;
use crate::rotation::Rotation;

/// Magnitudes below this part of the largest are taken as this: a column that the texts left
/// silent may speak in others.
const SMALLEST_PART: f32 = 1e-2;

/// How much more the variance of the weights' errors counts than that of the inputs'. Of 1.5, 4 and
/// 10, tried on the models in docs/accuracy.md, the first moves their logits least.
const WEIGHT_ERRORS: f64 = 1.5;

/// Steps of the descent, after which the sum changes by less than a percent (measured).
const STEPS: usize = 100;

/// By how much a factor's logarithm changes in a step, about.
const RATE: f64 = 0.03;

/// Rows and outputs that the descent looks at, evenly spaced, of as many as there are.
const MOST_ROWS: usize = 768;

/// The factors of an input by the sizes of its columns, from some rows of it and the weights that
/// read it, each `[outputs, inputs]`.
///
/// The size of a column is its largest magnitude. Where it is then rotated, it is one of several
/// in a sum: of as many as there are columns, root mean squares would be what counts (the factors
/// `√(w / x)` of these make the product of both sums of squares least, by the Cauchy-Schwarz
/// inequality). Of 8 or 16, the geometric mean of the two is taken.
pub(crate) fn balance_sizes(rows: &InputRows, weights: &[&[f32]], rotation: Rotation) -> Vec<f32> {
    let columns = rows.columns();
    let (mut inputs, mut outputs) = (rows.largest(), largest_weights(columns, weights));
    if rotation.together() > 1 {
        let between = |largest: &mut [f32], squares: &[f64]| {
            for (size, square) in largest.iter_mut().zip(squares) {
                *size = (f64::from(*size) * square.sqrt()).sqrt() as f32;
            }
        };
        between(&mut inputs, &rows.mean_squares());
        between(&mut outputs, &weight_squares(columns, weights));
    }
    match balance_magnitudes(&inputs, &outputs) {
        Some(factors) => center(&factors),
        None => vec![1.0; columns],
    }
}

/// `[inputs]`: the sums of the weights' squares.
fn weight_squares(columns: usize, weights: &[&[f32]]) -> Vec<f64> {
    let mut squares = vec![0.0; columns];
    let rows = weights.iter().flat_map(|rows| rows.chunks_exact(columns));
    for row in rows {
        for (sum, &w) in squares.iter_mut().zip(row) {
            *sum += f64::from(w) * f64::from(w);
        }
    }
    squares
}

/// The factors of an input that is then rotated that make the expected error least, from
/// calibration rows of it and the weights that read it, each `[outputs, inputs]`.
pub(crate) fn balance_errors(rows: &InputRows, weights: &[&[f32]], rotation: Rotation) -> Vec<f32> {
    let inputs = rows.largest();
    match balance_magnitudes(&inputs, &largest_weights(rows.columns(), weights)) {
        Some(factors) => {
            let factors = Descent::new(rows, weights, rotation).run(factors);
            center(&bound(factors, &inputs))
        }
        None => vec![1.0; rows.columns()],
    }
}

/// `[inputs]`: the largest magnitudes of the weights.
fn largest_weights(columns: usize, weights: &[&[f32]]) -> Vec<f32> {
    let mut largest = vec![0.0f32; columns];
    let rows = weights.iter().flat_map(|rows| rows.chunks_exact(columns));
    for row in rows {
        for (most, w) in largest.iter_mut().zip(row) {
            *most = most.max(w.abs());
        }
    }
    largest
}

/// The factors from the sizes of the inputs and of the weights that read them; none
/// where all of one are zero: there is no burden to share.
fn balance_magnitudes(inputs: &[f32], weights: &[f32]) -> Option<Vec<f64>> {
    let (inputs, weights) = (floored(inputs), floored(weights));
    if inputs.contains(&0.0) || weights.contains(&0.0) {
        return None;
    }
    // Square roots only, which are the same on every host, unlike a power or a logarithm.
    let factors = inputs.iter().zip(&weights).map(|(x, w)| (w / x).sqrt());
    Some(factors.collect())
}

/// Magnitudes, of which none is less than a part of the largest.
fn floored(values: &[f32]) -> Vec<f64> {
    let largest = values.iter().fold(0.0f32, |most, &x| most.max(x));
    let floor = largest * SMALLEST_PART;
    values.iter().map(|&x| f64::from(x.max(floor))).collect()
}

/// The factors, with which no column widens the row by what other texts may have in it.
fn bound(mut factors: Vec<f64>, inputs: &[f32]) -> Vec<f64> {
    let columns = factors.iter().zip(inputs);
    let widest = columns.fold(0.0f64, |most, (f, &x)| most.max(f * f64::from(x)));
    for (factor, x) in factors.iter_mut().zip(floored(inputs)) {
        *factor = factor.min(widest / x);
    }
    factors
}

/// The factors in such a unit that the largest and the smallest are each other's inverse.
fn center(factors: &[f64]) -> Vec<f32> {
    let largest = factors.iter().fold(0.0f64, |most, &f| most.max(f));
    let smallest = factors.iter().fold(f64::INFINITY, |least, &f| least.min(f));
    let middle = (largest * smallest).sqrt();
    factors.iter().map(|f| (f / middle) as f32).collect()
}

/// What the descent reads.
struct Descent<'a> {
    columns: usize,
    rotation: Rotation,
    rows: Vec<&'a [f32]>,
    outputs: Vec<&'a [f32]>,
    /// `[inputs]`: the sum of the weights' squares.
    weight_squares: Vec<f64>,
    /// `[inputs]`: the mean of the inputs' squares.
    input_squares: Vec<f64>,
    /// How many outputs each of `outputs` stands for.
    outputs_each: f64,
}

impl<'a> Descent<'a> {
    fn new(rows: &'a InputRows, weights: &[&'a [f32]], rotation: Rotation) -> Self {
        let columns = rows.columns();
        let all: Vec<&[f32]> = weights
            .iter()
            .flat_map(|weights| weights.chunks_exact(columns))
            .collect();
        let outputs = thin(&all);
        Self {
            columns,
            rotation,
            rows: thin(&rows.iter().collect::<Vec<_>>()),
            outputs_each: all.len() as f64 / outputs.len() as f64,
            outputs,
            weight_squares: weight_squares(columns, weights),
            input_squares: rows.mean_squares(),
        }
    }

    fn run(&self, start: Vec<f64>) -> Vec<f64> {
        let (decay, square_decay) = (0.9, 0.999);
        let (mut unseen, mut unseen_square) = (1.0, 1.0);
        let mut mean = vec![0.0; self.columns];
        let mut mean_square = vec![0.0; self.columns];
        let mut factors = start;
        for _ in 0..STEPS {
            let Some(gradient) = self.gradient(&factors) else {
                break;
            };
            unseen *= decay;
            unseen_square *= square_decay;
            let means = mean.iter_mut().zip(&mut mean_square);
            for ((factor, (mean, square)), g) in factors.iter_mut().zip(means).zip(gradient) {
                *mean = decay * *mean + (1.0 - decay) * g;
                *square = square_decay * *square + (1.0 - square_decay) * g * g;
                let size = (*square / (1.0 - unseen_square)).sqrt() + 1e-9;
                // To the first order what the exponential of the step would be.
                *factor *= 1.0 - RATE * (*mean / (1.0 - unseen)) / size;
            }
        }
        factors
    }

    /// The smallest of `row · factors`, rotated, and zero, and the largest.
    fn extremes(&self, row: &[f32], factors: &[f32], scaled: &mut [f32]) -> (Extreme, Extreme) {
        for ((to, x), f) in scaled.iter_mut().zip(row).zip(factors) {
            *to = x * f;
        }
        self.rotation.apply(scaled);
        extremes(scaled)
    }

    /// The gradient of the logarithm of the expected error by those of the factors; none where
    /// there is no error.
    fn gradient(&self, factors: &[f64]) -> Option<Vec<f64>> {
        let single: Vec<f32> = factors.iter().map(|&f| f as f32).collect();
        let mut ranges = 0.0;
        let mut of_ranges = vec![0.0; self.columns];
        let mut scaled = vec![0.0f32; self.columns];
        for row in &self.rows {
            let ((low, low_at), (high, high_at)) = self.extremes(row, &single, &mut scaled);
            let range = f64::from(high) - f64::from(low);
            ranges += range * range;
            for (at, by) in [(high_at, 2.0 * range), (low_at, -2.0 * range)] {
                for (k, sign) in at.into_iter().flat_map(|at| self.rotation.sources(at)) {
                    of_ranges[k] += by * sign * f64::from(row[k]) * f64::from(single[k]);
                }
            }
        }
        let inverse: Vec<f32> = factors.iter().map(|&f| (1.0 / f) as f32).collect();
        let mut steps = 0.0;
        let mut of_steps = vec![0.0; self.columns];
        for row in &self.outputs {
            let ((low, low_at), (high, high_at)) = self.extremes(row, &inverse, &mut scaled);
            let (most, at) = if -low > high {
                (low, low_at)
            } else {
                (high, high_at)
            };
            let most = f64::from(most);
            steps += most * most;
            for (k, sign) in at.into_iter().flat_map(|at| self.rotation.sources(at)) {
                of_steps[k] -= 2.0 * most * sign * f64::from(row[k]) * f64::from(inverse[k]);
            }
        }
        let columns = factors
            .iter()
            .zip(&self.weight_squares)
            .zip(&self.input_squares);
        let (mut weights, mut inputs) = (0.0, 0.0);
        for ((f, w), x) in columns.clone() {
            weights += w / (f * f);
            inputs += x * f * f;
        }
        let of_input_steps = 1.0 / (255.0 * 255.0 * self.rows.len() as f64);
        let of_weight_steps = WEIGHT_ERRORS * self.outputs_each / (127.0 * 127.0);
        let error = of_input_steps * ranges * weights + of_weight_steps * steps * inputs;
        if !(error > 0.0 && error.is_finite()) {
            return None;
        }
        let gradient = columns.zip(of_ranges.iter().zip(&of_steps));
        let gradient = gradient.map(|(((f, w), x), (of_range, of_step))| {
            let by_inputs = of_range * weights - 2.0 * ranges * w / (f * f);
            let by_weights = of_step * inputs + 2.0 * steps * x * f * f;
            (of_input_steps * by_inputs + of_weight_steps * by_weights) / error
        });
        Some(gradient.collect())
    }
}

/// A value, and the place that has it, if it is in a place at all.
type Extreme = (f32, Option<usize>);

/// At most [`MOST_ROWS`] of some rows, evenly spaced.
fn thin<'a>(rows: &[&'a [f32]]) -> Vec<&'a [f32]> {
    let stride = rows.len().div_ceil(MOST_ROWS).max(1);
    rows.iter().copied().step_by(stride).collect()
}

/// The smallest of some values and zero, and the largest, with the places that have them.
fn extremes(values: &[f32]) -> (Extreme, Extreme) {
    const LANES: usize = 16;
    let (mut lows, mut highs) = ([0.0f32; LANES], [0.0f32; LANES]);
    let (vectors, rest) = values.as_chunks::<LANES>();
    for vector in vectors {
        for lane in 0..LANES {
            let x = vector[lane];
            lows[lane] = if x < lows[lane] { x } else { lows[lane] };
            highs[lane] = if x > highs[lane] { x } else { highs[lane] };
        }
    }
    let low = lows
        .iter()
        .chain(rest)
        .fold(0.0f32, |least, &x| least.min(x));
    let high = highs
        .iter()
        .chain(rest)
        .fold(0.0f32, |most, &x| most.max(x));
    let place = |value: f32| values.iter().position(|&x| x == value);
    ((low, place(low)), (high, place(high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_input_is_narrowed_and_its_weights_widened() {
        let factors = balance_magnitudes(&[8.0, 2.0, 0.5], &[0.5, 0.5, 0.5]).unwrap();
        assert_eq!(center(&factors), [0.5, 1.0, 2.0]);
    }

    #[test]
    fn silent_columns_are_bounded_and_zeros_have_no_balance() {
        let factors = balance_magnitudes(&[100.0, 0.0], &[1.0, 1.0]).unwrap();
        assert!((factors[1] / factors[0] - 10.0).abs() < 1e-5, "{factors:?}");
        let factors = bound(vec![1.0, 1000.0], &[100.0, 0.0]);
        assert_eq!(factors, [1.0, 100.0]);
        assert_eq!(balance_magnitudes(&[0.0, 0.0], &[1.0, 2.0]), None);
        assert_eq!(balance_magnitudes(&[3.0, 1.0], &[0.0, 0.0]), None);
    }

    const COLUMNS: usize = 64;

    /// Rows with some wide columns, and weights.
    fn example() -> (InputRows, Vec<f32>) {
        let (columns, outputs) = (COLUMNS, 24);
        let noise = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
        let mut rows = InputRows::new(columns);
        for row in 0..50 {
            let row: Vec<f32> = (0..columns)
                .map(|k| noise(row * columns + k) * if k % 13 == 5 { 30.0 } else { 1.0 })
                .collect();
            rows.push(&row);
        }
        let weights = (0..outputs * columns).map(|i| noise(i + 77)).collect();
        (rows, weights)
    }

    #[test]
    fn the_gradient_is_that_of_the_expected_error() {
        let (rows, weights) = example();
        for rotation in [Rotation::none(COLUMNS), Rotation::of(COLUMNS)] {
            let descent = Descent::new(&rows, &[&weights], rotation);
            let factors: Vec<f64> = (0..COLUMNS).map(|k| 0.5 + (k % 7) as f64 * 0.25).collect();
            // The same in plain words.
            let rotated = |values: &mut dyn Iterator<Item = f64>| {
                let mut values: Vec<f64> = values.collect();
                rotation.apply(&mut values);
                values
            };
            let error = |factors: &[f64]| {
                let mut ranges = 0.0;
                for row in rows.iter() {
                    let row = rotated(&mut row.iter().zip(factors).map(|(&x, f)| f64::from(x) * f));
                    let (low, high) = row
                        .iter()
                        .fold((0.0f64, 0.0f64), |(l, h), x| (l.min(*x), h.max(*x)));
                    ranges += (high - low).powi(2) / 50.0;
                }
                let (mut squares, mut steps) = (0.0, 0.0);
                for row in weights.chunks_exact(COLUMNS) {
                    let divided = row.iter().zip(factors).map(|(&w, f)| f64::from(w) / f);
                    squares += divided.clone().map(|w| w * w).sum::<f64>();
                    let row = rotated(&mut divided.clone());
                    let most = row.iter().fold(0.0f64, |most, w| most.max(w.abs()));
                    steps += (most / 127.0).powi(2);
                }
                let inputs = rows.mean_squares();
                let inputs: f64 = inputs.iter().zip(factors).map(|(x, f)| x * f * f).sum();
                (ranges / (255.0 * 255.0) * squares + WEIGHT_ERRORS * steps * inputs).ln()
            };
            let gradient = descent.gradient(&factors).unwrap();
            for k in 0..COLUMNS {
                let moved = |by: f64| {
                    let mut factors = factors.clone();
                    factors[k] *= by.exp();
                    error(&factors)
                };
                let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!(
                    (slope - gradient[k]).abs() < 1e-4,
                    "{k}: {slope} {}",
                    gradient[k]
                );
            }
            let start = vec![1.0; COLUMNS];
            let (before, after) = (error(&start), error(&descent.run(start)));
            assert!(after < before - 0.1, "{after} {before}");
        }
    }
}
