//! Widths of a network's layers in one text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::Widths;
use crate::quantizers::Slot;

/// Bits of weight and input by layer: a list with one width for each layer with a weight, in order,
/// as `8,4,4,8`; or by path, in which `*` stands for any characters, as `conv2=4,fc*=6`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WidthList {
    /// One width for each layer; empty where they go by path.
    pub layers: Vec<u32>,
    /// Path and width; empty where there is one for each layer.
    pub paths: Vec<(String, u32)>,
}

impl WidthList {
    /// The widths that go by path, as a plan has them.
    pub fn widths(&self) -> Vec<Widths> {
        let paths = self.paths.iter();
        paths
            .map(|(path, bits)| {
                let widths = Widths::of_path(path.clone());
                widths.with(Slot::INPUT, *bits).with(Slot::WEIGHT, *bits)
            })
            .collect()
    }
}

impl FromStr for WidthList {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut list = Self::default();
        for item in text.split(',') {
            let (path, bits) = match item.split_once('=') {
                Some((path, bits)) => (Some(path), bits),
                None => (None, item),
            };
            let bits = bits.trim().parse().map_err(|_| {
                Error::config(
                    "widths",
                    format!("`{item}` is neither a width nor path=width"),
                )
            })?;
            match path {
                None => list.layers.push(bits),
                Some(path) => list.paths.push((path.trim().into(), bits)),
            }
        }
        if !list.layers.is_empty() && !list.paths.is_empty() {
            let message = "is a list in part, and by path in part";
            return Err(Error::config("widths", message));
        }
        Ok(list)
    }
}

impl fmt::Display for WidthList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = self.layers.iter().map(u32::to_string);
        let paths = self.paths.iter();
        let paths = paths.map(|(path, bits)| format!("{path}={bits}"));
        f.write_str(&layers.chain(paths).collect::<Vec<_>>().join(","))
    }
}

impl TryFrom<String> for WidthList {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<WidthList> for String {
    fn from(list: WidthList) -> Self {
        list.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_a_list_or_by_path() {
        let list: WidthList = "8,4, 4,8".parse().unwrap();
        assert_eq!((&list.layers[..], list.paths.len()), (&[8, 4, 4, 8][..], 0));
        assert_eq!(list.to_string(), "8,4,4,8");
        let list: WidthList = "conv2=4,fc*=6".parse().unwrap();
        assert!(list.layers.is_empty());
        let widths = list.widths();
        assert_eq!(widths[1].path.as_deref(), Some("fc*"));
        assert_eq!(widths[1].bits.get("weight"), Some(&6));
        assert_eq!(list.to_string(), "conv2=4,fc*=6");
        assert!("8,conv2=4".parse::<WidthList>().is_err());
        assert_eq!(
            "eight".parse::<WidthList>().unwrap_err().to_string(),
            "widths: `eight` is neither a width nor path=width"
        );
    }
}
