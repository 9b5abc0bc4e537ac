//! Setting thresholds from what a network does on real data.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use crate::Error;
use crate::quantizers::{Observation, Observations, observe};

/// A threshold as calibration found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// The quantizer's path, such as `conv1.quantizers.weight.TrainedThreshold`.
    pub path: String,
    /// The extremes of the values it saw, one per threshold.
    pub observed: Vec<Observation>,
    /// Base-2 logarithm of each threshold.
    pub log2_threshold: Vec<f32>,
    /// Whether the integers are signed.
    pub signed: bool,
}

/// Sets each trained threshold to the largest magnitude that reaches it ("max" initialization,
/// arXiv 1903.08066, table 2), and its signedness to whether a negative value did.
///
/// `forward` runs the network on calibration data. Meanwhile nothing is quantized, so that every
/// threshold sees the float network. A tensor that is zero everywhere keeps the threshold 1.
///
/// # Errors
/// If a quantizer saw a NaN or an infinity.
pub fn calibrate<M: Module>(
    model: M,
    forward: impl FnOnce(&M),
) -> Result<(M, Vec<Calibrated>), Error> {
    let observations = observe(|| forward(&model.valid()));
    let mut mapper = SetThresholds {
        observations,
        path: Vec::new(),
        signed: BTreeMap::new(),
        calibrated: Vec::new(),
    };
    let model = model.map(&mut mapper);
    for threshold in &mapper.calibrated {
        if threshold
            .observed
            .iter()
            .any(|seen| !seen.min.is_finite() || !seen.max.is_finite())
        {
            return Err(Error::Calibration {
                path: threshold.path.clone(),
                message: "saw a NaN or an infinity".into(),
            });
        }
    }
    Ok((model, mapper.calibrated))
}

struct SetThresholds {
    observations: Observations,
    path: Vec<String>,
    /// By quantizer path: what to write into its `signed` parameter.
    signed: BTreeMap<String, bool>,
    calibrated: Vec<Calibrated>,
}

impl ModuleMapper for SetThresholds {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((field, quantizer)) = self.path.split_last() else {
            return param;
        };
        let path = quantizer.join(".");
        if let Some(observed) = self.observations.remove(&param.id) {
            let signed = observed.iter().any(|seen| seen.min < 0.0);
            let log2_threshold: Vec<f32> = observed.iter().map(log2_of_largest).collect();
            let data = TensorData::new(log2_threshold.clone(), [log2_threshold.len()]);
            self.signed.insert(path.clone(), signed);
            self.calibrated.push(Calibrated {
                path,
                observed,
                log2_threshold,
                signed,
            });
            return replace(param, data);
        }
        match self.signed.get(&path) {
            Some(&signed) if field == "signed" => {
                let value = if signed { 1.0f32 } else { 0.0 };
                replace(param, TensorData::new(vec![value], [1]))
            }
            _ => param,
        }
    }
}

fn replace<const D: usize>(param: Param<Tensor<D>>, data: TensorData) -> Param<Tensor<D>> {
    param.map(|old| {
        let device = old.device();
        Tensor::from_data(data, &device).set_require_grad(old.is_require_grad())
    })
}

fn log2_of_largest(seen: &Observation) -> f32 {
    let largest = seen.max.abs().max(seen.min.abs());
    if largest == 0.0 { 0.0 } else { largest.log2() }
}
