//! The one int8 quantization of weights: the `.filbert` file and the int8 ONNX hold the very
//! same values.

/// The largest int8 weight. The range is symmetric: -128 never occurs.
const LARGEST: f32 = 127.0;

/// int8 rows with one scale each: an output channel of a product, or a row of an embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedRows {
    /// Number of rows.
    pub rows: usize,
    /// Values of one row.
    pub columns: usize,
    /// `[rows, columns]`, each in [-127, 127].
    pub values: Vec<i8>,
    /// What one step of a row's values is worth; 0 for a row of zeros.
    pub scales: Vec<f32>,
}

impl QuantizedRows {
    /// What rounding took from the values that these stand for, in 8 bits too.
    ///
    /// # Panics
    /// If `matrix` has another size.
    pub fn quantize_rest(&self, matrix: &[f32]) -> Self {
        assert_eq!(matrix.len(), self.values.len());
        let mut rest = matrix.to_vec();
        let rows = rest
            .chunks_exact_mut(self.columns)
            .zip(self.values.chunks_exact(self.columns));
        for ((rest, values), &scale) in rows.zip(&self.scales) {
            for (x, &q) in rest.iter_mut().zip(values) {
                *x -= f32::from(q) * scale;
            }
        }
        quantize_rows(&rest, self.columns)
    }

    /// The sum of each row's int8 values.
    ///
    /// A row has at most 65,536 columns ([`filbert::format::limits`]), so an `i32` holds it.
    pub fn sums(&self) -> Vec<i32> {
        self.values
            .chunks_exact(self.columns)
            .map(|row| row.iter().map(|&value| i32::from(value)).sum())
            .collect()
    }
}

/// Quantizes each row of `columns` finite values: `s = absmax / 127` and
/// `w = round_ties_even(W / s)`.
///
/// A row so small that its scale rounds to zero becomes zeros with a scale of zero. Where the
/// scale is subnormal and hence coarse, the quotient can pass 127 and is clamped.
///
/// # Panics
///
/// If `columns` is zero or does not divide the number of values.
pub fn quantize_rows(matrix: &[f32], columns: usize) -> QuantizedRows {
    assert!(
        columns > 0 && matrix.len().is_multiple_of(columns),
        "{} values are not rows of {columns}",
        matrix.len()
    );
    let mut values = Vec::with_capacity(matrix.len());
    let mut scales = Vec::with_capacity(matrix.len() / columns);
    for row in matrix.chunks_exact(columns) {
        let absmax = row.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        let scale = absmax / LARGEST;
        scales.push(scale);
        if scale == 0.0 {
            values.resize(values.len() + columns, 0);
        } else {
            values.extend(
                row.iter()
                    .map(|value| (value / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8),
            );
        }
    }
    QuantizedRows {
        rows: scales.len(),
        columns,
        values,
        scales,
    }
}

/// As [`quantize_rows`], in 16 bits: values in [-32767, 32767], and the scales.
pub fn quantize_rows_i16(matrix: &[f32], columns: usize) -> (Vec<i16>, Vec<f32>) {
    const LARGEST: f32 = i16::MAX as f32;
    let mut values = Vec::with_capacity(matrix.len());
    let mut scales = Vec::with_capacity(matrix.len() / columns);
    for row in matrix.chunks_exact(columns) {
        let absmax = row.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        let scale = absmax / LARGEST;
        // A scale of zero makes the quotients infinite or NaN, which become 0 or are clamped:
        // times zero they are zero.
        let steps = row.iter().map(|value| (value / scale).round_ties_even());
        values.extend(steps.map(|step| step.clamp(-LARGEST, LARGEST) as i16));
        scales.push(scale);
    }
    (values, scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step() {
        let matrix: Vec<f32> = (0..7 * 33)
            .map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 10f32.powi(i / 33 - 3))
            .collect();
        let quantized = quantize_rows(&matrix, 33);
        assert_eq!((quantized.rows, quantized.columns), (7, 33));
        for (i, (&value, &original)) in quantized.values.iter().zip(&matrix).enumerate() {
            let scale = f64::from(quantized.scales[i / 33]);
            let error = (f64::from(value) * scale - f64::from(original)).abs();
            assert!(error <= scale * 0.500_01, "value {i}: {error} of {scale}");
        }
    }

    #[test]
    fn largest_magnitude_is_127_of_either_sign() {
        let quantized = quantize_rows(&[-2.0, 1.0, 0.5, 3.0, -0.1, 0.0], 3);
        assert_eq!(quantized.values, [-127, 64, 32, 127, -4, 0]);
        assert_eq!(quantized.scales, [2.0 / 127.0, 3.0 / 127.0]);
        assert_eq!(quantized.sums(), [-31, 123]);
    }

    #[test]
    fn ties_go_to_the_even_value() {
        let quantized = quantize_rows(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5], 6);
        assert_eq!(quantized.values, [127, 0, 2, 2, 0, -2]);
    }

    #[test]
    fn zero_rows_and_extreme_ranges_are_defined() {
        let tiny = f32::from_bits(1);
        let matrix = [
            [0.0, -0.0],
            [tiny, -tiny],
            [f32::from_bits(190), f32::from_bits(95)],
            [f32::MIN_POSITIVE, -f32::MIN_POSITIVE],
            [f32::MAX, f32::MIN],
        ];
        let quantized = quantize_rows(matrix.as_flattened(), 2);
        assert_eq!(quantized.values[..4], [0; 4]);
        assert_eq!(quantized.scales[..2], [0.0; 2]);
        // 190 steps of the smallest float, in units of one such step.
        assert_eq!(quantized.scales[2], tiny);
        assert_eq!(quantized.values[4..6], [127, 95]);
        assert_eq!(quantized.values[6..], [127, -127, 127, -127]);
        assert!(quantized.scales.iter().all(|scale| scale.is_finite()));
    }
}
