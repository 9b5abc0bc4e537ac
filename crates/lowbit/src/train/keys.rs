//! What a run is, key by key.

use std::collections::BTreeMap;

use super::experiment::{Experiment, RunConfig};

/// Every key of a run and of its experiment, but for its name, with its value: `plan.widths.0.path`. An
/// array without tables is one value.
pub(crate) fn keys(experiment: &Experiment, run: &RunConfig) -> BTreeMap<String, toml::Value> {
    let mut found = BTreeMap::new();
    if let Ok(toml::Value::Table(mut table)) = toml::Value::try_from(experiment) {
        table.remove("runs");
        flatten("", toml::Value::Table(table), &mut found);
    }
    if let Ok(value) = toml::Value::try_from(run) {
        flatten("", value, &mut found);
    }
    found.remove("name");
    found
}

fn flatten(path: &str, value: toml::Value, found: &mut BTreeMap<String, toml::Value>) {
    let inner = |key: &str| match path {
        "" => key.to_string(),
        path => format!("{path}.{key}"),
    };
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&inner(&key), value, found);
            }
        }
        toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
            for (i, value) in values.into_iter().enumerate() {
                flatten(&inner(&i.to_string()), value, found);
            }
        }
        other => drop(found.insert(path.into(), other)),
    }
}
