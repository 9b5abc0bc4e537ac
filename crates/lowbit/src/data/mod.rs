//! Data sets: labelled images in memory, and the batches that are cut from them.
//!
//! [`DataSet`] names a set and loads it; [`ImageSet`] holds its images as bytes and writes
//! normalized batches; [`epoch_order`] shuffles; [`Augment`] crops and flips. Order and
//! augmentation are functions of a run's seed, the epoch and the image's index, never of threads,
//! batches or what was drawn before, so a resumed run sees what an uninterrupted one would have.

mod augment;
pub mod cifar;
pub mod digits;
mod image_set;
pub mod mnist;
mod random;
mod reader;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use augment::Augment;
pub use image_set::ImageSet;
pub use random::epoch_order;

use crate::Error;

/// The images to train on and the images to test with.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The images to train on.
    pub train: ImageSet,
    /// The images that training never sees.
    pub test: ImageSet,
}

/// A data set that the library knows how to load.
///
/// Its text form is `digits`, `mnist`, `cifar10` or `cifar100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSet {
    /// The embedded 8 x 8 digits, see [`digits`].
    Digits,
    /// The 28 x 28 digits, see [`mnist`].
    Mnist,
    /// Photographs of 10 classes, see [`cifar`].
    Cifar10,
    /// Photographs of 100 classes, see [`cifar`].
    Cifar100,
}

impl DataSet {
    /// All sets.
    pub const ALL: [Self; 4] = [Self::Digits, Self::Mnist, Self::Cifar10, Self::Cifar100];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Mnist => "mnist",
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    /// The augmentation that the set is usually trained with, if any.
    pub fn augment(self) -> Option<Augment> {
        match self {
            Self::Digits | Self::Mnist => None,
            Self::Cifar10 | Self::Cifar100 => Some(Augment::CIFAR),
        }
    }

    /// Loads the set from the files in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if the files are not in `dir`; [`Error::Data`] if one of them does not
    /// hold what its format says; [`Error::Io`] if one cannot be read.
    pub fn load(self, dir: &Path) -> Result<Split, Error> {
        match self {
            Self::Digits => digits::load(),
            Self::Mnist => mnist::load(dir),
            Self::Cifar10 => cifar::CIFAR10.load(dir),
            Self::Cifar100 => cifar::CIFAR100.load(dir),
        }
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DataSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|set| set.name() == text)
            .ok_or_else(|| Error::Unknown {
                kind: "data set",
                text: text.into(),
                expected: "digits, mnist, cifar10 or cifar100",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_go_both_ways() {
        for set in DataSet::ALL {
            assert_eq!(set.to_string().parse::<DataSet>().unwrap(), set);
            let json = serde_json::to_string(&set).unwrap();
            assert_eq!(json, format!("\"{set}\""));
        }
    }

    #[test]
    fn an_unknown_set_is_answered_with_the_list() {
        assert_eq!(
            "imagenet".parse::<DataSet>().unwrap_err().to_string(),
            "unknown data set `imagenet`, expected digits, mnist, cifar10 or cifar100"
        );
    }
}
