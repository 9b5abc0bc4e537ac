//! Products whose sums are made in low precision, forward and backward.

/// Such products have no kernels of their own on Flex.
macro_rules! composed_on_flex {
    ($product:ty) => {
        impl FlexProduct for $product {
            type Shape = Infallible;

            fn kernel_shape(&self, _: &FlexTensor, _: &FlexTensor) -> Option<Infallible> {
                None
            }

            fn kernel_forward(
                &self,
                shape: Infallible,
                _: [FlexTensor; 2],
                _: &Passes,
                _: Option<FlexTensor>,
            ) -> FlexTensor {
                match shape {}
            }

            fn kernel_backward(
                &self,
                shape: Infallible,
                _: [FlexTensor; 2],
                _: &Passes,
                _: FlexTensor,
                _: [bool; 3],
            ) -> (ToOperands<Flex>, [lowbit_kernels::packing::Learned; 2]) {
                match shape {}
            }
        }
    };
}

mod transposed;
mod windows;

use std::convert::Infallible;

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, read_sync};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Shape, Tensor, TensorData};
use lowbit_formats::Accumulation;
use lowbit_formats::philox::Philox;
use lowbit_kernels::accumulate;

use crate::ops::product::{
    self, ComposedProduct, FlexProduct, Operands, Passes, ToOperands, conv2d_of, linear_of,
};
use crate::ops::quantization::Operand;
pub use transposed::{
    conv_transpose1d_with_sums, conv_transpose2d_with_sums, conv_transpose3d_with_sums,
};
use windows::{Geometry, SPACE, in_space};

/// How the sums of an operator are made, and where stochastic roundings among them draw from.
///
/// The operands of a chip's matrix unit count as numbers of the formats that its text names, in the
/// products of the way back, too: of another format, only its subnormals would be aligned otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductSums {
    accumulation: Accumulation,
    seed: u64,
}

impl From<Accumulation> for ProductSums {
    /// With the seed zero.
    fn from(accumulation: Accumulation) -> Self {
        Self {
            accumulation,
            seed: 0,
        }
    }
}

/// The products that an operator makes, forward and backward.
#[derive(Debug, Clone, Copy)]
enum Pass {
    Result,
    ToInput,
    ToWeight,
    ToBias,
}

impl ProductSums {
    /// The same with random numbers of another seed; where no rounding is stochastic, nothing changes.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// `left * right`, with as many rows and columns as they have: part `part` of what a pass makes,
    /// each with random numbers of its own.
    fn multiply(
        &self,
        (pass, part): (Pass, usize),
        left: &[f32],
        right: &[f32],
        [rows, inner, columns]: [usize; 3],
    ) -> Vec<f32> {
        let mut output = vec![0.0; rows * columns];
        let shape = accumulate::Shape {
            rows,
            inner,
            columns,
        };
        let philox = Philox::new(self.seed, pass as u64);
        let word = |i| u64::from(philox.word(2 * part as u64 + i));
        let seed = word(0) | word(1) << 32;
        accumulate::product(&self.accumulation, &shape, [left, right], seed, &mut output);
        output
    }

    /// The sums of the rows of a matrix `[rows][inner]`, for a bias.
    fn row_sums(&self, matrix: &[f32], [rows, inner]: [usize; 2]) -> Vec<f32> {
        let ones = vec![1.0; inner];
        self.multiply((Pass::ToBias, 0), matrix, &ones, [rows, inner, 1])
    }
}

/// [`linear`](crate::ops::linear()) whose sums are made as `sums` says: those of the result over
/// `d_input`, those of the input's gradient over `d_output`, those of the weight's and the bias's
/// gradients over the rows, each from the first product to the last. The bias is added in float.
///
/// # Shapes
/// As [`linear`](crate::ops::linear()).
pub fn linear_with_sums<const D: usize>(
    input: Operand<D>,
    weight: Operand<2>,
    bias: Option<Operand<1>>,
    sums: impl Into<ProductSums>,
) -> Tensor<D> {
    linear_of(Operands::new(input, weight, bias), Some(sums.into()))
}

