//! A network's parameters as a family's files have them.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use lowbit::quantizers::ModulePath;
use safetensors::tensor::{Dtype, TensorView};

use super::Family;
use crate::packed::Stored;
use crate::weights::Numbers;

/// The parameters by the family's names, of a network with `inner` layers in a group; the head's are its own.
pub(crate) fn tensors<M: Module>(
    network: &M,
    family: Family,
    inner: usize,
) -> BTreeMap<String, Numbers> {
    let mut save = Save {
        family,
        inner,
        path: ModulePath::default(),
        tensors: BTreeMap::new(),
    };
    network.visit(&mut save);
    save.tensors
}

/// A safetensors file of them in float32.
pub(crate) fn file(tensors: BTreeMap<String, Numbers>) -> Vec<u8> {
    let tensors = tensors.into_iter();
    let stored = tensors.map(|(name, numbers)| (name, numbers.stored(Dtype::F32)));
    serialized(&stored.collect())
}

/// A safetensors file.
pub(crate) fn serialized(tensors: &BTreeMap<String, Stored>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        (name, view.expect("as many bytes as the shape says"))
    });
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize(views, Some(metadata)).expect("each name is one tensor's")
}

struct Save {
    family: Family,
    inner: usize,
    path: ModulePath,
    tensors: BTreeMap<String, Numbers>,
}

impl ModuleVisitor for Save {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.place().is_some() {
            return;
        }
        let (holder, name) = (self.path.holder(), self.path.field());
        let Some(place) = self.family.place(&holder, name, self.inner) else {
            return;
        };
        let tensor = param.val();
        let mut numbers = Numbers {
            shape: tensor.dims().to_vec(),
            values: tensor.into_data().iter::<f32>().collect(),
        };
        if place.by_results && self.path.holder_type() == "Linear" {
            numbers = numbers.transposed();
        }
        let Some([part, of]) = place.part else {
            self.tensors.insert(place.key, numbers);
            return;
        };
        let own = numbers.shape.pop().unwrap_or(1);
        let width = own * of;
        let rows: usize = numbers.shape.iter().product();
        numbers.shape.push(width);
        let whole = self.tensors.entry(place.key).or_insert_with(|| Numbers {
            shape: numbers.shape,
            values: vec![0.0; rows * width],
        });
        for (to, from) in whole
            .values
            .chunks_mut(width)
            .zip(numbers.values.chunks(own))
        {
            to[part * own..][..own].copy_from_slice(from);
        }
    }
}
