//! Features and classes to train on, checked.

use crate::error::{Error, ErrorCode};

/// Rows of features, each with the number of its class.
pub(super) struct Samples<'a> {
    /// `[rows, width]`, finite.
    pub(super) features: &'a [f32],
    pub(super) width: usize,
    /// `[rows]`, below `classes`.
    pub(super) targets: &'a [u32],
    /// At least 2, each with a row.
    pub(super) classes: usize,
}

/// Mean and scale of each feature.
pub(super) struct Moments {
    /// `[width]`.
    pub(super) mean: Vec<f64>,
    /// `[width]`: the standard deviation, or 1 where features stay as they are.
    pub(super) scale: Vec<f64>,
}

impl<'a> Samples<'a> {
    /// # Errors
    /// [`ErrorCode::InvalidArgument`], if there is nothing to learn from.
    pub(super) fn new(
        features: &'a [f32],
        width: usize,
        targets: &'a [u32],
        classes: usize,
    ) -> Result<Self, Error> {
        if width == 0 || targets.len().checked_mul(width) != Some(features.len()) {
            return Err(invalid(format!(
                "features: expected {} rows of {width} values, at least 1, found {} values",
                targets.len(),
                features.len()
            )));
        }
        if u32::try_from(targets.len()).is_err() {
            return Err(invalid(format!(
                "texts: expected at most {}, found {}",
                u32::MAX,
                targets.len()
            )));
        }
        if let Some(row) = targets.iter().position(|&class| class as usize >= classes) {
            return Err(invalid(format!(
                "text {row}, class: expected less than {classes}, found {}",
                targets[row]
            )));
        }
        if let Some(place) = features.iter().position(|x| !x.is_finite()) {
            return Err(invalid(format!(
                "text {}, feature {}: expected a finite number, found {}",
                place / width,
                place % width,
                features[place]
            )));
        }
        let samples = Self {
            features,
            width,
            targets,
            classes,
        };
        if classes < 2 {
            return Err(invalid(format!(
                "classes: expected at least 2, found {classes}; add texts with another label"
            )));
        }
        if classes > targets.len() {
            return Err(invalid(format!(
                "classes: expected at most as many as texts, {}, found {classes}; each class needs a text",
                targets.len()
            )));
        }
        let counts = samples.count_classes(&samples.all_rows());
        if let Some(class) = counts.iter().position(|&count| count == 0) {
            return Err(invalid(format!(
                "class {class}: expected at least 1 text, found none; leave the class out, or add a text"
            )));
        }
        Ok(samples)
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.width..][..self.width]
    }

    /// Rows of weights: one for two classes, else one a class.
    pub(super) fn outputs(&self) -> usize {
        if self.classes == 2 { 1 } else { self.classes }
    }

    pub(super) fn all_rows(&self) -> Vec<u32> {
        (0..self.targets.len() as u32).collect()
    }

    /// How many of the rows each class has.
    pub(super) fn count_classes(&self, rows: &[u32]) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &row in rows {
            counts[self.targets[row as usize] as usize] += 1;
        }
        counts
    }
}

impl Moments {
    /// Of all rows. `standardize`: features are divided by their standard deviation, as
    /// scikit-learn's `StandardScaler` does.
    pub(super) fn new(samples: &Samples<'_>, standardize: bool) -> Self {
        let rows = samples.targets.len() as f64;
        let mut mean = vec![0.0; samples.width];
        for row in samples.features.chunks_exact(samples.width) {
            add(&mut mean, row.iter().map(|&x| f64::from(x)));
        }
        mean.iter_mut().for_each(|mean| *mean /= rows);
        let mut scale = vec![1.0; samples.width];
        if standardize {
            let mut variance = vec![0.0; samples.width];
            for row in samples.features.chunks_exact(samples.width) {
                let squares = row.iter().zip(&mean).map(|(&x, mean)| {
                    let distance = f64::from(x) - mean;
                    distance * distance
                });
                add(&mut variance, squares);
            }
            for ((scale, variance), mean) in scale.iter_mut().zip(variance).zip(&mean) {
                let variance = variance / rows;
                // What rounding leaves of a constant.
                let noise = rows * mean * f64::EPSILON;
                if variance > rows * f64::EPSILON * variance + noise * noise {
                    *scale = variance.sqrt();
                }
            }
        }
        Self { mean, scale }
    }

    /// The weights and the intercept of features as they are, from those of centred and scaled
    /// ones: `[width]`, then the intercept.
    pub(super) fn raw(&self, parameters: &[f64]) -> (Vec<f64>, f64) {
        let mut intercept = parameters[self.mean.len()];
        let scaled = parameters.iter().zip(&self.scale);
        let weights: Vec<f64> = scaled.map(|(weight, scale)| weight / scale).collect();
        for (weight, mean) in weights.iter().zip(&self.mean) {
            intercept -= weight * mean;
        }
        (weights, intercept)
    }
}

fn add(sums: &mut [f64], values: impl Iterator<Item = f64>) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// The caller's mistake.
pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}
