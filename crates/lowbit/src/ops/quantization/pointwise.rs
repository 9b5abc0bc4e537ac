//! Quantization that looks at one number at a time, so that any pass over numbers can do it.

use std::fmt::Debug;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, read_sync};
use burn::tensor::{Tensor, TensorData};
use lowbit_formats::{IntegerRange, kernel};

use crate::ops::backend::buffer::Buffer;
use crate::ops::backend::operator::{
    self, Gradients, Incoming, Inputs, Kernels, Operator, array, padded,
};
use crate::ops::backend::{composed, flex};
use crate::ops::quantization::grid::ValueGrid;
use lowbit_kernels::elementwise::{update_and_sum, update_and_sum_all};

/// The most tensors that a quantization learns.
const MOST_LEARNED: usize = 2;

/// The tensors of a quantizing operator that get gradients: the numbers, and what is learned.
pub(crate) const PARENTS: usize = 1 + MOST_LEARNED;

/// The gradient of a number of each learned tensor.
pub(crate) type Sums = [f64; MOST_LEARNED];

/// A power-of-two step and the integers on it, as far as they are known without reading a tensor.
pub(crate) struct Steps {
    /// The integers, and the exponent of the step less what `trained` adds to it.
    pub(crate) range: IntegerRange,
    /// `[1]` or `[channels]`.
    pub(crate) trained: Option<Tensor<1>>,
}

/// An operator that quantizes its first tensor one number at a time. The others are its parameters,
/// the learned ones first.
pub(crate) trait Pointwise: Operator<PARENTS> {
    /// Parameters.
    const PARAMETERS: usize;
    /// Those that are learned.
    const LEARNED: usize;

    /// What the passes of a kernel do.
    type Prepared: Prepared;

    /// The quantized tensor.
    fn apply<const D: usize>(self, x: Tensor<D>, parameters: Vec<Tensor<1>>) -> Tensor<D> {
        self.unchecked(x, parameters)
    }

    /// The same whatever the options are.
    fn unchecked<const D: usize>(self, x: Tensor<D>, parameters: Vec<Tensor<1>>) -> Tensor<D> {
        let parameters = parameters.into_iter().map(Tensor::into_dispatch);
        let inputs = std::iter::once(x.into_dispatch()).chain(parameters);
        operator::run(self, inputs.collect())
    }

    /// Whether these parameters, and options, allow to do it while an operator reads the tensor.
    fn fits_operators(&self, parameters: &[Tensor<1>]) -> bool;

    /// The step and the integers of its results, if they are integers times a power of two.
    fn steps(&self, parameters: &[Tensor<1>]) -> Option<Steps>;

    /// The grids of its results by the values of its parameters, one or one per index of the axis beside
    /// them; `None` where they are on none.
    fn grids(&self, parameters: &[Vec<f32>]) -> Option<(Vec<ValueGrid>, usize)>;

    /// Reads the parameters, which have one number each.
    fn prepare(&self, parameters: &[FlexTensor]) -> Self::Prepared;
}

/// A quantization as the passes of a kernel use it.
pub(crate) trait Prepared: Send + Sync {
    /// Whether the gradient of the rounded numbers is that of the numbers.
    fn passes_gradients(&self) -> bool {
        false
    }

    /// Rounds numbers into a slice as long, on this thread if they are few.
    fn round(&self, x: &[f32], output: &mut [f32]);

    /// Turns the gradient of the rounded `x` into that of `x`, in place, on this thread; returns
    /// those of the learned parameters.
    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums;
}

