//! The networks that a name stands for.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::classifier::impl_steps;
use super::{
    Classifier, DigitsCnn, DigitsCnnConfig, FoldedPair, LeNet5, LeNet5Config, PreActResNet,
    PreActResNetConfig,
};
use crate::Error;
use crate::config::{Fold, Layer, QPlan};

/// A network's name: `cnn`, `lenet`, or `resnet8`, `resnet14`, `resnet20`, `resnet26`, the last
/// four also with `-bottleneck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// [`DigitsCnn`].
    Cnn,
    /// [`LeNet5`].
    LeNet,
    /// [`PreActResNet`].
    ResNet {
        /// Blocks in each of the three stages.
        blocks: usize,
        /// Whether the blocks are bottlenecks.
        bottleneck: bool,
    },
}

impl Architecture {
    /// The names of all networks.
    pub const NAMES: &str = "cnn, lenet, resnet8, resnet14, resnet20, resnet26 \
                             (the resnets also as resnet20-bottleneck)";

    /// `[channels, height, width]` and classes of the images that the network is made for.
    pub fn usual_images(self) -> ([usize; 3], usize) {
        match self {
            Self::Cnn => ([1, 8, 8], 10),
            Self::LeNet => ([1, 28, 28], 10),
            Self::ResNet { .. } => ([3, 32, 32], 10),
        }
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
        // The backend has one generator for the whole process, and parameters are drawn when they
        // are first read: seeding and drawing must not be interrupted by another network's.
        static DRAWING: Mutex<()> = Mutex::new(());
        let _guard = DRAWING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        device.seed(seed);
        let plan = plan.clone();
        let channels = input[0];
        let network = match self {
            Self::Cnn => Network::Cnn(
                DigitsCnnConfig {
                    channels,
                    classes,
                    plan,
                }
                .init(device)?,
            ),
            Self::LeNet => Network::LeNet(
                LeNet5Config {
                    input,
                    classes,
                    plan,
                }
                .init(device)?,
            ),
            Self::ResNet { blocks, bottleneck } => Network::ResNet(
                PreActResNetConfig {
                    blocks,
                    bottleneck,
                    channels,
                    classes,
                    plan,
                }
                .init(device)?,
            ),
        };
        network.visit(&mut Draw);
        Ok(network)
    }
}

/// Reads every parameter once, which draws it.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cnn => f.write_str("cnn"),
            Self::LeNet => f.write_str("lenet"),
            Self::ResNet { blocks, bottleneck } => {
                let suffix = if *bottleneck { "-bottleneck" } else { "" };
                write!(f, "resnet{}{suffix}", 6 * blocks + 2)
            }
        }
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, bottleneck) = match text.strip_suffix("-bottleneck") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let blocks = match name {
            "cnn" if !bottleneck => return Ok(Self::Cnn),
            "lenet" if !bottleneck => return Ok(Self::LeNet),
            "resnet8" => 1,
            "resnet14" => 2,
            "resnet20" => 3,
            "resnet26" => 4,
            _ => {
                return Err(Error::Unknown {
                    kind: "model",
                    text: text.into(),
                    expected: Self::NAMES,
                });
            }
        };
        Ok(Self::ResNet { blocks, bottleneck })
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

/// One of the networks.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of it, and it is passed by reference"
)]
pub enum Network {
    /// The network for the digits.
    Cnn(DigitsCnn),
    /// LeNet-5.
    LeNet(LeNet5),
    /// A residual network.
    ResNet(PreActResNet),
}

impl Classifier for Network {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Cnn(model) => model.forward(images),
            Self::LeNet(model) => model.forward(images),
            Self::ResNet(model) => model.forward(images),
        }
    }

    fn layers(&self) -> &[Layer] {
        match self {
            Self::Cnn(model) => model.layers(),
            Self::LeNet(model) => model.layers(),
            Self::ResNet(model) => model.layers(),
        }
    }

    fn folds(&self) -> Vec<FoldedPair> {
        match self {
            Self::Cnn(model) => model.folds(),
            Self::LeNet(model) => model.folds(),
            Self::ResNet(model) => model.folds(),
        }
    }

    fn fold(&self) -> Fold {
        match self {
            Self::Cnn(model) => model.fold(),
            Self::LeNet(model) => model.fold(),
            Self::ResNet(model) => model.fold(),
        }
    }

    // A record names parameters as the network itself does, without this enum's variant.
    fn record(&self) -> ModuleRecord {
        match self {
            Self::Cnn(model) => model.record(),
            Self::LeNet(model) => model.record(),
            Self::ResNet(model) => model.record(),
        }
    }

    fn with_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
        Ok(match self {
            Self::Cnn(model) => Self::Cnn(model.with_record(record)?),
            Self::LeNet(model) => Self::LeNet(model.with_record(record)?),
            Self::ResNet(model) => Self::ResNet(model.with_record(record)?),
        })
    }
}

impl_steps!(Network);
