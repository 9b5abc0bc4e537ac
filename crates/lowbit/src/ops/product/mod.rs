//! Operators that are linear in an input and in a weight, and quantize both as they read them.

mod adder;
mod conv1d;
mod conv2d;
mod conv3d;
mod conv_transpose;
mod linear;

pub use adder::{AdderOptions, adder2d};
pub use conv_transpose::{conv_transpose1d, conv_transpose2d, conv_transpose3d};
pub use conv1d::conv1d;
pub use conv2d::conv2d;
pub use conv3d::conv3d;
pub use linear::linear;

use std::fmt::Debug;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::Flex;
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend};

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::kernel::packing::{RoundSlice, RoundingBackward};
use crate::ops::quantization::reading::{self, Optional, QuantizingKernels, Reading, Rows};

/// The input and the weight, and how each is read.
#[derive(Debug, Clone)]
pub(crate) struct Operands<B: Backend> {
    pub(crate) input: FloatTensor<B>,
    pub(crate) weight: FloatTensor<B>,
    pub(crate) readings: [Reading<B>; 2],
}

/// Gradients to the input, the weight, the bias, and the thresholds of input and weight; those that
/// are wanted.
pub(crate) type ToOperands<B> = [Option<FloatTensor<B>>; 5];

/// A product of operands that are rounded already, composed of tensor primitives; the value holds
/// its options.
pub(crate) trait OfRounded: Debug + Clone + Send + 'static {
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
    ) -> [Option<FloatTensor<B>>; 3];
}

/// A product of quantized operands on one backend. The bodies given here round in passes of their
/// own and serve every backend; Flex has kernels.
pub(crate) trait Product<B: QuantizingKernels>: OfRounded {
    /// The product of the operands, each read as said.
    fn forward(&self, operands: Operands<B>, bias: Option<FloatTensor<B>>) -> FloatTensor<B> {
        self.forward_composed(operands, bias)
    }

    /// Its gradients.
    fn backward(
        &self,
        operands: Operands<B>,
        grad: FloatTensor<B>,
        wanted: [bool; 5],
    ) -> ToOperands<B> {
        self.backward_composed(operands, grad, wanted)
    }

    /// [`forward`](Self::forward), in passes.
    fn forward_composed(
        &self,
        operands: Operands<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let Operands {
            input,
            weight,
            readings: [of_input, of_weight],
        } = operands;
        let input = reading::round::<B>(&of_input, input);
        let weight = reading::round::<B>(&of_weight, weight);
        self.product::<B>(input, weight, bias)
    }

    /// [`backward`](Self::backward), in passes.
    fn backward_composed(
        &self,
        operands: Operands<B>,
        grad: FloatTensor<B>,
        wanted: [bool; 5],
    ) -> ToOperands<B> {
        let Operands {
            input,
            weight,
            readings: [of_input, of_weight],
        } = operands;
        let [to_read_input, to_read_weight, bias] = self.gradients::<B>(
            reading::round::<B>(&of_input, input.clone()),
            reading::round::<B>(&of_weight, weight.clone()),
            grad,
            made_for(wanted),
        );
        let through = |reading, x, grad: Option<FloatTensor<B>>| match grad {
            Some(grad) => {
                let (grad, threshold) = reading::round_backward::<B>(reading, x, grad);
                (Some(grad), threshold)
            }
            None => (None, None),
        };
        let (input, first) = through(&of_input, input, to_read_input);
        let (weight, second) = through(&of_weight, weight, to_read_weight);
        wanted_of::<B>(wanted, [input, weight, bias], [first, second])
    }
}

/// The product as an operator of a backend without gradients.
pub(crate) fn untracked<B: QuantizingKernels>(
    product: impl Product<B>,
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Optional<B>,
    readings: [Reading<B>; 2],
) -> FloatTensor<B> {
    let operands = Operands {
        input,
        weight,
        readings,
    };
    product.forward(operands, bias.into_option())
}

/// Which gradients must be made, to input, weight and bias: a threshold's comes with that of its
/// operand.
pub(crate) fn made_for([input, weight, bias, first, second]: [bool; 5]) -> [bool; 3] {
    [input || first, weight || second, bias]
}

/// Those that are wanted of the gradients to input, weight and bias, and to the thresholds.
pub(crate) fn wanted_of<B: Backend>(
    wanted: [bool; 5],
    [input, weight, bias]: [Option<FloatTensor<B>>; 3],
    [first, second]: [Option<FloatTensor<B>>; 2],
) -> ToOperands<B> {
    let mut all = [input, weight, bias, first, second];
    for (gradient, wanted) in all.iter_mut().zip(wanted) {
        if !wanted {
            *gradient = None;
        }
    }
    all
}

/// The product as an operator of `Autodiff`.
pub(crate) fn tracked<B, C, P>(
    product: P,
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: Optional<Autodiff<B, C>>,
    [of_input, of_weight]: [Reading<Autodiff<B, C>>; 2],
) -> FloatTensor<Autodiff<B, C>>
where
    B: QuantizingKernels + Accumulate,
    C: CheckpointStrategy,
    P: Product<B>,
{
    let (input, input_node) = input.into_parts();
    let (weight, weight_node) = weight.into_parts();
    // An absent operand is a constant that nothing reads.
    let absent = || Autodiff::<B, C>::from_inner(weight.clone()).into_parts().1;
    let (bias, bias_node) = match bias {
        Optional::Present(bias) => {
            let (bias, node) = bias.into_parts();
            (Some(bias), node)
        }
        Optional::Absent => (None, absent()),
    };
    let (of_input, first_node) = reading::split(of_input);
    let (of_weight, second_node) = reading::split(of_weight);
    let nodes = [
        input_node,
        weight_node,
        bias_node,
        first_node.unwrap_or_else(absent),
        second_node.unwrap_or_else(absent),
    ];
    let operands = Operands {
        input,
        weight,
        readings: [of_input, of_weight],
    };
    let output = product.forward(operands.clone(), bias);
    match ProductBackward(std::marker::PhantomData::<P>)
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((product, operands), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Debug)]
struct ProductBackward<P>(std::marker::PhantomData<P>);

impl<B: QuantizingKernels + Accumulate, P: Product<B>> Backward<B, 5> for ProductBackward<P> {
    type State = (P, Operands<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let (product, operands) = ops.state.clone();
        let made = product.backward(operands, grad, wanted);
        for (parent, made) in made.into_iter().enumerate() {
            if let Some(made) = made {
                B::add(grads, &ops, parent, made);
            }
        }
    }
}

/// Runs `kernel` with the roundings of two readings and with their backward passes, those that do
/// something.
pub(crate) fn with_passes<T>(
    readings: &[Reading<Flex>; 2],
    kernel: impl FnOnce([Option<RoundSlice>; 2], [Option<RoundingBackward>; 2]) -> T,
) -> T {
    let rows = readings.each_ref().map(Rows::of);
    let round = rows
        .each_ref()
        .map(|rows| move |numbers: &[f32], output: &mut [f32]| rows.round(numbers, output));
    let round_backward = rows
        .each_ref()
        .map(|rows| move |x: &[f32], grad: &mut [f32]| rows.round_backward(x, grad));
    let roundings: [Option<RoundSlice>; 2] =
        [0, 1].map(|i| (!rows[i].is_float()).then_some(&round[i] as RoundSlice));
    let unroundings: [Option<RoundingBackward>; 2] = [0, 1]
        .map(|i| (!rows[i].passes_gradients()).then_some(&round_backward[i] as RoundingBackward));
    kernel(roundings, unroundings)
}
