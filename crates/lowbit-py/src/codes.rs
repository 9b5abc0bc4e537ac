//! Codes: the integers that stand for a format's values.

use lowbit_formats::{BlockCodes, BlockFormat, Format, Scales, pack as packing};
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::{Array, numpy_call};
use crate::error::value_error;
use crate::format::as_format;
use crate::memory::{Kind, View};
use crate::rounding::rounding;
use crate::study::singles;
use crate::threads;

/// A tensor in a block format at its true size: packed codes of its elements, and the scales they share.
#[pyclass(name = "BlockCodes", module = "lowbit", frozen)]
pub(crate) struct PyBlockCodes {
    format: BlockFormat,
    codes: BlockCodes,
}

#[pymethods]
impl PyBlockCodes {
    /// The format's text.
    #[getter]
    fn format(&self) -> String {
        self.format.to_string()
    }

    /// The tensor's extents.
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.codes.shape.clone()
    }

    /// Bits of the elements and of all scales.
    #[getter]
    fn bits(&self) -> usize {
        self.codes.bits()
    }

    /// The elements' codes in row-major order, packed as `lowbit.pack` does.
    #[getter]
    fn elements<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u8>> {
        PyArray1::from_slice(py, &self.codes.elements)
    }

    /// What blocks share, by name: `scales` (codes of powers of two or of e4m3, or floats), and with them
    /// `tensor_scale`, `zero_points`, or `scale_scales` and `scale_mean`, where the format has those.
    #[getter]
    fn scales<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = PyDict::new(py);
        match &self.codes.scales {
            Scales::PowersOfTwo(codes) => {
                shared.set_item("scales", PyArray1::from_slice(py, codes))?;
            }
            Scales::Float8 { tensor, blocks } => {
                shared.set_item("scales", PyArray1::from_slice(py, blocks))?;
                shared.set_item("tensor_scale", tensor)?;
            }
            Scales::Affine(parameters) => {
                let scales = parameters.iter().map(|p| p.scale);
                let zeros = parameters.iter().map(|p| p.zero_point);
                shared.set_item("scales", PyArray1::from_iter(py, scales))?;
                shared.set_item("zero_points", PyArray1::from_iter(py, zeros))?;
            }
            Scales::Float { values, .. } => {
                shared.set_item("scales", PyArray1::from_slice(py, values))?;
            }
            Scales::Double {
                codes,
                groups,
                mean,
            } => {
                shared.set_item("scales", PyArray1::from_slice(py, codes))?;
                shared.set_item("scale_scales", PyArray1::from_slice(py, groups))?;
                shared.set_item("scale_mean", mean)?;
            }
        }
        Ok(shared)
    }

    fn __repr__(&self) -> String {
        let (shape, bits) = (&self.codes.shape, self.codes.bits());
        format!(
            "BlockCodes('{}', shape={shape:?}, bits={bits})",
            self.format
        )
    }
}

/// Rounds numbers to a format and gives the codes of the results: an array of uint8, uint16 or uint32 of x's
/// shape; of a block format, `BlockCodes`. float64 and wide integers count as their nearest float32.
#[pyfunction]
#[pyo3(signature = (x, format, rounding=None, *, seed=None, stream=None))]
pub(crate) fn encode<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    format: &Bound<'py, PyAny>,
    rounding: Option<&Bound<'py, PyAny>>,
    seed: Option<u64>,
    stream: Option<u64>,
) -> PyResult<Bound<'py, PyAny>> {
    let format = as_format(py, format)?;
    let rounding = self::rounding(rounding, seed, stream)?;
    let (shape, numbers) = singles(x)?;
    if let Format::Block(block) = format.get().0 {
        let encoded = threads::work(py, numbers.len(), true, || {
            block.encode(&numbers, &shape, rounding)
        })?;
        let codes = encoded.map_err(value_error)?;
        let made = PyBlockCodes {
            format: block,
            codes,
        };
        return Ok(Bound::new(py, made)?.into_any());
    }
    let format = &format.get().0;
    let encoded = threads::work(py, numbers.len(), false, || {
        format.encode(&numbers, rounding)
    })?;
    smallest(py, encoded.map_err(value_error)?, format.bits(), &shape)
}

