//! Networks, each built from its configuration and a [`QPlan`](crate::config::QPlan).

mod classifier;
mod digits_cnn;
mod lenet;
mod load;
mod network;
mod preact_resnet;
mod size;
mod source;

pub use classifier::{Batch, Classifier, FoldedPair, Stored};
pub(crate) use classifier::{classify, impl_steps};
pub use digits_cnn::{DigitsCnn, DigitsCnnConfig};
pub use lenet::{LeNet5, LeNet5Config};
pub use load::{LoadReport, Tolerance, load_plain};
pub use network::{Architecture, Network};
pub use preact_resnet::{Block, PreActResNet, PreActResNetConfig};
pub use size::model_bits;
