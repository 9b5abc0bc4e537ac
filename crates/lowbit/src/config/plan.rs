//! What is quantized in a network.

use std::iter;

use serde::{Deserialize, Serialize};

use super::which::Which;
use super::{PathRegex, Position, QConfig, SumWidth, TqtPlan, TqtWidths};
use crate::Error;
use crate::quantizers::{DorefaConfig, DorefaWeightConfig, PerSlot, QuantizerConfig, Role, Slot};

/// How a network is quantized: a default, and what differs from it.
///
/// `default` is for layers with a weight (convolutions, `Linear`, `Embedding`, `Adder2d`, recurrent
/// spiking neurons), except the first and the last of them, which have `first` and `last` and stay in
/// float unless those say otherwise; `unweighted` is for layers that compute without one. Of all these
/// a layer takes the slots that it has. Then each of `overrides` that matches a layer, of any type,
/// replaces all its slots, or those that it names, in order, so that the last one wins.
/// `docs/config.md` describes every key.
///
/// In TOML:
///
/// ```toml
/// [default]
/// weight = { method = "dorefa-weight", bits = 4 }
/// input = { method = "dorefa-activation", bits = 4 }
/// [last]
/// weight = { method = "dorefa-weight", bits = 8 }
/// [[overrides]]
/// path = "layer2.*.conv1"
/// config.weight = { method = "format", format = "fixed(8,6)" }
/// [[overrides]]
/// regex = "downsample|shortcut"
/// set.weight = { method = "dorefa-weight", bits = 8 }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QPlan {
    /// Of layers with a weight, but for the first and the last.
    #[serde(default)]
    pub default: QConfig,
    /// Of the first layer with a weight.
    #[serde(default)]
    pub first: QConfig,
    /// Of the last layer with a weight.
    #[serde(default)]
    pub last: QConfig,
    /// Of layers without a weight whose results are not on their inputs' grid: sums, products,
    /// averages, most activations, normalizations but `BatchNorm`. `docs/config.md` lists them.
    #[serde(default)]
    pub unweighted: QConfig,
    /// Whether a convolution and the batch normalization after it are one quantized layer.
    #[serde(default, skip_serializing_if = "Fold::is_off")]
    pub fold: Fold,
    /// Of layers chosen by path or type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Other widths for some layers, applied last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub widths: Vec<Widths>,
    /// Widths of weight and input of each layer with a weight, in order; empty, or one for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_widths: Vec<u32>,
}

/// Whether a convolution and the batch normalization that alone reads it are quantized as one
/// layer, with the weight `w gamma / sqrt(variance + epsilon)` and the bias
/// `beta - mean gamma / sqrt(variance + epsilon)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fold {
    /// They are two layers.
    #[default]
    Off,
    /// The quantizers see the folded weight and bias, which are computed in every step from both
    /// layers' parameters: with the statistics of the batch until those are frozen, then with the
    /// running ones.
    Training,
    /// The normalization is gone for good, and the convolution has a bias.
    Merged,
}

impl Fold {
    /// Whether they are two layers.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// Widths for the layers that match a path pattern, a regular expression, a type and a position, each
/// where given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widths {
    /// A layer path in which `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What a layer path has somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<PathRegex>,
    /// A layer type, such as `Conv2d`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub layer_type: Option<String>,
    /// Places among the layers with a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Bits for each slot; in TOML, keys beside those, such as `weight = 6`.
    #[serde(flatten)]
    pub bits: PerSlot<u32>,
}

impl Widths {
    /// These widths for all layers of that path.
    pub fn of_path(path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    /// The same with that width for the slot of that name.
    pub fn with(mut self, slot: impl Into<Slot>, bits: u32) -> Self {
        self.bits.set(slot, Some(bits));
        self
    }

    /// The layers that they are for.
    pub(super) fn which(&self) -> Which<'_> {
        Which {
            path: self.path.as_deref(),
            regex: self.regex.as_ref(),
            layer_type: self.layer_type.as_deref(),
            position: self.position.as_ref(),
        }
    }

    /// Gives the quantizers that `config` has their widths.
    pub(super) fn apply(&self, config: &mut QConfig) {
        for (slot, quantizer) in config.slots_mut() {
            if let Some(&bits) = self.bits.get(slot) {
                quantizer.set_bits(bits);
            }
        }
        let accumulator = config.accumulator.as_mut();
        if let Some((sum, &bits)) = accumulator.zip(self.bits.get(Slot::ACCUMULATOR)) {
            sum.bits = bits;
        }
    }
}

/// What the layers quantize that match a path pattern, a regular expression, a type and a position,
/// each where given.
///
/// `config` takes the place of everything that they would use. With `set` or `float` an override
/// changes the slots that those name instead, of the layers that have them, and leaves the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// A layer path in which `*` stands for any characters, such as `layer1.*.conv1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What a layer path has somewhere, such as `^layer[12]\\.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<PathRegex>,
    /// A layer type, such as `Conv2d`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub layer_type: Option<String>,
    /// Places among the layers with a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Whether it may match no layer, as in a plan for several networks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Slots that are in float.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub float: Vec<Slot>,
    /// What those layers use, in place of everything they would; the empty one leaves them in
    /// float.
    #[serde(default, skip_serializing_if = "QConfig::is_float")]
    pub config: QConfig,
    /// What the slots that it names get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<QConfig>,
}

