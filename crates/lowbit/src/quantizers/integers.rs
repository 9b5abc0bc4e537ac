//! Integers times powers of two, which a quantizer's results may be.

use lowbit_formats::IntegerGrid;

/// The integers that a quantizer's results are, times powers of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integers {
    /// Bits that hold one of them.
    pub bits: u32,
    /// The least.
    pub min: i64,
    /// The greatest.
    pub max: i64,
    /// The exponents of the powers of two: one, or one per channel.
    pub log2_steps: Vec<i32>,
}

impl Integers {
    /// Integers of two's complement or without sign, whose range ends at the least powers of two
    /// that are no smaller than the thresholds (arXiv 1903.08066, section 3.2). Steps are from
    /// `2^-126` to `2^126`.
    pub fn below_thresholds(bits: u32, signed: bool, log2_thresholds: &[f32]) -> Self {
        let range = IntegerGrid::new(bits, signed, 0).map(|grid| grid.range());
        let range = range.expect("a width of trained thresholds");
        let exponent = |&log2: &f32| {
            let grid = IntegerGrid::from_log2_threshold(log2, bits, signed);
            grid.map_or(0, |grid| grid.exponent())
        };
        Self {
            bits,
            min: range.min as i64,
            max: range.max as i64,
            log2_steps: log2_thresholds.iter().map(exponent).collect(),
        }
    }

    /// The same integers times powers of two that are at least those given, one or one per channel.
    pub(crate) fn no_finer_than(mut self, exponents: &[i32]) -> Self {
        let channels = exponents.len().max(self.log2_steps.len());
        let exponent = |i: usize| self.log2_step(i).max(exponents[i % exponents.len()]);
        self.log2_steps = (0..channels).map(exponent).collect();
        self
    }

    /// The exponent of a channel's power of two.
    pub fn log2_step(&self, channel: usize) -> i32 {
        self.log2_steps[channel % self.log2_steps.len()]
    }

    /// The least and the greatest value that are not clipped, half a step beyond the ends, for each
    /// power of two.
    pub(crate) fn unclipped(&self) -> Vec<(f32, f32)> {
        let (least, greatest) = (self.min as f32, self.max as f32);
        let ends = |log2_step: &i32| {
            let step = (*log2_step as f32).exp2();
            ((least - 0.5) * step, (greatest + 0.5) * step)
        };
        self.log2_steps.iter().map(ends).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_below_thresholds_by_hand() {
        // 0.75 is below 2^0 and 3 below 2^2: of four bits, three hold the magnitude.
        let integers = Integers::below_thresholds(4, true, &[0.75f32.log2(), 3.0f32.log2()]);
        assert_eq!((integers.min, integers.max), (-8, 7));
        assert_eq!(integers.log2_steps, [-3, -1]);
        assert_eq!(integers.log2_step(3), -1);
        let unsigned = Integers::below_thresholds(4, false, &[-500.0, 0.0, 500.0]);
        assert_eq!((unsigned.min, unsigned.max), (0, 15));
        assert_eq!(unsigned.log2_steps, [-126, -4, 126]);
    }
}
