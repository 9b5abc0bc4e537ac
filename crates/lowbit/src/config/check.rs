//! A plan against the layers of a network: what each slot gets, which entry says so, and what is
//! wrong with the plan, all of it at once.

use super::nearest::nearest;
use super::which::Which;
use super::{Layer, Part, QConfig, QPlan, Resolved, Rule};
use crate::Error;
use crate::quantizers::{QuantizerConfig, Slot};

/// The layers so far, and the entries of a plan that did something for them.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// The place of each layer among those with a weight.
    positions: Vec<Option<usize>>,
    matched: Vec<Rule>,
    /// Overrides with slots that they changed.
    changed: Vec<(usize, String)>,
}

impl Used {
    /// What a plan makes of the next layer, and its place among those with a weight.
    pub(super) fn resolve(&mut self, plan: &QPlan, layer: &Layer) -> (Resolved, Option<usize>) {
        let weights = self.weights();
        let position = layer.description.weight.map(|_| weights);
        let resolved = plan.resolve(layer, position);
        self.positions.push(position);
        self.note(&resolved);
        (resolved, position)
    }

    /// How many layers have a weight.
    fn weights(&self) -> usize {
        self.positions.iter().flatten().count()
    }

    fn note(&mut self, resolved: &Resolved) {
        self.matched.extend(&resolved.matched);
        for (slot, rules) in resolved.rules.iter() {
            for rule in rules {
                if let Rule::Override(i) = rule {
                    self.changed.push((*i, slot.into()));
                }
            }
        }
        self.changed.extend(resolved.replaced.iter().cloned());
    }

    /// Overrides, then widths, that matched no layer and should.
    fn unmatched(&self, plan: &QPlan) -> impl Iterator<Item = Rule> {
        let overrides = plan.overrides.iter().enumerate();
        let overrides = overrides.filter(|(_, rule)| !rule.optional);
        let overrides = overrides.map(|(i, _)| Rule::Override(i));
        let widths = (0..plan.widths.len()).map(Rule::Widths);
        let all = overrides.chain(widths);
        all.filter(|rule| !self.matched.contains(rule))
    }

    /// Slots that an override names and that none of its layers has. A bias is no error for layers
    /// that happen to have none.
    fn idle<'a>(&'a self, plan: &'a QPlan) -> impl Iterator<Item = (usize, String)> + 'a {
        let overrides = plan.overrides.iter().enumerate();
        let matching = overrides.filter(|(i, _)| self.matched.contains(&Rule::Override(*i)));
        let named = matching.flat_map(|(i, item)| {
            let set = item.partial().unwrap_or_default();
            let set: Vec<String> = set.named().map(String::from).collect();
            let float = item.float.iter().map(|slot| slot.name().to_string());
            let names = set.into_iter().chain(float);
            names.map(move |slot| (i, slot))
        });
        named.filter(|named| named.1 != Slot::BIAS && !self.changed.contains(named))
    }
}

fn which(plan: &QPlan, rule: Rule) -> Which<'_> {
    match rule {
        Rule::Override(i) => plan.overrides[i].which(),
        Rule::Widths(i) => plan.widths[i].which(),
        Rule::Part(_) | Rule::LayerWidth(_) => Which::default(),
    }
}

/// A plan against the layers of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanCheck {
    /// The layers, in order.
    pub layers: Vec<CheckedLayer>,
    /// Everything that is wrong; a plan without problems can be built.
    pub problems: Vec<Problem>,
}

/// A layer with what a plan makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedLayer {
    /// Its path.
    pub path: String,
    /// Its type.
    pub layer_type: &'static str,
    /// Its place among the layers with a weight, from 0; none without a weight.
    pub position: Option<usize>,
    /// Its slots, in order.
    pub slots: Vec<CheckedSlot>,
}

/// A slot with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedSlot {
    /// Its name.
    pub slot: String,
    /// What is in it, in a line: the method, its width, and what else is not as usual; `None` in
    /// float.
    pub quantized: Option<String>,
    /// Keys of the entries that say so, such as `default.weight` and `widths[0].weight`; none
    /// where the plan says nothing of the slot.
    pub entries: Vec<String>,
}

/// Something that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key of the entry.
    pub entry: String,
    /// What is wrong.
    pub message: String,
}

