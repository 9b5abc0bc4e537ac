//! The pictures of an analysis.

use lowbit_formats::svg::{
    Anchor, COLORS, Panel, decimal, document, horizontal, rectangle, text, title, vertical,
};

use super::graph::graph;
use crate::analysis::{Analysis, LayerAnalysis, RunAnalysis, TensorAnalysis};
use crate::data::ImageSet;
use crate::quantizers::Slot;
use crate::report::TrainingCurves;
use crate::report::page::Figure;
use crate::report::page::png::data_address;
use crate::report::page::text::{escaped, file_name, short};
use crate::report::threshold_curves::threshold_curves;

/// Beyond the ends of the grid.
const CLIPPED: &str = "#f7d9c8";
const THRESHOLD: &str = COLORS[1];
const BARS: &str = COLORS[0];
const FLOAT: &str = COLORS[2];

/// All of them.
pub(super) fn all(run: &RunAnalysis, images: &ImageSet) -> Vec<Figure> {
    let analysis = &run.analysis;
    let mut figures = vec![graph(analysis)];
    figures.extend(cost(analysis));
    figures.extend(accumulated(analysis));
    if !analysis.lost.is_empty() {
        figures.push(lost(analysis, images));
    }
    figures.extend(curves(run));
    figures.extend(thresholds(run));
    for layer in &analysis.layers {
        figures.extend(layer.tensors.iter().filter(|t| t.count > 0).map(histogram));
    }
    figures
}

/// The name of the picture of a tensor.
pub(super) fn histogram_name(tensor: &TensorAnalysis) -> String {
    format!("values-{}", file_name(&tensor.path))
}

/// The values of a tensor on a logarithmic scale of counts, with ends and values of its grid.
fn histogram(tensor: &TensorAnalysis) -> Figure {
    let bins = &tensor.histogram;
    let (least, most) = (bins.start(0), bins.start(bins.counts.len()));
    let ends = shown_ends(tensor, (least, most));
    let low = ends.map_or(least, |(low, _)| low.min(least));
    let high = ends.map_or(most, |(_, high)| high.max(most));
    let panel = Panel {
        frame: [14.0, 40.0, 430.0, 120.0],
        x: (low, high),
        y: (0.0, 1.0),
    };
    let [left, top, width, height] = panel.frame;
    let (right, bottom) = (left + width, top + height);
    let mut parts = title((left, 22.0), 14, &escaped(&tensor.path));
    if let Some((from, to)) = ends {
        if from > low {
            parts += &panel.band((low, from), CLIPPED);
        }
        if to < high {
            parts += &panel.band((to, high), CLIPPED);
        }
    }
    for tick in lowbit_formats::svg::ticks(panel.x, 5) {
        let (x, _) = panel.at(tick, 0.0);
        parts += &text((x, bottom + 26.0), Anchor::Middle, &decimal(tick));
    }
    parts += &outline(&panel, &bins.counts, |i| bins.start(i));
    parts += &horizontal((left, right), bottom, "#888");
    let within = tensor.grid.iter().filter(|x| (low..=high).contains(x));
    for &value in within {
        let (x, _) = panel.at(value, 0.0);
        parts += &vertical(x, (bottom, bottom + 8.0), THRESHOLD);
    }
    for end in ends.into_iter().flat_map(|(low, high)| [low, high]) {
        let (x, _) = panel.at(end, 0.0);
        parts += &vertical(x, (top, bottom + 8.0), THRESHOLD);
    }
    Figure {
        name: histogram_name(tensor),
        title: format!("values of {}", tensor.path),
        svg: document((458.0, 196.0), 12, &parts),
    }
}

/// The ends of the grid, of several channels the outermost, unless they are so far off that no value
/// could be seen.
fn shown_ends(tensor: &TensorAnalysis, (least, most): (f64, f64)) -> Option<(f64, f64)> {
    let ends = tensor.ends.iter().copied();
    let (low, high) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
    let far = 20.0 * (most - least);
    (high - low <= far).then_some((low, high))
}

/// Counts as one filled outline.
fn outline(panel: &Panel, counts: &[u64], start: impl Fn(usize) -> f64) -> String {
    let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
    let (mut x, base) = panel.at(start(0), 0.0);
    let mut path = format!("M{x:.1} {base:.1}");
    for (i, &count) in counts.iter().enumerate() {
        let height = (count as f64).ln_1p() / most.ln_1p();
        let (_, y) = panel.at(start(i), height);
        (x, _) = panel.at(start(i + 1), 0.0);
        path += &format!("V{y:.1}H{x:.1}");
    }
    format!("<path d=\"{path}V{base:.1}Z\" fill=\"{BARS}\" fill-opacity=\"0.75\"/>\n")
}

