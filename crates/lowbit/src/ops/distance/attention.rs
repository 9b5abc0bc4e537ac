//! The distance of attention maps.

use burn::backend::TensorMetadata;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};

/// `mean over n of ||a[n] / ||a[n]|| - b[n] / ||b[n]||||`, the Euclidean distance of normed attention
/// maps: a term of Zagoruyko and Komodakis's equation 2 (arXiv 1612.03928) with `p = 2`, where
/// `a[n]` is the map of image `n` of `x`, `a[n, h, w] = sum over c of x[n, c, h, w]^2`, and `b[n]`
/// that of the teacher. A map of zeros stays one.
///
/// The gradient is that of the formula, and zero where the maps are the same or `x` is zero; the
/// teacher gets none. Sums are in `f64`, in the order of channels and pixels.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`
/// - `teacher`: the same, but for the channels
/// - result: `[1]`
///
/// # Panics
/// If the shapes differ in more than channels.
pub fn attention_distance(x: Tensor<4>, teacher: Tensor<4>) -> Tensor<1> {
    let map = |[batch, _, height, width]: [usize; 4]| [batch, height, width];
    let message = "a map of the teacher's is expected for each map";
    assert_eq!(map(x.dims()), map(teacher.dims()), "{message}");
    operator::run(
        AttentionDistance,
        vec![x.into_dispatch(), teacher.into_dispatch()],
    )
}

/// The operator behind [`attention_distance()`].
#[derive(Debug, Clone)]
struct AttentionDistance;

/// What divides no number by zero.
const LEAST: f64 = 1e-30;

/// Maps composed of tensor primitives: normed `[batch, pixels]`, and the norms `[batch, 1]`.
fn maps<B: Kernels>(x: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = x.shape();
    let (batch, pixels) = (shape[0], shape[2] * shape[3]);
    let sums = B::float_sum_dim(B::float_mul(x.clone(), x), 1);
    let map = B::float_reshape(sums, Shape::new([batch, pixels]));
    let norms = norms::<B>(map.clone());
    let wide = B::float_expand(norms.clone(), Shape::new([batch, pixels]));
    (B::float_div(map, wide), norms)
}

/// The norm of each row `[batch, 1]`, at least [`LEAST`].
fn norms<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let squares = B::float_sum_dim(B::float_mul(x.clone(), x), 1);
    B::float_clamp_min(B::float_sqrt(squares), LEAST.into())
}

