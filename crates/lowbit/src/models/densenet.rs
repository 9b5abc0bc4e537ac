//! Densely connected networks for 32x32 images.
//!
//! Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
//! arXiv 1608.06993.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::normed_conv::{conv, normed_conv};
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, AvgPool2d, AvgPool2dConfig, BatchNorm,
    BatchNormConfig, Concat, ConcatConfig, Conv2d, Linear, LinearConfig, Relu, ReluConfig,
    conv_norm_relu,
};

/// Configuration of a [`DenseNet`].
#[derive(Debug, Clone)]
pub struct DenseNetConfig {
    /// Layers in each of the three blocks: depth `6 n + 4`, which is 100 for 16 and 190 for 31.
    pub block_layers: usize,
    /// Channels that each layer adds, `k`.
    pub growth: usize,
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 4 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// DenseNet-BC: a 3x3 convolution of `2 k` channels, three blocks with a transition between two of
/// them, which halves channels and image, then normalization, rectifier, mean and a linear layer.
/// With a depth of 100 and a growth of 12, the 0.8 million parameters of table 2 (769,162).
///
/// QPyTorch's example begins with 24 channels whatever the growth; this is the paper's, and so the
/// same for a growth of 12.
#[derive(Module, Debug)]
pub struct DenseNet {
    conv1: Conv2d,
    block1: Vec<DenseLayer>,
    transition1: Transition,
    block2: Vec<DenseLayer>,
    transition2: Transition,
    block3: Vec<DenseLayer>,
    bn: BatchNorm,
    relu: Relu,
    pool: AdaptiveAvgPool2d,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// Normalization and rectifier before a 1x1 convolution to `4 k` channels and before a 3x3
/// convolution to `k`, which are set beside what the layer reads.
#[derive(Module, Debug)]
pub struct DenseLayer {
    bn1: BatchNorm,
    relu1: Relu,
    conv1: Conv2d,
    bn2: Option<BatchNorm>,
    relu2: Relu,
    conv2: Conv2d,
    concat: Concat,
    #[module(skip)]
    fold: Fold,
}

/// Normalization, rectifier, a 1x1 convolution to half the channels, and a mean over two by two
/// pixels.
#[derive(Module, Debug)]
pub struct Transition {
    bn: BatchNorm,
    relu: Relu,
    conv: Conv2d,
    pool: AvgPool2d,
}

impl DenseNetConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<DenseNet, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("densenet", 4, Images { input, classes })?;
        let growth = self.width.channels(self.growth);
        let mut builder = Builder {
            planner: Planner::new(&self.plan)?,
            growth,
            channels: 2 * growth,
            device,
        };
        let conv1 = conv([input[0], builder.channels], 3, 1);
        let conv1 = builder.planner.first("conv1", conv1)?.init(device);
        let block1 = builder.block("block1", self.block_layers)?;
        let transition1 = builder.transition("transition1")?;
        let block2 = builder.block("block2", self.block_layers)?;
        let transition2 = builder.transition("transition2")?;
        let block3 = builder.block("block3", self.block_layers)?;
        let (bn, relu) = builder.activation("bn", "relu")?;
        let Builder {
            mut planner,
            channels,
            ..
        } = builder;
        let pool = planner.layer("pool", AdaptiveAvgPool2dConfig::new([1, 1]))?;
        let fc = planner.last("fc", LinearConfig::new(channels, classes))?;
        Ok(DenseNet {
            conv1,
            block1,
            transition1,
            block2,
            transition2,
            block3,
            bn,
            relu,
            pool: pool.init(device),
            fc: fc.init(device),
            fold: self.plan.fold,
            layers: planner.finish()?,
        })
    }
}

struct Builder<'a> {
    planner: Planner<'a>,
    growth: usize,
    /// Channels so far.
    channels: usize,
    device: &'a Device,
}

