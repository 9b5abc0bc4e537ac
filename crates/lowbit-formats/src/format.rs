//! The enumeration of all formats, with its text form.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::apot::AdditivePowerOfTwo;
use crate::block_format::BlockFormat;
use crate::codebook::Codebook;
use crate::e8m0::E8M0;
use crate::fixed::FixedPoint;
use crate::float::Float;
use crate::granularity::Granularity;
use crate::grid::{
    Grid, Pass, Quantize, QuantizeInPlace, QuantizeToVec, ScalarFormat, check_slices,
};
use crate::integer::Integer;
use crate::lns::Logarithmic;
use crate::p3109::P3109;
use crate::philox::GROUP;
use crate::posit::Posit;
use crate::pot::PowerOfTwo;
use crate::qpytorch::QPyTorch;
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
    /// Posits.
    Posit(Posit),
    /// Tables of values.
    Codebook(Codebook),
    /// Powers of two.
    PowerOfTwo(PowerOfTwo),
    /// Sums of powers of two.
    AdditivePowerOfTwo(AdditivePowerOfTwo),
    /// Logarithmic numbers.
    Logarithmic(Logarithmic),
    /// Numbers that share a scale. Without a shape, a slice is a tensor of one dimension.
    Block(BlockFormat),
    /// Floating point of IEEE P3109.
    P3109(P3109),
    /// QPyTorch's floating point.
    QPyTorch(QPyTorch),
    /// Powers of two in eight bits, the scales of microscaling.
    E8M0(E8M0),
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
const EXAMPLES: [&str; 42] = [
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
    "posit(8,0)",
    "posit(8,2)",
    "posit(16,1)",
    "posit(16,2,scale_log2=-3)",
    "posit(32,2)",
    "pot(4)",
    "pot(5,max=2)",
    "apot(5)",
    "apot(4,alpha=2)",
    "lns(4,3)",
    "table(-1,0,0.5,2)",
    "table(1,2,4,sign)",
    "table(1,2,4,sign,geometric=0.0001)",
    "nf4(scale=0.5)",
    "ternary(thresholds(0.25))",
    "p3109(8,4)",
    "p3109(8,3,finite)",
    "p3109(8,4,unsigned)",
    "p3109(8,3,unsigned,finite,saturate)",
    "p3109(8,1)",
    "qpytorch(5,2)",
    "qpytorch(8,7)",
    "e8m0",
];

impl Format {
    /// Passes the format of its own type to `visitor`. A block format shows its elements' view, in
    /// which each number is a block of its own.
    pub fn visit<V: Visitor>(&self, visitor: V) -> V::Output {
        match self {
            Self::Fixed(format) => visitor.visit(format),
            Self::Float(format) => visitor.visit(format),
            Self::Integer(format) => visitor.visit(format),
            Self::Unit(format) => visitor.visit(format),
            Self::Posit(format) => visitor.visit(format),
            Self::Codebook(format) => visitor.visit(format),
            Self::PowerOfTwo(format) => visitor.visit(format),
            Self::AdditivePowerOfTwo(format) => visitor.visit(format),
            Self::Logarithmic(format) => visitor.visit(format),
            Self::Block(format) => visitor.visit(format),
            Self::P3109(format) => visitor.visit(format),
            Self::QPyTorch(format) => visitor.visit(format),
            Self::E8M0(format) => visitor.visit(format),
        }
    }

