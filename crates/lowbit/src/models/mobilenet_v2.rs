//! MobileNetV2 for 32x32 images.
//!
//! Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
//! arXiv 1801.04381, table 2.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named};
use super::normed_conv::{conv, conv_and_norm};
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, Add, AddConfig, BatchNorm, Conv2d, Conv2dConfig,
    Linear, LinearConfig, Relu6, Relu6Config, conv_norm, conv_norm_add,
};

/// Configuration of a [`MobileNetV2`].
#[derive(Debug, Clone)]
pub struct MobileNetV2Config {
    /// By how much channels are multiplied; they are rounded to multiples of 8. The last convolution
    /// gets no narrower, as in the paper.
    pub width: Width,
    /// Channels of the images.
    pub channels: usize,
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// A 3x3 convolution of 32 channels, 17 inverted residual blocks, a 1x1 convolution of 1280
/// channels, mean and a linear layer.
///
/// The paper's network halves an image of 224x224 five times. This one is for 32x32 and halves it
/// three times: the first convolution and the second group of blocks have a stride of one, as is
/// usual on CIFAR. Parameters are as many: with ten classes torchvision's 3,504,872 of a thousand
/// less those of 990 classes, 2,236,682. There is no dropout before the linear layer.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    relu1: Relu6,
    blocks: Vec<InvertedResidual>,
    conv2: Conv2d,
    bn2: Option<BatchNorm>,
    relu2: Relu6,
    pool: AdaptiveAvgPool2d,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// A 1x1 convolution to more channels (none in the first block), a 3x3 convolution of each channel
/// alone, both with normalization and ReLU6, and a 1x1 convolution to fewer with normalization
/// alone; the input is added where the shape stays.
#[derive(Module, Debug)]
pub struct InvertedResidual {
    expand: Option<Conv2d>,
    bn1: Option<BatchNorm>,
    relu1: Option<Relu6>,
    depthwise: Conv2d,
    bn2: Option<BatchNorm>,
    relu2: Relu6,
    project: Conv2d,
    bn3: Option<BatchNorm>,
    add: Option<Add>,
    #[module(skip)]
    fold: Fold,
}

/// Groups of blocks: expansion, channels, blocks and the stride of the first.
const BLOCKS: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

/// Channels of the first and of the last convolution.
const ENDS: [usize; 2] = [32, 1280];

impl MobileNetV2Config {
    /// Builds the network.
    ///
    /// # Errors
    /// If the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<MobileNetV2, Error> {
        let mut builder = Builder {
            planner: Planner::new(&self.plan)?,
            device,
        };
        let mut channels = self.width.channels_by_eight(ENDS[0]);
        let stem = conv([self.channels, channels], 3, 1);
        let paths = ["conv1", "bn1", "relu1"].map(String::from);
        let (conv1, bn1, relu1) = builder.conv_norm_relu6(paths, stem, true)?;
        let mut blocks = Vec::new();
        for [expansion, width, count, stride] in BLOCKS {
            let width = self.width.channels_by_eight(width);
            for i in 0..count {
                let shape = BlockShape {
                    channels: [channels, channels * expansion, width],
                    stride: if i == 0 { stride } else { 1 },
                };
                blocks.push(builder.block(&format!("blocks.{}", blocks.len()), &shape)?);
                channels = width;
            }
        }
        let last = self.width.at_least_one().channels_by_eight(ENDS[1]);
        let paths = ["conv2", "bn2", "relu2"].map(String::from);
        let (conv2, bn2, relu2) =
            builder.conv_norm_relu6(paths, conv([channels, last], 1, 1), false)?;
        let mut planner = builder.planner;
        let pool = planner.layer("pool", AdaptiveAvgPool2dConfig::new([1, 1]))?;
        let fc = planner.last("fc", LinearConfig::new(last, self.classes))?;
        Ok(MobileNetV2 {
            conv1,
            bn1,
            relu1,
            blocks,
            conv2,
            bn2,
            relu2,
            pool: pool.init(device),
            fc: fc.init(device),
            fold: self.plan.fold,
            layers: planner.finish()?,
        })
    }
}

