//! Rounding of weights by which the errors of one weight make up for those of others (GPTQ,
//! arXiv 2210.17323, in the form of LDLQ, arXiv 2307.13304, which is the same).
//!
//! Weights of an output are rounded one after another. Over rows `x` of calibration text with
//! the Gram matrix `H = Σ x xᵀ`, errors `e` of the weights cost `eᵀ H e`. With `H = U D Uᵀ`, `U`
//! upper triangular with ones on its diagonal, a weight is rounded after `Σ_(j<k) e_j U_jk` of
//! the errors so far was added to it, and what is then left costs `Σ_k D_k r_k²`, where `r` is at
//! most half a step.
//!
//! Inputs with large squares come first, while there are others to make up for them. The range of
//! an output is what makes this least among a few: its largest weight, or less, with weights
//! beyond it clipped.

use crate::input::InputRows;
use crate::quantize::QuantizedRows;

/// Part of the mean of the diagonal of `H` that is added to it: few texts say little of
/// directions in which they do not reach. Of 0.01, 0.03 and 0.1, tried on the four models of texts
/// in docs/accuracy.md, the last moves the logits of three least.
const DAMPING: f64 = 0.1;

/// Parts of an output's largest weight that are tried as its range.
const RANGES: [f32; 4] = [1.0, 0.95, 0.9, 0.85];

/// How errors are passed on, for all outputs that read an input.
pub(crate) struct Feedback {
    /// The inputs in the order in which their weights are rounded.
    order: Vec<usize>,
    /// `[inputs, inputs]`: row `k` has `U_jk` for `j < k`, in this order. Empty where no error is
    /// passed on.
    coefficients: Vec<f32>,
    /// `[inputs]`, in this order.
    diagonal: Vec<f64>,
}

impl Feedback {
    /// From rows of the balanced input; none where they are too small or too large for it.
    pub(crate) fn new(rows: &InputRows) -> Option<Self> {
        let columns = rows.columns();
        let gram = rows.gram();
        let squares: Vec<f64> = (0..columns)
            .map(|k| f64::from(gram[k * columns + k]))
            .collect();
        let damping = DAMPING * squares.iter().sum::<f64>() / columns as f64;
        if !(damping > 1e-30 && damping.is_finite()) {
            return None;
        }
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
        // `U D Uᵀ` of a matrix is `L D Lᵀ` of it with rows and columns in reverse.
        let mut lower = vec![0.0f64; columns * columns];
        for (i, &row) in order.iter().rev().enumerate() {
            for (j, &column) in order.iter().rev().take(i + 1).enumerate() {
                let (low, high) = (row.min(column), row.max(column));
                lower[i * columns + j] = f64::from(gram[high * columns + low]);
            }
            lower[i * columns + i] += damping;
        }
        factorize(&mut lower, columns)?;
        let mut coefficients = vec![0.0f32; columns * columns];
        let mut diagonal = vec![0.0; columns];
        for k in 0..columns {
            let reverse = columns - 1 - k;
            let pivot = lower[reverse * columns + reverse];
            diagonal[k] = pivot * pivot;
            for j in 0..k {
                let value = lower[(columns - 1 - j) * columns + reverse] / pivot;
                coefficients[k * columns + j] = value as f32;
            }
        }
        Some(Self {
            order,
            coefficients,
            diagonal,
        })
    }

    /// None: ranges alone are chosen, by the squares of the inputs.
    pub(crate) fn none(rows: &InputRows) -> Self {
        Self {
            order: (0..rows.columns()).collect(),
            coefficients: Vec::new(),
            diagonal: rows.mean_squares(),
        }
    }

    /// Rounds weights `[outputs, inputs]` that are divided by the balance.
    pub(crate) fn quantize(&self, matrix: &[f32]) -> QuantizedRows {
        let columns = self.order.len();
        let mut values = vec![0i8; matrix.len()];
        let mut scales = Vec::with_capacity(matrix.len() / columns);
        let mut ordered = vec![0.0f32; columns];
        let mut errors = vec![0.0f32; columns];
        let mut steps = vec![0i8; columns];
        let rows = matrix
            .chunks_exact(columns)
            .zip(values.chunks_exact_mut(columns));
        for (row, to) in rows {
            let absmax = row.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            for (to, &input) in ordered.iter_mut().zip(&self.order) {
                *to = row[input];
            }
            let mut best = (f64::INFINITY, 0.0);
            for range in RANGES {
                let scale = absmax * range / 127.0;
                if scale < f32::MIN_POSITIVE {
                    // The row is as good as zero, and stays so.
                    break;
                }
                let cost = self.round(&ordered, scale, &mut errors, &mut steps);
                if cost < best.0 {
                    best = (cost, scale);
                    for (&step, &input) in steps.iter().zip(&self.order) {
                        to[input] = step;
                    }
                }
            }
            scales.push(best.1);
        }
        QuantizedRows {
            rows: scales.len(),
            columns,
            values,
            scales,
        }
    }