impl Operator<1> for AttentionDistance {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let [x, teacher] = inputs.tensors();
        let difference = B::float_sub(maps::<B>(x).0, maps::<B>(teacher).0);
        vec![B::float_mean(norms::<B>(difference))]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 1>) -> Gradients<B, 1> {
        let [x, teacher] = array(incoming.inputs);
        let shape = x.shape();
        let [batch, _, height, width] = [shape[0], shape[1], shape[2], shape[3]];
        let flat = Shape::new([batch, height * width]);
        let wide = |x| B::float_expand(x, flat.clone());
        let (map, norm) = maps::<B>(x.clone());
        let difference = B::float_sub(map.clone(), maps::<B>(teacher).0);
        let distance = norms::<B>(difference.clone());
        let direction = B::float_div(difference, wide(distance));
        let along = B::float_sum_dim(B::float_mul(map.clone(), direction.clone()), 1);
        let across = B::float_sub(direction, B::float_mul(map, wide(along)));
        let of_map = B::float_div(across, wide(norm));
        let of_map = B::float_reshape(of_map, Shape::new([batch, 1, height, width]));
        let grad = B::float_reshape(incoming.grad, Shape::new([1, 1, 1, 1]));
        let factor = B::float_expand(grad, shape.clone());
        let gradient = B::float_mul(B::float_expand(of_map, shape), x);
        [Some(B::float_mul_scalar(
            B::float_mul(gradient, factor),
            (2.0 / batch as f64).into(),
        ))]
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [x, teacher] = inputs.tensors();
        let dtype = x.dtype();
        let (x, teacher) = (Images::new(x), Images::new(teacher));
        let distances = (0..x.batch).map(|n| {
            let (a, b) = (x.map(n).0, teacher.map(n).0);
            norm(a.iter().zip(&b).map(|(a, b)| a - b))
        });
        let mean = distances.sum::<f64>() / x.batch as f64;
        vec![flex::to_dtype(flex::from_slice(&[mean as f32]), dtype)]
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 1>) -> Gradients<Flex, 1> {
        let [x, teacher] = array(incoming.inputs);
        let dtype = x.dtype();
        let (x, teacher) = (Images::new(x), Images::new(teacher));
        let share = 2.0 * f64::from(flex::to_vec(&incoming.grad)[0]) / x.batch as f64;
        let mut output = Buffer::new(x.tensor.layout().num_elements());
        let image = (x.channels * x.pixels).max(1);
        for (n, output) in output.chunks_exact_mut(image).enumerate() {
            let ((a, norm_of_x), (b, _)) = (x.map(n), teacher.map(n));
            let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            let scale = norm(difference.iter().copied()) * norm_of_x;
            let along: f64 = a.iter().zip(&difference).map(|(a, d)| a * d).sum();
            let of_pixel = |p: usize| match scale > 0.0 {
                true => (difference[p] - a[p] * along) / scale * share,
                false => 0.0,
            };
            let of_map: Vec<f64> = (0..x.pixels).map(of_pixel).collect();
            for (i, output) in output.iter_mut().enumerate() {
                *output = (f64::from(x.image(n)[i]) * of_map[i % x.pixels]) as f32;
            }
        }
        let layout = x.tensor.layout().clone();
        [Some(flex::to_dtype(
            flex::from_buffer(output, layout),
            dtype,
        ))]
    }
}

/// Images of a tensor in `f32`, row-major.
struct Images {
    tensor: FlexTensor,
    batch: usize,
    channels: usize,
    pixels: usize,
}

impl Images {
    fn new(x: FlexTensor) -> Self {
        let tensor = flex::contiguous(flex::to_f32(x));
        let dims = tensor.layout().shape().as_slice();
        let [batch, channels, pixels] = [dims[0], dims[1], dims[2] * dims[3]];
        Self {
            tensor,
            batch,
            channels,
            pixels,
        }
    }

    fn image(&self, n: usize) -> &[f32] {
        let size = self.channels * self.pixels;
        &self.tensor.storage::<f32>()[n * size..][..size]
    }

    /// The normed map of image `n`, and its norm before.
    fn map(&self, n: usize) -> (Vec<f64>, f64) {
        let mut map = vec![0.0; self.pixels];
        for channel in self.image(n).chunks_exact(self.pixels.max(1)) {
            for (sum, &x) in map.iter_mut().zip(channel) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        let norm = norm(map.iter().copied());
        if norm > 0.0 {
            map.iter_mut().for_each(|x| *x /= norm);
        }
        (map, norm)
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    /// One image of two channels and two pixels: x = ((1, 2), (sqrt 2, 0)), so that the map is
    /// (1 + 2, 4 + 0) = (3, 4), normed (0.6, 0.8). The teacher's has one channel (0, 3), a map (0, 9),
    /// normed (0, 1). The distance is sqrt(0.36 + 0.04).
    #[test]
    fn a_distance_by_hand() {
        let device = Device::flex();
        let x = [[[[1.0, 2.0]], [[2f32.sqrt(), 0.0]]]];
        let x = Tensor::<4>::from_floats(x, &device);
        let teacher = Tensor::<4>::from_floats([[[[0.0, 3.0]]]], &device);
        let distance = attention_distance(x, teacher).into_scalar::<f32>();
        assert!((distance - 0.4f32.sqrt()).abs() < 1e-6, "{distance}");
    }

    fn wave(f: f32, shape: [usize; 4]) -> TensorData {
        let values = (0..shape.iter().product::<usize>()).map(|i| (i as f32 * f).sin() + 0.1);
        TensorData::new(values.collect::<Vec<f32>>(), shape)
    }

    /// The formula in `f64`.
    fn defined(x: &[f64], shape: [usize; 4], teacher: &[f64], channels: usize) -> f64 {
        let pixels = shape[2] * shape[3];
        let map = |image: &[f64]| -> Vec<f64> {
            let sum = |p: usize| image.iter().skip(p).step_by(pixels).map(|x| x * x).sum();
            let map: Vec<f64> = (0..pixels).map(sum).collect();
            let norm = map.iter().map(|x| x * x).sum::<f64>().sqrt();
            map.iter().map(|x| x / norm).collect()
        };
        let images = x.chunks(shape[1] * pixels);
        let distances = images
            .zip(teacher.chunks(channels * pixels))
            .map(|(x, teacher)| {
                let (a, b) = (map(x), map(teacher));
                let squares = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b));
                squares.sum::<f64>().sqrt()
            });
        distances.sum::<f64>() / shape[0] as f64
    }

