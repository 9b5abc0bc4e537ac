//! Batch normalization in a captured model: by the running statistics in evaluation, as recorded, and by
//! the batch in training.

use std::collections::{BTreeMap, HashMap};

use burn::backend::Dispatch;
use burn::backend::ops::ModuleOps;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn_ir::{BatchNormOpIr, ModuleOperationIr, OperationIr, TensorId};

use super::batch::SIZES;
use super::captured::{Captured, State};
use super::output::ModelOutput;
use super::record::ModelInput;
use super::replay::Tensors;
use crate::Error;
use crate::quantizers::{ModulePath, Quantizers};

/// Means and variances of a batch, by the path of the running ones.
pub(super) type Statistics = HashMap<String, Tensor<1>>;

/// What a step of training takes of the statistics of its batch, by the path of the running ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Norms {
    momentum: BTreeMap<String, f64>,
}

impl Tensors<'_> {
    /// A normalization by the mean and variance of the batch, which it returns.
    pub(super) fn normalize_by_batch(&mut self, norm: &BatchNormOpIr) -> [Tensor<1>; 2] {
        let [x, gamma, beta] = [&norm.x, &norm.gamma, &norm.beta].map(|tensor| self.read(tensor));
        let made = Dispatch::batch_norm_train(x, gamma, beta, norm.epsilon.elem());
        self.write(&norm.out, made.output);
        [made.mean, made.variance].map(Tensor::from_dispatch)
    }
}

impl Norms {
    /// The normalization that an operation is, where its module goes by the batch in training, with the
    /// paths of running mean and variance.
    pub(super) fn by_batch<'a>(
        &self,
        operation: &'a OperationIr,
        state: &State,
        parameters: &BTreeMap<TensorId, String>,
    ) -> Option<(&'a BatchNormOpIr, [String; 2])> {
        let (norm, paths) = normalization(operation, parameters)?;
        let module = paths[0].rsplit_once('.').map_or("", |(module, _)| module);
        let flag = format!("{module}.training");
        let trains = state.flags.get(flag.trim_start_matches('.'));
        let known = self.momentum.contains_key(&paths[0]);
        (known && *trains.unwrap_or(&true)).then_some((norm, paths))
    }

    /// The running statistics after a step.
    pub(super) fn running(&self, state: &State, of_batch: Statistics) -> Statistics {
        let new = of_batch.into_iter().filter_map(|(path, new)| {
            let old = state.statistics(&path)?;
            let momentum = *self.momentum.get(&path)?;
            Some((path, running(old, new, momentum)))
        });
        new.collect()
    }

    /// The momentum of each normalization, which a module does not tell, as a step of the model itself
    /// shows it.
    ///
    /// # Errors
    /// If one is applied more than once in a forward.
    pub(super) fn measured<M: Module, I: ModelInput, O: ModelOutput>(
        captured: &Captured<M, I, O>,
        example: &I,
        forward: &impl Fn(&M, I) -> O,
    ) -> Result<Self, Error> {
        let paths = captured.statistics()?;
        if paths.is_empty() {
            return Ok(Self::default());
        }
        let device = example.device().without_autodiff().autodiff();
        let input = || match example.batch() {
            1 => example.repeated(2, &device),
            _ => example.moved(&device),
        };
        // Copies of their own: clones of a module share its running statistics.
        let model = captured.model().valid().train();
        let before = State::of(&model);
        forward(&model, input());
        let after = State::of(&model.valid());
        let all = Self {
            momentum: paths
                .iter()
                .flatten()
                .map(|path| (path.clone(), 0.0))
                .collect(),
        };
        let float = vec![Quantizers::default(); captured.layers().len()];
        let state = State::of(captured.model());
        let (_, of_batch) = captured.run_with(input(), &float, &all, &state)?;
        let momentum = paths.into_iter().flat_map(|paths| {
            let steps = paths.iter().filter_map(|path| {
                let (old, new) = (before.statistics(path)?, after.statistics(path)?);
                Some([old, new, of_batch.get(path)?.clone()])
            });
            let momentum = momentum(&steps.collect::<Vec<_>>());
            paths.map(|path| (path, momentum))
        });
        Ok(Self {
            momentum: momentum.collect(),
        })
    }

    /// Whether the module at `path` goes by the batch in training.
    pub(super) fn has(&self, path: &str) -> bool {
        let of_module =
            |known: &String| known.rsplit_once('.').map_or("", |(module, _)| module) == path;
        self.momentum.keys().any(of_module)
    }
}

