//! Single numbers under the glass: value, code and error of each.

use std::cmp::Ordering;

use serde::{Serialize, Serializer};

use crate::block::BlockFormat;
use crate::error::FormatError;
use crate::format::Format;
use crate::kernel::pack;
use crate::rounding::Rounding;
use crate::rounding::philox::Philox;
use crate::scalar::Wide;
use crate::scalar::facts::Facts;

/// Formats of at most this many bits have all their codes listed by [`Format::describe`].
pub const LISTED_BITS: u32 = 8;

/// A format's facts and, if it has at most [`LISTED_BITS`] bits, all its codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Description {
    /// The format's text.
    pub format: String,
    /// What the name does not mean, where it may be taken for another format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// What there is to know about it; of a block format, about an element at a scale of one.
    pub facts: Facts,
    /// Every code, in ascending order of values, NaN last; empty for wider formats.
    pub codes: Vec<Code>,
}

/// A code and what it stands for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Code {
    /// The code.
    pub code: u32,
    /// The code in binary, its fields apart.
    pub bits: String,
    /// The value; in JSON, `"nan"`, `"inf"` and `"-inf"` are texts.
    #[serde(serialize_with = "number_or_text")]
    pub value: f32,
}

/// What became of a number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rounded {
    /// The number, or its nearest f64; of a finite number beyond those, the largest.
    #[serde(serialize_with = "double_or_text")]
    pub input: f64,
    /// The value to which it was rounded.
    #[serde(serialize_with = "number_or_text")]
    pub value: f32,
    /// The value's code; of a block format, the element's.
    pub code: u32,
    /// The code in binary, its fields apart.
    pub bits: String,
    /// `(value - input) / (upper - lower)`, the error in units of the gap between the input's two
    /// neighbours; 0 for a number that is kept, or nearer to its value than f64 tells, `None` if there is a neighbour on one side only,
    /// beyond the format's range.
    pub error_ulp: Option<f64>,
}

impl Format {
    /// Facts and codes.
    pub fn describe(&self) -> Description {
        let listed = if self.bits() <= LISTED_BITS {
            1 << self.bits()
        } else {
            0
        };
        let codes: Vec<u32> = (0..listed).collect();
        let values = self.decode(&codes);
        let mut codes: Vec<Code> = codes
            .into_iter()
            .zip(values)
            .map(|(code, value)| Code {
                code,
                bits: self.code_text(code),
                value,
            })
            .collect();
        codes.sort_by(|a, b| {
            let nan_last = a.value.is_nan().cmp(&b.value.is_nan());
            nan_last.then(a.value.total_cmp(&b.value))
        });
        Description {
            format: self.to_string(),
            note: self.note(),
            facts: self.facts(),
            codes,
        }
    }

