//! Sums of distances in place of products.
//!
//! Chen, Wang, Xu, Shi, Xu, Tian, Xu, "AdderNet: Do We Really Need Multiplications in Deep
//! Learning?", arXiv 1912.13200.

mod composed;
mod flex;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Tensor;
use burn::tensor::ops::{ConvOptions, PadMode};

use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::quantization::Operand;

/// How an [`adder2d`] walks over its input, and how it scales the gradient of its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdderOptions {
    /// Step of the kernel over rows and columns.
    pub stride: [usize; 2],
    /// Zeros at the `(start, end)` of the rows and of the columns.
    pub padding: [(usize, usize); 2],
    /// Spacing between kernel elements.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `eta` of the adaptive local learning rate; the gradient as it is if `None`.
    pub adaptive_rate: Option<f64>,
}

impl Default for AdderOptions {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [(0, 0); 2],
            dilation: [1, 1],
            groups: 1,
            adaptive_rate: None,
        }
    }
}

/// Minus the l1 distance of each kernel from each part of the input, of quantized operands:
///
/// - forward (equation 2): `y = -sum |x - w|` over the kernel and the channels of its group, plus
///   bias;
/// - gradient to the weight (equation 5): `x - w`, not its sign;
/// - gradient to the input (equation 6): `w - x`, clipped to `[-1, 1]`.
///
/// With an `adaptive_rate` eta, the weight's gradient `g` becomes `eta sqrt(k) g / ||g||_2`, where
/// `k` is the number of weights (equations 12 and 13; the layer's gradient has the norm
/// `eta sqrt(k)` whatever its depth). The paper applies this factor in its optimizer, plain
/// gradient descent with momentum; optimizers that divide by the gradient's size undo it. The
/// authors' own code has it in the gradient, as here, with eta 1/5.
///
/// Zeros of the padding are inputs like others.
///
/// # Shapes
/// - `input`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height_out, width_out]`
///
/// # Panics
/// If the channels do not fit the groups, or the kernel is larger than the padded input.
pub fn adder2d(
    input: Operand<4>,
    weight: Operand<4>,
    bias: Option<Operand<1>>,
    options: AdderOptions,
) -> Tensor<4> {
    let (input, weight) = (input.quantized(), weight.quantized());
    let [(top, bottom), (left, right)] = options.padding;
    let input = if options.padding == [(0, 0); 2] {
        input
    } else {
        input.pad((left, right, top, bottom), PadMode::Constant(0.0))
    };
    Windows::new(input.dims(), weight.dims(), &options);
    let sums = operator::run(options, vec![input.into_dispatch(), weight.into_dispatch()]);
    match bias.map(Operand::quantized) {
        Some(bias) => {
            let [channels] = bias.dims();
            sums + bias.reshape([1, channels, 1, 1])
        }
        None => sums,
    }
}

/// The sizes of an adder's tensors, its padding being part of the input.
#[derive(Debug, Clone, Copy)]
struct Windows {
    batch: usize,
    groups: usize,
    /// Channels in and out of one group.
    channels: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    output: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
}

impl Windows {
    fn new(input: [usize; 4], weight: [usize; 4], options: &AdderOptions) -> Self {
        let [batch, channels_in, height, width] = input;
        let [channels_out, group_in, kernel_height, kernel_width] = weight;
        let AdderOptions {
            stride,
            dilation,
            groups,
            ..
        } = *options;
        assert!(
            groups > 0 && channels_in == group_in * groups && channels_out.is_multiple_of(groups),
            "{channels_in} channels in and {channels_out} out do not fit a weight of {group_in} \
             channels in {groups} groups"
        );
        let output = |size: usize, kernel: usize, i: usize| {
            let reach = dilation[i] * (kernel - 1) + 1;
            assert!(
                kernel > 0 && stride[i] > 0 && reach <= size,
                "a kernel that reaches over {reach} does not fit an input of {size}"
            );
            (size - reach) / stride[i] + 1
        };
        Self {
            batch,
            groups,
            channels: [group_in, channels_out / groups],
            input: [height, width],
            kernel: [kernel_height, kernel_width],
            output: [
                output(height, kernel_height, 0),
                output(width, kernel_width, 1),
            ],
            stride,
            dilation,
        }
    }

    fn of<B: Backend>(
        input: &FloatTensor<B>,
        weight: &FloatTensor<B>,
        options: &AdderOptions,
    ) -> Self {
        Self::new(input.shape().dims(), weight.shape().dims(), options)
    }

    /// The input's row or column that a kernel element sees at the first place of the kernel.
    fn offset(&self, axis: usize, kernel: usize) -> usize {
        self.dilation[axis] * kernel
    }
}

/// The operator behind [`adder2d`]. The padding of the options is not looked at.
impl Operator<2> for AdderOptions {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [input, weight] = inputs.tensors();
        vec![composed::forward::<B>(input, weight, self)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 2>) -> Gradients<B, 2> {
        let [to_input, to_weight] = incoming.wanted;
        let grad = incoming.grad;
        let [input, weight] = array(incoming.inputs);
        let weight_gradient = to_weight
            .then(|| weight_gradient::<B>(input.clone(), weight.clone(), grad.clone(), self));
        let input_gradient =
            to_input.then(|| composed::input_gradient::<B>(input, weight, grad, self));
        [input_gradient, weight_gradient]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [input, weight] = inputs.tensors();
        vec![flex::forward(input, weight, self)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 2>) -> Gradients<Flex, 2> {
        let [to_input, to_weight] = incoming.wanted;
        let grad = incoming.grad;
        let [input, weight] = array(incoming.inputs);
        let weight_gradient = to_weight
            .then(|| weight_gradient::<Flex>(input.clone(), weight.clone(), grad.clone(), self));
        let input_gradient = to_input.then(|| flex::input_gradient(input, weight, grad, self));
        [input_gradient, weight_gradient]
    }
}

/// `sum g (x - w)` over all places of the kernel, and its adaptive scale.
///
/// `x - w` is linear, so the sum of `g x` is the weight gradient of a convolution.
fn weight_gradient<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    options: &AdderOptions,
) -> FloatTensor<B> {
    let convolution = ConvOptions::new(options.stride, [0, 0], options.dilation, options.groups);
    let of_products = B::conv2d_weight_backward(input, weight.clone(), grad.clone(), convolution);
    let [channels_out, ..] = weight.shape().dims::<4>();
    let total = B::float_sum_dims(grad, &[0, 2, 3]);
    let total = B::float_expand(
        B::float_reshape(total, [channels_out, 1, 1, 1].into()),
        weight.shape(),
    );
    let gradient = B::float_sub(of_products, B::float_mul(weight, total));
    let Some(eta) = options.adaptive_rate else {
        return gradient;
    };
    let shape = gradient.shape();
    let count = shape.num_elements();
    let norm = B::float_sqrt(B::float_sum(B::float_mul(
        gradient.clone(),
        gradient.clone(),
    )));
    // A gradient of zeros stays one.
    let norm = B::float_clamp_min(norm, 1e-12f32.into());
    let norm = B::float_expand(B::float_reshape(norm, [1, 1, 1, 1].into()), shape);
    let scale = (eta * (count as f64).sqrt()) as f32;
    B::float_div(B::float_mul_scalar(gradient, scale.into()), norm)
}

#[cfg(test)]
mod tests;
