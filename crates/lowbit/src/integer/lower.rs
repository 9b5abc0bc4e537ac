//! The walk over a recording that makes a graph of integers of it.

use std::collections::HashMap;

use burn_ir::{
    ActivationOperationIr, BaseOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr,
    TensorId, TensorIr,
};
use lowbit_int::ops::{Clamp, Flatten, Rectifier};
use lowbit_int::{Graph, Numbers, Operator, Rounding};

use super::constants::Constants;
use super::exhaustive::{History, is_of_each_number};
use super::join::Arithmetic;
use super::line::{Kind, Line, Value};
use super::pool::{adaptive, sliding};
use crate::Error;
use crate::capture::replay::name;
use crate::ops::{
    Activation, Meaning, OperandQuantization, Pooling, ProductKind, RecordedOperator,
    recorded_index,
};
use crate::quantizers::{Place, Slot};

/// An input of the network, as a quantizer takes it.
#[derive(Debug, Clone)]
pub(super) struct LoweredInput {
    pub(super) name: String,
    /// Which of the model's.
    pub(super) of: usize,
    pub(super) quantization: OperandQuantization,
    pub(super) parameters: Vec<Vec<f32>>,
    pub(super) numbers: Numbers,
    pub(super) rounding: Rounding,
}

/// A graph that grows as the recording is read.
pub(super) struct Lowering<'a> {
    pub(super) constants: Constants<'a>,
    pub(super) graph: Graph,
    /// Those of the graph, in order.
    pub(super) inputs: Vec<LoweredInput>,
    /// Whether an input was found too late, so that it all has to begin again with this one, too.
    pub(super) begins_again: bool,
    /// Nodes whose requantization was held against the simulation for every integer.
    pub(super) verified: Vec<String>,
    /// Each slot whose tensor is in the graph.
    pub(super) places: Vec<(Place, lowbit_int::TensorId)>,
    /// The shape of each of the model's inputs, without the batch.
    pub(super) input_shapes: Vec<Vec<usize>>,
    own_operators: &'a [RecordedOperator],
    values: HashMap<TensorId, Value>,
}

