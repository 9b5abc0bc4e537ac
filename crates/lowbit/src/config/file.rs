//! Plans in files, with the lines that say what.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::QPlan;
use crate::Error;

/// A plan as a file has it: the plan alone, or under `[plan]` in the settings of a training, or that of
/// one of a file's runs.
///
/// # Example
/// ```
/// use lowbit::config::PlanFile;
///
/// let text = "[default]\nweight = { method = \"tqt\", bits = 4 }\n";
/// let file = PlanFile::parse("plan.toml", text, None)?;
/// assert_eq!(file.place("default.weight").to_string(), "plan.toml:2:1");
///
/// let refused = PlanFile::parse("plan.toml", &text.replace('4', "77"), None).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "plan.toml:2:1: default.weight: bits is 77, expected 2 to 24 (tqt)"
/// );
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanFile {
    /// The plan.
    pub plan: QPlan,
    /// The network that a file of settings names.
    pub model: Option<String>,
    /// The data set that it names.
    pub data: Option<String>,
    entries: Entries,
    /// The key of the plan in the file, with a point after it.
    within: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// `plan.toml:3:14`.
impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What is read of a file that holds more than a plan.
#[derive(Deserialize)]
struct Holder {
    model: Option<String>,
    data: Option<String>,
    plan: Option<QPlan>,
    #[serde(default)]
    runs: Vec<Run>,
    #[serde(default)]
    compare: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    plan: Option<QPlan>,
}

impl PlanFile {
    /// Reads a file; of one with several runs, the plan of `run`.
    ///
    /// # Errors
    /// If it cannot be read, or as [`parse`](Self::parse).
    pub fn read(path: &Path, run: Option<&str>) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(&path.display().to_string(), &text, run)
    }

    /// Reads the text of the file `source`.
    ///
    /// # Errors
    /// If it is not TOML, holds no plan, or the plan cannot be built; with file, line and column.
    pub fn parse(source: &str, text: &str, run: Option<&str>) -> Result<Self, Error> {
        let entries = Entries::of(source, text)?;
        let holds_more = ["plan", "runs", "compare"];
        let (mut model, mut data) = (None, None);
        let (plan, within) = match holds_more.iter().any(|key| entries.has(key)) {
            true => {
                let mut holder = entries.parsed::<Holder>(text)?;
                (model, data) = (holder.model.take(), holder.data.take());
                holder.take(source, run)?
            }
            false => (entries.parsed(text)?, String::new()),
        };
        let file = Self {
            plan,
            model,
            data,
            entries,
            within,
        };
        file.plan.check().map_err(|error| match error {
            Error::Config { field, message } => Error::config(
                file.place(&field).to_string(),
                format!("{field}: {message}"),
            ),
            other => other,
        })?;
        Ok(file)
    }

    /// Where the plan has a key, such as `overrides[1].set.weight`, or what is around it.
    pub fn place(&self, key: &str) -> FilePlace {
        self.entries.place(&format!("{}{key}", self.within))
    }
}

impl Holder {
    /// The plan, and its key with a point after it.
    fn take(self, source: &str, run: Option<&str>) -> Result<(QPlan, String), Error> {
        let of_all = |plan: &QPlan| (plan.clone(), "plan.".to_string());
        // What is compared has the file's settings where it has none of its own; runs are complete.
        let lists = [
            ("runs", self.runs, None),
            ("compare", self.compare, self.plan.as_ref().map(of_all)),
        ];
        let runs = lists.into_iter().flat_map(|(list, runs, usual)| {
            let runs = runs.into_iter().enumerate();
            runs.map(move |(i, Run { name, plan })| {
                let own = plan.map(|plan| (plan, format!("{list}[{i}].plan.")));
                (name, own.or_else(|| usual.clone()))
            })
        });
        let mut names = Vec::new();
        for (name, plan) in runs {
            let Some((plan, key)) = plan else { continue };
            if run == Some(&name) {
                return Ok((plan, key));
            }
            names.push(name);
        }
        let names = match names.is_empty() {
            true => "none".into(),
            false => names.join(", "),
        };
        match (self.plan, run) {
            (Some(plan), None) => Ok((plan, "plan.".into())),
            (_, Some(run)) => {
                let message = format!("no run `{run}` has a plan; runs with one are {names}");
                Err(Error::config(source, message))
            }
            (None, None) => {
                let message = format!("has no [plan]; runs with one are {names}");
                Err(Error::config(source, message))
            }
        }
    }
}

/// The places of a file's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entries {
    source: String,
    /// Line and column of each.
    places: BTreeMap<String, (usize, usize)>,
}

impl Entries {
    fn of(source: &str, text: &str) -> Result<Self, Error> {
        let mut entries = Self {
            source: source.into(),
            places: BTreeMap::new(),
        };
        let table = DeTable::parse(text).map_err(|error| entries.refused(text, &error))?;
        entries.note(text, "", table.get_ref());
        Ok(entries)
    }

