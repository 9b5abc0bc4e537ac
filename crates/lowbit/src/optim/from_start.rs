//! Weights that are rounded before the first step.

use burn::module::{Module, ModuleMapper, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;

use super::OptimizerNumbers;
use super::low_precision::rounded;
use super::optimizer::{thresholds, undecayed};
use crate::quantizers::{Draws, ModulePath};

/// A network as its first forward pass shall see it: with rounded weights, where `numbers` say so
/// ([`OptimizerNumbers::from_start`]). What quantizers learn stays as it is.
pub fn rounded_from_start<M: Module>(model: M, numbers: &OptimizerNumbers) -> M {
    let groups: Vec<ParamGroup> = [Some(thresholds()), undecayed()]
        .into_iter()
        .flatten()
        .collect();
    let learned =
        |id: ParamId, path: &str| groups.iter().any(|group| group.matches(&id, Some(path)));
    model.map(&mut FromStart::new(numbers, learned))
}

/// A network whose weights are in the format that an optimizer of these numbers keeps them in, but
/// for those that `left_out` names by path, where that is asked for from the start.
struct FromStart<'a, F> {
    numbers: &'a OptimizerNumbers,
    draws: Draws,
    path: ModulePath,
    left_out: F,
}

impl<'a, F: Fn(ParamId, &str) -> bool> FromStart<'a, F> {
    fn new(numbers: &'a OptimizerNumbers, left_out: F) -> Self {
        Self {
            numbers,
            draws: Draws::new(),
            path: ModulePath::default(),
            left_out,
        }
    }
}

impl<F: Fn(ParamId, &str) -> bool> ModuleMapper for FromStart<'_, F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let numbers = self.numbers;
        let stays = !numbers.from_start
            || D == 1 && !numbers.vectors
            || (self.left_out)(param.id, &self.path.key());
        if stays {
            return param;
        }
        param.map(|weight| {
            // Parameters stay leaves of the gradient's graph.
            let is_learned = weight.is_require_grad();
            let weight = rounded(
                weight.set_require_grad(false),
                &numbers.accumulator,
                &self.draws,
            );
            rounded(weight, &numbers.weight, &self.draws).set_require_grad(is_learned)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    use crate::nn::{Linear, LinearConfig};

    fn read<const D: usize>(t: &Tensor<D>) -> Vec<f32> {
        t.to_data().iter::<f32>().collect()
    }

    #[test]
    fn the_first_pass_sees_rounded_weights_where_that_is_asked_for() {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(3, 2).with_bias(true).init(&device);
        let numbers = |from_start| OptimizerNumbers {
            weight: "fixed(8,2)".parse().ok(),
            vectors: false,
            from_start,
            ..OptimizerNumbers::default()
        };
        let rounded = rounded_from_start(linear.clone(), &numbers(true));
        let quarters = |x: f32| (x * 4.0).round_ties_even() / 4.0;
        let expected: Vec<f32> = read(&linear.weight.val())
            .into_iter()
            .map(quarters)
            .collect();
        assert_eq!(read(&rounded.weight.val()), expected);
        assert!(rounded.weight.val().is_require_grad());
        assert_eq!(rounded.weight.id, linear.weight.id);
        let bias = |linear: &Linear| read(&linear.bias.as_ref().unwrap().val());
        assert_eq!(bias(&rounded), bias(&linear));
        let same = rounded_from_start(linear.clone(), &numbers(false));
        assert_eq!(read(&same.weight.val()), read(&linear.weight.val()));
    }
}
