//! What differs in the configurations of runs.

use std::collections::BTreeMap;

use crate::train::{Experiment, RunConfig};

/// The keys that not all runs have with the same value, with the value of each.
pub(super) fn differences(
    configs: &[(Experiment, RunConfig)],
) -> Vec<(String, Vec<Option<String>>)> {
    let all: Vec<BTreeMap<String, String>> = configs
        .iter()
        .map(|(experiment, run)| keys(experiment, run))
        .collect();
    let mut names: Vec<&String> = all.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let values = names.into_iter().map(|name| {
        let values = all.iter().map(|keys| keys.get(name).cloned());
        (name.clone(), values.collect::<Vec<_>>())
    });
    let differ = |(_, values): &(String, Vec<Option<String>>)| {
        values.iter().any(|value| *value != values[0])
    };
    values.filter(differ).collect()
}

/// Every key of a run and of its experiment, but for its name.
fn keys(experiment: &Experiment, run: &RunConfig) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let whole = toml::Value::try_from(experiment);
    if let Ok(toml::Value::Table(mut table)) = whole {
        table.remove("runs");
        flatten("", &toml::Value::Table(table), &mut found);
    }
    if let Ok(value) = toml::Value::try_from(run) {
        flatten("", &value, &mut found);
    }
    found.remove("name");
    found
}

fn flatten(path: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
    let inner = |key: &str| match path {
        "" => key.to_string(),
        path => format!("{path}.{key}"),
    };
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&inner(key), value, found);
            }
        }
        toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
            for (i, value) in values.iter().enumerate() {
                flatten(&inner(&i.to_string()), value, found);
            }
        }
        toml::Value::String(text) => drop(found.insert(path.into(), text.clone())),
        other => drop(found.insert(path.into(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Method, Settings};

    #[test]
    fn only_what_differs_is_named() {
        let run = |method| {
            let settings = Settings {
                method: Some(method),
                baseline: Some(false),
                threads: Some(1),
                ..Settings::default()
            };
            let experiment = settings.complete().unwrap();
            let run = experiment.runs[0].clone();
            (experiment, run)
        };
        let configs = [run(Method::FLOAT), run(Method::DOREFA)];
        let found = differences(&configs);
        let bits = found
            .iter()
            .find(|(key, _)| key == "plan.default.weight.bits");
        assert_eq!(bits.unwrap().1, [None, Some("4".into())]);
        assert!(
            found
                .iter()
                .all(|(key, _)| !["name", "seed", "data"].contains(&key.as_str()))
        );
        assert_eq!(differences(&configs[..1]), []);
    }
}
