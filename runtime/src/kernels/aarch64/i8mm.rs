//! Products of matrices of bytes: Armv8.6's `usmmla` (Cortex-A510, A710, X2 and later, Neoverse
//! V1 and N2, Apple M2 and A15).
//!
//! | tile (rows x columns) | registers | step of 16 inputs |
//! |---|---|---|
//! | 6x16 | 24 sums of 2x2, 3 pairs of rows, 1 or 2 weights | 6 + 16 loads, 6 zips of rows, 48 `usmmla` |
//! | 2x32, 1x64 | as `dotprod.rs` | `sudot` by lane |
//!
//! The instruction multiplies two rows of eight inputs and two columns of eight weights. Eight
//! weights of a column are four in one block and four in the next: two quarters zipped. For more
//! than one tile of rows a panel is zipped once, to the stack. Activations are unsigned, so no
//! panel needs a check.

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;

use super::super::matrix::{PanelMut, PanelsMut, row_tiles};
use super::super::{Kernels, Product};
use super::dotprod::{self, DotProduct};
use super::neon;
use super::{begin_sums, finish};
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "i8mm",
    byte_xor: 0,
    multiply,
    run_rows: neon::run_rows_unsigned,
    run_peak,
};

const ROWS: usize = 6;

/// Blocks whose inputs are one register of a row.
const BLOCKS_PER_STEP: usize = 4;

/// Two blocks of a panel, zipped: the operands of eight instructions.
type ZippedPair = [int8x16_t; 8];

/// Pairs of blocks that are zipped to the stack at most: 4096 inputs, 64 KiB.
const MOST_ZIPPED: usize = 512;

/// Exists only where the CPU has i8mm.
#[derive(Clone, Copy)]
struct MixedSign(());