/// [`conv2d`](crate::ops::conv2d()) whose sums are made as `sums` says, each from the first product
/// to the last: those of the result over channels in, rows and columns of the kernel; those of the
/// input's gradient over channels out, rows and columns of the kernel; those of the weight's and the
/// bias's gradients over images, rows and columns of the result. Zeros around the image are products
/// like any others. The bias is added in float.
///
/// # Shapes
/// As [`conv2d`](crate::ops::conv2d()).
pub fn conv2d_with_sums(
    input: Operand<4>,
    weight: Operand<4>,
    bias: Option<Operand<1>>,
    options: ConvOptions<2>,
    sums: impl Into<ProductSums>,
) -> Tensor<4> {
    conv2d_of(
        Operands::new(input, weight, bias),
        options,
        Some(sums.into()),
    )
}

/// [`conv3d`](crate::ops::conv3d()) whose sums are made as `sums` says, as [`conv2d_with_sums`] makes
/// them: places of the kernel and of the result go by depth, rows and columns.
///
/// # Shapes
/// As [`conv3d`](crate::ops::conv3d()).
pub fn conv3d_with_sums(
    input: Operand<5>,
    weight: Operand<5>,
    bias: Option<Operand<1>>,
    options: ConvOptions<3>,
    sums: impl Into<ProductSums>,
) -> Tensor<5> {
    let parts = Operands::new(input, weight, bias).into_parts();
    product::product(Convolution::new(options, sums), parts)
}

fn transposed(matrix: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let at = |i: usize| matrix[i % rows * columns + i / rows];
    (0..rows * columns).map(at).collect()
}

/// A tensor's shape and its numbers, in row-major order, on the host.
fn read<B: Backend>(x: FloatTensor<B>) -> (Shape, Vec<f32>) {
    let data = read_sync(B::float_into_data(x)).expect("a tensor's data can be read");
    (data.shape().clone(), data.iter::<f32>().collect())
}

/// The numbers as a tensor beside `like`.
fn write<B: Backend>(
    values: Vec<f32>,
    shape: impl Into<Shape>,
    like: &FloatTensor<B>,
) -> FloatTensor<B> {
    let data = TensorData::new(values, shape).convert_dtype(like.dtype());
    B::float_from_data(data, &like.device())
}

/// Adds the bias of each channel, of which a sample has `inner` numbers after one another.
fn add_bias<B: Backend>(output: &mut [f32], bias: Option<FloatTensor<B>>, inner: usize) {
    let Some(bias) = bias else { return };
    let (_, bias) = read::<B>(bias);
    for (row, bias) in output.chunks_mut(inner).zip(bias.iter().cycle()) {
        row.iter_mut().for_each(|y| *y += bias);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Linear(pub(super) ProductSums);

composed_on_flex!(Linear);

impl ComposedProduct for Linear {
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let like = input.clone();
        let (x_shape, x) = read::<B>(input);
        let (w_shape, w) = read::<B>(weight);
        let [rows, inner, columns] = [x_shape[0], x_shape[1], w_shape[1]];
        let shape = [rows, inner, columns];
        let mut output = self.0.multiply((Pass::Result, 0), &x, &w, shape);
        add_bias::<B>(&mut output, bias, 1);
        write::<B>(output, [rows, columns], &like)
    }

    fn gradients<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        [to_input, to_weight, to_bias]: [bool; 3],
    ) -> ToOperands<B> {
        let (sums, like) = (&self.0, grad.clone());
        let (x_shape, x) = read::<B>(input);
        let (w_shape, w) = read::<B>(weight);
        let [rows, inner, columns] = [x_shape[0], x_shape[1], w_shape[1]];
        let (_, g) = read::<B>(grad);
        let of_input = to_input.then(|| {
            let w = transposed(&w, [inner, columns]);
            let shape = [rows, columns, inner];
            let of_input = sums.multiply((Pass::ToInput, 0), &g, &w, shape);
            write::<B>(of_input, [rows, inner], &like)
        });
        let of_weight = to_weight.then(|| {
            let x = transposed(&x, [rows, inner]);
            let shape = [inner, rows, columns];
            let of_weight = sums.multiply((Pass::ToWeight, 0), &x, &g, shape);
            write::<B>(of_weight, [inner, columns], &like)
        });
        let of_bias = to_bias.then(|| {
            let g = transposed(&g, [rows, columns]);
            write::<B>(sums.row_sums(&g, [columns, rows]), [columns], &like)
        });
        [of_input, of_weight, of_bias]
    }
}

