//! The plain convolutional networks of teacher assistants.
//!
//! Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", arXiv 1902.03393.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::normed_conv::normed_conv;
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, LinearConfig, MaxPool2d, MaxPool2dConfig, Relu,
    ReluConfig, conv_norm_relu,
};

/// Configuration of a [`Plane`].
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// Which of the networks.
    pub depth: PlaneDepth,
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, halved in each pooling.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// Layers with a weight as the paper counts them, which leaves out the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaneDepth {
    /// `plane2`
    Two,
    /// `plane4`
    Four,
    /// `plane6`
    Six,
    /// `plane8`
    Eight,
    /// `plane10`
    Ten,
}

/// A stage: convolutions of so many channels, and whether a pooling follows.
type Stage = (usize, usize, bool);

impl PlaneDepth {
    const ALL: [Self; 5] = [Self::Two, Self::Four, Self::Six, Self::Eight, Self::Ten];

    fn name(self) -> &'static str {
        match self {
            Self::Two => "plane2",
            Self::Four => "plane4",
            Self::Six => "plane6",
            Self::Eight => "plane8",
            Self::Ten => "plane10",
        }
    }

    /// Stages, and the features of the hidden linear layer if there is one: those that the authors'
    /// code lists for CIFAR-10, and for more classes than ten those for CIFAR-100.
    fn layers(self, classes: usize) -> (&'static [Stage], Option<usize>) {
        match (self, classes > 10) {
            (Self::Two, false) => (&[(1, 16, true), (1, 16, true)], None),
            (Self::Two, true) => (&[(1, 32, true), (1, 32, true)], None),
            (Self::Four, false) => (&[(2, 16, true), (2, 32, true)], None),
            (Self::Four, true) => (&[(2, 32, true), (2, 64, true)], None),
            (Self::Six, false) => (&[(2, 16, true), (2, 32, true), (2, 64, true)], None),
            (Self::Six, true) => (&[(2, 32, true), (2, 64, true), (2, 128, false)], None),
            (Self::Eight, false) => (
                &[(2, 16, true), (2, 32, true), (2, 64, true), (2, 128, true)],
                Some(64),
            ),
            (Self::Eight, true) => (
                &[(2, 32, true), (2, 64, true), (2, 128, true), (2, 256, true)],
                Some(64),
            ),
            (Self::Ten, many) => (
                &[(2, 32, true), (2, 64, true), (2, 128, true), (4, 256, true)],
                Some(if many { 512 } else { 128 }),
            ),
        }
    }
}

/// 3x3 convolutions with a bias, a normalization and a rectifier each; poolings by two; a hidden
/// linear layer with a rectifier in `plane8` and `plane10`, and one of a score per class. Layers are
/// those that the authors' code lists for CIFAR-10, for more classes than ten those for CIFAR-100.
#[derive(Module, Debug)]
pub struct Plane {
    convs: Vec<PlaneConv>,
    fc1: Option<Linear>,
    relu: Option<Relu>,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// A convolution, its normalization, its rectifier, and the pooling if one follows.
#[derive(Module, Debug)]
pub struct PlaneConv {
    conv: Conv2d,
    bn: Option<BatchNorm>,
    relu: Relu,
    pool: Option<MaxPool2d>,
}

impl PlaneConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<Plane, Error> {
        let (input, classes) = (self.input, self.classes);
        let (stages, hidden) = self.depth.layers(classes);
        let poolings = stages.iter().filter(|(_, _, pooled)| *pooled).count();
        let side = 1 << poolings;
        check_side(self.depth.name(), side, Images { input, classes })?;
        let [mut channels, height, width] = input;
        let mut planner = Planner::new(&self.plan)?;
        let mut convs = Vec::new();
        for &(convolutions, width, pooled) in stages {
            let width = self.width.channels(width);
            for j in 0..convolutions {
                let pooled = pooled && j + 1 == convolutions;
                let shape = [channels, width];
                convs.push(plane_conv(
                    &mut planner,
                    convs.len(),
                    shape,
                    pooled,
                    device,
                )?);
                channels = width;
            }
        }
        let mut features = channels * (height / side) * (width / side);
        let (mut fc1, mut relu) = (None, None);
        if let Some(hidden) = hidden {
            let hidden = self.width.channels(hidden);
            let linear = LinearConfig::new(features, hidden);
            fc1 = Some(planner.layer("fc1", linear)?.init(device));
            relu = Some(planner.layer("relu", ReluConfig::new())?.init(device));
            features = hidden;
        }
        let fc = planner.last("fc", LinearConfig::new(features, classes))?;
        Ok(Plane {
            convs,
            fc1,
            relu,
            fc: fc.init(device),
            fold: self.plan.fold,
            layers: planner.finish()?,
        })
    }
}

fn plane_conv(
    planner: &mut Planner<'_>,
    index: usize,
    channels: [usize; 2],
    pooled: bool,
    device: &Device,
) -> Result<PlaneConv, Error> {
    let at = |name: &str| format!("convs.{index}.{name}");
    let config = Conv2dConfig::new(channels, [3, 3]);
    let config = config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
    let paths = [at("conv"), at("bn"), at("relu")];
    let (conv, bn, relu) = normed_conv(planner, paths, config, index == 0, device)?;
    let pool = pooled.then(|| planner.layer(at("pool"), MaxPool2dConfig::new([2, 2])));
    let pool = pool.transpose()?.map(|pool| pool.init(device));
    Ok(PlaneConv {
        conv,
        bn,
        relu,
        pool,
    })
}

impl Classifier for Plane {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.convs.iter().fold(images, |x, layer| {
            let bn = layer.bn.as_ref();
            let x = conv_norm_relu(self.fold, &layer.conv, bn, &layer.relu, x);
            match &layer.pool {
                Some(pool) => pool.forward(x),
                None => x,
            }
        });
        let x = x.flatten::<2>(1, 3);
        let x = match (&self.fc1, &self.relu) {
            (Some(fc1), Some(relu)) => relu.forward(fc1.forward(x)),
            _ => x,
        };
        self.fc.forward(x)
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

impl Named for Plane {
    type Size = (PlaneDepth,);

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<Self::Size> {
        let mut depths = PlaneDepth::ALL.into_iter();
        let depth = depths.find(|depth| depth.name() == name)?;
        Some((depth,))
    }

    fn name((depth,): Self::Size) -> String {
        depth.name().into()
    }

    fn build(
        (depth,): Self::Size,
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = PlaneConfig {
            depth,
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(Plane);
