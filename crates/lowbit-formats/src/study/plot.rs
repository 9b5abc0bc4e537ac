//! Pictures of formats, as SVG: where their values lie, and how far from them numbers are.

use std::fmt::Write;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::study::svg::{FONT, decimal, text, ticks, vertical};

/// At most this many formats share a picture, one colour each.
pub const MOST: usize = COLORS.len();

/// Colours that remain distinct with any colour vision (Okabe and Ito, "Color Universal Design",
/// 2008), without yellow, which is faint on white.
const COLORS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
];

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
/// positive and finite; [`FormatError::Unsupported`] if a format has no facts.
pub fn plot(formats: &[Format], limit: Option<f32>) -> Result<String, FormatError> {
    if formats.is_empty() || formats.len() > MOST {
        let value = formats.len().to_string();
        return Err(parameter("formats", value, format!("1 to {MOST}")));
    }
    if let Some(limit) = limit.filter(|limit| !(limit.is_normal() && *limit > 0.0)) {
        let expected = "a positive number".into();
        return Err(parameter("limit", limit.to_string(), expected));
    }
    let series = formats
        .iter()
        .zip(COLORS)
        .map(|(format, color)| Series::new(format, color))
        .collect::<Result<Vec<_>, _>>()?;
    let lines = number_lines(&series, limit.map(f64::from));
    let errors = error_curves(&series);
    let top = 96.0 + ROW * series.len() as f64;
    let height = top + ERROR_HEIGHT + 130.0;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"{FONT}\" \
         font-size=\"13\" fill=\"#333\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <g>\n{lines}</g>\n<g transform=\"translate(0 {top})\">\n{errors}</g>\n</svg>\n"
    ))
}

fn parameter(field: &'static str, value: String, expected: String) -> FormatError {
    FormatError::Parameter {
        format: "plot",
        field,
        value,
        expected,
    }
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
    fn new(format: &Format, color: &'static str) -> Result<Self, FormatError> {
        let element = format.element_format();
        let facts = element.facts();
        let values = element.values().ok().map(|mut values| {
            values.retain(|value| value.is_finite());
            values
        });
        Ok(Self {
            name: format.to_string(),
            color,
            values,
            min_positive: f64::from(element.round(f32::from_bits(1), Rounding::Up, 0)),
            min: facts.min.into(),
            max: facts.max.into(),
            format: element,
        })
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

    /// The relative error in the middle of each column, which spans `per_column` powers of two.
    fn relative_errors(&self, low: i32, per_column: f64) -> Vec<f64> {
        let exponent = |i: usize| f64::from(low) + per_column * (i as f64 + 0.5);
        let column = |i| self.relative_error(exponent(i).exp2() as f32);
        (0..COLUMNS).map(column).collect()
    }

    /// The largest error of a number between the two neighbours of `x`, over `x`; beyond the
    /// largest value, the error of `x` itself. Not finite if that overflows.
    fn relative_error(&self, x: f32) -> f64 {
        let round = |x: f32, rounding| self.format.round(x, rounding, 0);
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
    let mut svg = heading(30.0, "Values");
    let bottom = 52.0 + ROW * series.len() as f64;
    for tick in ticks((low, limit), 8.0) {
        let (at, label) = (x(tick), decimal(tick));
        vertical(&mut svg, at, 46.0, bottom);
        text(&mut svg, at, bottom + 18.0, "middle", &label);
    }
    for (i, series) in series.iter().enumerate() {
        let y = 52.0 + ROW * i as f64 + ROW / 2.0;
        name(&mut svg, series, LEFT - 14.0, y + 4.5);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y}H{RIGHT}\" stroke=\"#bbb\" stroke-width=\"1\"/>"
        );
        marks(&mut svg, series, y, (low, limit), x);
    }
    svg
}

/// A mark for each value within the limits, or a band if there are too many to list.
fn marks(
    svg: &mut String,
    series: &Series,
    y: f64,
    (low, high): (f64, f64),
    x: impl Fn(f64) -> f64,
) {
    let (top, bottom) = (y - 9.0, y + 9.0);
    let color = series.color;
    let Some(values) = &series.values else {
        let (from, to) = (x(series.min.max(low)), x(series.max.min(high)));
        let width = to - from;
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"18\" \
             fill=\"{color}\" fill-opacity=\"0.35\"/>"
        );
        return;
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
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" stroke=\"{color}\" stroke-width=\"1.4\"/>"
    );
}

