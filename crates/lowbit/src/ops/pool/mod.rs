//! Pooling.

mod pool1d;
mod pool3d;

pub use pool1d::{adaptive_avg_pool1d, avg_pool1d, max_pool1d};
pub use pool3d::adaptive_avg_pool3d;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Backend, Dispatch, TensorMetadata, backend_extension, get_or_init_device_settings,
};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::kernel::pool::{self as kernel, Windows};

/// The largest value under each window. `[batch, channels, height, width]` in and out.
pub fn max_pool2d(x: Tensor<4>, options: MaxPoolOptions<2>) -> Tensor<4> {
    if options.ceil_mode || options.is_asymmetric() {
        return burn::tensor::module::max_pool2d(x, options);
    }
    let pooling = Pooling::Max(Sliding {
        size: options.kernel_size,
        stride: options.stride,
        padding: options.padding.map(|(before, _)| before),
        dilation: options.dilation,
    });
    pool(x, pooling)
}

/// The mean under each window. `[batch, channels, height, width]` in and out.
pub fn avg_pool2d(x: Tensor<4>, options: AvgPoolOptions<2>) -> Tensor<4> {
    if options.ceil_mode || options.is_asymmetric() {
        return burn::tensor::module::avg_pool2d(x, options);
    }
    let sliding = Sliding {
        size: options.kernel_size,
        stride: options.stride,
        padding: options.padding.map(|(before, _)| before),
        dilation: [1, 1],
    };
    pool(x, Pooling::Average(sliding, options.count_include_pad))
}

/// The mean over windows chosen so that the result is `[batch, channels, height, width]` with the
/// given height and width.
pub fn adaptive_avg_pool2d(x: Tensor<4>, output_size: [usize; 2]) -> Tensor<4> {
    pool(x, Pooling::AdaptiveAverage(output_size))
}

fn pool(x: Tensor<4>, pooling: Pooling) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as PoolOp>::pool(x.into_dispatch(), pooling))
}

/// Windows of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sliding {
    size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
}

/// What is made of the numbers under each window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pooling {
    /// The greatest.
    Max(Sliding),
    /// The mean, and whether zeros around the image count.
    Average(Sliding, bool),
    /// The mean of windows that make an output of this size.
    AdaptiveAverage([usize; 2]),
}

/// The operator behind the functions of this file, routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait PoolOp: Backend {
    /// Pools `[batch, channels, height, width]`.
    fn pool(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self>;
}

impl PoolOp for Flex {
    fn pool(x: FlexTensor, pooling: Pooling) -> FlexTensor {
        <Self as PoolKernel>::forward(x, pooling)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl PoolOp for burn::backend::Cube {
    fn pool(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        <Self as PoolKernel>::forward(x, pooling)
    }
}

impl<B: PoolKernel, C: CheckpointStrategy> PoolOp for Autodiff<B, C> {
    fn pool(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let output = <B as PoolKernel>::forward(x.clone(), pooling);
        match PoolBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, pooling), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

#[derive(Debug)]
struct PoolBackward;

impl<B: PoolKernel> Backward<B, 1> for PoolBackward {
    type State = (FloatTensor<B>, Pooling);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, pooling) = ops.state.clone();
        let grad = <B as PoolKernel>::backward(x, grad, pooling);
        B::add(grads, &ops, 0, grad);
    }
}

/// The passes of pooling on one backend. The bodies given here call the backend's own pooling and
/// serve every backend; Flex has kernels.
pub(crate) trait PoolKernel: Accumulate {
    /// The pooled `x`.
    fn forward(x: FloatTensor<Self>, pooling: Pooling) -> FloatTensor<Self> {
        match pooling {
            Pooling::Max(s) => <Self as ModuleOps<Self>>::max_pool2d(
                x, s.size, s.stride, s.padding, s.dilation, false,
            ),
            Pooling::Average(s, padding_counts) => <Self as ModuleOps<Self>>::avg_pool2d(
                x,
                s.size,
                s.stride,
                s.padding,
                padding_counts,
                false,
            ),
            Pooling::AdaptiveAverage(size) => {
                <Self as ModuleOps<Self>>::adaptive_avg_pool2d(x, size)
            }
        }
    }

    /// The gradient of `x`.
    fn backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        pooling: Pooling,
    ) -> FloatTensor<Self> {
        match pooling {
            Pooling::Max(s) => {
                let ints = get_or_init_device_settings::<Self>(&x.device()).int_dtype;
                let indices = Self::max_pool2d_with_indices(
                    x.clone(),
                    s.size,
                    s.stride,
                    s.padding,
                    s.dilation,
                    false,
                    ints,
                )
                .indices;
                Self::max_pool2d_with_indices_backward(
                    x, s.size, s.stride, s.padding, s.dilation, false, grad, indices,
                )
                .x_grad
            }
            Pooling::Average(s, padding_counts) => Self::avg_pool2d_backward(
                x,
                grad,
                s.size,
                s.stride,
                s.padding,
                padding_counts,
                false,
            ),
            Pooling::AdaptiveAverage(_) => Self::adaptive_avg_pool2d_backward(x, grad),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl PoolKernel for burn::backend::Cube {}

impl Pooling {
    fn windows(self, x: &FlexTensor) -> Windows {
        let shape = x.layout().shape();
        let input = [shape[2], shape[3], shape[1]];
        let sliding = |s: Sliding| Windows::sliding(input, s.size, s.stride, s.padding, s.dilation);
        match self {
            Self::Max(s) | Self::Average(s, false) => sliding(s),
            Self::Average(s, true) => sliding(s).divided_by(s.size[0] * s.size[1]),
            Self::AdaptiveAverage(size) => Windows::adaptive(input, size),
        }
    }
}

impl PoolKernel for Flex {
    fn forward(x: FlexTensor, pooling: Pooling) -> FlexTensor {
        flex::in_f32(x, |x| {
            let x = flex::channels_last(x);
            let windows = pooling.windows(&x);
            let shape = x.layout().shape();
            let [height, width] = windows.output();
            let layout =
                flex::channels_last_layout(&Shape::new([shape[0], shape[1], height, width]));
            let mut output = Buffer::new(layout.num_elements());
            match pooling {
                Pooling::Max(_) => kernel::max(x.storage(), &windows, &mut output),
                _ => kernel::average(x.storage(), &windows, &mut output),
            }
            flex::from_buffer(output, layout)
        })
    }

    fn backward(x: FlexTensor, grad: FlexTensor, pooling: Pooling) -> FlexTensor {
        flex::in_f32(grad, |grad| {
            let x = flex::channels_last(flex::to_f32(x));
            let grad = flex::channels_last(grad);
            let windows = pooling.windows(&x);
            let mut output = Buffer::new(x.layout().num_elements());
            match pooling {
                Pooling::Max(_) => {
                    kernel::max_backward(x.storage(), grad.storage(), &windows, &mut output);
                }
                _ => kernel::average_backward(grad.storage(), &windows, &mut output),
            }
            flex::from_buffer(output, x.layout().clone())
        })
    }
}
