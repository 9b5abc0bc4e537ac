use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What can go wrong in the library. Every message is one line that names the file or the field.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of a data set does not hold what its format says.
    #[error("{}: {}{message}", path.display(), at(*offset))]
    Data {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes from its start; of a compressed file, in bytes after
        /// decompression. `None` where no single place is wrong.
        offset: Option<u64>,
        /// What was found, and what was expected.
        message: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A folder does not hold the files of a data set.
    #[error("{}: no {set} here, expected {files}", dir.display())]
    Missing {
        /// The data set.
        set: String,
        /// The folder that was looked into.
        dir: PathBuf,
        /// The names of the files that belong there.
        files: String,
    },
    /// The system names no folder that data sets could be kept in.
    #[error("no cache folder for data sets is known, set LOWBIT_DATA to a folder")]
    NoCacheFolder,
    /// A data set could not be downloaded.
    #[error("cannot download {url}: {message}; put {files} into {} by hand, or try again", dir.display())]
    Download {
        /// The address that was asked for.
        url: String,
        /// What went wrong.
        message: String,
        /// The folder the data set is looked for in.
        dir: PathBuf,
        /// The names of the files that belong there.
        files: String,
    },
    /// A name that stands for one of a fixed list of things is not on that list.
    #[error("unknown {kind} `{text}`, expected {expected}")]
    Unknown {
        /// What the name should stand for, such as `data set`.
        kind: &'static str,
        /// The name that was given.
        text: String,
        /// The names that are allowed.
        expected: &'static str,
    },
    /// A field of a configuration cannot be used.
    #[error("{field}: {message}")]
    Config {
        /// The field, with the tables it is in.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A quantizer cannot be calibrated with what it saw.
    #[error("{path}: {message}")]
    Calibration {
        /// The quantizer's path in the network.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// Training has left the range of numbers.
    #[error("{run}: the {what} is {loss} in epoch {epoch}, step {step}{}; a lower learning rate may help", first(.tensor))]
    Diverged {
        /// The run.
        run: String,
        /// Which loss.
        what: &'static str,
        /// Its value, NaN or infinite.
        loss: f64,
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step since the start of the run, counted from 1.
        step: usize,
        /// The first tensor on the way through the network that has numbers which are NaN or infinite, if
        /// one has on a few training examples.
        tensor: Option<String>,
    },
    /// A tensor of a training step is not the integers that it is said to be.
    #[error("{place}: step {step}: {what}")]
    NotInteger {
        /// The tensor's path, or the layer of a sum.
        place: String,
        /// The step, counted from 0.
        step: usize,
        /// What is wrong.
        what: String,
    },
    /// A network that was not trained just now gives no numbers.
    #[error("{run}: the test loss is {loss}; the network's parameters or data are at fault")]
    NotFinite {
        /// The run.
        run: String,
        /// The loss, NaN or infinite.
        loss: f64,
    },
    /// A model's forward cannot be recorded, or cannot be run again.
    #[error("{place}: {message}")]
    Capture {
        /// The operation or layer.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A checkpoint cannot be read, written or applied.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// An [`Error::Config`].
    pub(crate) fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            message: message.into(),
        }
    }

    /// An [`Error::Capture`].
    pub(crate) fn capture(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Capture {
            place: place.into(),
            message: message.into(),
        }
    }

    /// The first line of what a TOML parser says, with the line of the text it speaks of.
    pub(crate) fn toml(source: &str, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map_or(String::new(), |span| {
            format!(
                " line {}",
                text[..span.start.min(text.len())].matches('\n').count() + 1
            )
        });
        Self::config(
            format!("{source}{line}"),
            error.message().replace('\n', " "),
        )
    }

    /// The same error with the field's place in an outer table.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            Self::Config { field, message } => Self::Config {
                field: format!("{outer}.{field}"),
                message,
            },
            Self::Calibration { path, message } => Self::Calibration {
                path: format!("{outer}.{path}"),
                message,
            },
            other => other,
        }
    }

    /// An [`Error::Io`] about `path`, to be handed to `map_err`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The tensor that is not finite, in words.
fn first(tensor: &Option<String>) -> String {
    let tensor = tensor.as_ref();
    tensor.map_or(String::new(), |path| {
        format!(", and {path} is the first tensor that is not finite")
    })
}

/// A list as a person reads it: `a, b or c`.
pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn at(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!("offset {offset}: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_file_and_offset() {
        let error = Error::Data {
            path: "train-images-idx3-ubyte".into(),
            offset: Some(4),
            message: "magic is wrong".into(),
        };
        assert_eq!(
            error.to_string(),
            "train-images-idx3-ubyte: offset 4: magic is wrong"
        );
    }

    #[test]
    fn a_download_that_failed_says_what_to_put_where() {
        let error = Error::Download {
            url: "http://host/a.gz".into(),
            message: "connection refused".into(),
            dir: "cache/mnist".into(),
            files: "a.gz and b.gz".into(),
        };
        assert_eq!(
            error.to_string(),
            "cannot download http://host/a.gz: connection refused; \
             put a.gz and b.gz into cache/mnist by hand, or try again"
        );
    }
}
