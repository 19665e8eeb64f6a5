//! The arithmetic, one set of kernels for each kind of CPU.
//!
//! [`Kernels`] is what a set consists of, `kernel_sets!` lists them, best first, and [`select`]
//! picks one. All sets give the same bits: those of [`scalar`].

pub(crate) mod matrix;
pub(crate) mod rows;
mod scalar;
mod simd;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod conformance;

use std::sync::atomic::AtomicU8;

use crate::error::{Error, ErrorCode};
use crate::format::{BLOCK, Columns, PANEL};
use matrix::{Matrix, PanelsMut};
use rows::{RowOperation, RowScale};

/// Declares the sets of all architectures, best first.
macro_rules! kernel_sets {
    ($($architecture:literal $module:ident::$set:ident requires $features:expr;)*) => {
        /// What the sets of any target require: to choose one is a matter of this table.
        static SETS: &[Set] = &[
            $(Set {
                architecture: Some($architecture),
                name: stringify!($set),
                requires: $features,
            },)*
            Set {
                architecture: None,
                name: "scalar",
                requires: Features::NONE,
            },
        ];

        /// The sets of this target.
        static ALL: &[&Kernels] = &[
            $(
                #[cfg(target_arch = $architecture)]
                &$module::$set::KERNELS,
            )*
            &scalar::KERNELS,
        ];
    };
}

kernel_sets! {
    "x86_64" x86_64::avx512vnni requires Features::AVX2.with(Features::AVX512).with(Features::AVX512_VNNI);
    "x86_64" x86_64::avxvnni requires Features::AVX2.with(Features::AVX_VNNI);
    "x86_64" x86_64::avx2 requires Features::AVX2;
    "aarch64" aarch64::i8mm requires Features::DOTPROD.with(Features::I8MM);
    "aarch64" aarch64::dotprod requires Features::DOTPROD;
    "aarch64" aarch64::neon requires Features::NONE;
}

/// The environment variable that forces a set, for tests and diagnosis.
const OVERRIDE: &str = "FILBERT_ISA";

/// A set of kernels as the choice among them sees it.
struct Set {
    /// As `target_arch` has it; `None` for any.
    architecture: Option<&'static str>,
    name: &'static str,
    requires: Features,
}

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
    /// 64-bit Arm: the dot products of signed bytes (`sdot`).
    pub(crate) const DOTPROD: Self = Self(1 << 4);
    /// 64-bit Arm: products of matrices of bytes, and dot products of mixed sign (`usmmla`,
    /// `sudot`).
    pub(crate) const I8MM: Self = Self(1 << 5);

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
        #[cfg(target_arch = "aarch64")]
        return aarch64::detect();
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Self::NONE
    }
}

/// What is known of a panel of weights: whether its column sums are those of its weights and no
/// weight is -128. So are all panels that a converter writes, but opening a file does not read
/// the weights. A kernel that can only multiply signed bytes needs to know, and finds out when it
/// first meets the panel. Nothing but time depends on it.
#[derive(Debug, Default)]
#[cfg_attr(
    not(any(target_arch = "aarch64", test)),
    expect(dead_code, reason = "no kernel of this target needs it")
)]
pub(crate) struct PanelCheck(AtomicU8);

impl PanelCheck {
    #[cfg(any(target_arch = "aarch64", test))]
    fn is_sound(&self, weights: &[i8], columns: &Columns, check: CheckPanel) -> bool {
        use std::sync::atomic::Ordering;

        const UNKNOWN: u8 = 0;
        const SOUND: u8 = 1;
        const UNSOUND: u8 = 2;
        // Relaxed: whoever does not see the answer yet finds the same one.
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => {
                let sound = check(weights, columns);
                let known = if sound { SOUND } else { UNSOUND };
                self.0.store(known, Ordering::Relaxed);
                sound
            }
            known => known == SOUND,
        }
    }
}

/// Whether a panel's column sums are those of its weights, and no weight is -128.
#[cfg(any(target_arch = "aarch64", test))]
type CheckPanel = fn(&[i8], &Columns) -> bool;

