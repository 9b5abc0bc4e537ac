//! Parameters quantized where the model reads them, through Burn's reparameterization.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::Tensor;

use super::layers::{Found, interned, planned, slot_of};
use super::record::Parameter;
use crate::Error;
use crate::config::{Description, Layer, QConfig, QPlan};
use crate::quantizers::{Channels, ModulePath, Quantizers, Slot};

/// Quantizes the parameters of `model` as `plan` says, and returns it with its layers: modules that have
/// parameters, in the order of the module's fields. The model's type and code stay as they are; its
/// activations are not quantized.
///
/// The quantizers of `conv1.weight` are at `conv1.weight.quantizers.weight`.
/// `model.valid().materialize()` makes their results the parameters.
///
/// # Errors
/// If the plan does not fit the layers.
///
/// # Example
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{capture::prepare_parameters, config::{QConfig, QPlan}};
/// use lowbit::quantizers::{DorefaWeightConfig, QuantizerConfig};
///
/// let device = Device::flex();
/// let one_bit = QuantizerConfig::DorefaWeight(DorefaWeightConfig::new(1));
/// let plan = QPlan { first: QConfig::new().with("weight", one_bit), ..QPlan::float() };
/// let (model, layers) = prepare_parameters(LinearConfig::new(4, 2).init(&device), &plan)?;
/// let y = model.forward(Tensor::<2>::ones([1, 4], &device));
/// assert_eq!((y.dims(), layers[0].path.as_str()), ([1, 2], ""));
/// # Ok::<(), lowbit::Error>(())
/// ```
pub fn prepare_parameters<M: Module>(model: M, plan: &QPlan) -> Result<(M, Vec<Layer>), Error> {
    let mut modules = Modules::default();
    model.visit(&mut modules);
    let layers = planned(&modules.found, plan)?;
    let quantizers = Quantizes {
        parameters: modules.parameters,
        layers: &layers,
    };
    let model = model.apply_reparameterization(quantizers);
    Ok((model, layers))
}

/// The modules of a model that have parameters.
#[derive(Default)]
struct Modules {
    path: ModulePath,
    /// As Burn joins them.
    names: Vec<String>,
    found: Vec<Found>,
    /// The layer and slot of each parameter.
    parameters: HashMap<String, (usize, &'static str)>,
}

/// Statistics that a normalization keeps, which no slot is for.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

impl ModuleVisitor for Modules {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
        self.names.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
        self.names.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let parameter = Parameter::at(&self.path);
        if STATISTICS.contains(&parameter.field.as_str()) {
            return;
        }
        let slot = slot_of(&parameter);
        let known = self.found.iter().position(|f| f.path == parameter.layer);
        let layer = known.unwrap_or_else(|| {
            let description = Description {
                slots: Vec::new(),
                ..Description::new(interned(&parameter.layer_type))
            };
            let path = parameter.layer.clone();
            self.found.push(Found { path, description });
            self.found.len() - 1
        });
        let description = &mut self.found[layer].description;
        description.slots.push(slot);
        if !description.has_slot(Slot::GRADIENT) {
            description.slots.push(Slot::GRADIENT);
        }
        if slot == Slot::WEIGHT && D > 1 {
            // Of linear, transposed and embedding weights the first dimension is the input's.
            let name = description.name;
            let turned =
                name == "Linear" || name == "Embedding" || name.starts_with("ConvTranspose");
            let axis = usize::from(turned);
            let count = param.lazy_shape()[axis];
            description.weight = Some(Channels { axis, count });
        }
        self.parameters.insert(self.names.join("."), (layer, slot));
    }
}

/// Gives each parameter the quantizers of its slot.
struct Quantizes<'a> {
    parameters: HashMap<String, (usize, &'static str)>,
    layers: &'a [Layer],
}

impl Reparameterizer for Quantizes<'_> {
    type Reparam = Quantizers;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Quantizers>) {
        let Some(&(layer, slot)) = self.parameters.get(path) else {
            return (param, None);
        };
        let layer = &self.layers[layer];
        let Some(quantizer) = layer.config.get(slot) else {
            return (param, None);
        };
        let gradient = layer.config.get(Slot::GRADIENT).cloned();
        let config = QConfig::new().with(slot, quantizer.clone());
        let config = config.with(Slot::GRADIENT, gradient);
        let quantizers = config.init(layer.description.weight, &param.lazy_device());
        (param, Some(quantizers))
    }
}