    #[test]
    fn it_is_the_formula_and_its_derivative() {
        let (shape, other) = ([2, 3, 2, 4], [2, 5, 2, 4]);
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::from_data(wave(0.7, shape), &device).require_grad();
        let teacher = Tensor::<4>::from_data(wave(1.3, other), &Device::flex());
        let loss = attention_distance(x.clone(), teacher);
        let grads = loss.backward();
        let wide = |data: TensorData| -> Vec<f64> { data.iter::<f32>().map(f64::from).collect() };
        let (values, teacher) = (wide(wave(0.7, shape)), wide(wave(1.3, other)));
        let expected = defined(&values, shape, &teacher, 5);
        assert!((f64::from(loss.into_scalar::<f32>()) - expected).abs() < 1e-7);
        let gradient = wide(x.grad(&grads).unwrap().into_data());
        for (i, gradient) in gradient.iter().enumerate() {
            let at = |step: f64| {
                let mut values = values.clone();
                values[i] += step;
                defined(&values, shape, &teacher, 5)
            };
            let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
            assert!((gradient - expected).abs() < 1e-7, "{gradient} {expected}");
        }
    }

    #[test]
    fn the_passes_agree_with_tensor_primitives() {
        let both = || {
            let shapes = [[3, 4, 5, 2], [3, 2, 5, 2]];
            vec![
                FlexTensor::from_data(wave(0.3, shapes[0])),
                FlexTensor::from_data(wave(0.9, shapes[1])),
            ]
        };
        let assert_close = |a: &FlexTensor, b: &FlexTensor| {
            for (a, b) in flex::to_vec(a).iter().zip(flex::to_vec(b)) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        };
        let [kernel] = array(AttentionDistance.flex_forward(Inputs::new(both())));
        let [plain] = array(AttentionDistance.forward::<Flex>(Inputs::new(both())));
        assert_close(&kernel, &plain);
        let incoming = || Incoming::new(both(), flex::from_slice(&[3.0]));
        let [kernel] = AttentionDistance
            .flex_backward(incoming())
            .map(Option::unwrap);
        let [plain] = AttentionDistance
            .backward::<Flex>(incoming())
            .map(Option::unwrap);
        assert_close(&kernel, &plain);
    }

    #[test]
    fn equal_maps_and_maps_of_zeros_have_no_gradient() {
        let device = Device::flex().autodiff();
        for (x, teacher) in [
            (wave(0.7, [1, 2, 2, 2]), 0.7),
            (TensorData::zeros::<f32, _>([1, 2, 2, 2]), 0.3),
        ] {
            let x = Tensor::<4>::from_data(x, &device).require_grad();
            let teacher = Tensor::<4>::from_data(wave(teacher, [1, 2, 2, 2]), &device);
            let grads = attention_distance(x.clone(), teacher).backward();
            let gradient = x.grad(&grads).unwrap().into_data();
            assert!(gradient.iter::<f32>().all(|g| g == 0.0));
        }
    }
}
