//! A network that was lowered to integers.

use std::collections::HashMap;
use std::sync::OnceLock;

use burn::backend::TensorMetadata;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use burn_ir::OperationIr;
use lowbit_formats::kernel::isa::dispatch_on;
use lowbit_formats::philox::Philox;
use lowbit_int::{Engine, Graph, GraphError, Numbers, Rounding, Target, TensorId, TieFree};
use rayon::prelude::*;

use super::constants::{Constants, numbers, quantized};
use super::line::Kind;
use super::lower::{LoweredInput, Lowering, no_grid};
use crate::Error;
use crate::capture::ModelInput;
use crate::capture::linear::with_linear_of;
use crate::capture::record::{Recording, record};
use crate::capture::replay::Tensors;
use crate::capture::{State, constant, on};
use crate::quantizers::{Place, marked};

/// Items of a batch in the recording.
const BATCH: usize = 2;

/// A network as integers: the graph, and how its inputs and outputs stand for numbers.
#[derive(Debug)]
pub struct IntegerNetwork {
    engine: Engine,
    /// How numbers become the integers of each input of the graph; none where the grid says all.
    inputs: Vec<LoweredInput>,
    pub(super) places: Vec<(Place, TensorId)>,
    verified: Vec<String>,
    /// The same network with the tensor in each place as an output, once it was asked for.
    watching: OnceLock<Engine>,
}

/// Makes integers of a network whose slots are set to grids: `forward` of `model`, which is one of ours or
/// [captured](crate::capture), recorded in evaluation on the first item of `example`.
///
/// - A quantizer whose results are all the integers of a range times a step, and which rounds to the
///   nearest, half to even or away from zero, or down, is a requantization. Between powers of two that is a shift, and exact; for
///   any other ratio of scales it is a multiplier of 31 bits and a shift. Where it follows from integers
///   times a power of two, one number at a time, and there are not too many of them, the simulation is
///   asked for each, and multiplier and offset are such that all are the same.
/// - A weight may lie on any grid, with a step for each output channel, too.
/// - A bias that is a multiple of the sum's step is added to the sum, another at the requantization that
///   follows; so are the constants of a batch normalization that is not folded.
/// - A result that is no integer times one step becomes one of 32 bits.
/// - Rectifiers, poolings, sums and concatenations are those of [`lowbit_int::ops`].
///
/// # Errors
/// If the forward cannot be recorded, or something in it is on no grid, with the layer and slot.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::config::{QConfig, QPlan};
/// use lowbit::integer::lower;
/// use lowbit::nn::{Linear, LinearConfig};
///
/// let device = Device::flex();
/// let slots: QConfig = toml::from_str(
///     "input = { method = \"format\", format = \"ufixed(4,4)\" }
///     weight = { method = \"format\", format = \"fixed(4,3)\" }
///     bias = { method = \"format\", format = \"fixed(8,7)\" }
///     output = { method = \"format\", format = \"fixed(8,4)\" }",
/// )?;
/// let linear = LinearConfig::new(3, 2).with_quantization(slots).init(&device);
/// let x = Tensor::<2>::from_floats([[0.3, 0.7, 0.1]], &device);
/// let network = lower(&linear, &x, |linear: &Linear, x| linear.forward(x))?;
/// let simulated = linear.forward(x.clone());
/// assert_eq!(network.run(x)?.try_to_vec::<f32>()?, simulated.into_data().try_to_vec::<f32>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn lower<M: Module, I: ModelInput, const O: usize>(
    model: &M,
    example: &I,
    forward: impl Fn(&M, I) -> Tensor<O>,
) -> Result<IntegerNetwork, Error> {
    let recording = marked(model, || record(model, example, BATCH, &forward))?;
    let recording = with_linear_of(&recording, |op| !matches!(op, OperationIr::Init(_)));
    let device = Device::flex();
    let example = example.repeated(BATCH, &device);
    let shapes = example.tensors().into_iter();
    let shapes = shapes.map(|x| x.shape().iter().skip(1).copied().collect());
    let inputs: Vec<_> = recording.inputs.iter().copied().zip(shapes).collect();
    let model = model.valid();
    let mut known = Vec::new();
    let mut lowering = loop {
        let constants = constants(&model, &recording, &device);
        let mut lowering = Lowering::new(constants, &recording.own_operators, &inputs);
        for input in std::mem::take(&mut known) {
            lowering.with_input(input)?;
        }
        let mut operations = recording.operations.iter();
        match operations.try_for_each(|operation| lowering.operation(operation)) {
            Err(_) if lowering.begins_again => known = lowering.inputs,
            Err(error) => return Err(error),
            Ok(()) => break lowering,
        }
    };
    let value = lowering.result(recording.outputs[0]);
    let value = value
        .ok_or_else(|| Error::capture("the model", "has a result that depends on no input"))?;
    let Kind::Line(line) = &value.kind else {
        return Err(no_grid(&value, "is the result as it is"));
    };
    let line = lowering.whole(line.clone(), "output")?;
    let output = lowering.plain(line)?;
    let mut graph = lowering.graph;
    let failed = |error: GraphError| Error::capture("integers", error.to_string());
    graph.output(output).map_err(failed)?;
    Ok(IntegerNetwork {
        engine: Engine::new(graph),
        inputs: lowering.inputs,
        places: lowering.places,
        verified: lowering.verified,
        watching: OnceLock::new(),
    })
}

