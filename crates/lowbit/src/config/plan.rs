//! What is quantized in a network.

use lowbit_formats::Rounding;
use serde::{Deserialize, Serialize};

use super::QConfig;
use crate::Error;
use crate::quantizers::{DorefaConfig, QuantizerConfig, TrainedThresholdConfig};

/// Widths from here on leave a tensor in float.
const FLOAT_BITS: u32 = 32;

/// How a network is quantized: a default, and what differs from it.
///
/// A layer takes the last of these that speaks of it: `default` (layers with a weight only, such
/// as `Conv2d` and `Linear`), `first` or `last` (the first and last layer with a weight), then
/// each of `overrides` that matches, in order. What speaks of a layer replaces all its slots.
///
/// In TOML:
///
/// ```toml
/// [default]
/// weight = { method = "dorefa-weight", bits = 4 }
/// input = { method = "dorefa-activation", bits = 4 }
/// [first]   # empty: in float
/// [last]
/// [[overrides]]
/// path = "blocks.2.*"
/// config.weight = { method = "format", format = "fixed(8,6)" }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QPlan {
    /// Of every layer with a weight.
    #[serde(default)]
    pub default: QConfig,
    /// Of the first layer with a weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<QConfig>,
    /// Of the last layer with a weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<QConfig>,
    /// Of layers chosen by path or type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

/// A [`QConfig`] for the layers that match a path pattern and a type, each where given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// A layer path in which `*` stands for any characters, such as `blocks.*.conv1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A layer type, such as `Conv2d`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub layer_type: Option<String>,
    /// What those layers use.
    #[serde(default)]
    pub config: QConfig,
}

/// Where a layer stands among the layers with a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first of them.
    First,
    /// Neither the first nor the last.
    Middle,
    /// The last of them.
    Last,
    /// A layer without a weight.
    Weightless,
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
            first: Some(QConfig::default()),
            last: Some(QConfig::default()),
            overrides: Vec::new(),
        }
    }

    /// TQT: weights and inputs of every layer, the first and the last with at least 8 bits
    /// (arXiv 1903.08066, section 6). 32 bits leave a tensor in float.
    pub fn tqt(weight_bits: u32, activation_bits: u32) -> Self {
        let layer = |weight: u32, input: u32| {
            let below_float = |bits| {
                (bits < FLOAT_BITS).then(|| QuantizerConfig::Tqt(TrainedThresholdConfig::new(bits)))
            };
            QConfig {
                weight: below_float(weight),
                input: below_float(input),
                ..QConfig::default()
            }
        };
        let outer = layer(weight_bits.max(8), activation_bits.max(8));
        Self {
            default: layer(weight_bits, activation_bits),
            first: Some(outer.clone()),
            last: Some(outer),
            overrides: Vec::new(),
        }
    }

    /// Whether every part of the plan can be built.
    pub fn check(&self) -> Result<(), Error> {
        self.default.check().map_err(|e| e.within("default"))?;
        if let Some(first) = &self.first {
            first.check().map_err(|e| e.within("first"))?;
        }
        if let Some(last) = &self.last {
            last.check().map_err(|e| e.within("last"))?;
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

/// A layer of a network and what it quantizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its path in the module tree, such as `blocks.0.conv1`.
    pub path: String,
    /// Its type, such as `Conv2d`.
    pub layer_type: &'static str,
    /// What it quantizes.
    pub config: QConfig,
}

/// Hands each layer of a network under construction its [`QConfig`], and keeps the list.
#[derive(Debug)]
pub struct Planner<'a> {
    plan: &'a QPlan,
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
            matched: vec![false; plan.overrides.len()],
            layers: Vec::new(),
        })
    }

    /// What the layer with this path, type and position quantizes.
    pub fn layer(
        &mut self,
        path: impl Into<String>,
        layer_type: &'static str,
        position: Position,
    ) -> QConfig {
        let path = path.into();
        let plan = self.plan;
        let mut config = match position {
            Position::Weightless => QConfig::default(),
            Position::First => plan.first.clone().unwrap_or_else(|| plan.default.clone()),
            Position::Last => plan.last.clone().unwrap_or_else(|| plan.default.clone()),
            Position::Middle => plan.default.clone(),
        };
        for (item, matched) in plan.overrides.iter().zip(&mut self.matched) {
            let by_path = item
                .path
                .as_ref()
                .is_none_or(|pattern| matches(pattern, &path));
            let by_type = item.layer_type.as_ref().is_none_or(|t| t == layer_type);
            if by_path && by_type {
                *matched = true;
                config = item.config.clone();
            }
        }
        separate_streams(&mut config, &path);
        let layer = Layer {
            path,
            layer_type,
            config,
        };
        self.layers.push(layer.clone());
        layer.config
    }

    /// The layers, in the order they were asked for.
    ///
    /// # Errors
    /// If an override matched none of them.
    pub fn finish(self) -> Result<Vec<Layer>, Error> {
        let Some(unmatched) = self.matched.iter().position(|matched| !matched) else {
            return Ok(self.layers);
        };
        let item = &self.plan.overrides[unmatched];
        let wanted: Vec<String> = [("path", &item.path), ("type", &item.layer_type)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|v| format!("{name} `{v}`")))
            .collect();
        let known: Vec<&str> = self
            .layers
            .iter()
            .map(|layer| layer.path.as_str())
            .collect();
        Err(Error::config(
            format!("overrides[{unmatched}]"),
            format!(
                "{} matches no layer; there are {}",
                wanted.join(" and "),
                known.join(", ")
            ),
        ))
    }
}

