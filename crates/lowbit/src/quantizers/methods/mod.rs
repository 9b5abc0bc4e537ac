//! The quantization methods, one a file, and the two enums over all of them.

mod a2q;
mod accumulator;
mod apot;
mod binary;
mod bit_shift;
mod constant;
mod dorefa;
mod format;
mod grouped;
mod learned_width;
mod lsq;
mod lsq_plus;
mod method;
mod pact;
mod progress;
mod range_linear;
mod range_source;
mod sawb;
mod shift;
mod ternary;
mod trained_threshold;
mod wage;
mod wrpn;

use burn::module::{Module, ParamId};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use a2q::{A2q, A2qConfig};
pub use accumulator::{Accumulator, AccumulatorConfig, Sums, Term};
pub use apot::{ApotActivation, ApotConfig, ApotWeight};
pub use binary::{Binary, BinaryConfig, XnorConfig, XnorGradient, XnorWeight};
pub use bit_shift::{BitShiftConfig, ShiftAlpha, ShiftTau};
pub use constant::{Constant, ConstantConfig};
pub use dorefa::{
    DorefaActivation, DorefaConfig, DorefaGradient, DorefaMaximum, DorefaScale, DorefaWeight,
    DorefaWeightConfig,
};
pub(crate) use format::{Draws, with_rounding};
pub use format::{FormatQuantizer, FormatQuantizerConfig, Hook, UNTRAINED_STEP, set_rounding};
pub use learned_width::{LearnedWidth, LearnedWidthConfig};
pub use lsq::{Lsq, LsqConfig};
pub use lsq_plus::{LsqPlus, LsqPlusConfig};
pub use method::{Calibration, Channels, Group, Learned, Role};
pub(crate) use method::{Fans, StatedGrid};
pub use pact::{Pact, PactConfig};
pub use progress::set_progress;
pub use range_linear::{RangeLinear, RangeLinearConfig, Scheme};
pub use range_source::RangeSource;
pub use sawb::{Sawb, SawbConfig};
pub(crate) use shift::unit_interval;
pub use shift::{Shift, ShiftConfig};
pub use ternary::{TtqConfig, TtqWeight, TwnConfig, TwnWeight};
pub use trained_threshold::{TrainedThreshold, TrainedThresholdConfig};
pub use wage::{NitiConfig, NitiWeight, WageConfig, WageLimit, WageWeight};
pub use wrpn::{WrpnClip, WrpnConfig, WrpnWeight};

use crate::Error;
use crate::ops::{GradientQuantization, Operand, Quantization, SumStep, has_way_back};
use crate::quantizers::integers::Integers;
use crate::quantizers::slot::Slot;
use crate::quantizers::watch::{Grids, Observed, Switch, is_measuring, is_observing};
use crate::quantizers::watch::{observe, quality};
use method::{Method, TensorKind};

