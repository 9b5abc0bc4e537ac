//! Pre-activation residual networks for 32x32 images.
//!
//! He, Zhang, Ren, Sun, "Identity Mappings in Deep Residual Networks", arXiv 1603.05027.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{CIFAR_BLOCKS, Images, Named};
use super::normed_conv::{NormedConv, conv, normed_conv};
use super::{Classifier, FoldedPair, Stages, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, Add, AddConfig, BatchNorm, BatchNormConfig, Conv2d,
    Conv2dConfig, Linear, LinearConfig, Relu, ReluConfig, conv_norm_add, conv_norm_relu,
};

/// Configuration of a [`PreActResNet`].
#[derive(Debug, Clone)]
pub struct PreActResNetConfig {
    /// Blocks in each of the three stages, `n`. A network of basic blocks has depth `6 n + 2`: 8,
    /// 14, 20 and 26 for 1 to 4, 32, 44, 56 and 110 for 5, 7, 9 and 18; one of bottlenecks `9 n + 2`:
    /// 164 for 18.
    pub blocks: usize,
    /// Whether a block is a bottleneck (1x1, 3x3, 1x1 with four times the channels out) instead of
    /// two 3x3 convolutions.
    pub bottleneck: bool,
    /// Whether a 1x1 convolution in a shortcut reads the block's input as it is, as in the examples
    /// of SWA, SWALP and QPyTorch, instead of the activated input, as in the paper.
    pub raw_shortcut: bool,
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels of the images.
    pub channels: usize,
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// A 3x3 convolution, three stages of residual blocks with 16, 32 and 64 channels, the second and
/// third of which halve the image, then normalization, rectifier, mean and a linear layer.
#[derive(Module, Debug)]
pub struct PreActResNet {
    conv1: Conv2d,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    bn: BatchNorm,
    relu: Relu,
    pool: AdaptiveAvgPool2d,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// Normalization and rectifier before each convolution, and a shortcut around all of them: the
/// input itself, or a 1x1 convolution of the activated input, or of the input as it is, where the
/// shape changes.
#[derive(Module, Debug)]
pub struct Block {
    bn1: BatchNorm,
    relu1: Relu,
    conv1: Conv2d,
    bn2: Option<BatchNorm>,
    relu2: Relu,
    conv2: Conv2d,
    bn3: Option<BatchNorm>,
    relu3: Option<Relu>,
    conv3: Option<Conv2d>,
    shortcut: Option<Conv2d>,
    add: Add,
    #[module(skip)]
    raw_shortcut: bool,
    #[module(skip)]
    fold: Fold,
}

impl PreActResNetConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<PreActResNet, Error> {
        let mut builder = Builder {
            planner: Planner::new(&self.plan)?,
            device,
        };
        let widths = [16, 32, 64].map(|channels| self.width.channels(channels));
        let conv1 = conv([self.channels, widths[0]], 3, 1);
        let conv1 = builder.planner.first("conv1", conv1)?.init(device);
        let expansion = if self.bottleneck { 4 } else { 1 };
        let mut channels = widths[0];
        let mut stage = |name: &str, width: usize, stride: usize| -> Result<Vec<Block>, Error> {
            (0..self.blocks)
                .map(|i| {
                    let stride = if i == 0 { stride } else { 1 };
                    let shape = BlockShape {
                        channels: [channels, width, width * expansion],
                        stride,
                        bottleneck: self.bottleneck,
                        raw_shortcut: self.raw_shortcut,
                    };
                    channels = width * expansion;
                    builder.block(&format!("{name}.{i}"), &shape)
                })
                .collect()
        };
        let layer1 = stage("layer1", widths[0], 1)?;
        let layer2 = stage("layer2", widths[1], 2)?;
        let layer3 = stage("layer3", widths[2], 2)?;
        let (bn, relu) = builder.activation("bn", "relu", channels)?;
        let planner = &mut builder.planner;
        let pool = planner.layer("pool", AdaptiveAvgPool2dConfig::new([1, 1]))?;
        let fc = planner.last("fc", LinearConfig::new(channels, self.classes))?;
        Ok(PreActResNet {
            conv1,
            layer1,
            layer2,
            layer3,
            bn,
            relu,
            pool: pool.init(device),
            fc: fc.init(device),
            fold: self.plan.fold,
            layers: builder.planner.finish()?,
        })
    }
}

/// What a block is made of: channels in, inside and out.
struct BlockShape {
    channels: [usize; 3],
    stride: usize,
    bottleneck: bool,
    raw_shortcut: bool,
}

struct Builder<'a> {
    planner: Planner<'a>,
    device: &'a Device,
}

