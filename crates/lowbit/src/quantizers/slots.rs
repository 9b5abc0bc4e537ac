//! The quantizers of one layer.

mod products;

pub(crate) use products::Parameters;

use std::fmt;

use burn::module::{
    Content, Devices, Flag, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper,
    ModuleVisitor, Param, Reparameterization,
};
use burn::tensor::{Device, Tensor};
use lowbit_formats::{Accumulation, Rounding};

use crate::ops::{GradientQuantization, Operand, ProductSums, quantize_gradient};
use crate::quantizers::lower::with_pending;
use crate::quantizers::methods::{Accumulator, Draws, Of, Quantizer};
use crate::quantizers::shared_scale::SharedScale;
use crate::quantizers::slot::{PerSlot, Slot};
use crate::quantizers::watch::{Signs, observe, tap};

/// The quantizers of a layer, by slot. A slot without one costs nothing.
///
/// To Burn this is a module with one field per slot, so that a parameter's path is such as
/// `conv1.quantizers.weight.TrainedThreshold.log2_threshold`.
#[derive(Debug, Clone)]
pub struct Quantizers {
    slots: PerSlot<Quantizer>,
    /// Saturates the sum of its sums.
    pub accumulator: Option<Accumulator>,
    /// Tells this layer from all others, so that taps can find it; its value says nothing.
    pub identity: Param<Flag>,
    signs: Signs,
    sums: Option<LayerSums>,
    /// Those with one scale.
    share: Vec<Slot>,
}

/// How a layer makes its sums.
#[derive(Debug, Clone)]
struct LayerSums {
    accumulation: Accumulation,
    draws: Draws,
}

impl Default for Quantizers {
    /// A layer that quantizes nothing.
    fn default() -> Self {
        Self::new(PerSlot::default(), None)
    }
}

impl Quantizers {
    /// A layer with these quantizers, and an accumulator for its sums if they have a width.
    pub fn new(slots: PerSlot<Quantizer>, accumulator: Option<Accumulator>) -> Self {
        Self {
            slots,
            accumulator,
            identity: Param::from_bool(false),
            signs: Signs::default(),
            sums: None,
            share: Vec::new(),
        }
    }

    /// The same with one scale for all of these slots; see [`share`](Self::share).
    pub fn with_share(self, share: Vec<Slot>) -> Self {
        Self { share, ..self }
    }

    /// The same for a layer whose results have these signs.
    pub fn with_signs(self, signs: Signs) -> Self {
        Self { signs, ..self }
    }

    /// The same for a layer whose sums are made so, or in float.
    pub fn with_sums(self, sums: Option<Accumulation>) -> Self {
        let sums = sums.map(|accumulation| LayerSums {
            accumulation,
            draws: Draws::new(),
        });
        Self { sums, ..self }
    }

    /// Whether the layer's sums are made in float.
    pub(crate) fn sums_are_in_float(&self) -> bool {
        self.sums.is_none()
    }

    /// How the layer's sums are made, where that is not in float. Each call draws other random
    /// numbers, where a rounding takes some.
    pub fn sums(&self) -> Option<ProductSums> {
        let LayerSums {
            accumulation,
            draws,
        } = self.sums.as_ref()?;
        let sums = ProductSums::from(accumulation.clone());
        Some(match accumulation.rounding() {
            Rounding::Stochastic { .. } => sums.with_seed(draws.seed()),
            _ => sums,
        })
    }

    /// The quantizer in the slot of that name.
    pub fn get(&self, slot: &str) -> Option<&Quantizer> {
        self.slots.get(slot)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, slot: &str) -> Option<&mut Quantizer> {
        self.slots.get_mut(slot)
    }

    /// The slot of the parameter that they quantize, where it is one.
    fn parameter_slot(&self) -> Option<&str> {
        let slots = self.slots.iter().map(|(slot, _)| slot);
        let mut parameters = slots.filter(|slot| !Slot::is_gradient(slot));
        parameters.next().filter(|_| parameters.next().is_none())
    }

    /// A tensor of the layer that each batch has of its own, as an operand.
    pub fn activation<const D: usize>(&self, slot: &str, x: Tensor<D>) -> Operand<D> {
        let never_negative = observe::reads(self.identity.id, &x);
        self.seen_operand(slot, x, Of::Batch { never_negative })
    }

