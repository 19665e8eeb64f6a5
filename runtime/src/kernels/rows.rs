//! The row kernels: everything between two products, written once for all CPUs.
//!
//! A row is a token's values, padded with zeros to whole vectors, so there are no tails: the
//! padding of a product's output is zero because its scales and biases are, and each kernel here
//! keeps it so. Where padding must not count (the layer norm, the softmax), lanes beyond the
//! row's end are masked.
//!
//! The arithmetic is the contract of ARCHITECTURE.md, "Numerics": plain operations rounded
//! once each, `mul_add` exactly where it is written here, reductions over 16 lanes and one
//! tree.

use super::matrix::{Matrix, MatrixMut};
use super::simd::{LANES, Simd};
use crate::format::{Activation, BLOCK, Columns, PANEL};

/// How a row of `u8` stands for floats: `x = scale * (q - zero_point)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowScale {
    pub(crate) scale: f32,
    /// In 0..=255.
    pub(crate) zero_point: i32,
}

/// A row whose values span less than this is a row of zeros: its reciprocal would overflow.
const MIN_RANGE: f32 = 1e-30;

/// One piece of work between two products. Matrices are `[rows, padded columns]`.
pub(crate) enum RowOperation<'a> {
    /// `out = word + position + token type`, each a row of integers times its scale.
    Embed {
        word: (&'a [i8], f32),
        position: (&'a [i16], f32),
        token_type: Option<(&'a [i16], f32)>,
        out: &'a mut [f32],
    },
    /// `values = norm(values + residual)`, then balanced and quantized to `out`.
    Normalize {
        values: MatrixMut<'a, f32>,
        residual: Option<Matrix<'a, f32>>,
        norm: Norm<'a>,
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// `values = activation(values)`, then balanced and quantized to `out`.
    Activate {
        values: MatrixMut<'a, f32>,
        activation: Activation,
        balance: Option<&'a [f32]>,
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// `values`, quantized to `out`.
    Quantize {
        values: Matrix<'a, f32>,
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// The queries of one head, symmetric, their scales times `factor`.
    QuantizeQueries {
        values: Matrix<'a, f32>,
        factor: f32,
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// The keys of one head as weights of a product: a column a key, symmetric.
    PackKeys {
        values: Matrix<'a, f32>,
        weights: &'a mut [i8],
        columns: &'a mut [Columns],
    },
    /// The values of one head as weights of a product: an input a key, symmetric by column.
    PackValues {
        values: Matrix<'a, f32>,
        weights: &'a mut [i8],
        columns: &'a mut [Columns],
    },
    /// Attention probabilities of the first `keys` scores in each row, quantized to `out`.
    Softmax {
        scores: Matrix<'a, f32>,
        keys: usize,
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// Logits to scores that sum to 1.
    Probabilities { values: &'a mut [f32] },
    /// Logits to a score each: the logistic function.
    Sigmoid { values: &'a mut [f32] },
}

/// The parameters of a layer norm.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    /// `[padded columns]`, zero in the padding.
    pub(crate) weight: &'a [f32],
    /// `[padded columns]`, zero in the padding.
    pub(crate) bias: &'a [f32],
    /// `[padded columns]`: by what the output is multiplied before it is quantized.
    pub(crate) balance: &'a [f32],
    pub(crate) eps: f32,
    /// Columns that count.
    pub(crate) columns: usize,
}

/// Carries out `operation` with the instructions of `s`.
#[inline(always)]
pub(crate) fn run<S: Simd>(s: S, operation: RowOperation<'_>) {
    match operation {
        RowOperation::Embed {
            word,
            position,
            token_type,
            out,
        } => embed(s, word, position, token_type, out),
        RowOperation::Normalize {
            mut values,
            residual,
            norm,
            mut out,
            scales,
        } => {
            for (i, scale) in scales.iter_mut().enumerate() {
                let row = values.row_mut(i);
                if let Some(residual) = &residual {
                    add_assign(s, row, residual.row(i));
                }
                let range = normalize(s, row, norm);
                *scale = quantize(s, row, Some(norm.balance), range, out.row_mut(i));
            }
        }
        RowOperation::Activate {
            mut values,
            activation,
            balance,
            mut out,
            scales,
        } => {
            for (i, scale) in scales.iter_mut().enumerate() {
                let row = values.row_mut(i);
                let range = match activation {
                    Activation::Gelu => map(s, row, balance, gelu),
                    Activation::GeluTanh => map(s, row, balance, gelu_tanh),
                    Activation::Relu => map(s, row, balance, relu),
                    Activation::Tanh => map(s, row, balance, tanh),
                };
                *scale = quantize(s, row, balance, range, out.row_mut(i));
            }
        }
        RowOperation::Quantize {
            values,
            mut out,
            scales,
        } => {
            for (i, scale) in scales.iter_mut().enumerate() {
                let row = values.row(i);
                *scale = quantize(s, row, None, measure(s, row), out.row_mut(i));
            }
        }
        RowOperation::QuantizeQueries {
            values,
            factor,
            mut out,
            scales,
        } => {
            for (i, scale) in scales.iter_mut().enumerate() {
                *scale = quantize_query(s, values.row(i), factor, out.row_mut(i));
            }
        }
        RowOperation::PackKeys {
            values,
            weights,
            columns,
        } => pack_keys(s, values, weights, columns),
        RowOperation::PackValues {
            values,
            weights,
            columns,
        } => pack_values(s, values, weights, columns),
        RowOperation::Softmax {
            scores,
            keys,
            mut out,
            scales,
        } => {
            for (i, scale) in scales.iter_mut().enumerate() {
                *scale = softmax(s, scores.row(i), keys, out.row_mut(i));
            }
        }
        RowOperation::Probabilities { values } => probabilities(s, values),
        RowOperation::Sigmoid { values } => sigmoid_all(s, values),
    }
}

/// The vectors of a padded row.
#[inline(always)]
fn vectors<T>(row: &[T]) -> &[[T; LANES]] {
    row.as_chunks().0
}

/// The vectors of a padded row, to be written.
#[inline(always)]
fn vectors_mut<T>(row: &mut [T]) -> &mut [[T; LANES]] {
    row.as_chunks_mut().0
}

#[inline(always)]
fn embed<S: Simd>(
    s: S,
    word: (&[i8], f32),
    position: (&[i16], f32),
    token_type: Option<(&[i16], f32)>,
    out: &mut [f32],
) {
    let (word_scale, position_scale) = (s.splat(word.1), s.splat(position.1));
    for ((to, w), p) in vectors_mut(out)
        .iter_mut()
        .zip(vectors(word.0))
        .zip(vectors(position.0))
    {
        let x = s.mul(s.load_i8(w), word_scale);
        s.store(s.mul_add(s.load_i16(p), position_scale, x), to);
    }
    if let Some((row, scale)) = token_type {
        let scale = s.splat(scale);
        for (to, t) in vectors_mut(out).iter_mut().zip(vectors(row)) {
            s.store(s.mul_add(s.load_i16(t), scale, s.load(to)), to);
        }
    }
}

#[inline(always)]
fn add_assign<S: Simd>(s: S, row: &mut [f32], other: &[f32]) {
    for (to, from) in vectors_mut(row).iter_mut().zip(vectors(other)) {
        s.store(s.add(s.load(to), s.load(from)), to);
    }
}

/// The smallest and largest value of a row, and zero.
#[derive(Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
}

/// A [`Range`] in the making, lane by lane.
struct Extremes<S: Simd> {
    low: S::F32,
    high: S::F32,
}

impl<S: Simd> Extremes<S> {
    #[inline(always)]
    fn new(s: S) -> Self {
        Self {
            low: s.splat(0.0),
            high: s.splat(0.0),
        }
    }

    #[inline(always)]
    fn include(&mut self, s: S, x: S::F32) {
        self.low = s.min(self.low, x);
        self.high = s.max(self.high, x);
    }

    #[inline(always)]
    fn range(self, s: S) -> Range {
        Range {
            low: s.reduce_min(self.low),
            high: s.reduce_max(self.high),
        }
    }
}

#[inline(always)]
fn measure<S: Simd>(s: S, row: &[f32]) -> Range {
    let mut extremes = Extremes::new(s);
    for v in vectors(row) {
        extremes.include(s, s.load(v));
    }
    extremes.range(s)
}

/// Layer norm (arXiv 1607.06450) in two passes: the mean first, then the squared differences,
/// so that nothing cancels.
#[inline(always)]
fn normalize<S: Simd>(s: S, row: &mut [f32], norm: Norm<'_>) -> Range {
    let (whole, rest) = (norm.columns / LANES, norm.columns % LANES);
    let mut sum = s.splat(0.0);
    for v in &vectors(row)[..whole] {
        sum = s.add(sum, s.load(v));
    }
    if rest > 0 {
        let tail = s.load(&vectors(row)[whole]);
        sum = s.add(sum, s.keep_first(tail, rest, s.splat(0.0)));
    }
    let count = norm.columns as f32;
    let mean = s.splat(s.reduce_add(sum) / count);

    if rest > 0 {
        // From here on the padding counts as the mean, whatever it held: it adds nothing to
        // the variance and becomes zero.
        let tail = &mut vectors_mut(row)[whole];
        s.store(s.keep_first(s.load(tail), rest, mean), tail);
    }
    let mut squares = s.splat(0.0);
    for v in vectors(row) {
        let difference = s.sub(s.load(v), mean);
        squares = s.mul_add(difference, difference, squares);
    }
    let variance = s.reduce_add(squares) / count;
    let inverse = s.splat(1.0 / (variance + norm.eps).sqrt());

    let mut extremes = Extremes::new(s);
    let parameters = vectors(norm.weight)
        .iter()
        .zip(vectors(norm.bias))
        .zip(vectors(norm.balance));
    for (v, ((weight, bias), balance)) in vectors_mut(row).iter_mut().zip(parameters) {
        let x = s.mul(s.sub(s.load(v), mean), inverse);
        let y = s.mul_add(x, s.load(weight), s.load(bias));
        s.store(y, v);
        let y = s.mul(y, s.load(balance));
        extremes.include(s, y);
    }
    extremes.range(s)
}

/// `x`, the vector of a row with this number, times that of the balance.
#[inline(always)]
fn apply_balance<S: Simd>(s: S, x: S::F32, balance: Option<&[f32]>, vector: usize) -> S::F32 {
    match balance {
        Some(balance) => s.mul(x, s.load(&vectors(balance)[vector])),
        None => x,
    }
}

/// `row = function(row)`; the range is that of the balanced row.
#[inline(always)]
fn map<S: Simd>(
    s: S,
    row: &mut [f32],
    balance: Option<&[f32]>,
    function: impl Fn(S, S::F32) -> S::F32,
) -> Range {
    let mut extremes = Extremes::new(s);
    for (vector, v) in vectors_mut(row).iter_mut().enumerate() {
        let y = function(s, s.load(v));
        s.store(y, v);
        let y = apply_balance(s, y, balance, vector);
        extremes.include(s, y);
    }
    extremes.range(s)
}

/// Asymmetric 8 bits: zero is exact, and the row's extremes are at most half a step off.
#[inline(always)]
fn quantize<S: Simd>(
    s: S,
    row: &[f32],
    balance: Option<&[f32]>,
    range: Range,
    out: &mut [u8],
) -> RowScale {
    let span = range.high - range.low;
    if span < MIN_RANGE {
        out.fill(0);
        return RowScale::default();
    }
    let inverse = 255.0 / span;
    let zero_point = (-range.low * inverse).round_ties_even();
    let (factor, offset) = (s.splat(inverse), s.splat(zero_point));
    let (least, most) = (s.splat(0.0), s.splat(255.0));
    for (vector, (v, to)) in vectors(row).iter().zip(vectors_mut(out)).enumerate() {
        let x = apply_balance(s, s.load(v), balance, vector);
        let q = s.add(s.round(s.mul(x, factor)), offset);
        s.store_u8(s.min(s.max(q, least), most), to);
    }
    RowScale {
        scale: span / 255.0,
        zero_point: zero_point as i32,
    }
}

/// The largest magnitude of a row.
#[inline(always)]
fn magnitude<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut most = s.splat(0.0);
    for v in vectors(row) {
        most = s.max(most, s.abs(s.load(v)));
    }
    s.reduce_max(most)
}

/// The scale of a symmetric row of this magnitude, and its inverse.
#[inline(always)]
fn symmetric_scale(magnitude: f32) -> (f32, f32) {
    if magnitude < MIN_RANGE {
        (0.0, 0.0)
    } else {
        (magnitude / 127.0, 127.0 / magnitude)
    }
}

/// `x` in steps of `1 / inverse`, rounded, within [-127, 127].
#[inline(always)]
fn round_symmetric<S: Simd>(s: S, x: S::F32, inverse: S::F32) -> S::F32 {
    let q = s.round(s.mul(x, inverse));
    s.min(s.max(q, s.splat(-127.0)), s.splat(127.0))
}

#[inline(always)]
fn quantize_query<S: Simd>(s: S, row: &[f32], factor: f32, out: &mut [u8]) -> RowScale {
    let (scale, inverse) = symmetric_scale(magnitude(s, row));
    let (inverse, middle) = (s.splat(inverse), s.splat(128.0));
    for (v, to) in vectors(row).iter().zip(vectors_mut(out)) {
        s.store_u8(s.add(round_symmetric(s, s.load(v), inverse), middle), to);
    }
    RowScale {
        scale: scale * factor,
        zero_point: 128,
    }
}

#[inline(always)]
fn pack_keys<S: Simd>(s: S, values: Matrix<'_, f32>, weights: &mut [i8], columns: &mut [Columns]) {
    let panel_bytes = values.columns() * PANEL;
    let panels = weights.chunks_exact_mut(panel_bytes).zip(columns);
    for (panel, (weights, columns)) in panels.enumerate() {
        weights.fill(0);
        *columns = bytemuck::Zeroable::zeroed();
        let first = panel * PANEL;
        for column in 0..PANEL.min(values.rows() - first) {
            let row = values.row(first + column);
            let (scale, inverse) = symmetric_scale(magnitude(s, row));
            let inverse = s.splat(inverse);
            let mut sum = s.splat(0.0);
            for (vector, v) in vectors(row).iter().enumerate() {
                let q = round_symmetric(s, s.load(v), inverse);
                sum = s.add(sum, q);
                let mut bytes = [0; LANES];
                s.store_i8(q, &mut bytes);
                for (block, four) in bytes.as_chunks::<BLOCK>().0.iter().enumerate() {
                    let at = (vector * (LANES / BLOCK) + block) * PANEL * BLOCK + column * BLOCK;
                    weights[at..at + BLOCK].copy_from_slice(four);
                }
            }
            columns.scale[column] = scale;
            columns.sum[column] = s.reduce_add(sum) as i32;
        }
    }
}

#[inline(always)]
fn pack_values<S: Simd>(
    s: S,
    values: Matrix<'_, f32>,
    weights: &mut [i8],
    columns: &mut [Columns],
) {
    let panel_bytes = values.rows().next_multiple_of(BLOCK) * PANEL;
    let panels = weights.chunks_exact_mut(panel_bytes).zip(columns);
    for (panel, (weights, columns)) in panels.enumerate() {
        let mut most = s.splat(0.0);
        for row in 0..values.rows() {
            most = s.max(most, s.abs(s.load(&vectors(values.row(row))[panel])));
        }
        let mut magnitudes = [0.0; LANES];
        s.store(most, &mut magnitudes);
        let mut inverses = [0.0; LANES];
        for column in 0..PANEL {
            (columns.scale[column], inverses[column]) = symmetric_scale(magnitudes[column]);
        }
        let inverse = s.load(&inverses);
        let mut sum = s.splat(0.0);
        for (block, to) in weights.chunks_exact_mut(BLOCK * PANEL).enumerate() {
            let mut quarters = [[0; LANES]; BLOCK];
            for (k, quarter) in quarters.iter_mut().enumerate() {
                let row = block * BLOCK + k;
                if row < values.rows() {
                    let v = s.load(&vectors(values.row(row))[panel]);
                    let q = round_symmetric(s, v, inverse);
                    sum = s.add(sum, q);
                    s.store_i8(q, quarter);
                }
            }
            for (column, four) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                *four = [
                    quarters[0][column],
                    quarters[1][column],
                    quarters[2][column],
                    quarters[3][column],
                ];
            }
        }
        let mut sums = [0.0; LANES];
        s.store(sum, &mut sums);
        columns.sum = sums.map(|sum| sum as i32);
        columns.bias = [0.0; PANEL];
    }
}

/// Softmax without its division: probabilities as `u8` steps of the largest, and the inverse
/// of their sum as the scale, so that they sum to 1 as they are multiplied.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &[f32], keys: usize, out: &mut [u8]) -> RowScale {
    let (whole, rest) = (keys / LANES, keys % LANES);
    let lowest = s.splat(f32::MIN);
    let mut most = lowest;
    for v in &vectors(scores)[..whole] {
        most = s.max(most, s.load(v));
    }
    if rest > 0 {
        most = s.max(
            most,
            s.keep_first(s.load(&vectors(scores)[whole]), rest, lowest),
        );
    }
    let most = s.splat(s.reduce_max(most));

    let steps = s.splat(255.0);
    let mut sum = s.splat(0.0);
    for (v, to) in vectors(scores).iter().zip(vectors_mut(out)).take(whole) {
        let q = s.round(s.mul(exp(s, s.sub(s.load(v), most)), steps));
        sum = s.add(sum, q);
        s.store_u8(q, to);
    }
    if rest > 0 {
        let x = s.load(&vectors(scores)[whole]);
        let q = s.round(s.mul(exp(s, s.sub(x, most)), steps));
        let q = s.keep_first(q, rest, s.splat(0.0));
        sum = s.add(sum, q);
        s.store_u8(q, &mut vectors_mut(out)[whole]);
    }
    RowScale {
        scale: 1.0 / s.reduce_add(sum),
        zero_point: 0,
    }
}

/// In place, in plain order: a head has few labels.
#[inline(always)]
fn probabilities<S: Simd>(s: S, values: &mut [f32]) {
    let mut most = f32::MIN;
    for &x in &*values {
        most = if x > most { x } else { most };
    }
    let mut sum = 0.0;
    for x in values.iter_mut() {
        *x = first(s, exp(s, s.splat(*x - most)));
        sum += *x;
    }
    for x in values {
        *x /= sum;
    }
}

#[inline(always)]
fn sigmoid_all<S: Simd>(s: S, values: &mut [f32]) {
    for x in values {
        *x = first(s, sigmoid(s, s.splat(*x)));
    }
}

#[inline(always)]
fn first<S: Simd>(s: S, v: S::F32) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(v, &mut lanes);
    lanes[0]
}

/// `e^x` for `x` in [-87, 88], and their values beyond: relative error at most 1.5e-7,
/// and 1 exactly at 0.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; the polynomial of degree 6 is the minimax one for
/// the relative error of `e^r` (Remez; 1.9e-9).
#[inline(always)]
fn exp<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let x = s.min(s.max(x, s.splat(-87.0)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 as the nearest f32 and what that leaves.
    let r = s.mul_add(n, s.splat(-std::f32::consts::LN_2), x);
    let r = s.mul_add(n, s.splat(1.904_654_3e-9), r);
    let p = polynomial(s, r, EXP);
    s.mul(p, s.power_of_two(n))
}

const EXP: &[f32] = &[
    1.0,
    1.0,
    0.499_999_9,
    0.166_664_2,
    0.041_668_225,
    0.008_374_824,
    0.001_383_683_4,
];

/// Coefficients from the constant upwards, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd>(s: S, x: S::F32, coefficients: &[f32]) -> S::F32 {
    let (&last, rest) = coefficients
        .split_last()
        .expect("a polynomial has coefficients");
    let mut p = s.splat(last);
    for &c in rest.iter().rev() {
        p = s.mul_add(p, x, s.splat(c));
    }
    p
}

/// `x Φ(x)`: absolute error at most 6e-7 on [-8, 8], and beyond it 0 or `x` exactly.
///
/// `erf(z) = z p(z²)` on `|z| <= 3.9`, with `p` the minimax polynomial of degree 14 for the
/// error of the result (Remez; 1.0e-7), in `u = 2 z² / 3.9² - 1`, where its coefficients stay
/// small. At 3.9 it reaches 1, to which it is clamped.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const LIMIT: f32 = 3.9;
    let z = s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    let z = s.min(s.max(z, s.splat(-LIMIT)), s.splat(LIMIT));
    let u = s.mul_add(s.mul(z, z), s.splat(2.0 / (LIMIT * LIMIT)), s.splat(-1.0));
    let erf = s.mul(polynomial(s, u, ERF), z);
    let erf = s.min(s.max(erf, s.splat(-1.0)), s.splat(1.0));
    let half = s.mul(x, s.splat(0.5));
    s.mul_add(half, erf, half)
}

const ERF: &[f32] = &[
    0.362_584,
    -0.181_011_2,
    0.134_688_08,
    -0.109_525_79,
    0.090_728_2,
    -0.073_899_806,
    0.057_490_427,
    -0.042_184_17,
    0.030_525_006,
    -0.021_372_108,
    0.011_224_795,
    -0.004_201_732,
    0.003_863_575_6,
    -0.003_788_319_2,
    0.001_289_310_6,
];

/// GELU's tanh form (arXiv 1606.08415): `x σ(2 √(2/π) (x + 0.044715 x³))`.
#[inline(always)]
fn gelu_tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;
    let cubic = s.mul_add(s.mul(x, x), s.splat(0.044_715), s.splat(1.0));
    let inner = s.mul(s.mul(x, s.splat(TWICE_SQRT_2_OVER_PI)), cubic);
    s.mul(x, sigmoid(s, inner))
}

#[inline(always)]
fn relu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    s.max(x, s.splat(0.0))
}

/// `2 σ(2x) - 1`: absolute error at most 3e-7.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let doubled = s.add(x, x);
    s.mul_add(sigmoid(s, doubled), s.splat(2.0), s.splat(-1.0))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar::Scalar;

    #[test]
    fn exp_keeps_its_stated_bound() {
        let mut worst = 0.0f64;
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let [y, ..] = exp(Scalar, [x; LANES]);
            worst = worst.max((f64::from(y) / exact - 1.0).abs());
        }
        println!("exp: {worst:.2e}");
        assert!(worst <= 1.5e-7, "{worst:e}");
        assert_eq!(exp(Scalar, [0.0; LANES]), [1.0; LANES]);
        assert_eq!(exp(Scalar, [-1e9; LANES]), exp(Scalar, [-87.0; LANES]));
    }
}
