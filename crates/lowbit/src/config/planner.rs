//! Handing the layers of a network what they quantize.

use super::{Fold, Layer, LayerType, QConfig, QPlan, Widths};
use crate::Error;
use crate::quantizers::matches;

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
                let both = Widths::default().with("input", bits).with("weight", bits);
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
            config.set("bias", None);
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
            let accumulator = layer.config.accumulator.iter().map(|_| "accumulator");
            let slots = layer.config.slots().map(|(slot, _)| slot);
            for slot in slots.chain(accumulator) {
                if !kind.has_slot(slot) {
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
        let layers = &self.layers;
        let has = |slot: &str| layers.iter().any(|l| l.layer_type.has_slot(slot));
        self.plan.check_slots(has)?;
        let weights = layers.iter().filter(|l| l.layer_type.has_weight());
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

    use crate::config::{Override, TqtPlan, TqtWidths};

    const CONV: LayerType = LayerType::Conv2d { bias: false };

    #[test]
    fn dorefa_leaves_the_first_and_the_last_layer_in_float() {
        let plan = QPlan::dorefa(4, 2);
        let mut planner = Planner::new(&plan).unwrap();
        assert_eq!(planner.first("a", CONV), QConfig::default());
        assert_eq!(planner.last("z", CONV), QConfig::default());
        assert_eq!(planner.layer("r", LayerType::Relu), QConfig::default());
        let middle = planner.layer("m", CONV);
        assert_eq!(middle.get("weight").unwrap().bits(), 4);
        assert_eq!(middle.get("input").unwrap().bits(), 2);
    }

    #[test]
    fn tqt_keeps_eight_bits_at_both_ends() {
        let plan = QPlan::tqt(4, 4);
        let mut planner = Planner::new(&plan).unwrap();
        let bits =
            |config: QConfig| ["weight", "input"].map(|slot| config.get(slot).unwrap().bits());
        assert_eq!(bits(planner.first("a", CONV)), [8, 8]);
        assert_eq!(bits(planner.layer("m", CONV)), [4, 4]);
    }

    fn slots(config: &QConfig) -> Vec<(&str, u32)> {
        let slots = config.slots().map(|(slot, q)| (slot, q.bits()));
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
        assert!(conv.get("weight").is_none() && conv.get("input").is_some());
        let linear = planner.layer("head", LayerType::Linear { bias: true });
        assert_eq!(linear.get("weight").unwrap().bits(), 8);
        assert_eq!(planner.finish().unwrap().len(), 2);
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
    }

    #[test]
    fn widths_come_from_a_list_and_by_path() {
        let plan = QPlan {
            layer_widths: vec![8, 4, 6],
            widths: vec![Widths::of_path("c*").with("weight", 3)],
            ..QPlan::tqt(8, 8)
        };
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
        let mut planner = Planner::new(&plan).unwrap();
        let bits =
            |config: QConfig| ["weight", "input"].map(|slot| config.get(slot).unwrap().bits());
        assert_eq!(bits(planner.first("a", CONV)), [8, 8]);
        planner.layer("relu", LayerType::Relu);
        assert_eq!(bits(planner.layer("b", CONV)), [4, 4]);
        assert_eq!(bits(planner.last("c", CONV)), [3, 6]);
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
        assert_eq!(add.get("input").unwrap().bits(), 8);
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
