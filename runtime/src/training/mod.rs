//! Multinomial logistic regression on the features of a frozen encoder: a head learned on the
//! device, in seconds, as scikit-learn's `LogisticRegression` learns it.
//!
//! [`fit`] makes `C · sum(loss) + |W|² / 2` small by L-BFGS; `C` is given, or found by
//! cross-validation. All arithmetic is `f64` in an order that depends on the problem's size only,
//! with exponentials of our own: the same texts give the same weights, to the bit, on every CPU
//! and with any number of threads.

mod cross_validation;
mod elementary;
mod fit;
mod head;
mod lbfgs;
mod objective;
mod preconditioner;
mod samples;
#[cfg(test)]
mod tests;

use crate::cancellation::{Cancellation, Stop};
use crate::error::Error;
use crate::workers::Workers;
use fit::{Fitter, Precision};
pub use head::HeadTrainer;
use samples::{Samples, invalid};

/// The strengths that are compared where none is given: `C` as scikit-learn has it, so the first
/// is the strongest penalty.
const STRENGTHS: [f64; 8] = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 100.0];

/// How a head is trained.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    strengths: Vec<f64>,
    folds: usize,
    standardize: bool,
    balanced: bool,
    threads: usize,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        Self {
            strengths: STRENGTHS.to_vec(),
            folds: 5,
            standardize: false,
            balanced: false,
            threads: 1,
        }
    }
}

impl TrainingOptions {
    /// Strengths from 0.001 to 100, compared by 5 folds; all texts count the same; one thread.
    pub fn new() -> Self {
        Self::default()
    }

    /// The strength, scikit-learn's `C`: the smaller, the more weights are penalised. There is
    /// then no cross-validation.
    #[must_use]
    pub fn strength(self, strength: f64) -> Self {
        self.strengths([strength])
    }

    /// Strengths to compare by cross-validation, from the strongest penalty on, until three in a
    /// row are no better than the best. With one there is nothing to compare.
    #[must_use]
    pub fn strengths(mut self, strengths: impl IntoIterator<Item = f64>) -> Self {
        self.strengths = strengths.into_iter().collect();
        self
    }

    /// Parts of the texts, each of which is held out once to compare strengths.
    #[must_use]
    pub fn folds(mut self, folds: usize) -> Self {
        self.folds = folds;
        self
    }

    /// Whether features are scaled to the same variance before they are penalised.
    #[must_use]
    pub fn standardize(mut self, standardize: bool) -> Self {
        self.standardize = standardize;
        self
    }

    /// Whether classes count the same, however many texts they have: scikit-learn's
    /// `class_weight="balanced"`.
    #[must_use]
    pub fn balanced(mut self, balanced: bool) -> Self {
        self.balanced = balanced;
        self
    }

    /// Threads that work, the caller's included. The results do not depend on it.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// # Errors
    /// [`crate::ErrorCode::InvalidArgument`].
    fn check(&self) -> Result<(), Error> {
        if self.strengths.is_empty() {
            return Err(invalid("strengths: expected at least 1, found none".into()));
        }
        let is_unusable = |strength: &&f64| !(1e-30..=1e30).contains(*strength);
        match self.strengths.iter().find(is_unusable) {
            Some(strength) => Err(invalid(format!(
                "strength: expected a number from 1e-30 to 1e30, found {strength}"
            ))),
            None => Ok(()),
        }
    }
}

/// What training is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrainingStep {
    /// Of so many texts, the features of so many are there.
    Features {
        /// Texts that are done.
        done: usize,
        /// All texts.
        total: usize,
    },
    /// Of so many fits of the cross-validation, so many are done.
    Validation {
        /// Fits that are done.
        done: usize,
        /// All fits.
        total: usize,
    },
    /// The fit that is kept.
    Fit,
}

/// Who hears of training's progress, and who may end it.
#[derive(Default)]
pub struct Monitor<'a> {
    /// Ends training within one pass over the texts.
    pub cancellation: Option<&'a Cancellation>,
    /// Called at each step, on the calling thread.
    pub progress: Option<&'a mut dyn FnMut(TrainingStep)>,
}

impl<'a> Monitor<'a> {
    fn report(&mut self, step: TrainingStep) {
        if let Some(progress) = &mut self.progress {
            progress(step);
        }
    }

    fn stop(&self) -> Stop<'a> {
        Stop {
            closed: None,
            cancelled: self.cancellation,
        }
    }
}

/// A strength, and how well it did on texts that were held out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// scikit-learn's `C`.
    pub strength: f64,
    /// Of all texts, each told by the weights that were learned without it.
    pub accuracy: f64,
}

/// What [`fit`] has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// `[classes, width]`; of two classes, one row is the other's negative.
    pub weights: Vec<f64>,
    /// `[classes]`.
    pub bias: Vec<f64>,
    /// The `C` of these weights.
    pub strength: f64,
    /// The strengths that were compared; empty, if one was given.
    pub validations: Vec<Validation>,
    /// Texts whose class the weights tell, of those that they were learned from.
    pub correct: usize,
    /// Steps of the search.
    pub iterations: usize,
    /// Whether the search ended at the minimum, and not at the bound on its steps.
    pub converged: bool,
}

/// Learns to tell the classes of texts from their features.
///
/// `features` is `[texts, width]`, `targets` is `[texts]` with numbers below `classes`.
///
/// # Errors
/// [`crate::ErrorCode::InvalidArgument`] for features that are not finite, fewer than two
/// classes, a class without a text, or options that cannot be; [`crate::ErrorCode::Cancelled`].
pub fn fit(
    features: &[f32],
    width: usize,
    targets: &[u32],
    classes: usize,
    options: &TrainingOptions,
    monitor: &mut Monitor<'_>,
) -> Result<Fit, Error> {
    options.check()?;
    let samples = Samples::new(features, width, targets, classes)?;
    let workers = Workers::with_threads(options.threads)?;
    monitor.stop().check()?;
    let fitter = Fitter::new(&samples, options, workers);
    let mut strengths = options.strengths.clone();
    strengths.sort_unstable_by(f64::total_cmp);
    strengths.dedup();
    let (strength, validations) = match strengths[..] {
        [strength] => (strength, Vec::new()),
        _ => {
            let found = cross_validation::validate(&fitter, &strengths, options.folds, monitor)?;
            (found[cross_validation::best(&found)].strength, found)
        }
    };
    monitor.report(TrainingStep::Fit);
    let rows = samples.all_rows();
    let objective = fitter.objective(&rows, strength);
    let mut path = fitter.start_path();
    let preconditioner = fitter.precondition(&objective, &path);
    let stop = monitor.stop();
    let outcome = fitter.advance(
        &mut path,
        &objective,
        &preconditioner,
        Precision::Full,
        stop,
    )?;
    let (weights, bias) = fitter.raw_weights(&path);
    Ok(Fit {
        weights,
        bias,
        strength,
        validations,
        correct: objective.count_correct(&rows, &path.parameters),
        iterations: outcome.iterations,
        converged: outcome.converged,
    })
}
