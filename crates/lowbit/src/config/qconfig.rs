//! What is quantized in one layer.

use std::fmt;

use burn::tensor::Device;
use lowbit_formats::accumulate::Partial;
use lowbit_formats::{Accumulation, Format};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FLOAT_BITS;
use crate::Error;
use crate::quantizers::{AccumulatorConfig, Channels, PerSlot, QuantizerConfig, Quantizers, Slot};

/// How each tensor of a layer is quantized; a slot that is absent stays in float.
///
/// In TOML, a table with a key per slot, such as `weight = { method = "tqt", bits = 8 }`, and
/// `accumulator = { bits = 32 }`; `accumulate = "e6m9 chunk 64"` for sums in low precision; and
/// `share = ["weight", "bias"]` for parameters with one scale. The names of slots are in [`Slot`]; a
/// layer may have others. `docs/config.md` has every key.
///
/// # Example
/// ```
/// use lowbit::config::QConfig;
/// use lowbit::quantizers::{DorefaWeightConfig, QuantizerConfig};
///
/// let config = QConfig::new().with("weight", QuantizerConfig::DorefaWeight(DorefaWeightConfig::new(2)));
/// assert_eq!(config.get("weight").unwrap().bits(), 2);
/// assert!(config.get("input").is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QConfig {
    slots: PerSlot<QuantizerConfig>,
    /// The sum of its products or distances, before the bias.
    pub accumulator: Option<AccumulatorConfig>,
    /// How every sum of its products is made, forward and backward, where that is not in float.
    pub accumulate: Option<Accumulation>,
    /// Parameters that share one scale, none or at least two of them, or the threshold of neurons alone,
    /// which shares that of what they read; see [`Quantizers::share`]. In TOML,
    /// `share = ["weight", "bias"]`.
    pub share: Vec<Slot>,
}

/// Whether sums can be made of a layer's products: those of its result, of its input's gradient and of
/// its weight's, as far as the formats of input, weight and error are known.
///
/// # Errors
/// As [`Accumulation::check_operands`], and if products are finer than integers of the sums.
fn check_products(
    sums: &Accumulation,
    [input, weight, error]: [Option<&Format>; 3],
) -> Result<(), String> {
    for (left, right) in [(input, weight), (error, weight), (error, input)] {
        let Some((left, right)) = left.zip(right) else {
            continue;
        };
        let checked = sums.check_operands(left, right);
        checked.map_err(|error| error.to_string())?;
        let steps = left.integer_range().zip(right.integer_range());
        let (Partial::Integer(integers), Some((a, b))) = (sums.partial(), steps) else {
            continue;
        };
        let product = a.exponent + b.exponent;
        if sums.product().is_none() && product < integers.exponent() {
            let bits = integers.bits();
            return Err(format!(
                "products of {left} and {right} are multiples of 2^{product}, below the sums' unit; \
                 fixed({bits},{}) has that",
                -product
            ));
        }
    }
    Ok(())
}

impl QConfig {
    /// Everything in float.
    pub fn new() -> Self {
        Self::default()
    }

    /// Weight and input quantized with these bits, by what makes a quantizer of bits; 32 leave a tensor
    /// in float.
    pub(super) fn of_operands(
        weight_bits: u32,
        weight: impl Fn(u32) -> QuantizerConfig,
        input_bits: u32,
        input: impl Fn(u32) -> QuantizerConfig,
    ) -> Self {
        let below_float = |bits: u32| (bits < FLOAT_BITS).then_some(bits);
        Self::new()
            .with(Slot::WEIGHT, below_float(weight_bits).map(weight))
            .with(Slot::INPUT, below_float(input_bits).map(input))
    }

    /// Whether everything is in float.
    pub fn is_float(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it says something of the slot of that name.
    pub(super) fn names(&self, slot: &str) -> bool {
        match slot {
            Slot::ACCUMULATOR => self.accumulator.is_some(),
            Slot::ACCUMULATE => self.accumulate.is_some(),
            Slot::SHARE => !self.share.is_empty(),
            slot => self.get(slot).is_some(),
        }
    }

    /// The names of everything that it says something of, in order.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let others = [Slot::ACCUMULATOR, Slot::ACCUMULATE, Slot::SHARE];
        let others = others.into_iter().filter(|slot| self.names(slot));
        self.slots().map(|(slot, _)| slot).chain(others)
    }

