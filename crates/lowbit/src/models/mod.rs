//! Networks, each built from its configuration and a [`QPlan`].

mod classifier;
mod densenet;
mod digits_cnn;
mod lenet;
mod load;
mod mnist_cnn;
mod network;
mod normed_conv;
mod preact_resnet;
mod size;
mod source;
mod vgg;
mod vgg7;

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use classifier::{Batch, Classifier, FoldedPair, Stages, Stored};
pub(crate) use classifier::{classify, impl_steps};
pub use densenet::{DenseLayer, DenseNet, DenseNetConfig, Transition};
pub use digits_cnn::{DigitsCnn, DigitsCnnConfig};
pub use lenet::{LeNet5, LeNet5Config};
pub use load::{LoadReport, Tolerance, load_plain};
pub use mnist_cnn::{MnistCnn, MnistCnnConfig};
pub use preact_resnet::{Block, PreActResNet, PreActResNetConfig};
pub use size::model_bits;
pub use vgg::{Vgg, VggConfig, VggConv, VggDepth, VggStage};
pub use vgg7::{Vgg7, Vgg7Config, Vgg7Stage};

use crate::Error;
use crate::config::{Fold, Layer, QPlan};
use network::{Images, Named, drawn, networks};

networks! {
    names: "cnn, lenet, mnist-cnn, resnet8, resnet14, resnet20, resnet26, preresnet20, \
            preresnet110, preresnet164, vgg7, vgg16, vgg16-bn, vgg19, vgg19-bn, \
            densenet-bc-100-12, densenet-bc-190-40 \
            (the resnets also as resnet20-bottleneck, densenet-bc with other depths and growths)";
    /// [`DigitsCnn`].
    Cnn is DigitsCnn;
    /// [`LeNet5`].
    LeNet is LeNet5;
    /// [`MnistCnn`].
    MnistCnn is MnistCnn;
    /// [`PreActResNet`].
    ResNet {
        /// Blocks in each of the three stages.
        blocks: usize,
        /// Whether the blocks are bottlenecks.
        bottleneck: bool,
        /// Whether a convolution in a shortcut reads the block's input as it is.
        raw_shortcut: bool,
    } is PreActResNet;
    /// [`Vgg7`].
    Vgg7 is Vgg7;
    /// [`Vgg`].
    Vgg {
        /// Which of the two.
        depth: VggDepth,
        /// Whether there are normalizations.
        normalized: bool,
    } is Vgg;
    /// [`DenseNet`].
    DenseNet {
        /// Layers in each of the three blocks.
        block_layers: usize,
        /// Channels that each layer adds.
        growth: usize,
    } is DenseNet;
}

impl Architecture {
    /// Builds the network for images of `[channels, height, width]`, its parameters drawn from
    /// `seed`.
    ///
    /// # Errors
    /// If the images are too small for it, the plan cannot be built, or an override matches no layer.
    pub fn init(
        self,
        input: [usize; 3],
        classes: usize,
        plan: &QPlan,
        seed: u64,
        device: &Device,
    ) -> Result<Network, Error> {
        let images = Images { input, classes };
        drawn(seed, device, || self.build(images, plan, device))
    }
}

impl TryFrom<String> for Architecture {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.to_string()
    }
}

impl_steps!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_on_the_list_is_a_network_and_reads_back() {
        let list = Architecture::NAMES.split_once(" (").unwrap().0;
        let names = list.split(", ").chain(["resnet20-bottleneck"]);
        for name in names {
            let architecture: Architecture = name.parse().unwrap();
            assert_eq!(architecture.to_string(), name);
        }
        for name in [
            "",
            "resnet",
            "resnet9",
            "resnet32",
            "cnn-bottleneck",
            "preresnet26",
            "vgg7-bn",
            "densenet-bc-101-12",
            "densenet-bc-0100-12",
            "densenet-bc-4-12",
            "densenet-bc-100-0",
            "ResNet20",
        ] {
            assert_eq!(
                name.parse::<Architecture>().unwrap_err().to_string(),
                format!("unknown model `{name}`, expected {}", Architecture::NAMES)
            );
        }
    }

    /// A pooling by two needs two pixels.
    #[test]
    fn images_too_small_for_a_network_are_refused() {
        let refused = |name: &str, input| {
            let architecture: Architecture = name.parse().unwrap();
            let network = architecture.init(input, 10, &QPlan::float(), 0, &Device::flex());
            network.unwrap_err().to_string()
        };
        assert_eq!(
            refused("cnn", [1, 1, 8]),
            "model: cnn needs images of 2x2 at least, these are 1x8"
        );
        assert_eq!(
            refused("lenet", [1, 28, 15]),
            "model: lenet needs images of 16x16 at least, these are 28x15"
        );
        assert_eq!(
            refused("resnet8", [0, 32, 32]),
            "conv1.channels: is [0, 16], expected at least 1 each"
        );
    }
}
