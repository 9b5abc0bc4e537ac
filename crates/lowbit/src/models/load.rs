//! Weights of a plain network into a quantized one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::module::{ModuleVisitor, Param};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Bytes, DType, Device, Tensor, TensorData};
use burn_pack::Tensor as Packed;
use burn_store::{
    ModuleAdapter, ModuleContext, ModuleStore, PyTorchToBurnAdapter, PytorchStore,
    SafetensorsStore, bridge,
};
use serde::Serialize;

use super::{Classifier, FoldedPair};
use crate::Error;
use crate::config::Fold;
use crate::nn::Normalization;
use crate::quantizers::ModulePath;

/// What of a difference between file and network is accepted; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Parameters that the file lacks keep their values.
    pub missing: bool,
    /// Parameters that the file alone has are passed over.
    pub unexpected: bool,
    /// Parameters of another shape are passed over.
    pub other_shape: bool,
}

/// What became of every parameter of the plain network and of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Names of the parameters that were loaded, those of quantizers among them.
    pub loaded: Vec<String>,
    /// Those that the file lacks.
    pub missing: Vec<String>,
    /// Those that the file alone has.
    pub unexpected: Vec<String>,
    /// Those of another shape: name, the network's shape and the file's.
    pub other_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// What is different and not accepted, as one line.
    fn refused(&self, tolerance: Tolerance) -> Option<String> {
        let mut parts = Vec::new();
        if !tolerance.missing && !self.missing.is_empty() {
            parts.push(format!("it lacks {}", self.missing.join(", ")));
        }
        if !tolerance.unexpected && !self.unexpected.is_empty() {
            parts.push(format!("it alone has {}", self.unexpected.join(", ")));
        }
        if !tolerance.other_shape && !self.other_shape.is_empty() {
            let shapes = self.other_shape.iter();
            let shapes: Vec<String> = shapes
                .map(|(name, own, theirs)| format!("{name} is {theirs:?}, expected {own:?}"))
                .collect();
            parts.push(shapes.join(", "));
        }
        (!parts.is_empty()).then(|| format!("holds another network; {}", parts.join("; ")))
    }
}

/// The network with the weights in a file: a record of ours (`.bpk`), a safetensors file, or a
/// PyTorch state dict (`.pt`, `.pth`). Keys are those of the plain network, with PyTorch's names
/// and layout of normalizations and linear layers where the file is PyTorch's (of safetensors
/// files, every one that does not name Burn as its producer). Keys of quantizers are loaded where
/// both have them and passed over elsewhere, and so is PyTorch's `num_batches_tracked`.
///
/// Weights and normalizations of the plain network are merged first where the network has them
/// merged ([`Fold::Merged`]).
///
/// # Errors
/// If the file cannot be read, or differs from the network in what `tolerance` does not accept;
/// every difference is named.
pub fn load_plain<M: Classifier>(
    model: M,
    path: &Path,
    tolerance: Tolerance,
) -> Result<(M, LoadReport), Error> {
    let source = Source::read(path)?;
    let mut wanted = Wanted::default();
    model.visit(&mut wanted);
    let (mut tensors, unmerged) = match model.fold() {
        Fold::Merged => merged(source, &model.folds(), path)?,
        _ => (source, BTreeSet::new()),
    };
    let mut report = LoadReport::default();
    let mut packed = Vec::new();
    for parameter in &wanted.parameters {
        let Some(found) = tensors.take(parameter) else {
            if !parameter.is_quantizer() {
                report.missing.push(parameter.key.clone());
            }
            continue;
        };
        if found.shape.to_vec() != parameter.shape {
            if !parameter.is_quantizer() {
                let shape = found.shape.to_vec();
                let own = parameter.shape.clone();
                report.other_shape.push((parameter.key.clone(), own, shape));
            }
            continue;
        }
        report.loaded.push(parameter.key.clone());
        packed.push(in_f32(found));
    }
    report.unexpected = tensors.rest(&unmerged);
    if let Some(message) = report.refused(tolerance) {
        let path = path.into();
        return Err(Error::Checkpoint { path, message });
    }
    let record = burn_pack::Writer::new(packed)
        .into_bytes()
        .map_err(RecordError::from)
        .and_then(ModuleRecord::from_bytes)
        .map_err(|error| unreadable(path, error))?;
    let record = record.allow_partial(true).allow_unused(true);
    let model = model.with_record(record);
    Ok((model.map_err(|error| unreadable(path, error))?, report))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Checkpoint {
        path: path.into(),
        message: error.to_string().replace('\n', " "),
    }
}

