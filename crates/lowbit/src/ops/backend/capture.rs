//! Operators on Burn's capture backend, which records instead of computing: each is one custom
//! operation, known here so that it can be run again.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex};

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Capture, Dispatch, DispatchDevice, DispatchTensor, Flex, FlexDevice, TensorMetadata,
};
use burn::tensor::{DType, Device, Shape};
use burn_ir::{CustomOpIr, OperationIr, ScalarIr, TensorIr};
use burn_router::{RouterClient, RouterTensor};

use super::accumulate::Accumulate;
use super::operator::{Gradients, Incoming, Inputs, Kernels, Operator, RunOp, run_all};

/// What the name of a recorded operator begins with; its options follow, as far as they have a text.
const PREFIX: &str = "lowbit ";

/// An operator of ours that was recorded.
#[derive(Clone)]
pub(crate) struct RecordedOperator {
    run: Arc<Run>,
    operator: Arc<Mutex<dyn Any + Send>>,
}

type Run = dyn Fn(Inputs<Dispatch>) -> Vec<DispatchTensor> + Send + Sync;

impl fmt::Debug for RecordedOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordedOperator")
    }
}

impl RecordedOperator {
    /// Runs it on its tensors and what it reads them at.
    pub(crate) fn run(
        &self,
        tensors: Vec<DispatchTensor>,
        indices: Option<DispatchTensor>,
    ) -> Vec<DispatchTensor> {
        (self.run)(Inputs { tensors, indices })
    }

    /// The operator, if it is of that type.
    pub(crate) fn get<O: Clone + 'static>(&self) -> Option<O> {
        let operator = self.operator.lock().unwrap_or_else(|e| e.into_inner());
        operator.downcast_ref().cloned()
    }
}

thread_local! {
    /// Those that this thread has recorded since they were last taken, in order.
    static RECORDED: RefCell<Vec<RecordedOperator>> = const { RefCell::new(Vec::new()) };
}

/// Takes the operators that this thread has recorded since this was last called, in order.
pub(crate) fn take_recorded() -> Vec<RecordedOperator> {
    RECORDED.take()
}

/// Whether gradients can come back to tensors of a device: those of what is recorded can when it is run
/// again.
pub(crate) fn has_way_back(device: &Device) -> bool {
    device.is_autodiff() || matches!(device.as_dispatch(), DispatchDevice::Capture(_))
}

/// Which of the recorded operators an operation is, if it is one of ours.
pub(crate) fn recorded_index(operation: &CustomOpIr) -> Option<usize> {
    let index = operation.scalars.first();
    let index = index.filter(|_| operation.id.starts_with(PREFIX));
    index.map(|index| index.elem::<u64>() as usize)
}

impl RunOp for Capture {
    fn run<O: Operator<PARENTS>, const PARENTS: usize>(
        operator: O,
        inputs: Inputs<Self>,
    ) -> Vec<FloatTensor<Self>> {
        let name = format!("{PREFIX}{operator:?}");
        let shapes = shapes(&operator, &inputs);
        let operator = Arc::new(Mutex::new(operator));
        let again = operator.clone();
        let run = move |inputs| {
            let operator = again.lock().unwrap_or_else(|e| e.into_inner()).clone();
            run_all(operator, inputs)
        };
        let run = Arc::new(run);
        let index = RECORDED.with_borrow_mut(|recorded| {
            recorded.push(RecordedOperator { run, operator });
            recorded.len() - 1
        });
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
            scalars: vec![ScalarIr::UInt(index as u64)],
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
