//! Weights of a folder into a network.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::config::{Layer, Planner, QPlan};
use lowbit::quantizers::ModulePath;

use super::family::Place;
use super::quantizers::with_quantizers;
use super::{Architecture, LanguageModel, ModelConfig, QuestionAnswering};
use crate::Error;
use crate::weights::Weights;

/// A network with the weights of a file, and what is to be said of it.
#[derive(Debug)]
pub struct Loaded<M> {
    /// The network.
    pub network: M,
    /// Its layers with what each quantizes, in order.
    pub layers: Vec<Layer>,
    /// Tensors that the file alone has, but for those that have no use here in any file of the family.
    pub unused: Vec<String>,
    /// What is to be said of `config.json`, a line each.
    pub notes: Vec<String>,
    /// What quantizers learn and the folder does not say, so that it is where it begins.
    pub begun: BTreeSet<String>,
}

impl<M: Module> Loaded<M> {
    /// What to tell who runs the network, a line each: tensors of the file that are not used, and parameters
    /// of quantizers that calibration or training would set, which are where they begin.
    pub fn warnings(&self) -> Vec<String> {
        let unused = (!self.unused.is_empty())
            .then(|| format!("not used of the file: {}", self.unused.join(", ")));
        let begin = self.begun.first().map(|first| {
            let count = self.begun.len();
            format!(
                "{count} parameters of quantizers are where they begin, not calibrated: {first}, ..."
            )
        });
        let notes = self.notes.iter().cloned();
        notes.chain(unused).chain(begin).collect()
    }
}

impl ModelConfig {
    /// The encoder that answers questions with the weights of a folder's files, quantized as `plan` says; see
    /// [`QuestionAnswering::init_planned`].
    ///
    /// # Errors
    /// If the network is a decoder, the plan does not fit, or the weights do not.
    pub fn question_answering(
        &self,
        weights: &Weights,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Loaded<QuestionAnswering>, Error> {
        let Architecture::Encoder(sizes) = &self.architecture else {
            let message = "is of a language model, expected albert or bert, which answer questions";
            return Err(of_another_kind(weights, message));
        };
        let init =
            |planner: &mut Planner<'_>| QuestionAnswering::init_planned(sizes, planner, device);
        load(init, self, weights, plan)
    }

    /// The decoder that writes text with the weights of a folder's files, quantized as `plan` says; see
    /// [`LanguageModel::init_planned`]. A head that shares the table of tokens has weights of its own here,
    /// equal to the table's.
    ///
    /// # Errors
    /// If the network is an encoder, the plan does not fit, or the weights do not.
    pub fn language_model(
        &self,
        weights: &Weights,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Loaded<LanguageModel>, Error> {
        let Architecture::Decoder(sizes) = &self.architecture else {
            let message =
                "is of an encoder, expected gpt2, llama, mistral or qwen2, which write text";
            return Err(of_another_kind(weights, message));
        };
        let init = |planner: &mut Planner<'_>| LanguageModel::init_planned(sizes, planner, device);
        load(init, self, weights, plan)
    }
}

/// The error of a folder whose network has no such head.
fn of_another_kind(weights: &Weights, message: &str) -> Error {
    let file = weights.folder().join("config.json");
    Error::file(file, Error::field("model_type", message))
}

/// The network that `init` builds of a plan with all its parameters as the files have them; what quantizers learn
/// and no file says stays.
///
/// # Errors
/// If the plan does not fit, or a tensor is missing, of another shape, or not in floating point.
fn load<M: Module>(
    init: impl FnOnce(&mut Planner<'_>) -> Result<M, lowbit::Error>,
    config: &ModelConfig,
    weights: &Weights,
    plan: &QPlan,
) -> Result<Loaded<M>, Error> {
    let mut planner = Planner::new(plan)?;
    let network = init(&mut planner)?;
    let layers = planner.finish()?;
    let prefix = config.family.prefix();
    let bare = !weights.names().any(|name| name.starts_with(prefix));
    let mut load = Load {
        path: ModulePath::default(),
        config,
        weights,
        bare,
        used: BTreeSet::new(),
        error: None,
    };
    let network = network.map(&mut load);
    if let Some(error) = load.error {
        return Err(error);
    }
    let names = weights.names();
    let rest = names.filter(|name| !load.used.contains(*name) && !config.family.is_unused(name));
    let (network, begun) = with_quantizers(network, weights.folder())?;
    Ok(Loaded {
        begun,
        network,
        layers,
        unused: rest.map(String::from).collect(),
        notes: config.notes.clone(),
    })
}

struct Load<'a> {
    path: ModulePath,
    config: &'a ModelConfig,
    weights: &'a Weights,
    /// Whether the file's names lack the family's prefix.
    bare: bool,
    used: BTreeSet<String>,
    error: Option<Error>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() || self.path.place().is_some() {
            return param;
        }
        match self.found(&param) {
            Ok(tensor) => {
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

impl Load<'_> {
    fn found<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Tensor<D>, Error> {
        let place = self.place()?;
        let Some(mut numbers) = self.weights.read(&place.key)? else {
            let message = format!("lacks {}", place.key);
            return Err(Error::file(self.weights.folder(), message));
        };
        if let Some(part) = place.part {
            numbers = numbers.part(part);
        }
        if place.by_results && self.path.holder_type() == "Linear" {
            numbers = numbers.transposed();
        }
        let shape = param.lazy_shape();
        if numbers.shape != shape.to_vec() {
            let (key, theirs) = (&place.key, &numbers.shape);
            let ours = shape.to_vec();
            let message =
                format!("{key} is {theirs:?} as it is read, config.json makes it {ours:?}");
            return Err(Error::file(self.weights.folder(), message));
        }
        self.used.insert(place.key);
        let data = TensorData::new(numbers.values, numbers.shape);
        Ok(Tensor::from_data(data, &param.lazy_device()))
    }

    /// Where the parameter that the walk is at is.
    fn place(&self) -> Result<Place, Error> {
        let (holder, name) = (self.path.holder(), self.path.field());
        let config = self.config;
        // The head that is the table of tokens; the table has a row for each result.
        let path = match holder.as_str() {
            "head" if config.tied => "decoder.word",
            other => other,
        };
        let place = config.family.place(path, name, config.inner);
        let Some(mut place) = place else {
            return Err(Error::field(holder, "has no place in the family's files"));
        };
        if self.bare
            && let Some(key) = place.key.strip_prefix(config.family.prefix())
        {
            place.key = key.into();
        }
        if path != holder {
            place.by_results = true;
        }
        Ok(place)
    }
}
