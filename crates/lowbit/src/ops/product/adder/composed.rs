//! The adder's passes, composed of tensor primitives: one step a kernel element.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice};

use crate::ops::product::adder::{AdderOptions, Windows};

impl Windows {
    fn elements(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [height, width] = self.kernel;
        (0..height).flat_map(move |row| (0..width).map(move |column| [row, column]))
    }

    /// The part of the input that a kernel element sees.
    fn seen_by(&self, element: [usize; 2]) -> [Slice; 4] {
        let along = |axis: usize| {
            let start = self.offset(axis, element[axis]);
            let end = start + (self.output[axis] - 1) * self.stride[axis] + 1;
            Slice::new(
                start as isize,
                Some(end as isize),
                self.stride[axis] as isize,
            )
        };
        let all = Slice::new(0, None, 1);
        [all, all, along(0), along(1)]
    }

    /// `[batch, groups, channels out, channels in, places]`, all of one kernel element.
    fn pairs(&self) -> Shape {
        let [group_in, group_out] = self.channels;
        let places = self.output[0] * self.output[1];
        Shape::new([self.batch, self.groups, group_out, group_in, places])
    }

    /// `x - w` of all pairs that meet at a kernel element.
    fn differences<B: Backend>(
        &self,
        input: &FloatTensor<B>,
        weight: &FloatTensor<B>,
        element: [usize; 2],
    ) -> FloatTensor<B> {
        let [group_in, group_out] = self.channels;
        let places = self.output[0] * self.output[1];
        let seen = B::float_slice(input.clone(), &self.seen_by(element));
        let seen = B::float_reshape(
            seen,
            Shape::new([self.batch, self.groups, 1, group_in, places]),
        );
        let at = |i: usize| Slice::new(i as isize, Some(i as isize + 1), 1);
        let all = Slice::new(0, None, 1);
        let weight = B::float_slice(weight.clone(), &[all, all, at(element[0]), at(element[1])]);
        let weight = B::float_reshape(weight, Shape::new([1, self.groups, group_out, group_in, 1]));
        B::float_sub(
            B::float_expand(seen, self.pairs()),
            B::float_expand(weight, self.pairs()),
        )
    }
}

pub(crate) fn forward<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    options: &AdderOptions,
) -> FloatTensor<B> {
    let windows = Windows::of::<B>(&input, &weight, options);
    let distances = windows
        .elements()
        .map(|element| {
            let distance = B::float_abs(windows.differences::<B>(&input, &weight, element));
            B::float_sum_dim(distance, 3)
        })
        .reduce(B::float_add)
        .expect("a kernel has an element");
    let [_, group_out] = windows.channels;
    let shape = [windows.batch, windows.groups * group_out]
        .into_iter()
        .chain(windows.output);
    B::float_reshape(
        B::float_neg(distances),
        Shape::from(shape.collect::<Vec<_>>()),
    )
}

pub(crate) fn input_gradient<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
    options: &AdderOptions,
) -> FloatTensor<B> {
    let windows = Windows::of::<B>(&input, &weight, options);
    let [group_in, group_out] = windows.channels;
    let [height, width] = windows.output;
    let grad = B::float_reshape(
        grad,
        Shape::new([windows.batch, windows.groups, group_out, 1, height * width]),
    );
    let grad = B::float_expand(grad, windows.pairs());
    let zeros = B::float_zeros(input.shape(), &input.device(), input.dtype().into());
    windows.elements().fold(zeros, |sum, element| {
        let slope = B::float_clamp(
            B::float_neg(windows.differences::<B>(&input, &weight, element)),
            (-1.0f32).into(),
            1.0f32.into(),
        );
        let part = B::float_sum_dim(B::float_mul(slope, grad.clone()), 2);
        let part = B::float_reshape(
            part,
            Shape::new([windows.batch, windows.groups * group_in, height, width]),
        );
        let seen = windows.seen_by(element);
        let before = B::float_slice(sum.clone(), &seen);
        B::float_slice_assign(sum, &seen, B::float_add(before, part))
    })
}
