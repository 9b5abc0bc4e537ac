//! Sums of products with constants: what convolutions, linear layers, additions and averages are.
//!
//! `sum[e] = bias[e] + sum over terms of factor (x[input][element] - zero_point[input])`
//!
//! An operator says which terms an output element has, in one place; the interpreter adds them up
//! as they are said, and the proof bounds them.

use std::collections::BTreeMap;

use super::{Operation, Values};
use crate::numbers::Step;
use crate::tensor::{Interval, Residue, Tensor};

/// Bits that a sum may have.
const BITS: u32 = 63;

/// Terms that are looked at to bound a node's sums: some seconds.
const LOOKS: usize = 1 << 32;

/// An operator that is a sum of products with constants. What all of them answer as operators is
/// said once, below.
pub(crate) trait LinearSum {
    /// What follows from the inputs' shapes, once for all elements.
    type Geometry;

    /// The output's shape, and the distance of neighbours of its integers.
    ///
    /// # Errors
    ///
    /// What does not fit, and what would.
    fn check(&self, inputs: &[&Tensor]) -> Result<(Vec<usize>, Step), String>;

    /// The geometry over inputs that were checked.
    fn geometry(&self, inputs: &[&Tensor]) -> Self::Geometry;

    /// Calls `term(input, element, factor)` for every term of an element of the output.
    fn terms(&self, geometry: &Self::Geometry, element: usize, term: impl FnMut(usize, usize, i64));

    /// How many places [`terms`](Self::terms) looks at for one element, at most.
    fn looks(&self, geometry: &Self::Geometry) -> usize;

    /// What is added to the terms of an element.
    fn bias(&self, _shape: &[usize], _element: usize) -> i64 {
        0
    }

    /// Elements of the output whose bounds are those of all: every other one has as many terms of the
    /// same factors as one of these, of the same channels of the inputs.
    fn representatives(&self, geometry: &Self::Geometry, shape: &[usize]) -> Vec<usize>;

    /// Whether an index of the output's first dimension, not 0, has the bounds of the one before.
    fn repeats(&self, _inputs: &[&Tensor], _channel: usize) -> bool {
        false
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
    /// What is known of the last bits of all sums.
    pub residue: Residue,
}

/// The least and the greatest of `factor (x - zero_point)` of an element.
fn ends(tensor: &Tensor, element: usize, factor: i64) -> [i128; 2] {
    let Interval { least, greatest } = tensor.intervals[tensor.channel(element)];
    let zero = i128::from(tensor.numbers.zero_point());
    let [a, b] = [least, greatest].map(|x| (i128::from(x) - zero) * i128::from(factor));
    [a.min(b), a.max(b)]
}

/// The terms of an element, where those of a tensor that is read twice are one: `a x + b x` is
/// `(a + b) x`.
fn joint_terms<S: LinearSum>(
    sum: &S,
    geometry: &S::Geometry,
    inputs: &[&Tensor],
    element: usize,
    mut term: impl FnMut(usize, usize, i64),
) {
    if !super::read_twice(inputs) {
        return sum.terms(geometry, element, term);
    }
    let mut factors: BTreeMap<usize, i64> = BTreeMap::new();
    sum.terms(geometry, element, |_, element, factor| {
        *factors.entry(element).or_default() += factor;
    });
    for (element, factor) in factors {
        term(0, element, factor);
    }
}

/// One element's bound, in integers that do not overflow: a sum has at most 2^24 terms of numbers
/// below 2^63 times factors below 2^32, which are below 2^119.
#[derive(Clone, Copy)]
struct Element {
    least: i128,
    greatest: i128,
    partial_least: i128,
    partial_greatest: i128,
    residue: Residue,
}

impl Element {
    fn of<S: LinearSum>(
        sum: &S,
        geometry: &S::Geometry,
        inputs: &[&Tensor],
        bias: i64,
        element: usize,
    ) -> Self {
        let mut bound = Self {
            least: bias.into(),
            greatest: bias.into(),
            partial_least: bias.min(0).into(),
            partial_greatest: bias.max(0).into(),
            residue: Residue::of(bias),
        };
        sum.terms(geometry, element, |input, element, factor| {
            let [low, high] = ends(inputs[input], element, factor);
            bound.partial_least += low.min(0);
            bound.partial_greatest += high.max(0);
        });
        joint_terms(sum, geometry, inputs, element, |input, element, factor| {
            let tensor = inputs[input];
            let [low, high] = ends(tensor, element, factor);
            bound.least += low;
            bound.greatest += high;
            let zero = Residue::of(tensor.numbers.zero_point().wrapping_neg());
            let x = tensor.residues[tensor.channel(element)].plus(zero);
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
            residue: self.residue.union(other.residue),
        }
    }
}

impl<S: LinearSum> Operation for S {
    /// As wide as its bounds ask for.
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let (shape, step) = self.check(inputs)?;
        // A shape that is none has no bounds.
        Tensor::any(shape.clone(), step.numbers(1)?)?;
        let bounds = bounds(self, inputs, &shape)?;
        let intervals: Vec<Interval> = bounds.iter().map(|bound| bound.interval).collect();
        let bits = intervals.iter().map(Interval::bits).max().unwrap_or(1);
        let residues = bounds.iter().map(|bound| bound.residue).collect();
        Tensor::new(shape, step.numbers(bits)?, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        let tensors: Vec<&Tensor> = inputs.iter().map(|input| input.tensor).collect();
        let zeros: Vec<i64> = tensors.iter().map(|t| t.numbers.zero_point()).collect();
        let geometry = self.geometry(&tensors);
        let elements = 0..output.elements();
        let sums = elements.map(|element| {
            let mut total = self.bias(&output.shape, element);
            self.terms(&geometry, element, |input, at, factor| {
                total += factor * (inputs[input].values[at] - zeros[input]);
            });
            total
        });
        sums.collect()
    }

