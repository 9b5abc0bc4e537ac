//! A model that was captured, with quantizers in its slots.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use burn::backend::DispatchTensor;
use burn::module::{
    Content, Devices, Flag, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor, Param,
};
use burn::tensor::{Device, Tensor, TensorData};
use burn_ir::{OperationIr, TensorId};

use super::batch::{BatchOperation, SIZES, operations};
use super::layers::{Layers, layers, planned};
use super::linear::with_linear;
use super::norm::{Norms, SetStatistics, Statistics};
use super::output::{ModelOutput, OutputParts};
use super::rank::of_any_rank;
use super::record::{ModelInput, Recording, record};
use super::replay::{NotReplayed, Tensors};
use crate::Error;
use crate::config::{Layer, QPlan};
use crate::ops::RecordedOperator;
use crate::quantizers::{ModulePath, Quantizers};

/// What a forward does, for batches of any size.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) operations: Vec<BatchOperation>,
    pub(super) inputs: Vec<TensorId>,
    /// Tensors of the result, and the length of each `Vec` in it.
    outputs: Vec<TensorId>,
    lengths: Vec<usize>,
    /// Paths of the parameters that it reads.
    pub(super) parameters: BTreeMap<TensorId, String>,
    constants: BTreeMap<TensorId, TensorData>,
    own_operators: Vec<RecordedOperator>,
    pub(super) layers: Layers,
    /// The operations for batches that were asked for.
    of_batch: Mutex<HashMap<usize, Arc<Vec<OperationIr>>>>,
    /// The constants where they were last asked for.
    on_device: Mutex<Option<(Device, HashMap<TensorId, DispatchTensor>)>>,
}

impl Graph {
    pub(super) fn operations(&self, batch: usize) -> Arc<Vec<OperationIr>> {
        let mut known = self.of_batch.lock().unwrap_or_else(|e| e.into_inner());
        let operations = known.entry(batch).or_insert_with(|| {
            let operations = self.operations.iter();
            Arc::new(operations.map(|operation| operation.of(batch)).collect())
        });
        operations.clone()
    }

    /// The constants on a device.
    fn constants(&self, device: &Device) -> HashMap<TensorId, DispatchTensor> {
        let mut known = self.on_device.lock().unwrap_or_else(|e| e.into_inner());
        let (_, constants) = match known.take() {
            Some(known) if known.0 == *device => known,
            _ => {
                let constants = self.constants.iter();
                let constants = constants.map(|(id, data)| (*id, constant(data, device)));
                (device.clone(), constants.collect())
            }
        };
        known.insert((device.clone(), constants)).1.clone()
    }
}

/// A model whose forward was recorded, with the quantizers that a plan gives its layers.
///
/// Its parameters and their paths are the model's own; the quantizers are beside them, at
/// `LAYER.quantizers.SLOT`, as in the layers of [`nn`](crate::nn), so that calibration, switching, taps
/// and checkpoints take it like those. In training, `BatchNorm` normalizes by the batch and updates the
/// model's running statistics; `Dropout` and noise are not recorded, and do nothing.
#[derive(Clone)]
pub struct Captured<M, I, O> {
    model: M,
    pub(super) quantizers: Vec<Quantizers>,
    layers: Vec<Layer>,
    pub(super) graph: Arc<Graph>,
    norms: Norms,
    of: PhantomData<fn(I) -> O>,
}

