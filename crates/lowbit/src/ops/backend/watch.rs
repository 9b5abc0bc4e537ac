//! Handing a gradient to somebody else on its way back.

use std::sync::{Arc, Mutex};

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Tensor, TensorData};

use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator};

/// Where gradients are put that pass by.
#[derive(Debug, Clone, Default)]
pub struct GradientSink {
    seen: Arc<Mutex<Vec<(usize, TensorData)>>>,
}

impl GradientSink {
    /// Takes out what has passed by: the mark it was watched under, and the gradient.
    pub fn take(&self) -> Vec<(usize, TensorData)> {
        std::mem::take(&mut self.lock())
    }

    fn put(&self, mark: usize, gradient: TensorData) {
        self.lock().push((mark, gradient));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, TensorData)>> {
        // A panic elsewhere leaves a list that is whole.
        self.seen
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// `x` itself; when the gradient of the result is known, a copy of it goes into `sink` under
/// `mark`, and it goes on to `x` unchanged. Any shape. Off an autodiff device, nothing is watched.
pub fn watch_gradient<const D: usize>(x: Tensor<D>, sink: &GradientSink, mark: usize) -> Tensor<D> {
    let watch = WatchGradient {
        sink: sink.clone(),
        mark,
    };
    operator::run(watch, vec![x.into_dispatch()])
}

/// The operator behind [`watch_gradient()`].
#[derive(Debug, Clone)]
struct WatchGradient {
    sink: GradientSink,
    mark: usize,
}

impl Operator<1> for WatchGradient {
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        inputs.tensors
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let grad = incoming.grad;
        let data = burn::tensor::read_sync(B::float_into_data(grad.clone()));
        if let Ok(data) = data {
            self.sink.put(self.mark, data);
        }
        [Some(grad)]
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_gradient_is_seen_and_goes_on() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats([1.0, -2.0], &device).require_grad();
        let sink = GradientSink::default();
        // d/dx of (3 x)^2 = 18 x; the watched tensor is 3 x, whose gradient is 6 x.
        let y = watch_gradient(x.clone() * 3.0, &sink, 7);
        let grads = (y.clone() * y).sum().backward();
        let (mark, seen) = sink.take().remove(0);
        assert_eq!(mark, 7);
        assert_eq!(seen.iter::<f32>().collect::<Vec<_>>(), [6.0, -12.0]);
        let passed: Vec<f32> = x.grad(&grads).unwrap().into_data().iter::<f32>().collect();
        assert_eq!(passed, [18.0, -36.0]);
        assert!(sink.take().is_empty());
    }
}