impl QPlan {
    /// The plan against the layers of a network, of which paths, parts and descriptions are asked:
    /// those of the network in float, with the same [`fold`](Self::fold).
    ///
    /// # Example
    /// ```
    /// use lowbit::config::{Planner, QPlan};
    /// use lowbit::nn::LinearConfig;
    ///
    /// let float = QPlan::float();
    /// let mut planner = Planner::new(&float)?;
    /// planner.first("fc1", LinearConfig::new(64, 32))?;
    /// planner.last("fc2", LinearConfig::new(32, 10))?;
    /// let layers = planner.finish()?;
    ///
    /// let plan = QPlan::from_toml("[[overrides]]\npath = \"fc3\"\nfloat = [\"input\"]\n")?;
    /// let checked = plan.check_on(&layers);
    /// assert_eq!(
    ///     checked.problems[0].message,
    ///     "path `fc3` matches no layer; the nearest is `fc1`"
    /// );
    /// # Ok::<(), lowbit::Error>(())
    /// ```
    pub fn check_on(&self, layers: &[Layer]) -> PlanCheck {
        let mut checked = PlanCheck::default();
        let mut used = Used::default();
        for layer in layers {
            let (resolved, position) = used.resolve(self, layer);
            let refused = layer.description.check(&layer.path, &resolved.config);
            if let Err(error) = refused {
                checked.problems.push(self.blame(layer, &resolved, &error));
            }
            checked.layers.push(CheckedLayer {
                path: layer.path.clone(),
                layer_type: layer.description.name,
                position,
                slots: self.slots_of(layer, &resolved),
            });
        }
        checked.problems.extend(self.check_used(layers, &used));
        checked
    }

    fn slots_of(&self, layer: &Layer, resolved: &Resolved) -> Vec<CheckedSlot> {
        let slots = layer.description.every_slot();
        let checked = slots.map(|slot| {
            let rules = resolved.rules.get(slot).into_iter().flatten();
            CheckedSlot {
                slot: slot.into(),
                quantized: quantized(&resolved.config, slot),
                entries: rules.map(|&rule| self.entry(rule, slot)).collect(),
            }
        });
        checked.collect()
    }

    /// The key of what an entry says of a slot.
    fn entry(&self, rule: Rule, slot: &str) -> String {
        match rule {
            Rule::Part(Part::Float) | Rule::LayerWidth(_) => rule.to_string(),
            Rule::Part(_) | Rule::Widths(_) => format!("{rule}.{slot}"),
            Rule::Override(i) => {
                let item = &self.overrides[i];
                let set = item.set.as_ref().is_some_and(|set| set.names(slot));
                if set {
                    format!("{rule}.set.{slot}")
                } else if item.config.names(slot) {
                    format!("{rule}.config.{slot}")
                } else if item.float.iter().any(|name| name.name() == slot) {
                    format!("{rule}.float")
                } else {
                    rule.to_string()
                }
            }
        }
    }

    /// What a layer's refusal says, with the entry of the slot that it speaks of.
    fn blame(&self, layer: &Layer, resolved: &Resolved, error: &Error) -> Problem {
        let text = error.to_string();
        let missing = |slot: &&str| !layer.description.has_slot(slot);
        let within = text.strip_prefix(&format!("{}.", layer.path));
        let named = |slot: &&str| within.is_some_and(|rest| rest.starts_with(*slot));
        let config = &resolved.config;
        let slot = config.named().find(named);
        let slot = slot.or_else(|| config.named().find(missing));
        let slot = slot.unwrap_or_default();
        let rules = resolved.rules.get(slot).map_or(&[][..], Vec::as_slice);
        // A plan's quantizers can be built as they stand: it is a width that took one out of its range.
        let rule = match is_out_of_range(config, slot) {
            true => rules.last(),
            false => rules.first(),
        };
        let rule = rule.or(resolved.matched.first());
        Problem {
            entry: rule.map_or("plan".into(), |&rule| self.entry(rule, slot)),
            message: text,
        }
    }

    /// What is wrong once all layers are known: patterns that match nothing and slots that nothing has,
    /// with the nearest that there are, and widths that are not one for each layer.
    pub(super) fn check_used(&self, layers: &[Layer], used: &Used) -> Vec<Problem> {
        let unmatched = used.unmatched(self).map(|rule| Problem {
            entry: rule.to_string(),
            message: no_match(which(self, rule), layers, used.weights()),
        });
        let mut problems: Vec<Problem> = unmatched.collect();
        problems.extend(self.check_slots(layers));
        problems.extend(self.check_idle(layers, used));
        let (given, weights) = (self.layer_widths.len(), used.weights());
        if given != 0 && given != weights {
            problems.push(Problem {
                entry: "layer_widths".into(),
                message: format!("has {given} widths, the network {weights} layers with a weight"),
            });
        }
        problems
    }

