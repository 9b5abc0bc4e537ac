//! Convolution.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::profile::counted;
use crate::ops::product::{
    self, ComposedProduct, FlexProduct, Operands, Passes, ProductSums, ToOperands, accumulated,
};
use crate::ops::quantization::Operand;
use lowbit_kernels::after::After;
use lowbit_kernels::conv as kernel;
use lowbit_kernels::packing::Learned;

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
    conv2d_of(Operands::new(input, weight, bias), options, None)
}

/// The convolution of operands, with sums as they are said or in float.
pub(crate) fn conv2d_of(
    operands: Operands<4, 4>,
    options: ConvOptions<2>,
    sums: Option<ProductSums>,
) -> Tensor<4> {
    let parts = operands.into_parts();
    match sums {
        None => product::product(Conv2d(options), parts),
        Some(sums) => product::product(accumulated::Convolution::new(options, sums), parts),
    }
}

/// The product, with its options.
#[derive(Debug, Clone)]
pub(crate) struct Conv2d(pub(crate) ConvOptions<2>);

impl ComposedProduct for Conv2d {
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
    ) -> ToOperands<B> {
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

fn dims(x: &FlexTensor) -> [usize; 4] {
    let shape = x.layout().shape();
    [0, 1, 2, 3].map(|d| shape[d])
}

impl FlexProduct for Conv2d {
    type Shape = kernel::Shape;

    fn kernel_shape(&self, x: &FlexTensor, weight: &FlexTensor) -> Option<kernel::Shape> {
        let options = &self.0;
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

    fn kernel_forward(
        &self,
        shape: kernel::Shape,
        operands: [FlexTensor; 2],
        passes: &Passes,
        bias: Option<FlexTensor>,
    ) -> FlexTensor {
        self.forward_then(shape, operands, passes, bias, None)
    }

    fn kernel_backward(
        &self,
        shape: kernel::Shape,
        [input, weight]: [FlexTensor; 2],
        passes: &Passes,
        grad: FlexTensor,
        [of_input, of_weight, of_bias]: [bool; 3],
    ) -> (ToOperands<Flex>, [Learned; 2]) {
        let x = flex::channels_last(input);
        let weight = flex::contiguous(weight);
        let grad = flex::channels_last(flex::to_f32(grad));
        let mut input = of_input.then(|| Buffer::new(x.layout().num_elements()));
        let gradients = usize::from(of_input) + usize::from(of_weight);
        let operations = gradients as f64 * shape.operations();
        let (weights, bias, sums) = counted("conv2d backward", operations, || {
            passes.run(|roundings, unroundings| {
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
                        terms: passes.terms,
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
        (gradients, sums)
    }
}

impl Conv2d {
    /// The forward pass, and what follows it while its results are in the cache.
    pub(super) fn forward_then(
        &self,
        shape: kernel::Shape,
        [input, weight]: [FlexTensor; 2],
        passes: &Passes,
        bias: Option<FlexTensor>,
        after: Option<&After>,
    ) -> FlexTensor {
        let x = flex::channels_last(input);
        let weight = flex::contiguous(weight);
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
            passes.run(|[of_input, of_weight, _], _| {
                let in_integers = kernel::forward_in_integers(
                    &shape,
                    x.storage(),
                    weight.storage(),
                    bias.as_deref(),
                    [of_input, of_weight],
                    passes.ranges,
                    kernel::Output {
                        numbers: &mut output,
                        after,
                    },
                );
                if in_integers {
                    return;
                }
                kernel::forward(
                    &shape,
                    [x.storage(), weight.storage()],
                    bias.as_deref(),
                    [of_input, of_weight],
                    passes.terms,
                    kernel::Output {
                        numbers: &mut output,
                        after,
                    },
                );
            });
        });
        flex::from_buffer(output, layout)
    }
}
