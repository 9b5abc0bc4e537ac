//! What quantizing one tensor costs, predicted from one backward pass.
//!
//! The loss near the float network is `L + g' d + d' H d / 2` for a change `d` of a tensor. What is
//! predicted is the second term, with the curvature `H = J' (diag p - p p') J` of cross-entropy (Gauss
//! and Newton's), where `J` is the scores' derivative and `p` their softmax. One backward pass of `u' z`
//! with `u = sqrt(p) v - p (sqrt(p)' v)` and random signs `v` gives gradients `g` whose squares have that
//! mean: `E[g g'] = H` (Hutchinson, 1990). Images have signs of their own, so that their gradients of a
//! weight, which come added up, do not correlate either.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use lowbit_formats::philox::philox_4x32_10;
use rayon::prelude::*;
use serde::Serialize;

use super::compare::{Counts, Described, images_at_once};
use super::refit::{has_power_of_two, is_signed};
use super::tensor::TensorCounts;
use crate::calibrate::threshold;
use crate::config::Layer;
use crate::data::ImageSet;
use crate::models::Classifier;
use crate::quantizers::{
    Channels, FormatQuantizerConfig, Histogram, ModulePath, Place, Quantizer, QuantizerConfig,
    Selection, Slot, Tapped, Taps, ThresholdInit, TrainedThresholdConfig, set_quantization,
    with_learned,
};
use crate::train::batch;

/// Widths of integers that are tried for every weight and input.
pub(super) const WIDTHS: [u32; 6] = [2, 3, 4, 5, 6, 8];

/// Formats that are tried, with a float scale for the tensor.
const FORMATS: [&str; 4] = [
    "scaled(e2m1)",
    "scaled(nf4)",
    "scaled(e3m2)",
    "scaled(e4m3)",
];

/// The loss that quantizing a tensor is predicted to add, in nats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The tensor's path.
    pub path: String,
    /// With its quantizer as it is, where it has one.
    pub now: Option<f64>,
    /// With the best threshold of the same width, where that can be told.
    pub refit: Option<f64>,
    /// With other formats, by their names: `int4` has the threshold of the least mean square error.
    pub formats: Vec<(String, f64)>,
}

/// What is tried for a tensor.
struct Tried {
    place: Place,
    parameter: bool,
    now: Option<Quantizer>,
    refit: Option<Quantizer>,
    formats: Vec<(String, Quantizer)>,
    /// Of `now`, `refit` and the formats: twice the loss, summed over images.
    sums: Vec<f64>,
}

impl Tried {
    fn quantizers(&self) -> impl Iterator<Item = Option<&Quantizer>> {
        let first = [self.now.as_ref(), self.refit.as_ref()].into_iter();
        first.chain(self.formats.iter().map(|(_, quantizer)| Some(quantizer)))
    }

    /// Adds a batch of `images`.
    fn add(&mut self, tapped: &Tapped, images: usize) {
        let Some(gradient) = &tapped.gradient else {
            return;
        };
        let values: Vec<f32> = tapped.tensor.iter::<f32>().collect();
        let gradient: Vec<f32> = gradient.iter::<f32>().collect();
        let parts = (!self.parameter).then_some(images);
        let added: Vec<f64> = self
            .quantizers()
            .map(|quantizer| {
                let Some(quantizer) = quantizer else {
                    return 0.0;
                };
                let read = quantized(quantizer, &tapped.tensor);
                curvature(&values, &read, &gradient, parts)
            })
            .collect();
        for (sum, more) in self.sums.iter_mut().zip(added) {
            *sum += more;
        }
    }
}

/// `sum g^2 d^2` for the change `d` of each number of a parameter; of an activation, the sum over its
/// `images` of the mean of that and `(sum g d)^2`, since its rounding errors go one way where small
/// numbers become zero.
fn curvature(values: &[f32], read: &[f32], gradient: &[f32], images: Option<usize>) -> f64 {
    let parts = images.unwrap_or(1).max(1);
    let length = values.len() / parts;
    let of_image = |image: usize| {
        let range = image * length..(image + 1) * length;
        let (mut squares, mut sum) = (0.0, 0.0);
        for i in range {
            let change = (f64::from(read[i]) - f64::from(values[i])) * f64::from(gradient[i]);
            if change.is_finite() {
                squares += change * change;
                sum += change;
            }
        }
        match images {
            None => squares,
            Some(_) => 0.5 * (squares + sum * sum),
        }
    };
    (0..parts).map(of_image).sum()
}

/// What a quantizer makes of a tensor of any rank.
fn quantized(quantizer: &Quantizer, data: &TensorData) -> Vec<f32> {
    fn of<const D: usize>(quantizer: &Quantizer, data: &TensorData) -> Vec<f32> {
        let x = Tensor::<D>::from_data(data.clone(), &Device::flex());
        quantizer
            .operand(x)
            .quantized()
            .into_data()
            .iter::<f32>()
            .collect()
    }
    match data.shape().len() {
        1 => of::<1>(quantizer, data),
        2 => of::<2>(quantizer, data),
        3 => of::<3>(quantizer, data),
        4 => of::<4>(quantizer, data),
        5 => of::<5>(quantizer, data),
        _ => data.iter::<f32>().collect(),
    }
}

