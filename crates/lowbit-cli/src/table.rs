//! Tables for a person.

use lowbit::calibrate::Measured;
use lowbit::report::AccumulatorBits;
use lowbit::train::bench::{ConvolutionTimes, StepTimes};
use lowbit::train::{Evaluation, LayerWidths, RunResult};

/// Lines of cells, the first column to the left and the others to the right.
pub(crate) fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells =
            row.as_ref()
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(i, (cell, width))| match i {
                    0 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn percent(fraction: f64) -> String {
    format!("{:.2} %", 100.0 * fraction)
}

/// A number with its thousands set apart.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One line a run.
pub(crate) fn results(results: &[RunResult]) -> String {
    let mut rows = vec![
        [
            "run",
            "accuracy",
            "loss",
            "best (epoch)",
            "seconds",
            "images/s",
            "model bits",
        ]
        .map(String::from),
    ];
    rows.extend(results.iter().map(|run| {
        [
            run.name.clone(),
            percent(run.accuracy),
            format!("{:.4}", run.loss),
            format!("{} ({})", percent(run.best_accuracy), run.best_epoch),
            format!("{:.1}", run.seconds),
            format!("{:.0}", run.images_per_second),
            thousands(run.model_bits),
        ]
    }));
    table(&rows)
}

/// The result of a test.
pub(crate) fn evaluation(evaluation: &Evaluation) -> String {
    table(&[
        [
            "run",
            "accuracy",
            "loss",
            "images",
            "model bits",
            "checkpoint",
        ]
        .map(String::from),
        [
            evaluation.name.clone(),
            percent(evaluation.accuracy),
            format!("{:.4}", evaluation.loss),
            thousands(evaluation.images),
            thousands(evaluation.model_bits),
            evaluation
                .checkpoint
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        ],
    ])
}

/// One line a layer that quantizes something.
pub(crate) fn layer_widths(layers: &[LayerWidths]) -> String {
    let heading = ["layer", "type", "input", "weight", "bias", "sum", "output"];
    let mut rows = vec![heading.map(String::from)];
    let bits = |bits: Option<u32>| bits.map_or("float".into(), |bits| bits.to_string());
    rows.extend(layers.iter().map(|layer| {
        [
            layer.path.clone(),
            layer.layer_type.to_string(),
            bits(layer.input),
            bits(layer.weight),
            bits(layer.bias),
            bits(layer.accumulator),
            bits(layer.output),
        ]
    }));
    table(&rows)
}

/// One line a quantized tensor.
pub(crate) fn measured(tensors: &[Measured]) -> String {
    let heading = [
        "tensor",
        "bits",
        "threshold",
        "log2",
        "clipped",
        "SQNR",
        "cosine",
    ];
    let mut rows = vec![heading.map(String::from)];
    let span = |values: &[f32], form: fn(f32) -> String| {
        let least = form(values.iter().copied().fold(f32::INFINITY, f32::min));
        let most = form(values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        match least == most {
            true => least,
            false => format!("{least}..{most}"),
        }
    };
    rows.extend(tensors.iter().map(|tensor| {
        let sign = if tensor.signed { 's' } else { 'u' };
        [
            tensor.path.clone(),
            format!("{sign}{}", tensor.bits),
            span(&tensor.threshold, |t| t.to_string()),
            span(&tensor.log2_threshold, |t| format!("{t:.3}")),
            format!("{:.4} %", 100.0 * tensor.clipped),
            tensor.sqnr.map_or("-".into(), |db| format!("{db:.1} dB")),
            tensor.cosine.map_or("-".into(), |c| format!("{c:.6}")),
        ]
    }));
    table(&rows)
}

/// One line a way to make the step, then where its time went.
pub(crate) fn step_times(times: &StepTimes) -> String {
    let mut rows = vec![
        [
            "step",
            "seconds",
            "images/s",
            "time over float",
            "inference images/s",
            "of peak",
        ]
        .map(String::from),
    ];
    let or_dash = |number: Option<f64>| number.map_or("-".into(), |n| format!("{n:.3}"));
    rows.extend(times.steps.iter().map(|step| {
        [
            step.name.clone(),
            format!("{:.4}", step.seconds),
            format!("{:.0}", step.images_per_second),
            or_dash(step.ratio_to_float),
            format!("{:.0}", step.inference_images_per_second),
            or_dash(step.fraction_of_peak),
        ]
    }));
    let mut text = format!(
        "{}, batch {}, {} threads, median of {} rounds\n\
         multiply-add peak {:.0} GFLOP/s, {} of memory\n",
        times.model,
        times.batch,
        times.threads,
        times.rounds,
        times.peak_operations_per_second / 1e9,
        times
            .memory_bytes
            .map_or("an unknown amount".into(), |bytes| format!(
                "{} MiB",
                bytes >> 20
            )),
    );
    text += &table(&rows);
    for step in times.steps.iter().filter(|step| !step.operators.is_empty()) {
        let mut rows = vec![[step.name.as_str(), "share of the step", "of peak"].map(String::from)];
        rows.extend(step.operators.iter().map(|operator| {
            [
                operator.name.clone(),
                format!("{:.3}", operator.share),
                or_dash(operator.fraction_of_peak),
            ]
        }));
        let named: f64 = step.operators.iter().map(|operator| operator.share).sum();
        rows.push(["the rest".into(), format!("{:.3}", 1.0 - named), "-".into()]);
        text += "\n";
        text += &table(&rows);
    }
    text
}

/// One line a layer.
pub(crate) fn accumulators(layers: &[AccumulatorBits]) -> String {
    let mut rows = vec![
        [
            "layer",
            "type",
            "input",
            "weight",
            "terms",
            "bits by shape",
            "by weights",
            "given",
            "exact in f32",
        ]
        .map(String::from),
    ];
    rows.extend(layers.iter().map(|layer| {
        let sign = if layer.input_signed { "" } else { "u" };
        let given = layer.given.map_or("-".into(), |bits| {
            let short = if layer.is_enough() {
                ""
            } else {
                " (may saturate)"
            };
            format!("{bits}{short}")
        });
        [
            layer.path.clone(),
            layer.layer_type.into(),
            format!("{sign}{}", layer.input),
            layer.weight.to_string(),
            thousands(layer.terms as u64),
            layer.needed_by_shape.to_string(),
            layer.needed_by_weights.to_string(),
            given,
            if layer.exact_in_f32 { "yes" } else { "no" }.into(),
        ]
    }));
    table(&rows)
}

/// One line a convolution. The bound is the longer of its operations at the peak and its bytes at
/// the speed of a copy.
pub(crate) fn convolution_times(times: &ConvolutionTimes) -> String {
    let mut rows = vec![
        [
            "convolution",
            "peak GFLOP/s",
            "forward ms",
            "of peak",
            "of bound",
            "backward ms",
            "of peak",
            "of bound",
        ]
        .map(String::from),
    ];
    rows.extend(times.convolutions.iter().map(|c| {
        let [inputs, outputs] = c.channels;
        let (kernel, size) = (c.kernel, c.size);
        let stride = if c.stride > 1 { "/2" } else { "" };
        [
            format!(
                "{} {kernel}x{kernel}{stride} {inputs}->{outputs} at {size}",
                c.network
            ),
            format!("{:.0}", c.peak_operations_per_second / 1e9),
            format!("{:.2}", c.forward_seconds * 1e3),
            format!("{:.2}", c.forward_fraction_of_peak),
            format!("{:.2}", c.forward_fraction_of_bound),
            format!("{:.2}", c.backward_seconds * 1e3),
            format!("{:.2}", c.backward_fraction_of_peak),
            format!("{:.2}", c.backward_fraction_of_bound),
        ]
    }));
    let heading = format!(
        "batch {}, {} threads, median of {} rounds\n",
        times.batch, times.threads, times.rounds
    );
    heading + &table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(431_080), "431,080");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["run", "loss"], ["float", "1"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "run    loss\nfloat     1\n");
    }
}
