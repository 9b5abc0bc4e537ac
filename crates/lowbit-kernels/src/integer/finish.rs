//! What becomes of sums before they leave the registers: bytes, alone or added to other bytes.

use super::narrow::Narrow;

/// `max(0, min(round(sum / 2^shift), most))` of sums to which half a unit of the output and what
/// stands for zero have been added.
///
/// A tie is then a sum whose last `shift` bits are all zero, and the shift has rounded it up: where it
/// goes to the even integer, the last bit is cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shift {
    pub(crate) shift: u32,
    /// The bits that are zero in a tie.
    pub(crate) low: i32,
    /// The bits that are kept of one.
    pub(crate) keep: i32,
    pub(crate) most: u8,
}

impl Shift {
    /// Of sums with a magnitude of at most `reach`, and what is to be added to them. `None` if half
    /// goes away from zero, an odd number stands for zero and half to even, or a sum would not fit 31
    /// bits.
    fn of(narrow: &Narrow, reach: u64) -> Option<(Self, i32)> {
        let zero = i64::from(narrow.zero) - i64::from(narrow.least);
        if narrow.away == 1 || narrow.even == 1 && zero % 2 != 0 || narrow.shift > 30 {
            return None;
        }
        let added = i64::from(narrow.add) + i64::from(narrow.even) + (zero << narrow.shift);
        if reach.checked_add(added.unsigned_abs())? >= 1 << 31 {
            return None;
        }
        let low = if narrow.even == 1 {
            (1 << narrow.shift) - 1
        } else {
            0
        };
        let shift = Self {
            shift: narrow.shift,
            low,
            keep: if narrow.even == 1 { !1 } else { !0 },
            most: u8::try_from(narrow.greatest - narrow.least).ok()?,
        };
        Some((shift, added as i32))
    }

    #[inline(always)]
    pub(crate) fn apply(&self, sum: i32) -> u8 {
        let up = sum >> self.shift;
        let rounded = if sum & self.low == 0 {
            up & self.keep
        } else {
            up
        };
        rounded.max(0).min(self.most.into()) as u8
    }
}

/// A byte of `a m[0] + b m[1] + constant`, rounded by a shift as [`Shift`] does, in 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addition {
    pub(crate) multipliers: [i8; 2],
    pub(crate) constant: i16,
    pub(crate) shift: u32,
    pub(crate) low: i16,
    pub(crate) keep: i16,
    pub(crate) most: u8,
}

impl Addition {
    /// Of bytes up to `most[0]` and `most[1]`. `None` if it does not fit 16 bits, or as of [`Shift::of`].
    fn of(m: [i32; 3], most: [u8; 2], narrow: &Narrow) -> Option<Self> {
        let multipliers = [i8::try_from(m[0]).ok()?, i8::try_from(m[1]).ok()?];
        let ends = [0, 1].map(|i| i64::from(m[i]) * i64::from(most[i]));
        let reach = ends[0].unsigned_abs() + ends[1].unsigned_abs();
        let (shift, added) = Shift::of(narrow, reach + m[2].unsigned_abs() as u64)?;
        let constant = i64::from(m[2]) + i64::from(added);
        // Sums of two products come first, then the constant.
        if shift.shift > 15 || reach + constant.unsigned_abs() > 0x7fff {
            return None;
        }
        Some(Self {
            multipliers,
            constant: constant as i16,
            shift: shift.shift,
            low: shift.low as i16,
            keep: shift.keep as i16,
            most: shift.most,
        })
    }

    #[inline(always)]
    pub(crate) fn apply(&self, a: u8, b: u8) -> u8 {
        let [m, n] = self.multipliers.map(i16::from);
        let sum = i16::from(a) * m + i16::from(b) * n + self.constant;
        let up = sum >> self.shift;
        let rounded = if sum & self.low == 0 {
            up & self.keep
        } else {
            up
        };
        rounded.max(0).min(self.most.into()) as u8
    }
}

/// What makes bytes of sums in registers, and perhaps adds other bytes to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    pub(crate) first: First,
    pub(crate) addition: Option<Addition>,
}

/// What makes bytes of sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum First {
    Shift(Shift),
    /// Thresholds of each channel, level after level, channels up to whole vectors.
    Levels(Vec<i32>),
}

/// Levels above the least that thresholds make.
pub const LEVELS: usize = 3;

impl Finish {
    /// A shift, and what is to be added to each sum for it; sums have a magnitude of at most `reach`
    /// before. `None` if half goes away from zero, an odd number stands for zero while half goes to
    /// even, or sums would not fit 31 bits.
    pub fn shift(narrow: &Narrow, reach: u64) -> Option<(Self, i32)> {
        let (shift, added) = Shift::of(narrow, reach)?;
        let finish = Self {
            first: First::Shift(shift),
            addition: None,
        };
        Some((finish, added))
    }

    /// The number of thresholds that a sum is not below: for each level those of all channels, up to
    /// [`Shape::sums`](super::Shape::sums) of them.
    ///
    /// # Panics
    ///
    /// If there are more than [`LEVELS`], or not all of the same length.
    pub fn levels(thresholds: &[Vec<i32>]) -> Self {
        assert!(thresholds.len() <= LEVELS);
        assert!(thresholds.windows(2).all(|w| w[0].len() == w[1].len()));
        Self {
            first: First::Levels(thresholds.concat()),
            addition: None,
        }
    }

    /// Then `narrow(a m[0] + b m[1] + m[2])`, where `a` is the byte so far and `b` another of at most
    /// `most`. `None` if that does not fit 16 bits, or as of [`shift`](Self::shift).
    pub fn plus(mut self, m: [i32; 3], most: u8, narrow: &Narrow) -> Option<Self> {
        let first = match &self.first {
            First::Shift(shift) => shift.most,
            First::Levels(_) => LEVELS as u8,
        };
        self.addition = Some(Addition::of(m, [first, most], narrow)?);
        Some(self)
    }

    /// Whether other bytes are added.
    pub fn adds(&self) -> bool {
        self.addition.is_some()
    }
}
