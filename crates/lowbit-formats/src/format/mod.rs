//! The enumeration of all formats.

mod codes;
mod fields;
mod strided;
mod text;
mod wide;

use std::fmt;

use crate::block::BlockFormat;
use crate::block::granularity::Granularity;
use crate::error::FormatError;
use crate::grammar::{Call, Reason};
use crate::rounding::Rounding;
use crate::rounding::philox::GROUP;
use crate::scalar::formats::*;
use crate::scalar::integer_grid::IntegerRange;
use crate::scalar::{
    FormatText, Grid, Pass, Quantize, QuantizeInPlace, QuantizeToVec, ScalarFormat, Visitor,
    check_slices, scalar_formats,
};

/// Makes the enum over all formats, and what it passes on to them.
macro_rules! formats {
    ($($(#[$doc:meta])* $module:ident::$format:ident as $kind:ident,)*) => {
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
        #[non_exhaustive]
        pub enum Format {
            $($(#[$doc])* $kind($format),)*
            /// Numbers that share a scale. Without a shape, a slice is a tensor of one dimension.
            Block(BlockFormat),
        }

        impl Format {
            /// Passes the format of its own type to `visitor`. A block format shows its elements'
            /// view, in which each number is a block of its own.
            pub fn visit<V: Visitor>(&self, visitor: V) -> V::Output {
                match self {
                    $(Self::$kind(format) => visitor.visit(format),)*
                    Self::Block(format) => visitor.visit(format),
                }
            }

            pub(crate) fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
                let name = call.name();
                $(if $format::has_name(name) {
                    return $format::from_call(call).map(Self::$kind);
                })*
                match BlockFormat::from_call(call) {
                    Some(format) => format.map(Self::Block),
                    None => Err(Reason("no format has this name".into())),
                }
            }

            /// Names and texts of formats of every kind, to show or to choose from.
            pub fn examples() -> impl Iterator<Item = &'static str> {
                let mut texts: Vec<&'static str> = Float::names().chain(Codebook::names()).collect();
                $(texts.extend_from_slice($format::EXAMPLES);)*
                texts.extend(BlockFormat::examples());
                texts.into_iter()
            }
        }

        impl fmt::Display for Format {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$kind(format) => format.fmt(f),)*
                    Self::Block(format) => format.fmt(f),
                }
            }
        }

        $(impl From<$format> for Format {
            fn from(format: $format) -> Self {
                Self::$kind(format)
            }
        })*
    };
}

scalar_formats!(formats);

impl From<BlockFormat> for Format {
    fn from(format: BlockFormat) -> Self {
        Self::Block(format)
    }
}

impl Format {
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

    /// The format with its blocks along dimension `dim`, if it has some along the last: of a weight
    /// `[in, out]`, those of `mxfp4` lie along the outputs, and along 0 along what a product sums.
    ///
    /// ```
    /// use lowbit_formats::Format;
    ///
    /// let along = |text: &str| Ok::<_, lowbit_formats::FormatError>(text.parse::<Format>()?.with_blocks_along(0));
    /// assert_eq!(along("mxfp8(e4m3)")?.to_string(), "mxfp8(e4m3,dim=0)");
    /// assert_eq!(along("e4m3")?.to_string(), "e4m3");
    /// # Ok::<(), lowbit_formats::FormatError>(())
    /// ```
    pub fn with_blocks_along(&self, dim: u8) -> Self {
        match self {
            Self::Block(format) => Self::Block(format.along(dim)),
            other => other.clone(),
        }
    }

    /// As [`visit`](Self::visit), with the format of an element at a scale of one in place of a
    /// block format.
    pub(crate) fn visit_element<V: Visitor>(&self, visitor: V) -> V::Output {
        match self {
            Self::Block(format) => format.with_element(visitor),
            _ => self.visit(visitor),
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
    /// generator ([`Philox`](crate::rounding::philox::Philox)), however the work is spread over threads.
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
            return Err(FormatError::parameter(
                "quantize_from",
                "first",
                first,
                format!("a multiple of {GROUP}"),
            ));
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

    /// The integers times a power of two on which all its values lie; see
    /// [`ScalarFormat::integer_range`].
    pub fn integer_range(&self) -> Option<IntegerRange> {
        struct Range;
        impl Visitor for Range {
            type Output = Option<IntegerRange>;
            fn visit<F: ScalarFormat>(self, format: &F) -> Option<IntegerRange> {
                format.integer_range()
            }
        }
        self.visit(Range)
    }

    /// The format with every value multiplied by `2^log2`, where that is fixed point or a
    /// [`Flag`] format, too; `None` for others, and where it would be out of range.
    pub fn times_power_of_two(&self, log2: i32) -> Option<Self> {
        match self {
            Self::Fixed(format) => Some(format.times_power_of_two(log2)?.into()),
            Self::Flag(format) => Some(format.times_power_of_two(log2)?.into()),
            _ => None,
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_must_match() {
        let error = "int8"
            .parse::<Format>()
            .unwrap()
            .quantize(&[1.0], &mut [], Rounding::Up);
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
        assert!(
            "int8"
                .parse::<Format>()
                .unwrap()
                .quantize_in_place(&mut [], rounding)
                .is_err()
        );
    }
}
