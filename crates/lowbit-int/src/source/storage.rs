//! The types of integers that source code has.

use crate::numbers::Numbers;
use crate::tensor::Interval;

/// A type of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Int {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
}

impl Int {
    /// From narrow to wide.
    const ALL: [Self; 7] = [
        Self::I8,
        Self::U8,
        Self::I16,
        Self::U16,
        Self::I32,
        Self::U32,
        Self::I64,
    ];

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 => 4,
            Self::I64 => 8,
        }
    }

    pub(crate) fn signed(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// All that it holds.
    pub(crate) fn interval(self) -> Interval {
        let bits = 8 * self.bytes() as u32;
        match self {
            Self::I64 => Interval {
                least: i64::MIN,
                greatest: i64::MAX,
            },
            _ if self.signed() => Interval {
                least: -(1 << (bits - 1)),
                greatest: (1 << (bits - 1)) - 1,
            },
            _ => Interval {
                least: 0,
                greatest: (1 << bits) - 1,
            },
        }
    }

    fn holds(self, interval: Interval) -> bool {
        self.interval().union(interval) == self.interval()
    }

    /// The narrowest that holds all of an interval.
    pub(crate) fn of(interval: Interval) -> Self {
        let fits = Self::ALL.into_iter().find(|int| int.holds(interval));
        fits.unwrap_or(Self::I64)
    }

    /// The narrowest that holds all of these numbers.
    pub(crate) fn of_all(numbers: impl IntoIterator<Item = i64>) -> Self {
        let intervals = numbers.into_iter().map(|number| Interval {
            least: number,
            greatest: number,
        });
        intervals.reduce(Interval::union).map_or(Self::I8, Self::of)
    }

    /// The type of an input or output: that of its width and sign.
    pub(crate) fn of_numbers(numbers: Numbers) -> Self {
        let signed = numbers.signed();
        let fits = |int: &Self| int.signed() == signed && 8 * int.bytes() as u32 >= numbers.bits();
        // What has no sign has at most 32 bits.
        Self::ALL.into_iter().find(fits).unwrap_or(Self::I64)
    }

    /// The type of sums that hold all of these numbers: 32 or 64 bits.
    pub(crate) fn of_sums(numbers: impl IntoIterator<Item = i128>) -> Self {
        let word = i128::from(i32::MIN)..=i128::from(i32::MAX);
        if numbers.into_iter().all(|number| word.contains(&number)) {
            Self::I32
        } else {
            Self::I64
        }
    }

    /// The narrower of the types of sums that its numbers become.
    pub(crate) fn widened(self) -> Self {
        match self {
            Self::U32 | Self::I64 => Self::I64,
            _ => Self::I32,
        }
    }

    /// Its name in Rust, which is that of functions for it in C.
    pub(crate) fn rust(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
        }
    }

    /// Its name in C.
    pub(crate) fn c(self) -> &'static str {
        match self {
            Self::I8 => "int8_t",
            Self::U8 => "uint8_t",
            Self::I16 => "int16_t",
            Self::U16 => "uint16_t",
            Self::I32 => "int32_t",
            Self::U32 => "uint32_t",
            Self::I64 => "int64_t",
        }
    }
}

/// How a tensor is stored: integer `k` as `k - shift`. Only what no signed type of the width holds is
/// shifted, so that bytes with and without sign share memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) int: Int,
    pub(crate) shift: i64,
}

impl Storage {
    /// As it is.
    pub(crate) fn plain(int: Int) -> Self {
        Self { int, shift: 0 }
    }

    /// Of what lies in an interval.
    pub(crate) fn within(interval: Interval) -> Self {
        let (int, shift) = match Int::of(interval) {
            Int::U8 => (Int::I8, 1 << 7),
            Int::U16 => (Int::I16, 1 << 15),
            Int::U32 => (Int::I32, 1 << 31),
            int => (int, 0),
        };
        Self { int, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_type() {
        let of = |least, greatest| Int::of(Interval { least, greatest });
        assert_eq!(of(-128, 127), Int::I8);
        assert_eq!(of(0, 128), Int::U8);
        assert_eq!(of(-1, 128), Int::I16);
        assert_eq!(of(0, 65_535), Int::U16);
        assert_eq!(of(0, (1 << 32) - 1), Int::U32);
        assert_eq!(of(-1, 1 << 31), Int::I64);
        let bytes = Storage::within(Interval {
            least: 0,
            greatest: 255,
        });
        assert_eq!((bytes.int, bytes.shift), (Int::I8, 128));
    }
}
