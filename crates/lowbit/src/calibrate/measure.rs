//! How well each quantizer does: clipped fraction, signal to noise, direction.

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use serde::Serialize;

use crate::quantizers::{ModulePath, Qualities, measuring};

/// What one quantizer, or a layer's accumulator, does to the tensors that reach it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The tensor's path, such as `conv1.weight`.
    pub path: String,
    /// Bits of the integers, sign included.
    pub bits: u32,
    /// Whether the integers are signed.
    pub signed: bool,
    /// Where the grid ends, a power of two, one per channel where the quantizer has several:
    /// `2^ceil(log2_threshold)`, of a bias more where the sum it is added to has a coarser step.
    pub threshold: Vec<f64>,
    /// Base-2 logarithm of each trained threshold; empty for a sum, which has none.
    pub log2_threshold: Vec<f32>,
    /// Fraction of the values beyond the grid's ends by more than half a step; of sums, the share
    /// that saturated.
    pub clipped: f64,
    /// Signal to quantization noise ratio in decibels, `10 log10(sum x^2 / sum (x - q)^2)`; none
    /// where there is no noise, or no signal.
    pub sqnr: Option<f64>,
    /// Cosine of the angle between values and quantized values; none where either is zero.
    pub cosine: Option<f64>,
}

/// Runs `forward` on the validation form of `model`, quantized as it is, and measures every
/// quantizer with a trained threshold and every accumulator that is on, in the order of the module
/// tree.
pub fn measure<M: Module>(model: &M, forward: impl FnOnce(&M)) -> Vec<Measured> {
    let model = model.valid();
    let qualities = measuring(|| forward(&model));
    let mut collect = Collect {
        qualities,
        path: ModulePath::default(),
        measured: Vec::new(),
    };
    model.visit(&mut collect);
    collect.measured
}

struct Collect {
    qualities: Qualities,
    path: ModulePath,
    measured: Vec<Measured>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let trained = || param.val().into_data().iter::<f32>().collect();
        self.collect(param.id, trained);
    }

    fn visit_flag(&mut self, param: &Param<Flag>) {
        self.collect(param.id, Vec::new);
    }
}

impl Collect {
    fn collect(&mut self, id: ParamId, log2_threshold: impl FnOnce() -> Vec<f32>) {
        let Some((place, quality)) = self.path.place().zip(self.qualities.remove(&id)) else {
            return;
        };
        let magnitude_bits = (quality.bits - u32::from(quality.signed)) as i32;
        let end = |&log2_step: &i32| f64::from(log2_step + magnitude_bits).exp2();
        self.measured.push(Measured {
            path: place.to_string(),
            bits: quality.bits,
            signed: quality.signed,
            threshold: quality.log2_steps.iter().map(end).collect(),
            log2_threshold: log2_threshold(),
            clipped: quality.clipped as f64 / quality.count.max(1) as f64,
            sqnr: quality.sqnr(),
            cosine: quality.cosine(),
        });
    }
}
