//! What is quantized in a network.

use serde::{Deserialize, Serialize};

use super::{FLOAT_BITS, Layer, LayerType, QConfig, TqtPlan, TqtWidths};
use crate::Error;
use crate::quantizers::{DorefaConfig, QuantizerConfig, matches};

/// How a network is quantized: a default, and what differs from it.
///
/// `default` is for layers with a weight (convolutions, `Linear`, `Embedding`, `Adder2d`), except
/// the first and the last of them, which have `first` and `last` and stay in float unless those say
/// otherwise; `unweighted` is for layers that compute without one. Of all these a layer takes the
/// slots that it has. Then each of `overrides` that matches a layer, of any type, replaces all its
/// slots, in order.
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
    /// Of layers without a weight whose results are not on their inputs' grid: `Add`, `Mul`,
    /// `Concat`, average pooling, `LeakyRelu`, `Sigmoid`, `Tanh`.
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

/// Widths for the layers that match a path pattern and a type, each where given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widths {
    /// A layer path in which `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A layer type, such as `Conv2d`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub layer_type: Option<String>,
    /// Bits of the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u32>,
    /// Bits of the weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Bits of the bias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<u32>,
    /// Bits of the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u32>,
}

impl Widths {
    /// Gives the quantizers that `config` has their widths.
    fn apply(&self, config: &mut QConfig) {
        let slots = [
            (self.input, &mut config.input),
            (self.weight, &mut config.weight),
            (self.bias, &mut config.bias),
            (self.output, &mut config.output),
        ];
        for (bits, slot) in slots {
            if let (Some(bits), Some(quantizer)) = (bits, slot) {
                quantizer.set_bits(bits);
            }
        }
    }
}

/// A [`QConfig`] for the layers that match a path pattern and a type, each where given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// A layer path in which `*` stands for any characters, such as `layer1.*.conv1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A layer type, such as `Conv2d`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub layer_type: Option<String>,
    /// What those layers use, in place of everything they would; the empty one leaves them in
    /// float.
    #[serde(default)]
    pub config: QConfig,
}

impl QPlan {
    /// Nothing quantized.
    pub fn float() -> Self {
        Self::default()
    }

    /// DoReFa-Net: weights and inputs of every layer but the first and the last, which stay in
    /// float (arXiv 1606.06160, section 2.7). 32 bits leave a tensor in float.
    pub fn dorefa(weight_bits: u32, activation_bits: u32) -> Self {
        let below_float = |bits| (bits < FLOAT_BITS).then_some(DorefaConfig { bits });
        Self {
            default: QConfig {
                weight: below_float(weight_bits).map(QuantizerConfig::DorefaWeight),
                input: below_float(activation_bits).map(QuantizerConfig::DorefaActivation),
                ..QConfig::default()
            },
            ..Self::default()
        }
    }

    /// TQT: weights and inputs of every layer, the first and the last with at least 8 bits
    /// (arXiv 1903.08066, section 6), from three standard deviations and from KL-J (table 2).
    /// 32 bits leave a tensor in float.
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
        let overrides = self.overrides.iter_mut().map(|item| &mut item.config);
        let slots = configs.into_iter().chain(overrides).flat_map(|config| {
            [
                &mut config.input,
                &mut config.weight,
                &mut config.bias,
                &mut config.output,
            ]
        });
        for quantizer in slots.flatten() {
            if let QuantizerConfig::Tqt(config) = quantizer {
                config.retrain = true;
            }
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
            accumulator_bits: Some(widths.accumulator),
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
            if item.path.is_none() && item.layer_type.is_none() {
                let name = format!("widths[{i}]");
                return Err(Error::config(name, "names neither a path nor a type"));
            }
        }
        for (i, item) in self.overrides.iter().enumerate() {
            let name = format!("overrides[{i}]");
            if item.path.is_none() && item.layer_type.is_none() {
                return Err(Error::config(name, "names neither a path nor a type"));
            }
            item.config.check().map_err(|e| e.within(&name))?;
        }
        Ok(())
    }

    /// Whether some tensor has a threshold that calibration sets.
    pub fn has_thresholds(&self) -> bool {
        self.has(|slot| matches!(slot, QuantizerConfig::Tqt(_)))
    }

    /// Whether some weight is DoReFa-Net's. What is stored of it is not the weight, but what a
    /// hyperbolic tangent and a division by the largest make the weight of.
    pub fn has_dorefa_weights(&self) -> bool {
        self.has(|slot| matches!(slot, QuantizerConfig::DorefaWeight(_)))
    }

    fn has(&self, wanted: impl Fn(&QuantizerConfig) -> bool) -> bool {
        let overrides = self.overrides.iter().map(|item| &item.config);
        [&self.default, &self.first, &self.last, &self.unweighted]
            .into_iter()
            .chain(overrides)
            .flat_map(QConfig::slots)
            .any(|(_, slot)| slot.as_ref().is_some_and(&wanted))
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

/// Hands each layer of a network under construction its [`QConfig`], and keeps the list.
#[derive(Debug)]
pub struct Planner<'a> {
    plan: &'a QPlan,
    /// Of the overrides, then of the widths.
    matched: Vec<bool>,
    layers: Vec<Layer>,
}

