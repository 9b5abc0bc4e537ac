//! Cross-layer equalization: Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight
//! Equalization and Bias Correction", arXiv 1906.04721.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use super::wiring::{Pair, Wired, WiredKind, Wiring};
use super::{Algorithm, Repaired, RepairedTensor};
use crate::Error;
use crate::capture::ModelInput;
use crate::config::Layer;
use crate::models::{Parameters, with_parameters};

/// Passes over all pairs at most, and the change of a factor's logarithm below which they end.
const PASSES: usize = 100;
const SETTLED: f64 = 1e-6;

/// Brings the channels of weights to like ranges, so that one step suits them all, without a change to what
/// the network computes.
///
/// Of two layers with `W2 f(W1 x + b1) + b2`, where `f` passes positive factors on, the channel `i` between
/// them is divided by `s_i = sqrt(r1_i r2_i) / r2_i` in the first and multiplied by it in the second
/// (arXiv 1906.04721, eq. 7 to 11), where `r1_i = max |W1|` over what makes the channel and `r2_i = max |W2|`
/// over what reads it; both are `sqrt(r1_i r2_i)` then. A channel with a range of zero keeps its numbers.
/// Where a layer is in two pairs, as each but the ends of a chain and every convolution of single channels,
/// the pairs take turns until no factor changes.
///
/// `f` may hold rectifiers, poolings and other shapes. Batch normalization has to be merged
/// ([`Fold::Merged`](crate::config::Fold)); a `Relu6`, a sum of branches or a result that several layers
/// read ends a chain, and the notes say where. Ranges of activations change with the channels: calibrate
/// afterwards.
///
/// `layers` are the network's; `example` is an input, which nothing but the recording sees.
///
/// # Errors
/// If the forward cannot be recorded, or a weight is made by a function of what is stored, as
/// DoReFa-Net's is, or learns its width.
pub fn equalize<M: Module, I: ModelInput, const O: usize>(
    model: M,
    layers: &[Layer],
    example: &I,
    forward: impl Fn(&M, I) -> Tensor<O>,
) -> Result<(M, Repaired), Error> {
    Algorithm::Equalize.check_layers(layers)?;
    let wiring = Wiring::of(&model, example, &forward)?;
    let parameters = Parameters::of(&model);
    let mut weights = BTreeMap::new();
    for pair in &wiring.pairs {
        for path in [&pair.first, &pair.second] {
            let layer = wiring.layer(path).expect("a pair is of layers");
            let scaled = || Scaled::new(layer, &parameters);
            weights.entry(path.clone()).or_insert_with(scaled);
        }
    }
    let before: Vec<f64> = weights.values().map(Scaled::share).collect();
    settle(&mut weights, &wiring.pairs);
    let tensors = weights
        .values()
        .zip(before)
        .map(|(weight, before)| RepairedTensor {
            path: weight.layer.weight.clone(),
            before,
            after: weight.share(),
        });
    let mut tensors: Vec<RepairedTensor> = tensors.collect();
    let place = |tensor: &RepairedTensor| {
        let weights = wiring.layers.iter().map(|layer| &layer.weight);
        weights.clone().position(|weight| *weight == tensor.path)
    };
    tensors.sort_by_key(place);
    let values = weights
        .values()
        .flat_map(|weight| weight.values(&parameters));
    let repaired = Repaired {
        algorithm: Algorithm::Equalize,
        tensors,
        notes: notes(&wiring),
    };
    Ok((with_parameters(model, values.collect()), repaired))
}

/// The pairs take turns until no factor changes.
fn settle(weights: &mut BTreeMap<String, Scaled>, pairs: &[Pair]) {
    for _ in 0..PASSES {
        let mut most: f64 = 0.0;
        for pair in pairs {
            let first = weights[&pair.first].ranges_out();
            let second = &weights[&pair.second];
            let factors = factors(&first, &second.ranges_in(first.len()));
            most = factors.iter().fold(most, |most, s| most.max(s.ln().abs()));
            let divide = |weight: &mut Scaled| weight.divide(&factors);
            weights.get_mut(&pair.first).into_iter().for_each(divide);
            let multiply = |weight: &mut Scaled| weight.multiply(&factors);
            weights.get_mut(&pair.second).into_iter().for_each(multiply);
        }
        if most < SETTLED {
            return;
        }
    }
}

/// `sqrt(r1 r2) / r2` of each channel; one where a range is zero, or none.
fn factors(first: &[f64], second: &[f64]) -> Vec<f64> {
    let factor = |(&r1, &r2): (&f64, &f64)| {
        let factor = (r1 / r2).sqrt();
        if r1 > 0.0 && r2 > 0.0 && factor.is_normal() {
            factor
        } else {
            1.0
        }
    };
    first.iter().zip(second).map(factor).collect()
}

