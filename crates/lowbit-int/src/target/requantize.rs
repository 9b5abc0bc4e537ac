//! Sums brought to eight bits, and tensors to other steps.

use super::differs;
use super::kernels::{Made, Rebuild, Rescaling, State, Sums};
use super::scale::{Multiplier, reduced};
use crate::error::GraphError;
use crate::graph::{Node, TensorId};
use crate::numbers::{Numbers, Step};
use crate::ops::{Requantize, Rounding};

/// What is multiplied, shifted and rounded at once, of each channel.
struct Stage {
    constants: Vec<(i64, u32)>,
    rounding: Rounding,
}

impl Stage {
    fn reduced(mut self) -> Self {
        for (multiplier, shift) in &mut self.constants {
            (*multiplier, *shift) = reduced(*multiplier, *shift);
        }
        self
    }

    /// Whether nothing is shifted, so that nothing is rounded.
    fn is_exact(&self) -> bool {
        self.constants.iter().all(|(_, shift)| *shift == 0)
    }

    fn is_nothing(&self) -> bool {
        self.constants.iter().all(|constants| *constants == (1, 0))
    }

    fn requantize(self, numbers: Numbers) -> Requantize {
        let (multiplier, shift) = self.constants.into_iter().unzip();
        Requantize {
            multiplier,
            offset: vec![0],
            shift,
            rounding: self.rounding,
            numbers,
        }
    }
}

impl Rebuild<'_> {
    /// A requantization: the end of the operator whose sums it reads, or an operator of its own.
    pub(super) fn requantize(
        &mut self,
        node: &Node,
        requantize: &Requantize,
    ) -> Result<Made, GraphError> {
        self.bytes(&node.name, requantize.numbers)?;
        let Made { id, state } = self.of(node.inputs[0]).clone();
        let sums = match state {
            State::Bytes => Sums::plain(1),
            State::Averages(count) => Sums {
                ratio: (count, 1),
                ..Sums::plain(1)
            },
            State::Sums(sums) => sums,
        };
        self.check_requantize(node, requantize, &sums)?;
        let stages = match self.rules.rescaling {
            Rescaling::Shift {
                rounding,
                per_channel,
            } => vec![self.shifts(node, requantize, &sums, rounding, per_channel)?],
            Rescaling::Twice | Rescaling::Once => self.products(node, requantize, &sums, id)?,
        };
        if self.may_differ(node, requantize, &stages) {
            self.changed.push(node.name.clone());
        }
        let id = self.stages(node, requantize.numbers, id, stages)?;
        let state = State::Bytes;
        Ok(Made { id, state })
    }

    /// Offsets and constants of each channel.
    fn check_requantize(
        &self,
        node: &Node,
        requantize: &Requantize,
        sums: &Sums,
    ) -> Result<(), GraphError> {
        if let Some(offset) = requantize.offset.iter().find(|o| **o != 0) {
            let reason = format!("adds nothing before it rounds, here {offset}");
            return Err(self.refused(node, &reason));
        }
        let channels = requantize.channels();
        let elements = self.source.tensor(node.output).shape()[0];
        if channels > 1 && (sums.channels != channels || elements != channels) {
            return Err(self.refused(node, "has one multiplier and shift here"));
        }
        Ok(())
    }

    /// One shift each.
    fn shifts(
        &self,
        node: &Node,
        requantize: &Requantize,
        sums: &Sums,
        rounding: Rounding,
        per_channel: bool,
    ) -> Result<Stage, GraphError> {
        let mut constants = Vec::new();
        for channel in 0..requantize.channels() {
            let (multiplier, _, shift) = requantize.constants(channel);
            let (multiplier, shift) = reduced(multiplier, shift);
            if multiplier != 1 || shift > sums.longest {
                let most = sums.longest;
                let reason = format!("shifts by 0 to {most} here, not by {multiplier} / 2^{shift}");
                return Err(self.refused(node, &reason));
            }
            constants.push((1, shift));
        }
        if !per_channel && constants.iter().any(|one| *one != constants[0]) {
            return Err(self.refused(node, "has one shift for all channels"));
        }
        Ok(Stage {
            constants,
            rounding,
        })
    }

    /// A multiplier of 31 bits each, and one or two roundings.
    fn products(
        &self,
        node: &Node,
        requantize: &Requantize,
        sums: &Sums,
        input: TensorId,
    ) -> Result<Vec<Stage>, GraphError> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let input = self.graph.tensor(input);
        for channel in 0..requantize.channels() {
            let (multiplier, _, shift) = requantize.constants(channel);
            let (numerator, denominator) = sums.ratio;
            let numerator = u128::from(numerator) * multiplier as u128;
            let found = Multiplier::nearest(numerator, denominator, shift);
            if found.shift < -31 {
                return Err(self.refused(node, "has no multipliers below 2^-32"));
            }
            if found.shift > 0 && sums.ratio.1 > 1 {
                return Err(self.refused(node, "adds to no step that is so much finer"));
            }
            let zero = input.numbers.zero_point();
            let most = input.interval().map(|x| x - zero).magnitude() * sums.times as u64;
            let left = found.shift.max(0) as u32;
            if u128::from(most) << left >= 1 << 31 {
                return Err(self.refused(node, "multiplies 32 bits, here they would overflow"));
            }
            let (product, right) = (found.multiplier * sums.times, (-found.shift).max(0) as u32);
            match self.rules.rescaling {
                Rescaling::Twice => {
                    first.push((product << left, 31));
                    second.push((1, right));
                }
                _ => first.push((product << left, 31 + right)),
            }
        }
        let stage = |constants, rounding| {
            let stage = Stage {
                constants,
                rounding,
            };
            stage.reduced()
        };
        let first = stage(first, Rounding::HalfUp);
        if second.is_empty() {
            return Ok(vec![first]);
        }
        if first.is_exact() {
            let both = first.constants.iter().zip(&second);
            let both = both.map(|((product, _), (_, right))| (*product, *right));
            return Ok(vec![stage(both.collect(), Rounding::HalfAway)]);
        }
        let second = stage(second, Rounding::HalfAway);
        Ok(match second.is_nothing() {
            true => vec![first],
            false => vec![first, second],
        })
    }

    /// Whether the stages may have another result than the requantization of the source.
    fn may_differ(&self, node: &Node, requantize: &Requantize, stages: &[Stage]) -> bool {
        let [stage] = stages else { return true };
        let mut channels = stage.constants.iter().enumerate();
        let same = channels.all(|(channel, constants)| {
            let (multiplier, _, shift) = requantize.constants(channel);
            reduced(multiplier, shift) == *constants
        });
        !same || differs(self.source, node.inputs[0], requantize, stage.rounding)
    }

    /// Adds the stages, the last of which is the node.
    fn stages(
        &mut self,
        node: &Node,
        numbers: Numbers,
        input: TensorId,
        mut stages: Vec<Stage>,
    ) -> Result<TensorId, GraphError> {
        let last = stages.pop().expect("there is one or more");
        let mut made = input;
        if let Some(first) = stages.pop() {
            let (_, shift) = last.constants[0];
            let step = match numbers.step() {
                Step::PowerOfTwo(exponent) => Step::PowerOfTwo(exponent - shift as i32),
                Step::Any(scale) => Step::Any(scale / f64::from(shift).exp2()),
            };
            let between = step.numbers(32);
            let between = between.map_err(|reason| GraphError::node(&node.name, reason))?;
            let name = self.name(node, "product");
            made = self.graph.push(&name, first.requantize(between), &[made])?;
        }
        self.graph
            .push(&node.name, last.requantize(numbers), &[made])
    }
}
