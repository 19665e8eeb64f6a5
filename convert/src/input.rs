//! Rows of a product's input, as they were while texts ran.

use crate::rotation::Rotation;

/// `[rows, columns]`, without padding.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct InputRows {
    columns: usize,
    values: Vec<f32>,
}

impl InputRows {
    pub(crate) fn new(columns: usize) -> Self {
        Self {
            columns,
            values: Vec::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn push(&mut self, row: &[f32]) {
        self.push_groups(std::iter::once(row));
    }

    /// Adds a row that comes in parts.
    pub(crate) fn push_groups<'a>(&mut self, groups: impl Iterator<Item = &'a [f32]>) {
        let before = self.values.len();
        groups.for_each(|group| self.values.extend_from_slice(group));
        assert_eq!(
            self.values.len() - before,
            self.columns,
            "a row has as many values as columns"
        );
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.columns)
    }

    /// At most so many of the rows, evenly spaced.
    pub(crate) fn thinned(&self, most: usize) -> Self {
        let stride = self.count().div_ceil(most).max(1);
        let mut thinned = Self::new(self.columns);
        for row in self.iter().step_by(stride) {
            thinned.push_groups(std::iter::once(row));
        }
        thinned
    }

    /// `[columns]`: the largest magnitudes.
    pub(crate) fn largest(&self) -> Vec<f32> {
        let mut largest = vec![0.0f32; self.columns];
        for row in self.iter() {
            for (most, x) in largest.iter_mut().zip(row) {
                *most = most.max(x.abs());
            }
        }
        largest
    }

    /// `[columns]`
    pub(crate) fn means(&self) -> Vec<f64> {
        self.mean_of(f64::from)
    }

    /// `[columns]`: the means of the squares.
    pub(crate) fn mean_squares(&self) -> Vec<f64> {
        self.mean_of(|x| f64::from(x) * f64::from(x))
    }

    fn mean_of(&self, value: impl Fn(f32) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns];
        for row in self.iter() {
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += value(x);
            }
        }
        let count = self.count().max(1) as f64;
        sums.iter().map(|sum| sum / count).collect()
    }

    /// Multiplies each column by its factor, and rotates the rows.
    pub(crate) fn balance(&mut self, factors: &[f32], rotation: Rotation) {
        for row in self.values.chunks_exact_mut(self.columns) {
            for (x, factor) in row.iter_mut().zip(factors) {
                *x *= factor;
            }
            rotation.apply(row);
        }
    }

    /// `[columns, columns]`, of which the lower triangle counts: the sum over all rows of the
    /// products of their columns.
    pub(crate) fn gram(&self) -> Vec<f32> {
        /// Rows that are summed in registers.
        const ROWS: usize = 4;
        let columns = self.columns;
        let mut gram = vec![0.0f32; columns * columns];
        // So many rows stay in the cache while every column meets them.
        for block in self.values.chunks(64 * columns) {
            for (column, sums) in gram.chunks_exact_mut(columns).enumerate() {
                let sums = &mut sums[..=column];
                let mut rows = block.chunks_exact(ROWS * columns);
                for rows in &mut rows {
                    let [a, b, c, d] = std::array::from_fn(|i| &rows[i * columns..][..=column]);
                    let [x, y, z, w] = [a[column], b[column], c[column], d[column]];
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum += (x * a[i] + y * b[i]) + (z * c[i] + w * d[i]);
                    }
                }
                for row in rows.remainder().chunks_exact(columns) {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum += row[column] * x;
                    }
                }
            }
        }
        gram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gram_matrix_is_the_sum_of_products() {
        let mut rows = InputRows::new(5);
        for i in 0..71 {
            let row: Vec<f32> = (0..5)
                .map(|k| ((i * 5 + k) * 31 % 17) as f32 - 8.0)
                .collect();
            rows.push(&row);
        }
        let gram = rows.gram();
        for i in 0..5 {
            for j in 0..=i {
                let sum: f32 = rows.iter().map(|row| row[i] * row[j]).sum();
                assert_eq!(gram[i * 5 + j], sum);
            }
        }
        assert_eq!(
            rows.means()[2],
            rows.iter().map(|row| f64::from(row[2])).sum::<f64>() / 71.0
        );
    }
}
