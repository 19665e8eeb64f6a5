//! AVX-512 VNNI: dot products of bytes in 512-bit registers (Ice Lake server and later, Zen 4).
//!
//! | tile (rows x columns) | registers | step of 4 inputs |
//! |---|---|---|
//! | 6x64 | 24 sums, 4 weights, 1 row | 4 loads, 6 broadcasts, 24 `vpdpbusd` |
//! | 2x128, 1x128 | 16 or 8 sums, 8 weights, 1 row | enough sums to hide the latency |
//!
//! 24 sums keep two units of latency 5 busy, and 10 loads feed 24 products.
//! Rows are divided evenly, so a tile of one row is met only where there is one row.

use std::arch::x86_64::*;

use super::super::matrix::{PanelMut, PanelsMut, row_tiles};
use super::super::rows::{self, RowOperation};
use super::super::simd::{LANES, Simd};
use super::super::{Kernels, Product};
use super::Prefetch;
use super::avx2::fold_eight;
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "avx512vnni",
    byte_xor: 0,
    multiply,
    run_rows,
    run_peak,
};

const ROWS: usize = 6;

/// Blocks of inputs between two fetches of weights ahead.
const BLOCKS_PER_FETCH: usize = 4;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn multiply(product: Product<'_>, mut out: PanelsMut<'_>) {
    let panels = product.columns.len();
    let widest = if product.rows.rows() <= 2 { 8 } else { 4 };
    let mut panel = 0;
    while panel < panels {
        let width = match panels - panel {
            left if left >= widest => widest,
            left => left.min(4),
        };
        // SAFETY: `Kernels::multiply` checked the dimensions, the panels are in them, and this
        // function runs only where AVX-512 VNNI does.
        unsafe {
            match width {
                8 => multiply_panels::<8>(&product, panel, &mut out),
                4 => multiply_panels::<4>(&product, panel, &mut out),
                3 => multiply_panels::<3>(&product, panel, &mut out),
                2 => multiply_panels::<2>(&product, panel, &mut out),
                _ => multiply_panels::<1>(&product, panel, &mut out),
            }
        }
        panel += width;
    }
}

/// All rows by `P` panels.
///
/// # Safety
/// The dimensions of the product agree, and panels `panel..panel + P` are in it.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn multiply_panels<const P: usize>(
    product: &Product<'_>,
    panel: usize,
    out: &mut PanelsMut<'_>,
) {
    let rows = product.rows.rows();
    let mut out = out.columns_mut::<P>(panel);
    let steps = rows.div_ceil(ROWS) * (product.blocks / BLOCKS_PER_FETCH);
    let mut prefetch = Prefetch::new(product, panel + P, P, steps);
    for (row, height) in row_tiles(rows, ROWS) {
        let (prefetch, out) = (&mut prefetch, &mut out);
        // SAFETY: by the caller's promise; the rows lie in the product.
        unsafe {
            match height {
                1 => multiply_tile::<1, P>(product, panel, row, prefetch, out),
                2 => multiply_tile::<2, P>(product, panel, row, prefetch, out),
                3 => multiply_tile::<3, P>(product, panel, row, prefetch, out),
                4 => multiply_tile::<4, P>(product, panel, row, prefetch, out),
                5 => multiply_tile::<5, P>(product, panel, row, prefetch, out),
                _ => multiply_tile::<6, P>(product, panel, row, prefetch, out),
            }
        }
    }
}

/// `M` rows by `P` panels.
///
/// # Safety
/// The dimensions of the product agree; rows `row..row + M` and panels `panel..panel + P` are
/// in it.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn multiply_tile<const M: usize, const P: usize>(
    product: &Product<'_>,
    panel: usize,
    row: usize,
    prefetch: &mut Prefetch,
    out: &mut [PanelMut<'_>; P],
) {
    let panel_bytes = product.blocks * BLOCK * PANEL;
    let weights = product.weights[panel * panel_bytes..][..P * panel_bytes].as_ptr();
    let rows: [*const u8; M] = std::array::from_fn(|m| product.rows.row(row + m).as_ptr());
    // The zero point's share first, instead of zeros: sums of integers have no order.
    let mut sums = [[_mm512_setzero_si512(); P]; M];
    for p in 0..P {
        // SAFETY: a panel has 16 column sums.
        let column_sum =
            unsafe { _mm512_loadu_si512(product.columns[panel + p].sum.as_ptr().cast()) };
        for m in 0..M {
            let zero_point = _mm512_set1_epi32(-product.scales[row + m].zero_point);
            sums[m][p] = _mm512_mullo_epi32(zero_point, column_sum);
        }
    }
    let mut block = 0;
    while block + BLOCKS_PER_FETCH <= product.blocks {
        prefetch.advance();
        for step in block..block + BLOCKS_PER_FETCH {
            // SAFETY: `step` is below `blocks`.
            unsafe { multiply_block(&mut sums, rows, weights, panel_bytes, step) };
        }
        block += BLOCKS_PER_FETCH;
    }
    for step in block..product.blocks {
        // SAFETY: as above.
        unsafe { multiply_block(&mut sums, rows, weights, panel_bytes, step) };
    }
    for m in 0..M {
        let row_scale = _mm512_set1_ps(product.scales[row + m].scale);
        for p in 0..P {
            let columns = &product.columns[panel + p];
            // SAFETY: a panel's columns have 16 of each.
            unsafe {
                let step = _mm512_mul_ps(row_scale, _mm512_loadu_ps(columns.scale.as_ptr()));
                let bias = _mm512_loadu_ps(columns.bias.as_ptr());
                let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[m][p]), step, bias);
                _mm512_storeu_ps(out[p].row_mut(row + m).as_mut_ptr(), y);
            }
        }
    }
}

