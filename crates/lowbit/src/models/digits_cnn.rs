//! A small convolutional network for the embedded digits.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::{Classifier, FoldedPair, Stages, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig,
    Linear, LinearConfig, MaxPool2d, MaxPool2dConfig, Relu, ReluConfig, conv_norm_relu,
};

/// Configuration of a [`DigitsCnn`].
#[derive(Debug, Clone)]
pub struct DigitsCnnConfig {
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
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
        let [c1, c2, c3] = [16, 32, 64].map(|channels| self.width.channels(channels));
        let conv = |planner: &Planner, channels: [usize; 2]| {
            let conv = Conv2dConfig::new(channels, [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(fold == Fold::Merged);
            planner.foldable(conv)
        };
        let conv1 = planner.first("conv1", conv(&planner, [self.channels, c1]))?;
        let conv2 = planner.layer("conv2", conv(&planner, [c1, c2]))?;
        let conv3 = planner.layer("conv3", conv(&planner, [c2, c3]))?;
        let mut bn = |path: &str, features| -> Result<_, Error> {
            let norm = planner.norm(path, BatchNormConfig::new(features))?;
            Ok((fold != Fold::Merged).then(|| norm.init(device)))
        };
        let (bn1, bn2, bn3) = (bn("bn1", c1)?, bn("bn2", c2)?, bn("bn3", c3)?);
        let mut relu = |path: &str| -> Result<_, Error> {
            Ok(planner.layer(path, ReluConfig::new())?.init(device))
        };
        let (relu1, relu2, relu3) = (relu("relu1")?, relu("relu2")?, relu("relu3")?);
        let pool = planner.layer("pool", MaxPool2dConfig::new([2, 2]))?;
        let mean = planner.layer("mean", AdaptiveAvgPool2dConfig::new([1, 1]))?;
        let fc = planner.last("fc", LinearConfig::new(c3, self.classes))?;
        Ok(DigitsCnn {
            conv1: conv1.layer.init(device),
            bn1,
            relu1,
            conv2: conv2.layer.init(device),
            bn2,
            relu2,
            pool: pool.init(device),
            conv3: conv3.layer.init(device),
            bn3,
            relu3,
            mean: mean.init(device),
            fc: fc.init(device),
            fold,
            layers: planner.finish()?,
        })
    }
}

impl Classifier for DigitsCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.through(images, |_| {})
    }

    /// What each rectifier hands on, of the second one after the pooling.
    fn stages(&self, images: Tensor<4>) -> Stages {
        let mut features = Vec::new();
        let scores = self.through(images, |x| features.push(x.clone()));
        Stages { features, scores }
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

impl DigitsCnn {
    /// The scores; `stage` sees what each stage hands on.
    fn through(&self, images: Tensor<4>, mut stage: impl FnMut(&Tensor<4>)) -> Tensor<2> {
        let normed = |conv, bn: &Option<BatchNorm>, relu, x| {
            conv_norm_relu(self.fold, conv, bn.as_ref(), relu, x)
        };
        let x = normed(&self.conv1, &self.bn1, &self.relu1, images);
        stage(&x);
        let x = normed(&self.conv2, &self.bn2, &self.relu2, x);
        let x = self.pool.forward(x);
        stage(&x);
        let x = normed(&self.conv3, &self.bn3, &self.relu3, x);
        stage(&x);
        self.fc.forward(self.mean.forward(x).flatten::<2>(1, 3))
    }
}

impl Named for DigitsCnn {
    type Size = ();

    const IMAGES: Images = Images {
        input: [1, 8, 8],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "cnn").then_some(())
    }

    fn name((): ()) -> String {
        "cnn".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        check_side("cnn", 2, images)?;
        let config = DigitsCnnConfig {
            width,
            channels: images.input[0],
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(DigitsCnn);