    /// What a name does not mean.
    fn note(&self) -> Option<&'static str> {
        let Self::Codebook(table) = self else {
            return None;
        };
        table.to_string().starts_with("fp4").then_some(
            "bitsandbytes' table of four bits, up to 1; the four-bit float of OCP, up to 6, is e2m1",
        )
    }

    /// Rounds numbers, as one tensor of one dimension, and says what became of each.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if the number of random bits is not in 1..=32;
    /// [`FormatError::Shape`] if the format shares scales along another dimension than the first.
    pub fn inspect(&self, input: &[f32], rounding: Rounding) -> Result<Vec<Rounded>, FormatError> {
        let wide: Vec<Wide> = input.iter().map(|&x| f64::from(x).into()).collect();
        self.inspect_wide(&wide, rounding)
    }

    /// As [`inspect`](Self::inspect), for numbers that f32 need not hold, each rounded once as
    /// [`round_wide`](Self::round_wide) does.
    ///
    /// # Errors
    ///
    /// As [`inspect`](Self::inspect).
    pub fn inspect_wide(
        &self,
        input: &[Wide],
        rounding: Rounding,
    ) -> Result<Vec<Rounded>, FormatError> {
        let [found, lower, upper] =
            [rounding, Rounding::Down, Rounding::Up].map(|mode| self.round_all(input, mode));
        let ((values, codes), (lower, _), (upper, _)) = (found?, lower?, upper?);
        let rounded = |i: usize| Rounded {
            input: input[i].nearest(),
            value: values[i],
            code: codes[i],
            bits: self.code_text(codes[i]),
            error_ulp: error_ulp(input[i], values[i], lower[i], upper[i]),
        };
        Ok((0..input.len()).map(rounded).collect())
    }

    /// Each number, or the tensor of them, rounded, and the codes; in stochastic rounding number `i`
    /// takes word `i`.
    fn round_all(
        &self,
        input: &[Wide],
        rounding: Rounding,
    ) -> Result<(Vec<f32>, Vec<u32>), FormatError> {
        if let Self::Block(format) = self {
            return self.round_block(format, input, rounding);
        }
        rounding.validate()?;
        let word = |i| match rounding {
            Rounding::Stochastic { seed, stream, .. } => Philox::new(seed, stream).word(i),
            _ => 0,
        };
        let numbers = (0..).zip(input);
        let values = numbers.map(|(i, &x)| self.round_wide(x, rounding, word(i)));
        let values: Vec<f32> = values.collect();
        let codes = values.iter().map(|&value| self.code_of(value)).collect();
        Ok((values, codes))
    }

    /// A tensor of one dimension whose numbers share scales: what its codes stand for, and NaN where no
    /// code does.
    fn round_block(
        &self,
        format: &BlockFormat,
        input: &[Wide],
        rounding: Rounding,
    ) -> Result<(Vec<f32>, Vec<u32>), FormatError> {
        let codes = format.encode_wide(input, &[input.len()], rounding)?;
        let mut values = format.decode(&codes)?;
        for (value, x) in values.iter_mut().zip(input) {
            if x.nearest().is_nan() {
                *value = f32::NAN;
            }
        }
        let codes = pack::unpack(&codes.elements, self.bits(), input.len())?;
        Ok((values, codes))
    }
}

fn error_ulp(input: Wide, value: f32, lower: f32, upper: f32) -> Option<f64> {
    let [value, lower, upper] = [value, lower, upper].map(f64::from);
    if input == value.into() {
        return Some(0.0);
    }
    let between = input.compare(lower) == Ordering::Greater
        && input.compare(upper) == Ordering::Less
        && upper - lower < f64::INFINITY;
    let within = between && value.is_finite() && !input.nearest().is_nan();
    within.then(|| (value - input.nearest()) / (upper - lower))
}

/// As [`number_or_text`].
fn double_or_text<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.serialize_str(&value.to_string().to_lowercase())
    }
}

