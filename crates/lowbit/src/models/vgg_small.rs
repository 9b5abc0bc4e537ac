//! The small VGG of the literature on quantization.
//!
//! Zhang, Yang, Ye, Hua, "LQ-Nets", arXiv 1807.10029, section 4.1: the network of Hubara et al.,
//! "Binarized Neural Networks", arXiv 1602.02830, with a single linear layer.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::normed_conv::{conv, normed_conv};
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    BatchNorm, Conv2d, Linear, LinearConfig, MaxPool2d, MaxPool2dConfig, Relu, conv_norm_relu,
};

/// Configuration of a [`VggSmall`].
#[derive(Debug, Clone)]
pub struct VggSmallConfig {
    /// By how much channels are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 8 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// `2x128C3-MP2-2x256C3-MP2-2x512C3-MP2` and a linear layer of one score per class; each convolution
/// is without bias and has a normalization and a rectifier after it. 4.66 million parameters on 32x32
/// color images with ten classes.
#[derive(Module, Debug)]
pub struct VggSmall {
    convs: Vec<VggSmallConv>,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// A convolution, its normalization, its rectifier, and the pooling if one follows.
#[derive(Module, Debug)]
pub struct VggSmallConv {
    conv: Conv2d,
    bn: Option<BatchNorm>,
    relu: Relu,
    pool: Option<MaxPool2d>,
}

/// Channels of the convolutions; a pooling follows the second of each pair.
const CHANNELS: [usize; 6] = [128, 128, 256, 256, 512, 512];

impl VggSmallConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<VggSmall, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("vgg-small", 8, Images { input, classes })?;
        let [mut channels, height, width] = input;
        let mut planner = Planner::new(&self.plan)?;
        let mut convs = Vec::new();
        for (i, width) in CHANNELS.into_iter().enumerate() {
            let width = self.width.channels(width);
            let at = |name: &str| format!("convs.{i}.{name}");
            let paths = [at("conv"), at("bn"), at("relu")];
            let config = conv([channels, width], 3, 1);
            let (conv, bn, relu) = normed_conv(&mut planner, paths, config, i == 0, device)?;
            let pool =
                (i % 2 == 1).then(|| planner.layer(at("pool"), MaxPool2dConfig::new([2, 2])));
            let pool = pool.transpose()?.map(|pool| pool.init(device));
            convs.push(VggSmallConv {
                conv,
                bn,
                relu,
                pool,
            });
            channels = width;
        }
        let features = channels * (height / 8) * (width / 8);
        let fc = planner.last("fc", LinearConfig::new(features, classes))?;
        Ok(VggSmall {
            convs,
            fc: fc.init(device),
            fold: self.plan.fold,
            layers: planner.finish()?,
        })
    }
}

impl Classifier for VggSmall {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.convs.iter().fold(images, |x, layer| {
            let bn = layer.bn.as_ref();
            let x = conv_norm_relu(self.fold, &layer.conv, bn, &layer.relu, x);
            match &layer.pool {
                Some(pool) => pool.forward(x),
                None => x,
            }
        });
        self.fc.forward(x.flatten::<2>(1, 3))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn folds(&self) -> Vec<FoldedPair> {
        let pair = |i| FoldedPair::new(format!("convs.{i}.conv"), format!("convs.{i}.bn"));
        (0..self.convs.len()).map(pair).collect()
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

impl Named for VggSmall {
    type Size = ();

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "vgg-small").then_some(())
    }

    fn name((): ()) -> String {
        "vgg-small".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = VggSmallConfig {
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(VggSmall);
