//! The tables of an analysis.

use crate::analysis::{Analysis, LayerAnalysis, RunAnalysis, TensorAnalysis, TensorError};
use crate::quantizers::Slot;
use crate::report::page::NamedTable;
use crate::report::page::text::{or_dash, shape, short, width};
use crate::report::table::{Alignment, Table, percent, thousands};

/// All of them.
pub(super) fn all(run: &RunAnalysis) -> Vec<NamedTable> {
    let analysis = &run.analysis;
    let named = |name: &str, table| NamedTable {
        name: name.into(),
        table,
    };
    let mut tables = vec![
        named("layers", layers(analysis)),
        named(
            "tensors",
            tensors(analysis.layers.iter().flat_map(|layer| &layer.tensors)),
        ),
        named("sensitivity", sensitivity(analysis)),
        named("formats", formats(analysis)),
        named("lost-images", lost(analysis)),
        named("confusion", confusion(&analysis.confusion.quantized)),
        named("confusion-float", confusion(&analysis.confusion.float)),
    ];
    tables.extend(widths(run).map(|table| named("widths", table)));
    tables.extend(epochs(run).map(|table| named("epochs", table)));
    tables.extend(integers(run).map(|table| named("integers", table)));
    tables
}

fn layers(analysis: &Analysis) -> Table {
    let headings = [
        "layer",
        "type",
        "result",
        "parameters",
        "bits",
        "weight",
        "input",
        "operations",
        "bit operations",
        "sum bits",
        "SQNR after",
    ];
    let table = Table::new(headings).with_rows(analysis.layers.iter().map(|layer| {
        let weighted = layer.tensor(Slot::WEIGHT).is_some();
        let output = layer
            .tensor(Slot::OUTPUT)
            .and_then(|output| output.accumulated);
        [
            layer.path.clone(),
            layer.layer_type.clone(),
            shape(&layer.shape),
            thousands(layer.parameters),
            thousands(layer.bits),
            if weighted {
                width(layer.weight_bits)
            } else {
                "-".into()
            },
            width(layer.input_bits),
            thousands(layer.operations),
            thousands(layer.bit_operations),
            layer
                .accumulator
                .as_ref()
                .map_or("-".into(), |sums| sums.needed_by_weights.to_string()),
            or_dash(output.and_then(|error| error.sqnr), decibels),
        ]
    }));
    left(table, 1)
}

fn left(mut table: Table, column: usize) -> Table {
    table.columns[column].alignment = Alignment::Left;
    table
}

fn decibels(sqnr: f64) -> String {
    format!("{sqnr:.1} dB")
}

/// One line a tensor.
pub(super) fn tensors<'a>(tensors: impl Iterator<Item = &'a TensorAnalysis>) -> Table {
    let headings = [
        "tensor",
        "quantized to",
        "shape",
        "least",
        "greatest",
        "deviation",
        "threshold",
        "clipped",
        "became zero",
        "codes used",
        "SQNR alone",
        "MSE alone",
        "cosine alone",
        "KL alone",
        "SQNR accumulated",
        "MSE accumulated",
        "cosine accumulated",
        "KL accumulated",
        "noise over best",
        "outlier channels",
    ];
    let table = Table::new(headings).with_rows(tensors.map(|tensor| {
        let share = |share: Option<f64>| or_dash(share, |share| format!("{:.3} %", 100.0 * share));
        let used = tensor.used_codes.zip(tensor.codes);
        let [alone, accumulated] = [tensor.alone, tensor.accumulated].map(error);
        let first = [
            tensor.path.clone(),
            tensor.format.clone().unwrap_or("float".into()),
            shape(&tensor.shape),
            short(tensor.min),
            short(tensor.max),
            short(tensor.deviation),
            threshold(tensor),
            share(tensor.clipped),
            share(tensor.rounded_to_zero),
            used.map_or("-".into(), |(used, all)| format!("{used} of {all}")),
        ];
        let last = [
            tensor
                .refit
                .as_ref()
                .map_or("-".into(), |refit| short(refit.ratio)),
            outliers(tensor),
        ];
        first
            .into_iter()
            .chain(alone)
            .chain(accumulated)
            .chain(last)
            .collect::<Vec<_>>()
    }));
    left(table, 1)
}

fn error(error: Option<TensorError>) -> [String; 4] {
    let of = |number: fn(&TensorError) -> Option<f64>| error.as_ref().and_then(number);
    [
        or_dash(of(|e| e.sqnr), decibels),
        or_dash(of(|e| Some(e.mean_square)), short),
        or_dash(of(|e| e.cosine), |cosine| format!("{cosine:.6}")),
        or_dash(of(|e| e.kl_divergence), short),
    ]
}

/// The threshold of a grid, from the least to the largest of several channels.
fn threshold(tensor: &TensorAnalysis) -> String {
    let ends = tensor.thresholds();
    let least = ends.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ends.iter().copied().fold(0.0, f64::max);
    match ends.len() {
        0 => "-".into(),
        _ if least == most => short(most),
        _ => format!("{} to {}", short(least), short(most)),
    }
}

