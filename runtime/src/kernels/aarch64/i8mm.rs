//! Products of matrices of bytes: Armv8.6's `usmmla` (Cortex-A510, A710, X2 and later, Neoverse
//! V1 and N2, Apple M2 and A15).
//!
//! | tile (rows x columns) | registers | step of 8 inputs |
//! |---|---|---|
//! | 6x16 | 24 sums of 2x2, 3 pairs of rows, 1 or 2 weights | 3 + 8 loads, 24 `usmmla` |
//! | 2x32, 1x64 | as `dotprod.rs` | `sudot` by lane |
//!
//! The instruction multiplies two rows of eight inputs and two columns of eight weights. Eight
//! weights of a column are four in one block and four in the next: two quarters zipped. In the
//! loop the zips would be a third of the multiplications and the pairing of rows an eighth, on
//! the same units. So both are done before, on the stack: some panels are zipped for all rows,
//! and the rows of a tile are paired for all these panels. Activations are unsigned, so no panel
//! needs a check.

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::matrix::{PanelsMut, row_tiles};
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

/// Two blocks of a panel, zipped: the operands of eight instructions.
type ZippedPair = [int8x16_t; 8];

/// Pairs of blocks of the longest product that is multiplied so: 4096 inputs. Longer ones are
/// multiplied by `sudot`; BERT has none.
const MOST_PAIRS: usize = 512;

/// Pairs of blocks that are zipped at once: 128 KiB.
const MOST_ZIPPED: usize = 1024;

/// Panels that are zipped at once: so many that the pairing of rows does not count.
const MOST_PANELS: usize = 8;

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
    let (rows, panels) = (product.rows.rows(), product.columns.len());
    let pairs = product.blocks.div_ceil(2);
    if rows <= dotprod::FEW || pairs > MOST_PAIRS {
        for (row, height) in row_tiles(rows, dotprod::FEW) {
            let part = Product {
                rows: product.rows.rows_part(row..row + height),
                scales: &product.scales[row..row + height],
                ..product
            };
            let out = out.part_mut(row..row + height, 0..panels);
            // SAFETY: `Kernels::multiply` checked the dimensions; this function runs only where
            // `sudot` does.
            unsafe { dotprod::multiply_few_rows(MixedSign(()), &part, out) };
        }
        return;
    }
    let mut zipped = [const { MaybeUninit::uninit() }; MOST_ZIPPED];
    let width = (MOST_ZIPPED / pairs.max(1)).min(MOST_PANELS);
    for first in (0..panels).step_by(width) {
        let panels = first..panels.min(first + width);
        let zipped = zip_panels(&product, panels.clone(), &mut zipped);
        for (row, height) in row_tiles(rows, ROWS) {
            let (panels, out) = (panels.clone(), &mut out);
            match height {
                ..=2 => multiply_rows::<1>(&product, panels, row, height, zipped, out),
                3..=4 => multiply_rows::<2>(&product, panels, row, height, zipped, out),
                _ => multiply_rows::<3>(&product, panels, row, height, zipped, out),
            }
        }
    }
}

/// Some panels' pairs of blocks, zipped. A last block without another is zipped with zeros.
#[target_feature(enable = "neon")]
fn zip_panels<'a>(
    product: &Product<'_>,
    panels: Range<usize>,
    to: &'a mut [MaybeUninit<ZippedPair>],
) -> &'a [ZippedPair] {
    let pairs = product.blocks.div_ceil(2);
    let to = &mut to[..panels.len() * pairs];
    for (panel, to) in panels.zip(to.chunks_exact_mut(pairs.max(1))) {
        let (blocks, _) = product
            .panel_weights(panel)
            .as_chunks::<{ BLOCK * PANEL }>();
        for (pair, to) in blocks.chunks(2).zip(to) {
            let other = pair.get(1).unwrap_or(&[0; BLOCK * PANEL]);
            to.write(zip_blocks(&pair[0], other));
        }
    }
    // SAFETY: each panel has so many pairs, and all were written.
    unsafe { to.assume_init_ref() }
}