impl DotProduct for MixedSign {
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn dot<const LANE: usize>(
        self,
        mut sum: int32x4_t,
        weights: int8x16_t,
        row: uint8x16_t,
    ) -> int32x4_t {
        // SAFETY: a `MixedSign` exists only where the CPU has `sudot`, which touches no memory.
        unsafe {
            asm!(
                "sudot {sum:v}.4s, {weights:v}.16b, {row:v}.4b[{lane}]",
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
    fn accepts(self, _: &Product<'_>, _: usize) -> bool {
        true
    }
}

/// `sums + rows · columns`: two rows of eight inputs, two columns of eight weights, and their
/// four sums row by row.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn multiply_pairs(mut sums: int32x4_t, rows: uint8x16_t, columns: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction is there where i8mm is, and touches no memory.
    unsafe {
        asm!(
            "usmmla {sums:v}.4s, {rows:v}.16b, {columns:v}.16b",
            sums = inout(vreg) sums,
            rows = in(vreg) rows,
            columns = in(vreg) columns,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

#[target_feature(enable = "neon,dotprod,i8mm")]
fn multiply(product: Product<'_>, mut out: PanelsMut<'_>) {
    let rows = product.rows.rows();
    if rows <= 2 {
        // SAFETY: `Kernels::multiply` checked the dimensions; this function runs only where
        // `sudot` does.
        return unsafe { dotprod::multiply_with(MixedSign(()), &product, out) };
    }
    let pairs = product.blocks / 2;
    let mut zipped = [const { MaybeUninit::<ZippedPair>::uninit() }; MOST_ZIPPED];
    for panel in 0..product.columns.len() {
        let [mut out] = out.columns_mut(panel);
        let zipped = if rows > ROWS && pairs <= MOST_ZIPPED {
            zip_panel(product.panel_weights(panel), &mut zipped)
        } else {
            &[]
        };
        for (row, height) in row_tiles(rows, ROWS) {
            let out = &mut out;
            // SAFETY: `Kernels::multiply` checked the dimensions; the panel and the rows lie
            // within them, and the zipped pairs, if any, are those of the panel.
            unsafe {
                match (height, zipped.len() == pairs) {
                    (1..=2, true) => {
                        multiply_tile::<1, true>(&product, panel, row, height, zipped, out)
                    }
                    (3..=4, true) => {
                        multiply_tile::<2, true>(&product, panel, row, height, zipped, out)
                    }
                    (_, true) => {
                        multiply_tile::<3, true>(&product, panel, row, height, zipped, out)
                    }
                    (1..=2, false) => {
                        multiply_tile::<1, false>(&product, panel, row, height, &[], out)
                    }
                    (3..=4, false) => {
                        multiply_tile::<2, false>(&product, panel, row, height, &[], out)
                    }
                    (_, false) => multiply_tile::<3, false>(&product, panel, row, height, &[], out),
                }
            }
        }
    }
}

/// A panel's pairs of blocks, zipped.
#[target_feature(enable = "neon")]
#[inline]
fn zip_panel<'a>(
    weights: &[i8],
    to: &'a mut [MaybeUninit<ZippedPair>; MOST_ZIPPED],
) -> &'a [ZippedPair] {
    let pairs = weights.as_chunks::<{ 2 * BLOCK * PANEL }>().0;
    let to = &mut to[..pairs.len()];
    for (pair, to) in pairs.iter().zip(&mut *to) {
        // SAFETY: two blocks.
        to.write(unsafe { zip_pair(pair.as_ptr()) });
    }
    // SAFETY: all of them are written.
    unsafe { to.assume_init_ref() }
}

/// Two blocks, zipped.
///
/// # Safety
/// There are 128 bytes at `weights`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn zip_pair(weights: *const i8) -> ZippedPair {
    let mut zipped = [vdupq_n_s8(0); 8];
    for quarter in 0..4 {
        // SAFETY: by the caller's promise.
        let (a, b) = unsafe {
            let from = weights.add(quarter * 16);
            (vld1q_s8(from), vld1q_s8(from.add(BLOCK * PANEL)))
        };
        [zipped[quarter * 2], zipped[quarter * 2 + 1]] = zip_fours(a, b);
    }
    zipped
}

/// Four bytes of `a`, four of `b`, and so on.
#[target_feature(enable = "neon")]
#[inline]
fn zip_fours(a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
    [
        vreinterpretq_s8_s32(vzip1q_s32(a, b)),
        vreinterpretq_s8_s32(vzip2q_s32(a, b)),
    ]
}

/// `height` rows, `N` pairs of which the last may be half, by one panel.
///
/// # Safety
/// The dimensions of the product agree; rows `row..row + height` and the panel are in it. If
/// `ZIPPED`, `zipped` has its pairs of blocks.
#[target_feature(enable = "neon,i8mm")]
unsafe fn multiply_tile<const N: usize, const ZIPPED: bool>(
    product: &Product<'_>,
    panel: usize,
    row: usize,
    height: usize,
    zipped: &[ZippedPair],
    out: &mut PanelMut<'_>,
) {
    let weights = product.panel_weights(panel).as_ptr();
    let row_pointer = |m: usize| product.rows.row(row + m.min(height - 1)).as_ptr();
    let rows: [[*const u8; 2]; N] =
        std::array::from_fn(|n| [row_pointer(2 * n), row_pointer(2 * n + 1)]);
    let mut sums = [[vdupq_n_s32(0); 8]; N];
    let mut block = 0;
    while block + BLOCKS_PER_STEP <= product.blocks {
        let mut inputs = [[vdupq_n_u8(0); 2]; N];
        for n in 0..N {
            // SAFETY: a row has 16 bytes for these blocks.
            let [a, b] = rows[n]
                .map(|row| unsafe { vreinterpretq_u64_u8(vld1q_u8(row.add(block * BLOCK))) });
            inputs[n] = [vzip1q_u64(a, b), vzip2q_u64(a, b)].map(|v| vreinterpretq_u8_u64(v));
        }
        for half in 0..2 {
            for quarter in 0..4 {
                // SAFETY: there are weights, zipped or not, for each of these blocks.
                let columns = unsafe {
                    if ZIPPED {
                        let pair = zipped.as_ptr().add(block / 2 + half).cast::<int8x16_t>();
                        [*pair.add(quarter * 2), *pair.add(quarter * 2 + 1)]
                    } else {
                        let from = weights.add((block + 2 * half) * BLOCK * PANEL + quarter * 16);
                        zip_fours(vld1q_s8(from), vld1q_s8(from.add(BLOCK * PANEL)))
                    }
                };
                for (i, columns) in columns.into_iter().enumerate() {
                    for n in 0..N {
                        let sum = &mut sums[n][quarter * 2 + i];
                        *sum = multiply_pairs(*sum, inputs[n][half], columns);
                    }
                }
            }
        }
        block += BLOCKS_PER_STEP;
    }
    for block in block..product.blocks {
        let inputs = rows.map(|pair| {
            let [a, b] = pair.map(|row| {
                // SAFETY: a row has four bytes for the block.
                let four = unsafe { row.add(block * BLOCK).cast::<u32>().read_unaligned() };
                vcreate_u8(u64::from(four))
            });
            vcombine_u8(a, b)
        });
        for quarter in 0..4 {
            // SAFETY: a panel has 64 bytes for the block.
            let four = unsafe { vld1q_s8(weights.add(block * BLOCK * PANEL + quarter * 16)) };
            let columns = zip_fours(four, vdupq_n_s8(0));
            for (i, columns) in columns.into_iter().enumerate() {
                for n in 0..N {
                    let sum = &mut sums[n][quarter * 2 + i];
                    *sum = multiply_pairs(*sum, inputs[n], columns);
                }
            }
        }
    }
    for m in 0..height {
        let to = out.row_mut(row + m);
        for quarter in 0..4 {
            let pair = |i: usize| vreinterpretq_s64_s32(sums[m / 2][quarter * 2 + i]);
            let sum = if m % 2 == 0 {
                vzip1q_s64(pair(0), pair(1))
            } else {
                vzip2q_s64(pair(0), pair(1))
            };
            let share = begin_sums(product, panel, quarter, row + m, 0);
            let sum = vaddq_s32(share, vreinterpretq_s32_s64(sum));
            finish(sum, product, panel, quarter, row + m, to);
        }
    }
}

#[target_feature(enable = "neon,i8mm")]
fn run_peak(steps: u64) -> u64 {
    const SUMS: usize = 24;
    let rows = std::hint::black_box(vdupq_n_u8(1));
    let columns = std::hint::black_box(vdupq_n_s8(2));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = multiply_pairs(*sum, rows, columns);
        }
    }
    std::hint::black_box(sums);
    steps * (SUMS * 4 * 8) as u64
}
