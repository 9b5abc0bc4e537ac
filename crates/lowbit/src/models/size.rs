//! The size of a network's parameters.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::Classifier;
use crate::config::Layer;
use crate::quantizers::QuantizerConfig;

/// Bits that the parameters take: each that a layer has a quantizer for at its width, everything
/// else (normalization with its running statistics, thresholds and their signs, what is left in
/// float) at 32.
pub fn model_bits<M: Classifier>(model: &M) -> u64 {
    let layers = model.layers().to_vec();
    let mut count = Count {
        layers,
        path: Vec::new(),
        bits: 0,
    };
    model.visit(&mut count);
    count.bits
}

struct Count {
    layers: Vec<Layer>,
    path: Vec<String>,
    bits: u64,
}

impl ModuleVisitor for Count {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        // A network in an enum of networks names its layers without the enum's variant.
        let outer = self.path.is_empty() && container_type.starts_with("Enum:");
        self.path
            .push(if outer { String::new() } else { name.into() });
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let bits = path
            .split_last()
            .and_then(|(name, layer)| {
                let layer = layer.join(".");
                let layer = layer.trim_start_matches('.');
                let config = &self.layers.iter().find(|known| known.path == layer)?.config;
                config.get(name).map(QuantizerConfig::bits)
            })
            .unwrap_or(32);
        self.bits += u64::from(bits) * param.dims().iter().product::<usize>() as u64;
    }
}