    /// The slot of that name as `other` has it.
    pub(super) fn take(&mut self, slot: &str, other: &Self) {
        match slot {
            Slot::ACCUMULATOR => self.accumulator.clone_from(&other.accumulator),
            Slot::ACCUMULATE => self.accumulate.clone_from(&other.accumulate),
            Slot::SHARE => self.share.clone_from(&other.share),
            slot => self.set(slot, other.get(slot).cloned()),
        }
    }

    /// The same with this quantizer, or none, in the slot of that name.
    pub fn with(
        mut self,
        slot: impl Into<Slot>,
        quantizer: impl Into<Option<QuantizerConfig>>,
    ) -> Self {
        self.set(slot, quantizer);
        self
    }

    /// The same with the slot of that name in float.
    pub fn without(mut self, slot: &str) -> Self {
        self.slots.set(slot, None);
        self
    }

    /// The same with sums of that many bits, or unbounded ones.
    pub fn with_accumulator(self, bits: impl Into<Option<u32>>) -> Self {
        Self {
            accumulator: bits.into().map(|bits| AccumulatorConfig { bits }),
            ..self
        }
    }

    /// The same with sums of products that are made so, or in float.
    pub fn with_accumulate(self, accumulate: impl Into<Option<Accumulation>>) -> Self {
        Self {
            accumulate: accumulate.into(),
            ..self
        }
    }

    /// Puts this quantizer, or none, into the slot of that name.
    pub fn set(&mut self, slot: impl Into<Slot>, quantizer: impl Into<Option<QuantizerConfig>>) {
        self.slots.set(slot, quantizer.into());
    }

    /// The quantizer in the slot of that name.
    pub fn get(&self, slot: &str) -> Option<&QuantizerConfig> {
        self.slots.get(slot)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, slot: &str) -> Option<&mut QuantizerConfig> {
        self.slots.get_mut(slot)
    }

    /// Every slot that has a quantizer, by name, in order.
    pub fn slots(&self) -> impl Iterator<Item = (&str, &QuantizerConfig)> {
        self.slots.iter()
    }

