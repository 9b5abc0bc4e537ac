//! The tensors of a file with weights, by the names that the network has for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::tensor::Bytes;
use burn_pack::Tensor as Packed;
use burn_store::{
    ModuleAdapter, ModuleContext, ModuleStore, PyTorchToBurnAdapter, PytorchStore, SafetensorsStore,
};

use crate::Error;

/// Entries of a dictionary under which training scripts keep the network's state dict, beside the
/// optimizer's state and the epoch.
const ENTRIES: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// What PyTorch's own wrappers put before every key of the network in them: `DataParallel` and
/// `DistributedDataParallel`, and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// A parameter of the network.
pub(super) struct Parameter {
    pub(super) key: String,
    pub(super) shape: Vec<usize>,
    /// The type of the module that has it, as Burn names it: `Struct:Linear`.
    pub(super) holder: String,
}

/// Whether a key is that of a quantizer's parameter.
pub(super) fn is_quantizers(key: &str) -> bool {
    key.contains("quantizers.")
}

/// The tensors of a file, by key.
pub(super) struct Source {
    pub(super) tensors: BTreeMap<String, Packed>,
    /// Whether names and layouts are PyTorch's.
    pub(super) is_pytorch: bool,
}

impl Source {
    /// The tensors of a file for the network with these parameters, without what is wrapped
    /// around a state dict of PyTorch's.
    ///
    /// # Errors
    /// If it cannot be read, or holds more than one state dict.
    pub(super) fn read(path: &Path, wanted: &[Parameter]) -> Result<Self, Error> {
        let source = Self::read_as_named(path)?;
        if source.is_pytorch {
            source.unwrapped(path, wanted)
        } else {
            Ok(source)
        }
    }

    fn read_as_named(path: &Path) -> Result<Self, Error> {
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

    /// Takes away the dictionary and the prefixes that a state dict is wrapped in.
    fn unwrapped(mut self, path: &Path, wanted: &[Parameter]) -> Result<Self, Error> {
        let is_own = |name: &str| {
            let mut keys = wanted.iter().map(|parameter| &parameter.key);
            keys.any(|key| under(key, name).is_some())
        };
        loop {
            let holds = |name: &&str| {
                let mut keys = self.tensors.keys();
                !is_own(name) && keys.any(|key| under(key, name).is_some())
            };
            if let Some(wrapper) = WRAPPERS.into_iter().find(|name| holds(name)) {
                let keys = self.tensors.keys();
                let mut bare = keys.filter_map(|key| under(key, wrapper));
                if let Some(key) = bare.find(|key| self.tensors.contains_key(*key)) {
                    let message = format!("holds both `{key}` and `{wrapper}.{key}`");
                    return Err(unreadable(path, message));
                }
                // A key without the prefix stays, to be told as one that the file alone has.
                self.rename(|key| Some(under(key, wrapper).unwrap_or(key)));
                continue;
            }
            let entries: Vec<&str> = ENTRIES.into_iter().filter(holds).collect();
            match entries[..] {
                [] => return Ok(self),
                [entry] => self.rename(|key| under(key, entry)),
                _ => {
                    let entries = entries.join("` and `");
                    let message = format!("holds several state dicts, `{entries}`; save one alone");
                    return Err(unreadable(path, message));
                }
            }
        }
    }

    /// Gives every tensor the name that `to` gives it, and drops those without.
    fn rename(&mut self, to: impl Fn(&str) -> Option<&str>) {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        let renamed = tensors.filter_map(|(key, tensor)| Some((to(&key)?.to_string(), tensor)));
        self.tensors = renamed.collect();
    }

    /// The tensor of a parameter, in the network's layout.
    pub(super) fn take(&mut self, parameter: &Parameter) -> Option<Packed> {
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
    pub(super) fn rest(self, unmerged: &BTreeSet<String>) -> Vec<String> {
        let means_nothing = |key: &String| {
            is_quantizers(key)
                || self.is_pytorch && key.ends_with(".num_batches_tracked")
                || unmerged.contains(key)
        };
        let keys = self.tensors.keys().filter(|key| !means_nothing(key));
        keys.cloned().collect()
    }
}

/// What of a key is left behind `name.`.
fn under<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('.')
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
    file.read_exact(&mut length)
        .map_err(|error| unreadable(path, format!("is cut off in its header: {error}")))?;
    let mut header = Vec::new();
    let limit = u64::from_le_bytes(length);
    file.take(limit)
        .read_to_end(&mut header)
        .map_err(Error::io(path))?;
    let header: serde_json::Value =
        serde_json::from_slice(&header).map_err(|error| unreadable(path, error))?;
    Ok(header["__metadata__"]["producer"] == "burn")
}

/// A file's error, in one line.
pub(crate) fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Checkpoint {
        path: path.into(),
        message: error.to_string().replace('\n', " "),
    }
}
