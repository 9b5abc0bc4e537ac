//! The page of an analysis.

use super::AnalysisReport;
use super::figures::histogram_name;
use super::sentences::width_name;
use super::tables::tensors;
use crate::analysis::{LayerAnalysis, RunAnalysis, WidthPlan};
use crate::report::page::text::{escaped, shape, short};
use crate::report::page::{Section, document, figure_html, table_html};
use crate::report::table::{percent, thousands};

/// The parts of a page, with the names that its links have.
const SECTIONS: [(&str, &str); 8] = [
    ("summary", "Summary"),
    ("network", "Network"),
    ("sensitivity", "Sensitivity"),
    ("widths", "Widths"),
    ("layers", "Layers"),
    ("images", "Images"),
    ("integers", "Integers"),
    ("training", "Training"),
];

/// The whole page.
pub(super) fn page(report: &AnalysisReport<'_>) -> String {
    let run = report.run;
    let title = escaped(&format!("{} on {}: {}", run.network, run.data, run.run));
    let parts = [
        summary(report),
        network(report),
        sensitivity(report),
        widths(report),
        layers(report),
        images(report),
        integers(report),
        training(report),
    ];
    let sections = SECTIONS.iter().zip(parts);
    let sections = sections.map(|(&(id, name), html)| Section { id, name, html });
    document(&title, &sections.collect::<Vec<_>>())
}

fn summary(report: &AnalysisReport<'_>) -> String {
    let sentences = report.sentences();
    let (first, rest) = sentences
        .split_first()
        .map_or(("", &[][..]), |(f, r)| (f, r));
    let points: String = rest
        .iter()
        .map(|s| format!("<li>{}</li>\n", escaped(s)))
        .collect();
    let RunAnalysis { analysis, .. } = report.run;
    let facts = [
        ("accuracy in float", percent(analysis.float.accuracy)),
        ("accuracy quantized", percent(analysis.quantized.accuracy)),
        ("loss in float", short(analysis.float.loss)),
        ("loss quantized", short(analysis.quantized.loss)),
        ("parameters", thousands(analysis.parameters)),
        ("their bits", thousands(analysis.bits)),
    ];
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"))
        .collect();
    format!(
        "<p class=\"lead\">{}</p>\n<ol class=\"findings\">\n{points}</ol>\n<dl class=\"facts\">{facts}</dl>\n",
        escaped(first)
    )
}

fn network(report: &AnalysisReport<'_>) -> String {
    let mut html = figure(report, "signal-to-noise");
    html += &table(
        report,
        "layers",
        "Every layer, in order. Operations are products for one image; bit operations are those times both widths.",
    );
    let graph = figure(report, "network");
    html + &format!("<details><summary>The network as a graph</summary>\n{graph}</details>\n")
}

fn sensitivity(report: &AnalysisReport<'_>) -> String {
    let mut html = String::from(
        "<p>Predicted: the second-order change of the loss, from one backward pass of each batch with the quantizers off. Measured: the loss with \
         this layer alone quantized, and with all layers but this one.</p>\n",
    );
    html += &figure(report, "cost");
    html += &table(report, "sensitivity", "What each layer costs.");
    html + &table(
        report,
        "formats",
        "The loss that each weight and input alone is predicted to add, by format: integers have the power-of-two threshold of the least mean square error, formats a float scale.",
    )
}

fn widths(report: &AnalysisReport<'_>) -> String {
    let Some(found) = &report.run.suggested else {
        let why = report.run.not_suggested.as_deref().unwrap_or_default();
        return format!("<p>No widths are suggested: {}.</p>\n", escaped(why));
    };
    let best = &found.best;
    let other = found.other.as_ref().map_or(String::new(), |other| {
        let name = width_name(found.kind.other(), other);
        format!(
            " Tried, too, and of more measured loss: {name}. {}",
            promise(other)
        )
    });
    let text = format!(
        "For {}: {}. {}{other}",
        found.budget,
        width_name(found.kind, best),
        promise(best)
    );
    let plan = match report.run.plan_file() {
        Ok(plan) => escaped(&plan.unwrap_or_default()),
        Err(error) => escaped(&error.to_string()),
    };
    format!(
        "<p>{}</p>\n{}<details><summary>The plan, for <code>lowbit train --config widths.toml</code></summary>\n\
         <pre tabindex=\"0\">{plan}</pre></details>\n",
        escaped(&text),
        table(report, "widths", "The widths.")
    )
}