/// The tensor with its elements as `f32`.
fn in_f32(tensor: Packed) -> Packed {
    if tensor.dtype == DType::F32 {
        return tensor;
    }
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    bridge::map_data(tensor, name, DType::F32, shape, |data| {
        data.convert_dtype(DType::F32)
    })
}

/// A parameter of the network.
struct Parameter {
    key: String,
    shape: Vec<usize>,
    /// The type of the module that has it, as Burn names it: `Struct:Linear`.
    holder: String,
}

impl Parameter {
    fn is_quantizer(&self) -> bool {
        self.key.contains("quantizers.")
    }
}

#[derive(Default)]
struct Wanted {
    path: ModulePath,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for Wanted {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.parameters.push(Parameter {
            key: self.path.key(),
            shape: param.dims().to_vec(),
            holder: format!("Struct:{}", self.path.holder_type()),
        });
    }
}

/// The tensors of a file, by key.
struct Source {
    tensors: BTreeMap<String, Packed>,
    /// Whether names and layouts are PyTorch's.
    is_pytorch: bool,
}

impl Source {
    fn read(path: &Path) -> Result<Self, Error> {
        // A file that cannot be opened is told as such, not as one of a wrong format.
        File::open(path).map_err(Error::io(path))?;
        let extension = path.extension().and_then(|e| e.to_str());
        match extension.unwrap_or_default() {
            "bpk" => {
                let bytes = std::fs::read(path).map_err(Error::io(path))?;
                let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(bytes));
                let tensors = reader.and_then(burn_pack::Reader::into_tensors);
                let tensors = tensors.map_err(|error| unreadable(path, error))?;
                let named = tensors.into_iter().map(|t| (t.name.clone(), t));
                Ok(Self {
                    tensors: named.collect(),
                    is_pytorch: false,
                })
            }
            "safetensors" => {
                let is_pytorch = !is_burns(path)?;
                let mut store = SafetensorsStore::from_file(path);
                Ok(Self {
                    tensors: all_tensors(&mut store, path)?,
                    is_pytorch,
                })
            }
            "pt" | "pth" => {
                let mut store = PytorchStore::from_file(path).map_indices_contiguous(false);
                Ok(Self {
                    tensors: all_tensors(&mut store, path)?,
                    is_pytorch: true,
                })
            }
            other => Err(unreadable(
                path,
                format!("`{other}` is no known format, expected bpk, safetensors, pt or pth"),
            )),
        }
    }

    /// The tensor of a parameter, in the network's layout.
    fn take(&mut self, parameter: &Parameter) -> Option<Packed> {
        let mut tensor = match self.tensors.remove(&parameter.key) {
            Some(tensor) => tensor,
            None => self.tensors.remove(&self.other_name(parameter)?)?,
        };
        tensor.name.clone_from(&parameter.key);
        tensor.param_id = None;
        if self.is_pytorch {
            let holder = [parameter.holder.clone()];
            tensor = PyTorchToBurnAdapter.adapt(tensor, ModuleContext::new(&holder));
        }
        tensor.name.clone_from(&parameter.key);
        Some(tensor)
    }

    /// PyTorch's name of a parameter, where that differs.
    fn other_name(&self, parameter: &Parameter) -> Option<String> {
        let (module, name) = parameter.key.rsplit_once('.')?;
        let other = PyTorchToBurnAdapter.get_alternative_param_name(name, &parameter.holder);
        other
            .filter(|_| self.is_pytorch)
            .map(|other| format!("{module}.{other}"))
    }

    /// The keys that no parameter took, without those that mean nothing here.
    fn rest(self, unmerged: &BTreeSet<String>) -> Vec<String> {
        let means_nothing = |key: &String| {
            key.contains("quantizers.")
                || self.is_pytorch && key.ends_with(".num_batches_tracked")
                || unmerged.contains(key)
        };
        let keys = self.tensors.keys().filter(|key| !means_nothing(key));
        keys.cloned().collect()
    }
}

