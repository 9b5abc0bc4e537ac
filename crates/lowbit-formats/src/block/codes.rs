//! Codes of block formats: packed elements beside the scales they share.

use crate::block::BlockFormat;
use crate::block::granularity::{Extent, Granularity};
use crate::block::power_of_two::nonzero;
use crate::block::scales::{Scales, Step};
use crate::block::wide::{divided, odd};
use crate::error::FormatError;
use crate::kernel::{self, pack};
use crate::rounding::Rounding;
use crate::rounding::philox::Philox;
use crate::scalar::{Grid, ScalarFormat, Visitor, Wide};

/// A tensor at its true size.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockCodes {
    /// Extents of the tensor.
    pub shape: Vec<usize>,
    /// What blocks share, in the order of [`Granularity::scales`].
    pub scales: Scales,
    /// The elements' codes in row-major order, packed as [`pack`] does.
    pub elements: Vec<u8>,
}

impl BlockCodes {
    /// Bits of the elements and of all scales: 8 for a power of two or an 8-bit float, 32 for a
    /// tensor's scale and for each scale and zero point of integers, 32 or 16 for a scale that is a
    /// wider float; 8 for one that is quantized itself, 32 for each group of those and for the mean.
    pub fn bits(&self) -> usize {
        let scales = match &self.scales {
            Scales::PowersOfTwo(codes) => 8 * codes.len(),
            Scales::Float8 { blocks, .. } => 8 * blocks.len() + 32,
            Scales::Affine(parameters) => 64 * parameters.len(),
            Scales::Float { values, kind } => kind.bits() as usize * values.len(),
            Scales::Double { codes, groups, .. } => 8 * codes.len() + 32 * (groups.len() + 1),
        };
        8 * self.elements.len() + scales
    }
}

impl BlockFormat {
    /// Rounds a tensor and gives its codes. [`decode`](Self::decode) gives what
    /// [`quantize`](Self::quantize) gives, except for NaN among block floating-point words and
    /// integers, which no code holds: it becomes zero.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn encode(
        &self,
        input: &[f32],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<BlockCodes, FormatError> {
        rounding.validate()?;
        self.granularity().check(input.len(), shape)?;
        let scales = self.scales(input, shape)?;
        let steps = self.steps(input, shape, &scales)?;
        let scaled = |i: usize, step: Step| nonzero(step.divide(input[i]), input[i], rounding);
        self.codes(shape, scales, &steps, scaled, rounding)
    }

    /// As [`encode`](Self::encode), with scales that are given: of `input` or of other numbers.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode) and, of the scales, as [`decode`](Self::decode).
    pub fn encode_with(
        &self,
        input: &[f32],
        shape: &[usize],
        scales: Scales,
        rounding: Rounding,
    ) -> Result<BlockCodes, FormatError> {
        rounding.validate()?;
        self.granularity().check(input.len(), shape)?;
        self.check_scales(&scales, shape)?;
        let steps = scales.steps();
        let scaled = |i: usize, step: Step| nonzero(step.divide(input[i]), input[i], rounding);
        self.codes(shape, scales, &steps, scaled, rounding)
    }

    /// As [`scales`](Self::scales), of a part of a tensor whose scales are `whole`: where blocks have
    /// scales in steps of the tensor's, in steps of that one.
    ///
    /// # Errors
    ///
    /// As [`scales`](Self::scales).
    pub fn scales_of_part(
        &self,
        whole: &Scales,
        input: &[f32],
        shape: &[usize],
    ) -> Result<Scales, FormatError> {
        match (self, whole) {
            (Self::NvFp4(format), &Scales::Float8 { tensor, .. }) => {
                let blocks = format.block_scales(tensor, input, shape)?;
                Ok(Scales::Float8 { tensor, blocks })
            }
            _ => self.scales(input, shape),
        }
    }

    /// Whether scales are those of a tensor of that shape.
    fn check_scales(&self, scales: &Scales, shape: &[usize]) -> Result<(), FormatError> {
        if !self.are_scales(scales) {
            return Err(FormatError::Unsupported {
                format: self.to_string(),
                operation: "scales of this kind".into(),
            });
        }
        let expected = self.granularity().scales(shape)?;
        if scales.len() != expected {
            return Err(FormatError::Length {
                input: scales.len(),
                output: expected,
            });
        }
        Ok(())
    }

