//! Matrix product with a weight, plus bias.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::profile::counted;
use crate::ops::kernel::linear as kernel;
use crate::ops::product::{self, OfRounded, Operands, Product, ToOperands};
use crate::ops::quantization::Operand;
use crate::ops::quantization::reading::{Optional, QuantizingKernels, Reading};

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
    let (input, of_input) = input.into_reading();
    let (weight, of_weight) = weight.into_reading();
    let mut dims = input.dims();
    let [d_input, d_output] = weight.dims();
    let rows: usize = dims[..D - 1].iter().product();
    let input: Tensor<2> = input.reshape([rows, d_input]);
    let output = Tensor::<2>::from_dispatch(<Dispatch as LinearOp>::linear(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.map(|bias| bias.quantized().into_dispatch()).into(),
        of_input,
        of_weight,
    ));
    dims[D - 1] = d_output;
    output.reshape(dims)
}

/// The operator behind [`linear()`], routed to the backend of its input, `[rows, d_input]`.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait LinearOp: Backend {
    /// See [`linear()`].
    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] of_input: Reading<Self>,
        #[extension_type] of_weight: Reading<Self>,
    ) -> FloatTensor<Self>;
}

/// The product; it has no options.
#[derive(Debug, Clone)]
struct Linear;

impl LinearOp for Flex {
    fn linear(
        input: FlexTensor,
        weight: FlexTensor,
        bias: Optional<Self>,
        of_input: Reading<Self>,
        of_weight: Reading<Self>,
    ) -> FlexTensor {
        product::untracked(Linear, input, weight, bias, [of_input, of_weight])
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl LinearOp for burn::backend::Cube {
    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        of_input: Reading<Self>,
        of_weight: Reading<Self>,
    ) -> FloatTensor<Self> {
        product::untracked(Linear, input, weight, bias, [of_input, of_weight])
    }
}

impl<B, C> LinearOp for Autodiff<B, C>
where
    B: QuantizingKernels + Accumulate,
    C: CheckpointStrategy,
    Linear: Product<B>,
{
    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        of_input: Reading<Self>,
        of_weight: Reading<Self>,
    ) -> FloatTensor<Self> {
        product::tracked(Linear, input, weight, bias, [of_input, of_weight])
    }
}

impl OfRounded for Linear {
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
    ) -> [Option<FloatTensor<B>>; 3] {
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

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Product<burn::backend::Cube> for Linear {}

/// The product's shape, where the kernels have it.
fn kernel_shape(operands: &Operands<Flex>) -> Option<kernel::Shape> {
    let Operands { input, weight, .. } = operands;
    let dims = |x: &FlexTensor| [0, 1].map(|d| x.layout().shape()[d]);
    let ([rows, inputs], [_, outputs]) = (dims(input), dims(weight));
    let single = input.dtype() == DType::F32 && weight.dtype() == DType::F32;
    (single && inputs > 0).then_some(kernel::Shape {
        rows,
        features: [inputs, outputs],
    })
}

impl Product<Flex> for Linear {
    fn forward(&self, operands: Operands<Flex>, bias: Option<FlexTensor>) -> FlexTensor {
        let Some(shape) = kernel_shape(&operands) else {
            return self.forward_composed(operands, bias);
        };
        let (x, weight) = (
            flex::contiguous(operands.input),
            flex::contiguous(operands.weight),
        );
        let bias = bias.map(|bias| flex::to_vec(&bias));
        let layout = Layout::contiguous(Shape::new([shape.rows, shape.features[1]]));
        let mut output = Buffer::new(layout.num_elements());
        counted("linear", shape.operations(), || {
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
        let Some(shape) = kernel_shape(&operands) else {
            return self.backward_composed(operands, grad, wanted);
        };
        let [of_input, of_weight, of_bias] = product::made_for(wanted);
        let x = flex::contiguous(operands.input);
        let weight = flex::contiguous(operands.weight);
        let grad = flex::contiguous(flex::to_f32(grad));
        let room = |wanted: bool, length| wanted.then(|| Buffer::new(length));
        let mut input = room(of_input, x.layout().num_elements());
        let mut weights = room(of_weight, weight.layout().num_elements());
        let mut bias = room(of_bias, shape.features[1]);
        let gradients = [&input, &weights].into_iter().flatten().count();
        let operations = gradients as f64 * shape.operations();
        let thresholds = counted("linear backward", operations, || {
            product::with_passes(&operands.readings, |roundings, unroundings| {
                kernel::backward(
                    &shape,
                    [x.storage(), weight.storage(), grad.storage()],
                    roundings,
                    unroundings,
                    kernel::Wanted {
                        input: input.as_deref_mut(),
                        weight: weights.as_deref_mut(),
                        bias: bias.as_deref_mut(),
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
        let thresholds = thresholds.map(|sum| Some(flex::from_slice(&[sum as f32])));
        product::wanted_of::<Flex>(wanted, gradients, thresholds)
    }
}
