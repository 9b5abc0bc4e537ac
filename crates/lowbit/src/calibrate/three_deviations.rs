//! Three standard deviations.

use crate::quantizers::Histogram;

/// `t = |mean| + 3 sd`, but no more than the largest magnitude ("3SD" initialization, arXiv
/// 1903.08066, table 2, which uses it for weights that are retrained).
pub fn three_deviations(values: &Histogram) -> f32 {
    let threshold = values.mean().abs() + 3.0 * values.standard_deviation();
    (threshold as f32).min(values.largest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut values = Histogram::default();
        // 48 ones of either sign, and 2 and 4: mean 6/98, squares 96 + 20 = 116.
        values.record(&[1.0; 48]);
        values.record(&[-1.0; 48]);
        values.record(&[2.0, 4.0]);
        let mean = 6.0f64 / 98.0;
        let expected = mean + 3.0 * (116.0 / 98.0 - mean * mean).sqrt();
        assert!((f64::from(three_deviations(&values)) - expected).abs() < 1e-6);
        // A constant: no deviation, and never beyond what was seen.
        let mut values = Histogram::default();
        values.record(&[-0.5; 7]);
        assert_eq!(three_deviations(&values), 0.5);
    }
}
