//! Dot products of signed bytes: Armv8.2's `sdot` (Cortex-A55, A75 and later, Apple A11).
//!
//! | tile (rows x columns) | registers | step of 16 inputs |
//! |---|---|---|
//! | 6x16 | 24 sums, 6 rows, 1 or 2 weights | 6 + 16 loads, 96 `sdot` by lane |
//! | 2x32, 1x64 | 16 sums, rows, weights | enough sums to hide the latency |
//!
//! A quarter of a block is a register: four columns of four inputs each. The instruction takes
//! a row's four inputs from a lane, so nothing is broadcast. It has no unsigned operand beside
//! the signed one: the row kernels store bytes less 128, and a panel whose column sums do not
//! tell what that takes off goes through the reference.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::matrix::{PanelMut, PanelsMut, row_tiles};
use super::super::{Kernels, Product, scalar};
use super::neon;
use super::{begin_sums, check_panel, finish};
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "dotprod",
    byte_xor: neon::BYTE_XOR,
    multiply,
    run_rows: neon::run_rows,
    run_peak,
};

const ROWS: usize = 6;

/// Blocks whose inputs are one register of a row.
const BLOCKS_PER_STEP: usize = 4;

/// Dot products of each column's four weights with four inputs. A value of such a type exists
/// only where the CPU has the instruction.
pub(super) trait DotProduct: Copy {
    /// What the row kernels take off the bytes of activations.
    const OFFSET: i32;

    /// `sum + weights · four`, where `four` are the inputs of a lane of `row`.
    fn dot<const LANE: usize>(
        self,
        sum: int32x4_t,
        weights: int8x16_t,
        row: uint8x16_t,
    ) -> int32x4_t;

    /// Whether a panel can be multiplied so.
    fn accepts(self, product: &Product<'_>, panel: usize) -> bool;
}

#[derive(Clone, Copy)]
struct Signed(());

impl DotProduct for Signed {
    const OFFSET: i32 = neon::BYTE_XOR as i32;

