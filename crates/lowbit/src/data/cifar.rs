//! CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour photographs of 32 x 32 pixels, in the binary
//! version of their author (A. Krizhevsky, "Learning multiple layers of features from tiny
//! images", 2009; <https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! A file is a sequence of records without a header. A record is the label (CIFAR-100: the coarse
//! label, 0 to 19, then the fine label, 0 to 99, which is the one used here) in a byte, then 1,024
//! red, 1,024 green and 1,024 blue bytes, each row by row.

use std::path::{Path, PathBuf};

use ureq::Agent;

use super::cache::fetch_archive;
use super::download::OnProgress;
use super::reader::Reader;
use super::{Augment, Defaults, Description, ImageSet, Split};
use crate::Error;
use crate::models::{Architecture, BaseNetwork};
use crate::optim::{OptimizerConfig, Schedule};

pub(super) const CIFAR10_DESCRIPTION: Description = Description {
    name: CIFAR10.name,
    is_text: false,
    augment: Some(Augment::CIFAR),
    read: |dir| CIFAR10.load(dir),
    download: Some(fetch_cifar10),
    defaults: DEFAULTS,
};

pub(super) const CIFAR100_DESCRIPTION: Description = Description {
    name: CIFAR100.name,
    is_text: false,
    augment: Some(Augment::CIFAR),
    read: |dir| CIFAR100.load(dir),
    download: Some(fetch_cifar100),
    defaults: DEFAULTS,
};

const DEFAULTS: Defaults = Defaults {
    model: Architecture::of(BaseNetwork::ResNet {
        blocks: 3,
        bottleneck: false,
        raw_shortcut: false,
    }),
    epochs: 100,
    batch: 128,
    lr: 0.1,
    optimizer: OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 1e-4,
    },
    schedule: Schedule::Cosine,
};

/// The page of CIFAR's author, which also gives the checksums of the archives.
const URL: &str = "https://www.cs.toronto.edu/~kriz/";

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// What distinguishes one CIFAR from the other.
pub struct Cifar {
    name: &'static str,
    /// The official archive and its MD5 checksum.
    archive: (&'static str, &'static str),
    /// The folder in it, which may stand between the given folder and the files.
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    /// Each label byte of a record: what it is called, and how many values it has. The last is the
    /// class.
    labels: &'static [(&'static str, u8)],
    mean: [f32; 3],
    std: [f32; 3],
}

/// CIFAR-10. Mean and standard deviation of each channel are over all pixels of the training
/// images.
pub const CIFAR10: Cifar = Cifar {
    name: "cifar10",
    archive: ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    labels: &[("label", 10)],
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2470, 0.2435, 0.2616],
};

/// CIFAR-100 with its fine labels. Mean and standard deviation of each channel are over all pixels
/// of the training images.
pub const CIFAR100: Cifar = Cifar {
    name: "cifar100",
    archive: (
        "cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
    ),
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    labels: &[("coarse label", 20), ("fine label", 100)],
    mean: [0.5071, 0.4865, 0.4409],
    std: [0.2673, 0.2564, 0.2762],
};

impl Cifar {
    /// Reads the files from `dir`, or from the official folder inside it.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if a file is not there; [`Error::Data`] if one is empty, ends inside a
    /// record or has a label out of range; [`Error::Io`] if one cannot be read.
    pub fn load(&self, dir: &Path) -> Result<Split, Error> {
        let dir = self.find(dir)?;
        Ok(Split {
            train: self.load_part(&dir, self.train, "train")?,
            test: self.load_part(&dir, &[self.test], "test")?,
        })
    }

    /// The files' names, for messages.
    pub fn files(&self) -> String {
        format!("{} and {}", self.train.join(", "), self.test)
    }

    /// The folder that holds all files: `dir` or the official folder in it.
    fn find(&self, dir: &Path) -> Result<PathBuf, Error> {
        let complete = |dir: &PathBuf| self.names().all(|name| dir.join(name).is_file());
        [dir.to_owned(), dir.join(self.folder)]
            .into_iter()
            .find(complete)
            .ok_or_else(|| Error::Missing {
                set: self.name.into(),
                dir: dir.to_owned(),
                files: self.files(),
            })
    }