/// Two blocks, zipped: four bytes of one, four of the other, and so on.
#[target_feature(enable = "neon")]
#[inline]
fn zip_blocks(a: &[i8; BLOCK * PANEL], b: &[i8; BLOCK * PANEL]) -> ZippedPair {
    let mut zipped = [vdupq_n_s8(0); 8];
    let quarters = a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0);
    for (quarter, (a, b)) in quarters.enumerate() {
        // SAFETY: 16 bytes each.
        let [a, b] = unsafe { [vld1q_s8(a.as_ptr()), vld1q_s8(b.as_ptr())] };
        let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
        zipped[quarter * 2] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
        zipped[quarter * 2 + 1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    }
    zipped
}

/// `height` rows, `N` pairs of which the last may be half, by the panels that are zipped.
#[target_feature(enable = "neon,i8mm")]
fn multiply_rows<const N: usize>(
    product: &Product<'_>,
    panels: Range<usize>,
    row: usize,
    height: usize,
    zipped: &[ZippedPair],
    out: &mut PanelsMut<'_>,
) {
    let mut paired = [const { MaybeUninit::uninit() }; MOST_PAIRS];
    let paired = pair_rows::<N>(product, row, height, &mut paired);
    let mut zipped = zipped.chunks_exact(paired.len().max(1));
    for panel in panels {
        let sums = multiply_tile(paired, zipped.next().unwrap_or_default());
        let [mut out] = out.columns_mut(panel);
        // By constant numbers: with others the sums would be kept in memory.
        for n in 0..N {
            for i in 0..2 {
                let m = 2 * n + i;
                if m >= height {
                    break;
                }
                let to = out.row_mut(row + m);
                for quarter in 0..4 {
                    let [a, b] = [sums[n][quarter * 2], sums[n][quarter * 2 + 1]]
                        .map(|sum| vreinterpretq_s64_s32(sum));
                    let sum = if i == 0 {
                        vzip1q_s64(a, b)
                    } else {
                        vzip2q_s64(a, b)
                    };
                    let share = begin_sums(product, panel, quarter, row + m, 0);
                    let sum = vaddq_s32(share, vreinterpretq_s32_s64(sum));
                    finish(sum, product, panel, quarter, row + m, to);
                }
            }
        }
    }
}

/// Eight inputs of each of `N` pairs of rows, then the next eight. A last row without another
/// stands for both; inputs beyond the last block are zeros.
#[target_feature(enable = "neon")]
fn pair_rows<'a, const N: usize>(
    product: &Product<'_>,
    row: usize,
    height: usize,
    to: &'a mut [MaybeUninit<[uint8x16_t; N]>],
) -> &'a [[uint8x16_t; N]] {
    let inputs = product.blocks * BLOCK;
    let rows: [[&[u8]; 2]; N] = std::array::from_fn(|n| {
        [0, 1].map(|i| &product.rows.row(row + (2 * n + i).min(height - 1))[..inputs])
    });
    let to = &mut to[..product.blocks.div_ceil(2)];
    for (number, to) in to.iter_mut().enumerate() {
        let first = number * 2 * BLOCK;
        let eight = |row: &[u8]| match row[first..].first_chunk::<{ 2 * BLOCK }>() {
            Some(eight) => u64::from_le_bytes(*eight),
            None => u64::from(u32::from_le_bytes(
                *row[first..].first_chunk().expect("whole blocks"),
            )),
        };
        to.write(rows.map(|[a, b]| vcombine_u8(vcreate_u8(eight(a)), vcreate_u8(eight(b)))));
    }
    // SAFETY: all were written.
    unsafe { to.assume_init_ref() }
}

/// The sums of `N` pairs of rows and one panel. Of two rows and two columns in a register.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn multiply_tile<const N: usize>(
    rows: &[[uint8x16_t; N]],
    zipped: &[ZippedPair],
) -> [[int32x4_t; 8]; N] {
    let mut sums = [[vdupq_n_s32(0); 8]; N];
    for (rows, pair) in rows.iter().zip(zipped) {
        for i in 0..8 {
            for n in 0..N {
                sums[n][i] = multiply_pairs(sums[n][i], rows[n], pair[i]);
            }
        }
    }
    sums
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
