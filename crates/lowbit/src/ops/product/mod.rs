//! Operators that are linear in an input and in a weight, and quantize both as they read them.

mod accumulated;
mod adder;
mod conv1d;
mod conv2d;
mod conv3d;
mod conv_transpose;
mod deform_conv2d;
mod linear;
mod then;

pub use accumulated::{
    ProductSums, conv_transpose1d_with_sums, conv_transpose2d_with_sums,
    conv_transpose3d_with_sums, conv2d_with_sums, conv3d_with_sums, linear_with_sums,
};
pub use adder::{AdderOptions, adder2d};
pub use conv_transpose::{conv_transpose1d, conv_transpose2d, conv_transpose3d};
pub(crate) use conv1d::conv1d_of;
pub use conv1d::{conv1d, conv1d_with_sums};
pub use conv2d::conv2d;
pub(crate) use conv2d::{Conv2d, conv2d_of};
pub use conv3d::conv3d;
pub use deform_conv2d::deform_conv2d;
pub use linear::linear;
pub(crate) use linear::{Linear, linear_of};
pub(crate) use then::{Following, conv2d_then};

use std::fmt::Debug;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchTensor};
use burn::tensor::Tensor;
use lowbit_formats::IntegerRange;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, padded};
use crate::ops::quantization::operand::{
    GradientRoundings, OperandGradients, OperandParts, PreparedOperand, QuantizedOperand,
    round_gradient,
};
use crate::ops::quantization::pointwise::Prepared;
use crate::ops::quantization::{FakeQuantize, Operand, OperandQuantization, PreparedFormat};
use lowbit_kernels::Terms;
use lowbit_kernels::bfloat16::is_bfloat16;
use lowbit_kernels::packing::{Learned, RoundSlice, RoundingBackward};

/// The tensors that may get gradients: input, weight and bias, and what input and weight learn with
/// up to three parameters each.
const PARENTS: usize = 9;

/// The gradients to input, weight and bias, those that are wanted.
pub(crate) type ToOperands<B> = [Option<FloatTensor<B>>; 3];

/// A product of operands that are rounded already, composed of tensor primitives; the value holds
/// its options.
pub(crate) trait ComposedProduct: Debug + Clone + Send + 'static {
    /// The product, and the bias added.
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B>;

    /// Its gradients to input, weight and bias, those that are wanted.
    fn gradients<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        wanted: [bool; 3],
    ) -> ToOperands<B>;
}

/// A product whose kernels on Flex round input and weight while they pack them.
pub(crate) trait FlexProduct: ComposedProduct {
    /// The sizes that the kernels need to know.
    type Shape;

    /// The sizes, where the kernels have them.
    fn kernel_shape(&self, input: &FlexTensor, weight: &FlexTensor) -> Option<Self::Shape>;

    /// The product of the input and the weight, and the bias added.
    fn kernel_forward(
        &self,
        shape: Self::Shape,
        operands: [FlexTensor; 2],
        passes: &Passes,
        bias: Option<FlexTensor>,
    ) -> FlexTensor;

    /// The gradients that are wanted, and those of what input and weight learn.
    fn kernel_backward(
        &self,
        shape: Self::Shape,
        operands: [FlexTensor; 2],
        passes: &Passes,
        grad: FlexTensor,
        wanted: [bool; 3],
    ) -> (ToOperands<Flex>, [Learned; 2]);
}

/// The operands of a product, and the rounding of the gradient of its result, one number at a time,
/// as the product reads it.
#[derive(Debug)]
pub(crate) struct Operands<const I: usize, const W: usize> {
    pub(crate) input: Operand<I>,
    pub(crate) weight: Operand<W>,
    pub(crate) bias: Option<Operand<1>>,
    pub(crate) error: Option<FakeQuantize>,
    /// What the sums of the backward pass are made of, where the product has kernels for it.
    pub(crate) backward: Terms,
}

/// The same in parts. What is not done one number at a time is done already.
pub(crate) struct Parts<const I: usize, const W: usize> {
    pub(crate) input: OperandParts<I>,
    pub(crate) weight: OperandParts<W>,
    pub(crate) bias: Option<Operand<1>>,
    pub(crate) error: Option<FakeQuantize>,
    pub(crate) backward: Terms,
}

impl<const I: usize, const W: usize> Operands<I, W> {
    /// Whose result's gradient stays as it is.
    pub(crate) fn new(input: Operand<I>, weight: Operand<W>, bias: Option<Operand<1>>) -> Self {
        Self {
            input,
            weight,
            bias,
            error: None,
            backward: Terms::Numbers,
        }
    }

    pub(crate) fn into_parts(self) -> Parts<I, W> {
        Parts {
            input: self.input.into_product_parts(),
            weight: self.weight.into_product_parts(),
            bias: self.bias,
            error: self.error,
            backward: self.backward,
        }
    }
}

/// The product of quantized operands.
pub(crate) fn product<const D: usize, const E: usize>(
    product: impl FlexProduct,
    parts: Parts<D, E>,
) -> Tensor<D> {
    let (product, tensors) = with_tensors(product, parts);
    operator::run(product, tensors)
}

