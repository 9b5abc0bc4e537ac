//! The slots of a layer, by name.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tensor of a layer that may be quantized, by its name. A layer declares which it has; the names
/// here are the field's, and a layer of your own may have others.
///
/// Slots are in the order of [`NAMES`](Self::NAMES), then by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Slot(Cow<'static, str>);

impl Slot {
    /// What the layer reads.
    pub const INPUT: &str = "input";
    /// Its weight.
    pub const WEIGHT: &str = "weight";
    /// Its bias.
    pub const BIAS: &str = "bias";
    /// A normalization's factors.
    pub const GAMMA: &str = "gamma";
    /// A normalization's summands.
    pub const BETA: &str = "beta";
    /// The means that a normalization subtracts.
    pub const MEAN: &str = "mean";
    /// The standard deviations that it divides by.
    pub const DEVIATION: &str = "deviation";
    /// What it makes of its input, before factors and summands.
    pub const NORMALIZED: &str = "normalized";
    /// The sum of products or distances, before the bias. It has no quantizer, but an
    /// [`AccumulatorConfig`](crate::quantizers::AccumulatorConfig).
    pub const ACCUMULATOR: &str = "accumulator";
    /// How the sum is made: no tensor, but a text that stands among the slots.
    pub(crate) const ACCUMULATE: &str = "accumulate";
    /// Which slots share a scale: no tensor, but a list that stands among the slots.
    pub(crate) const SHARE: &str = "share";
    /// What the layer hands on.
    pub const OUTPUT: &str = "output";
    /// The time constants of a spiking layer.
    pub const TAU: &str = "tau";
    /// Its decays.
    pub const ALPHA: &str = "alpha";
    /// The potentials at which it fires.
    pub const THRESHOLD: &str = "threshold";
    /// What it keeps from one step of time to the next.
    pub const STATE: &str = "state";
    /// The gradient that reaches the layer's output on the way back.
    pub const ERROR: &str = "error";
    /// The gradient of each of its parameters, as the optimizer gets it.
    pub const GRADIENT: &str = "gradient";

    /// The names above, in order.
    pub const NAMES: [&str; 16] = [
        Self::INPUT,
        Self::WEIGHT,
        Self::BIAS,
        Self::GAMMA,
        Self::BETA,
        Self::MEAN,
        Self::DEVIATION,
        Self::NORMALIZED,
        Self::ACCUMULATOR,
        Self::OUTPUT,
        Self::TAU,
        Self::ALPHA,
        Self::THRESHOLD,
        Self::STATE,
        Self::ERROR,
        Self::GRADIENT,
    ];

    /// Those that layers of many kinds have, and that a plan may speak of to a network that has none.
    pub(crate) const EVERYWHERE: [&str; 7] = [
        Self::INPUT,
        Self::WEIGHT,
        Self::BIAS,
        Self::ACCUMULATOR,
        Self::OUTPUT,
        Self::ERROR,
        Self::GRADIENT,
    ];

    /// Whether the slot of that name is a gradient, which is quantized on the way back.
    pub fn is_gradient(name: &str) -> bool {
        [Self::ERROR, Self::GRADIENT].contains(&name)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether a quantizer can be in a slot of that name: words of letters, digits and `_`, but for
    /// those that a layer's [`Quantizers`](crate::quantizers::Quantizers) have of their own.
    pub fn is_name(name: &str) -> bool {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty()
            && name.chars().all(is_word)
            && ![Self::ACCUMULATOR, Self::ACCUMULATE, Self::SHARE, "identity"].contains(&name)
    }

    pub(crate) fn rank(name: &str) -> usize {
        let known = Self::NAMES.iter().position(|known| *known == name);
        known.unwrap_or(Self::NAMES.len())
    }
}

impl From<&str> for Slot {
    fn from(name: &str) -> Self {
        let known = Self::NAMES.into_iter().find(|known| *known == name);
        Self(known.map_or_else(|| Cow::Owned(name.into()), Cow::Borrowed))
    }
}

impl From<String> for Slot {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl<'de> Deserialize<'de> for Slot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |slot: &Self| (Self::rank(&slot.0), slot.0.clone());
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One thing for each of some slots, in their order; in TOML, a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerSlot<T>(Vec<(Slot, T)>);

impl<T> Default for PerSlot<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PerSlot<T> {
    /// What the slot of that name has.
    pub fn get(&self, slot: &str) -> Option<&T> {
        let found = self.0.iter().find(|(known, _)| known.0 == slot);
        found.map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, slot: &str) -> Option<&mut T> {
        let found = self.0.iter_mut().find(|(known, _)| known.0 == slot);
        found.map(|(_, value)| value)
    }

    /// Gives the slot this, or nothing.
    pub fn set(&mut self, slot: impl Into<Slot>, value: Option<T>) {
        let slot = slot.into();
        match (
            self.0.binary_search_by(|(known, _)| known.cmp(&slot)),
            value,
        ) {
            (Ok(at), Some(value)) => self.0[at].1 = value,
            (Ok(at), None) => drop(self.0.remove(at)),
            (Err(at), Some(value)) => self.0.insert(at, (slot, value)),
            (Err(_), None) => {}
        }
    }

    /// Takes from all slots but those that `keep` accepts what they have.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(slot, _)| keep(&slot.0));
    }

    /// Every slot that has something, by name, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(slot, value)| (slot.name(), value))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.0.iter_mut().map(|(slot, value)| (slot.name(), value))
    }

    /// The same slots with something else.
    pub fn map<U>(self, mut to: impl FnMut(&str, T) -> U) -> PerSlot<U> {
        let mapped = self.0.into_iter().map(|(slot, value)| {
            let value = to(slot.name(), value);
            (slot, value)
        });
        PerSlot(mapped.collect())
    }

    /// What the slots have for which `first` holds, and what the others have.
    pub(crate) fn split(self, first: impl Fn(&str) -> bool) -> (Self, Self) {
        let (first, others) = self.0.into_iter().partition(|(slot, _)| first(&slot.0));
        (Self(first), Self(others))
    }

    /// What these slots have, and what others have that come after them.
    pub(crate) fn and(mut self, after: Self) -> Self {
        self.0.extend(after.0);
        self
    }

    /// Whether no slot has anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for PerSlot<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for PerSlot<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Slots<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Slots<T> {
            type Value = PerSlot<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of slots")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PerSlot<T>, A::Error> {
                let mut slots = PerSlot::default();
                while let Some((slot, value)) = map.next_entry::<Slot, T>()? {
                    slots.set(slot, Some(value));
                }
                Ok(slots)
            }
        }

        deserializer.deserialize_map(Slots(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_in_the_fields_order_and_then_by_name() {
        let mut slots = PerSlot::default();
        for slot in ["mine", "output", "another", "weight", "input"] {
            slots.set(slot, Some(slot.len()));
        }
        let names =
            |slots: &PerSlot<usize>| slots.iter().map(|(n, _)| n.into()).collect::<Vec<String>>();
        assert_eq!(
            names(&slots),
            ["input", "weight", "output", "another", "mine"]
        );
        assert_eq!((slots.get("mine"), slots.get("bias")), (Some(&4), None));
        slots.set("weight", None);
        slots.retain(|slot| slot != "mine");
        assert_eq!(names(&slots), ["input", "output", "another"]);
    }

    #[test]
    fn what_is_no_name_of_a_slot() {
        for name in ["weight", "recurrent_weight", "tau2"] {
            assert!(Slot::is_name(name), "{name}");
        }
        for name in ["", "a.b", "accumulator", "identity", "a b"] {
            assert!(!Slot::is_name(name), "{name}");
        }
    }
}
