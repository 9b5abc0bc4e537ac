//! What quantization does to a network: where the error is made, what it costs, and what would help.
//!
//! [`Networks::analyze`] looks at two networks on images, [`analyze_run`] at what was trained; both give
//! an [`Analysis`], plain values that [`report`](crate::report) draws.

mod accumulator;
mod budget;
mod choose;
mod compare;
mod edges;
mod error;
mod findings;
mod gradients;
mod histogram;
mod images;
mod layer;
mod measured;
mod prediction;
#[cfg(test)]
mod reference;
mod refit;
mod repairs;
mod run;
mod tensor;
mod widths;

use std::collections::BTreeSet;

use burn::tensor::Device;
use serde::Serialize;

pub use accumulator::{AccumulatorBits, accumulator_bits};
pub use budget::Budget;
pub use error::TensorError;
pub use findings::{Finding, Problem};
pub use histogram::ValueHistogram;
pub use images::{Confusion, LostImage};
pub use layer::{LayerAnalysis, bit_operations};
pub use measured::MeasuredSensitivity;
pub use prediction::Prediction;
pub use refit::{Refit, SwappedChannels};
pub use repairs::{Defect, SuggestedRepair};
pub use run::{RunAnalysis, RunOptions, analyze_run};
pub use tensor::{OutlierChannel, TensorAnalysis};
pub use widths::{LayerWidth, SuggestedWidths, WidthKind, WidthPlan};

use crate::data::ImageSet;
use crate::models::{Classifier, model_bits};
use crate::quantizers::set_quantization;
use crate::train::{Tested, batch};
use compare::{Described, compare, operands};
use measured::{Answers, each_layer, with_layers};
use prediction::{Known, predict};

/// A quantized network, the float one that it is held against, and images.
#[derive(Debug, Clone, Copy)]
pub struct Networks<'a, M> {
    /// The quantized network, in its validation form.
    pub model: &'a M,
    /// The float network, likewise; without one, the same network with its quantizers off.
    pub float: Option<&'a M>,
    /// Images with their classes.
    pub set: &'a ImageSet,
    /// Those of them that are looked at.
    pub images: &'a [u32],
    /// Where they are.
    pub device: &'a Device,
}

/// What quantization does to a network. Losses are mean cross-entropies in nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// Images that were looked at.
    pub images: usize,
    /// The float network on them.
    pub float: Tested,
    /// The quantized network on them.
    pub quantized: Tested,
    /// The quantized network with its quantizers off, which [`float`](Self::float) is unless another one
    /// was given. Where that is far worse, it has learned to be quantized, and a layer alone says little.
    pub switched_off: Tested,
    /// Parameters, those of quantizers too.
    pub parameters: u64,
    /// Bits that they take.
    pub bits: u64,
    /// What is said first: the layers by what they cost, the one to blame first.
    pub findings: Vec<Finding>,
    /// The layers, in the order in which they compute.
    pub layers: Vec<LayerAnalysis>,
    /// What images of each class are taken for.
    pub confusion: Confusion,
    /// Images that the float network gets right and quantized ones do not; none of text.
    pub lost: Vec<LostImage>,
}

impl Analysis {
    /// What is wrong that an algorithm of [`repair`](crate::repair) is made for, in the order of the algorithms.
    /// Whether one helps is to be tried; [`analyze_run`] does.
    pub fn defects(&self) -> Vec<Defect> {
        repairs::defects(&self.layers)
    }
}

impl<M: Classifier> Networks<'_, M> {
    /// Looks at them.
    pub fn analyze(&self) -> Analysis {
        let off = with_layers(self.model, |_| false);
        let answers = |model: &M| Answers::of(model, self.set, self.images, self.device);
        let (of_off, of_quantized) = (answers(&off), answers(self.model));
        let other = self.float.map(answers);
        let of_float = other.as_ref().unwrap_or(&of_off);

        let mut layers = self.layers(&off);
        let variants = each_layer(self.model, &self.quantized_layers(), answers);
        for (path, only, all_but) in &variants {
            if let Some(layer) = layers.iter_mut().find(|layer| layer.path == *path) {
                layer.measured = Some(MeasuredSensitivity::of(&of_off, only, all_but));
            }
        }
        let others: Vec<&Answers> = variants.iter().flat_map(|(_, a, b)| [a, b]).collect();
        Analysis {
            images: self.images.len(),
            float: of_float.tested(),
            quantized: of_quantized.tested(),
            switched_off: of_off.tested(),
            parameters: self.model.num_params() as u64,
            bits: model_bits(self.model),
            findings: findings::findings(&layers),
            confusion: Confusion::of(self.set.classes, of_float, &of_quantized),
            lost: match self.set.answers() {
                1 => images::lost(self.images, of_float, &of_quantized, &others),
                _ => Vec::new(),
            },
            layers,
        }
    }

    /// The layers in the order in which they compute, with their tensors and what is predicted; not
    /// measured. `off` is the network with its quantizers off.
    fn layers(&self, off: &M) -> Vec<LayerAnalysis> {
        let network = Described::new(self.model);
        let images = (self.set, self.images);
        let float = self.float.unwrap_or(off);
        let counts = compare(self.model, float, &network, images, self.device);
        let accumulators = accumulator_bits(self.model, self.model.layers());
        let described = self.model.layers().iter().map(|layer| {
            let sums = accumulators.iter().find(|sums| sums.path == layer.path);
            let seen = (&counts, self.images.len());
            layer::described(layer, &network, seen, sums.cloned())
        });
        let mut layers: Vec<LayerAnalysis> = described.collect();

        let first = &self.images[..self.images.len().min(2)];
        let edges = edges::edges(off, batch(self.set, first, None, self.device).images);
        for layer in &mut layers {
            layer.reads = edges.read_by(&layer.path);
        }
        layers.sort_by_key(|layer| edges.place(&layer.path));
        // Another float network has other weights than this one with its quantizers off.
        let operands = self
            .float
            .map(|_| operands(off, &network, images, self.device));
        let known = Known {
            network: &network,
            counts: &counts,
            operands: operands.as_ref(),
        };
        for prediction in predict(off, &known, images, self.device) {
            let place = prediction.path.rsplit_once('.');
            let place = place.map_or("", |(layer, _)| layer);
            if let Some(layer) = layers.iter_mut().find(|layer| layer.path == place) {
                layer.predicted.push(prediction);
            }
        }
        layers
    }

    /// The layers that quantize something.
    fn quantized_layers(&self) -> BTreeSet<String> {
        let mut layers = BTreeSet::new();
        set_quantization(self.model.clone(), true, |place| {
            layers.insert(place.layer.clone());
            false
        });
        layers
    }
}