/// A convolution over one to three dimensions.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    options: ConvOptions<SPACE>,
    sums: ProductSums,
}

impl Convolution {
    pub(super) fn new<const N: usize>(
        options: ConvOptions<N>,
        sums: impl Into<ProductSums>,
    ) -> Self {
        Self {
            options: in_space(options),
            sums: sums.into(),
        }
    }
}

composed_on_flex!(Convolution);

impl ComposedProduct for Convolution {
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let like = input.clone();
        let (x_shape, x) = read::<B>(input);
        let (w_shape, w) = read::<B>(weight);
        let at = Geometry::new(&x_shape, &w_shape, &self.options);
        let mut output = self.sums.result(&at, &x, &w);
        add_bias::<B>(&mut output, bias, at.places());
        write::<B>(output, at.result_shape(&x_shape), &like)
    }

    fn gradients<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        [to_input, to_weight, to_bias]: [bool; 3],
    ) -> ToOperands<B> {
        let like = grad.clone();
        let (x_shape, x) = read::<B>(input);
        let (w_shape, w) = read::<B>(weight);
        let (_, g) = read::<B>(grad);
        let at = Geometry::new(&x_shape, &w_shape, &self.options);
        let of_input =
            to_input.then(|| write::<B>(self.sums.to_input(&at, &w, &g), x_shape, &like));
        let of_weight =
            to_weight.then(|| write::<B>(self.sums.to_weight(&at, &x, &g), w_shape, &like));
        let of_bias = to_bias.then(|| {
            let count = at.batch * at.places();
            let g = at.by_channel(&g);
            let sums = self.sums.row_sums(&g, [at.channels[1], count]);
            write::<B>(sums, [at.channels[1]], &like)
        });
        [of_input, of_weight, of_bias]
    }
}

/// The passes of a convolution.
impl ProductSums {
    fn result(&self, at: &Geometry, x: &[f32], w: &[f32]) -> Vec<f32> {
        let [terms, places] = [at.group_in() * at.kernel_places(), at.places()];
        let mut output = Vec::with_capacity(at.batch * at.channels[1] * places);
        for (image, x) in at.images(x, at.channels[0], at.size).enumerate() {
            for group in 0..at.groups {
                let windows = at.windows(at.group(x, group, at.group_in(), at.size));
                let w = at.group_weight(w, group);
                let part = (Pass::Result, image * at.groups + group);
                let shape = [at.group_out(), terms, places];
                let sums = self.multiply(part, w, &windows, shape);
                output.extend(sums);
            }
            debug_assert_eq!(output.len(), (image + 1) * at.channels[1] * places);
        }
        output
    }

    fn to_input(&self, at: &Geometry, w: &[f32], g: &[f32]) -> Vec<f32> {
        let places: usize = at.size.iter().product();
        let shape = [at.group_in(), at.group_out() * at.kernel_places(), places];
        let mut of_input = Vec::with_capacity(at.batch * at.channels[0] * places);
        for (image, g) in at.images(g, at.channels[1], at.out).enumerate() {
            for group in 0..at.groups {
                let windows = at.windows_back(at.group(g, group, at.group_out(), at.out));
                let w = at.by_channel_in(at.group_weight(w, group));
                let part = (Pass::ToInput, image * at.groups + group);
                of_input.extend(self.multiply(part, &w, &windows, shape));
            }
        }
        of_input
    }

    fn to_weight(&self, at: &Geometry, x: &[f32], g: &[f32]) -> Vec<f32> {
        let (places, count) = (at.places(), at.batch * at.places());
        let terms = at.group_in() * at.kernel_places();
        let g = at.by_channel(g);
        let mut of_weight = Vec::with_capacity(at.channels[1] * terms);
        for group in 0..at.groups {
            let mut windows = Vec::with_capacity(count * terms);
            for x in at.images(x, at.channels[0], at.size) {
                let image = at.windows(at.group(x, group, at.group_in(), at.size));
                windows.extend(transposed(&image, [terms, places]));
            }
            let rows = at.group_out() * count;
            let g = &g[group * rows..][..rows];
            let shape = [at.group_out(), count, terms];
            let part = (Pass::ToWeight, group);
            of_weight.extend(self.multiply(part, g, &windows, shape));
        }
        of_weight
    }
}

#[cfg(test)]
mod tests;
