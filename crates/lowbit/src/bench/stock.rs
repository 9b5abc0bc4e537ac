//! The timed networks on Burn's own layers, to compare with.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Initializer, Linear, LinearConfig, PaddingConfig2d, Relu,
};
use burn::tensor::{Device, Tensor};

use crate::config::Layer;
use crate::models::{Architecture, BaseNetwork, Classifier, Width, impl_steps};

/// One of the networks below.
pub(super) enum Stock {
    ResNet(ResNet),
    LeNet(LeNet),
}

impl Stock {
    /// Whether the network is one of those below.
    pub(super) fn has(model: Architecture) -> bool {
        let known = matches!(
            model.base,
            BaseNetwork::LeNet
                | BaseNetwork::ResNet {
                    bottleneck: false,
                    raw_shortcut: false,
                    ..
                }
        );
        known && model.width == Width::ONE
    }

    /// The network, if it is one of those below.
    pub(super) fn new(model: Architecture, device: &Device) -> Option<Self> {
        match model.base {
            _ if model.width != Width::ONE => None,
            BaseNetwork::ResNet {
                blocks,
                bottleneck: false,
                raw_shortcut: false,
            } => Some(Self::ResNet(ResNet::new(blocks, device))),
            BaseNetwork::LeNet => Some(Self::LeNet(LeNet::new(device))),
            _ => None,
        }
    }
}

/// As [`PreActResNet`](crate::models::PreActResNet), on images of three channels and ten classes.
#[derive(Module, Debug)]
pub(super) struct ResNet {
    conv1: Conv2d,
    blocks: Vec<Block>,
    bn: BatchNorm,
    relu: Relu,
    pool: AdaptiveAvgPool2d,
    fc: Linear,
}

#[derive(Module, Debug)]
pub(super) struct Block {
    bn1: BatchNorm,
    conv1: Conv2d,
    bn2: BatchNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    relu: Relu,
}

fn conv(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .with_initializer(Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: true,
        })
        .init(device)
}

impl ResNet {
    fn new(blocks: usize, device: &Device) -> Self {
        let mut all = Vec::new();
        let mut input = 16;
        for (stage, width) in [16, 32, 64].into_iter().enumerate() {
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                all.push(Block {
                    bn1: BatchNormConfig::new(input).init(device),
                    conv1: conv([input, width], 3, stride, device),
                    bn2: BatchNormConfig::new(width).init(device),
                    conv2: conv([width, width], 3, 1, device),
                    shortcut: (stride == 2).then(|| conv([input, width], 1, 2, device)),
                    relu: Relu::new(),
                });
                input = width;
            }
        }
        Self {
            conv1: conv([3, 16], 3, 1, device),
            blocks: all,
            bn: BatchNormConfig::new(64).init(device),
            relu: Relu::new(),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(64, 10).init(device),
        }
    }
}

impl Classifier for ResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.conv1.forward(images);
        for block in &self.blocks {
            let activated = block.relu.forward(block.bn1.forward(x.clone()));
            let shortcut = match &block.shortcut {
                Some(conv) => conv.forward(activated.clone()),
                None => x,
            };
            let y = block.conv1.forward(activated);
            let y = block.relu.forward(block.bn2.forward(y));
            x = block.conv2.forward(y) + shortcut;
        }
        let x = self.pool.forward(self.relu.forward(self.bn.forward(x)));
        self.fc.forward(x.flatten::<2>(1, 3))
    }

    fn layers(&self) -> &[Layer] {
        &[]
    }
}

impl_steps!(ResNet);

/// As [`LeNet5`](crate::models::LeNet5), on grey images of 28x28 and ten classes.
#[derive(Module, Debug)]
pub(super) struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
    relu: Relu,
    pool: MaxPool2d,
}

impl LeNet {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 20], [5, 5]).init(device),
            conv2: Conv2dConfig::new([20, 50], [5, 5]).init(device),
            fc1: LinearConfig::new(800, 500).init(device),
            fc2: LinearConfig::new(500, 10).init(device),
            relu: Relu::new(),
            pool: MaxPool2dConfig::new([2, 2]).init(),
        }
    }
}

impl Classifier for LeNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let half = |conv: &Conv2d, x| self.pool.forward(self.relu.forward(conv.forward(x)));
        let x = half(&self.conv2, half(&self.conv1, images));
        let x: Tensor<2> = x.flatten(1, 3);
        self.fc2.forward(self.relu.forward(self.fc1.forward(x)))
    }

    fn layers(&self) -> &[Layer] {
        &[]
    }
}

impl_steps!(LeNet);
