//! From what a person said to the complete experiment.

use std::path::Path;

use super::comparison::{self, Comparison};
use super::distillation::TeacherConfig;
use super::experiment::Experiment;
use super::folder::find_run;
use super::options::{Decides, Settings};
use crate::Error;
use crate::config::{Method, QPlan};
use crate::data::{DataSet, ImageFolder};

/// What a configuration file holds: settings, settings of several runs, or the complete experiment
/// that a run wrote.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigFile {
    /// Settings.
    Settings(Box<Settings>),
    /// Settings of several runs.
    Comparison(Box<Comparison>),
    /// A complete experiment.
    Experiment(Box<Experiment>),
}

impl ConfigFile {
    /// Reads a file. One with a list of `runs` is a complete experiment, one with a list `compare`
    /// has the settings of several.
    ///
    /// # Errors
    /// If it cannot be read, or is not such a file, with the line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(path, &text)
    }

    /// The same for the text of a file.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let source = path.display().to_string();
        let table: toml::Table =
            toml::from_str(text).map_err(|error| Error::toml(&source, text, &error))?;
        if table.contains_key("runs") {
            return Ok(Self::Experiment(Box::new(Experiment::from_toml(
                path, text,
            )?)));
        }
        if table.contains_key(comparison::KEY) {
            let comparison = Comparison::read(table, &source)?;
            return Ok(Self::Comparison(Box::new(comparison)));
        }
        let settings = toml::from_str(text).map_err(|error| Error::toml(&source, text, &error))?;
        Ok(Self::Settings(Box::new(settings)))
    }

    /// The complete experiment, with what `settings` say over what the file does.
    ///
    /// # Errors
    /// If a field is out of its range, or the settings speak of what a file with several runs has
    /// decided.
    pub fn complete(self, settings: Settings) -> Result<Experiment, Error> {
        match self {
            Self::Settings(file) => settings.or(*file).complete(),
            Self::Comparison(comparison) => comparison.complete(&settings),
            Self::Experiment(complete) => complete.with(&settings),
        }
    }
}

impl Settings {
    /// The complete experiment.
    ///
    /// Where it has a teacher that is a run, data set, network and hold-out are that run's unless given.
    /// Where it starts from an earlier run, data set and network are that run's unless given; and
    /// where that run has trained thresholds, TQT retrains its plan, or with other widths a plan of
    /// its own that folds normalizations as that run did.
    ///
    /// # Errors
    /// If a field is out of its range.
    pub fn complete(mut self) -> Result<Experiment, Error> {
        let source = self.from.as_deref().and_then(|from| find_run(from).ok());
        let mut retrained = None;
        if let Some((_, name, experiment)) = source {
            let run = experiment.runs.iter().find(|run| run.name == name);
            let plan = run.map(|run| run.plan.clone());
            if let Some(plan) = plan.filter(QPlan::has_thresholds)
                && self.method == Some(Method::TQT)
                && self.plan.is_none()
            {
                self.retrain(plan);
                // The plan is that run's, and so is its name, less that it was static.
                let same = self.plan.is_some();
                retrained = same.then(|| name.replacen("static-", "", 1));
            }
            let images = self.inherited_images(experiment.data, &experiment.images);
            self = self.or(Self {
                data: Some(experiment.data),
                data_dir: experiment.data_dir,
                model: Some(experiment.model),
                ..images
            });
        }
        let teacher = self.teacher.as_deref();
        if let Some((experiment, _)) = teacher.and_then(TeacherConfig::experiment) {
            self = self.or(Self {
                data: Some(experiment.data),
                data_dir: experiment.data_dir,
                model: Some(experiment.model),
                hold_out: experiment.hold_out,
                ..Self::default()
            });
        }
        let mut experiment = Experiment::of(self)?;
        if let Some((name, run)) = retrained.zip(experiment.runs.last_mut()) {
            run.name = name;
        }
        Ok(experiment)
    }

    /// What they say of the images of a folder, which were read as `before`.
    ///
    /// # Errors
    /// If they say something, but the data are no folder.
    pub(super) fn images(&self, data: DataSet, before: ImageFolder) -> Result<ImageFolder, Error> {
        if data != DataSet::Folder {
            let of_images = |name: &str| name.starts_with("image_");
            return match self.first(|option| of_images(option.name)) {
                None => Ok(ImageFolder::default()),
                Some(field) => {
                    let message = format!("is of the data set folder, and the data are {data}");
                    Err(Error::config(field, message))
                }
            };
        }
        // Another crop is cut from images of another size.
        let usual = match self.image_crop {
            Some(crop) => ImageFolder::usual_resize(crop),
            None => before.resize,
        };
        Ok(ImageFolder {
            resize: self.image_resize.unwrap_or(usual),
            crop: self.image_crop.unwrap_or(before.crop),
            mean: self.image_mean.unwrap_or(before.mean),
            std: self.image_std.unwrap_or(before.std),
        })
    }

    /// Settings that say how the images of an earlier run were read, if those of this one are in a
    /// folder, too. Another crop is not cut from images of that run's size.
    pub(super) fn inherited_images(&self, data: DataSet, images: &ImageFolder) -> Self {
        if self.data.unwrap_or(data) != DataSet::Folder {
            return Self::default();
        }
        Self {
            image_resize: self.image_crop.is_none().then_some(images.resize),
            image_crop: Some(images.crop),
            image_mean: Some(images.mean),
            image_std: Some(images.std),
            ..Self::default()
        }
    }