/// Numbers in integers of a grid, `round(x / scale) + zero_point` within its width.
fn rounded(values: &[f32], grid: Numbers, rounding: Rounding) -> Vec<i64> {
    /// Numbers that a thread takes at once.
    const TOGETHER: usize = 1 << 14;
    let (scale, zero_point) = (grid.scale() as f32, grid.zero_point());
    let (least, greatest) = (grid.least(), grid.greatest());
    let mut integers = vec![0; values.len()];
    let parts = values.par_chunks(TOGETHER);
    parts
        .zip(integers.par_chunks_mut(TOGETHER))
        .for_each(|(values, integers)| {
            dispatch_on(
                values,
                integers,
                #[inline(always)]
                |values: &[f32], integers: &mut [i64]| {
                    for (integer, &value) in integers.iter_mut().zip(values) {
                        let k = rounding.whole(value / scale) as i64;
                        *integer = k.saturating_add(zero_point).max(least).min(greatest);
                    }
                },
            );
        });
    integers
}

/// The parameters and constants of a recording.
fn constants<'a, M: Module>(model: &M, recording: &'a Recording, device: &Device) -> Constants<'a> {
    let state = State::of(model);
    let mut values = HashMap::new();
    for (id, data) in &recording.constants {
        values.insert(*id, constant(data, device));
    }
    for (id, parameter) in &recording.parameters {
        if let Some(value) = state.parameters.get(&parameter.key) {
            values.insert(*id, on(device, value.clone()));
        }
    }
    let backend = device.as_dispatch().clone();
    Constants::new(Tensors::new(values, &recording.own_operators, backend))
}

