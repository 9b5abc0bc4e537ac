//! Steps of optimizers: one pass over a parameter, its gradient and its state.

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::power;
use lowbit_kernels::vector::{Kernel, dispatch};

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// The constants of a step of [`sgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub learning_rate: f32,
    /// How much of the velocity is kept.
    pub momentum: f32,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f32,
}

/// A step of gradient descent with momentum: `v = (g + weight_decay w) + momentum v`,
/// `w = w - learning_rate v`. Returns `w` and `v`; `v` starts at zero. Outside of autodiff.
///
/// # Shapes
/// All the same.
pub fn sgd<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
    step: SgdStep,
) -> (Tensor<D>, Tensor<D>) {
    let velocity = velocity.unwrap_or_else(|| gradient.zeros_like());
    let inputs = [parameter, gradient, velocity].map(Tensor::into_dispatch);
    let outputs = operator::run_all(step, Inputs::new(inputs.into()));
    array(outputs).map(Tensor::from_dispatch).into()
}

/// The constants of a step of [`adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub learning_rate: f32,
    /// How much of the mean of the gradient, and of its square, is kept.
    pub betas: [f32; 2],
    /// Added to the root of the mean square.
    pub epsilon: f32,
    /// Factor of the parameter that is added to its gradient.
    pub weight_decay: f32,
    /// Factor of the parameter, times the learning rate, that is taken away from it.
    pub decoupled_decay: f32,
    /// Steps made, this one included.
    pub time: usize,
}

/// A step of Adam (Kingma, Ba, arXiv 1412.6980): with `g' = g + weight_decay w`,
/// `m = b1 m + (1 - b1) g'`, `s = b2 s + (1 - b2) g'^2`,
/// `w = (1 - learning_rate decoupled_decay) w - learning_rate (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t))
/// + epsilon)`. Returns `w` and `[m, s]`, which start at zero. Outside of autodiff.
///
/// # Shapes
/// All the same.
pub fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    step: AdamStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let [mean, square] = moments.unwrap_or_else(|| [gradient.zeros_like(), gradient.zeros_like()]);
    let inputs = [parameter, gradient, mean, square].map(Tensor::into_dispatch);
    let outputs = operator::run_all(step, Inputs::new(inputs.into()));
    let [parameter, mean, square] = array(outputs).map(Tensor::from_dispatch);
    (parameter, [mean, square])
}

impl AdamStep {
    /// What the mean is multiplied with and what is added to the root of the mean square, so that
    /// both are freed of their start at zero.
    fn corrections(&self) -> (f32, f32) {
        let [mean, square] = self.betas.map(|beta| 1.0 - power(beta, self.time));
        let root = square.sqrt();
        (root / mean, self.epsilon * root)
    }
}

/// [`sgd()`] composed of tensor primitives.
fn composed_sgd<B: Backend>(
    [parameter, gradient, velocity]: [FloatTensor<B>; 3],
    step: SgdStep,
) -> [FloatTensor<B>; 2] {
    let decay = B::float_mul_scalar(parameter.clone(), step.weight_decay.into());
    let gradient = B::float_add(decay, gradient);
    let kept = B::float_mul_scalar(velocity, step.momentum.into());
    let velocity = B::float_add(gradient, kept);
    let change = B::float_mul_scalar(velocity.clone(), step.learning_rate.into());
    [B::float_sub(parameter, change), velocity]
}

/// [`adam()`] composed of tensor primitives.
fn composed_adam<B: Backend>(
    [parameter, gradient, mean, square]: [FloatTensor<B>; 4],
    step: AdamStep,
) -> [FloatTensor<B>; 3] {
    let [b1, b2] = step.betas;
    let blend = |old, new, beta: f32| {
        B::float_add(
            B::float_mul_scalar(old, beta.into()),
            B::float_mul_scalar(new, (1.0 - beta).into()),
        )
    };
    let decay = B::float_mul_scalar(parameter.clone(), step.weight_decay.into());
    let gradient = B::float_add(decay, gradient);
    let mean = blend(mean, gradient.clone(), b1);
    let square = blend(square, B::float_mul(gradient.clone(), gradient), b2);
    let (factor, epsilon) = step.corrections();
    let root = B::float_add_scalar(B::float_sqrt(square.clone()), epsilon.into());
    let change = B::float_div(B::float_mul_scalar(mean.clone(), factor.into()), root);
    let keep = 1.0 - step.learning_rate * step.decoupled_decay;
    let parameter = B::float_sub(
        B::float_mul_scalar(parameter, keep.into()),
        B::float_mul_scalar(change, step.learning_rate.into()),
    );
    [parameter, mean, square]
}

