//! Batch normalization, with the activation that follows it.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::operator::{self, Gradients, Incoming, Inputs, Kernels, Operator, array};
use crate::ops::backend::profile::timed;
use crate::ops::pointwise::activation::{Activation, activated, activated_backward};
use lowbit_kernels::norm::{self as kernel, Affine, Normalization, Statistics};

/// `activation((x - mean) / sqrt(variance + epsilon) * gamma + beta)`, per channel, with given
/// statistics, which are constants: they get no gradient.
///
/// # Shapes
/// - `x` and the result: `[batch, channels, ...]`
/// - the others: `[channels]`
///
/// # Panics
/// If the shapes are others.
pub fn batch_norm<const D: usize>(
    x: Tensor<D>,
    [gamma, beta]: [Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    activation: Activation,
) -> Tensor<D> {
    for (name, tensor) in [
        ("gamma", &gamma),
        ("beta", &beta),
        ("mean", &mean),
        ("variance", &variance),
    ] {
        assert_channels(&x, tensor, name);
    }
    let norm = BatchNorm {
        epsilon,
        activation,
        from_batch: false,
    };
    let parameters = [gamma, beta, mean, variance].map(Tensor::into_dispatch);
    let inputs = std::iter::once(x.into_dispatch()).chain(parameters);
    operator::run(norm, inputs.collect())
}

/// What [`batch_norm_train`] makes.
#[derive(Debug, Clone)]
pub struct BatchNormTrainOutput<const D: usize> {
    /// The normalized and activated input, of its shape.
    pub output: Tensor<D>,
    /// The mean of the batch, `[channels]`, without gradient.
    pub mean: Tensor<1>,
    /// The biased variance of the batch, `[channels]`, without gradient.
    pub variance: Tensor<1>,
}

/// The same with the statistics of the batch, through which gradients go, too (Ioffe and Szegedy,
/// arXiv 1502.03167).
///
/// # Shapes
/// As [`batch_norm`].
///
/// # Panics
/// If the shapes are others.
pub fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    [gamma, beta]: [Tensor<1>; 2],
    epsilon: f64,
    activation: Activation,
) -> BatchNormTrainOutput<D> {
    assert_channels(&x, &gamma, "gamma");
    assert_channels(&x, &beta, "beta");
    let norm = BatchNorm {
        epsilon,
        activation,
        from_batch: true,
    };
    let inputs = vec![
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
    ];
    let [output, mean, variance] = array(operator::run_all(norm, Inputs::new(inputs)));
    BatchNormTrainOutput {
        output: Tensor::from_dispatch(output),
        mean: Tensor::from_dispatch(mean),
        variance: Tensor::from_dispatch(variance),
    }
}

fn assert_channels<const D: usize>(x: &Tensor<D>, parameter: &Tensor<1>, name: &str) {
    assert!(D >= 2, "batch normalization needs channels, in dimension 1");
    let (channels, [given]) = (x.dims()[1], parameter.dims());
    assert_eq!(
        given, channels,
        "{name} has {given} channels, expected {channels}"
    );
}

/// The operator behind [`batch_norm()`], of an input, gamma, beta, mean and variance, and behind
/// [`batch_norm_train()`], which makes the last two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchNorm {
    pub(crate) epsilon: f64,
    pub(crate) activation: Activation,
    /// Whether the statistics are those of the input.
    pub(crate) from_batch: bool,
}

impl Operator<3> for BatchNorm {
    const ADDS_UP: bool = true;

    fn save_outputs<B: Backend>(&self, outputs: &[FloatTensor<B>]) -> Vec<FloatTensor<B>> {
        outputs[1..].to_vec()
    }

    fn forward<B: Kernels>(&self, inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        if !self.from_batch {
            let z = self.normalized::<B>(inputs.tensors());
            return vec![activated::<B>(z, self.activation)];
        }
        let [x, gamma, beta] = inputs.tensors();
        let made = <B as ModuleOps<B>>::batch_norm_train(x, gamma, beta, self.epsilon);
        let output = activated::<B>(made.output, self.activation);
        vec![output, made.mean, made.variance]
    }

    fn backward<B: Kernels>(&self, incoming: Incoming<B, 3>) -> Gradients<B, 3> {
        let known = incoming.inputs.into_iter().chain(incoming.outputs);
        let [x, gamma, beta] = self.composed_backward::<B>(array(known.collect()), incoming.grad);
        let x = match incoming.gradient_so_far {
            Some(so_far) => B::float_add(x, so_far),
            None => x,
        };
        [x, gamma, beta].map(Some)
    }

