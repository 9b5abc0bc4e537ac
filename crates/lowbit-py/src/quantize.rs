//! `lowbit.quantize`.

// `at` sees memory by its address, as its caller says.
#![allow(unsafe_code)]

use lowbit_formats::{Format, Rounding};
use numpy::PyUntypedArray;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFloat, PyInt};

use crate::array::{Array, Source};
use crate::error::value_error;
use crate::export::Buffer;
use crate::format::{PyFormat, as_format};
use crate::memory::{Kind, View};
use crate::rounding::{PyRounding, rounding};
use crate::{pass, threads};

/// Rounds numbers to a format.
///
/// x: an array of numpy, a tensor of PyTorch, anything with `__dlpack__`, a list, or a number; float32, float64,
/// float16, bfloat16 or integers, of any strides.
/// format: a `Format` or its text, such as "e4m3", "fixed(8,6)", "mxfp4" or "posit(8,1)".
/// rounding: a `Rounding` or its text, "nearest-even" unless given.
/// seed, stream: of stochastic rounding; element i, counted in row-major order, takes random word i of them.
/// out: where the result goes, an array of x's shape; x itself to round in place.
///
/// Gives an array of x's library, shape and type; of integers float32, of lists float64, of a number a float.
/// Every number is rounded once, float64 and integers too. ValueError if format or rounding are not known, if
/// shape or type cannot be rounded to the format; TypeError for what is no array of numbers.
#[pyfunction]
#[pyo3(signature = (x, format, rounding=None, *, seed=None, stream=None, out=None))]
pub(crate) fn quantize<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    format: &Bound<'py, PyAny>,
    rounding: Option<&Bound<'py, PyAny>>,
    seed: Option<u64>,
    stream: Option<u64>,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let format = as_format(py, format)?;
    let rounding = self::rounding(rounding, seed, stream)?;
    quantize_with(py, x, format.get(), rounding, out)
}

/// As [`quantize`], of what has been read.
pub(crate) fn quantize_with<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    format: &PyFormat,
    rounding: Rounding,
    out: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if !x.is_instance_of::<PyUntypedArray>() {
        if let Some(function) = torch_function(py, x)? {
            let arguments = PyDict::new(py);
            arguments.set_item("out", out)?;
            let format = PyFormat(format.0.clone());
            return function.call((x, format, PyRounding(rounding)), Some(&arguments));
        }
        if out.is_none()
            && (x.is_exact_instance_of::<PyFloat>() || x.is_exact_instance_of::<PyInt>())
        {
            let mut rounded = [0.0];
            let number = [x.extract::<f64>()?];
            let done = format.0.quantize_f64(&number, &mut rounded, rounding);
            done.map_err(value_error)?;
            return Ok(PyFloat::new(py, rounded[0].into()).into_any());
        }
    }
    let input = Array::new(x)?;
    if let Some(out) = out {
        let target = Array::output(out)?;
        check_output(&input.view, &target.view)?;
        run(py, &format.0, rounding, &input.view, &target.view)?;
        return Ok(out.clone());
    }
    match &input.source {
        Source::Numpy(_) => {
            let made = input.new_numpy(py)?.into_any();
            let target = Array::output(&made)?;
            run(py, &format.0, rounding, &input.view, &target.view)?;
            Ok(made)
        }
        Source::Dlpack(owner, _) => {
            let kind = input.view.kind().of_result();
            let fill = |target: &View| run(py, &format.0, rounding, &input.view, target);
            let buffer = Buffer::new(kind, input.view.shape(), fill)?;
            of_library(py, owner, buffer)
        }
    }
}

/// An array of the library that `like` is of, where it says which functions it has.
fn of_library<'py>(
    py: Python<'py>,
    like: &Bound<'py, PyAny>,
    buffer: Buffer,
) -> PyResult<Bound<'py, PyAny>> {
    let buffer = Bound::new(py, buffer)?.into_any();
    match like.getattr_opt("__array_namespace__")? {
        Some(namespace) => namespace.call0()?.call_method1("from_dlpack", (buffer,)),
        None => Ok(buffer),
    }
}

