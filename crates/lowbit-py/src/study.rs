//! Formats side by side, as tables and pictures.

use std::fmt::Write;

use lowbit_formats::Format;
use lowbit_formats::compare::{Compared, Distribution, Sample, Tensor, compare};
use lowbit_formats::error_summary::ErrorSummary;
use lowbit_formats::plot::plot as draw;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::array::Array;
use crate::error::value_error;
use crate::format::as_formats;
use crate::memory::Kind;
use crate::rounding::rounding;
use crate::{pass, threads};

/// A picture as SVG, which notebooks show.
#[pyclass(module = "lowbit", frozen)]
pub(crate) struct Picture {
    /// The picture's text.
    #[pyo3(get)]
    svg: String,
}

#[pymethods]
impl Picture {
    /// Writes it to a file.
    fn save(&self, path: std::path::PathBuf) -> PyResult<()> {
        let failed = |error| PyOSError::new_err(format!("{}: {error}", path.display()));
        std::fs::write(&path, &self.svg).map_err(failed)
    }

    fn _repr_svg_(&self) -> &str {
        &self.svg
    }
}

/// Draws formats.
pub(crate) fn picture(formats: &[Format], limit: Option<f32>) -> PyResult<Picture> {
    let svg = draw(formats, limit).map_err(value_error)?;
    Ok(Picture { svg })
}

/// Draws a number line of each format's values, from -limit to limit, and the relative error of rounding to
/// nearest-even over magnitude.
#[pyfunction]
#[pyo3(signature = (formats, limit=None))]
pub(crate) fn plot(
    py: Python<'_>,
    formats: &Bound<'_, PyAny>,
    limit: Option<f32>,
) -> PyResult<Picture> {
    let formats = as_formats(py, formats)?;
    threads::work(py, usize::MAX, true, || draw(&formats, limit))?
        .map(|svg| Picture { svg })
        .map_err(value_error)
}

/// The error of rounded numbers.
#[pyclass(name = "Noise", module = "lowbit", frozen, get_all)]
#[derive(Clone)]
pub(crate) struct Noise {
    /// All numbers, finite or not.
    elements: u64,
    /// The largest |rounded - number|.
    max_error: f64,
    /// The root of the mean of (rounded - number)^2.
    rms_error: f64,
    /// 10 log10(sum number^2 / sum (rounded - number)^2); None if nothing changed or a number overflowed.
    sqnr_db: Option<f64>,
    /// Finite numbers outside the format's range.
    saturated: u64,
    /// Finite numbers that became infinite or NaN.
    overflowed: u64,
}

impl From<&ErrorSummary> for Noise {
    fn from(error: &ErrorSummary) -> Self {
        Self {
            elements: error.elements,
            max_error: error.max_error,
            rms_error: error.rms_error,
            sqnr_db: error.sqnr_db,
            saturated: error.saturated,
            overflowed: error.overflowed,
        }
    }
}

/// How a format does on some numbers.
#[pyclass(name = "Fit", module = "lowbit", frozen, get_all)]
#[derive(Clone)]
pub(crate) struct Fit {
    /// What they are called.
    sample: String,
    /// The error of the numbers as they are.
    plain: Noise,
    /// The error with the best power of two as a scale.
    scaled: Noise,
    /// That scale's exponent.
    scale_log2: i32,
}

/// Formats side by side: a table that prints, and that notebooks show.
#[pyclass(module = "lowbit", frozen)]
pub(crate) struct Comparison {
    formats: Vec<Format>,
    compared: Vec<Compared>,
}

#[pymethods]
impl Comparison {
    /// The formats' texts.
    #[getter]
    fn formats(&self) -> Vec<String> {
        self.compared.iter().map(|row| row.format.clone()).collect()
    }

    /// For each format, its error on each sample.
    #[getter]
    fn fits(&self) -> Vec<Vec<Fit>> {
        let fits = |row: &Compared| {
            let fits = row.samples.iter().map(|fit| Fit {
                sample: fit.sample.clone(),
                plain: (&fit.plain).into(),
                scaled: (&fit.scaled).into(),
                scale_log2: fit.scale_log2,
            });
            fits.collect()
        };
        self.compared.iter().map(fits).collect()
    }

    fn __str__(&self) -> String {
        let table = self.table();
        let columns = table.first().map_or(0, Vec::len);
        let width = |c: usize| table.iter().map(|row| row[c].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:>width$}"));
            cells.collect::<Vec<_>>().join("  ")
        };
        table.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn __repr__(&self) -> String {
        self.__str__()
    }

    fn _repr_html_(&self) -> String {
        let noise = html(&self.table());
        format!("{}{noise}", facts_table(&self.formats))
    }
}

