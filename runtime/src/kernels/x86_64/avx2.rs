//! AVX2 and FMA, without dot products.
//!
//! | tile (rows x columns) | registers | step of 4 inputs |
//! |---|---|---|
//! | 6x8 | 12 sums, 2 weights, 1 row, 1 product | 2 widening loads, 6 broadcasts, 12 `vpmaddwd` and `vpaddd` |
//!
//! Bytes are widened to 16 bits and multiplied by `vpmaddwd`: exact for any bytes, where
//! `vpmaddubsw` would saturate, at the same number of instructions as its sign trick. Rows are
//! widened before, for up to 128 columns at once; in the loop that costs a fifth of its speed.

use std::arch::x86_64::*;

use super::super::matrix::{PanelMut, PanelsMut, row_tiles};
use super::super::rows::{self, RowOperation};
use super::super::simd::{LANES, Simd};
use super::super::{Kernels, Product};
use super::Prefetch;
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    byte_xor: 0,
    multiply,
    run_rows,
    run_peak,
};

const ROWS: usize = 6;

/// Inputs whose rows are widened at once: those of a tile stay in the first-level cache.
const WIDENED: usize = 1024;

/// The rows of a tile, widened. A cache line apart, lest all begin in the same set of a cache.
type WidenedRows = [[u16; WIDENED + 32]; ROWS];

#[target_feature(enable = "avx2,fma")]
fn multiply(product: Product<'_>, mut out: PanelsMut<'_>) {
    let panels = product.columns.len();
    let mut widened = [[0; WIDENED + 32]; ROWS];
    let mut panel = 0;
    while panel < panels {
        let width = match panels - panel {
            8.. => 8,
            4.. => 4,
            left => left.min(2),
        };
        // SAFETY: `Kernels::multiply` checked the dimensions, the panels lie within them, and
        // this function runs only where AVX2 and FMA do.
        unsafe {
            match width {
                8 => multiply_panels::<8>(&product, panel, &mut widened, &mut out),
                4 => multiply_panels::<4>(&product, panel, &mut widened, &mut out),
                2 => multiply_panels::<2>(&product, panel, &mut widened, &mut out),
                _ => multiply_panels::<1>(&product, panel, &mut widened, &mut out),
            }
        }
        panel += width;
    }
}

/// All rows by `P` panels.
///
/// # Safety
/// The dimensions of the product agree, and panels `panel..panel + P` are in it.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_panels<const P: usize>(
    product: &Product<'_>,
    panel: usize,
    widened: &mut WidenedRows,
    out: &mut PanelsMut<'_>,
) {
    let rows = product.rows.rows();
    let mut out = out.columns_mut::<P>(panel);
    // A step for each half of a panel in each tile.
    let mut prefetch = Prefetch::new(product, panel + P, P, rows.div_ceil(ROWS) * 2 * P);
    for (row, height) in row_tiles(rows, ROWS) {
        let (prefetch, out) = (&mut prefetch, &mut out);
        // SAFETY: by the caller's promise; the rows lie in the product.
        unsafe {
            match height {
                1 => multiply_tile::<1, P>(product, panel, row, widened, prefetch, out),
                2 => multiply_tile::<2, P>(product, panel, row, widened, prefetch, out),
                3 => multiply_tile::<3, P>(product, panel, row, widened, prefetch, out),
                4 => multiply_tile::<4, P>(product, panel, row, widened, prefetch, out),
                5 => multiply_tile::<5, P>(product, panel, row, widened, prefetch, out),
                _ => multiply_tile::<6, P>(product, panel, row, widened, prefetch, out),
            }
        }
    }
}

