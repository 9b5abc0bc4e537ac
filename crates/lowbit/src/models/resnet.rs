//! Residual networks with a normalization after each convolution.
//!
//! He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", arXiv 1512.03385. Those with
//! normalizations before are in `preact_resnet`.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{CIFAR_BLOCKS, Images, Named};
use super::normed_conv::{conv, conv_and_norm, normed_conv};
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, Add, AddConfig, BatchNorm, Conv2d, Linear,
    LinearConfig, MaxPool2d, MaxPool2dConfig, Relu, ReluConfig, conv_norm, conv_norm_add,
    conv_norm_relu,
};
use crate::ops;

/// Configuration of a [`ResNet`].
#[derive(Debug, Clone)]
pub struct ResNetConfig {
    /// Which of the networks.
    pub form: ResNetForm,
    /// By how much channels are multiplied.
    pub width: Width,
    /// Channels of the images.
    pub channels: usize,
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// The networks of the paper that are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResNetForm {
    /// Section 4.2, for images of 32x32: three stages of 16, 32 and 64 channels, of which the second
    /// and the third halve the image.
    Cifar {
        /// Blocks in each stage, `n`: depth `6 n + 2`.
        blocks: usize,
        /// Whether a shortcut around a change of shape is a 1x1 convolution with a normalization
        /// (option B), instead of every second pixel with channels of zeros (option A, the
        /// paper's on CIFAR), half of them before and half behind the input's.
        projection: bool,
    },
    /// The 18 layers of table 1 for images of 32x32: a 3x3 convolution with a stride of one at the
    /// start, without pooling; four stages of two blocks with 64, 128, 256 and 512 channels.
    Eighteen,
    /// Table 1 itself, for images of 224x224: a 7x7 convolution with a stride of two and a pooling
    /// at the start. Parameter paths are those of torchvision's `resnet18`.
    EighteenImageNet,
}

/// Convolution, normalization and rectifier; stages of residual blocks; mean and a linear layer.
///
/// With 10 classes `resnet20-v1` has 0.27 million parameters, `resnet56-v1` 0.85, `resnet110-v1` 1.7
/// (the paper's table 6); `resnet18-imagenet` with 1000 classes torchvision's 11,689,512.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    relu: Relu,
    maxpool: Option<MaxPool2d>,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    layer4: Vec<BasicBlock>,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// Two 3x3 convolutions with their normalizations, a rectifier after the first, and one after the
/// sum with the shortcut: the input itself, or what its form says where the shape changes.
#[derive(Module, Debug)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    relu1: Relu,
    conv2: Conv2d,
    bn2: Option<BatchNorm>,
    downsample: Option<(Conv2d, Option<BatchNorm>)>,
    add: Add,
    relu2: Relu,
    #[module(skip)]
    fold: Fold,
}

impl ResNetForm {
    /// Channels and blocks of each stage.
    fn stages(self) -> Vec<(usize, usize)> {
        match self {
            Self::Cifar { blocks, .. } => [16, 32, 64].map(|width| (width, blocks)).to_vec(),
            Self::Eighteen | Self::EighteenImageNet => {
                [64, 128, 256, 512].map(|width| (width, 2)).to_vec()
            }
        }
    }

    fn has_projections(self) -> bool {
        !matches!(self, Self::Cifar { projection, .. } if !projection)
    }
}