fn error_curves(series: &[Series]) -> String {
    let (low, high) = magnitudes(series);
    let per_column = f64::from(high - low) / COLUMNS as f64;
    let curves: Vec<Vec<f64>> = series
        .iter()
        .map(|series| series.relative_errors(low, per_column))
        .collect();
    let least = curves
        .iter()
        .flatten()
        .copied()
        .filter(|error| *error > 0.0)
        .fold(1.0, f64::min);
    let floor = (least.log10().floor() as i32).clamp(LEAST_ERROR, -1);
    let (top, bottom) = (52.0, 52.0 + ERROR_HEIGHT);
    let x =
        |exponent: f64| LEFT + (RIGHT - LEFT) * (exponent - f64::from(low)) / f64::from(high - low);
    let y = |decades: f64| top + ERROR_HEIGHT * decades / f64::from(floor);
    let mut svg = heading(30.0, "Largest relative error of rounding to nearest");
    for decade in floor..=0 {
        let at = y(f64::from(decade));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#e4e4e4\"/>"
        );
        let label = percent(decade);
        text(&mut svg, LEFT - 14.0, at + 4.5, "end", &label);
    }
    let step = (high - low + 11) / 12;
    for exponent in (low..=high).filter(|exponent| exponent.rem_euclid(step.max(1)) == 0) {
        let at = x(f64::from(exponent));
        vertical(&mut svg, at, top, bottom);
        let label = power(2, exponent);
        text(&mut svg, at, bottom + 22.0, "middle", &label);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    text(&mut svg, middle, bottom + 46.0, "middle", "magnitude");
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {top}V{bottom}H{RIGHT}\" fill=\"none\" stroke=\"#888\"/>"
    );
    for (series, errors) in series.iter().zip(&curves) {
        let decades = |error: f64| error.log10().clamp(f64::from(floor), 0.0);
        let points = errors.iter().enumerate().map(|(i, &error)| {
            let exponent = f64::from(low) + per_column * (i as f64 + 0.5);
            error.is_finite().then(|| (x(exponent), y(decades(error))))
        });
        let _ = writeln!(
            svg,
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" \
             stroke-linejoin=\"round\"/>",
            curve(points),
            series.color
        );
    }
    legend(&mut svg, series, bottom + 68.0);
    svg
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

/// A line through the points, lifted where there is none.
fn curve(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for point in points {
        if let Some((x, y)) = point {
            let command = if drawing { 'L' } else { 'M' };
            let _ = write!(path, "{command}{x:.1} {y:.1}");
        }
        drawing = point.is_some();
    }
    path
}

fn legend(svg: &mut String, series: &[Series], y: f64) {
    let widths = series.iter().map(|s| 48.0 + 7.6 * s.name.len() as f64);
    let total: f64 = widths.clone().sum();
    let mut x = ((LEFT + RIGHT - total) / 2.0).max(16.0);
    for (series, width) in series.iter().zip(widths) {
        let (end, middle) = (x + 22.0, y - 4.5);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {middle}H{end:.1}\" stroke=\"{}\" stroke-width=\"3\"/>",
            series.color
        );
        text(svg, end + 7.0, y, "start", &series.name);
        x += width;
    }
}

fn heading(y: f64, title: &str) -> String {
    format!("<text x=\"{LEFT}\" y=\"{y}\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n")
}

/// The format's name, small enough to fit beside the axis.
fn name(svg: &mut String, series: &Series, x: f64, y: f64) {
    let size = (300.0 / series.name.chars().count() as f64).clamp(6.0, 13.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" font-size=\"{size:.1}\" fill=\"{}\">{}</text>",
        series.color, series.name
    );
}

/// `10^decade` in percent.
fn percent(decade: i32) -> String {
    match decade {
        -5.. => format!("{} %", 10f64.powi(decade + 2)),
        _ => power(10, decade),
    }
}

fn power(base: u32, exponent: i32) -> String {
    let minus = if exponent < 0 { "\u{2212}" } else { "" };
    let digits = exponent.unsigned_abs();
    format!("{base}<tspan dy=\"-5\" font-size=\"10\">{minus}{digits}</tspan>")
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
        let series = Series::new(&parse("e2m1"), "#000").unwrap();
        let mut svg = String::new();
        marks(&mut svg, &series, 0.0, (-6.0, 6.0), |value| 50.0 * value);
        assert_eq!(svg.matches('M').count(), 15);
        let mut svg = String::new();
        marks(&mut svg, &series, 0.0, (-1.0, 1.0), |value| 50.0 * value);
        assert_eq!(svg.matches('M').count(), 5);
    }

    /// In a float of m mantissa bits, the gap above 2^e is 2^(e-m), so the error is 2^-(m+1) there
    /// and half of it below the next power of two. Integers are half a step off, beyond the
    /// largest value all that is beyond.
    #[test]
    fn errors_by_hand() {
        let series = |text| Series::new(&parse(text), "#000").unwrap();
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
