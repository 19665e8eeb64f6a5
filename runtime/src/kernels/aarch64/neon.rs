//! What every 64-bit Arm CPU has (Cortex-A53, A72), without dot products.
//!
//! | tile (rows x columns) | registers | step of 8 inputs |
//! |---|---|---|
//! | 4x8 | 16 sums, 8 rows, 2 weights, 1 product | 4 + 8 loads, 16 `smull`, 16 `smlal`, 16 `sadalp` |
//!
//! Two products of bytes are added in 16 bits before they are added to the sums: at most
//! 2 · 128 · 127 = 32,512, so that nothing saturates or wraps, if no weight is -128. As in
//! `dotprod.rs` the row kernels store bytes less 128, and a panel for which either does not hold
//! goes through the reference.

use std::arch::aarch64::*;

use super::super::matrix::{PanelMut, PanelsMut, row_tiles};
use super::super::rows::{self, RowOperation};
use super::super::simd::{LANES, Simd};
use super::super::{Kernels, Product, scalar};
use super::{begin_sums, check_panel, finish, load_quarter_i32};
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "neon",
    byte_xor: BYTE_XOR,
    multiply,
    run_rows,
    run_peak,
};

/// Bytes of activations less 128, as signed ones.
pub(super) const BYTE_XOR: u8 = 0x80;

const ROWS: usize = 4;

/// The sums of one row and a quarter of a panel, in two parts for each column: of the first two
/// columns, and of the others.
type Sums = [int32x4_t; 2];

#[target_feature(enable = "neon")]
fn multiply(product: Product<'_>, mut out: PanelsMut<'_>) {
    for panel in 0..product.columns.len() {
        let [mut out] = out.columns_mut(panel);
        if !product.is_sound(panel, check_panel) {
            scalar::multiply_panel(&product, panel, BYTE_XOR, &mut out);
            continue;
        }
        for (row, height) in row_tiles(product.rows.rows(), ROWS) {
            // SAFETY: `Kernels::multiply` checked the dimensions; the panel and the rows lie
            // within them.
            unsafe {
                match height {
                    1 => multiply_tile::<1>(&product, panel, row, &mut out),
                    2 => multiply_tile::<2>(&product, panel, row, &mut out),
                    3 => multiply_tile::<3>(&product, panel, row, &mut out),
                    _ => multiply_tile::<4>(&product, panel, row, &mut out),
                }
            }
        }
    }
}

/// `M` rows by one panel, one half after the other.
///
/// # Safety
/// The dimensions of the product agree; rows `row..row + M` and the panel are in it.
#[target_feature(enable = "neon")]
unsafe fn multiply_tile<const M: usize>(
    product: &Product<'_>,
    panel: usize,
    row: usize,
    out: &mut PanelMut<'_>,
) {
    let weights = product.panel_weights(panel).as_ptr();
    let rows: [*const u8; M] = std::array::from_fn(|m| product.rows.row(row + m).as_ptr());
    for half in 0..2 {
        // SAFETY: a half of a block has 32 bytes, and a row four, for each block.
        let sums = unsafe { multiply_half(rows, weights.add(half * 32), product.blocks) };
        for m in 0..M {
            let to = out.row_mut(row + m);
            for part in 0..2 {
                let [first, others] = sums[m][part];
                let quarter = half * 2 + part;
                let share = begin_sums(product, panel, quarter, row + m, 128);
                let sum = vaddq_s32(share, vpaddq_s32(first, others));
                finish(sum, product, panel, quarter, row + m, to);
            }
        }
    }
}

