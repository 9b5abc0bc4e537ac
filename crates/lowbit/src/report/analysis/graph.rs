//! The network as a graph, one layer below the other.

use std::collections::BTreeMap;

use lowbit_formats::svg::{Anchor, COLORS, document, rectangle, text, title};

use crate::analysis::{Analysis, LayerAnalysis};
use crate::report::page::Figure;
use crate::report::page::text::{escaped, shape, short, width};
use crate::report::table::thousands;

const ROW: f64 = 34.0;
const TOP: f64 = 44.0;
/// Where boxes begin, right of the edges that pass layers by.
const LEFT: f64 = 120.0;
const WIDTH: f64 = 330.0;

/// Layers as boxes with their widths and costs, and arrows from each to those that read it.
pub(super) fn graph(analysis: &Analysis) -> Figure {
    let layers = &analysis.layers;
    let places: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .map(|(i, layer)| (layer.path.as_str(), i))
        .collect();
    let most = layers.iter().filter_map(LayerAnalysis::predicted_loss);
    let most = most.fold(0.0, f64::max);
    let mut parts = title(
        (12.0, 24.0),
        14,
        "Layers, and what their quantization is predicted to cost",
    );
    for (i, layer) in layers.iter().enumerate() {
        parts += &node(layer, TOP + ROW * i as f64, most);
    }
    for (i, layer) in layers.iter().enumerate() {
        for source in &layer.reads {
            match places.get(source.as_str()) {
                Some(&from) if from < i => parts += &edge(from, i),
                _ => {}
            }
        }
    }
    let height = TOP + ROW * layers.len() as f64 + 10.0;
    Figure {
        name: "network".into(),
        title: "the network".into(),
        svg: document((LEFT + WIDTH + 150.0, height), 12, &parts),
    }
}

fn node(layer: &LayerAnalysis, y: f64, most: f64) -> String {
    let loss = layer.predicted_loss();
    let color = if loss.is_some() { COLORS[0] } else { "#888" };
    let mut parts = rectangle(
        [LEFT, y, WIDTH, ROW - 10.0],
        &format!("rx=\"5\" fill=\"{color}\" fill-opacity=\"0.13\" stroke=\"{color}\""),
    );
    let name = escaped(&layer.path);
    let kind = escaped(&layer.layer_type);
    parts += &text(
        (LEFT + 8.0, y + 16.0),
        Anchor::Start,
        &format!("{name}: {kind}"),
    );
    let widths = match (layer.weight_bits, layer.input_bits) {
        (None, None) => shape(&layer.shape),
        (weight, input) => {
            format!("w {}, in {}", width(weight), width(input))
        }
    };
    parts += &text((LEFT + WIDTH - 8.0, y + 16.0), Anchor::End, &widths);
    let Some(loss) = loss else { return parts };
    let length = if most > 0.0 { 60.0 * loss / most } else { 0.0 };
    let x = LEFT + WIDTH + 10.0;
    parts += &rectangle(
        [x, y + 4.0, length.max(1.0), 16.0],
        &format!("fill=\"{}\"", COLORS[1]),
    );
    let label = format!(
        "{} ({} parameters)",
        short(loss),
        thousands(layer.parameters)
    );
    parts
        + &format!(
            "<g><title>{label}</title>{}</g>",
            text(
                (x + length.max(1.0) + 6.0, y + 17.0),
                Anchor::Start,
                &short(loss)
            )
        )
}

/// An arrow to the next box, or a bow around those between.
fn edge(from: usize, to: usize) -> String {
    let style = "fill=\"none\" stroke=\"#888\"";
    let bottom = TOP + ROW * from as f64 + ROW - 10.0;
    let top = TOP + ROW * to as f64;
    let x = LEFT + 26.0;
    if to == from + 1 {
        let head = format!(
            "M{:.1} {:.1}L{x:.1} {top:.1}L{:.1} {:.1}",
            x - 3.0,
            top - 4.0,
            x + 3.0,
            top - 4.0
        );
        return format!("<path d=\"M{x:.1} {bottom:.1}V{top:.1}{head}\" {style}/>\n");
    }
    let out = (18.0 + 7.0 * (to - from) as f64).min(LEFT - 16.0);
    let (start, end) = (bottom - 8.0, top + 10.0);
    let left = LEFT - out;
    format!(
        "<path d=\"M{LEFT:.1} {start:.1}C{left:.1} {start:.1} {left:.1} {end:.1} {LEFT:.1} {end:.1}\
         M{:.1} {:.1}L{LEFT:.1} {end:.1}L{:.1} {:.1}\" {style}/>\n",
        LEFT - 5.0,
        end - 3.0,
        LEFT - 5.0,
        end + 3.0
    )
}
