//! Kernels for 64-bit Arm.

#![expect(
    clippy::needless_range_loop,
    reason = "the values of a tile are named by row, panel and quarter"
)]

pub(super) mod dotprod;
pub(super) mod i8mm;
pub(super) mod neon;

use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;

use super::{Features, Product};
use crate::format::{BLOCK, Columns, PANEL};

/// What this CPU has, and the operating system lets programs use. NEON is part of every one.
pub(super) fn detect() -> Features {
    let found = [
        (is_aarch64_feature_detected!("dotprod"), Features::DOTPROD),
        (is_aarch64_feature_detected!("i8mm"), Features::I8MM),
    ];
    found
        .into_iter()
        .filter(|(present, _)| *present)
        .fold(Features::NONE, |all, (_, feature)| all.with(feature))
}

/// The four values of a panel's quarter.
#[target_feature(enable = "neon")]
#[inline]
fn load_quarter_i32(values: &[i32; PANEL], quarter: usize) -> int32x4_t {
    let four = &values.as_chunks::<4>().0[quarter];
    // SAFETY: four values.
    unsafe { vld1q_s32(four.as_ptr()) }
}

/// The four values of a panel's quarter.
#[target_feature(enable = "neon")]
#[inline]
fn load_quarter_f32(values: &[f32; PANEL], quarter: usize) -> float32x4_t {
    let four = &values.as_chunks::<4>().0[quarter];
    // SAFETY: four values.
    unsafe { vld1q_f32(four.as_ptr()) }
}

/// The zero point's share of four columns of a row, to begin their sums with instead of zeros:
/// sums of integers have no order. `offset` is what was taken off the row's bytes.
#[target_feature(enable = "neon")]
#[inline]
fn begin_sums(
    product: &Product<'_>,
    panel: usize,
    quarter: usize,
    row: usize,
    offset: i32,
) -> int32x4_t {
    let share = vdupq_n_s32(offset - product.scales[row].zero_point);
    vmulq_s32(
        share,
        load_quarter_i32(&product.columns[panel].sum, quarter),
    )
}

/// Sums of four columns to floats: the product's one rounding.
#[target_feature(enable = "neon")]
#[inline]
fn finish(
    sum: int32x4_t,
    product: &Product<'_>,
    panel: usize,
    quarter: usize,
    row: usize,
    to: &mut [f32; PANEL],
) {
    let columns = &product.columns[panel];
    let row_scale = vdupq_n_f32(product.scales[row].scale);
    let step = vmulq_f32(row_scale, load_quarter_f32(&columns.scale, quarter));
    let bias = load_quarter_f32(&columns.bias, quarter);
    let y = vfmaq_f32(bias, vcvtq_f32_s32(sum), step);
    // SAFETY: a chunk has four values.
    unsafe { vst1q_f32(to.as_chunks_mut::<4>().0[quarter].as_mut_ptr(), y) };
}

/// Whether a panel's column sums are those of its weights, and no weight is -128: then products
/// of its weights and of bytes less 128 add up to what the contract says, and two of them fit in
/// 16 bits.
fn check_panel(weights: &[i8], columns: &Columns) -> bool {
    // SAFETY: every 64-bit Arm CPU has NEON.
    unsafe { check_panel_by_neon(weights, columns) }
}

#[target_feature(enable = "neon")]
fn check_panel_by_neon(weights: &[i8], columns: &Columns) -> bool {
    let mut sums = [vdupq_n_s32(0); PANEL / 4];
    let mut smallest = vdupq_n_s8(0);
    for block in weights.as_chunks::<{ BLOCK * PANEL }>().0 {
        for (four, sum) in block.as_chunks::<16>().0.iter().zip(&mut sums) {
            // SAFETY: 16 bytes.
            let four = unsafe { vld1q_s8(four.as_ptr()) };
            *sum = vpadalq_s16(*sum, vpaddlq_s8(four));
            smallest = vminq_s8(smallest, four);
        }
    }
    let mut sound = vminvq_s8(smallest) > i8::MIN;
    for (quarter, sum) in sums.into_iter().enumerate() {
        let equal = vceqq_s32(sum, load_quarter_i32(&columns.sum, quarter));
        sound &= vminvq_u32(equal) == u32::MAX;
    }
    sound
}
