//! Attention of heads in one pass.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::ops::ActivationOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Tensor};
use lowbit_kernels::attention::{self, Strided};
use lowbit_kernels::packing::RoundSlice;

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{Gradients, Incoming, Inputs, Kernels, Operator, array, run};
use crate::ops::backend::profile::timed;
use crate::ops::quantization::operand::{GradientRoundings, QuantizedOperand};
use crate::ops::quantization::{ClampedGradient, OperandQuantization};

/// `softmax(scale Q K^T + added) V` of each head (Vaswani et al., arXiv 1706.03762), side by side; several
/// heads that ask may share one that answers.
///
/// # Shapes
/// - `query`: `[batch, heads, length, features]`
/// - `key`, `value`: `[batch, answering heads, answers, features]`
/// - `added`: `[1 or batch, 1, 1 or length, answers]`; it has no gradient
/// - result: `[batch, length, heads * features]`
pub fn attention(
    [query, key, value]: [Tensor<4>; 3],
    scale: f32,
    added: Option<Tensor<4>>,
) -> Tensor<3> {
    attention_of(
        [query, key, value],
        scale,
        added,
        OperandQuantization::Float,
    )
}

/// The same with the probabilities quantized, by what takes no tensors, before they weight values.
pub(crate) fn attention_of(
    operands: [Tensor<4>; 3],
    scale: f32,
    added: Option<Tensor<4>>,
    probabilities: OperandQuantization,
) -> Tensor<3> {
    let operands = operands.into_iter().chain(added);
    let operands = operands.map(Tensor::into_dispatch).collect();
    let operator = Attention {
        scale,
        probabilities,
    };
    run(operator, operands)
}

/// The operator behind [`attention()`].
#[derive(Debug, Clone)]
struct Attention {
    scale: f32,
    probabilities: OperandQuantization,
}

impl Attention {
    /// Probabilities as they are quantized.
    fn operand<B: Backend>(&self, probabilities: FloatTensor<B>) -> QuantizedOperand<B> {
        QuantizedOperand {
            tensor: probabilities,
            quantization: self.probabilities.clone(),
            parameters: Vec::new(),
            gradients: GradientRoundings::default(),
        }
    }
}

/// Operands by heads, as many of each, and what is added.
struct Whole<B: Backend> {
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    added: Option<FloatTensor<B>>,
    shared: usize,
}

impl<B: Backend> Whole<B> {
    fn of(tensors: Vec<FloatTensor<B>>) -> Self {
        let mut tensors = tensors.into_iter();
        let [query, key, value] = array(tensors.by_ref().take(3).collect());
        let shared = query.shape()[1] / key.shape()[1].max(1);
        Self {
            query,
            key: repeated::<B>(key, shared),
            value: repeated::<B>(value, shared),
            added: tensors.next(),
            shared,
        }
    }

    /// Weights of answers, `[batch, heads, length, answers]`.
    fn weights(&self, scale: f32) -> FloatTensor<B> {
        let turned = B::float_swap_dims(self.key.clone(), 2, 3);
        let scores = B::float_matmul(self.query.clone(), turned);
        let scores = B::float_mul_scalar(scores, scale.into());
        let scores = match &self.added {
            Some(added) => B::float_add(scores, added.clone()),
            None => scores,
        };
        <B as ActivationOps<B>>::softmax(scores, 3)
    }
}

/// Each head so many times, one after the other.
fn repeated<B: Backend>(x: FloatTensor<B>, times: usize) -> FloatTensor<B> {
    if times == 1 {
        return x;
    }
    let [batch, heads, length, features] = x.shape().dims();
    let x = B::float_reshape(x, Shape::new([batch, heads, 1, length, features]));
    let x = B::float_expand(x, Shape::new([batch, heads, times, length, features]));
    B::float_reshape(x, Shape::new([batch, heads * times, length, features]))
}

