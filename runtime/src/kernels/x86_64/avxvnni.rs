//! AVX-VNNI: dot products of bytes in 256-bit registers (Alder Lake and later, Zen 5).
//!
//! | tile (rows x columns) | registers | step of 4 inputs |
//! |---|---|---|
//! | 6x16 | 12 sums, 2 weights, 1 row | 2 loads, 6 broadcasts, 12 `vpdpbusd` |
//! | 2x32, 1x64 | 8 sums, weights from memory, rows | enough sums to hide the latency |
//!
//! The row kernels are AVX2's.

use std::arch::x86_64::*;

use super::super::matrix::{PanelMut, PanelsMut, row_tiles};
use super::super::{Kernels, Product};
use super::{Prefetch, avx2};
use crate::format::{BLOCK, PANEL};

pub(in super::super) static KERNELS: Kernels = Kernels {
    name: "avxvnni",
    byte_xor: 0,
    multiply,
    run_rows: avx2::run_rows,
    run_peak,
};

const ROWS: usize = 6;

/// Blocks of inputs between two fetches of weights ahead.
const BLOCKS_PER_FETCH: usize = 4;

/// `sum + a · b` by groups of four bytes, `a` unsigned and `b` signed. A value of such a type
/// exists only where the CPU has AVX2, FMA and the instruction.
trait DotProduct: Copy {
    fn dot(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i;
}

#[derive(Clone, Copy)]
struct AvxVnni(());

impl DotProduct for AvxVnni {
    #[inline(always)]
    fn dot(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: an `AvxVnni` exists only where the CPU has AVX-VNNI.
        unsafe { _mm256_dpbusd_avx_epi32(sum, a, b) }
    }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn multiply(product: Product<'_>, out: PanelsMut<'_>) {
    // SAFETY: `Kernels::multiply` checked the dimensions; this function runs only where AVX2,
    // FMA and AVX-VNNI do.
    unsafe { multiply_with(AvxVnni(()), product, out) }
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn run_peak(steps: u64) -> u64 {
    run_peak_with(AvxVnni(()), steps)
}

#[inline(always)]
fn run_peak_with<D: DotProduct>(d: D, steps: u64) -> u64 {
    const SUMS: usize = 12;
    // SAFETY: a `D` exists only where the CPU has AVX2.
    let zero = unsafe { _mm256_setzero_si256() };
    let (inputs, weights) = std::hint::black_box((zero, zero));
    let mut sums = [zero; SUMS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = d.dot(*sum, inputs, weights);
        }
    }
    std::hint::black_box(sums);
    steps * (SUMS * PANEL * BLOCK / 2) as u64
}

/// # Safety
/// The dimensions of the product agree.
#[inline(always)]
unsafe fn multiply_with<D: DotProduct>(d: D, product: Product<'_>, mut out: PanelsMut<'_>) {
    let panels = product.columns.len();
    let width = match product.rows.rows() {
        1 => 4,
        2 => 2,
        _ => 1,
    };
    let mut panel = 0;
    while panel < panels {
        let side_by_side = if panel + width <= panels { width } else { 1 };
        // SAFETY: the dimensions agree, and the panels lie within them.
        unsafe {
            match side_by_side {
                4 => multiply_panels::<D, 4>(d, &product, panel, &mut out),
                2 => multiply_panels::<D, 2>(d, &product, panel, &mut out),
                _ => multiply_panels::<D, 1>(d, &product, panel, &mut out),
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
    let rows = product.rows.rows();
    let mut out = out.columns_mut::<P>(panel);
    let steps = rows.div_ceil(ROWS) * product.blocks.div_ceil(BLOCKS_PER_FETCH);
    let mut prefetch = Prefetch::new(product, panel + P, P, steps);
    for (row, height) in row_tiles(rows, ROWS) {
        let (prefetch, out) = (&mut prefetch, &mut out);
        // SAFETY: by the caller's promise; the rows lie in the product.
        unsafe {
            match height {
                1 => multiply_tile::<D, 1, P>(d, product, panel, row, prefetch, out),
                2 => multiply_tile::<D, 2, P>(d, product, panel, row, prefetch, out),
                3 => multiply_tile::<D, 3, P>(d, product, panel, row, prefetch, out),
                4 => multiply_tile::<D, 4, P>(d, product, panel, row, prefetch, out),
                5 => multiply_tile::<D, 5, P>(d, product, panel, row, prefetch, out),
                _ => multiply_tile::<D, 6, P>(d, product, panel, row, prefetch, out),
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
    prefetch: &mut Prefetch,
    out: &mut [PanelMut<'_>; P],
) {
    let panel_bytes = product.blocks * BLOCK * PANEL;
    let weights = product.weights[panel * panel_bytes..][..P * panel_bytes].as_ptr();
    let rows: [*const u8; M] = std::array::from_fn(|m| product.rows.row(row + m).as_ptr());
    // SAFETY: a `D` exists only where the CPU has AVX2. `block` is below `blocks`: a panel has
    // 64 bytes and a row 4 for each. A panel has 16 column sums.
    unsafe {
        // The zero point's share first, instead of zeros: sums of integers have no order.
        let mut sums = [[[_mm256_setzero_si256(); 2]; P]; M];
        for m in 0..M {
            let zero_point = _mm256_set1_epi32(-product.scales[row + m].zero_point);
            for p in 0..P {
                let column_sums = product.columns[panel + p].sum.as_ptr();
                for half in 0..2 {
                    let column_sum = _mm256_loadu_si256(column_sums.add(half * 8).cast());
                    sums[m][p][half] = _mm256_mullo_epi32(zero_point, column_sum);
                }
            }
        }
        for block in 0..product.blocks {
            if block.is_multiple_of(BLOCKS_PER_FETCH) {
                prefetch.advance();
            }
            let at = block * BLOCK * PANEL;
            let mut inputs = [_mm256_setzero_si256(); M];
            for m in 0..M {
                let four = rows[m].add(block * BLOCK).cast::<i32>().read_unaligned();
                inputs[m] = _mm256_set1_epi32(four);
            }
            for p in 0..P {
                for half in 0..2 {
                    let from = weights.add(p * panel_bytes + at + half * 32);
                    let weights = _mm256_loadu_si256(from.cast());
                    for m in 0..M {
                        sums[m][p][half] = d.dot(sums[m][p][half], inputs[m], weights);
                    }
                }
            }
        }
        for m in 0..M {
            for p in 0..P {
                for half in 0..2 {
                    let to = out[p].row_mut(row + m);
                    avx2::finish(sums[m][p][half], product, panel + p, half, row + m, to);
                }
            }
        }
    }
}

/// The same tiles by the encoding of AVX-512 VL, to test them where AVX-VNNI is missing.
#[cfg(test)]
pub(in super::super) mod by_avx512vl {
    use super::*;

    pub(in super::super::super) static KERNELS: Kernels = Kernels {
        name: "avxvnni by avx512vl",
        byte_xor: 0,
        multiply,
        run_rows: avx2::run_rows,
        run_peak,
    };

    #[derive(Clone, Copy)]
    struct Avx512Vl(());

    impl DotProduct for Avx512Vl {
        #[inline(always)]
        fn dot(self, sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
            // SAFETY: an `Avx512Vl` exists only where the CPU has AVX-512 VNNI and VL.
            unsafe { _mm256_dpbusd_epi32(sum, a, b) }
        }
    }

    #[target_feature(enable = "avx2,fma,avx512vnni,avx512vl")]
    fn multiply(product: Product<'_>, out: PanelsMut<'_>) {
        // SAFETY: as for AVX-VNNI, with this set's requirements.
        unsafe { multiply_with(Avx512Vl(()), product, out) }
    }
    #[target_feature(enable = "avx2,fma,avx512vnni,avx512vl")]
    fn run_peak(steps: u64) -> u64 {
        run_peak_with(Avx512Vl(()), steps)
    }
}