impl<'a> Planner<'a> {
    /// Starts with no layers.
    ///
    /// # Errors
    /// If the plan cannot be built.
    pub fn new(plan: &'a QPlan) -> Result<Self, Error> {
        plan.check()?;
        Ok(Self {
            plan,
            matched: vec![false; plan.overrides.len() + plan.widths.len()],
            layers: Vec::new(),
        })
    }

    /// What the layer with this path and type quantizes.
    pub fn layer(&mut self, path: impl Into<String>, layer_type: LayerType) -> QConfig {
        let plan = self.plan;
        let config = if layer_type.has_weight() {
            plan.default.clone()
        } else if layer_type.leaves_grid() {
            plan.unweighted.clone()
        } else {
            QConfig::default()
        };
        self.add(path.into(), layer_type, config)
    }

    /// The same for the first layer with a weight.
    pub fn first(&mut self, path: impl Into<String>, layer_type: LayerType) -> QConfig {
        self.add(path.into(), layer_type, self.plan.first.clone())
    }

    /// The same for the last layer with a weight.
    pub fn last(&mut self, path: impl Into<String>, layer_type: LayerType) -> QConfig {
        self.add(path.into(), layer_type, self.plan.last.clone())
    }

    /// What a normalization quantizes that may be folded into the convolution before it, where
    /// its quantizers would not be used.
    pub fn norm(&mut self, path: impl Into<String>) -> QConfig {
        match self.plan.fold {
            Fold::Off => self.layer(path, LayerType::BatchNorm),
            _ => QConfig::default(),
        }
    }

    /// Whether a convolution is folded with the normalization after it.
    pub fn fold(&self) -> Fold {
        self.plan.fold
    }

    fn add(&mut self, path: String, layer_type: LayerType, config: QConfig) -> QConfig {
        let plan = self.plan;
        // A default says what is quantized where it exists.
        let mut config = config.restricted(|slot| layer_type.has_slot(slot));
        let fits = |wanted_path: &Option<String>, wanted_type: &Option<String>| {
            let by_path = wanted_path.as_ref().is_none_or(|form| matches(form, &path));
            by_path && wanted_type.as_ref().is_none_or(|t| t == layer_type.name())
        };
        let (overridden, widened) = self.matched.split_at_mut(plan.overrides.len());
        for (item, matched) in plan.overrides.iter().zip(overridden) {
            if fits(&item.path, &item.layer_type) {
                *matched = true;
                config = item.config.clone();
            }
        }
        if layer_type.has_weight() {
            let before = self.layers.iter().filter(|l| l.layer_type.has_weight());
            if let Some(&bits) = plan.layer_widths.get(before.count()) {
                let both = Widths {
                    input: Some(bits),
                    weight: Some(bits),
                    ..Widths::default()
                };
                both.apply(&mut config);
            }
        }
        for (item, matched) in plan.widths.iter().zip(widened) {
            if fits(&item.path, &item.layer_type) {
                *matched = true;
                item.apply(&mut config);
            }
        }
        // A layer without bias has nothing to do for an override that speaks of one.
        if !layer_type.has_slot("bias") {
            config.bias = None;
        }
        self.layers.push(Layer {
            path,
            layer_type,
            config: config.clone(),
        });
        config
    }

