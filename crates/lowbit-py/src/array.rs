//! Arrays of other libraries, seen and made without a copy.

// What an array library says of an array becomes a view; each use says why that holds.
#![allow(unsafe_code)]

use dlpark::DlpackFlags;
use dlpark::ffi::{DLDataType, DLDeviceType};
use dlpark::python::{ImportedDlpack, from_dlpack};
use numpy::npyffi::{self, PY_ARRAY_API};
use numpy::{PyArrayDescr, PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::memory::{Kind, View};

/// What may be rounded, for messages.
const ALLOWED: &str = "float32, float64, float16, bfloat16 or integers";

/// An array, the view of its numbers, and what keeps them alive.
pub(crate) struct Array<'py> {
    pub(crate) view: View,
    pub(crate) source: Source<'py>,
}

/// Where an array comes from.
pub(crate) enum Source<'py> {
    Numpy(Bound<'py, PyUntypedArray>),
    Dlpack(
        Bound<'py, PyAny>,
        #[expect(dead_code, reason = "keeps the memory")] ImportedDlpack,
    ),
}

impl<'py> Array<'py> {
    /// Sees an array of numpy or of any library with `__dlpack__`; what is neither (lists, numbers) becomes an
    /// array of numpy, and so does one whose numbers lie across the places of their type.
    pub(crate) fn new(given: &Bound<'py, PyAny>) -> PyResult<Self> {
        match Self::seen(given)? {
            Some(array) => Ok(array),
            None => {
                let made = numpy_call(given.py(), "array", given)?;
                let seen = Self::seen(&made)?;
                let kind = given.get_type().name()?;
                seen.ok_or_else(|| {
                    PyTypeError::new_err(format!("x is a {kind}, expected an array of {ALLOWED}"))
                })
            }
        }
    }

    /// Sees an array that is to be written.
    pub(crate) fn output(given: &Bound<'py, PyAny>) -> PyResult<Self> {
        let Some(array) = Self::seen(given)? else {
            let kind = given.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "out is a {kind}, expected an array in CPU memory whose numbers are aligned"
            )));
        };
        if !array.view.is_writable() {
            return Err(PyValueError::new_err(
                "out is read-only, expected an array that may be written",
            ));
        }
        Ok(array)
    }

    fn seen(given: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(array) = given.cast::<PyUntypedArray>() {
            let view = numpy_view(array)?;
            let source = Source::Numpy(array.clone());
            return Ok(view.map(|view| Self { view, source }));
        }
        if !given.hasattr(pyo3::intern!(given.py(), "__dlpack__"))? {
            return Ok(None);
        }
        let imported = from_dlpack(given.as_borrowed(), None, None)?;
        let view = dlpack_view(&imported)?;
        let source = Source::Dlpack(given.clone(), imported);
        Ok(view.map(|view| Self { view, source }))
    }

    /// A new array of numpy with the shape of this one, for what comes of rounding it: of the same type, of
    /// integers float32. Its numbers are yet to be written.
    pub(crate) fn new_numpy(&self, py: Python<'py>) -> PyResult<Bound<'py, PyUntypedArray>> {
        let kind = self.view.kind().of_result();
        let dtype = match &self.source {
            Source::Numpy(array) if self.view.kind() == kind => array.dtype(),
            _ => dtype_of(py, kind)?,
        };
        empty(py, self.view.shape(), dtype, self.view.is_column_major())
    }
}

/// A new array of numpy whose numbers are yet to be written.
pub(crate) fn empty<'py>(
    py: Python<'py>,
    shape: &[usize],
    dtype: Bound<'py, PyArrayDescr>,
    column_major: bool,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let mut extents: Vec<npyffi::npy_intp> = shape.iter().map(|&n| n as _).collect();
    // SAFETY: the type is one of numpy's or ml_dtypes' without references to objects, which takes the reference
    // to its description; numpy allocates the memory.
    unsafe {
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            npyffi::get_type_object(py, npyffi::NpyTypes::PyArray_Type),
            dtype.into_dtype_ptr(),
            extents.len() as _,
            extents.as_mut_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            i32::from(column_major) * npyffi::NPY_ARRAY_F_CONTIGUOUS,
            std::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(py, array)?
            .cast_into::<PyUntypedArray>()
            .map_err(Into::into)
    }
}

/// numpy's description of a type.
pub(crate) fn dtype_of(py: Python<'_>, kind: Kind) -> PyResult<Bound<'_, PyArrayDescr>> {
    if kind != Kind::Bf16 {
        return PyArrayDescr::new(py, kind.name());
    }
    let ml_dtypes = py.import("ml_dtypes").map_err(|_| {
        PyTypeError::new_err("numpy has no bfloat16 of its own: expected the package ml_dtypes")
    })?;
    PyArrayDescr::new(py, ml_dtypes.getattr("bfloat16")?)
}

/// `numpy.NAME(argument)`.
pub(crate) fn numpy_call<'py>(
    py: Python<'py>,
    name: &str,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let numpy = NUMPY.get_or_try_init(py, || PyResult::Ok(py.import("numpy")?.unbind()))?;
    numpy.bind(py).call_method1(name, (argument,))
}

