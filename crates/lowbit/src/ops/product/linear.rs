//! Matrix product with a weight, plus bias.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::profile::counted;
use crate::ops::product::{
    self, ComposedProduct, FlexProduct, Operands, Parts, Passes, ProductSums, ToOperands,
    accumulated,
};
use crate::ops::quantization::Operand;
use lowbit_kernels::linear as kernel;
use lowbit_kernels::packing::Learned;

/// `input * weight + bias` of quantized operands.
///
/// Input and weight are quantized as they are read, where their quantization looks at one number at
/// a time.
///
/// # Shapes
/// - `input`: `[..., d_input]`
/// - `weight`: `[d_input, d_output]`
/// - `bias`: `[d_output]`
/// - result: `[..., d_output]`
pub fn linear<const D: usize>(
    input: Operand<D>,
    weight: Operand<2>,
    bias: Option<Operand<1>>,
) -> Tensor<D> {
    linear_of(Operands::new(input, weight, bias), None)
}

/// The product of operands, with sums as they are said or in float: of the weight with each row of an
/// input of any rank.
pub(crate) fn linear_of<const D: usize>(
    operands: Operands<D, 2>,
    sums: Option<ProductSums>,
) -> Tensor<D> {
    let parts = operands.into_parts();
    let mut dims = parts.input.tensor.dims();
    let [d_input, d_output] = parts.weight.tensor.dims();
    let rows: usize = dims[..D - 1].iter().product();
    let parts = Parts {
        input: parts.input.with(|input| input.reshape([rows, d_input])),
        weight: parts.weight,
        bias: parts.bias,
        error: parts.error,
        backward: parts.backward,
    };
    let output = match sums {
        None => product::product(Linear, parts),
        Some(sums) => product::product(accumulated::Linear(sums), parts),
    };
    dims[D - 1] = d_output;
    output.reshape(dims)
}

/// The product; it has no options.
#[derive(Debug, Clone)]
pub(crate) struct Linear;

impl ComposedProduct for Linear {
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let output = B::float_matmul(input, weight);
        let Some(bias) = bias else {
            return output;
        };
        let shape = output.shape();
        let bias = B::float_reshape(bias, Shape::new([1, shape[1]]));
        B::float_add(output, B::float_expand(bias, shape))
    }

    fn gradients<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        [to_input, to_weight, to_bias]: [bool; 3],
    ) -> ToOperands<B> {
        let bias = to_bias.then(|| {
            let sum = B::float_sum_dim(grad.clone(), 0);
            B::float_reshape(sum, Shape::new([grad.shape()[1]]))
        });
        let to_weight =
            to_weight.then(|| B::float_matmul(B::float_swap_dims(input, 0, 1), grad.clone()));
        let to_input = to_input.then(|| B::float_matmul(grad, B::float_swap_dims(weight, 0, 1)));
        [to_input, to_weight, bias]
    }
}

impl FlexProduct for Linear {
    type Shape = kernel::Shape;

    fn kernel_shape(&self, input: &FlexTensor, weight: &FlexTensor) -> Option<kernel::Shape> {
        let dims = |x: &FlexTensor| [0, 1].map(|d| x.layout().shape()[d]);
        let ([rows, inputs], [_, outputs]) = (dims(input), dims(weight));
        let single = input.dtype() == DType::F32 && weight.dtype() == DType::F32;
        (single && inputs > 0).then_some(kernel::Shape {
            rows,
            features: [inputs, outputs],
        })
    }

    fn kernel_forward(
        &self,
        shape: kernel::Shape,
        [input, weight]: [FlexTensor; 2],
        passes: &Passes,
        bias: Option<FlexTensor>,
    ) -> FlexTensor {
        let (x, weight) = (flex::contiguous(input), flex::contiguous(weight));
        let bias = bias.map(|bias| flex::to_vec(&bias));
        let layout = Layout::contiguous(Shape::new([shape.rows, shape.features[1]]));
        let mut output = Buffer::new(layout.num_elements());
        counted("linear", shape.operations(), || {
            passes.run(|[of_input, of_weight, _], _| {
                kernel::forward(
                    &shape,
                    [x.storage(), weight.storage()],
                    bias.as_deref(),
                    [of_input, of_weight],
                    passes.terms,
                    &mut output,
                );
            });
        });
        flex::from_buffer(output, layout)
    }

    fn kernel_backward(
        &self,
        shape: kernel::Shape,
        [input, weight]: [FlexTensor; 2],
        passes: &Passes,
        grad: FlexTensor,
        [of_input, of_weight, of_bias]: [bool; 3],
    ) -> (ToOperands<Flex>, [Learned; 2]) {
        let x = flex::contiguous(input);
        let weight = flex::contiguous(weight);
        let grad = flex::contiguous(flex::to_f32(grad));
        let room = |wanted: bool, length| wanted.then(|| Buffer::new(length));
        let mut input = room(of_input, x.layout().num_elements());
        let mut weights = room(of_weight, weight.layout().num_elements());
        let mut bias = room(of_bias, shape.features[1]);
        let gradients = [&input, &weights].into_iter().flatten().count();
        let operations = gradients as f64 * shape.operations();
        let sums = counted("linear backward", operations, || {
            passes.run(|roundings, unroundings| {
                kernel::backward(
                    &shape,
                    [x.storage(), weight.storage(), grad.storage()],
                    roundings,
                    unroundings,
                    kernel::Wanted {
                        input: input.as_deref_mut(),
                        weight: weights.as_deref_mut(),
                        bias: bias.as_deref_mut(),
                        terms: passes.terms,
                    },
                )
            })
        });
        let like =
            |made: Option<Buffer>, layout: Layout| made.map(|made| flex::from_buffer(made, layout));
        let gradients = [
            like(input, x.layout().clone()),
            like(weights, weight.layout().clone()),
            like(bias, Layout::contiguous(Shape::new([shape.features[1]]))),
        ];
        (gradients, sums)
    }
}