    #[inline(always)]
    fn dot<const LANE: usize>(
        self,
        mut sum: int32x4_t,
        weights: int8x16_t,
        row: uint8x16_t,
    ) -> int32x4_t {
        // SAFETY: a `Signed` exists only where the CPU has `sdot`, which touches no memory.
        unsafe {
            asm!(
                "sdot {sum:v}.4s, {weights:v}.16b, {row:v}.4b[{lane}]",
                sum = inout(vreg) sum,
                weights = in(vreg) weights,
                row = in(vreg) row,
                lane = const LANE,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    #[inline(always)]
    fn accepts(self, product: &Product<'_>, panel: usize) -> bool {
        product.is_sound(panel, check_panel)
    }
}

#[target_feature(enable = "neon,dotprod")]
fn multiply(product: Product<'_>, out: PanelsMut<'_>) {
    // SAFETY: `Kernels::multiply` checked the dimensions; this function runs only where `sdot`
    // does.
    unsafe { multiply_with(Signed(()), &product, out) }
}

/// # Safety
/// The dimensions of the product agree.
#[inline(always)]
pub(super) unsafe fn multiply_with<D: DotProduct>(
    d: D,
    product: &Product<'_>,
    mut out: PanelsMut<'_>,
) {
    let panels = product.columns.len();
    let width = match product.rows.rows() {
        1 => 4,
        2 => 2,
        _ => 1,
    };
    let mut panel = 0;
    while panel < panels {
        if !d.accepts(product, panel) {
            let [mut out] = out.columns_mut(panel);
            scalar::multiply_panel(product, panel, D::OFFSET as u8, &mut out);
            panel += 1;
            continue;
        }
        let end = panel + width;
        let wide = end <= panels && (panel + 1..end).all(|panel| d.accepts(product, panel));
        let side_by_side = if wide { width } else { 1 };
        // SAFETY: the dimensions agree, and the panels lie within them.
        unsafe {
            match side_by_side {
                4 => multiply_panels::<D, 4>(d, product, panel, &mut out),
                2 => multiply_panels::<D, 2>(d, product, panel, &mut out),
                _ => multiply_panels::<D, 1>(d, product, panel, &mut out),
            }
        }
        panel += side_by_side;
    }
}

/// All rows by `P` panels; with more than one panel, at most two rows.
///
/// # Safety
/// The dimensions of the product agree, and panels `panel..panel + P` are in it.
#[inline(always)]
unsafe fn multiply_panels<D: DotProduct, const P: usize>(
    d: D,
    product: &Product<'_>,
    panel: usize,
    out: &mut PanelsMut<'_>,
) {
    let mut out = out.columns_mut::<P>(panel);
    for (row, height) in row_tiles(product.rows.rows(), ROWS) {
        // SAFETY: by the caller's promise; the rows lie in the product.
        unsafe {
            match height {
                1 => multiply_tile::<D, 1, P>(d, product, panel, row, &mut out),
                2 => multiply_tile::<D, 2, P>(d, product, panel, row, &mut out),
                3 => multiply_tile::<D, 3, P>(d, product, panel, row, &mut out),
                4 => multiply_tile::<D, 4, P>(d, product, panel, row, &mut out),
                5 => multiply_tile::<D, 5, P>(d, product, panel, row, &mut out),
                _ => multiply_tile::<D, 6, P>(d, product, panel, row, &mut out),
            }
        }
    }
}

/// `M` rows by `P` panels.
///
/// # Safety
/// The dimensions of the product agree; rows `row..row + M` and panels `panel..panel + P` are
/// in it.
#[inline(always)]
unsafe fn multiply_tile<D: DotProduct, const M: usize, const P: usize>(
    d: D,
    product: &Product<'_>,
    panel: usize,
    row: usize,
    out: &mut [PanelMut<'_>; P],
) {
    let weights: [*const i8; P] =
        std::array::from_fn(|p| product.panel_weights(panel + p).as_ptr());
    let rows: [*const u8; M] = std::array::from_fn(|m| product.rows.row(row + m).as_ptr());
    // SAFETY: every 64-bit Arm CPU has NEON.
    let zero = unsafe { vdupq_n_s32(0) };
    let mut sums = [[[zero; 4]; P]; M];
    for m in 0..M {
        for p in 0..P {
            for quarter in 0..4 {
                let sum = &mut sums[m][p][quarter];
                // SAFETY: as above.
                *sum = unsafe { begin_sums(product, panel + p, quarter, row + m, D::OFFSET) };
            }
        }
    }
    let mut block = 0;
    while block + BLOCKS_PER_STEP <= product.blocks {
        // SAFETY: a row has 16 bytes for these blocks, and a panel 64 for each.
        unsafe {
            let inputs = rows.map(|row| vld1q_u8(row.add(block * BLOCK)));
            let weights = weights.map(|from| from.add(block * BLOCK * PANEL));
            multiply_block::<D, 0, M, P>(d, &mut sums, inputs, weights);
            multiply_block::<D, 1, M, P>(d, &mut sums, inputs, weights);
            multiply_block::<D, 2, M, P>(d, &mut sums, inputs, weights);
            multiply_block::<D, 3, M, P>(d, &mut sums, inputs, weights);
        }
        block += BLOCKS_PER_STEP;
    }
    for block in block..product.blocks {
        // SAFETY: a row has four bytes for the block, and a panel 64.
        unsafe {
            let inputs = rows.map(|row| {
                let four = row.add(block * BLOCK).cast::<u32>().read_unaligned();
                vreinterpretq_u8_u32(vdupq_n_u32(four))
            });
            let weights = weights.map(|from| from.add(block * BLOCK * PANEL));
            multiply_block::<D, 0, M, P>(d, &mut sums, inputs, weights);
        }
    }
    for m in 0..M {
        for p in 0..P {
            let to = out[p].row_mut(row + m);
            for quarter in 0..4 {
                let sum = sums[m][p][quarter];
                // SAFETY: as above.
                unsafe { finish(sum, product, panel + p, quarter, row + m, to) };
            }
        }
    }
}

/// The block of a step that is this lane of the inputs.
///
/// # Safety
/// Each of the panels has as many blocks from `weights` on.
#[inline(always)]
unsafe fn multiply_block<D: DotProduct, const LANE: usize, const M: usize, const P: usize>(
    d: D,
    sums: &mut [[[int32x4_t; 4]; P]; M],
    inputs: [uint8x16_t; M],
    weights: [*const i8; P],
) {
    for p in 0..P {
        for quarter in 0..4 {
            // SAFETY: by the caller's promise: a block has four quarters of 16 bytes.
            let weights = unsafe { vld1q_s8(weights[p].add(LANE * BLOCK * PANEL + quarter * 16)) };
            for m in 0..M {
                sums[m][p][quarter] = d.dot::<LANE>(sums[m][p][quarter], weights, inputs[m]);
            }
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn run_peak(steps: u64) -> u64 {
    const SUMS: usize = 24;
    let inputs = std::hint::black_box(vdupq_n_u8(1));
    let weights = std::hint::black_box(vdupq_n_s8(2));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = Signed(()).dot::<0>(*sum, weights, inputs);
        }
    }
    std::hint::black_box(sums);
    steps * (SUMS * 4 * BLOCK) as u64
}
