//! AVX2 and FMA, without dot products.
//!
//! | tile (rows x columns) | registers | step of 4 inputs |
//! |---|---|---|
//! | 3x16 | 12 sums, 1 weights, 1 row | 4 widening loads, 3 broadcasts, 12 `vpmaddwd` + `vpaddd` |
//!
//! Bytes are widened to 16 bits and multiplied by `vpmaddwd`: exact for any bytes, where
//! `vpmaddubsw` would saturate, at the same number of instructions as its sign trick.

use std::arch::x86_64::*;

use super::super::matrix::MatrixMut;
use super::super::rows::{self, RowOperation};
use super::super::simd::{LANES, Simd};
use super::super::{Features, Kernels, Product};
use super::row_tiles;
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
fn multiply(product: Product<'_>, mut out: MatrixMut<'_, f32>) {
    for panel in 0..product.columns.len() {
        for (row, height) in row_tiles(product.rows.rows(), ROWS) {
            match height {
                // SAFETY: `Kernels::multiply` checked the dimensions, the tile lies within them, and
                // this function runs only where AVX2 and FMA do.
                1 => unsafe { multiply_tile::<1>(&product, panel, row, &mut out) },
                // SAFETY: as above.
                2 => unsafe { multiply_tile::<2>(&product, panel, row, &mut out) },
                // SAFETY: as above.
                _ => unsafe { multiply_tile::<3>(&product, panel, row, &mut out) },
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
    out: &mut MatrixMut<'_, f32>,
) {
    const QUARTERS: usize = 4;
    let panel_bytes = product.blocks * BLOCK * PANEL;
    let weights = product.weights[panel * panel_bytes..][..panel_bytes].as_ptr();
    let rows: [*const u8; M] = std::array::from_fn(|m| product.rows.row(row + m).as_ptr());
    // Each register sums four columns, even and odd pairs of inputs apart.
    let mut sums = [[_mm256_setzero_si256(); QUARTERS]; M];
    for block in 0..product.blocks {
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
        let to = &mut out.row_mut(row + m)[panel * PANEL..][..PANEL];
        // SAFETY: `to` and the columns' arrays have 16 elements, two registers each.
        unsafe { finish(halves, product, panel, row + m, to.as_mut_ptr()) };
    }
}

/// Eight columns from two registers of four columns in two parts each.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs(a: __m256i, b: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b))
}

/// Sums of 16 columns to floats: the product's one rounding.
///
/// # Safety
/// `to` has room for 16 values; the row and the panel are in the product.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) unsafe fn finish(
    sums: [__m256i; 2],
    product: &Product<'_>,
    panel: usize,
    row: usize,
    to: *mut f32,
) {
    let columns = &product.columns[panel];
    let scale = &product.scales[row];
    let zero_point = _mm256_set1_epi32(scale.zero_point);
    let row_scale = _mm256_set1_ps(scale.scale);
    for (half, sum) in sums.into_iter().enumerate() {
        let at = half * 8;
        // SAFETY: eight values at 0 or 8 of arrays of 16.
        unsafe {
            let column_sum = _mm256_loadu_si256(columns.sum.as_ptr().add(at).cast());
            let centered = _mm256_sub_epi32(sum, _mm256_mullo_epi32(zero_point, column_sum));
            let step = _mm256_mul_ps(row_scale, _mm256_loadu_ps(columns.scale.as_ptr().add(at)));
            let bias = _mm256_loadu_ps(columns.bias.as_ptr().add(at));
            let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(centered), step, bias);
            _mm256_storeu_ps(to.add(at), y);
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

impl Simd for Avx2 {
    type F32 = [__m256; 2];

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
    fn store_u8(self, v: Self::F32, to: &mut [u8; LANES]) {
        avx2!({
            let words = narrow(v);
            let bytes = _mm_packus_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        })
    }

    #[inline(always)]
    fn store_i8(self, v: Self::F32, to: &mut [i8; LANES]) {
        avx2!({
            let words = narrow(v);
            let bytes = _mm_packs_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
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
    fn power_of_two(self, n: Self::F32) -> Self::F32 {
        avx2!({
            n.map(|n| {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            })
        })
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
        avx2!(fold_eight(_mm256_add_ps(v[0], v[1]), |a, b| _mm_add_ps(
            a, b
        )))
    }

    #[inline(always)]
    fn reduce_min(self, v: Self::F32) -> f32 {
        avx2!(fold_eight(_mm256_min_ps(v[0], v[1]), |a, b| _mm_min_ps(
            a, b
        )))
    }

    #[inline(always)]
    fn reduce_max(self, v: Self::F32) -> f32 {
        avx2!(fold_eight(_mm256_max_ps(v[0], v[1]), |a, b| _mm_max_ps(
            a, b
        )))
    }
}

/// Integers as floats to 16 words; values within `i16`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn narrow(v: [__m256; 2]) -> __m256i {
    // SAFETY: by the caller's promise.
    unsafe {
        let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
        _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
    }
}

/// The lower half of the tree of `fold_halves`.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
pub(super) unsafe fn fold_eight(v: __m256, combine: impl Fn(__m128, __m128) -> __m128) -> f32 {
    // SAFETY: by the caller's promise.
    unsafe {
        let four = combine(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = combine(four, _mm_movehl_ps(four, four));
        let one = combine(two, _mm_movehdup_ps(two));
        _mm_cvtss_f32(one)
    }
}