/// Records `forward` of `model` on the first item of `example`, and quantizes it as `plan` says.
///
/// The result of the forward may be one tensor or several: tuples, arrays and `Vec`s of tensors, which
/// [`Captured::forward`] returns in the same way.
///
/// The plan's paths and types are those of the model's modules; its `first` and `last` layer with a
/// weight are so in the order of the forward. Layers that have no parameters, such as sums of two
/// branches, are named by the module before them: see [`Captured::layers`].
///
/// # Errors
/// If the forward reads the values of tensors, and so cannot be recorded, with the operation and the
/// layer before the place; if it depends on the size of the batch in another way than by the sizes of
/// tensors; or if the plan does not fit the layers.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use lowbit::{capture::prepare, config::QPlan};
///
/// let device = Device::flex();
/// let model = LinearConfig::new(4, 2).init(&device);
/// let x = Tensor::<2>::ones([3, 4], &device);
/// let forward = |model: &Linear, x: Tensor<2>| model.forward(x);
/// let float = prepare(model.clone(), &QPlan::float(), &x, forward)?;
/// assert_eq!(float.forward(x.clone()).into_data(), model.forward(x).into_data());
/// assert_eq!(float.layers()[0].description.name, "Linear");
/// # Ok::<(), lowbit::Error>(())
/// ```
pub fn prepare<M: Module, I: ModelInput, O: ModelOutput>(
    model: M,
    plan: &QPlan,
    example: &I,
    forward: impl Fn(&M, I) -> O,
) -> Result<Captured<M, I, O>, Error> {
    let of_size = |size| record(&model, example, size, &forward);
    let [a, b, c] = SIZES.map(of_size);
    let recorded = [a?, b?, c?];
    check_outputs(&recorded)?;
    let together = recorded.each_ref().map(with_linear);
    let (operations, recordings) = match operations(&together) {
        Ok(operations) => (operations, together),
        Err(_) => (operations(&recorded)?, recorded),
    };
    let [first, ..] = recordings;
    let graph = Arc::new(Graph::new(operations, first));
    let layers = planned(&graph.layers.all, plan)?;
    let device = example.device().without_autodiff();
    let quantizers = layers.iter().map(|layer| {
        let weight = layer.description.weight;
        layer
            .config
            .init(weight, &device)
            .with_signs(layer.description.signs)
    });
    let mut captured = Captured {
        quantizers: quantizers.collect(),
        layers,
        norms: Norms::default(),
        graph,
        model,
        of: PhantomData,
    };
    captured.check(example)?;
    captured.norms = Norms::measured(&captured, example, &forward)?;
    Ok(captured)
}

/// Whether there are as many results for every size of the batch.
fn check_outputs([first, others @ ..]: &[Recording; SIZES.len()]) -> Result<(), Error> {
    let different = |other: &&Recording| {
        (other.outputs.len(), &other.lengths) != (first.outputs.len(), &first.lengths)
    };
    match others.iter().find(different) {
        Some(other) => {
            let (a, b) = (first.outputs.len(), other.outputs.len());
            let message = format!(
                "has {a} results for one size of the batch and {b} for another, expected as many"
            );
            Err(Error::capture("the model", message))
        }
        None => Ok(()),
    }
}

impl Graph {
    fn new(operations: Vec<BatchOperation>, recording: Recording) -> Self {
        let layers = layers(&recording);
        let parameters = recording.parameters.into_iter();
        Self {
            operations,
            inputs: recording.inputs,
            outputs: recording.outputs,
            lengths: recording.lengths,
            parameters: parameters.map(|(id, p)| (id, p.key)).collect(),
            constants: recording.constants,
            own_operators: recording.own_operators,
            layers,
            of_batch: Mutex::default(),
            on_device: Mutex::default(),
        }
    }
}

impl<M: Module, I: ModelInput, O: ModelOutput> Captured<M, I, O> {
    /// Applies the model.
    ///
    /// # Panics
    /// As the model itself, where shapes do not fit.
    pub fn forward(&self, input: I) -> O {
        match self.run(input, &self.quantizers) {
            Ok(output) => output,
            Err(error) => panic!("{error}"),
        }
    }

    /// The layers with what each quantizes, in the order of the forward.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The model. Its parameters are those that were trained, unquantized.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Modules of the model that are something else in training and not in a recording, by path: `Dropout`
    /// and noise, whatever their probability, and normalizations of ours, which go by their running
    /// statistics. A captured model trains without that.
    pub fn left_out(&self) -> Vec<String> {
        let training = State::of(&self.model).training.into_iter();
        training.filter(|path| !self.norms.has(path)).collect()
    }

    /// The model with the values of its parameters as their quantizers leave them: in evaluation it
    /// computes what this one does, but for the quantization of its activations.
    pub fn to_float(self) -> M {
        let slots = self.quantized_parameters();
        let of_key = slots
            .map(|(key, layer, slot)| (key, (layer, slot)))
            .collect();
        let mut baked = Baked {
            path: ModulePath::default(),
            quantizers: &self.quantizers,
            of_key,
        };
        self.model.clone().map(&mut baked)
    }

    /// Each parameter that has a quantizer: its path, its layer by number, and its slot.
    pub(super) fn quantized_parameters(&self) -> impl Iterator<Item = (&str, usize, &str)> {
        let parameters = self.graph.layers.parameters.iter();
        let all =
            parameters.map(|(id, (layer, slot))| (&*self.graph.parameters[id], *layer, *slot));
        all.filter(|(_, layer, slot)| self.layers[*layer].config.get(slot).is_some())
    }

    /// Runs the recording once, so that what cannot be run again is known at once.
    fn check(&self, example: &I) -> Result<(), Error> {
        let device = example.device().without_autodiff();
        let batch = SIZES[0];
        let float = vec![Quantizers::default(); self.quantizers.len()];
        self.run(example.repeated(batch, &device), &float)
            .map(|_| ())
    }

