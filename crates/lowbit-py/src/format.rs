//! A number format, and what there is to know about it.

use lowbit_formats::fixed::Overflow;
use lowbit_formats::inspect::{Code, Rounded};
use lowbit_formats::plot::plot;
use lowbit_formats::{Facts, FixedPoint, Format, Wide};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use crate::error::value_error;
use crate::quantize::quantize_with;
use crate::rounding::rounding;
use crate::study;

/// Texts whose formats are kept.
const KEPT: usize = 1 << 10;

/// A number format: Format("e4m3"), Format("fixed(8,6)"), Format("mxfp4"), Format("posit(8,1)"). The texts are
/// those of the `lowbit` command; `lowbit.formats()` lists some of every kind.
#[pyclass(name = "Format", module = "lowbit", frozen, eq, hash, str)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PyFormat(pub(crate) Format);

impl std::fmt::Display for PyFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[pymethods]
impl PyFormat {
    #[new]
    fn new(py: Python<'_>, text: &Bound<'_, PyAny>) -> PyResult<Self> {
        as_format(py, text).map(|format| format.get().clone())
    }

    /// Bits of a code; of a block format, of an element's.
    #[getter]
    fn bits(&self) -> u32 {
        self.0.bits()
    }

    /// The smallest number that rounding gives, minus infinity where the format has it.
    #[getter]
    fn min(&self) -> f32 {
        self.0.min()
    }

    /// The largest number that rounding gives, infinity where the format has it.
    #[getter]
    fn max(&self) -> f32 {
        self.0.max()
    }

    /// Whether numbers share scales.
    #[getter]
    fn is_block(&self) -> bool {
        matches!(self.0, Format::Block(_))
    }

    /// The same fixed-point numbers without a largest and a smallest one; None for other formats.
    #[getter]
    fn unbounded(&self) -> Option<Self> {
        let Format::Fixed(format) = self.0 else {
            return None;
        };
        let free = FixedPoint::new(format.word(), format.fraction()).ok()?;
        let free = free.with_overflow(Overflow::Unbounded).ok()?;
        Some(Self(free.into()))
    }

    /// What there is to know about it; of a block format, about an element at a scale of one.
    #[getter]
    fn facts(&self) -> PyFacts {
        PyFacts(self.0.facts())
    }

    /// As `lowbit.quantize`.
    #[pyo3(signature = (x, rounding=None, *, seed=None, stream=None, out=None))]
    fn quantize<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        rounding: Option<&Bound<'py, PyAny>>,
        seed: Option<u64>,
        stream: Option<u64>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let rounding = self::rounding(rounding, seed, stream)?;
        quantize_with(py, x, self, rounding, out)
    }

    /// All values in ascending order, infinities included; ValueError for formats of more than 16 bits.
    fn values(&self) -> PyResult<Vec<f32>> {
        self.0.values().map_err(value_error)
    }

    /// Every code in ascending order of values, NaN last; none for formats of more than 8 bits.
    fn codes(&self) -> Vec<PyCode> {
        self.0.describe().codes.into_iter().map(PyCode).collect()
    }

    /// What became of numbers, each given as a float or as a decimal text, rounded once.
    #[pyo3(signature = (*numbers, rounding=None, seed=None, stream=None))]
    fn round(
        &self,
        numbers: Vec<Bound<'_, PyAny>>,
        rounding: Option<&Bound<'_, PyAny>>,
        seed: Option<u64>,
        stream: Option<u64>,
    ) -> PyResult<Vec<PyRounded>> {
        let rounding = self::rounding(rounding, seed, stream)?;
        let numbers: Vec<Wide> = numbers.iter().map(number).collect::<PyResult<_>>()?;
        let found = self
            .0
            .inspect_wide(&numbers, rounding)
            .map_err(value_error)?;
        Ok(found.into_iter().map(PyRounded).collect())
    }

    /// A number line of the values, and the relative error over magnitude.
    fn plot(&self) -> PyResult<study::Picture> {
        study::picture(std::slice::from_ref(&self.0), None)
    }

    fn _repr_html_(&self) -> PyResult<String> {
        let formats = std::slice::from_ref(&self.0);
        let picture = plot(formats, None).map_err(value_error)?;
        Ok(format!("{}{picture}", study::facts_table(formats)))
    }

    fn __repr__(&self) -> String {
        format!("Format('{}')", self.0)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyType>, (String,)) {
        (py.get_type::<Self>(), (self.0.to_string(),))
    }
}

fn number(given: &Bound<'_, PyAny>) -> PyResult<Wide> {
    if let Ok(text) = given.cast::<PyString>() {
        let text = text.to_cow()?;
        let wrong = || {
            PyValueError::new_err(format!(
                "`{text}` is no number, expected one such as 0.3, -1e-9, inf or nan"
            ))
        };
        return text.parse().map_err(|_| wrong());
    }
    Ok(given.extract::<f64>()?.into())
}

