//! What a handful of measurements is told by: three figures, or one with its uncertainty.

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

/// A figure and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The true one lies above this, and
    pub low: f64,
    /// below this, 19 times out of 20.
    pub high: f64,
    /// How far the figure is likely to be from the true one.
    pub standard_error: f64,
}

/// Of fewer samples nothing can be told that is right 19 times out of 20.
pub const FEWEST: usize = 6;

/// Half the width of an interval that is right 19 times out of 20, in standard errors.
const SURE: f64 = 1.96;

/// The centre of samples by Hodges and Lehmann, with the interval that Wilcoxon's test gives: the median of the means of all pairs. A few
/// wild samples, of which a busy machine has some, move it hardly more than they would move a median, and it is nearly as sharp as a mean.
/// None for fewer samples than [`FEWEST`].
pub fn estimate(samples: &[f64]) -> Option<Estimate> {
    if samples.len() < FEWEST {
        return None;
    }
    let pairs = samples.iter().enumerate().flat_map(|(at, a)| samples[at..].iter().map(move |b| (a + b) / 2.0));
    let mut means: Vec<f64> = pairs.collect();
    means.sort_by(f64::total_cmp);
    let count = samples.len() as f64;
    let spread = (count * (count + 1.0) * (2.0 * count + 1.0) / 24.0).sqrt();
    let outside = (means.len() as f64 / 2.0 - SURE * spread).floor().max(0.0) as usize;
    let (low, high) = (*means.get(outside)?, *means.get(means.len() - 1 - outside)?);
    let value = summary(&means)?.median;
    Some(Estimate { value, low, high, standard_error: (high - low) / 2.0 / SURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures about zero whose standard deviation is one, the same for a seed each time.
    fn samples(count: usize, seed: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count).map(|_| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn the_interval_is_right_19_times_out_of_20() {
        let right = (0..1000).filter(|seed| {
            let found = estimate(&samples(24, *seed)).unwrap();
            found.low <= 0.0 && 0.0 <= found.high
        });
        let right = right.count();
        assert!((930..=975).contains(&right), "{right} of 1000");
    }

    #[test]
    fn more_samples_are_surer_and_a_wild_one_changes_little() {
        let mut some = samples(24, 1);
        let before = estimate(&some).unwrap();
        assert!((before.standard_error - 1.0 / 24f64.sqrt()).abs() < 0.1);
        assert!(estimate(&samples(96, 1)).unwrap().standard_error < before.standard_error);
        some[7] = 1000.0;
        assert!((estimate(&some).unwrap().value - before.value).abs() < before.standard_error);
        assert_eq!(estimate(&some[..5]), None);
    }

    #[test]
    fn the_middle_of_an_even_number_is_a_mean() {
        assert_eq!(summary(&[4.0, 1.0, 3.0, 2.0]), Some(Summary { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(summary(&[]), None);
    }
}
