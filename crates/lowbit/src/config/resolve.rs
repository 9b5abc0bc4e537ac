//! What a plan makes of one layer, and which of its entries say so.

use std::fmt;

use super::which::Which;
use super::{Layer, Override, Part, QConfig, QPlan, Widths};
use crate::quantizers::{PerSlot, Slot};

/// An entry of a plan that says what is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The part that the layer takes before any override.
    Part(Part),
    /// An override, by its place among them.
    Override(usize),
    /// A width of `layer_widths`.
    LayerWidth(usize),
    /// Widths, by their place among them.
    Widths(usize),
}

/// The entry's key in TOML.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(part) => f.write_str(part.key().unwrap_or("float")),
            Self::Override(i) => write!(f, "overrides[{i}]"),
            Self::LayerWidth(i) => write!(f, "layer_widths[{i}]"),
            Self::Widths(i) => write!(f, "widths[{i}]"),
        }
    }
}

/// What a plan makes of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// What the layer quantizes.
    pub config: QConfig,
    /// For each slot of which the plan says something, a slot in float included: the entry that
    /// decides what is in it, and those after it that change its width.
    pub rules: PerSlot<Vec<Rule>>,
    /// The overrides and widths that match the layer.
    pub matched: Vec<Rule>,
    /// Overrides with slots that they decided until another did.
    pub(super) replaced: Vec<(usize, String)>,
}

impl Resolved {
    fn decide(&mut self, slot: &str, rule: Rule) {
        if let Some([Rule::Override(i), ..]) = self.rules.get(slot).map(Vec::as_slice) {
            self.replaced.push((*i, slot.into()));
        }
        self.rules.set(slot, Some(vec![rule]));
    }

    fn change(&mut self, slot: &str, rule: Rule) {
        match self.rules.get_mut(slot) {
            Some(rules) => rules.push(rule),
            None => self.decide(slot, rule),
        }
    }

    /// Of the part of the plan, the slots that the layer has: a default says what is quantized where
    /// it exists.
    fn start(plan: &QPlan, layer: &Layer) -> Self {
        let config = match layer.part {
            Part::Float => QConfig::default(),
            Part::Default => plan.default.clone(),
            Part::First => plan.first.clone(),
            Part::Last => plan.last.clone(),
            Part::Unweighted => plan.unweighted.clone(),
        };
        let config = config.restricted(|slot| layer.description.has_slot(slot));
        let mut resolved = Self::default();
        for slot in config.named() {
            resolved.decide(slot, Rule::Part(layer.part));
        }
        Self { config, ..resolved }
    }

    /// An override that matches.
    fn replace(&mut self, layer: &Layer, item: &Override, rule: Rule) {
        let Some(set) = item.partial() else {
            self.config = item.config.clone();
            for slot in layer.description.every_slot() {
                self.decide(slot, rule);
            }
            for slot in item.config.named() {
                self.decide(slot, rule);
            }
            return;
        };
        let float = item.float.iter().map(Slot::name);
        for slot in set.named().chain(float) {
            if layer.description.has_slot(slot) {
                self.config.take(slot, &set);
                self.decide(slot, rule);
            }
        }
    }

    /// Widths that match.
    fn widen(&mut self, widths: &Widths, rule: Rule) {
        widths.apply(&mut self.config);
        for (slot, _) in widths.bits.iter() {
            if self.config.names(slot) {
                self.change(slot, rule);
            }
        }
    }
}

impl QPlan {
    /// What the plan makes of a layer, of which path, part and description are asked; `index` counts
    /// the layers with a weight before it, where it has one.
    pub fn resolve(&self, layer: &Layer, index: Option<usize>) -> Resolved {
        let fits = |which: Which<'_>| which.fits(layer, index);
        let mut resolved = Resolved::start(self, layer);
        for (i, item) in self.overrides.iter().enumerate() {
            if fits(item.which()) {
                resolved.matched.push(Rule::Override(i));
                resolved.replace(layer, item, Rule::Override(i));
            }
        }
        let description = &layer.description;
        let weight = description.weight_format.as_ref();
        let usual = resolved.config.usual_accumulator(weight);
        let sum = resolved.config.accumulator.as_ref().map(|sum| sum.bits);
        let mut follows = usual.is_some() && sum == usual;
        if let Some((i, &bits)) = index.and_then(|i| Some((i, self.layer_widths.get(i)?))) {
            let both = Widths::default().with("input", bits).with("weight", bits);
            resolved.widen(&both, Rule::LayerWidth(i));
        }
        for (i, item) in self.widths.iter().enumerate() {
            if fits(item.which()) {
                resolved.matched.push(Rule::Widths(i));
                resolved.widen(item, Rule::Widths(i));
                follows &= item.bits.get(Slot::ACCUMULATOR).is_none();
            }
        }
        // A usual width of sums is that of the widths that the layer has in the end.
        if follows {
            let bits = resolved.config.usual_accumulator(weight);
            resolved.config = resolved.config.with_accumulator(bits);
        }
        // A layer without bias has nothing to do for an override that speaks of one.
        if !description.has_slot(Slot::BIAS) {
            resolved.config = resolved.config.restricted(|slot| slot != Slot::BIAS);
        }
        resolved
    }
}
