//! How thresholds moved while a run was trained, and what they clipped.

use std::collections::BTreeMap;

use lowbit_formats::svg::{Anchor, COLORS, Panel, document, line, text};

use super::page::text::escaped;
use crate::train::{EpochMetrics, QuantizerMetrics};

/// How lines of one colour differ, so that 28 can be told apart.
const DASHES: [&str; 4] = ["none", "6 3", "2 2", "8 2 2 2"];

/// Places in the key beside one another.
const COLUMNS: usize = 3;

const HEIGHT: f64 = 260.0;

/// The numbers of a quantizer over epochs.
type Curve = Vec<(f64, f64)>;

/// Base-2 logarithms of the thresholds of a run and the percentages of the values beyond them, over epochs, one line
/// a quantizer; accumulators have no threshold, and sums that saturate in place of what is clipped. `None` of a run
/// that has none, or whose metrics do not say so.
pub(super) fn threshold_curves(title: &str, epochs: &[EpochMetrics]) -> Option<String> {
    let thresholds = curves(epochs, |quantizer| quantizer.log2_threshold);
    let clipped = curves(epochs, |quantizer| Some(100.0 * quantizer.clipped));
    let last = epochs.last()?.epoch.max(2) as f64;
    if clipped.is_empty() {
        return None;
    }
    let panel = |left: f64, y| Panel {
        frame: [left, 50.0, 420.0, HEIGHT],
        x: (1.0, last),
        y,
    };
    let (low, high) = ends(&thresholds);
    let most = ends(&clipped).1.max(1.0);
    let of_thresholds = panel(60.0, (low.floor(), high.ceil().max(low.floor() + 1.0)));
    let of_clipped = panel(560.0, (0.0, most));
    let heading = escaped(&format!("Thresholds (log2), {title}"));
    let mut parts = of_thresholds.axes(&heading, "epoch");
    parts += &of_clipped.axes("Values beyond them in percent", "epoch");
    for (i, path) in clipped.keys().enumerate() {
        let style = style(i);
        for (panel, curves) in [(&of_thresholds, &thresholds), (&of_clipped, &clipped)] {
            if let Some(curve) = curves.get(path) {
                parts += &panel.line(curve.iter().copied(), &style);
            }
        }
        parts += &key(i, path, &style);
    }
    let rows = clipped.len().div_ceil(COLUMNS) as f64;
    Some(document((1020.0, HEIGHT + 110.0 + 20.0 * rows), 13, &parts))
}

/// A number of each quantizer that has it, over the epochs that say so, by the quantizer's path.
fn curves(
    epochs: &[EpochMetrics],
    of: impl Fn(&QuantizerMetrics) -> Option<f64>,
) -> BTreeMap<&str, Curve> {
    let mut curves: BTreeMap<&str, Curve> = BTreeMap::new();
    for epoch in epochs {
        for quantizer in &epoch.quantizers {
            if let Some(number) = of(quantizer).filter(|number| number.is_finite()) {
                let curve = curves.entry(&quantizer.path).or_default();
                curve.push((epoch.epoch as f64, number));
            }
        }
    }
    curves
}

/// The least and the greatest number of all curves.
fn ends(curves: &BTreeMap<&str, Curve>) -> (f64, f64) {
    let all = || curves.values().flatten().map(|(_, number)| *number);
    let first = all().next().unwrap_or(0.0);
    (all().fold(first, f64::min), all().fold(first, f64::max))
}

fn style(i: usize) -> String {
    let color = COLORS[i % COLORS.len()];
    let dash = DASHES[i / COLORS.len() % DASHES.len()];
    format!("stroke=\"{color}\" stroke-width=\"1.8\" stroke-dasharray=\"{dash}\"")
}

/// A place in the key.
fn key(i: usize, path: &str, style: &str) -> String {
    let x = 60.0 + 310.0 * (i % COLUMNS) as f64;
    let y = HEIGHT + 116.0 + 20.0 * (i / COLUMNS) as f64;
    let ends = [(x, y - 4.0), (x + 28.0, y - 4.0)];
    line(ends.map(Some).into_iter(), style) + &text((x + 36.0, y), Anchor::Start, &escaped(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, quantizers: &[(&str, Option<f64>, f64)]) -> EpochMetrics {
        let quantizers = quantizers.iter();
        let quantizers = quantizers.map(|&(path, log2_threshold, clipped)| QuantizerMetrics {
            path: path.into(),
            log2_threshold,
            clipped,
        });
        EpochMetrics {
            epoch,
            quantizers: quantizers.collect(),
            ..EpochMetrics::default()
        }
    }

    /// Three epochs from the left edge, 60, to 480, so that the second lies at 270; logarithms from -3 to 1,
    /// of which -1 lies in the middle of the 260 pixels from 50 on.
    #[test]
    fn points_lie_where_they_are_by_hand() {
        let sums = |clipped| ("fc.accumulator", None, clipped);
        let epochs = [
            epoch(1, &[("a<b>.weight", Some(-3.0), 0.0), sums(0.0)]),
            epoch(2, &[("a<b>.weight", Some(-1.0), 0.25), sums(0.0)]),
            epoch(3, &[("a<b>.weight", Some(1.0), 0.5), sums(0.01)]),
        ];
        let svg = threshold_curves("cnn", &epochs).unwrap();
        assert!(
            svg.contains("M60.00 310.00L270.00 180.00L480.00 50.00\""),
            "{svg}"
        );
        // Of 0 to 50 percent, 25 is the middle.
        assert!(
            svg.contains("M560.00 310.00L770.00 180.00L980.00 50.00\""),
            "{svg}"
        );
        assert!(svg.contains("a&lt;b&gt;.weight") && svg.contains("fc.accumulator"));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn a_run_without_thresholds_has_no_picture() {
        assert_eq!(threshold_curves("cnn", &[]), None);
        assert_eq!(threshold_curves("cnn", &[epoch(1, &[])]), None);
        let broken = [epoch(1, &[("x", Some(f64::NAN), 0.0)])];
        assert!(!threshold_curves("cnn", &broken).unwrap().contains("NaN"));
    }
}
