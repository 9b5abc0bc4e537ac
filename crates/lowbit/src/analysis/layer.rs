//! What is known of a layer.

use burn::tensor::Tensor;
use serde::Serialize;

use super::accumulator::AccumulatorBits;
use super::compare::Counts;
use super::measured::MeasuredSensitivity;
use super::prediction::Prediction;
use super::tensor::TensorAnalysis;
use crate::config::Layer;
use crate::models::Classifier;
use crate::models::Parameters;
use crate::quantizers::{QuantizerConfig, Selection, Slot, Tapped, Taps};

/// A layer of a network: what it is, what it costs, its tensors, and what quantizing it does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerAnalysis {
    /// Its path.
    pub path: String,
    /// Its type.
    pub layer_type: String,
    /// The layers whose results it reads.
    pub reads: Vec<String>,
    /// Shape of its result for one image.
    pub shape: Vec<usize>,
    /// Bits of its weight, where it has one that is quantized.
    pub weight_bits: Option<u32>,
    /// Bits of its input, where that is quantized.
    pub input_bits: Option<u32>,
    /// Its parameters, those of quantizers left out.
    pub parameters: u64,
    /// Bits that they take: each at the width of its quantizer, 32 without.
    pub bits: u64,
    /// Products (of an adder, distances) that it sums for an image.
    pub operations: u64,
    /// Those times the bits of the weight times the bits of the input, 32 for a float.
    pub bit_operations: u64,
    /// The width that its sums can need, where weight and input are integers times powers of two.
    pub accumulator: Option<AccumulatorBits>,
    /// Its tensors.
    pub tensors: Vec<TensorAnalysis>,
    /// What its quantization costs, measured; of layers that quantize something.
    pub measured: Option<MeasuredSensitivity>,
    /// What it costs as predicted, tensor by tensor.
    pub predicted: Vec<Prediction>,
}

impl LayerAnalysis {
    /// The loss that its quantizers as they are are predicted to add together, in nats.
    pub fn predicted_loss(&self) -> Option<f64> {
        let known: Vec<f64> = self.predicted.iter().filter_map(|p| p.now).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    /// The tensor in a slot.
    pub fn tensor(&self, slot: &str) -> Option<&TensorAnalysis> {
        self.tensors.iter().find(|tensor| tensor.slot == slot)
    }

    /// The prediction for a slot.
    pub fn prediction(&self, slot: &str) -> Option<&Prediction> {
        let path = format!("{}.{slot}", self.path);
        self.predicted.iter().find(|known| known.path == path)
    }
}

/// Products that a layer sums for an image whose result has so many numbers, and those times the bits of
/// its weight and of its input, 32 for a float.
fn operations(layer: &Layer, numbers: u64) -> (u64, u64) {
    let terms = layer.description.sums.map_or(0, |sums| sums.terms) as u64;
    let weight = layer.description.weight_format.as_ref();
    let weight = weight.or(layer.config.get(Slot::WEIGHT));
    let input = layer.config.get(Slot::INPUT);
    let [weight, input] = [weight, input].map(|q| u64::from(q.map_or(32, QuantizerConfig::bits)));
    (numbers * terms, numbers * terms * weight * input)
}

/// Products that a network takes for an image, each times the bits of its weight and of its input, 32
/// for a float. `image` is `[1, channels, height, width]`.
pub fn bit_operations<M: Classifier>(model: &M, image: Tensor<4>) -> u64 {
    let taps = Taps::attach(model, Selection::all().slot(Slot::OUTPUT));
    model.forward(image);
    let passed = taps.detach();
    let of = |tapped: &Tapped| {
        let layer = model
            .layers()
            .iter()
            .find(|layer| layer.path == tapped.place.layer);
        layer.map_or(0, |layer| {
            operations(layer, tapped.tensor.num_elements() as u64).1
        })
    };
    passed.iter().map(of).sum()
}

/// A layer without what is measured and predicted.
pub(super) fn described(
    layer: &Layer,
    parameters: &Parameters,
    counts: &Counts,
    accumulator: Option<AccumulatorBits>,
) -> LayerAnalysis {
    let own = counts
        .tensors
        .iter()
        .filter(|t| t.place.layer == layer.path);
    let tensors: Vec<TensorAnalysis> = own.map(|tensor| tensor.finish()).collect();
    let output = tensors.iter().find(|tensor| tensor.slot == Slot::OUTPUT);
    let shape = output.map_or(Vec::new(), |output| output.shape.clone());
    let numbers = shape.iter().product::<usize>() as u64;
    let (operations, bit_operations) = operations(layer, numbers);
    let weight = layer.description.weight_format.as_ref();
    let weight = weight.or(layer.config.get(Slot::WEIGHT));
    let weight_bits = weight.map(QuantizerConfig::bits);
    let input_bits = layer.config.get(Slot::INPUT).map(QuantizerConfig::bits);
    let sizes = parameters.of_layer(&layer.path).map(|(name, numbers)| {
        let own = layer.description.weight_format.as_ref();
        let own = own.filter(|_| name == Slot::WEIGHT);
        let bits = own
            .or(layer.config.get(name))
            .map_or(32, QuantizerConfig::bits);
        (numbers, numbers * u64::from(bits))
    });
    let (count, bits) = sizes.fold((0, 0), |(n, b), (numbers, bits)| (n + numbers, b + bits));
    LayerAnalysis {
        path: layer.path.clone(),
        layer_type: layer.description.name.into(),
        reads: Vec::new(),
        shape,
        weight_bits,
        input_bits,
        parameters: count,
        bits,
        operations,
        bit_operations,
        accumulator,
        tensors,
        measured: None,
        predicted: Vec::new(),
    }
}
