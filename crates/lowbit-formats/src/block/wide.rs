//! Blocks of numbers that f32 does not hold.

use std::cmp::Ordering;

use crate::block::BlockFormat;
use crate::block::codes::element;
use crate::block::granularity::{Extent, Granularity};
use crate::block::power_of_two::nonzero;
use crate::block::scales::{Scales, Step};
use crate::error::FormatError;
use crate::kernel;
use crate::rounding::Rounding;
use crate::rounding::philox::Philox;
use crate::scalar::{Grid, ScalarFormat, Visitor, Wide};

/// The smallest and the largest number of a block, zero included. NaN does not count, and an infinity
/// or a finite number beyond f32 counts as the largest f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) low: Wide,
    pub(crate) high: Wide,
    /// Whether the block holds NaN or an infinity.
    pub(crate) special: bool,
}

/// The exact ranges of a tensor's blocks.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// In the order of [`Granularity::scales`].
    pub(crate) blocks: Vec<Range>,
    /// The largest magnitude of all finite numbers.
    pub(crate) largest_finite: Wide,
}

impl Range {
    fn empty() -> Self {
        Self {
            low: 0.0.into(),
            high: 0.0.into(),
            special: false,
        }
    }

    fn include(&mut self, x: Wide) {
        self.special |= !x.nearest().is_finite();
        if x.nearest().is_nan() {
            return;
        }
        let x = within_singles(x);
        if x.compare_wide(self.low) == Ordering::Less {
            self.low = x;
        }
        if x.compare_wide(self.high) == Ordering::Greater {
            self.high = x;
        }
    }

    /// The largest magnitude.
    pub(crate) fn magnitude(&self) -> Wide {
        let low = self.low.abs();
        match low.compare_wide(self.high) {
            Ordering::Greater => low,
            _ => self.high,
        }
    }
}

/// A number brought within the range of f32.
fn within_singles(x: Wide) -> Wide {
    match x.abs().compare(f32::MAX.into()) {
        Ordering::Greater => f64::from(f32::MAX).copysign(x.nearest()).into(),
        _ => x,
    }
}

impl Ranges {
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub(crate) fn new<T: Into<Wide> + Copy>(
        granularity: Granularity,
        input: &[T],
        shape: &[usize],
    ) -> Result<Self, FormatError> {
        granularity.check(input.len(), shape)?;
        let extent = granularity.extent(shape)?;
        let mut ranges = Self {
            blocks: vec![Range::empty(); granularity.scales(shape)?],
            largest_finite: 0.0.into(),
        };
        let mut done = 0;
        while done < input.len() {
            let end = done + granularity.same_scale(extent, done);
            let block = granularity.scale_of(extent, done);
            for &x in &input[done..end] {
                ranges.include(block, x.into());
            }
            done = end;
        }
        Ok(ranges)
    }

    fn include(&mut self, block: usize, x: Wide) {
        self.blocks[block].include(x);
        if x.nearest().is_finite() {
            let magnitude = within_singles(x).abs();
            if magnitude.compare_wide(self.largest_finite) == Ordering::Greater {
                self.largest_finite = magnitude;
            }
        }
    }
}

/// What stands for numbers where a scale is a power of two, by which f32 are divided exactly.
pub(crate) fn odd<T: Into<Wide> + Copy + Sync>(input: &[T]) -> Vec<f32> {
    kernel::each_index(input.len(), |i| input[i].into().to_odd())
}

/// A number divided by its block's scale.
pub(crate) fn divided(x: Wide, step: Step, rounding: Rounding) -> f32 {
    nonzero(step.divide_wide(x), x.to_odd(), rounding)
}

impl BlockFormat {
    /// As [`quantize`](Self::quantize), of numbers that f32 need not hold, with the random words
    /// that follow `skipped` groups. Scales follow from the numbers as they are, rounded once, and
    /// so does each element; of numbers that are f32 comes what [`quantize`](Self::quantize) gives.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub(crate) fn quantize_wide<T: Into<Wide> + Copy + Sync>(
        &self,
        skipped: u64,
        input: &[T],
        shape: &[usize],
        rounding: Rounding,
    ) -> Result<Vec<f32>, FormatError> {
        let Some((scales, steps)) = self.scales_and_steps(input, shape)? else {
            let mut output = vec![0.0; input.len()];
            self.quantize_after(skipped, &odd(input), shape, &mut output, rounding)?;
            return Ok(output);
        };
        rounding.validate()?;
        let philox = match rounding {
            Rounding::Stochastic { seed, stream, .. } => {
                Some(Philox::new(seed, stream).skip_groups(skipped))
            }
            _ => None,
        };
        let word = |i: usize| philox.map_or(0, |philox| philox.word(i as u64));
        let granularity = self.granularity();
        Ok(self.with_element(Round {
            input,
            granularity,
            extent: granularity.extent(shape)?,
            steps: &steps,
            factors: &scales.steps(),
            rounding,
            word,
        }))
    }

    /// A number that f32 need not hold, as a block of one element.
    pub(crate) fn round_alone(&self, x: Wide, rounding: Rounding, random: u32) -> f32 {
        let mut ranges = Ranges {
            blocks: vec![Range::empty()],
            largest_finite: 0.0.into(),
        };
        ranges.include(0, x);
        let Some((scales, steps)) = self.exact_scales(&ranges) else {
            return self.grid().round(x.to_odd(), rounding, random);
        };
        let rounded = self.with_element(Round {
            input: &[x],
            granularity: Granularity::Tensor,
            extent: Extent {
                outer: 1,
                length: 1,
                inner: 1,
            },
            steps: &steps,
            factors: &scales.steps(),
            rounding,
            word: |_| random,
        });
        rounded[0]
    }

    /// The scales of numbers that f32 need not hold, and how those are divided; `None` where scales
    /// are powers of two.
    ///
    /// # Errors
    ///
    /// [`FormatError::Shape`] if the shape does not fit.
    pub(crate) fn scales_and_steps<T: Into<Wide> + Copy>(
        &self,
        input: &[T],
        shape: &[usize],
    ) -> Result<Option<(Scales, Vec<Step>)>, FormatError> {
        if !self.has_exact_scales() {
            return Ok(None);
        }
        let ranges = Ranges::new(self.granularity(), input, shape)?;
        Ok(self.exact_scales(&ranges))
    }
}

struct Round<'a, T, W> {
    input: &'a [T],
    granularity: Granularity,
    extent: Extent,
    /// How the numbers of each block become elements.
    steps: &'a [Step],
    /// How elements become numbers.
    factors: &'a [Step],
    rounding: Rounding,
    /// The random word of an element.
    word: W,
}

impl<T: Into<Wide> + Copy + Sync, W: Fn(usize) -> u32 + Sync> Visitor for Round<'_, T, W> {
    type Output = Vec<f32>;

    fn visit<F: ScalarFormat>(self, format: &F) -> Vec<f32> {
        let number = |i: usize| {
            let scale = self.granularity.scale_of(self.extent, i);
            let step = self.steps[scale];
            let scaled = divided(self.input[i].into(), step, self.rounding);
            let value = element(format, scaled, step, self.rounding, (self.word)(i));
            self.factors[scale].multiply(value)
        };
        kernel::each_index(self.input.len(), number)
    }
}
