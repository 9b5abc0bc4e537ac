//! What quantizers learn, wherever it is in a network.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use crate::quantizers::methods::{Learned, Quantizer, Role, learned_field};
use crate::quantizers::watch::{ModulePath, Place};

/// A quantizer's parameter in a network.
#[derive(Debug, Clone)]
pub struct LearnedParameter {
    /// The tensor that the quantizer quantizes.
    pub place: Place,
    /// The parameter's own path, as records name it.
    pub key: String,
    /// What it is.
    pub learned: &'static Learned,
    /// The parameter's identity.
    pub id: ParamId,
    /// Its values, `[1]` or `[channels]`.
    pub values: Vec<f32>,
}

/// What a walk is at, if that is a quantizer's parameter.
pub fn learned_at(path: &ModulePath) -> Option<&'static Learned> {
    learned_field(path.holder_type(), path.field())
}

/// Every parameter of every quantizer in `module` that is in a layer's slot, in the order of the
/// module tree.
pub fn learned<M: Module>(module: &M) -> Vec<LearnedParameter> {
    let mut read = ReadLearned::default();
    module.visit(&mut read);
    read.found
}

#[derive(Default)]
struct ReadLearned {
    path: ModulePath,
    found: Vec<LearnedParameter>,
}

impl ModuleVisitor for ReadLearned {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some((learned, place)) = learned_at(&self.path).zip(self.path.place()) else {
            return;
        };
        self.found.push(LearnedParameter {
            place,
            key: self.path.key(),
            learned,
            id: param.id,
            values: param.val().into_data().iter::<f32>().collect(),
        });
    }
}

/// The quantizer with what it learns from `read`, by the end of a parameter's path, such as
/// `TrainedThreshold.log2_threshold`; `None` if there is not all of it.
pub fn with_learned(
    quantizer: Quantizer,
    read: impl Fn(&str) -> Option<TensorData>,
) -> Option<Quantizer> {
    let mut set = SetLearned {
        path: Vec::new(),
        read,
        is_complete: true,
    };
    let quantizer = quantizer.map(&mut set);
    set.is_complete.then_some(quantizer)
}

struct SetLearned<F> {
    path: Vec<String>,
    read: F,
    is_complete: bool,
}

impl<F: Fn(&str) -> Option<TensorData>> ModuleMapper for SetLearned<F> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match (self.read)(&self.path.join(".")) {
            Some(data) => param.map(|old| {
                let (device, trains) = (old.device(), old.is_require_grad());
                Tensor::from_data(data, &device).set_require_grad(trains)
            }),
            None => {
                self.is_complete = false;
                param
            }
        }
    }
}

/// Why the first parameter that no quantizer can use is none: a threshold whose power of two is no
/// normal `f32`, a sign that is neither 0 nor 1, anything else that is not finite.
pub fn bad_learned<M: Module>(module: &M) -> Option<String> {
    learned(module).iter().find_map(|parameter| {
        let tensor = &parameter.place;
        let values = parameter.values.iter().copied();
        let refused = |is_good: fn(f32) -> bool| values.clone().find(|&value| !is_good(value));
        match parameter.learned.role {
            Role::Log2Threshold => refused(|log2| (-126.0..=127.0).contains(&log2)).map(|log2| {
                let threshold = match log2.is_finite() {
                    true => format!("2^{log2}"),
                    false => log2.exp2().to_string(),
                };
                let range = if log2.is_finite() {
                    " from 2^-126 to 2^127"
                } else {
                    ""
                };
                format!(
                    "the threshold of {tensor} is {threshold}, expected a positive number{range}"
                )
            }),
            Role::Signedness => refused(|sign| sign == 0.0 || sign == 1.0)
                .map(|sign| format!("the sign of {tensor} is {sign}, expected 0 or 1")),
            role => {
                let name = role.name();
                let refused = refused(f32::is_finite);
                refused.map(|x| format!("the {name} of {tensor} is {x}, expected a finite number"))
            }
        }
    })
}

/// Sets whether what quantizers learn trains, for every quantizer that `select` accepts.
struct SetRetraining<F> {
    path: ModulePath,
    retrain: bool,
    select: F,
    changed: Vec<String>,
}

impl<F: FnMut(&Place) -> bool> ModuleMapper for SetRetraining<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if learned_at(&self.path).is_none_or(|learned| learned.group.is_none()) {
            return param;
        }
        let Some(place) = self.path.place().filter(|place| (self.select)(place)) else {
            return param;
        };
        if param.is_require_grad() != self.retrain {
            let path = place.to_string();
            if self.changed.last() != Some(&path) {
                self.changed.push(path);
            }
        }
        param.set_require_grad(self.retrain)
    }
}

/// Puts what the quantizers of `module` that `select` accepts learn, such as a threshold, into
/// retrain mode (it trains) or static mode (it keeps its value), and returns the paths of those
/// quantizers that changed.
///
/// The module is to be in its training form; its validation form trains nothing.
pub fn set_retraining<M: Module>(
    module: M,
    retrain: bool,
    select: impl FnMut(&Place) -> bool,
) -> (M, Vec<String>) {
    let mut mapper = SetRetraining {
        path: ModulePath::default(),
        retrain,
        select,
        changed: Vec::new(),
    };
    let module = module.map(&mut mapper);
    (module, mapper.changed)
}
