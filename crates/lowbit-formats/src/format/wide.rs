//! Numbers that f32 does not hold, from f64 and from text.

use crate::block::Granularity;
use crate::error::FormatError;
use crate::format::Format;
use crate::kernel;
use crate::rounding::Rounding;
use crate::rounding::philox::{GROUP, Philox};
use crate::scalar::wide::to_odd;
use crate::scalar::{ScalarFormat, Visitor, Wide, check_slices};

mod decimal;

/// Up to this many bits every value of a float, and every boundary, has an even f32 significand.
const EVEN_BITS: u32 = 16;

impl Format {
    /// The number of this format, among those that are f32, to which `x` is rounded. It is rounded
    /// once, not to f32 first: `1 + 2^-8 + 2^-30` is above the middle of two bfloat16 numbers, though
    /// its nearest f32 is not.
    ///
    /// A finite number beyond f32 gives what a large finite number gives, and a tiny one is no zero.
    /// In stochastic rounding the probability is that of [`Rounding::Stochastic`] with the fraction
    /// of `x` itself. In a format with a float scale the scale follows from `x` itself, and so does
    /// the quotient of a number that is no f32; see
    /// [`BlockFormat`](crate::BlockFormat).
    ///
    /// ```
    /// use lowbit_formats::{Format, Rounding};
    ///
    /// let format: Format = "fp32".parse()?;
    /// assert_eq!(format.round_f64(0.1, Rounding::Down, 0), 0.099999994);
    /// # Ok::<(), lowbit_formats::FormatError>(())
    /// ```
    pub fn round_f64(&self, x: f64, rounding: Rounding, random: u32) -> f32 {
        self.round_wide(x.into(), rounding, random)
    }

    /// The number to which a decimal text such as `1.00390625000001` is rounded, once.
    ///
    /// # Errors
    ///
    /// As [`f64::from_str`](str::parse), whose texts it takes.
    pub fn round_text(
        &self,
        text: &str,
        rounding: Rounding,
        random: u32,
    ) -> Result<f32, std::num::ParseFloatError> {
        Ok(self.round_wide(text.parse()?, rounding, random))
    }

    /// As [`round_f64`](Self::round_f64), of a number between those of f64.
    pub fn round_wide(&self, x: Wide, rounding: Rounding, random: u32) -> f32 {
        struct Round(Wide, Rounding, u32);
        impl Visitor for Round {
            type Output = f32;
            fn visit<F: ScalarFormat>(self, format: &F) -> f32 {
                format.round_wide(self.0, self.1, self.2)
            }
        }
        self.visit(Round(x, rounding, random))
    }

    /// `output[i] = round_f64(input[i])`; in stochastic rounding, element `i` takes word `i` of the
    /// generator, as in [`quantize`](Self::quantize).
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn quantize_f64(
        &self,
        input: &[f64],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        self.quantize_f64_shaped(input, &[input.len()], output, rounding)
    }

    /// As [`quantize_f64`](Self::quantize_f64), for a contiguous tensor of a shape, in row-major order.
    ///
    /// # Errors
    ///
    /// As [`quantize_shaped`](Self::quantize_shaped).
    pub fn quantize_f64_shaped(
        &self,
        input: &[f64],
        shape: &[usize],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        Granularity::Tensor.check(input.len(), shape)?;
        if let Self::Block(format) = self {
            check_slices(input.len(), output.len(), rounding)?;
            output.copy_from_slice(&format.quantize_wide(0, input, shape, rounding)?);
            return Ok(());
        }
        self.quantize_f64_from(0, input, output, rounding)
    }

    /// As [`quantize_f64`](Self::quantize_f64) for the part of a tensor that begins at element
    /// `first`.
    ///
    /// # Errors
    ///
    /// As [`quantize_from`](Self::quantize_from).
    pub fn quantize_f64_from(
        &self,
        first: u64,
        input: &[f64],
        output: &mut [f32],
        rounding: Rounding,
    ) -> Result<(), FormatError> {
        struct Quantize<'a>(&'a [f64], &'a mut [f32], Rounding, u64);
        impl Visitor for Quantize<'_> {
            type Output = ();
            fn visit<F: ScalarFormat>(self, format: &F) {
                let Self(input, output, rounding, groups) = self;
                if let Rounding::Stochastic { seed, stream, .. } = rounding {
                    let philox = Philox::new(seed, stream).skip_groups(groups);
                    return kernel::map_random(input, output, philox, |x: f64, random| {
                        format.round_wide(x.into(), rounding, random)
                    });
                }
                kernel::map(input, output, |x: f64| {
                    format.round_wide(x.into(), rounding, 0)
                });
            }
        }
        check_slices(input.len(), output.len(), rounding)?;
        let at_random = matches!(rounding, Rounding::Stochastic { .. });
        let even = matches!(self, Self::Float(_) | Self::P3109(_)) && self.bits() <= EVEN_BITS;
        let ready = first.is_multiple_of(GROUP as u64) && !matches!(self, Self::Block(_));
        if !ready || (even && !at_random) {
            // An odd f32 lies on the same side of all values and boundaries as the number itself.
            let singles = kernel::map_to_vec(input, to_odd);
            return self.quantize_from(first, &singles, output, rounding);
        }
        self.visit(Quantize(input, output, rounding, first / GROUP as u64));
        Ok(())
    }
}
