//! Plans of low-precision training.

use lowbit_formats::Accumulation;

use super::{QConfig, QPlan};
use crate::quantizers::{Number, QuantizerConfig, Slot};

/// Training in number formats: what every layer with a weight, the first and the last included,
/// reads and gets back. With the formats of the optimizer
/// ([`OptimizerNumbers`](crate::optim::OptimizerNumbers)), whose weights these layers use, both
/// operands of all their products, forward and backward, are in low precision (Zhang et al.,
/// arXiv 1910.04540, section 3). What is none stays in float.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LowPrecisionPlan {
    /// Of the layers' inputs.
    pub activation: Option<Number>,
    /// Of the gradients that reach their results on the way back.
    pub error: Option<Number>,
    /// How they make their sums, forward and backward.
    pub sums: Option<Accumulation>,
}

impl QPlan {
    /// The same with layers with a weight, the first and the last included, whose results get such
    /// gradients on the way back.
    pub fn with_errors(mut self, error: &Number) -> Self {
        for layer in [&mut self.default, &mut self.first, &mut self.last] {
            layer.set(Slot::ERROR, QuantizerConfig::Format(error.into()));
        }
        self
    }
}

impl LowPrecisionPlan {
    /// The plan.
    pub fn plan(&self) -> QPlan {
        let quantizer = |number: &Option<Number>| {
            let number = number.as_ref()?;
            Some(QuantizerConfig::Format(number.into()))
        };
        let layer = QConfig::new()
            .with(Slot::INPUT, quantizer(&self.activation))
            .with(Slot::ERROR, quantizer(&self.error))
            .with_accumulate(self.sums.clone());
        QPlan {
            default: layer.clone(),
            first: layer.clone(),
            last: layer,
            ..QPlan::float()
        }
    }
}
