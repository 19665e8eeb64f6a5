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

/// What is done to a row so that 8 bits say more of it; the weights that read it have the inverse
/// in them.
#[derive(Clone, Copy)]
pub(crate) struct Balance<'a> {
    /// `[padded columns]`: by what each column is multiplied.
    pub(crate) factors: &'a [f32],
    /// Vectors that are then rotated together: a power of two that divides their number, and 1
    /// for none. See [`crate::format::rotated_vectors`].
    pub(crate) rotation: usize,
}

/// One piece of work between two products. Matrices are `[rows, padded columns]`. A `scratch` is
/// a row: it stays in the first-level cache, where the rows of `values` do not. The last row is
/// left in it as it was quantized.
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
        scratch: &'a mut [f32],
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// `activation(values)`, or the values themselves, balanced and quantized to `out`.
    Activate {
        values: Matrix<'a, f32>,
        activation: Option<Activation>,
        balance: Option<Balance<'a>>,
        scratch: &'a mut [f32],
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// `values`, quantized to `out`.
    Quantize {
        values: Matrix<'a, f32>,
        out: MatrixMut<'a, u8>,
        scales: &'a mut [RowScale],
    },
    /// Takes from a row what [`RowOperation::Quantize`] makes of it.
    TakeQuantized { row: &'a mut [f32] },
    /// Row `i` of `out` is the sum of the rows `2 i` and `2 i + 1` of two products.
    SumFine {
        products: [Matrix<'a, f32>; 2],
        out: MatrixMut<'a, f32>,
    },
    /// `values = activation(values)`.
    Map {
        values: MatrixMut<'a, f32>,
        activation: Activation,
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
    /// Attention probabilities of the first `keys` scores in each row, quantized to `out`. The
    /// scores are in units of ln 2: a probability is a power of two.
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
    /// Of the output, before it is quantized.
    pub(crate) balance: Balance<'a>,
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
            scratch,
            mut out,
            scales,
        } => {
            let scratch = &mut scratch[..values.columns()];
            for (i, scale) in scales.iter_mut().enumerate() {
                let residual = residual.as_ref().map(|r| r.row(i));
                let range = normalize(s, values.row_mut(i), residual, norm, scratch);
                let range = rotate(s, scratch, norm.balance.rotation, range);
                *scale = quantize(s, scratch, range, out.row_mut(i));
            }
        }
        RowOperation::Activate {
            values,
            activation,
            balance,
            scratch,
            mut out,
            scales,
        } => {
            let scratch = &mut scratch[..values.columns()];
            let (factors, rotation) = match balance {
                Some(balance) => (Some(balance.factors), balance.rotation),
                None => (None, 1),
            };
            for (i, scale) in scales.iter_mut().enumerate() {
                let row = values.row(i);
                let range = match activation {
                    None => map(s, row, scratch, factors, |_, x| x),
                    Some(Activation::Gelu) => map(s, row, scratch, factors, gelu),
                    Some(Activation::GeluTanh) => map(s, row, scratch, factors, gelu_tanh),
                    Some(Activation::Relu) => map(s, row, scratch, factors, relu),
                    Some(Activation::Tanh) => map(s, row, scratch, factors, tanh),
                };
                let range = rotate(s, scratch, rotation, range);
                *scale = quantize(s, scratch, range, out.row_mut(i));
            }
        }
        RowOperation::Quantize {
            values,
            mut out,
            scales,
        } => {
            for (i, scale) in scales.iter_mut().enumerate() {
                let row = values.row(i);
                *scale = quantize(s, row, measure(s, row), out.row_mut(i));
            }
        }
        RowOperation::TakeQuantized { row } => take_quantized(s, row),
        RowOperation::SumFine {
            products: [first, second],
            mut out,
        } => {
            for i in 0..out.rows() {
                let [a, b] = [2 * i, 2 * i + 1].map(|row| vectors(first.row(row)));
                let [c, d] = [2 * i, 2 * i + 1].map(|row| vectors(second.row(row)));
                for (vector, to) in vectors_mut(out.row_mut(i)).iter_mut().enumerate() {
                    let [a, b, c, d] = [a, b, c, d].map(|row| s.load(&row[vector]));
                    s.store(s.add(s.add(a, b), s.add(c, d)), to);
                }
            }
        }
        RowOperation::Map {
            mut values,
            activation,
        } => {
            for i in 0..values.rows() {
                for v in vectors_mut(values.row_mut(i)) {
                    let x = s.load(v);
                    let y = match activation {
                        Activation::Gelu => gelu(s, x),
                        Activation::GeluTanh => gelu_tanh(s, x),
                        Activation::Relu => relu(s, x),
                        Activation::Tanh => tanh(s, x),
                    };
                    s.store(y, v);
                }
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

/// Rotates a row of this range in place, `together` vectors at a time, and returns its new range:
/// see [`crate::format::rotated_vectors`]. By sums and differences of two vectors, the nearest
/// first (the fast Walsh-Hadamard transform); two such steps are taken at once.
#[inline(always)]
fn rotate<S: Simd>(s: S, row: &mut [f32], together: usize, range: Range) -> Range {
    if together <= 1 {
        return range;
    }
    let vectors = vectors_mut(row);
    let mut distance = vectors.len() / together;
    while distance * 4 <= vectors.len() {
        for block in vectors.chunks_exact_mut(distance * 4) {
            let (first, second) = block.split_at_mut(distance * 2);
            let (a, b) = first.split_at_mut(distance);
            let (c, d) = second.split_at_mut(distance);
            for ((a, b), (c, d)) in a.iter_mut().zip(b).zip(c.iter_mut().zip(d)) {
                let [w, x, y, z] = [&*a, b, c, d].map(|v| s.load(v));
                let (sum, difference) = (s.add(w, x), s.sub(w, x));
                let (other_sum, other_difference) = (s.add(y, z), s.sub(y, z));
                s.store(s.add(sum, other_sum), a);
                s.store(s.add(difference, other_difference), b);
                s.store(s.sub(sum, other_sum), c);
                s.store(s.sub(difference, other_difference), d);
            }
        }
        distance *= 4;
    }
    if distance * 2 <= vectors.len() {
        for block in vectors.chunks_exact_mut(distance * 2) {
            let (a, b) = block.split_at_mut(distance);
            for (a, b) in a.iter_mut().zip(b) {
                let (x, y) = (s.load(a), s.load(b));
                s.store(s.add(x, y), a);
                s.store(s.sub(x, y), b);
            }
        }
    }
    measure(s, row)
}

/// Layer norm (arXiv 1607.06450) in two passes: the mean first, then the squared differences,
/// so that nothing cancels. Writes the row, and `balanced` times the factors of its balance, whose
/// range it returns.
#[inline(always)]
fn normalize<S: Simd>(
    s: S,
    row: &mut [f32],
    residual: Option<&[f32]>,
    norm: Norm<'_>,
    balanced: &mut [f32],
) -> Range {
    let (whole, rest) = (norm.columns / LANES, norm.columns % LANES);
    let mut sum = s.splat(0.0);
    match residual {
        Some(residual) => {
            for (v, r) in vectors_mut(row)
                .iter_mut()
                .zip(vectors(residual))
                .take(whole)
            {
                let x = s.add(s.load(v), s.load(r));
                s.store(x, v);
                sum = s.add(sum, x);
            }
            if rest > 0 {
                let tail = &mut vectors_mut(row)[whole];
                s.store(s.add(s.load(tail), s.load(&vectors(residual)[whole])), tail);
            }
        }
        None => {
            for v in &vectors(row)[..whole] {
                sum = s.add(sum, s.load(v));
            }
        }
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
        .zip(vectors(norm.balance.factors));
    let rows = vectors_mut(row).iter_mut().zip(vectors_mut(balanced));
    for ((v, to), ((weight, bias), factor)) in rows.zip(parameters) {
        let x = s.mul(s.sub(s.load(v), mean), inverse);
        let y = s.mul_add(x, s.load(weight), s.load(bias));
        s.store(y, v);
        let y = s.mul(y, s.load(factor));
        s.store(y, to);
        extremes.include(s, y);
    }
    extremes.range(s)
}

/// `out = function(row) · factors`, and its range.
#[inline(always)]
fn map<S: Simd>(
    s: S,
    row: &[f32],
    out: &mut [f32],
    factors: Option<&[f32]>,
    function: impl Fn(S, S::F32) -> S::F32,
) -> Range {
    let mut extremes = Extremes::new(s);
    for (vector, (v, to)) in vectors(row).iter().zip(vectors_mut(out)).enumerate() {
        let mut y = function(s, s.load(v));
        if let Some(factors) = factors {
            y = s.mul(y, s.load(&vectors(factors)[vector]));
        }
        s.store(y, to);
        extremes.include(s, y);
    }
    extremes.range(s)
}

/// Asymmetric 8 bits: zero is exact, and the row's extremes are at most half a step off.
#[inline(always)]
fn quantize<S: Simd>(s: S, row: &[f32], range: Range, out: &mut [u8]) -> RowScale {
    let span = range.high - range.low;
    if span < MIN_RANGE {
        out.fill(S::BYTE_XOR);
        return RowScale::default();
    }
    let inverse = 255.0 / span;
    let zero_point = (-range.low * inverse).round_ties_even() as i32;
    let (factor, offset) = (s.splat(inverse), s.splat_i32(zero_point));
    for (v, to) in vectors(row).iter().zip(vectors_mut(out)) {
        let q = s.add_i32(s.round_i32(s.mul(s.load(v), factor)), offset);
        s.store_u8(q, to);
    }
    RowScale {
        scale: span / 255.0,
        zero_point,
    }
}

/// Takes from a row what [`quantize`] makes of it.
#[inline(always)]
fn take_quantized<S: Simd>(s: S, row: &mut [f32]) {
    let range = measure(s, row);
    let span = range.high - range.low;
    if span < MIN_RANGE {
        // It counts as zeros, of which nothing is left.
        row.fill(0.0);
        return;
    }
    let inverse = 255.0 / span;
    let zero_point = (-range.low * inverse).round_ties_even();
    let (factor, step) = (s.splat(inverse), s.splat(-(span / 255.0)));
    let (least, most) = (s.splat(-zero_point), s.splat(255.0 - zero_point));
    for v in vectors_mut(row) {
        let x = s.load(v);
        let steps = s.max(s.min(s.round(s.mul(x, factor)), most), least);
        s.store(s.mul_add(steps, step, x), v);
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

/// `x` in steps of `1 / inverse`, rounded. Within [-127, 127] without a clamp: `|x|` is at most
/// the magnitude, and two roundings do not lift 127 to 127.5.
#[inline(always)]
fn round_symmetric<S: Simd>(s: S, x: S::F32, inverse: S::F32) -> S::I32 {
    s.round_i32(s.mul(x, inverse))
}

#[inline(always)]
fn quantize_query<S: Simd>(s: S, row: &[f32], factor: f32, out: &mut [u8]) -> RowScale {
    let (scale, inverse) = symmetric_scale(magnitude(s, row));
    let (inverse, middle) = (s.splat(inverse), s.splat_i32(128));
    for (v, to) in vectors(row).iter().zip(vectors_mut(out)) {
        let q = round_symmetric(s, s.load(v), inverse);
        s.store_u8(s.add_i32(q, middle), to);
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
        let first = panel * PANEL;
        let count = PANEL.min(values.rows() - first);
        if count < PANEL {
            weights.fill(0);
        }
        *columns = bytemuck::Zeroable::zeroed();
        for column in 0..count {
            let row = values.row(first + column);
            let (scale, inverse) = symmetric_scale(magnitude(s, row));
            let inverse = s.splat(inverse);
            let mut sum = s.splat_i32(0);
            let blocks = weights.as_chunks_mut::<{ LANES * PANEL }>().0;
            for (v, blocks) in vectors(row).iter().zip(blocks) {
                let q = round_symmetric(s, s.load(v), inverse);
                sum = s.add_i32(sum, q);
                let mut bytes = [0; LANES];
                s.store_i8(q, &mut bytes);
                let (fours, blocks) = (
                    bytes.as_chunks::<BLOCK>().0,
                    blocks.as_chunks_mut::<{ BLOCK * PANEL }>().0,
                );
                for (four, block) in fours.iter().zip(blocks) {
                    block.as_chunks_mut::<BLOCK>().0[column] = *four;
                }
            }
            columns.scale[column] = scale;
            columns.sum[column] = s.reduce_add_i32(sum);
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
    let rows = values.rows();
    let panel_bytes = rows.next_multiple_of(BLOCK) * PANEL;
    let panels = weights.chunks_exact_mut(panel_bytes).zip(columns);
    for (panel, (weights, columns)) in panels.enumerate() {
        let vector = |row: usize| s.load(&vectors(values.row(row))[panel]);
        let mut most = s.splat(0.0);
        for row in 0..rows {
            most = s.max(most, s.abs(vector(row)));
        }
        let mut magnitudes = [0.0; LANES];
        s.store(most, &mut magnitudes);
        let mut inverses = [0.0; LANES];
        for column in 0..PANEL {
            (columns.scale[column], inverses[column]) = symmetric_scale(magnitudes[column]);
        }
        let inverse = s.load(&inverses);
        let mut sum = s.splat_i32(0);
        let blocks = weights.as_chunks_mut::<{ BLOCK * PANEL }>().0;
        for (block, to) in blocks.iter_mut().enumerate() {
            let mut fours = [s.splat_i32(0); BLOCK];
            for (k, four) in fours.iter_mut().enumerate() {
                let row = block * BLOCK + k;
                if row < rows {
                    *four = round_symmetric(s, vector(row), inverse);
                    sum = s.add_i32(sum, *four);
                }
            }
            s.store_fours(fours, to);
        }
        s.store_i32(sum, &mut columns.sum);
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

    let mut sum = s.splat_i32(0);
    for (v, to) in vectors(scores).iter().zip(vectors_mut(out)).take(whole) {
        let q = s.round_i32(exp2_steps(s, s.sub(s.load(v), most)));
        sum = s.add_i32(sum, q);
        s.store_u8(q, to);
    }
    if rest > 0 {
        // The padding counts as the largest, so that nothing is above it, and then as nothing.
        let x = s.keep_first(s.load(&vectors(scores)[whole]), rest, most);
        let steps = exp2_steps(s, s.sub(x, most));
        let q = s.round_i32(s.keep_first(steps, rest, s.splat(0.0)));
        sum = s.add_i32(sum, q);
        s.store_u8(q, &mut vectors_mut(out)[whole]);
    }
    RowScale {
        scale: 1.0 / s.reduce_add_i32(sum) as f32,
        zero_point: 0,
    }
}

/// `255 · 2^x` for `x` at most 0, within 0.02, to be rounded to an integer: 255 at 0, and below
/// 0.5 from -9 on down.
///
/// `x = n + f` with `|f| <= 1/2`; the polynomial of degree 3 is the minimax one for the relative
/// error of `2^f` (7.5e-5).
#[inline(always)]
fn exp2_steps<S: Simd>(s: S, x: S::F32) -> S::F32 {
    let x = s.max(x, s.splat(-16.0));
    let n = s.round(x);
    let p = polynomial(s, s.sub(x, n), EXP2_STEPS);
    s.scale_by_power_of_two(p, n)
}

const EXP2_STEPS: &[f32] = &[254.981_66, 176.781_56, 61.865_837, 14.068_775];

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
    s.scale_by_power_of_two(p, n)
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

/// `x Φ(x)`: absolute error at most 1e-6 on [-8, 8], and beyond it 0 or `x` exactly.
///
/// `Φ(x) = 1/2 + x p(x²)` on `|x| <= 5.45`, with `p` the minimax polynomial of degree 13 for the
/// error of the result (linear programming; 3.8e-7, the rest is rounding), in
/// `u = 2 x² / 5.45² - 1`, where its coefficients stay small. At 5.45 it reaches 1, to which it
/// is clamped.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::F32) -> S::F32 {
    const LIMIT: f32 = 5.45;
    let z = s.min(s.max(x, s.splat(-LIMIT)), s.splat(LIMIT));
    let u = s.mul_add(s.mul(z, z), s.splat(2.0 / (LIMIT * LIMIT)), s.splat(-1.0));
    let phi = s.mul_add(polynomial(s, u, PHI), z, s.splat(0.5));
    s.mul(x, s.min(s.max(phi, s.splat(0.0)), s.splat(1.0)))
}

const PHI: &[f32] = &[
    0.129_729_29,
    -0.064_745_45,
    0.048_116_818,
    -0.039_017_748,
    0.032_131_705,
    -0.025_777_983,
    0.019_772_14,
    -0.014_990_501,
    0.010_839_941,
    -0.005_877_521_4,
    0.002_476_456,
    -0.002_431_467_4,
    0.002_274_414_8,
    -0.000_756_963_45,
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
