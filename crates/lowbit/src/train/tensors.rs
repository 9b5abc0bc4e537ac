//! The parameters of a network and their gradients, by path.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use super::clip::sum_of_squares;
use crate::quantizers::{ModulePath, Tapped};

/// A tensor by its path, such as `conv1.weight`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// The path of the parameter, as records name it.
    pub path: String,
    /// Shape and values.
    pub tensor: TensorData,
}

impl NamedTensor {
    /// The values.
    pub fn values(&self) -> Vec<f32> {
        self.tensor.iter::<f32>().collect()
    }

    /// The root of the sum of the squares, in double precision.
    pub(super) fn norm(&self) -> f64 {
        sum_of_squares(&self.values()).sqrt()
    }
}

/// What there is to be seen of a network after an epoch.
#[derive(Debug, Clone, Copy)]
pub struct EpochTensors<'a> {
    /// Steps since the start of the run.
    pub step: usize,
    /// The parameters, in the network's order.
    pub parameters: &'a [NamedTensor],
    /// The gradients of the last step, as the optimizer got them; none where it was left out.
    pub gradients: &'a [NamedTensor],
    /// What each layer makes of a few training examples, with the network in its validation form.
    pub outputs: &'a [Tapped],
}

/// The parameters of a network.
pub(super) fn parameters<M: Module>(model: &M) -> Vec<NamedTensor> {
    collected(model, None)
}

/// The gradients of those that have one.
pub(super) fn gradients<M: Module>(model: &M, grads: &GradientsParams) -> Vec<NamedTensor> {
    collected(model, Some(grads))
}

fn collected<M: Module>(model: &M, grads: Option<&GradientsParams>) -> Vec<NamedTensor> {
    let mut collect = Collect {
        path: ModulePath::default(),
        grads,
        found: Vec::new(),
    };
    model.visit(&mut collect);
    collect.found
}

/// Collects gradients where there are some, and parameters otherwise.
struct Collect<'a> {
    path: ModulePath,
    grads: Option<&'a GradientsParams>,
    found: Vec<NamedTensor>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = match self.grads {
            Some(grads) => grads.get::<D>(param.id).map(Tensor::into_data),
            None => Some(param.val().into_data()),
        };
        if let Some(tensor) = tensor {
            let path = self.path.key();
            self.found.push(NamedTensor { path, tensor });
        }
    }
}
