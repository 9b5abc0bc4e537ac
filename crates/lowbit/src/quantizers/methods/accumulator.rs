//! The width of the register in which a layer sums its sums.

use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::Tensor;
use lowbit_formats::IntegerGrid;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{Operand, Saturation, SumStep};
use crate::quantizers::integers::Integers;
use crate::quantizers::watch::{Grids, Switch, quality};

/// What a sum adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Term {
    /// Products of an input and a weight.
    Product,
    /// Distances of an input and a weight.
    Distance,
}

/// The sums that a layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// What each sum adds up.
    pub term: Term,
    /// How many of them.
    pub terms: usize,
    /// The dimension of the result that has one index per output channel.
    pub axis: usize,
    /// How often the weight's channels repeat along that dimension.
    pub groups: usize,
}

impl Sums {
    /// The step of these sums; `None` while an operand is not quantized to integers times a power
    /// of two.
    pub(crate) fn step<const I: usize, const W: usize>(
        &self,
        input: &Operand<I>,
        weight: &Operand<W>,
    ) -> Option<SumStep> {
        let (input, weight) = (input.quantization()?, weight.quantization()?);
        let step = match self.term {
            Term::Product => SumStep::of_products(input, weight, self.terms),
            Term::Distance => SumStep::of_distances(input, weight),
        }?;
        Some(step.repeated(self.groups))
    }

    /// Sums of `terms` products, with one of the weight's channels at each index of `axis`.
    pub fn new(terms: usize, axis: usize) -> Self {
        Self {
            term: Term::Product,
            terms,
            axis,
            groups: 1,
        }
    }
}

/// Bits of a layer's sum; in TOML, `accumulator = { bits = 32 }`. See [`Saturation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccumulatorConfig {
    /// Bits of the two's complement sum, 2 to 64.
    pub bits: u32,
}

impl AccumulatorConfig {
    /// Widths of the sum.
    pub const BITS: RangeInclusive<u32> = 2..=64;

    /// The usual width of a sum of products of numbers of so many bits: that of 2^16 products,
    /// 32 to 64. It holds 2^16 products of 8 by 8 bits.
    pub fn usual_bits(weight: u32, input: u32) -> u32 {
        (weight + input + 16).clamp(32, *Self::BITS.end())
    }

    /// Whether the width is in its range.
    pub fn check(&self) -> Result<(), Error> {
        if Self::BITS.contains(&self.bits) {
            return Ok(());
        }
        let message = format!("bits is {}, expected 2 to 64", self.bits);
        Err(Error::config("accumulator", message))
    }

    /// Builds the accumulator.
    pub fn init(&self) -> Accumulator {
        Accumulator {
            bits: self.bits,
            switch: Switch::default(),
        }
    }
}

/// The module of [`AccumulatorConfig`]. It has no parameters: its step is that of the operands.
#[derive(Module, Debug)]
pub struct Accumulator {
    /// Bits of the sum, sign included.
    pub bits: u32,
    /// On or off.
    pub switch: Switch,
}

impl Accumulator {
    /// Where a sum with that step saturates; `None` if it is off, or no sum is too wide.
    pub(crate) fn saturation(&self, step: &SumStep) -> Option<Saturation> {
        let on = self.switch.is_on();
        on.then(|| Saturation::new(step.clone(), self.bits))
            .flatten()
    }

    /// Adds to what is measured a layer's sums and what saturating made of them.
    pub(crate) fn measure<const D: usize>(
        &self,
        step: &SumStep,
        axis: usize,
        sum: &Tensor<D>,
        saturated: &Tensor<D>,
    ) {
        let range = IntegerGrid::new(self.bits, true, 0).map(|grid| grid.range());
        let range = range.expect("an accumulator has 2 to 64 bits");
        let integers = Integers {
            bits: self.bits,
            min: range.min as i64,
            max: range.max as i64,
            log2_steps: step.exponents(),
        };
        let grids = Grids { integers, axis };
        quality::record(self.switch.id(), &grids, sum, saturated, false);
    }
}
