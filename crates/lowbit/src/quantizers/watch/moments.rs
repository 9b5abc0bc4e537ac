//! What is known of a set of values without their histogram.

/// Counts, extremes and sums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) count: u64,
    pub(super) zeros: u64,
    pub(super) not_finite: u64,
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) sum: f64,
    pub(super) magnitudes: f64,
    pub(super) squares: f64,
}

impl Moments {
    pub(super) const NONE: Self = Self {
        count: 0,
        zeros: 0,
        not_finite: 0,
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        sum: 0.0,
        magnitudes: 0.0,
        squares: 0.0,
    };

    /// Those of values, each of which is shown to `each` on the way: the sums wait for one another,
    /// so that little more time passes.
    pub(super) fn of(values: &[f32], mut each: impl FnMut(f32)) -> Self {
        let mut seen = Self::NONE;
        seen.count = values.len() as u64;
        for &x in values {
            each(x);
            seen.zeros += u64::from(x == 0.0);
            seen.not_finite += u64::from(!x.is_finite());
            seen.min = seen.min.min(x);
            seen.max = seen.max.max(x);
            let x = f64::from(x);
            seen.sum += x;
            seen.magnitudes += x.abs();
            seen.squares += x * x;
        }
        seen
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            zeros: self.zeros + other.zeros,
            not_finite: self.not_finite + other.not_finite,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
            magnitudes: self.magnitudes + other.magnitudes,
            squares: self.squares + other.squares,
        }
    }

    pub(super) fn largest(&self) -> f32 {
        self.max.abs().max(self.min.abs())
    }
}
