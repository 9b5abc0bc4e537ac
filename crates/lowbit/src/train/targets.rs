//! What class scores are held against.

use burn::tensor::{Int, Tensor};

/// The classes of a batch, and what training makes of them.
#[derive(Debug, Clone)]
pub struct Targets {
    /// The class of each image, or of mixed ones of the first: `[batch]`, each from 0 to the number
    /// of classes less one.
    pub classes: Tensor<1, Int>,
    /// What is taken from that class and spread evenly over all, 0 to 1; see
    /// [`Regularization`](super::Regularization).
    pub smoothing: f32,
    /// Where images are mixed, the class of the other of each pair, `[batch]`, and the share of the
    /// first, 0 to 1.
    pub mixed: Option<(Tensor<1, Int>, f32)>,
}

impl From<Tensor<1, Int>> for Targets {
    fn from(classes: Tensor<1, Int>) -> Self {
        Self {
            classes,
            smoothing: 0.0,
            mixed: None,
        }
    }
}
