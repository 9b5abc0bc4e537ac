//! Transposed convolutions whose sums are made in low precision.

use std::convert::Infallible;

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn::tensor::ops::ConvTransposeOptions;

use super::windows::{Geometry, SPACE, transposed_in_space};
use super::{ProductSums, add_bias, read, transposed, write};
use crate::ops::product::conv1d::one_pixel_high;
use crate::ops::product::{self, ComposedProduct, FlexProduct, Operands, Passes, ToOperands};
use crate::ops::quantization::Operand;

/// [`conv_transpose2d`](crate::ops::conv_transpose2d()) whose sums are made as `sums` says, each from
/// the first product to the last: those of the result over channels in, rows and columns of the kernel;
/// those of the input's gradient over channels out, rows and columns of the kernel; those of the
/// weight's gradient over images, rows and columns of the input, and those of the bias's of the result.
/// The bias is added in float.
///
/// # Shapes
/// As [`conv_transpose2d`](crate::ops::conv_transpose2d()).
pub fn conv_transpose2d_with_sums(
    input: Operand<4>,
    weight: Operand<4>,
    bias: Option<Operand<1>>,
    options: ConvTransposeOptions<2>,
    sums: impl Into<ProductSums>,
) -> Tensor<4> {
    let parts = Operands::new(input, weight, bias).into_parts();
    product::product(TransposedConvolution::new(options, sums), parts)
}

/// [`conv_transpose3d`](crate::ops::conv_transpose3d()) whose sums are made as `sums` says, as
/// [`conv_transpose2d_with_sums`] makes them: places go by depth, rows and columns.
///
/// # Shapes
/// As [`conv_transpose3d`](crate::ops::conv_transpose3d()).
pub fn conv_transpose3d_with_sums(
    input: Operand<5>,
    weight: Operand<5>,
    bias: Option<Operand<1>>,
    options: ConvTransposeOptions<3>,
    sums: impl Into<ProductSums>,
) -> Tensor<5> {
    let parts = Operands::new(input, weight, bias).into_parts();
    product::product(TransposedConvolution::new(options, sums), parts)
}

/// [`conv_transpose1d`](crate::ops::conv_transpose1d()) whose sums are made as `sums` says, as
/// [`conv_transpose2d_with_sums`] makes them.
///
/// # Shapes
/// As [`conv_transpose1d`](crate::ops::conv_transpose1d()).
pub fn conv_transpose1d_with_sums(
    input: Operand<3>,
    weight: Operand<3>,
    bias: Option<Operand<1>>,
    options: ConvTransposeOptions<1>,
    sums: impl Into<ProductSums>,
) -> Tensor<3> {
    let parts = one_pixel_high(Operands::new(input, weight, bias).into_parts());
    product::product(TransposedConvolution::new(options, sums), parts).squeeze_dim(2)
}

/// A transposed convolution over one to three dimensions.
#[derive(Debug, Clone)]
struct TransposedConvolution {
    options: ConvTransposeOptions<SPACE>,
    sums: ProductSums,
}

impl TransposedConvolution {
    fn new<const N: usize>(options: ConvTransposeOptions<N>, sums: impl Into<ProductSums>) -> Self {
        Self {
            options: transposed_in_space(options),
            sums: sums.into(),
        }
    }
}

composed_on_flex!(TransposedConvolution);

/// What a convolution does forward, this does backward, and the other way round.
impl ComposedProduct for TransposedConvolution {
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let like = input.clone();
        let (x_shape, x) = read::<B>(input);
        let (w_shape, w) = read::<B>(weight);
        let at = Geometry::transposed(&x_shape, &w_shape, &self.options);
        let mut output = self.sums.to_input(&at, &w, &x);
        add_bias::<B>(&mut output, bias, at.size.iter().product());
        write::<B>(output, at.input_shape(&x_shape), &like)
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
        let at = Geometry::transposed(&x_shape, &w_shape, &self.options);
        let of_input = to_input.then(|| write::<B>(self.sums.result(&at, &g, &w), x_shape, &like));
        let of_weight =
            to_weight.then(|| write::<B>(self.sums.to_weight(&at, &g, &x), w_shape, &like));
        let of_bias = to_bias.then(|| {
            let (channels, places) = (at.channels[0], at.size.iter().product());
            let images = at.images(&g, channels, at.size);
            // Pixels of all images, each with its channels.
            let pixels: Vec<f32> = images
                .flat_map(|image| transposed(image, [channels, places]))
                .collect();
            let count = at.batch * places;
            let g = transposed(&pixels, [count, channels]);
            write::<B>(self.sums.row_sums(&g, [channels, count]), [channels], &like)
        });
        [of_input, of_weight, of_bias]
    }
}