/// What is known of the tensors that quantizers are tried on.
pub(super) struct Known<'a> {
    pub(super) network: &'a Described<'a>,
    /// Of the quantized network.
    pub(super) counts: &'a Counts,
    /// The values of weights and inputs with quantizers off, where they are not those of the float
    /// network in `counts`.
    pub(super) operands: Option<&'a BTreeMap<Place, Histogram>>,
}

impl Known<'_> {
    /// The values of a weight or an input with quantizers off.
    fn operand(&self, place: &Place) -> Option<&Histogram> {
        match self.operands {
            Some(operands) => operands.get(place),
            None => self.counts.get(place).map(TensorCounts::float_values),
        }
    }
}

/// The predictions for every weight and input of a layer with a weight, and for every tensor that is
/// quantized. `off` is the network with its quantizers off.
pub(super) fn predict<M: Classifier>(
    off: &M,
    known: &Known<'_>,
    (set, images): (&ImageSet, &[u32]),
    device: &Device,
) -> Vec<Prediction> {
    let model = differentiable(off);
    let device = device.clone().autodiff();
    let mut tried: Vec<Tried> = Vec::new();
    for (number, indices) in images.chunks(images_at_once(set)).enumerate() {
        let seen = gradients(&model, set, indices, number, &device);
        if number == 0 {
            // A layer that is called twice passes its tensors twice.
            let places: BTreeSet<&Place> = seen.iter().map(|tapped| &tapped.place).collect();
            let places = places.into_iter();
            tried = places.filter_map(|place| Tried::of(place, known)).collect();
        }
        tried.par_iter_mut().for_each(|tried| {
            for tapped in &seen {
                if tapped.place == tried.place {
                    tried.add(tapped, indices.len());
                }
            }
        });
    }
    tried
        .into_iter()
        .map(|tried| tried.finish(images.len()))
        .collect()
}

/// The tensors of a batch with the gradients of `u' z`.
fn gradients<M: Classifier>(
    model: &M,
    set: &ImageSet,
    indices: &[u32],
    number: usize,
    device: &Device,
) -> Vec<Tapped> {
    let slots = [Slot::INPUT, Slot::WEIGHT, Slot::BIAS, Slot::OUTPUT];
    let selection = slots.into_iter().fold(Selection::all(), Selection::slot);
    let taps = Taps::attach_with_gradients(model, selection);
    let input = batch(set, indices, None, device).images.require_grad();
    let scores = model.forward(input);
    let [rows, classes] = scores.dims();
    let values: Vec<f32> = scores.clone().into_data().iter::<f32>().collect();
    let directions: Vec<f32> = values
        .chunks(classes)
        .enumerate()
        .flat_map(|(row, scores)| direction(scores, [number as u32, row as u32]))
        .collect();
    let data = TensorData::new(directions, [rows, classes]);
    (scores * Tensor::<2>::from_data(data, device))
        .sum()
        .backward();
    taps.detach()
}

/// `sqrt(p) v - p (sqrt(p)' v)` with the softmax `p` of the scores and signs `v` that follow from the
/// image's place.
fn direction(scores: &[f32], [batch, row]: [u32; 2]) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f64> = scores.iter().map(|&z| f64::from(z - most).exp()).collect();
    let total: f64 = shares.iter().sum();
    let shares: Vec<f64> = shares.iter().map(|share| share / total).collect();
    let signs = (0..scores.len()).map(|class| {
        let words = philox_4x32_10([row, batch, (class / 128) as u32, 0x7369_676e], [0, 0]);
        let bit = words[class / 32 % 4] >> (class % 32) & 1;
        if bit == 1 { 1.0 } else { -1.0 }
    });
    let signs: Vec<f64> = signs.collect();
    let pairs = || shares.iter().zip(&signs);
    let along: f64 = pairs().map(|(p, v)| p.sqrt() * v).sum();
    pairs()
        .map(|(p, v)| (p.sqrt() * v - p * along) as f32)
        .collect()
}

impl Tried {
    /// What is tried at a place, if it is one.
    fn of(place: &Place, all: &Known<'_>) -> Option<Self> {
        let layer = all.network.layer(&place.layer)?;
        let known = all.counts.get(place);
        let in_slot = known.and_then(|known| known.quantizer.clone());
        let operand = [Slot::WEIGHT, Slot::INPUT].contains(&place.slot.as_str());
        let weighted = operand && layer.description.weight.is_some();
        if in_slot.is_none() && !weighted {
            return None;
        }
        let refit = known.and_then(|known| {
            let config = &known.quantizer.as_ref()?.config;
            let refit = known
                .refit()
                .filter(|_| has_power_of_two(config) == Some(true))?;
            let signed = known
                .integers()
                .map_or(known.values().min() < 0.0, is_signed);
            let axis = layer.description.weight;
            let axis = axis.filter(|_| place.slot == Slot::WEIGHT);
            integer_quantizer(config.bits(), signed, &refit.thresholds, axis)
        });
        let formats: Vec<_> = match weighted {
            true => formats(place, layer, all.operand(place)),
            false => Vec::new(),
        };
        Some(Self {
            place: place.clone(),
            parameter: all.network.is_parameter(place),
            // A function before the grid is no error.
            now: in_slot
                .filter(|q| !q.config.transforms())
                .map(|q| q.quantizer),
            refit,
            sums: vec![0.0; 2 + formats.len()],
            formats,
        })
    }

