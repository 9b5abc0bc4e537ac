//! The size of a network's parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::Classifier;
use crate::config::Layer;
use crate::quantizers::{LearnedWidths, ModulePath, QuantizerConfig};

/// Bits that the parameters take: each that a layer has a quantizer for at its width, which may be
/// learned, everything
/// else (normalization with its running statistics, thresholds and their signs, what is left in
/// float) at 32.
pub fn model_bits<M: Classifier>(model: &M) -> u64 {
    parameter_bits(model, model.layers())
}

/// The same of any network with these layers.
pub fn parameter_bits<M: Module>(model: &M, layers: &[Layer]) -> u64 {
    let mut count = Count {
        layers,
        widths: SlotWidths::of(model),
        path: ModulePath::default(),
        bits: 0,
    };
    model.visit(&mut count);
    count.bits
}

/// How wide the numbers in a network's slots are.
pub(crate) struct SlotWidths {
    learned: LearnedWidths,
}

impl SlotWidths {
    /// Those of a network.
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        Self {
            learned: LearnedWidths::of(model),
        }
    }

    /// Bits of each number in a slot of a layer: where they are learned, the mean of its channels';
    /// `None` in float.
    pub(crate) fn of_slot(&self, layer: &Layer, slot: &str) -> Option<f64> {
        let learned = self.learned.at(&layer.path, slot);
        learned.or_else(|| Some(layer.quantizer(slot).map(QuantizerConfig::bits)?.into()))
    }
}

struct Count<'a> {
    layers: &'a [Layer],
    widths: SlotWidths,
    path: ModulePath,
    bits: u64,
}

impl Count<'_> {
    /// Bits of each number of the parameter that the walk is at.
    fn width(&self) -> Option<f64> {
        let layer = self.path.holder();
        let layer = self.layers.iter().find(|known| known.path == layer)?;
        self.widths.of_slot(layer, self.path.field())
    }
}

impl ModuleVisitor for Count<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let numbers: usize = param.dims().iter().product();
        self.bits += match self.width() {
            Some(width) => (width * numbers as f64).round() as u64,
            None => 32 * numbers as u64,
        };
    }
}
