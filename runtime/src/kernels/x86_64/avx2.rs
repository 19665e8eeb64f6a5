//! AVX2 and FMA, without dot products.
//!
//! | tile (rows x columns) | registers | step of 4 inputs |
//! |---|---|---|
//! | 3x16 | 12 sums, 1 weights, 1 row | 4 widening loads, 3 broadcasts, 12 `vpmaddwd` + `vpaddd` |
//!
//! Bytes are widened to 16 bits and multiplied by `vpmaddwd`: exact for any bytes, where
//! `vpmaddubsw` would saturate, at the same number of instructions as its sign trick.

use std::arch::x86_64::*;

use super::super::matrix::{PanelMut, PanelsMut};
use super::super::rows::{self, RowOperation};
use super::super::simd::{LANES, Simd};
use super::super::{Features, Kernels, Product};
use super::{Prefetch, row_tiles};
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    requires: Features::AVX2,
    multiply,
    run_rows,
    run_peak,
};

const ROWS: usize = 3;

#[target_feature(enable = "avx2,fma")]
fn multiply(product: Product<'_>, mut out: PanelsMut<'_>) {
    let rows = product.rows.rows();
    for panel in 0..product.columns.len() {
        let [mut out] = out.columns_mut(panel);
        let mut prefetch = Prefetch::new(&product, panel + 1, 1, rows.div_ceil(ROWS));
        for (row, height) in row_tiles(rows, ROWS) {
            let (product, prefetch, out) = (&product, &mut prefetch, &mut out);
            // SAFETY: `Kernels::multiply` checked the dimensions, the tile lies within them, and
            // this function runs only where AVX2 and FMA do.
            unsafe {
                match height {
                    1 => multiply_tile::<1>(product, panel, row, prefetch, out),
                    2 => multiply_tile::<2>(product, panel, row, prefetch, out),
                    _ => multiply_tile::<3>(product, panel, row, prefetch, out),
                }
            }
        }
    }
}

/// `M` rows by one panel.
///
/// # Safety
/// The dimensions of the product agree, and rows `row..row + M` and the panel are in it.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_tile<const M: usize>(
    product: &Product<'_>,
    panel: usize,
    row: usize,
    prefetch: &mut Prefetch,
    out: &mut PanelMut<'_>,
) {
    const QUARTERS: usize = 4;
    let panel_bytes = product.blocks * BLOCK * PANEL;
    let weights = product.weights[panel * panel_bytes..][..panel_bytes].as_ptr();
    let rows: [*const u8; M] = std::array::from_fn(|m| product.rows.row(row + m).as_ptr());
    // Each register sums four columns, even and odd pairs of inputs apart.
    let mut sums = [[_mm256_setzero_si256(); QUARTERS]; M];
    for block in 0..product.blocks {
        if block.is_multiple_of(Prefetch::STEPS) {
            prefetch.advance();
        }
        // SAFETY: `block` is below `blocks`: a panel has 64 bytes and a row 4 for each.
        unsafe {
            let mut inputs = [_mm256_setzero_si256(); M];
            for m in 0..M {
                let four = rows[m].add(block * BLOCK).cast::<i32>().read_unaligned();
                inputs[m] = _mm256_cvtepu8_epi16(_mm_set1_epi32(four));
            }
            let weights = weights.add(block * BLOCK * PANEL).cast::<__m128i>();
            for i in 0..QUARTERS {
                let weights = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(i)));
                for m in 0..M {
                    let products = _mm256_madd_epi16(inputs[m], weights);
                    sums[m][i] = _mm256_add_epi32(sums[m][i], products);
                }
            }
        }
    }
    for m in 0..M {
        let halves = [
            add_pairs(sums[m][0], sums[m][1]),
            add_pairs(sums[m][2], sums[m][3]),
        ];
        let zero_point = _mm256_set1_epi32(product.scales[row + m].zero_point);
        let column_sums = product.columns[panel].sum.as_chunks::<8>().0;
        let halves = std::array::from_fn(|half| {
            // SAFETY: a chunk has eight sums.
            let column_sum = unsafe { _mm256_loadu_si256(column_sums[half].as_ptr().cast()) };
            _mm256_sub_epi32(halves[half], _mm256_mullo_epi32(zero_point, column_sum))
        });
        finish(halves, product, panel, row + m, out.row_mut(row + m));
    }
}

