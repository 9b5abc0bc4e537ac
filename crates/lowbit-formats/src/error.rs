use std::fmt::Display;
use std::ops::RangeInclusive;

use thiserror::Error;

/// What can go wrong with a format: its text, its parameters, or the slices given to a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The text names no format; `nearest` is a valid text close to it, empty if none is.
    #[error("unknown format `{text}`: {reason}{}", suggested(nearest))]
    Parse {
        /// The text that was given.
        text: String,
        /// What is wrong with it.
        reason: String,
        /// The valid format text closest to it.
        nearest: String,
    },
    /// The text names no rounding mode; `nearest` is a valid text close to it.
    #[error("unknown rounding `{text}`: {reason}; did you mean `{nearest}`?")]
    Rounding {
        /// The text that was given.
        text: String,
        /// What is wrong with it.
        reason: String,
        /// The valid text closest to it.
        nearest: String,
    },
    /// The text names no way to make sums.
    #[error("unknown sums `{text}`: {reason}")]
    Accumulation {
        /// The text that was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter is outside its range.
    #[error("{what}: {field} is {value}, expected {expected}")]
    Parameter {
        /// What has the parameter: a kind of format, such as `fixed`, or a task, such as `plot`.
        what: &'static str,
        /// The parameter's name.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        expected: String,
    },
    /// Input and output slices differ in length.
    #[error("input has {input} elements but output has {output}")]
    Length {
        /// Length of the input.
        input: usize,
        /// Length of the output.
        output: usize,
    },
    /// A tensor's shape does not fit its elements or what is asked of it.
    #[error("shape {shape:?} does not fit: expected {expected}")]
    Shape {
        /// The shape that was given.
        shape: Vec<usize>,
        /// What was expected of it.
        expected: String,
    },
    /// A tensor's strides do not fit its shape, its slice, or what is done with it.
    #[error("strides {strides:?} do not fit: expected {expected}")]
    Strides {
        /// The strides that were given.
        strides: Vec<isize>,
        /// What was expected of them.
        expected: String,
    },
    /// A file cannot be read or written, or does not hold what its kind prescribes.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody reads the pipe that a file is written to.
    #[error("{path}: nobody reads it")]
    NoReader {
        /// The pipe.
        path: String,
    },
    /// The operation is not defined for this format.
    #[error("{format} does not support {operation}")]
    Unsupported {
        /// The format, as text.
        format: String,
        /// What was asked of it.
        operation: String,
    },
}

/// The end of a message that suggests a text, if there is one.
fn suggested(nearest: &str) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; did you mean `{nearest}`?")
    }
}

impl FormatError {
    /// A parameter of `what` outside its range.
    pub(crate) fn parameter(
        what: &'static str,
        field: &'static str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Parameter {
            what,
            field,
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}

/// Checks that a parameter of `what` lies in a range.
///
/// # Errors
///
/// [`FormatError::Parameter`] if not.
pub(crate) fn check_range<T: PartialOrd + Display>(
    what: &'static str,
    field: &'static str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), FormatError> {
    if range.contains(&value) {
        return Ok(());
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(FormatError::parameter(what, field, value, expected))
}
