//! How a number between two others is brought to one of them.

use lowbit_formats::Rounding;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::error::value_error;

/// A rounding mode: "nearest-even", "nearest-away", "nearest-up", "toward-zero", "down", "up", "to-odd", or
/// "stochastic", also as "stochastic(seed=1,stream=2,bits=8)".
#[pyclass(name = "Rounding", module = "lowbit", frozen, eq, hash, str)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PyRounding(pub(crate) Rounding);

impl std::fmt::Display for PyRounding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[pymethods]
impl PyRounding {
    #[new]
    fn new(text: &Bound<'_, PyAny>) -> PyResult<Self> {
        rounding(Some(text), None, None).map(Self)
    }

    /// Up or down at random, so that the expected value is the number itself: the same seed and stream give
    /// the same numbers. 1 to 32 random bits decide.
    #[classmethod]
    #[pyo3(signature = (seed=0, stream=0, bits=32))]
    fn stochastic(_class: &Bound<'_, PyType>, seed: u64, stream: u64, bits: u8) -> PyResult<Self> {
        let rounding = Rounding::Stochastic { seed, stream, bits };
        rounding.validate().map_err(value_error)?;
        Ok(Self(rounding))
    }

    /// The modes that take no random numbers.
    #[staticmethod]
    fn deterministic() -> Vec<Self> {
        Rounding::DETERMINISTIC.map(Self).to_vec()
    }

    #[getter]
    fn is_stochastic(&self) -> bool {
        matches!(self.0, Rounding::Stochastic { .. })
    }

    #[getter]
    fn seed(&self) -> Option<u64> {
        match self.0 {
            Rounding::Stochastic { seed, .. } => Some(seed),
            _ => None,
        }
    }

    #[getter]
    fn stream(&self) -> Option<u64> {
        match self.0 {
            Rounding::Stochastic { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// The same mode with another seed or stream.
    #[pyo3(signature = (seed=None, stream=None))]
    fn with_randomness(&self, seed: Option<u64>, stream: Option<u64>) -> PyResult<Self> {
        with_randomness(self.0, seed, stream).map(Self)
    }

    fn __repr__(&self) -> String {
        format!("Rounding('{}')", self.0)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyType>, (String,)) {
        (py.get_type::<Self>(), (self.0.to_string(),))
    }
}

/// A rounding as it is handed to a function: nothing, a text, or a `Rounding`; seed and stream go with
/// stochastic rounding.
pub(crate) fn rounding(
    given: Option<&Bound<'_, PyAny>>,
    seed: Option<u64>,
    stream: Option<u64>,
) -> PyResult<Rounding> {
    let rounding = match given {
        None => Rounding::NearestEven,
        Some(given) => {
            if let Ok(rounding) = given.cast::<PyRounding>() {
                rounding.get().0
            } else if let Ok(text) = given.cast::<PyString>() {
                text.to_cow()?.parse().map_err(value_error)?
            } else {
                let kind = given.get_type().name()?;
                let message = format!("rounding is a {kind}, expected a str or lowbit.Rounding");
                return Err(PyTypeError::new_err(message));
            }
        }
    };
    with_randomness(rounding, seed, stream)
}

fn with_randomness(
    rounding: Rounding,
    new_seed: Option<u64>,
    new_stream: Option<u64>,
) -> PyResult<Rounding> {
    match rounding {
        Rounding::Stochastic { seed, stream, bits } => Ok(Rounding::Stochastic {
            seed: new_seed.unwrap_or(seed),
            stream: new_stream.unwrap_or(stream),
            bits,
        }),
        _ if new_seed.is_some() || new_stream.is_some() => Err(PyValueError::new_err(format!(
            "seed and stream go with stochastic rounding, not with {rounding}"
        ))),
        _ => Ok(rounding),
    }
}
