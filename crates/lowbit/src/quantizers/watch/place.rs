//! Where in a network a quantizer is, and choosing some of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A tensor of a layer: the layer's path and type, and the slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The layer's path, such as `layer1.0.conv1`; empty where the layer is the whole module.
    pub layer: String,
    /// Its type, such as `Conv2d`.
    pub layer_type: String,
    /// The slot, such as `weight`.
    pub slot: String,
}

/// The path of a tensor: `layer1.0.conv1.weight`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer.as_str() {
            "" => f.write_str(&self.slot),
            layer => write!(f, "{layer}.{}", self.slot),
        }
    }
}

/// The way from a network to one of its parameters, kept while a mapper or a visitor walks.
#[derive(Debug, Clone, Default)]
pub struct ModulePath {
    /// Name of each field, and type of the module that has it.
    steps: Vec<(String, String)>,
}

impl ModulePath {
    /// The name of the field that holds a layer's quantizers.
    const QUANTIZERS: &str = "quantizers";
    /// What holds what a parameter's value is made by.
    const REPARAMETERIZATION: &str = "Reparameterization";

    /// Goes into a field, as `enter_module` says.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        self.steps.push((name.into(), container_type.into()));
    }

    /// Goes back.
    pub fn exit(&mut self) {
        self.steps.pop();
    }

    /// The name of the innermost field.
    pub fn field(&self) -> &str {
        self.steps.last().map_or("", |(name, _)| name)
    }

    /// The type of the module that has the innermost field, such as `BatchNorm`.
    pub fn holder_type(&self) -> &str {
        self.steps
            .last()
            .map_or("", |(_, holder)| type_name(holder))
    }

    /// The path of that module.
    pub fn holder(&self) -> String {
        self.joined(self.steps.len().saturating_sub(1))
    }

    /// The parameter's own path, as records name it.
    pub fn key(&self) -> String {
        self.joined(self.steps.len())
    }

    /// The first `count` names; a network in an enum of networks names its layers without the
    /// enum's variant, and a student in what is trained with it as if it were alone.
    fn joined(&self, count: usize) -> String {
        let outer = self.steps.iter().take_while(|(name, holder)| {
            holder.starts_with("Enum:") || name == "student" && holder == "Struct:Learner"
        });
        let outer = outer.count();
        let names = self.steps[..count].iter().skip(outer);
        let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
        names.join(".")
    }

    /// The tensor whose quantizer the walk is in, if it is in one.
    pub fn place(&self) -> Option<Place> {
        let at = self
            .steps
            .iter()
            .position(|(name, _)| name == Self::QUANTIZERS)?;
        let (slot, _) = self.steps.get(at + 1)?;
        // A parameter's own quantizers are inside it, one step below those of a layer.
        let own = self.steps[at].1 == Self::REPARAMETERIZATION;
        let layer = at.saturating_sub(usize::from(own));
        Some(Place {
            layer: self.joined(layer),
            layer_type: type_name(&self.steps[layer].1).into(),
            slot: slot.clone(),
        })
    }
}

fn type_name(container: &str) -> &str {
    container
        .split_once(':')
        .map_or(container, |(_, name)| name)
}

/// A choice of tensors by path, by layer type and by slot. What it names nothing of, it leaves
/// open; exclusions win.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Paths of layers or of tensors, in which `*` stands for any characters.
    pub paths: Vec<String>,
    /// Types of layers.
    pub types: Vec<String>,
    /// Slots.
    pub slots: Vec<String>,
    /// Paths that are left out.
    pub except_paths: Vec<String>,
    /// Types that are left out.
    pub except_types: Vec<String>,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Also the layers or tensors whose path has the form `pattern`.
    pub fn path(mut self, pattern: impl Into<String>) -> Self {
        self.paths.push(pattern.into());
        self
    }

    /// Also the layers of a type.
    pub fn layer_type(mut self, name: impl Into<String>) -> Self {
        self.types.push(name.into());
        self
    }

    /// Only this slot, or the slots named this way before.
    pub fn slot(mut self, slot: impl Into<String>) -> Self {
        self.slots.push(slot.into());
        self
    }

    /// Not the layers or tensors whose path has the form `pattern`.
    pub fn except_path(mut self, pattern: impl Into<String>) -> Self {
        self.except_paths.push(pattern.into());
        self
    }

    /// Not the layers of a type.
    pub fn except_type(mut self, name: impl Into<String>) -> Self {
        self.except_types.push(name.into());
        self
    }

    /// Whether a tensor is chosen.
    pub fn accepts(&self, place: &Place) -> bool {
        let at = |patterns: &[String]| {
            let whole = place.to_string();
            let fits = |p: &String| matches(p, &place.layer) || matches(p, &whole);
            patterns.iter().any(fits)
        };
        let of = |types: &[String]| types.contains(&place.layer_type);
        let open = self.paths.is_empty() && self.types.is_empty();
        (open || at(&self.paths) || of(&self.types))
            && (self.slots.is_empty() || self.slots.contains(&place.slot))
            && !at(&self.except_paths)
            && !of(&self.except_types)
    }
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

    fn place(layer: &str, layer_type: &str, slot: &str) -> Place {
        Place {
            layer: layer.into(),
            layer_type: layer_type.into(),
            slot: slot.into(),
        }
    }

    #[test]
    fn a_selection_includes_and_excludes_by_path_type_and_slot() {
        let conv = place("layer1.0.conv1", "Conv2d", "weight");
        let fc = place("fc", "Linear", "input");
        assert!(Selection::all().accepts(&conv));
        let convs = Selection::all().layer_type("Conv2d");
        assert!(convs.accepts(&conv) && !convs.accepts(&fc));
        let weights = Selection::all().slot("weight");
        assert!(weights.accepts(&conv) && !weights.accepts(&fc));
        let but = Selection::all().except_path("layer1.*");
        assert!(!but.accepts(&conv) && but.accepts(&fc));
        assert!(!Selection::all().except_type("Linear").accepts(&fc));
        assert!(Selection::all().path("fc.input").accepts(&fc));
    }

    #[test]
    fn a_walk_names_the_layer_without_the_variant_of_the_network() {
        let mut path = ModulePath::default();
        path.enter("LeNet", "Enum:Network");
        path.enter("conv1", "Struct:LeNet5");
        path.enter("quantizers", "Struct:Conv2d");
        path.enter("weight", "Struct:Quantizers");
        path.enter("TrainedThreshold", "Enum:Quantizer");
        path.enter("log2_threshold", "Struct:TrainedThreshold");
        assert_eq!(path.place(), Some(place("conv1", "Conv2d", "weight")));
        assert_eq!(
            path.key(),
            "conv1.quantizers.weight.TrainedThreshold.log2_threshold"
        );
    }
}
