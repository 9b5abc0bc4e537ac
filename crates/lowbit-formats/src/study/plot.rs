//! Pictures of formats, as SVG: where their values lie, and how far from them numbers are.

use std::fmt::Write;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::scalar::{ScalarFormat, Visitor};
use crate::study::svg::{
    Anchor, COLORS, GRID, Panel, decimal, document, horizontal, line, lowered, power, rectangle,
    text, ticks, title, vertical,
};

/// At most this many formats share a picture, one colour each.
pub const MOST: usize = COLORS.len();

const WIDTH: f64 = 960.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 930.0;
const ROW: f64 = 34.0;
const ERROR_HEIGHT: f64 = 300.0;

/// Columns of the error curve.
const COLUMNS: usize = 740;

/// Smallest relative error on the vertical axis, as a power of ten.
const LEAST_ERROR: i32 = -8;

/// Draws a number line of each format's values and, below, the relative error of rounding to
/// nearest-even over magnitude: the largest error between the two neighbours of a number, over the
/// number, at most 100 %. Of a block format, the elements at a scale of one are drawn.
///
/// The number line reaches from `-limit` to `limit`, without one to the smallest of the formats'
/// largest values; formats of more than 16 bits are shown there as a band. The magnitudes reach
/// from a quarter of the smallest value to four times the largest; formats that span more than 64
/// powers of two do not widen the axis unless all of them do. An error curve ends where numbers
/// overflow.
///
/// # Errors
///
/// [`FormatError::Parameter`] if there is no format or more than [`MOST`], or `limit` is not
/// positive and finite.
pub fn plot(formats: &[Format], limit: Option<f32>) -> Result<String, FormatError> {
    if formats.is_empty() || formats.len() > MOST {
        let value = formats.len();
        return Err(FormatError::parameter(
            "plot",
            "formats",
            value,
            format!("1 to {MOST}"),
        ));
    }
    if let Some(limit) = limit.filter(|limit| !(limit.is_normal() && *limit > 0.0)) {
        let expected = "a positive number";
        return Err(FormatError::parameter("plot", "limit", limit, expected));
    }
    let series = formats
        .iter()
        .zip(COLORS)
        .map(|(format, color)| Series::new(format, color, true))
        .collect::<Vec<_>>();
    let lines = number_lines(&series, limit.map(f64::from));
    let errors = error_curves(&series);
    let top = 96.0 + ROW * series.len() as f64;
    let height = top + ERROR_HEIGHT + 130.0;
    let parts = format!("<g>\n{lines}</g>\n{}", lowered(top, &errors));
    Ok(document((WIDTH, height), 13, &parts))
}

/// Powers of two in columns of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Magnitudes {
    /// Where the first column begins.
    pub low: i32,
    /// Where the last one ends.
    pub high: i32,
    /// How many columns.
    pub columns: usize,
}

impl Magnitudes {
    /// Of the formats in a picture.
    fn of(series: &[Series], columns: usize) -> Self {
        let (low, high) = magnitudes(series);
        Self { low, high, columns }
    }

    /// The power of two in the middle of a column.
    pub fn exponent(self, column: usize) -> f64 {
        let width = f64::from(self.high - self.low) / self.columns as f64;
        f64::from(self.low) + width * (column as f64 + 0.5)
    }
}

/// The curves of [`plot`] as numbers: the magnitudes of the columns, and for each format the largest
/// relative error in the middle of each column, not finite where numbers overflow.
pub fn relative_errors(formats: &[Format], columns: usize) -> (Magnitudes, Vec<Vec<f64>>) {
    let series = formats.iter().map(|format| Series::new(format, "", false));
    let series: Vec<Series> = series.collect();
    let axis = Magnitudes::of(&series, columns);
    let errors = series.iter().map(|series| series.relative_errors(axis));
    (axis, errors.collect())
}

/// What is drawn of a format.
struct Series {
    name: String,
    color: &'static str,
    format: Format,
    /// Finite values, ascending; `None` for formats with too many.
    values: Option<Vec<f32>>,
    min_positive: f64,
    min: f64,
    max: f64,
}

