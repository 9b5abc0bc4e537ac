//! Addition.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, padded};
use crate::ops::backend::profile::timed;
use crate::ops::quantization::operand::{GradientRoundings, OperandGradients, QuantizedOperand};
use crate::ops::quantization::pointwise::Sums;
use crate::ops::quantization::{Operand, OperandQuantization, PreparedQuantization};
use lowbit_kernels::elementwise::update;
use lowbit_kernels::scratch;

/// The tensors that may get gradients: both operands, and what each learns with up to three
/// parameters.
const PARENTS: usize = 8;

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// The sum of two quantized operands of one shape. Both are quantized as they are read, where their
/// quantization looks at one number at a time.
///
/// # Panics
/// If the shapes differ.
pub fn add<const D: usize>(left: Operand<D>, right: Operand<D>) -> Tensor<D> {
    let (left, right) = (left.into_parts(), right.into_parts());
    let dims = [left.tensor.dims(), right.tensor.dims()];
    assert_eq!(dims[0], dims[1], "the shapes to add differ");
    let operands = [left.tensor, right.tensor].map(Tensor::into_dispatch);
    let parameters = left.parameters.into_iter().chain(right.parameters);
    let parameters = parameters.map(Tensor::into_dispatch);
    let add = Add([left.quantization, right.quantization]);
    operator::run(add, operands.into_iter().chain(parameters).collect())
}

/// The operator behind [`add()`], of both operands and then of the parameters of their quantizations.
#[derive(Debug, Clone)]
pub(crate) struct Add(pub(crate) [OperandQuantization; 2]);

impl Operator<PARENTS> for Add {
    // What is read as it is need not be kept.
    fn save_inputs<B: Backend>(&self, inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        let (operands, parameters) = inputs.split_at(2);
        let quantized = operands.iter().zip(&self.0).filter(|(_, q)| !q.is_float());
        let kept = quantized.map(|(x, _)| x).chain(parameters);
        kept.cloned().collect()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [left, right] = self.operands::<B>(inputs);
        vec![B::float_add(left.rounded(), right.rounded())]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let grad = incoming.grad;
        self.in_order::<B>(
            self.saved::<B>(incoming.inputs)
                .map(|operand| match operand {
                    Some(operand) => operand.gradients(grad.clone()),
                    None => (grad.clone(), Vec::new()),
                }),
        )
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        vec![sum(self.operands::<Flex>(inputs))]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        self.in_order::<Flex>(gradients(
            self.saved::<Flex>(incoming.inputs),
            incoming.grad,
        ))
    }
}

impl Add {
    fn operands<B: Backend>(&self, inputs: Inputs<B>) -> [QuantizedOperand<B>; 2] {
        let mut tensors = inputs.tensors.into_iter();
        let operands = [tensors.next(), tensors.next()];
        self.with_parameters::<B>(operands, tensors)
            .map(|operand| operand.expect("both operands go in"))
    }

    /// The operands that were kept.
    fn saved<B: Backend>(&self, inputs: Vec<FloatTensor<B>>) -> [Option<QuantizedOperand<B>>; 2] {
        let mut tensors = inputs.into_iter();
        let operands = self.0.each_ref().map(|quantization| {
            let kept = !quantization.is_float();
            kept.then(|| tensors.next()).flatten()
        });
        self.with_parameters::<B>(operands, tensors)
    }

    fn with_parameters<B: Backend>(
        &self,
        mut operands: [Option<FloatTensor<B>>; 2],
        mut parameters: impl Iterator<Item = FloatTensor<B>>,
    ) -> [Option<QuantizedOperand<B>>; 2] {
        [0, 1].map(|i| {
            let quantization = self.0[i].clone();
            let count = quantization.parameters();
            Some(QuantizedOperand {
                tensor: operands[i].take()?,
                quantization,
                parameters: parameters.by_ref().take(count).collect(),
                gradients: GradientRoundings::default(),
            })
        })
    }

    /// The gradients in the order in which the tensors go in.
    fn in_order<B: Backend>(&self, operands: [OperandGradients<B>; 2]) -> Gradients<B, PARENTS> {
        let [left, right] = operands;
        let parameters = [left.1, right.1].into_iter().zip(&self.0);
        let parameters = parameters.flat_map(|(gradients, quantization)| {
            let gradients = gradients.into_iter().chain(std::iter::repeat_with(|| None));
            gradients.take(quantization.parameters())
        });
        padded([Some(left.0), Some(right.0)].into_iter().chain(parameters))
    }
}

/// The sum of the operands.
fn sum([left, right]: [QuantizedOperand<Flex>; 2]) -> FlexTensor {
    let prepared = [left.prepare(), right.prepare()];
    let (left, right) = (left.tensor, right.tensor);
    if prepared.iter().all(PreparedQuantization::is_float) {
        return timed("add", || flex::sum(left, right));
    }
    let dtype = left.dtype();
    let (left, right) = flex::aligned(flex::to_f32(left), flex::to_f32(right));
    let mut output = Buffer::new(left.layout().num_elements());
    timed("add", || {
        output
            .par_chunks_mut(CHUNK)
            .zip(left.storage::<f32>().par_chunks(CHUNK))
            .zip(right.storage::<f32>().par_chunks(CHUNK))
            .for_each(|((output, left), right)| {
                let mut rounded = scratch::take(right.len());
                prepared[0].round(left, output);
                prepared[1].round(right, &mut rounded);
                update(&rounded, output, |right, left| left + right);
            });
    });
    flex::to_dtype(flex::from_buffer(output, left.layout().clone()), dtype)
}

