//! Sums of products with constants: what convolutions, linear layers, additions and averages are.
//!
//! `sum[e] = bias[e] + sum over terms of factor (x[input][element] - zero_point[input])`
//!
//! An operator says which terms an output element has, in one place; the interpreter adds them up
//! as they are said, and the proof bounds them.

use crate::numbers::Step;
use crate::ops::Values;
use crate::tensor::{Interval, Residue, Tensor};

/// Bits that a sum may have.
const BITS: u32 = 63;

/// An operator that is a sum of products with constants.
pub(crate) trait LinearSum {
    /// Calls `term(input, element, factor)` for every term of an element of the output.
    fn terms(
        &self,
        inputs: &[&Tensor],
        shape: &[usize],
        element: usize,
        term: impl FnMut(usize, usize, i64),
    );

    /// What is added to the terms of an element.
    fn bias(&self, shape: &[usize], element: usize) -> i64;

    /// Elements of the output whose bounds are those of all: every other one has the same factors as
    /// one of these, of the same channels of the inputs.
    fn representatives(&self, _inputs: &[&Tensor], shape: &[usize]) -> Vec<usize> {
        (0..shape.iter().product()).collect()
    }
}

/// What a channel's sums can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumBound {
    /// The least and the greatest sum, with the bias.
    pub interval: Interval,
    /// An output element that has the least sum for some input.
    pub(crate) least_at: usize,
    /// An output element that has the greatest sum for some input.
    pub(crate) greatest_at: usize,
    /// What every partial sum lies in, in whichever order terms and bias are added.
    pub partial: Interval,
    /// The greatest magnitude of one product.
    pub product: u64,
    /// Terms of the longest sum.
    pub terms: usize,
    /// What is known of the last bits of all sums.
    pub residue: Residue,
}

/// One element's bound, in integers that do not overflow: a sum has at most 2^24 terms of numbers
/// below 2^63 times factors below 2^32, which are below 2^119.
#[derive(Clone, Copy)]
struct Element {
    least: i128,
    greatest: i128,
    partial_least: i128,
    partial_greatest: i128,
    product: i128,
    terms: usize,
    residue: Residue,
}

impl Element {
    fn of(sum: &impl LinearSum, inputs: &[&Tensor], shape: &[usize], element: usize) -> Self {
        let bias = sum.bias(shape, element);
        let mut bound = Self {
            least: bias.into(),
            greatest: bias.into(),
            partial_least: bias.min(0).into(),
            partial_greatest: bias.max(0).into(),
            product: 0,
            terms: 0,
            residue: Residue::of(bias),
        };
        sum.terms(inputs, shape, element, |input, element, factor| {
            let tensor = inputs[input];
            let zero = tensor.numbers.zero_point();
            let channel = tensor.channel(element);
            let Interval { least, greatest } = tensor.intervals[channel];
            let ends =
                [least, greatest].map(|x| (i128::from(x) - i128::from(zero)) * i128::from(factor));
            let (low, high) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
            bound.least += low;
            bound.greatest += high;
            bound.partial_least += low.min(0);
            bound.partial_greatest += high.max(0);
            bound.product = bound.product.max(-low).max(high);
            bound.terms += 1;
            let x = tensor.residues[channel].plus(Residue::of(zero.wrapping_neg()));
            bound.residue = bound.residue.plus(x.times(factor));
        });
        bound
    }

    fn bound(self, element: usize) -> Result<SumBound, String> {
        let limit = 1i128 << (BITS - 1);
        if self.partial_least < -limit || self.partial_greatest >= limit {
            return Err(format!(
                "sums reach {} to {}, beyond {BITS} bits",
                self.partial_least, self.partial_greatest
            ));
        }
        let interval = |least: i128, greatest: i128| Interval {
            least: least as i64,
            greatest: greatest as i64,
        };
        Ok(SumBound {
            interval: interval(self.least, self.greatest),
            least_at: element,
            greatest_at: element,
            partial: interval(self.partial_least, self.partial_greatest),
            product: self.product as u64,
            terms: self.terms,
            residue: self.residue,
        })
    }
}

impl SumBound {
    fn union(self, other: Self) -> Self {
        let lower = other.interval.least < self.interval.least;
        let higher = other.interval.greatest > self.interval.greatest;
        Self {
            interval: self.interval.union(other.interval),
            least_at: if lower { other.least_at } else { self.least_at },
            greatest_at: if higher {
                other.greatest_at
            } else {
                self.greatest_at
            },
            partial: self.partial.union(other.partial),
            product: self.product.max(other.product),
            terms: self.terms.max(other.terms),
            residue: self.residue.union(other.residue),
        }
    }
}

/// The bounds of the sums of each index of the output's first dimension.
pub(crate) fn bounds(
    sum: &impl LinearSum,
    inputs: &[&Tensor],
    shape: &[usize],
) -> Result<Vec<SumBound>, String> {
    let elements: usize = shape.iter().product();
    let mut bounds: Vec<Option<SumBound>> = vec![None; shape[0]];
    for element in sum.representatives(inputs, shape) {
        let bound = Element::of(sum, inputs, shape, element).bound(element)?;
        let channel = &mut bounds[element / (elements / shape[0])];
        *channel = Some(channel.map_or(bound, |known| known.union(bound)));
    }
    let bounds: Option<Vec<SumBound>> = bounds.into_iter().collect();
    Ok(bounds.expect("every channel has a representative"))
}

/// The output of a sum: as wide as its bounds ask for.
pub(crate) fn output(
    sum: &impl LinearSum,
    inputs: &[&Tensor],
    shape: Vec<usize>,
    step: Step,
) -> Result<Tensor, String> {
    // A shape that is none has no bounds.
    Tensor::any(shape.clone(), step.numbers(1)?)?;
    let bounds = bounds(sum, inputs, &shape)?;
    let intervals: Vec<Interval> = bounds.iter().map(|bound| bound.interval).collect();
    let bits = intervals.iter().map(Interval::bits).max().unwrap_or(1);
    let residues = bounds.iter().map(|bound| bound.residue).collect();
    Tensor::new(shape, step.numbers(bits)?, intervals, residues)
}

/// The sums of one image.
pub(crate) fn evaluate(sum: &impl LinearSum, inputs: &[Values], output: &Tensor) -> Vec<i64> {
    let tensors: Vec<&Tensor> = inputs.iter().map(|input| input.tensor).collect();
    let zeros: Vec<i64> = tensors.iter().map(|t| t.numbers.zero_point()).collect();
    let shape = &output.shape;
    let elements = 0..output.elements();
    let sums = elements.map(|element| {
        let mut total = sum.bias(shape, element);
        sum.terms(&tensors, shape, element, |input, at, factor| {
            total += factor * (inputs[input].values[at] - zeros[input]);
        });
        total
    });
    sums.collect()
}

/// Inputs, within what has been proven of them, for which an element has its least or its greatest
/// sum.
pub(crate) fn witness(
    sum: &impl LinearSum,
    inputs: &[&Tensor],
    shape: &[usize],
    element: usize,
    greatest: bool,
) -> Vec<Vec<i64>> {
    let mut images: Vec<Vec<i64>> = inputs.iter().map(|tensor| tensor.least()).collect();
    sum.terms(inputs, shape, element, |input, at, factor| {
        if (factor > 0) == greatest {
            images[input][at] = inputs[input].intervals[inputs[input].channel(at)].greatest;
        }
    });
    images
}
