//! Batch normalization, with the activation that follows it.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use crate::ops::backend::accumulate::Accumulate;
use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::flex;
use crate::ops::backend::profile::timed;
use crate::ops::kernel::norm::{self as kernel, Affine, Normalization, Statistics};
use crate::ops::pointwise::activation::{Activation, activated, activated_backward};

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
    Tensor::from_dispatch(<Dispatch as BatchNormOp>::batch_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        epsilon,
        activation,
    ))
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
    let (output, mean, variance) = <Dispatch as BatchNormOp>::batch_norm_train(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
        activation,
    );
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

/// The operators behind [`batch_norm()`] and [`batch_norm_train()`], routed to the backend of
/// their input.
#[backend_extension(Flex, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub(crate) trait BatchNormOp: Backend {
    /// See [`batch_norm()`].
    fn batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// See [`batch_norm_train()`].
    fn batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl BatchNormOp for Flex {
    fn batch_norm(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        mean: FlexTensor,
        variance: FlexTensor,
        epsilon: f64,
        activation: Activation,
    ) -> FlexTensor {
        let layer = Layer {
            gamma,
            beta,
            epsilon,
            activation,
        };
        <Self as BatchNormKernel>::forward(x, &layer, mean, variance)
    }

    fn batch_norm_train(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        epsilon: f64,
        activation: Activation,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let layer = Layer {
            gamma,
            beta,
            epsilon,
            activation,
        };
        <Self as BatchNormKernel>::forward_train(x, &layer)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl BatchNormOp for burn::backend::Cube {
    fn batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let layer = Layer {
            gamma,
            beta,
            epsilon,
            activation,
        };
        <Self as BatchNormKernel>::forward(x, &layer, mean, variance)
    }

    fn batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let layer = Layer {
            gamma,
            beta,
            epsilon,
            activation,
        };
        <Self as BatchNormKernel>::forward_train(x, &layer)
    }
}

