//! Mean and spread of a few numbers.

/// The mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of the values as a sample, `sqrt(sum (x - mean)^2 / (n - 1))`; none of a
/// single one.
pub(super) fn deviation(values: &[f64]) -> Option<f64> {
    let others = values.len().checked_sub(1).filter(|n| *n > 0)?;
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean).powi(2));
    Some((squares.sum::<f64>() / others as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, 2 and 6: the mean is 3, the squares of the distances 4, 1 and 9, over two 7.
    #[test]
    fn by_hand() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(deviation(&[1.0, 2.0, 6.0]), Some(7f64.sqrt()));
        assert_eq!(deviation(&[1.0]), None);
    }
}