fn normalization<'a>(
    operation: &'a OperationIr,
    parameters: &BTreeMap<TensorId, String>,
) -> Option<(&'a BatchNormOpIr, [String; 2])> {
    let OperationIr::Module(ModuleOperationIr::BatchNorm(norm)) = operation else {
        return None;
    };
    let mean = parameters.get(&norm.mean.id)?;
    let variance = parameters.get(&norm.variance.id)?;
    Some((norm, [mean.clone(), variance.clone()]))
}

/// `(1 - momentum) old + momentum new`, as Burn's `BatchNorm` computes it.
fn running(old: Tensor<1>, new: Tensor<1>, momentum: f64) -> Tensor<1> {
    let kept = old.to_device(&new.device()).mul_scalar(1.0 - momentum);
    kept.add(new.detach().mul_scalar(momentum)).detach()
}

/// The momentum of steps `[old, new, of the batch]`: the shortest decimal that repeats them to the bit, or
/// else the quotient itself, where the batch differs most. Zero where nothing changed.
fn momentum(steps: &[[Tensor<1>; 3]]) -> f64 {
    let parts = steps.iter().flat_map(|step| {
        let [old, new, seen] = step.each_ref().map(|x| numbers(x.clone()));
        let all = old.into_iter().zip(new).zip(seen);
        all.map(|((old, new), seen)| {
            let [old, new, seen] = [old, new, seen].map(f64::from);
            (new - old, seen - old)
        })
    });
    let largest = parts.max_by(|x, y| x.1.abs().total_cmp(&y.1.abs()));
    let found = match largest {
        Some((step, whole)) if whole != 0.0 => step / whole,
        _ => 0.0,
    };
    let rounded = (0..9).map(|digits| {
        let scale = 10f64.powi(digits);
        (found * scale).round() / scale
    });
    let repeats = |m: &f64| {
        let same = |[old, new, seen]: &[Tensor<1>; 3]| {
            numbers(running(old.clone(), seen.clone(), *m)) == numbers(new.clone())
        };
        steps.iter().all(same)
    };
    rounded.clone().find(repeats).unwrap_or(found)
}

fn numbers(x: Tensor<1>) -> Vec<f32> {
    let data = x.into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32")
}

impl<M: Module, I: ModelInput, O: ModelOutput> Captured<M, I, O> {
    /// Paths of running mean and variance of each normalization.
    fn statistics(&self) -> Result<Vec<[String; 2]>, Error> {
        let mut all: Vec<[String; 2]> = Vec::new();
        for operation in self.graph.operations(SIZES[0]).iter() {
            let Some((_, paths)) = normalization(operation, &self.graph.parameters) else {
                continue;
            };
            if all.contains(&paths) {
                let message = "is of a normalization that is applied more than once in a forward";
                return Err(Error::capture(&paths[0], message));
            }
            all.push(paths);
        }
        Ok(all)
    }
}

/// Sets running statistics, which all clones of a module share.
pub(super) struct SetStatistics {
    path: ModulePath,
    values: HashMap<String, Tensor<1>>,
}

impl SetStatistics {
    pub(super) fn new(values: HashMap<String, Tensor<1>>) -> Self {
        Self {
            path: ModulePath::default(),
            values,
        }
    }
}

impl ModuleMapper for SetStatistics {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.remove(&self.path.key()) {
            Some(value) => {
                let value = Tensor::<D>::from_dispatch(value.into_dispatch());
                Param::initialized(param.id, value)
            }
            None => param,
        }
    }
}