/// What widths come to, in sentences.
fn promise(plan: &WidthPlan) -> String {
    let measured = plan.measured.map_or(String::new(), |tested| {
        format!(
            " Calibrated and not trained, the network has an accuracy of {} and a loss of {} on the same images.",
            percent(tested.accuracy),
            short(tested.loss)
        )
    });
    let accuracy = plan.predicted_accuracy;
    let accuracy = accuracy.map_or(String::new(), |accuracy| {
        format!(", an accuracy of {}", percent(accuracy))
    });
    format!(
        "{} bytes of weights, {} bit operations. Predicted: {} of loss added{accuracy}.{measured}",
        thousands(plan.bytes.round() as u64),
        thousands(plan.bit_operations.round() as u64),
        short(plan.predicted_loss)
    )
}

fn layers(report: &AnalysisReport<'_>) -> String {
    let all = table(
        report,
        "tensors",
        "Every tensor: what quantization makes of it alone, and how far it is from the float network's by then.",
    );
    let analysis = &report.run.analysis;
    let worst = analysis
        .findings
        .first()
        .map(|finding| finding.layer.as_str());
    let each = analysis.layers.iter();
    let each = each.map(|layer| of_layer(report, layer, worst == Some(layer.path.as_str())));
    each.collect::<String>() + &all
}

/// A layer's tensors, with their pictures.
fn of_layer(report: &AnalysisReport<'_>, layer: &LayerAnalysis, open: bool) -> String {
    let pictures = layer
        .tensors
        .iter()
        .map(|tensor| figure(report, &histogram_name(tensor)));
    let pictures: String = pictures.collect();
    if pictures.is_empty() {
        return String::new();
    }
    let cost = layer.predicted_loss();
    let cost = cost.map_or(String::new(), |loss| {
        format!(", {} of loss predicted", short(loss))
    });
    let sums = layer.accumulator.as_ref().map_or(String::new(), |sums| {
        let given = sums
            .given
            .map_or(String::new(), |bits| format!(", it has {bits}"));
        format!(
            "<p>Its sums of {} terms need {} bits by shape, {} by these weights{given}.</p>\n",
            sums.terms, sums.needed_by_shape, sums.needed_by_weights
        )
    });
    let heading = format!(
        "{} <small>{}, {}{cost}</small>",
        escaped(&layer.path),
        escaped(&layer.layer_type),
        shape(&layer.shape)
    );
    let open = if open { " open" } else { "" };
    let facts = table_html(&tensors(layer.tensors.iter()), "", false);
    format!(
        "<details{open}><summary>{heading}</summary>\n{sums}<div class=\"pictures\">{pictures}</div>\n{facts}</details>\n"
    )
}

fn images(report: &AnalysisReport<'_>) -> String {
    let lost = match report.run.analysis.lost.is_empty() {
        true => "<p>No image that the float network gets right is lost by any of the quantized ones.</p>\n".into(),
        false => figure(report, "lost-images"),
    };
    lost + &table(
        report,
        "confusion",
        "The quantized network: images of each class (lines) by what they are taken for.",
    ) + &table(report, "confusion-float", "The float network.")
}

fn integers(report: &AnalysisReport<'_>) -> String {
    match &report.run.not_integers {
        Some(why) => format!("<p>It does not lower to integers: {}.</p>\n", escaped(why)),
        None => table(
            report,
            "integers",
            "The network of integers beside the simulation, on the first images: in each tensor, the integers that are others.",
        ),
    }
}

fn training(report: &AnalysisReport<'_>) -> String {
    match report.run.epochs.is_empty() {
        true => "<p>The run was not trained, only calibrated.</p>\n".into(),
        false => {
            figure(report, "training")
                + &figure(report, "thresholds")
                + &table(report, "epochs", "Epoch by epoch.")
        }
    }
}

fn figure(report: &AnalysisReport<'_>, name: &str) -> String {
    report.figure(name).map_or(String::new(), figure_html)
}

fn table(report: &AnalysisReport<'_>, name: &str, caption: &str) -> String {
    report
        .table(name)
        .map_or(String::new(), |table| table_html(table, caption, true))
}
