//! Data sets: labelled images in memory, and the batches that are cut from them.
//!
//! [`DataSet`] names a set and loads it, downloading it first where it is missing; [`ImageSet`]
//! holds its images as bytes and writes normalized batches; [`epoch_order`] shuffles; [`Augment`]
//! crops and flips. Order and augmentation are functions of a run's seed, the epoch and the image's
//! index, never of threads, batches or what was drawn before, so a resumed run sees what an
//! uninterrupted one would have.

mod augment;
mod cache;
pub mod cifar;
pub mod digits;
mod download;
mod image_set;
pub mod mnist;
mod order;
mod random;
mod reader;
#[cfg(test)]
mod test_server;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use augment::Augment;
pub use cache::cache_folder;
pub use download::Progress;
pub use image_set::ImageSet;
pub use order::epoch_order;

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

    /// Loads the set from the files in `dir`, or, without one, from the [`cache_folder`], to which
    /// it is downloaded if it is not there yet. `progress` is told how a download goes on; the
    /// digits need neither folder nor download.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if the files are not in the `dir` that was given; [`Error::Download`] if
    /// they could not be downloaded; [`Error::NoCacheFolder`] if there is nowhere to keep them;
    /// [`Error::Data`] if one of them does not hold what its format says; [`Error::Io`] if one
    /// cannot be read or written.
    pub fn load(
        self,
        dir: Option<&Path>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Split, Error> {
        match (self, dir) {
            (Self::Digits, _) => digits::load(),
            (_, Some(dir)) => self.read(dir),
            (_, None) => self.read_or_download(&cache_folder(self.name())?, progress),
        }
    }

    fn read_or_download(
        self,
        dir: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Split, Error> {
        match self.read(dir) {
            Err(Error::Missing { .. }) => {
                self.download(dir, progress)?;
                self.read(dir)
            }
            result => result,
        }
    }

    fn read(self, dir: &Path) -> Result<Split, Error> {
        match self {
            Self::Digits => digits::load(),
            Self::Mnist => mnist::load(dir),
            Self::Cifar10 => cifar::CIFAR10.load(dir),
            Self::Cifar100 => cifar::CIFAR100.load(dir),
        }
    }

    fn download(self, dir: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        let agent = download::agent();
        match self {
            Self::Digits => Ok(()),
            Self::Mnist => cache::fetch_mnist(&agent, dir, progress),
            Self::Cifar10 => cache::fetch_cifar10(&agent, dir, progress),
            Self::Cifar100 => cache::fetch_cifar100(&agent, dir, progress),
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

    /// A folder with MNIST of one image a part.
    fn tiny_mnist() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for part in ["train", "t10k"] {
            let images = [
                &[0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28],
                &[0; 784][..],
            ]
            .concat();
            let labels = [0, 0, 8, 1, 0, 0, 0, 1, 6];
            let path = |kind| dir.path().join(format!("{part}-{kind}-ubyte"));
            std::fs::write(path("images-idx3"), images).unwrap();
            std::fs::write(path("labels-idx1"), labels).unwrap();
        }
        dir
    }

    fn no_download(progress: Progress<'_>) {
        panic!("downloads {}", progress.file);
    }

    #[test]
    fn what_is_there_is_not_downloaded() {
        let dir = tiny_mnist();
        let named = DataSet::Mnist.load(Some(dir.path()), &mut no_download);
        let cached = DataSet::Mnist.read_or_download(dir.path(), &mut no_download);
        assert_eq!(named.unwrap().test.labels, [6]);
        assert_eq!(cached.unwrap().test.labels, [6]);
        assert_eq!(
            DataSet::Digits
                .load(None, &mut no_download)
                .unwrap()
                .test
                .len(),
            359
        );
    }

    #[test]
    fn a_folder_that_was_named_is_not_downloaded_to() {
        let dir = tempfile::tempdir().unwrap();
        for set in [DataSet::Mnist, DataSet::Cifar10, DataSet::Cifar100] {
            let result = set.load(Some(dir.path()), &mut no_download);
            assert!(matches!(result, Err(Error::Missing { .. })), "{result:?}");
        }
    }

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