/// One block of every row and panel of a tile.
///
/// # Safety
/// Each row has `block * 4 + 4` bytes, each of the panels, `panel_bytes` apart, as many blocks.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn multiply_block<const M: usize, const P: usize>(
    sums: &mut [[__m512i; P]; M],
    rows: [*const u8; M],
    weights: *const i8,
    panel_bytes: usize,
    block: usize,
) {
    // SAFETY: by the caller's promise: a panel has 64 bytes and a row 4 for each block.
    unsafe {
        let from = weights.add(block * BLOCK * PANEL);
        let mut weights = [_mm512_setzero_si512(); P];
        for p in 0..P {
            weights[p] = _mm512_loadu_si512(from.add(p * panel_bytes).cast());
        }
        for m in 0..M {
            let four = rows[m].add(block * BLOCK).cast::<i32>().read_unaligned();
            let inputs = _mm512_set1_epi32(four);
            for p in 0..P {
                sums[m][p] = _mm512_dpbusd_epi32(sums[m][p], inputs, weights[p]);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_rows(operation: RowOperation<'_>) {
    // SAFETY: this function runs only where AVX-512 does.
    let token = unsafe { Avx512::new() };
    rows::run(token, operation);
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_peak(steps: u64) -> u64 {
    const SUMS: usize = 24;
    let inputs = std::hint::black_box(_mm512_set1_epi8(1));
    let weights = std::hint::black_box(_mm512_set1_epi8(2));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, inputs, weights);
        }
    }
    std::hint::black_box(sums);
    steps * (SUMS * PANEL * BLOCK) as u64
}

/// Exists only where the CPU has AVX2 and AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU has AVX2 and AVX-512 F, BW, DQ and VL.
    #[inline(always)]
    unsafe fn new() -> Self {
        Self(())
    }
}

macro_rules! avx512 {
    ($($body:tt)*) => {
        // SAFETY: an `Avx512` exists only where the CPU has these instructions, and memory is
        // reached only through references to arrays of 16.
        unsafe { $($body)* }
    };
}

impl Simd for Avx512 {
    type F32 = __m512;
    type I32 = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        avx512!(_mm512_set1_ps(x))
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        avx512!(_mm512_loadu_ps(from.as_ptr()))
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> __m512 {
        avx512!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(
            from.as_ptr().cast()
        ))))
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16; LANES]) -> __m512 {
        avx512!({
            let words = _mm256_loadu_si256(from.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(words))
        })
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut [f32; LANES]) {
        avx512!(_mm512_storeu_ps(to.as_mut_ptr(), v))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        avx512!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        avx512!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        avx512!(_mm512_abs_ps(a))
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        const NEAREST_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        avx512!(_mm512_roundscale_ps::<NEAREST_EVEN>(a))
    }

    #[inline(always)]
    fn scale_by_power_of_two(self, p: __m512, n: __m512) -> __m512 {
        avx512!(_mm512_scalef_ps(p, n))
    }

    #[inline(always)]
    fn keep_first(self, v: __m512, count: usize, fill: __m512) -> __m512 {
        let mask = ((1u32 << count) - 1) as __mmask16;
        avx512!(_mm512_mask_blend_ps(mask, fill, v))
    }

    #[inline(always)]
    fn reduce_add(self, v: __m512) -> f32 {
        avx512!({
            let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            fold_eight!(_mm_add_ps, eight)
        })
    }

    #[inline(always)]
    fn reduce_min(self, v: __m512) -> f32 {
        avx512!({
            let eight = _mm256_min_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            fold_eight!(_mm_min_ps, eight)
        })
    }

    #[inline(always)]
    fn reduce_max(self, v: __m512) -> f32 {
        avx512!({
            let eight = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            fold_eight!(_mm_max_ps, eight)
        })
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        avx512!(_mm512_set1_epi32(x))
    }

    #[inline(always)]
    fn round_i32(self, a: __m512) -> __m512i {
        avx512!(_mm512_cvtps_epi32(a))
    }

    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        avx512!(_mm512_add_epi32(a, b))
    }

    #[inline(always)]
    fn reduce_add_i32(self, v: __m512i) -> i32 {
        avx512!(_mm512_reduce_add_epi32(v))
    }

    #[inline(always)]
    fn store_i32(self, v: __m512i, to: &mut [i32; LANES]) {
        avx512!(_mm512_storeu_si512(to.as_mut_ptr().cast(), v))
    }

    #[inline(always)]
    fn store_u8(self, v: __m512i, to: &mut [u8; LANES]) {
        avx512!({
            let positive = _mm512_max_epi32(v, _mm512_setzero_si512());
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtusepi32_epi8(positive))
        })
    }

    #[inline(always)]
    fn store_i8(self, v: __m512i, to: &mut [i8; LANES]) {
        avx512!(_mm_storeu_si128(
            to.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(v)
        ))
    }

    #[inline(always)]
    fn store_fours(self, v: [__m512i; 4], to: &mut [i8; 4 * LANES]) {
        avx512!({
            let byte = _mm512_set1_epi32(0xff);
            let low = _mm512_or_si512(
                _mm512_and_si512(v[0], byte),
                _mm512_slli_epi32::<8>(_mm512_and_si512(v[1], byte)),
            );
            let high = _mm512_or_si512(
                _mm512_and_si512(v[2], byte),
                _mm512_slli_epi32::<8>(_mm512_and_si512(v[3], byte)),
            );
            let words = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), words)
        })
    }
}
