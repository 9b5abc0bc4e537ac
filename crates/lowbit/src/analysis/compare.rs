//! Two networks on the same images, tensor by tensor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::tensor::{InSlot, TensorCounts, record};
use crate::config::Layer;
use crate::data::ImageSet;
use crate::models::{Classifier, Parameters, SlotWidths};
use crate::quantizers::{
    Histogram, Place, Selection, Slot, Tapped, Taps, UNTRAINED_STEP, set_rounding,
};
use crate::train::batch;

/// Numbers of the images of a batch: tensors of all layers are held at once.
const NUMBERS: usize = 32 * 3 * 32 * 32;

/// Images in a batch of a pass that holds the tensors of all layers.
pub(super) fn images_at_once(set: &ImageSet) -> usize {
    (NUMBERS / set.view_len().max(1)).clamp(1, 128)
}

/// What is counted of every tensor, in the order in which they pass.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) tensors: Vec<TensorCounts>,
    numbers: BTreeMap<Place, usize>,
}

impl Counts {
    pub(super) fn get(&self, place: &Place) -> Option<&TensorCounts> {
        self.tensors.get(*self.numbers.get(place)?)
    }

    /// Adds the tensors of a batch of a network, and those of the float one of the same paths.
    fn add(&mut self, network: &Described<'_>, seen: Vec<Tapped>, float: Vec<Tapped>) {
        let mut partners: BTreeMap<Place, VecDeque<Tapped>> = BTreeMap::new();
        for tapped in float {
            partners
                .entry(tapped.place.clone())
                .or_default()
                .push_back(tapped);
        }
        let mut work: Vec<Vec<(Tapped, Option<Tapped>)>> = Vec::new();
        work.resize_with(self.tensors.len(), Vec::new);
        for tapped in seen {
            let partner = partners
                .get_mut(&tapped.place)
                .and_then(VecDeque::pop_front);
            let number = *self.numbers.entry(tapped.place.clone()).or_insert_with(|| {
                self.tensors.push(network.counts(&tapped.place));
                work.push(Vec::new());
                self.tensors.len() - 1
            });
            work[number].push((tapped, partner));
        }
        let tensors = self.tensors.par_iter_mut().zip(work);
        tensors.for_each(|(counts, passed)| {
            for (tapped, partner) in passed {
                let float = partner.as_ref().map(|partner| &partner.tensor);
                counts.add(&tapped.tensor, &tapped.read, float);
            }
        });
    }
}

/// A network's layers, with their quantizers as they are.
pub(super) struct Described<'a> {
    layers: &'a [Layer],
    pub(super) parameters: Parameters,
    pub(super) widths: SlotWidths,
    paths: BTreeSet<String>,
}

impl<'a> Described<'a> {
    pub(super) fn new<M: Classifier>(model: &'a M) -> Self {
        let parameters = Parameters::of(model);
        Self {
            layers: model.layers(),
            widths: SlotWidths::of(model),
            paths: parameters.paths(),
            parameters,
        }
    }

    pub(super) fn layer(&self, path: &str) -> Option<&'a Layer> {
        self.layers.iter().find(|layer| layer.path == path)
    }

    /// Whether a tensor is a parameter of its layer.
    pub(super) fn is_parameter(&self, place: &Place) -> bool {
        self.paths.contains(&place.to_string())
    }

    fn counts(&self, place: &Place) -> TensorCounts {
        let layer = self.layer(&place.layer);
        let in_slot = layer.and_then(|layer| {
            let config = layer.config.get(&place.slot)?;
            let quantizer = self.parameters.quantizer_in(layer, &place.slot)?;
            Some(InSlot {
                config: config.clone(),
                bits: self.widths.of_slot(layer, &place.slot)?,
                integers: quantizer.integers(),
                quantizer,
            })
        });
        let parameter = self.is_parameter(place);
        let weight = layer.and_then(|layer| layer.description.weight);
        let axis = match (parameter, place.slot == Slot::WEIGHT, weight) {
            (true, true, Some(channels)) => channels.axis,
            (true, ..) => 0,
            (false, ..) => 1,
        };
        TensorCounts::new(place.clone(), parameter, axis, in_slot)
    }
}

/// Runs both networks on the images and counts what passes through the slots of the first: all tensors
/// but inputs that are not quantized of layers without a weight, which other layers hand on.
pub(super) fn compare<M: Classifier>(
    model: &M,
    float: &M,
    network: &Described<'_>,
    (set, images): (&ImageSet, &[u32]),
    device: &Device,
) -> Counts {
    let mut counts = Counts::default();
    for indices in images.chunks(images_at_once(set)) {
        let input = batch(set, indices, None, device).images;
        let [seen, float] = [model, float].map(|model| tapped(model, network, input.clone()));
        counts.add(network, seen, float);
    }
    counts
}

/// The tensors that pass in a network, without inputs that are not quantized of layers without a weight.
fn tapped<M: Classifier>(model: &M, network: &Described<'_>, images: Tensor<4>) -> Vec<Tapped> {
    set_rounding(0, UNTRAINED_STEP);
    let taps = Taps::attach(model, Selection::all());
    model.forward(images);
    let mut seen = taps.detach();
    seen.retain(|tapped| {
        let place = &tapped.place;
        let layer = network.layer(&place.layer);
        let own = |layer: &Layer| {
            layer.config.get(Slot::INPUT).is_some() || layer.description.weight.is_some()
        };
        place.slot != Slot::INPUT || layer.is_some_and(own)
    });
    seen
}

/// The values of every weight and input of layers with a weight.
pub(super) fn operands<M: Classifier>(
    model: &M,
    network: &Described<'_>,
    (set, images): (&ImageSet, &[u32]),
    device: &Device,
) -> BTreeMap<Place, Histogram> {
    let mut values: BTreeMap<Place, Histogram> = BTreeMap::new();
    for indices in images.chunks(images_at_once(set)) {
        let input = batch(set, indices, None, device).images;
        for tapped in tapped(model, network, input) {
            let place = &tapped.place;
            let layer = network.layer(&place.layer);
            let weighted = layer.is_some_and(|layer| layer.description.weight.is_some());
            let again = network.is_parameter(place) && values.contains_key(place);
            if weighted && !again && [Slot::WEIGHT, Slot::INPUT].contains(&place.slot.as_str()) {
                let numbers: Vec<f32> = tapped.tensor.iter::<f32>().collect();
                record(values.entry(place.clone()).or_default(), &numbers);
            }
        }
    }
    values
}