    /// Slots that no layer has. Input, weight, bias, sum and output are of layers everywhere: a plan
    /// may speak of biases to a network without any.
    fn check_slots(&self, layers: &[Layer]) -> Vec<Problem> {
        let known = |slot: &str| {
            let has = |layer: &Layer| layer.description.has_slot(slot);
            Slot::EVERYWHERE.contains(&slot) || layers.iter().any(has)
        };
        let slots = layers.iter().flat_map(|l| l.description.every_slot());
        let slots: Vec<&str> = slots.collect();
        let unknown = self.spoken_of().filter(|(_, slot)| !known(slot));
        let problems = unknown.map(|(part, slot)| Problem {
            entry: format!("{part}.{slot}"),
            message: format!("no layer has the slot `{slot}`{}", suggestion(slot, &slots)),
        });
        problems.collect()
    }

    /// Slots that none of the layers has which an override matches.
    fn check_idle(&self, layers: &[Layer], used: &Used) -> Vec<Problem> {
        let problems = used.idle(self).map(|(i, slot)| {
            let which = self.overrides[i].which();
            let placed = layers.iter().zip(&used.positions);
            let matching = placed.filter(|(layer, position)| which.fits(layer, **position));
            let own = matching.flat_map(|(layer, _)| layer.description.every_slot());
            let own: Vec<&str> = own.collect();
            let nearest = suggestion(&slot, &own);
            Problem {
                entry: self.entry(Rule::Override(i), &slot),
                message: format!("no layer that it matches has the slot `{slot}`{nearest}"),
            }
        });
        problems.collect()
    }
}

/// Whether what is in a slot can be built nowhere.
fn is_out_of_range(config: &QConfig, slot: &str) -> bool {
    let accumulator = config.accumulator.as_ref();
    match (slot, accumulator) {
        (Slot::ACCUMULATOR, Some(accumulator)) => accumulator.check().is_err(),
        _ => config.get(slot).is_some_and(|q| q.check(slot).is_err()),
    }
}

fn suggestion(text: &str, known: &[&str]) -> String {
    let nearest = nearest(text, known.iter().copied());
    nearest.map_or(String::new(), |near| format!("; the nearest is `{near}`"))
}

/// Which of the things that are asked no layer is, or that none is all of them; so many layers have a
/// weight.
fn no_match(which: Which<'_>, layers: &[Layer], weights: usize) -> String {
    let paths: Vec<&str> = layers.iter().map(|layer| layer.path.as_str()).collect();
    let types: Vec<&str> = layers.iter().map(|layer| layer.description.name).collect();
    let alone = [
        Which {
            path: which.path,
            ..Which::default()
        },
        Which {
            regex: which.regex,
            ..Which::default()
        },
        Which {
            layer_type: which.layer_type,
            ..Which::default()
        },
    ];
    let regex = which.regex.map(|regex| regex.as_pattern());
    let texts = [which.path, regex.as_deref(), which.layer_type];
    let known = [&paths, &paths, &types];
    for ((alone, text), known) in alone.iter().zip(texts).zip(known) {
        let Some(text) = text else { continue };
        if !layers.iter().any(|layer| alone.fits(layer, None)) {
            let wanted = alone.wanted().join("");
            return format!("{wanted} matches no layer{}", suggestion(text, known));
        }
    }
    let wanted = which.wanted().join(" and ");
    match which.position {
        Some(_) => format!("{wanted} matches no layer; {weights} have a weight, from 0"),
        None => format!("{wanted} match no layer together"),
    }
}

/// What is in a slot, in a line.
fn quantized(config: &QConfig, slot: &str) -> Option<String> {
    match slot {
        Slot::ACCUMULATOR => {
            let accumulator = config.accumulator.as_ref()?;
            Some(format!("{} bits", accumulator.bits))
        }
        Slot::ACCUMULATE => config.accumulate.as_ref().map(ToString::to_string),
        slot => {
            let line = in_a_line(config.get(slot)?);
            let shares = config.share.iter().any(|name| name.name() == slot);
            let others = config.share.iter().map(Slot::name);
            let others: Vec<&str> = others.filter(|&other| other != slot).collect();
            Some(match (shares, others.is_empty()) {
                (true, true) => format!("{line}, scale shared with what its neurons read"),
                (true, false) => format!("{line}, scale shared with {}", others.join(" ")),
                (false, _) => line,
            })
        }
    }
}

