//! What keeps a network from learning its training images by heart.

use serde::{Deserialize, Serialize};

use super::options::Settings;
use crate::Error;
use crate::data::{Cutout, Mixup};

/// Label smoothing, mixup and cutout; each is off at 0. They act in training alone: tests, and the
/// images that thresholds are calibrated with, are as ever.
///
/// The training loss is that of the smoothed and mixed classes, and training accuracy counts the
/// class of the image that has the greater share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Regularization {
    /// What is taken from the right class and spread evenly over all `K` classes: the target of
    /// class `c` is `(1 - e) (c is right) + e / K`. From 0 to below 1, usually 0.1. Szegedy et al.,
    /// arXiv 1512.00567, section 7.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// Both parameters of the distribution of the shares in which images are mixed, usually 0.1 to
    /// 1; see [`Mixup`].
    #[serde(skip_serializing_if = "is_zero")]
    pub mixup: f64,
    /// Rows and columns of the square that is cut out of each image, usually 16 of 32; see
    /// [`Cutout`].
    #[serde(skip_serializing_if = "is_none")]
    pub cutout: u32,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn is_none(size: &u32) -> bool {
    *size == 0
}

impl Regularization {
    /// Whether there is none.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// How images are mixed, if they are.
    pub(super) fn mixing(&self) -> Option<Mixup> {
        (self.mixup > 0.0).then_some(Mixup { alpha: self.mixup })
    }

    /// What is cut out of them, if something is.
    pub(super) fn cutting(&self) -> Option<Cutout> {
        (self.cutout > 0).then_some(Cutout { size: self.cutout })
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let (smoothing, alpha) = (self.label_smoothing, self.mixup);
        if !(0.0..1.0).contains(&smoothing) {
            let message = format!("is {smoothing}, expected 0 to below 1");
            return Err(Error::config("label_smoothing", message));
        }
        if !(alpha.is_finite() && alpha >= 0.0) {
            let message = format!("is {alpha}, expected a number from 0 on");
            return Err(Error::config("mixup", message));
        }
        Ok(())
    }
}

impl Settings {
    /// What they say of it, where it was `before`.
    pub(super) fn regularization(&self, before: Regularization) -> Regularization {
        Regularization {
            label_smoothing: self.label_smoothing.unwrap_or(before.label_smoothing),
            mixup: self.mixup.unwrap_or(before.mixup),
            cutout: self.cutout.unwrap_or(before.cutout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Experiment;

    #[test]
    fn what_is_off_is_not_written_and_the_rest_reads_back() {
        let experiment = |text: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.complete().unwrap()
        };
        let off = "method = \"float\"\nmixup = 0.0\ncutout = 0\nlabel_smoothing = 0.0";
        let off = experiment(off).to_toml().unwrap();
        assert!(!off.contains("regularization") && !off.contains("clip_norm"));
        let on = "method = \"float\"\nmixup = 0.2\ncutout = 16\nclip_norm = 5.0";
        let on = experiment(on);
        let text = on.to_toml().unwrap();
        let read = Experiment::from_toml("x".as_ref(), &text).unwrap();
        assert_eq!(read, on);
        let run = &on.runs[0];
        assert_eq!((run.regularization.mixup, run.clip_norm), (0.2, Some(5.0)));
        let changed = Settings {
            label_smoothing: Some(0.1),
            ..Settings::default()
        };
        let changed = on.with(&changed).unwrap().runs[0].regularization;
        assert_eq!((changed.mixup, changed.label_smoothing), (0.2, 0.1));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let refused = |text: &str| {
            let settings: Settings = toml::from_str(text).unwrap();
            settings.complete().unwrap_err().to_string()
        };
        assert_eq!(
            refused("label_smoothing = 1.0"),
            "runs[0].regularization.label_smoothing: is 1, expected 0 to below 1"
        );
        assert_eq!(
            refused("mixup = -0.5"),
            "runs[0].regularization.mixup: is -0.5, expected a number from 0 on"
        );
        assert_eq!(
            refused("clip_norm = 0.0"),
            "runs[0].clip_norm: is 0, expected a positive number"
        );
    }
}
