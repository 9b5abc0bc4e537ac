//! How far rounding takes numbers from themselves.

use serde::Serialize;

use crate::format::Format;

/// Error of rounded numbers, over the finite ones among those that were rounded.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ErrorSummary {
    /// All numbers, finite or not.
    pub elements: u64,
    /// The largest `|rounded - number|`; infinite ones are in `overflowed` instead.
    pub max_error: f64,
    /// The root of the mean of `(rounded - number)^2`.
    pub rms_error: f64,
    /// The signal-to-quantization-noise ratio, `10 log10(sum number^2 / sum (rounded - number)^2)`
    /// in decibels; `None` if nothing changed, if all numbers are zero, or if one overflowed.
    pub sqnr_db: Option<f64>,
    /// Finite numbers outside the format's range; 0 where the range follows the numbers.
    pub saturated: u64,
    /// Finite numbers that became infinite or NaN.
    pub overflowed: u64,
    /// NaN that became numbers, where the format's codes hold no NaN.
    pub nan_lost: u64,
    /// Infinite numbers that became finite ones.
    pub infinite_lost: u64,
}

/// Sums from which an [`ErrorSummary`] comes, piece by piece.
#[derive(Debug, Clone, Copy)]
pub struct ErrorSums {
    range: (f32, f32),
    elements: u64,
    finite: u64,
    max_error: f64,
    signal: f64,
    noise: f64,
    saturated: u64,
    overflowed: u64,
    nan_lost: u64,
    infinite_lost: u64,
}

impl ErrorSums {
    /// Nothing yet, for numbers rounded to `format`.
    pub fn new(format: &Format) -> Self {
        Self {
            range: format.finite_range(),
            elements: 0,
            finite: 0,
            max_error: 0.0,
            signal: 0.0,
            noise: 0.0,
            saturated: 0,
            overflowed: 0,
            nan_lost: 0,
            infinite_lost: 0,
        }
    }

    /// Adds numbers and what they were rounded to, in pairs.
    pub fn add(&mut self, numbers: impl IntoIterator<Item = (f64, f64)>) {
        let (min, max) = (f64::from(self.range.0), f64::from(self.range.1));
        for (number, rounded) in numbers {
            self.elements += 1;
            if !number.is_finite() {
                self.nan_lost += u64::from(number.is_nan() && !rounded.is_nan());
                self.infinite_lost += u64::from(number.is_infinite() && rounded.is_finite());
                continue;
            }
            self.finite += 1;
            self.saturated += u64::from(number < min || number > max);
            if !rounded.is_finite() {
                self.overflowed += 1;
                continue;
            }
            let error = (rounded - number).abs();
            self.max_error = self.max_error.max(error);
            self.signal += number * number;
            self.noise += error * error;
        }
    }

    /// The sums of two parts together.
    pub fn merge(&mut self, other: &Self) {
        self.elements += other.elements;
        self.finite += other.finite;
        self.max_error = self.max_error.max(other.max_error);
        self.signal += other.signal;
        self.noise += other.noise;
        self.saturated += other.saturated;
        self.overflowed += other.overflowed;
        self.nan_lost += other.nan_lost;
        self.infinite_lost += other.infinite_lost;
    }

    /// What they amount to.
    pub fn summary(&self) -> ErrorSummary {
        let counted = (self.finite - self.overflowed).max(1) as f64;
        let ratio = 10.0 * (self.signal / self.noise).log10();
        ErrorSummary {
            elements: self.elements,
            max_error: self.max_error,
            rms_error: (self.noise / counted).sqrt(),
            sqnr_db: (ratio.is_finite() && self.overflowed == 0).then_some(ratio),
            saturated: self.saturated,
            overflowed: self.overflowed,
            nan_lost: self.nan_lost,
            infinite_lost: self.infinite_lost,
        }
    }
}

impl Format {
    /// The smallest and largest finite value, infinite where numbers are never clamped or the
    /// scale follows them.
    pub(crate) fn finite_range(&self) -> (f32, f32) {
        let all = (f32::NEG_INFINITY, f32::INFINITY);
        if matches!(self, Self::Block(_)) {
            return all;
        }
        let facts = self.facts();
        let (min, max) = self.limits();
        if !facts.infinity && (min.is_infinite() || max.is_infinite()) {
            return all;
        }
        (facts.min, facts.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(format: &str, pairs: &[(f64, f64)]) -> ErrorSummary {
        let mut sums = ErrorSums::new(&format.parse().unwrap());
        sums.add(pairs.iter().copied());
        sums.summary()
    }

    #[test]
    fn by_hand() {
        // Errors 1 and 0.5: noise 1.25, signal 16 + 9 = 25, so 10 log10(20) = 13.0103 dB.
        let found = summary("int4", &[(4.0, 5.0), (-3.0, -2.5), (f64::NAN, 0.0)]);
        assert_eq!((found.elements, found.max_error), (3, 1.0));
        assert!((found.rms_error - 0.625f64.sqrt()).abs() < 1e-15);
        assert!((found.sqnr_db.unwrap() - 13.0103).abs() < 1e-4);
        assert_eq!((found.saturated, found.overflowed), (0, 0));
    }

    #[test]
    fn saturation_and_overflow_are_counted() {
        let found = summary("int4", &[(9.0, 7.0), (7.0, 7.0), (-8.5, -8.0)]);
        assert_eq!(found.saturated, 2);
        let found = summary("e5m2", &[(1e9, f64::INFINITY), (1.0, 1.0)]);
        assert_eq!((found.saturated, found.overflowed), (1, 1));
        assert_eq!((found.max_error, found.sqnr_db), (0.0, None));
        assert_eq!(summary("mxfp4", &[(1e9, 1e9)]).saturated, 0);
        assert_eq!(summary("fixed(8,6,unbounded)", &[(1e9, 1e9)]).saturated, 0);
    }

    #[test]
    fn what_is_no_number_is_counted_where_it_is_lost() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let found = summary("int4", &[(nan, 0.0), (nan, nan), (-inf, -8.0), (inf, inf)]);
        assert_eq!((found.nan_lost, found.infinite_lost), (1, 1));
        assert_eq!((found.saturated, found.overflowed), (0, 0));
    }

    #[test]
    fn parts_add_up() {
        let pairs = [(4.0, 5.0), (-3.0, -2.5), (9.0, 7.0)];
        let format = "int4".parse().unwrap();
        let (mut first, mut second) = (ErrorSums::new(&format), ErrorSums::new(&format));
        first.add(pairs[..1].iter().copied());
        second.add(pairs[1..].iter().copied());
        first.merge(&second);
        assert_eq!(first.summary(), summary("int4", &pairs));
    }
}
