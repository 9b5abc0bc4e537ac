//! A percentile of the magnitudes.

use crate::quantizers::Histogram;

/// The least magnitude that `fraction` of the values, zeros included, do not exceed; where a bin
/// holds several values, its end: a part of at most 2^-12 above, but never above the power of two
/// that is above the magnitude itself.
pub fn percentile(values: &Histogram, fraction: f64) -> f32 {
    // A fraction in decimals is no binary number; a product that misses an integer by no more than
    // both roundings is that integer.
    let wanted = (fraction * values.count() as f64 * (1.0 - f64::EPSILON)).ceil() as u64;
    let mut below = values.zeros();
    if below >= wanted {
        return 0.0;
    }
    for bin in values.magnitudes() {
        below += bin.count();
        if below >= wanted {
            return bin.bound().min(values.largest());
        }
    }
    values.largest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_evenly_spread_magnitudes() {
        let mut values = Histogram::default();
        let magnitudes: Vec<f32> = (1..=1000).map(|i| i as f32 / 1000.0).collect();
        values.record(&magnitudes);
        // A bin is at most 2^-12 wide, so that every value is alone in its own.
        for percent in 1..=100u16 {
            let threshold = percentile(&values, f64::from(percent) / 100.0);
            assert_eq!(
                threshold,
                magnitudes[10 * usize::from(percent) - 1],
                "{percent}"
            );
        }
    }

    #[test]
    fn zeros_count() {
        let mut values = Histogram::default();
        values.record(&[0.0, 0.0, 0.0, -1.0, 100.0]);
        // Three of five values are at most 0, four at most 1.
        assert_eq!(percentile(&values, 0.6), 0.0);
        assert_eq!(percentile(&values, 0.8), 1.0);
    }

    /// 20,000 values in [0, 1) and one far away: 99.9 % are 19,981 of 20,001, which do not exceed
    /// the 19,981st, 19980 / 20000.
    #[test]
    fn an_outlier_changes_nothing_however_far() {
        for outlier in [10.0, 1e3, 1e4, 1e6, f32::MAX] {
            let mut values = Histogram::default();
            values.record(&(0..20_000).map(|i| i as f32 / 2e4).collect::<Vec<_>>());
            values.record(&[outlier]);
            let found = f64::from(percentile(&values, 0.999));
            assert!(
                (found / 0.999 - 1.0).abs() < 2f64.powi(-12),
                "{outlier}: {found}"
            );
        }
    }

    /// Against sorted magnitudes.
    #[test]
    fn of_random_values() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        for case in 0..300 {
            // From even to spread over 40 octaves, with zeros.
            let spread = f64::from(case % 10) * 4.0;
            let count = 1 + (uniform() * 3000.0) as usize;
            let one = |_| match uniform() {
                u if u < 0.1 => 0.0,
                u => ((uniform() - 0.5).signum() * u * (spread * uniform()).exp2()) as f32,
            };
            let set: Vec<f32> = (0..count).map(one).collect();
            let mut values = Histogram::default();
            values.record(&set);
            let mut sorted: Vec<f32> = set.iter().map(|x| x.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            for millionths in [
                1u64, 250_000, 500_000, 900_000, 990_000, 999_000, 999_999, 1_000_000,
            ] {
                let rank = (millionths * count as u64).div_ceil(1_000_000);
                let exact = sorted[rank as usize - 1];
                let found = percentile(&values, millionths as f64 / 1e6);
                let above = f64::from(found - exact) / f64::from(exact.max(f32::MIN_POSITIVE));
                assert!(
                    (0.0..=2f64.powi(-12)).contains(&above),
                    "{case}: {found}, {exact}"
                );
            }
        }
    }
}
