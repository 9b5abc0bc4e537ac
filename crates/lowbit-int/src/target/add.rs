//! Additions.

use super::kernels::{Made, Rebuild, Rescaling, State, Sums};
use super::scale::{Multiplier, reduced};
use crate::error::GraphError;
use crate::graph::{Node, TensorId};
use crate::numbers::Numbers;
use crate::ops::{Add, Requantize, Rounding};

/// By how many bits inputs are shifted before they are brought to one step.
const FINER: u32 = 20;

/// The coarser input, after it was brought to the step: half of what it was shifted to.
const COARSER: i64 = 1 << (FINER - 1);

/// What an input is multiplied with, or the roundings that do it.
enum Input {
    Exactly(i64),
    Rounded(Vec<(i64, u32, Rounding)>),
}

impl Rebuild<'_> {
    /// An addition. Kernels of multipliers bring both inputs to twice the coarser step, 20 bits finer;
    /// chips that shift have one step for all.
    pub(super) fn add(&mut self, node: &Node, add: &Add) -> Result<Made, GraphError> {
        let inputs = self.all_bytes(node)?;
        let [a, b] = add.multipliers;
        if a < 0 || b < 0 {
            return Err(self.refused(node, "has no differences here"));
        }
        self.check_reader(node)?;
        if let Rescaling::Shift { .. } = self.rules.rescaling {
            if a != b || a != 1 {
                return Err(self.refused(node, "adds tensors of one step"));
            }
            let id = self
                .graph
                .push(&node.name, node.operator.clone(), &inputs)?;
            let state = State::Sums(Sums {
                longest: 0,
                ..Sums::plain(1)
            });
            return Ok(Made { id, state });
        }
        let most = a.max(b);
        let each = [a, b].map(|m| self.rescaled_input(m, most));
        let (add, times, inputs) = match each {
            [Input::Exactly(f), Input::Exactly(g)] => {
                let (multipliers, times) = sum_of([a, b], [f, g]);
                (multipliers, times, inputs)
            }
            [first, second] => {
                self.changed.push(node.name.clone());
                let mut made = [inputs[0], inputs[1]];
                let mut multipliers = [1; 2];
                for (place, input) in [first, second].into_iter().enumerate() {
                    match input {
                        Input::Exactly(factor) => multipliers[place] = factor,
                        Input::Rounded(stages) => {
                            made[place] = self.rescale(node, place, made[place], &stages)?;
                        }
                    }
                }
                (multipliers, 1, made.to_vec())
            }
        };
        let add = Add { multipliers: add };
        let id = self.graph.push(&node.name, add, &inputs)?;
        let state = State::Sums(Sums {
            channels: 1,
            ratio: (most as u64, COARSER as u64),
            times,
            longest: 0,
        });
        Ok(Made { id, state })
    }

    /// `x 2^20 multiplier / (2 most)` with 31 bits of the quotient.
    fn rescaled_input(&self, multiplier: i64, most: i64) -> Input {
        let found = Multiplier::nearest(multiplier as u128, 2 * most as u64, 0);
        // At most a half, so that this is 0 or more.
        let right = (-found.shift) as u32;
        let (product, first) = reduced(found.multiplier, 31 - FINER);
        let stages = match self.rules.rescaling {
            Rescaling::Twice if first > 0 => vec![
                (product, first, Rounding::HalfUp),
                (1, right, Rounding::HalfAway),
            ],
            Rescaling::Twice => {
                let (product, right) = reduced(product, right);
                vec![(product, right, Rounding::HalfAway)]
            }
            _ => {
                let (product, shift) = reduced(found.multiplier, 31 - FINER + right);
                vec![(product, shift, Rounding::HalfUp)]
            }
        };
        match stages[..] {
            [(product, 0, _)] => Input::Exactly(product),
            _ => Input::Rounded(stages),
        }
    }

    /// The requantizations of an input.
    fn rescale(
        &mut self,
        node: &Node,
        place: usize,
        input: TensorId,
        stages: &[(i64, u32, Rounding)],
    ) -> Result<TensorId, GraphError> {
        let mut made = input;
        let all = stages.iter().filter(|(m, shift, _)| *m != 1 || *shift > 0);
        for (multiplier, shift, rounding) in all {
            let scale = self.graph.tensor(made).numbers().scale();
            let scale = scale * f64::from(*shift).exp2() / *multiplier as f64;
            let numbers = Numbers::affine(32, true, scale, 0);
            let numbers = numbers.map_err(|reason| GraphError::node(&node.name, reason))?;
            let requantize = Requantize::by_multiplier(*multiplier, *shift, *rounding, numbers);
            let name = self.name(node, &format!("input{place}"));
            made = self.graph.push(&name, requantize, &[made])?;
        }
        Ok(made)
    }
}

/// Multipliers of a sum without roundings, and how many times it the target's is: the graph's own, where
/// the target's are a multiple of them.
fn sum_of(own: [i64; 2], factors: [i64; 2]) -> ([i64; 2], i64) {
    let times = factors[0] / own[0];
    if times > 0 && [0, 1].iter().all(|&i| own[i] * times == factors[i]) {
        return (own, times);
    }
    let twos = factors[0].trailing_zeros().min(factors[1].trailing_zeros());
    (factors.map(|f| f >> twos), 1 << twos)
}