/// The operator of a product and the tensors that it is applied to.
fn with_tensors<P: FlexProduct, const D: usize, const E: usize>(
    product: P,
    parts: Parts<D, E>,
) -> (Product<P>, Vec<DispatchTensor>) {
    let Parts {
        input,
        weight,
        bias,
        error,
        backward,
    } = parts;
    let mut tensors = vec![input.tensor.into_dispatch(), weight.tensor.into_dispatch()];
    let has_bias = bias.is_some();
    tensors.extend(bias.map(|bias| bias.quantized().into_dispatch()));
    let parameters = input.parameters.into_iter().chain(weight.parameters);
    tensors.extend(parameters.map(Tensor::into_dispatch));
    let product = Product {
        product,
        quantizations: [input.quantization, weight.quantization],
        has_bias,
        gradients: [input.gradients, weight.gradients],
        error,
        backward,
    };
    (product, tensors)
}

/// The operator behind the products: of the input, the weight, the bias if there is one, and the
/// parameters of both quantizations.
#[derive(Debug, Clone)]
pub(crate) struct Product<P> {
    pub(crate) product: P,
    pub(crate) quantizations: [OperandQuantization; 2],
    pub(crate) has_bias: bool,
    /// What is rounded of the gradients to input and weight.
    gradients: [GradientRoundings; 2],
    /// The rounding of the gradient of the result.
    error: Option<FakeQuantize>,
    backward: Terms,
}

