//! Weights in the order in which the tiles read them.

use super::quads::WEIGHTS;
use super::sums::LANES;
use super::tile::{Group, Start};
use super::{Shape, taps};

/// Bytes of weights from which four bits are read faster than eight by a window that uses each weight
/// once: about as many as a core's first cache holds (`examples/four_bits.rs`).
pub(super) const MANY: usize = 1 << 16;

/// The weights of all groups.
#[derive(Debug, Clone)]
pub(super) enum Weights {
    /// Group after group, `[quads][vectors][WEIGHTS]`.
    Bytes(Vec<i8>),
    /// Two weights of four bits in a byte, each plus eight: of two fours of a run the first's below, and
    /// of a run's last alone nothing above. Group after group, `[pairs][vectors][WEIGHTS]`.
    Nibbles(Vec<u8>),
}

impl Weights {
    /// Packs `weight(output, input, row, column)`. Where all have four bits, there is one window and there
    /// are `many` bytes of weights or more, two are in a byte.
    pub(super) fn of(
        shape: &Shape,
        groups: &[Group],
        weight: &impl Fn(usize, usize, usize, usize) -> i8,
        many: usize,
    ) -> Self {
        let [inputs, outputs] = [shape.inputs, shape.outputs].map(|n| n / shape.groups);
        let padded = |output: usize, channel: usize, ky: usize, kx: usize| {
            let first = output / outputs * inputs;
            let there = output < shape.outputs && (first..first + inputs).contains(&channel);
            if there {
                weight(output, channel - first, ky, kx)
            } else {
                0
            }
        };
        let mut weights = Vec::new();
        for group in groups {
            for (ky, kx) in taps(shape.kernel) {
                for quad in group.channels.clone().step_by(4) {
                    for lane in 0..group.vectors * LANES {
                        let output = group.first * LANES + lane;
                        weights.extend([0, 1, 2, 3].map(|j| padded(output, quad + j, ky, kx)));
                    }
                }
            }
        }
        let narrow = || weights.iter().all(|w| (-8..8).contains(w));
        if shape.output() == [1, 1] && weights.len() >= many && narrow() {
            Self::Nibbles(in_pairs(&weights, groups))
        } else {
            Self::Bytes(weights)
        }
    }

    /// Whether there are as many as the groups read.
    pub(super) fn are_of(&self, groups: &[Group]) -> bool {
        let vectors = |quads: fn(&Group) -> usize| {
            groups
                .iter()
                .map(|group| quads(group) * group.vectors)
                .sum::<usize>()
        };
        match self {
            Self::Bytes(weights) => weights.len() == vectors(Group::quads) * WEIGHTS,
            Self::Nibbles(weights) => weights.len() == vectors(Group::pairs) * WEIGHTS,
        }
    }

    /// Where they start.
    pub(super) fn start(&self) -> Start {
        match self {
            Self::Bytes(weights) => Start::Bytes(weights.as_ptr()),
            Self::Nibbles(weights) => Start::Nibbles(weights.as_ptr()),
        }
    }
}

/// Two fours of a run in the bytes of one.
fn in_pairs(weights: &[i8], groups: &[Group]) -> Vec<u8> {
    let half = |w: i8| (w + 8) as u8;
    let mut pairs = Vec::with_capacity(weights.len().div_ceil(2));
    let mut rest = weights;
    for group in groups {
        let vectors = group.vectors * WEIGHTS;
        for quads in group.run_quads() {
            let (run, after) = rest.split_at(quads * vectors);
            rest = after;
            for pair in run.chunks(2 * vectors) {
                let (first, second) = pair.split_at(vectors);
                let second = second.iter().copied().chain(std::iter::repeat(0));
                let both = first.iter().zip(second);
                pairs.extend(both.map(|(&a, b)| half(a) | half(b) << 4));
            }
        }
    }
    pairs
}
