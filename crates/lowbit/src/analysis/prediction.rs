//! What quantizing one tensor costs, predicted from one backward pass of each batch.
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
    now: Option<Quantizer>,
    refit: Option<Quantizer>,
    formats: Vec<(String, Quantizer)>,
    seen: Seen,
}

/// What is kept of the batches.
enum Seen {
    /// Of a parameter, which is the same in all: its values, and of each the sum of `g^2`.
    Parameter(Option<TensorData>, Vec<f64>),
    /// Of an activation, for `now`, `refit` and the formats: twice the loss, summed over images.
    Activation(Vec<f64>),
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
        let gradient: Vec<f32> = gradient.iter::<f32>().collect();
        let found = match &self.seen {
            Seen::Parameter(..) => Vec::new(),
            Seen::Activation(_) => self.costs(&tapped.tensor, |values, read| {
                of_activation(values, read, &gradient, images)
            }),
        };
        match &mut self.seen {
            Seen::Parameter(values, squares) => {
                values.get_or_insert_with(|| tapped.tensor.clone());
                squares.resize(gradient.len(), 0.0);
                for (sum, g) in squares.iter_mut().zip(gradient) {
                    *sum += f64::from(g).powi(2);
                }
            }
            Seen::Activation(sums) => {
                for (sum, more) in sums.iter_mut().zip(found) {
                    *sum += more;
                }
            }
        }
    }

    /// What each quantizer costs, of the tensor's values and what it makes of them.
    fn costs(&self, data: &TensorData, cost: impl Fn(&[f32], &[f32]) -> f64) -> Vec<f64> {
        let values: Vec<f32> = data.iter::<f32>().collect();
        let of = |read: &[f32]| cost(&values, read);
        match data.shape().len() {
            1 => self.costs_of_rank::<1>(data, of),
            2 => self.costs_of_rank::<2>(data, of),
            3 => self.costs_of_rank::<3>(data, of),
            4 => self.costs_of_rank::<4>(data, of),
            5 => self.costs_of_rank::<5>(data, of),
            _ => vec![0.0; 2 + self.formats.len()],
        }
    }

    fn costs_of_rank<const D: usize>(
        &self,
        data: &TensorData,
        cost: impl Fn(&[f32]) -> f64,
    ) -> Vec<f64> {
        let x = Tensor::<D>::from_data(data.clone(), &Device::flex());
        let of = |quantizer: &Quantizer| {
            let read = quantizer.operand(x.clone()).quantized().into_data();
            cost(&read.iter::<f32>().collect::<Vec<f32>>())
        };
        let each = self.quantizers();
        each.map(|quantizer| quantizer.map_or(0.0, of)).collect()
    }

    /// Twice the loss of each quantizer, summed over images.
    fn sums(&self) -> Vec<f64> {
        match &self.seen {
            Seen::Parameter(Some(data), squares) => {
                self.costs(data, |values, read| of_parameter(values, read, squares))
            }
            Seen::Parameter(None, _) => vec![0.0; 2 + self.formats.len()],
            Seen::Activation(sums) => sums.clone(),
        }
    }
}

/// `sum g^2 d^2` for the change `d` of each number of a parameter, with the sum of its `g^2`.
fn of_parameter(values: &[f32], read: &[f32], squares: &[f64]) -> f64 {
    let each = values.iter().zip(read).zip(squares);
    let each = each.map(|((&x, &q), g2)| (f64::from(q) - f64::from(x)).powi(2) * g2);
    each.filter(|cost| cost.is_finite()).sum()
}

/// The sum over the images of an activation of the mean of `sum g^2 d^2` and `(sum g d)^2`, since its
/// rounding errors go one way where small numbers become zero.
fn of_activation(values: &[f32], read: &[f32], gradient: &[f32], images: usize) -> f64 {
    let length = values.len() / images.max(1);
    let of_image = |image: usize| {
        let (mut squares, mut sum) = (0.0, 0.0);
        for i in image * length..(image + 1) * length {
            let change = (f64::from(read[i]) - f64::from(values[i])) * f64::from(gradient[i]);
            if change.is_finite() {
                squares += change * change;
                sum += change;
            }
        }
        0.5 * (squares + sum * sum)
    };
    (0..images).map(of_image).sum()
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
        .into_par_iter()
        .map(|tried| tried.finish(images.len() * set.answers()))
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
        let seen = match all.network.is_parameter(place) {
            true => Seen::Parameter(None, Vec::new()),
            false => Seen::Activation(vec![0.0; 2 + formats.len()]),
        };
        Some(Self {
            place: place.clone(),
            seen,
            // A function before the grid is no error.
            now: in_slot
                .filter(|q| !q.config.transforms())
                .map(|q| q.quantizer),
            refit,
            formats,
        })
    }

    fn finish(self, answers: usize) -> Prediction {
        let loss = |sum: &f64| 0.5 * sum / answers.max(1) as f64;
        let names = self.formats.iter().map(|(name, _)| name.clone());
        let sums = self.sums();
        Prediction {
            path: self.place.to_string(),
            now: self.now.as_ref().map(|_| loss(&sums[0])),
            refit: self.refit.as_ref().map(|_| loss(&sums[1])),
            formats: names.zip(sums[2..].iter().map(loss)).collect(),
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
pub(super) fn differentiable<M: Module>(model: &M) -> M {
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
    /// since a single number's sum is itself; of one image together, half of that and of (3 - 2)^2.
    #[test]
    fn curvature_by_hand() {
        let (values, read, gradient) = ([0.0, 2.0], [1.0, 0.0], [3.0, 1.0]);
        assert_eq!(of_parameter(&values, &read, &[9.0, 1.0]), 13.0);
        assert_eq!(of_activation(&values, &read, &gradient, 2), 13.0);
        assert_eq!(of_activation(&values, &read, &gradient, 1), 7.0);
        assert_eq!(of_parameter(&[0.0, 1.0], &[f32::NAN, 2.0], &[1.0; 2]), 1.0);
    }
}
