//! Handing the layers of a network what they quantize.

use super::{Describe, Fold, Foldable, Layer, Part, Problem, QConfig, QPlan, check};
use crate::Error;

/// Hands each layer of a network under construction its [`QConfig`], and keeps the list.
///
/// # Example
/// ```
/// use burn::tensor::Device;
/// use lowbit::config::{Planner, QPlan};
/// use lowbit::nn::{LinearConfig, ReluConfig};
///
/// let (plan, device) = (QPlan::tqt(4, 8), Device::flex());
/// let mut planner = Planner::new(&plan)?;
/// let fc1 = planner.first("fc1", LinearConfig::new(64, 32))?.init(&device);
/// let relu = planner.layer("relu", ReluConfig::new())?.init(&device);
/// let fc2 = planner.last("fc2", LinearConfig::new(32, 10))?.init(&device);
/// assert_eq!(planner.finish()?.len(), 3);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug)]
pub struct Planner<'a> {
    plan: &'a QPlan,
    used: check::Used,
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
            used: check::Used::default(),
            layers: Vec::new(),
        })
    }

    /// The layer's configuration with what the layer at that path quantizes.
    ///
    /// # Errors
    /// If a field of the configuration is out of its range, or the plan quantizes what the layer
    /// does not have, or with what does not fit; the error names the path.
    pub fn layer<C: Describe>(&mut self, path: impl Into<String>, layer: C) -> Result<C, Error> {
        let description = layer.describe();
        let part = if description.weight.is_some() {
            Part::Default
        } else if description.leaves_grid {
            Part::Unweighted
        } else {
            Part::Float
        };
        self.add(path.into(), layer, part)
    }

    /// The same for the first layer with a weight.
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    pub fn first<C: Describe>(&mut self, path: impl Into<String>, layer: C) -> Result<C, Error> {
        self.add(path.into(), layer, Part::First)
    }

    /// The same for the last layer with a weight.
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    pub fn last<C: Describe>(&mut self, path: impl Into<String>, layer: C) -> Result<C, Error> {
        self.add(path.into(), layer, Part::Last)
    }

    /// The same for a normalization that may be folded into the layer before it, where its
    /// quantizers would not be used and it is none of the network's quantized layers.
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    pub fn norm<C: Describe>(&mut self, path: impl Into<String>, layer: C) -> Result<C, Error> {
        match self.plan.fold {
            Fold::Off => self.layer(path, layer),
            _ => Ok(layer),
        }
    }

    /// A layer whose normalization, the one after it, is folded into it where the plan says so;
    /// to be handed to [`layer`](Self::layer) and its like.
    pub fn foldable<C: Describe>(&self, layer: C) -> Foldable<C> {
        Foldable {
            layer,
            folded: !self.plan.fold.is_off(),
        }
    }

    /// Whether a convolution is folded with the normalization after it.
    pub fn fold(&self) -> Fold {
        self.plan.fold
    }

    fn add<C: Describe>(&mut self, path: String, mut layer: C, part: Part) -> Result<C, Error> {
        let description = layer.describe();
        let config = QConfig::default();
        let mut planned = Layer {
            part,
            path,
            description,
            config,
        };
        let (resolved, _) = self.used.resolve(self.plan, &planned);
        planned.config = resolved.config;
        layer.quantization_mut().clone_from(&planned.config);
        layer.check_at(&planned.path)?;
        self.layers.push(planned);
        Ok(layer)
    }

    /// The layers, in the order they were asked for.
    ///
    /// # Errors
    /// The first problem of [`QPlan::check_on`] that is no single layer's: an override or widths matched
    /// none of them, the plan names a slot that no layer has, an override one that no layer has that it
    /// matches, or there is not one of the plan's `layer_widths` for each layer with a weight.
    pub fn finish(self) -> Result<Vec<Layer>, Error> {
        let problems = self.plan.check_used(&self.layers, &self.used);
        match problems.into_iter().next() {
            None => Ok(self.layers),
            Some(Problem { entry, message }) => Err(Error::config(entry, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::{Override, TqtPlan, TqtWidths, Widths};
    use crate::nn::*;

    fn conv() -> Conv2dConfig {
        Conv2dConfig::new([1, 1], [1, 1]).with_bias(false)
    }

    fn biased() -> Conv2dConfig {
        conv().with_bias(true)
    }

    fn config<C: Describe>(planned: Result<C, Error>) -> QConfig {
        planned.unwrap().quantization().clone()
    }

    #[test]
    fn dorefa_leaves_the_first_and_the_last_layer_in_float() {
        let plan = QPlan::dorefa(4, 2);
        let mut planner = Planner::new(&plan).unwrap();
        assert_eq!(config(planner.first("a", conv())), QConfig::default());
        assert_eq!(config(planner.last("z", conv())), QConfig::default());
        let relu = planner.layer("r", ReluConfig::new());
        assert_eq!(config(relu), QConfig::default());
        let middle = config(planner.layer("m", conv()));
        assert_eq!(middle.get("weight").unwrap().bits(), 4);
        assert_eq!(middle.get("input").unwrap().bits(), 2);
    }

    #[test]
    fn tqt_keeps_eight_bits_at_both_ends() {
        let plan = QPlan::tqt(4, 4);
        let mut planner = Planner::new(&plan).unwrap();
        let bits =
            |config: QConfig| ["weight", "input"].map(|slot| config.get(slot).unwrap().bits());
        assert_eq!(bits(config(planner.first("a", conv()))), [8, 8]);
        assert_eq!(bits(config(planner.layer("m", conv()))), [4, 4]);
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
        assert_eq!(
            slots(&config(planner.first("first", biased()))),
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
        assert_eq!(slots(&config(planner.layer("a", biased()))), all);
        let transposed = ConvTranspose3dConfig::new([1, 1], [1, 1, 1]);
        assert_eq!(slots(&config(planner.layer("b", transposed))), all);
        assert_eq!(
            slots(&config(planner.layer("c", conv()))),
            [("input", 4), ("weight", 4), ("accumulator", 32)]
        );
        let adder = Adder2dConfig::new([1, 1], [1, 1]);
        assert_eq!(
            slots(&config(planner.layer("d", adder))),
            [("input", 4), ("weight", 4), ("accumulator", 32)]
        );
        let shift = ShiftConv2dConfig::new([1, 1], [1, 1]);
        assert_eq!(
            slots(&config(planner.layer("e", shift))),
            [("input", 4), ("bias", 16), ("accumulator", 32)]
        );
        assert_eq!(
            slots(&config(planner.layer("f", EmbeddingConfig::new(2, 1)))),
            [("weight", 4)]
        );
        let add = planner.layer("g", AddConfig::new());
        let concat = planner.layer("g", ConcatConfig::new());
        let pool = planner.layer("g", AvgPool2dConfig::new([2, 2]));
        for config in [config(add), config(concat), config(pool)] {
            assert_eq!(slots(&config), [("input", 4)]);
        }
        // What these hand on is on the grid of what they read.
        let relu = planner.layer("h", ReluConfig::new());
        let clamp = planner.layer("h", HardtanhConfig::new());
        let pool = planner.layer("h", MaxPool2dConfig::new([2, 2]));
        let norm = planner.layer("h", BatchNormConfig::new(1));
        for config in [config(relu), config(clamp), config(pool), config(norm)] {
            assert_eq!(slots(&config), []);
        }
        assert_eq!(
            slots(&config(planner.last("last", LinearConfig::new(1, 1)))),
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
        let refused = planner.layer("relu1", ReluConfig::new()).unwrap_err();
        assert_eq!(
            refused.to_string(),
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
        let conv = config(planner.layer("blocks.1.conv", conv()));
        assert!(conv.get("weight").is_none() && conv.get("input").is_some());
        let linear = config(planner.layer("head", LinearConfig::new(1, 1)));
        assert_eq!(linear.get("weight").unwrap().bits(), 8);
        assert_eq!(planner.finish().unwrap().len(), 2);
        assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
    }

    /// Sums of 2^16 products of 24 and 16 bits have 56; a width that was chosen stays.
    #[test]
    fn sums_are_as_wide_as_the_widths_by_layer_need() {
        let wide = Widths::of_path("a").with("weight", 24).with("input", 16);
        let mut plan = QPlan {
            widths: vec![wide],
            ..QPlan::tqt_integer(TqtWidths::default())
        };
        let sum = |plan: &QPlan| {
            let mut planner = Planner::new(plan).unwrap();
            let layer = planner.layer("a", biased()).unwrap();
            layer.quantization.accumulator.unwrap().bits
        };
        assert_eq!(sum(&plan), 56);
        for given in [40, 32] {
            plan.widths[0].bits.set("accumulator", Some(given));
            assert_eq!(sum(&plan), given);
        }
        plan.widths[0].bits.set("accumulator", None);
        plan.default.accumulator.as_mut().unwrap().bits = 20;
        assert_eq!(sum(&plan), 20);
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
        assert_eq!(bits(config(planner.first("a", conv()))), [8, 8]);
        planner.layer("relu", ReluConfig::new()).unwrap();
        assert_eq!(bits(config(planner.layer("b", conv()))), [4, 4]);
        assert_eq!(bits(config(planner.last("c", conv()))), [3, 6]);
        assert_eq!(planner.finish().unwrap().len(), 4);
        let mut planner = Planner::new(&plan).unwrap();
        planner.first("c", conv()).unwrap();
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
        let refused = planner.first("a", conv()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a.input: bits is 77, expected 2 to 24 (tqt)"
        );
    }

    #[test]
    fn branches_that_meet_share_one_quantizer() {
        let plan = TqtPlan::new(8, 8).all_tensors().plan();
        let mut planner = Planner::new(&plan).unwrap();
        let add = config(planner.layer("add", AddConfig::new()));
        assert_eq!(add.get("input").unwrap().bits(), 8);
        let relu = planner.layer("relu", ReluConfig::new());
        assert_eq!(config(relu), QConfig::default());
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
        planner.first("conv1", conv()).unwrap();
        assert_eq!(
            planner.finish().unwrap_err().to_string(),
            "overrides[0]: path `conv9` matches no layer; the nearest is `conv1`"
        );
    }

    /// Folded in training, a convolution quantizes the bias that the normalization gives it.
    #[test]
    fn a_folded_convolution_has_a_bias_to_quantize() {
        for (fold, expected) in [(Fold::Off, None), (Fold::Training, Some(16))] {
            let plan = QPlan {
                fold,
                ..TqtPlan::new(8, 8).all_tensors().plan()
            };
            let mut planner = Planner::new(&plan).unwrap();
            let layer = planner.foldable(conv());
            let planned = config(planner.first("conv", layer));
            assert_eq!(planned.get("bias").map(|bias| bias.bits()), expected);
            planner.norm("bn", BatchNormConfig::new(1)).unwrap();
            let listed = if fold.is_off() { 2 } else { 1 };
            assert_eq!(planner.finish().unwrap().len(), listed);
        }
    }

    #[test]
    fn a_layers_own_bad_field_names_its_path() {
        let plan = QPlan::float();
        let mut planner = Planner::new(&plan).unwrap();
        let refused = planner
            .layer("conv1", conv().with_stride([0, 1]))
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "conv1.stride: is [0, 1], expected at least 1 each"
        );
        let shift = ShiftConv2dConfig::new([1, 1], [1, 1]).with_weight_bits(9);
        assert_eq!(
            planner.layer("shift", shift).unwrap_err().to_string(),
            "shift.weight_bits: is 9, expected 2 to 8"
        );
    }
}