impl<P: FlexProduct> Operator<PARENTS> for Product<P> {
    /// All but the bias.
    fn save_inputs<B: Backend>(&self, inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        let (operands, rest) = inputs.split_at(2);
        let parameters = &rest[usize::from(self.has_bias)..];
        operands.iter().chain(parameters).cloned().collect()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let (operands, bias) = self.operands::<B>(inputs.tensors, self.has_bias);
        let [input, weight] = operands.map(QuantizedOperand::rounded);
        vec![self.product.product::<B>(input, weight, bias)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let (operands, _) = self.operands::<B>(incoming.inputs, false);
        let [input, weight] = operands.clone().map(QuantizedOperand::rounded);
        let wanted = self.made_for(incoming.wanted);
        let grad = round_gradient::<B>(&self.error, incoming.grad);
        let [input, weight, bias] = self.product.gradients::<B>(input, weight, grad, wanted);
        let [of_input, of_weight] = operands;
        let input = input.map(|grad| of_input.gradients(grad));
        let weight = weight.map(|grad| of_weight.gradients(grad));
        self.in_order::<B>([input, weight], bias)
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let Some(shape) = self.kernel_shape(&inputs.tensors) else {
            return self.forward::<Flex>(inputs);
        };
        let (operands, passes, bias) = self.prepared(inputs.tensors);
        let product = &self.product;
        vec![product.kernel_forward(shape, operands, &passes, bias)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        let Some(shape) = self.kernel_shape(&incoming.inputs) else {
            return self.backward::<Flex>(incoming);
        };
        let (operands, _) = self.operands::<Flex>(incoming.inputs, false);
        let passes = self.passes(&operands);
        let operands = operands.map(|operand| operand.tensor);
        let wanted = self.made_for(incoming.wanted);
        let ([input, weight, bias], sums) =
            self.product
                .kernel_backward(shape, operands, &passes, incoming.grad, wanted);
        let with_learned = |i: usize, gradient| {
            let learned = sums[i].iter().take(self.quantizations[i].learned());
            let learned = learned.map(|&sum| Some(flex::from_slice(&[sum as f32])));
            (gradient, learned.collect())
        };
        let input = input.map(|gradient| with_learned(0, gradient));
        let weight = weight.map(|gradient| with_learned(1, gradient));
        self.in_order::<Flex>([input, weight], bias)
    }
}

impl<P: FlexProduct> Product<P> {
    fn kernel_shape(&self, tensors: &[FlexTensor]) -> Option<P::Shape> {
        self.product.kernel_shape(&tensors[0], &tensors[1])
    }

    /// The input and the weight, and the bias.
    fn operands<B: Backend>(
        &self,
        tensors: Vec<FloatTensor<B>>,
        has_bias: bool,
    ) -> ([QuantizedOperand<B>; 2], Option<FloatTensor<B>>) {
        let mut tensors = tensors.into_iter();
        let mut next = || tensors.next().expect("input and weight go in");
        let mut operands = [next(), next()].map(|tensor| QuantizedOperand {
            tensor,
            quantization: OperandQuantization::Float,
            parameters: Vec::new(),
            gradients: GradientRoundings::default(),
        });
        let bias = has_bias.then(|| tensors.next()).flatten();
        let quantizations = self.quantizations.iter().zip(&self.gradients);
        for (operand, (quantization, gradients)) in operands.iter_mut().zip(quantizations) {
            operand.gradients = gradients.clone();
            operand.quantization = quantization.clone();
            let parameters = tensors.by_ref().take(quantization.parameters());
            operand.parameters.extend(parameters);
        }
        (operands, bias)
    }

    /// The input and the weight, what the forward kernels round of them, and the bias.
    fn prepared(&self, tensors: Vec<FlexTensor>) -> ([FlexTensor; 2], Passes, Option<FlexTensor>) {
        let (operands, bias) = self.operands::<Flex>(tensors, self.has_bias);
        let passes = Passes {
            ranges: operands.each_ref().map(QuantizedOperand::range),
            terms: forward_terms(&operands),
            ..self.passes(&operands)
        };
        (operands.map(|operand| operand.tensor), passes, bias)
    }

    /// What the kernels round.
    fn passes(&self, operands: &[QuantizedOperand<Flex>; 2]) -> Passes {
        Passes {
            operands: operands.each_ref().map(QuantizedOperand::prepare_both_ways),
            ranges: [None; 2],
            terms: self.backward,
            error: self.error_pass().map(FakeQuantize::prepared),
        }
    }

    /// What rounds the error before it is multiplied: nothing where the product rounds it so itself, and no
    /// bias sums it.
    fn error_pass(&self) -> Option<&FakeQuantize> {
        let is_made = self.backward == Terms::Bfloat16 && !self.has_bias;
        let error = self.error.as_ref();
        error.filter(|error| !(is_made && error.is_nearest_bfloat16()))
    }

    /// Which gradients must be made, to input, weight and bias: a parameter's comes with that of its
    /// operand.
    fn made_for(&self, wanted: [bool; PARENTS]) -> [bool; 3] {
        let [input, weight, ..] = wanted;
        let (bias, parameters) = wanted[2..].split_at(usize::from(self.has_bias));
        let [first, second] = self.quantizations.each_ref().map(|q| q.parameters());
        let (of_input, rest) = parameters.split_at(first);
        [
            input || of_input.contains(&true),
            weight || rest[..second].contains(&true),
            bias.contains(&true),
        ]
    }

    /// The gradients in the order in which the tensors go in.
    fn in_order<B: Backend>(
        &self,
        operands: [Option<OperandGradients<B>>; 2],
        bias: Option<FloatTensor<B>>,
    ) -> Gradients<B, PARENTS> {
        let [input, weight] = operands.map(Option::unzip);
        let tensors = [input.0, weight.0].into_iter();
        let tensors = tensors.chain(self.has_bias.then_some(bias));
        let parameters = [input.1, weight.1].into_iter().zip(&self.quantizations);
        let parameters = parameters.flat_map(|(gradients, quantization)| {
            let gradients = gradients.into_iter().flatten();
            let gradients = gradients.chain(std::iter::repeat_with(|| None));
            gradients.take(quantization.parameters())
        });
        padded(tensors.chain(parameters))
    }
}

/// Products of bfloat16 where the input is rounded to that, and the weight, too, or its numbers are such
/// already.
fn forward_terms([input, weight]: &[QuantizedOperand<Flex>; 2]) -> Terms {
    let is_weight = || match &weight.quantization {
        OperandQuantization::Float => {
            let weight = flex::contiguous(flex::to_f32(weight.tensor.clone()));
            weight.storage::<f32>().iter().copied().all(is_bfloat16)
        }
        quantization => quantization.is_bfloat16(),
    };
    match input.quantization.is_bfloat16() && is_weight() {
        true => Terms::Bfloat16,
        false => Terms::Numbers,
    }
}

/// What the kernels of a product round.
pub(crate) struct Passes {
    operands: [PreparedOperand; 2],
    /// The integers that the operands are known to be rounded to, times powers of two; forward alone.
    ranges: [Option<IntegerRange>; 2],
    /// What sums are made of.
    terms: Terms,
    /// Of the gradient of the result.
    error: Option<PreparedFormat>,
}

impl Passes {
    /// Runs `kernel` with the roundings of input, weight and the result's gradient, and with the
    /// backward passes of the first two, those that do something.
    pub(crate) fn run<T>(
        &self,
        kernel: impl FnOnce([Option<RoundSlice>; 3], [Option<RoundingBackward>; 2]) -> T,
    ) -> T {
        let operands = self.operands.each_ref();
        let [input, weight] = operands.map(|operand| {
            move |x: &[f32], output: &mut [f32]| operand.quantization.round(x, output)
        });
        let backward = operands
            .map(|operand| move |x: &[f32], grad: &mut [f32]| operand.round_backward(x, grad));
        let error = self.error.as_ref();
        let error = error.map(|error| move |x: &[f32], to: &mut [f32]| error.round(x, to));
        let rounds = operands.map(|operand| !operand.quantization.is_float());
        let roundings: [Option<RoundSlice>; 3] = [
            rounds[0].then_some(&input),
            rounds[1].then_some(&weight),
            error.as_ref().map(|error| error as RoundSlice),
        ];
        let unroundings: [Option<RoundingBackward>; 2] = [0, 1]
            .map(|i| (!operands[i].passes_gradients()).then_some(&backward[i] as RoundingBackward));
        kernel(roundings, unroundings)
    }
}