impl Series {
    fn new(format: &Format, color: &'static str, listed: bool) -> Self {
        let facts = format.facts();
        let least = RoundElement(f32::from_bits(1), Rounding::Up);
        let values = listed.then(|| format.values().ok()).flatten();
        let values = values.map(|mut values| {
            values.retain(|value| value.is_finite());
            values
        });
        Self {
            name: format.to_string(),
            color,
            values,
            min_positive: format.visit_element(least).into(),
            min: facts.min.into(),
            max: facts.max.into(),
            format: format.clone(),
        }
    }

    /// The largest magnitude.
    fn reach(&self) -> f64 {
        self.max.max(-self.min)
    }

    /// The powers of two from a quarter of the smallest value to four times the largest.
    fn magnitudes(&self) -> (i32, i32) {
        let reach = self.reach().max(f64::MIN_POSITIVE);
        let least = if self.min_positive > 0.0 {
            self.min_positive.min(reach)
        } else {
            reach
        };
        let low = least.log2().floor() as i32 - 2;
        let high = reach.log2().ceil() as i32 + 2;
        (low.max(-140), high.min(127))
    }

    /// The relative error in the middle of each column.
    fn relative_errors(&self, axis: Magnitudes) -> Vec<f64> {
        let column = |i| self.relative_error(axis.exponent(i).exp2() as f32);
        (0..axis.columns).map(column).collect()
    }

    /// See [`RelativeError`].
    fn relative_error(&self, x: f32) -> f64 {
        self.format.visit_element(RelativeError(x))
    }
}

/// What a number becomes, as an element at a scale of one.
struct RoundElement(f32, Rounding);

impl Visitor for RoundElement {
    type Output = f32;

    fn visit<F: ScalarFormat>(self, format: &F) -> f32 {
        format.round_single(self.0, self.1, 0)
    }
}

/// The largest error of a number between the two neighbours of `x`, over `x`; beyond the largest
/// value, the error of `x` itself. Not finite if that overflows.
struct RelativeError(f32);

impl Visitor for RelativeError {
    type Output = f64;

    fn visit<F: ScalarFormat>(self, format: &F) -> f64 {
        let x = self.0;
        let round = |x: f32, rounding| format.round_single(x, rounding, 0);
        let lower = round(x, Rounding::Down);
        let upper = round(x.next_up(), Rounding::Up);
        let distance = |a: f32, b: f32| (f64::from(a) - f64::from(b)).abs();
        if !(0.0 <= lower && lower <= x && x < upper && upper < f32::INFINITY) {
            return distance(round(x, Rounding::NearestEven), x) / f64::from(x);
        }
        // The numbers below `first` go down, from there on they go up; bits order positive
        // numbers.
        let (mut last, mut first) = ((lower + 0.0).to_bits(), upper.to_bits());
        while first - last > 1 {
            let middle = last + (first - last) / 2;
            if round(f32::from_bits(middle), Rounding::NearestEven) > lower {
                first = middle;
            } else {
                last = middle;
            }
        }
        let down = distance(f32::from_bits(last), lower);
        let up = distance(f32::from_bits(first), upper);
        down.max(up) / f64::from(x)
    }
}

fn number_lines(series: &[Series], limit: Option<f64>) -> String {
    let least = series
        .iter()
        .map(Series::reach)
        .fold(f64::INFINITY, f64::min);
    let limit = limit.unwrap_or(least);
    let signed = series.iter().any(|series| series.min < 0.0);
    let low = if signed { -limit } else { 0.0 };
    let x = |value: f64| LEFT + (RIGHT - LEFT) * (value - low) / (limit - low);
    let mut svg = title((LEFT, 30.0), 16, "Values");
    let bottom = 52.0 + ROW * series.len() as f64;
    for tick in ticks((low, limit), 8) {
        svg += &vertical(x(tick), (46.0, bottom), GRID);
        svg += &text((x(tick), bottom + 18.0), Anchor::Middle, &decimal(tick));
    }
    for (i, series) in series.iter().enumerate() {
        let y = 52.0 + ROW * i as f64 + ROW / 2.0;
        svg += &name(series, LEFT - 14.0, y + 4.5);
        svg += &horizontal((LEFT, RIGHT), y, "#bbb");
        svg += &marks(series, y, (low, limit), x);
    }
    svg
}