impl Comparison {
    /// Headings and rows: the ratio of signal to noise on each sample, and with the best scale.
    fn table(&self) -> Vec<Vec<String>> {
        let ratio = |noise: &ErrorSummary| match noise.sqnr_db {
            Some(ratio) => format!("{ratio:.2}"),
            None if noise.overflowed > 0 => "overflow".into(),
            None => "exact".into(),
        };
        let mut headings = vec!["format".into(), "bits".into()];
        for fit in self.compared.iter().take(1).flat_map(|row| &row.samples) {
            headings.extend([
                format!("{} dB", fit.sample),
                "scaled dB".into(),
                "scale".into(),
            ]);
        }
        let row = |row: &Compared| {
            let mut cells = vec![row.format.clone(), row.facts.bits.to_string()];
            for fit in &row.samples {
                let scale = format!("2^{}", fit.scale_log2);
                cells.extend([ratio(&fit.plain), ratio(&fit.scaled), scale]);
            }
            cells
        };
        std::iter::once(headings)
            .chain(self.compared.iter().map(row))
            .collect()
    }
}

/// Compares formats: their facts, and the noise of rounding to them, on numbers or, without any, on normal,
/// uniform and Laplace ones of variance 1, with and without the best power of two as a scale.
///
/// x: an array, or a dictionary of arrays by name.
#[pyfunction(name = "compare")]
#[pyo3(signature = (formats, x=None, rounding=None, *, seed=None))]
pub(crate) fn compare_formats(
    py: Python<'_>,
    formats: &Bound<'_, PyAny>,
    x: Option<&Bound<'_, PyAny>>,
    rounding: Option<&Bound<'_, PyAny>>,
    seed: Option<u64>,
) -> PyResult<Comparison> {
    let formats = as_formats(py, formats)?;
    let rounding = self::rounding(rounding, seed, None)?;
    let samples = match x {
        None => Distribution::ALL.map(|d| Sample::of(d, 0)).to_vec(),
        Some(x) => match x.cast::<PyDict>() {
            Ok(named) => {
                let named = named.iter();
                let samples = named.map(|(name, x)| sample(name.str()?.to_string(), &x));
                samples.collect::<PyResult<_>>()?
            }
            Err(_) => vec![sample("x".into(), x)?],
        },
    };
    let compared = threads::work(py, usize::MAX, true, || {
        compare(&formats, &samples, rounding)
    })?;
    let compared = compared.map_err(value_error)?;
    Ok(Comparison { formats, compared })
}

fn sample(name: String, x: &Bound<'_, PyAny>) -> PyResult<Sample> {
    let (shape, data) = singles(x)?;
    let tensors = vec![Tensor {
        name: name.clone(),
        shape,
        data,
    }];
    Ok(Sample { name, tensors })
}

/// The shape and the numbers, as the nearest float32, of an array.
pub(crate) fn singles(x: &Bound<'_, PyAny>) -> PyResult<(Vec<usize>, Vec<f32>)> {
    let array = Array::new(x)?;
    let view = &array.view;
    let shape = view.shape().to_vec();
    // Numbers of a type, each as the nearest float32.
    macro_rules! nearest {
        ($number:ty) => {
            view.gather::<$number>()
                .into_iter()
                .map(|x| x as f32)
                .collect()
        };
    }
    let data = match view.kind() {
        Kind::F16 => pass::gather::<half::f16, f32>(view),
        Kind::Bf16 => pass::gather::<half::bf16, f32>(view),
        Kind::F32 => view.gather::<f32>(),
        Kind::F64 => nearest!(f64),
        Kind::I8 => nearest!(i8),
        Kind::I16 => nearest!(i16),
        Kind::I32 => nearest!(i32),
        Kind::I64 => nearest!(i64),
        Kind::U8 => nearest!(u8),
        Kind::U16 => nearest!(u16),
        Kind::U32 => nearest!(u32),
        Kind::U64 => nearest!(u64),
    };
    Ok((shape, data))
}

/// The formats' facts as a table.
pub(crate) fn facts_table(formats: &[Format]) -> String {
    let optional = |x: Option<f32>| x.map_or("-".into(), |x| format!("{x:?}"));
    let headings = [
        "format",
        "bits",
        "min",
        "max",
        "min positive",
        "epsilon",
        "values",
    ];
    let mut rows = vec![headings.map(String::from).to_vec()];
    rows.extend(formats.iter().map(|format| {
        let facts = format.facts();
        vec![
            format.to_string(),
            facts.bits.to_string(),
            format!("{:?}", facts.min),
            format!("{:?}", facts.max),
            optional(facts.min_positive),
            optional(facts.epsilon),
            facts.values.to_string(),
        ]
    }));
    html(&rows)
}

/// A table whose first row are headings.
fn html(rows: &[Vec<String>]) -> String {
    let mut text = String::from("<table>");
    for (i, row) in rows.iter().enumerate() {
        let tag = if i == 0 { "th" } else { "td" };
        text.push_str("<tr>");
        for cell in row {
            let cell = cell.replace('&', "&amp;").replace('<', "&lt;");
            // Writing to a string does not fail.
            let _ = write!(text, "<{tag}>{cell}</{tag}>");
        }
        text.push_str("</tr>");
    }
    text.push_str("</table>\n");
    text
}