/// A quantization method that is a formula of one number and its parameters, of which the first
/// `LEARNED` are learned. With this, [`Quantize`] is an operator, and operands are quantized as they
/// are read.
pub(crate) trait Method<const LEARNED: usize>: Debug + Clone + Send + 'static {
    /// Parameters.
    const PARAMETERS: usize;

    /// The formula with its parameters.
    type Rounding: Rounding<LEARNED>;

    /// Panics if it cannot be done with these options, parameters, and dimensions of the tensor.
    fn check(&self, dims: &[usize], parameters: &[Tensor<1>], axis: usize);

    /// See [`Pointwise::steps`].
    fn steps(&self, parameters: &[Tensor<1>]) -> Option<Steps>;

    /// The grid of its results with these values of the parameters; `None` where they are on none.
    fn grid(&self, parameters: &[f32]) -> Option<ValueGrid>;

    /// Puts the values of the parameters into the formula.
    fn prepare(&self, parameters: &[f32]) -> Self::Rounding;

    /// The formula composed of tensor primitives, with one of each parameter or one per index of
    /// `axis`. Unless a method says it in primitives, the host does it: two transfers.
    fn round<B: Backend>(
        &self,
        x: FloatTensor<B>,
        parameters: &[FloatTensor<B>],
        axis: usize,
    ) -> FloatTensor<B> {
        let roundings = self.prepared(&parameters.iter().map(numbers::<B>).collect::<Vec<_>>());
        composed::change_on_host::<B>(x, |values, dims| {
            let length = inner_length(dims, axis);
            for (row, rounding) in values.chunks_mut(length).zip(roundings.iter().cycle()) {
                row.iter_mut().for_each(|x| *x = rounding.round(*x));
            }
        })
    }

    /// The gradients to `x` and, summed to their shapes, to the learned parameters.
    fn gradients<B: Backend>(
        &self,
        x: FloatTensor<B>,
        parameters: &[FloatTensor<B>],
        axis: usize,
        grad: FloatTensor<B>,
    ) -> (FloatTensor<B>, [FloatTensor<B>; LEARNED]) {
        let values: Vec<Vec<f32>> = parameters.iter().map(numbers::<B>).collect();
        let roundings = self.prepared(&values);
        let mut sums = vec![[0.0; LEARNED]; roundings.len()];
        let x = numbers::<B>(&x);
        let grad = composed::change_on_host::<B>(grad, |grad, dims| {
            let length = inner_length(dims, axis);
            let rows = x.chunks(length).zip(grad.chunks_mut(length));
            for (i, (x, grad)) in rows.enumerate() {
                let channel = i % roundings.len();
                for (&x, grad) in x.iter().zip(grad) {
                    let (gx, parts) = roundings[channel].gradients(x, *grad);
                    *grad = gx;
                    for (sum, part) in sums[channel].iter_mut().zip(parts) {
                        *sum += f64::from(part);
                    }
                }
            }
        });
        let learned = std::array::from_fn(|i| {
            let data = learned_gradient(&sums, i, values[i].len());
            let (device, dtype) = (parameters[i].device(), parameters[i].dtype());
            let data = TensorData::new(data, [values[i].len()]).convert_dtype(dtype);
            B::float_from_data(data, &device)
        });
        (grad, learned)
    }

    /// One formula, or one per index of the axis, of the values of each parameter.
    fn prepared(&self, values: &[Vec<f32>]) -> Vec<Self::Rounding> {
        let of_channels = by_channel(values);
        of_channels.map(|values| self.prepare(&values)).collect()
    }
}

/// The parameters of each channel, from the values of each parameter.
fn by_channel(values: &[Vec<f32>]) -> impl Iterator<Item = Vec<f32>> {
    let channels = values.iter().map(Vec::len).max().unwrap_or(1);
    (0..channels).map(|channel| {
        let of = |values: &Vec<f32>| values[channel.min(values.len() - 1)];
        values.iter().map(of).collect()
    })
}

/// The numbers of a tensor, in row-major order.
pub(crate) fn numbers<B: Backend>(x: &FloatTensor<B>) -> Vec<f32> {
    let data = read_sync(B::float_into_data(x.clone())).expect("a tensor's data can be read");
    data.iter::<f32>().collect()
}

/// The gradient of the `i`th learned parameter, which has so many numbers, from the sums of each
/// formula.
fn learned_gradient<const LEARNED: usize>(
    sums: &[[f64; LEARNED]],
    i: usize,
    count: usize,
) -> Vec<f32> {
    let of_each = sums.iter().map(|sums| sums[i]);
    match count {
        1 => vec![of_each.sum::<f64>() as f32],
        _ => of_each.map(|sum| sum as f32).collect(),
    }
}

/// A step or scale, which training may have brought to zero or below: the least normal number then.
pub(crate) fn positive(step: f32) -> f32 {
    if step <= 0.0 { f32::MIN_POSITIVE } else { step }
}

/// Panics if a parameter is neither one number nor one per index of the axis.
pub(crate) fn check_counts(name: &str, dims: &[usize], parameters: &[Tensor<1>], axis: usize) {
    for parameter in parameters {
        let [count] = parameter.dims();
        assert!(
            count == 1 || dims.get(axis) == Some(&count),
            "{name} has {count} numbers, expected 1 or one per index of axis {axis} of {dims:?}"
        );
    }
}

