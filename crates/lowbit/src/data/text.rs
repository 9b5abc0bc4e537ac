//! Text, character by character: of each character in a window, the next one is the class.
//!
//! The data set `shakespeare` is part of the library: 1,115,394 characters of Shakespeare's plays, 65
//! different ones, put together by A. Karpathy for char-rnn (2015), of which the first nine tenths are to
//! train on and the rest is to test with, as in his nanoGPT. The data set `text` is two files of your own:
//!
//! ```text
//! DIR/train.txt    DIR/test.txt
//! ```
//!
//! A window is an image of one row, whose pixels are its characters' places in the [`alphabet`](Text::alphabet):
//! [`GPT_CONTEXT`] of them, and as many classes, one for each. Windows of the training text begin every half
//! window, so that each character is expected twice an epoch, after other ones; those of the test text
//! begin where the one before ends. What is left at the end of a text, less than a window, is not seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::{DataSet, Defaults, Description, ImageSet, Split};
use crate::Error;
use crate::models::{Architecture, BaseNetwork, GPT_CONTEXT, GptSize};
use crate::optim::{OptimizerConfig, Schedule};

const DEFAULTS: Defaults = Defaults {
    model: Architecture::of(BaseNetwork::Gpt {
        size: GptSize::Nano,
    }),
    epochs: 2,
    batch: 16,
    lr: 3e-3,
    optimizer: OptimizerConfig::AdamW { weight_decay: 0.1 },
    schedule: Schedule::OneCycle { warmup: 0.05 },
};

pub(super) const SHAKESPEARE: Description = Description {
    name: "shakespeare",
    is_text: true,
    augment: None,
    read: |_| Text::shakespeare()?.split("shakespeare", Path::new(FILE)),
    download: None,
    defaults: DEFAULTS,
};

pub(super) const OWN: Description = Description {
    name: "text",
    is_text: true,
    augment: None,
    read: |dir| Text::read(dir)?.split("text", dir),
    download: Some(|_, _, _| Err(no_files())),
    defaults: DEFAULTS,
};

const FILE: &str = "shakespeare.txt.gz";
const SHAKESPEARE_GZ: &[u8] = include_bytes!("../../assets/shakespeare.txt.gz");

/// Classes are bytes.
const MOST_CHARACTERS: usize = 256;

/// What is said where no folder is.
pub(crate) fn no_files() -> Error {
    let message = "is not given, and the data set `text` is the files train.txt and test.txt of a folder of yours";
    Error::config("data_dir", message)
}

/// A text to train on, and one to test with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// To train on.
    pub train: String,
    /// To test with.
    pub test: String,
}

impl Text {
    /// The one that is part of the library.
    ///
    /// # Errors
    /// [`Error::Data`] if the embedded file is damaged.
    pub fn shakespeare() -> Result<Self, Error> {
        let bytes = flate2::bufread::MultiGzDecoder::new(SHAKESPEARE_GZ);
        let mut file = Reader::new(Path::new(FILE), Box::new(bytes));
        let mut train = unicode(Path::new(FILE), file.rest()?)?;
        // The text is in ASCII.
        let test = train.split_off(train.len() * 9 / 10);
        Ok(Self { train, test })
    }

