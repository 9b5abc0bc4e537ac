//! The enumeration of all formats, with its text form.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fixed::FixedPoint;
use crate::float::Float;
use crate::grid::{self, Grid, ScalarFormat};
use crate::integer::Integer;
use crate::text::{Call, Reason, nearest};
use crate::unit::UnitGrid;
use crate::{FormatError, Rounding};

/// A number format, as data: comparable, hashable, and printed, parsed and serialized as its text.
///
/// ```
/// use lowbit_formats::{Format, Rounding};
///
/// let format: Format = "e4m3".parse()?;
/// let mut output = [0.0; 3];
/// format.quantize(&[0.3, -1.0, 1e9], &mut output, Rounding::TowardZero)?;
/// assert_eq!(output, [0.28125, -1.0, 448.0]);
/// # Ok::<(), lowbit_formats::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Format {
    /// Fixed point.
    Fixed(FixedPoint),
    /// Floating point.
    Float(Float),
    /// Integers.
    Integer(Integer),
    /// The grid of k bits on 0..1.
    Unit(UnitGrid),
}

/// Something to do with a format once its kind is known, so that the kind is looked up once per
/// slice and not per number.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<F: ScalarFormat>(self, format: &F) -> Self::Output;
}

/// Texts that an error may suggest, at least one of each kind.
const EXAMPLES: [&str; 19] = [
    "fixed(8,6)",
    "fixed(8,6,symmetric)",
    "fixed(8,6,wrap)",
    "fixed(8,6,unbounded)",
    "ufixed(8,8)",
    "float(4,3)",
    "e4m3(saturate)",
    "float(4,4,fnuz)",
    "float(3,3,finite)",
    "float(4,3,bias=9,flush)",
    "int8",
    "int8(narrow)",
    "int4",
    "int16",
    "uint8",
    "uint4",
    "uint8(narrow)",
    "unit(4)",
    "unit(8)",
];

impl Format {
    /// Passes the format of its own type to `visitor`.
    pub fn visit<V: Visitor>(&self, visitor: V) -> V::Output {
        match self {
            Self::Fixed(format) => visitor.visit(format),
            Self::Float(format) => visitor.visit(format),
            Self::Integer(format) => visitor.visit(format),
            Self::Unit(format) => visitor.visit(format),
        }
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let name = call.name();
        match name {
            "fixed" | "ufixed" => FixedPoint::from_call(call).map(Self::Fixed),
            "float" => Float::from_call(call).map(Self::Float),
            "unit" => UnitGrid::from_call(call).map(Self::Unit),
            _ if Float::named(name).is_some() => Float::from_call(call).map(Self::Float),
            _ if name.starts_with("int") || name.starts_with("uint") => {
                Integer::from_call(call).map(Self::Integer)
            }
            _ => Err(Reason("no format has this name".into())),
        }
    }

