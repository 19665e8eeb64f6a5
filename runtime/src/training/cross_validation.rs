//! Which strength of the penalty tells the classes of held-out texts best.

use super::fit::{Fitter, Path, Precision};
use super::samples::{Samples, invalid};
use super::{Monitor, TrainingStep, Validation};
use crate::error::Error;

/// Strengths without a better accuracy after which weaker penalties are not tried: they take the
/// longest.
const PATIENCE: usize = 3;

/// The rows that one model learns from, and those that it is tested on.
struct Fold {
    training: Vec<u32>,
    held_out: Vec<u32>,
}

/// Tests each strength by stratified folds, from the strongest penalty to the weakest: each
/// search begins where the one before ended.
///
/// # Errors
/// [`crate::ErrorCode::InvalidArgument`] for a number of folds that the classes do not allow;
/// [`crate::ErrorCode::Cancelled`].
pub(super) fn validate(
    fitter: &Fitter<'_>,
    strengths: &[f64],
    folds: usize,
    monitor: &mut Monitor<'_>,
) -> Result<Vec<Validation>, Error> {
    let folds = divide(fitter.samples, folds)?;
    let mut paths: Vec<Path> = folds.iter().map(|_| fitter.start_path()).collect();
    let total = strengths.len() * folds.len();
    let mut validations = Vec::with_capacity(strengths.len());
    for (number, &strength) in strengths.iter().enumerate() {
        let first = fitter.objective(&folds[0].training, strength);
        let preconditioner = fitter.precondition(&first, &paths[0]);
        let mut correct = 0;
        for (index, (fold, path)) in folds.iter().zip(&mut paths).enumerate() {
            let done = number * folds.len() + index;
            monitor.report(TrainingStep::Validation { done, total });
            let objective = fitter.objective(&fold.training, strength);
            let (precision, stop) = (Precision::Rough, monitor.stop());
            fitter.advance(path, &objective, &preconditioner, precision, stop)?;
            correct += objective.count_correct(&fold.held_out, &path.parameters);
        }
        validations.push(Validation {
            strength,
            accuracy: correct as f64 / fitter.samples.targets.len() as f64,
        });
        if validations.len() - 1 - best(&validations) == PATIENCE {
            break;
        }
    }
    monitor.report(TrainingStep::Validation { done: total, total });
    Ok(validations)
}

/// The place of the best accuracy, and of equals that of the strongest penalty.
pub(super) fn best(validations: &[Validation]) -> usize {
    let mut best = 0;
    for (index, validation) in validations.iter().enumerate() {
        if validation.accuracy > validations[best].accuracy {
            best = index;
        }
    }
    best
}

/// Divides the rows into folds in which each class has its share, as scikit-learn's
/// `StratifiedKFold` does without shuffling: the rows of a class, in order, go to the first
/// fold, then to the next.
fn divide(samples: &Samples<'_>, folds: usize) -> Result<Vec<Fold>, Error> {
    let rows = samples.all_rows();
    let counts = samples.count_classes(&rows);
    let most = counts.iter().copied().max().unwrap_or(0);
    if !(2..=most).contains(&folds) {
        return Err(invalid(format!(
            "folds: expected 2 to {most}, the texts of the largest class, found {folds}"
        )));
    }
    let order = order_of_appearance(samples);
    // Sorted by class, every `folds`th row belongs to a fold: so many of each class.
    let mut shares = vec![vec![0; samples.classes]; folds];
    let sorted = order.iter().flat_map(|&class| vec![class; counts[class]]);
    for (place, class) in sorted.enumerate() {
        shares[place % folds][class] += 1;
    }
    let mut current = vec![0; samples.classes];
    let mut fold_of = Vec::with_capacity(rows.len());
    for &target in samples.targets {
        let class = target as usize;
        while shares[current[class]][class] == 0 {
            current[class] += 1;
        }
        shares[current[class]][class] -= 1;
        fold_of.push(current[class]);
    }
    let fold = |number: usize| {
        let (held_out, training) = rows
            .iter()
            .partition(|&&row| fold_of[row as usize] == number);
        Fold { training, held_out }
    };
    Ok((0..folds).map(fold).collect())
}

/// The classes in the order of their first rows.
fn order_of_appearance(samples: &Samples<'_>) -> Vec<usize> {
    let mut order = Vec::with_capacity(samples.classes);
    let mut seen = vec![false; samples.classes];
    for &target in samples.targets {
        if !std::mem::replace(&mut seen[target as usize], true) {
            order.push(target as usize);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fold of each row, by scikit-learn 1.9's
    /// `StratifiedKFold(3).split(np.zeros((len(y), 1)), y)`.
    #[test]
    fn folds_are_those_of_scikit_learn() {
        let targets = [2, 0, 0, 1, 2, 2, 0, 1, 0, 0, 2, 1, 0, 2, 2, 0];
        let features = vec![0.0; targets.len()];
        let samples = Samples::new(&features, 1, &targets, 3).unwrap();
        let folds = divide(&samples, 3).unwrap();
        let expected: [&[u32]; 3] = [
            &[0, 1, 2, 3, 4, 6],
            &[5, 7, 8, 9, 10],
            &[11, 12, 13, 14, 15],
        ];
        for (fold, expected) in folds.iter().zip(expected) {
            assert_eq!(fold.held_out, expected);
            let both = fold.held_out.len() + fold.training.len();
            assert_eq!(both, targets.len());
            assert!(fold.training.iter().all(|row| !expected.contains(row)));
        }
    }

    #[test]
    fn folds_need_texts() {
        let targets = [0, 1, 1];
        let samples = Samples::new(&[0.0; 3], 1, &targets, 2).unwrap();
        assert!(divide(&samples, 2).is_ok());
        for folds in [0, 1, 3] {
            let error = divide(&samples, folds).err().unwrap();
            assert!(
                error.to_string().starts_with("folds: expected 2 to 2"),
                "{error}"
            );
        }
    }

    #[test]
    fn of_equals_the_strongest_penalty_is_best() {
        let validation = |strength, accuracy| Validation { strength, accuracy };
        let all = [
            validation(0.1, 0.5),
            validation(1.0, 0.75),
            validation(10.0, 0.75),
        ];
        assert_eq!(best(&all), 1);
    }
}