/// Runs `f` on the storages of the first `N` tensors, which it changes, and of the last, in parts
/// and on all threads.
fn update<const N: usize>(
    changed: [FlexTensor; N],
    gradient: FlexTensor,
    f: impl Fn([&mut [f32]; N], &[f32]) + Sync,
) -> [FlexTensor; N] {
    let dtypes = changed.each_ref().map(FlexTensor::dtype);
    let gradient = flex::contiguous(flex::to_f32(gradient));
    let mut changed = changed.map(|t| flex::contiguous(flex::to_f32(t)));
    let mut parts: Vec<_> = changed
        .iter_mut()
        .map(|t| t.storage_mut::<f32>().chunks_mut(CHUNK))
        .collect();
    let chunks: Vec<_> = gradient
        .storage::<f32>()
        .chunks(CHUNK)
        .map(|gradient| {
            let part = |i: usize| parts[i].next().expect("all are as long");
            // Each comes from storage of its own.
            (gradient, std::array::from_fn(part))
        })
        .collect();
    if chunks.len() == 1 {
        chunks
            .into_iter()
            .for_each(|(gradient, parts)| f(parts, gradient));
    } else {
        chunks
            .into_par_iter()
            .for_each(|(gradient, parts)| f(parts, gradient));
    }
    let mut dtypes = dtypes.into_iter();
    changed.map(|t| match dtypes.next() {
        Some(dtype) => flex::to_dtype(t, dtype),
        None => t,
    })
}

impl Operator<0> for SgdStep {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        composed_sgd::<B>(inputs.tensors(), *self).into()
    }

    fn backward<B: Kernels>(&self, _incoming: Incoming<B, 0>) -> Gradients<B, 0> {
        []
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [parameter, gradient, velocity] = inputs.tensors();
        struct Pass<'a>([&'a mut [f32]; 2], &'a [f32], SgdStep);
        impl Kernel for Pass<'_> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                let Self([parameter, velocity], gradient, step) = self;
                for ((w, v), g) in parameter.iter_mut().zip(velocity).zip(gradient) {
                    *v = (*w * step.weight_decay + g) + *v * step.momentum;
                    *w -= *v * step.learning_rate;
                }
            }
        }
        update([parameter, velocity], gradient, |parts, gradient| {
            dispatch(Pass(parts, gradient, *self));
        })
        .into()
    }
}

impl Operator<0> for AdamStep {
    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        composed_adam::<B>(inputs.tensors(), *self).into()
    }

    fn backward<B: Kernels>(&self, _incoming: Incoming<B, 0>) -> Gradients<B, 0> {
        []
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let [parameter, gradient, mean, square] = inputs.tensors();
        struct Pass<'a>([&'a mut [f32]; 3], &'a [f32], AdamStep);
        impl Kernel for Pass<'_> {
            type Output = ();

            #[inline(always)]
            fn run(self) {
                let Self([parameter, mean, square], gradient, step) = self;
                let [b1, b2] = step.betas;
                let (factor, epsilon) = step.corrections();
                let keep = 1.0 - step.learning_rate * step.decoupled_decay;
                let states = mean.iter_mut().zip(square);
                for ((w, (m, s)), g) in parameter.iter_mut().zip(states).zip(gradient) {
                    let g = *w * step.weight_decay + g;
                    *m = *m * b1 + g * (1.0 - b1);
                    *s = *s * b2 + (g * g) * (1.0 - b2);
                    let change = *m * factor / (s.sqrt() + epsilon);
                    *w = *w * keep - change * step.learning_rate;
                }
            }
        }
        update([parameter, mean, square], gradient, |parts, gradient| {
            dispatch(Pass(parts, gradient, *self));
        })
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;

    fn noise(length: usize, seed: u32) -> FlexTensor {
        let values: Vec<f32> = (0..length as u32)
            .map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0)
            .collect();
        FlexTensor::from_data(TensorData::new(values, [length]))
    }

    #[test]
    fn the_passes_agree_with_tensor_primitives() {
        // One part, and several.
        for length in [7, 50_000] {
            let tensors = || [1, 2, 3].map(|seed| noise(length, seed));
            let step = SgdStep {
                learning_rate: 0.1,
                momentum: 0.9,
                weight_decay: 0.01,
            };
            let kernel = step.flex_forward(Inputs::new(tensors().into()));
            let plain = composed_sgd::<Flex>(tensors(), step);
            assert_eq!(kernel.len(), plain.len());
            for (a, b) in kernel.iter().zip(&plain) {
                assert_eq!(flex::to_vec(a), flex::to_vec(b));
            }

            let step = AdamStep {
                learning_rate: 0.1,
                betas: [0.9, 0.999],
                epsilon: 1e-8,
                weight_decay: 0.01,
                decoupled_decay: 0.02,
                time: 3,
            };
            let all = || {
                let [w, g, m] = tensors();
                let square = Flex::float_mul(noise(length, 4), noise(length, 4));
                [w, g, m, square]
            };
            let kernel = step.flex_forward(Inputs::new(all().into()));
            let plain = composed_adam::<Flex>(all(), step);
            assert_eq!(kernel.len(), plain.len());
            for (a, b) in kernel.iter().zip(&plain) {
                assert_eq!(flex::to_vec(a), flex::to_vec(b));
            }
        }
    }
}