/// Makes the enums over the methods, and hands what they are asked to the method.
macro_rules! methods {
    ($($(#[$doc:meta])* $Plan:ident($Config:ident) => $Variant:ident($Module:ident),)*) => {
        /// What a quantizer is to be, as plain data; in TOML, `{ method = "tqt", bits = 8 }`.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "method", rename_all = "kebab-case")]
        #[non_exhaustive]
        #[allow(
            clippy::large_enum_variant,
            reason = "a network has few, and they are read and not moved"
        )]
        pub enum QuantizerConfig {
            $($(#[$doc])* $Plan($Config),)*
        }

        impl QuantizerConfig {
            /// Builds the quantizer. `channels` is the tensor's channel dimension, where it has
            /// one.
            ///
            /// # Panics
            /// If the width is out of its range, with the line that says so.
            pub fn init(&self, channels: Option<Channels>, device: &Device) -> Quantizer {
                if let Err(error) = self.check_bits("quantizer") {
                    panic!("{error}");
                }
                match self {
                    $(Self::$Plan(config) => {
                        Quantizer::$Variant(<$Module as Method>::init(config, channels, device))
                    })*
                }
            }

            /// The text form of the method.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$Plan(_) => <$Module as Method>::NAME,)*
                }
            }

            /// Bits that hold one number.
            pub fn bits(&self) -> u32 {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::bits(config),)*
                }
            }

            /// Gives the quantizer another width; a format keeps its own.
            pub fn set_bits(&mut self, bits: u32) {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::set_bits(config, bits),)*
                }
            }

            /// Sets whether the parameters train or keep what calibration gives them.
            pub fn set_trained(&mut self, trained: bool) {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::set_trained(config, trained),)*
                }
            }

            /// The parameters that its quantizer has.
            pub fn learned(&self) -> &'static [Learned] {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::learned(config),)*
                }
            }

            /// Whether a function comes before the grid, so that of a weight is stored what the
            /// function makes the weight of.
            pub fn transforms(&self) -> bool {
                match self {
                    $(Self::$Plan(_) => <$Module as Method>::TRANSFORMS,)*
                }
            }

            /// Whether the results are integers times a power of two.
            pub fn has_integers(&self) -> bool {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::has_integers(config),)*
                }
            }

            /// Whether its tensor may share its scale with others.
            pub(crate) fn shares(&self) -> bool {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::shares(config),)*
                }
            }

            /// The largest magnitude of a first weight, where the method says it.
            pub(crate) fn first_bound(&self, fans: Fans) -> Option<f32> {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::first_bound(config, fans),)*
                }
            }

            /// The grid of its results, where the description says it.
            pub(crate) fn stated_grid(&self, fans: Fans) -> Option<StatedGrid> {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::stated_grid(config, fans),)*
                }
            }

            fn text(&self) -> String {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::text(config),)*
                }
            }

            fn bits_range(&self) -> Option<std::ops::RangeInclusive<u32>> {
                match self {
                    $(Self::$Plan(_) => <$Module as Method>::BITS,)*
                }
            }

            fn slots(&self) -> Option<&'static [&'static str]> {
                match self {
                    $(Self::$Plan(_) => <$Module as Method>::SLOTS,)*
                }
            }

            fn quantizes_gradients(&self) -> bool {
                match self {
                    $(Self::$Plan(_) => <$Module as Method>::GRADIENTS,)*
                }
            }

            fn check_others(&self, slot: &str) -> Result<(), Error> {
                match self {
                    $(Self::$Plan(config) => <$Module as Method>::check(config, slot),)*
                }
            }
        }

        /// How one tensor of one layer is quantized.
        #[derive(Module, Debug)]
        #[non_exhaustive]
        pub enum Quantizer {
            $($(#[$doc])* $Variant($Module),)*
        }

        impl Quantizer {
            /// Its parameters.
            pub fn learned(&self) -> &'static [Learned] {
                match self {
                    $(Self::$Variant(_) => <$Module as Method>::LEARNED,)*
                }
            }

            /// The integers that its results are, times powers of two, by its parameters as they
            /// are; `None` where they are not.
            pub fn integers(&self) -> Option<Integers> {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.integers(),)*
                }
            }

            fn switch(&self) -> &Switch {
                match self {
                    $(Self::$Variant(quantizer) => Method::switch(quantizer),)*
                }
            }

            fn backward(&self) -> GradientQuantization {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.backward(),)*
                }
            }

            fn of_gradient(&self) -> GradientQuantization {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.of_gradient(),)*
                }
            }

            fn quantization<const D: usize>(
                &self,
                x: &Tensor<D>,
                kind: TensorKind,
            ) -> Quantization {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.quantization(x, kind),)*
                }
            }

            /// The scale that the tensor alone would have, where it may share one.
            pub(super) fn own_scale<const D: usize>(&self, x: &Tensor<D>) -> Option<f32> {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.own_scale(x),)*
                }
            }

            fn composed<const D: usize>(
                &self,
                x: &Tensor<D>,
                shared: Option<f32>,
            ) -> Option<Tensor<D>> {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.composed(x, shared),)*
                }
            }

            fn observed(&self) -> Option<Observed> {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.observed(),)*
                }
            }

            fn measured(&self) -> Option<(ParamId, Grids)> {
                match self {
                    $(Self::$Variant(quantizer) => quantizer.measured(),)*
                }
            }
        }

        /// The parameter that is the field of that name of the module of that type, if it is a
        /// quantizer's.
        pub(super) fn learned_field(module: &str, field: &str) -> Option<&'static Learned> {
            let learned: &[Learned] = match module {
                $(_ if module == stringify!($Module) => <$Module as Method>::LEARNED,)*
                _ => &[],
            };
            learned.iter().find(|learned| learned.field == field)
        }

        /// What that parameter becomes in calibration.
        pub(crate) fn calibrated(module: &str, field: &str, calibration: &Calibration<'_>) -> Option<Vec<f32>> {
            match module {
                $(_ if module == stringify!($Module) => {
                    <$Module as Method>::calibrated(field, calibration)
                })*
                _ => None,
            }
        }

        /// Every parameter of every method, with the ends of their paths.
        pub(crate) fn learned_paths() -> impl Iterator<Item = (String, &'static Learned)> {
            let methods: [(&str, &[Learned]); _] =
                [$((stringify!($Variant), <$Module as Method>::LEARNED),)*];
            methods.into_iter().flat_map(|(variant, learned)| {
                learned.iter().map(move |learned| (format!("{variant}.{}", learned.field), learned))
            })
        }
    };
}

