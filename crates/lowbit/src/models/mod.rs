//! Networks, each built from its configuration and a [`QPlan`].

mod classifier;
mod densenet;
mod digits_cnn;
mod gpt;
mod lenet;
mod load;
mod mnist_cnn;
mod mobilenet_v2;
mod network;
mod normed_conv;
mod parameters;
mod plane;
mod preact_resnet;
mod resnet;
mod size;
mod snn;
mod snn_cnn;
mod snn_lenet;
mod source;
pub mod transformer;
mod vgg;
mod vgg7;
mod vgg_small;
mod width;

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
pub use gpt::{GPT_CONTEXT, Gpt, GptConfig, GptSize};
pub use lenet::{LeNet5, LeNet5Config};
pub use load::{LoadReport, Tolerance, load_plain};
pub use mnist_cnn::{MnistCnn, MnistCnnConfig};
pub use mobilenet_v2::{InvertedResidual, MobileNetV2, MobileNetV2Config};
pub(crate) use parameters::{Parameters, with_parameters};
pub use plane::{Plane, PlaneConfig, PlaneConv, PlaneDepth};
pub use preact_resnet::{Block, PreActResNet, PreActResNetConfig};
pub use resnet::{BasicBlock, ResNet, ResNetConfig, ResNetForm};
pub(crate) use size::SlotWidths;
pub use size::{model_bits, parameter_bits};
pub use snn::{Activity, SpikeTime};
pub use snn_cnn::{SnnCnn, SnnCnnConfig};
pub use snn_lenet::{SnnLeNet, SnnLeNetConfig};
pub(crate) use source::unreadable;
pub use vgg::{Vgg, VggConfig, VggConv, VggDepth, VggStage};
pub use vgg_small::{VggSmall, VggSmallConfig, VggSmallConv};
pub use vgg7::{Vgg7, Vgg7Config, Vgg7Stage};
pub use width::Width;

use crate::Error;
use crate::config::{Fold, Layer, QPlan};
use network::{Images, Named, drawn, networks};

networks! {
    /// [`DigitsCnn`].
    Cnn is DigitsCnn;
    /// [`LeNet5`].
    LeNet is LeNet5;
    /// [`MnistCnn`].
    MnistCnn is MnistCnn;
    /// [`SnnCnn`].
    SnnCnn is SnnCnn;
    /// [`SnnLeNet`].
    SnnLeNet is SnnLeNet;
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
    /// [`ResNet`].
    PostActResNet {
        /// Which of them.
        form: ResNetForm,
    } is ResNet;
    /// [`Plane`].
    Plane {
        /// Layers with a weight.
        depth: PlaneDepth,
    } is Plane;
    /// [`VggSmall`].
    VggSmall is VggSmall;
    /// [`MobileNetV2`].
    MobileNetV2 is MobileNetV2;
    /// [`Gpt`].
    Gpt {
        /// Which of them.
        size: GptSize,
    } is Gpt;
}

/// A network's name: one of [`NAMES`](Self::NAMES) or, for another width, that name with a suffix
/// `-x` and the [`Width`]: `resnet20-x2`, `vgg7-x0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Architecture {
    /// The network as it is defined.
    pub base: BaseNetwork,
    /// By how much its channels are multiplied.
    pub width: Width,
}

impl Architecture {
    /// The names of all networks.
    pub const NAMES: &str = "cnn, lenet, mnist-cnn, snn-cnn, snn-lenet, resnet8, resnet14, resnet20, resnet26, resnet32, \
        resnet44, resnet56, resnet110, preresnet20, preresnet110, preresnet164, resnet20-v1, \
        resnet20-v1b, resnet18, resnet18-imagenet, plane2, plane4, plane6, plane8, plane10, vgg7, \
        vgg-small, vgg16, vgg16-bn, vgg19, vgg19-bn, mobilenetv2, densenet-bc-100-12, \
        densenet-bc-190-40, gpt-nano, gpt-micro, gpt-mini \
        (preresnet, -v1 and -v1b with all depths of the resnets, which are also there as \
        resnet20-bottleneck; densenet-bc with other depths and growths; every one at another width, \
        as resnet20-x2 or vgg7-x0.5)";

    /// A network as it is defined.
    pub const fn of(base: BaseNetwork) -> Self {
        let width = Width::ONE;
        Self { base, width }
    }

    /// `[channels, height, width]` and classes of the images that the network is made for.
    pub fn usual_images(self) -> ([usize; 3], usize) {
        let images = self.base.images();
        (images.input, images.classes)
    }

    /// Whether it reads windows of text, and says of each character which is next.
    pub fn reads_text(self) -> bool {
        self.base.reads_text()
    }

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
        let Self { base, width } = self;
        drawn(seed, device, |device| {
            base.build(width, images, plan, device)
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.width {
            Width::ONE => write!(f, "{}", self.base),
            width => write!(f, "{}-x{width}", self.base),
        }
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown {
            kind: "model",
            text: text.into(),
            expected: Self::NAMES,
        };
        if let Some(base) = BaseNetwork::named(text) {
            return Ok(Self::of(base));
        }
        let (name, width) = text.rsplit_once("-x").ok_or_else(unknown)?;
        let base = BaseNetwork::named(name).ok_or_else(unknown)?;
        let width = width.parse()?;
        Ok(Self { base, width })
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
        let others = [
            "resnet20-bottleneck",
            "resnet56-bottleneck",
            "preresnet8",
            "preresnet26",
            "resnet8-v1",
            "resnet56-v1b",
            "resnet110-v1",
            "resnet20-x2",
            "vgg7-x0.5",
            "mnist-cnn-x3",
            "resnet20-v1-x1.25",
            "densenet-bc-100-12-x2",
        ];
        for name in list.split(", ").chain(others) {
            let architecture: Architecture = name.parse().unwrap();
            assert_eq!(architecture.to_string(), name);
        }
        for name in [
            "",
            "resnet",
            "resnet9",
            "resnet38",
            "cnn-bottleneck",
            "preresnet38",
            "resnet18-v1",
            "resnet38-v1b",
            "resnet20-v2",
            "plane3",
            "-x2",
            "resnet20-x2-x2",
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

    #[test]
    fn a_width_of_one_is_no_suffix_and_another_that_is_none_is_named() {
        let architecture: Architecture = "resnet20-x1".parse().unwrap();
        assert_eq!(architecture, "resnet20".parse().unwrap());
        assert_eq!(
            "cnn-x0".parse::<Architecture>().unwrap_err().to_string(),
            "unknown width `0`, expected a number from 0.001 to 100 with at most three places, such \
             as 2 or 0.5"
        );
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
