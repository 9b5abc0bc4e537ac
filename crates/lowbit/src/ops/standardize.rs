//! A batch's statistics, and numbers standardized by means and deviations that are given.
//!
//! Together with the quantizers between them, the steps of a batch normalization that rounds its
//! statistics.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Slice, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::backend::profile::timed;
use lowbit_kernels::{norm, standardize as kernel};

/// Mean and (biased) variance of each channel, with gradients.
///
/// # Shapes
/// - `x`: `[batch, channels, ...]`
/// - results: `[channels]`
///
/// # Panics
/// If `x` has one dimension.
pub fn channel_statistics<const D: usize>(x: Tensor<D>) -> [Tensor<1>; 2] {
    assert!(D >= 2, "statistics need channels, in dimension 1");
    let both: Tensor<2> = operator::run(ChannelStatistics, vec![x.into_dispatch()]);
    [0, 1].map(|i| both.clone().narrow(0, i, 1).squeeze_dim(0))
}

/// `(x - mean) / deviation`, by channel, with gradients to all three.
///
/// # Shapes
/// - `x` and the result: `[batch, channels, ...]`
/// - `mean`, `deviation`: `[channels]`
///
/// # Panics
/// If the shapes are others.
pub fn standardize<const D: usize>(
    x: Tensor<D>,
    mean: Tensor<1>,
    deviation: Tensor<1>,
) -> Tensor<D> {
    assert!(D >= 2, "standardizing needs channels, in dimension 1");
    for (name, given) in [("mean", &mean), ("deviation", &deviation)] {
        let (channels, [given]) = (x.dims()[1], given.dims());
        assert_eq!(
            given, channels,
            "{name} has {given} channels, expected {channels}"
        );
    }
    let inputs = vec![
        x.into_dispatch(),
        mean.into_dispatch(),
        deviation.into_dispatch(),
    ];
    operator::run(Standardize, inputs)
}

/// Numbers of `[channels]` along dimension 1 of so many.
fn along<B: Backend>(given: FloatTensor<B>, dims: usize) -> FloatTensor<B> {
    let mut shape = vec![1; dims];
    shape[1] = given.shape()[0];
    reshaped::<B>(given, shape)
}

fn reshaped<B: Backend>(x: FloatTensor<B>, dims: Vec<usize>) -> FloatTensor<B> {
    B::float_reshape(x, Shape::from(dims))
}

/// The sums of `[batch, channels, ...]` over all dimensions but the channels'.
fn summed<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let channels = x.shape()[1];
    let rows = B::float_swap_dims(x, 0, 1);
    let rest = rows.shape().num_elements() / channels.max(1);
    let rows = B::float_reshape(rows, Shape::new([channels, rest]));
    B::float_reshape(B::float_sum_dim(rows, 1), Shape::new([channels]))
}

fn row<B: Backend>(both: FloatTensor<B>, i: usize) -> FloatTensor<B> {
    let channels = both.shape()[1];
    let at = [Slice::from(i..i + 1), Slice::from(0..channels)];
    B::float_reshape(B::float_slice(both, &at), Shape::new([channels]))
}

/// The operator behind [`channel_statistics()`], which makes means and variances one tensor of two rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChannelStatistics;

impl Operator<1> for ChannelStatistics {
    const ADDS_UP: bool = true;