    /// As [`encode`](Self::encode), of numbers that f32 need not hold.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub(crate) fn encode_wide<T: Into<Wide> + Copy + Sync>(
        &self,
        input: &[T],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<BlockCodes, FormatError> {
        let Some((scales, steps)) = self.scales_and_steps(input, shape)? else {
            return self.encode(&odd(input), shape, rounding);
        };
        rounding.validate()?;
        let scaled = |i: usize, step: Step| divided(input[i].into(), step, rounding);
        self.codes(shape, scales, &steps, scaled, rounding)
    }

    /// The codes of numbers that `scaled` divides by their block's scale, given their index.
    fn codes(
        &self,
        shape: &[usize],
        scales: Scales,
        steps: &[Step],
        scaled: impl Fn(usize, Step) -> f32 + Sync,
        rounding: Rounding,
    ) -> Result<BlockCodes, FormatError> {
        let granularity = self.granularity();
        let codes = self.with_element(Encode {
            elements: shape.iter().product(),
            scaled,
            granularity,
            extent: granularity.extent(shape)?,
            steps,
            rounding,
        });
        Ok(BlockCodes {
            shape: shape.to_vec(),
            scales,
            elements: pack::pack(&codes, self.bits())?,
        })
    }

    /// The numbers that codes stand for.
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape lacks the format's dimension, [`FormatError::Length`]
    /// if there are not as many scales or codes as the shape asks for, and
    /// [`FormatError::Unsupported`] if the scales are not of this format's kind.
    pub fn decode(&self, codes: &BlockCodes) -> Result<Vec<f32>, FormatError> {
        let granularity = self.granularity();
        let extent = granularity.extent(&codes.shape)?;
        self.check_scales(&codes.scales, &codes.shape)?;
        let elements = pack::unpack(&codes.elements, self.bits(), extent.elements())?;
        let steps = codes.scales.steps();
        Ok(self.with_element(Decode {
            codes: &elements,
            granularity,
            extent,
            steps: &steps,
        }))
    }
}

/// The value of an element, from what a number is in steps of its block's scale.
pub(crate) fn element<F: ScalarFormat>(
    format: &F,
    scaled: f32,
    step: Step,
    rounding: Rounding,
    random: u32,
) -> f32 {
    match step {
        // The limits of integers lie about their zero point.
        Step::Affine(_) => {
            let steps = rounding.to_integer(scaled, random) + step.zero_point();
            steps.clamp(format.min(), format.max())
        }
        _ => format.grid().round(scaled, rounding, random),
    }
}

struct Encode<'a, S> {
    elements: usize,
    scaled: S,
    granularity: Granularity,
    extent: Extent,
    steps: &'a [Step],
    rounding: Rounding,
}

impl<S: Fn(usize, Step) -> f32 + Sync> Visitor for Encode<'_, S> {
    type Output = Vec<u32>;

    fn visit<F: ScalarFormat>(self, format: &F) -> Vec<u32> {
        let philox = match self.rounding {
            Rounding::Stochastic { seed, stream, .. } => Some(Philox::new(seed, stream)),
            _ => None,
        };
        let code = |i: usize| {
            let step = self.steps[self.granularity.scale_of(self.extent, i)];
            let random = philox.map_or(0, |philox| philox.word(i as u64));
            let scaled = (self.scaled)(i, step);
            let value = element(format, scaled, step, self.rounding, random);
            let without_code = value.is_nan() && matches!(step, Step::Affine(_));
            format.encode(if without_code {
                step.zero_point()
            } else {
                value
            })
        };
        kernel::each_index(self.elements, code)
    }
}

struct Decode<'a> {
    codes: &'a [u32],
    granularity: Granularity,
    extent: Extent,
    steps: &'a [Step],
}

impl Visitor for Decode<'_> {
    type Output = Vec<f32>;

    fn visit<F: ScalarFormat>(self, format: &F) -> Vec<f32> {
        let number = |i: usize| {
            let step = self.steps[self.granularity.scale_of(self.extent, i)];
            step.multiply(format.decode(self.codes[i]))
        };
        kernel::each_index(self.codes.len(), number)
    }
}