    fn finish(self, images: usize) -> Prediction {
        let loss = |sum: &f64| 0.5 * sum / images.max(1) as f64;
        let names = self.formats.iter().map(|(name, _)| name.clone());
        Prediction {
            path: self.place.to_string(),
            now: self.now.as_ref().map(|_| loss(&self.sums[0])),
            refit: self.refit.as_ref().map(|_| loss(&self.sums[1])),
            formats: names.zip(self.sums[2..].iter().map(loss)).collect(),
        }
    }
}

/// Integers of every width with the threshold of the least mean square error, and formats.
fn formats(place: &Place, layer: &Layer, values: Option<&Histogram>) -> Vec<(String, Quantizer)> {
    let integers = values.into_iter().flat_map(|values| {
        WIDTHS.into_iter().filter_map(|bits| {
            let signed = values.min() < 0.0;
            let end = threshold(values, ThresholdInit::Mse, bits, signed)?;
            let quantizer = integer_quantizer(bits, signed, &[end.into()], None)?;
            Some((format!("int{bits}"), quantizer))
        })
    });
    let channels = layer
        .description
        .weight
        .filter(|_| place.slot == Slot::WEIGHT);
    let scaled = FORMATS.into_iter().filter_map(|text| {
        let config = QuantizerConfig::Format(FormatQuantizerConfig::new(text.parse().ok()?));
        Some((text.to_string(), config.init(channels, &Device::flex())))
    });
    integers.chain(scaled).collect()
}

/// Integers times powers of two below thresholds.
fn integer_quantizer(
    bits: u32,
    signed: bool,
    thresholds: &[f64],
    channels: Option<Channels>,
) -> Option<Quantizer> {
    let per_channel = thresholds.len() > 1;
    let config = QuantizerConfig::Tqt(TrainedThresholdConfig {
        per_channel,
        ..TrainedThresholdConfig::new(bits)
    });
    let log2: Vec<f32> = thresholds
        .iter()
        .map(|&end| if end > 0.0 { end.log2() as f32 } else { 0.0 })
        .collect();
    let data = |values: Vec<f32>| {
        let count = values.len();
        Some(TensorData::new(values, [count]))
    };
    let quantizer = config.init(channels, &Device::flex());
    with_learned(quantizer, |name| match name.rsplit('.').next() {
        Some("log2_threshold") => data(log2.clone()),
        Some("signed") => data(vec![f32::from(u8::from(signed))]),
        _ => None,
    })
}

/// The network in a form in which gradients flow, and which computes as in validation: quantizers,
/// dropout and the statistics of batches are off.
fn differentiable<M: Module>(model: &M) -> M {
    struct Off {
        path: ModulePath,
    }

    impl ModuleMapper for Off {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            match self.path.holder_type() {
                "Switch" => flag,
                _ => flag.with_value(false),
            }
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.set_require_grad(true)
        }
    }

    let (model, _) = set_quantization(model.clone(), false, |_| true);
    model.train().map(&mut Off {
        path: ModulePath::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes of shares 1/2 and signs 1 and 1: sqrt(p) v - p (sqrt(p)' v) is zero, as it is for
    /// all signs alike; for 1 and -1 it is 1/sqrt 2 and its opposite. Their squares have the mean
    /// p (1 - p) = 1/4 over both signs.
    #[test]
    fn directions_have_the_curvature_of_cross_entropy() {
        let mut squares = 0.0;
        for row in 0..4000 {
            let u = direction(&[0.0, 0.0], [0, row]);
            assert!((u[0] + u[1]).abs() < 1e-6);
            assert!(u[0] == 0.0 || (u[0].abs() - 0.5f32.sqrt()).abs() < 1e-6);
            squares += f64::from(u[0] * u[0]) / 4000.0;
        }
        assert!((squares - 0.25).abs() < 0.02, "{squares}");
    }

    /// Changes 1 and -2 with gradients 3 and 1: of a parameter 9 + 4; of one image each, the same,
    /// since a single number's sum is itself.
    #[test]
    fn curvature_by_hand() {
        let (values, read, gradient) = ([0.0, 2.0], [1.0, 0.0], [3.0, 1.0]);
        assert_eq!(curvature(&values, &read, &gradient, None), 13.0);
        assert_eq!(curvature(&values, &read, &gradient, Some(2)), 13.0);
    }
}