    fn save_outputs<B: Backend>(&self, outputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        outputs.to_vec()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x] = inputs.tensors();
        let (dims, channels) = (x.shape().num_dims(), x.shape()[1]);
        let pixels = (x.shape().num_elements() / channels.max(1)) as f64;
        let over = |sum| B::float_div_scalar(sum, pixels.into());
        let mean = over(summed::<B>(x.clone()));
        let apart = B::float_sub(x, along::<B>(mean.clone(), dims));
        let variance = over(summed::<B>(B::float_mul(apart.clone(), apart)));
        let rows = [mean, variance].map(|row| B::float_reshape(row, Shape::new([1, channels])));
        vec![B::float_cat(rows.into(), 0)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [x] = array(incoming.inputs);
        let [made] = array(incoming.outputs);
        let (dims, channels) = (x.shape().num_dims(), x.shape()[1]);
        let pixels = (x.shape().num_elements() / channels.max(1)) as f64;
        let rows = [0, 1].map(|i| along::<B>(row::<B>(incoming.grad.clone(), i), dims));
        let [to_mean, to_variance] = rows;
        let apart = B::float_sub(x, along::<B>(row::<B>(made, 0), dims));
        let through = B::float_mul(apart, B::float_mul_scalar(to_variance, 2.0.into()));
        let to_x = B::float_div_scalar(B::float_add(through, to_mean), pixels.into());
        [Some(match incoming.gradient_so_far {
            Some(so_far) => B::float_add(to_x, so_far),
            None => to_x,
        })]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x] = inputs.tensors();
        let dtype = x.dtype();
        let x = flex::channels_last(flex::to_f32(x));
        let channels = x.layout().shape()[1];
        let made = timed("batch_norm statistics", || {
            norm::statistics(x.storage(), channels)
        });
        let rows = [made.mean, made.variance].concat();
        let rows = reshaped::<Flex>(flex::from_slice(&rows), vec![2, channels]);
        vec![flex::to_dtype(rows, dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [x] = array(incoming.inputs);
        let [made] = array(incoming.outputs);
        let dtype = x.dtype();
        let so_far = incoming.gradient_so_far;
        let so_far = so_far.map(|so_far| flex::channels_last(flex::to_f32(so_far)));
        let x = flex::channels_last(flex::to_f32(x));
        let channels = x.layout().shape()[1];
        let (made, grad) = (flex::to_vec(&made), flex::to_vec(&incoming.grad));
        let mut output = Buffer::new(x.layout().num_elements());
        timed("batch_norm backward", || {
            let there = so_far.as_ref().map(|so_far| so_far.storage::<f32>());
            let (to_mean, to_variance) = grad.split_at(channels);
            let (x, mean) = (x.storage(), &made[..channels]);
            kernel::through_statistics(x, mean, [to_mean, to_variance], there, &mut output);
        });
        let to_x = flex::from_buffer(output, x.layout().clone());
        [Some(flex::to_dtype(to_x, dtype))]
    }
}

/// The operator behind [`standardize()`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standardize;

impl Operator<3> for Standardize {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x, mean, deviation] = inputs.tensors();
        let dims = x.shape().num_dims();
        let [mean, deviation] = [mean, deviation].map(|given| along::<B>(given, dims));
        vec![B::float_div(B::float_sub(x, mean), deviation)]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 3>) -> Gradients<B, 3> {
        let [x, mean, deviation] = array(incoming.inputs);
        let grad = incoming.grad;
        let dims = x.shape().num_dims();
        let apart = B::float_sub(x, along::<B>(mean, dims));
        let to_x = B::float_div(grad.clone(), along::<B>(deviation.clone(), dims));
        let over = |sum| B::float_neg(B::float_div(sum, deviation.clone()));
        let to_mean = over(summed::<B>(grad.clone()));
        let products = B::float_div(summed::<B>(B::float_mul(grad, apart)), deviation.clone());
        [to_x, to_mean, over(products)].map(Some)
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x, mean, deviation] = inputs.tensors();
        let [mean, deviation] = [mean, deviation].map(|given| flex::to_vec(&given));
        vec![flex::in_f32(x, |x| {
            let x = flex::channels_last(x);
            let mut output = Buffer::new(x.layout().num_elements());
            timed("batch_norm", || {
                kernel::standardize(x.storage(), &mean, &deviation, &mut output);
            });
            flex::from_buffer(output, x.layout().clone())
        })]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 3>) -> Gradients<Flex, 3> {
        let [x, mean, deviation] = array(incoming.inputs);
        let dtype = incoming.grad.dtype();
        let [mean, deviation] = [mean, deviation].map(|given| flex::to_vec(&given));
        let x = flex::channels_last(flex::to_f32(x));
        let grad = flex::channels_last(flex::to_f32(incoming.grad));
        let (to_x, given) = timed("batch_norm backward", || {
            flex::change(grad, |grad| {
                kernel::standardize_backward(x.storage(), grad, &mean, &deviation)
            })
        });
        let [mean, deviation] = [given.mean, given.deviation].map(|g| flex::from_slice(&g));
        [to_x, mean, deviation].map(|made| Some(flex::to_dtype(made, dtype)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    fn assert_near(made: &[f32], expected: &[f32]) {
        assert_eq!(made.len(), expected.len());
        for (a, b) in made.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
        }
    }

    /// The steps of a normalization by kernels, by their composed bodies and by Burn's own operators:
    /// values and gradients of `x`.
    #[test]
    fn kernels_composed_bodies_and_burn_agree() {
        let device = Device::flex();
        let data = Tensor::<4>::random([3, 5, 4, 6], Distribution::Normal(1.0, 2.0), &device);
        let weights = Tensor::<4>::random([3, 5, 4, 6], Distribution::Default, &device);
        let autodiff = device.clone().autodiff();
        let ours = |x: Tensor<4>| {
            let [mean, variance] = channel_statistics(x.clone());
            standardize(x, mean * 0.9, (variance + 0.1).sqrt())
        };
        let burns = |x: Tensor<4>| {
            let rows = x.clone().swap_dims(0, 1).reshape([5, -1]);
            let mean = rows.clone().mean_dim(1);
            let variance = (rows - mean.clone()).square().mean_dim(1);
            let along = |given: Tensor<2>| given.reshape([1, 5, 1, 1]);
            (x - along(mean * 0.9)) / along((variance + 0.1).sqrt())
        };
        let both = |forward: &dyn Fn(Tensor<4>) -> Tensor<4>| {
            let x = Tensor::from_data(data.to_data(), &autodiff).require_grad();
            let y = forward(x.clone());
            let loss = y.clone() * Tensor::from_data(weights.to_data(), &autodiff);
            let grads = loss.square().sum().backward();
            (read(y), read(x.grad(&grads).unwrap()))
        };
        let (y, dx) = both(&ours);
        let (expected, expected_dx) = both(&burns);
        assert_near(&y, &expected);
        assert_near(&dx, &expected_dx);
    }

    #[test]
    fn composed_bodies_are_the_kernels() {
        let flex = |v: &[f32], shape: &[usize]| {
            FlexTensor::from_data(burn::tensor::TensorData::new(v.to_vec(), shape.to_vec()))
        };
        let x: Vec<f32> = (0..48)
            .map(|i| (i as f32 * 0.71).sin() * 2.3 + 0.4)
            .collect();
        let g: Vec<f32> = (0..48).map(|i| (i as f32 * 1.3).cos()).collect();
        let x = || flex(&x, &[2, 3, 4, 2]);
        let given = || [flex(&[0.1, -0.4, 0.6], &[3]), flex(&[1.5, 0.7, 2.0], &[3])];
        let inputs = || {
            let [mean, deviation] = given();
            vec![x(), mean, deviation]
        };
        let near = |a: &FlexTensor, b: &FlexTensor| assert_near(&flex::to_vec(a), &flex::to_vec(b));
        let [kernel] = array(Standardize.flex_forward(Inputs::new(inputs())));
        let [plain] = array(Standardize.forward::<Flex>(Inputs::new(inputs())));
        near(&kernel, &plain);
        let incoming = || Incoming::<Flex, 3>::new(inputs(), flex(&g, &[2, 3, 4, 2]));
        let kernel = Standardize.flex_backward(incoming());
        let plain = Standardize.backward::<Flex>(incoming());
        for (kernel, plain) in kernel.iter().zip(&plain) {
            near(kernel.as_ref().unwrap(), plain.as_ref().unwrap());
        }
        let [kernel] = array(ChannelStatistics.flex_forward(Inputs::new(vec![x()])));
        let [plain] = array(ChannelStatistics.forward::<Flex>(Inputs::new(vec![x()])));
        near(&kernel, &plain);
        let incoming = || Incoming {
            outputs: vec![kernel.clone()],
            gradient_so_far: Some(flex(&g, &[2, 3, 4, 2])),
            ..Incoming::<Flex, 1>::new(vec![x()], flex(&[1.0, -2.0, 0.5, 0.3, 0.2, -0.7], &[2, 3]))
        };
        let [kernel] = ChannelStatistics.flex_backward(incoming());
        let [plain] = ChannelStatistics.backward::<Flex>(incoming());
        near(&kernel.unwrap(), &plain.unwrap());
    }
}
