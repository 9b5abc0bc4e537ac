//! QPyTorch's own floating point, bit for bit.

use std::cmp::Ordering;
use std::fmt;

use crate::error::{FormatError, check_range};
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::rounding::between::moves_on;
use crate::scalar::FormatText;
use crate::scalar::facts::{Extent, Facts};
use crate::scalar::fields::{CodeField, fields};
use crate::scalar::float::grid::FloatGrid;
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{Grid, ScalarFormat, Wide, wide};

/// `qpytorch(e,m)`: what QPyTorch (release 0.2.0 and the posit extension built on it) computes in
/// `float_quantize(x, exp=e, man=m)`.
///
/// Against [`Float`](crate::Float): the exponents are those from `-(2^(e-1) - 1)` to
/// `2^(e-1) - 1`, one lower than IEEE's; there are no subnormals, no infinity, no NaN and no minus
/// zero. Both nearest modes add half of the last kept place to the bits and cut, so that ties go
/// away from zero; then a magnitude up to half of the smallest value becomes zero, one above it
/// the smallest value, and one above the largest value, infinity and NaN included, becomes the
/// largest. (A NaN whose payload carries into the sign bit becomes a zero, as it does there.) The
/// other modes, which QPyTorch lacks or does not make unbiased, round as `Float` does; NaN stays.
///
/// With eight exponent bits the lowest exponent is that of f32's own subnormals, whose bits are
/// rounded like any others, and minus zero stays.
///
/// # Stochastic rounding
///
/// It is unbiased: below the smallest value `s`, a magnitude `x` becomes `s` with probability
/// `x / s`, and else zero. `stochastic=original` is QPyTorch's own rule instead
/// (`float_quantize_stochastic`: `round_bitwise`, then `clip_exponent`), which rounds there to the
/// place that the number's own exponent gives, and then takes what is above half of `s` to `s`, and
/// the rest to zero:
///
/// ```text
/// x <= s/2:                     0
/// s/2 < x < s/2 * (1 + 2^-m):   s with probability (x - s/2) / (s/2 * 2^-m), else 0
/// s/2 * (1 + 2^-m) <= x < s:    s
/// ```
///
/// From `s` on the two are the same, but for infinity and NaN, which become the largest value as to
/// nearest. With eight exponent bits there is no such number below `s`.
///
/// Text: `qpytorch(5,2)`, `qpytorch(5,2,stochastic=original)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QPyTorch {
    exponent: u8,
    mantissa: u8,
    /// Whether stochastic rounding is QPyTorch's own.
    original: bool,
}

impl QPyTorch {
    /// With `exponent` and `mantissa` bits.
    ///
    /// # Errors
    ///
    /// If `exponent` is not in 1..=8 or `mantissa` not in 0..=22.
    pub fn new(exponent: u8, mantissa: u8) -> Result<Self, FormatError> {
        check_range("qpytorch", "exponent", exponent, 1..=8)?;
        check_range("qpytorch", "mantissa", mantissa, 0..=22)?;
        Ok(Self {
            exponent,
            mantissa,
            original: false,
        })
    }

    /// The same format with QPyTorch's own stochastic rounding below the smallest value.
    pub fn with_original_stochastic(self) -> Self {
        Self {
            original: true,
            ..self
        }
    }

    /// Whether stochastic rounding is QPyTorch's own.
    pub fn has_original_stochastic(&self) -> bool {
        self.original
    }

    /// Exponent bits.
    pub fn exponent(&self) -> u8 {
        self.exponent
    }

    /// Mantissa bits.
    pub fn mantissa(&self) -> u8 {
        self.mantissa
    }

    /// The stored f32 exponents of the smallest and the largest value.
    fn exponents(&self) -> (u32, u32) {
        let reach = (1 << (self.exponent - 1)) - 1;
        (127 - reach, 127 + reach)
    }