/// What each layer costs: predicted, and measured with it alone quantized, on a logarithmic scale.
fn cost(analysis: &Analysis) -> Option<Figure> {
    let layers = analysis.layers.iter();
    let layers: Vec<&LayerAnalysis> = layers
        .filter(|layer| layer.measured.is_some() || layer.predicted_loss().is_some())
        .collect();
    if layers.is_empty() {
        return None;
    }
    let (left, width, row) = (150.0, 420.0, 30.0);
    let least = 1e-6f64;
    let along = |loss: f64| {
        let decades = (loss.max(least) / least).log10();
        width * (decades / 7.0).min(1.0)
    };
    let height = row * layers.len() as f64;
    let mut parts = title(
        (12.0, 22.0),
        14,
        "Loss that each layer's quantization adds, in nats",
    );
    for decade in -6..=1 {
        let x = left + along(10f64.powi(decade));
        parts += &vertical(x, (42.0, 46.0 + height), lowbit_formats::svg::GRID);
        parts += &text(
            (x, 38.0),
            Anchor::Middle,
            &lowbit_formats::svg::power(10, decade),
        );
    }
    for (i, layer) in layers.iter().enumerate() {
        let y = 46.0 + row * i as f64;
        parts += &text((left - 8.0, y + 18.0), Anchor::End, &escaped(&layer.path));
        let measured = layer.measured.map(|measured| measured.added);
        let bars = [
            (layer.predicted_loss(), BARS, 3.0),
            (measured, COLORS[4], 14.0),
        ];
        for (loss, color, down) in bars {
            let length = along(loss.unwrap_or(0.0));
            parts += &rectangle([left, y + down, length, 10.0], &format!("fill=\"{color}\""));
        }
    }
    let y = 46.0 + height + 22.0;
    for (x, color, label) in [
        (left, BARS, "predicted"),
        (left + 130.0, COLORS[4], "measured, this layer alone"),
    ] {
        parts += &rectangle([x, y - 10.0, 12.0, 10.0], &format!("fill=\"{color}\""));
        parts += &text((x + 18.0, y), Anchor::Start, label);
    }
    Some(Figure {
        name: "cost".into(),
        title: "loss that each layer adds".into(),
        svg: document((600.0, y + 16.0), 12, &parts),
    })
}

/// Signal to noise of the output of every layer against the float network, in order.
fn accumulated(analysis: &Analysis) -> Option<Figure> {
    let outputs = analysis.layers.iter().filter_map(|layer| {
        let output = layer.tensor(Slot::OUTPUT)?;
        Some((layer.path.as_str(), output.accumulated?.sqnr?))
    });
    let outputs: Vec<(&str, f64)> = outputs.collect();
    if outputs.len() < 2 {
        return None;
    }
    let most = outputs.iter().map(|o| o.1).fold(0.0, f64::max);
    let least = outputs.iter().map(|o| o.1).fold(0.0, f64::min);
    let width = (26.0 * outputs.len() as f64).clamp(380.0, 1400.0);
    let panel = Panel {
        frame: [48.0, 44.0, width, 180.0],
        x: (0.0, outputs.len() as f64 - 1.0),
        y: (least.floor(), most.ceil().max(least.floor() + 1.0)),
    };
    let nothing = std::iter::empty();
    let title = "Signal to noise after each layer, in decibels";
    let mut parts = panel.axes_of_places(title, "", nothing);
    let points = outputs
        .iter()
        .enumerate()
        .map(|(i, (_, sqnr))| (i as f64, *sqnr));
    parts += &panel.line(
        points.clone(),
        &format!("stroke=\"{FLOAT}\" stroke-width=\"2\""),
    );
    for ((x, sqnr), (path, _)) in points.zip(&outputs) {
        let (x, y) = panel.at(x, sqnr);
        let name = escaped(path);
        parts += &format!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{FLOAT}\"><title>{name}: {sqnr:.1} dB</title></circle>\n"
        );
        parts += &format!(
            "<text transform=\"translate({:.1} 234) rotate(60)\" font-size=\"10\">{name}</text>\n",
            x - 3.0
        );
    }
    let longest = outputs
        .iter()
        .map(|(path, _)| path.len())
        .max()
        .unwrap_or(0);
    Some(Figure {
        name: "signal-to-noise".into(),
        title: title.into(),
        svg: document((width + 100.0, 246.0 + 5.2 * longest as f64), 12, &parts),
    })
}

/// Images that are lost, with what they are and what they are taken for.
fn lost(analysis: &Analysis, images: &ImageSet) -> Figure {
    let (side, cell_height, columns) = (84.0, 142.0, 6);
    let mut parts = String::new();
    for (i, lost) in analysis.lost.iter().enumerate() {
        let x = 10.0 + (side + 22.0) * (i % columns) as f64;
        let y = 10.0 + cell_height * (i / columns) as f64;
        let address = data_address(images, lost.image as usize);
        parts += &format!(
            "<image x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" \
             style=\"image-rendering:pixelated\" href=\"{address}\"/>\n"
        );
        let lines = [
            format!("no. {}: {} as {}", lost.image, lost.class, lost.taken_for),
            format!("lost {} of {}", lost.times, lost.of),
            format!("loss +{}", short(lost.added_loss)),
        ];
        for (line, content) in lines.iter().enumerate() {
            let down = y + side + 14.0 + 14.0 * line as f64;
            parts += &text((x, down), Anchor::Start, content);
        }
    }
    let rows = analysis.lost.len().div_ceil(columns) as f64;
    Figure {
        name: "lost-images".into(),
        title: "images lost by quantization".into(),
        svg: document(
            (
                (side + 22.0) * columns as f64 + 10.0,
                10.0 + cell_height * rows,
            ),
            11,
            &parts,
        ),
    }
}

/// How its thresholds moved, if it has any.
fn thresholds(run: &RunAnalysis) -> Option<Figure> {
    Some(Figure {
        name: "thresholds".into(),
        title: "thresholds over training".into(),
        svg: threshold_curves(&run.run, &run.epochs)?,
    })
}

/// How the run was trained, if it was.
fn curves(run: &RunAnalysis) -> Option<Figure> {
    let curves = TrainingCurves {
        title: format!("{} on {}", run.network, run.data),
        runs: vec![(run.run.clone(), run.epochs.clone())],
    };
    (!run.epochs.is_empty()).then(|| Figure {
        name: "training".into(),
        title: "training".into(),
        svg: curves.svg(),
    })
}
