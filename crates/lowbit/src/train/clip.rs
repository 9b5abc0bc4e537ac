//! Gradient clipping.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// What is added to the norm, as in PyTorch's `clip_grad_norm_`.
const EPSILON: f64 = 1e-6;

/// Brings the gradients of a step to a norm of at most `largest` (Pascanu, Mikolov, Bengio, arXiv
/// 1211.5063, algorithm 1): where `n`, the root of the sum of the squares of all of them, is larger,
/// each is multiplied by `largest / (n + 1e-6)`, the factor of PyTorch's `clip_grad_norm_`.
///
/// The squares are summed in double precision, parameter by parameter in the network's order, so
/// that the norm depends neither on threads nor on the instruction set. A norm that is no number
/// clips nothing.
pub(super) fn clipped<M: Module>(
    model: &M,
    grads: GradientsParams,
    largest: f64,
) -> GradientsParams {
    let mut squares = Squares {
        grads: &grads,
        sum: 0.0,
    };
    model.visit(&mut squares);
    let factor = largest / (squares.sum.sqrt() + EPSILON);
    if factor.is_nan() || factor >= 1.0 {
        return grads;
    }
    let factor = factor as f32;
    let mut scale = Scale { grads, factor };
    model.visit(&mut scale);
    scale.grads
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let data = grad.into_data().convert::<f32>();
            let values = data.as_slice::<f32>().expect("it was converted");
            self.sum += sum_of_squares(values);
        }
    }
}

/// The sum of the squares: eight sums, each of every eighth number, for the CPU to make at a time.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    let mut add = |values: &[f32]| {
        for (sum, &value) in sums.iter_mut().zip(values) {
            let value = f64::from(value);
            *sum += value * value;
        }
    };
    chunks.iter().for_each(|chunk| add(chunk));
    add(rest);
    sums.iter().sum()
}

struct Scale {
    grads: GradientsParams,
    factor: f32,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    /// Weight and bias with gradients (3, 4) and (12): their norm is 13.
    fn layer() -> (Linear, GradientsParams) {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(2, 1).init(&device);
        let plain = Device::flex();
        let mut grads = GradientsParams::new();
        let weight = Tensor::<2>::from_floats([[3.0f32], [4.0]], &plain);
        grads.register(layer.weight.id, weight);
        let bias = Tensor::<1>::from_floats([12.0f32], &plain);
        grads.register(layer.bias.as_ref().unwrap().id, bias);
        (layer, grads)
    }

    fn after(largest: f64) -> Vec<f32> {
        let (layer, grads) = layer();
        let grads = clipped(&layer, grads, largest);
        let weight = grads.get::<2>(layer.weight.id).unwrap().into_data();
        let bias = layer.bias.as_ref().unwrap().id;
        let bias = grads.get::<1>(bias).unwrap().into_data();
        weight.iter::<f32>().chain(bias.iter::<f32>()).collect()
    }

    #[test]
    fn gradients_over_the_norm_are_brought_to_it() {
        assert_eq!(after(13.5), [3.0, 4.0, 12.0]);
        // By PyTorch's factor 6.5 / 13.000001.
        let factor = (6.5f64 / 13.000001) as f32;
        assert_eq!(after(6.5), [3.0 * factor, 4.0 * factor, 12.0 * factor]);
    }

    #[test]
    fn every_number_counts_once() {
        let values: Vec<f32> = (1..=27).map(|i| i as f32).collect();
        // n (n + 1) (2 n + 1) / 6.
        assert_eq!(sum_of_squares(&values), 27.0 * 28.0 * 55.0 / 6.0);
    }
}