    /// Runs `pass` with the format's grid, compiled for its kind.
    pub fn apply<P: Pass>(&self, pass: P) -> P::Output {
        struct Apply<P>(P);
        impl<P: Pass> Visitor for Apply<P> {
            type Output = P::Output;
            fn visit<F: ScalarFormat>(self, format: &F) -> P::Output {
                format.apply(self.0)
            }
        }
        self.visit(Apply(pass))
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let name = call.name();
        if let Some(format) = BlockFormat::from_call(call) {
            return format.map(Self::Block);
        }
        match name {
            "fixed" | "ufixed" => FixedPoint::from_call(call).map(Self::Fixed),
            "float" => Float::from_call(call).map(Self::Float),
            "unit" => UnitGrid::from_call(call).map(Self::Unit),
            "posit" => Posit::from_call(call).map(Self::Posit),
            "pot" => PowerOfTwo::from_call(call).map(Self::PowerOfTwo),
            "apot" => AdditivePowerOfTwo::from_call(call).map(Self::AdditivePowerOfTwo),
            "lns" => Logarithmic::from_call(call).map(Self::Logarithmic),
            "table" => Codebook::from_call(call).map(Self::Codebook),
            _ if Codebook::names().any(|known| known == name) => {
                Codebook::from_call(call).map(Self::Codebook)
            }
            "p3109" => P3109::from_call(call).map(Self::P3109),
            "qpytorch" => QPyTorch::from_call(call).map(Self::QPyTorch),
            "e8m0" => E8M0::from_call(call).map(Self::E8M0),
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
        if let Self::Block(format) = self {
            return format.quantize(input, &[input.len()], output, rounding);
        }
        self.quantize_from(0, input, output, rounding)
    }

    /// As [`quantize`](Self::quantize), for a contiguous tensor of a shape, in row-major order.
    /// The shape matters to formats whose elements share a scale along a dimension.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize), and [`FormatError::Shape`] if the shape does not have as
    /// many elements, or lacks the format's dimension.
    pub fn quantize_shaped(
        &self,
        input: &[f32],
        shape: &[usize],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        if let Self::Block(format) = self {
            return format.quantize(input, shape, output, rounding);
        }
        Granularity::Tensor.check(input.len(), shape)?;
        self.quantize(input, output, rounding)
    }

    /// As [`quantize_shaped`](Self::quantize_shaped), in place.
    ///
    /// # Errors
    ///
    /// As [`quantize_shaped`](Self::quantize_shaped).
    pub fn quantize_shaped_in_place(
        &self,
        data: &mut [f32],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        if let Self::Block(format) = self {
            return format.quantize_in_place(data, shape, rounding);
        }
        Granularity::Tensor.check(data.len(), shape)?;
        self.quantize_in_place(data, rounding)
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
        if let Self::Block(format) = self {
            return format.quantize_in_place(data, &[data.len()], rounding);
        }
        rounding.validate()?;
        self.quantize_part(data, rounding, 0);
        Ok(())
    }

    /// In place, with the random words that follow `skipped` groups; `rounding` is valid.
    pub(crate) fn quantize_part(&self, data: &mut [f32], rounding: Rounding, skipped: u64) {
        self.apply(QuantizeInPlace {
            data,
            rounding,
            skipped,
        });
    }

    /// As [`quantize`](Self::quantize) for the part of a tensor that begins at element `first`: a
    /// tensor that is passed in parts gets the numbers that it gets in one pass.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize), [`FormatError::Parameter`] if `first` is not a multiple of
    /// 32, and [`FormatError::Unsupported`] for block formats.
    pub fn quantize_from(
        &self,
        first: u64,
        input: &[f32],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        check_slices(input.len(), output.len(), rounding)?;
        if let Self::Block(format) = self {
            return Err(FormatError::Unsupported {
                format: format.to_string(),
                operation: "tensors in parts, whose scales need the whole".into(),
            });
        }
        if !first.is_multiple_of(GROUP as u64) {
            return Err(FormatError::Parameter {
                format: "quantize_from",
                field: "first",
                value: first.to_string(),
                expected: format!("a multiple of {GROUP}"),
            });
        }
        self.apply(Quantize {
            input,
            output,
            rounding,
            skipped: first / GROUP as u64,
        });
        Ok(())
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
        if let Self::Block(format) = self {
            let mut output = vec![0.0; input.len()];
            format.quantize(input, &[input.len()], &mut output, rounding)?;
            return Ok(output);
        }
        rounding.validate()?;
        Ok(self.apply(QuantizeToVec { input, rounding }))
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
        Float::names()
            .chain(Codebook::names())
            .chain(EXAMPLES)
            .chain(BlockFormat::EXAMPLES)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(format) => format.fmt(f),
            Self::Float(format) => format.fmt(f),
            Self::Integer(format) => format.fmt(f),
            Self::Unit(format) => format.fmt(f),
            Self::Posit(format) => format.fmt(f),
            Self::Codebook(format) => format.fmt(f),
            Self::PowerOfTwo(format) => format.fmt(f),
            Self::AdditivePowerOfTwo(format) => format.fmt(f),
            Self::Logarithmic(format) => format.fmt(f),
            Self::Block(format) => format.fmt(f),
            Self::P3109(format) => format.fmt(f),
            Self::QPyTorch(format) => format.fmt(f),
            Self::E8M0(format) => format.fmt(f),
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

/// The valid text nearest to an invalid one: closed where it was not, or with the same arguments if
/// those were not at fault, or with the same name.
fn suggestion(text: &str) -> String {
    if let Ok(format) = Call::parse(&format!("{text})")).and_then(|call| Format::from_call(&call)) {
        return format.to_string();
    }
    if let Some((name, arguments)) = text.split_once('(') {
        let names = Format::examples().filter_map(|example| example.split('(').next());
        let renamed = format!("{}({arguments}", nearest(name.trim(), names));
        let parsed = Call::parse(&renamed).and_then(|call| Format::from_call(&call));
        if let Ok(format) = parsed {
            return format.to_string();
        }
    }
    let name = |text: &'_ str| {
        text.split('(')
            .next()
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    let namesakes = Format::examples().filter(|example| name(example) == name(text));
    let namesake = nearest(text.trim(), namesakes);
    if namesake.is_empty() {
        nearest(text.trim(), Format::examples()).into()
    } else {
        namesake.into()
    }
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

from_kind!(
    Fixed: FixedPoint,
    Float: Float,
    Integer: Integer,
    Unit: UnitGrid,
    Posit: Posit,
    Codebook: Codebook,
    PowerOfTwo: PowerOfTwo,
    AdditivePowerOfTwo: AdditivePowerOfTwo,
    Logarithmic: Logarithmic,
    P3109: P3109,
    QPyTorch: QPyTorch,
    E8M0: E8M0,
    Block: BlockFormat
);

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
            ("mxfp8", "mxfp8(e4m3)"),
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