impl Builder<'_> {
    fn conv(&mut self, path: String, config: Conv2dConfig) -> Result<Conv2d, Error> {
        Ok(self.planner.layer(path, config)?.init(self.device))
    }

    fn normed_conv(
        &mut self,
        paths: [String; 3],
        config: Conv2dConfig,
    ) -> Result<NormedConv, Error> {
        normed_conv(&mut self.planner, paths, config, false, self.device)
    }

    /// A normalization and a rectifier.
    fn activation(
        &mut self,
        bn: &str,
        relu: &str,
        features: usize,
    ) -> Result<(BatchNorm, Relu), Error> {
        let norm = self.planner.layer(bn, BatchNormConfig::new(features))?;
        let relu = self.planner.layer(relu, ReluConfig::new())?;
        Ok((norm.init(self.device), relu.init(self.device)))
    }

    fn block(&mut self, path: &str, shape: &BlockShape) -> Result<Block, Error> {
        let [input, width, output] = shape.channels;
        let at = |name: &str| format!("{path}.{name}");
        let (bn1, relu1) = self.activation(&at("bn1"), &at("relu1"), input)?;
        // The 3x3 convolution carries the stride: the first of a basic block, the second of a
        // bottleneck.
        let (kernel, strides) = if shape.bottleneck {
            (1, [1, shape.stride])
        } else {
            (3, [shape.stride, 1])
        };
        let names = |i: usize| {
            let next = i + 1;
            [
                at(&format!("conv{i}")),
                at(&format!("bn{next}")),
                at(&format!("relu{next}")),
            ]
        };
        let first = conv([input, width], kernel, strides[0]);
        let second = conv([width, width], 3, strides[1]);
        let (conv1, bn2, relu2) = self.normed_conv(names(1), first)?;
        let (conv2, bn3, relu3, conv3) = if shape.bottleneck {
            let (conv2, bn3, relu3) = self.normed_conv(names(2), second)?;
            let conv3 = self.conv(at("conv3"), conv([width, output], 1, 1))?;
            (conv2, bn3, Some(relu3), Some(conv3))
        } else {
            (self.conv(at("conv2"), second)?, None, None, None)
        };
        let shortcut = (input != output || shape.stride != 1)
            .then(|| self.conv(at("shortcut"), conv([input, output], 1, shape.stride)))
            .transpose()?;
        let add = self.planner.layer(at("add"), AddConfig::new())?;
        Ok(Block {
            bn1,
            relu1,
            conv1,
            bn2,
            relu2,
            conv2,
            bn3,
            relu3,
            conv3,
            shortcut,
            add: add.init(self.device),
            raw_shortcut: shape.raw_shortcut,
            fold: self.planner.fold(),
        })
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let activated = self.bn1.forward_rectified(x.clone(), &self.relu1);
        let shortcut = match &self.shortcut {
            Some(conv) if self.raw_shortcut => conv.forward(x),
            Some(conv) => conv.forward(activated.clone()),
            None => x,
        };
        let normed = |conv, bn: &Option<BatchNorm>, relu, x| {
            conv_norm_relu(self.fold, conv, bn.as_ref(), relu, x)
        };
        let y = normed(&self.conv1, &self.bn2, &self.relu2, activated);
        let (last, y) = match (&self.relu3, &self.conv3) {
            (Some(relu), Some(conv)) => (conv, normed(&self.conv2, &self.bn3, relu, y)),
            _ => (&self.conv2, y),
        };
        conv_norm_add(self.fold, (last, None), y, &self.add, || shortcut, None)
    }
}

impl PreActResNet {
    /// The scores; `stage` sees what each stage hands on.
    fn through(&self, images: Tensor<4>, mut stage: impl FnMut(&Tensor<4>)) -> Tensor<2> {
        let mut x = self.conv1.forward(images);
        for blocks in [&self.layer1, &self.layer2, &self.layer3] {
            x = blocks.iter().fold(x, |x, block| block.forward(x));
            stage(&x);
        }
        let x = self.pool.forward(self.bn.forward_rectified(x, &self.relu));
        self.fc.forward(x.flatten::<2>(1, 3))
    }
}

impl Classifier for PreActResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.through(images, |_| {})
    }

    /// What the last block of each stage hands on, before the normalization that follows.
    fn stages(&self, images: Tensor<4>) -> Stages {
        let mut features = Vec::new();
        let scores = self.through(images, |x| features.push(x.clone()));
        Stages { features, scores }
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    // The first convolution and the last of a block feed an addition, too.
    fn folds(&self) -> Vec<FoldedPair> {
        let mut pairs = Vec::new();
        for (stage, blocks) in [&self.layer1, &self.layer2, &self.layer3]
            .iter()
            .enumerate()
        {
            for (i, block) in blocks.iter().enumerate() {
                let at = |name: &str| format!("layer{}.{i}.{name}", stage + 1);
                pairs.push(FoldedPair::new(at("conv1"), at("bn2")));
                if block.conv3.is_some() {
                    pairs.push(FoldedPair::new(at("conv2"), at("bn3")));
                }
            }
        }
        pairs
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

impl Named for PreActResNet {
    type Size = (usize, bool, bool);

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<Self::Size> {
        // The bottlenecks with raw shortcuts are in no other list.
        let basic = [(false, false), (true, false), (false, true)];
        let all = basic.into_iter().flat_map(|(bottleneck, raw_shortcut)| {
            CIFAR_BLOCKS.map(move |blocks| (blocks, bottleneck, raw_shortcut))
        });
        let mut sizes = all.chain([PRERESNET164]);
        sizes.find(|size| Self::name(*size) == name)
    }

    // Of depth 6 n + 2 or 9 n + 2, but for those bottlenecks that are named after the network of
    // basic blocks that they are put into.
    fn name((blocks, bottleneck, raw_shortcut): Self::Size) -> String {
        match (raw_shortcut, bottleneck) {
            (true, true) => format!("preresnet{}", 9 * blocks + 2),
            (true, false) => format!("preresnet{}", 6 * blocks + 2),
            (false, true) => format!("resnet{}-bottleneck", 6 * blocks + 2),
            (false, false) => format!("resnet{}", 6 * blocks + 2),
        }
    }

    fn build(
        size: Self::Size,
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let (blocks, bottleneck, raw_shortcut) = size;
        let config = PreActResNetConfig {
            width,
            blocks,
            bottleneck,
            raw_shortcut,
            channels: images.input[0],
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

/// The network of the paper's tables with the shortcuts of SWALP's and QPyTorch's examples, whose
/// `PreResNet110` it is: it has bottlenecks, but a sixth of that depth as blocks of a stage.
const PRERESNET164: (usize, bool, bool) = (18, true, true);

impl_steps!(PreActResNet);
