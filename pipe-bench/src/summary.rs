use serde::{Deserialize, Serialize};

/// The values of several rounds in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The value in the middle; of an even number of values, the mean of the two in the middle.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// All values, in the order of the rounds.
    pub values: Vec<f64>,
}

impl Summary {
    /// Sums up some values.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn of(values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing has no median");
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            median,
            min,
            max,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let odd = Summary::of(vec![3.0, 1.0, 100.0]);
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 3.0, 100.0));
        assert_eq!(odd.values, [3.0, 1.0, 100.0]);
        let even = Summary::of(vec![4.0, 1.0, 2.0, 100.0]);
        assert_eq!((even.min, even.median, even.max), (1.0, 3.0, 100.0));
    }
}
