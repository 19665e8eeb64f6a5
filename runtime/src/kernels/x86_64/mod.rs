//! Kernels for x86-64.

#![expect(
    clippy::needless_range_loop,
    reason = "the values of a tile are named by row, panel and half"
)]

pub(super) mod avx2;
pub(super) mod avx512vnni;
pub(super) mod avxvnni;

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::{Features, Product};
use crate::format::{BLOCK, PANEL};

/// What this CPU has, and the operating system lets programs use.
pub(super) fn detect() -> Features {
    let found = [
        (
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Features::AVX2,
        ),
        (is_x86_feature_detected!("avxvnni"), Features::AVX_VNNI),
        (
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl"),
            Features::AVX512,
        ),
        (
            is_x86_feature_detected!("avx512vnni"),
            Features::AVX512_VNNI,
        ),
    ];
    found
        .into_iter()
        .filter(|(present, _)| *present)
        .fold(Features::NONE, |all, (_, feature)| all.with(feature))
}

/// Fetches the weights of the next panels to the second-level cache while these are used, a
/// few lines at each step. The hardware's prefetcher stops at the end of a page, and a panel has
/// few pages: without this, short texts wait for memory at each of them.
struct Prefetch {
    next: *const u8,
    end: *const u8,
    /// Lines at each step.
    lines: usize,
}

impl Prefetch {
    /// For the `width` panels from `panel` on, or what comes after the last, in so many steps.
    fn new(product: &Product<'_>, panel: usize, width: usize, steps: usize) -> Self {
        let panel_bytes = product.blocks * BLOCK * PANEL;
        let start = (panel * panel_bytes).min(product.weights.len());
        let rest = match &product.weights[start..] {
            [] => product.upcoming,
            // One or two rows use a weight as fast as it comes: there is no time to fetch others.
            _ if product.rows.rows() <= 2 => &[],
            rest => rest,
        };
        let range = rest[..rest.len().min(width * panel_bytes)].as_ptr_range();
        Self {
            next: range.start.cast(),
            end: range.end.cast(),
            lines: (width * product.blocks).div_ceil(steps.max(1)),
        }
    }

    /// One step.
    #[inline(always)]
    fn advance(&mut self) {
        for _ in 0..self.lines {
            if self.next >= self.end {
                return;
            }
            // SAFETY: a prefetch reads nothing; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.next.cast()) };
            self.next = self.next.wrapping_add(BLOCK * PANEL);
        }
    }
}
