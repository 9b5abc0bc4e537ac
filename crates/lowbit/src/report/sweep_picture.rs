//! The picture of a sweep: accuracy by one of its settings, a curve for each of the others.

use lowbit_formats::svg::{Anchor, COLORS, Panel, document, rectangle};
use lowbit_formats::svg::{horizontal, line, text, vertical};
use serde_json::Value;

use super::sweep::{self, Mean, SEED, SweepReport};
use crate::Error;

/// Left and top edge, width and height.
const FRAME: [f64; 4] = [60.0, 50.0, 560.0, 320.0];

/// How far curves are moved apart, in parts of the way from one value to the next, so that their bars
/// do not hide each other.
const APART: f64 = 0.06;

/// A curve: its label, and for each value of the axis the cells that have it.
struct Curve<'a> {
    label: String,
    /// By the place of the value on the axis; none for cells without one.
    points: Vec<(Option<usize>, &'a Mean)>,
    /// How far it is moved to the right.
    moved: f64,
}

impl SweepReport {
    /// Accuracy by the values of key `by`, which stand beside each other in their order: a curve for
    /// each combination of the other keys, but for the seed, over whose values a point is the mean
    /// and a bar goes from the least to the most. Cells without the key are dashed lines across.
    ///
    /// Unless given, the key is `bits`, `wbits` or `abits`, else the first with several values. None
    /// where no cell is finished or there is no such key.
    ///
    /// # Errors
    /// If no cell has the key.
    pub fn svg(&self, by: Option<&str>) -> Result<Option<String>, Error> {
        if let Some(key) = by.filter(|key| !self.keys.iter().any(|own| own == key)) {
            let expected = self.keys.join(", ");
            let message = format!("`{key}` is set by no cell, expected one of {expected}");
            return Err(Error::config("by", message));
        }
        let Some(by) = by.or_else(|| self.axis()) else {
            return Ok(None);
        };
        let means = self.grouped();
        let values = self.values(by);
        let curves = self.curves(by, &values, &means);
        Ok((!curves.is_empty()).then(|| self.drawn(by, &values, &curves)))
    }

    /// The key along which accuracy is drawn unless one is given.
    fn axis(&self) -> Option<&str> {
        let keys = || self.keys.iter().map(String::as_str);
        let widths = ["bits", "wbits", "abits"].into_iter();
        let mut widths = widths.chain(keys().filter(|key| key.ends_with(".bits")));
        let width = widths.find(|width| keys().any(|key| key == *width));
        let several = |key: &&str| *key != SEED && self.values(key).len() > 1;
        width.or_else(|| keys().find(several))
    }

    /// The values of a key: numbers in their order, then all else as the cells have it.
    fn values(&self, key: &str) -> Vec<&Value> {
        let mut values: Vec<&Value> = Vec::new();
        for cell in &self.cells {
            if let Some(value) = cell
                .settings
                .get(key)
                .filter(|value| !values.contains(value))
            {
                values.push(value);
            }
        }
        let number = |value: &Value| value.as_f64().unwrap_or(f64::INFINITY);
        values.sort_by(|a, b| number(a).total_cmp(&number(b)));
        values
    }

