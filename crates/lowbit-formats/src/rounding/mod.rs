//! How a number between two representable neighbours is brought to one of them.

pub(crate) mod between;
pub mod philox;

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::FormatError;
use crate::grammar::{Call, Reason, nearest};

/// A rounding mode (IEEE 754-2019, section 4.3, plus round-to-odd and stochastic rounding).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Rounding {
    /// To the nearest; a tie goes to the neighbour with an even significand (roundTiesToEven).
    #[default]
    NearestEven,
    /// To the nearest; a tie goes away from zero (roundTiesToAway).
    NearestAway,
    /// To the nearest; a tie goes to the upper neighbour: `floor(x + 1/2)` of a whole number of steps, as
    /// fixed-point hardware rounds that adds a half and shifts.
    NearestUp,
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

/// The modes that take no random numbers, by the names that they are printed with.
const NAMES: [(&str, Rounding); 7] = [
    ("nearest-even", Rounding::NearestEven),
    ("nearest-away", Rounding::NearestAway),
    ("nearest-up", Rounding::NearestUp),
    ("toward-zero", Rounding::TowardZero),
    ("down", Rounding::Down),
    ("up", Rounding::Up),
    ("to-odd", Rounding::ToOdd),
];

impl Rounding {
    /// The modes that take no random numbers.
    pub const DETERMINISTIC: [Self; NAMES.len()] = {
        let mut modes = [Self::NearestEven; NAMES.len()];
        let mut i = 0;
        while i < modes.len() {
            modes[i] = NAMES[i].1;
            i += 1;
        }
        modes
    };

    /// Whether every number goes to the nearest, whatever happens to a tie.
    pub const fn is_nearest(self) -> bool {
        matches!(
            self,
            Self::NearestEven | Self::NearestAway | Self::NearestUp
        )
    }

    /// Stochastic rounding with 32 random bits.
    pub const fn stochastic(seed: u64, stream: u64) -> Self {
        Self::Stochastic {
            seed,
            stream,
            bits: 32,
        }
    }

    /// The rounding of tensor number `index` of several: in stochastic rounding, each draws from a
    /// stream of its own.
    pub(crate) fn of_tensor(self, index: usize) -> Self {
        match self {
            Self::Stochastic { seed, stream, bits } => Self::Stochastic {
                seed,
                stream: stream.wrapping_add(index as u64),
                bits,
            },
            other => other,
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
            Self::NearestUp => remainder > half || (remainder == half && !negative),
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

    /// As [`away_from_zero`](Self::away_from_zero), for vector code: `fraction` is the cut part
    /// times 2^32, rounded down, and `inexact` says whether the cut part is not zero.
    #[inline(always)]
    pub fn away_from_zero_u32(
        self,
        negative: bool,
        odd: bool,
        fraction: u32,
        inexact: bool,
        random: u32,
    ) -> bool {
        const HALF: u32 = 1 << 31;
        match self {
            // Above a half, or at a half and odd.
            Self::NearestEven => fraction > HALF - u32::from(odd),
            Self::NearestAway => fraction >= HALF,
            Self::NearestUp => fraction > HALF - u32::from(!negative),
            Self::TowardZero => false,
            Self::Down => negative && inexact,
            Self::Up => !negative && inexact,
            Self::ToOdd => !odd && inexact,
            Self::Stochastic { bits, .. } => {
                // The upper `bits` bits of both, added: does the sum carry out of 32 bits?
                let kept = u32::MAX << (32 - u32::from(bits));
                (fraction & kept) > !(random & kept)
            }
        }
    }

    /// The integer to which `x` is rounded, as f32; NaN and infinities stay what they are.
    #[inline(always)]
    pub fn to_integer(self, x: f32, random: u32) -> f32 {
        let kept = x.trunc();
        let away = kept + 1f32.copysign(x);
        let cut = (x - kept).abs();
        match self {
            Self::NearestEven => x.round_ties_even(),
            Self::NearestAway if cut >= 0.5 => away,
            Self::NearestUp if cut > 0.5 || (cut == 0.5 && x > 0.0) => away,
            Self::TowardZero | Self::NearestAway | Self::NearestUp => kept,
            Self::Down => x.floor(),
            Self::Up => x.ceil(),
            Self::ToOdd => {
                let half = kept * 0.5;
                if cut > 0.0 && half == half.trunc() {
                    away
                } else {
                    kept
                }
            }
            Self::Stochastic { .. } => {
                if self.away_from_zero_u32(false, false, fraction_bits(cut), false, random) {
                    away
                } else {
                    kept
                }
            }
        }
    }

    /// Checks the number of random bits.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if it is not in 1..=32.
    pub fn validate(self) -> Result<(), FormatError> {
        match self {
            Self::Stochastic { bits, .. } if !(1..=32).contains(&bits) => Err(
                FormatError::parameter("stochastic", "bits", bits, "1 to 32"),
            ),
            _ => Ok(()),
        }
    }
}

/// `nearest-even`, `nearest-away`, `nearest-up`, `toward-zero`, `down`, `up`, `to-odd`, or
/// `stochastic(seed=..,stream=..,bits=..)`.
impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, mode)| mode == self) {
            Some((name, _)) => f.write_str(name),
            None => {
                let Self::Stochastic { seed, stream, bits } = self else {
                    // Every other mode has a name.
                    return Err(fmt::Error);
                };
                write!(f, "stochastic(seed={seed},stream={stream},bits={bits})")
            }
        }
    }
}

