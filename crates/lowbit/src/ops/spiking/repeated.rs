//! What does not change over time, in every step.

use burn::backend::flex::{Flex, FlexTensor, Layout};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Tensor};
use rayon::prelude::*;

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator};
use crate::ops::backend::profile::timed;

/// Each row `steps` times, one after the other. A row's gradient is the sum of those of its steps, the
/// first one first.
///
/// # Shapes
/// - `x`: `[batch, ...]`
/// - result: `[batch * steps, ...]`, stored as `x` is where its rows lie one after the other
pub(crate) fn repeated<const D: usize>(x: Tensor<D>, steps: usize) -> Tensor<D> {
    operator::run(Repeated { steps }, vec![x.into_dispatch()])
}

/// The operator behind [`repeated`].
#[derive(Debug, Clone, Copy)]
struct Repeated {
    steps: usize,
}

impl Repeated {
    /// The shape of the result, and how many numbers a row of `x` has.
    fn shape(self, shape: &Shape) -> (Shape, usize) {
        with_rows(shape, |rows| rows * self.steps)
    }

    /// The shape of `x`, and how many numbers a row of it has, by that of the result.
    fn shape_before(self, shape: &Shape) -> (Shape, usize) {
        with_rows(shape, |rows| rows / self.steps)
    }
}

impl Operator<1> for Repeated {
    // The gradient's shape says all.
    fn save_inputs<B: Backend>(&self, _inputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        Vec::new()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        let rows = x.shape().as_slice()[0];
        let (shape, row) = self.shape(&x.shape());
        let x = B::float_reshape(x, Shape::new([rows, 1, row]));
        let x = B::float_expand(x, Shape::new([rows, self.steps, row]));
        vec![B::float_reshape(x, shape)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let (shape, row) = self.shape_before(&incoming.grad.shape());
        let rows = shape.as_slice()[0];
        let grad = B::float_reshape(incoming.grad, Shape::new([rows, self.steps, row]));
        let mut steps = (0..self.steps).map(|step| {
            let slice = [(0..rows).into(), (step..step + 1).into(), (0..row).into()];
            B::float_slice(grad.clone(), &slice)
        });
        let sum = steps.next().map(|first| steps.fold(first, B::float_add));
        [sum.map(|sum| B::float_reshape(sum, shape))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| {
            let x = flex::row_after_row(x);
            let (shape, row) = self.shape(x.layout().shape());
            let mut strides = x.layout().strides().to_vec();
            strides[0] = row as isize;
            let layout = Layout::new(shape, strides, 0);
            let mut output = Buffer::new(layout.num_elements());
            timed("repeat", || {
                let rows = x.storage::<f32>().par_chunks(row.max(1));
                output
                    .par_chunks_mut((self.steps * row).max(1))
                    .zip(rows)
                    .for_each(|(output, x)| {
                        for step in output.chunks_exact_mut(row) {
                            step.copy_from_slice(x);
                        }
                    });
            });
            flex::from_buffer(output, layout)
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let steps = self.steps;
        let (shape, row) = self.shape_before(incoming.grad.layout().shape());
        let made = flex::in_f32(incoming.grad, |grad| {
            let grad = flex::row_after_row(grad);
            let layout = Layout::new(shape, grad.layout().strides().to_vec(), 0);
            let mut output = Buffer::new(layout.num_elements());
            timed("repeat backward", || {
                let steps = grad.storage::<f32>().par_chunks((steps * row).max(1));
                output
                    .par_chunks_mut(row.max(1))
                    .zip(steps)
                    .for_each(|(sum, steps)| add_up(steps, sum));
            });
            flex::from_buffer(output, layout)
        });
        [Some(made)]
    }
}

/// A shape with other rows, and how many numbers a row has.
fn with_rows(shape: &Shape, rows: impl FnOnce(usize) -> usize) -> (Shape, usize) {
    let mut dims = shape.as_slice().to_vec();
    let row = dims[1..].iter().product();
    dims[0] = rows(dims[0]);
    (Shape::from(dims), row)
}

/// The sum of rows, the first one first.
fn add_up(rows: &[f32], sum: &mut [f32]) {
    let (first, rest) = rows.split_at(sum.len());
    sum.copy_from_slice(first);
    for row in rest.chunks_exact(sum.len()) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    /// What Burn's own `repeat_dim` makes, and its gradient, to the bit: of images row-major, and with
    /// their channels last.
    #[test]
    fn rows_and_their_sums_are_those_of_a_repeated_dimension() {
        let device = Device::flex().autodiff();
        let random =
            |dims: [usize; 4]| Tensor::<4>::random(dims, Distribution::Uniform(-1.0, 1.0), &device);
        for steps in [1, 2, 5, 16] {
            for is_last in [false, true] {
                let rows = if steps == 5 { 1 } else { 3 };
                let (x, g) = (random([rows, 5, 7, 4]), random([rows * steps, 5, 7, 4]));
                let stored = |x: Tensor<4>| match is_last {
                    true => x.permute([0, 2, 3, 1]),
                    false => x,
                };
                let of = |repeat: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                    let x = x.clone().require_grad();
                    let y = repeat(stored(x.clone()));
                    let grads = (y.clone() * stored(g.clone())).sum().backward();
                    let dx = x.grad(&grads).expect("a gradient");
                    [y.into_data(), dx.into_data()]
                };
                let ours = of(&|x| repeated(x, steps));
                let burns = of(&|x| {
                    let mut dims = x.dims();
                    let rows: Tensor<3> = x.reshape([dims[0] as i32, 1, -1]);
                    dims[0] *= steps;
                    rows.repeat_dim(1, steps).reshape(dims)
                });
                assert_eq!(ours, burns, "{steps} steps, channels last: {is_last}");
            }
        }
    }
}
