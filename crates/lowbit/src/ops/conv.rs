//! Convolution.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, TensorMetadata, ops::ModuleOps};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Shape, Tensor};

use super::accumulate::Accumulate;
use super::fused::{self, Optional, QuantizingKernels, Reading, Rows};
use super::kernel::buffer::Buffer;
use super::kernel::conv as kernel;
use super::profile::counted;
use super::{Operand, flex};

/// Two-dimensional convolution (cross-correlation) of quantized operands.
///
/// The input is quantized as it is read, where its quantization looks at one number at a time.
///
/// # Shapes
/// - `input`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height_out, width_out]`
pub fn conv2d(
    input: Operand<4>,
    weight: Operand<4>,
    bias: Option<Operand<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    let (input, reading) = input.into_reading();
    Tensor::from_dispatch(<Dispatch as Conv2dOp>::conv2d(
        input.into_dispatch(),
        reading,
        weight.quantized().into_dispatch(),
        bias.map(|bias| bias.quantized().into_dispatch()).into(),
        options,
    ))
}

/// The operator behind [`conv2d()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait Conv2dOp: Backend {
    /// See [`conv2d()`].
    fn conv2d(
        x: FloatTensor<Self>,
        #[extension_type] reading: Reading<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self>;
}

impl Conv2dOp for Flex {
    fn conv2d(
        x: FlexTensor,
        reading: Reading<Self>,
        weight: FlexTensor,
        bias: Optional<Self>,
        options: ConvOptions<2>,
    ) -> FlexTensor {
        <Self as Conv2dKernel>::forward(x, &reading, weight, bias.into_option(), &options)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Conv2dOp for burn::backend::Cube {
    fn conv2d(
        x: FloatTensor<Self>,
        reading: Reading<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        <Self as Conv2dKernel>::forward(x, &reading, weight, bias.into_option(), &options)
    }
}

impl<B: Conv2dKernel, C: CheckpointStrategy> Conv2dOp for Autodiff<B, C> {
    fn conv2d(
        x: FloatTensor<Self>,
        reading: Reading<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        // An absent operand is a constant that nothing reads.
        let absent = || Self::from_inner(weight.clone()).into_parts().1;
        let (bias, bias_node) = match bias {
            Optional::Present(bias) => {
                let (bias, node) = bias.into_parts();
                (Some(bias), node)
            }
            Optional::Absent => (None, absent()),
        };
        let (reading, threshold_node) = fused::split(reading);
        let threshold_node = threshold_node.unwrap_or_else(absent);
        let output =
            <B as Conv2dKernel>::forward(x.clone(), &reading, weight.clone(), bias, &options);
        match Conv2dBackward
            .prepare::<C>([x_node, weight_node, bias_node, threshold_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    x,
                    weight,
                    reading,
                    options,
                };
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// What the backward step needs of the forward one.
#[derive(Clone, Debug)]
pub(crate) struct Saved<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    reading: Reading<B>,
    options: ConvOptions<2>,
}

#[derive(Debug)]
struct Conv2dBackward;

impl<B: Conv2dKernel> Backward<B, 4> for Conv2dBackward {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let made = <B as Conv2dKernel>::backward(ops.state.clone(), grad, wanted);
        for (parent, made) in made.into_iter().enumerate() {
            if let Some(made) = made {
                B::add(grads, &ops, parent, made);
            }
        }
    }
}

/// The passes of a convolution on one backend. The bodies given here call the backend's own
/// convolution and serve every backend; Flex has kernels.
pub(crate) trait Conv2dKernel: QuantizingKernels + Accumulate {
    /// The convolution of `x`, read as said.
    fn forward(
        x: FloatTensor<Self>,
        reading: &Reading<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        options: &ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let x = fused::round::<Self>(reading, x);
        <Self as ModuleOps<Self>>::conv2d(x, weight, bias, options.clone())
    }

    /// The gradients to input, weight, bias and threshold, those that are wanted.
    fn backward(
        saved: Saved<Self>,
        grad: FloatTensor<Self>,
        wanted: [bool; 4],
    ) -> [Option<FloatTensor<Self>>; 4] {
        composed_backward::<Self>(saved, grad, wanted)
    }
}

fn composed_backward<B: QuantizingKernels>(
    saved: Saved<B>,
    grad: FloatTensor<B>,
    [to_x, to_weight, to_bias, to_threshold]: [bool; 4],
) -> [Option<FloatTensor<B>>; 4] {
    let Saved {
        x,
        weight,
        reading,
        options,
    } = saved;
    let read = fused::round::<B>(&reading, x.clone());
    let bias = to_bias.then(|| {
        let channels = weight.shape()[0];
        let like = B::float_zeros(Shape::new([channels]), &grad.device(), grad.dtype().into());
        B::conv2d_bias_backward(read.clone(), like, grad.clone())
    });
    let weight_gradient = to_weight.then(|| {
        B::conv2d_weight_backward(read.clone(), weight.clone(), grad.clone(), options.clone())
    });
    let (input, threshold) = if to_x || to_threshold {
        let to_read = B::conv2d_x_backward(read, weight, grad, options);
        let (input, threshold) = fused::round_backward::<B>(&reading, x, to_read);
        (Some(input), threshold)
    } else {
        (None, None)
    };
    [
        input.filter(|_| to_x),
        weight_gradient,
        bias,
        threshold.filter(|_| to_threshold),
    ]
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Conv2dKernel for burn::backend::Cube {}

/// The convolution's shape, where the kernels have it.
fn kernel_shape(
    x: &FlexTensor,
    weight: &FlexTensor,
    options: &ConvOptions<2>,
) -> Option<kernel::Shape> {
    let [batch, channels_in, height, width] = dims(x);
    let [channels_out, group_channels_in, kernel_height, kernel_width] = dims(weight);
    if options.groups != 1 || channels_in != group_channels_in || x.dtype() != DType::F32 {
        return None;
    }
    let kernel = [kernel_height, kernel_width];
    let along = |d: usize, length: usize| {
        let (before, after) = options.padding[d];
        let reach = options.dilation[d] * (kernel[d] - 1) + 1;
        (length + before + after)
            .checked_sub(reach)
            .map(|rest| rest / options.stride[d] + 1)
    };
    let shape = kernel::Shape {
        batch,
        channels: [channels_in, channels_out],
        input: [height, width],
        kernel,
        stride: options.stride,
        padding: options.padding.map(|(before, _)| before),
        dilation: options.dilation,
        output: [along(0, height)?, along(1, width)?],
    };
    shape.is_supported().then_some(shape)
}

fn dims(x: &FlexTensor) -> [usize; 4] {
    let shape = x.layout().shape();
    [0, 1, 2, 3].map(|d| shape[d])
}

impl Conv2dKernel for Flex {
    fn forward(
        x: FlexTensor,
        reading: &Reading<Self>,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        options: &ConvOptions<2>,
    ) -> FlexTensor {
        let Some(shape) = kernel_shape(&x, &weight, options) else {
            let x = fused::round::<Self>(reading, x);
            return <Self as ModuleOps<Self>>::conv2d(x, weight, bias, options.clone());
        };
        let (x, weight) = (flex::channels_last(x), flex::contiguous(weight));
        let bias = bias.map(|bias| flex::to_vec(&bias));
        let rows = Rows::of(reading);
        let round = |row: &[f32], output: &mut [f32]| rows.round(row, output);
        let output = Shape::new([
            shape.batch,
            shape.channels[1],
            shape.output[0],
            shape.output[1],
        ]);
        let layout = flex::channels_last_layout(&output);
        let mut output = Buffer::new(layout.num_elements());
        counted("conv2d", shape.operations(), || {
            kernel::forward(
                &shape,
                x.storage(),
                weight.storage(),
                bias.as_deref(),
                (!rows.is_float()).then_some(&round),
                &mut output,
            );
        });
        flex::from_buffer(output, layout)
    }

    fn backward(
        saved: Saved<Self>,
        grad: FlexTensor,
        wanted: [bool; 4],
    ) -> [Option<FlexTensor>; 4] {
        let Some(shape) = kernel_shape(&saved.x, &saved.weight, &saved.options) else {
            return composed_backward::<Self>(saved, grad, wanted);
        };
        let [to_x, to_weight, to_bias, to_threshold] = wanted;
        let x = flex::channels_last(saved.x);
        let weight = flex::contiguous(saved.weight);
        let grad = flex::channels_last(flex::to_f32(grad));
        let rows = Rows::of(&saved.reading);
        let round = |row: &[f32], output: &mut [f32]| rows.round(row, output);
        let round_backward = |x: &[f32], grad: &mut [f32]| rows.round_backward(x, grad);
        let mut to_input = (to_x || to_threshold).then(|| Buffer::new(x.layout().num_elements()));
        let gradients = usize::from(to_x || to_threshold) + usize::from(to_weight);
        let backward_operations = gradients as f64 * shape.operations();
        let (weight_gradient, bias_gradient, threshold) =
            counted("conv2d backward", backward_operations, || {
                kernel::backward(
                    &shape,
                    x.storage(),
                    weight.storage(),
                    grad.storage(),
                    (!rows.is_float()).then_some(&round),
                    (!rows.passes_gradients()).then_some(&round_backward),
                    kernel::Wanted {
                        input: to_input.as_deref_mut(),
                        weight: to_weight,
                        bias: to_bias,
                    },
                )
            });
        let layout = x.layout().clone();
        [
            to_input
                .filter(|_| to_x)
                .map(|to_input| flex::from_buffer(to_input, layout)),
            to_weight
                .then(|| flex::from_slice(&weight_gradient).with_layout(weight.layout().clone())),
            to_bias.then(|| flex::from_slice(&bias_gradient)),
            to_threshold.then(|| flex::from_slice(&[threshold as f32])),
        ]
    }
}
