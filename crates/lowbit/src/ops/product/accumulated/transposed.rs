//! Transposed convolutions whose sums are made in low precision.

use std::convert::Infallible;

use burn::backend::Backend;
use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use burn::tensor::ops::ConvTransposeOptions;

use super::windows::Geometry;
use super::{ProductSums, add_bias, read, transposed, write};
use crate::ops::product::conv1d::one_pixel_high;
use crate::ops::product::{self, ComposedProduct, FlexProduct, ToOperands};
use crate::ops::quantization::{Operand, PreparedQuantization};

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
    let sums = sums.into();
    let (input, weight) = (input.into_parts(), weight.into_parts());
    product::product(ConvTranspose2d { options, sums }, input, weight, bias)
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
    let [input, weight] = [input, weight].map(one_pixel_high);
    let options = ConvTransposeOptions::new(
        [1, options.stride[0]],
        [0, options.padding[0]],
        [0, options.padding_out[0]],
        [1, options.dilation[0]],
        options.groups,
    );
    let sums = sums.into();
    product::product(ConvTranspose2d { options, sums }, input, weight, bias).squeeze_dim(2)
}

#[derive(Debug, Clone)]
struct ConvTranspose2d {
    options: ConvTransposeOptions<2>,
    sums: ProductSums,
}

composed_on_flex!(ConvTranspose2d);

/// What a convolution does forward, this does backward, and the other way round.
impl ComposedProduct for ConvTranspose2d {
    fn product<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        bias: Option<FloatTensor<B>>,
    ) -> FloatTensor<B> {
        let like = input.clone();
        let (x_shape, x) = read::<B, 4>(input);
        let (w_shape, w) = read::<B, 4>(weight);
        let at = Geometry::transposed(x_shape, w_shape, &self.options);
        let mut output = self.sums.to_input(&at, &w, &x);
        let [height, width] = at.size;
        add_bias::<B>(&mut output, bias, height * width);
        write::<B, 4>(output, [at.batch, at.channels[0], height, width], &like)
    }

    fn gradients<B: Backend>(
        &self,
        input: FloatTensor<B>,
        weight: FloatTensor<B>,
        grad: FloatTensor<B>,
        [to_input, to_weight, to_bias]: [bool; 3],
    ) -> ToOperands<B> {
        let like = grad.clone();
        let (x_shape, x) = read::<B, 4>(input);
        let (w_shape, w) = read::<B, 4>(weight);
        let (_, g) = read::<B, 4>(grad);
        let at = Geometry::transposed(x_shape, w_shape, &self.options);
        let of_input =
            to_input.then(|| write::<B, 4>(self.sums.result(&at, &g, &w), x_shape, &like));
        let of_weight =
            to_weight.then(|| write::<B, 4>(self.sums.to_weight(&at, &g, &x), w_shape, &like));
        let of_bias = to_bias.then(|| {
            let (channels, places) = (at.channels[0], at.size[0] * at.size[1]);
            let images = at.images(&g, channels, at.size);
            // Pixels of all images, each with its channels.
            let pixels: Vec<f32> = images
                .flat_map(|image| transposed(image, [channels, places]))
                .collect();
            let count = at.batch * places;
            let g = transposed(&pixels, [count, channels]);
            write::<B, 1>(self.sums.row_sums(&g, [channels, count]), [channels], &like)
        });
        [of_input, of_weight, of_bias]
    }
}