/// A formula of one number. Mark both `#[inline(always)]`.
pub(crate) trait Rounding<const LEARNED: usize>: Copy + Send + Sync {
    /// What the number becomes.
    fn round(self, x: f32) -> f32;

    /// The gradient to `x`, and this number's part of those to the learned parameters, given that of
    /// what it became.
    fn gradients(self, x: f32, grad: f32) -> (f32, [f32; LEARNED]);
}

/// The operator of a [`Method`].
#[derive(Debug, Clone)]
pub(crate) struct Quantize<M, const LEARNED: usize> {
    pub(crate) method: M,
    /// The dimension with one of a parameter per index, where there are several.
    pub(crate) axis: usize,
}

impl<M: Method<LEARNED>, const LEARNED: usize> Quantize<M, LEARNED> {
    /// One formula, or one per index of the axis.
    fn roundings(&self, parameters: &[FlexTensor]) -> Vec<M::Rounding> {
        let values: Vec<Vec<f32>> = parameters.iter().map(flex::to_vec).collect();
        self.method.prepared(&values)
    }
}

impl<M: Method<LEARNED>, const LEARNED: usize> Operator<PARENTS> for Quantize<M, LEARNED> {
    fn forward<B: Kernels>(&self, mut inputs: Inputs<B>) -> Vec<FloatTensor<B>> {
        let parameters = inputs.tensors.split_off(1);
        let [x] = inputs.tensors();
        vec![self.method.round::<B>(x, &parameters, self.axis)]
    }

    fn backward<B: Kernels>(&self, mut incoming: Incoming<B, PARENTS>) -> Gradients<B, PARENTS> {
        let parameters = incoming.inputs.split_off(1);
        let [x] = array(incoming.inputs);
        let (x, learned) = self
            .method
            .gradients::<B>(x, &parameters, self.axis, incoming.grad);
        padded(std::iter::once(x).chain(learned).map(Some))
    }

    fn flex_forward(&self, mut inputs: Inputs<Flex>) -> Vec<FlexTensor> {
        let roundings = self.roundings(&inputs.tensors.split_off(1));
        let [x] = inputs.tensors();
        vec![flex::in_f32(x, |x| round(x, &roundings, self.axis))]
    }

    fn flex_backward(&self, mut incoming: Incoming<Flex, PARENTS>) -> Gradients<Flex, PARENTS> {
        let parameters = incoming.inputs.split_off(1);
        let [x] = array(incoming.inputs);
        let roundings = self.roundings(&parameters);
        let mut sums = vec![[0.0; LEARNED]; roundings.len()];
        let grad = flex::in_f32(incoming.grad, |grad| {
            flex::in_f32(x, |x| {
                round_backward(x, grad, &roundings, self.axis, &mut sums)
            })
        });
        let learned = parameters.iter().take(LEARNED).enumerate();
        let learned = learned.map(|(i, parameter)| {
            let sums = learned_gradient(&sums, i, parameter.layout().num_elements());
            flex::to_dtype(flex::from_slice(&sums), parameter.dtype())
        });
        padded(std::iter::once(grad).chain(learned).map(Some))
    }
}

/// The rounded tensor of f32.
fn round<R: Rounding<LEARNED>, const LEARNED: usize>(
    x: FlexTensor,
    roundings: &[R],
    axis: usize,
) -> FlexTensor {
    if let &[rounding] = roundings {
        return flex::map(x, move |x| rounding.round(x));
    }
    let x = flex::contiguous(x);
    let length = row_length(&x, axis);
    let mut output = Buffer::new(x.layout().num_elements());
    let rows = x.storage::<f32>().chunks_exact(length);
    let rows = rows.zip(output.chunks_exact_mut(length));
    for ((row, output), &rounding) in rows.zip(roundings.iter().cycle()) {
        if let ([x], [output]) = (row, &mut *output) {
            *output = rounding.round(*x);
            continue;
        }
        kernel::map(
            row,
            output,
            #[inline(always)]
            move |x| rounding.round(x),
        );
    }
    flex::from_buffer(output, x.layout().clone())
}