    pub(super) fn run(&self, input: I, quantizers: &[Quantizers]) -> Result<O, Error> {
        let state = State::of(&self.model);
        let (output, statistics) = self.run_with(input, quantizers, &self.norms, &state)?;
        if !statistics.is_empty() {
            let new = self.norms.running(&state, statistics);
            self.model.clone().map(&mut SetStatistics::new(new));
        }
        Ok(output)
    }

    /// The result, and the statistics of the batch at each normalization that goes by them.
    pub(super) fn run_with(
        &self,
        input: I,
        quantizers: &[Quantizers],
        norms: &Norms,
        state: &State,
    ) -> Result<(O, Statistics), Error> {
        let graph = &self.graph;
        let device = input.device();
        let operations = graph.operations(input.batch());
        let given = self.given(input, &device, state, quantizers);
        let device_of_tensors = device.as_dispatch().clone();
        let mut tensors = Tensors::new(given, &graph.own_operators, device_of_tensors);
        let norms = device.is_autodiff().then_some(norms);
        let mut statistics = Statistics::new();
        for (operation, passes) in operations.iter().zip(&graph.layers.passes) {
            for &(id, layer, slot) in &passes.reads {
                tensors.stand_in(id, |x| activation(&quantizers[layer], slot, x));
            }
            match norms.and_then(|norms| norms.by_batch(operation, state, &graph.parameters)) {
                Some((norm, paths)) => {
                    let of_batch = tensors.normalize_by_batch(norm);
                    statistics.extend(paths.into_iter().zip(of_batch));
                }
                None => tensors.run(operation).map_err(|NotReplayed(name)| {
                    Error::capture(name, "is no operation that a captured model can run again")
                })?,
            }
            tensors.no_stand_ins();
            if let Some((id, layer)) = passes.makes {
                tensors.change(id, |y| output(&quantizers[layer], y));
            }
        }
        let outputs = graph.outputs.iter().map(|id| {
            let output = tensors.get(*id).cloned();
            output.expect("the forward made its results")
        });
        let mut parts = OutputParts::new(outputs, &graph.lengths);
        Ok((O::put_together(&mut parts), statistics))
    }

    /// The tensors that a forward begins with.
    fn given(
        &self,
        input: I,
        device: &Device,
        state: &State,
        quantizers: &[Quantizers],
    ) -> HashMap<TensorId, DispatchTensor> {
        let graph = &self.graph;
        let inputs = graph.inputs.iter().copied().zip(input.tensors());
        let mut values = graph.constants(device);
        values.extend(inputs);
        for (id, key) in &graph.parameters {
            let Some(value) = state.parameters.get(key) else {
                continue;
            };
            let value = match graph.layers.parameters.get(id) {
                Some((layer, slot)) => parameter(&quantizers[*layer], slot, value.clone()),
                // Running statistics are where the last step was.
                None => on(device, value.clone()),
            };
            values.insert(*id, value);
        }
        values
    }
}

pub(crate) fn constant(data: &TensorData, device: &Device) -> DispatchTensor {
    macro_rules! of_rank {
        ($kind:ty, $($rank:literal)*) => {
            match data.shape().len() {
                $($rank => Tensor::<$rank, $kind>::from_data(data.clone(), device).into_dispatch(),)*
                rank => panic!("a constant has {rank} dimensions"),
            }
        };
    }
    use burn::tensor::{Bool, Float, Int};
    match data.dtype() {
        dtype if dtype.is_float() => of_rank!(Float, 1 2 3 4 5 6),
        dtype if dtype.is_bool() => of_rank!(Bool, 1 2 3 4 5 6),
        _ => of_rank!(Int, 1 2 3 4 5 6),
    }
}

pub(crate) fn on(device: &Device, x: DispatchTensor) -> DispatchTensor {
    of_any_rank!(x, x.to_device(device).into_dispatch())
}

pub(super) fn reshaped(x: DispatchTensor, count: usize) -> DispatchTensor {
    of_any_rank!(x, x.reshape([count]).into_dispatch())
}

fn activation(quantizers: &Quantizers, slot: &str, x: DispatchTensor) -> DispatchTensor {
    of_any_rank!(
        x,
        quantizers.activation(slot, x).quantized().into_dispatch()
    )
}

pub(super) fn parameter(quantizers: &Quantizers, slot: &str, x: DispatchTensor) -> DispatchTensor {
    of_any_rank!(x, quantizers.parameter(slot, x).quantized().into_dispatch())
}

