//! Which layers a recorded forward has, and which tensors their slots are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{LazyLock, Mutex};

use burn_ir::{
    ActivationOperationIr as Activation, BaseOperationIr, FloatOperationIr,
    ModuleOperationIr as Module, NumericOperationIr, OperationIr, TensorId, TensorIr,
};

use super::record::{Parameter, Recording};
use crate::Error;
use crate::config::{Describe, Description, Fold, Layer, Planner, QConfig, QPlan};
use crate::quantizers::{Channels, Slot};

/// A layer, and where the slots of a forward are.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) description: Description,
}

/// What quantizers do to the tensors of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Passes {
    /// What it reads, through a slot of a layer.
    pub(super) reads: Vec<(TensorId, usize, &'static str)>,
    /// What it makes, as the output of a layer.
    pub(super) makes: Option<(TensorId, usize)>,
}

/// The layers of a forward.
#[derive(Debug, Clone, Default)]
pub(super) struct Layers {
    pub(super) all: Vec<Found>,
    /// For each operation.
    pub(super) passes: Vec<Passes>,
    /// The slot of each parameter that an operation reads.
    pub(super) parameters: BTreeMap<TensorId, (usize, &'static str)>,
}

/// A name that lives as long as the program; there are as many as there are types of layers.
pub(super) fn interned(name: &str) -> &'static str {
    static NAMES: LazyLock<Mutex<BTreeSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    match names.get(name) {
        Some(known) => known,
        None => {
            let known: &'static str = Box::leak(name.into());
            names.insert(known);
            known
        }
    }
}

/// A layer as the plan is asked about it.
struct Asked {
    description: Description,
    quantization: QConfig,
}

impl Describe for Asked {
    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }
}

/// Layers with what `plan` gives each, of paths and descriptions in the order of the forward.
///
/// # Errors
/// If the plan does not fit them.
pub(super) fn planned(found: &[Found], plan: &QPlan) -> Result<Vec<Layer>, Error> {
    if plan.fold != Fold::Off {
        let message = "is not off; the model keeps its normalizations as they are";
        return Err(Error::config("fold", message));
    }
    let has_weight = |found: &Found| found.description.weight.is_some();
    let first = found.iter().position(has_weight);
    let last = found.iter().rposition(has_weight);
    let mut planner = Planner::new(plan)?;
    for (i, found) in found.iter().enumerate() {
        let layer = Asked {
            description: found.description.clone(),
            quantization: QConfig::default(),
        };
        let path = found.path.clone();
        match i {
            i if first == Some(i) => planner.first(path, layer)?,
            i if last == Some(i) => planner.last(path, layer)?,
            _ => planner.layer(path, layer)?,
        };
    }
    planner.finish()
}

/// Where a tensor comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// A parameter in another shape; whether it was transposed on its way.
    Parameter(TensorId, bool),
    /// Parameters and constants only.
    Fixed,
    /// The model's input; with the layers whose results reach it, by number.
    Batch(BTreeSet<usize>),
}

/// The walk over the operations.
struct Walk<'a> {
    recording: &'a Recording,
    origins: HashMap<TensorId, Origin>,
    layers: Layers,
    /// Layers that have parameters, by path.
    by_path: HashMap<String, usize>,
    /// Layers without, by what they are and read.
    by_reads: HashMap<(&'static str, BTreeSet<usize>), usize>,
}

/// The layers of a recorded forward.
///
/// A module whose weight a convolution or product reads is a layer with a weight, with its own path
/// and type; so is a normalization with its parameters. Sums, products and concatenations of tensors
/// of the batch, products of matrices, averages and activations whose results are on a grid of their
/// own are layers without parameters: their path is that of the module before them and their kind,
/// as `layer1.0.add`. Those of one kind that read the same layers are one layer, as in a loop.
pub(super) fn layers(recording: &Recording) -> Layers {
    let inputs = recording.inputs.iter();
    let inputs = inputs.map(|id| (*id, Origin::Batch(BTreeSet::new())));
    let parameters = recording.parameters.keys();
    let parameters = parameters.map(|id| (*id, Origin::Parameter(*id, false)));
    let mut walk = Walk {
        recording,
        origins: inputs.chain(parameters).collect(),
        layers: Layers::default(),
        by_path: HashMap::new(),
        by_reads: HashMap::new(),
    };
    for operation in &recording.operations {
        let passes = walk.operation(operation);
        walk.layers.passes.push(passes);
    }
    walk.layers
}

