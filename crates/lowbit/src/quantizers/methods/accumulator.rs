//! The width of the register in which a layer sums its sums.

use std::ops::RangeInclusive;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{Operand, Saturation};
use crate::quantizers::watch::Switch;

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
    /// Where a sum over the operands saturates; `None` while one of them is not
    /// quantized to integers times a power of two, or if no sum is too wide.
    pub(crate) fn saturation<const I: usize, const W: usize>(
        &self,
        input: &Operand<I>,
        weight: &Operand<W>,
        sums: Sums,
    ) -> Option<Saturation> {
        if !self.switch.is_on() {
            return None;
        }
        let (input, weight) = (input.quantization()?, weight.quantization()?);
        let saturation = match sums.term {
            Term::Product => Saturation::of_products(input, weight, sums.terms, self.bits),
            Term::Distance => Saturation::of_distances(input, weight, self.bits),
        }?;
        Some(saturation.repeated(sums.groups))
    }
}
