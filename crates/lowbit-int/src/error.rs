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
    pub(crate) fn node(node: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Node {
            node: node.into(),
            reason: reason.into(),
        }
    }
}