/// A mark for each value within the limits, or a band if there are too many to list.
fn marks(series: &Series, y: f64, (low, high): (f64, f64), x: impl Fn(f64) -> f64) -> String {
    let (top, bottom) = (y - 9.0, y + 9.0);
    let color = series.color;
    let Some(values) = &series.values else {
        let (from, to) = (x(series.min.max(low)), x(series.max.min(high)));
        let style = format!("fill=\"{color}\" fill-opacity=\"0.35\"");
        return rectangle([from, top, to - from, bottom - top], &style);
    };
    let mut path = String::new();
    let mut last = f64::NEG_INFINITY;
    let within = values.iter().map(|&value| f64::from(value));
    for value in within.filter(|value| (low..=high).contains(value)) {
        let at = x(value);
        // Marks that no eye tells apart are drawn once.
        if at - last >= 0.3 {
            let _ = write!(path, "M{at:.1} {top}V{bottom}");
            last = at;
        }
    }
    format!("<path d=\"{path}\" stroke=\"{color}\" stroke-width=\"1.4\"/>\n")
}

fn error_curves(series: &[Series]) -> String {
    let axis = Magnitudes::of(series, COLUMNS);
    let (low, high) = (axis.low, axis.high);
    let curves: Vec<Vec<f64>> = series
        .iter()
        .map(|series| series.relative_errors(axis))
        .collect();
    let least = curves
        .iter()
        .flatten()
        .copied()
        .filter(|error| *error > 0.0)
        .fold(1.0, f64::min);
    let floor = (least.log10().floor() as i32).clamp(LEAST_ERROR, -1);
    let panel = Panel {
        frame: [LEFT, 52.0, RIGHT - LEFT, ERROR_HEIGHT],
        x: (low.into(), high.into()),
        y: (floor.into(), 0.0),
    };
    let mut svg = title(
        (LEFT, 30.0),
        16,
        "Largest relative error of rounding to nearest",
    );
    svg += &error_axes(&panel, (low, high), floor);
    for (series, errors) in series.iter().zip(&curves) {
        let points = errors.iter().enumerate().map(|(i, &error)| {
            let exponent = axis.exponent(i);
            let decades = error.log10().clamp(f64::from(floor), 0.0);
            error.is_finite().then(|| panel.at(exponent, decades))
        });
        let style = format!("stroke=\"{}\" stroke-width=\"1.8\"", series.color);
        svg += &line(points, &style);
    }
    svg + &legend(series, 52.0 + ERROR_HEIGHT + 68.0)
}

/// Powers of two to the right, of ten upwards.
fn error_axes(panel: &Panel, (low, high): (i32, i32), floor: i32) -> String {
    let [left, top, width, height] = panel.frame;
    let (right, bottom) = (left + width, top + height);
    let mut svg = String::new();
    for decade in floor..=0 {
        let (_, y) = panel.at(low.into(), decade.into());
        svg += &horizontal((left, right), y, GRID);
        svg += &text((left - 14.0, y + 4.5), Anchor::End, &percent(decade));
    }
    let step = (high - low + 11) / 12;
    for exponent in (low..=high).filter(|exponent| exponent.rem_euclid(step.max(1)) == 0) {
        let (x, _) = panel.at(exponent.into(), 0.0);
        svg += &vertical(x, (top, bottom), GRID);
        svg += &text((x, bottom + 22.0), Anchor::Middle, &power(2, exponent));
    }
    let middle = (left + right) / 2.0;
    svg += &text((middle, bottom + 46.0), Anchor::Middle, "magnitude");
    svg += &vertical(left, (top, bottom), "#888");
    svg + &horizontal((left, right), bottom, "#888")
}