    /// The layers, in the order they were asked for.
    ///
    /// # Errors
    /// If an override matched none of them, or quantizes what a layer does not have.
    pub fn finish(self) -> Result<Vec<Layer>, Error> {
        for layer in &self.layers {
            let kind = layer.layer_type;
            let accumulator = ("accumulator", layer.config.accumulator.is_some());
            let slots = layer.config.slots().map(|(slot, q)| (slot, q.is_some()));
            for (slot, quantized) in slots.into_iter().chain([accumulator]) {
                if quantized && !kind.has_slot(slot) {
                    let name = kind.name();
                    return Err(Error::config(
                        &layer.path,
                        format!("a {name} has no {slot} to quantize"),
                    ));
                }
            }
            // Widths may have put a part of the plan out of its range.
            let config = &layer.config;
            config.check().map_err(|error| error.within(&layer.path))?;
            config
                .check_accumulator(kind.has_own_weight_format())
                .map_err(|error| error.within(&layer.path))?;
        }
        let weights = self.layers.iter().filter(|l| l.layer_type.has_weight());
        let (given, weights) = (self.plan.layer_widths.len(), weights.count());
        if given != 0 && given != weights {
            let message = format!("has {given} widths, the network {weights} layers with a weight");
            return Err(Error::config("layer_widths", message));
        }
        let Some(unmatched) = self.matched.iter().position(|matched| !matched) else {
            return Ok(self.layers);
        };
        let (field, path, layer_type) = match self.plan.overrides.get(unmatched) {
            Some(item) => (
                format!("overrides[{unmatched}]"),
                &item.path,
                &item.layer_type,
            ),
            None => {
                let i = unmatched - self.plan.overrides.len();
                let item = &self.plan.widths[i];
                (format!("widths[{i}]"), &item.path, &item.layer_type)
            }
        };
        let wanted: Vec<String> = [("path", path), ("type", layer_type)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|v| format!("{name} `{v}`")))
            .collect();
        let known: Vec<&str> = self.layers.iter().map(|l| l.path.as_str()).collect();
        Err(Error::config(
            field,
            format!(
                "{} matches no layer; there are {}",
                wanted.join(" and "),
                known.join(", ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONV: LayerType = LayerType::Conv2d { bias: false };

    #[test]
    fn dorefa_leaves_the_first_and_the_last_layer_in_float() {
        let plan = QPlan::dorefa(4, 2);
        let mut planner = Planner::new(&plan).unwrap();
        assert_eq!(planner.first("a", CONV), QConfig::default());
        assert_eq!(planner.last("z", CONV), QConfig::default());
        assert_eq!(planner.layer("r", LayerType::Relu), QConfig::default());
        let middle = planner.layer("m", CONV);
        assert_eq!(middle.weight.unwrap().bits(), 4);
        assert_eq!(middle.input.unwrap().bits(), 2);
    }

    #[test]
    fn tqt_keeps_eight_bits_at_both_ends() {
        let plan = QPlan::tqt(4, 4);
        let mut planner = Planner::new(&plan).unwrap();
        let bits = |config: QConfig| (config.weight.unwrap().bits(), config.input.unwrap().bits());
        assert_eq!(bits(planner.first("a", CONV)), (8, 8));
        assert_eq!(bits(planner.layer("m", CONV)), (4, 4));
    }

    /// The slots that are quantized, with their bits.
    fn slots(config: &QConfig) -> Vec<(&'static str, u32)> {
        let slots = config.slots();
        let slots = slots
            .into_iter()
            .filter_map(|(slot, q)| Some((slot, q.as_ref()?.bits())));
        let accumulator = config.accumulator.as_ref().map(|a| ("accumulator", a.bits));
        slots.chain(accumulator).collect()
    }

    #[test]
    fn tqt_for_integer_hardware_quantizes_every_tensor_once() {
        let plan = QPlan::tqt_integer(TqtWidths {
            weight: 4,
            activation: 4,
            ..TqtWidths::default()
        });
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
        let mut planner = Planner::new(&plan).unwrap();
        let bias = LayerType::Conv2d { bias: true };
        assert_eq!(
            slots(&planner.first("first", bias)),
            [
                ("input", 8),
                ("weight", 8),
                ("bias", 16),
                ("accumulator", 32)
            ]
        );
        let all = [
            ("input", 4),
            ("weight", 4),
            ("bias", 16),
            ("accumulator", 32),
        ];
        assert_eq!(slots(&planner.layer("a", bias)), all);
        let transposed = LayerType::ConvTranspose3d { bias: true };
        assert_eq!(slots(&planner.layer("b", transposed)), all);
        assert_eq!(
            slots(&planner.layer("c", CONV)),
            [("input", 4), ("weight", 4), ("accumulator", 32)]
        );
        let adder = LayerType::Adder2d { bias: false };
        assert_eq!(
            slots(&planner.layer("d", adder)),
            [("input", 4), ("weight", 4), ("accumulator", 32)]
        );
        let shift = LayerType::ShiftConv2d {
            bias: true,
            weight_bits: 5,
        };
        assert_eq!(
            slots(&planner.layer("e", shift)),
            [("input", 4), ("bias", 16), ("accumulator", 32)]
        );
        assert_eq!(
            slots(&planner.layer("f", LayerType::Embedding)),
            [("weight", 4)]
        );
        for layer in [LayerType::Add, LayerType::Concat, LayerType::AvgPool2d] {
            assert_eq!(slots(&planner.layer("g", layer)), [("input", 4)]);
        }
        // What these hand on is on the grid of what they read.
        for layer in [
            LayerType::Relu,
            LayerType::Hardtanh,
            LayerType::MaxPool2d,
            LayerType::BatchNorm,
        ] {
            assert_eq!(slots(&planner.layer("h", layer)), []);
        }
        assert_eq!(
            slots(&planner.last("last", LayerType::Linear { bias: true })),
            [
                ("input", 8),
                ("weight", 8),
                ("bias", 16),
                ("output", 8),
                ("accumulator", 32)
            ]
        );
        assert_eq!(planner.finish().unwrap().len(), 15);
    }

    #[test]
    fn a_slot_that_a_layer_lacks_is_refused() {
        let plan = QPlan::from_toml(
            "[[overrides]]\ntype = \"Relu\"\nconfig.weight = { method = \"tqt\", bits = 8 }",
        )
        .unwrap();
        let mut planner = Planner::new(&plan).unwrap();
        planner.layer("relu1", LayerType::Relu);
        assert_eq!(
            planner.finish().unwrap_err().to_string(),
            "relu1: a Relu has no weight to quantize"
        );
    }

    #[test]
    fn thirty_two_bits_are_float() {
        assert_eq!(QPlan::dorefa(32, 32).default, QConfig::default());
        assert_eq!(QPlan::tqt(32, 32).default, QConfig::default());
    }

    #[test]
    fn an_override_replaces_by_path_and_by_type() {
        let plan = QPlan::from_toml(
            r#"
            [default]
            weight = { method = "dorefa-weight", bits = 4 }
            [[overrides]]
            type = "Linear"
            config.weight = { method = "tqt", bits = 8, retrain = false }
            [[overrides]]
            path = "blocks.1.*"
            config.input = { method = "format", format = "fixed(8,6)", rounding = "nearest-away" }
            "#,
        )
        .unwrap();
        let mut planner = Planner::new(&plan).unwrap();
        let conv = planner.layer("blocks.1.conv", CONV);
        assert!(conv.weight.is_none() && conv.input.is_some());
        let linear = planner.layer("head", LayerType::Linear { bias: true });
        assert_eq!(linear.weight.unwrap().bits(), 8);
        assert_eq!(planner.finish().unwrap().len(), 2);
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
    }

    #[test]
    fn bad_plans_are_refused_with_the_field() {
        let refused = |text| QPlan::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            refused("[default]\nweight = { method = \"tqt\", bits = 77 }"),
            "default.weight: bits is 77, expected 2 to 24 (tqt)"
        );
        assert_eq!(
            refused("[default]\ntau = { method = \"tqt\", bits = 8 }"),
            "default.tau: no layer has this slot yet"
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
        assert!(refused("[[overrides]]").contains("neither a path nor a type"));
    }

    #[test]
    fn widths_come_from_a_list_and_by_path() {
        let plan = QPlan {
            layer_widths: vec![8, 4, 6],
            widths: vec![Widths {
                path: Some("c*".into()),
                weight: Some(3),
                ..Widths::default()
            }],
            ..QPlan::tqt(8, 8)
        };
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
        let mut planner = Planner::new(&plan).unwrap();
        let bits = |config: QConfig| (config.weight.unwrap().bits(), config.input.unwrap().bits());
        assert_eq!(bits(planner.first("a", CONV)), (8, 8));
        planner.layer("relu", LayerType::Relu);
        assert_eq!(bits(planner.layer("b", CONV)), (4, 4));
        assert_eq!(bits(planner.last("c", CONV)), (3, 6));
        assert_eq!(planner.finish().unwrap().len(), 4);
        let mut planner = Planner::new(&plan).unwrap();
        planner.first("c", CONV);
        assert_eq!(
            planner.finish().unwrap_err().to_string(),
            "layer_widths: has 3 widths, the network 1 layers with a weight"
        );
    }

    #[test]
    fn a_width_out_of_range_names_the_layer() {
        let plan = QPlan {
            layer_widths: vec![77],
            ..QPlan::tqt(8, 8)
        };
        let mut planner = Planner::new(&plan).unwrap();
        planner.first("a", CONV);
        assert_eq!(
            planner.finish().unwrap_err().to_string(),
            "a.input: bits is 77, expected 2 to 24 (tqt)"
        );
    }

    #[test]
    fn branches_that_meet_share_one_quantizer() {
        let plan = TqtPlan::new(8, 8).all_tensors().plan();
        let mut planner = Planner::new(&plan).unwrap();
        let add = planner.layer("add", LayerType::Add);
        assert_eq!(add.input.unwrap().bits(), 8);
        assert_eq!(planner.layer("relu", LayerType::Relu), QConfig::default());
    }

    #[test]
    fn an_override_that_matches_nothing_is_refused() {
        let plan = QPlan {
            overrides: vec![Override {
                path: Some("conv9".into()),
                ..Override::default()
            }],
            ..QPlan::float()
        };
        let mut planner = Planner::new(&plan).unwrap();
        planner.first("conv1", CONV);
        assert_eq!(
            planner.finish().unwrap_err().to_string(),
            "overrides[0]: path `conv9` matches no layer; there are conv1"
        );
    }
}
