//! What quantizers learned, in a file of its own beside the weights, by the parameters' paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use lowbit::quantizers::{ModulePath, bad_learned, learned, learned_at};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::save::serialized;
use crate::Error;
use crate::packed::floats_of;
use crate::weights::Numbers;

/// The file.
pub(crate) const QUANTIZERS: &str = "quantizers.safetensors";

/// The file of a network, if its quantizers learn something.
pub(crate) fn quantizers<M: Module>(network: &M) -> Option<Vec<u8>> {
    let all = learned(network).into_iter().map(|parameter| {
        let numbers = Numbers {
            shape: vec![parameter.values.len()],
            values: parameter.values,
        };
        (parameter.key, numbers.stored(Dtype::F32))
    });
    let all: BTreeMap<_, _> = all.collect();
    (!all.is_empty()).then(|| serialized(&all))
}

/// The network with what its quantizers learned from the file of a folder, and which parameters are not in it.
///
/// # Errors
/// If the file cannot be read, or a parameter is of another length there or one that no quantizer can use.
pub(super) fn with_quantizers<M: Module>(
    network: M,
    folder: &Path,
) -> Result<(M, BTreeSet<String>), Error> {
    let keys = learned(&network).into_iter().map(|parameter| parameter.key);
    let mut missing: BTreeSet<String> = keys.collect();
    let path = folder.join(QUANTIZERS);
    if missing.is_empty() || !path.exists() {
        return Ok((network, missing));
    }
    let bytes = fs::read(&path).map_err(Error::io(&path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| Error::file(&path, error))?;
    let numbers = file.tensors().into_iter().map(|(name, view)| {
        let values = floats_of(view.dtype(), view.data()).ok_or_else(|| {
            let message = format!("{name} is {:?}, expected F32, F16 or BF16", view.dtype());
            Error::file(&path, message)
        });
        Ok((name, values?))
    });
    let mut set = Set {
        path: ModulePath::default(),
        values: numbers.collect::<Result<_, Error>>()?,
        error: None,
    };
    missing.retain(|key| !set.values.contains_key(key));
    let network = network.map(&mut set);
    if let Some(message) = set.error.or_else(|| bad_learned(&network)) {
        return Err(Error::file(path, message));
    }
    Ok((network, missing))
}

struct Set {
    path: ModulePath,
    values: BTreeMap<String, Vec<f32>>,
    error: Option<String>,
}

impl ModuleMapper for Set {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if learned_at(&self.path).is_none() || self.path.place().is_none() {
            return param;
        }
        let Some(values) = self.values.get(&self.path.key()) else {
            return param;
        };
        let (shape, count) = (param.lazy_shape(), values.len());
        if shape.num_elements() != count {
            let (key, expected) = (self.path.key(), shape.num_elements());
            let message = format!("{key} has {count} numbers, the plan makes it {expected}");
            self.error.get_or_insert(message);
            return param;
        }
        let data = TensorData::new(values.clone(), shape);
        let id = param.id;
        let tensor = Tensor::from_data(data, &param.lazy_device());
        param.transform_for_load(tensor, id)
    }
}