    /// A parameter of the layer, as an operand.
    pub fn parameter<const D: usize>(&self, slot: &str, x: Tensor<D>) -> Operand<D> {
        let gradient = self.gradient(Slot::GRADIENT, &x.device());
        let operand = self.seen_operand(slot, x, Of::Parameter(None));
        operand.with_own_gradient(gradient)
    }

    /// The layer's input, as an operand.
    pub fn input<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        self.activation(Slot::INPUT, x)
    }

    /// The layer's weight, as an operand.
    pub fn weight<const D: usize>(&self, weight: Tensor<D>) -> Operand<D> {
        if !self.awaits_scale(Slot::WEIGHT) {
            return self.parameter(Slot::WEIGHT, weight);
        }
        let gradient = self.gradient(Slot::GRADIENT, &weight.device());
        Operand::from(self.tap(Slot::WEIGHT, weight)).with_own_gradient(gradient)
    }

    /// The scale that a parameter alone would have, `max |x| / (2^(bits - 1) - 1)`, if its slot is one
    /// of those that share one; to be handed to [`share`](Self::share).
    pub fn own_scale<const D: usize>(&self, slot: &str, x: &Tensor<D>) -> Option<f32> {
        let quantizer = self.get(slot).filter(|_| self.shares(slot))?;
        quantizer.own_scale(x)
    }

    /// Gives the parameters that share a scale the largest of these, with the zero point 0, until what
    /// is returned is dropped, so that their ratios survive (aquatic's `calculate_qparams_lif`, for
    /// weight, bias and threshold). A layer that hands its tensors to
    /// [`accumulate`](Self::accumulate) need not call it for weight and bias alone.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lowbit::config::QConfig;
    ///
    /// let config: QConfig = toml::from_str(
    ///     "share = [\"weight\", \"threshold\"]
    ///     weight = { method = \"range-linear\", bits = 3, scheme = \"symmetric\" }
    ///     threshold = { method = \"range-linear\", bits = 8, scheme = \"symmetric\" }",
    /// )?;
    /// let device = Device::flex();
    /// let quantizers = config.init(None, &device);
    /// let weight = Tensor::<2>::from_floats([[1.5, -0.6]], &device);
    /// let threshold = Tensor::<1>::from_floats([2.2], &device);
    /// // 1.5 / 3 is above 2.2 / 127.
    /// let shared = quantizers.share([
    ///     quantizers.own_scale("weight", &weight),
    ///     quantizers.own_scale("threshold", &threshold),
    /// ]);
    /// let read = |x: Tensor<1>| x.into_data().iter::<f32>().collect::<Vec<_>>();
    /// let weight = quantizers.weight(weight).quantized();
    /// assert_eq!(read(weight.reshape([2])), [1.5, -0.5]);
    /// assert_eq!(read(quantizers.parameter("threshold", threshold).quantized()), [2.0]);
    /// # drop(shared);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn share(&self, scales: impl IntoIterator<Item = Option<f32>>) -> Option<SharedScale> {
        let largest = scales.into_iter().flatten().reduce(f32::max)?;
        Some(SharedScale::new(self.identity.id, largest))
    }

    /// Whether a slot is one of those that share a scale.
    fn shares(&self, slot: &str) -> bool {
        self.share.iter().any(|name| name.name() == slot)
    }

    /// Whether a slot shares a scale that is not known yet.
    pub(crate) fn awaits_scale(&self, slot: &str) -> bool {
        self.shares(slot) && SharedScale::of(self.identity.id).is_none()
    }

    /// The layer's bias, as an operand.
    pub fn bias(&self, bias: Tensor<1>) -> Operand<1> {
        self.parameter(Slot::BIAS, bias)
    }

    /// The layer's output, quantized; on the way back, the error that reaches it.
    pub fn output<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        let y = self.quantized_output(y);
        self.on_the_way_back(Slot::ERROR, y)
    }

    fn quantized_output<const D: usize>(&self, y: Tensor<D>) -> Tensor<D> {
        let never_negative = observe::makes(self.identity.id, self.signs, &y);
        let quantized = self.operand(Slot::OUTPUT, y, Of::Batch { never_negative });
        self.tap(Slot::OUTPUT, quantized.quantized())
    }

    /// The tensor; the quantizer in that slot quantizes its gradient on the way back.
    pub(crate) fn on_the_way_back<const D: usize>(&self, slot: &str, x: Tensor<D>) -> Tensor<D> {
        let gradient = self.gradient(slot, &x.device());
        quantize_gradient(x, gradient)
    }

    /// What the quantizer in that slot does to the gradient of a tensor there.
    pub(crate) fn gradient(&self, slot: &str, device: &Device) -> GradientQuantization {
        let quantizer = self.slots.get(slot);
        quantizer.map_or_else(GradientQuantization::default, |quantizer| {
            quantizer.on_the_way_back(device)
        })
    }

    fn tap<const D: usize>(&self, slot: &str, x: Tensor<D>) -> Tensor<D> {
        tap::pass(self.identity.id, slot, x)
    }

    /// The operand, of which taps see the tensor and what the operator reads.
    fn seen_operand<const D: usize>(&self, slot: &str, x: Tensor<D>, of: Of<'_>) -> Operand<D> {
        let operand = self.operand(slot, self.tap(slot, x), of);
        tap::read(self.identity.id, slot, &operand);
        operand
    }

    fn operand<const D: usize>(&self, slot: &str, x: Tensor<D>, of: Of<'_>) -> Operand<D> {
        match self.slots.get(slot) {
            Some(quantizer) => {
                let shares = self.shares(slot);
                let shared = shares.then(|| SharedScale::of(self.identity.id)).flatten();
                quantizer.operand_of(x, of, shared)
            }
            None => x.into(),
        }
    }
}