/// The sums of `M` rows and half a panel.
///
/// # Safety
/// There are `blocks` blocks: of 4 inputs in each row, and of 32 bytes, 64 apart, at `weights`.
#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn multiply_half<const M: usize>(
    rows: [*const u8; M],
    weights: *const i8,
    blocks: usize,
) -> [[Sums; 2]; M] {
    let mut sums = [[[vdupq_n_s32(0); 2]; 2]; M];
    // SAFETY: by the caller's promise, for each block that is below `blocks`.
    unsafe {
        let inputs = |block: usize| {
            rows.map(|row| {
                let four = row.add(block * BLOCK).cast::<i32>().read_unaligned();
                vreinterpretq_s8_s32(vdupq_n_s32(four))
            })
        };
        let quarter =
            |block: usize, part: usize| vld1q_s8(weights.add(block * BLOCK * PANEL + part * 16));
        let mut block = 0;
        while block + 2 <= blocks {
            let (a, b) = (inputs(block), inputs(block + 1));
            for part in 0..2 {
                let (v, w) = (quarter(block, part), quarter(block + 1, part));
                for m in 0..M {
                    let [first, others] = &mut sums[m][part];
                    let low = vmull_s8(vget_low_s8(v), vget_low_s8(a[m]));
                    let low = vmlal_s8(low, vget_low_s8(w), vget_low_s8(b[m]));
                    *first = vpadalq_s16(*first, low);
                    let high = vmlal_high_s8(vmull_high_s8(v, a[m]), w, b[m]);
                    *others = vpadalq_s16(*others, high);
                }
            }
            block += 2;
        }
        if block < blocks {
            let a = inputs(block);
            for part in 0..2 {
                let v = quarter(block, part);
                for m in 0..M {
                    let [first, others] = &mut sums[m][part];
                    let low = vmull_s8(vget_low_s8(v), vget_low_s8(a[m]));
                    *first = vpadalq_s16(*first, low);
                    *others = vpadalq_s16(*others, vmull_high_s8(v, a[m]));
                }
            }
        }
    }
    sums
}

#[target_feature(enable = "neon")]
fn run_peak(steps: u64) -> u64 {
    const SUMS: usize = 12;
    let inputs = std::hint::black_box(vdupq_n_s8(1));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..steps {
        // A product of each sum: one that does not change would be computed once.
        for sum in &mut sums {
            let weights = vreinterpretq_s8_s32(*sum);
            let product = vmull_s8(vget_low_s8(weights), vget_low_s8(inputs));
            *sum = vpadalq_s16(*sum, vmlal_high_s8(product, weights, inputs));
        }
    }
    std::hint::black_box(sums);
    steps * (SUMS * 16) as u64
}

/// Row kernels whose bytes of activations are stored xor'ed with `XOR`.
#[derive(Clone, Copy)]
struct Neon<const XOR: u8>;

#[target_feature(enable = "neon")]
pub(super) fn run_rows(operation: RowOperation<'_>) {
    rows::run(Neon::<BYTE_XOR>, operation);
}

/// For products that take unsigned bytes.
#[target_feature(enable = "neon")]
pub(super) fn run_rows_unsigned(operation: RowOperation<'_>) {
    rows::run(Neon::<0>, operation);
}

macro_rules! neon {
    ($($body:tt)*) => {
        // SAFETY: every 64-bit Arm CPU has NEON, and memory is reached only through references
        // to arrays of 16.
        unsafe { $($body)* }
    };
}

macro_rules! each {
    ($op:ident, $($v:ident),+) => {
        neon!([0, 1, 2, 3].map(|i: usize| $op($($v[i]),+)))
    };
}

impl<const XOR: u8> Simd for Neon<XOR> {
    type F32 = [float32x4_t; 4];
    type I32 = [int32x4_t; 4];

