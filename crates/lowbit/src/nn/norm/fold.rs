//! Folding batch normalization into the convolution before it.

use burn::tensor::Tensor;
use burn::tensor::ops::ConvOptions;

use crate::config::Fold;
use crate::nn::activation::Relu;
use crate::nn::conv::Conv2d;
use crate::nn::join::Add;
use crate::nn::norm::BatchNorm;
use crate::nn::norm::one_pass::Chain;
use crate::ops::{self, Operands};

/// What a normalization does to each channel, `[channels]` each.
#[derive(Debug, Clone)]
pub struct Normalization {
    /// Scale.
    pub gamma: Tensor<1>,
    /// Shift.
    pub beta: Tensor<1>,
    /// Mean.
    pub mean: Tensor<1>,
    /// Variance.
    pub variance: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl Normalization {
    /// `gamma / sqrt(variance + epsilon)` of each channel.
    pub fn scale(&self) -> Tensor<1> {
        let variance = self.variance.clone();
        self.gamma.clone() / variance.add_scalar(self.epsilon).sqrt()
    }

    /// Weight and bias of the one layer that a convolution and this normalization after it make:
    /// `w gamma / sqrt(variance + epsilon)` and
    /// `beta + (b - mean) gamma / sqrt(variance + epsilon)` per output channel.
    ///
    /// # Shapes
    /// - `weight` and the first result: `[channels_out, ...]`
    /// - `bias` and the second result: `[channels_out]`
    pub fn fold<const D: usize>(
        self,
        weight: Tensor<D>,
        bias: Option<Tensor<1>>,
    ) -> (Tensor<D>, Tensor<1>) {
        let factor = self.scale();
        let mut shape = [1; D];
        shape[0] = factor.dims()[0];
        let shift = match bias {
            Some(bias) => bias - self.mean,
            None => self.mean.neg(),
        };
        let bias = self.beta + shift * factor.clone();
        (weight * factor.reshape(shape), bias)
    }
}

/// A convolution, the normalization that alone reads it, as `fold` says, and its rectifier;
/// without normalization, the convolution and the rectifier.
///
/// Folded, the quantizers of the convolution quantize the folded weight and bias, its input, and
/// what the pair hands on; those of the normalization are not used.
///
/// # Shapes
/// As [`Conv2d::forward`].
pub fn conv_norm_relu(
    fold: Fold,
    conv: &Conv2d,
    norm: Option<&BatchNorm>,
    relu: &Relu,
    x: Tensor<4>,
) -> Tensor<4> {
    let chain = Chain {
        fold,
        conv,
        norm,
        add: None,
        relu: Some(relu),
    };
    match norm {
        _ if chain.is_one_pass(&x) => chain.in_one_pass(x, None::<fn() -> Tensor<4>>),
        None => relu.forward(conv.forward(x)),
        Some(norm) if fold.is_off() => norm.forward_rectified(conv.forward(x), relu),
        Some(norm) => relu.forward(folded_sum(conv, norm, x)),
    }
}

/// The same without the rectifier.
///
/// # Shapes
/// As [`Conv2d::forward`].
pub fn conv_norm(fold: Fold, conv: &Conv2d, norm: Option<&BatchNorm>, x: Tensor<4>) -> Tensor<4> {
    let chain = Chain {
        fold,
        conv,
        norm,
        add: None,
        relu: None,
    };
    match norm {
        _ if chain.is_one_pass(&x) => chain.in_one_pass(x, None::<fn() -> Tensor<4>>),
        None => conv.forward(x),
        Some(norm) if fold.is_off() => norm.forward(conv.forward(x)),
        Some(norm) => folded_sum(conv, norm, x),
    }
}

/// The end of a residual block: a convolution with the normalization after it, as [`conv_norm`], the
/// addition of what `shortcut` makes, and perhaps a rectifier.
///
/// # Shapes
/// As the convolution; the shortcut's is that of the result.
pub fn conv_norm_add(
    fold: Fold,
    (conv, norm): (&Conv2d, Option<&BatchNorm>),
    x: Tensor<4>,
    add: &Add,
    shortcut: impl FnOnce() -> Tensor<4>,
    relu: Option<&Relu>,
) -> Tensor<4> {
    let chain = Chain {
        fold,
        conv,
        norm,
        add: Some(add),
        relu,
    };
    if chain.is_one_pass(&x) {
        return chain.in_one_pass(x, Some(shortcut));
    }
    let y = conv_norm(fold, conv, norm, x);
    let sum = add.forward(y, shortcut());
    match relu {
        Some(relu) => relu.forward(sum),
        None => sum,
    }
}

fn folded_sum(conv: &Conv2d, norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    folded(conv, norm, x, |operands, options| {
        ops::conv2d_of(operands, options, conv.quantizers.sums())
    })
}

/// The same, where `product` makes the product of the operands.
pub(super) fn folded(
    conv: &Conv2d,
    norm: &BatchNorm,
    x: Tensor<4>,
    product: impl FnOnce(Operands<4, 4>, ConvOptions<2>) -> Tensor<4>,
) -> Tensor<4> {
    let (parts, [_, _, size @ ..]) = (conv.parts(), x.dims());
    let options = parts.options(size);
    let device = x.device();
    let x = conv.quantizers.input(x);
    let (weight, bias) = (conv.weight.val(), conv.bias.as_ref().map(|b| b.val()));
    let live = device.is_autodiff() && norm.training.is_enabled();
    let normalization = if live {
        let plain = |t: &Tensor<1>| t.clone().into();
        let bias = bias.as_ref().map(plain);
        norm.of_batch(ops::conv2d(
            x.clone(),
            weight.clone().into(),
            bias,
            options.clone(),
        ))
    } else {
        norm.running(&device)
    };
    let (weight, bias) = normalization.fold(weight, bias);
    conv.quantizers.product(
        x,
        conv.quantizers.weight(weight),
        Some(bias),
        parts.sums(),
        |operands| product(operands, options),
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn one_channel_by_hand() {
        let device = Device::flex();
        let one = |x: f32| Tensor::<1>::from_floats([x], &device);
        let normalization = Normalization {
            gamma: one(3.0),
            beta: one(0.5),
            mean: one(2.0),
            variance: one(3.0),
            epsilon: 1.0,
        };
        // The factor is 3 / sqrt(4) = 1.5: weight 4 gives 6, bias 0.5 + (1 - 2) 1.5 = -1.
        let (weight, bias) = normalization.fold(one(4.0), Some(one(1.0)));
        assert_eq!(weight.into_scalar::<f32>(), 6.0);
        assert_eq!(bias.into_scalar::<f32>(), -1.0);
    }
}
