//! What is wrong, for Python.

use lowbit_formats::FormatError;
use pyo3::PyErr;
use pyo3::exceptions::PyValueError;

/// A value that was not allowed, in one line.
pub(crate) fn value_error(error: FormatError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
