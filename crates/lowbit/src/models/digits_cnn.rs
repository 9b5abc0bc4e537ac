//! A small convolutional network for the embedded digits.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::{Classifier, FoldedPair};
use crate::Error;
use crate::config::{Fold, Layer, LayerType, Planner, QConfig, QPlan};
use crate::nn::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig,
    Linear, LinearConfig, MaxPool2d, MaxPool2dConfig, Relu, ReluConfig, conv_norm_relu,
};

/// Configuration of a [`DigitsCnn`].
#[derive(Debug, Clone)]
pub struct DigitsCnnConfig {
    /// Channels of the images.
    pub channels: usize,
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// Three 3x3 convolutions of 16, 32 and 64 channels, each with batch normalization and a
/// rectifier, a pooling by two after the second, the mean over the image, and a linear layer.
#[derive(Module, Debug)]
pub struct DigitsCnn {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    relu1: Relu,
    conv2: Conv2d,
    bn2: Option<BatchNorm>,
    relu2: Relu,
    pool: MaxPool2d,
    conv3: Conv2d,
    bn3: Option<BatchNorm>,
    relu3: Relu,
    mean: AdaptiveAvgPool2d,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

impl DigitsCnnConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<DigitsCnn, Error> {
        let mut planner = Planner::new(&self.plan)?;
        let fold = planner.fold();
        let conv = |channels: [usize; 2], config: QConfig| {
            Conv2dConfig::new(channels, [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(fold == Fold::Merged)
                .with_quantization(config)
                .init(device)
        };
        let conv_type = LayerType::Conv2d {
            bias: !fold.is_off(),
        };
        let conv1 = conv([self.channels, 16], planner.first("conv1", conv_type));
        let conv2 = conv([16, 32], planner.layer("conv2", conv_type));
        let conv3 = conv([32, 64], planner.layer("conv3", conv_type));
        let mut bn = |path: &str, features| {
            (fold != Fold::Merged).then(|| {
                BatchNormConfig::new(features)
                    .with_quantization(planner.norm(path))
                    .init(device)
            })
        };
        let (bn1, bn2, bn3) = (bn("bn1", 16), bn("bn2", 32), bn("bn3", 64));
        let mut relu = |path: &str| {
            ReluConfig::new()
                .with_quantization(planner.layer(path, LayerType::Relu))
                .init(device)
        };
        let (relu1, relu2, relu3) = (relu("relu1"), relu("relu2"), relu("relu3"));
        let pool = MaxPool2dConfig::new([2, 2])
            .with_quantization(planner.layer("pool", LayerType::MaxPool2d))
            .init(device);
        let mean = AdaptiveAvgPool2dConfig::new([1, 1])
            .with_quantization(planner.layer("mean", LayerType::AdaptiveAvgPool2d))
            .init(device);
        let fc = LinearConfig::new(64, self.classes)
            .with_quantization(planner.last("fc", LayerType::Linear { bias: true }))
            .init(device);
        Ok(DigitsCnn {
            conv1,
            bn1,
            relu1,
            conv2,
            bn2,
            relu2,
            pool,
            conv3,
            bn3,
            relu3,
            mean,
            fc,
            fold,
            layers: planner.finish()?,
        })
    }
}

impl Classifier for DigitsCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let normed = |conv, bn: &Option<BatchNorm>, relu, x| {
            conv_norm_relu(self.fold, conv, bn.as_ref(), relu, x)
        };
        let x = normed(&self.conv1, &self.bn1, &self.relu1, images);
        let x = normed(&self.conv2, &self.bn2, &self.relu2, x);
        let x = self.pool.forward(x);
        let x = normed(&self.conv3, &self.bn3, &self.relu3, x);
        self.fc.forward(self.mean.forward(x).flatten::<2>(1, 3))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn folds(&self) -> Vec<FoldedPair> {
        let pair = |i| FoldedPair::new(format!("conv{i}"), format!("bn{i}"));
        (1..=3).map(pair).collect()
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

impl_steps!(DigitsCnn);
