//! The values that a recorded forward has, as integers see them.

use lowbit_int::TensorId;

use super::exhaustive::History;
use crate::quantizers::{Place, Slot};

/// A tensor of the forward that depends on its input.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) kind: Kind,
    /// The slot that it was last seen to go through.
    pub(super) place: Option<Place>,
    /// How it follows from an exact tensor, one number at a time.
    pub(super) history: Option<History>,
}

impl Value {
    /// What the layer that reads a tensor made of it.
    pub(super) fn made(kind: Kind, reader: Option<Place>) -> Self {
        let place = reader.map(|place| Place {
            slot: Slot::OUTPUT.into(),
            ..place
        });
        Self {
            kind,
            place,
            history: None,
        }
    }

    /// Where it was last seen, if that was on its way into a layer.
    pub(super) fn reader(&self) -> Option<Place> {
        let place = self.place.as_ref().filter(|p| p.slot != Slot::OUTPUT);
        place.cloned()
    }

    /// The name of what makes it for its slot.
    pub(super) fn name(&self, otherwise: &str) -> String {
        let place = self.place.as_ref().map(ToString::to_string);
        place.unwrap_or_else(|| otherwise.into())
    }
}

/// What it is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// One of the network's inputs, which are in float until they are quantized, and whether it was made
    /// one dimension.
    Input { of: usize, flat: bool },
    /// A line of integers.
    Line(Line),
    /// A function of each integer of a tensor, which the value's history has.
    Function(TensorId),
}

/// `clamp(scale (k - zero_point) + offset, low, high)` of the integers `k` of a tensor; scale and offset
/// are one for all or one for each channel.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) tensor: TensorId,
    pub(super) scale: Vec<f64>,
    pub(super) offset: Vec<f64>,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Line {
    /// The integers times their step.
    pub(super) fn new(tensor: TensorId, scale: f64) -> Self {
        Self {
            tensor,
            scale: vec![scale],
            offset: vec![0.0],
            low: f64::NEG_INFINITY,
            high: f64::INFINITY,
        }
    }

    /// Whether no number is cut off.
    pub(super) fn is_whole(&self) -> bool {
        self.low == f64::NEG_INFINITY && self.high == f64::INFINITY
    }

    /// Whether it rises with its integers in all channels.
    pub(super) fn rises(&self) -> bool {
        self.scale.iter().all(|&s| s > 0.0)
    }

    /// The one scale, where there is one and nothing is added.
    pub(super) fn step(&self) -> Option<f64> {
        let [scale] = self.scale[..] else {
            return None;
        };
        self.offset.iter().all(|&o| o == 0.0).then_some(scale)
    }

    /// Scale and offset of a channel.
    pub(super) fn of(&self, channel: usize) -> (f64, f64) {
        let at = |all: &[f64]| all[if all.len() == 1 { 0 } else { channel }];
        (at(&self.scale), at(&self.offset))
    }

    /// The line `factor y + more` of this one, which is whole.
    pub(super) fn then(self, factor: &[f64], more: &[f64]) -> Self {
        let count = [&self.scale[..], &self.offset, factor, more].map(<[f64]>::len);
        let count = count.into_iter().max().unwrap_or(1);
        let at = |all: &[f64], i: usize| all[if all.len() == 1 { 0 } else { i }];
        let channels = || 0..count;
        let scale = channels().map(|i| self.of(i).0 * at(factor, i));
        let offset = channels().map(|i| self.of(i).1 * at(factor, i) + at(more, i));
        Self {
            scale: one_if_alike(scale.collect()),
            offset: one_if_alike(offset.collect()),
            ..self
        }
    }

    /// The same of a tensor in which each channel has so many channels of its own.
    pub(super) fn repeated(mut self, tensor: TensorId, times: usize) -> Self {
        for all in [&mut self.scale, &mut self.offset] {
            if all.len() > 1 {
                let each = all.iter().flat_map(|&x| std::iter::repeat_n(x, times));
                *all = each.collect();
            }
        }
        Self { tensor, ..self }
    }
}

/// One for all, where that says the same.
pub(super) fn one_if_alike<T: PartialEq>(mut all: Vec<T>) -> Vec<T> {
    if all.iter().all(|x| *x == all[0]) {
        all.truncate(1);
    }
    all
}
