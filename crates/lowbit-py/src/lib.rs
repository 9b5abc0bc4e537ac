//! The Python module `lowbit`: formats, rounding, codes and pictures of `lowbit-formats` for arrays of numpy,
//! PyTorch and any library with DLPack.

mod activation;
mod array;
mod codes;
mod error;
mod export;
mod format;
mod memory;
mod pass;
mod quantize;
mod rounding;
mod study;
mod threads;

/// What `lowbit` takes from here; users import `lowbit`.
#[pyo3::pymodule(gil_used = false)]
mod _lowbit {
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::activation::posit_activation;
    #[pymodule_export]
    use crate::codes::{PyBlockCodes, decode, encode, pack, unpack};
    #[pymodule_export]
    use crate::export::Buffer;
    #[pymodule_export]
    use crate::format::{PyCode, PyFacts, PyFormat, PyRounded, formats};
    #[pymodule_export]
    use crate::quantize::{quantize, quantize_at};
    #[pymodule_export]
    use crate::rounding::PyRounding;
    #[pymodule_export]
    use crate::study::{Comparison, Fit, Noise, Picture, compare_formats, plot};
    #[pymodule_export]
    use crate::threads::{get_num_threads, set_num_threads};

    #[pymodule_init]
    fn init(_module: &Bound<'_, PyModule>) -> PyResult<()> {
        only_interpreter()?;
        crate::threads::at_home();
        Ok(())
    }

    /// Refuses interpreters beside the first: what is kept between calls belongs to one.
    fn only_interpreter() -> PyResult<()> {
        // SAFETY: a module is made by a thread that is attached to an interpreter.
        #[allow(unsafe_code)]
        let id =
            unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
        match id {
            0 => Ok(()),
            id => Err(PyImportError::new_err(format!(
                "lowbit was imported by sub-interpreter {id}, expected the main interpreter"
            ))),
        }
    }
}