    /// The same, to be changed.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = (&str, &mut QuantizerConfig)> {
        self.slots.iter_mut()
    }

    /// Whether every slot that is given can be built.
    pub fn check(&self) -> Result<(), Error> {
        for (slot, quantizer) in self.slots() {
            if !Slot::is_name(slot) {
                return Err(Error::config(slot, "is no name of a slot"));
            }
            quantizer.check(slot)?;
        }
        self.check_share()?;
        self.check_operands()?;
        self.check_accumulator_aware()?;
        let Some(accumulator) = &self.accumulator else {
            return Ok(());
        };
        if let Some(accumulate) = &self.accumulate {
            let message = format!("is `{accumulate}`, beside an accumulator");
            return Err(Error::config(Slot::ACCUMULATE, message));
        }
        accumulator.check()?;
        for slot in [Slot::INPUT, Slot::WEIGHT] {
            if let Some(quantizer) = self.get(slot) {
                quantizer.check_power_of_two(slot)?;
            }
        }
        Ok(())
    }

    /// Whether there is nothing to share a scale with: a threshold alone has that of the sums that its
    /// neurons read.
    fn shares_alone(&self) -> bool {
        matches!(&self.share[..], [slot] if slot.name() != Slot::THRESHOLD)
    }

    /// Whether what shares a scale can.
    fn check_share(&self) -> Result<(), Error> {
        if self.shares_alone() {
            let message = "names one slot, expected at least two";
            return Err(Error::config(Slot::SHARE, message));
        }
        for slot in &self.share {
            let message = match self.get(slot.name()) {
                None => format!("{slot} is in float"),
                Some(quantizer) if !quantizer.shares() => format!(
                    "{slot} is {}, expected range-linear with the scheme symmetric and one dynamic \
                     range",
                    quantizer.name()
                ),
                Some(_) => continue,
            };
            return Err(Error::config(Slot::SHARE, message));
        }
        Ok(())
    }

    /// Whether a weight whose sums fit an accumulator was told of inputs as wide as they are.
    fn check_accumulator_aware(&self) -> Result<(), Error> {
        let (Some(QuantizerConfig::A2q(weight)), Some(input)) =
            (self.get(Slot::WEIGHT), self.get(Slot::INPUT))
        else {
            return Ok(());
        };
        let (told, bits) = (weight.input_bits, input.bits());
        if bits <= told {
            return Ok(());
        }
        let message = format!("input_bits is {told}, beside an input of {bits} bits");
        Err(Error::config(Slot::WEIGHT, message))
    }

    /// Whether the sums can be made of what weight and input are rounded to.
    fn check_operands(&self) -> Result<(), Error> {
        self.check_sums(None)
    }

    /// The same where the weight itself has a format, if it is not rounded as it is read.
    pub(crate) fn check_sums(&self, of_weight: Option<&Format>) -> Result<(), Error> {
        let format = |slot| match self.get(slot) {
            Some(QuantizerConfig::Format(config)) => Some(&config.format),
            _ => None,
        };
        let Some(sums) = &self.accumulate else {
            return Ok(());
        };
        let weight = format(Slot::WEIGHT).or(of_weight);
        let formats = [format(Slot::INPUT), weight, format(Slot::ERROR)];
        let checked = check_products(sums, formats);
        checked.map_err(|message| Error::config(Slot::ACCUMULATE, message))
    }

    /// The usual width of the sums, where weight and input are quantized; `own_weight` is what the
    /// layer itself makes of its weight.
    pub(super) fn usual_accumulator(&self, own_weight: Option<&QuantizerConfig>) -> Option<u32> {
        let weight = own_weight.or(self.get(Slot::WEIGHT))?;
        let input = self.get(Slot::INPUT)?;
        Some(AccumulatorConfig::usual_bits(weight.bits(), input.bits()))
    }

    /// Whether an accumulator, if there is one, knows its step: the weight's times the input's,
    /// both powers of two. `own_weight` says that the layer quantizes its weight by itself.
    pub(super) fn check_accumulator(&self, own_weight: bool) -> Result<(), Error> {
        if self.accumulator.is_none() {
            return Ok(());
        }
        let present = [
            (Slot::INPUT, self.get(Slot::INPUT).is_some()),
            (Slot::WEIGHT, own_weight || self.get(Slot::WEIGHT).is_some()),
        ];
        match present.iter().find(|(_, present)| !present) {
            None => self.check(),
            Some((slot, _)) => Err(Error::config(
                Slot::ACCUMULATOR,
                format!("{slot} is in float, expected one with a power-of-two step"),
            )),
        }
    }

    /// The same without the slots for which `has` is false.
    pub fn restricted(mut self, has: impl Fn(&str) -> bool) -> Self {
        self.accumulator = self.accumulator.filter(|_| has(Slot::ACCUMULATOR));
        self.accumulate = self.accumulate.filter(|_| has(Slot::ACCUMULATE));
        self.share.retain(|slot| has(slot.name()));
        if self.shares_alone() {
            self.share.clear();
        }
        self.slots.retain(has);
        self
    }

    /// Builds the quantizers of a layer whose weight has the given channel dimension.
    ///
    /// # Panics
    /// With the line of [`check`](Self::check) where that is an error.
    pub fn init(&self, weight_channels: Option<Channels>, device: &Device) -> Quantizers {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        let slots = self.slots.clone().map(|slot, config| {
            let channels = weight_channels.filter(|_| slot == Slot::WEIGHT);
            config.init(channels, device)
        });
        let accumulator = self.accumulator.as_ref().map(AccumulatorConfig::init);
        Quantizers::new(slots, accumulator)
            .with_sums(self.accumulate.clone())
            .with_share(self.share.clone())
    }
}

