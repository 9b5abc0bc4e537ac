use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What can go wrong in the crate. Every message is one line that names the file or the field.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder does not hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
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
    /// A field, an argument or a tensor cannot be used.
    #[error("{field}: {message}")]
    Field {
        /// The field, with the tables it is in, or the tensor's key.
        field: String,
        /// What is wrong with it, and what was expected.
        message: String,
    },
}

impl Error {
    /// An [`Error::File`]. Of a message of several lines, the lines are joined by spaces.
    pub(crate) fn file(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::File {
            path: path.into(),
            message: one_line(message),
        }
    }

    /// An [`Error::Field`]. Of a message of several lines, the lines are joined by spaces.
    pub(crate) fn field(field: impl Into<String>, message: impl ToString) -> Self {
        Self::Field {
            field: field.into(),
            message: one_line(message),
        }
    }

    /// An [`Error::Io`] about `path`, to be handed to `map_err`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

fn one_line(message: impl ToString) -> String {
    let message = message.to_string();
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_the_file_or_field() {
        let file = Error::file("model/config.json", "not JSON\n at line 3");
        assert_eq!(file.to_string(), "model/config.json: not JSON at line 3");
        let field = Error::field("max_length", "is 0, expected at least 1");
        assert_eq!(field.to_string(), "max_length: is 0, expected at least 1");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let path = Path::new("no/such/file");
        let error = std::fs::read(path).map_err(Error::io(path)).unwrap_err();
        assert!(error.to_string().starts_with("no/such/file: "), "{error}");
    }
}
