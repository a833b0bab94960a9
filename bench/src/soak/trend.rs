//! Whether a figure still grows.

/// By how much of its mean a figure grows over the second half of its samples, along the line that fits them best;
/// negative where it falls. `None` where there are too few samples, or all are 0.
pub fn growth_of_second_half(points: &[(f64, f64)]) -> Option<f64> {
    let half = points.get(points.len() / 2..)?;
    let ([(first, _), .., (last, _)], count) = (half, half.len() as f64) else { return None };
    let mean_x = half.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = half.iter().map(|point| point.1).sum::<f64>() / count;
    let spread: f64 = half.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = half.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    (mean_y > 0.0 && spread > 0.0).then(|| slope * (last - first) / mean_y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_in_the_first_half_alone_is_flat() {
        let points: Vec<(f64, f64)> = (0..20).map(|n| (f64::from(n), f64::from(n.min(10)))).collect();
        assert!(growth_of_second_half(&points).expect("a growth").abs() < 1e-9);
    }

    #[test]
    fn growth_is_a_part_of_the_mean() {
        // From 95 to 105 over the second half.
        let points: Vec<(f64, f64)> = (0..22).map(|n| (f64::from(n), 84.0 + f64::from(n))).collect();
        assert!((growth_of_second_half(&points).expect("a growth") - 0.1).abs() < 1e-9);
    }

    #[test]
    fn too_few_samples_say_nothing() {
        assert_eq!(growth_of_second_half(&[]), None);
        assert_eq!(growth_of_second_half(&[(0.0, 1.0)]), None);
        assert_eq!(growth_of_second_half(&[(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)]), None);
    }
}
