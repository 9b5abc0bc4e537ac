//! Widths that are learned, in a whole network.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::ops::sum;
use crate::quantizers::learned::learned_at;
use crate::quantizers::methods::Role;
use crate::quantizers::slot::Slot;
use crate::quantizers::watch::{ModulePath, Place};

/// The parameters of one width.
#[derive(Default)]
struct Width {
    /// Bits after and before the point, `[1]` or `[channels]`.
    bits: Vec<Tensor<1>>,
    signed: f64,
}

impl Width {
    /// The mean over the channels of widths that are whole numbers of bits.
    fn whole_mean(&self) -> f64 {
        let read = |bits: &Tensor<1>| -> Vec<f32> {
            let bits = bits.clone().into_data();
            bits.iter::<f32>().map(f32::round_ties_even).collect()
        };
        let each: Vec<Vec<f32>> = self.bits.iter().map(read).collect();
        let channels = each.first().map_or(0, Vec::len);
        let width = |channel: usize| {
            let bits: f32 = each.iter().map(|bits| bits[channel]).sum();
            f64::from(bits.max(0.0)) + self.signed
        };
        (0..channels).map(width).sum::<f64>() / channels.max(1) as f64
    }

    /// The mean over the channels, whose gradient is that of widths that are not rounded.
    fn mean(&self) -> Option<Tensor<1>> {
        let bits = self.bits.iter().cloned().reduce(|a, b| a + b)?;
        let channels = bits.dims()[0];
        let positive = sum(bits.clamp_min(0.0));
        Some(positive / channels as f64 + self.signed)
    }
}

/// The widths that a network learns, and how many numbers its parameters have.
#[derive(Default)]
pub(crate) struct LearnedWidths {
    path: ModulePath,
    widths: BTreeMap<Place, Width>,
    /// By the parameter's path.
    numbers: BTreeMap<String, f64>,
}

impl LearnedWidths {
    /// Those of a network.
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        let mut found = Self::default();
        model.visit(&mut found);
        found
    }

    /// Those of the slot of that name.
    fn slot<'a>(&'a self, slot: &'a str) -> impl Iterator<Item = (&'a Place, &'a Width)> {
        let whole = self
            .widths
            .iter()
            .filter(|(_, width)| width.bits.len() == 2);
        whole.filter(move |(place, _)| place.slot == slot)
    }

    /// How often the width at a place counts: as often as the layer's weight has numbers.
    fn numbers(&self, place: &Place) -> f64 {
        let weight = format!("{}.{}", place.layer, Slot::WEIGHT);
        self.numbers.get(&weight).copied().unwrap_or(1.0)
    }

    /// How many layers learn a width in a slot.
    pub(crate) fn layers(&self, slot: &str) -> usize {
        self.slot(slot).count()
    }

    /// The mean of the whole widths in a slot; none where none is learned.
    pub(crate) fn whole_mean(&self, slot: &str) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for (place, width) in self.slot(slot) {
            let numbers = self.numbers(place);
            sum += numbers * width.whole_mean();
            count += numbers;
        }
        (count > 0.0).then_some(sum / count)
    }

    /// The mean of the whole widths of a layer's slot; none where it is not learned.
    pub(crate) fn at(&self, layer: &str, slot: &str) -> Option<f64> {
        let mut found = self.slot(slot).filter(|(place, _)| place.layer == layer);
        found.next().map(|(_, width)| width.whole_mean())
    }

    /// The mean width in a slot, as a tensor with gradients.
    pub(crate) fn mean(&self, slot: &str) -> Option<Tensor<1>> {
        let total: f64 = self.slot(slot).map(|(place, _)| self.numbers(place)).sum();
        let parts = self.slot(slot).filter_map(|(place, width)| {
            let share = self.numbers(place) / total;
            Some(width.mean()? * share)
        });
        parts.reduce(|a, b| a + b)
    }
}

impl ModuleVisitor for LearnedWidths {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some((learned, place)) = learned_at(&self.path).zip(self.path.place()) else {
            let numbers = param.dims().iter().product::<usize>() as f64;
            self.numbers.insert(self.path.key(), numbers);
            return;
        };
        match learned.role {
            Role::Bits => {
                let bits = param.val().flatten::<1>(0, D - 1);
                self.widths.entry(place).or_default().bits.push(bits);
            }
            Role::Signedness => {
                if let Some(width) = self.widths.get_mut(&place) {
                    let signed = param.val().into_data().iter::<f32>().next();
                    width.signed = f64::from(signed.unwrap_or_default());
                }
            }
            _ => {}
        }
    }
}
