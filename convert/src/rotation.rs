//! The rotation of a product's input, which makes it fit for 8 bits (QuaRot, arXiv 2404.00456):
//! see [`filbert::format::rotated_vectors`].
//!
//! A row of activations has one scale, and a few of its values stand out. Sums and differences of
//! a few values stand out less, so that the steps of the row are finer. The weights that read it
//! are rotated back: the product is the same.

use std::ops::{Add, Sub};

use filbert::format::rotated_vectors;

/// What is done to rows of a width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rotation {
    /// Values that are rotated together; 1 for none.
    together: usize,
    /// Columns from one of them to the next.
    distance: usize,
}

impl Rotation {
    /// Of rows of so many columns.
    pub(crate) fn of(columns: usize) -> Self {
        let together = rotated_vectors(columns);
        Self {
            together,
            distance: columns / together,
        }
    }

    /// None, of rows of so many columns.
    pub(crate) fn none(columns: usize) -> Self {
        Self {
            together: 1,
            distance: columns,
        }
    }

    /// Values that are rotated together; 1 for none.
    pub(crate) fn together(self) -> usize {
        self.together
    }

    /// Of the rows.
    pub(crate) fn columns(self) -> usize {
        self.together * self.distance
    }

    /// Rotates a row as the runtime does.
    pub(crate) fn apply<T: Copy + Add<Output = T> + Sub<Output = T>>(self, row: &mut [T]) {
        let mut distance = self.distance;
        while distance < row.len() {
            for block in row.chunks_exact_mut(2 * distance) {
                let (first, second) = block.split_at_mut(distance);
                for (a, b) in first.iter_mut().zip(second) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            distance *= 2;
        }
    }

    /// Rotates the weights of an output, so that they read a rotated row.
    pub(crate) fn apply_to_weights(self, weights: &mut [f32]) {
        if self.together > 1 {
            self.apply(weights);
            // Exact: a power of two.
            let part = 1.0 / self.together as f32;
            weights.iter_mut().for_each(|w| *w *= part);
        }
    }

    /// The columns that the value in this place is made of, and whether each is added or
    /// subtracted.
    pub(crate) fn sources(self, place: usize) -> impl Iterator<Item = (usize, f64)> {
        let (number, first) = (place / self.distance, place % self.distance);
        (0..self.together).map(move |other| {
            let ones = (number & other).count_ones();
            let sign = if ones.is_multiple_of(2) { 1.0 } else { -1.0 };
            (first + other * self.distance, sign)
        })
    }

    /// `[together, together]`: the signs of all.
    #[cfg(any(feature = "onnx", test))]
    pub(crate) fn signs(self) -> Vec<f32> {
        (0..self.together)
            .flat_map(|number| self.sources(number * self.distance))
            .map(|(_, sign)| sign as f32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_row_is_the_sum_of_its_sources() {
        for (columns, together) in [(64, 4), (384, 8), (768, 16), (40, 1)] {
            let rotation = Rotation::of(columns);
            assert_eq!(rotation.together(), together);
            let row: Vec<f64> = (0..columns).map(|k| (k * 37 % 101) as f64).collect();
            let mut rotated = row.clone();
            rotation.apply(&mut rotated);
            for (place, value) in rotated.iter().enumerate() {
                let sum: f64 = rotation.sources(place).map(|(k, sign)| sign * row[k]).sum();
                assert_eq!(*value, sum);
            }
            let mut again = rotated;
            rotation.apply(&mut again);
            again.iter_mut().for_each(|x| *x /= together as f64);
            assert_eq!(again, row);
        }
    }

    #[test]
    fn the_product_of_rotated_rows_and_weights_is_the_same() {
        let rotation = Rotation::of(96);
        let mut row: Vec<f32> = (0..96).map(|k| (k * 37 % 101) as f32 - 50.0).collect();
        let mut weights: Vec<f32> = (0..96).map(|k| (k * 29 % 64) as f32 - 32.0).collect();
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let before = product(&row, &weights);
        rotation.apply(&mut row);
        rotation.apply_to_weights(&mut weights);
        assert_eq!(product(&row, &weights), before);
        assert_eq!(rotation.signs(), [1.0, 1.0, 1.0, -1.0]);
    }
}
