//! What becomes of a value before it is stored: clamps and one requantization.

use super::storage::{Int, Storage};
use crate::graph::{Graph, Node, TensorId};
use crate::ops::{Clamp, Operator, Requantize, Rounding, of_channel};
use crate::tensor::{Interval, Tensor};

/// `clamp(round((multiplier (clamp(value) - zero) + offset) / 2^shift) + to)`, on values and outputs
/// as they are stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finish {
    /// The type that it is computed in.
    pub(crate) wide: Int,
    pub(crate) values: Interval,
    pub(crate) zero: i64,
    pub(crate) multiplier: Vec<i64>,
    pub(crate) offset: Vec<i64>,
    pub(crate) shift: Vec<u32>,
    pub(crate) rounding: Rounding,
    pub(crate) to: i64,
    pub(crate) limits: Interval,
}

/// A node's values and the nodes that are joined to it.
pub(crate) struct Chain<'a> {
    /// Clamps of the values.
    values: Interval,
    requantize: Option<(&'a Requantize, i64)>,
    /// Clamps of the output.
    limits: Option<Interval>,
    /// The tensor that is stored.
    pub(crate) output: TensorId,
}

impl<'a> Chain<'a> {
    /// Values in an interval, stored in a tensor.
    pub(crate) fn new(values: Interval, output: TensorId) -> Self {
        Self {
            values,
            requantize: None,
            limits: None,
            output,
        }
    }

    /// Joins a node that reads the chain's output; says whether it could.
    pub(crate) fn join(&mut self, graph: &Graph, node: &'a Node) -> bool {
        let input = graph.tensor(node.inputs[0]);
        match &node.operator {
            Operator::Clamp(clamp) => self.clamp(clamp),
            Operator::Rectifier(rectifier) => self.clamp(&rectifier.clamp(input)),
            Operator::Requantize(requantize) if self.requantize.is_none() => {
                self.requantize = Some((requantize, input.numbers.zero_point()));
                let numbers = requantize.numbers;
                self.limits = Some(Interval {
                    least: numbers.least(),
                    greatest: numbers.greatest(),
                });
            }
            _ => return false,
        }
        self.output = node.output;
        true
    }

    fn clamp(&mut self, clamp: &Clamp) {
        let clamped = self.limits.as_mut().unwrap_or(&mut self.values);
        *clamped = clamped.map(|x| x.clamp(clamp.least, clamp.greatest));
    }

    /// The arithmetic on values of a tensor that are stored less `base`, for an output that is
    /// stored in its own way.
    pub(crate) fn finish(
        &self,
        graph: &Graph,
        values: &Tensor,
        base: i64,
        output: Storage,
    ) -> Finish {
        // What is proven, so that nothing is lost where the output is stored.
        let proven = graph.tensor(self.output).interval();
        let limits = self.limits.unwrap_or(self.values);
        let limits = limits.map(|x| x.clamp(proven.least, proven.greatest));
        let mut finish = Finish {
            wide: Int::I64,
            values: self.values.map(|x| x - base),
            zero: 0,
            multiplier: vec![1],
            offset: vec![0],
            shift: vec![0],
            rounding: Rounding::Floor,
            to: base - output.shift,
            limits: limits.map(|x| x - output.shift),
        };
        if let Some((requantize, zero)) = self.requantize {
            finish.zero = zero - base;
            finish.multiplier.clone_from(&requantize.multiplier);
            finish.offset.clone_from(&requantize.offset);
            finish.shift.clone_from(&requantize.shift);
            finish.rounding = requantize.rounding;
            finish.to = requantize.numbers.zero_point() - output.shift;
        }
        finish.wide = finish.width(values, base);
        finish
    }
}

impl Finish {
    /// The type that holds every number on the way: all of them rise with the value, so that those of
    /// the least and of the greatest bound the others.
    fn width(&self, tensor: &Tensor, base: i64) -> Int {
        let ends = |interval: Interval| [interval.least, interval.greatest].map(i128::from);
        let (zero, to, base) = (i128::from(self.zero), i128::from(self.to), i128::from(base));
        let [low, high] = ends(self.values);
        let mut numbers = vec![low, high, zero, to];
        numbers.extend(ends(self.limits));
        for (channel, &interval) in tensor.intervals.iter().enumerate() {
            let shift = of_channel(&self.shift, channel);
            let multiplier = i128::from(of_channel(&self.multiplier, channel));
            let offset = i128::from(of_channel(&self.offset, channel));
            // A half is a power of two one below the shift.
            numbers.extend([multiplier, offset, 1 << shift]);
            for end in ends(interval) {
                let value = end - base;
                let product = multiplier * (value.clamp(low, high) - zero);
                let scaled = product + offset;
                numbers.extend([value, value.clamp(low, high) - zero, product, scaled]);
                numbers.extend([scaled >> shift, (scaled >> shift) + 1].map(|x| x + to));
            }
        }
        Int::of_sums(numbers)
    }
}