/// The gradient to `x`, both of f32; those to the learned parameters are added to `sums`.
fn round_backward<R: Rounding<LEARNED>, const LEARNED: usize>(
    x: FlexTensor,
    grad: FlexTensor,
    roundings: &[R],
    axis: usize,
    sums: &mut [[f64; LEARNED]],
) -> FlexTensor {
    if let &[rounding] = roundings {
        let (grad, sum) = flex::replace(x, grad, |x, grad| gradients(rounding, x, grad, true));
        sums[0] = sum;
        return grad;
    }
    let (x, grad) = (flex::contiguous(x), flex::contiguous(grad));
    let length = row_length(&x, axis);
    let (grad, ()) = flex::replace(x, grad, |x, grad| {
        let rows = x.chunks_exact(length).zip(grad.chunks_exact_mut(length));
        for (i, (x, grad)) in rows.enumerate() {
            let channel = i % roundings.len();
            let rounding = roundings[channel];
            let parts = if let ([x], [grad]) = (x, &mut *grad) {
                let (gx, parts) = rounding.gradients(*x, *grad);
                *grad = gx;
                parts.map(f64::from)
            } else {
                gradients(rounding, x, grad, false)
            };
            for (sum, part) in sums[channel].iter_mut().zip(parts) {
                *sum += part;
            }
        }
    });
    grad
}

/// Numbers of a row-major tensor that lie together and share one index of `axis`.
fn row_length(like: &FlexTensor, axis: usize) -> usize {
    inner_length(like.layout().shape().as_slice(), axis)
}

/// Numbers of a row-major tensor of these dimensions that lie together and share one index of `axis`.
fn inner_length(dims: &[usize], axis: usize) -> usize {
    dims[axis + 1..].iter().product::<usize>().max(1)
}

/// Turns the gradient of the rounded `x` into that of `x`, in place, on this thread or on all; returns
/// those of the learned parameters.
fn gradients<R: Rounding<LEARNED>, const LEARNED: usize>(
    rounding: R,
    x: &[f32],
    grad: &mut [f32],
    all_threads: bool,
) -> [f64; LEARNED] {
    match all_threads {
        true => update_and_sum_all(
            x,
            grad,
            #[inline(always)]
            move |x, g| rounding.gradients(x, g),
        ),
        false => update_and_sum(
            x,
            grad,
            #[inline(always)]
            move |x, g| rounding.gradients(x, g),
        ),
    }
}

/// The formula with its parameters, on slices.
pub(crate) struct OneByOne<R, const LEARNED: usize>(pub(crate) R);

impl<R: Rounding<LEARNED>, const LEARNED: usize> Prepared for OneByOne<R, LEARNED> {
    fn round(&self, x: &[f32], output: &mut [f32]) {
        let rounding = self.0;
        kernel::map(
            x,
            output,
            #[inline(always)]
            move |x| rounding.round(x),
        );
    }

    fn round_backward(&self, x: &[f32], grad: &mut [f32]) -> Sums {
        let sums = gradients(self.0, x, grad, false);
        std::array::from_fn(|i| sums.get(i).copied().unwrap_or_default())
    }
}

impl<M: Method<LEARNED>, const LEARNED: usize> Pointwise for Quantize<M, LEARNED> {
    const PARAMETERS: usize = M::PARAMETERS;
    const LEARNED: usize = LEARNED;

    type Prepared = OneByOne<M::Rounding, LEARNED>;

    fn apply<const D: usize>(self, x: Tensor<D>, parameters: Vec<Tensor<1>>) -> Tensor<D> {
        self.method.check(&x.dims(), &parameters, self.axis);
        self.unchecked(x, parameters)
    }

    fn fits_operators(&self, parameters: &[Tensor<1>]) -> bool {
        parameters.iter().all(|parameter| parameter.dims() == [1])
    }

    fn steps(&self, parameters: &[Tensor<1>]) -> Option<Steps> {
        self.method.steps(parameters)
    }

    fn grids(&self, parameters: &[Vec<f32>]) -> Option<(Vec<ValueGrid>, usize)> {
        let grids = by_channel(parameters).map(|values| self.method.grid(&values));
        Some((grids.collect::<Option<_>>()?, self.axis))
    }

