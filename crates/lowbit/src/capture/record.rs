//! Recording what a model's forward does.

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use burn::backend::{BackendTensor, DispatchTensor, DispatchTensorKind};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::kind::Basic;
use burn::tensor::{Device, Tensor, TensorData};
use burn_ir::{IrVisitorMut, OperationIr, TensorId, TensorIr};

use super::output::{ModelOutput, OutputParts};
use super::replay::name;
use crate::Error;
use crate::ops::{Meaning, RecordedOperator, take_recorded};
use crate::quantizers::ModulePath;

/// What a model's forward reads: a tensor, or several as a tuple, each of whose first dimension is
/// the batch.
pub trait ModelInput: Clone {
    /// The same with the first item of each tensor `batch` times, on that device.
    fn repeated(&self, batch: usize, device: &Device) -> Self;

    /// The same on that device.
    fn moved(&self, device: &Device) -> Self;

    /// Items in a batch.
    fn batch(&self) -> usize;

    /// The tensors, in order.
    fn tensors(self) -> Vec<DispatchTensor>;

    /// Where they are.
    fn device(&self) -> Device;
}

impl<const D: usize, K: Basic> ModelInput for Tensor<D, K> {
    fn repeated(&self, batch: usize, device: &Device) -> Self {
        let first = self.clone().narrow(0, 0, 1).repeat_dim(0, batch);
        Tensor::from_data(first.into_data(), device)
    }

    fn moved(&self, device: &Device) -> Self {
        Tensor::from_data(self.to_data(), device)
    }

    fn batch(&self) -> usize {
        self.dims()[0]
    }

    fn tensors(self) -> Vec<DispatchTensor> {
        vec![self.into_dispatch()]
    }

    fn device(&self) -> Device {
        Tensor::device(self)
    }
}

impl<A: ModelInput, B: ModelInput> ModelInput for (A, B) {
    fn repeated(&self, batch: usize, device: &Device) -> Self {
        (
            self.0.repeated(batch, device),
            self.1.repeated(batch, device),
        )
    }

    fn moved(&self, device: &Device) -> Self {
        (self.0.moved(device), self.1.moved(device))
    }

    fn batch(&self) -> usize {
        self.0.batch()
    }

    fn tensors(self) -> Vec<DispatchTensor> {
        let (mut all, others) = (self.0.tensors(), self.1.tensors());
        all.extend(others);
        all
    }

    fn device(&self) -> Device {
        self.0.device()
    }
}

/// A parameter of the model, which an operation reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// Its path, such as `layer1.0.conv1.weight`.
    pub(crate) key: String,
    /// The path of the module that has it.
    pub(crate) layer: String,
    /// The type of that module, such as `Conv2d`.
    pub(crate) layer_type: String,
    /// Its name there, such as `weight`.
    pub(crate) field: String,
}

impl Parameter {
    /// The one that a walk is at.
    pub(crate) fn at(path: &ModulePath) -> Self {
        Self {
            key: path.key(),
            layer: path.holder(),
            layer_type: path.holder_type().into(),
            field: path.field().into(),
        }
    }
}

/// What a forward did with a batch. Tensors are numbered in the order in which they are first seen.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    pub(crate) operations: Vec<OperationIr>,
    pub(crate) inputs: Vec<TensorId>,
    /// Tensors of the result, in order.
    pub(crate) outputs: Vec<TensorId>,
    /// Of each `Vec` of the result.
    pub(crate) lengths: Vec<usize>,
    pub(crate) parameters: BTreeMap<TensorId, Parameter>,
    pub(crate) constants: BTreeMap<TensorId, TensorData>,
    /// Those of our own, in order.
    pub(crate) own_operators: Vec<RecordedOperator>,
}

/// Runs `forward` on the first item of `input`, `batch` times, and keeps what it does.
///
/// # Errors
/// If it cannot be recorded, with the operation and the layer before the place.
pub(crate) fn record<M: Module, I: ModelInput, O: ModelOutput>(
    model: &M,
    input: &I,
    batch: usize,
    forward: &impl Fn(&M, I) -> O,
) -> Result<Recording, Error> {
    let device = Device::capture();
    let mut parameters = Parameters::default();
    let mut outputs = Outputs::default();
    let mut stopped = None;
    let captured = device.capture_scope(|scope| {
        // A copy of its own, since moving a model moves the running statistics of all its clones.
        let model = model.valid().to_device(&device);
        model.visit(&mut parameters);
        let input = input.repeated(batch, &device);
        let inputs: Vec<_> = input.clone().tensors().iter().map(id).collect();
        take_recorded();
        let run = || OutputParts::of(forward(&model, input));
        match quietly(run) {
            // Parameters are declared, too, so that what stands for one is found under any name.
            Ok(parts) => {
                outputs = Outputs::of(&parts);
                let inputs = inputs.into_iter().chain(parameters.ids());
                scope.complete(inputs, outputs.different.clone())
            }
            Err(panic) => {
                stopped = Some(message(panic.as_ref()));
                scope.complete(parameters.ids(), [])
            }
        }
    });
    let captured = captured.map_err(|error| Error::capture("the model", error.to_string()))?;
    let count = parameters.all.len();
    let inputs = captured.graph.inputs.len().saturating_sub(count);
    let (inputs, ids) = captured.graph.inputs.split_at(inputs);
    let parameters = ids.iter().copied().zip(parameters.all.into_values());
    let parameters: BTreeMap<_, _> = parameters.map(|(id, p)| (id, p.1)).collect();
    if let Some(message) = stopped {
        return Err(match take_recorded().iter().rev().find_map(slot) {
            Some(slot) => Error::capture(slot, OF_BATCH),
            None => Error::capture(place(&captured.graph.operations, &parameters), message),
        });
    }
    let recording = Recording {
        operations: captured.graph.operations,
        inputs: inputs.to_vec(),
        outputs: outputs.named(&captured.graph.outputs),
        lengths: outputs.lengths,
        parameters,
        constants: captured.values,
        own_operators: take_recorded(),
    };
    Ok(recording.numbered())
}

