//! Axes, text and curves as SVG.

use std::fmt::Write;

/// The fonts of all text.
pub const FONT: &str = "Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// Two axes in a picture, and how numbers lie on them.
pub struct Panel {
    /// Left and top edge, width and height, in pixels.
    pub frame: [f64; 4],
    /// The least and the greatest number to the right.
    pub x: (f64, f64),
    /// The least and the greatest number upwards.
    pub y: (f64, f64),
}

impl Panel {
    /// Where a point is, in pixels.
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, width, height] = self.frame;
        let along = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        (
            left + width * along(x, self.x),
            top + height * (1.0 - along(y, self.y)),
        )
    }

    /// Title, grid and numbers on the axes.
    pub fn axes(&self, title: &str, x_label: &str) -> String {
        let [left, top, width, height] = self.frame;
        let (right, bottom) = (left + width, top + height);
        let mut svg = String::new();
        for tick in ticks(self.x, 5.0) {
            let (x, _) = self.at(tick, self.y.0);
            let (color, label) = (grid_color(tick), decimal(tick));
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"{color}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 17.0
            );
        }
        for tick in ticks(self.y, 5.0) {
            let (_, y) = self.at(self.x.0, tick);
            let (color, label) = (grid_color(tick), decimal(tick));
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {y:.1}H{right}\" stroke=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 8.0,
                y + 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{:.1}\" font-size=\"15\" font-weight=\"bold\">{title}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_label}</text>",
            top - 12.0,
            left + width / 2.0,
            bottom + 36.0
        );
        svg
    }

    /// A band of numbers to the right.
    pub fn band(&self, (from, to): (f64, f64), color: &str) -> String {
        let [_, top, _, height] = self.frame;
        let x = |value: f64| self.at(value.clamp(self.x.0, self.x.1), self.y.0).0;
        let (from, to) = (x(from), x(to));
        format!(
            "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{height}\" fill=\"{color}\"/>\n",
            to - from
        )
    }

    /// A line through the points; `style` holds further attributes.
    pub fn line(&self, points: impl Iterator<Item = (f64, f64)>, style: &str) -> String {
        let mut path = String::new();
        for (x, y) in points {
            let (x, y) = self.at(x, y);
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{x:.2} {y:.2}");
        }
        format!("<path d=\"{path}\" fill=\"none\" stroke-linejoin=\"round\" {style}/>\n")
    }
}

/// The line through zero is stronger.
fn grid_color(tick: f64) -> &'static str {
    if tick == 0.0 { "#9a9a9a" } else { "#e4e4e4" }
}

/// Multiples of 1, 2 or 5 times a power of ten within the range, `about` so many.
pub fn ticks((low, high): (f64, f64), about: f64) -> Vec<f64> {
    let rough = (high - low) / about;
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

/// A number in as few digits as name it, five at most, with a true minus.
pub fn decimal(number: f64) -> String {
    let short: f64 = format!("{number:.4e}").parse().unwrap_or(number);
    let text = if short == 0.0 {
        "0".into()
    } else if (1e-4..1e5).contains(&short.abs()) {
        short.to_string()
    } else {
        format!("{short:e}")
    };
    text.replace('-', "\u{2212}")
}

/// Writes a line of text that begins, ends or has its middle (`anchor`) at a place.
pub fn text(svg: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>"
    );
}

/// Writes a line of a grid, from `top` to `bottom`.
pub fn vertical(svg: &mut String, x: f64, top: f64, bottom: f64) {
    let _ = writeln!(
        svg,
        "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#e4e4e4\"/>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(ticks((-2.0, 2.0), 5.0), [-2.0, -1.0, 0.0, 1.0, 2.0]);
        let eight = ticks((-6.0, 6.0), 8.0);
        assert_eq!(eight, [-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0]);
        let labels: Vec<String> = ticks((0.0, 0.9), 5.0).into_iter().map(decimal).collect();
        assert_eq!(labels, ["0", "0.2", "0.4", "0.6", "0.8"]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(decimal(-0.25), "\u{2212}0.25");
        assert_eq!(decimal(0.1 * 3.0), "0.3");
        assert_eq!(decimal(2.5e-7), "2.5e\u{2212}7");
    }
}