/// JSON has no infinities and no NaN; they are written as texts.
fn number_or_text<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f32(*value)
    } else {
        serializer.serialize_str(&value.to_string().to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Format {
        text.parse().unwrap()
    }

    /// OCP 8-bit floating point, table 2: 448 is S.1111.110 and S.1111.111 is NaN.
    #[test]
    fn codes_are_listed_in_order() {
        let description = parse("e4m3").describe();
        assert_eq!(description.codes.len(), 256);
        let first = &description.codes[0];
        assert_eq!((first.value, first.code), (-448.0, 0xFE));
        let largest = &description.codes[253];
        assert_eq!(
            (largest.value, largest.bits.as_str()),
            (448.0, "0 1111 110")
        );
        assert!(description.codes[254].value.is_nan() && description.codes[255].value.is_nan());
        assert!(parse("fp16").describe().codes.is_empty());
    }

    /// bitsandbytes' table ends at 12 over 12, e2m1 at 6 (OCP microscaling, table 5).
    #[test]
    fn fp4_is_told_from_e2m1() {
        let description = parse("fp4").describe();
        assert_eq!(description.facts.max, 1.0);
        assert!(description.note.unwrap().contains("e2m1"));
        let float = parse("e2m1").describe();
        assert_eq!((float.facts.max, float.note), (6.0, None));
    }

    #[test]
    fn errors_in_ulp_by_hand() {
        // 0.3 lies between 0.28125 and 0.3125 in e4m3, whose step there is 1/32.
        let rounded = parse("e4m3")
            .inspect(&[0.3, 1.0, 1e9, f32::NAN], Rounding::NearestEven)
            .unwrap();
        let expected = (0.3125 - f64::from(0.3f32)) * 32.0;
        assert_eq!(rounded[0].error_ulp, Some(expected));
        assert_eq!(rounded[0].bits, "0 0101 010");
        assert_eq!(rounded[1].error_ulp, Some(0.0));
        assert_eq!(rounded[2].error_ulp, None);
        assert_eq!(rounded[3].error_ulp, None);
    }

    /// Numbers beside a value, nearer to it than any f64, lie within the range.
    #[test]
    fn texts_lie_between_their_neighbours() {
        for (format, text, value) in [
            ("e4m3", "1.00000000000000000000001", 1.0),
            ("posit(16,1)", "0.99999999999999999999999", 1.0),
            ("fp32", "1e-400", 0.0),
            ("nvfp4", "-1.00000000000000000000001", -1.0),
        ] {
            let wide = [text.parse().unwrap()];
            let rounded = parse(format).inspect_wide(&wide, Rounding::NearestEven);
            let rounded = &rounded.unwrap()[0];
            assert_eq!(rounded.value, value, "{format} {text}");
            if format != "nvfp4" {
                assert_eq!(rounded.error_ulp, Some(0.0), "{format} {text}");
            }
        }
        let beyond = [
            "1e400".parse().unwrap(),
            "448.0000000000000000001".parse().unwrap(),
        ];
        for rounded in parse("e4m3")
            .inspect_wide(&beyond, Rounding::NearestEven)
            .unwrap()
        {
            assert_eq!(rounded.error_ulp, None);
        }
    }

    /// OCP microscaling, section 6.3: the largest, 12, has the exponent 3, of which e2m1 takes 2,
    /// so the scale is 2 and the elements are those of 6, 0.5 and 1.5.
    #[test]
    fn a_block_is_rounded_together() {
        let rounded = parse("mxfp4")
            .inspect(&[12.0, 1.0, 3.1], Rounding::NearestEven)
            .unwrap();
        let values: Vec<f32> = rounded.iter().map(|r| r.value).collect();
        assert_eq!(values, [12.0, 1.0, 3.0]);
        let bits: Vec<&str> = rounded.iter().map(|r| r.bits.as_str()).collect();
        assert_eq!(bits, ["0 11 1", "0 00 1", "0 01 1"]);
    }

    /// What is shown of a tensor is what the kernels make of it.
    #[test]
    fn blocks_are_those_of_the_kernels() {
        let ends = [0.0, -0.0, 1e-30, -3e38, f32::NAN, f32::INFINITY, 448.0, 0.5];
        let spread = (0..64u8).map(|i| (f32::from(i) - 31.0) * 0.37);
        let tensors = [
            &ends[..],
            &ends[..4],
            &ends[6..],
            &spread.collect::<Vec<_>>(),
        ];
        for text in BlockFormat::examples() {
            for rounding in Rounding::DETERMINISTIC {
                for tensor in tensors.iter() {
                    let mut kernel = vec![0.0; tensor.len()];
                    let format = parse(text);
                    let shape = [tensor.len()];
                    let done = format.quantize_shaped(tensor, &shape, &mut kernel, rounding);
                    let Ok(found) = format.inspect(tensor, rounding) else {
                        assert!(done.is_err(), "{text}");
                        continue;
                    };
                    let bits = |x: f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
                    let shown: Vec<u32> = found.iter().map(|r| bits(r.value)).collect();
                    let kernel: Vec<u32> = kernel.into_iter().map(bits).collect();
                    assert_eq!(shown, kernel, "{text} {rounding} {tensor:?}");
                }
            }
        }
    }

    #[test]
    fn no_numbers_are_no_results() {
        for text in [
            "e4m3",
            "mxfp4",
            "nvfp4",
            "bfp(8)",
            "affine(8)",
            "scaled(nf4)",
        ] {
            assert_eq!(parse(text).inspect(&[], Rounding::Up), Ok(vec![]));
        }
    }
}