/// The quantizers of one parameter, inside of it.
impl Reparameterization for Quantizers {
    const NAME: &'static str = "quantizers";

    /// The parameter whose slot they have, quantized.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        match self.parameter_slot() {
            Some(slot) => self.parameter(slot, base).quantized(),
            None => base,
        }
    }
}

/// What walks over modules are told of the fields.
const CONTAINER: &str = "Struct:Quantizers";
const IDENTITY: &str = "identity";

/// Whether a slot comes before the accumulator.
fn is_before_sum(slot: &str) -> bool {
    Slot::rank(slot) < Slot::rank(Slot::ACCUMULATOR)
}

/// What `derive(Module)` would make of a struct with a field per slot.
impl Module for Quantizers {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        let visit_slots = |visitor: &mut V, before_sum: bool| {
            let slots = self.slots.iter();
            for (slot, quantizer) in slots.filter(|(slot, _)| is_before_sum(slot) == before_sum) {
                visitor.enter_module(slot, CONTAINER);
                quantizer.visit(visitor);
                visitor.exit_module(slot, CONTAINER);
            }
        };
        visit_slots(visitor, true);
        visitor.enter_module(Slot::ACCUMULATOR, CONTAINER);
        self.accumulator.visit(visitor);
        visitor.exit_module(Slot::ACCUMULATOR, CONTAINER);
        visit_slots(visitor, false);
        visitor.enter_module(IDENTITY, CONTAINER);
        self.identity.visit(visitor);
        visitor.exit_module(IDENTITY, CONTAINER);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let map_slots = |mapper: &mut M, slots: PerSlot<Quantizer>| {
            slots.map(|slot, quantizer| {
                mapper.enter_module(slot, CONTAINER);
                let quantizer = quantizer.map(mapper);
                mapper.exit_module(slot, CONTAINER);
                quantizer
            })
        };
        let (before, after) = self.slots.split(is_before_sum);
        let before = map_slots(mapper, before);
        mapper.enter_module(Slot::ACCUMULATOR, CONTAINER);
        let accumulator = Module::map(self.accumulator, mapper);
        mapper.exit_module(Slot::ACCUMULATOR, CONTAINER);
        let after = map_slots(mapper, after);
        mapper.enter_module(IDENTITY, CONTAINER);
        let identity = Module::map(self.identity, mapper);
        mapper.exit_module(IDENTITY, CONTAINER);
        Self {
            slots: with_pending(before.and(after)),
            accumulator,
            identity,
            signs: self.signs,
            sums: self.sums.clone(),
            share: self.share.clone(),
        }
    }

    fn collect_devices(&self, mut devices: Devices) -> Devices {
        for (_, quantizer) in self.slots.iter() {
            devices = quantizer.collect_devices(devices);
        }
        devices = self.accumulator.collect_devices(devices);
        self.identity.collect_devices(devices)
    }

    fn to_device(self, device: &Device) -> Self {
        Self {
            slots: self.slots.map(|_, quantizer| quantizer.to_device(device)),
            accumulator: self.accumulator.to_device(device),
            identity: Module::to_device(self.identity, device),
            signs: self.signs,
            sums: self.sums.clone(),
            share: self.share.clone(),
        }
    }

    fn fork(self, device: &Device) -> Self {
        Self {
            slots: self.slots.map(|_, quantizer| quantizer.fork(device)),
            accumulator: self.accumulator.fork(device),
            identity: Module::fork(self.identity, device),
            signs: self.signs,
            sums: self.sums.clone(),
            share: self.share.clone(),
        }
    }

    fn valid(&self) -> Self {
        Self {
            slots: self.slots.clone().map(|_, quantizer| quantizer.valid()),
            accumulator: self.accumulator.valid(),
            identity: Module::valid(&self.identity),
            signs: self.signs,
            sums: self.sums.clone(),
            share: self.share.clone(),
        }
    }

    fn train(self) -> Self {
        Self {
            slots: self.slots.map(|_, quantizer| quantizer.train()),
            accumulator: self.accumulator.train(),
            identity: Module::train(self.identity),
            signs: self.signs,
            sums: self.sums.clone(),
            share: self.share.clone(),
        }
    }

    fn materialize(self) -> Self {
        Self {
            slots: self.slots.map(|_, quantizer| quantizer.materialize()),
            accumulator: self.accumulator.materialize(),
            identity: Module::materialize(self.identity),
            signs: self.signs,
            sums: self.sums.clone(),
            share: self.share.clone(),
        }
    }
}