fn output(quantizers: &Quantizers, y: DispatchTensor) -> DispatchTensor {
    of_any_rank!(y, quantizers.output(y).into_dispatch())
}

/// The parameters and flags of the model now, by path.
#[derive(Default)]
pub(crate) struct State {
    path: ModulePath,
    pub(crate) parameters: HashMap<String, DispatchTensor>,
    pub(crate) flags: HashMap<String, bool>,
    /// Paths of modules that are something else in training.
    training: Vec<String>,
}

impl State {
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        let mut state = Self::default();
        model.visit(&mut state);
        state
    }

    /// A running mean or variance.
    pub(crate) fn statistics(&self, key: &str) -> Option<Tensor<1>> {
        self.parameters.get(key).cloned().map(Tensor::from_dispatch)
    }
}

impl ModuleVisitor for State {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().into_dispatch();
        self.parameters.insert(self.path.key(), value);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.flags.insert(self.path.key(), flag.is_enabled());
        if self.path.field() == "training" && flag.is_enabled() {
            self.training.push(self.path.holder());
        }
    }
}

/// Replaces parameters by their quantized values.
struct Baked<'a> {
    path: ModulePath,
    quantizers: &'a [Quantizers],
    of_key: HashMap<&'a str, (usize, &'a str)>,
}

impl ModuleMapper for Baked<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.of_key.get(self.path.key().as_str()) {
            Some(&(layer, slot)) => {
                let quantizers = &self.quantizers[layer];
                param.map(|value| quantizers.parameter(slot, value).quantized().detach())
            }
            None => param,
        }
    }
}

/// What walks are told of the modules on the way to a layer.
const CONTAINER: &str = "Struct:Captured";
const QUANTIZERS: &str = "quantizers";

/// The names and containers on the way to the quantizers of a layer.
fn way(layer: &Layer) -> Vec<(String, String)> {
    let names = layer.path.split('.').filter(|name| !name.is_empty());
    let steps = names.map(|name| (name.to_string(), CONTAINER.to_string()));
    let container = format!("Struct:{}", layer.description.name);
    steps.chain([(QUANTIZERS.to_string(), container)]).collect()
}

impl<M: Module, I: ModelInput + 'static, O: ModelOutput + 'static> Captured<M, I, O> {
    fn each(
        self,
        model: impl FnOnce(M) -> M,
        quantizers: impl Fn(Quantizers) -> Quantizers,
    ) -> Self {
        Self {
            model: model(self.model),
            quantizers: self.quantizers.into_iter().map(quantizers).collect(),
            ..self
        }
    }
}

impl<M: Module, I: ModelInput + 'static, O: ModelOutput + 'static> Module for Captured<M, I, O> {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.model.visit(visitor);
        for (layer, quantizers) in self.layers.iter().zip(&self.quantizers) {
            let way = way(layer);
            way.iter()
                .for_each(|(name, of)| visitor.enter_module(name, of));
            quantizers.visit(visitor);
            way.iter()
                .rev()
                .for_each(|(name, of)| visitor.exit_module(name, of));
        }
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        let model = self.model.map(mapper);
        let all = self.layers.iter().zip(self.quantizers);
        let all = all.map(|(layer, quantizers)| {
            let way = way(layer);
            way.iter()
                .for_each(|(name, of)| mapper.enter_module(name, of));
            let quantizers = quantizers.map(mapper);
            way.iter()
                .rev()
                .for_each(|(name, of)| mapper.exit_module(name, of));
            quantizers
        });
        let quantizers = all.collect();
        Self {
            model,
            quantizers,
            ..self
        }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        let quantizers = self.quantizers.iter();
        let devices = self.model.collect_devices(devices);
        quantizers.fold(devices, |devices, quantizers| {
            quantizers.collect_devices(devices)
        })
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|model| model.to_device(device), |q| q.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|model| model.fork(device), |q| q.fork(device))
    }

    fn valid(&self) -> Self {
        self.clone().each(|model| model.valid(), |q| q.valid())
    }

    fn train(self) -> Self {
        self.each(Module::train, Module::train)
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize, Module::materialize)
    }
}

impl<M: ModuleDisplay, I, O> ModuleDisplayDefault for Captured<M, I, O> {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content.set_top_level_type("Captured");
        content.add("model", &self.model).optional()
    }
}

impl<M: ModuleDisplay, I, O> ModuleDisplay for Captured<M, I, O> {}

impl<M: Module, I, O> fmt::Debug for Captured<M, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured")
            .field("model", &self.model)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

impl<M: ModuleDisplay, I: ModelInput + 'static, O: ModelOutput + 'static> fmt::Display
    for Captured<M, I, O>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(Default::default()))
    }
}
