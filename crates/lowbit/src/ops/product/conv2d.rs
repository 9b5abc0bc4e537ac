//! Convolution.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Shape, Tensor};

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::profile::counted;
use crate::ops::kernel::conv as kernel;
use crate::ops::product::{self, OfRounded, Operands, Product, ToOperands};
use crate::ops::quantization::Operand;
use crate::ops::quantization::reading::{Optional, QuantizingKernels, Reading};

/// Two-dimensional convolution (cross-correlation) of quantized operands.
///
/// Input and weight are quantized as they are read, where their quantization looks at one number at
/// a time.
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
    let (input, of_input) = input.into_reading();
    let (weight, of_weight) = weight.into_reading();
    Tensor::from_dispatch(<Dispatch as Conv2dOp>::conv2d(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.map(|bias| bias.quantized().into_dispatch()).into(),
        of_input,
        of_weight,
        options,
    ))
}

/// The operator behind [`conv2d()`], routed to the backend of its input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait Conv2dOp: Backend {
    /// See [`conv2d()`].
    fn conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] of_input: Reading<Self>,
        #[extension_type] of_weight: Reading<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self>;
}

/// The product, with its options.
#[derive(Debug, Clone)]
struct Conv2d(ConvOptions<2>);

impl Conv2dOp for Flex {
    fn conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        of_input: Reading<Self>,
        of_weight: Reading<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        product::untracked(Conv2d(options), input, weight, bias, [of_input, of_weight])
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Conv2dOp for burn::backend::Cube {
    fn conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        of_input: Reading<Self>,
        of_weight: Reading<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        product::untracked(Conv2d(options), input, weight, bias, [of_input, of_weight])
    }
}

impl<B, C> Conv2dOp for Autodiff<B, C>
where
    B: QuantizingKernels + Accumulate,
    C: CheckpointStrategy,
    Conv2d: Product<B>,
{
    fn conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        of_input: Reading<Self>,
        of_weight: Reading<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        product::tracked(Conv2d(options), input, weight, bias, [of_input, of_weight])
    }
}

impl OfRounded for Conv2d {
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        B::conv2d(input, weight, bias, self.0.clone())
    }

    fn gradients<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        [to_input, to_weight, to_bias]: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let options = || self.0.clone();
        let bias = to_bias.then(|| {
            let channels = weight.shape()[0];
            let like = B::float_zeros(Shape::new([channels]), &grad.device(), grad.dtype().into());
            B::conv2d_bias_backward(input.clone(), like, grad.clone())
        });
        let of_weight = to_weight.then(|| {
            B::conv2d_weight_backward(input.clone(), weight.clone(), grad.clone(), options())
        });
        let of_input = to_input.then(|| B::conv2d_x_backward(input, weight, grad, options()));
        [of_input, of_weight, bias]
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Product<burn::backend::Cube> for Conv2d {}

/// The convolution's shape, where the kernels have it.
fn kernel_shape(
    x: &FlexTensor,
    weight: &FlexTensor,
    options: &ConvOptions<2>,
) -> Option<kernel::Shape> {
    let [batch, channels_in, height, width] = dims(x);
    let [channels_out, group_channels_in, kernel_height, kernel_width] = dims(weight);
    if kernel_height * kernel_width == 0
        || options.groups != 1
        || channels_in != group_channels_in
        || x.dtype() != DType::F32
    {
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

impl Product<Flex> for Conv2d {
    fn forward(&self, operands: Operands<Flex>, bias: Option<FlexTensor>) -> FlexTensor {
        let Some(shape) = kernel_shape(&operands.input, &operands.weight, &self.0) else {
            return self.forward_composed(operands, bias);
        };
        let x = flex::channels_last(operands.input);
        let weight = flex::contiguous(operands.weight);
        let bias = bias.map(|bias| flex::to_vec(&bias));
        let output = Shape::new([
            shape.batch,
            shape.channels[1],
            shape.output[0],
            shape.output[1],
        ]);
        let layout = flex::channels_last_layout(&output);
        let mut output = Buffer::new(layout.num_elements());
        counted("conv2d", shape.operations(), || {
            product::with_passes(&operands.readings, |roundings, _| {
                kernel::forward(
                    &shape,
                    x.storage(),
                    weight.storage(),
                    bias.as_deref(),
                    roundings,
                    &mut output,
                );
            });
        });
        flex::from_buffer(output, layout)
    }

    fn backward(
        &self,
        operands: Operands<Flex>,
        grad: FlexTensor,
        wanted: [bool; 5],
    ) -> ToOperands<Flex> {
        let Some(shape) = kernel_shape(&operands.input, &operands.weight, &self.0) else {
            return self.backward_composed(operands, grad, wanted);
        };
        let [of_input, of_weight, of_bias] = product::made_for(wanted);
        let x = flex::channels_last(operands.input);
        let weight = flex::contiguous(operands.weight);
        let grad = flex::channels_last(flex::to_f32(grad));
        let mut input = of_input.then(|| Buffer::new(x.layout().num_elements()));
        let gradients = usize::from(of_input) + usize::from(of_weight);
        let operations = gradients as f64 * shape.operations();
        let (weights, bias, thresholds) = counted("conv2d backward", operations, || {
            product::with_passes(&operands.readings, |roundings, unroundings| {
                kernel::backward(
                    &shape,
                    x.storage(),
                    weight.storage(),
                    grad.storage(),
                    roundings,
                    unroundings,
                    kernel::Wanted {
                        input: input.as_deref_mut(),
                        weight: of_weight,
                        bias: of_bias,
                    },
                )
            })
        });
        let layout = x.layout().clone();
        let gradients = [
            input.map(|input| flex::from_buffer(input, layout)),
            of_weight.then(|| flex::from_slice(&weights).with_layout(weight.layout().clone())),
            of_bias.then(|| flex::from_slice(&bias)),
        ];
        let thresholds = thresholds.map(|sum| Some(flex::from_slice(&[sum as f32])));
        product::wanted_of::<Flex>(wanted, gradients, thresholds)
    }
}