/// Eight columns from two registers of four columns in two parts each.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs(a: __m256i, b: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b))
}

/// Sums of 16 columns, less the zero point's share, to floats: the product's one rounding.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn finish(
    sums: [__m256i; 2],
    product: &Product<'_>,
    panel: usize,
    row: usize,
    to: &mut [f32; PANEL],
) {
    let columns = &product.columns[panel];
    let row_scale = _mm256_set1_ps(product.scales[row].scale);
    for half in 0..2 {
        let at = half * 8;
        // SAFETY: eight values at 0 or 8 of arrays of 16.
        unsafe {
            let step = _mm256_mul_ps(row_scale, _mm256_loadu_ps(columns.scale.as_ptr().add(at)));
            let bias = _mm256_loadu_ps(columns.bias.as_ptr().add(at));
            let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[half]), step, bias);
            _mm256_storeu_ps(to.as_mut_ptr().add(at), y);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn run_rows(operation: RowOperation<'_>) {
    // SAFETY: this function runs only where AVX2 and FMA do.
    let token = unsafe { Avx2::new() };
    rows::run(token, operation);
}

#[target_feature(enable = "avx2,fma")]
fn run_peak(steps: u64) -> u64 {
    const SUMS: usize = 12;
    let mut inputs = _mm256_setzero_si256();
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..steps {
        // The products are computed again in every step.
        inputs = std::hint::black_box(inputs);
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(inputs, *sum));
        }
    }
    std::hint::black_box(sums);
    steps * (SUMS * 16) as u64
}

/// Exists only where the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has AVX2 and FMA.
    #[inline(always)]
    unsafe fn new() -> Self {
        Self(())
    }
}

macro_rules! avx2 {
    ($($body:tt)*) => {
        // SAFETY: an `Avx2` exists only where the CPU has these instructions, and memory is
        // reached only through references to arrays of 16.
        unsafe { $($body)* }
    };
}

/// Lane by lane, on both halves.
macro_rules! both {
    ($operation:ident, $($operand:expr),+) => {
        avx2!([$operation($($operand[0]),+), $operation($($operand[1]),+)])
    };
}

