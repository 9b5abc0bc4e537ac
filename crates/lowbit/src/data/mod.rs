//! Data sets: labelled images, or windows of text, in memory, and the batches that are cut from them.
//!
//! [`DataSet`] names a set and loads it, downloading it first where it is missing; [`ImageSet`]
//! holds its images as bytes and writes normalized batches; [`epoch_order`] shuffles; [`Augment`]
//! crops and flips, [`Cutout`] cuts out and [`Mixup`] mixes. Order and augmentation are functions of a run's seed, the epoch and the image's
//! index, never of threads, batches or what was drawn before, so a resumed run sees what an
//! uninterrupted one would have.

mod augment;
mod cache;
pub mod cifar;
mod cutout;
pub mod digits;
mod download;
pub mod folder;
mod hold_out;
mod image_set;
mod mixup;
pub mod mnist;
mod order;
mod random;
mod reader;
mod resize;
#[cfg(test)]
mod test_server;
pub mod text;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use ureq::Agent;

pub use augment::Augment;
pub use cache::cache_folder;
pub use cutout::Cutout;
use download::OnProgress;
pub use download::Progress;
pub use folder::ImageFolder;
pub use hold_out::{HoldOut, Parts};
pub use image_set::ImageSet;
pub use mixup::Mixup;
pub use order::epoch_order;

use crate::Error;
use crate::error::one_of;
use crate::models::Architecture;
use crate::optim::{OptimizerConfig, Schedule};

/// The images to train on and the images to test with.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// The images to train on.
    pub train: ImageSet,
    /// The images that training never sees.
    pub test: ImageSet,
}

/// Brings the files of a data set into a folder.
type Download = fn(&Agent, &Path, OnProgress) -> Result<(), Error>;

/// What a data set is: where it comes from, and what it is usually trained with.
struct Description {
    /// Its name, the variant of [`DataSet`] in lower case.
    name: &'static str,
    /// Whether it is text, whose windows have a class for each of their characters.
    is_text: bool,
    /// Crops and flips of training images, if any.
    augment: Option<Augment>,
    /// Reads it from a folder; a set that is part of the program looks at none.
    read: fn(&Path) -> Result<Split, Error>,
    /// Brings its files into a folder; none where it is part of the program.
    download: Option<Download>,
    /// What is usual for it.
    defaults: Defaults,
}

/// What a data set is trained with unless told.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The network.
    pub model: Architecture,
    /// Times that a run from random weights sees every image.
    pub epochs: usize,
    /// Images in a step.
    pub batch: usize,
    /// Highest learning rate of the weights of such a run.
    pub lr: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    pub schedule: Schedule,
}

/// The enum of data sets, from the one list of them.
macro_rules! data_sets {
    ($($(#[$doc:meta])* $variant:ident = $description:expr;)+) => {
        /// A data set that the library knows how to load. Its text form is its name in lower case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum DataSet {
            $($(#[$doc])* $variant,)+
        }

        impl DataSet {
            /// All sets.
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];

            fn description(self) -> &'static Description {
                match self {
                    $(Self::$variant => &$description,)+
                }
            }
        }
    };
}

data_sets! {
    /// The embedded 8 x 8 digits, see [`digits`].
    Digits = digits::DESCRIPTION;
    /// The 28 x 28 digits, see [`mnist`].
    Mnist = mnist::DESCRIPTION;
    /// Photographs of 10 classes, see [`cifar`].
    Cifar10 = cifar::CIFAR10_DESCRIPTION;
    /// Photographs of 100 classes, see [`cifar`].
    Cifar100 = cifar::CIFAR100_DESCRIPTION;
    /// Images of your own in a folder for each class, see [`folder`].
    Folder = folder::DESCRIPTION;
    /// Shakespeare's plays, character by character, embedded, see [`text`].
    Shakespeare = text::SHAKESPEARE;
    /// A text of your own, see [`text`].
    Text = text::OWN;
}

impl DataSet {
    /// The text form.
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// The names of all sets, as a person reads them.
    pub fn names() -> &'static str {
        static NAMES: LazyLock<String> = LazyLock::new(|| one_of(&DataSet::ALL.map(DataSet::name)));
        &NAMES
    }

    /// Whether the set is text, in windows with a class for each of their characters.
    pub fn is_text(self) -> bool {
        self.description().is_text
    }

    /// Whether the set is part of the program, and in no folder.
    pub fn is_embedded(self) -> bool {
        self.description().download.is_none()
    }

    /// The augmentation that the set is usually trained with, if any.
    pub fn augment(self) -> Option<Augment> {
        self.description().augment
    }

    /// What the set is trained with unless told.
    pub fn defaults(self) -> &'static Defaults {
        &self.description().defaults
    }

    /// Loads the set from the files in `dir`, or, without one, from the [`cache_folder`], to which
    /// it is downloaded if it is not there yet. `progress` is told how a download goes on; the
    /// embedded sets need neither folder nor download.
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
        match dir {
            Some(dir) => self.read(dir),
            None if self.is_embedded() => self.read(Path::new("")),
            None => self.read_or_download(&cache_folder(self.name())?, progress),
        }
    }

    /// The same, with the images of a [`Folder`](Self::Folder) read as `images` says.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(
        self,
        dir: Option<&Path>,
        images: &ImageFolder,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Split, Error> {
        match (self, dir) {
            (Self::Folder, Some(dir)) => images.load(dir),
            (Self::Folder, None) => Err(folder::no_folder()),
            _ => self.load(dir, progress),
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
        (self.description().read)(dir)
    }

    fn download(self, dir: &Path, progress: OnProgress) -> Result<(), Error> {
        match self.description().download {
            Some(download) => download(&download::agent(), dir, progress),
            None => Ok(()),
        }
    }
}

impl Split {
    /// Whether every label is one of the classes.
    ///
    /// # Errors
    /// With the part, the image and its label.
    pub fn check(&self) -> Result<(), Error> {
        for (part, set) in [("train", &self.train), ("test", &self.test)] {
            let beyond = |&label: &u8| usize::from(label) >= set.classes;
            if let Some(at) = set.labels.iter().position(beyond) {
                let (label, last) = (set.labels[at], set.classes.saturating_sub(1));
                let image = at / set.answers().max(1);
                let message = format!("image {image} has label {label}, expected 0 to {last}");
                return Err(Error::config(part, message));
            }
        }
        Ok(())
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
                expected: Self::names(),
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
    fn a_label_that_is_no_class_is_refused() {
        let mut split = DataSet::Digits.load(None, &mut no_download).unwrap();
        split.check().unwrap();
        split.test.labels[7] = 12;
        assert_eq!(
            split.check().unwrap_err().to_string(),
            "test: image 7 has label 12, expected 0 to 9"
        );
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
        for set in [
            DataSet::Mnist,
            DataSet::Cifar10,
            DataSet::Cifar100,
            DataSet::Folder,
            DataSet::Text,
        ] {
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
            "unknown data set `imagenet`, expected digits, mnist, cifar10, cifar100, folder, \
             shakespeare or text"
        );
    }
}