    fn prepare(&self, parameters: &[FlexTensor]) -> Self::Prepared {
        let values: Vec<f32> = parameters.iter().map(|p| flex::to_vec(p)[0]).collect();
        OneByOne(self.method.prepare(&values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(x - offset) scale` with both learned.
    #[derive(Debug, Clone, Copy)]
    struct Line {
        scale: f32,
        offset: f32,
    }

    impl Rounding<2> for Line {
        fn round(self, x: f32) -> f32 {
            (x - self.offset) * self.scale
        }

        fn gradients(self, x: f32, grad: f32) -> (f32, [f32; 2]) {
            let to_offset = -self.scale * grad;
            (grad * self.scale, [grad * (x - self.offset), to_offset])
        }
    }

    /// The passes that other backends make, against those of the kernels: values and the gradient to
    /// the numbers bit for bit, those of what is learned but for the order of their sums.
    fn assert_bodies_agree<M: Method<LEARNED>, const LEARNED: usize>(
        method: &M,
        parameters: &[&[f32]],
        axis: usize,
    ) {
        let shape = [2, 3, 5];
        let flex = |v: &[f32], shape: &[usize]| {
            FlexTensor::from_data(TensorData::new(v.to_vec(), shape.to_vec()))
        };
        let x: Vec<f32> = (0..30).map(|i| (i as f32 * 0.71).sin() * 2.3).collect();
        let g: Vec<f32> = (0..30).map(|i| (i as f32 * 1.3).cos()).collect();
        let inputs = || {
            let parameters = parameters.iter().map(|p| flex(p, &[p.len()]));
            std::iter::once(flex(&x, &shape))
                .chain(parameters)
                .collect::<Vec<_>>()
        };
        let quantize = Quantize {
            method: method.clone(),
            axis,
        };
        let [kernel] = array(quantize.flex_forward(Inputs::new(inputs())));
        let [plain] = array(quantize.forward::<Flex>(Inputs::new(inputs())));
        assert_eq!(flex::to_vec(&kernel), flex::to_vec(&plain), "{method:?}");
        let incoming = || Incoming::new(inputs(), flex(&g, &shape));
        let kernel = quantize.flex_backward(incoming());
        let plain = quantize.backward::<Flex>(incoming());
        for (i, (kernel, plain)) in kernel.iter().zip(&plain).enumerate().take(1 + LEARNED) {
            let [kernel, plain] = [kernel, plain].map(|t| flex::to_vec(t.as_ref().unwrap()));
            assert_eq!(kernel.len(), plain.len());
            for (a, b) in kernel.iter().zip(&plain) {
                let within = if i == 0 { 0.0 } else { 1e-5 * (1.0 + b.abs()) };
                assert!((a - b).abs() <= within, "{method:?}, {i}: {a} {b}");
            }
        }
    }

    #[test]
    fn the_composed_bodies_agree_with_the_kernels() {
        use crate::ops::quantization::{affine, learned_width, offset_step, sign, ternary};

        let step = offset_step::OffsetStep {
            limits: (0, 7),
            gradient_scale: 0.5,
        };
        assert_bodies_agree(&step, &[&[0.3], &[-0.4]], 0);
        assert_bodies_agree(&step, &[&[0.3, 0.2, 0.7], &[-0.4, 0.1, 0.0]], 1);
        let gradient = ternary::TernaryGradient::Scaled;
        let three = ternary::Ternary { gradient };
        assert_bodies_agree(&three, &[&[1.1], &[0.9], &[0.6]], 0);
        let affine = affine::Affine {
            limits: (-8, 7),
            clamped: crate::ops::ClampedGradient::Zero,
        };
        assert_bodies_agree(&affine, &[&[0.3, 0.2], &[1.0, 0.0]], 0);
        assert_bodies_agree(&sign::Sign, &[], 0);
        let bits: [&[f32]; 3] = [&[2.2, 0.4, 1.0, 3.0, -0.6], &[1.0], &[1.0]];
        assert_bodies_agree(&learned_width::LearnedWidth, &bits, 2);
    }

    #[test]
    fn each_learned_parameter_has_its_sum() {
        let line = Line {
            scale: 2.0,
            offset: 1.0,
        };
        // Gradients 1, 2, 3 at 1, 2, 4: 1*0 + 2*1 + 3*3 to the scale, -2*(1+2+3) to the offset.
        let x = [1.0, 2.0, 4.0];
        for all_threads in [false, true] {
            let mut grad = [1.0, 2.0, 3.0];
            let sums = gradients(line, &x, &mut grad, all_threads);
            assert_eq!((grad, sums), ([2.0, 4.0, 6.0], [11.0, -12.0]));
        }
        let mut grad = [1.0, 2.0, 3.0];
        let pass = OneByOne(line);
        assert_eq!(pass.round_backward(&x, &mut grad), [11.0, -12.0]);
        let mut output = [0.0; 3];
        pass.round(&x, &mut output);
        assert_eq!(output, [0.0, 2.0, 6.0]);
    }
}
