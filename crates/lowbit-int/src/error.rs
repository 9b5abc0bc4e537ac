use std::fmt::Display;
use std::path::Path;

use thiserror::Error;

/// What can be wrong with a graph of integers, with the numbers it is given, or with its file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A node, input or output does not fit what it is joined to.
    #[error("{node}: {reason}")]
    Node {
        /// The node's name, or the input's.
        node: String,
        /// What does not fit, and what would.
        reason: String,
    },
    /// A file cannot be read or written, or is not a graph.
    #[error("{path}: {reason}")]
    File {
        /// The file, or what the text is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl GraphError {
    pub(crate) fn node(node: impl AsRef<str>, reason: impl AsRef<str>) -> Self {
        Self::Node {
            node: quoted(node.as_ref()),
            reason: escaped(reason.as_ref()),
        }
    }

    pub(crate) fn file(path: &Path, reason: impl Display) -> Self {
        Self::File {
            path: quoted(&path.display().to_string()),
            reason: escaped(&reason.to_string()),
        }
    }
}

/// A name as it can be printed: in quotes if it is empty or has characters that would end the line or
/// control a terminal.
fn quoted(name: &str) -> String {
    if name.is_empty() || name.contains(char::is_control) {
        format!("{name:?}")
    } else {
        name.into()
    }
}

/// A reason in one line, whatever of a file it repeats: control characters as in Rust's texts.
fn escaped(reason: &str) -> String {
    let mut line = String::with_capacity(reason.len());
    for character in reason.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