methods! {
    /// A fixed number format.
    Format(FormatQuantizerConfig) => Format(FormatQuantizer),
    /// Integers times a power of two, from a trained threshold.
    Tqt(TrainedThresholdConfig) => TrainedThreshold(TrainedThreshold),
    /// Multiples of a learned step.
    Lsq(LsqConfig) => Lsq(Lsq),
    /// DoReFa-Net, for a weight.
    DorefaWeight(DorefaWeightConfig) => DorefaWeight(DorefaWeight),
    /// DoReFa-Net, for an activation.
    DorefaActivation(DorefaConfig) => DorefaActivation(DorefaActivation),
    /// DoReFa-Net, for the gradient of an activation.
    DorefaGradient(DorefaConfig) => DorefaGradient(DorefaGradient),
    /// Values up to a learned clip, for an activation.
    Pact(PactConfig) => Pact(Pact),
    /// Values between ends that follow from the weight's statistics.
    Sawb(SawbConfig) => Sawb(Sawb),
    /// Multiples of a learned step from a learned offset, for an activation.
    LsqPlus(LsqPlusConfig) => LsqPlus(LsqPlus),
    /// Integers over a range.
    RangeLinear(RangeLinearConfig) => RangeLinear(RangeLinear),
    /// A format brought to the largest magnitude of each tensor.
    Shift(ShiftConfig) => Shift(Shift),
    /// WAGEUBN's for the gradient of a weight.
    Constant(ConstantConfig) => Constant(Constant),
    /// WAGE, for a weight.
    WageWeight(WageConfig) => WageWeight(WageWeight),
    /// NITI, for a weight.
    NitiWeight(NitiConfig) => NitiWeight(NitiWeight),
    /// WRPN, for a weight.
    WrpnWeight(WrpnConfig) => WrpnWeight(WrpnWeight),
    /// The sign.
    Binary(BinaryConfig) => Binary(Binary),
    /// The sign times a mean, for a weight.
    XnorWeight(XnorConfig) => XnorWeight(XnorWeight),
    /// Ternary values that follow from the weight.
    TwnWeight(TwnConfig) => TwnWeight(TwnWeight),
    /// Ternary values that are learned, for a weight.
    TtqWeight(TtqConfig) => TtqWeight(TtqWeight),
    /// Sums of powers of two under a learned scale, for a weight.
    ApotWeight(ApotConfig) => ApotWeight(ApotWeight),
    /// The same for an activation.
    ApotActivation(ApotConfig) => ApotActivation(ApotActivation),
    /// Integers whose sums fit an accumulator, for a weight.
    A2q(A2qConfig) => A2q(A2q),
    /// Fixed point of a learned width.
    LearnedWidth(LearnedWidthConfig) => LearnedWidth(LearnedWidth),
    /// Time constants that are powers of two.
    ShiftTau(BitShiftConfig) => ShiftTau(ShiftTau),
    /// Decays that a shift computes.
    ShiftAlpha(BitShiftConfig) => ShiftAlpha(ShiftAlpha),
}