    const BYTE_XOR: u8 = XOR;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        neon!([vdupq_n_f32(x); 4])
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        neon!([0, 4, 8, 12].map(|i| vld1q_f32(from.as_ptr().add(i))))
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Self::F32 {
        neon!({
            let bytes = vld1q_s8(from.as_ptr());
            from_words(vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes))
        })
    }

    #[inline(always)]
    fn load_i16(self, from: &[i16; LANES]) -> Self::F32 {
        neon!(from_words(
            vld1q_s16(from.as_ptr()),
            vld1q_s16(from.as_ptr().add(8))
        ))
    }

    #[inline(always)]
    fn store(self, v: Self::F32, to: &mut [f32; LANES]) {
        neon!({
            for (i, v) in v.into_iter().enumerate() {
                vst1q_f32(to.as_mut_ptr().add(4 * i), v);
            }
        })
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(vaddq_f32, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(vsubq_f32, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(vmulq_f32, a, b)
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(vdivq_f32, a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        each!(vfmaq_f32, c, a, b)
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(vminq_f32, a, b)
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        each!(vmaxq_f32, a, b)
    }

    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        each!(vabsq_f32, a)
    }

    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        each!(vrndnq_f32, a)
    }

    #[inline(always)]
    fn scale_by_power_of_two(self, p: Self::F32, n: Self::F32) -> Self::F32 {
        neon!([0, 1, 2, 3].map(|i: usize| {
            let shifted = vshlq_n_s32::<23>(vcvtq_s32_f32(n[i]));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p[i]), shifted))
        }))
    }

    #[inline(always)]
    fn keep_first(self, v: Self::F32, count: usize, fill: Self::F32) -> Self::F32 {
        const NUMBERS: [i32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        neon!({
            let count = vdupq_n_s32(count as i32);
            [0, 1, 2, 3].map(|i: usize| {
                let kept = vcltq_s32(load_quarter_i32(&NUMBERS, i), count);
                vbslq_f32(kept, v[i], fill[i])
            })
        })
    }

    #[inline(always)]
    fn reduce_add(self, v: Self::F32) -> f32 {
        neon!({
            let four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        })
    }

    #[inline(always)]
    fn reduce_min(self, v: Self::F32) -> f32 {
        // A minimum has no order.
        neon!(vminvq_f32(vminq_f32(
            vminq_f32(v[0], v[2]),
            vminq_f32(v[1], v[3])
        )))
    }

    #[inline(always)]
    fn reduce_max(self, v: Self::F32) -> f32 {
        neon!(vmaxvq_f32(vmaxq_f32(
            vmaxq_f32(v[0], v[2]),
            vmaxq_f32(v[1], v[3])
        )))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        neon!([vdupq_n_s32(x); 4])
    }

    #[inline(always)]
    fn round_i32(self, a: Self::F32) -> Self::I32 {
        each!(vcvtnq_s32_f32, a)
    }

    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        each!(vaddq_s32, a, b)
    }

    #[inline(always)]
    fn reduce_add_i32(self, v: Self::I32) -> i32 {
        neon!(vaddvq_s32(vaddq_s32(
            vaddq_s32(v[0], v[2]),
            vaddq_s32(v[1], v[3])
        )))
    }

    #[inline(always)]
    fn store_i32(self, v: Self::I32, to: &mut [i32; LANES]) {
        neon!({
            for (i, v) in v.into_iter().enumerate() {
                vst1q_s32(to.as_mut_ptr().add(4 * i), v);
            }
        })
    }

    #[inline(always)]
    fn store_u8(self, v: Self::I32, to: &mut [u8; LANES]) {
        neon!({
            let [low, high] = narrow(v);
            let bytes = vqmovun_high_s16(vqmovun_s16(low), high);
            vst1q_u8(to.as_mut_ptr(), veorq_u8(bytes, vdupq_n_u8(XOR)));
        })
    }

    #[inline(always)]
    fn store_i8(self, v: Self::I32, to: &mut [i8; LANES]) {
        neon!(vst1q_s8(to.as_mut_ptr(), narrow_bytes(v)))
    }

    #[inline(always)]
    fn store_fours(self, v: [Self::I32; 4], to: &mut [i8; 4 * LANES]) {
        neon!({
            let [a, b, c, d] = v.map(|v| narrow_bytes(v));
            vst4q_s8(to.as_mut_ptr(), int8x16x4_t(a, b, c, d));
        })
    }
}

/// Sixteen words as floats.
#[target_feature(enable = "neon")]
#[inline]
fn from_words(low: int16x8_t, high: int16x8_t) -> [float32x4_t; 4] {
    [
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
        vcvtq_f32_s32(vmovl_high_s16(low)),
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
        vcvtq_f32_s32(vmovl_high_s16(high)),
    ]
}

/// To words, of lanes that fit.
#[target_feature(enable = "neon")]
#[inline]
fn narrow(v: [int32x4_t; 4]) -> [int16x8_t; 2] {
    [
        vmovn_high_s32(vmovn_s32(v[0]), v[1]),
        vmovn_high_s32(vmovn_s32(v[2]), v[3]),
    ]
}

/// To bytes, of lanes that fit.
#[target_feature(enable = "neon")]
#[inline]
fn narrow_bytes(v: [int32x4_t; 4]) -> int8x16_t {
    let [low, high] = narrow(v);
    vmovn_high_s16(vmovn_s16(low), high)
}