    /// `train.txt` and `test.txt` of a folder, both in UTF-8.
    ///
    /// # Errors
    /// [`Error::Missing`] if one of them is not there, [`Error::Io`] if it cannot be read,
    /// [`Error::Data`] if it is not in UTF-8.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = dir.join(name);
            if !path.is_file() {
                return Err(Error::Missing {
                    set: "text".into(),
                    dir: dir.into(),
                    files: "train.txt and test.txt".into(),
                });
            }
            let bytes = fs::read(&path).map_err(Error::io(&path))?;
            unicode(&path, bytes)
        };
        Ok(Self {
            train: read("train.txt")?,
            test: read("test.txt")?,
        })
    }

    /// That of a data set which is text, from `dir` where it is not part of the library; `None` of images.
    ///
    /// # Errors
    /// As of [`shakespeare`](Self::shakespeare) and [`read`](Self::read), or if there is no `dir`.
    pub fn of(data: DataSet, dir: Option<&Path>) -> Result<Option<Self>, Error> {
        match (data, dir) {
            (DataSet::Shakespeare, _) => Self::shakespeare().map(Some),
            (DataSet::Text, Some(dir)) => Self::read(dir).map(Some),
            (DataSet::Text, None) => Err(no_files()),
            _ => Ok(None),
        }
    }

    /// All characters of both texts, in the order of their code points. A character's class is its place
    /// here.
    pub fn alphabet(&self) -> Vec<char> {
        let characters = self.train.chars().chain(self.test.chars());
        let different: BTreeSet<char> = characters.collect();
        different.into_iter().collect()
    }

    /// Windows of both texts; `path` is what errors call them.
    fn split(&self, name: &str, path: &Path) -> Result<Split, Error> {
        let alphabet = self.alphabet();
        let wrong = |message: String| Error::Data {
            path: path.into(),
            offset: None,
            message,
        };
        if alphabet.len() > MOST_CHARACTERS {
            let count = alphabet.len();
            let message =
                format!("has {count} different characters, expected at most {MOST_CHARACTERS}");
            return Err(wrong(message));
        }
        let part = |part: &str, text: &str, every: usize| {
            let place = |c: char| alphabet.binary_search(&c).unwrap_or_default() as u8;
            let places: Vec<u8> = text.chars().map(place).collect();
            if places.len() <= GPT_CONTEXT {
                let (count, least) = (places.len(), GPT_CONTEXT + 1);
                let message =
                    format!("{part} text of {count} characters, expected at least {least}");
                return Err(wrong(message));
            }
            let starts = (0..places.len() - GPT_CONTEXT).step_by(every);
            let windows = |shift: usize| {
                let starts = starts.clone();
                starts.flat_map(move |start| start + shift..start + shift + GPT_CONTEXT)
            };
            let [images, labels] = [0, 1].map(|shift| windows(shift).map(|i| places[i]).collect());
            Ok(ImageSet {
                name: format!("{name} {part}"),
                images,
                labels,
                channels: 1,
                height: 1,
                width: GPT_CONTEXT,
                margin: 0,
                classes: alphabet.len(),
                scale: 1.0,
                mean: vec![0.0],
                std: vec![1.0],
            })
        };
        Ok(Split {
            train: part("train", &self.train, GPT_CONTEXT / 2)?,
            test: part("test", &self.test, GPT_CONTEXT)?,
        })
    }
}

/// The text of bytes in UTF-8.
fn unicode(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| Error::Data {
        path: PathBuf::from(path),
        offset: Some(error.utf8_error().valid_up_to() as u64),
        message: "is not in UTF-8".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of nanoGPT's `data/shakespeare_char/prepare.py`: 1,003,854 and 111,540 characters, 65
    /// different ones, the new line first and `z` last.
    #[test]
    fn the_embedded_text_is_that_of_nanogpt() {
        let text = Text::shakespeare().unwrap();
        assert_eq!((text.train.len(), text.test.len()), (1_003_854, 111_540));
        let alphabet = text.alphabet();
        let expected = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        assert_eq!(alphabet, expected.chars().collect::<Vec<_>>());
        assert!(text.train.starts_with("First Citizen:\nBefore we proceed"));
        let split = text.split("shakespeare", Path::new(FILE)).unwrap();
        split.check().unwrap();
        // (1,003,854 - 64 + 31) / 32 and (111,540 - 64 + 63) / 64, rounded down
        assert_eq!((split.train.len(), split.test.len()), (31_369, 1_742));
        assert_eq!(split.train.answers(), GPT_CONTEXT);
        // "First " begins with F, i, r; what follows them is i, r, s.
        assert_eq!(split.train.image(0)[..3], [18, 47, 56]);
        assert_eq!(split.train.labels[..3], [47, 56, 57]);
        let second = split.train.batch_labels(&[1]);
        assert_eq!(second[0], i32::from(split.train.image(0)[33]));
    }

    fn folder(train: &[u8], test: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train.txt"), train).unwrap();
        fs::write(dir.path().join("test.txt"), test).unwrap();
        dir
    }

    fn refused(train: &[u8], test: &[u8]) -> String {
        let dir = folder(train, test);
        let error = (OWN.read)(dir.path()).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn texts_of_ones_own_have_their_own_alphabet() {
        let dir = folder(&"äb".repeat(64).into_bytes(), &[b'c'; 65]);
        let split = (OWN.read)(dir.path()).unwrap();
        assert_eq!((split.train.classes, split.train.len()), (3, 2));
        assert_eq!(split.train.image(0)[..3], [2, 0, 2]);
        assert_eq!((split.test.len(), split.test.labels[0]), (1, 1));
    }

    #[test]
    fn texts_that_cannot_be_windows_are_refused() {
        assert_eq!(
            refused(&[b'a'; 64], &[b'a'; 65]),
            "DIR: train text of 64 characters, expected at least 65"
        );
        assert_eq!(
            refused(&[b'a'; 65], &[b'a', 0xFF]),
            "DIR/test.txt: offset 1: is not in UTF-8"
        );
        let many: String = (0..257)
            .filter_map(|i| char::from_u32(0x4E00 + i))
            .collect();
        assert_eq!(
            refused(many.as_bytes(), &[b'a'; 65]),
            "DIR: has 258 different characters, expected at most 256"
        );
        let dir = tempfile::tempdir().unwrap();
        let missing = Text::read(dir.path());
        assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    }
}
