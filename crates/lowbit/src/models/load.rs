//! Weights of a plain network into a quantized one.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::{ModuleVisitor, Param};
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_pack::Tensor as Packed;
use burn_store::bridge;
use serde::{Deserialize, Serialize};

use super::source::{Parameter, Source, is_quantizers, unreadable};
use super::{Classifier, FoldedPair};
use crate::Error;
use crate::config::Fold;
use crate::nn::Normalization;
use crate::quantizers::ModulePath;

/// What of a difference between file and network is accepted; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
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

impl Tolerance {
    /// Whether no difference is accepted.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl LoadReport {
    /// Every difference between file and network, in a line for each kind there is.
    pub fn differences(&self) -> Vec<String> {
        self.kinds().into_iter().flatten().collect()
    }

    /// What is missing, unexpected and of another shape.
    fn kinds(&self) -> [Option<String>; 3] {
        let shapes = self.other_shape.iter();
        let shapes: Vec<String> = shapes
            .map(|(name, own, theirs)| format!("{name} is {theirs:?}, expected {own:?}"))
            .collect();
        let line = |prefix: &str, names: &[String]| {
            (!names.is_empty()).then(|| format!("{prefix}{}", names.join(", ")))
        };
        [
            line("it lacks ", &self.missing),
            line("it alone has ", &self.unexpected),
            line("", &shapes),
        ]
    }

    /// Whether the file has no parameter of the plain network.
    fn is_of_another_network(&self) -> bool {
        self.loaded.iter().all(|key| is_quantizers(key))
    }

    /// What is different and not accepted, as one line; a file that has nothing for the network is
    /// never accepted, as it would stay what it was.
    fn refused(&self, tolerance: Tolerance) -> Option<String> {
        if self.is_of_another_network() {
            let differences = self.differences().join("; ");
            return Some(format!("holds no tensor of this network; {differences}"));
        }
        let accepted = [
            tolerance.missing,
            tolerance.unexpected,
            tolerance.other_shape,
        ];
        let kinds = self.kinds().into_iter().zip(accepted);
        let parts: Vec<String> = kinds
            .filter_map(|(kind, accepted)| kind.filter(|_| !accepted))
            .collect();
        (!parts.is_empty()).then(|| format!("holds another network; {}", parts.join("; ")))
    }
}

/// The network with the weights in a file: a record of ours (`.bpk`), a safetensors file, or a
/// PyTorch state dict (`.pt`, `.pth`). Keys are those of the plain network, with PyTorch's names
/// and layout of normalizations and linear layers where the file is PyTorch's (of safetensors
/// files, every one that does not name Burn as its producer). Keys of quantizers are loaded where
/// both have them and passed over elsewhere, and so is PyTorch's `num_batches_tracked`.
///
/// Of PyTorch's, the state dict may be in a dictionary, as its `state_dict`, `model_state_dict`,
/// `model` or `net`, whose other entries (an optimizer's state, the epoch) are passed over; its keys
/// may have the prefix `module.` of `DataParallel` or `_orig_mod.` of `torch.compile`; and it may be
/// that of a whole module which was saved.
///
/// Weights and normalizations of the plain network are merged first where the network has them
/// merged ([`Fold::Merged`]).
///
/// # Errors
/// If the file cannot be read, differs from the network in what `tolerance` does not accept, or has
/// no parameter of the plain network, which no tolerance accepts; every difference is named.
pub fn load_plain<M: Classifier>(
    model: M,
    path: &Path,
    tolerance: Tolerance,
) -> Result<(M, LoadReport), Error> {
    let mut wanted = Wanted::default();
    model.visit(&mut wanted);
    let source = Source::read(path, &wanted.parameters)?;
    let (mut tensors, unmerged) = match model.fold() {
        Fold::Merged => merged(source, &model.folds(), path)?,
        _ => (source, BTreeSet::new()),
    };
    let mut report = LoadReport::default();
    let mut packed = Vec::new();
    for parameter in &wanted.parameters {
        let Some(found) = tensors.take(parameter) else {
            if !is_quantizers(&parameter.key) {
                report.missing.push(parameter.key.clone());
            }
            continue;
        };
        if found.shape.to_vec() != parameter.shape {
            if !is_quantizers(&parameter.key) {
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

/// The tensors with every pair merged into its convolution, and the keys that went into one.
fn merged(
    mut source: Source,
    pairs: &[FoldedPair],
    path: &Path,
) -> Result<(Source, BTreeSet<String>), Error> {
    let mut used = BTreeSet::new();
    for pair in pairs {
        used.extend(merge(&mut source, pair, path)?.into_iter().flatten());
    }
    Ok((source, used))
}

/// Merges a pair; returns the keys of the normalization, or nothing where it has none: a network
/// that was merged before.
fn merge(
    source: &mut Source,
    pair: &FoldedPair,
    path: &Path,
) -> Result<Option<[String; 4]>, Error> {
    let (gamma, beta) = match source.is_pytorch {
        true => ("weight", "bias"),
        false => ("gamma", "beta"),
    };
    let names = [gamma, beta, "running_mean", "running_var"];
    let keys = names.map(|name| format!("{}.{name}", pair.norm));
    let [weight_key, bias_key] = ["weight", "bias"].map(|name| format!("{}.{name}", pair.conv));
    let device = Device::flex();
    let read = |key: &str| -> Result<Option<TensorData>, Error> {
        let tensor = source.tensors.get(key).cloned().map(in_f32);
        let data = tensor.map(bridge::into_data).transpose();
        data.map_err(|error| unreadable(path, error))
    };
    let vector = |key: &str| -> Result<Option<Tensor<1>>, Error> {
        Ok(read(key)?.map(|data| Tensor::from_data(data, &device)))
    };
    let [Some(gamma), Some(beta), Some(mean), Some(variance)] = [
        vector(&keys[0])?,
        vector(&keys[1])?,
        vector(&keys[2])?,
        vector(&keys[3])?,
    ] else {
        return Ok(None);
    };
    let Some(weight) = read(&weight_key)? else {
        return Ok(None);
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
    for (key, data) in [
        (weight_key, weight.into_data()),
        (bias_key, bias.into_data()),
    ] {
        let tensor = bridge::from_data(data, key.clone(), None);
        source.tensors.insert(key, tensor);
    }
    Ok(Some(keys))
}

/// What normalizations add to the variance; Burn's and PyTorch's own default, which all networks
/// here keep.
const EPSILON: f64 = 1e-5;
