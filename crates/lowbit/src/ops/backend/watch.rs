//! Handing a gradient to somebody else on its way back.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Tensor, TensorData};

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
    Tensor::from_dispatch(<Dispatch as WatchGradientOp>::watch_gradient(
        x.into_dispatch(),
        sink.clone(),
        mark,
    ))
}

/// The operator behind [`watch_gradient()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait WatchGradientOp: Backend {
    /// See [`watch_gradient()`].
    fn watch_gradient(x: FloatTensor<Self>, sink: GradientSink, mark: usize) -> FloatTensor<Self>;
}

impl WatchGradientOp for Flex {
    fn watch_gradient(x: FlexTensor, _sink: GradientSink, _mark: usize) -> FlexTensor {
        x
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl WatchGradientOp for burn::backend::Cube {
    fn watch_gradient(
        x: FloatTensor<Self>,
        _sink: GradientSink,
        _mark: usize,
    ) -> FloatTensor<Self> {
        x
    }
}

impl<B: Backend, C: CheckpointStrategy> WatchGradientOp for Autodiff<B, C> {
    fn watch_gradient(x: FloatTensor<Self>, sink: GradientSink, mark: usize) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match WatchBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((sink, mark), x),
            OpsKind::UnTracked(prep) => prep.finish(x),
        }
    }
}

#[derive(Debug)]
struct WatchBackward;

impl<B: Backend> Backward<B, 1> for WatchBackward {
    type State = (GradientSink, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (sink, mark) = ops.state;
        let data = burn::tensor::read_sync(B::float_into_data(grad.clone()));
        if let Ok(data) = data {
            sink.put(mark, data);
        }
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, grad);
        }
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
