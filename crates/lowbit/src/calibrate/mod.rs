//! Setting thresholds from what a network does on real data, one method a file, and measuring what
//! they do to it.

mod divergence;
mod entropy;
mod kl_j;
mod maximum;
mod measure;
mod mse;
mod percentile;
mod three_deviations;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

pub use entropy::entropy;
pub use kl_j::kl_j;
pub use maximum::maximum;
pub use measure::{Measured, measure};
pub use mse::mse;
pub use percentile::percentile;
pub use three_deviations::three_deviations;

use crate::Error;
use crate::quantizers::{
    Histogram, ModulePath, Observation, Observations, Place, ThresholdInit, observe,
};

/// A quantizer's thresholds as calibration found them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibrated {
    /// The tensor's path, such as `conv1.weight`.
    pub path: String,
    /// Bits of the integers, sign included.
    pub bits: u32,
    /// How the thresholds were chosen, in its text form.
    pub init: ThresholdInit,
    /// The smallest and the largest value of each threshold.
    pub observed: Vec<(f32, f32)>,
    /// Base-2 logarithm of each threshold.
    pub log2_threshold: Vec<f32>,
    /// Whether the integers are signed.
    pub signed: bool,
    /// The thresholds that saw nothing but zeros: dead channels, or the tensor.
    pub zero: Vec<usize>,
}

/// The threshold that `init` chooses for values seen, on a grid of `bits`.
///
/// Returns nothing where all values are zero.
pub fn threshold(values: &Histogram, init: ThresholdInit, bits: u32, signed: bool) -> Option<f32> {
    let levels = f64::from(bits - u32::from(signed)).exp2();
    let threshold = match init {
        ThresholdInit::Max => maximum(values),
        ThresholdInit::ThreeDeviations => three_deviations(values),
        ThresholdInit::KlJ { bins } => kl_j(values, levels, bins),
        ThresholdInit::Percentile { millionths } => percentile(values, f64::from(millionths) / 1e6),
        ThresholdInit::Mse => mse(values, levels),
        ThresholdInit::Entropy { bins } => entropy(values, levels, bins),
    };
    // A percentile of mostly zeros can be zero; the largest magnitude is then as good as any.
    match threshold {
        t if t > 0.0 => Some(t),
        _ => Some(values.largest()).filter(|&t| t > 0.0),
    }
}

/// Sets each trained threshold from the values that reach it, by the method that its
/// configuration names ([`ThresholdInit`]), and its signedness to whether a negative value did.
///
/// `forward` runs the network on calibration data, in any number of batches. Meanwhile nothing is
/// quantized, so that every threshold sees the float network. Thresholds of quantizers that
/// `select` does not accept stay as they are. A tensor that is zero everywhere gets the threshold
/// 1; a dead channel gets the largest threshold of the tensor's other channels.
///
/// # Errors
/// If a quantizer saw a NaN or an infinity, or nothing at all.
pub fn calibrate<M: Module>(
    model: M,
    select: impl Fn(&Place) -> bool,
    forward: impl FnOnce(&M),
) -> Result<(M, Vec<Calibrated>), Error> {
    let observations = observe(|| forward(&model.valid()));
    let mut mapper = SetThresholds {
        observations,
        select,
        path: ModulePath::default(),
        signed: BTreeMap::new(),
        calibrated: Vec::new(),
        error: None,
    };
    let model = model.map(&mut mapper);
    match mapper.error {
        Some(error) => Err(error),
        None => Ok((model, mapper.calibrated)),
    }
}

struct SetThresholds<F> {
    observations: Observations,
    select: F,
    path: ModulePath,
    /// By tensor: what to write into the quantizer's `signed` parameter.
    signed: BTreeMap<Place, bool>,
    calibrated: Vec<Calibrated>,
    error: Option<Error>,
}

impl<F: Fn(&Place) -> bool> ModuleMapper for SetThresholds<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(place) = self.path.place().filter(|place| (self.select)(place)) else {
            return param;
        };
        match self.path.field() {
            "log2_threshold" => {
                let found = match self.observations.remove(&param.id) {
                    Some(observation) => calibrated(&place, observation),
                    None => Err(refused(
                        &place,
                        "saw no value; is the calibration set empty, or the layer unused?",
                    )),
                };
                match found {
                    Ok(found) => {
                        let logs = found.log2_threshold.clone();
                        let count = logs.len();
                        self.signed.insert(place, found.signed);
                        self.calibrated.push(found);
                        replace(param, TensorData::new(logs, [count]))
                    }
                    Err(error) => {
                        self.error.get_or_insert(error);
                        param
                    }
                }
            }
            "signed" => match self.signed.get(&place) {
                Some(&signed) => {
                    let value = if signed { 1.0f32 } else { 0.0 };
                    replace(param, TensorData::new(vec![value], [1]))
                }
                None => param,
            },
            _ => param,
        }
    }
}

fn refused(place: &Place, message: &str) -> Error {
    Error::Calibration {
        path: place.to_string(),
        message: message.into(),
    }
}

fn calibrated(place: &Place, seen: Observation) -> Result<Calibrated, Error> {
    if seen.histograms.iter().any(Histogram::saw_not_finite) {
        return Err(refused(place, "saw a NaN or an infinity"));
    }
    if seen.histograms.iter().all(|values| values.count() == 0) {
        return Err(refused(
            place,
            "saw no value; is the calibration set empty?",
        ));
    }
    let signed = seen.histograms.iter().any(|values| values.min() < 0.0);
    let found: Vec<Option<f32>> = seen
        .histograms
        .iter()
        .map(|values| threshold(values, seen.init, seen.bits, signed))
        .collect();
    let largest = found.iter().flatten().copied().fold(0.0, f32::max);
    let of_zeros = if largest > 0.0 { largest } else { 1.0 };
    let zero = (0..found.len()).filter(|&i| found[i].is_none()).collect();
    Ok(Calibrated {
        path: place.to_string(),
        bits: seen.bits,
        init: seen.init,
        observed: seen.histograms.iter().map(|h| (h.min(), h.max())).collect(),
        log2_threshold: found.iter().map(|t| t.unwrap_or(of_zeros).log2()).collect(),
        signed,
        zero,
    })
}

fn replace<const D: usize>(param: Param<Tensor<D>>, data: TensorData) -> Param<Tensor<D>> {
    param.map(|old| {
        let device = old.device();
        Tensor::from_data(data, &device).set_require_grad(old.is_require_grad())
    })
}