/// `M` rows by `P` panels, one half of a panel after another.
///
/// # Safety
/// The dimensions of the product agree; rows `row..row + M` and panels `panel..panel + P` are
/// in it.
#[target_feature(enable = "avx2,fma")]
unsafe fn multiply_tile<const M: usize, const P: usize>(
    product: &Product<'_>,
    panel: usize,
    row: usize,
    widened: &mut WidenedRows,
    prefetch: &mut Prefetch,
    out: &mut [PanelMut<'_>; P],
) {
    let panel_bytes = product.blocks * BLOCK * PANEL;
    let weights = product.weights[panel * panel_bytes..][..P * panel_bytes].as_ptr();
    // Each register sums four columns, even and odd pairs of inputs apart.
    let mut sums = [[[[_mm256_setzero_si256(); 2]; M]; 2]; P];
    for first in (0..product.blocks).step_by(WIDENED / BLOCK) {
        let blocks = (product.blocks - first).min(WIDENED / BLOCK);
        for (m, widened) in widened.iter_mut().enumerate().take(M) {
            widen(
                &product.rows.row(row + m)[first * BLOCK..][..blocks * BLOCK],
                widened,
            );
        }
        let rows: [*const u16; M] = std::array::from_fn(|m| widened[m].as_ptr());
        for p in 0..P {
            for half in 0..2 {
                let at = p * panel_bytes + first * BLOCK * PANEL + half * 32;
                prefetch.advance();
                let sums = &mut sums[p][half];
                // SAFETY: `first + blocks` is at most the product's blocks: a panel has 64 bytes,
                // a half 32, and a widened row four inputs for each.
                unsafe { multiply_half(sums, rows, weights.add(at), blocks) };
            }
        }
    }
    for p in 0..P {
        let column_sums = product.columns[panel + p].sum.as_chunks::<8>().0;
        for half in 0..2 {
            // SAFETY: a chunk has eight sums.
            let column_sum = unsafe { _mm256_loadu_si256(column_sums[half].as_ptr().cast()) };
            for m in 0..M {
                let zero_point = _mm256_set1_epi32(product.scales[row + m].zero_point);
                let [low, high] = sums[p][half][m];
                let share = _mm256_mullo_epi32(zero_point, column_sum);
                let sum = _mm256_sub_epi32(add_pairs(low, high), share);
                let to = out[p].row_mut(row + m);
                finish(sum, product, panel + p, half, row + m, to);
            }
        }
    }
}

/// Adds the products of `M` widened rows and half a panel.
///
/// # Safety
/// There are `blocks` blocks: of 4 inputs in each row, and of 32 bytes, 64 apart, at `weights`.
// Not inline, and without prefetches: in a larger function the compiler keeps some sums in memory.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn multiply_half<const M: usize>(
    total: &mut [[__m256i; 2]; M],
    rows: [*const u16; M],
    weights: *const i8,
    blocks: usize,
) {
    let mut sums = *total;
    for block in 0..blocks {
        // SAFETY: by the caller's promise.
        unsafe {
            let from = weights.add(block * BLOCK * PANEL).cast::<__m128i>();
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(from));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(1)));
            for m in 0..M {
                let four = rows[m].add(block * BLOCK).cast::<i64>().read_unaligned();
                let inputs = _mm256_set1_epi64x(four);
                sums[m][0] = _mm256_add_epi32(sums[m][0], _mm256_madd_epi16(inputs, low));
                sums[m][1] = _mm256_add_epi32(sums[m][1], _mm256_madd_epi16(inputs, high));
            }
        }
    }
    *total = sums;
}

/// Bytes as 16-bit words.
#[target_feature(enable = "avx2")]
#[inline]
fn widen(bytes: &[u8], words: &mut [u16]) {
    let (whole, rest) = bytes.as_chunks::<16>();
    let (to, _) = words.as_chunks_mut::<16>();
    for (from, to) in whole.iter().zip(to) {
        // SAFETY: 16 bytes and 16 words.
        unsafe {
            let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.as_ptr().cast()));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), wide);
        }
    }
    for (from, to) in rest.iter().zip(&mut words[whole.len() * 16..]) {
        *to = u16::from(*from);
    }
}

/// Eight columns from two registers of four columns in two parts each.
#[target_feature(enable = "avx2")]
#[inline]
fn add_pairs(a: __m256i, b: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b))
}

/// Sums of one half of a panel, less the zero point's share, to floats: the product's one
/// rounding.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) fn finish(
    sum: __m256i,
    product: &Product<'_>,
    panel: usize,
    half: usize,
    row: usize,
    to: &mut [f32; PANEL],
) {
    let columns = &product.columns[panel];
    let row_scale = _mm256_set1_ps(product.scales[row].scale);
    let eight = |values: &[f32; PANEL]| {
        // SAFETY: a chunk has eight values.
        unsafe { _mm256_loadu_ps(values.as_chunks::<8>().0[half].as_ptr()) }
    };
    let step = _mm256_mul_ps(row_scale, eight(&columns.scale));
    let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), step, eight(&columns.bias));
    // SAFETY: as above.
    unsafe { _mm256_storeu_ps(to.as_chunks_mut::<8>().0[half].as_mut_ptr(), y) };
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
    let inputs = std::hint::black_box(_mm256_set1_epi8(1));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..steps {
        // A product of each sum: one that does not change would be computed once.
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