impl ResNetConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<ResNet, Error> {
        let mut planner = Planner::new(&self.plan)?;
        let imagenet = self.form == ResNetForm::EighteenImageNet;
        let stages = self.form.stages().into_iter();
        let stages: Vec<_> = stages
            .map(|(channels, blocks)| (self.width.channels(channels), blocks))
            .collect();
        let mut channels = stages[0].0;
        let (kernel, stride) = if imagenet { (7, 2) } else { (3, 1) };
        let stem = conv([self.channels, channels], kernel, stride);
        let paths = ["conv1", "bn1", "relu"].map(String::from);
        let (conv1, bn1, relu) = normed_conv(&mut planner, paths, stem, true, device)?;
        let maxpool = imagenet.then(|| {
            let pool = MaxPool2dConfig::new([3, 3]).with_strides([2, 2]);
            let pool = pool.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
            planner.layer("maxpool", pool).map(|pool| pool.init(device))
        });
        let maxpool = maxpool.transpose()?;
        let mut built = Vec::new();
        for (i, (width, blocks)) in stages.into_iter().enumerate() {
            let mut stage = Vec::new();
            for j in 0..blocks {
                let stride = if i > 0 && j == 0 { 2 } else { 1 };
                let path = format!("layer{}.{j}", i + 1);
                stage.push(self.block(&mut planner, &path, [channels, width], stride, device)?);
                channels = width;
            }
            built.push(stage);
        }
        let avgpool = planner.layer("avgpool", AdaptiveAvgPool2dConfig::new([1, 1]))?;
        let fc = planner.last("fc", LinearConfig::new(channels, self.classes))?;
        let mut built = built.into_iter();
        let mut stage = || built.next().unwrap_or_default();
        Ok(ResNet {
            conv1,
            bn1,
            relu,
            maxpool,
            layer1: stage(),
            layer2: stage(),
            layer3: stage(),
            layer4: stage(),
            avgpool: avgpool.init(device),
            fc: fc.init(device),
            fold: self.plan.fold,
            layers: planner.finish()?,
        })
    }

    fn block(
        &self,
        planner: &mut Planner<'_>,
        path: &str,
        [input, width]: [usize; 2],
        stride: usize,
        device: &Device,
    ) -> Result<BasicBlock, Error> {
        let at = |name: &str| format!("{path}.{name}");
        let first = conv([input, width], 3, stride);
        let paths = [at("conv1"), at("bn1"), at("relu1")];
        let (conv1, bn1, relu1) = normed_conv(planner, paths, first, false, device)?;
        let second = conv([width, width], 3, 1);
        let paths = [at("conv2"), at("bn2")];
        let (conv2, bn2) = conv_and_norm(planner, paths, second, false, device)?;
        let changes = input != width || stride != 1;
        let downsample = (changes && self.form.has_projections()).then(|| {
            let paths = [at("downsample.0"), at("downsample.1")];
            let projection = conv([input, width], 1, stride);
            conv_and_norm(planner, paths, projection, false, device)
        });
        let downsample = downsample.transpose()?;
        let add = planner.layer(at("add"), AddConfig::new())?;
        let relu2 = planner.layer(at("relu2"), ReluConfig::new())?;
        Ok(BasicBlock {
            conv1,
            bn1,
            relu1,
            conv2,
            bn2,
            downsample,
            add: add.init(device),
            relu2: relu2.init(device),
            fold: planner.fold(),
        })
    }
}

impl BasicBlock {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let fold = self.fold;
        let y = conv_norm_relu(fold, &self.conv1, self.bn1.as_ref(), &self.relu1, x.clone());
        let second = (&self.conv2, self.bn2.as_ref());
        let shortcut = || match &self.downsample {
            Some((conv, bn)) => conv_norm(fold, conv, bn.as_ref(), x),
            None => padded(x, self.conv2.weight.dims()[0], self.conv1.stride[0]),
        };
        conv_norm_add(fold, second, y, &self.add, shortcut, Some(&self.relu2))
    }
}

/// Every `stride`-th pixel in each direction, with zeros for the channels that are missing.
fn padded(x: Tensor<4>, channels: usize, stride: usize) -> Tensor<4> {
    let x = match stride {
        1 => x,
        // The largest of one pixel.
        _ => ops::max_pool2d(x, MaxPoolOptions::new([1, 1]).with_stride([stride, stride])),
    };
    let [batch, own, height, width] = x.dims();
    if own == channels {
        return x;
    }
    let (device, dtype) = (x.device(), x.dtype());
    let zeros = |channels| {
        let zeros = Tensor::<4>::zeros([batch, channels, height, width], &device);
        zeros.cast(dtype)
    };
    let before = (channels - own) / 2;
    let behind = channels - own - before;
    let parts = [(before, zeros(before)), (own, x), (behind, zeros(behind))];
    let parts = parts.into_iter().filter(|(channels, _)| *channels > 0);
    Tensor::cat(parts.map(|(_, part)| part).collect(), 1)
}

