//! Setting thresholds from what a network does on real data, one method a file, and measuring what
//! they do to it.

mod aciq;
mod divergence;
mod entropy;
mod kl_j;
mod maximum;
mod measure;
mod mse;
mod percentile;
mod range;
mod three_deviations;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

pub use aciq::{Distribution, aciq};
pub use entropy::entropy;
pub use kl_j::kl_j;
pub use maximum::maximum;
pub use measure::{Measured, measure};
pub use mse::mse;
pub use percentile::percentile;
pub use range::range;
pub use three_deviations::three_deviations;

use crate::Error;
use crate::quantizers::{
    Calibration, Histogram, ModulePath, Observation, Observations, Place, ThresholdInit,
    calibrated, learned_at, observe,
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
        ThresholdInit::MeanMax => values.mean_largest(),
        ThresholdInit::ThreeDeviations => three_deviations(values),
        ThresholdInit::Gauss | ThresholdInit::Laplace | ThresholdInit::Deviations { .. } => {
            let (low, high) = range(values, init, bits, signed);
            low.abs().max(high.abs())
        }
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
/// configuration names ([`ThresholdInit`]). Its integers are unsigned only where no value was
/// negative and none can become so: not a parameter's, which training may bring to either side of
/// zero, and not those of what layers made, unless it is a rectifier's or follows from a rectifier's
/// ([`Signs`](crate::quantizers::Signs)). Of what no layer made, such as the network's input, the
/// values alone tell.
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
        current: None,
        calibrated: Vec::new(),
        error: None,
    };
    let model = model.map(&mut mapper);
    match mapper.error {
        Some(error) => Err(error),
        None => Ok((model, mapper.calibrated)),
    }
}

/// The quantizer that the walk is in.
struct Current {
    place: Place,
    /// What it saw, and what calibration makes of that, if anything.
    found: Option<(Vec<Histogram>, Calibrated)>,
}

struct SetThresholds<F> {
    observations: Observations,
    select: F,
    path: ModulePath,
    current: Option<Current>,
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
        let learned = learned_at(&self.path);
        if learned.is_none_or(|learned| !learned.calibrated) {
            return param;
        }
        let current = self.current.take().filter(|known| known.place == place);
        let current = current.unwrap_or_else(|| Current {
            found: self.find(&place, param.id),
            place,
        });
        let Some((histograms, chosen)) = &self.current.insert(current).found else {
            return param;
        };
        let calibration = Calibration {
            bits: chosen.bits,
            init: chosen.init,
            histograms,
            signed: chosen.signed,
            log2_threshold: &chosen.log2_threshold,
            range,
        };
        let (module, field) = (self.path.holder_type(), self.path.field());
        match calibrated(module, field, &calibration) {
            Some(values) => {
                let count = values.len();
                replace(param, TensorData::new(values, [count]))
            }
            None => param,
        }
    }
}

impl<F> SetThresholds<F> {
    /// What calibration makes of what the quantizer at `place` saw; nothing, but an error, where
    /// it makes nothing of it. The quantizer is known by the first of its parameters.
    fn find(&mut self, place: &Place, first: ParamId) -> Option<(Vec<Histogram>, Calibrated)> {
        let found = match self.observations.remove(&first) {
            Some(seen) => choose(place, &seen).map(|chosen| (seen.histograms, chosen)),
            None => Err(refused(
                place,
                "saw no value; is the calibration set empty, or the layer unused?",
            )),
        };
        match found {
            Ok(found) => {
                self.calibrated.push(found.1.clone());
                Some(found)
            }
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        }
    }
}

fn refused(place: &Place, message: &str) -> Error {
    Error::Calibration {
        path: place.to_string(),
        message: message.into(),
    }
}

fn choose(place: &Place, seen: &Observation) -> Result<Calibrated, Error> {
    if seen.histograms.iter().any(Histogram::saw_not_finite) {
        return Err(refused(place, "saw a NaN or an infinity"));
    }
    if seen.histograms.iter().all(|values| values.count() == 0) {
        return Err(refused(
            place,
            "saw no value; is the calibration set empty?",
        ));
    }
    let signed = seen.may_be_negative || seen.histograms.iter().any(|values| values.min() < 0.0);
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
