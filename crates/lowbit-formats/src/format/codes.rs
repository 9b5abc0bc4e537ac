//! Codes: the integers that stand for a format's values.

use crate::error::FormatError;
use crate::format::Format;
use crate::kernel;
use crate::rounding::Rounding;
use crate::scalar::ScalarFormat;
use crate::scalar::Visitor;
use crate::scalar::facts::Facts;

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

    /// The code of a value that rounding gives; of a block format, of an element at a scale of one.
    pub(crate) fn code_of(&self, value: f32) -> u32 {
        struct Encode(f32);
        impl Visitor for Encode {
            type Output = u32;
            fn visit<F: ScalarFormat>(self, format: &F) -> u32 {
                format.encode(self.0)
            }
        }
        self.visit(Encode(value))
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

    /// What there is to know about the format; of a block format, about an element at a scale of
    /// one.
    pub fn facts(&self) -> Facts {
        struct Describe;
        impl Visitor for Describe {
            type Output = Facts;
            fn visit<F: ScalarFormat>(self, format: &F) -> Facts {
                format.facts()
            }
        }
        self.visit(Describe)
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
}