    /// Takes up a plan with trained thresholds, or of one's own its folding.
    fn retrain(&mut self, plan: QPlan) {
        let own = self.first(|option| {
            let is_plan = matches!(option.name, "method" | "fold");
            option.decides == Decides::Quantization && !is_plan
        });
        let fold = self.fold.unwrap_or(plan.fold);
        if own.is_some() {
            self.fold = Some(fold);
        } else {
            (self.method, self.fold) = (None, None);
            self.plan = Some(QPlan {
                fold,
                ..plan.retrained()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Start;

    #[test]
    fn nothing_said_is_the_digits_in_float_and_in_four_bits() {
        let experiment = Settings::default().complete().unwrap();
        assert_eq!(experiment.data, DataSet::Digits);
        let names: Vec<&str> = experiment
            .runs
            .iter()
            .map(|run| run.name.as_str())
            .collect();
        assert_eq!(names, ["float", "dorefa-w4a4"]);
    }

    #[test]
    fn thresholds_start_from_the_float_run_and_from_a_given_one_alone() {
        let tqt = Settings {
            method: Some(Method::TQT),
            ..Settings::default()
        };
        let runs = tqt.clone().complete().unwrap().runs;
        assert_eq!(
            (runs[1].name.as_str(), runs[1].start),
            ("tqt-w8a8", Start::First)
        );
        let from = Settings {
            from: Some("runs/a".into()),
            ..tqt
        };
        let runs = from.complete().unwrap().runs;
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].start, Start::From);
    }

    #[test]
    fn a_complete_experiment_survives_toml() {
        let experiment = Settings {
            method: Some(Method::TQT),
            ..Settings::default()
        };
        let experiment = experiment.complete().unwrap();
        let text = experiment.to_toml().unwrap();
        assert_eq!(
            Experiment::from_toml(Path::new("x"), &text).unwrap(),
            experiment
        );
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |settings: Settings| settings.complete().unwrap_err().to_string();
        let zero = Settings {
            batch: Some(0),
            ..Settings::default()
        };
        assert_eq!(refused(zero), "batch: is 0, expected at least 1");
        let wide = Settings {
            wbits: Some(33),
            ..Settings::default()
        };
        assert_eq!(
            refused(wide),
            "wbits: is 33, dorefa takes 1 to 24, or 32 for float"
        );
        let lr = Settings {
            lr: Some(f64::NAN),
            ..Settings::default()
        };
        assert_eq!(
            refused(lr),
            "runs[0].lr: is NaN, expected a positive number"
        );
    }

    #[test]
    fn what_is_of_another_method_is_named() {
        let refused = |text: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.complete().unwrap_err().to_string()
        };
        assert_eq!(
            refused("bbits = 8"),
            "bbits: the method is dorefa, expected tqt"
        );
        assert_eq!(
            refused("method = \"lsq\"\ngbits = 6"),
            "gbits: the method is lsq, expected dorefa"
        );
        assert_eq!(
            refused("gbits = 17"),
            "gbits: is 17, dorefa takes 1 to 16, or 32 for float"
        );
        assert_eq!(
            refused("method = \"float\"\nper_channel = true"),
            "per_channel: the method is float, which quantizes nothing"
        );
        assert_eq!(
            refused("init = \"mse\"\n[plan]"),
            "init: a plan is given, which says what is quantized"
        );
    }

    #[test]
    fn images_of_a_folder_are_read_as_said() {
        let complete = |text: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.complete()
        };
        let folder = "data = \"folder\"\ndata_dir = \"/pets\"\n";
        let usual = complete(folder).unwrap();
        assert_eq!(usual.model.to_string(), "resnet18-imagenet");
        assert!(!usual.to_toml().unwrap().contains("[images]"));
        let small = complete(&format!("{folder}image_crop = 56")).unwrap();
        assert_eq!((small.images.resize, small.images.crop), (64, 56));
        let text = small.to_toml().unwrap();
        let read = Experiment::from_toml(Path::new("x"), &text).unwrap();
        assert_eq!(read, small);
        let refused = |text: &str| complete(text).unwrap_err().to_string();
        assert_eq!(
            refused("image_crop = 56"),
            "image_crop: is of the data set folder, and the data are digits"
        );
        assert_eq!(
            refused("data = \"folder\""),
            "data_dir: is not given, and the images of the data set `folder` are in a folder of yours"
        );
        assert_eq!(
            refused(&format!("{folder}image_resize = 100")),
            "images.resize: is 100, expected at least the 224 of the crop, or 0 for images as they are"
        );
    }

    #[test]
    fn the_default_objective_is_not_written_and_another_is() {
        let file = |settings: Settings| settings.complete().unwrap().to_toml().unwrap();
        assert!(!file(Settings::default()).contains("objective"));
        let settings: Settings = toml::from_str("objective = \"sum-of-squares\"").unwrap();
        let text = file(settings);
        assert_eq!(text.matches("objective = \"sum-of-squares\"").count(), 2);
    }
}
