//! The pictures of several runs.

use lowbit_formats::svg::{
    Anchor, COLORS, GRID, Panel, decimal, document, horizontal, power, text, ticks, title, vertical,
};

use super::{ComparedRun, RunsReport};
use crate::report::TrainingCurves;
use crate::report::page::{Figure, text::escaped};
use crate::report::threshold_curves::threshold_curves;

/// All of them.
pub(super) fn all(report: &RunsReport) -> Vec<Figure> {
    let size = |run: &ComparedRun| run.result.as_ref().map(|result| result.model_bits as f64);
    let operations = |run: &ComparedRun| run.bit_operations.map(|count| count as f64);
    let figures = [
        scatter(report, "accuracy-size", "bits of the model", size),
        scatter(report, "accuracy-operations", "bit operations", operations),
        curves(report),
    ];
    let numbered = report.runs.iter().enumerate();
    let thresholds = numbered.filter_map(|(i, run)| thresholds(i, run));
    figures.into_iter().flatten().chain(thresholds).collect()
}

/// Accuracy over what a run takes, on a logarithmic scale.
fn scatter(
    report: &RunsReport,
    name: &str,
    label: &str,
    of: impl Fn(&ComparedRun) -> Option<f64>,
) -> Option<Figure> {
    let points = report.runs.iter().enumerate().filter_map(|(i, run)| {
        let cost = of(run).filter(|cost| *cost > 0.0)?;
        Some((i, run, cost.log2(), 100.0 * run.result.as_ref()?.accuracy))
    });
    let points: Vec<(usize, &ComparedRun, f64, f64)> = points.collect();
    let (first, last) = (points.first()?, points.last()?);
    let least = points.iter().map(|p| p.2).fold(first.2, f64::min).floor();
    let most = points
        .iter()
        .map(|p| p.2)
        .fold(last.2, f64::max)
        .ceil()
        .max(least + 1.0);
    let low = points.iter().map(|p| p.3).fold(100.0, f64::min);
    let panel = Panel {
        frame: [52.0, 44.0, 430.0, 230.0],
        x: (least, most),
        y: ((low / 2.0).floor() * 2.0 - 2.0, 100.0),
    };
    let [left, top, width, height] = panel.frame;
    let (right, bottom) = (left + width, top + height);
    let heading = format!("Accuracy in percent over {label}");
    let mut parts = title((left, 24.0), 14, &heading);
    for tick in ticks(panel.y, 5) {
        let (_, y) = panel.at(least, tick);
        parts += &horizontal((left, right), y, GRID);
        parts += &text((left - 8.0, y + 4.0), Anchor::End, &decimal(tick));
    }
    let step = ((most - least) / 8.0).ceil().max(1.0) as usize;
    for exponent in (least as i32..=most as i32).step_by(step) {
        let (x, _) = panel.at(exponent.into(), panel.y.0);
        parts += &vertical(x, (top, bottom), GRID);
        parts += &text((x, bottom + 18.0), Anchor::Middle, &power(2, exponent));
    }
    for (row, (i, run, cost, accuracy)) in points.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let (x, y) = panel.at(*cost, *accuracy);
        let key = bottom + 46.0 + 18.0 * row as f64;
        for (x, y) in [(x, y), (left + 6.0, key - 4.0)] {
            parts += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{color}\"/>\n");
        }
        let line = format!("{}: {accuracy:.2} %", escaped(&run.title));
        parts += &text((left + 18.0, key), Anchor::Start, &line);
    }
    Some(Figure {
        name: name.into(),
        title: heading,
        svg: document(
            (520.0, bottom + 46.0 + 18.0 * points.len() as f64),
            12,
            &parts,
        ),
    })
}

/// How the thresholds of a run moved.
fn thresholds(number: usize, run: &ComparedRun) -> Option<Figure> {
    Some(Figure {
        name: format!("thresholds-{}", number + 1),
        title: format!("thresholds of {}", run.title),
        svg: threshold_curves(&run.title, &run.epochs)?,
    })
}

/// How they learned.
fn curves(report: &RunsReport) -> Option<Figure> {
    let trained = report.runs.iter().filter(|run| !run.epochs.is_empty());
    let runs: Vec<_> = trained
        .map(|run| (run.title.clone(), run.epochs.clone()))
        .collect();
    (!runs.is_empty()).then(|| {
        let curves = TrainingCurves {
            title: "all runs".into(),
            runs,
        };
        Figure {
            name: "training".into(),
            title: "training".into(),
            svg: curves.svg(),
        }
    })
}
