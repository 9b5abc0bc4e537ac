//! Codes: the integers that stand for a format's values.

use crate::facts::Facts;
use crate::format::Visitor;
use crate::grid::ScalarFormat;
use crate::{Format, FormatError, Rounding, kernel};

/// The widest format whose values are listed.
const LISTED_BITS: u32 = 16;

impl Format {
    /// Rounds each number and gives the code of the result. Stochastic rounding draws as
    /// [`quantize`](Self::quantize) does.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if the number of random bits is not in 1..=32,
    /// [`FormatError::Unsupported`] for block formats, whose codes need their scales:
    /// [`BlockFormat::encode`](crate::BlockFormat::encode) gives both.
    pub fn encode(&self, input: &[f32], rounding: Rounding) -> Result<Vec<u32>, FormatError> {
        struct Encode<'a>(&'a [f32]);
        impl Visitor for Encode<'_> {
            type Output = Vec<u32>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Vec<u32> {
                kernel::map_to_vec(self.0, |value| format.encode(value))
            }
        }
        if let Self::Block(format) = self {
            return Err(FormatError::Unsupported {
                format: format.to_string(),
                operation: "codes without scales".into(),
            });
        }
        let values = self.quantize_to_vec(input, rounding)?;
        Ok(self.visit(Encode(&values)))
    }

    /// The values of codes, those of a block format at a scale of one; bits above those of the
    /// format are ignored.
    pub fn decode(&self, codes: &[u32]) -> Vec<f32> {
        struct Decode<'a>(&'a [u32]);
        impl Visitor for Decode<'_> {
            type Output = Vec<f32>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Vec<f32> {
                kernel::map_to_vec(self.0, |code| format.decode(code))
            }
        }
        self.visit(Decode(codes))
    }

    /// All values in ascending order, infinities included; zero once, NaN not.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] for formats of more than 16 bits.
    pub fn values(&self) -> Result<Vec<f32>, FormatError> {
        if self.bits() > LISTED_BITS {
            return Err(FormatError::Unsupported {
                format: self.to_string(),
                operation: format!("a list of values: it has more than {LISTED_BITS} bits"),
            });
        }
        let codes: Vec<u32> = (0..1 << self.bits()).collect();
        let mut values = self.decode(&codes);
        values.retain(|value| !value.is_nan());
        // Adding zero turns minus zero into zero.
        values.iter_mut().for_each(|value| *value += 0.0);
        values.sort_by(f32::total_cmp);
        values.dedup();
        Ok(values)
    }

    /// What there is to know about the format.
    ///
    /// # Errors
    ///
    /// [`FormatError::Unsupported`] for formats that have no facts of their own.
    pub fn facts(&self) -> Result<Facts, FormatError> {
        struct Describe;
        impl Visitor for Describe {
            type Output = Facts;
            fn visit<F: ScalarFormat>(self, format: &F) -> Facts {
                format.facts()
            }
        }
        Ok(self.visit(Describe))
    }
}

/// Half-precision slices, for formats whose values they hold.
impl Format {
    /// As [`quantize`](Self::quantize) for `f16` or `bf16`.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize), and [`FormatError::Unsupported`] if the type does not hold
    /// every value of the format.
    pub fn quantize_half<H: Half>(
        &self,
        input: &[H],
        output: &mut [H],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        crate::grid::check_slices(input.len(), output.len(), rounding)?;
        if !self.fits(H::FORMAT)? {
            return Err(FormatError::Unsupported {
                format: self.to_string(),
                operation: format!("{} slices, which do not hold all its values", H::FORMAT),
            });
        }
        kernel::map_parts(
            input,
            output,
            #[inline(always)]
            |x: H| x.widen(),
            |part, skipped| self.quantize_part(part, rounding, skipped),
            #[inline(always)]
            |x| H::narrow(x),
        );
        Ok(())
    }

    /// Whether the named float holds every value of this format, so that rounding to it changes
    /// none.
    fn fits(&self, float: &str) -> Result<bool, FormatError> {
        if matches!(self, Self::Block(_)) {
            return Ok(false);
        }
        let float: Self = float.parse()?;
        let exact = |x: f32| float.round(x, Rounding::TowardZero, 0) == x;
        if self.bits() <= LISTED_BITS {
            return Ok(self.limits_are_finite_or_kept() && self.values()?.into_iter().all(exact));
        }
        Ok(*self == float)
    }

    /// Not so for formats that leave numbers beyond their limits alone.
    fn limits_are_finite_or_kept(&self) -> bool {
        let (min, max) = self.limits();
        let infinity = self.facts().is_ok_and(|facts| facts.infinity);
        infinity || (min.is_finite() && max.is_finite())
    }
}