    fn curves<'a>(&self, by: &str, values: &[&Value], means: &'a [Mean]) -> Vec<Curve<'a>> {
        let is_of_all = |key: &str| {
            let mut cells = self.cells.iter();
            self.values(key).len() == 1 && cells.all(|cell| cell.settings.contains_key(key))
        };
        let keys = self.keys.iter().map(String::as_str);
        let told = keys.filter(|key| ![by, SEED].contains(key) && !is_of_all(key));
        let told: Vec<&str> = told.collect();
        let mut curves: Vec<Curve<'_>> = Vec::new();
        for mean in means {
            let label = told.iter().filter_map(|key| {
                let value = mean.settings.get(*key)?;
                Some(match value.is_string() {
                    true => sweep::text(value),
                    false => format!("{key} {}", sweep::text(value)),
                })
            });
            let label = label.collect::<Vec<_>>().join(", ");
            let own = mean.settings.get(by);
            let place = own.and_then(|own| values.iter().position(|value| *value == own));
            match curves.iter_mut().find(|curve| curve.label == label) {
                Some(curve) => curve.points.push((place, mean)),
                None => curves.push(Curve {
                    label,
                    points: vec![(place, mean)],
                    moved: 0.0,
                }),
            }
        }
        let mut beside = Vec::new();
        for curve in &mut curves {
            curve.points.sort_by_key(|(place, _)| *place);
            if !curve.is_across() {
                beside.push(curve);
            }
        }
        let middle = (beside.len() as f64 - 1.0) / 2.0;
        let apart = APART.min(0.5 / beside.len() as f64);
        for (i, curve) in beside.into_iter().enumerate() {
            curve.moved = apart * (i as f64 - middle);
        }
        curves
    }

    fn drawn(&self, by: &str, values: &[&Value], curves: &[Curve<'_>]) -> String {
        let means = curves.iter().flat_map(|curve| &curve.points);
        let least = means.map(|(_, mean)| mean.range().0).fold(1.0, f64::min);
        let panel = Panel {
            frame: FRAME,
            x: (-0.5, values.len() as f64 - 0.5),
            y: (below(100.0 * least), 100.0),
        };
        let heading = format!("Test accuracy in percent, {}", self.title);
        let places = values.iter().enumerate();
        let labels = places.map(|(i, value)| (i as f64, vec![escaped(&sweep::text(value))]));
        let mut parts = panel.axes_of_places(&escaped(&heading), &escaped(by), labels);
        let [left, top, width, height] = FRAME;
        for (i, curve) in curves.iter().enumerate() {
            let color = COLORS[i % COLORS.len()];
            let dash = ["", " stroke-dasharray=\"6 3\""][i / COLORS.len() % 2];
            let style = format!("stroke=\"{color}\" stroke-width=\"2\"{dash}");
            parts += &curve.drawn(&panel, color, &style);
            let y = top + height + 66.0 + 24.0 * i as f64;
            let key = [Some((left, y - 4.0)), Some((left + 30.0, y - 4.0))].into_iter();
            parts += &line(key, &curve.style(&style));
            parts += &text(
                (left + 38.0, y),
                Anchor::Start,
                &escaped(&curve.told(values)),
            );
        }
        let legend = 24.0 * curves.len() as f64;
        document(
            (left + width + 40.0, top + height + 60.0 + legend),
            13,
            &parts,
        )
    }
}

impl Curve<'_> {
    /// Whether its cells have no value on the axis.
    fn is_across(&self) -> bool {
        self.points.iter().all(|(place, _)| place.is_none())
    }

    /// Its lines' style.
    fn style(&self, style: &str) -> String {
        match self.is_across() {
            true => format!("{style} stroke-dasharray=\"2 3\""),
            false => style.into(),
        }
    }

    /// What the legend says: label, and the mean at each value.
    fn told(&self, values: &[&Value]) -> String {
        let means = self.points.iter().map(|(place, mean)| {
            let accuracy = format!("{:.2}", 100.0 * mean.accuracy());
            match place {
                Some(place) => format!("{accuracy} at {}", sweep::text(values[*place])),
                None => accuracy,
            }
        });
        let means = means.collect::<Vec<_>>().join(", ");
        match self.label.is_empty() {
            true => means,
            false => format!("{}: {means}", self.label),
        }
    }

    fn drawn(&self, panel: &Panel, color: &str, style: &str) -> String {
        let mut parts = String::new();
        for (_, mean) in self.points.iter().filter(|(place, _)| place.is_none()) {
            let y = 100.0 * mean.accuracy();
            let ends = [(panel.x.0, y), (panel.x.1, y)].into_iter();
            parts += &panel.line(ends, &format!("{style} stroke-dasharray=\"2 3\""));
        }
        let points = self.points.iter();
        let points =
            points.filter_map(|(place, mean)| Some(((*place)? as f64 + self.moved, *mean)));
        let line = points.clone().map(|(x, mean)| (x, 100.0 * mean.accuracy()));
        parts += &panel.line(line, style);
        for (place, mean) in points {
            let (x, y) = panel.at(place, 100.0 * mean.accuracy());
            parts += &rectangle([x - 3.0, y - 3.0, 6.0, 6.0], &format!("fill=\"{color}\""));
            let (least, most) = mean.range();
            if most > least {
                let [bottom, top] = [least, most].map(|a| panel.at(place, 100.0 * a).1);
                parts += &vertical(x, (top, bottom), color);
                parts += &horizontal((x - 4.0, x + 4.0), top, color);
                parts += &horizontal((x - 4.0, x + 4.0), bottom, color);
            }
        }
        parts
    }
}

