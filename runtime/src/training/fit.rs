//! One search, or a path of searches from a strong penalty to weaker ones.

use super::TrainingOptions;
use super::lbfgs::{self, Function, Limits, Outcome};
use super::objective::{Objective, PassBuffers};
use super::preconditioner::{Covariance, Preconditioner};
use super::samples::{Moments, Samples};
use crate::cancellation::Stop;
use crate::error::Error;
use crate::workers::Workers;

/// What the mean loss of a text may still fall by when a search ends.
const TOLERANCE: f64 = 1e-15;

/// The same, where only the accuracy counts.
const ROUGH_TOLERANCE: f64 = 1e-7;

/// Steps of a search at most.
const MOST_STEPS: usize = 1000;

/// Second derivatives below this are not expected: a few saturated texts do not say that the
/// step is to be large.
const LEAST_CURVATURE: f64 = 1e-3;

/// What all searches on the same texts share.
pub(super) struct Fitter<'a> {
    pub(super) samples: &'a Samples<'a>,
    moments: Moments,
    covariance: Covariance,
    workers: Workers,
    balanced: bool,
}

/// Where a path of searches, from a strong penalty to weaker ones, has come to.
pub(super) struct Path {
    /// Of centred and scaled features: see [`Objective`].
    pub(super) parameters: Vec<f64>,
    /// The size of the second derivatives there.
    curvature: f64,
}

/// How exact a search is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// The result is kept.
    Full,
    /// Only its accuracy counts.
    Rough,
}

impl Precision {
    fn limits(self) -> Limits {
        Limits {
            tolerance: match self {
                Self::Full => TOLERANCE,
                Self::Rough => ROUGH_TOLERANCE,
            },
            iterations: MOST_STEPS,
        }
    }
}

impl<'a> Fitter<'a> {
    pub(super) fn new(
        samples: &'a Samples<'a>,
        options: &TrainingOptions,
        workers: Workers,
    ) -> Self {
        let moments = Moments::new(samples, options.standardize);
        Self {
            covariance: Covariance::new(samples, &moments, &workers),
            samples,
            moments,
            workers,
            balanced: options.balanced,
        }
    }

    /// The beginning of a path: all classes are as likely.
    pub(super) fn start_path(&self) -> Path {
        let likely = 1.0 / self.samples.classes as f64;
        Path {
            parameters: vec![0.0; self.samples.outputs() * (self.samples.width + 1)],
            curvature: likely * (1.0 - likely),
        }
    }

    /// The problem of some rows with a penalty.
    pub(super) fn objective<'s>(&'s self, rows: &'s [u32], strength: f64) -> Objective<'s> {
        Objective::new(self.samples, &self.moments, rows, self.balanced, strength)
    }

    /// For searches on this problem, or on similar ones, from the end of this path.
    pub(super) fn precondition(&self, objective: &Objective<'_>, path: &Path) -> Preconditioner {
        let curvature = path.curvature.max(LEAST_CURVATURE);
        Preconditioner::new(&self.covariance, curvature, objective.penalty)
    }

    /// Moves the path's end to where the objective is smallest.
    ///
    /// # Errors
    /// [`crate::ErrorCode::Cancelled`].
    pub(super) fn advance(
        &self,
        path: &mut Path,
        objective: &Objective<'_>,
        preconditioner: &Preconditioner,
        precision: Precision,
        stop: Stop<'_>,
    ) -> Result<Outcome, Error> {
        let mut search = Search {
            objective,
            preconditioner,
            workers: &self.workers,
            buffers: PassBuffers::default(),
            curvature: path.curvature,
            stop,
        };
        let limits = precision.limits();
        let outcome = lbfgs::minimize(&mut search, &mut path.parameters, limits)?;
        path.curvature = search.curvature;
        Ok(outcome)
    }

    /// Weights and intercepts of features as they are, a row for each class:
    /// `[classes, width]` and `[classes]`.
    pub(super) fn raw_weights(&self, path: &Path) -> (Vec<f64>, Vec<f64>) {
        let rows = path.parameters.chunks_exact(self.samples.width + 1);
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for row in rows {
            let (row, intercept) = self.moments.raw(row);
            if self.samples.outputs() == 1 {
                // The score is the difference of two logits.
                weights.extend(row.iter().map(|weight| -0.5 * weight));
                weights.extend(row.iter().map(|weight| 0.5 * weight));
                bias.extend([-0.5 * intercept, 0.5 * intercept]);
            } else {
                weights.extend(row);
                bias.push(intercept);
            }
        }
        (weights, bias)
    }
}

/// A search for the smallest objective.
struct Search<'a> {
    objective: &'a Objective<'a>,
    preconditioner: &'a Preconditioner,
    workers: &'a Workers,
    buffers: PassBuffers,
    /// At the last point.
    curvature: f64,
    stop: Stop<'a>,
}

impl Function for Search<'_> {
    fn evaluate(&mut self, point: &[f64], gradient: &mut [f64]) -> Result<f64, Error> {
        self.stop.check()?;
        let objective = self.objective;
        let value = objective.evaluate(self.workers, &mut self.buffers, point, gradient);
        self.curvature = value.curvature;
        Ok(value.objective)
    }

    fn precondition(&self, values: &mut [f64]) {
        self.preconditioner.apply(values);
    }
}