fn outliers(tensor: &TensorAnalysis) -> String {
    let found = tensor.outliers.iter().take(4);
    let found: Vec<String> = found
        .map(|o| format!("{} ({:.1}x)", o.channel, o.ratio))
        .collect();
    let more = if tensor.outliers.len() > 4 {
        " ..."
    } else {
        ""
    };
    match found.is_empty() {
        true => "-".into(),
        false => format!("{}{more}", found.join(" ")),
    }
}

fn sensitivity(analysis: &Analysis) -> Table {
    let headings = [
        "layer",
        "predicted loss",
        "loss, this layer alone",
        "accuracy, this layer alone",
        "loss, all but this layer",
        "accuracy, all but this layer",
    ];
    let layers = analysis.layers.iter();
    let layers =
        layers.filter(|layer| layer.measured.is_some() || layer.predicted_loss().is_some());
    Table::new(headings).with_rows(layers.map(|layer| {
        let measured = layer.measured;
        [
            layer.path.clone(),
            or_dash(layer.predicted_loss(), |loss| format!("+{}", short(loss))),
            or_dash(measured.map(|m| m.only.loss), short),
            or_dash(measured.map(|m| m.only.accuracy), percent),
            or_dash(measured.map(|m| m.all_but.loss), short),
            or_dash(measured.map(|m| m.all_but.accuracy), percent),
        ]
    }))
}

/// The predicted loss of every weight and input in every format.
fn formats(analysis: &Analysis) -> Table {
    let all = || {
        analysis
            .layers
            .iter()
            .flat_map(|layer: &LayerAnalysis| &layer.predicted)
    };
    let tried = all().filter(|prediction| !prediction.formats.is_empty());
    let names: Vec<String> = tried
        .clone()
        .map(|prediction| prediction.formats.iter().map(|(name, _)| name.clone()))
        .max_by_key(ExactSizeIterator::len)
        .map_or(Vec::new(), Iterator::collect);
    let headings = ["tensor".to_string(), "as it is".into()]
        .into_iter()
        .chain(names.iter().cloned());
    Table::new(headings).with_rows(tried.map(|prediction| {
        let of = |name: &String| prediction.formats.iter().find(|(known, _)| known == name);
        let losses = names
            .iter()
            .map(|name| of(name).map_or("-".into(), |(_, loss)| short(*loss)));
        let first = [prediction.path.clone(), or_dash(prediction.now, short)];
        first.into_iter().chain(losses).collect::<Vec<_>>()
    }))
}

fn lost(analysis: &Analysis) -> Table {
    let headings = ["image", "class", "taken for", "added loss", "lost", "of"];
    Table::new(headings).with_rows(analysis.lost.iter().map(|lost| {
        [
            lost.image.to_string(),
            lost.class.to_string(),
            lost.taken_for.to_string(),
            short(lost.added_loss),
            lost.times.to_string(),
            lost.of.to_string(),
        ]
    }))
}

fn confusion(counts: &[Vec<u64>]) -> Table {
    let classes = (0..counts.len()).map(|class| format!("as {class}"));
    let headings = std::iter::once("class".to_string()).chain(classes);
    Table::new(headings).with_rows(counts.iter().enumerate().map(|(class, row)| {
        let numbers = row.iter().map(u64::to_string);
        std::iter::once(class.to_string())
            .chain(numbers)
            .collect::<Vec<_>>()
    }))
}

fn widths(run: &RunAnalysis) -> Option<Table> {
    let found = run.suggested.as_ref()?;
    let layer = |path: &str| run.analysis.layers.iter().find(|layer| layer.path == path);
    let headings = [
        "layer",
        "weight now",
        "weight",
        "input now",
        "input",
        "weights",
        "operations",
    ];
    Some(
        Table::new(headings).with_rows(found.best.layers.iter().map(|own| {
            let known = layer(&own.path);
            let weight = known.and_then(|layer| layer.tensor(Slot::WEIGHT));
            let weights = weight.map_or(0, |weight| weight.shape.iter().product::<usize>());
            [
                own.path.clone(),
                width(known.and_then(|layer| layer.weight_bits)),
                own.weight.to_string(),
                width(known.and_then(|layer| layer.input_bits)),
                own.input.to_string(),
                thousands(weights as u64),
                thousands(known.map_or(0, |layer| layer.operations)),
            ]
        })),
    )
}

/// The network of integers beside the simulation, tensor by tensor.
fn integers(run: &RunAnalysis) -> Option<Table> {
    let found = run.integers.as_ref()?;
    let rows = found.tensors.iter().map(|tensor| {
        let share = tensor.different as f64 / tensor.numbers.max(1) as f64;
        [
            tensor.place.clone(),
            thousands(tensor.numbers),
            thousands(tensor.different),
            percent(share),
        ]
    });
    let headings = ["tensor", "numbers", "that differ", "share"];
    Some(Table::new(headings).with_rows(rows))
}

fn epochs(run: &RunAnalysis) -> Option<Table> {
    let headings = [
        "epoch",
        "learning rate",
        "training loss",
        "training accuracy",
        "test loss",
        "test accuracy",
    ];
    let rows = run.epochs.iter().map(|epoch| {
        [
            epoch.epoch.to_string(),
            short(epoch.lr),
            short(epoch.train_loss),
            percent(epoch.train_accuracy),
            short(epoch.test_loss),
            percent(epoch.test_accuracy),
        ]
    });
    (!run.epochs.is_empty()).then(|| Table::new(headings).with_rows(rows))
}