/// The powers of two that the magnitude axis spans.
fn magnitudes(series: &[Series]) -> (i32, i32) {
    let ranges = || series.iter().map(Series::magnitudes);
    let narrow = || ranges().filter(|(low, high)| high - low <= 64);
    let union = |(a, b): (i32, i32), (c, d): (i32, i32)| (a.min(c), b.max(d));
    let (low, high) = narrow()
        .reduce(union)
        .or_else(|| ranges().reduce(union))
        .unwrap_or((-1, 1));
    (low, high.max(low + 1))
}

fn legend(series: &[Series], y: f64) -> String {
    let widths = series.iter().map(|s| 48.0 + 7.6 * s.name.len() as f64);
    let total: f64 = widths.clone().sum();
    let mut x = ((LEFT + RIGHT - total) / 2.0).max(16.0);
    let mut svg = String::new();
    for (series, width) in series.iter().zip(widths) {
        let (end, middle) = (x + 22.0, y - 4.5);
        let style = format!("stroke=\"{}\" stroke-width=\"3\"", series.color);
        svg += &line([(x, middle), (end, middle)].map(Some).into_iter(), &style);
        svg += &text((end + 7.0, y), Anchor::Start, &series.name);
        x += width;
    }
    svg
}

/// The format's name, small enough to fit beside the axis.
fn name(series: &Series, x: f64, y: f64) -> String {
    let size = (300.0 / series.name.chars().count() as f64).clamp(6.0, 13.0);
    format!(
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" font-size=\"{size:.1}\" fill=\"{}\">{}</text>\n",
        series.color, series.name
    )
}

/// `10^decade` in percent.
fn percent(decade: i32) -> String {
    match decade {
        -5.. => format!("{} %", 10f64.powi(decade + 2)),
        _ => power(10, decade),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Format {
        text.parse().unwrap()
    }

    #[test]
    fn every_format_is_drawn() {
        for text in Format::examples() {
            let svg = plot(&[parse(text)], None).unwrap();
            assert!(
                svg.starts_with("<svg") && svg.ends_with("</svg>\n"),
                "{text}"
            );
            assert!(svg.contains(&format!(">{text}</text>")), "{text}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{text}");
        }
    }

    /// e2m1 has 15 values (OCP microscaling, table 4), and all lie within its largest, 6.
    #[test]
    fn each_value_has_a_mark() {
        let series = Series::new(&parse("e2m1"), "#000", true);
        let svg = marks(&series, 0.0, (-6.0, 6.0), |value| 50.0 * value);
        assert_eq!(svg.matches('M').count(), 15);
        let svg = marks(&series, 0.0, (-1.0, 1.0), |value| 50.0 * value);
        assert_eq!(svg.matches('M').count(), 5);
    }

    /// In a float of m mantissa bits, the gap above 2^e is 2^(e-m), so the error is 2^-(m+1) there
    /// and half of it below the next power of two. Integers are half a step off, beyond the
    /// largest value all that is beyond.
    #[test]
    fn errors_by_hand() {
        let series = |text| Series::new(&parse(text), "#000", true);
        let e4m3 = series("e4m3");
        assert_eq!(e4m3.relative_error(1.0), 1.0 / 16.0);
        assert_eq!(e4m3.relative_error(1.9375), 1.0 / 31.0);
        assert!(e4m3.relative_error(1000.0).is_nan());
        assert_eq!(series("e4m3(saturate)").relative_error(896.0), 0.5);
        let int8 = series("int8");
        assert_eq!(int8.relative_error(10.5), 0.5 / 10.5);
        assert_eq!(int8.relative_error(254.0), 0.5);
        assert_eq!(series("fp32").relative_error(1.1), 0.0);
        // Standard posits round 2^-25 to the smallest, 2^-24.
        assert_eq!(series("posit(8,2)").relative_error(0.5f32.powi(25)), 2.0);
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        assert!(plot(&[], None).is_err());
        assert!(plot(&vec![parse("int8"); MOST + 1], None).is_err());
        for limit in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(plot(&[parse("int8")], Some(limit)).is_err());
        }
    }
}