/// What is known of a tensor that is to be quantized.
#[derive(Clone, Copy)]
pub(crate) enum Of<'a> {
    /// Each batch has its own. While the network is observed, whether it can never hold a negative
    /// number, where the layer that made it is known.
    Batch { never_negative: Option<bool> },
    /// A parameter of a layer, the same in every batch; one that is added to sums with that step.
    Parameter(Option<&'a SumStep>),
}

impl QuantizerConfig {
    /// Whether the method is one for the slot of that name, and every field is in its range.
    ///
    /// # Errors
    /// With the name of the slot.
    pub fn check(&self, slot: &str) -> Result<(), Error> {
        if let Some(slots) = self.slots()
            && !slots.contains(&slot)
        {
            let message = format!("{} is for {}", self.name(), slots.join(" or "));
            return Err(Error::config(slot, message));
        }
        if Slot::is_gradient(slot) && !self.quantizes_gradients() {
            let message = format!("is {}, expected a format", self.name());
            return Err(Error::config(slot, message));
        }
        self.check_others(slot)?;
        self.check_bits(slot)
    }

    fn check_bits(&self, slot: &str) -> Result<(), Error> {
        let (name, bits) = (self.name(), self.bits());
        match self.bits_range() {
            Some(range) if !range.contains(&bits) => {
                let (first, last) = (range.start(), range.end());
                let message = format!("bits is {bits}, expected {first} to {last} ({name})");
                Err(Error::config(slot, message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the results are integers times a power of two, as an accumulator needs them.
    pub(crate) fn check_power_of_two(&self, slot: &str) -> Result<(), Error> {
        if self.has_integers() {
            return Ok(());
        }
        let text = self.text();
        let message = format!("{slot} is {text}, expected one with a power-of-two step");
        Err(Error::config("accumulator", message))
    }
}

impl Quantizer {
    /// The tensor as an operand, with how the operator shall quantize it.
    pub fn operand<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        let never_negative = None;
        self.operand_of(x, Of::Batch { never_negative }, None)
    }

    /// The same for a tensor of which something is known, and which may share its scale.
    pub(super) fn operand_of<const D: usize>(
        &self,
        x: Tensor<D>,
        of: Of<'_>,
        shared: Option<f32>,
    ) -> Operand<D> {
        let (parameter, sum) = match of {
            Of::Batch { .. } => (false, None),
            Of::Parameter(sum) => (true, sum),
        };
        if is_observing() {
            if let Some(observed) = self.observed() {
                observe::record(&observed, &x, of);
            }
            return x.into();
        }
        let is_on = self.switch().is_on();
        if let Some(quantized) = is_on.then(|| self.composed(&x, shared)).flatten() {
            return quantized.into();
        }
        let quantization = is_on.then(|| {
            let kind = match parameter {
                true => TensorKind::Parameter,
                false => TensorKind::Batch,
            };
            let quantization = self.quantization(&x, kind);
            match sum {
                Some(step) => quantization.no_finer_than(step),
                None => quantization,
            }
        });
        if is_measuring()
            && let Some(quantization) = &quantization
            && let Some((id, mut grids)) = self.measured()
        {
            if let Some(step) = sum {
                grids.integers = grids.integers.no_finer_than(&step.exponents());
            }
            let quantized = quantization.clone().apply(x.clone());
            quality::record(id, &grids, &x, &quantized, parameter);
        }
        let both_ways = quantization.is_some() && has_way_back(&x.device());
        let gradient = both_ways.then(|| self.backward());
        Operand::new(x, quantization).with_gradient(gradient.unwrap_or_default())
    }

    /// What becomes of the gradient of a tensor on that device on its way back.
    pub(super) fn on_the_way_back(&self, device: &Device) -> GradientQuantization {
        if !has_way_back(device) || is_observing() || !self.switch().is_on() {
            return GradientQuantization::default();
        }
        self.of_gradient()
    }
}