/// What a block is made of: channels in, inside and out.
struct BlockShape {
    channels: [usize; 3],
    stride: usize,
}

struct Builder<'a> {
    planner: Planner<'a>,
    device: &'a Device,
}

impl Builder<'_> {
    fn conv_norm_relu6(
        &mut self,
        [conv, bn, relu]: [String; 3],
        config: Conv2dConfig,
        is_first: bool,
    ) -> Result<(Conv2d, Option<BatchNorm>, Relu6), Error> {
        let planner = &mut self.planner;
        let (conv, bn) = conv_and_norm(planner, [conv, bn], config, is_first, self.device)?;
        let relu = planner.layer(relu, Relu6Config::new())?;
        Ok((conv, bn, relu.init(self.device)))
    }

    fn block(&mut self, path: &str, shape: &BlockShape) -> Result<InvertedResidual, Error> {
        let [input, inner, output] = shape.channels;
        let at = |name: &str| format!("{path}.{name}");
        let (mut expand, mut bn1, mut relu1) = (None, None, None);
        if inner != input {
            let paths = [at("expand"), at("bn1"), at("relu1")];
            let built = self.conv_norm_relu6(paths, conv([input, inner], 1, 1), false)?;
            (expand, bn1, relu1) = (Some(built.0), built.1, Some(built.2));
        }
        let depthwise = conv([inner, inner], 3, shape.stride).with_groups(inner);
        let paths = [at("depthwise"), at("bn2"), at("relu2")];
        let (depthwise, bn2, relu2) = self.conv_norm_relu6(paths, depthwise, false)?;
        let paths = [at("project"), at("bn3")];
        let project = conv([inner, output], 1, 1);
        let (project, bn3) = conv_and_norm(&mut self.planner, paths, project, false, self.device)?;
        let add = (input == output && shape.stride == 1)
            .then(|| self.planner.layer(at("add"), AddConfig::new()));
        let add = add.transpose()?.map(|add| add.init(self.device));
        Ok(InvertedResidual {
            expand,
            bn1,
            relu1,
            depthwise,
            bn2,
            relu2,
            project,
            bn3,
            add,
            fold: self.planner.fold(),
        })
    }
}

impl InvertedResidual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = match (&self.expand, &self.relu1) {
            (Some(conv), Some(relu)) => {
                relu.forward(conv_norm(self.fold, conv, self.bn1.as_ref(), x.clone()))
            }
            _ => x.clone(),
        };
        let y = conv_norm(self.fold, &self.depthwise, self.bn2.as_ref(), y);
        let y = self.relu2.forward(y);
        let project = (&self.project, self.bn3.as_ref());
        match &self.add {
            Some(add) => conv_norm_add(self.fold, project, y, add, || x, None),
            None => conv_norm(self.fold, project.0, project.1, y),
        }
    }
}

impl Classifier for MobileNetV2 {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = conv_norm(self.fold, &self.conv1, self.bn1.as_ref(), images);
        let x = self.relu1.forward(x);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = conv_norm(self.fold, &self.conv2, self.bn2.as_ref(), x);
        let x = self.pool.forward(self.relu2.forward(x));
        self.fc.forward(x.flatten::<2>(1, 3))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn folds(&self) -> Vec<FoldedPair> {
        let mut pairs = vec![FoldedPair::new("conv1", "bn1")];
        for (i, block) in self.blocks.iter().enumerate() {
            let at = |name: &str| format!("blocks.{i}.{name}");
            if block.expand.is_some() {
                pairs.push(FoldedPair::new(at("expand"), at("bn1")));
            }
            pairs.push(FoldedPair::new(at("depthwise"), at("bn2")));
            pairs.push(FoldedPair::new(at("project"), at("bn3")));
        }
        pairs.push(FoldedPair::new("conv2", "bn2"));
        pairs
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

impl Named for MobileNetV2 {
    type Size = ();

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "mobilenetv2").then_some(())
    }

    fn name((): ()) -> String {
        "mobilenetv2".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = MobileNetV2Config {
            width,
            channels: images.input[0],
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(MobileNetV2);