impl Classifier for ResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = conv_norm_relu(
            self.fold,
            &self.conv1,
            self.bn1.as_ref(),
            &self.relu,
            images,
        );
        let x = match &self.maxpool {
            Some(pool) => pool.forward(x),
            None => x,
        };
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        let blocks = stages.into_iter().flatten();
        let x = blocks.fold(x, |x, block| block.forward(x));
        self.fc.forward(self.avgpool.forward(x).flatten::<2>(1, 3))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn folds(&self) -> Vec<FoldedPair> {
        let mut pairs = vec![FoldedPair::new("conv1", "bn1")];
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        for (i, blocks) in stages.into_iter().enumerate() {
            for (j, block) in blocks.iter().enumerate() {
                let at = |name: &str| format!("layer{}.{j}.{name}", i + 1);
                pairs.push(FoldedPair::new(at("conv1"), at("bn1")));
                pairs.push(FoldedPair::new(at("conv2"), at("bn2")));
                if block.downsample.is_some() {
                    pairs.push(FoldedPair::new(at("downsample.0"), at("downsample.1")));
                }
            }
        }
        pairs
    }

    fn fold(&self) -> Fold {
        self.fold
    }
}

impl Named for ResNet {
    type Size = (ResNetForm,);

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn images((form,): Self::Size) -> Images {
        match form {
            ResNetForm::EighteenImageNet => Images {
                input: [3, 224, 224],
                classes: 1000,
            },
            _ => Self::IMAGES,
        }
    }

    fn size(name: &str) -> Option<Self::Size> {
        let forms = [false, true].into_iter().flat_map(|projection| {
            CIFAR_BLOCKS.map(|blocks| ResNetForm::Cifar { blocks, projection })
        });
        let eighteen = [ResNetForm::Eighteen, ResNetForm::EighteenImageNet];
        let mut sizes = forms.chain(eighteen).map(|form| (form,));
        sizes.find(|size| Self::name(*size) == name)
    }

    // `resnet20` and its like are names of the pre-activation networks.
    fn name((form,): Self::Size) -> String {
        match form {
            ResNetForm::Cifar { blocks, projection } => {
                let option = if projection { "b" } else { "" };
                format!("resnet{}-v1{option}", 6 * blocks + 2)
            }
            ResNetForm::Eighteen => "resnet18".into(),
            ResNetForm::EighteenImageNet => "resnet18-imagenet".into(),
        }
    }

    fn build(
        (form,): Self::Size,
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = ResNetConfig {
            form,
            width,
            channels: images.input[0],
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(ResNet);

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels of 3x3 pixels, numbered row by row: every second are those in the corners, and
    /// of five channels one is zero before and two are behind.
    #[test]
    fn a_shortcut_without_parameters_by_hand() {
        let device = Device::flex();
        let x: Vec<f32> = (1..=18).map(|i| i as f32).collect();
        let x = Tensor::<1>::from_floats(&x[..], &device).reshape([1, 2, 3, 3]);
        let y = padded(x.clone(), 5, 2);
        assert_eq!(y.dims(), [1, 5, 2, 2]);
        let y: Vec<f32> = y.into_data().iter::<f32>().collect();
        let mut expected = vec![0.0; 20];
        expected[4..12].copy_from_slice(&[1.0, 3.0, 7.0, 9.0, 10.0, 12.0, 16.0, 18.0]);
        assert_eq!(y, expected);
        assert_eq!(padded(x.clone(), 2, 1).into_data(), x.into_data());
    }
}