impl Serialize for QConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let after = |slot: &str| Slot::from(slot) > Slot::from(Slot::ACCUMULATOR);
        let mut map = serializer.serialize_map(None)?;
        // Before the tables, as TOML has it.
        if !self.share.is_empty() {
            map.serialize_entry(Slot::SHARE, &self.share)?;
        }
        for (slot, quantizer) in self.slots().filter(|(slot, _)| !after(slot)) {
            map.serialize_entry(slot, quantizer)?;
        }
        if let Some(accumulator) = &self.accumulator {
            map.serialize_entry(Slot::ACCUMULATOR, accumulator)?;
        }
        if let Some(accumulate) = &self.accumulate {
            map.serialize_entry(Slot::ACCUMULATE, accumulate)?;
        }
        for (slot, quantizer) in self.slots().filter(|(slot, _)| after(slot)) {
            map.serialize_entry(slot, quantizer)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for QConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slots;

        impl<'de> Visitor<'de> for Slots {
            type Value = QConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of slots")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QConfig, A::Error> {
                let mut config = QConfig::new();
                while let Some(slot) = map.next_key::<Slot>()? {
                    if slot.name() == Slot::ACCUMULATOR {
                        config.accumulator = Some(map.next_value()?);
                        continue;
                    }
                    if slot.name() == Slot::ACCUMULATE {
                        config.accumulate = Some(map.next_value()?);
                        continue;
                    }
                    if slot.name() == Slot::SHARE {
                        config.share = map.next_value()?;
                        continue;
                    }
                    let known = Slot::NAMES.contains(&slot.name());
                    let quantizer: QuantizerConfig = match map.next_value() {
                        // It may be a word that was to be something else.
                        Err(error) if !known => {
                            return Err(A::Error::custom(format!("slot `{slot}`: {error}")));
                        }
                        quantizer => quantizer?,
                    };
                    config.set(slot, quantizer);
                }
                Ok(config)
            }
        }

        deserializer.deserialize_map(Slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::FormatQuantizerConfig;

    #[test]
    fn sums_are_of_operands_that_they_take() {
        let checked = |sums: &str, input: &str, weight: &str| {
            let format = |text: &str| {
                let config = FormatQuantizerConfig::new(text.parse().unwrap());
                Some(QuantizerConfig::Format(config))
            };
            let config = QConfig::new()
                .with(Slot::INPUT, format(input))
                .with(Slot::WEIGHT, format(weight))
                .with_accumulate(sums.parse().ok());
            config.check().map_err(|error| error.to_string())
        };
        checked("hopper-fp8", "e4m3", "e5m2").unwrap();
        let refused = checked("hopper-fp8", "bf16", "e4m3").unwrap_err();
        assert!(refused.starts_with("accumulate: "), "{refused}");
        assert!(
            refused.contains("bf16") && refused.contains("e4m3, e5m2"),
            "{refused}"
        );
        let refused = checked("int24", "fixed(8,6)", "fixed(8,6)").unwrap_err();
        assert!(refused.contains("fixed(24,12) has that"), "{refused}");
        checked("fixed(24,12)", "fixed(8,6)", "fixed(8,6)").unwrap();
        let refused = checked("int8", "fixed(8,0)", "fixed(8,0)").unwrap_err();
        assert!(refused.starts_with("accumulate: "), "{refused}");
    }

    /// As it was written when a layer's slots were fields.
    const TOML: &str = r#"[input]
method = "tqt"
bits = 8
per_channel = false
init = "kl-j"
retrain = true

[weight]
method = "dorefa-weight"
bits = 4

[accumulator]
bits = 32

[output]
method = "format"
format = "fixed(8,6)"
rounding = "nearest-even"
clamped = "pass"

[tau]
method = "dorefa-activation"
bits = 2
"#;

    #[test]
    fn a_bound_on_sums_knows_the_width_of_inputs() {
        let checked = |bits: u32| {
            let text = format!(
                "weight = {{ method = \"a2q\", bits = 6, input_bits = 4 }}
                input = {{ method = \"lsq\", bits = {bits} }}"
            );
            let config: QConfig = toml::from_str(&text).unwrap();
            config.check().map_err(|error| error.to_string())
        };
        assert!(checked(3).is_ok() && checked(4).is_ok());
        let told = checked(5).unwrap_err();
        assert_eq!(told, "weight: input_bits is 4, beside an input of 5 bits");
    }

    #[test]
    fn toml_has_a_table_per_slot_in_the_order_of_the_fields() {
        let config: QConfig = toml::from_str(TOML).unwrap();
        assert_eq!(toml::to_string(&config).unwrap(), TOML);
        let names: Vec<&str> = config.slots().map(|(slot, _)| slot).collect();
        assert_eq!(names, ["input", "weight", "output", "tau"]);
    }

    #[test]
    fn a_layer_of_your_own_may_have_slots_of_its_own() {
        let config: QConfig = toml::from_str("[mine]\nmethod = \"tqt\"\nbits = 8").unwrap();
        assert!(config.check().is_ok());
        let quantizers = config.init(None, &Device::flex());
        assert!(quantizers.get("mine").is_some() && quantizers.get("weight").is_none());
        let none = config.restricted(|slot| slot != "mine");
        assert_eq!(none, QConfig::default());
    }

    #[test]
    #[should_panic(expected = "weight: bits is 77, expected 2 to 24 (tqt)")]
    fn a_width_out_of_range_is_refused_where_the_layer_is_built() {
        let config = toml::from_str::<QConfig>("[weight]\nmethod = \"tqt\"\nbits = 77").unwrap();
        config.init(None, &Device::flex());
    }
}
