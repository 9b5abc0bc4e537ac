//! A convolution with its normalization and its rectifier, as many networks have them.

use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::Device;

use crate::Error;
use crate::config::{Fold, Planner};
use crate::nn::{BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Relu, ReluConfig};

/// A convolution, the normalization after it unless that is merged into it, and the rectifier.
pub(super) type NormedConv = (Conv2d, Option<BatchNorm>, Relu);

/// A convolution without bias that keeps the image's size up to its stride, its weight drawn with
/// the standard deviation `sqrt(2 / (kernel^2 channels_out))` (He et al., arXiv 1502.01852).
pub(super) fn conv(channels: [usize; 2], kernel: usize, stride: usize) -> Conv2dConfig {
    let pad = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: true,
        })
}

/// A convolution, the normalization after it and its rectifier, at these three paths; where the
/// normalization is merged into the convolution, that has a bias.
pub(super) fn normed_conv(
    planner: &mut Planner<'_>,
    paths: [String; 3],
    config: Conv2dConfig,
    is_first: bool,
    device: &Device,
) -> Result<NormedConv, Error> {
    let [conv, bn, relu] = paths;
    let (conv, norm) = conv_and_norm(planner, [conv, bn], config, is_first, device)?;
    let relu = planner.layer(relu, ReluConfig::new())?;
    Ok((conv, norm, relu.init(device)))
}

/// The same without rectifier, at these two paths.
pub(super) fn conv_and_norm(
    planner: &mut Planner<'_>,
    [conv, bn]: [String; 2],
    config: Conv2dConfig,
    is_first: bool,
    device: &Device,
) -> Result<(Conv2d, Option<BatchNorm>), Error> {
    let merged = planner.fold() == Fold::Merged;
    let norm = BatchNormConfig::new(config.channels[1]);
    let bias = config.bias || merged;
    let config = planner.foldable(config.with_bias(bias));
    let conv = match is_first {
        true => planner.first(conv, config)?,
        false => planner.layer(conv, config)?,
    };
    let conv = conv.layer.init(device);
    let norm = planner.norm(bn, norm)?;
    Ok((conv, (!merged).then(|| norm.init(device))))
}
