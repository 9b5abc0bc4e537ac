//! What normalizations have in common.

use burn::tensor::{DType, FloatDType, Tensor};

use crate::Error;
use crate::config::Description;
use crate::quantizers::{Quantizers, Slot};

/// Tensors between a normalization's input and its factors.
pub(super) const INSIDE: [&str; 3] = [Slot::MEAN, Slot::DEVIATION, Slot::NORMALIZED];

/// A normalization of that name with the slots `input`, these of its own, in order, `output` and
/// `error`, and `gradient` where it has parameters.
pub(super) fn description(name: &'static str, own: &[&'static str]) -> Description {
    let learns = own.contains(&Slot::GAMMA);
    let gradient = learns.then_some(Slot::GRADIENT);
    let slots = [Slot::INPUT].iter().chain(own);
    let slots = slots.chain(&[Slot::OUTPUT, Slot::ERROR]).chain(&gradient);
    Description {
        slots: slots.copied().collect(),
        ..Description::new(name)
    }
}

/// Whether a denominator stays away from zero.
pub(super) fn check_epsilon(epsilon: f64) -> Result<(), Error> {
    if epsilon > 0.0 && epsilon.is_finite() {
        return Ok(());
    }
    let message = format!("is {epsilon}, expected finite and positive");
    Err(Error::config("epsilon", message))
}

/// `(x - mean) / sqrt(variance + epsilon)` over dimension `dim`, with the biased variance around the
/// mean that is subtracted; mean, deviation and result through their slots. Composed of tensor
/// operations: those, in that order, of Burn's group normalization, whose bits it has where nothing
/// is quantized. f16 is widened as there, since its squares overflow.
pub(super) fn normalized<const D: usize>(
    quantizers: &Quantizers,
    x: Tensor<D>,
    dim: usize,
    epsilon: f64,
) -> Tensor<D> {
    let narrow = x.dtype() == DType::F16;
    let x = match narrow {
        true => x.cast(FloatDType::F32),
        false => x,
    };
    let mean = x.clone().mean_dim(dim);
    let x = x.sub(quantizers.activation(Slot::MEAN, mean).quantized());
    let variance = x.clone().square().mean_dim(dim);
    let deviation = variance.add_scalar(epsilon).sqrt();
    let normalized = x.div(divisor(quantizers, deviation));
    let normalized = match narrow {
        true => normalized.cast(FloatDType::F16),
        false => normalized,
    };
    quantizers
        .activation(Slot::NORMALIZED, normalized)
        .quantized()
}

/// Deviations as a normalization divides by them, through their slot. One that is rounded to zero is
/// infinite: where nothing deviates by half a step, the normalized numbers are zeros, not `0 / 0`.
pub(super) fn divisor<const D: usize>(quantizers: &Quantizers, deviation: Tensor<D>) -> Tensor<D> {
    let quantized = quantizers
        .activation(Slot::DEVIATION, deviation)
        .quantized();
    match quantizers.get(Slot::DEVIATION) {
        Some(_) => {
            let none = quantized.clone().equal_scalar(0.0);
            quantized.mask_fill(none, f32::INFINITY)
        }
        None => quantized,
    }
}

/// `x gamma + beta`, both through their slots, for each channel of dimension `axis`.
pub(super) fn scaled_and_shifted<const D: usize>(
    quantizers: &Quantizers,
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    axis: usize,
) -> Tensor<D> {
    let along = |parameter: Tensor<1>| {
        let mut shape = [1; D];
        shape[axis] = parameter.dims()[0];
        parameter.reshape(shape)
    };
    let gamma = quantizers.parameter(Slot::GAMMA, gamma).quantized();
    let y = x.mul(along(gamma));
    match beta {
        Some(beta) => y.add(along(quantizers.parameter(Slot::BETA, beta).quantized())),
        None => y,
    }
}
