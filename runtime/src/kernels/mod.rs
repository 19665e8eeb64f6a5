//! The arithmetic, one set of kernels for each kind of CPU.
//!
//! [`Kernels`] is what a set consists of, [`ALL`] lists the sets of this target, best first,
//! and [`select`] picks one. All sets give the same bits: those of [`scalar`].

pub(crate) mod matrix;
pub(crate) mod rows;
mod scalar;
mod simd;

#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod conformance;

use crate::error::{Error, ErrorCode};
use crate::format::{BLOCK, Columns, PANEL};
use matrix::{Matrix, PanelsMut};
use rows::{RowOperation, RowScale};

/// The sets of this target, best first.
static ALL: &[&Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    &x86_64::avx512vnni::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &x86_64::avxvnni::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &x86_64::avx2::KERNELS,
    &scalar::KERNELS,
];

/// The environment variable that forces a set, for tests and diagnosis.
const OVERRIDE: &str = "FILBERT_ISA";

/// CPU features that a set may require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features(u32);

impl Features {
    pub(crate) const NONE: Self = Self(0);
    /// x86-64: AVX2 and FMA.
    pub(crate) const AVX2: Self = Self(1);
    /// x86-64: the 256-bit dot products of AVX-VNNI.
    pub(crate) const AVX_VNNI: Self = Self(1 << 1);
    /// x86-64: AVX-512 F, BW, DQ and VL.
    pub(crate) const AVX512: Self = Self(1 << 2);
    /// x86-64: the 512-bit dot products of AVX-512 VNNI.
    pub(crate) const AVX512_VNNI: Self = Self(1 << 3);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What this CPU has.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        return x86_64::detect();
        #[cfg(not(target_arch = "x86_64"))]
        Self::NONE
    }
}

/// A product of quantized rows and packed weights:
/// `y = (Σ q w - zero_point Σ w) * (row scale * column scale) + bias`.
///
/// The sum is exact in `i32`; then one rounding to `f32`, one of the scales' product, and one
/// `mul_add`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// `[rows, >= blocks * 4]`; inputs beyond the weights' rows meet weights of zero.
    pub(crate) rows: Matrix<'a, u8>,
    /// `[rows]`.
    pub(crate) scales: &'a [RowScale],
    /// `[panels, blocks, 16, 4]`.
    pub(crate) weights: &'a [i8],
    /// `[panels]`.
    pub(crate) columns: &'a [Columns],
    /// Blocks of 4 inputs.
    pub(crate) blocks: usize,
    /// Weights that will be read next, to be fetched meanwhile; may be none.
    pub(crate) upcoming: &'a [i8],
}

/// The kernels for one kind of CPU.
///
/// The functions are unsafe to call on a CPU without the features that they require. They are
/// reached only through the methods, and a `&'static Kernels` only through [`select`] and
/// [`available`], which check the features.
pub(crate) struct Kernels {
    /// As `FILBERT_ISA` and messages have it.
    pub(crate) name: &'static str,
    requires: Features,
    multiply: unsafe fn(Product<'_>, PanelsMut<'_>),
    run_rows: unsafe fn(RowOperation<'_>),
    run_peak: unsafe fn(u64) -> u64,
}

impl Kernels {
    /// Writes the product to `out`, `[rows, panels * 16]`.
    ///
    /// # Panics
    /// If the dimensions do not agree.
    pub(crate) fn multiply(&self, product: Product<'_>, out: PanelsMut<'_>) {
        assert_eq!(product.rows.rows(), product.scales.len());
        assert_eq!(product.rows.rows(), out.rows());
        assert!(product.blocks * BLOCK <= product.rows.columns());
        assert_eq!(
            product.weights.len(),
            product.columns.len() * product.blocks * BLOCK * PANEL
        );
        assert_eq!(product.columns.len(), out.panels());
        // SAFETY: this set was reached through `select` or `available`, so the CPU has what it
        // requires; the dimensions agree.
        unsafe { (self.multiply)(product, out) }
    }

    /// Carries out a row operation.
    pub(crate) fn run_rows(&self, operation: RowOperation<'_>) {
        // SAFETY: this set was reached through `select` or `available`, so the CPU has what it
        // requires.
        unsafe { (self.run_rows)(operation) }
    }

    /// Carries out `steps` steps of the fastest tile on registers only, without memory: the most
    /// that this set can do. Returns how many multiplications they were.
    pub(crate) fn run_peak(&self, steps: u64) -> u64 {
        // SAFETY: this set was reached through `select` or `available`, so the CPU has what it
        // requires.
        unsafe { (self.run_peak)(steps) }
    }
}

/// The sets that a CPU with `features` can run, best first.
pub(crate) fn available(features: Features) -> impl Iterator<Item = &'static Kernels> {
    ALL.iter()
        .copied()
        .filter(move |kernels| features.contains(kernels.requires))
}

/// The set to use on a CPU with `features`, or the one that `forced` names.
fn select_from(features: Features, forced: Option<&str>) -> Result<&'static Kernels, Error> {
    let mut candidates = available(features);
    let Some(name) = forced else {
        return Ok(candidates.next().expect("the scalar set requires nothing"));
    };
    candidates
        .find(|kernels| kernels.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = available(features).map(|kernels| kernels.name).collect();
            Error::new(
                ErrorCode::InvalidArgument,
                format!(
                    "{OVERRIDE}={name}: this CPU has no such kernels; it has {}",
                    names.join(", ")
                ),
            )
        })
}

/// The set for this CPU, or the one that the environment forces.
pub(crate) fn select() -> Result<&'static Kernels, Error> {
    let forced = std::env::var(OVERRIDE).ok().filter(|name| !name.is_empty());
    select_from(Features::detect(), forced.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(features: Features) -> &'static str {
        select_from(features, None).unwrap().name
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_best_set_that_the_cpu_has_is_selected() {
        let avx2 = Features::AVX2;
        let avx512 = avx2.with(Features::AVX512);
        assert_eq!(selected(Features::NONE), "scalar");
        assert_eq!(selected(avx2), "avx2");
        assert_eq!(selected(avx512), "avx2");
        assert_eq!(selected(avx2.with(Features::AVX_VNNI)), "avxvnni");
        assert_eq!(selected(avx512.with(Features::AVX512_VNNI)), "avx512vnni");
        let everything = avx512.with(Features::AVX512_VNNI).with(Features::AVX_VNNI);
        assert_eq!(selected(everything), "avx512vnni");
        // Dot products without the rest do not suffice.
        assert_eq!(
            selected(Features::AVX_VNNI.with(Features::AVX512_VNNI)),
            "scalar"
        );
    }

    #[test]
    fn a_forced_set_is_used_or_refused_with_the_list() {
        assert_eq!(
            select_from(Features::detect(), Some("scalar"))
                .unwrap()
                .name,
            "scalar"
        );
        let error = select_from(Features::NONE, Some("avx2")).err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert_eq!(
            error.to_string(),
            "FILBERT_ISA=avx2: this CPU has no such kernels; it has scalar"
        );
    }

    #[test]
    fn names_are_unique_and_the_reference_is_last() {
        let names: Vec<_> = ALL.iter().map(|kernels| kernels.name).collect();
        assert_eq!(names.last(), Some(&"scalar"));
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name));
        }
    }
}
