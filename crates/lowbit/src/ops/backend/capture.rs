//! Operators on Burn's capture backend, which records instead of computing: each is one custom
//! operation, named by itself and its options, and known here so that it can be run again.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Capture, Dispatch, DispatchTensor, Flex, FlexDevice, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_ir::{CustomOpIr, OperationIr, TensorIr};
use burn_router::{RouterClient, RouterTensor};

use super::accumulate::Accumulate;
use super::operator::{Gradients, Incoming, Inputs, Kernels, Operator, RunOp, run_all};

type Run = dyn Fn(Inputs<Dispatch>) -> Vec<DispatchTensor> + Send + Sync;

/// The operators that were recorded, by name. There are as many as there are different options.
static RECORDED: LazyLock<Mutex<HashMap<String, Arc<Run>>>> = LazyLock::new(Mutex::default);

/// Runs a recorded operator, if it is one of ours, on its tensors and what it reads them at.
pub(crate) fn run_again(
    name: &str,
    tensors: Vec<DispatchTensor>,
    indices: Option<DispatchTensor>,
) -> Option<Vec<DispatchTensor>> {
    let recorded = RECORDED.lock().unwrap_or_else(|e| e.into_inner());
    let run = recorded.get(name)?.clone();
    drop(recorded);
    Some(run(Inputs { tensors, indices }))
}

impl RunOp for Capture {
    fn run<O: Operator<PARENTS>, const PARENTS: usize>(
        operator: O,
        inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>> {
        let name = format!("{operator:?}");
        let shapes = shapes(&operator, &inputs);
        let again = Mutex::new(operator);
        let run = move |inputs| {
            let operator = again.lock().unwrap_or_else(|e| e.into_inner()).clone();
            run_all(operator, inputs)
        };
        let mut recorded = RECORDED.lock().unwrap_or_else(|e| e.into_inner());
        recorded
            .entry(name.clone())
            .or_insert_with(|| Arc::new(run));
        drop(recorded);
        let first = inputs.tensors.first().or(inputs.indices.as_ref());
        let client = first.expect("an operator reads a tensor").client.clone();
        let dtype = inputs.tensors.first().map(TensorMetadata::dtype);
        let outputs = shapes.into_iter().map(|shape| {
            let id = client.create_empty_handle();
            TensorIr::uninit(id, shape, dtype.unwrap_or(DType::F32))
        });
        let outputs = outputs.collect();
        let tensors = inputs.tensors.into_iter().chain(inputs.indices);
        let operation = CustomOpIr {
            id: name,
            inputs: tensors.map(RouterTensor::into_ir).collect(),
            outputs,
            scalars: Vec::new(),
        };
        client.register(OperationIr::Custom(operation))
    }
}

impl Accumulate for Capture {}

impl Kernels for Capture {
    fn forward<const PARENTS: usize>(
        operator: &impl Operator<PARENTS>,
        inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>> {
        Self::run(operator.clone(), inputs)
    }

    fn backward<const PARENTS: usize>(
        _operator: &impl Operator<PARENTS>,
        _incoming: Incoming<Self, PARENTS>,
    ) -> Gradients<Self, PARENTS> {
        unreachable!("Burn allows no gradients on its capture backend")
    }
}

/// The shapes of the results: those of the operator on zeros.
fn shapes<O: Operator<PARENTS>, const PARENTS: usize>(
    operator: &O,
    inputs: &Inputs<Capture>,
) -> Vec<Shape> {
    let device = FlexDevice;
    let zeros = inputs
        .tensors
        .iter()
        .map(|tensor| Flex::float_zeros(tensor.shape(), &device, tensor.dtype().into()));
    let indices = inputs.indices.as_ref();
    let inputs = Inputs {
        tensors: zeros.collect(),
        indices: indices.map(|i| Flex::int_zeros(i.shape(), &device, i.dtype().into())),
    };
    let outputs = operator.flex_forward(inputs);
    outputs.iter().map(TensorMetadata::shape).collect()
}