/// `None` if the numbers do not lie at multiples of their size.
fn numpy_view(array: &Bound<'_, PyUntypedArray>) -> PyResult<Option<View>> {
    let dtype = array.dtype();
    let kind = numpy_kind(&dtype)?;
    let size = kind.size() as isize;
    let strides = array.strides();
    if strides.iter().any(|stride| stride % size != 0) {
        return Ok(None);
    }
    let strides = strides.iter().map(|stride| stride / size).collect();
    // SAFETY: the pointer is that of a live array, which says where its numbers are and whether they may be
    // written; the caller holds the array as long as the view.
    Ok(unsafe {
        let raw = &*array.as_array_ptr();
        let writable = raw.fields.flags & npyffi::NPY_ARRAY_WRITEABLE != 0;
        View::new(
            kind,
            raw.fields.data as usize,
            array.shape().to_vec(),
            strides,
            writable,
        )
    })
}

fn numpy_kind(dtype: &Bound<'_, PyArrayDescr>) -> PyResult<Kind> {
    let native = dtype.is_native_byteorder() != Some(false);
    let kind = match (dtype.kind(), dtype.itemsize()) {
        (b'f', 2) => Some(Kind::F16),
        (b'f', 4) => Some(Kind::F32),
        (b'f', 8) => Some(Kind::F64),
        (b'i', 1) => Some(Kind::I8),
        (b'i', 2) => Some(Kind::I16),
        (b'i', 4) => Some(Kind::I32),
        (b'i', 8) => Some(Kind::I64),
        (b'u', 1) => Some(Kind::U8),
        (b'u', 2) => Some(Kind::U16),
        (b'u', 4) => Some(Kind::U32),
        (b'u', 8) => Some(Kind::U64),
        (_, 2) if dtype.getattr("name")?.eq("bfloat16")? => Some(Kind::Bf16),
        _ => None,
    };
    match kind {
        Some(kind) if native => Ok(kind),
        _ => Err(PyTypeError::new_err(format!(
            "an array of {} cannot be rounded, expected {ALLOWED}, in the machine's byte order",
            dtype.str()?
        ))),
    }
}

fn dlpack_view(imported: &ImportedDlpack) -> PyResult<Option<View>> {
    let invalid = |error: dlpark::tensor::Error| PyValueError::new_err(error.to_string());
    let tensor = imported.validate().map_err(invalid)?;
    let device = tensor.device().device_type;
    let host = [
        DLDeviceType::CPU,
        DLDeviceType::CUDAHOST,
        DLDeviceType::ROCMHOST,
    ];
    if !host.contains(&device) {
        let device = device.0;
        return Err(PyValueError::new_err(format!(
            "the array is on a device of DLPack's type {device}, expected CPU memory"
        )));
    }
    let kind = dlpack_kind(tensor.dtype())?;
    let shape = tensor.shape().iter().map(|&n| n as usize).collect();
    let strides = tensor.strides_or_compact().map_err(invalid)?;
    let strides = strides.iter().map(|&n| n as isize).collect();
    let writable = !imported.flags().contains(DlpackFlags::READ_ONLY);
    // SAFETY: what is exported is a tensor in memory of the host with these places, which the caller keeps as
    // long as the view.
    Ok(unsafe {
        let address = tensor.offset_bytes_ptr().map_err(invalid)? as usize;
        View::new(kind, address, shape, strides, writable)
    })
}

fn dlpack_kind(dtype: DLDataType) -> PyResult<Kind> {
    const KINDS: [(DLDataType, Kind); 12] = [
        (DLDataType::F16, Kind::F16),
        (DLDataType::BF16, Kind::Bf16),
        (DLDataType::F32, Kind::F32),
        (DLDataType::F64, Kind::F64),
        (DLDataType::I8, Kind::I8),
        (DLDataType::I16, Kind::I16),
        (DLDataType::I32, Kind::I32),
        (DLDataType::I64, Kind::I64),
        (DLDataType::U8, Kind::U8),
        (DLDataType::U16, Kind::U16),
        (DLDataType::U32, Kind::U32),
        (DLDataType::U64, Kind::U64),
    ];
    let known = KINDS.iter().find(|(known, _)| known.matches(dtype));
    known.map(|(_, kind)| *kind).ok_or_else(|| {
        let (code, bits) = (dtype.code.0, dtype.bits);
        PyTypeError::new_err(format!(
            "an array of DLPack's type {code} of {bits} bits cannot be rounded, expected {ALLOWED}"
        ))
    })
}