    /// Rounds one output's weights, in order, and returns what the errors cost.
    fn round(&self, weights: &[f32], scale: f32, errors: &mut [f32], steps: &mut [i8]) -> f64 {
        let columns = weights.len();
        let mut cost = 0.0;
        for (k, &weight) in weights.iter().enumerate() {
            let passed_on = match self.coefficients.get(k * columns..k * columns + k) {
                Some(coefficients) => dot(&errors[..k], coefficients),
                None => 0.0,
            };
            let wanted = weight + passed_on;
            let step = (wanted / scale).round_ties_even().clamp(-127.0, 127.0);
            steps[k] = step as i8;
            errors[k] = weight - step * scale;
            let left = f64::from(wanted - step * scale);
            cost += self.diagonal[k] * left * left;
        }
        cost
    }
}

/// Makes of the lower triangle of a matrix `A` that `L` with `L Lᵀ = A` (Cholesky). None if `A`
/// is not positive definite.
fn factorize(matrix: &mut [f64], columns: usize) -> Option<()> {
    for i in 0..columns {
        let (above, row) = matrix.split_at_mut(i * columns);
        let row = &mut row[..=i];
        for j in 0..i {
            let other = &above[j * columns..][..=j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let rest = row[i] - dot(&row[..i], &row[..i]);
        if !(rest > 0.0 && rest.is_finite()) {
            return None;
        }
        row[i] = rest.sqrt();
    }
    Some(())
}

/// The sum of products, in an order that depends on the length alone.
pub(crate) fn dot<T>(a: &[T], b: &[T]) -> T
where
    T: Copy + Default + std::ops::Add<Output = T> + std::ops::Mul<Output = T>,
{
    const LANES: usize = 16;
    let mut sums = [T::default(); LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = sums[lane] + a[lane] * b[lane];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| a * b);
    sums.into_iter()
        .chain(rest)
        .fold(T::default(), |sum, x| sum + x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::quantize_rows;

    fn noise(i: usize) -> f32 {
        ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0
    }

    /// Rows whose columns go together, as those of a model do.
    fn correlated(columns: usize, rows: usize) -> InputRows {
        let mut all = InputRows::new(columns);
        for r in 0..rows {
            let common = [noise(3 * r + 5), noise(5 * r + 1)];
            let row: Vec<f32> = (0..columns)
                .map(|k| common[k % 2] * noise(k) + 0.2 * noise(r * columns + 7 * k))
                .collect();
            all.push(&row);
        }
        all
    }

    /// What errors cost in the products with these rows.
    fn cost(rows: &InputRows, exact: &[f32], rounded: &QuantizedRows) -> f64 {
        let columns = rows.columns();
        let outputs = exact
            .chunks_exact(columns)
            .zip(rounded.values.chunks_exact(columns));
        let outputs = outputs
            .zip(&rounded.scales)
            .map(|((exact, values), &scale)| {
                let error = |x: &[f32]| -> f64 {
                    let errors = exact
                        .iter()
                        .zip(values)
                        .map(|(w, &q)| w - f32::from(q) * scale);
                    errors.zip(x).map(|(e, x)| f64::from(e * x)).sum()
                };
                rows.iter().map(|x| error(x).powi(2)).sum::<f64>()
            });
        outputs.sum()
    }

    #[test]
    fn products_are_nearer_than_with_plain_rounding() {
        let rows = correlated(48, 300);
        let matrix: Vec<f32> = (0..20 * 48).map(|i| noise(3 * i + 2)).collect();
        let rounded = Feedback::new(&rows).unwrap().quantize(&matrix);
        assert_eq!((rounded.rows, rounded.columns), (20, 48));
        let plain = cost(&rows, &matrix, &quantize_rows(&matrix, 48));
        let found = cost(&rows, &matrix, &rounded);
        assert!(
            found < 0.5 * plain,
            "{found} where plain rounding costs {plain}"
        );
        // No weight is far from its value, however the errors were passed on.
        for (i, &w) in matrix.iter().enumerate() {
            let scale = rounded.scales[i / 48];
            assert!((w - f32::from(rounded.values[i]) * scale).abs() < 8.0 * scale);
        }
    }

    #[test]
    fn inputs_that_have_nothing_in_common_are_rounded_plainly() {
        let mut rows = InputRows::new(4);
        for k in 0..4 {
            rows.push(&std::array::from_fn::<f32, 4, _>(|i| {
                f32::from(u8::from(i == k))
            }));
        }
        let matrix = [0.3, -1.0, 0.41, 0.07, 0.0, 0.0, 0.0, 0.0];
        let feedback = Feedback::new(&rows).unwrap();
        assert_eq!(feedback.coefficients, [0.0; 16]);
        let rounded = feedback.quantize(&matrix);
        assert_eq!(rounded.values[4..], [0; 4]);
        assert_eq!(rounded.scales[1], 0.0);
        for (&w, &q) in matrix[..4].iter().zip(&rounded.values) {
            let steps = (w / rounded.scales[0])
                .round_ties_even()
                .clamp(-127.0, 127.0);
            assert_eq!(steps, f32::from(q));
        }
    }

    #[test]
    fn silent_inputs_have_no_feedback_and_do_no_harm() {
        assert!(Feedback::new(&InputRows::new(3)).is_none());
        let mut rows = InputRows::new(3);
        rows.push(&[1.0, 0.0, 2.0]);
        let rounded = Feedback::new(&rows).unwrap().quantize(&[0.5, 0.25, -1.0]);
        assert!(rounded.values.iter().all(|&q| q >= -127));
        assert_eq!(
            rounded.values[1],
            (0.25 / rounded.scales[0]).round_ties_even() as i8
        );
    }
}