/// The method with its width, or the format, and what else is not as usual.
fn in_a_line(quantizer: &QuantizerConfig) -> String {
    let Ok(toml::Value::Table(fields)) = toml::Value::try_from(quantizer) else {
        return quantizer.name().into();
    };
    let first = ["method", "bits", "format"];
    let short = fields.clone().into_iter();
    let short: toml::Table = short.filter(|(key, _)| first.contains(&&key[..])).collect();
    let usual = short.try_into::<QuantizerConfig>().ok();
    let usual = usual.and_then(|usual| toml::Table::try_from(usual).ok());
    let usual = usual.unwrap_or_default();
    let mut line = match (fields.get("format"), fields.get("bits")) {
        (Some(format), _) => format.as_str().unwrap_or_default().to_string(),
        (None, Some(bits)) => format!("{} {bits}", quantizer.name()),
        (None, None) => quantizer.name().into(),
    };
    for (key, value) in &fields {
        if !first.contains(&&key[..]) && usual.get(key) != Some(value) {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            line.push_str(&format!(", {key} {value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Planner;
    use crate::nn::*;

    /// Two convolutions with a normalization and a rectifier between them, and a linear layer.
    fn layers() -> Vec<Layer> {
        let plan = QPlan::float();
        let mut planner = Planner::new(&plan).unwrap();
        let conv = || Conv2dConfig::new([1, 1], [1, 1]);
        planner.first("stem.conv", conv()).unwrap();
        planner.layer("stem.bn", BatchNormConfig::new(1)).unwrap();
        planner.layer("stem.relu", ReluConfig::new()).unwrap();
        planner.layer("body.conv", conv()).unwrap();
        planner.last("fc", LinearConfig::new(1, 1)).unwrap();
        planner.finish().unwrap()
    }

    fn checked(text: &str) -> PlanCheck {
        QPlan::from_toml(text).unwrap().check_on(&layers())
    }

    fn slot(checked: &PlanCheck, path: &str, slot: &str) -> (String, Vec<String>) {
        let layer = checked.layers.iter().find(|l| l.path == path).unwrap();
        let found = layer.slots.iter().find(|s| s.slot == slot).unwrap();
        let quantized = found.quantized.clone();
        (quantized.unwrap_or("float".into()), found.entries.clone())
    }

    #[test]
    fn every_slot_says_what_decides_it_and_the_last_match_wins() {
        let checked = checked(
            "[default]
            weight = { method = \"tqt\", bits = 4 }
            input = { method = \"tqt\", bits = 4, init = \"max\" }
            [[overrides]]
            type = \"Conv2d\"
            set.weight = { method = \"lsq\", bits = 8 }
            set.output = { method = \"format\", format = \"e4m3\" }
            [[overrides]]
            regex = \"^body\"
            set.weight = { method = \"lsq\", bits = 3 }
            float = [\"input\"]
            [[overrides]]
            position = \"last\"
            config.bias = { method = \"tqt\", bits = 16 }
            [[widths]]
            position = [1]
            weight = 5
            ",
        );
        assert_eq!(checked.problems, []);
        let says = |path: &str, name: &str| {
            let (quantized, entries) = slot(&checked, path, name);
            format!("{quantized}: {}", entries.join(" "))
        };
        assert_eq!(
            says("stem.conv", "weight"),
            "lsq 8: overrides[0].set.weight"
        );
        assert_eq!(says("stem.conv", "output"), "e4m3: overrides[0].set.output");
        assert_eq!(says("stem.conv", "input"), "float: ");
        assert_eq!(
            says("body.conv", "weight"),
            "lsq 5: overrides[1].set.weight widths[0].weight"
        );
        assert_eq!(says("body.conv", "input"), "float: overrides[1].float");
        assert_eq!(says("fc", "bias"), "tqt 16: overrides[2].config.bias");
        assert_eq!(says("fc", "weight"), "float: overrides[2]");
        assert_eq!(says("stem.relu", "input"), "float: ");
        let positions: Vec<_> = checked.layers.iter().map(|l| l.position).collect();
        assert_eq!(positions, [Some(0), None, None, Some(1), Some(2)]);
    }

    /// Where a layer has no bias, there is nothing to share a scale with.
    #[test]
    fn a_shared_scale_is_said() {
        let linear = "method = \"range-linear\", scheme = \"symmetric\"";
        let text = format!(
            "[last]
            share = [\"weight\", \"bias\", \"threshold\"]
            weight = {{ {linear}, bits = 8 }}
            bias = {{ {linear}, bits = 16 }}
            threshold = {{ {linear}, bits = 16 }}"
        );
        let plan = QPlan::from_toml(&text).unwrap();
        let checked = plan.check_on(&layers());
        let said = slot(&checked, "fc", "weight").0;
        assert_eq!(
            said,
            "range-linear 8, scheme symmetric, scale shared with bias"
        );
        let mut planner = Planner::new(&plan).unwrap();
        let layer = LinearConfig::new(1, 1).with_bias(false);
        let layer = planner.last("fc", layer).unwrap();
        assert!(layer.quantization.share.is_empty());
    }

    /// What is checked is what the network is built with.
    #[test]
    fn a_plan_is_built_as_it_is_checked() {
        let text = "[default]
            weight = { method = \"tqt\", bits = 4 }
            [[overrides]]
            regex = \"conv\"
            set.input = { method = \"tqt\", bits = 8 }
            ";
        let plan = QPlan::from_toml(text).unwrap();
        let mut planner = Planner::new(&plan).unwrap();
        let conv = || Conv2dConfig::new([1, 1], [1, 1]);
        planner.first("stem.conv", conv()).unwrap();
        planner.layer("body.conv", conv()).unwrap();
        let built = planner.finish().unwrap();
        let says = |layer: &Layer, slot| quantized(&layer.config, slot);
        assert_eq!(says(&built[0], "weight"), None);
        assert_eq!(says(&built[0], "input").as_deref(), Some("tqt 8"));
        assert_eq!(says(&built[1], "weight").as_deref(), Some("tqt 4"));
        assert_eq!(says(&built[1], "input").as_deref(), Some("tqt 8"));
    }

    /// 4 bits are in range, 77 are not; an accumulator has no more than 64.
    #[test]
    fn the_entry_with_the_last_width_is_to_blame() {
        let tqt = "{ method = \"tqt\", bits = 4 }";
        let default = format!("[default]\nweight = {tqt}\ninput = {tqt}\n");
        for (widths, expected) in [
            (
                "[[widths]]\npath = \"body*\"\nweight = 77\n",
                "widths[0].weight",
            ),
            (
                "[[widths]]\npath = \"body*\"\ninput = 77\n",
                "widths[0].input",
            ),
            (
                "[[widths]]\npath = \"body*\"\nweight = 6\n[[widths]]\ntype = \"Conv2d\"\nweight = 1\n",
                "widths[1].weight",
            ),
            (
                "accumulator = { bits = 20 }\n[[widths]]\npath = \"body*\"\naccumulator = 99\n",
                "widths[0].accumulator",
            ),
        ] {
            let checked = checked(&format!("{default}{widths}"));
            let entries = checked.problems.iter().map(|problem| &problem.entry[..]);
            assert_eq!(entries.collect::<Vec<_>>(), [expected]);
        }
        let text = format!("layer_widths = [4, 99, 4]\n{default}");
        let entry = &checked(&text).problems[0].entry;
        assert_eq!(entry, "layer_widths[1]");
    }

    #[test]
    fn what_matches_nothing_is_named_with_the_nearest() {
        let problems = |text: &str| {
            let checked = checked(text);
            let lines = checked.problems.into_iter();
            let lines = lines.map(|Problem { entry, message }| format!("{entry}: {message}"));
            lines.collect::<Vec<_>>()
        };
        let set = "set.weight = { method = \"tqt\", bits = 8 }";
        for (which, expected) in [
            (
                "path = \"*.covn\"",
                "path `*.covn` matches no layer; the nearest is `stem.conv`",
            ),
            (
                "type = \"Conv2\"",
                "type `Conv2` matches no layer; the nearest is `Conv2d`",
            ),
            (
                "regex = \"^bdoy\\\\.conv\"",
                "regex `^bdoy\\.conv` matches no layer; the nearest is `body.conv`",
            ),
            (
                "position = 3",
                "position `3` matches no layer; 3 have a weight, from 0",
            ),
            (
                "path = \"fc\"\ntype = \"Conv2d\"",
                "path `fc` and type `Conv2d` match no layer together",
            ),
        ] {
            let found = problems(&format!("[[overrides]]\n{which}\n{set}\n"));
            assert_eq!(found, [format!("overrides[0]: {expected}")]);
        }
        let tqt = "{ method = \"tqt\", bits = 8 }";
        assert_eq!(
            problems(&format!("[default]\nwieght = {tqt}\n")),
            ["default.wieght: no layer has the slot `wieght`; the nearest is `weight`"]
        );
        assert_eq!(
            problems(&format!(
                "[[overrides]]\ntype = \"Linear\"\nset.wieght = {tqt}\n"
            )),
            [
                "overrides[0].set.wieght: no layer that it matches has the slot `wieght`; the nearest \
                 is `weight`"
            ]
        );
        assert_eq!(
            problems(&format!(
                "[[overrides]]\npath = \"stem.relu\"\nconfig.weight = {tqt}\n"
            )),
            ["overrides[0].config.weight: stem.relu: a Relu has no weight to quantize"]
        );
    }
}
