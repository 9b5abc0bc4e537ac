//! Sums brought to bytes.

/// `clamp(round(sum / 2^shift) + zero, least, greatest) - least`, a byte. A sum and half a unit of the
/// output together fit 31 bits.
///
/// Rounding is `(sum + add + (even & (sum >> shift)) - (away & sign)) >> shift`, which has no branch:
///
/// | rounding | `add` | `even` | `away` |
/// |---|---|---|---|
/// | down | 0 | 0 | 0 |
/// | to nearest, half up | `half` | 0 | 0 |
/// | to nearest, half away from zero | `half` | 0 | 1 |
/// | to nearest, half to even | `half - 1` | 1 | 0 |
///
/// with `half = 2^(shift - 1)`, and all of them 0 where the shift is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narrow {
    /// 0 to 30.
    pub shift: u32,
    /// What is added before the shift.
    pub add: i32,
    /// 1 if half goes to the even integer; `away` is 0 then.
    pub even: i32,
    /// 1 if half goes away from zero.
    pub away: i32,
    /// What is added after the shift.
    pub zero: i32,
    /// The least integer, stored as 0.
    pub least: i32,
    /// The greatest integer, by at most 255 above the least.
    pub greatest: i32,
}

impl Narrow {
    /// One sum.
    #[inline(always)]
    pub fn apply(&self, sum: i32) -> u8 {
        let even = self.even & (sum >> self.shift);
        let away = self.away & (sum >> 31);
        let rounded = (sum + self.add + even - away) >> self.shift;
        // `clamp` would be compiled to comparisons and masks.
        let byte = rounded + (self.zero - self.least);
        byte.max(0).min(self.greatest - self.least) as u8
    }
}