    /// The files' names.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.train.iter().copied().chain([self.test])
    }

    /// Downloads the archive to `dir` and unpacks it.
    fn fetch(&self, agent: &Agent, dir: &Path, progress: OnProgress) -> Result<(), Error> {
        let names: Vec<&str> = self.names().collect();
        fetch_archive(agent, URL, self.archive, &names, dir, progress)
    }

    fn load_part(&self, dir: &Path, names: &[&str], part: &str) -> Result<ImageSet, Error> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for name in names {
            self.read(&dir.join(name), &mut images, &mut labels)?;
        }
        Ok(ImageSet {
            name: format!("{} {part}", self.name),
            images,
            labels,
            channels: 3,
            height: SIDE,
            width: SIDE,
            margin: 0,
            classes: self.classes(),
            scale: 1.0 / 255.0,
            mean: self.mean.into(),
            std: self.std.into(),
        })
    }

    fn classes(&self) -> usize {
        self.labels[self.labels.len() - 1].1.into()
    }

    fn read(&self, path: &Path, images: &mut Vec<u8>, labels: &mut Vec<u8>) -> Result<(), Error> {
        let size = self.labels.len() + PIXELS;
        let mut file = Reader::open(path)?;
        let bytes = file.rest()?;
        let end = bytes.len();
        if end == 0 || end % size != 0 {
            let message = format!("the file ends here, expected a multiple of {size} bytes");
            return Err(file.wrong(end as u64, message));
        }
        for (index, record) in bytes.chunks_exact(size).enumerate() {
            let (found, pixels) = record.split_at(self.labels.len());
            for (place, (&label, &(what, count))) in found.iter().zip(self.labels).enumerate() {
                if label >= count {
                    let message = format!("{what} is {label}, expected 0 to {}", count - 1);
                    return Err(file.wrong((index * size + place) as u64, message));
                }
            }
            labels.extend(found.last());
            images.extend_from_slice(pixels);
        }
        Ok(())
    }
}

fn fetch_cifar10(agent: &Agent, dir: &Path, progress: OnProgress) -> Result<(), Error> {
    CIFAR10.fetch(agent, dir, progress)
}

pub(super) fn fetch_cifar100(agent: &Agent, dir: &Path, progress: OnProgress) -> Result<(), Error> {
    CIFAR100.fetch(agent, dir, progress)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A record with the given label bytes, whose planes are filled with `red`, `red + 1` and
    /// `red + 2`.
    fn record(labels: &[u8], red: u8) -> Vec<u8> {
        let mut record = labels.to_vec();
        for colour in red..red + 3 {
            record.extend([colour; 1024]);
        }
        record
    }

    /// A folder with CIFAR-10 of one image a file, of class 0 to 5.
    fn cifar10() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (class, name) in CIFAR10.names().enumerate() {
            let class = class as u8;
            fs::write(dir.path().join(name), record(&[class], 10 * class)).unwrap();
        }
        dir
    }

    /// What loading says when the third training file holds `bytes`, from the file's name on.
    fn message(bytes: &[u8]) -> String {
        let dir = cifar10();
        fs::write(dir.path().join("data_batch_3.bin"), bytes).unwrap();
        let message = CIFAR10.load(dir.path()).unwrap_err().to_string();
        let folder = format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR);
        message.replace(&folder, "")
    }

    #[test]
    fn cifar10_loads_in_the_files_order() {
        let split = CIFAR10.load(cifar10().path()).unwrap();
        assert_eq!(split.train.labels, [0, 1, 2, 3, 4]);
        assert_eq!(split.test.labels, [5]);
        let image = split.train.image(2);
        assert_eq!(
            (image[0], image[1023], image[1024], image[3071]),
            (20, 20, 21, 22)
        );
        assert_eq!(split.train.classes, 10);
    }

    #[test]
    fn cifar100_takes_the_fine_label_and_looks_in_the_official_folder() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("cifar-100-binary");
        fs::create_dir(&inside).unwrap();
        let train = [record(&[19, 99], 0), record(&[0, 5], 7)].concat();
        fs::write(inside.join("train.bin"), train).unwrap();
        fs::write(inside.join("test.bin"), record(&[3, 42], 1)).unwrap();
        let split = CIFAR100.load(dir.path()).unwrap();
        assert_eq!(split.train.labels, [99, 5]);
        assert_eq!(split.test.labels, [42]);
        assert_eq!((split.train.image(1)[0], split.train.classes), (7, 100));
    }

    #[test]
    fn a_file_that_ends_inside_a_record() {
        let two = [record(&[1], 0), record(&[2], 0)].concat();
        assert_eq!(
            message(&two[..5000]),
            "data_batch_3.bin: offset 5000: the file ends here, expected a multiple of 3073 bytes"
        );
        assert_eq!(
            message(&[]),
            "data_batch_3.bin: offset 0: the file ends here, expected a multiple of 3073 bytes"
        );
    }

    #[test]
    fn a_label_out_of_range() {
        let two = [record(&[9], 0), record(&[10], 0)].concat();
        assert_eq!(
            message(&two),
            "data_batch_3.bin: offset 3073: label is 10, expected 0 to 9"
        );
    }

    #[test]
    fn labels_of_cifar100_out_of_range() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("test.bin"), record(&[3, 42], 1)).unwrap();
        let train = dir.path().join("train.bin");
        let message = |labels| {
            fs::write(&train, record(labels, 0)).unwrap();
            CIFAR100.load(dir.path()).unwrap_err().to_string()
        };
        let train = train.display();
        assert_eq!(
            message(&[20, 0]),
            format!("{train}: offset 0: coarse label is 20, expected 0 to 19")
        );
        assert_eq!(
            message(&[0, 100]),
            format!("{train}: offset 1: fine label is 100, expected 0 to 99")
        );
    }

    #[test]
    fn a_missing_file_is_reported_with_all_names() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            CIFAR100.load(dir.path()).unwrap_err().to_string(),
            format!(
                "{}: no cifar100 here, expected train.bin and test.bin",
                dir.path().display()
            )
        );
    }
}