    fn largest(&self) -> u32 {
        let mantissa = 0x7F_FFFF >> (23 - self.mantissa) << (23 - self.mantissa);
        self.exponents().1 << 23 | mantissa
    }

    /// Whether QPyTorch's stochastic rounding takes a magnitude below the smallest value to it, given
    /// half of that value.
    fn is_taken_up(&self, magnitude: Wide, half: f64, bits: u8, random: u32) -> bool {
        if magnitude.compare(half) != Ordering::Greater {
            return false;
        }
        let place = half / f64::from(1u32 << self.mantissa);
        // A number just below a threshold is not at it.
        let known = match magnitude.beyond_nearest() {
            Ordering::Less => magnitude.nearest().next_down(),
            _ => magnitude.nearest(),
        };
        known - half >= place || moves_on(known - half, place, bits, random)
    }

    fn smallest(&self) -> u32 {
        match self.exponents().0 {
            0 => 1 << (23 - self.mantissa),
            exponent => exponent << 23,
        }
    }
}

impl FormatText for QPyTorch {
    const EXAMPLES: &'static [&'static str] = &[
        "qpytorch(5,2)",
        "qpytorch(8,7)",
        "qpytorch(5,2,stochastic=original)",
    ];

    fn has_name(name: &str) -> bool {
        name == "qpytorch"
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let (widths, options) = call.split(2)?;
        let format = Self::new(widths[0].number("exponent")?, widths[1].number("mantissa")?)?;
        match options {
            [] => Ok(format),
            [option] if (option.key(), option.value()) == ("stochastic", "original") => {
                Ok(format.with_original_stochastic())
            }
            [option, ..] if option.key() == "stochastic" => Err(Reason(format!(
                "stochastic `{}` is unknown, expected original",
                option.value()
            ))),
            [option, ..] => Err(Reason(format!(
                "`{}` is one argument too many",
                option.key()
            ))),
        }
    }
}

impl fmt::Display for QPyTorch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "qpytorch({},{}", self.exponent, self.mantissa)?;
        f.write_str(if self.original {
            ",stochastic=original)"
        } else {
            ")"
        })
    }
}

impl ScalarFormat for QPyTorch {
    type Grid<'a> = QPyTorchGrid;

    fn grid(&self) -> QPyTorchGrid {
        let bias = 1 << (self.exponent - 1);
        let largest = self.largest();
        // With eight exponent bits f32's subnormals count as one more binade.
        let whole = self.exponent == 8;
        let float = FloatGrid {
            shift: u32::from(23 - self.mantissa),
            min_exponent: if whole { 0 } else { 128 - bias },
            small: 151 - bias,
            min_positive: self.smallest(),
            max: largest,
            overflow: largest,
            infinity: largest,
            minus_zero: whole,
            odd_to_max: true,
        };
        QPyTorchGrid {
            half: 1 << (22 - self.mantissa),
            kept: u32::MAX << (23 - self.mantissa),
            smallest: if whole { 0 } else { self.smallest() },
            middle: self.smallest().saturating_sub(1 << 23),
            largest,
            cut: 23 - u32::from(self.mantissa),
            original: self.original,
            float,
        }
    }

    fn round_wide(&self, x: Wide, rounding: Rounding, random: u32) -> f32 {
        let smallest = f64::from(f32::from_bits(self.smallest()));
        match rounding {
            Rounding::Stochastic { bits, .. }
                if self.original
                    && self.exponent < 8
                    && x.abs().compare(smallest) == Ordering::Less =>
            {
                let magnitude = if self.is_taken_up(x.abs(), 0.5 * smallest, bits, random) {
                    smallest as f32
                } else {
                    0.0
                };
                if x.is_negative() && magnitude > 0.0 {
                    -magnitude
                } else {
                    magnitude
                }
            }
            _ => wide::round(self, x, rounding, random),
        }
    }

    fn bits(&self) -> u32 {
        1 + u32::from(self.exponent) + u32::from(self.mantissa)
    }