    fn note(&mut self, text: &str, within: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = format!("{within}{}", key.get_ref());
            let place = line_and_column(text, key.span().start);
            self.note_within(text, &path, value);
            self.places.insert(path, place);
        }
    }

    fn note_within(&mut self, text: &str, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.note(text, &format!("{path}."), table),
            DeValue::Array(values) => {
                for (i, value) in values.iter().enumerate() {
                    let path = format!("{path}[{i}]");
                    self.note_within(text, &path, value);
                    let place = line_and_column(text, value.span().start);
                    self.places.insert(path, place);
                }
            }
            _ => {}
        }
    }

    fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Where a key is, or the nearest around it; the file's start where there is none.
    fn place(&self, key: &str) -> FilePlace {
        let ends = key.char_indices().filter(|(_, c)| ".[".contains(*c));
        let ends: Vec<usize> = ends.map(|(i, _)| i).chain([key.len()]).collect();
        let around = ends.iter().rev().map(|&end| &key[..end]);
        let found = around.filter_map(|key| self.places.get(key)).next();
        let &(line, column) = found.unwrap_or(&(1, 1));
        FilePlace {
            file: self.source.clone(),
            line,
            column,
        }
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, Error> {
        toml::from_str(text).map_err(|error| self.refused(text, &error))
    }

    /// What a TOML parser says, in a line, with the place that it speaks of.
    fn refused(&self, text: &str, error: &toml::de::Error) -> Error {
        let start = error.span().map_or(0, |span| span.start);
        let (line, column) = line_and_column(text, start);
        let place = format!("{}:{line}:{column}", self.source);
        Error::config(place, error.message().trim().replace('\n', ", "))
    }
}

/// Line and column of a byte of the text, in characters and from 1.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let parsed = PlanFile::parse("a.toml", text, None);
        parsed.unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_has_line_and_column() {
        for (text, expected) in [
            ("[default]\nweight = 1 2", "a.toml:2:10: "),
            ("\n[default]\n  wieght = 1", "a.toml:2:1: slot `wieght`: "),
            (
                "[[overrides]]\npath = \"a\"\nconfg.weight = { method = \"tqt\", bits = 8 }",
                "a.toml:3:1: unknown field `confg`",
            ),
            (
                "[[overrides]]\npath = \"a\"\nset.weight = { method = \"tqt\", bits = 1 }",
                "a.toml:3:5: overrides[0].set.weight: bits is 1, expected 2 to 24 (tqt)",
            ),
            (
                "[[overrides]]\nregex = \"(\"\n",
                "a.toml:2:9: `(` is no regular expression: unclosed group",
            ),
            (
                "epochs = 3\n[plan.first]\ninput = { method = \"sawb\", bits = 4 }",
                "a.toml:3:1: first.input: sawb is for weight",
            ),
            ("[plans]", "a.toml:1:2: unknown field `plans`"),
            (
                "[[runs]]\nname = \"x\"",
                "a.toml: has no [plan]; runs with one are none",
            ),
        ] {
            let found = refused(text);
            assert!(found.starts_with(expected), "{found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
    }

    /// ö is one character of two bytes.
    #[test]
    fn keys_are_found_wherever_they_are_written() {
        let text = "# ö\n[default.weight]\nmethod = \"tqt\"\nbits = 4\n\n\
                    [[overrides]]\ntype = \"Conv2d\"\nset.input.method = \"tqt\"\n\
                    set.input.bits = 8\n  [[overrides]]\n  path = \"ö\"\n  float = [\"bias\"]\n";
        let file = PlanFile::parse("a.toml", text, None).unwrap();
        let at = |key: &str| {
            let place = file.place(key);
            (place.line, place.column)
        };
        assert_eq!(at("default.weight"), (2, 10));
        assert_eq!(at("overrides[0].set.input"), (8, 5));
        assert_eq!(at("overrides[0].config.weight"), (6, 1));
        assert_eq!(at("overrides[1].float"), (12, 3));
        assert_eq!(at("widths[0].weight"), (1, 1));
    }

    #[test]
    fn of_several_runs_one_is_named() {
        let run = |name: &str, bits: u32| {
            format!(
                "[[runs]]\nname = \"{name}\"\nepochs = 3\n[runs.plan.default]\n\
                 weight = {{ method = \"tqt\", bits = {bits} }}\n"
            )
        };
        let text = [run("four", 4), run("eight", 8)].concat();
        let file = PlanFile::parse("a.toml", &text, Some("eight")).unwrap();
        assert_eq!(file.plan.default.get("weight").unwrap().bits(), 8);
        assert_eq!(file.place("default.weight").line, 10);
        assert_eq!(
            refused(&text),
            "a.toml: has no [plan]; runs with one are four, eight"
        );
        let none = PlanFile::parse("a.toml", &text, Some("two")).unwrap_err();
        assert_eq!(
            none.to_string(),
            "a.toml: no run `two` has a plan; runs with one are four, eight"
        );
    }

    #[test]
    fn what_is_compared_has_the_files_plan_unless_it_has_its_own() {
        let text = "[plan.default]
            weight = { method = \"tqt\", bits = 4 }
            [[compare]]
            name = \"usual\"
            lr = 0.1
            [[compare]]
            name = \"eight\"
            [compare.plan.default]
            weight = { method = \"tqt\", bits = 8 }
            ";
        for (run, bits, line) in [("usual", 4, 2), ("eight", 8, 9)] {
            let file = PlanFile::parse("a.toml", text, Some(run)).unwrap();
            assert_eq!(file.plan.default.get("weight").unwrap().bits(), bits);
            assert_eq!(file.place("default.weight").line, line);
        }
        let none = PlanFile::parse("a.toml", text, Some("two")).unwrap_err();
        assert_eq!(
            none.to_string(),
            "a.toml: no run `two` has a plan; runs with one are usual, eight"
        );
    }
}
