//! Networks, each built from its configuration and a [`QPlan`].

mod classifier;
mod digits_cnn;
mod lenet;
mod load;
mod network;
mod preact_resnet;
mod size;
mod source;

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use classifier::{Batch, Classifier, FoldedPair, Stored};
pub(crate) use classifier::{classify, impl_steps};
pub use digits_cnn::{DigitsCnn, DigitsCnnConfig};
pub use lenet::{LeNet5, LeNet5Config};
pub use load::{LoadReport, Tolerance, load_plain};
pub use preact_resnet::{Block, PreActResNet, PreActResNetConfig};
pub use size::model_bits;

use crate::Error;
use crate::config::{Fold, Layer, QPlan};
use network::{Images, Named, drawn, networks};

networks! {
    names: "cnn, lenet, resnet8, resnet14, resnet20, resnet26 \
            (the resnets also as resnet20-bottleneck)";
    /// [`DigitsCnn`].
    Cnn is DigitsCnn;
    /// [`LeNet5`].
    LeNet is LeNet5;
    /// [`PreActResNet`].
    ResNet {
        /// Blocks in each of the three stages.
        blocks: usize,
        /// Whether the blocks are bottlenecks.
        bottleneck: bool,
    } is PreActResNet;
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
