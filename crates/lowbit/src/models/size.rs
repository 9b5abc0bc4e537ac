//! The size of a network's parameters.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::Classifier;
use crate::config::Layer;
use crate::quantizers::{LearnedWidths, ModulePath, QuantizerConfig, Slot};

/// Bits that the parameters take: each that a layer has a quantizer for at its width, which may be
/// learned, everything
/// else (normalization with its running statistics, thresholds and their signs, what is left in
/// float) at 32.
pub fn model_bits<M: Classifier>(model: &M) -> u64 {
    let layers = model.layers().to_vec();
    let mut count = Count {
        layers,
        learned: LearnedWidths::of(model),
        path: ModulePath::default(),
        bits: 0,
    };
    model.visit(&mut count);
    count.bits
}

struct Count {
    layers: Vec<Layer>,
    learned: LearnedWidths,
    path: ModulePath,
    bits: u64,
}

impl Count {
    /// Bits of each number of the parameter that the walk is at.
    fn width(&self) -> Option<u32> {
        let layer = self.path.holder();
        let layer = self.layers.iter().find(|known| known.path == layer)?;
        let name = self.path.field();
        let own = layer.description.weight_format.as_ref();
        let own = own.filter(|_| name == Slot::WEIGHT);
        own.or(layer.config.get(name)).map(QuantizerConfig::bits)
    }
}

impl ModuleVisitor for Count {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let numbers: usize = param.dims().iter().product();
        let learned = self.learned.at(&self.path.holder(), self.path.field());
        self.bits += match learned {
            Some(width) => (width * numbers as f64).round() as u64,
            None => u64::from(self.width().unwrap_or(32)) * numbers as u64,
        };
    }
}
