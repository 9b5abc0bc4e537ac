//! Sigmoid and hyperbolic tangent from the bits of a posit.

use lowbit_formats::kernel;
use lowbit_formats::posit::{PositActivation, PositFunction};
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error::value_error;
use crate::study::singles;
use crate::threads;

/// "sigmoid", "tanh" or "tanh-enhanced" of x by the bit trick on posits of 8 or 16 bits without exponent bits
/// (Gustafson and Yonemoto, "Beating Floating Point at its Own Game", 2017), as float32.
#[pyfunction]
pub(crate) fn posit_activation<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    function: &str,
    bits: u8,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let function = match function {
        "sigmoid" => PositFunction::Sigmoid,
        "tanh" => PositFunction::Tanh,
        "tanh-enhanced" => PositFunction::TanhEnhanced,
        other => {
            let message = format!("function is {other}, expected sigmoid, tanh or tanh-enhanced");
            return Err(PyValueError::new_err(message));
        }
    };
    let activation = PositActivation::new(function, bits).map_err(value_error)?;
    let (shape, numbers) = singles(x)?;
    let found = threads::work(py, numbers.len(), false, || {
        kernel::map_to_vec(&numbers, move |x: f32| activation.apply(x))
    })?;
    PyArray1::from_vec(py, found).reshape(shape)
}
