//! The layers of a network that have a weight, and which hands its result on to which, from a recording of
//! the forward.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::Module;
use burn::tensor::Tensor;
use burn_ir::{
    ActivationOperationIr, BaseOperationIr, ModuleOperationIr, OperationIr, TensorId, TensorIr,
};

use super::patches::Window;
use crate::Error;
use crate::capture::ModelInput;
use crate::capture::linear::with_linear_of;
use crate::capture::record::{Recording, record};
use crate::capture::replay::name;
use crate::ops::{Activation, Meaning, ProductKind, recorded_index};
use crate::quantizers::{Slot, marked, set_quantization};

/// Items of a batch in the recording.
const BATCH: usize = 2;

/// A convolution or a linear layer whose weight is a parameter that it alone reads.
#[derive(Debug, Clone)]
pub(super) struct Wired {
    /// Its path.
    pub(super) path: String,
    /// The path of its weight.
    pub(super) weight: String,
    /// That of its bias.
    pub(super) bias: Option<String>,
    /// That of the running mean of the normalization that alone reads its result.
    pub(super) mean: Option<String>,
    pub(super) kind: WiredKind,
}

/// How a weight meets the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WiredKind {
    /// `[in, out]`, every row of the input.
    Linear,
    /// `[out, in / groups, height, width]`, each place of the images.
    Conv2d(Window),
}

/// Two layers, of which the second alone reads the result of the first, with nothing between them but what
/// a positive factor of a channel passes through: rectifiers, poolings, other shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) first: String,
    pub(super) second: String,
}

/// What a recording shows of a network.
#[derive(Debug)]
pub(super) struct Wiring {
    /// In the order of the forward.
    pub(super) layers: Vec<Wired>,
    /// In the order of their first layers.
    pub(super) pairs: Vec<Pair>,
    /// Of each layer that no pair begins with, what comes after it.
    pub(super) ends: BTreeMap<String, String>,
}

impl Wiring {
    /// That of a network with its quantizers off, for the first item of `example`.
    ///
    /// # Errors
    /// If the forward cannot be recorded.
    pub(super) fn of<M: Module, I: ModelInput, const O: usize>(
        model: &M,
        example: &I,
        forward: &impl Fn(&M, I) -> Tensor<O>,
    ) -> Result<Self, Error> {
        let (float, _) = set_quantization(model.valid(), false, |_| true);
        let recording = marked(&float, || record(&float, example, BATCH, forward))?;
        let recording = with_linear_of(&recording, |op| !matches!(op, OperationIr::Init(_)));
        Ok(Reader::new(&recording).wiring())
    }

    /// The layer at a path.
    pub(super) fn layer(&self, path: &str) -> Option<&Wired> {
        self.layers.iter().find(|layer| layer.path == path)
    }
}

/// What an operation does with the tensor that it reads first.
enum Step {
    /// A positive factor of a channel stays one.
    Through(TensorId),
    /// The product with a weight.
    Product,
    /// A normalization by this running mean.
    Norm(TensorId),
    /// Anything else.
    Other(String),
}

/// A product of the recording.
struct FoundProduct<'a> {
    kind: WiredKind,
    inputs: [&'a TensorIr; 2],
    bias: Option<&'a TensorIr>,
    out: TensorId,
}

struct Reader<'a> {
    recording: &'a Recording,
    /// By the tensor that each makes.
    makers: HashMap<TensorId, &'a OperationIr>,
    /// By the tensors that each reads.
    readers: HashMap<TensorId, Vec<&'a OperationIr>>,
}

impl<'a> Reader<'a> {
    fn new(recording: &'a Recording) -> Self {
        let mut makers = HashMap::new();
        let mut readers: HashMap<_, Vec<_>> = HashMap::new();
        let operations = recording.operations.iter();
        for operation in operations.filter(|op| !matches!(op, OperationIr::Drop(_))) {
            makers.extend(operation.outputs().map(|out| (out.id, operation)));
            for tensor in operation.inputs() {
                readers.entry(tensor.id).or_default().push(operation);
            }
        }
        Self {
            recording,
            makers,
            readers,
        }
    }

