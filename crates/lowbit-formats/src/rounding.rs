//! How a number between two representable neighbours is brought to one of them.

use serde::{Deserialize, Serialize};

/// A rounding mode (IEEE 754-2019, section 4.3, plus round-to-odd and stochastic rounding).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest; a tie goes to the neighbour with an even significand (roundTiesToEven).
    #[default]
    NearestEven,
    /// To the nearest; a tie goes away from zero (roundTiesToAway).
    NearestAway,
    /// To the neighbour nearer to zero (roundTowardZero).
    TowardZero,
    /// To the lower neighbour (roundTowardNegative).
    Down,
    /// To the upper neighbour (roundTowardPositive).
    Up,
    /// An inexact number goes to the neighbour with an odd significand.
    ToOdd,
    /// Up or down at random, with probability proportional to the distance from the other
    /// neighbour, so that the expected value is the number itself.
    Stochastic {
        /// The generator's key.
        seed: u64,
        /// Distinguishes tensors, steps or layers that share a seed.
        stream: u64,
        /// How many random bits decide, 1 to 32. The probability of rounding away from zero is
        /// `floor(fraction * 2^bits) / 2^bits`.
        bits: u8,
    },
}

impl Rounding {
    /// Stochastic rounding with 32 random bits.
    pub const fn stochastic(seed: u64, stream: u64) -> Self {
        Self::Stochastic {
            seed,
            stream,
            bits: 32,
        }
    }

    /// Whether a positive or negative magnitude, cut at its last kept place, moves one place away
    /// from zero.
    ///
    /// `remainder / 2^width` is the cut part as a fraction of the last kept place, with `width`
    /// from 1 to 63; `odd` says whether the kept significand is odd. `random` is used by
    /// stochastic rounding only.
    #[inline(always)]
    pub fn away_from_zero(
        self,
        negative: bool,
        odd: bool,
        remainder: u64,
        width: u32,
        random: u32,
    ) -> bool {
        let half = 1u64 << (width - 1);
        match self {
            Self::NearestEven => remainder > half || (remainder == half && odd),
            Self::NearestAway => remainder >= half,
            Self::TowardZero => false,
            Self::Down => negative && remainder != 0,
            Self::Up => !negative && remainder != 0,
            Self::ToOdd => !odd && remainder != 0,
            Self::Stochastic { bits, .. } => {
                // The fraction and the random number, both as `bits`-bit integers.
                let bits = u32::from(bits);
                let fraction = if width >= bits {
                    remainder >> (width - bits)
                } else {
                    remainder << (bits - width)
                };
                fraction + u64::from(random >> (32 - bits)) >= 1u64 << bits
            }
        }
    }
}