/// The gradients of the operands that were kept, and of the others, given that of the sum.
fn gradients(
    operands: [Option<QuantizedOperand<Flex>>; 2],
    grad: FlexTensor,
) -> [OperandGradients<Flex>; 2] {
    match operands.map(|operand| operand.and_then(Rounded::of)) {
        [None, None] => [(grad.clone(), Vec::new()), (grad, Vec::new())],
        [Some(left), None] => [left.backward(grad.clone()), (grad, Vec::new())],
        // The second of two passes may have the memory of the sum's gradient.
        [None, Some(right)] => [(grad.clone(), Vec::new()), right.backward(grad)],
        [Some(left), Some(right)] => match Rounded::backward_together([&left, &right], grad) {
            Ok(made) => made,
            Err(grad) => [left.backward(grad.clone()), right.backward(grad)],
        },
    }
}

/// An operand whose rounding changes its gradient.
struct Rounded {
    x: FlexTensor,
    prepared: PreparedQuantization,
    /// Parameters that are learned.
    learned: usize,
}

impl Rounded {
    fn of(operand: QuantizedOperand<Flex>) -> Option<Self> {
        let prepared = operand.prepare();
        (!prepared.passes_gradients()).then(|| Self {
            x: flex::to_f32(operand.tensor),
            prepared,
            learned: operand.quantization.learned(),
        })
    }

    /// The gradients of the parameters, from what each part adds to them.
    fn learned_gradients(
        &self,
        parts: impl Iterator<Item = Sums> + Clone,
    ) -> Vec<Option<FlexTensor>> {
        let sum = |i: usize| parts.clone().map(|part| part[i]).sum::<f64>() as f32;
        (0..self.learned)
            .map(|i| Some(flex::from_slice(&[sum(i)])))
            .collect()
    }

    /// The gradients, given that of the sum.
    fn backward(&self, grad: FlexTensor) -> OperandGradients<Flex> {
        let dtype = grad.dtype();
        let (x, mut grad) = flex::aligned(self.x.clone(), flex::to_f32(grad));
        let x = x.storage::<f32>().par_chunks(CHUNK);
        let (output, sums): (_, Vec<Sums>) = timed("add backward", || {
            if let Some(data) = grad.try_storage_mut::<f32>() {
                let parts = data.par_chunks_mut(CHUNK).zip(x);
                let sums = parts.map(|(grad, x)| self.prepared.round_backward(x, grad));
                let sums = sums.collect();
                return (grad, sums);
            }
            let mut output = Buffer::new(grad.layout().num_elements());
            let sums = output
                .par_chunks_mut(CHUNK)
                .zip(x)
                .zip(grad.storage::<f32>().par_chunks(CHUNK))
                .map(|((output, x), grad)| {
                    output.copy_from_slice(grad);
                    self.prepared.round_backward(x, output)
                })
                .collect();
            (flex::from_buffer(output, grad.layout().clone()), sums)
        });
        let learned = self.learned_gradients(sums.into_iter());
        (flex::to_dtype(output, dtype), learned)
    }

    /// The gradients of both operands in one pass, where they and the sum's gradient have their
    /// elements in one order; otherwise that gradient comes back.
    fn backward_together(
        [left, right]: [&Self; 2],
        mut grad: FlexTensor,
    ) -> Result<[OperandGradients<Flex>; 2], FlexTensor> {
        let layout = grad.layout().clone();
        let alike = |x: &FlexTensor| flex::is_dense(x) && x.layout().strides() == layout.strides();
        if grad.dtype() != DType::F32 || ![&left.x, &right.x, &grad].into_iter().all(alike) {
            return Err(grad);
        }
        let [of_left, of_right] = [left, right].map(|side| side.x.storage::<f32>());
        // What `to_right` is to begin with is in `grad`, or there already.
        let pass = |to_left: &mut [f32], to_right: &mut [f32], grad: Option<&[f32]>| {
            let chunks = to_left
                .par_chunks_mut(CHUNK)
                .zip(to_right.par_chunks_mut(CHUNK));
            let chunks = chunks.enumerate().map(|(chunk, (to_left, to_right))| {
                let part = chunk * CHUNK..chunk * CHUNK + to_left.len();
                if let Some(grad) = grad {
                    to_right.copy_from_slice(&grad[part.clone()]);
                }
                to_left.copy_from_slice(to_right);
                [
                    left.prepared
                        .round_backward(&of_left[part.clone()], to_left),
                    right.prepared.round_backward(&of_right[part], to_right),
                ]
            });
            chunks.collect::<Vec<[Sums; 2]>>()
        };
        let mut to_left = Buffer::new(layout.num_elements());
        let (to_right, sums) = timed("add backward", || {
            if let Some(data) = grad.try_storage_mut::<f32>() {
                let sums = pass(&mut to_left, data, None);
                return (grad, sums);
            }
            let mut to_right = Buffer::new(layout.num_elements());
            let sums = pass(&mut to_left, &mut to_right, Some(grad.storage()));
            (flex::from_buffer(to_right, layout.clone()), sums)
        });
        Ok([
            (
                flex::from_buffer(to_left, layout),
                left.learned_gradients(sums.iter().map(|sums| sums[0])),
            ),
            (
                to_right,
                right.learned_gradients(sums.iter().map(|sums| sums[1])),
            ),
        ])
    }
}
