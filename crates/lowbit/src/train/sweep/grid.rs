//! The cells of lists of settings: their product, and their names.

use std::fmt::Write;

use toml::{Table, Value};

use crate::Error;
use crate::train::Settings;

/// The key that stands for the widths of weights and of activations together.
const BITS: &str = "bits";

/// What [`BITS`] stands for.
const WIDTHS: [&str; 2] = ["wbits", "abits"];

/// Longest name of a cell, before the digits that tell shortened names apart: most file systems take
/// 255 bytes.
const LONGEST: usize = 150;

/// A cell of a sweep: what it says over the settings of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its name, which is also that of its folder: `method=lsq,bits=4,seed=1`.
    ///
    /// What no folder's name should have is replaced by `_`; a name with such a character, or a long
    /// one that is cut, ends in eight digits of a hash of the settings.
    pub name: String,
    /// Its own settings: keys of a settings file, with dots for what lies deeper, and `bits` for
    /// `wbits` and `abits` together. In the order of help, and the name's.
    pub settings: Vec<(String, Value)>,
}

impl Cell {
    /// A cell with these settings, in any order.
    ///
    /// # Errors
    /// If there are none, a key is no setting, `bits` stands beside what it stands for, or a value is
    /// a date.
    pub(super) fn new(settings: impl IntoIterator<Item = (String, Value)>) -> Result<Self, Error> {
        let mut settings: Vec<_> = settings.into_iter().collect();
        settings.sort_by_cached_key(|(key, _)| (rank(key), key.clone()));
        if settings.is_empty() {
            return Err(Error::config("settings", "are none, expected at least one"));
        }
        let has = |name: &str| settings.iter().any(|(key, _)| key == name);
        if let Some(width) = WIDTHS.into_iter().find(|width| has(BITS) && has(width)) {
            let message = format!("stands for wbits and abits, but {width} is given, too");
            return Err(Error::config(BITS, message));
        }
        for (key, value) in &settings {
            if matches!(value, Value::Datetime(_)) {
                return Err(Error::config(key, "is a date, expected a setting"));
            }
        }
        Ok(Self {
            name: name(&settings),
            settings,
        })
    }

    /// The settings of the cell: those of all, with its own in their places.
    ///
    /// # Errors
    /// If a key leads into something that has no keys.
    pub(super) fn over(&self, all: &Table) -> Result<Table, Error> {
        let mut table = all.clone();
        for (key, value) in &self.settings {
            match key.as_str() {
                BITS => {
                    for width in WIDTHS {
                        set(&mut table, width, value)?;
                    }
                }
                key => set(&mut table, key, value)?,
            }
        }
        Ok(table)
    }

    /// What it says of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.settings.iter().find(|(own, _)| own == key);
        found.map(|(_, value)| value)
    }
}

/// The cells of a table whose values are lists: their product, the first key's values slowest. A
/// value that is no list is one.
///
/// # Errors
/// If a list is empty, a value is a table outside a list, or as [`Cell::new`].
pub(super) fn product(lists: &Table) -> Result<Vec<Cell>, Error> {
    let mut keys: Vec<&String> = lists.keys().collect();
    keys.sort_by_cached_key(|key| (rank(key), (*key).clone()));
    let mut cells: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    for key in keys {
        let values = choices(key, &lists[key])?;
        let longer = cells.iter().flat_map(|cell| {
            let with = |value: &Value| [&cell[..], &[(key.clone(), value.clone())]].concat();
            values.iter().map(with)
        });
        cells = longer.collect();
    }
    cells.into_iter().map(Cell::new).collect()
}

fn choices<'a>(key: &str, value: &'a Value) -> Result<&'a [Value], Error> {
    match value {
        Value::Array(values) if values.is_empty() => {
            Err(Error::config(key, "is an empty list, expected values"))
        }
        Value::Array(values) => Ok(values),
        Value::Table(_) => Err(Error::config(
            key,
            "is a table, expected a list; what lies deeper is a key in quotes, such as \
             \"plan.default.weight.bits\"",
        )),
        one => Ok(std::slice::from_ref(one)),
    }
}

/// Where a key stands in the list of options; `bits` before the widths, all else at the end.
fn rank(key: &str) -> usize {
    let first = key.split('.').next().unwrap_or(key);
    let option = match first {
        BITS => WIDTHS[0],
        other => other,
    };
    let place = Settings::OPTIONS.iter().position(|o| o.name == option);
    place.unwrap_or(usize::MAX)
}

/// Whether a key begins with the name of an option.
pub(super) fn is_setting(key: &str) -> bool {
    rank(key) != usize::MAX
}

