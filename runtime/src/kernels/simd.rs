//! The small vector vocabulary behind the row kernels.
//!
//! A [`Simd`] value is a token: it exists only where its instructions may run. Its vectors have
//! 16 lanes on every CPU, whatever the registers' width, so an algorithm written once over the
//! trait reduces in the same order everywhere. Every operation is exact or correctly rounded
//! (IEEE 754), hence the same bits on every CPU. The operands are never NaN, and no result
//! depends on the sign of a zero.

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Vectors of 16 `f32` or `i32`.
pub(crate) trait Simd: Copy {
    /// 16 `f32`.
    type F32: Copy;
    /// 16 `i32`.
    type I32: Copy;

    /// What `store_u8` xors its bytes with; see `Kernels::byte_xor`.
    const BYTE_XOR: u8 = 0;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// The 16 values of `from`.
    fn load(self, from: &[f32; LANES]) -> Self::F32;
    /// The 16 values of `from` as floats.
    fn load_i8(self, from: &[i8; LANES]) -> Self::F32;
    /// The 16 values of `from` as floats.
    fn load_i16(self, from: &[i16; LANES]) -> Self::F32;
    /// Writes the 16 lanes.
    fn store(self, v: Self::F32, to: &mut [f32; LANES]);
    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The smaller of `a` and `b`.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The larger of `a` and `b`.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `|a|`.
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;
    /// `p * 2^n` of an integer `n`, where both `p` and the result are positive and normal.
    fn scale_by_power_of_two(self, p: Self::F32, n: Self::F32) -> Self::F32;
    /// The first `count` lanes of `v`, then `fill`.
    fn keep_first(self, v: Self::F32, count: usize, fill: Self::F32) -> Self::F32;
    /// The sum of the lanes by halves: `i + (i+8)`, then `+4`, `+2`, `+1`.
    fn reduce_add(self, v: Self::F32) -> f32;
    /// The smallest lane.
    fn reduce_min(self, v: Self::F32) -> f32;
    /// The largest lane.
    fn reduce_max(self, v: Self::F32) -> f32;

    /// All lanes `x`.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// The nearest integers, ties to even, of magnitudes below 2^31.
    fn round_i32(self, a: Self::F32) -> Self::I32;
    /// `a + b`, which do not overflow.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The sum of the lanes, which does not overflow.
    fn reduce_add_i32(self, v: Self::I32) -> i32;
    /// Writes the 16 lanes.
    fn store_i32(self, v: Self::I32, to: &mut [i32; LANES]);
    /// Writes the lanes, within -2^15..2^15, clamped to 0..=255 and xor'ed with `BYTE_XOR`.
    fn store_u8(self, v: Self::I32, to: &mut [u8; LANES]);
    /// Writes lanes in -128..=127.
    fn store_i8(self, v: Self::I32, to: &mut [i8; LANES]);
    /// Writes lanes in -128..=127 of four vectors side by side: lane 0 of each, lane 1 of each.
    fn store_fours(self, v: [Self::I32; 4], to: &mut [i8; 4 * LANES]);
}

/// `a`, `b` folded lane by lane, halves upon halves: the one order of every reduction.
#[inline(always)]
pub(crate) fn fold_halves(mut lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = combine(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}