/// What is printed, in letters of any size, and `nearest` for `nearest-even`; in `stochastic`, each argument may be left out: seed and stream are then 0,
/// bits 32.
impl FromStr for Rounding {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Call::parse(text)
            .and_then(|call| Self::from_call(&call))
            .map_err(|Reason(reason)| FormatError::Rounding {
                text: text.into(),
                reason,
                nearest: nearest(
                    text,
                    NAMES.iter().map(|(name, _)| *name).chain(["stochastic"]),
                )
                .into(),
            })
    }
}

impl Rounding {
    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let options = call.split(0)?.1;
        let lower = call.name().to_lowercase();
        let name = match lower.as_str() {
            "nearest" => "nearest-even",
            other => other,
        };
        if let Some((_, mode)) = NAMES.iter().find(|(known, _)| *known == name) {
            return match options {
                [] => Ok(*mode),
                [option, ..] => Err(Reason(format!(
                    "`{}` is one argument too many",
                    option.key()
                ))),
            };
        }
        if name != "stochastic" {
            return Err(Reason("no rounding mode has this name".into()));
        }
        let (mut seed, mut stream, mut bits) = (0, 0, 32);
        for option in options {
            match option.key() {
                "seed" => seed = option.number("seed")?,
                "stream" => stream = option.number("stream")?,
                "bits" => bits = option.number("bits")?,
                other => return Err(Reason::option(other, "seed=.., stream=.., bits=..")),
            }
        }
        let rounding = Self::Stochastic { seed, stream, bits };
        rounding.validate()?;
        Ok(rounding)
    }
}

impl Serialize for Rounding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rounding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// `floor(x * 2^32)` for `x` in 0..1, and 0 for NaN.
#[inline(always)]
pub(crate) fn fraction_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    // With the leading bit at the top, the significand stands for x * 2^(126 - exponent) * 2^32.
    let significand = bits << 8 | 1 << 31;
    let shift = 126u32.wrapping_sub(bits >> 23);
    significand.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE_BITS: Rounding = Rounding::Stochastic {
        seed: 0,
        stream: 0,
        bits: 3,
    };

    /// Every mode, stochastic rounding twice.
    fn modes() -> impl Iterator<Item = Rounding> {
        let stochastic = [Rounding::stochastic(0, 0), THREE_BITS];
        Rounding::DETERMINISTIC.into_iter().chain(stochastic)
    }

    /// The attribute table of IEEE 754-2019, section 4.3, for a few halves and thirds, by hand.
    #[test]
    fn to_integer_by_hand() {
        let cases = [
            // x, nearest-even, nearest-away, nearest-up, toward zero, down, up, to odd
            (2.5, [2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0]),
            (3.5, [4.0, 4.0, 4.0, 3.0, 3.0, 4.0, 3.0]),
            (-2.5, [-2.0, -3.0, -2.0, -2.0, -3.0, -2.0, -3.0]),
            (-1.5, [-2.0, -2.0, -1.0, -1.0, -2.0, -1.0, -1.0]),
            (-1.75, [-2.0, -2.0, -2.0, -1.0, -2.0, -1.0, -1.0]),
            (-0.25, [0.0, 0.0, 0.0, 0.0, -1.0, 0.0, -1.0]),
            // A half is added without rounding.
            (0.49999997, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
            (4.0, [4.0; 7]),
            (1e-30, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
            (8_388_609.0, [8_388_609.0; 7]),
            (f32::INFINITY, [f32::INFINITY; 7]),
        ];
        for (x, expected) in cases {
            for (mode, expected) in modes().zip(expected) {
                assert_eq!(mode.to_integer(x, 0), expected, "{mode:?} {x}");
            }
        }
        for mode in modes() {
            assert!(mode.to_integer(f32::NAN, 7).is_nan());
        }
    }

    #[test]
    fn modes_have_texts() {
        for mode in modes() {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("stochastic".parse(), Ok(Rounding::stochastic(0, 0)));
        for text in ["nearest", "Nearest-Even", "NEAREST"] {
            assert_eq!(text.parse(), Ok(Rounding::NearestEven));
        }
        for text in [
            "nearest(1)",
            "up(1)",
            "stochastic(bits=33)",
            "stochastic(sed=1)",
            "",
        ] {
            assert!(text.parse::<Rounding>().is_err(), "{text}");
        }
        let error = "nearst-even".parse::<Rounding>().unwrap_err();
        assert!(error.to_string().ends_with("did you mean `nearest-even`?"));
    }

    #[test]
    fn stochastic_goes_up_as_often_as_its_fraction_says() {
        // 2.3125 = 2 + 5/16: with 4 random bits, exactly 5 of the 16 random numbers round up.
        let rounding = Rounding::Stochastic {
            seed: 0,
            stream: 0,
            bits: 4,
        };
        let up = (0..16u32).filter(|r| rounding.to_integer(-2.3125, r << 28) == -3.0);
        assert_eq!(up.count(), 5);
        // With 3 bits the fraction counts as 2/8.
        let up = (0..16u32).filter(|r| THREE_BITS.to_integer(2.3125, r << 28) == 3.0);
        assert_eq!(up.count(), 4);
    }

    #[test]
    fn both_forms_of_the_decision_agree() {
        let words = [
            0,
            1,
            2,
            1 << 30,
            (1 << 31) - 1,
            1 << 31,
            (1 << 31) + 1,
            u32::MAX,
        ];
        for mode in modes() {
            for remainder in words {
                for random in words {
                    for (negative, odd) in
                        [(false, false), (false, true), (true, false), (true, true)]
                    {
                        assert_eq!(
                            mode.away_from_zero_u32(
                                negative,
                                odd,
                                remainder,
                                remainder != 0,
                                random
                            ),
                            mode.away_from_zero(negative, odd, remainder.into(), 32, random),
                            "{mode:?} {remainder:x} {random:x}"
                        );
                    }
                }
            }
        }
    }
}