    fn encode(&self, value: f32) -> u32 {
        let sign = 1 << (self.exponent + self.mantissa);
        let magnitude = value.abs().to_bits().min(self.largest());
        let whole = self.exponent == 8;
        if value.is_nan() || (magnitude < self.smallest() && !whole) {
            return 0;
        }
        // The field of the smallest exponent is 1; f32's subnormals, where they count, have 0.
        let below = self.exponents().0.saturating_sub(1) << self.mantissa;
        let code = (magnitude >> (23 - self.mantissa)) - below;
        code | if value.is_sign_negative() { sign } else { 0 }
    }

    fn decode(&self, code: u32) -> f32 {
        let sign = 1 << (self.exponent + self.mantissa);
        let magnitude = code & (sign - 1);
        let below = self.exponents().0.saturating_sub(1) << self.mantissa;
        let bits = (magnitude + below) << (23 - self.mantissa);
        if bits < self.smallest() && self.exponent < 8 {
            return 0.0;
        }
        let value = f32::from_bits(bits.min(self.largest()));
        if code & sign != 0 { -value } else { value }
    }

    fn code_fields<'a>(&self, digits: &'a str) -> Vec<CodeField<'a>> {
        let exponent = self.exponent().into();
        fields(digits, &[("sign", 1), ("exponent", exponent)], "mantissa")
    }

    fn integer_range(&self) -> Option<IntegerRange> {
        None
    }

    fn facts(&self) -> Facts {
        let (low, high) = self.exponents();
        let mut positive = u64::from(high - low + 1) << self.mantissa;
        if low == 0 {
            // Zero is among f32's subnormals.
            positive -= 1;
        }
        let max = f32::from_bits(self.largest());
        let extent = Extent {
            min: -max,
            max,
            min_normal: Some(f32::from_bits(low.max(1) << 23)),
            values: 2 * positive + 1,
            infinity: false,
            nan: false,
            minus_zero: low == 0,
        };
        Facts::new(self, extent)
    }

    fn min(&self) -> f32 {
        -self.max()
    }

    fn max(&self) -> f32 {
        f32::from_bits(self.largest())
    }
}

/// The constants of rounding to a [`QPyTorch`] format; magnitudes are bits of f32.
#[derive(Debug, Clone, Copy)]
pub struct QPyTorchGrid {
    /// Half of the last kept place.
    half: u32,
    /// The sign and the kept bits.
    kept: u32,
    smallest: u32,
    /// Half of the smallest value.
    middle: u32,
    largest: u32,
    /// How many bits are cut.
    cut: u32,
    /// Whether stochastic rounding is QPyTorch's own.
    original: bool,
    /// For the other modes.
    float: FloatGrid,
}

impl QPyTorchGrid {
    #[inline(always)]
    fn nearest(&self, x: f32) -> f32 {
        self.cut_after(x, self.half)
    }

    /// QPyTorch adds as many random bits as are cut; with fewer, those above count.
    #[inline(always)]
    fn original_stochastic(&self, x: f32, bits: u8, random: u32) -> f32 {
        let kept = random & (u32::MAX << (32 - u32::from(bits)));
        self.cut_after(x, kept >> (32 - self.cut))
    }

    /// The bits of `x` and something more, cut, and brought into the range.
    #[inline(always)]
    fn cut_after(&self, x: f32, added: u32) -> f32 {
        const SIGN: u32 = 1 << 31;
        let rounded = x.to_bits().wrapping_add(added) & self.kept;
        let magnitude = rounded & !SIGN;
        let sign = x.to_bits() & SIGN;
        f32::from_bits(if magnitude > self.largest {
            self.largest | sign
        } else if magnitude >= self.smallest {
            // With its own sign, which a carry may have changed.
            rounded
        } else if magnitude > self.middle {
            self.smallest | sign
        } else {
            0
        })
    }
}

