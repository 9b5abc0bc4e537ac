//! Which layers an entry of a plan is for.

use std::fmt;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::Layer;
use crate::quantizers::matches;

/// A regular expression, as the crate `regex` reads it, which a layer's path has somewhere: `^` and
/// `$` are its ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathRegex(Regex);

impl PathRegex {
    /// Whether it is in the path.
    pub fn is_in(&self, path: &str) -> bool {
        self.0.is_match(path)
    }

    /// What it looks like as a path in which `*` stands for any characters, to find what is near.
    pub(super) fn as_pattern(&self) -> String {
        let text = self.as_str();
        let mut pattern = text.replace(r"\.", "\0");
        for any in [".*", ".+", r"\d+", r"\d", "."] {
            pattern = pattern.replace(any, "*");
        }
        let is_mark = |c: char| "^$()?".contains(c);
        let pattern = pattern.replace('\0', ".").replace(is_mark, "");
        let open = |is_end: bool| if is_end { "" } else { "*" };
        let (start, end) = (open(text.starts_with('^')), open(text.ends_with('$')));
        format!("{start}{pattern}{end}")
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// They are equal where their texts are.
impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for PathRegex {}

impl TryFrom<String> for PathRegex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = |error: regex::Error| {
            let lines = error.to_string();
            // The last line says what is wrong, those before it where.
            let reason = lines.lines().last().unwrap_or_default().trim();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("`{text}` is no regular expression: {reason}")
        };
        Regex::new(&text).map(Self).map_err(refused)
    }
}

impl From<PathRegex> for String {
    fn from(regex: PathRegex) -> Self {
        regex.as_str().into()
    }
}

/// The places of layers among those with a weight, in the order in which the network has them. In
/// TOML, `first`, `last`, a number counted from 0, or a list of those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected `first`, `last`, a number from 0 or a list of those"
)]
pub enum Position {
    /// One of the ends.
    End(End),
    /// So many layers with a weight come before it.
    Index(usize),
    /// One of several.
    AnyOf(Vec<Position>),
}

/// An end of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The first layer with a weight.
    First,
    /// The one that the network says is its last; see [`Planner::last`](super::Planner::last).
    Last,
}

impl Position {
    /// Whether a layer is there.
    fn is_of(&self, index: Option<usize>, part: Part) -> bool {
        match self {
            Self::End(End::First) => index == Some(0),
            Self::End(End::Last) => part == Part::Last,
            Self::Index(at) => index == Some(*at),
            Self::AnyOf(several) => several.iter().any(|one| one.is_of(index, part)),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End(End::First) => f.write_str("first"),
            Self::End(End::Last) => f.write_str("last"),
            Self::Index(at) => write!(f, "{at}"),
            Self::AnyOf(several) => {
                let several: Vec<String> = several.iter().map(Self::to_string).collect();
                write!(f, "[{}]", several.join(", "))
            }
        }
    }
}

/// The part of a plan that a layer takes before any override.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    /// None: a layer without a weight whose results are on its inputs' grid.
    #[default]
    Float,
    /// `default`.
    Default,
    /// `first`.
    First,
    /// `last`.
    Last,
    /// `unweighted`.
    Unweighted,
}

impl Part {
    /// Its key in TOML, if it has one.
    pub fn key(self) -> Option<&'static str> {
        match self {
            Self::Float => None,
            Self::Default => Some("default"),
            Self::First => Some("first"),
            Self::Last => Some("last"),
            Self::Unweighted => Some("unweighted"),
        }
    }
}

/// What is asked of a layer: each where given, all of what is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Which<'a> {
    pub(super) path: Option<&'a str>,
    pub(super) regex: Option<&'a PathRegex>,
    pub(super) layer_type: Option<&'a str>,
    pub(super) position: Option<&'a Position>,
}

impl Which<'_> {
    /// Whether nothing is asked.
    pub(super) fn is_empty(self) -> bool {
        self.wanted().is_empty()
    }

    /// Whether a layer is one of those; `index` counts the layers with a weight before it, where it
    /// has one.
    pub(super) fn fits(self, layer: &Layer, index: Option<usize>) -> bool {
        self.path.is_none_or(|form| matches(form, &layer.path))
            && self.regex.is_none_or(|regex| regex.is_in(&layer.path))
            && self.layer_type.is_none_or(|t| t == layer.description.name)
            && self.position.is_none_or(|at| at.is_of(index, layer.part))
    }

    /// What is asked, for messages.
    pub(super) fn wanted(self) -> Vec<String> {
        let position = self.position.map(Position::to_string);
        let all = [
            ("path", self.path),
            ("regex", self.regex.map(PathRegex::as_str)),
            ("type", self.layer_type),
            ("position", position.as_deref()),
        ];
        let given = all.into_iter();
        let given = given.filter_map(|(name, value)| Some(format!("{name} `{}`", value?)));
        given.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{QPlan, Rule};

    #[test]
    fn an_expression_that_is_none_is_refused_in_a_line() {
        let text = "[[overrides]]\nregex = \"conv(\"\n";
        let refused = QPlan::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            refused,
            "plan line 2: `conv(` is no regular expression: unclosed group"
        );
        let text = "[[overrides]]\nposition = \"middle\"\n";
        let refused = QPlan::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            refused,
            "plan line 2: expected `first`, `last`, a number from 0 or a list of those"
        );
    }

    #[test]
    fn positions_read_as_they_are_written() {
        for (text, shown) in [
            ("\"first\"", "first"),
            ("3", "3"),
            ("[0, 2, \"last\"]", "[0, 2, last]"),
        ] {
            let toml = format!("[[overrides]]\nposition = {text}\nfloat = [\"bias\"]\n");
            let plan = QPlan::from_toml(&toml).unwrap();
            let position = plan.overrides[0].position.as_ref().unwrap();
            assert_eq!(position.to_string(), shown);
            assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan);
        }
    }

    #[test]
    fn a_layer_is_asked_for_all_that_is_given() {
        let layer = |path: &str, part| Layer {
            path: path.into(),
            part,
            ..Layer::default()
        };
        let regex = PathRegex::try_from(r"^layer[12]\.".to_string()).unwrap();
        let which = Which {
            path: Some("*.conv1"),
            regex: Some(&regex),
            ..Which::default()
        };
        let fits = |path: &str| which.fits(&layer(path, Part::Default), Some(1));
        assert!(fits("layer1.0.conv1"));
        assert!(!fits("layer3.0.conv1") && !fits("layer1.0.conv2"));
        let ends = Position::AnyOf(vec![
            Position::End(End::First),
            Position::Index(2),
            Position::End(End::Last),
        ]);
        let which = Which {
            position: Some(&ends),
            ..Which::default()
        };
        let at = |index, part| which.fits(&layer("a", part), index);
        assert!(at(Some(0), Part::First) && at(Some(2), Part::Default));
        assert!(at(Some(9), Part::Last) && !at(Some(1), Part::Default));
        assert!(!at(None, Part::Unweighted));
        assert_eq!(which.wanted(), ["position `[first, 2, last]`"]);
        assert_eq!(Rule::Override(1).to_string(), "overrides[1]");
    }
}