/// Codes as the smallest unsigned integers with so many bits.
fn smallest<'py>(
    py: Python<'py>,
    codes: Vec<u32>,
    bits: u32,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let made = match bits {
        0..=8 => PyArray1::from_iter(py, codes.into_iter().map(|code| code as u8))
            .reshape(shape)?
            .into_any(),
        9..=16 => PyArray1::from_iter(py, codes.into_iter().map(|code| code as u16))
            .reshape(shape)?
            .into_any(),
        _ => PyArray1::from_vec(py, codes).reshape(shape)?.into_any(),
    };
    Ok(made)
}

/// The values of codes, as float32 of the codes' shape; `BlockCodes` need no format.
#[pyfunction]
#[pyo3(signature = (codes, format=None))]
pub(crate) fn decode<'py>(
    py: Python<'py>,
    codes: &Bound<'py, PyAny>,
    format: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    if let Ok(block) = codes.cast::<PyBlockCodes>() {
        let block = block.get();
        let decoded = threads::work(py, usize::MAX, true, || block.format.decode(&block.codes))?;
        let decoded = decoded.map_err(value_error)?;
        return PyArray1::from_vec(py, decoded).reshape(block.codes.shape.as_slice());
    }
    let Some(format) = format else {
        return Err(PyTypeError::new_err(
            "decode takes a format unless codes are lowbit.BlockCodes",
        ));
    };
    let format = as_format(py, format)?;
    let format = &format.get().0;
    let array = Array::new(codes)?;
    let codes = integers(&array.view)?;
    let decoded = threads::work(py, codes.len(), false, || format.decode(&codes))?;
    PyArray1::from_vec(py, decoded).reshape(array.view.shape())
}

/// The lowest bits of integers.
fn integers(view: &View) -> PyResult<Vec<u32>> {
    macro_rules! lowest {
        ($number:ty) => {
            view.gather::<$number>()
                .into_iter()
                .map(|x| x as u32)
                .collect()
        };
    }
    Ok(match view.kind() {
        Kind::I8 => lowest!(i8),
        Kind::I16 => lowest!(i16),
        Kind::I32 => lowest!(i32),
        Kind::I64 => lowest!(i64),
        Kind::U8 => lowest!(u8),
        Kind::U16 => lowest!(u16),
        Kind::U32 => lowest!(u32),
        Kind::U64 => lowest!(u64),
        other => {
            let message = format!("codes are {}, expected integers", other.name());
            return Err(PyTypeError::new_err(message));
        }
    })
}

/// Packs the lowest bits of codes without padding, the lowest bit first: code i takes the bits i * bits to
/// (i + 1) * bits of the stream, where bit j is bit j % 8 of byte j / 8.
#[pyfunction]
pub(crate) fn pack<'py>(
    py: Python<'py>,
    codes: &Bound<'py, PyAny>,
    bits: u32,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let codes = integers(&Array::new(codes)?.view)?;
    let packed = threads::work(py, codes.len(), false, || packing::pack(&codes, bits))?;
    Ok(PyArray1::from_vec(py, packed.map_err(value_error)?))
}

/// The first `count` codes of so many bits of a packed stream, as the smallest unsigned integers that have them.
#[pyfunction]
pub(crate) fn unpack<'py>(
    py: Python<'py>,
    packed: &Bound<'py, PyAny>,
    bits: u32,
    count: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let packed = match packed.extract::<Vec<u8>>() {
        Ok(bytes) => bytes,
        Err(_) => {
            let array = numpy_call(py, "ascontiguousarray", packed)?;
            let array = array.cast::<PyArray1<u8>>().map_err(|_| {
                PyTypeError::new_err("packed is no array of uint8 of one dimension, expected one")
            })?;
            array.to_vec()?
        }
    };
    if count > packed.len().saturating_mul(8) {
        let message = format!(
            "count is {count}, expected at most the {} bits there are",
            packed.len() * 8
        );
        return Err(PyValueError::new_err(message));
    }
    let codes = threads::work(py, count, false, || packing::unpack(&packed, bits, count))?;
    smallest(py, codes.map_err(value_error)?, bits, &[count])
}
