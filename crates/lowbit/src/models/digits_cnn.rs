//! A small convolutional network for the embedded digits.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};

use super::Classifier;
use super::classifier::impl_steps;
use crate::Error;
use crate::config::{Layer, Planner, Position, QPlan};
use crate::nn::{
    BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Linear, LinearConfig, MaxPool2d,
    MaxPool2dConfig, Relu, ReluConfig,
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
    bn1: BatchNorm,
    relu1: Relu,
    conv2: Conv2d,
    bn2: BatchNorm,
    relu2: Relu,
    pool: MaxPool2d,
    conv3: Conv2d,
    bn3: BatchNorm,
    relu3: Relu,
    fc: Linear,
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
        let mut conv = |path: &str, channels: [usize; 2], position| {
            Conv2dConfig::new(channels, [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .with_quantization(planner.layer(path, "Conv2d", position))
                .init(device)
        };
        let conv1 = conv("conv1", [self.channels, 16], Position::First);
        let conv2 = conv("conv2", [16, 32], Position::Middle);
        let conv3 = conv("conv3", [32, 64], Position::Middle);
        let mut bn = |path: &str, features| {
            BatchNormConfig::new(features)
                .with_quantization(planner.layer(path, "BatchNorm", Position::Weightless))
                .init(device)
        };
        let (bn1, bn2, bn3) = (bn("bn1", 16), bn("bn2", 32), bn("bn3", 64));
        let mut relu = |path: &str| {
            ReluConfig::new()
                .with_quantization(planner.layer(path, "Relu", Position::Weightless))
                .init(device)
        };
        let (relu1, relu2, relu3) = (relu("relu1"), relu("relu2"), relu("relu3"));
        let pool = MaxPool2dConfig::new([2, 2])
            .with_quantization(planner.layer("pool", "MaxPool2d", Position::Weightless))
            .init(device);
        let fc = LinearConfig::new(64, self.classes)
            .with_quantization(planner.layer("fc", "Linear", Position::Last))
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
            fc,
            layers: planner.finish()?,
        })
    }
}

impl Classifier for DigitsCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self
            .relu1
            .forward(self.bn1.forward(self.conv1.forward(images)));
        let x = self.relu2.forward(self.bn2.forward(self.conv2.forward(x)));
        let x = self.pool.forward(x);
        let x = self.relu3.forward(self.bn3.forward(self.conv3.forward(x)));
        let x: Tensor<2> = x.flatten::<3>(2, 3).mean_dim(2).flatten(1, 2);
        self.fc.forward(x)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl_steps!(DigitsCnn);
