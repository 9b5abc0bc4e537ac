//! Gradient descent on normed log gradients.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

use crate::ops::power;

/// Gradient descent whose gradients are divided by a moving average of their size and bounded:
/// `v = beta v + (1 - beta) g^2`, `g' = tanh(g / sqrt(v / (1 - beta^i) + 1e-12))`,
/// `w = w - lr g'` in step `i`, counted from 1 (Jain et al., arXiv 1903.08066, appendix B.2).
///
/// A threshold's gradient depends on the scale of its tensor and on its width; so treated, one
/// learning rate serves all.
#[derive(Debug, Clone, Copy)]
pub struct NormedSgd {
    /// How much of the average is kept.
    pub beta: f32,
}

impl NormedSgd {
    /// The paper's `beta`.
    pub const BETA: f32 = 0.999;

    /// Keeps the square root away from zero.
    const EPSILON: f32 = 1e-12;
}

/// State of [`NormedSgd`].
#[derive(Debug, Clone)]
pub struct NormedSgdState<const D: usize> {
    /// Steps so far.
    pub time: usize,
    /// Moving average of the squared gradient.
    pub squares: Tensor<D>,
}

impl<const D: usize> RecordState for NormedSgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "time", self.time.into());
        out.push_tensor(prefix, "squares", self.squares.to_data());
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let time = src.take_scalar(prefix, "time")?.try_into().ok()?;
        let squares = src.take_tensor(prefix, "squares")?;
        let squares = Tensor::from_data(squares, device);
        Some(Self { time, squares })
    }
}

impl Optimizer for NormedSgd {
    type State<const D: usize> = NormedSgdState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let fresh = grad.clone().square().mul_scalar(1.0 - self.beta);
        let (time, squares) = match state {
            Some(state) => (state.time + 1, state.squares.mul_scalar(self.beta) + fresh),
            None => (1, fresh),
        };
        let unbiased = squares.clone().div_scalar(1.0 - power(self.beta, time));
        let normed = grad / unbiased.add_scalar(Self::EPSILON).sqrt();
        let tensor = tensor - normed.tanh().mul_scalar(lr);
        (tensor, Some(NormedSgdState { time, squares }))
    }

    fn to_device<const D: usize>(mut state: Self::State<D>, device: &Device) -> Self::State<D> {
        state.squares = state.squares.to_device(device);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_steps_by_hand() {
        let device = Device::flex();
        let tensor = |x: f32| Tensor::<1>::from_floats([x], &device);
        let value = |t: &Tensor<1>| t.clone().into_scalar::<f32>();
        let sgd = NormedSgd { beta: 0.5 };
        // v = 0.5 * 16 = 8, unbiased 16: g' = tanh(4 / 4).
        let (w, state) = sgd.step(0.1, tensor(2.0), tensor(4.0), None);
        assert!((value(&w) - (2.0 - 0.1 * 1f32.tanh())).abs() < 1e-6);
        // v = 0.5 * 8 + 0.5 * 1 = 4.5, unbiased 4.5 / 0.75 = 6: g' = tanh(-1 / sqrt(6)).
        let before = value(&w);
        let (w, _) = sgd.step(0.1, w, tensor(-1.0), state);
        let expected = before + 0.1 * (1.0 / 6f32.sqrt()).tanh();
        assert!((value(&w) - expected).abs() < 1e-6);
    }

    #[test]
    fn the_scale_of_the_gradient_does_not_matter() {
        let device = Device::flex();
        let run = |scale: f32| {
            let sgd = NormedSgd {
                beta: NormedSgd::BETA,
            };
            let (mut w, mut state) = (Tensor::<1>::zeros([1], &device), None);
            for i in 0..20 {
                let grad = Tensor::from_floats([scale * (i as f32 * 0.9).sin()], &device);
                (w, state) = sgd.step(0.1, w, grad, state);
            }
            w.into_scalar::<f32>()
        };
        assert!((run(1.0) - run(1000.0)).abs() < 1e-4);
    }
}