/// Parameters of a quantization, by their tensors.
pub(super) struct Quantized<'b> {
    pub(super) quantization: &'b OperandQuantization,
    pub(super) parameters: Vec<Vec<f32>>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        constants: Constants<'a>,
        own_operators: &'a [RecordedOperator],
        inputs: &[(TensorId, Vec<usize>)],
    ) -> Self {
        let input = |(i, (id, _)): (usize, &(TensorId, _))| {
            let kind = Kind::Input { of: i, flat: false };
            let value = Value {
                kind,
                place: None,
                history: None,
            };
            (*id, value)
        };
        let shapes = inputs.iter().map(|(_, shape)| shape.clone());
        Self {
            constants,
            graph: Graph::new(),
            inputs: Vec::new(),
            begins_again: false,
            verified: Vec::new(),
            places: Vec::new(),
            input_shapes: shapes.collect(),
            own_operators,
            values: inputs.iter().enumerate().map(input).collect(),
        }
    }

    /// Adds an input to the graph.
    pub(super) fn with_input(&mut self, input: LoweredInput) -> Result<(), Error> {
        let shape = &self.input_shapes[input.of];
        let added = self.graph.input(&input.name, shape, input.numbers);
        let rounded = added.and_then(|id| self.graph.round_input(id, input.rounding));
        rounded.map_err(|error| Error::capture("integers", error.to_string()))?;
        self.inputs.push(input);
        Ok(())
    }

    /// What a tensor is.
    pub(super) fn value(&self, tensor: &TensorIr) -> Option<Value> {
        self.values.get(&tensor.id).cloned()
    }

    /// The value of the network's result.
    pub(super) fn result(&self, id: TensorId) -> Option<Value> {
        self.values.get(&id).cloned()
    }

    /// Reads the next operation.
    pub(super) fn operation(&mut self, operation: &OperationIr) -> Result<(), Error> {
        if let OperationIr::Drop(_) | OperationIr::Init(_) = operation {
            return Ok(());
        }
        let meaning = self.meaning(operation);
        if operation.inputs().all(|t| self.constants.has(t.id)) {
            return self.constants.run(operation, meaning.as_ref());
        }
        let mut made = match (operation, &meaning) {
            (OperationIr::Custom(d), Some(meaning)) => self.own(meaning, operation, &d.inputs),
            _ => self.burn(operation),
        }?;
        if let Some(out) = operation.outputs().next() {
            made.history = self.history(operation, meaning.as_ref(), &made, out);
            self.values.insert(out.id, made);
        }
        Ok(())
    }

    /// How what an operation made follows from an exact tensor.
    fn history(
        &self,
        operation: &OperationIr,
        meaning: Option<&Meaning>,
        made: &Value,
        out: &TensorIr,
    ) -> Option<History> {
        let line = match &made.kind {
            Kind::Line(line) => line,
            Kind::Function(_) => {
                let read = operation.inputs().find_map(|t| self.values.get(&t.id))?;
                let known = read.history.clone()?;
                return Some(match operation {
                    // To the shape that it has.
                    OperationIr::BaseFloat(_) => known.moved_to(out),
                    _ => known.then(operation, out.id),
                });
            }
            Kind::Input { .. } => return None,
        };
        let numbers = self.graph.tensor(line.tensor).numbers();
        if numbers.exponent().is_some() && line.is_whole() && line.step() == Some(numbers.scale()) {
            return Some(History::new(out.clone(), numbers.scale()));
        }
        let read = operation.inputs().find_map(|t| self.values.get(&t.id))?;
        let known = read.history.clone()?;
        match (meaning, operation) {
            // The greatest of several is one of them; where the line falls, other integers are pooled.
            (Some(Meaning::Pool(Pooling::Max(_))), _)
            | (
                _,
                OperationIr::Module(
                    ModuleOperationIr::MaxPool1d(_) | ModuleOperationIr::MaxPool2d(_),
                ),
            ) => {
                matches!(&read.kind, Kind::Line(line) if line.rises()).then(|| known.moved_to(out))
            }
            (
                Some(
                    Meaning::Same
                    | Meaning::Mark(_)
                    | Meaning::Activation(_)
                    | Meaning::Norm { .. },
                ),
                _,
            )
            | (
                _,
                OperationIr::Activation(ActivationOperationIr::Relu(_))
                | OperationIr::Module(ModuleOperationIr::BatchNorm(_))
                | OperationIr::NumericFloat(..),
            ) => Some(known.then(operation, out.id)),
            // To the shape that it has.
            (_, OperationIr::BaseFloat(_)) => {
                let same = matches!(&read.kind, Kind::Line(before) if before.tensor == line.tensor);
                let as_many = known.source.shape.len() == out.shape.len();
                (same && as_many).then(|| known.moved_to(out))
            }
            _ => None,
        }
    }

    fn meaning(&self, operation: &OperationIr) -> Option<Meaning> {
        let OperationIr::Custom(custom) = operation else {
            return None;
        };
        Meaning::of(self.own_operators.get(recorded_index(custom)?)?)
    }

    /// One of our own operators.
    fn own(
        &mut self,
        meaning: &Meaning,
        operation: &OperationIr,
        inputs: &[TensorIr],
    ) -> Result<Value, Error> {
        match meaning {
            Meaning::Same => self.data(&inputs[0]),
            Meaning::Mark(mark) => {
                let mut value = self.data(&inputs[0])?;
                value.place = Some(Place {
                    layer: mark.layer.clone(),
                    layer_type: mark.layer_type.clone(),
                    slot: mark.slot.clone(),
                });
                if mark.slot == Slot::OUTPUT {
                    self.note(&value);
                }
                Ok(value)
            }
            Meaning::Quantized(quantization) => {
                let value = self.data(&inputs[0])?;
                let quantized = self.quantized(quantization, &inputs[1..], &value)?;
                self.quantize(value, &quantized)
            }
            Meaning::Product {
                kind,
                quantizations,
                has_bias,
            } => self.product(kind, quantizations, *has_bias, inputs),
            Meaning::Add(quantizations) => self.add(quantizations, inputs),
            Meaning::Pool(pooling) => self.pool(*pooling, &inputs[0]),
            Meaning::Activation(activation) => self.activation(*activation, &inputs[0]),
            Meaning::Function => self.function(operation, inputs.first()),
            Meaning::Norm {
                epsilon,
                activation,
            } => {
                let value = self.norm(inputs, *epsilon)?;
                self.activated(value, *activation)
            }
            Meaning::DorefaWeight(_) => {
                let value = self.data(&inputs[0])?;
                Err(no_grid(
                    &value,
                    "is quantized as a weight, expected a parameter",
                ))
            }
        }
    }

    /// One of Burn's operations.
    fn burn(&mut self, operation: &OperationIr) -> Result<Value, Error> {
        use ModuleOperationIr as Module;
        use NumericOperationIr as Number;
        match operation {
            OperationIr::BaseFloat(BaseOperationIr::Reshape(d)) => self.reshape(&d.input, &d.out),
            OperationIr::BaseFloat(BaseOperationIr::Cat(d)) => self.concat(&d.tensors, d.dim),
            OperationIr::NumericFloat(_, Number::Add(d)) => {
                self.arithmetic(Arithmetic::Add, &d.lhs, &d.rhs)
            }
            OperationIr::NumericFloat(_, Number::Sub(d)) => {
                self.arithmetic(Arithmetic::Sub, &d.lhs, &d.rhs)
            }
            OperationIr::NumericFloat(_, Number::Mul(d)) => {
                self.arithmetic(Arithmetic::Mul, &d.lhs, &d.rhs)
            }
            OperationIr::NumericFloat(_, Number::Div(d)) => {
                self.arithmetic(Arithmetic::Div, &d.lhs, &d.rhs)
            }
            OperationIr::NumericFloat(_, Number::AddScalar(d)) => {
                let value = self.data(&d.lhs)?;
                self.with_constant(Arithmetic::Add, value, &[d.rhs.elem()], false)
            }
            OperationIr::NumericFloat(_, Number::MulScalar(d)) => {
                let value = self.data(&d.lhs)?;
                self.with_constant(Arithmetic::Mul, value, &[d.rhs.elem()], false)
            }
            OperationIr::Activation(ActivationOperationIr::Relu(d)) => {
                self.activation(Activation::Relu, &d.input)
            }
            OperationIr::Module(Module::Conv1d(d)) => {
                let kind = ProductKind::Conv1d(d.options.clone().into());
                self.product_of(&kind, [&d.x, &d.weight], d.bias.as_ref())
            }
            OperationIr::Module(Module::Conv2d(d)) => {
                let kind = ProductKind::Conv2d(d.options.clone().into());
                self.product_of(&kind, [&d.x, &d.weight], d.bias.as_ref())
            }
            OperationIr::Module(Module::ConvTranspose1d(d)) => {
                let kind = ProductKind::ConvTranspose1d(d.options.clone().into());
                self.product_of(&kind, [&d.x, &d.weight], d.bias.as_ref())
            }
            OperationIr::Module(Module::ConvTranspose2d(d)) => {
                let kind = ProductKind::ConvTranspose2d(d.options.clone().into());
                self.product_of(&kind, [&d.x, &d.weight], d.bias.as_ref())
            }
            OperationIr::Module(Module::Linear(d)) => {
                self.product_of(&ProductKind::Linear, [&d.x, &d.weight], d.bias.as_ref())
            }
            OperationIr::Module(Module::BatchNorm(d)) => {
                let inputs = [&d.x, &d.gamma, &d.beta, &d.mean, &d.variance].map(Clone::clone);
                self.norm(&inputs, d.epsilon.elem())
            }
            OperationIr::Module(Module::MaxPool1d(d)) if !d.ceil_mode => {
                let windows = sliding([d.kernel_size], [d.stride], [d.padding], [d.dilation]);
                self.max_pool(windows, &d.x)
            }
            OperationIr::Module(Module::MaxPool2d(d)) if !d.ceil_mode => {
                let windows = sliding(d.kernel_size, d.stride, d.padding, d.dilation);
                self.max_pool(windows, &d.x)
            }
            OperationIr::Module(Module::AvgPool1d(d)) if !d.ceil_mode => {
                let windows = sliding([d.kernel_size], [d.stride], [d.padding], [1]);
                self.average_pool(windows, d.count_include_pad, &d.x)
            }
            OperationIr::Module(Module::AvgPool2d(d)) if !d.ceil_mode => {
                let windows = sliding(d.kernel_size, d.stride, d.padding, [1, 1]);
                self.average_pool(windows, d.count_include_pad, &d.x)
            }
            OperationIr::Module(Module::AdaptiveAvgPool1d(d)) => {
                self.average_pool(adaptive([d.output_size]), false, &d.x)
            }
            OperationIr::Module(Module::AdaptiveAvgPool2d(d)) => {
                self.average_pool(adaptive(d.output_size), false, &d.x)
            }
            operation if is_of_each_number(operation) => {
                let input = operation.inputs().next();
                self.function(operation, input)
            }
            other => {
                let read = other.inputs().find_map(|t| self.value(t));
                let what = format!("operation {} has no integers here", name(other));
                Err(match read {
                    Some(value) => no_grid(&value, &what),
                    None => Error::capture(name(other), "reads what is not known"),
                })
            }
        }
    }

    /// A function of each number of an exact tensor.
    fn function(&self, operation: &OperationIr, input: Option<&TensorIr>) -> Result<Value, Error> {
        let value = input.and_then(|x| self.value(x));
        let Some(value) = value else {
            return Err(Error::capture(name(operation), "reads what is not known"));
        };
        let tensor = match (&value.kind, &value.history) {
            (Kind::Line(line), Some(history)) if history.is_new() => line.tensor,
            (Kind::Function(tensor), Some(_)) => *tensor,
            _ => {
                let what = format!(
                    "is not quantized before operation {}, which becomes a table",
                    name(operation)
                );
                return Err(no_grid(&value, &what));
            }
        };
        Ok(Value::made(Kind::Function(tensor), value.reader()))
    }

    /// The value of a tensor that depends on the input.
    pub(super) fn data(&self, tensor: &TensorIr) -> Result<Value, Error> {
        let missing = || Error::capture("the model", "an operation reads parameters as an input");
        self.value(tensor).ok_or_else(missing)
    }

    /// A quantization with the values of its parameters.
    pub(super) fn quantized<'b>(
        &self,
        quantization: &'b OperandQuantization,
        parameters: &[TensorIr],
        value: &Value,
    ) -> Result<Quantized<'b>, Error> {
        let parameters = self.constants.parameters(parameters);
        let dynamic = || no_grid(value, "is quantized by numbers that depend on the input");
        Ok(Quantized {
            quantization,
            parameters: parameters.ok_or_else(dynamic)?,
        })
    }

    /// Remembers that a tensor of the graph is that in the slot where the value is.
    pub(super) fn note(&mut self, value: &Value) {
        let (Some(place), Kind::Line(line)) = (&value.place, &value.kind) else {
            return;
        };
        let known = |(p, tensor): &(Place, _)| p == place && *tensor == line.tensor;
        // A factor alone, such as that of a fresh normalization, is told where it is quantized.
        let scale = self.graph.tensor(line.tensor).numbers().scale();
        let as_it_is = line.is_whole() && line.step() == Some(scale);
        if as_it_is && !self.places.iter().any(known) {
            self.places.push((place.clone(), line.tensor));
        }
    }

    /// Takes back that a value is its layer's output: a bias is added to a sum that saturates.
    pub(super) fn forget_output(&mut self, value: &Value) {
        if let (Some(place), Kind::Line(line)) = (&value.place, &value.kind)
            && place.slot == Slot::OUTPUT
        {
            let is_it = |(p, tensor): &(Place, _)| p == place && *tensor == line.tensor;
            self.places.retain(|noted| !is_it(noted));
        }
    }

    /// Adds a node whose name begins with that one.
    pub(super) fn push(
        &mut self,
        stem: &str,
        operator: impl Into<Operator>,
        inputs: &[lowbit_int::TensorId],
    ) -> Result<lowbit_int::TensorId, Error> {
        let name = self.free(stem);
        let node = self.graph.push(&name, operator, inputs);
        node.map_err(|error| Error::capture("integers", error.to_string()))
    }

    /// A name that no tensor of the graph has.
    pub(super) fn free(&self, stem: &str) -> String {
        let stem = if stem.is_empty() { "node" } else { stem };
        let taken = |name: &str| self.graph.find(name).is_some();
        let others = (2..).map(|i| format!("{stem}.{i}"));
        let mut names = std::iter::once(stem.to_string()).chain(others);
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    /// The integers of a line that has not been cut off, or a node that cuts it off.
    pub(super) fn whole(&mut self, line: Line, stem: &str) -> Result<Line, Error> {
        if line.is_whole() {
            return Ok(line);
        }
        let numbers = self.graph.tensor(line.tensor).numbers();
        let clamp = match line.step() {
            Some(step) if step > 0.0 => clamp(&line, step, numbers),
            _ => None,
        };
        let Some(clamp) = clamp else {
            let reason =
                "is cut off between two integers before it is quantized; give it a quantizer";
            return Err(Error::capture(stem, reason));
        };
        let tensor = self.push(stem, clamp, &[line.tensor])?;
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        Ok(Line {
            tensor,
            low,
            high,
            ..line
        })
    }

    fn activation(&mut self, activation: Activation, x: &TensorIr) -> Result<Value, Error> {
        let value = self.data(x)?;
        self.activated(value, activation)
    }

    fn activated(&mut self, value: Value, activation: Activation) -> Result<Value, Error> {
        let (low, high) = match activation {
            Activation::Identity => return Ok(value),
            Activation::Relu => (0.0, f64::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
        };
        // Of a function its history is told.
        if let Kind::Function(_) = value.kind {
            return Ok(value);
        }
        let mut line = self.line(&value)?;
        (line.low, line.high) = (line.low.clamp(low, high), line.high.clamp(low, high));
        Ok(Value {
            kind: Kind::Line(line),
            ..value
        })
    }

    /// The line of a value; an input has none before it is quantized.
    pub(super) fn line(&self, value: &Value) -> Result<Line, Error> {
        match &value.kind {
            Kind::Line(line) => Ok(line.clone()),
            Kind::Input { .. } => Err(no_grid(value, "is not quantized")),
            Kind::Function(_) => Err(no_grid(value, "is a function, and is not quantized")),
        }
    }

    /// Batch normalization with given statistics.
    fn norm(&mut self, inputs: &[TensorIr], epsilon: f64) -> Result<Value, Error> {
        let value = self.data(&inputs[0])?;
        let line = self.line(&value)?;
        let line = self.whole(line, &stem(&value, "norm"))?;
        let dynamic = || no_grid(&value, "is normalized by what depends on the input");
        let parameters = self.constants.parameters(&inputs[1..]);
        let parameters = parameters.ok_or_else(dynamic)?;
        let [gamma, beta, mean, variance] = &parameters[..] else {
            return Err(dynamic());
        };
        let channels = || 0..gamma.len();
        let of = |all: &[f32], c: usize| f64::from(all[c]);
        let factor = channels().map(|c| of(gamma, c) / (of(variance, c) + epsilon).sqrt());
        let factor: Vec<f64> = factor.collect();
        let more = channels().map(|c| of(beta, c) - of(mean, c) * factor[c]);
        let line = line.then(&factor, &more.collect::<Vec<_>>());
        Ok(Value::made(Kind::Line(line), value.reader()))
    }

    fn reshape(&mut self, x: &TensorIr, out: &TensorIr) -> Result<Value, Error> {
        let value = self.data(x)?;
        let (Some(from), Some(to)) = (x.shape.get(1..), out.shape.get(1..)) else {
            return Err(no_grid(&value, "is reshaped over the batch"));
        };
        let in_graph = match &value.kind {
            Kind::Input { of, .. } => &self.input_shapes[*of],
            Kind::Line(line) => self.graph.tensor(line.tensor).shape(),
            Kind::Function(_) => from,
        };
        let elements: usize = from.iter().product();
        let same_batch = x.shape[0] == out.shape[0];
        if same_batch && (from == to || is_row_of(in_graph, from, to)) {
            return Ok(value);
        }
        if to != [elements] || !same_batch {
            let text = format!("is reshaped from {from:?} to {to:?}, expected one dimension");
            return Err(no_grid(&value, &text));
        }
        if let Kind::Input { of, .. } = value.kind {
            let kind = Kind::Input { of, flat: true };
            return Ok(Value { kind, ..value });
        }
        let line = self.line(&value)?;
        let tensor = self.push(&stem(&value, "flatten"), Flatten {}, &[line.tensor])?;
        let times = elements / from[0];
        Ok(Value::made(
            Kind::Line(line.repeated(tensor, times)),
            value.reader(),
        ))
    }
}

/// Whether a reshaping makes an image of one row of a sequence, or the sequence of it again, as a
/// convolution of one dimension does that is made by one of two. The graph has the sequence.
fn is_row_of(sequence: &[usize], from: &[usize], to: &[usize]) -> bool {
    let [channels, length] = *sequence else {
        return false;
    };
    let row = [channels, 1, length];
    (from == sequence && to == row) || (from == row && to == sequence)
}

/// The clamp of a line's integers, where its ends are integers.
fn clamp(line: &Line, step: f64, numbers: Numbers) -> Option<Operator> {
    if (line.low, line.high) == (0.0, f64::INFINITY) {
        return Some(Rectifier {}.into());
    }
    let end = |end: f64, open: i64| match end.is_infinite() {
        true => Some(open),
        false => {
            let k = end / step;
            (k.fract() == 0.0).then_some(k as i64 + numbers.zero_point())
        }
    };
    let least = end(line.low, numbers.least())?.max(numbers.least());
    let greatest = end(line.high, numbers.greatest())?.min(numbers.greatest());
    Some(Clamp { least, greatest }.into())
}

/// The name that nodes of a value's layer have.
pub(super) fn stem(value: &Value, otherwise: &str) -> String {
    let layer = value.reader().map(|place| place.layer);
    let layer = layer.filter(|layer| !layer.is_empty());
    layer.unwrap_or_else(|| otherwise.into())
}

/// That a value is on no grid.
pub(super) fn no_grid(value: &Value, reason: &str) -> Error {
    let otherwise = match value.kind {
        Kind::Input { .. } => "input",
        Kind::Line(_) | Kind::Function(_) => "a tensor between two layers",
    };
    Error::capture(value.name(otherwise), reason)
}