/// A product of quantized rows and packed weights:
/// `y = (Σ q w - zero_point Σ w) * (row scale * column scale) + bias`.
///
/// The sum is exact in `i32`; then one rounding to `f32`, one of the scales' product, and one
/// `mul_add`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// `[rows, >= blocks * 4]`, as this set's row kernels store them; inputs beyond the weights'
    /// rows meet weights of zero.
    pub(crate) rows: Matrix<'a, u8>,
    /// `[rows]`.
    pub(crate) scales: &'a [RowScale],
    /// `[panels, blocks, 16, 4]`.
    pub(crate) weights: &'a [i8],
    /// `[panels]`.
    pub(crate) columns: &'a [Columns],
    /// `[panels]`; none where the weights were packed by this library, which are sound.
    pub(crate) checks: Option<&'a [PanelCheck]>,
    /// Blocks of 4 inputs.
    pub(crate) blocks: usize,
    /// Weights that will be read next, to be fetched meanwhile; may be none.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only these kernels fetch ahead")
    )]
    pub(crate) upcoming: &'a [i8],
}

impl Product<'_> {
    /// The weights of a panel.
    fn panel_weights(&self, panel: usize) -> &[i8] {
        let bytes = self.blocks * BLOCK * PANEL;
        &self.weights[panel * bytes..][..bytes]
    }

    /// What [`PanelCheck`] says of a panel; `check` finds out.
    #[cfg(target_arch = "aarch64")]
    fn is_sound(&self, panel: usize, check: CheckPanel) -> bool {
        let (weights, columns) = (self.panel_weights(panel), &self.columns[panel]);
        self.checks
            .is_none_or(|checks| checks[panel].is_sound(weights, columns, check))
    }
}

/// The kernels for one kind of CPU.
///
/// The functions are unsafe to call on a CPU without the features that they require. They are
/// reached only through the methods, and a `&'static Kernels` only through [`select`] and
/// [`available`], which check the features.
pub(crate) struct Kernels {
    /// As `FILBERT_ISA` and messages have it.
    pub(crate) name: &'static str,
    /// What the bytes of activations are stored xor'ed with: 0x80 makes the unsigned bytes of the
    /// contract signed ones, less 128.
    byte_xor: u8,
    multiply: unsafe fn(Product<'_>, PanelsMut<'_>),
    run_rows: unsafe fn(RowOperation<'_>),
    run_peak: unsafe fn(u64) -> u64,
}

/// Kernels that compute nothing: a run with them only takes the memory that it needs.
pub(crate) static DRY: Kernels = Kernels {
    name: "dry",
    byte_xor: 0,
    multiply: |_, _| {},
    run_rows: |_| {},
    run_peak: |_| 0,
};

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
        assert!(product.checks.is_none_or(|c| c.len() == out.panels()));
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

/// The sets that a CPU of this architecture with `features` can run, best first.
fn sets_of(architecture: &str, features: Features) -> impl Iterator<Item = &'static Set> {
    SETS.iter().filter(move |set| {
        set.architecture.is_none_or(|needed| needed == architecture)
            && features.contains(set.requires)
    })
}

/// The name of the set to use on such a CPU, or that which `forced` names.
fn select_from(
    architecture: &str,
    features: Features,
    forced: Option<&str>,
) -> Result<&'static str, Error> {
    let mut names = sets_of(architecture, features).map(|set| set.name);
    let Some(forced) = forced else {
        return Ok(names.next().expect("the scalar set requires nothing"));
    };
    names.find(|name| *name == forced).ok_or_else(|| {
        let names: Vec<_> = sets_of(architecture, features)
            .map(|set| set.name)
            .collect();
        Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "{OVERRIDE}={forced}: this CPU has no such kernels; it has {}",
                names.join(", ")
            ),
        )
    })
}

fn find(name: &str) -> &'static Kernels {
    let kernels = ALL.iter().find(|kernels| kernels.name == name);
    kernels.expect("the sets of this target are those of its architecture")
}

/// The sets that this CPU can run, best first.
pub(crate) fn available() -> impl Iterator<Item = &'static Kernels> {
    sets_of(std::env::consts::ARCH, Features::detect()).map(|set| find(set.name))
}

