//! Percentiles, and how sure a median is.
//!
//! Times are not normally distributed: they have a floor and a long tail. So nothing here
//! assumes a distribution. The interval of a median is that of order statistics (Conover,
//! Practical Nonparametric Statistics, 3.2; Le Boudec, Performance Evaluation of Computer and
//! Communication Systems, theorem 2.1).

/// How unlikely it is that the median lies outside of its interval, at most.
const DOUBT: f64 = 0.05;

/// The smallest of the sorted values that at least `permille` thousandths of them do not pass
/// (nearest rank): always a value that was measured. NaN if there is none.
pub(crate) fn percentile(sorted: &[f64], permille: usize) -> f64 {
    let rank = (permille * sorted.len()).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The values in their order.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The median of values in any order, by nearest rank.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(&sorted(values), 500)
}

/// Between which of the sorted values the median of what they are drawn from lies, with 95 %
/// confidence; the least and the largest if there are too few to say so.
pub(crate) fn median_interval(sorted: &[f64]) -> (f64, f64) {
    let count = sorted.len();
    if count == 0 {
        return (f64::NAN, f64::NAN);
    }
    // How many of the values are below the median is binomial, with probability one half. The
    // interval from the r-th value from below to the r-th from above misses the median if fewer
    // than r are on one side.
    let mut rank = 1;
    let mut log_term = -(count as f64) * std::f64::consts::LN_2;
    let mut missed = log_term.exp();
    while rank < count.div_ceil(2) {
        log_term += ((count - rank + 1) as f64 / rank as f64).ln();
        missed += log_term.exp();
        if 2.0 * missed > DOUBT {
            break;
        }
        rank += 1;
    }
    (sorted[rank - 1], sorted[count - rank])
}

/// A median and between what it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// This one divided by another that is independent of it. The logarithm of a ratio is a
    /// difference, and the distances of its ends from it are the roots of the sums of the
    /// squares of those that the two intervals have (MOVER: Zou and Donner, Statistics in
    /// Medicine 27, 2008).
    pub(crate) fn ratio_to(self, other: Self) -> Self {
        let down = (self.value / self.low)
            .ln()
            .hypot((other.high / other.value).ln());
        let up = (self.high / self.value)
            .ln()
            .hypot((other.value / other.low).ln());
        let value = self.value / other.value;
        Self {
            value,
            low: value * (-down).exp(),
            high: value * up.exp(),
        }
    }

    /// With another source of doubt, which moves the value by up to this part of it, either way.
    pub(crate) fn with_doubt(self, part: f64) -> Self {
        let doubt = part.ln_1p();
        let widened = |distance: f64| distance.hypot(doubt).exp();
        Self {
            value: self.value,
            low: self.value / widened((self.value / self.low).ln()),
            high: self.value * widened((self.high / self.value).ln()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        // The example of the nearest-rank method that textbooks have.
        let values = [15.0, 20.0, 35.0, 40.0, 50.0];
        for (permille, expected) in [
            (50, 15.0),
            (300, 20.0),
            (400, 20.0),
            (500, 35.0),
            (999, 50.0),
            (1000, 50.0),
        ] {
            assert_eq!(percentile(&values, permille), expected, "{permille}");
        }
        let thousand: Vec<f64> = (1..=1000).map(f64::from).collect();
        assert_eq!(percentile(&thousand, 999), 999.0);
        assert_eq!(percentile(&thousand, 500), 500.0);
        assert!(percentile(&[], 500).is_nan());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn intervals_of_medians_are_those_of_the_tables() {
        // Ranks for 95 % from tables of the binomial distribution.
        for (count, low) in [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (25, 8), (100, 40)] {
            let values: Vec<f64> = (1..=count).map(f64::from).collect();
            let expected = (f64::from(low), f64::from(count + 1 - low));
            assert_eq!(median_interval(&values), expected, "{count}");
        }
        assert_eq!(median_interval(&[1.0, 2.0, 3.0]), (1.0, 3.0));
        assert_eq!(median_interval(&[4.0]), (4.0, 4.0));
        // A probability that no number can hold.
        let many = vec![1.0; 5000];
        assert_eq!(median_interval(&many), (1.0, 1.0));
    }

    #[test]
    fn ratios_keep_the_doubt_of_both() {
        let exact = |value| Estimate {
            value,
            low: value,
            high: value,
        };
        let ratio = exact(3.0).ratio_to(exact(2.0));
        assert_eq!(ratio, exact(1.5));
        let wide = Estimate {
            value: 2.0,
            low: 1.8,
            high: 2.2,
        };
        let ratio = wide.ratio_to(exact(1.0));
        assert!((ratio.low - 1.8).abs() < 1e-12 && (ratio.high - 2.2).abs() < 1e-12);
        let doubted = exact(2.0).with_doubt(0.5);
        assert!((doubted.low - 2.0 / 1.5).abs() < 1e-12 && (doubted.high - 3.0).abs() < 1e-12);
        let doubted = wide.with_doubt(0.01);
        assert!(doubted.low < 1.8 && doubted.low > 1.79 && doubted.high > 2.2);
        let ratio = wide.ratio_to(wide);
        assert_eq!(ratio.value, 1.0);
        assert!(ratio.low < 0.9 && ratio.high > 1.1);
    }
}