/// Gives each slot of each layer random numbers of its own.
fn separate_streams(config: &mut QConfig, path: &str) {
    let slots = [
        &mut config.input,
        &mut config.weight,
        &mut config.bias,
        &mut config.output,
    ];
    for (i, slot) in slots.into_iter().enumerate() {
        if let Some(QuantizerConfig::Format(format)) = slot
            && let Rounding::Stochastic { stream, .. } = &mut format.rounding
        {
            *stream ^= u64::from(fnv1a(path)) ^ i as u64;
        }
    }
}

/// The 32-bit FNV-1a hash (Fowler, Noll, Vo).
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    (0..=text.len())
        .filter(|&i| text.is_char_boundary(i))
        .any(|i| matches(rest, &text[i..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(planner: &mut Planner, path: &str, position: Position) -> QConfig {
        planner.layer(path, "Conv2d", position)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("conv1", "conv1", true),
            ("conv1", "conv12", false),
            ("blocks.*.conv1", "blocks.0.conv1", true),
            ("blocks.*.conv1", "blocks.10.shortcut.conv1", true),
            ("blocks.*.conv1", "blocks.0.conv2", false),
            ("*", "", true),
            ("*conv*", "a.conv.b", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn dorefa_leaves_the_first_and_the_last_layer_in_float() {
        let plan = QPlan::dorefa(4, 2);
        let mut planner = Planner::new(&plan).unwrap();
        assert_eq!(
            config_of(&mut planner, "a", Position::First),
            QConfig::default()
        );
        assert_eq!(
            config_of(&mut planner, "z", Position::Last),
            QConfig::default()
        );
        assert_eq!(
            config_of(&mut planner, "r", Position::Weightless),
            QConfig::default()
        );
        let middle = config_of(&mut planner, "m", Position::Middle);
        assert_eq!(middle.weight.unwrap().bits(), 4);
        assert_eq!(middle.input.unwrap().bits(), 2);
    }

    #[test]
    fn tqt_keeps_eight_bits_at_both_ends() {
        let plan = QPlan::tqt(4, 4);
        let mut planner = Planner::new(&plan).unwrap();
        let bits = |config: QConfig| (config.weight.unwrap().bits(), config.input.unwrap().bits());
        assert_eq!(bits(config_of(&mut planner, "a", Position::First)), (8, 8));
        assert_eq!(bits(config_of(&mut planner, "m", Position::Middle)), (4, 4));
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
        let conv = planner.layer("blocks.1.conv", "Conv2d", Position::Middle);
        assert!(conv.weight.is_none() && conv.input.is_some());
        let linear = planner.layer("head", "Linear", Position::Middle);
        assert_eq!(linear.weight.unwrap().bits(), 8);
        assert_eq!(planner.finish().unwrap().len(), 2);
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
    }

    #[test]
    fn bad_plans_are_refused_with_the_field() {
        let refused = |text| QPlan::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            refused("[default]\nweight = { method = \"tqt\", bits = 77 }"),
            "default.weight.tqt: bits: 77 is outside 2 to 24"
        );
        assert_eq!(
            refused("[default]\ntau = { method = \"tqt\", bits = 8 }"),
            "default.tau: no layer has this slot yet"
        );
        assert!(refused("[default]\nwieght = 1").contains("wieght"));
        assert!(refused("[[overrides]]").contains("neither a path nor a type"));
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
        planner.layer("conv1", "Conv2d", Position::First);
        assert_eq!(
            planner.finish().unwrap_err().to_string(),
            "overrides[0]: path `conv9` matches no layer; there are conv1"
        );
    }
}