/// The names of the kernel sets that this CPU can run, best first: a classifier uses the first,
/// unless the environment variable `FILBERT_ISA` names another.
pub fn kernel_sets() -> impl Iterator<Item = &'static str> {
    available().map(|kernels| kernels.name)
}

/// The tiles of AVX-VNNI in the encoding of AVX-512 VL, to test them where the CPU has only that.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn avxvnni_by_avx512vl() -> Option<&'static Kernels> {
    let has = available().any(|kernels| kernels.name == "avx512vnni");
    has.then_some(&x86_64::avxvnni::by_avx512vl::KERNELS)
}

/// The set for this CPU, or the one that the environment forces.
pub(crate) fn select() -> Result<&'static Kernels, Error> {
    let forced = std::env::var(OVERRIDE).ok().filter(|name| !name.is_empty());
    select_from(
        std::env::consts::ARCH,
        Features::detect(),
        forced.as_deref(),
    )
    .map(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_set_that_the_cpu_has_is_selected() {
        let avx2 = Features::AVX2;
        let avx512 = avx2.with(Features::AVX512);
        let vnni = avx512.with(Features::AVX512_VNNI);
        let dotprod = Features::DOTPROD;
        for (architecture, features, expected) in [
            ("x86_64", Features::NONE, "scalar"),
            ("x86_64", avx2, "avx2"),
            ("x86_64", avx512, "avx2"),
            ("x86_64", avx2.with(Features::AVX_VNNI), "avxvnni"),
            ("x86_64", vnni, "avx512vnni"),
            ("x86_64", vnni.with(Features::AVX_VNNI), "avx512vnni"),
            // Dot products without the rest do not suffice.
            (
                "x86_64",
                Features::AVX_VNNI.with(Features::AVX512_VNNI),
                "scalar",
            ),
            ("aarch64", Features::NONE, "neon"),
            ("aarch64", dotprod, "dotprod"),
            ("aarch64", dotprod.with(Features::I8MM), "i8mm"),
            ("aarch64", Features::I8MM, "neon"),
            ("arm", Features::NONE, "scalar"),
            ("riscv64", Features::NONE, "scalar"),
        ] {
            let selected = select_from(architecture, features, None).unwrap();
            assert_eq!(selected, expected, "{architecture} {features:?}");
        }
    }

    #[test]
    fn a_forced_set_is_used_or_refused_with_the_list() {
        let (arm, everything) = ("aarch64", Features::DOTPROD.with(Features::I8MM));
        for name in ["scalar", "neon", "dotprod", "i8mm"] {
            assert_eq!(select_from(arm, everything, Some(name)).unwrap(), name);
        }
        for (architecture, features, forced, list) in [
            ("x86_64", Features::NONE, "avx2", "scalar"),
            (
                "aarch64",
                Features::DOTPROD,
                "i8mm",
                "dotprod, neon, scalar",
            ),
            ("aarch64", everything, "avx2", "i8mm, dotprod, neon, scalar"),
            ("x86_64", Features::AVX2, "neon", "avx2, scalar"),
        ] {
            let error = select_from(architecture, features, Some(forced))
                .err()
                .unwrap();
            assert_eq!(error.code(), ErrorCode::InvalidArgument);
            assert_eq!(
                error.to_string(),
                format!("FILBERT_ISA={forced}: this CPU has no such kernels; it has {list}")
            );
        }
    }

    #[test]
    fn the_sets_of_this_target_are_those_of_its_architecture() {
        let everything = Features(u32::MAX);
        let expected: Vec<_> = sets_of(std::env::consts::ARCH, everything)
            .map(|set| set.name)
            .collect();
        let actual: Vec<_> = ALL.iter().map(|kernels| kernels.name).collect();
        assert_eq!(expected, actual);
        assert_eq!(actual.last(), Some(&"scalar"));
    }

    #[test]
    fn names_are_unique() {
        let names: Vec<_> = SETS.iter().map(|set| set.name).collect();
        for (i, name) in names.iter().enumerate() {
            assert!(!names[..i].contains(name));
        }
    }
}