    fn bounds(&self, inputs: &[&Tensor], shape: &[usize]) -> Option<Vec<SumBound>> {
        bounds(self, inputs, shape).ok()
    }

    fn witness(
        &self,
        inputs: &[&Tensor],
        _shape: &[usize],
        element: usize,
        greatest: bool,
    ) -> Option<Vec<Vec<i64>>> {
        let geometry = self.geometry(inputs);
        let mut images: Vec<Vec<i64>> = inputs.iter().map(|tensor| tensor.least()).collect();
        joint_terms(self, &geometry, inputs, element, |input, at, factor| {
            if (factor > 0) == greatest {
                images[input][at] = inputs[input].intervals[inputs[input].channel(at)].greatest;
            }
        });
        if super::read_twice(inputs) {
            images[1] = images[0].clone();
        }
        Some(images)
    }
}

/// The bounds of the sums of each index of the output's first dimension.
fn bounds<S: LinearSum>(
    sum: &S,
    inputs: &[&Tensor],
    shape: &[usize],
) -> Result<Vec<SumBound>, String> {
    let geometry = sum.geometry(inputs);
    let of_channel = shape.iter().product::<usize>() / shape[0];
    let mut bounds: Vec<Option<SumBound>> = vec![None; shape[0]];
    let repeats = |channel: usize| channel > 0 && sum.repeats(inputs, channel);
    let mut elements = sum.representatives(&geometry, shape);
    elements.retain(|element| !repeats(element / of_channel));
    let looks = elements.len().saturating_mul(sum.looks(&geometry));
    if looks > LOOKS {
        return Err(format!(
            "its windows differ so much that {looks} products bound its sums, expected at most {LOOKS}"
        ));
    }
    for element in elements {
        let bias = sum.bias(shape, element);
        let bound = Element::of(sum, &geometry, inputs, bias, element).bound(element)?;
        let channel = &mut bounds[element / of_channel];
        *channel = Some(channel.map_or(bound, |known| known.union(bound)));
    }
    for channel in 1..shape[0] {
        if repeats(channel) {
            bounds[channel] = bounds[channel - 1].map(|bound| SumBound {
                least_at: bound.least_at + of_channel,
                greatest_at: bound.greatest_at + of_channel,
                ..bound
            });
        }
    }
    let bounds: Option<Vec<SumBound>> = bounds.into_iter().collect();
    Ok(bounds.expect("every channel has a representative"))
}