/// `lowbit.torch.quantize`, if `x` is a tensor of PyTorch, which is not loaded for any other's sake.
fn torch_function<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    static TENSOR: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
    if TENSOR.get(py).is_none() {
        let modules = py.import("sys")?.getattr("modules")?;
        let Some(torch) = modules.cast::<PyDict>()?.get_item("torch")? else {
            return Ok(None);
        };
        let Some(tensor) = torch.getattr_opt("Tensor")? else {
            return Ok(None);
        };
        if !x.is_instance(&tensor)? {
            return Ok(None);
        }
        let function = py.import("lowbit.torch")?.getattr("quantize")?;
        // Another thread may have been here.
        let _ = TENSOR.set(py, (tensor.unbind(), function.unbind()));
    }
    let Some((tensor, function)) = TENSOR.get(py) else {
        return Ok(None);
    };
    let is_tensor = x.is_instance(tensor.bind(py))?;
    Ok(is_tensor.then(|| function.bind(py).clone()))
}

fn check_output(input: &View, output: &View) -> PyResult<()> {
    if input.shape() != output.shape() {
        let message = format!(
            "out has the shape {:?}, expected {:?}",
            output.shape(),
            input.shape()
        );
        return Err(PyValueError::new_err(message));
    }
    let (kind, expected) = (output.kind(), input.kind().of_result());
    let wide = input.kind().size() >= 4 && input.kind() != Kind::F32 || expected != input.kind();
    if kind == expected || wide && matches!(kind, Kind::F32 | Kind::F64) {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "out is of {}, expected {}, since x is of {}",
        kind.name(),
        expected.name(),
        input.kind().name()
    )))
}

fn run(
    py: Python<'_>,
    format: &Format,
    rounding: Rounding,
    input: &View,
    output: &View,
) -> PyResult<()> {
    let spreads = matches!(format, Format::Block(_));
    let pass = || pass::quantize(format, rounding, input, output);
    threads::work(py, input.elements(), spreads, pass)?.map_err(value_error)
}

/// Rounds numbers at an address to another, which may be the same: for `lowbit.torch`, whose tensors say where
/// they are. `kind` is a name of numpy's; without strides, in numbers, both are in row-major order.
///
/// The caller answers for the addresses.
#[pyfunction]
#[pyo3(signature = (format, rounding, kind, source, target, shape, source_strides=None, target_strides=None))]
#[expect(
    clippy::too_many_arguments,
    reason = "two tensors in the fewest Python objects"
)]
pub(crate) fn quantize_at(
    py: Python<'_>,
    format: &Bound<'_, PyFormat>,
    rounding: &Bound<'_, PyRounding>,
    kind: &str,
    source: usize,
    target: usize,
    shape: Vec<usize>,
    source_strides: Option<Vec<isize>>,
    target_strides: Option<Vec<isize>>,
) -> PyResult<()> {
    let kind = match kind {
        "float32" => Kind::F32,
        "float64" => Kind::F64,
        "float16" => Kind::F16,
        "bfloat16" => Kind::Bf16,
        other => {
            let message = format!(
                "a tensor of {other} cannot be rounded, expected float32, float64, float16 or bfloat16"
            );
            return Err(PyTypeError::new_err(message));
        }
    };
    let view = |address, strides: Option<Vec<isize>>, writable| {
        let strides = strides.unwrap_or_else(|| row_major(&shape));
        // SAFETY: the caller answers for what it says.
        let view = unsafe { View::new(kind, address, shape.clone(), strides, writable) };
        view.ok_or_else(|| PyValueError::new_err("a tensor's numbers are not aligned"))
    };
    let input = view(source, source_strides, false)?;
    let output = view(target, target_strides, true)?;
    run(py, &format.get().0, rounding.get().0, &input, &output)
}

fn row_major(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for dimension in (1..shape.len()).rev() {
        strides[dimension - 1] = strides[dimension] * shape[dimension] as isize;
    }
    strides
}