impl IntegerNetwork {
    /// A network that was lowered before, and written as a graph: a number `x` of the model's `i`th input
    /// becomes the integer `round(x / scale) + zero_point` of the graph's, rounded as the input says
    /// ([`Graph::round_input`]), within its width.
    ///
    /// # Errors
    /// If it has another number of outputs than one.
    pub fn from_graph(graph: Graph) -> Result<Self, Error> {
        if graph.outputs().len() != 1 {
            let message = format!("has {} outputs, expected 1", graph.outputs().len());
            return Err(Error::capture("the graph", message));
        }
        Ok(Self {
            engine: Engine::new(graph),
            inputs: Vec::new(),
            places: Vec::new(),
            verified: Vec::new(),
            watching: OnceLock::new(),
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        self.engine.graph()
    }

    /// The names of the nodes that were held against the simulation for every integer that they can be
    /// given: requantizations by other scales than powers of two, whose constants were chosen so that they
    /// have its bits.
    pub fn verified(&self) -> &[String] {
        &self.verified
    }

    /// The network without ties, so that rounding half to even, half up and half away from zero agree, and
    /// the names of the requantizations that could have one before; see
    /// [`tie_free`](lowbit_int::tie_free()).
    ///
    /// # Errors
    /// As [`tie_free`](lowbit_int::tie_free()).
    pub fn tie_free(&self, how: TieFree) -> Result<(Self, Vec<String>), Error> {
        let made = lowbit_int::tie_free(self.graph(), how);
        self.rebuilt(made)
    }

    /// The network with the arithmetic of a runtime or a chip, and the names of the nodes whose integers may
    /// differ from before; see [`for_target`](lowbit_int::for_target()).
    ///
    /// # Errors
    /// As [`for_target`](lowbit_int::for_target()): what the target cannot do, by its node.
    pub fn for_target(&self, target: Target) -> Result<(Self, Vec<String>), Error> {
        self.rebuilt(lowbit_int::for_target(self.graph(), target))
    }

    /// The network with another graph, whose tensors have the names that they had.
    fn rebuilt(
        &self,
        made: Result<(Graph, Vec<String>), GraphError>,
    ) -> Result<(Self, Vec<String>), Error> {
        let (graph, changed) =
            made.map_err(|error| Error::capture("integers", error.to_string()))?;
        let there = |(place, id): &(Place, TensorId)| {
            let id = graph.find(self.graph().tensor(*id).name())?;
            Some((place.clone(), id))
        };
        let network = Self {
            inputs: self.inputs.clone(),
            places: self.places.iter().filter_map(there).collect(),
            engine: Engine::new(graph),
            verified: Vec::new(),
            watching: OnceLock::new(),
        };
        Ok((network, changed))
    }

    /// The integers of the network's inputs, as its quantizers make them of numbers: one list for each
    /// input of the graph, the items one after the other.
    ///
    /// # Errors
    /// If items have another shape than the network's.
    pub fn integers(&self, input: impl ModelInput) -> Result<Vec<Vec<i64>>, Error> {
        let tensors = input.moved(&Device::flex()).tensors();
        for (i, id) in self.graph().inputs().iter().enumerate() {
            let tensor = self.graph().tensor(*id);
            let of = self.inputs.get(i).map_or(i, |input| input.of);
            let given: Option<Vec<usize>> = tensors
                .get(of)
                .map(|x| x.shape().iter().skip(1).copied().collect());
            let elements = given.as_ref().map(|shape| shape.iter().product());
            if elements != Some(tensor.elements()) {
                let (given, expected) = (given.unwrap_or_default(), tensor.shape());
                let message = format!("an item is {given:?}, expected {expected:?}");
                return Err(Error::capture(tensor.name(), message));
            }
        }
        let inputs = self.graph().inputs().iter().enumerate();
        let of_each = inputs.map(|(i, id)| {
            let stands_for = self.graph().tensor(*id).numbers();
            let (scale, zero_point) = (stands_for.scale(), stands_for.zero_point());
            match self.inputs.get(i) {
                Some(input) => {
                    let x = tensors[input.of].clone();
                    let x = quantized(x, &input.quantization, &input.parameters);
                    let integer = |v: f32| (f64::from(v) / scale).round() as i64 + zero_point;
                    numbers(x).values.into_iter().map(integer).collect()
                }
                None => {
                    let rounding = self
                        .graph()
                        .input_rounding(*id)
                        .unwrap_or(Rounding::HalfEven);
                    rounded(&numbers(tensors[i].clone()).values, stands_for, rounding)
                }
            }
        });
        Ok(of_each.collect())
    }

    /// A batch of random inputs: for each input of the graph numbers that stand for integers of its
    /// width, each as likely as any other, the items one after the other. They follow from `seed` and
    /// the place of the first of them among all, `first`.
    pub fn random(&self, items: usize, first: u64, seed: u64) -> Vec<TensorData> {
        let inputs = self.graph().inputs().iter().enumerate();
        let of_each = inputs.map(|(stream, id)| {
            let tensor = self.graph().tensor(*id);
            let numbers = tensor.numbers();
            let philox = Philox::new(seed, stream as u64);
            let (least, greatest) = (numbers.least(), numbers.greatest());
            let range = (greatest - least) as u64 + 1;
            let from = first * tensor.elements() as u64;
            let number = |i: u64| {
                let random = (u64::from(philox.word(from + i)) * range) >> 32;
                numbers.real(least + random as i64) as f32
            };
            let count = (items * tensor.elements()) as u64;
            let mut shape = vec![items];
            shape.extend(tensor.shape());
            TensorData::new((0..count).map(number).collect::<Vec<f32>>(), shape)
        });
        of_each.collect()
    }

    /// The network's result for a batch, computed in integers.
    ///
    /// # Errors
    /// If the input does not fit the network.
    pub fn run(&self, input: impl ModelInput) -> Result<TensorData, Error> {
        let batch = input.batch();
        let integers = self.integers(input)?;
        let integers: Vec<&[i64]> = integers.iter().map(Vec::as_slice).collect();
        let outputs = self.engine.run(&integers);
        let outputs = outputs.map_err(|error| Error::capture("integers", error.to_string()))?;
        Ok(self.result(&outputs[0], batch))
    }

    /// The network with the tensor in each place among its outputs, the result first.
    pub(super) fn watching(&self) -> &Engine {
        self.watching.get_or_init(|| {
            let mut graph = self.graph().clone();
            for (_, tensor) in &self.places {
                if !graph.outputs().contains(tensor) {
                    graph.output(*tensor).expect("a tensor of the graph");
                }
            }
            Engine::new(graph)
        })
    }

    /// The numbers that integers of the result stand for.
    pub(super) fn result(&self, integers: &[i64], batch: usize) -> TensorData {
        let tensor = self.graph().tensor(self.graph().outputs()[0]);
        let numbers = integers.iter().map(|&k| tensor.numbers().real(k) as f32);
        let mut shape = vec![batch];
        shape.extend(tensor.shape());
        TensorData::new(numbers.collect::<Vec<f32>>(), shape)
    }
}
