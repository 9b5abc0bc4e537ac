//! Adam, and Adam with decoupled weight decay.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

use crate::ops::{self, AdamStep};

/// Adam (Kingma, Ba, arXiv 1412.6980) with its usual constants 0.9, 0.999 and 1e-8; see
/// [`ops::adam`].
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f32,
    /// Factor of the parameter, times the learning rate, that each step takes away (AdamW:
    /// Loshchilov, Hutter, arXiv 1711.05101).
    pub decoupled_decay: f32,
}

/// State of [`Adam`].
#[derive(Debug, Clone)]
pub struct AdamState<const D: usize> {
    /// Steps so far.
    pub time: usize,
    /// Moving average of the gradient.
    pub mean: Tensor<D>,
    /// Moving average of its square.
    pub square: Tensor<D>,
}

impl<const D: usize> RecordState for AdamState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "time", self.time.into());
        out.push_tensor(prefix, "mean", self.mean.to_data());
        out.push_tensor(prefix, "square", self.square.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        Some(Self {
            time: src.take_scalar(prefix, "time")?.try_into().ok()?,
            mean: Tensor::from_data(src.take_tensor(prefix, "mean")?, device),
            square: Tensor::from_data(src.take_tensor(prefix, "square")?, device),
        })
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let (time, moments) = match state {
            Some(state) => (state.time + 1, Some([state.mean, state.square])),
            None => (1, None),
        };
        let step = AdamStep {
            learning_rate: lr as f32,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: self.weight_decay,
            decoupled_decay: self.decoupled_decay,
            time,
        };
        let (tensor, [mean, square]) = ops::adam(tensor, grad, moments, step);
        (tensor, Some(AdamState { time, mean, square }))
    }

    fn to_device<const D: usize>(mut state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.mean = state.mean.to_device(device);
        state.square = state.square.to_device(device);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::decay::WeightDecayConfig;
    use burn::optim::{AdamConfig, AdamWConfig};

    /// Five steps of an optimizer.
    fn trained(optimizer: impl Optimizer) -> Vec<f32> {
        let device = Device::flex();
        let mut tensor = Tensor::<1>::from_floats([0.3, -1.2, 5.0], &device);
        let mut state = None;
        for i in 0..5 {
            let grad = Tensor::<1>::from_floats([0.1, 0.7, -0.2], &device) * (i as f32 - 1.5);
            (tensor, state) = optimizer.step(0.05, tensor, grad, state);
        }
        tensor.into_data().iter::<f32>().collect()
    }

    fn assert_close(a: Vec<f32>, b: Vec<f32>) {
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{a} {b}");
        }
    }

    #[test]
    fn steps_are_burns() {
        let ours = Adam {
            weight_decay: 0.01,
            decoupled_decay: 0.0,
        };
        let burns = AdamConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(Some(WeightDecayConfig::new(0.01)))
            .build();
        assert_close(trained(ours), trained(burns));
        let ours = Adam {
            weight_decay: 0.0,
            decoupled_decay: 0.02,
        };
        let burns = AdamWConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(0.02)
            .build();
        assert_close(trained(ours), trained(burns));
    }
}
