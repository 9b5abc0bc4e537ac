//! Pictures as SVG: text, lines, and axes with round numbers.
//!
//! Each function gives a piece of a picture; pieces are joined in the order in which they are drawn
//! and handed to [`document`]. Text is taken as markup, so that it may hold `tspan` elements.
//!
//! ```
//! use lowbit_formats::svg::{Panel, document};
//!
//! let panel = Panel {
//!     frame: [50.0, 40.0, 300.0, 200.0],
//!     x: (-2.0, 2.0),
//!     y: (0.0, 4.0),
//! };
//! let square = (-20..=20).map(|i| f64::from(i) / 10.0).map(|x| (x, x * x));
//! let parts = panel.axes("A square", "x") + &panel.line(square, "stroke=\"#0072B2\"");
//! assert!(document((400.0, 300.0), 12, &parts).starts_with("<svg"));
//! ```

use std::fmt::Write;

/// Colours that remain distinct with any colour vision (Okabe and Ito, "Color Universal Design",
/// 2008), without yellow, which is faint on white.
pub const COLORS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
];

/// The colour of lines that mark a number on an axis.
pub const GRID: &str = "#e4e4e4";

/// A whole picture of `parts` on white, `size` wide and high in pixels.
pub fn document(size: (f64, f64), font_size: u32, parts: &str) -> String {
    let (width, height) = size;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', \
         sans-serif\" font-size=\"{font_size}\" fill=\"#333\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{parts}</svg>\n"
    )
}

/// `parts`, drawn `down` pixels lower.
pub fn lowered(down: f64, parts: &str) -> String {
    format!("<g transform=\"translate(0 {down})\">\n{parts}</g>\n")
}

/// The side of a text's place that the text ends at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centered there.
    Middle,
    /// It ends there.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// Text whose line lies at `y`.
pub fn text((x, y): (f64, f64), anchor: Anchor, content: &str) -> String {
    let anchor = anchor.name();
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>\n")
}

/// A title, which begins at `x`.
pub fn title((x, y): (f64, f64), font_size: u32, content: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{font_size}\" \
         font-weight=\"bold\">{content}</text>\n"
    )
}

/// A line up and down.
pub fn vertical(x: f64, (top, bottom): (f64, f64), color: &str) -> String {
    format!("<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"{color}\"/>\n")
}

/// A line from left to right.
pub fn horizontal((left, right): (f64, f64), y: f64, color: &str) -> String {
    format!("<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"{color}\"/>\n")
}

/// A filled rectangle, given by its left and top edge, width and height; `style` holds its colour
/// and further attributes.
pub fn rectangle([left, top, width, height]: [f64; 4], style: &str) -> String {
    format!(
        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}/>\n"
    )
}

/// A line through the points, lifted where there is none; `style` holds its colour and further
/// attributes.
pub fn line(points: impl Iterator<Item = Option<(f64, f64)>>, style: &str) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for point in points {
        if let Some((x, y)) = point {
            let command = if drawing { 'L' } else { 'M' };
            let _ = write!(path, "{command}{x:.2} {y:.2}");
        }
        drawing = point.is_some();
    }
    format!("<path d=\"{path}\" fill=\"none\" stroke-linejoin=\"round\" {style}/>\n")
}

/// Two axes in a picture, and how numbers lie on them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Panel {
    /// Left and top edge, width and height, in pixels.
    pub frame: [f64; 4],
    /// The least and the greatest number to the right.
    pub x: (f64, f64),
    /// The least and the greatest number upwards.
    pub y: (f64, f64),
}

