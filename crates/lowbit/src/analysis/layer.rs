//! What is known of a layer.

use burn::tensor::Tensor;
use serde::Serialize;

use super::accumulator::AccumulatorBits;
use super::compare::{Counts, Described};
use super::measured::MeasuredSensitivity;
use super::prediction::Prediction;
use super::tensor::TensorAnalysis;
use crate::config::Layer;
use crate::models::{Classifier, SlotWidths};
use crate::quantizers::{Selection, Slot, Tapped, Taps};

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
    /// Bits of its weight, where it has one that is quantized; learned ones on average over channels.
    pub weight_bits: Option<f64>,
    /// Bits of its input, where that is quantized.
    pub input_bits: Option<f64>,
    /// Its parameters, those of quantizers left out.
    pub parameters: u64,
    /// Bits that they take: each at the width of its quantizer, 32 without.
    pub bits: u64,
    /// Products (of an adder, distances) that it sums for an image, over all steps of a spiking network.
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

/// Products that a layer sums for an image whose results have so many numbers.
pub(super) fn operations(layer: &Layer, numbers: u64) -> u64 {
    numbers * layer.description.sums.map_or(0, |sums| sums.terms) as u64
}

/// Those times the bits of its weight and of its input, 32 for a float.
fn bit_operations_of(layer: &Layer, widths: &SlotWidths, operations: u64) -> u64 {
    let bits = |slot: &str| widths.of_slot(layer, slot).unwrap_or(32.0);
    (operations as f64 * bits(Slot::WEIGHT) * bits(Slot::INPUT)).round() as u64
}

/// Products that a network takes for an image, each times the bits of its weight and of its input, 32
/// for a float. `image` is `[1, channels, height, width]`.
pub fn bit_operations<M: Classifier>(model: &M, image: Tensor<4>) -> u64 {
    let taps = Taps::attach(model, Selection::all().slot(Slot::OUTPUT));
    model.forward(image);
    let passed = taps.detach();
    let widths = SlotWidths::of(model);
    let of = |tapped: &Tapped| {
        let layer = model
            .layers()
            .iter()
            .find(|layer| layer.path == tapped.place.layer);
        layer.map_or(0, |layer| {
            let operations = operations(layer, tapped.tensor.num_elements() as u64);
            bit_operations_of(layer, &widths, operations)
        })
    };
    passed.iter().map(of).sum()
}

/// A layer without what is measured and predicted, of which so many images were seen.
pub(super) fn described(
    layer: &Layer,
    network: &Described<'_>,
    (counts, images): (&Counts, usize),
    accumulator: Option<AccumulatorBits>,
) -> LayerAnalysis {
    let own = counts
        .tensors
        .iter()
        .filter(|t| t.place.layer == layer.path);
    let tensors: Vec<TensorAnalysis> = own.map(|tensor| tensor.finish()).collect();
    let output = tensors.iter().find(|tensor| tensor.slot == Slot::OUTPUT);
    let shape = output.map_or(Vec::new(), |output| output.shape.clone());
    // A layer that is called for each step, or twice, has several results.
    let numbers = output.map_or(0, |output| output.count / images.max(1) as u64);
    let operations = operations(layer, numbers);
    let widths = &network.widths;
    let sizes = network.parameters.of_layer(&layer.path);
    let sizes = sizes.map(|(name, numbers)| {
        let bits = widths.of_slot(layer, name).unwrap_or(32.0);
        (numbers, (bits * numbers as f64).round() as u64)
    });
    let (count, bits) = sizes.fold((0, 0), |(n, b), (numbers, bits)| (n + numbers, b + bits));
    LayerAnalysis {
        path: layer.path.clone(),
        layer_type: layer.description.name.into(),
        reads: Vec::new(),
        shape,
        weight_bits: widths.of_slot(layer, Slot::WEIGHT),
        input_bits: widths.of_slot(layer, Slot::INPUT),
        parameters: count,
        bits,
        operations,
        bit_operations: bit_operations_of(layer, widths, operations),
        accumulator,
        tensors,
        measured: None,
        predicted: Vec::new(),
    }
}