impl<B: BatchNormKernel, C: CheckpointStrategy> BatchNormOp for Autodiff<B, C> {
    fn batch_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let (mean, variance) = (mean.into_primitive(), variance.into_primitive());
        let layer = Layer {
            gamma,
            beta,
            epsilon,
            activation,
        };
        let output =
            <B as BatchNormKernel>::forward(x.clone(), &layer, mean.clone(), variance.clone());
        match BatchNormBackward
            .prepare::<C>([x_node, gamma_node, beta_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    x,
                    layer,
                    mean,
                    variance,
                    from_batch: false,
                };
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn batch_norm_train(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, x_node) = x.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let layer = Layer {
            gamma,
            beta,
            epsilon,
            activation,
        };
        let (output, mean, variance) = B::forward_train(x.clone(), &layer);
        let output = match BatchNormBackward
            .prepare::<C>([x_node, gamma_node, beta_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let saved = Saved {
                    x,
                    layer,
                    mean: mean.clone(),
                    variance: variance.clone(),
                    from_batch: true,
                };
                prep.finish(saved, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (output, Self::from_inner(mean), Self::from_inner(variance))
    }
}

/// The layer's own numbers.
#[derive(Clone, Debug)]
pub(crate) struct Layer<T> {
    gamma: T,
    beta: T,
    epsilon: f64,
    activation: Activation,
}

/// What the backward step needs of the forward one.
#[derive(Clone, Debug)]
pub(crate) struct Saved<T> {
    x: T,
    layer: Layer<T>,
    mean: T,
    variance: T,
    from_batch: bool,
}

#[derive(Debug)]
struct BatchNormBackward;

impl<B: BatchNormKernel> Backward<B, 3> for BatchNormBackward {
    type State = Saved<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let there = B::take(grads, &ops, 0);
        let made = <B as BatchNormKernel>::backward(ops.state.clone(), grad, there);
        for (parent, made) in made.into_iter().enumerate() {
            B::put(grads, &ops, parent, made);
        }
    }
}

/// The passes of batch normalization on one backend. The bodies given here are composed of tensor
/// primitives and serve every backend; Flex has kernels.
pub(crate) trait BatchNormKernel: Accumulate {
    /// With given statistics.
    fn forward(
        x: FloatTensor<Self>,
        layer: &Layer<FloatTensor<Self>>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let Layer {
            gamma,
            beta,
            epsilon,
            activation,
        } = layer.clone();
        let z = <Self as ModuleOps<Self>>::batch_norm(x, gamma, beta, mean, variance, epsilon);
        activated::<Self>(z, activation)
    }

    /// With the statistics of the batch, which come second and third.
    fn forward_train(
        x: FloatTensor<Self>,
        layer: &Layer<FloatTensor<Self>>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let Layer {
            gamma,
            beta,
            epsilon,
            activation,
        } = layer.clone();
        let made = <Self as ModuleOps<Self>>::batch_norm_train(x, gamma, beta, epsilon);
        let output = activated::<Self>(made.output, activation);
        (output, made.mean, made.variance)
    }

    /// The gradients to `x`, plus what is `there` already, `gamma` and `beta`.
    fn backward(
        saved: Saved<FloatTensor<Self>>,
        grad: FloatTensor<Self>,
        there: Option<FloatTensor<Self>>,
    ) -> [FloatTensor<Self>; 3] {
        let [x, gamma, beta] = composed_backward::<Self>(saved, grad);
        let x = match there {
            Some(there) => Self::float_add(x, there),
            None => x,
        };
        [x, gamma, beta]
    }
}

fn composed_backward<B: Backend>(
    saved: Saved<FloatTensor<B>>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let Saved {
        x,
        layer,
        mean,
        variance,
        from_batch,
    } = saved;
    let Layer {
        gamma,
        beta,
        epsilon,
        activation,
    } = layer;
    let z = || {
        let (x, gamma, beta) = (x.clone(), gamma.clone(), beta.clone());
        <B as ModuleOps<B>>::batch_norm(x, gamma, beta, mean.clone(), variance.clone(), epsilon)
    };
    let grad = match activation {
        Activation::Identity => grad,
        _ => activated_backward::<B>(z(), grad, activation),
    };
    let through = <B as ModuleOps<B>>::batch_norm_train_backward(
        x,
        gamma.clone(),
        mean,
        variance.clone(),
        epsilon,
        grad.clone(),
    );
    let x = if from_batch {
        through.x_grad
    } else {
        let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
        let mut dims = vec![1; grad.shape().num_dims()];
        dims[1] = grad.shape()[1];
        let scale = B::float_reshape(B::float_div(gamma, deviation), Shape::from(dims));
        B::float_mul(grad, scale)
    };
    [x, through.gamma_grad, through.beta_grad]
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl BatchNormKernel for burn::backend::Cube {}

/// Normalizes a tensor of f32 by the given statistics.
fn normalize(x: &FlexTensor, layer: &Layer<FlexTensor>, statistics: &Statistics) -> FlexTensor {
    let (gamma, beta) = (flex::to_vec(&layer.gamma), flex::to_vec(&layer.beta));
    let affine = Affine::new(statistics, &gamma, &beta, layer.epsilon);
    let mut output = Buffer::new(x.layout().num_elements());
    timed("batch_norm", || {
        kernel::apply(x.storage(), &affine, layer.activation, &mut output);
    });
    flex::from_buffer(output, x.layout().clone())
}

impl BatchNormKernel for Flex {
    fn forward(
        x: FlexTensor,
        layer: &Layer<FlexTensor>,
        mean: FlexTensor,
        variance: FlexTensor,
    ) -> FlexTensor {
        let statistics = Statistics {
            mean: flex::to_vec(&mean),
            variance: flex::to_vec(&variance),
        };
        flex::in_f32(x, |x| {
            normalize(&flex::channels_last(x), layer, &statistics)
        })
    }

    fn forward_train(
        x: FlexTensor,
        layer: &Layer<FlexTensor>,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let dtype = x.dtype();
        let x = flex::channels_last(flex::to_f32(x));
        let channels = x.layout().shape()[1];
        let statistics = timed("batch_norm statistics", || {
            kernel::statistics(x.storage(), channels)
        });
        let made = [
            normalize(&x, layer, &statistics),
            flex::from_slice(&statistics.mean),
            flex::from_slice(&statistics.variance),
        ];
        let [output, mean, variance] = made.map(|made| flex::to_dtype(made, dtype));
        (output, mean, variance)
    }

    fn backward(
        saved: Saved<FlexTensor>,
        grad: FlexTensor,
        there: Option<FlexTensor>,
    ) -> [FlexTensor; 3] {
        let dtype = grad.dtype();
        let there = there.map(|there| flex::channels_last(flex::to_f32(there)));
        let there = there.as_ref().map(|there| there.storage::<f32>());
        let x = flex::channels_last(flex::to_f32(saved.x));
        let mut grad = flex::channels_last(flex::to_f32(grad));
        let (gamma, beta) = (
            flex::to_vec(&saved.layer.gamma),
            flex::to_vec(&saved.layer.beta),
        );
        let statistics = Statistics {
            mean: flex::to_vec(&saved.mean),
            variance: flex::to_vec(&saved.variance),
        };
        let normalization = Normalization {
            statistics: &statistics,
            gamma: &gamma,
            beta: &beta,
            epsilon: saved.layer.epsilon,
            activation: saved.layer.activation,
            from_batch: saved.from_batch,
        };
        // The gradient becomes that of `x` where it lies, if nothing else reads it.
        let (to_x, parameters) = timed("batch_norm backward", || {
            match grad.try_storage_mut::<f32>() {
                Some(data) => {
                    let parameters = kernel::backward(x.storage(), data, there, normalization);
                    (grad, parameters)
                }
                None => {
                    let mut data = Buffer::new(grad.layout().num_elements());
                    data.copy_from_slice(grad.storage());
                    let parameters = kernel::backward(x.storage(), &mut data, there, normalization);
                    (flex::from_buffer(data, grad.layout().clone()), parameters)
                }
            }
        });
        let [gamma, beta] = [parameters.gamma, parameters.beta].map(|g| flex::from_slice(&g));
        [to_x, gamma, beta].map(|made| flex::to_dtype(made, dtype))
    }
}
