//! The reference: the contract in plain code, for every CPU. The other kernels must give the
//! bits that these give.

use super::matrix::{PanelMut, PanelsMut};
use super::rows::{self, RowOperation};
use super::simd::{LANES, Simd, fold_halves};
use super::{Kernels, Product};
use crate::format::{BLOCK, PANEL};

pub(crate) static KERNELS: Kernels = Kernels {
    name: "scalar",
    byte_xor: 0,
    multiply,
    run_rows,
    run_peak,
};

fn multiply(product: Product<'_>, mut out: PanelsMut<'_>) {
    for panel in 0..product.columns.len() {
        let [mut out] = out.columns_mut(panel);
        multiply_panel(&product, panel, KERNELS.byte_xor, &mut out);
    }
}

/// All rows by one panel, whatever its weights and sums; the rows are stored xor'ed.
pub(super) fn multiply_panel(
    product: &Product<'_>,
    panel: usize,
    byte_xor: u8,
    out: &mut PanelMut<'_>,
) {
    let columns = &product.columns[panel];
    let blocks = product
        .panel_weights(panel)
        .as_chunks::<{ BLOCK * PANEL }>()
        .0;
    for (i, scale) in product.scales.iter().enumerate() {
        let row = product.rows.row(i);
        let mut sums = [0i32; PANEL];
        for (block, weights) in blocks.iter().enumerate() {
            for (column, sum) in sums.iter_mut().enumerate() {
                for k in 0..BLOCK {
                    let q = i32::from(row[block * BLOCK + k] ^ byte_xor);
                    *sum = sum.wrapping_add(q * i32::from(weights[column * BLOCK + k]));
                }
            }
        }
        let to = out.row_mut(i);
        for (column, to) in to.iter_mut().enumerate() {
            // Wraps as vectors do; the sums of a valid file do not.
            let offset = scale.zero_point.wrapping_mul(columns.sum[column]);
            let centered = sums[column].wrapping_sub(offset);
            let step = scale.scale * columns.scale[column];
            *to = (centered as f32).mul_add(step, columns.bias[column]);
        }
    }
}

fn run_rows(operation: RowOperation<'_>) {
    rows::run(Scalar, operation);
}

fn run_peak(steps: u64) -> u64 {
    let weights: [i8; PANEL] = std::array::from_fn(|i| i as i8);
    let mut sums = [0i32; PANEL];
    for step in 0..steps {
        let q = i32::from(std::hint::black_box(step as u8));
        for (sum, &w) in sums.iter_mut().zip(&weights) {
            *sum = sum.wrapping_add(q * i32::from(w));
        }
    }
    std::hint::black_box(sums);
    steps * PANEL as u64
}

/// Vectors as arrays.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

// Steps of many instructions are functions: once in the library, not at each of many places.
impl Simd for Scalar {
    type F32 = [f32; LANES];
    type I32 = [i32; LANES];

    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }

    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        *from
    }

    fn load_i8(self, from: &[i8; LANES]) -> Self::F32 {
        from.map(f32::from)
    }

    fn load_i16(self, from: &[i16; LANES]) -> Self::F32 {
        from.map(f32::from)
    }

    fn store(self, v: Self::F32, to: &mut [f32; LANES]) {
        *to = v;
    }

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a + b)
    }

    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a - b)
    }

    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a * b)
    }

    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a / b)
    }

    #[inline(never)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, smaller)
    }

    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, larger)
    }

    fn abs(self, a: Self::F32) -> Self::F32 {
        a.map(f32::abs)
    }

    #[inline(never)]
    fn round(self, a: Self::F32) -> Self::F32 {
        a.map(f32::round_ties_even)
    }

    #[inline(never)]
    fn scale_by_power_of_two(self, p: Self::F32, n: Self::F32) -> Self::F32 {
        zip(p, n, |p, n| {
            p * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }

    #[inline(never)]
    fn keep_first(self, v: Self::F32, count: usize, fill: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if i < count { v[i] } else { fill[i] })
    }

    #[inline(never)]
    fn reduce_add(self, v: Self::F32) -> f32 {
        fold_halves(v, |a, b| a + b)
    }

    #[inline(never)]
    fn reduce_min(self, v: Self::F32) -> f32 {
        fold_halves(v, smaller)
    }

    #[inline(never)]
    fn reduce_max(self, v: Self::F32) -> f32 {
        fold_halves(v, larger)
    }

    fn splat_i32(self, x: i32) -> Self::I32 {
        [x; LANES]
    }

    #[inline(never)]
    fn round_i32(self, a: Self::F32) -> Self::I32 {
        a.map(|a| a.round_ties_even() as i32)
    }

    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        std::array::from_fn(|i| a[i] + b[i])
    }

    fn reduce_add_i32(self, v: Self::I32) -> i32 {
        v.iter().sum()
    }

    fn store_i32(self, v: Self::I32, to: &mut [i32; LANES]) {
        *to = v;
    }

    #[inline(never)]
    fn store_u8(self, v: Self::I32, to: &mut [u8; LANES]) {
        *to = v.map(|x| x.clamp(0, 255) as u8);
    }

    fn store_i8(self, v: Self::I32, to: &mut [i8; LANES]) {
        *to = v.map(|x| x as i8);
    }

    #[inline(never)]
    fn store_fours(self, v: [Self::I32; 4], to: &mut [i8; 4 * LANES]) {
        for (lane, four) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *four = v.map(|v| v[lane] as i8);
        }
    }
}