impl Panel {
    /// Where a pair of numbers lies in the picture.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, width, height] = self.frame;
        let along = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (
            left + width * along(x, self.x),
            top + height * (1.0 - along(y, self.y)),
        )
    }

    /// Title, grid and numbers on the axes.
    pub fn axes(&self, title: &str, x_label: &str) -> String {
        let numbers = ticks(self.x, 5).into_iter();
        let places = numbers.map(|tick| (tick, vec![decimal(tick)], grid_color(tick)));
        self.axes_with(title, x_label, places)
    }

    /// Title, grid, the numbers upwards, and lines of text in place of numbers to the right.
    pub fn axes_of_places(
        &self,
        title: &str,
        x_label: &str,
        places: impl Iterator<Item = (f64, Vec<String>)>,
    ) -> String {
        self.axes_with(title, x_label, places.map(|(x, lines)| (x, lines, GRID)))
    }

    fn axes_with(
        &self,
        title: &str,
        x_label: &str,
        places: impl Iterator<Item = (f64, Vec<String>, &'static str)>,
    ) -> String {
        let [left, top, width, height] = self.frame;
        let (right, bottom) = (left + width, top + height);
        let (mut svg, mut lowest) = (String::new(), 0.0f64);
        for (place, lines, color) in places {
            let (x, _) = self.at(place, self.y.0);
            svg += &vertical(x, (top, bottom), color);
            for (i, line) in lines.iter().enumerate() {
                let down = 15.0 * i as f64;
                svg += &text((x, bottom + 17.0 + down), Anchor::Middle, line);
                lowest = lowest.max(down);
            }
        }
        for tick in ticks(self.y, 5) {
            let (_, y) = self.at(self.x.0, tick);
            svg += &horizontal((left, right), y, grid_color(tick));
            svg += &text((left - 8.0, y + 4.0), Anchor::End, &decimal(tick));
        }
        svg += &self::title((left, top - 12.0), 15, title);
        let below = (left + width / 2.0, bottom + 36.0 + lowest);
        svg + &text(below, Anchor::Middle, x_label)
    }

    /// A band of numbers to the right.
    pub fn band(&self, (from, to): (f64, f64), color: &str) -> String {
        let [_, top, _, height] = self.frame;
        let x = |value: f64| self.at(value.clamp(self.x.0, self.x.1), self.y.0).0;
        let (from, to) = (x(from), x(to));
        rectangle([from, top, to - from, height], &format!("fill=\"{color}\""))
    }

    /// A line through the points; `style` holds its colour and further attributes.
    pub fn line(&self, points: impl Iterator<Item = (f64, f64)>, style: &str) -> String {
        line(points.map(|(x, y)| Some(self.at(x, y))), style)
    }
}

/// The line through zero is stronger.
fn grid_color(tick: f64) -> &'static str {
    if tick == 0.0 { "#9a9a9a" } else { GRID }
}

/// Round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten, at most `most`
/// and one more.
pub fn ticks((low, high): (f64, f64), most: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(most);
    let ten = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * ten)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * ten);
    // A range that ends on a tick shows it.
    let (first, last) = (
        (low / step - 1e-9).ceil() as i64,
        (high / step + 1e-9).floor() as i64,
    );
    (first..=last).map(|i| i as f64 * step).collect()
}

/// A number in as few digits as name it, with a true minus.
pub fn decimal(number: f64) -> String {
    // The steps of an axis have few digits, of which a product keeps six.
    let short: f64 = format!("{number:.5e}").parse().unwrap_or(number);
    let text = if short == 0.0 {
        // Also of minus zero.
        "0".into()
    } else if (1e-4..1e6).contains(&short.abs()) {
        short.to_string()
    } else {
        format!("{short:e}")
    };
    text.replace('-', "\u{2212}")
}

/// A power, as base and exponent.
pub fn power(base: u32, exponent: i32) -> String {
    let minus = if exponent < 0 { "\u{2212}" } else { "" };
    let digits = exponent.unsigned_abs();
    format!("{base}<tspan dy=\"-5\" font-size=\"10\">{minus}{digits}</tspan>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks((-2.0, 2.0), 5), [-2.0, -1.0, 0.0, 1.0, 2.0]);
        assert_eq!(
            ticks((-6.0, 6.0), 8),
            [-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0]
        );
        let labels =
            |range, most| -> Vec<String> { ticks(range, most).into_iter().map(decimal).collect() };
        assert_eq!(labels((0.0, 0.9), 5), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(
            labels((0.0, 1.0), 8),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(decimal(-0.25), "\u{2212}0.25");
        assert_eq!(decimal(-0.0), "0");
        assert_eq!(decimal(0.1 * 3.0), "0.3");
        assert_eq!(decimal(2.5e-7), "2.5e\u{2212}7");
        assert_eq!(decimal(2e6), "2e6");
    }

    /// A frame of 100 by 50 pixels at (10, 20): numbers upwards are pixels downwards.
    #[test]
    fn places_by_hand() {
        let panel = Panel {
            frame: [10.0, 20.0, 100.0, 50.0],
            x: (0.0, 4.0),
            y: (-1.0, 1.0),
        };
        assert_eq!(panel.at(0.0, -1.0), (10.0, 70.0));
        assert_eq!(panel.at(1.0, 0.5), (35.0, 32.5));
        let line = panel.line([(0.0, 0.0), (4.0, 1.0)].into_iter(), "stroke=\"#000\"");
        assert!(line.contains("M10.00 45.00L110.00 20.00"));
        let band = panel.band((-3.0, 2.0), "#fff");
        assert!(band.contains("x=\"10.0\" y=\"20.0\" width=\"50.0\" height=\"50.0\""));
    }

    #[test]
    fn a_line_is_lifted() {
        let points = [Some((0.0, 0.0)), None, Some((1.0, 1.0)), Some((2.0, 1.0))];
        let line = line(points.into_iter(), "");
        assert!(line.contains("d=\"M0.00 0.00M1.00 1.00L2.00 1.00\""));
    }
}
