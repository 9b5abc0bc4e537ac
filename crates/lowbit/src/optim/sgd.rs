//! Stochastic gradient descent with momentum.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

use crate::ops::{self, SgdStep};

/// Gradient descent with momentum and weight decay; see [`ops::sgd`].
#[derive(Debug, Clone, Copy)]
pub struct Sgd {
    /// How much of the last step is kept.
    pub momentum: f32,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f32,
}

/// State of [`Sgd`].
#[derive(Debug, Clone)]
pub struct SgdState<const D: usize> {
    /// What the last step took away, over its learning rate.
    pub velocity: Tensor<D>,
}

impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_tensor(prefix, "velocity", self.velocity.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let velocity = Tensor::from_data(src.take_tensor(prefix, "velocity")?, device);
        Some(Self { velocity })
    }
}

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let step = SgdStep {
            learning_rate: lr as f32,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
        };
        let velocity = state.map(|state| state.velocity);
        let (tensor, velocity) = ops::sgd(tensor, grad, velocity, step);
        (tensor, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(mut state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.velocity = state.velocity.to_device(device);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::SgdConfig;
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::momentum::MomentumConfig;

    #[test]
    fn steps_are_burns() {
        let device = Device::flex();
        let burns = SgdConfig::new()
            .with_momentum(Some(MomentumConfig {
                momentum: 0.9,
                dampening: 0.0,
                nesterov: false,
            }))
            .with_weight_decay(Some(WeightDecayConfig::new(0.01)))
            .build();
        let ours = Sgd {
            momentum: 0.9,
            weight_decay: 0.01,
        };
        let start = Tensor::<1>::from_floats([0.3, -1.2, 5.0], &device);
        let (mut a, mut b) = (start.clone(), start);
        let (mut a_state, mut b_state) = (None, None);
        for i in 0..5 {
            let grad = Tensor::<1>::from_floats([0.1, 0.7, -0.2], &device) * (i as f32 + 0.5);
            (a, a_state) = burns.step(0.05, a, grad.clone(), a_state);
            (b, b_state) = ours.step(0.05, b, grad, b_state);
        }
        let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(read(a), read(b));
    }
}