impl Override {
    /// What the slots get that it names, if it changes those alone; one in `float` gets nothing.
    pub(super) fn partial(&self) -> Option<QConfig> {
        let is_partial = self.set.is_some() || !self.float.is_empty();
        is_partial.then(|| self.set.clone().unwrap_or_default())
    }

    /// The layers that it is for.
    pub(super) fn which(&self) -> Which<'_> {
        Which {
            path: self.path.as_deref(),
            regex: self.regex.as_ref(),
            layer_type: self.layer_type.as_deref(),
            position: self.position.as_ref(),
        }
    }

    /// Whether it can be built.
    fn check(&self) -> Result<(), Error> {
        let Some(set) = self.partial() else {
            return self.config.check();
        };
        if !self.config.is_float() {
            let message = "stands beside `set` or `float`, which leave the other slots as they are";
            return Err(Error::config("config", message));
        }
        if let Some(slot) = self.float.iter().find(|slot| set.names(slot.name())) {
            return Err(Error::config("float", format!("{slot} is set, too")));
        }
        set.check().map_err(|e| e.within("set"))
    }
}

/// Of overrides or widths that are for no layers.
const NAMES_NOTHING: &str = "names no path, regex, type or position";

impl QPlan {
    /// Nothing quantized.
    pub fn float() -> Self {
        Self::default()
    }

    /// DoReFa-Net: weights and inputs of every layer but the first and the last, which stay in
    /// float (arXiv 1606.06160, section 2.7). 32 bits leave a tensor in float.
    pub fn dorefa(weight_bits: u32, activation_bits: u32) -> Self {
        let weight = |bits| QuantizerConfig::DorefaWeight(DorefaWeightConfig::new(bits));
        let input = |bits| QuantizerConfig::DorefaActivation(DorefaConfig { bits });
        let layer = QConfig::of_operands(weight_bits, weight, activation_bits, input);
        Self {
            default: layer,
            ..Self::default()
        }
    }

    /// TQT: weights and inputs of every layer, the first and the last with at least 8 bits
    /// (arXiv 1903.08066, section 6), from three standard deviations and from KL-J (table 2),
    /// the network's input from the maximum. 32 bits leave a tensor in float.
    pub fn tqt(weight_bits: u32, activation_bits: u32) -> Self {
        TqtPlan::new(weight_bits, activation_bits).plan()
    }

    /// The same with thresholds that train.
    pub fn retrained(mut self) -> Self {
        let configs = [
            &mut self.default,
            &mut self.first,
            &mut self.last,
            &mut self.unweighted,
        ];
        let overrides = self.overrides.iter_mut();
        let overrides =
            overrides.flat_map(|item| iter::once(&mut item.config).chain(&mut item.set));
        let slots = configs
            .into_iter()
            .chain(overrides)
            .flat_map(QConfig::slots_mut);
        for (_, quantizer) in slots {
            quantizer.set_trained(true);
        }
        self
    }

    /// TQT with every tensor quantized, as a network for integer hardware needs it: each weight,
    /// bias and sum, and each activation once, by the layer that reads it.
    ///
    /// | slot | of | quantizes |
    /// |---|---|---|
    /// | `input` | layers with a weight; `Add`, `Mul`, `Concat` (one threshold for all branches); average pooling, `LeakyRelu`, `Sigmoid`, `Tanh` | what the layer reads |
    /// | `weight`, `bias` | layers that have them | the parameter |
    /// | `accumulator` | layers that sum products or distances | the sum, before the bias |
    /// | `output` | the last layer | the network's result |
    ///
    /// Nothing else is quantized, so that no tensor is twice: a layer's output is the next one's
    /// `input`. Rectifiers, clamps and maxima hand grid numbers on as they are, so the layer that
    /// reads them quantizes what they read; a normalization is part of the convolution beside it.
    /// Where two layers read one tensor, each has its own threshold until they are shared.
    ///
    /// The first and the last layer have at least 8 bits (arXiv 1903.08066, section 6).
    pub fn tqt_integer(widths: TqtWidths) -> Self {
        TqtPlan {
            bias_bits: widths.bias,
            accumulator: widths.accumulator.map_or(SumWidth::Usual, SumWidth::Bits),
            ..TqtPlan::new(widths.weight, widths.activation).all_tensors()
        }
        .plan()
    }

