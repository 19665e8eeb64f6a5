//! L-BFGS: the smallest value of a smooth convex function (J. Nocedal, "Updating quasi-Newton
//! matrices with limited storage", 1980).

use std::collections::VecDeque;

use super::preconditioner::dot;
use crate::error::Error;

/// Steps whose change of gradient is remembered.
const MEMORY: usize = 10;

/// Trials of a step's length.
const MOST_TRIALS: usize = 40;

/// The weak Wolfe conditions: what part of the expected fall must come, and what part of the
/// slope may stay.
const LEAST_FALL: f64 = 1e-4;
const MOST_SLOPE: f64 = 0.9;

/// A function to be made small.
pub(super) trait Function {
    /// The value at `point`; writes the gradient.
    ///
    /// # Errors
    /// If the search was cancelled.
    fn evaluate(&mut self, point: &[f64], gradient: &mut [f64]) -> Result<f64, Error>;

    /// Multiplies by about the inverse of the second derivatives.
    fn precondition(&self, values: &mut [f64]);
}

/// When a search ends.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// What the function may still fall, as the second derivatives predict it.
    pub(super) tolerance: f64,
    pub(super) iterations: usize,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) iterations: usize,
    /// Within the tolerance, or as far as `f64` goes.
    pub(super) converged: bool,
}

/// A step and what it did to the gradient.
struct Change {
    step: Vec<f64>,
    gradient: Vec<f64>,
    /// Their product, above 0.
    product: f64,
}

/// Moves `point` to where the function is smallest.
///
/// # Errors
/// Those of the function.
pub(super) fn minimize(
    function: &mut impl Function,
    point: &mut [f64],
    limits: Limits,
) -> Result<Outcome, Error> {
    let mut search = Search {
        gradient: vec![0.0; point.len()],
        value: 0.0,
        scale: 1.0,
        changes: VecDeque::new(),
    };
    search.value = function.evaluate(point, &mut search.gradient)?;
    for iterations in 0..limits.iterations {
        let mut newton = search.gradient.clone();
        function.precondition(&mut newton);
        let converged = 0.5 * dot(&newton, &search.gradient) <= limits.tolerance;
        if converged || !search.step(function, point)? {
            return Ok(Outcome {
                iterations,
                converged: true,
            });
        }
    }
    Ok(Outcome {
        iterations: limits.iterations,
        converged: false,
    })
}

struct Search {
    gradient: Vec<f64>,
    value: f64,
    /// What the preconditioner is off by, in the direction of the last step.
    scale: f64,
    /// The oldest first.
    changes: VecDeque<Change>,
}

impl Search {
    /// Moves the point one step; false, if no step makes the value smaller.
    fn step(&mut self, function: &mut impl Function, point: &mut [f64]) -> Result<bool, Error> {
        let direction = self.direction(function);
        let slope = dot(&direction, &self.gradient);
        let (mut shortest, mut longest) = (0.0, f64::INFINITY);
        let mut length = 1.0;
        let mut next = point.to_vec();
        let mut gradient = vec![0.0; point.len()];
        for _ in 0..MOST_TRIALS {
            for ((next, at), along) in next.iter_mut().zip(&*point).zip(&direction) {
                *next = at + length * along;
            }
            let value = function.evaluate(&next, &mut gradient)?;
            let has_fallen = value <= self.value + LEAST_FALL * length * slope;
            if !has_fallen {
                longest = length;
            } else if dot(&direction, &gradient) < MOST_SLOPE * slope {
                shortest = length;
            } else {
                self.remember(function, point, &next, &gradient);
                point.copy_from_slice(&next);
                self.gradient.copy_from_slice(&gradient);
                self.value = value;
                return Ok(true);
            }
            length = match longest.is_finite() {
                true => 0.5 * (shortest + longest),
                false => 2.0 * length,
            };
        }
        Ok(false)
    }

    /// The two-loop recursion.
    fn direction(&self, function: &impl Function) -> Vec<f64> {
        let mut direction: Vec<f64> = self.gradient.iter().map(|slope| -slope).collect();
        let mut shares = Vec::with_capacity(self.changes.len());
        for change in self.changes.iter().rev() {
            let share = dot(&change.step, &direction) / change.product;
            add_multiple(&mut direction, -share, &change.gradient);
            shares.push(share);
        }
        function.precondition(&mut direction);
        direction.iter_mut().for_each(|value| *value *= self.scale);
        for (change, share) in self.changes.iter().zip(shares.into_iter().rev()) {
            let other = dot(&change.gradient, &direction) / change.product;
            add_multiple(&mut direction, share - other, &change.step);
        }
        direction
    }

    fn remember(
        &mut self,
        function: &impl Function,
        point: &[f64],
        next: &[f64],
        gradient: &[f64],
    ) {
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        let step: Vec<f64> = difference(next, point);
        let gradient: Vec<f64> = difference(gradient, &self.gradient);
        let product = dot(&step, &gradient);
        // By the Wolfe conditions it is, but for rounding.
        if product <= 0.0 {
            return;
        }
        let mut expected = gradient.clone();
        function.precondition(&mut expected);
        self.scale = product / dot(&expected, &gradient);
        if self.changes.len() == MEMORY {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            step,
            gradient,
            product,
        });
    }
}

fn add_multiple(sums: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}