    /// The number of this format to which `x` is rounded; `random` decides stochastic rounding
    /// and does not matter otherwise.
    pub fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        struct Round(f32, Rounding, u32);
        impl Visitor for Round {
            type Output = f32;
            fn visit<F: ScalarFormat>(self, format: &F) -> f32 {
                format.grid().round(self.0, self.1, self.2)
            }
        }
        self.visit(Round(x, rounding, random))
    }

    /// `output[i] = round(input[i])`; in stochastic rounding, element `i` takes word `i` of the
    /// generator ([`Philox`](crate::philox::Philox)), however the work is spread over threads.
    ///
    /// # Errors
    ///
    /// [`FormatError::Length`] if the slices differ in length, [`FormatError::Parameter`] if the
    /// number of random bits is not in 1..=32.
    pub fn quantize(
        &self,
        input: &[f32],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        struct Quantize<'a>(&'a [f32], &'a mut [f32], Rounding);
        impl Visitor for Quantize<'_> {
            type Output = Result<(), FormatError>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Self::Output {
                grid::quantize(format.grid(), self.0, self.1, self.2)
            }
        }
        self.visit(Quantize(input, output, rounding))
    }

    /// As [`quantize`](Self::quantize), in place.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if the number of random bits is not in 1..=32.
    pub fn quantize_in_place(
        &self,
        data: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        struct InPlace<'a>(&'a mut [f32], Rounding);
        impl Visitor for InPlace<'_> {
            type Output = Result<(), FormatError>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Self::Output {
                grid::quantize_in_place(format.grid(), self.0, self.1)
            }
        }
        self.visit(InPlace(data, rounding))
    }

    /// As [`quantize`](Self::quantize), into a new vector whose memory is written once.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if the number of random bits is not in 1..=32.
    pub fn quantize_to_vec(
        &self,
        input: &[f32],
        rounding: Rounding,
    ) -> Result<Vec<f32>, FormatError> {
        struct ToVec<'a>(&'a [f32], Rounding);
        impl Visitor for ToVec<'_> {
            type Output = Result<Vec<f32>, FormatError>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Self::Output {
                grid::quantize_to_vec(format.grid(), self.0, self.1)
            }
        }
        self.visit(ToVec(input, rounding))
    }

    /// How many bits a code takes.
    pub fn bits(&self) -> u32 {
        struct Bits;
        impl Visitor for Bits {
            type Output = u32;
            fn visit<F: ScalarFormat>(self, format: &F) -> u32 {
                format.bits()
            }
        }
        self.visit(Bits)
    }

    /// The smallest and the largest number that rounding gives, infinite where infinities are
    /// kept. Numbers outside are clamped, which is where a straight-through gradient may stop.
    pub fn limits(&self) -> (f32, f32) {
        struct Limits;
        impl Visitor for Limits {
            type Output = (f32, f32);
            fn visit<F: ScalarFormat>(self, format: &F) -> (f32, f32) {
                (format.min(), format.max())
            }
        }
        self.visit(Limits)
    }

    /// The smallest number that rounding gives; see [`limits`](Self::limits).
    pub fn min(&self) -> f32 {
        self.limits().0
    }

    /// The largest number that rounding gives; see [`limits`](Self::limits).
    pub fn max(&self) -> f32 {
        self.limits().1
    }

    /// Names and texts of formats of every kind, to show or to choose from.
    pub fn examples() -> impl Iterator<Item = &'static str> {
        Float::names().chain(EXAMPLES)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(format) => format.fmt(f),
            Self::Float(format) => format.fmt(f),
            Self::Integer(format) => format.fmt(f),
            Self::Unit(format) => format.fmt(f),
        }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Call::parse(text)
            .and_then(|call| Self::from_call(&call))
            .map_err(|Reason(reason)| FormatError::Parse {
                text: text.into(),
                reason,
                nearest: suggestion(text),
            })
    }
}

/// The valid text nearest to an invalid one: with the same arguments if those were not at fault.
fn suggestion(text: &str) -> String {
    if let Some((name, arguments)) = text.split_once('(') {
        let names = Format::examples().filter_map(|example| example.split('(').next());
        let renamed = format!("{}({arguments}", nearest(name.trim(), names));
        let parsed = Call::parse(&renamed).and_then(|call| Format::from_call(&call));
        if let Ok(format) = parsed {
            return format.to_string();
        }
    }
    nearest(text.trim(), Format::examples()).into()
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

macro_rules! from_kind {
    ($($kind:ident: $type:ty),*) => {
        $(impl From<$type> for Format {
            fn from(format: $type) -> Self {
                Self::$kind(format)
            }
        })*
    };
}

from_kind!(Fixed: FixedPoint, Float: Float, Integer: Integer, Unit: UnitGrid);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Format {
        text.parse().unwrap()
    }

    #[test]
    fn examples_print_as_themselves() {
        for text in Format::examples() {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn equal_formats_have_one_text() {
        for (text, canonical) in [
            (" float( 4 , 3 , fn ) ", "e4m3"),
            ("float(4,3,bias=7,fn,saturate)", "e4m3(saturate)"),
            ("float(2,1,finite,saturate)", "e2m1"),
            ("float(4,3,bias=7)", "float(4,3)"),
            ("float(5,10)", "fp16"),
            ("float(8,7,flush,ieee)", "float(8,7,flush)"),
            ("fixed(8,-3)", "fixed(8,-3)"),
        ] {
            assert_eq!(parse(text).to_string(), canonical);
        }
    }

    #[test]
    fn errors_name_the_nearest_format() {
        for (text, expected) in [
            ("e4m4", "e4m3"),
            ("flot(5,3)", "float(5,3)"),
            ("fxied(16,12,wrap)", "fixed(16,12,wrap)"),
            ("int99", "int8"),
            ("fixed(8,200)", "fixed(8,6)"),
            ("bfloat16", "bf16"),
        ] {
            let Err(FormatError::Parse { nearest, .. }) = text.parse::<Format>() else {
                panic!("{text} parses");
            };
            assert_eq!(nearest, expected, "{text}");
        }
        let error = "e4m4".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown format `e4m4`: no format has this name; did you mean `e4m3`?"
        );
    }

    #[test]
    fn slices_must_match() {
        let error = parse("int8").quantize(&[1.0], &mut [], Rounding::Up);
        let expected = FormatError::Length {
            input: 1,
            output: 0,
        };
        assert_eq!(error, Err(expected));
        let rounding = Rounding::Stochastic {
            seed: 0,
            stream: 0,
            bits: 33,
        };
        assert!(parse("int8").quantize_in_place(&mut [], rounding).is_err());
    }
}
