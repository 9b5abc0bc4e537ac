//! Pooling.

mod pool1d;
mod pool3d;

pub use pool1d::{adaptive_avg_pool1d, avg_pool1d, max_pool1d};
pub use pool3d::{adaptive_avg_pool3d, avg_pool3d, max_pool3d};

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{TensorMetadata, get_or_init_device_settings};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use lowbit_kernels::pool::{self as kernel, Windows};

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

/// The sum under each window, with so many zeros above and below, and left and right.
/// `[batch, channels, height, width]` in and out.
pub fn sum_pool2d(
    x: Tensor<4>,
    size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Tensor<4> {
    let sliding = Sliding {
        size,
        stride,
        padding,
        dilation: [1, 1],
    };
    pool(x, Pooling::Sum(sliding))
}

/// The mean over windows chosen so that the result is `[batch, channels, height, width]` with the
/// given height and width.
pub fn adaptive_avg_pool2d(x: Tensor<4>, output_size: [usize; 2]) -> Tensor<4> {
    pool(x, Pooling::AdaptiveAverage(output_size))
}

fn pool(x: Tensor<4>, pooling: Pooling) -> Tensor<4> {
    operator::run(pooling, vec![x.into_dispatch()])
}

/// Windows of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sliding {
    pub(crate) size: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

impl Sliding {
    /// Numbers under a window.
    fn numbers(self) -> usize {
        self.size[0] * self.size[1]
    }
}

/// What is made of the numbers under each window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pooling {
    /// The greatest.
    Max(Sliding),
    /// The mean, and whether zeros around the image count.
    Average(Sliding, bool),
    /// The sum.
    Sum(Sliding),
    /// The mean of windows that make an output of this size.
    AdaptiveAverage([usize; 2]),
}

/// The operator behind the functions of this file, on `[batch, channels, height, width]`.
impl Operator<1> for Pooling {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        vec![match *self {
            Self::Max(s) => {
                <B as ModuleOps<B>>::max_pool2d(x, s.size, s.stride, s.padding, s.dilation, false)
            }
            Self::Average(s, padding_counts) => <B as ModuleOps<B>>::avg_pool2d(
                x,
                s.size,
                s.stride,
                s.padding,
                padding_counts,
                false,
            ),
            Self::Sum(s) => {
                let mean =
                    <B as ModuleOps<B>>::avg_pool2d(x, s.size, s.stride, s.padding, true, false);
                B::float_mul_scalar(mean, s.numbers().into())
            }
            Self::AdaptiveAverage(size) => <B as ModuleOps<B>>::adaptive_avg_pool2d(x, size),
        }]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [x] = array(incoming.inputs);
        let grad = incoming.grad;
        [Some(match *self {
            Self::Max(s) => {
                let ints = get_or_init_device_settings::<B>(&x.device()).int_dtype;
                let indices = B::max_pool2d_with_indices(
                    x.clone(),
                    s.size,
                    s.stride,
                    s.padding,
                    s.dilation,
                    false,
                    ints,
                )
                .indices;
                B::max_pool2d_with_indices_backward(
                    x, s.size, s.stride, s.padding, s.dilation, false, grad, indices,
                )
                .x_grad
            }
            Self::Average(s, padding_counts) => {
                B::avg_pool2d_backward(x, grad, s.size, s.stride, s.padding, padding_counts, false)
            }
            Self::Sum(s) => {
                let grad = B::float_mul_scalar(grad, s.numbers().into());
                B::avg_pool2d_backward(x, grad, s.size, s.stride, s.padding, true, false)
            }
            Self::AdaptiveAverage(_) => B::adaptive_avg_pool2d_backward(x, grad),
        })]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let x = flex::channels_last(x);
            let windows = self.windows(&x);
            let shape = x.layout().shape();
            let [height, width] = windows.output();
            let layout =
                flex::channels_last_layout(&Shape::new([shape[0], shape[1], height, width]));
            let mut output = Buffer::new(layout.num_elements());
            match *self {
                Self::Max(_) => kernel::max(x.storage(), &windows, &mut output),
                _ => kernel::average(x.storage(), &windows, &mut output),
            }
            flex::from_buffer(output, layout)
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [x] = array(incoming.inputs);
        let grad = incoming.grad;
        [Some(flex::in_f32(grad, |grad| {
            let x = flex::channels_last(flex::to_f32(x));
            let grad = flex::channels_last(grad);
            let windows = self.windows(&x);
            let mut output = Buffer::new(x.layout().num_elements());
            match *self {
                Self::Max(_) => {
                    kernel::max_backward(x.storage(), grad.storage(), &windows, &mut output);
                }
                _ => kernel::average_backward(grad.storage(), &windows, &mut output),
            }
            flex::from_buffer(output, x.layout().clone())
        }))]
    }
}

impl Pooling {
    fn windows(self, x: &FlexTensor) -> Windows {
        let shape = x.layout().shape();
        let input = [shape[2], shape[3], shape[1]];
        let sliding = |s: Sliding| Windows::sliding(input, s.size, s.stride, s.padding, s.dilation);
        match self {
            Self::Max(s) | Self::Average(s, false) => sliding(s),
            Self::Average(s, true) => sliding(s).divided_by(s.numbers()),
            Self::Sum(s) => sliding(s).divided_by(1),
            Self::AdaptiveAverage(size) => Windows::adaptive(input, size),
        }
    }
}
