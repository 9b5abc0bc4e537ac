//! VGG networks for 32x32 images.
//!
//! Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
//! arXiv 1409.1556, table 1, columns D and E; with the small classifier of the examples of SWA
//! (arXiv 1803.05407), SWALP (arXiv 1904.11943) and QPyTorch.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::normed_conv::{NormedConv, conv, normed_conv};
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    BatchNorm, Conv2d, Dropout, DropoutConfig, Linear, LinearConfig, MaxPool2d, MaxPool2dConfig,
    Relu, ReluConfig, conv_norm_relu,
};

/// Configuration of a [`Vgg`].
#[derive(Debug, Clone)]
pub struct VggConfig {
    /// Which of the two.
    pub depth: VggDepth,
    /// Whether each convolution has a batch normalization after it.
    pub normalized: bool,
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 32 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// Layers with a weight in the original, which has three linear layers, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VggDepth {
    /// 13 convolutions: two stages of two and three of three.
    Sixteen,
    /// 16 convolutions: two stages of two and three of four.
    Nineteen,
}

/// Five stages of 3x3 convolutions of 64, 128, 256, 512 and 512 channels, each convolution with a
/// rectifier and each stage pooled by two; then two linear layers of 512 features with a dropout
/// of a half before and a rectifier after each, and a linear layer of one score per class.
///
/// Convolutions have biases, also where normalizations follow. On 32x32 color images with ten
/// classes, VGG-16 has 15,245,130 parameters and VGG-19 20,554,826; the normalizations of VGG-16
/// add 8,448 and those of VGG-19 11,008.
#[derive(Module, Debug)]
pub struct Vgg {
    stages: Vec<VggStage>,
    dropout1: Dropout,
    fc1: Linear,
    relu1: Relu,
    dropout2: Dropout,
    fc2: Linear,
    relu2: Relu,
    fc3: Linear,
    #[module(skip)]
    normalized: bool,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// Convolutions of as many channels and a pooling by two.
#[derive(Module, Debug)]
pub struct VggStage {
    convs: Vec<VggConv>,
    pool: MaxPool2d,
}

/// A convolution, its normalization if it has one, and its rectifier.
#[derive(Module, Debug)]
pub struct VggConv {
    conv: Conv2d,
    bn: Option<BatchNorm>,
    relu: Relu,
}

impl VggDepth {
    /// Convolutions of each stage.
    fn convolutions(self) -> [usize; 5] {
        match self {
            Self::Sixteen => [2, 2, 3, 3, 3],
            Self::Nineteen => [2, 2, 4, 4, 4],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sixteen => "vgg16",
            Self::Nineteen => "vgg19",
        }
    }
}

/// Channels of each stage.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// Features of the hidden linear layers.
const FEATURES: usize = 512;

impl VggConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<Vgg, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side(self.depth.name(), 32, Images { input, classes })?;
        let [channels, height, width] = input;
        let mut planner = Planner::new(&self.plan)?;
        let stages = self.stages(&mut planner, channels, device)?;
        let mut dropout = |path: &str| -> Result<_, Error> {
            Ok(planner.layer(path, DropoutConfig::new(0.5))?.init(device))
        };
        let (dropout1, dropout2) = (dropout("dropout1")?, dropout("dropout2")?);
        let [last, hidden] = [CHANNELS[4], FEATURES].map(|n| self.width.channels(n));
        let features = last * (height / 32) * (width / 32);
        let fc1 = planner.layer("fc1", LinearConfig::new(features, hidden))?;
        let relu1 = planner.layer("relu1", ReluConfig::new())?;
        let fc2 = planner.layer("fc2", LinearConfig::new(hidden, hidden))?;
        let relu2 = planner.layer("relu2", ReluConfig::new())?;
        let fc3 = planner.last("fc3", LinearConfig::new(hidden, classes))?;
        Ok(Vgg {
            stages,
            dropout1,
            fc1: fc1.init(device),
            relu1: relu1.init(device),
            dropout2,
            fc2: fc2.init(device),
            relu2: relu2.init(device),
            fc3: fc3.init(device),
            normalized: self.normalized,
            fold: self.plan.fold,
            layers: planner.finish()?,
        })
    }

    fn stages(
        &self,
        planner: &mut Planner<'_>,
        mut channels: usize,
        device: &Device,
    ) -> Result<Vec<VggStage>, Error> {
        let shapes = self.depth.convolutions().into_iter().zip(CHANNELS);
        let mut stages = Vec::new();
        for (i, (convolutions, width)) in shapes.enumerate() {
            let width = self.width.channels(width);
            let mut convs = Vec::new();
            for j in 0..convolutions {
                let path = format!("stages.{i}.convs.{j}");
                let is_first = (i, j) == (0, 0);
                convs.push(self.conv(planner, &path, [channels, width], is_first, device)?);
                channels = width;
            }
            let pool = planner.layer(format!("stages.{i}.pool"), MaxPool2dConfig::new([2, 2]))?;
            let pool = pool.init(device);
            stages.push(VggStage { convs, pool });
        }
        Ok(stages)
    }

    fn conv(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        channels: [usize; 2],
        is_first: bool,
        device: &Device,
    ) -> Result<VggConv, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let config = conv(channels, 3, 1).with_bias(true);
        let (mut conv, bn, relu): NormedConv = if self.normalized {
            let paths = [at("conv"), at("bn"), at("relu")];
            normed_conv(planner, paths, config, is_first, device)?
        } else {
            let conv = match is_first {
                true => planner.first(at("conv"), config)?,
                false => planner.layer(at("conv"), config)?,
            };
            let relu = planner.layer(at("relu"), ReluConfig::new())?;
            (conv.init(device), None, relu.init(device))
        };
        // Burn draws a bias as it draws the weight.
        let zeros = Tensor::zeros([channels[1]], device);
        conv.bias = Some(Param::from_tensor(zeros));
        Ok(VggConv { conv, bn, relu })
    }
}

impl Classifier for Vgg {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.stages.iter().fold(images, |x, stage| {
            let x = stage.convs.iter().fold(x, |x, VggConv { conv, bn, relu }| {
                conv_norm_relu(self.fold, conv, bn.as_ref(), relu, x)
            });
            stage.pool.forward(x)
        });
        let x = self.dropout1.forward(x.flatten::<2>(1, 3));
        let x = self.relu1.forward(self.fc1.forward(x));
        let x = self.dropout2.forward(x);
        let x = self.relu2.forward(self.fc2.forward(x));
        self.fc3.forward(x)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn folds(&self) -> Vec<FoldedPair> {
        if !self.normalized {
            return Vec::new();
        }
        let stages = self.stages.iter().enumerate();
        let pairs = stages.flat_map(|(i, stage)| {
            (0..stage.convs.len()).map(move |j| {
                let at = |name: &str| format!("stages.{i}.convs.{j}.{name}");
                FoldedPair::new(at("conv"), at("bn"))
            })
        });
        pairs.collect()
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

impl Named for Vgg {
    type Size = (VggDepth, bool);

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<Self::Size> {
        let sizes = [VggDepth::Sixteen, VggDepth::Nineteen].into_iter();
        let mut sizes = sizes.flat_map(|depth| [(depth, false), (depth, true)]);
        sizes.find(|size| Self::name(*size) == name)
    }

    fn name((depth, normalized): Self::Size) -> String {
        let suffix = if normalized { "-bn" } else { "" };
        format!("{}{suffix}", depth.name())
    }

    fn build(
        (depth, normalized): Self::Size,
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = VggConfig {
            width,
            depth,
            normalized,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(Vgg);
