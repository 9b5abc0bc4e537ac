//! Addition.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::profile::timed;
use crate::ops::kernel::elementwise::update;
use crate::ops::kernel::scratch;
use crate::ops::quantization::Operand;
use crate::ops::quantization::reading::{self, QuantizingKernels, Reading, Rows};

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// The sum of two quantized operands of one shape. Both are quantized as they are read, where their
/// quantization looks at one number at a time.
///
/// # Panics
/// If the shapes differ.
pub fn add<const D: usize>(left: Operand<D>, right: Operand<D>) -> Tensor<D> {
    let (left, left_reading) = left.into_reading();
    let (right, right_reading) = right.into_reading();
    assert_eq!(left.dims(), right.dims(), "the shapes to add differ");
    Tensor::from_dispatch(<Dispatch as AddOp>::sum(
        left.into_dispatch(),
        left_reading,
        right.into_dispatch(),
        right_reading,
    ))
}

/// The operator behind [`add()`], routed to the backend of its inputs.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait AddOp: Backend {
    /// The sum of two tensors of one shape, read as said.
    fn sum(
        left: FloatTensor<Self>,
        #[extension_type] left_reading: Reading<Self>,
        right: FloatTensor<Self>,
        #[extension_type] right_reading: Reading<Self>,
    ) -> FloatTensor<Self>;
}

