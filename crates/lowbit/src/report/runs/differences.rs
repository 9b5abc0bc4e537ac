//! What differs in the configurations of runs.

use std::collections::BTreeMap;

use crate::train::{Experiment, RunConfig, keys};

/// The keys that not all runs have with the same value, with the value of each.
pub(super) fn differences(
    configs: &[(Experiment, RunConfig)],
) -> Vec<(String, Vec<Option<String>>)> {
    let all: Vec<BTreeMap<String, String>> = configs
        .iter()
        .map(|(experiment, run)| {
            let keys = keys(experiment, run).into_iter();
            keys.map(|(key, value)| (key, text(&value))).collect()
        })
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

/// A value as it is read, a text without its quotes.
fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
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