/// A half-precision number.
pub trait Half: kernel::Element {
    /// The name of its format.
    const FORMAT: &'static str;

    /// The number as f32, exactly.
    fn widen(self) -> f32;

    /// A number of this type, given as f32.
    fn narrow(x: f32) -> Self;
}

impl Half for half::bf16 {
    const FORMAT: &'static str = "bf16";

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_bits((x.to_bits() >> 16) as u16)
    }
}

impl Half for half::f16 {
    const FORMAT: &'static str = "fp16";

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        // Exponent and mantissa in place, and the difference of the biases, 112, by a product
        // that also normalizes subnormals. Infinity and NaN need the highest exponent.
        let scaled = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
        let special = if bits & 0x7C00 == 0x7C00 {
            0x7F80_0000
        } else {
            0
        };
        f32::from_bits(scaled.to_bits() | special | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        let bits = x.to_bits();
        let sign = (bits >> 16) & 0x8000;
        // The opposite product, which is exact for a number that f16 holds.
        let scaled = f32::from_bits(bits & 0x7FFF_FFFF) * f32::from_bits((127 - 112) << 23);
        let magnitude = if x.is_nan() {
            0x7E00
        } else if x.is_infinite() {
            0x7C00
        } else {
            scaled.to_bits() >> 13
        };
        Self::from_bits((magnitude | sign) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Format {
        text.parse().unwrap()
    }

    /// OCP microscaling, table 4 (e2m1), and by hand.
    #[test]
    fn values_in_order() {
        assert_eq!(
            parse("e2m1").values().unwrap(),
            [
                -6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0
            ]
        );
        assert_eq!(parse("int2").values().unwrap(), [-2.0, -1.0, 0.0, 1.0]);
        assert_eq!(parse("unit(1)").values().unwrap(), [0.0, 1.0]);
        assert!(parse("fp32").values().is_err());
    }

    #[test]
    fn codes_by_hand() {
        // e4m3: 448 = S.1111.110, 2^-9 = S.0000.001, NaN = S.1111.111; e5m2: infinity = S.11111.00.
        let codes = |text, input: &[f32]| parse(text).encode(input, Rounding::default()).unwrap();
        assert_eq!(
            codes("e4m3", &[448.0, -0.001_953_125, 1.0, -0.0, 500.0]),
            [0x7E, 0x81, 0x38, 0x80, 0x7F]
        );
        assert_eq!(codes("e5m2", &[1e9, -1e9, 1.0]), [0x7C, 0xFC, 0x3C]);
        assert_eq!(codes("e4m3fnuz", &[f32::NAN, -0.0, 1.0]), [0x80, 0, 0x40]);
        assert_eq!(codes("fixed(8,6)", &[-2.0, -1.0, 1.5]), [0x80, 0xC0, 0x60]);
        assert_eq!(codes("int4", &[-8.0, -1.0, 7.0, f32::NAN]), [8, 15, 7, 0]);
        assert_eq!(codes("unit(2)", &[0.0, 0.34, 1.0]), [0, 1, 3]);
    }

    #[test]
    fn halves_widen_and_narrow_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (f, b) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
            assert!(f.widen() == f.to_f32() || f.is_nan() && f.widen().is_nan());
            assert!(b.widen() == b.to_f32() || b.is_nan() && b.widen().is_nan());
            assert!(half::f16::narrow(f.widen()).to_bits() == bits || f.is_nan());
            assert!(half::bf16::narrow(b.widen()).to_bits() == bits);
        }
    }

    #[test]
    fn half_slices_round_as_f32_does() {
        let input: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
        let mut output = input.clone();
        for text in ["e4m3", "e5m2", "fixed(8,6)", "fp16"] {
            let format = parse(text);
            for rounding in [
                Rounding::NearestEven,
                Rounding::Up,
                Rounding::stochastic(1, 2),
            ] {
                format.quantize_half(&input, &mut output, rounding).unwrap();
                let wide: Vec<f32> = input.iter().map(|x| x.to_f32()).collect();
                let wide = format.quantize_to_vec(&wide, rounding).unwrap();
                for (half, single) in output.iter().zip(wide) {
                    assert!(half.to_f32() == single || half.is_nan() && single.is_nan());
                }
            }
        }
        for text in [
            "bf16",
            "fixed(16,4)",
            "unit(4)",
            "fp32",
            "fixed(8,6,unbounded)",
        ] {
            assert!(
                parse(text)
                    .quantize_half(&input, &mut output, Rounding::Up)
                    .is_err()
            );
        }
    }
}