impl ModuleDisplayDefault for Quantizers {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content.set_top_level_type("Quantizers");
        let slots = self.slots.iter();
        let content = slots.fold(content, |content, (slot, quantizer)| {
            content.add(slot, quantizer)
        });
        let accumulator = self.accumulator.iter();
        let content = accumulator.fold(content, |content, accumulator| {
            content.add(Slot::ACCUMULATOR, accumulator)
        });
        content.optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for Quantizers {}

impl fmt::Display for Quantizers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(Default::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::quantizers::{
        AccumulatorConfig, ModulePath, QuantizerConfig, TrainedThresholdConfig,
    };

    /// The struct that these quantizers were before slots became a list.
    #[derive(Module, Debug)]
    struct Fields {
        input: Option<Quantizer>,
        bias: Option<Quantizer>,
        accumulator: Option<Accumulator>,
        output: Option<Quantizer>,
        identity: Param<Flag>,
    }

    #[derive(Default)]
    struct Walk {
        path: ModulePath,
        seen: Vec<String>,
    }

    impl Walk {
        fn note(&mut self) {
            let holder = self.path.holder_type();
            self.seen.push(format!("{} {holder}", self.path.key()));
        }
    }

    impl ModuleVisitor for Walk {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
            self.note();
        }

        fn visit_flag(&mut self, _flag: &Param<Flag>) {
            self.note();
        }
    }

    impl ModuleMapper for Walk {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.note();
            param
        }

        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            self.note();
            flag
        }
    }

    #[test]
    fn walks_see_a_struct_with_a_field_per_slot() {
        let config = QuantizerConfig::Tqt(TrainedThresholdConfig::new(8));
        let quantizer = || Some(config.init(None, &Device::flex()));
        let accumulator = AccumulatorConfig { bits: 32 }.init();
        let mut slots = PerSlot::default();
        for slot in ["output", "bias", "input"] {
            slots.set(slot, quantizer());
        }
        let open = Quantizers::new(slots, Some(accumulator.clone()));
        let fields = Fields {
            input: quantizer(),
            bias: quantizer(),
            accumulator: Some(accumulator),
            output: quantizer(),
            identity: Param::from_bool(false),
        };
        let mut expected = Walk::default();
        fields.visit(&mut expected);
        let expected: Vec<String> = expected
            .seen
            .iter()
            .map(|at| at.replace("Fields", "Quantizers"))
            .collect();
        assert_eq!(expected.len(), 15);
        let mut visited = Walk::default();
        open.visit(&mut visited);
        assert_eq!(visited.seen, expected);
        let mut mapped = Walk::default();
        let open = open.map(&mut mapped);
        assert_eq!(mapped.seen, expected);
        assert_eq!(open.devices(), fields.devices());
        assert_eq!(Module::num_params(&open), Module::num_params(&fields));
    }
}