/// The sums of heads that are [`repeated`].
fn gathered<B: Backend>(x: FloatTensor<B>, times: usize) -> FloatTensor<B> {
    if times == 1 {
        return x;
    }
    let [batch, heads, length, features] = x.shape().dims();
    let heads = heads / times;
    let x = B::float_reshape(x, Shape::new([batch, heads, times, length, features]));
    let x = B::float_sum_dim(x, 2);
    B::float_reshape(x, Shape::new([batch, heads, length, features]))
}

impl Operator<3> for Attention {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let whole = Whole::<B>::of(inputs.tensors);
        let [batch, heads, length, features] = whole.query.shape().dims();
        let weights = self.operand::<B>(whole.weights(self.scale)).rounded();
        let context = B::float_matmul(weights, whole.value);
        let context = B::float_swap_dims(context, 1, 2);
        let shape = Shape::new([batch, length, heads * features]);
        vec![B::float_reshape(context, shape)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 3>) -> Gradients<B, 3> {
        let whole = Whole::<B>::of(incoming.inputs);
        let [batch, heads, length, features] = whole.query.shape().dims();
        let shape = Shape::new([batch, length, heads, features]);
        let grad = B::float_swap_dims(B::float_reshape(incoming.grad, shape), 1, 2);
        let weights = whole.weights(self.scale);
        let turned = |x: FloatTensor<B>| B::float_swap_dims(x, 2, 3);
        let rounded = self.operand::<B>(weights.clone());
        let to_value = B::float_matmul(turned(rounded.clone().rounded()), grad.clone());
        // Through the softmax: w (g - sum w g), and through the scale.
        let (to_weights, _) = rounded.gradients(B::float_matmul(grad, turned(whole.value)));
        let all = B::float_sum_dim(B::float_mul(weights.clone(), to_weights.clone()), 3);
        let to_scores = B::float_mul(weights, B::float_sub(to_weights, all));
        let to_scores = B::float_mul_scalar(to_scores, self.scale.into());
        let to_query = B::float_matmul(to_scores.clone(), whole.key);
        let to_key = B::float_matmul(turned(to_scores), whole.query);
        [
            Some(to_query),
            Some(gathered::<B>(to_key, whole.shared)),
            Some(gathered::<B>(to_value, whole.shared)),
        ]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let dtype = inputs.tensors[0].dtype();
        let tensors = in_rows(inputs.tensors);
        let shape = sizes(&tensors);
        let width = shape.heads * shape.features;
        let layout = Layout::contiguous(Shape::new([shape.batch, shape.queries, width]));
        let mut output = Buffer::new(layout.num_elements());
        self.scoring(&tensors, |operands, scoring| {
            timed("attention", || {
                attention::attention(&shape, operands, scoring, &mut output);
            });
        });
        vec![flex::to_dtype(flex::from_buffer(output, layout), dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 3>) -> Gradients<Flex, 3> {
        if !self.passes() {
            return self.backward::<Flex>(incoming);
        }
        let dtypes = [0, 1, 2].map(|i| incoming.inputs[i].dtype());
        let tensors = in_rows(incoming.inputs);
        let grad = rows_together(flex::to_f32(incoming.grad));
        let shape = sizes(&tensors);
        let [of_batch, of_position, _] = array(grad.layout().strides().to_vec());
        let grad = Strided {
            numbers: &grad.storage::<f32>()[grad.layout().start_offset()..],
            strides: [
                of_batch.unsigned_abs(),
                shape.features,
                of_position.unsigned_abs(),
            ],
        };
        let layouts = [0, 1, 2].map(|i| Layout::contiguous(tensors[i].shape()));
        let mut gradients = layouts
            .each_ref()
            .map(|layout| Buffer::new(layout.num_elements()));
        let each = gradients.each_mut().map(|gradient| &mut gradient[..]);
        self.scoring(&tensors, |operands, scoring| {
            timed("attention backward", || {
                attention::attention_backward(&shape, operands, scoring, grad, each);
            });
        });
        let whole = gradients.into_iter().zip(layouts).zip(dtypes);
        let whole = whole.map(|((gradient, layout), dtype)| {
            Some(flex::to_dtype(flex::from_buffer(gradient, layout), dtype))
        });
        array(whole.collect())
    }
}

impl Attention {
    /// Whether the gradient of rounded probabilities, which are 0 to 1, passes as it is.
    fn passes(&self) -> bool {
        match &self.probabilities {
            OperandQuantization::Float => true,
            OperandQuantization::Format(quantize) => {
                quantize.clamped == ClampedGradient::Pass || quantize.format.max() >= 1.0
            }
            _ => false,
        }
    }

    /// What the kernels take of these tensors.
    fn scoring<R>(
        &self,
        tensors: &[FlexTensor],
        run: impl FnOnce([Strided<'_>; 3], attention::Scoring<'_>) -> R,
    ) -> R {
        let prepared = self.operand::<Flex>(tensors[0].clone()).prepare();
        let round = |x: &[f32], to: &mut [f32]| prepared.round(x, to);
        let round = (!prepared.is_float()).then_some(&round as RoundSlice<'_>);
        let scoring = attention::Scoring {
            scale: self.scale,
            added: tensors.get(3).map(strided),
            round,
        };
        run([0, 1, 2].map(|i| strided(&tensors[i])), scoring)
    }
}

/// Tensors of `f32` whose rows' numbers lie one after the other.
fn in_rows(tensors: Vec<FlexTensor>) -> Vec<FlexTensor> {
    let tensors = tensors.into_iter();
    tensors.map(|x| rows_together(flex::to_f32(x))).collect()
}

/// The sizes of queries and keys.
fn sizes(tensors: &[FlexTensor]) -> attention::Shape {
    let [batch, heads, queries, features] = tensors[0].shape().dims();
    let [_, answering, answers, _] = tensors[1].shape().dims();
    attention::Shape {
        batch,
        heads,
        shared: heads / answering.max(1),
        queries,
        answers,
        features,
    }
}

/// The tensor with the numbers of each row one after the other.
fn rows_together(x: FlexTensor) -> FlexTensor {
    let strides = x.layout().strides();
    let together = strides.last() == Some(&1) && strides.iter().all(|&stride| stride >= 0);
    match together {
        true => x,
        false => x.to_contiguous(),
    }
}

/// Where the rows of such a tensor are; a dimension of one is the same row for all.
fn strided(x: &FlexTensor) -> Strided<'_> {
    let layout = x.layout();
    let dims = layout.shape().as_slice();
    let stride = |dim: usize| match dims[dim] {
        1 => 0,
        _ => layout.strides()[dim].unsigned_abs(),
    };
    Strided {
        numbers: &x.storage::<f32>()[layout.start_offset()..],
        strides: [stride(0), stride(1), stride(2)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use lowbit_formats::Rounding;

    use crate::ops::FakeQuantize;

    fn numbers(dims: [usize; 4], step: usize) -> FlexTensor {
        let count = dims.iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * step) % 29) as f32 / 9.0 - 1.5)
            .collect();
        FlexTensor::from_data(TensorData::new(values, dims))
    }

    /// The kernel against what is composed, of operands as linear layers leave them, with heads that share.
    #[test]
    fn the_kernel_is_what_is_composed() {
        let by_heads = |dims, step| Flex::float_swap_dims(numbers(dims, step), 1, 2);
        let hidden = FlexTensor::from_data(TensorData::from([[[[0.0, f32::MIN, 0.0, 0.0, -1.0]]]]));
        let inputs = || {
            let tensors = vec![
                by_heads([2, 3, 4, 6], 7),
                by_heads([2, 5, 2, 6], 11),
                by_heads([2, 5, 2, 6], 13),
                hidden.clone(),
            ];
            Inputs::<Flex>::new(tensors)
        };
        let rounds = FakeQuantize {
            format: "fixed(12,9)".parse().unwrap(),
            rounding: Rounding::default(),
            clamped: ClampedGradient::default(),
        };
        let formats = [
            (OperandQuantization::Float, 2e-6),
            // A probability next to the middle of two may be rounded to another one, of a value of 1.5.
            (OperandQuantization::Format(rounds), 3e-3),
        ];
        for (probabilities, least) in formats {
            let operator = Attention {
                scale: 0.4,
                probabilities,
            };
            let [kernel] = array(operator.flex_forward(inputs()));
            let [composed] = array(operator.forward::<Flex>(inputs()));
            assert_eq!(kernel.shape(), composed.shape());
            let incoming = || {
                let grad = Flex::float_swap_dims(numbers([2, 24, 3, 1], 17), 1, 2);
                let grad = Flex::float_reshape(grad, Shape::new([2, 3, 24]));
                Incoming::new(inputs().tensors, grad)
            };
            let back = operator.flex_backward(incoming()).map(Option::unwrap);
            let composed_back = operator.backward::<Flex>(incoming()).map(Option::unwrap);
            let pairs =
                std::iter::once((kernel, composed)).chain(back.into_iter().zip(composed_back));
            for (kernel, composed) in pairs {
                assert_eq!(kernel.shape(), composed.shape());
                for (a, b) in flex::to_vec(&kernel).iter().zip(flex::to_vec(&composed)) {
                    assert!((a - b).abs() < least, "{a}, {b}");
                }
            }
        }
    }

    /// A probability beyond the format's largest number passes no gradient, which the kernel does not know.
    #[test]
    fn formats_that_clip_probabilities_are_composed() {
        let of = |format: &str, clamped| Attention {
            scale: 1.0,
            probabilities: OperandQuantization::Format(FakeQuantize {
                format: format.parse().unwrap(),
                rounding: Rounding::default(),
                clamped,
            }),
        };
        assert!(of("e4m3", ClampedGradient::Zero).passes());
        assert!(!of("fixed(8,8)", ClampedGradient::Zero).passes());
        assert!(of("fixed(8,8)", ClampedGradient::Pass).passes());
    }

    /// Gradients of both ways against differences of the sum of the results weighted by other numbers.
    #[test]
    fn gradients_are_slopes() {
        let operator = Attention {
            scale: 0.4,
            probabilities: OperandQuantization::Float,
        };
        let inputs = [
            numbers([1, 2, 3, 4], 7),
            numbers([1, 1, 5, 4], 11),
            numbers([1, 1, 5, 4], 13),
        ];
        let grad = Flex::float_reshape(numbers([1, 1, 3, 8], 5), Shape::new([1, 3, 8]));
        let value = |inputs: &[FlexTensor]| -> f64 {
            let [y] = array(operator.flex_forward(Inputs::<Flex>::new(inputs.to_vec())));
            let pairs = flex::to_vec(&y).into_iter().zip(flex::to_vec(&grad));
            pairs.map(|(y, g)| f64::from(y) * f64::from(g)).sum()
        };
        let incoming = || Incoming::new(inputs.to_vec(), grad.clone());
        let gradients = operator
            .backward::<Flex>(incoming())
            .into_iter()
            .enumerate();
        let of_kernel = operator.flex_backward(incoming()).into_iter().enumerate();
        for (which, gradient) in gradients.chain(of_kernel) {
            let gradient = flex::to_vec(&gradient.unwrap());
            for at in [0, 3, 7, gradient.len() - 1] {
                let moved = |by: f32| {
                    let mut inputs = inputs.to_vec();
                    let mut values = flex::to_vec(&inputs[which]);
                    values[at] += by;
                    let dims: [usize; 4] = inputs[which].shape().dims();
                    inputs[which] = FlexTensor::from_data(TensorData::new(values, dims));
                    value(&inputs)
                };
                let slope = (moved(1.0 / 64.0) - moved(-1.0 / 64.0)) * 32.0;
                let off = (slope - f64::from(gradient[at])).abs();
                assert!(off < 2e-3, "{which}.{at}: {slope}, {}", gradient[at]);
            }
        }
    }
}