    /// Whether every part of the plan can be built.
    pub fn check(&self) -> Result<(), Error> {
        self.default.check().map_err(|e| e.within("default"))?;
        self.first.check().map_err(|e| e.within("first"))?;
        self.last.check().map_err(|e| e.within("last"))?;
        self.unweighted
            .check()
            .map_err(|e| e.within("unweighted"))?;
        for (i, item) in self.widths.iter().enumerate() {
            if item.which().is_empty() {
                return Err(Error::config(format!("widths[{i}]"), NAMES_NOTHING));
            }
        }
        for (i, item) in self.overrides.iter().enumerate() {
            let name = format!("overrides[{i}]");
            if item.which().is_empty() {
                return Err(Error::config(name, NAMES_NOTHING));
            }
            item.check().map_err(|e| e.within(&name))?;
        }
        Ok(())
    }

    /// Every slot that the plan speaks of, but in an override for the layers that it matches, with the
    /// part of the plan.
    pub(super) fn spoken_of(&self) -> impl Iterator<Item = (String, &str)> {
        let configs = [
            ("default", &self.default),
            ("first", &self.first),
            ("last", &self.last),
            ("unweighted", &self.unweighted),
        ];
        let names = configs.into_iter().flat_map(|(part, config)| {
            let slots = config.slots();
            slots.map(move |(slot, _)| (part.to_string(), slot))
        });
        let widths = self.widths.iter().enumerate().flat_map(|(i, widths)| {
            let slots = widths.bits.iter();
            slots.map(move |(slot, _)| (format!("widths[{i}]"), slot))
        });
        names.chain(widths)
    }

    /// Whether some tensor has a threshold that trains, or could.
    pub fn has_thresholds(&self) -> bool {
        self.has(|slot| {
            let mut learned = slot.learned().iter();
            learned.any(|learned| learned.role == Role::Log2Threshold)
        })
    }

    /// Whether some quantizer learns its width.
    pub fn learns_widths(&self) -> bool {
        self.has(|slot| {
            slot.learned()
                .iter()
                .any(|learned| learned.role == Role::Bits)
        })
    }

    /// Whether some quantizer has a parameter that calibration sets.
    pub fn needs_calibration(&self) -> bool {
        self.has(|slot| slot.learned().iter().any(|learned| learned.calibrated))
    }

    /// Whether some weight is quantized as DoReFa-Net does. What is stored of it is not the weight,
    /// but what a function (a hyperbolic tangent and a division by the largest) makes the weight of.
    pub fn has_dorefa_weights(&self) -> bool {
        self.has(QuantizerConfig::transforms)
    }

    fn has(&self, wanted: impl Fn(&QuantizerConfig) -> bool) -> bool {
        let overrides = self.overrides.iter();
        let overrides = overrides.flat_map(|item| iter::once(&item.config).chain(&item.set));
        [&self.default, &self.first, &self.last, &self.unweighted]
            .into_iter()
            .chain(overrides)
            .flat_map(QConfig::slots)
            .any(|(_, quantizer)| wanted(quantizer))
    }

    /// Reads a plan from TOML.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let plan: Self = toml::from_str(text).map_err(|error| Error::toml("plan", text, &error))?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan holds only strings and numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Planner;
    use crate::nn::LinearConfig;

    #[test]
    fn thirty_two_bits_are_float() {
        assert_eq!(QPlan::dorefa(32, 32).default, QConfig::default());
        assert_eq!(QPlan::tqt(32, 32).default, QConfig::default());
    }

    #[test]
    fn a_slot_that_no_layer_has_is_refused_once_the_layers_are_known() {
        let refused = |text: &str, paths: &[&str]| {
            let plan = QPlan::from_toml(text).unwrap();
            let mut planner = Planner::new(&plan).unwrap();
            for &path in paths {
                planner.layer(path, LinearConfig::new(1, 1)).unwrap();
            }
            planner.finish().unwrap_err().to_string()
        };
        let tqt = "{ method = \"tqt\", bits = 8 }";
        for slot in ["tau", "alpha", "state", "wieght"] {
            assert_eq!(
                refused(&format!("[default]\n{slot} = {tqt}"), &[]),
                format!("default.{slot}: no layer has the slot `{slot}`")
            );
        }
        assert_eq!(
            refused("[[widths]]\npath = \"*\"\nwieght = 8", &["fc"]),
            "widths[0].wieght: no layer has the slot `wieght`; the nearest is `weight`"
        );
    }

    #[test]
    fn bad_plans_are_refused_with_the_field() {
        let refused = |text| QPlan::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            refused("[default]\nweight = { method = \"tqt\", bits = 77 }"),
            "default.weight: bits is 77, expected 2 to 24 (tqt)"
        );
        assert_eq!(
            refused("[default]\nweight = { method = \"dorefa-activation\", bits = 8 }"),
            "default.weight: dorefa-activation is for input or output"
        );
        assert_eq!(
            refused("[default]\ninput = { method = \"tqt\", bits = 8, per_channel = true }"),
            "default.input: per_channel is for a weight"
        );
        assert!(refused("[default]\nwieght = 1").contains("wieght"));
        let nothing = "names no path, regex, type or position";
        assert_eq!(refused("[[overrides]]"), format!("overrides[0]: {nothing}"));
        assert_eq!(
            refused("[[widths]]\nweight = 8"),
            format!("widths[0]: {nothing}")
        );
    }
}