impl AddOp for Flex {
    fn sum(
        left: FlexTensor,
        left_reading: Reading<Self>,
        right: FlexTensor,
        right_reading: Reading<Self>,
    ) -> FlexTensor {
        <Self as AddKernel>::forward([left, right], [&left_reading, &right_reading])
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AddOp for burn::backend::Cube {
    fn sum(
        left: FloatTensor<Self>,
        left_reading: Reading<Self>,
        right: FloatTensor<Self>,
        right_reading: Reading<Self>,
    ) -> FloatTensor<Self> {
        <Self as AddKernel>::forward([left, right], [&left_reading, &right_reading])
    }
}

impl<B: AddKernel, C: CheckpointStrategy> AddOp for Autodiff<B, C> {
    fn sum(
        left: FloatTensor<Self>,
        left_reading: Reading<Self>,
        right: FloatTensor<Self>,
        right_reading: Reading<Self>,
    ) -> FloatTensor<Self> {
        let (left, left_node) = left.into_parts();
        let (right, right_node) = right.into_parts();
        // An absent threshold is a constant that nothing reads.
        let absent = || Self::from_inner(left.clone()).into_parts().1;
        let (left_reading, left_threshold) = reading::split(left_reading);
        let (right_reading, right_threshold) = reading::split(right_reading);
        let thresholds = [left_threshold, right_threshold].map(|t| t.unwrap_or_else(absent));
        let [left_threshold, right_threshold] = thresholds;
        // What is read as it is need not be kept.
        let kept = |x: &FloatTensor<B>, reading: &Reading<B>| {
            (!matches!(reading, Reading::Float)).then(|| x.clone())
        };
        let saved = [kept(&left, &left_reading), kept(&right, &right_reading)];
        let output = <B as AddKernel>::forward([left, right], [&left_reading, &right_reading]);
        match AddBackward
            .prepare::<C>([left_node, right_node, left_threshold, right_threshold])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let [left, right] = saved;
                prep.finish([(left, left_reading), (right, right_reading)], output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// The backward step; its state is each operand.
#[derive(Debug)]
struct AddBackward;

impl<B: AddKernel> Backward<B, 4> for AddBackward {
    type State = [Read<B>; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let made = <B as AddKernel>::backward(ops.state.clone(), grad);
        for (side, (grad, threshold)) in made.into_iter().enumerate() {
            B::add(grads, &ops, side, grad);
            if let Some(threshold) = threshold {
                B::add(grads, &ops, 2 + side, threshold);
            }
        }
    }
}

/// An operand, if its value matters for its gradient, and how it was read.
type Read<B> = (Option<FloatTensor<B>>, Reading<B>);

/// The gradients of an operand and, where it has one, of its threshold.
type ToOperand<B> = (FloatTensor<B>, Option<FloatTensor<B>>);

/// The passes of addition on one backend. The bodies given here are composed of tensor primitives
/// and serve every backend; Flex has kernels.
pub(crate) trait AddKernel: QuantizingKernels + Accumulate {
    /// The sum of the operands, each read as said.
    fn forward(
        operands: [FloatTensor<Self>; 2],
        readings: [&Reading<Self>; 2],
    ) -> FloatTensor<Self> {
        let [left, right] = operands;
        Self::float_add(
            reading::round::<Self>(readings[0], left),
            reading::round::<Self>(readings[1], right),
        )
    }

    /// The gradients of both operands, given that of the sum.
    fn backward(operands: [Read<Self>; 2], grad: FloatTensor<Self>) -> [ToOperand<Self>; 2] {
        operands.map(|(x, reading)| match x {
            Some(x) => reading::round_backward::<Self>(&reading, x, grad.clone()),
            None => (grad.clone(), None),
        })
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl AddKernel for burn::backend::Cube {}

impl AddKernel for Flex {
    fn forward([left, right]: [FlexTensor; 2], readings: [&Reading<Self>; 2]) -> FlexTensor {
        let rows = readings.map(Rows::of);
        if rows.iter().all(Rows::is_float) {
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
                    rows[0].round(left, output);
                    rows[1].round(right, &mut rounded);
                    update(&rounded, output, |right, left| left + right);
                });
        });
        flex::to_dtype(flex::from_buffer(output, left.layout().clone()), dtype)
    }

    fn backward([left, right]: [Read<Self>; 2], grad: FlexTensor) -> [ToOperand<Self>; 2] {
        match (Rounded::of(&left), Rounded::of(&right)) {
            (None, None) => [(grad.clone(), None), (grad, None)],
            (Some(left), None) => [left.backward(grad.clone()), (grad, None)],
            // The second of two passes may have the memory of the sum's gradient.
            (None, Some(right)) => [(grad.clone(), None), right.backward(grad)],
            (Some(left), Some(right)) => match Rounded::backward_together([&left, &right], grad) {
                Ok(made) => made,
                Err(grad) => [left.backward(grad.clone()), right.backward(grad)],
            },
        }
    }
}

/// An operand whose rounding changes its gradient.
struct Rounded {
    x: FlexTensor,
    rows: Rows,
    has_threshold: bool,
}

impl Rounded {
    fn of((x, reading): &Read<Flex>) -> Option<Self> {
        let rows = Rows::of(reading);
        let x = x.as_ref().filter(|_| !rows.passes_gradients())?;
        Some(Self {
            x: flex::to_f32(x.clone()),
            rows,
            has_threshold: matches!(reading, Reading::Threshold { .. }),
        })
    }

    /// The threshold's gradient, from what each part adds to it.
    fn threshold(&self, parts: impl Iterator<Item = f64>) -> Option<FlexTensor> {
        self.has_threshold
            .then(|| flex::from_slice(&[parts.sum::<f64>() as f32]))
    }

    /// The gradients, given that of the sum.
    fn backward(&self, grad: FlexTensor) -> ToOperand<Flex> {
        let dtype = grad.dtype();
        let (x, mut grad) = flex::aligned(self.x.clone(), flex::to_f32(grad));
        let x = x.storage::<f32>().par_chunks(CHUNK);
        let (output, sums): (_, Vec<f64>) = timed("add backward", || {
            if let Some(data) = grad.try_storage_mut::<f32>() {
                let parts = data.par_chunks_mut(CHUNK).zip(x);
                let sums = parts.map(|(grad, x)| self.rows.round_backward(x, grad));
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
                    self.rows.round_backward(x, output)
                })
                .collect();
            (flex::from_buffer(output, grad.layout().clone()), sums)
        });
        let threshold = self.threshold(sums.into_iter());
        (flex::to_dtype(output, dtype), threshold)
    }

    /// The gradients of both operands in one pass, where they and the sum's gradient have their
    /// elements in one order; otherwise that gradient comes back.
    fn backward_together(
        [left, right]: [&Self; 2],
        mut grad: FlexTensor,
    ) -> Result<[ToOperand<Flex>; 2], FlexTensor> {
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
                    left.rows.round_backward(&of_left[part.clone()], to_left),
                    right.rows.round_backward(&of_right[part], to_right),
                ]
            });
            chunks.collect::<Vec<[f64; 2]>>()
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
                left.threshold(sums.iter().map(|sums| sums[0])),
            ),
            (to_right, right.threshold(sums.iter().map(|sums| sums[1]))),
        ])
    }
}
