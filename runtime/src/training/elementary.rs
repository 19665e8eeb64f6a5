//! `exp` and `ln` in `f64` from basic operations, so that training has the same bits on every
//! CPU and under every C library.

/// `ln 2`, of which the first part has few enough bits for its products with small integers to
/// be exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Bits of an `f64` below its exponent, and the exponent's bias.
const MANTISSA_BITS: u32 = 52;
const BIAS: i64 = 1023;

/// `e^x` for `x <= 0`, within 1.5 ulp of the exact value; 0 below -708.
///
/// `x = k ln 2 + r` with `|r| <= ln 2 / 2`, and the Taylor series of `e^r` to the 13th power.
pub(super) fn exp(x: f64) -> f64 {
    debug_assert!(x <= 0.0 || x.is_nan());
    if x < -708.0 {
        return 0.0;
    }
    // Rounds half away from zero, as `x <= 0`.
    let k = (x * std::f64::consts::LOG2_E - 0.5) as i64;
    let r = (x - k as f64 * LN_2_HIGH) - k as f64 * LN_2_LOW;
    let mut tail = 1.0 / 6_227_020_800.0;
    for reciprocal in [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
    ] {
        tail = tail * r + reciprocal;
    }
    let value = 1.0 + (r + r * r * tail);
    let power = f64::from_bits(((BIAS + k) as u64) << MANTISSA_BITS);
    value * power
}

/// `ln x` for `x >= 1`, within 1.5 ulp of the exact value.
///
/// `x = 2^k m` with `m` from `sqrt(1/2)` to `sqrt 2`, and the series of
/// `ln m = 2 artanh((m - 1) / (m + 1))` to the 21st power.
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!(x >= 1.0 || x.is_nan());
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    let mut k = (bits >> MANTISSA_BITS) as i64 - BIAS;
    let mut m = f64::from_bits(bits - ((k as u64) << MANTISSA_BITS));
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        k += 1;
    }
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let square = s * s;
    let mut series = 2.0 / 21.0;
    for coefficient in [
        2.0 / 19.0,
        2.0 / 17.0,
        2.0 / 15.0,
        2.0 / 13.0,
        2.0 / 11.0,
        2.0 / 9.0,
        2.0 / 7.0,
        2.0 / 5.0,
        2.0 / 3.0,
    ] {
        series = series * square + coefficient;
    }
    // `2 s = f - s f`: what `s` rounds away does not count where `f` is small.
    let ln_m = f - s * (f - square * series);
    k as f64 * LN_2_HIGH + (ln_m + k as f64 * LN_2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance in units of the last place of `expected`.
    fn ulps(value: f64, expected: f64) -> f64 {
        let ulp = f64::from_bits(expected.abs().to_bits() + 1) - expected.abs();
        ((value - expected) / ulp).abs()
    }

    #[test]
    fn exp_is_within_its_bound() {
        let mut worst: f64 = 0.0;
        for step in 0..2_000_000 {
            let x = -f64::from(step) * (708.0 / 2_000_000.0);
            worst = worst.max(ulps(exp(x), x.exp()));
            let near = x / 708.0;
            worst = worst.max(ulps(exp(near), near.exp()));
        }
        println!("exp: {worst} ulp");
        assert!(worst <= 1.5, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-708.1), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert!(exp(f64::NAN).is_nan());
    }

    #[test]
    fn ln_is_within_its_bound() {
        let mut worst: f64 = 0.0;
        for step in 0..2_000_000 {
            let x = 1.0 + f64::from(step) * (3.0 / 2_000_000.0);
            worst = worst.max(ulps(ln(x), x.ln()));
            let far = x.powi(40);
            worst = worst.max(ulps(ln(far), far.ln()));
            let near = 1.0 + (x - 1.0) * 1e-9;
            worst = worst.max(ulps(ln(near), near.ln()));
        }
        println!("ln: {worst} ulp");
        assert!(worst <= 1.5, "{worst}");
        assert_eq!(ln(1.0), 0.0);
        assert!(ln(f64::NAN).is_nan());
    }
}