impl Builder<'_> {
    /// A normalization and a rectifier of all channels so far.
    fn activation(&mut self, bn: &str, relu: &str) -> Result<(BatchNorm, Relu), Error> {
        let norm = BatchNormConfig::new(self.channels);
        let norm = self.planner.layer(bn, norm)?;
        let relu = self.planner.layer(relu, ReluConfig::new())?;
        Ok((norm.init(self.device), relu.init(self.device)))
    }

    fn block(&mut self, name: &str, layers: usize) -> Result<Vec<DenseLayer>, Error> {
        let layers = 0..layers;
        layers
            .map(|i| self.dense_layer(&format!("{name}.{i}")))
            .collect()
    }

    fn dense_layer(&mut self, path: &str) -> Result<DenseLayer, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let (bn1, relu1) = self.activation(&at("bn1"), &at("relu1"))?;
        let inner = 4 * self.growth;
        let (conv1, bn2, relu2) = normed_conv(
            &mut self.planner,
            [at("conv1"), at("bn2"), at("relu2")],
            conv([self.channels, inner], 1, 1),
            false,
            self.device,
        )?;
        let conv2 = conv([inner, self.growth], 3, 1);
        let conv2 = self.planner.layer(at("conv2"), conv2)?;
        let concat = self.planner.layer(at("concat"), ConcatConfig::new())?;
        self.channels += self.growth;
        Ok(DenseLayer {
            bn1,
            relu1,
            conv1,
            bn2,
            relu2,
            conv2: conv2.init(self.device),
            concat: concat.init(self.device),
            fold: self.planner.fold(),
        })
    }

    fn transition(&mut self, path: &str) -> Result<Transition, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let (bn, relu) = self.activation(&at("bn"), &at("relu"))?;
        let half = self.channels / 2;
        let conv = conv([self.channels, half], 1, 1);
        let conv = self.planner.layer(at("conv"), conv)?;
        let pool = AvgPool2dConfig::new([2, 2]);
        let pool = self.planner.layer(at("pool"), pool)?;
        self.channels = half;
        Ok(Transition {
            bn,
            relu,
            conv: conv.init(self.device),
            pool: pool.init(self.device),
        })
    }
}

impl DenseLayer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.bn1.forward_rectified(x.clone(), &self.relu1);
        let bn2 = self.bn2.as_ref();
        let y = conv_norm_relu(self.fold, &self.conv1, bn2, &self.relu2, y);
        self.concat.forward(vec![x, self.conv2.forward(y)])
    }
}

impl Transition {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn.forward_rectified(x, &self.relu);
        self.pool.forward(self.conv.forward(x))
    }
}

impl Classifier for DenseNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let through = |block: &[DenseLayer], x| block.iter().fold(x, |x, layer| layer.forward(x));
        let x = through(&self.block1, self.conv1.forward(images));
        let x = through(&self.block2, self.transition1.forward(x));
        let x = through(&self.block3, self.transition2.forward(x));
        let x = self.pool.forward(self.bn.forward_rectified(x, &self.relu));
        self.fc.forward(x.flatten::<2>(1, 3))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    // What the other convolutions make is read by many.
    fn folds(&self) -> Vec<FoldedPair> {
        let blocks = [&self.block1, &self.block2, &self.block3];
        let blocks = blocks.into_iter().enumerate();
        let pairs = blocks.flat_map(|(b, block)| {
            (0..block.len()).map(move |i| {
                let at = |name: &str| format!("block{}.{i}.{name}", b + 1);
                FoldedPair::new(at("conv1"), at("bn2"))
            })
        });
        pairs.collect()
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

/// The largest depth that has a name; the paper's deepest is 250.
const MOST_DEPTH: usize = 250;

impl Named for DenseNet {
    type Size = (usize, usize);

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<Self::Size> {
        let (depth, growth) = name.strip_prefix("densenet-bc-")?.split_once('-')?;
        let (depth, growth) = (depth.parse::<usize>().ok()?, growth.parse().ok()?);
        let size = (depth.checked_sub(4)? / 6, growth);
        let in_range = (10..=MOST_DEPTH).contains(&depth) && (1..=100).contains(&growth);
        // Of a number that is written otherwise, or of another depth, this is not the name.
        (in_range && Self::name(size) == name).then_some(size)
    }

    fn name((block_layers, growth): Self::Size) -> String {
        format!("densenet-bc-{}-{growth}", 6 * block_layers + 4)
    }

    fn build(
        (block_layers, growth): Self::Size,
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = DenseNetConfig {
            width,
            block_layers,
            growth,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(DenseNet);