/// Where an axis of percents begins that has this one: the ten below it, or the whole one from 90 on.
fn below(percent: f64) -> f64 {
    match percent < 90.0 {
        true => (percent / 10.0).floor() * 10.0,
        false => percent.floor().min(99.0),
    }
}

/// A text without what SVG takes for markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sweep::tests::report;

    /// Two values stand a quarter and three quarters along: 60 + 140 and 60 + 420. The least
    /// accuracy is 0.5, so that 75 % lies in the middle: 50 + 160.
    #[test]
    fn points_lie_where_they_are_by_hand() {
        let cell = |bits: u32, seed: u64| json!({ "method": "lsq", "bits": bits, "seed": seed });
        let report = report(&[
            (cell(4, 1), Some(0.75)),
            (cell(2, 1), Some(0.5)),
            (cell(2, 2), Some(1.0)),
            (json!({ "method": "a<b", "seed": 1 }), Some(0.75)),
            (cell(8, 1), None),
        ]);
        // The value of the cell that is not finished has its place, too.
        let svg = report.svg(None).unwrap().unwrap();
        assert!(
            svg.contains(">8</text>") && svg.contains(">bits</text>"),
            "{svg}"
        );
        let mut report = report;
        report.cells.pop();
        let svg = report.svg(None).unwrap().unwrap();
        assert!(svg.contains("M200.00 210.00L480.00 210.00\""), "{svg}");
        assert!(svg.contains("M200.0 50.0V370.0"), "{svg}");
        assert!(svg.contains("M60.00 210.00L620.00 210.00\""), "{svg}");
        assert!(svg.contains("lsq: 75.00 at 2, 75.00 at 4"), "{svg}");
        assert!(svg.contains("a&lt;b: 75.00<"), "{svg}");
        let error = report.svg(Some("lr")).unwrap_err().to_string();
        assert!(
            error.starts_with("by: `lr` is set by no cell, expected one of "),
            "{error}"
        );
    }

    #[test]
    fn an_axis_begins_with_a_round_number() {
        let begins = [0.0, 55.5, 89.9, 90.0, 98.6, 100.0].map(super::below);
        assert_eq!(begins, [0.0, 50.0, 80.0, 90.0, 98.0, 99.0]);
    }

    #[test]
    fn without_widths_the_first_key_with_several_values_is_drawn() {
        let cell = |lr: f64, seed: u64| json!({ "epochs": 3, "lr": lr, "seed": seed });
        let two = report(&[(cell(0.5, 1), Some(0.75)), (cell(0.25, 1), Some(0.75))]);
        assert!(two.svg(None).unwrap().unwrap().contains(">lr</text>"));
        let seeds = report(&[(cell(0.5, 1), Some(0.75)), (cell(0.5, 2), Some(0.75))]);
        assert!(seeds.svg(None).unwrap().is_none());
    }
}
