//! Where a token is.

use burn::tensor::{Bool, Device, Int, Tensor};

/// Positions `first..first + length`, `[1, length]`.
pub(super) fn counted(first: usize, length: usize, device: &Device) -> Tensor<2, Int> {
    let range = first as i64..(first + length) as i64;
    Tensor::<1, Int>::arange(range, device).reshape([1, length])
}

/// What each of `length` positions after `before` others does not see: what comes after it, and padding,
/// `[batch, before + length]`. `[1 or batch, 1, length, before + length]`, or nothing where all is seen.
pub(super) fn unseen(
    before: usize,
    length: usize,
    padding: Option<Tensor<2, Bool>>,
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    let all = before + length;
    let padding = padding.map(|padding| {
        let [batch, _] = padding.dims();
        padding.reshape([batch, 1, 1, all])
    });
    if length == 1 {
        return padding;
    }
    let asks = counted(before, length, device).reshape([1, 1, length, 1]);
    let answers = counted(0, all, device).reshape([1, 1, 1, all]);
    let later = answers
        .expand([1, 1, length, all])
        .greater(asks.expand([1, 1, length, all]));
    Some(match padding {
        None => later,
        Some(padding) => {
            let [batch, ..] = padding.dims();
            let shape = [batch, 1, length, all];
            later.expand(shape).bool_or(padding.expand(shape))
        }
    })
}

/// Turns of pairs of features by angles that grow with the position (Su et al., arXiv 2104.09864), where
/// a pair is a feature of the first half and one of the second, as in Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotary {
    /// The angle of each pair for one position, `d_head / 2` of them.
    pub steps: Vec<f32>,
}

/// Longer contexts by slower turns, as Llama 3.1 has it (`rope_type` `llama3`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// By how much the slowest turn more slowly.
    pub factor: f32,
    /// Turns in the original context below which a pair is slowed by all of the factor.
    pub low: f32,
    /// Turns from which it keeps its speed.
    pub high: f32,
    /// Positions of the original context.
    pub context: f32,
}

impl Rotary {
    /// `theta^(-2 i / d_head)` of pair `i`, stretched where asked.
    pub fn new(d_head: usize, theta: f32, stretch: Option<Stretch>) -> Self {
        let step = |i: usize| 1.0 / theta.powf((2 * i) as f32 / d_head as f32);
        let steps = (0..d_head / 2).map(step);
        let steps = steps.map(|step| stretch.map_or(step, |stretch| stretch.of(step)));
        Self {
            steps: steps.collect(),
        }
    }

    /// The turns of positions `first..first + length`, to be made once for all layers.
    pub(super) fn at(&self, first: usize, length: usize, device: &Device) -> Turn {
        let angles = (first..first + length)
            .flat_map(|position| self.steps.iter().map(move |step| position as f32 * step));
        let angles: Vec<f32> = angles.collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| f(angle)).collect();
            let table = Tensor::<1>::from_floats(values.as_slice(), device);
            table.reshape([1, 1, length, self.steps.len()])
        };
        Turn {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }
}

/// Turns of some positions; both `[1, 1, length, d_head / 2]`.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Turn {
    /// `x` turned. Shape: `[batch, heads, length, d_head]`.
    pub(super) fn of(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, _, d_head] = x.dims();
        let half = d_head / 2;
        let a = x.clone().narrow(3, 0, half);
        let b = x.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![turned, b * cos + a * sin], 3)
    }
}

impl Stretch {
    /// The angle for one position, of one that was `step`.
    fn of(self, step: f32) -> f32 {
        let turns = self.context * step / (2.0 * std::f32::consts::PI);
        if turns < self.low {
            return step / self.factor;
        }
        if turns > self.high {
            return step;
        }
        let kept = (turns - self.low) / (self.high - self.low);
        (1.0 - kept) * step / self.factor + kept * step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One radian a position: (1, 0) at position 1 is (cos 1, sin 1).
    #[test]
    fn a_pair_turns_by_a_radian() {
        let rotary = Rotary::new(2, 10_000.0, None);
        let x = Tensor::<1>::from_floats([1.0, 0.0], &Device::flex()).reshape([1, 1, 1, 2]);
        let turned = rotary.at(1, 1, &Device::flex()).of(x);
        let y = turned.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(y, [1.0_f32.cos(), 1.0_f32.sin()]);
    }

    #[test]
    fn nothing_later_and_no_padding_is_seen() {
        let device = Device::flex();
        let padding = Tensor::<2, Bool>::from_data([[true, false, false]], &device);
        let hidden = unseen(1, 2, Some(padding), &device).unwrap();
        let hidden = hidden.into_data().iter::<bool>().collect::<Vec<_>>();
        assert_eq!(hidden, [true, false, true, true, false, false]);
        assert!(unseen(4, 1, None, &device).is_none());
    }
}
