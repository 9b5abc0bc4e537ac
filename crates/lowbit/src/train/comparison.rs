//! Several runs that differ in a few settings, in one file.

use serde::Deserialize;

use super::experiment::{Experiment, RunConfig};
use super::options::Settings;
use crate::Error;

/// Settings of an experiment, and runs with settings of their own over them; in TOML:
///
/// ```toml
/// data = "mnist"
/// epochs = 3
/// [[compare]]
/// name = "float"
/// [[compare]]
/// name = "e5m2"
/// activation_format = "e5m2"
/// ```
///
/// Each has the runs' own weights from the same seed. Data, network and batch are those of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What is said of all runs.
    pub common: Settings,
    /// The runs, in order: names, and what is said of each.
    pub runs: Vec<(String, Settings)>,
}

/// The key of the list.
pub(super) const KEY: &str = "compare";

/// An entry of the list; what else it has are settings.
#[derive(Deserialize)]
struct Name {
    name: String,
}

impl Comparison {
    /// Takes the list out of a file's table, whose rest are the settings of all.
    ///
    /// # Errors
    /// If an entry is not a table of settings with a name.
    pub(super) fn read(mut table: toml::Table, source: &str) -> Result<Self, Error> {
        let bad = |place: String, error: toml::de::Error| {
            Error::config(
                place,
                format!("{} ({source})", error.message().replace('\n', " ")),
            )
        };
        let Some(toml::Value::Array(entries)) = table.remove(KEY) else {
            let message = format!("is no list of tables ({source})");
            return Err(Error::config(KEY, message));
        };
        let mut runs = Vec::new();
        for (i, entry) in entries.into_iter().enumerate() {
            let place = || format!("{KEY}[{i}]");
            let Name { name } = entry.clone().try_into().map_err(|e| bad(place(), e))?;
            let toml::Value::Table(mut settings) = entry else {
                unreachable!("what has a name is a table");
            };
            settings.remove("name");
            let settings = settings.try_into().map_err(|e| bad(place(), e))?;
            runs.push((name, settings));
        }
        let common = table.try_into().map_err(|e| bad("settings".into(), e))?;
        Ok(Self { common, runs })
    }

    /// The complete experiment, with what `settings` say of all runs.
    ///
    /// # Errors
    /// If a field is out of its range, or a run has a setting that only all runs can have.
    pub fn complete(self, settings: &Settings) -> Result<Experiment, Error> {
        let common = settings.clone().or(self.common);
        if common.baseline.is_some() {
            let message = "the file lists its runs";
            return Err(Error::config("baseline", message));
        }
        let mut whole: Option<Experiment> = None;
        for (name, own) in self.runs {
            if let Some(field) = own.first(|option| OF_ALL.contains(&option.name)) {
                let message = "is of all runs, and stands before them";
                return Err(Error::config(field, message).within(&name));
            }
            // What is said on the command line goes before what the file says of one run.
            let common = match own.plan {
                // A plan says what is quantized, in place of what all have.
                Some(_) => common.clone().without_quantization(),
                None => common.clone(),
            };
            let one = settings.clone().or(own).or(common);
            // What is calibrated starts from the first run.
            let one = Settings {
                baseline: Some(whole.is_some()),
                ..one
            };
            let experiment = one.complete().map_err(|error| error.within(&name))?;
            let run = experiment.runs.into_iter().next_back();
            let run = RunConfig {
                name,
                ..run.expect("an experiment has a run")
            };
            match &mut whole {
                Some(whole) => whole.runs.push(run),
                None => {
                    whole = Some(Experiment {
                        runs: vec![run],
                        ..experiment
                    });
                }
            }
        }
        let whole =
            whole.ok_or_else(|| Error::config(KEY, "is empty, expected at least one run"))?;
        whole.check()?;
        Ok(whole)
    }
}

/// Options of which an experiment has one.
const OF_ALL: [&str; 18] = [
    "baseline",
    "data",
    "data_dir",
    "image_resize",
    "image_crop",
    "image_mean",
    "image_std",
    "model",
    "steps",
    "coding",
    "batch",
    "augment",
    "seed",
    "threads",
    "calibration_images",
    "hold_out",
    "from",
    "accept",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QPlan;
    use crate::train::Start;

    fn read(text: &str) -> Result<Comparison, Error> {
        Comparison::read(toml::from_str(text).unwrap(), "a.toml")
    }

    const TWO: &str = "
        epochs = 3
        method = \"float\"
        [[compare]]
        name = \"whole\"
        [[compare]]
        name = \"eight\"
        activation_format = \"e4m3\"
        weight_format = \"e4m3:stochastic\"
        lr = 0.5
    ";

    #[test]
    fn each_run_has_its_settings_over_those_of_all() {
        let experiment = read(TWO).unwrap().complete(&Settings::default()).unwrap();
        let [whole, eight] = &experiment.runs[..] else {
            panic!("{:?}", experiment.runs);
        };
        assert_eq!([&whole.name[..], &eight.name], ["whole", "eight"]);
        assert_eq!((whole.epochs, eight.epochs), (3, 3));
        assert!(whole.plan == QPlan::float() && whole.numbers.is_float());
        assert!(eight.plan != QPlan::float() && !eight.numbers.is_float());
        assert_eq!(eight.lr, 0.5);
        assert_eq!([whole.start, eight.start], [Start::Scratch; 2]);
        let over = Settings {
            epochs: Some(1),
            seed: Some(7),
            ..Settings::default()
        };
        let experiment = read(TWO).unwrap().complete(&over).unwrap();
        assert_eq!(experiment.seed, 7);
        assert!(experiment.runs.iter().all(|run| run.epochs == 1));
    }

    #[test]
    fn what_is_calibrated_starts_from_the_first_run() {
        let text = "[[compare]]\nname = \"float\"\nmethod = \"float\"\n[[compare]]\nname = \"tqt\"\nmethod = \"tqt\"";
        let experiment = read(text).unwrap().complete(&Settings::default()).unwrap();
        let starts: Vec<Start> = experiment.runs.iter().map(|run| run.start).collect();
        assert_eq!(starts, [Start::Scratch, Start::First]);
    }

    #[test]
    fn mistakes_are_one_line() {
        let refused = |text: &str| {
            let read = read(text).and_then(|c| c.complete(&Settings::default()));
            read.unwrap_err().to_string()
        };
        assert_eq!(
            refused("[[compare]]\nname = \"a\"\nseed = 3"),
            "a.seed: is of all runs, and stands before them"
        );
        assert_eq!(
            refused("compare = []"),
            "compare: is empty, expected at least one run"
        );
        assert_eq!(
            refused("compare = 3"),
            "compare: is no list of tables (a.toml)"
        );
        assert_eq!(
            refused("[[compare]]\nname = \"a\"\n[[compare]]\nname = \"a\""),
            "runs[1].name: `a` names two runs"
        );
        let unknown = refused("[[compare]]\nname = \"a\"\nspeed = 3");
        assert!(
            unknown.starts_with("compare[0]: unknown field `speed`"),
            "{unknown}"
        );
        assert!(!unknown.contains('\n'));
        let nameless = refused("[[compare]]\nlr = 0.1");
        assert!(
            nameless.starts_with("compare[0]: missing field `name`"),
            "{nameless}"
        );
    }
}