/// Puts a value in its place, and makes the tables on the way there.
fn set(table: &mut Table, key: &str, value: &Value) -> Result<(), Error> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.into(), value.clone());
        return Ok(());
    };
    let inner = table
        .entry(first)
        .or_insert_with(|| Value::Table(Table::new()));
    let found = match inner {
        Value::Table(inner) => return set(inner, rest, value).map_err(|e| e.within(first)),
        Value::Array(entries) => {
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            let entry = index.parse().ok().and_then(|i: usize| entries.get_mut(i));
            match entry {
                Some(Value::Table(inner)) if !rest.is_empty() => {
                    return set(inner, rest, value).map_err(|e| e.within(first));
                }
                _ => "a list, expected the number of one of its tables, and a key",
            }
        }
        _ => "no table",
    };
    Err(Error::config(first, format!("is {found}")))
}

/// The name of a cell with these settings.
fn name(settings: &[(String, Value)]) -> String {
    let pairs = settings
        .iter()
        .map(|(key, value)| format!("{key}={}", text(value)));
    let whole = pairs.collect::<Vec<_>>().join(",");
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.=,+()".contains(c);
    let safe = |c: char| if is_safe(c) { c } else { '_' };
    let mut name: String = whole.chars().map(safe).take(LONGEST).collect();
    if name != whole {
        let hash = md5::compute(whole);
        let _ = write!(
            name,
            "-{:x}",
            u32::from_be_bytes(hash.0[..4].try_into().expect("four"))
        );
    }
    name
}

/// A value as a person writes it, a text without quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // The shortest digits that name it.
        Value::Float(number) => format!("{number:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Result<Vec<Cell>, Error> {
        product(&toml::from_str(text).unwrap())
    }

    fn names(text: &str) -> Vec<String> {
        let cells = cells(text).unwrap();
        cells.into_iter().map(|cell| cell.name).collect()
    }

    #[test]
    fn lists_are_multiplied_in_the_order_of_help() {
        // However the file orders them.
        let text = "seed = [1, 2]\nbits = [4, 2]\nmethod = [\"lsq\"]\n\"plan.default\" = 3";
        let expected = [
            "method=lsq,bits=4,plan.default=3,seed=1",
            "method=lsq,bits=4,plan.default=3,seed=2",
            "method=lsq,bits=2,plan.default=3,seed=1",
            "method=lsq,bits=2,plan.default=3,seed=2",
        ];
        assert_eq!(names(text), expected);
    }

    #[test]
    fn a_name_is_that_of_a_folder_and_of_no_other_cell() {
        assert_eq!(names("lr = [0.1, 1e-7]"), ["lr=0.1", "lr=1e-7"]);
        // md5 of `from=a/b` and of `from=a b`, by md5sum.
        assert_eq!(
            names("from = [\"a/b\", \"a b\"]"),
            ["from=a_b-d1e75031", "from=a_b-b87541cc"]
        );
        let long = "x".repeat(400);
        let names = names(&format!("from = [\"{long}1\", \"{long}2\"]"));
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() < 160));
    }

    #[test]
    fn values_go_to_their_places() {
        let all: Table =
            toml::from_str("wbits = 8\n[plan.default]\nweight = { bits = 3 }").unwrap();
        let cell =
            &cells("bits = 2\n\"plan.default.weight.bits\" = 4\n\"plan.last.x\" = 1").unwrap()[0];
        let table = cell.over(&all).unwrap();
        let value = |text: &str| toml::from_str::<Table>(text).unwrap();
        assert_eq!(
            table,
            value(
                "wbits = 2\nabits = 2\n[plan]\ndefault = { weight = { bits = 4 } }\nlast = { x = 1 }"
            )
        );
        let runs: Table = toml::from_str("[[runs]]\nlr = 1.0\n[[runs]]\nlr = 2.0").unwrap();
        let cell = &cells("\"runs.1.lr\" = 3.0").unwrap()[0];
        let table = cell.over(&runs).unwrap();
        assert_eq!(table, value("[[runs]]\nlr = 1.0\n[[runs]]\nlr = 3.0"));
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| cells(text).unwrap_err().to_string();
        assert_eq!(
            refused("seed = []"),
            "seed: is an empty list, expected values"
        );
        assert!(refused("plan.default = 3").starts_with("plan: is a table, expected a list"));
        assert_eq!(
            refused("bits = 2\nabits = [3]"),
            "bits: stands for wbits and abits, but abits is given, too"
        );
        assert_eq!(refused(""), "settings: are none, expected at least one");
        let over = |text: &str, all: &str| {
            let all = toml::from_str(all).unwrap();
            cells(text).unwrap()[0].over(&all).unwrap_err().to_string()
        };
        assert_eq!(over("\"a.b.c\" = 1", "a.b = 3"), "a.b: is no table");
        assert!(over("\"a.7.c\" = 1", "a = [{}]").starts_with("a: is a list, expected"));
    }
}