    fn wiring(&self) -> Wiring {
        let mut layers: Vec<Wired> = Vec::new();
        let mut several = BTreeSet::new();
        let mut outs = Vec::new();
        let mut by_input = HashMap::new();
        for operation in &self.recording.operations {
            let Some(product) = self.product(operation) else {
                continue;
            };
            let Some(layer) = self.layer(&product) else {
                continue;
            };
            if layers.iter().any(|known| known.weight == layer.weight) {
                several.insert(layer.weight.clone());
            }
            by_input.insert(product.inputs[0].id, layer.path.clone());
            outs.push((layer.path.clone(), product.out));
            layers.push(layer);
        }
        layers.retain(|layer| !several.contains(&layer.weight));
        let known = |path: &String| layers.iter().any(|layer| layer.path == *path);
        let (mut pairs, mut ends) = (Vec::new(), BTreeMap::new());
        for (first, out) in outs.into_iter().filter(|(path, _)| known(path)) {
            match self
                .second(out, &by_input)
                .map(|second| (known(&second), second))
            {
                Ok((true, second)) => pairs.push(Pair { first, second }),
                Ok((false, second)) => {
                    ends.insert(first, format!("{second}, which is used more than once"));
                }
                Err(what) => {
                    ends.insert(first, what);
                }
            }
        }
        Wiring {
            layers,
            pairs,
            ends,
        }
    }

    /// What one operation is, where it is a product.
    fn product(&self, operation: &'a OperationIr) -> Option<FoundProduct<'a>> {
        let of = |kind, inputs, bias, out| FoundProduct {
            kind,
            inputs,
            bias,
            out,
        };
        match operation {
            OperationIr::Module(ModuleOperationIr::Conv2d(d)) => {
                let kind = WiredKind::Conv2d(Window::from(&d.options.clone().into()));
                Some(of(kind, [&d.x, &d.weight], d.bias.as_ref(), d.out.id))
            }
            OperationIr::Module(ModuleOperationIr::Linear(d)) => {
                let inputs = [&d.x, &d.weight];
                Some(of(WiredKind::Linear, inputs, d.bias.as_ref(), d.out.id))
            }
            OperationIr::Custom(d) => {
                let Meaning::Product { kind, has_bias, .. } = self.meaning(operation)? else {
                    return None;
                };
                let kind = match kind {
                    ProductKind::Conv2d(options) => WiredKind::Conv2d(Window::from(&options)),
                    ProductKind::Linear => WiredKind::Linear,
                    _ => return None,
                };
                let bias = d.inputs.get(2).filter(|_| has_bias);
                let out = operation.outputs().next()?.id;
                Some(of(kind, [&d.inputs[0], &d.inputs[1]], bias, out))
            }
            _ => None,
        }
    }

    /// The layer that makes a product, where its weight is a parameter with the slot `weight`.
    fn layer(&self, product: &FoundProduct<'a>) -> Option<Wired> {
        let (weight, place) = self.parameter(product.inputs[1].id)?;
        let (path, slot) = place?;
        if slot != Slot::WEIGHT {
            return None;
        }
        let bias = product.bias.and_then(|bias| self.parameter(bias.id));
        Some(Wired {
            path,
            weight,
            bias: bias.map(|(key, _)| key),
            mean: self.mean(product.out),
            kind: product.kind.clone(),
        })
    }

    /// The path of the parameter that a tensor is, unchanged, and the layer and slot where it was last
    /// seen.
    fn parameter(&self, tensor: TensorId) -> Option<(String, Option<(String, String)>)> {
        let (mut at, mut place) = (tensor, None);
        loop {
            if let Some(parameter) = self.recording.parameters.get(&at) {
                return Some((parameter.key.clone(), place));
            }
            let maker = *self.makers.get(&at)?;
            match (self.meaning(maker), maker) {
                (Some(Meaning::Mark(mark)), _) => {
                    place = place.or(Some((mark.layer, mark.slot)));
                }
                (Some(Meaning::Same | Meaning::Quantized(_)), _) => {}
                (_, OperationIr::BaseFloat(BaseOperationIr::Reshape(d)))
                    if without_ones(&d.input) == without_ones(&d.out) => {}
                _ => return None,
            }
            at = maker.inputs().next()?.id;
        }
    }

    /// The running mean of the normalization that alone reads a product.
    fn mean(&self, out: TensorId) -> Option<String> {
        let mut at = out;
        loop {
            match self.step(at, self.only_reader(at).ok()?) {
                Step::Norm(mean) => return Some(self.recording.parameters.get(&mean)?.key.clone()),
                Step::Through(next) if self.is_seen_only(at) => at = next,
                _ => return None,
            }
        }
    }

    /// Whether what reads a tensor leaves it as it is.
    fn is_seen_only(&self, tensor: TensorId) -> bool {
        let reader = self.only_reader(tensor).ok();
        let meaning = reader.and_then(|reader| self.meaning(reader));
        matches!(
            meaning,
            Some(Meaning::Same | Meaning::Mark(_) | Meaning::Quantized(_))
        )
    }

    /// The layer that alone reads a product, or what else comes after it.
    fn second(
        &self,
        out: TensorId,
        by_input: &HashMap<TensorId, String>,
    ) -> Result<String, String> {
        let mut at = out;
        loop {
            let reader = self.only_reader(at)?;
            at = match self.step(at, reader) {
                Step::Through(next) => next,
                Step::Product => {
                    let unknown = || "a layer whose weight is no parameter".to_string();
                    return by_input.get(&at).cloned().ok_or_else(unknown);
                }
                Step::Norm(_) => return Err("a normalization that is not merged".into()),
                Step::Other(what) => return Err(what),
            };
        }
    }

    fn only_reader(&self, tensor: TensorId) -> Result<&'a OperationIr, String> {
        if self.recording.outputs.contains(&tensor) {
            return Err("the network's result".into());
        }
        match self.readers.get(&tensor).map(Vec::as_slice) {
            Some([only]) => Ok(only),
            Some([_, ..]) => Err("several branches".into()),
            _ => Err("nothing".into()),
        }
    }

