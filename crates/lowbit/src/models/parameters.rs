//! The parameters of a network, and its quantizers as they are.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::config::Layer;
use crate::quantizers::{Channels, ModulePath, Quantizer, QuantizerConfig, Slot, with_learned};

/// Every parameter of a module, by path.
#[derive(Default)]
pub(crate) struct Parameters {
    path: ModulePath,
    found: BTreeMap<String, TensorData>,
}

impl Parameters {
    /// Those of a network.
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        let mut parameters = Self::default();
        model.visit(&mut parameters);
        parameters
    }

    /// The parameter at a path, such as `conv1.weight`.
    pub(crate) fn get(&self, path: &str) -> Option<&TensorData> {
        self.found.get(path)
    }

    /// The paths of all.
    pub(crate) fn paths(&self) -> BTreeSet<String> {
        self.found.keys().cloned().collect()
    }

    /// The names and the numbers of the parameters that a layer itself has.
    pub(crate) fn of_layer<'a>(&'a self, layer: &str) -> impl Iterator<Item = (&'a str, u64)> {
        let prefix = match layer {
            "" => String::new(),
            layer => format!("{layer}."),
        };
        self.found.iter().filter_map(move |(path, data)| {
            let name = path.strip_prefix(&prefix)?;
            (!name.contains('.')).then_some((name, data.num_elements() as u64))
        })
    }

    /// A quantizer as it is at that path, for a tensor with these channels; `None` where it has not
    /// all that it learns there.
    pub(crate) fn quantizer(
        &self,
        config: &QuantizerConfig,
        channels: Option<Channels>,
        path: &str,
    ) -> Option<Quantizer> {
        let quantizer = config.init(channels, &Device::flex());
        with_learned(quantizer, |name| {
            self.get(&format!("{path}.{name}")).cloned()
        })
    }

    /// The quantizer in a slot of a layer, as the layer has it.
    pub(crate) fn quantizer_in(&self, layer: &Layer, slot: &str) -> Option<Quantizer> {
        let config = layer.config.get(slot)?;
        let channels = layer.description.weight.filter(|_| slot == Slot::WEIGHT);
        let path = format!("{}.quantizers.{slot}", layer.path);
        self.quantizer(config, channels, &path)
    }
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.insert(self.path.key(), param.val().into_data());
    }
}

/// The network with other numbers in the parameters at these paths, running statistics among them.
pub(crate) fn with_parameters<M: Module>(model: M, values: BTreeMap<String, TensorData>) -> M {
    let mut set = SetParameters {
        path: ModulePath::default(),
        values,
    };
    model.map(&mut set)
}

struct SetParameters {
    path: ModulePath,
    values: BTreeMap<String, TensorData>,
}

impl ModuleMapper for SetParameters {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.remove(&self.path.key()) {
            Some(data) => param.map(|old| {
                let (device, trains) = (old.device(), old.is_require_grad());
                Tensor::from_data(data, &device).set_require_grad(trains)
            }),
            None => param,
        }
    }
}