    fn flex_forward(&self, inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        if !self.from_batch {
            let [x, gamma, beta, mean, variance] = inputs.tensors();
            let statistics = Statistics {
                mean: flex::to_vec(&mean),
                variance: flex::to_vec(&variance),
            };
            return vec![flex::in_f32(x, |x| {
                self.normalize(&flex::channels_last(x), [gamma, beta], &statistics)
            })];
        }
        let [x, gamma, beta] = inputs.tensors();
        let dtype = x.dtype();
        let x = flex::channels_last(flex::to_f32(x));
        let channels = x.layout().shape()[1];
        let statistics = timed("batch_norm statistics", || {
            kernel::statistics(x.storage(), channels)
        });
        let made = [
            self.normalize(&x, [gamma, beta], &statistics),
            flex::from_slice(&statistics.mean),
            flex::from_slice(&statistics.variance),
        ];
        made.map(|made| flex::to_dtype(made, dtype)).into()
    }

    fn flex_backward(&self, incoming: Incoming<Flex, 3>) -> Gradients<Flex, 3> {
        let known = incoming.inputs.into_iter().chain(incoming.outputs);
        let made = self.gradients(
            array(known.collect()),
            incoming.grad,
            incoming.gradient_so_far,
        );
        made.map(Some)
    }
}

impl BatchNorm {
    /// The normalized input, given the statistics, composed of tensor primitives.
    fn normalized<B: Backend>(
        &self,
        [x, gamma, beta, mean, variance]: [FloatTensor<B>; 5],
    ) -> FloatTensor<B> {
        <B as ModuleOps<B>>::batch_norm(x, gamma, beta, mean, variance, self.epsilon)
    }

    /// The gradients to the input, gamma and beta, composed of tensor primitives.
    fn composed_backward<B: Backend>(
        &self,
        known: [FloatTensor<B>; 5],
        grad: FloatTensor<B>,
    ) -> [FloatTensor<B>; 3] {
        let grad = match self.activation {
            Activation::Identity => grad,
            _ => {
                activated_backward::<B>(self.normalized::<B>(known.clone()), grad, self.activation)
            }
        };
        let [x, gamma, _, mean, variance] = known;
        let through = <B as ModuleOps<B>>::batch_norm_train_backward(
            x,
            gamma.clone(),
            mean,
            variance.clone(),
            self.epsilon,
            grad.clone(),
        );
        let x = if self.from_batch {
            through.x_grad
        } else {
            let deviation = B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into()));
            let mut dims = vec![1; grad.shape().num_dims()];
            dims[1] = grad.shape()[1];
            let scale = B::float_reshape(B::float_div(gamma, deviation), Shape::from(dims));
            B::float_mul(grad, scale)
        };
        [x, through.gamma_grad, through.beta_grad]
    }

    /// What gamma, beta, mean and variance do to a channel.
    pub(super) fn affine(&self, [gamma, beta, mean, variance]: [FlexTensor; 4]) -> Affine {
        let statistics = Statistics {
            mean: flex::to_vec(&mean),
            variance: flex::to_vec(&variance),
        };
        self.affine_of([gamma, beta], &statistics)
    }

    fn affine_of(&self, parameters: [FlexTensor; 2], statistics: &Statistics) -> Affine {
        let [gamma, beta] = parameters.map(|parameter| flex::to_vec(&parameter));
        Affine::new(statistics, &gamma, &beta, self.epsilon)
    }

    /// Normalizes a tensor of f32 by the given statistics.
    fn normalize(
        &self,
        x: &FlexTensor,
        parameters: [FlexTensor; 2],
        statistics: &Statistics,
    ) -> FlexTensor {
        let affine = self.affine_of(parameters, statistics);
        let mut output = Buffer::new(x.layout().num_elements());
        timed("batch_norm", || {
            kernel::apply(x.storage(), &affine, self.activation, &mut output);
        });
        flex::from_buffer(output, x.layout().clone())
    }

    /// The gradients to the input, with what it has so far, to gamma and to beta.
    fn gradients(
        &self,
        [x, gamma, beta, mean, variance]: [FlexTensor; 5],
        grad: FlexTensor,
        so_far: Option<FlexTensor>,
    ) -> [FlexTensor; 3] {
        let dtype = grad.dtype();
        let so_far = so_far.map(|so_far| flex::channels_last(flex::to_f32(so_far)));
        let so_far = so_far.as_ref().map(|so_far| so_far.storage::<f32>());
        let x = flex::channels_last(flex::to_f32(x));
        let grad = flex::channels_last(flex::to_f32(grad));
        let statistics = Statistics {
            mean: flex::to_vec(&mean),
            variance: flex::to_vec(&variance),
        };
        let normalization = Normalization {
            statistics: &statistics,
            gamma: &flex::to_vec(&gamma),
            beta: &flex::to_vec(&beta),
            epsilon: self.epsilon,
            activation: self.activation,
            from_batch: self.from_batch,
        };
        let (to_x, parameters) = timed("batch_norm backward", || {
            flex::change(grad, |data| {
                kernel::backward(x.storage(), data, so_far, normalization)
            })
        });
        let [gamma, beta] = [parameters.gamma, parameters.beta].map(|g| flex::from_slice(&g));
        [to_x, gamma, beta].map(|made| flex::to_dtype(made, dtype))
    }
}