fn all_tensors<S: ModuleStore>(
    store: &mut S,
    path: &Path,
) -> Result<BTreeMap<String, Packed>, Error> {
    let tensors = store.get_all_tensors();
    tensors.cloned().map_err(|error| unreadable(path, error))
}

/// Whether a safetensors file names Burn as its producer.
fn is_burns(path: &Path) -> Result<bool, Error> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(Error::io(path))?;
    let mut header = Vec::new();
    let limit = u64::from_le_bytes(length);
    file.take(limit)
        .read_to_end(&mut header)
        .map_err(Error::io(path))?;
    let header: serde_json::Value =
        serde_json::from_slice(&header).map_err(|error| unreadable(path, error))?;
    Ok(header["__metadata__"]["producer"] == "burn")
}

/// The tensors with every pair merged into its convolution, and the keys that went into one.
fn merged(
    mut source: Source,
    pairs: &[FoldedPair],
    path: &Path,
) -> Result<(Source, BTreeSet<String>), Error> {
    let mut used = BTreeSet::new();
    for pair in pairs {
        let (gamma, beta) = if source.is_pytorch {
            ("weight", "bias")
        } else {
            ("gamma", "beta")
        };
        let names = [gamma, beta, "running_mean", "running_var"];
        let keys = names.map(|name| format!("{}.{name}", pair.norm));
        // A network that was merged before has none of them.
        if !keys.iter().all(|key| source.tensors.contains_key(key)) {
            continue;
        }
        let device = Device::flex();
        let read = |key: &str| -> Result<Option<TensorData>, Error> {
            let tensor = source.tensors.get(key).cloned().map(in_f32);
            let data = tensor.map(bridge::into_data).transpose();
            data.map_err(|error| unreadable(path, error))
        };
        let vector = |key: &str| -> Result<Option<Tensor<1>>, Error> {
            Ok(read(key)?.map(|data| Tensor::from_data(data, &device)))
        };
        let (weight_key, bias_key) = (
            format!("{}.weight", pair.conv),
            format!("{}.bias", pair.conv),
        );
        let [Some(gamma), Some(beta), Some(mean), Some(variance)] = [
            vector(&keys[0])?,
            vector(&keys[1])?,
            vector(&keys[2])?,
            vector(&keys[3])?,
        ] else {
            continue;
        };
        let Some(weight) = read(&weight_key)? else {
            continue;
        };
        let normalization = Normalization {
            gamma,
            beta,
            mean,
            variance,
            epsilon: EPSILON,
        };
        let weight = Tensor::<4>::from_data(weight, &device);
        let (weight, bias) = normalization.fold(weight, vector(&bias_key)?);
        let entries = [
            (weight_key, weight.into_data()),
            (bias_key, bias.into_data()),
        ];
        for (key, data) in entries {
            let tensor = bridge::from_data(data, key.clone(), None);
            source.tensors.insert(key, tensor);
        }
        used.extend(keys);
    }
    Ok((source, used))
}

/// What normalizations add to the variance; Burn's and PyTorch's own default, which all networks
/// here keep.
const EPSILON: f64 = 1e-5;