/// Why chains end where they do.
fn notes(wiring: &Wiring) -> Vec<String> {
    let mut notes = Vec::new();
    if wiring.pairs.is_empty() {
        notes.push(
            "no two layers follow each other with a rectifier alone between them; nothing changed"
                .into(),
        );
    }
    let ends = wiring.layers.iter().filter_map(|layer| {
        let after = wiring.ends.get(&layer.path)?;
        (after != "the network's result").then(|| format!("{} ends a chain: {after}", layer.path))
    });
    notes.extend(ends);
    notes
}

/// A weight and what its channels are divided and multiplied by.
struct Scaled<'a> {
    layer: &'a Wired,
    shape: Vec<usize>,
    magnitudes: Vec<f64>,
    /// Of each output channel.
    divided: Vec<f64>,
    /// Of each channel in.
    multiplied: Vec<f64>,
}

impl<'a> Scaled<'a> {
    fn new(layer: &'a Wired, parameters: &Parameters) -> Self {
        let data = parameters.get(&layer.weight).expect("a recorded parameter");
        let shape = data.shape().to_vec();
        let outputs = match layer.kind {
            WiredKind::Linear => shape[1],
            WiredKind::Conv2d(_) => shape[0],
        };
        Self {
            layer,
            magnitudes: data.iter::<f32>().map(|w| f64::from(w).abs()).collect(),
            divided: vec![1.0; outputs],
            multiplied: vec![1.0],
            shape,
        }
    }

    /// The channel that a number of the weight is of, out and in, where there are so many in.
    fn channels(&self, i: usize, inputs: usize) -> [usize; 2] {
        match &self.layer.kind {
            WiredKind::Linear => {
                let features = (self.shape[0] / inputs).max(1);
                [i % self.shape[1], i / self.shape[1] / features]
            }
            WiredKind::Conv2d(window) => {
                let [outputs, of_group] = [self.shape[0], self.shape[1]];
                let kernel = self.shape[2] * self.shape[3];
                let out = i / (of_group * kernel);
                let group = out / (outputs / window.groups).max(1);
                [out, group * of_group + i / kernel % of_group]
            }
        }
    }

    /// The magnitude of each number as it is scaled.
    fn scaled(&self) -> impl Iterator<Item = ([usize; 2], f64)> {
        let inputs = self.multiplied.len();
        self.magnitudes
            .iter()
            .enumerate()
            .map(move |(i, magnitude)| {
                let [out, input] = self.channels(i, inputs);
                // Nothing is known of the channels in: they are one.
                let input = input % inputs;
                (
                    [out, input],
                    magnitude * self.multiplied[input] / self.divided[out],
                )
            })
    }

    fn ranges_out(&self) -> Vec<f64> {
        let mut ranges = vec![0.0; self.divided.len()];
        self.scaled()
            .for_each(|([out, _], x)| ranges[out] = f64::max(ranges[out], x));
        ranges
    }

    fn ranges_in(&self, inputs: usize) -> Vec<f64> {
        let mut ranges = vec![0.0; inputs];
        for (i, (_, x)) in self.scaled().enumerate() {
            let [_, input] = self.channels(i, inputs);
            ranges[input] = f64::max(ranges[input], x);
        }
        ranges
    }

    fn divide(&mut self, factors: &[f64]) {
        self.divided
            .iter_mut()
            .zip(factors)
            .for_each(|(all, s)| *all *= s);
    }

    fn multiply(&mut self, factors: &[f64]) {
        if self.multiplied.len() != factors.len() {
            self.multiplied = vec![1.0; factors.len()];
        }
        self.multiplied
            .iter_mut()
            .zip(factors)
            .for_each(|(all, s)| *all *= s);
    }

    /// The mean over the output channels of their range over the tensor's.
    fn share(&self) -> f64 {
        let ranges = self.ranges_out();
        let largest = ranges.iter().copied().fold(0.0, f64::max);
        match largest > 0.0 {
            true => ranges.iter().map(|r| r / largest).sum::<f64>() / ranges.len() as f64,
            false => 1.0,
        }
    }

    /// The new numbers of weight and bias.
    fn values(&self, parameters: &Parameters) -> Vec<(String, TensorData)> {
        let inputs = self.multiplied.len();
        let weight = |(i, w): (usize, f32)| {
            let [out, input] = self.channels(i, inputs);
            (f64::from(w) * self.multiplied[input % inputs] / self.divided[out]) as f32
        };
        let bias = |(i, b): (usize, f32)| (f64::from(b) / self.divided[i]) as f32;
        let data = parameters
            .get(&self.layer.weight)
            .expect("a recorded parameter");
        let weights: Vec<f32> = data.iter::<f32>().enumerate().map(weight).collect();
        let mut all = vec![(
            self.layer.weight.clone(),
            TensorData::new(weights, self.shape.clone()),
        )];
        if let Some((key, data)) = self
            .layer
            .bias
            .as_ref()
            .and_then(|key| Some((key, parameters.get(key)?)))
        {
            let biases: Vec<f32> = data.iter::<f32>().enumerate().map(bias).collect();
            all.push((key.clone(), TensorData::new(biases, data.shape().clone())));
        }
        all
    }
}