/// The lower half of the tree of `fold_halves`, by the operation named. A macro, since a closure
/// does not inherit the instructions of the function that it is written in.
macro_rules! fold_eight {
    ($combine:ident, $eight:expr) => {{
        let eight = $eight;
        let four = $combine(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = $combine(four, _mm_movehl_ps(four, four));
        let one = $combine(two, _mm_movehdup_ps(two));
        _mm_cvtss_f32(one)
    }};
}
pub(super) use fold_eight;

impl Simd for Avx2 {
    type F32 = [__m256; 2];
    type I32 = [__m256i; 2];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        avx2!([_mm256_set1_ps(x); 2])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        avx2!([
            _mm256_loadu_ps(from.as_ptr()),
            _mm256_loadu_ps(from.as_ptr().add(8))
        ])
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Self::F32 {
        avx2!({
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes))),
            ]
        })
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16; LANES]) -> Self::F32 {
        avx2!({
            let low = _mm_loadu_si128(from.as_ptr().cast());
            let high = _mm_loadu_si128(from.as_ptr().add(8).cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(low)),
                _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(high)),
            ]
        })
    }

    #[inline(always)]
    fn store(self, v: Self::F32, to: &mut [f32; LANES]) {
        avx2!({
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        })
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(_mm256_add_ps, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(_mm256_sub_ps, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(_mm256_mul_ps, a, b)
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(_mm256_div_ps, a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        both!(_mm256_fmadd_ps, a, b, c)
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(_mm256_min_ps, a, b)
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        both!(_mm256_max_ps, a, b)
    }

    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps, sign, a)
    }

    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        const NEAREST_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        avx2!([
            _mm256_round_ps::<NEAREST_EVEN>(a[0]),
            _mm256_round_ps::<NEAREST_EVEN>(a[1])
        ])
    }

    #[inline(always)]
    fn scale_by_power_of_two(self, p: Self::F32, n: Self::F32) -> Self::F32 {
        avx2!([add_exponent(p[0], n[0]), add_exponent(p[1], n[1])])
    }

    #[inline(always)]
    fn keep_first(self, v: Self::F32, count: usize, fill: Self::F32) -> Self::F32 {
        avx2!({
            let count = _mm256_set1_epi32(count as i32);
            let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
            [
                _mm256_blendv_ps(
                    fill[0],
                    v[0],
                    _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, low)),
                ),
                _mm256_blendv_ps(
                    fill[1],
                    v[1],
                    _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, high)),
                ),
            ]
        })
    }

    #[inline(always)]
    fn reduce_add(self, v: Self::F32) -> f32 {
        avx2!(fold_eight!(_mm_add_ps, _mm256_add_ps(v[0], v[1])))
    }

    #[inline(always)]
    fn reduce_min(self, v: Self::F32) -> f32 {
        avx2!(fold_eight!(_mm_min_ps, _mm256_min_ps(v[0], v[1])))
    }

    #[inline(always)]
    fn reduce_max(self, v: Self::F32) -> f32 {
        avx2!(fold_eight!(_mm_max_ps, _mm256_max_ps(v[0], v[1])))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        avx2!([_mm256_set1_epi32(x); 2])
    }

    #[inline(always)]
    fn round_i32(self, a: Self::F32) -> Self::I32 {
        both!(_mm256_cvtps_epi32, a)
    }

    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        both!(_mm256_add_epi32, a, b)
    }

    #[inline(always)]
    fn reduce_add_i32(self, v: Self::I32) -> i32 {
        avx2!({
            let eight = _mm256_add_epi32(v[0], v[1]);
            let four = _mm_add_epi32(
                _mm256_castsi256_si128(eight),
                _mm256_extracti128_si256::<1>(eight),
            );
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b11_10_11_10>(four));
            let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b01_01_01_01>(two));
            _mm_cvtsi128_si32(one)
        })
    }

    #[inline(always)]
    fn store_i32(self, v: Self::I32, to: &mut [i32; LANES]) {
        avx2!({
            _mm256_storeu_si256(to.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), v[1]);
        })
    }

    #[inline(always)]
    fn store_u8(self, v: Self::I32, to: &mut [u8; LANES]) {
        avx2!({
            let [low, high] = narrow(v);
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
        })
    }

    #[inline(always)]
    fn store_i8(self, v: Self::I32, to: &mut [i8; LANES]) {
        avx2!({
            let [low, high] = narrow(v);
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_packs_epi16(low, high));
        })
    }

    #[inline(always)]
    fn store_fours(self, v: [Self::I32; 4], to: &mut [i8; 4 * LANES]) {
        avx2!({
            let to = to.as_mut_ptr().cast::<__m256i>();
            let [a, b, c, d] = v;
            _mm256_storeu_si256(to, interleave(a[0], b[0], c[0], d[0]));
            _mm256_storeu_si256(to.add(1), interleave(a[1], b[1], c[1], d[1]));
        })
    }
}

/// `p * 2^n`, positive and normal.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn add_exponent(p: __m256, n: __m256) -> __m256 {
    // SAFETY: by the caller's promise.
    unsafe {
        let shifted = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shifted))
    }
}

/// To 16 words, saturated.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn narrow(v: [__m256i; 2]) -> [__m128i; 2] {
    // SAFETY: by the caller's promise.
    unsafe {
        let packed = _mm256_packs_epi32(v[0], v[1]);
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
        [
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words),
        ]
    }
}

/// The low bytes of four vectors side by side.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn interleave(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe {
        let byte = _mm256_set1_epi32(0xff);
        let low = _mm256_or_si256(
            _mm256_and_si256(a, byte),
            _mm256_slli_epi32::<8>(_mm256_and_si256(b, byte)),
        );
        let high = _mm256_or_si256(
            _mm256_and_si256(c, byte),
            _mm256_slli_epi32::<8>(_mm256_and_si256(d, byte)),
        );
        _mm256_or_si256(low, _mm256_slli_epi32::<16>(high))
    }
}