/// A format as it is handed to a function: a `Format`, or its text, which is read once.
pub(crate) fn as_format<'py>(
    py: Python<'py>,
    given: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyFormat>> {
    static KNOWN: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    if let Ok(format) = given.cast::<PyFormat>() {
        return Ok(format.clone());
    }
    let Ok(text) = given.cast::<PyString>() else {
        let kind = given.get_type().name()?;
        let message = format!("format is a {kind}, expected a str such as 'e4m3' or lowbit.Format");
        return Err(PyTypeError::new_err(message));
    };
    let known = KNOWN.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(format) = known.get_item(text)? {
        return Ok(format.cast_into::<PyFormat>()?);
    }
    let format = text.to_cow()?.parse().map_err(value_error)?;
    let format = Bound::new(py, PyFormat(format))?;
    if known.len() >= KEPT {
        known.clear();
    }
    known.set_item(text, &format)?;
    Ok(format)
}

/// Several formats, as they are handed to a function.
pub(crate) fn as_formats<'py>(py: Python<'py>, given: &Bound<'py, PyAny>) -> PyResult<Vec<Format>> {
    if given.is_instance_of::<PyString>() || given.is_instance_of::<PyFormat>() {
        return Ok(vec![as_format(py, given)?.get().0.clone()]);
    }
    let formats = given.try_iter()?;
    formats
        .map(|format| Ok(as_format(py, &format?)?.get().0.clone()))
        .collect()
}

/// Texts of formats of every kind.
#[pyfunction]
pub(crate) fn formats() -> Vec<&'static str> {
    Format::examples().collect()
}

/// What there is to know about a format.
#[pyclass(name = "Facts", module = "lowbit", frozen)]
pub(crate) struct PyFacts(Facts);

#[pymethods]
impl PyFacts {
    /// Bits of a code.
    #[getter]
    fn bits(&self) -> u32 {
        self.0.bits
    }

    /// The smallest finite value.
    #[getter]
    fn min(&self) -> f32 {
        self.0.min
    }

    /// The largest finite value.
    #[getter]
    fn max(&self) -> f32 {
        self.0.max
    }

    /// The smallest positive normal value, where there are normal values.
    #[getter]
    fn min_normal(&self) -> Option<f32> {
        self.0.min_normal
    }

    /// The smallest positive value.
    #[getter]
    fn min_positive(&self) -> Option<f32> {
        self.0.min_positive
    }

    /// The distance from 1 to the next larger value, where both are values.
    #[getter]
    fn epsilon(&self) -> Option<f32> {
        self.0.epsilon
    }

    /// log10(max / min_positive).
    #[getter]
    fn range_decades(&self) -> Option<f64> {
        self.0.range_decades
    }

    /// log2(max / min_positive).
    #[getter]
    fn range_bits(&self) -> Option<f64> {
        self.0.range_bits
    }

    /// The number of distinct values: infinities count, NaN does not, zero counts once.
    #[getter]
    fn values(&self) -> u64 {
        self.0.values
    }

    /// Whether a code stands for infinity.
    #[getter]
    fn infinity(&self) -> bool {
        self.0.infinity
    }

    /// Whether a code stands for NaN.
    #[getter]
    fn nan(&self) -> bool {
        self.0.nan
    }

    /// Whether a code stands for minus zero.
    #[getter]
    fn minus_zero(&self) -> bool {
        self.0.minus_zero
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// A code and what it stands for.
#[pyclass(name = "Code", module = "lowbit", frozen)]
pub(crate) struct PyCode(Code);

#[pymethods]
impl PyCode {
    /// The code.
    #[getter]
    fn code(&self) -> u32 {
        self.0.code
    }

    /// The code in binary, its fields apart.
    #[getter]
    fn bits(&self) -> &str {
        &self.0.bits
    }

    /// The value.
    #[getter]
    fn value(&self) -> f32 {
        self.0.value
    }

    fn __repr__(&self) -> String {
        format!(
            "Code({}, '{}', {:?})",
            self.0.code, self.0.bits, self.0.value
        )
    }
}

/// What became of a number.
#[pyclass(name = "Rounded", module = "lowbit", frozen)]
pub(crate) struct PyRounded(Rounded);

#[pymethods]
impl PyRounded {
    /// The number, or its nearest float64.
    #[getter]
    fn input(&self) -> f64 {
        self.0.input
    }

    /// The value to which it was rounded.
    #[getter]
    fn value(&self) -> f32 {
        self.0.value
    }

    /// The value's code.
    #[getter]
    fn code(&self) -> u32 {
        self.0.code
    }

    /// The code in binary, its fields apart.
    #[getter]
    fn bits(&self) -> &str {
        &self.0.bits
    }

    /// (value - input) / (upper - lower), the error in units of the gap between the number's neighbours; None
    /// beyond the format's range.
    #[getter]
    fn error_ulp(&self) -> Option<f64> {
        self.0.error_ulp
    }

    fn __repr__(&self) -> String {
        let Rounded {
            input,
            value,
            bits,
            error_ulp,
            ..
        } = &self.0;
        let error = error_ulp.map_or("None".into(), |error| format!("{error:?}"));
        format!("Rounded({input:?} -> {value:?}, '{bits}', error_ulp={error})")
    }
}