impl Walk<'_> {
    fn origin(&self, tensor: &TensorIr) -> Origin {
        let known = self.origins.get(&tensor.id).cloned();
        known.unwrap_or(Origin::Fixed)
    }

    fn is_batch(&self, tensor: &TensorIr) -> bool {
        tensor.dtype.is_float() && matches!(self.origin(tensor), Origin::Batch(_))
    }

    fn operation(&mut self, operation: &OperationIr) -> Passes {
        // What is given is known, and what is dropped is nothing.
        if matches!(operation, OperationIr::Init(_) | OperationIr::Drop(_)) {
            return Passes::default();
        }
        let mut passes = self.own_layer(operation);
        // What is left of the parameters belongs to the modules that have them.
        for tensor in operation.inputs() {
            if self.origin(tensor) == Origin::Parameter(tensor.id, false) {
                self.own(tensor.id, None);
            }
        }
        passes.reads.retain(|(id, ..)| {
            let origin = self.origins.get(id);
            matches!(origin, Some(Origin::Batch(_)))
        });
        let origin = self.made(operation, passes.makes.map(|(_, layer)| layer));
        for tensor in operation.outputs() {
            self.origins.insert(tensor.id, origin.clone());
        }
        passes
    }

    /// Where the results of an operation come from.
    fn made(&self, operation: &OperationIr, layer: Option<usize>) -> Origin {
        if let Some(layer) = layer.filter(|&l| !self.layers.all[l].description.leaves_grid) {
            return Origin::Batch(BTreeSet::from([layer]));
        }
        if let OperationIr::BaseFloat(op) = operation
            && let Some(Origin::Parameter(id, transposed)) =
                operation.inputs().next().map(|t| self.origin(t))
        {
            let turns = matches!(
                op,
                BaseOperationIr::SwapDims(_) | BaseOperationIr::Permute(_)
            );
            if turns || reshapes(op) {
                return Origin::Parameter(id, transposed != turns);
            }
        }
        let mut reads = BTreeSet::new();
        let mut of_batch = false;
        for tensor in operation.inputs() {
            if let Origin::Batch(layers) = self.origin(tensor) {
                of_batch = true;
                reads.extend(layers);
            }
        }
        match of_batch {
            true => Origin::Batch(reads),
            false => Origin::Fixed,
        }
    }

    /// The layer that an operation is, with its parameters and the tensors of its slots.
    fn own_layer(&mut self, operation: &OperationIr) -> Passes {
        match operation {
            OperationIr::Module(op) => self.module(op),
            OperationIr::Float(_, FloatOperationIr::Matmul(d)) => {
                match (self.origin(&d.lhs), self.origin(&d.rhs)) {
                    (Origin::Batch(_), Origin::Parameter(id, transposed)) => {
                        let axis = usize::from(!transposed);
                        self.weighted(id, axis, &d.lhs, None, &d.out)
                    }
                    (Origin::Parameter(id, transposed), Origin::Batch(_)) => {
                        let axis = usize::from(transposed);
                        self.weighted(id, axis, &d.rhs, None, &d.out)
                    }
                    (Origin::Batch(_), Origin::Batch(_)) => {
                        let slots = [("input", &d.lhs), ("other", &d.rhs)];
                        self.without_parameters("Matmul", &slots, &d.out)
                    }
                    _ => Passes::default(),
                }
            }
            OperationIr::NumericFloat(_, op) => self.numeric(op),
            OperationIr::BaseFloat(BaseOperationIr::Cat(d))
                if d.tensors.iter().all(|tensor| self.is_batch(tensor)) =>
            {
                let slots: Vec<_> = d.tensors.iter().map(|tensor| ("input", tensor)).collect();
                self.without_parameters("Concat", &slots, &d.out)
            }
            OperationIr::Float(_, FloatOperationIr::Tanh(d)) => {
                self.without_parameters("Tanh", &[("input", &d.input)], &d.out)
            }
            OperationIr::Activation(op) => self.activation(op),
            _ => Passes::default(),
        }
    }

    /// A sum or product of two tensors of the batch of one shape.
    fn numeric(&mut self, op: &NumericOperationIr) -> Passes {
        let (kind, d) = match op {
            NumericOperationIr::Add(d) => ("Add", d),
            NumericOperationIr::Mul(d) => ("Mul", d),
            _ => return Passes::default(),
        };
        let both = self.is_batch(&d.lhs) && self.is_batch(&d.rhs);
        if !both || d.lhs.shape != d.rhs.shape || d.lhs.id == d.rhs.id {
            return Passes::default();
        }
        self.without_parameters(kind, &[("input", &d.lhs), ("input", &d.rhs)], &d.out)
    }

    fn activation(&mut self, op: &Activation) -> Passes {
        let (kind, input, out) = match op {
            Activation::LeakyRelu(d) => ("LeakyRelu", &d.lhs, &d.out),
            Activation::PRelu(d) => return self.with_parameters(&d.rhs, &d.lhs, &d.out),
            Activation::Gelu(d) => ("Gelu", &d.input, &d.out),
            Activation::Sigmoid(d) => ("Sigmoid", &d.input, &d.out),
            Activation::LogSigmoid(d) => ("LogSigmoid", &d.input, &d.out),
            Activation::HardSigmoid(d) => ("HardSigmoid", &d.tensor, &d.out),
            Activation::Softmax(d) => ("Softmax", &d.input, &d.out),
            _ => return Passes::default(),
        };
        self.without_parameters(kind, &[("input", input)], out)
    }

    fn module(&mut self, op: &Module) -> Passes {
        macro_rules! weighted {
            ($d:ident, $axis:expr) => {
                match self.origin(&$d.weight) {
                    Origin::Parameter(id, _) => {
                        self.weighted(id, $axis, &$d.x, $d.bias.as_ref(), &$d.out)
                    }
                    _ => Passes::default(),
                }
            };
        }
        match op {
            Module::Linear(d) => weighted!(d, 1),
            Module::Conv1d(d) => weighted!(d, 0),
            Module::Conv2d(d) => weighted!(d, 0),
            Module::Conv3d(d) => weighted!(d, 0),
            Module::DeformableConv2d(d) => weighted!(d, 0),
            Module::ConvTranspose1d(d) => weighted!(d, 1),
            Module::ConvTranspose2d(d) => weighted!(d, 1),
            Module::ConvTranspose3d(d) => weighted!(d, 1),
            Module::Embedding(d) => match self.origin(&d.weights) {
                Origin::Parameter(id, _) => self.weighted(id, 1, &d.indices, None, &d.out),
                _ => Passes::default(),
            },
            Module::BatchNorm(d) => {
                self.running_statistics([&d.mean, &d.variance]);
                self.with_parameters(&d.gamma, &d.x, &d.out)
            }
            Module::LayerNorm(d) => self.with_parameters(&d.gamma, &d.input, &d.out),
            Module::Attention(d) => {
                let slots = [("query", &d.query), ("key", &d.key), ("value", &d.value)];
                self.without_parameters("Attention", &slots, &d.out)
            }
            Module::AvgPool1d(d) => self.average("AvgPool1d", &d.x, &d.out),
            Module::AvgPool2d(d) => self.average("AvgPool2d", &d.x, &d.out),
            Module::AdaptiveAvgPool1d(d) => self.average("AdaptiveAvgPool1d", &d.x, &d.out),
            Module::AdaptiveAvgPool2d(d) => self.average("AdaptiveAvgPool2d", &d.x, &d.out),
            Module::AdaptiveAvgPool3d(d) => self.average("AdaptiveAvgPool3d", &d.x, &d.out),
            _ => Passes::default(),
        }
    }

    fn average(&mut self, kind: &'static str, x: &TensorIr, out: &TensorIr) -> Passes {
        self.without_parameters(kind, &[("input", x)], out)
    }

    /// A layer whose weight is a parameter.
    fn weighted(
        &mut self,
        weight: TensorId,
        axis: usize,
        input: &TensorIr,
        bias: Option<&TensorIr>,
        out: &TensorIr,
    ) -> Passes {
        let layer = self.own(weight, Some(Slot::WEIGHT));
        let count = self.shape_of(weight).get(axis).copied().unwrap_or(1);
        let description = &mut self.layers.all[layer].description;
        description.weight = Some(Channels { axis, count });
        if let Some(Origin::Parameter(id, _)) = bias.map(|bias| self.origin(bias)) {
            self.own(id, None);
        }
        self.passes(layer, &[(Slot::INPUT, input)], out)
    }

    /// A layer with parameters, none of them a weight.
    fn with_parameters(&mut self, parameter: &TensorIr, x: &TensorIr, out: &TensorIr) -> Passes {
        match self.origin(parameter) {
            Origin::Parameter(id, _) => {
                let layer = self.own(id, None);
                self.passes(layer, &[(Slot::INPUT, x)], out)
            }
            _ => Passes::default(),
        }
    }

    /// Statistics are no parameters that a slot is for.
    fn running_statistics(&mut self, tensors: [&TensorIr; 2]) {
        for tensor in tensors {
            self.origins.insert(tensor.id, Origin::Fixed);
        }
    }

    /// A layer without parameters.
    fn without_parameters(
        &mut self,
        kind: &'static str,
        slots: &[(&'static str, &TensorIr)],
        out: &TensorIr,
    ) -> Passes {
        let mut reads = BTreeSet::new();
        for (_, tensor) in slots {
            match self.origin(tensor) {
                Origin::Batch(layers) => reads.extend(layers),
                _ => return Passes::default(),
            }
        }
        let known = self.by_reads.get(&(kind, reads.clone())).copied();
        let layer = known.unwrap_or_else(|| {
            let scope = reads
                .last()
                .map_or("", |&last| parent(&self.layers.all[last].path));
            let path = self.free_path(scope, &kind.to_lowercase());
            let layer = self.add(path, Description::new(kind).leaving_grid());
            self.by_reads.insert((kind, reads), layer);
            layer
        });
        self.passes(layer, slots, out)
    }

    fn passes(
        &mut self,
        layer: usize,
        slots: &[(&'static str, &TensorIr)],
        out: &TensorIr,
    ) -> Passes {
        let reads = slots.iter().filter(|(_, tensor)| tensor.dtype.is_float());
        for (slot, _) in reads.clone() {
            self.declare(layer, slot);
        }
        self.declare(layer, Slot::OUTPUT);
        self.declare(layer, Slot::ERROR);
        Passes {
            reads: reads
                .map(|(slot, tensor)| (tensor.id, layer, *slot))
                .collect(),
            makes: Some((out.id, layer)),
        }
    }

    /// The layer that a parameter belongs to, with a slot for it: of that name, or its own.
    fn own(&mut self, id: TensorId, name: Option<&'static str>) -> usize {
        if let Some((layer, _)) = self.layers.parameters.get(&id) {
            return *layer;
        }
        let parameter = &self.recording.parameters[&id];
        let (path, slot) = match name {
            // A weight by another name is a layer of its own: there may be several in one module.
            Some(name) if parameter.field != name => (parameter.key.clone(), name),
            _ => (parameter.layer.clone(), slot_of(parameter)),
        };
        let layer = match self.by_path.get(&path) {
            Some(&layer) => layer,
            None => {
                let description = Description::new(interned(&parameter.layer_type));
                let layer = self.add(path.clone(), description);
                self.by_path.insert(path, layer);
                layer
            }
        };
        self.declare(layer, slot);
        self.declare(layer, Slot::GRADIENT);
        self.layers.parameters.insert(id, (layer, slot));
        layer
    }

    fn declare(&mut self, layer: usize, slot: &'static str) {
        let slots = &mut self.layers.all[layer].description.slots;
        if !slots.contains(&slot) {
            slots.push(slot);
            slots.sort_by_key(|slot| (Slot::rank(slot), *slot));
        }
    }

    /// A layer without slots yet.
    fn add(&mut self, path: String, description: Description) -> usize {
        let description = Description {
            slots: Vec::new(),
            ..description
        };
        self.layers.all.push(Found { path, description });
        self.layers.all.len() - 1
    }

    fn shape_of(&self, parameter: TensorId) -> Vec<usize> {
        let tensors = self.recording.operations.iter().flat_map(|op| op.inputs());
        let found = tensors.into_iter().find(|tensor| tensor.id == parameter);
        found.map_or_else(Vec::new, |tensor| tensor.shape.iter().copied().collect())
    }

    /// A path that no layer has yet: `scope.kind`, `scope.kind2`, ...
    fn free_path(&self, scope: &str, kind: &str) -> String {
        let base = match scope {
            "" => kind.to_string(),
            scope => format!("{scope}.{kind}"),
        };
        let taken = |path: &str| self.layers.all.iter().any(|layer| layer.path == path);
        let numbered = (2..).map(|i| format!("{base}{i}"));
        let mut paths = std::iter::once(base.clone()).chain(numbered);
        paths.find(|path| !taken(path)).unwrap_or(base)
    }
}

/// The slot of a parameter: its name, where it is one of a slot.
pub(super) fn slot_of(parameter: &Parameter) -> &'static str {
    let of_batch = [Slot::INPUT, Slot::OUTPUT, Slot::ERROR, Slot::GRADIENT];
    let field = parameter.field.as_str();
    match Slot::is_name(field) && !of_batch.contains(&field) {
        true => interned(&parameter.field),
        false => interned(&format!("parameter_{}", parameter.field)),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Whether an operation hands on a tensor's numbers, in the same order, in another shape.
fn reshapes(op: &BaseOperationIr) -> bool {
    use BaseOperationIr as Op;
    matches!(
        op,
        Op::Reshape(_) | Op::Expand(_) | Op::Slice(_) | Op::RepeatDim(_) | Op::Cast(_)
    )
}