    fn meaning(&self, operation: &OperationIr) -> Option<Meaning> {
        let OperationIr::Custom(custom) = operation else {
            return None;
        };
        let own = &self.recording.own_operators;
        Meaning::of(own.get(recorded_index(custom)?)?)
    }

    /// What an operation makes of that tensor.
    fn step(&self, tensor: TensorId, operation: &'a OperationIr) -> Step {
        let other = || Step::Other(format!("operation {}", name(operation)));
        let out = operation.outputs().next().map(|out| out.id);
        if operation.inputs().next().map(|first| first.id) != Some(tensor) {
            return Step::Other("what is no layer".into());
        }
        if self.product(operation).is_some() {
            return Step::Product;
        }
        let through = |id: Option<TensorId>| id.map_or_else(other, Step::Through);
        match (self.meaning(operation), operation) {
            (Some(Meaning::Mark(_) | Meaning::Same | Meaning::Quantized(_)), _) => through(out),
            (Some(Meaning::Activation(Activation::Relu6)), _) => {
                Step::Other("relu6, which ends at 6 whatever the scale".into())
            }
            (Some(Meaning::Activation(_) | Meaning::Pool(_)), _) => through(out),
            (Some(Meaning::Norm { .. }), _) => self.norm(operation),
            (Some(Meaning::Add(_)), _) => Step::Other("the sum of branches".into()),
            (_, OperationIr::Module(ModuleOperationIr::BatchNorm(d))) => Step::Norm(d.mean.id),
            (_, OperationIr::Activation(ActivationOperationIr::Relu(_))) => through(out),
            (
                _,
                OperationIr::Module(
                    ModuleOperationIr::MaxPool2d(_)
                    | ModuleOperationIr::AvgPool2d(_)
                    | ModuleOperationIr::AdaptiveAvgPool2d(_),
                ),
            ) => through(out),
            (_, OperationIr::BaseFloat(BaseOperationIr::Reshape(d))) => {
                match keeps_channels(&d.input, &d.out) {
                    true => through(out),
                    false => other(),
                }
            }
            _ => other(),
        }
    }

    fn norm(&self, operation: &OperationIr) -> Step {
        match operation.inputs().nth(3) {
            Some(mean) => Step::Norm(mean.id),
            None => Step::Other("a normalization".into()),
        }
    }
}

/// A shape without the ones that it begins with.
fn without_ones(tensor: &TensorIr) -> &[usize] {
    let ones = tensor.shape.iter().take_while(|&&n| n == 1).count();
    &tensor.shape[ones..]
}

/// Whether each channel of an item, dimension 1, stays numbers beside each other, in order.
fn keeps_channels(from: &TensorIr, to: &TensorIr) -> bool {
    let (from, to) = (&from.shape, &to.shape);
    from.len() >= 2 && to.len() >= 2 && from[0] == to[0] && {
        let (channels, features) = (from[1], to[1]);
        let flat = to.len() == 2 && features.is_multiple_of(channels.max(1));
        flat || channels == features
    }
}

/// Where the channels of a layer's results are.
pub(super) struct ResultChannels {
    pub(super) count: usize,
    /// Numbers of a channel beside each other.
    pub(super) inner: usize,
}

impl Wired {
    /// Those of results of that shape.
    pub(super) fn channels(&self, shape: &[usize]) -> ResultChannels {
        let axis = match self.kind {
            WiredKind::Linear => shape.len() - 1,
            WiredKind::Conv2d(_) => 1,
        };
        ResultChannels {
            count: shape[axis],
            inner: shape[axis + 1..].iter().product::<usize>().max(1),
        }
    }
}