impl Grid for QPyTorchGrid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        match rounding {
            mode if mode.is_nearest() => self.nearest(x),
            Rounding::Stochastic { bits, .. } if self.original => {
                self.original_stochastic(x, bits, random)
            }
            _ => self.float.round(x, rounding, random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(format: QPyTorch, x: f32) -> f32 {
        format.grid().round(x, Rounding::NearestEven, 0)
    }

    /// Checksums (64-bit FNV-1a over the results' bits) of QPyTorch 0.2.0's `round_bitwise` and
    /// `clip_exponent`, compiled from its sources, over every 65,519th bit pattern of f32.
    #[test]
    fn equal_to_qpytorch_bit_for_bit() {
        for (exponent, mantissa, expected) in [
            (5, 2, 0xebe7_745d_556a_a32d),
            (4, 3, 0x357a_4d0e_0afa_a32d),
            (2, 1, 0xca5d_7a74_1a6a_a32d),
            (1, 4, 0xc614_1cc9_6d42_a32d),
            (8, 7, 0x2c0f_8666_437b_a32d),
            (8, 22, 0x5f3b_1297_5013_3cc3),
            (6, 9, 0xe3cf_7bdf_afe7_a32d),
            (3, 0, 0x800f_faea_b26a_a32d),
        ] {
            let format = QPyTorch::new(exponent, mantissa).unwrap();
            let checksum = (0..=u32::MAX / 65_519).fold(0xcbf2_9ce4_8422_2325u64, |hash, i| {
                let result = nearest(format, f32::from_bits(i * 65_519)).to_bits();
                (hash ^ u64::from(result)).wrapping_mul(0x100_0000_01b3)
            });
            assert_eq!(checksum, expected, "{format}");
        }
    }

    /// By hand: exponents from -15 to 15, two bits of mantissa.
    #[test]
    fn five_two_by_hand() {
        let format = QPyTorch::new(5, 2).unwrap();
        let smallest = 2f32.powi(-15);
        for (x, expected) in [
            (1.125, 1.25),
            (1e9, 57344.0),
            (f32::NEG_INFINITY, -57344.0),
            (f32::NAN, 57344.0),
            (0.5 * smallest, 0.0),
            (0.6 * smallest, smallest),
            (-0.0, 0.0),
        ] {
            assert_eq!(nearest(format, x), expected, "{x}");
        }
        let facts = format.facts();
        assert_eq!((facts.max, facts.min_positive), (57344.0, Some(smallest)));
        // 31 exponents of 4 values each, both signs, and zero.
        assert_eq!(facts.values, 249);
        assert!(QPyTorch::new(9, 2).is_err());
        assert!(QPyTorch::new(5, 23).is_err());
    }

    /// How many of the random numbers of `bits` bits take `x` to `upper`; the others take it to
    /// `lower`.
    fn ups(format: QPyTorch, x: f32, (lower, upper): (f32, f32), bits: u8) -> usize {
        let rounding = Rounding::Stochastic {
            seed: 0,
            stream: 0,
            bits,
        };
        let results = (0..1u32 << bits)
            .map(|random| random << (32 - bits))
            .map(|random| {
                let single = format.grid().round(x, rounding, random);
                let wide = format.round_wide(f64::from(x).into(), rounding, random);
                assert_eq!(single.to_bits(), wide.to_bits(), "{format} {x:e}");
                assert!(
                    single == lower || single == upper,
                    "{format} {x:e} is {single:e}"
                );
                single
            });
        results.filter(|&y| y == upper).count()
    }

    /// By hand. With two bits of mantissa the place below the smallest value s = 2^-15 is
    /// s/2 * 2^-2 = s/8: from 5/8 s on everything becomes s, at s/2 and below nothing does, and 17/32
    /// s lies a quarter of the way from 4/8 to 5/8. QPyTorch's test of clamping has 0.75 s become s.
    /// Unbiased, s comes as often as x / s says; and 9/8 s, above the smallest value, is half of the
    /// way to 5/4 s in both.
    #[test]
    fn original_stochastic_rounding_by_hand() {
        let unbiased = QPyTorch::new(5, 2).unwrap();
        let original = unbiased.with_original_stochastic();
        let s = 2f32.powi(-15);
        for (x, own, without_bias) in [
            (0.25 * s, 0, 8),
            (0.5 * s, 0, 16),
            (17.0 / 32.0 * s, 8, 17),
            (18.0 / 32.0 * s, 16, 18),
            (20.0 / 32.0 * s, 32, 20),
            (0.75 * s, 32, 24),
            (0.5f32.next_up() * s, 0, 16),
            (0.625f32.next_down() * s, 31, 19),
            (s.next_down(), 32, 31),
            (s, 32, 32),
        ] {
            assert_eq!(ups(original, x, (0.0, s), 5), own, "{x:e}");
            assert_eq!(ups(original, -x, (0.0, -s), 5), own, "{x:e}");
            assert_eq!(ups(unbiased, x, (0.0, s), 5), without_bias, "{x:e}");
        }
        for format in [original, unbiased] {
            assert_eq!(ups(format, 1.125 * s, (s, 1.25 * s), 5), 16, "{format}");
            assert_eq!(ups(format, 1e9, (0.0, 57344.0), 5), 32, "{format}");
        }
        // Without a mantissa the place is s/2 itself.
        let none = QPyTorch::new(4, 0).unwrap().with_original_stochastic();
        let s = 2f32.powi(-7);
        assert_eq!(ups(none, 0.75 * s, (0.0, s), 5), 16);
        let rounding = Rounding::stochastic(0, 0);
        for x in [f32::INFINITY, f32::NAN] {
            assert_eq!(original.grid().round(x, rounding, 0), 57344.0);
        }
        assert_eq!(
            original.grid().round(f32::NEG_INFINITY, rounding, 0),
            -57344.0
        );
    }

    /// In the other modes and above the smallest value the option changes nothing.
    #[test]
    fn the_original_rule_is_for_small_numbers() {
        for (exponent, mantissa) in [(5, 2), (4, 3), (8, 7), (1, 4), (6, 22)] {
            let unbiased = QPyTorch::new(exponent, mantissa).unwrap();
            let original = unbiased.with_original_stochastic();
            let smallest = f32::from_bits(unbiased.smallest());
            let modes = Rounding::DETERMINISTIC
                .into_iter()
                .chain([Rounding::stochastic(0, 0)]);
            for mode in modes {
                for x in (0..u32::MAX / 65_519).map(|i| f32::from_bits(i * 65_519)) {
                    let random = x.to_bits().wrapping_mul(0x9E37_79B9);
                    let stochastic = matches!(mode, Rounding::Stochastic { .. });
                    let is_small = x.abs() < smallest && exponent < 8;
                    if stochastic && (is_small || !x.is_finite()) {
                        continue;
                    }
                    let [ours, own] = [unbiased, original].map(|f| f.grid().round(x, mode, random));
                    let same = ours.to_bits() == own.to_bits() || ours.is_nan() && own.is_nan();
                    assert!(same, "{original} {mode:?} {x:e}: {own:e}, not {ours:e}");
                }
            }
        }
    }

    #[test]
    fn texts_of_the_original_rule() {
        let parse = |text: &str| QPyTorch::from_call(&Call::parse(text).unwrap());
        let original = parse("qpytorch( 5, 2, stochastic = original )").unwrap();
        assert!(original.has_original_stochastic());
        assert_eq!(original.to_string(), "qpytorch(5,2,stochastic=original)");
        let reason = |text| parse(text).unwrap_err().0;
        assert_eq!(
            reason("qpytorch(5,2,stochastic=own)"),
            "stochastic `own` is unknown, expected original"
        );
        assert_eq!(reason("qpytorch(5,2,3)"), "`3` is one argument too many");
    }
}
