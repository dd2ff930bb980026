//! The three figures that a handful of measurements is told by.

/// Smallest, middle and largest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The one in the middle; of an even number, the mean of both.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// The summary of measurements, none for none.
pub fn summary(measured: &[f64]) -> Option<Summary> {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let half = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
    Some(Summary { min, median, max })
}

/// How far the mean of so many measurements is likely to be from the true one.
pub fn standard_error(measured: &[f64]) -> f64 {
    let count = measured.len() as f64;
    let mean = measured.iter().sum::<f64>() / count;
    let squares: f64 = measured.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0) / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_measurements_are_surer() {
        assert!((standard_error(&[1.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!(standard_error(&[1.0, 3.0, 1.0, 3.0]) < 1.0);
    }

    #[test]
    fn the_middle_of_an_even_number_is_a_mean() {
        assert_eq!(summary(&[4.0, 1.0, 3.0, 2.0]), Some(Summary { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(summary(&[]), None);
    }
}