/// What a slot does that no recording can.
const OF_BATCH: &str = "needs the numbers of each batch, as a range that is taken from it does";

/// Runs what may panic, without a word about it.
fn quietly<R>(run: impl FnOnce() -> R) -> std::thread::Result<R> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                shown(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    result
}

/// The slot that a tensor was seen to go through.
fn slot(operator: &RecordedOperator) -> Option<String> {
    match Meaning::of(operator)? {
        Meaning::Mark(mark) => Some(format!("{}.{}", mark.layer, mark.slot)),
        _ => None,
    }
}

/// The last operation that was recorded, and the last layer whose parameters were read.
fn place(operations: &[OperationIr], parameters: &BTreeMap<TensorId, Parameter>) -> String {
    let real = |op: &&OperationIr| !matches!(op, OperationIr::Drop(_) | OperationIr::Init(_));
    let Some(last) = operations.iter().rev().find(real) else {
        return "before the first operation".into();
    };
    let reads = operations.iter().rev().flat_map(OperationIr::inputs);
    let layer = reads.into_iter().find_map(|t| parameters.get(&t.id));
    let layer = layer.map_or(String::new(), |p| format!(", after layer {}", p.layer));
    format!("after operation {}{layer}", name(last))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let first = text
        .unwrap_or("stopped")
        .lines()
        .next()
        .unwrap_or("stopped");
    format!("the forward needs the values of tensors there ({first})")
}

/// The name of a tensor on a capture device.
fn id(tensor: &DispatchTensor) -> TensorId {
    match &tensor.kind {
        DispatchTensorKind::Capture(BackendTensor::Float(t) | BackendTensor::Quantized(t)) => {
            t.id()
        }
        DispatchTensorKind::Capture(BackendTensor::Int(t) | BackendTensor::Bool(t)) => t.id(),
        _ => panic!("a tensor left the device of the model's input"),
    }
}

/// The tensors of a result.
#[derive(Default)]
struct Outputs {
    /// Each once.
    different: Vec<TensorId>,
    /// Which of these each is.
    places: Vec<usize>,
    lengths: Vec<usize>,
}

impl Outputs {
    fn of(parts: &OutputParts) -> Self {
        let mut outputs = Self {
            lengths: parts.lengths(),
            ..Self::default()
        };
        for id in parts.tensors().map(id) {
            let known = outputs.different.iter().position(|other| *other == id);
            outputs
                .places
                .push(known.unwrap_or(outputs.different.len()));
            if known.is_none() {
                outputs.different.push(id);
            }
        }
        outputs
    }

    /// Them, by the names that a graph has for those that differ.
    fn named(&self, names: &[TensorId]) -> Vec<TensorId> {
        self.places.iter().map(|&place| names[place]).collect()
    }
}

/// The parameters of a model that was moved to a capture device.
#[derive(Default)]
struct Parameters {
    path: ModulePath,
    /// In the order of the walk.
    all: BTreeMap<usize, (TensorId, Parameter)>,
}

impl Parameters {
    fn ids(&self) -> Vec<TensorId> {
        self.all.values().map(|(id, _)| *id).collect()
    }
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let parameter = Parameter::at(&self.path);
        let id = id(&param.base().into_dispatch());
        self.all.insert(self.all.len(), (id, parameter));
    }
}

impl Recording {
    /// The same with other names for the tensors: numbers in the order in which they are first seen.
    pub(crate) fn numbered(mut self) -> Self {
        let mut numbers = Numbers::default();
        self.inputs.iter_mut().for_each(|id| numbers.rename(id));
        let parameters = std::mem::take(&mut self.parameters);
        for (mut id, parameter) in parameters {
            numbers.rename(&mut id);
            self.parameters.insert(id, parameter);
        }
        for operation in &mut self.operations {
            operation.visit_mut(&mut numbers);
        }
        self.outputs.iter_mut().for_each(|id| numbers.rename(id));
        let constants = std::mem::take(&mut self.constants);
        let named = constants.into_iter().filter_map(|(id, value)| {
            let id = numbers.new.get(&id).copied()?;
            Some((id, value))
        });
        let given = |id: &TensorId| self.inputs.contains(id) || self.parameters.contains_key(id);
        self.constants = named.filter(|(id, _)| !given(id)).collect();
        self
    }
}

#[derive(Default)]
struct Numbers {
    new: HashMap<TensorId, TensorId>,
}

impl Numbers {
    fn rename(&mut self, id: &mut TensorId) {
        let next = TensorId::new(self.new.len() as u64);
        *id = *self.new.entry(*id).or_insert(next);
    }
}

impl IrVisitorMut for Numbers {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        self.rename(&mut tensor.id);
    }
}
