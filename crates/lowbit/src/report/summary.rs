//! Tables of what training, quantizing and timing came to.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use lowbit_formats::swamping::Swamping;
use lowbit_int::proof::{NodeProof, Proof};

use super::table::{Alignment, Table, percent, thousands};
use crate::analysis::AccumulatorBits;
use crate::bench::{ConvolutionTimes, StepTime, StepTimes};
use crate::calibrate::Measured;
use crate::config::{Method, widths_text};
use crate::integer::{Comparison, IntegerNetwork};
use crate::quantizers::Slot;
use crate::train::{Evaluation, LayerWidths, NamedRecipe, RunResult};

/// One line a run; of a spiking network, spikes and synaptic operations for an image, too. Where weights were averaged, it is of the average, and tells the accuracy of the
/// last weights, too.
pub fn results(results: &[RunResult]) -> Table {
    let averaged = results.iter().any(|run| run.last_weights.is_some());
    let top5 = results.iter().any(|run| run.top5_accuracy.is_some());
    let headings = ["loss", "best (epoch)", "seconds", "images/s", "model bits"];
    let first = ["run", "accuracy"].into_iter();
    let first = first.chain(top5.then_some("top-5"));
    let last = averaged.then_some("last weights");
    let held_out = results.iter().any(|run| run.held_out.is_some());
    let held = held_out.then_some("held out (best)");
    let spikes = results.iter().any(|run| run.activity.is_some());
    let counted = ["spikes", "synaptic operations"]
        .into_iter()
        .filter(|_| spikes);
    let headings = first.chain(headings).chain(last).chain(held).chain(counted);
    Table::new(headings).with_rows(results.iter().map(|run| {
        let weights = run.last_weights.as_ref();
        let last = weights.map_or("-".into(), |last| percent(last.accuracy));
        let first = [run.name.clone(), percent(run.accuracy)].into_iter();
        let first = first.chain(top5.then(|| or_percent(run.top5_accuracy)));
        let row = [
            format!("{:.4}", run.loss),
            format!("{} ({})", percent(run.best_accuracy), run.best_epoch),
            format!("{:.1}", run.seconds),
            format!("{:.0}", run.images_per_second),
            thousands(run.model_bits),
        ];
        let last = averaged.then_some(last);
        let held = run.held_out.as_ref();
        let held = held.map_or("-".into(), |held| percent(held.best.accuracy));
        let held = held_out.then_some(held);
        let counted = run.activity.map_or(["-".into(), "-".into()], |activity| {
            [activity.spikes, activity.synaptic_operations].map(|n| thousands(n.round() as u64))
        });
        let counted = counted.into_iter().filter(|_| spikes);
        let first = first.chain(row).chain(last).chain(held);
        first.chain(counted).collect::<Vec<_>>()
    }))
}

/// The hash of each run's weights, which anyone who has the configuration can compare. `None` of runs that were
/// finished before there were hashes.
pub fn hashes(results: &[RunResult]) -> Option<Table> {
    let hashes = results.iter().filter_map(|run| {
        let hash = run.weights_sha256.clone()?;
        Some([run.name.clone(), hash])
    });
    let hashes: Vec<_> = hashes.collect();
    let table = || Table::new(["run", "weights sha256"]).with_rows(hashes.clone());
    (!hashes.is_empty()).then(table)
}

fn or_percent(share: Option<f64>) -> String {
    share.map_or("-".into(), percent)
}

/// The teacher, and one line a run: what it came to after the last epoch, and at its best.
pub fn distillation(teacher: &Evaluation, results: &[RunResult]) -> Table {
    let held_out = results.iter().any(|run| run.held_out.is_some());
    let headings = ["network", "accuracy", "loss", "best (epoch)", "model bits"];
    let held = held_out.then_some("held out (best)");
    let first = [
        format!("{} (teacher)", teacher.name),
        percent(teacher.accuracy),
        format!("{:.4}", teacher.loss),
        "-".into(),
        thousands(teacher.model_bits),
    ];
    let first = first.into_iter().chain(held_out.then(|| "-".into()));
    let rows = results.iter().map(|run| {
        let row = [
            run.name.clone(),
            percent(run.accuracy),
            format!("{:.4}", run.loss),
            format!("{} ({})", percent(run.best_accuracy), run.best_epoch),
            thousands(run.model_bits),
        ];
        let held = run.held_out.as_ref();
        let held = held.map_or("-".into(), |held| percent(held.best.accuracy));
        let held = held_out.then_some(held);
        row.into_iter().chain(held).collect::<Vec<_>>()
    });
    Table::new(headings.into_iter().chain(held))
        .with_rows([first.collect::<Vec<_>>()])
        .with_rows(rows)
}

/// One line a recipe.
pub fn recipes(recipes: &[NamedRecipe]) -> Table {
    let lines = recipes
        .iter()
        .map(|recipe| [recipe.name, recipe.about()].map(String::from));
    let mut table = Table::new(["recipe", "what it trains"]).with_rows(lines);
    table.columns[1].alignment = Alignment::Left;
    table
}

/// One line a quantization method.
pub fn methods(methods: &[Method]) -> Table {
    let widths = |widths: Option<RangeInclusive<u32>>| match widths {
        Some(widths) => widths_text(&widths),
        None => "-".into(),
    };
    let lines = methods.iter().map(|&method| {
        let learns = method.learns().into_iter();
        let learns: Vec<String> = learns
            .map(|(slot, field)| format!("{slot} {field}"))
            .collect();
        [
            method.to_string(),
            widths(method.weight_bits()),
            widths(method.activation_bits()),
            if learns.is_empty() {
                "-".into()
            } else {
                learns.join(", ")
            },
            method.source().into(),
            method.what().into(),
        ]
    });
    let headings = ["method", "wbits", "abits", "learns", "source", "quantizes"];
    let mut table = Table::new(headings).with_rows(lines);
    for column in &mut table.columns {
        column.alignment = Alignment::Left;
    }
    table
}

/// One line a way to make sums: the last and the largest sum, and the error of the last.
pub fn sums(found: &Swamping, names: &[String]) -> Table {
    let exact = found.exact.last().copied().unwrap_or_default();
    let products = found.lengths.last().copied().unwrap_or_default();
    let caption = format!("{} products, exact sum {exact}", thousands(products as u64));
    let headings = ["sum", "result", "error"];
    let rows = found.sums.iter().zip(names).map(|(sums, name)| {
        let last = sums.last().copied().unwrap_or_default();
        let error = 100.0 * (f64::from(last) - exact) / exact;
        [name.clone(), last.to_string(), format!("{error:.2} %")]
    });
    Table::new(headings).with_rows(rows).with_caption(caption)
}

/// The result of a test.
pub fn evaluation(evaluation: &Evaluation) -> Table {
    let top5 = evaluation.top5_accuracy;
    let first = ["run", "accuracy"].into_iter().chain(top5.map(|_| "top-5"));
    let headings = first.chain(["loss", "images", "model bits", "checkpoint"]);
    let checkpoint = evaluation.checkpoint.file_name().unwrap_or_default();
    let first = [evaluation.name.clone(), percent(evaluation.accuracy)];
    let first = first.into_iter().chain(top5.map(percent));
    let row = [
        format!("{:.4}", evaluation.loss),
        thousands(evaluation.images),
        thousands(evaluation.model_bits),
        checkpoint.to_string_lossy().into_owned(),
    ];
    Table::new(headings).with_rows([first.chain(row).collect::<Vec<_>>()])
}

/// One line a layer, with a column for each slot that some layer has.
pub fn layer_widths(layers: &[LayerWidths]) -> Table {
    let every = layers.iter().flat_map(|layer| layer.slots.iter());
    let slots: BTreeSet<Slot> = every.map(|(slot, _)| slot.into()).collect();
    let named = slots.iter().map(|slot| match slot.name() {
        Slot::ACCUMULATOR => "sum",
        name => name,
    });
    let headings = ["layer", "type"].into_iter().chain(named);
    Table::new(headings).with_rows(layers.iter().map(|layer| {
        let bits = slots.iter().map(|slot| match layer.slots.get(slot.name()) {
            Some(Some(bits)) => bits.to_string(),
            _ => "float".into(),
        });
        let layer = [layer.path.clone(), layer.layer_type.to_string()];
        layer.into_iter().chain(bits).collect::<Vec<_>>()
    }))
}

/// One line a node of a network of integers: the bits that its results need, of sums those of the
/// accumulator, and whether `f32` has the same bits; of those that were compared, how many numbers differ
/// from the simulation's.
pub fn integers(network: &IntegerNetwork, comparison: Option<&Comparison>) -> Table {
    let graph = network.graph();
    let compared = comparison.map(|c| &c.tensors[..]).unwrap_or_default();
    let headings = ["node", "operator", "shape", "bits", "in f32", "different"];
    let proof = Proof::of(graph);
    let rows = graph
        .nodes()
        .iter()
        .zip(proof.nodes())
        .map(|(node, proof)| {
            let shape = graph.tensor(node.output()).shape();
            let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
            let seen = compared.iter().find(|t| t.place == node.name());
            let different = seen.map_or("".into(), |t| {
                format!("{} of {}", thousands(t.different), thousands(t.numbers))
            });
            [
                node.name().to_string(),
                node.operator().name().to_string(),
                shape.join("x"),
                proof.bits.to_string(),
                in_f32(network, proof),
                different,
            ]
        });
    let mut table = Table::new(headings).with_rows(rows);
    for column in [1, 4] {
        table.columns[column].alignment = Alignment::Left;
    }
    table
}

/// Whether a node's results are those of 32-bit floats.
fn in_f32(network: &IntegerNetwork, proof: &NodeProof) -> String {
    match network.verified().contains(&proof.node) {
        true => "proven for each integer".into(),
        false => proof.exactness.to_string(),
    }
}

/// One line a quantized tensor.
pub fn measured(tensors: &[Measured]) -> Table {
    let headings = [
        "tensor",
        "bits",
        "threshold",
        "log2",
        "clipped",
        "SQNR",
        "cosine",
    ];
    let span = |values: &[f64], form: fn(f64) -> String| {
        if values.is_empty() {
            return "-".into();
        }
        let least = form(values.iter().copied().fold(f64::INFINITY, f64::min));
        let most = form(values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        match least == most {
            true => least,
            false => format!("{least}..{most}"),
        }
    };
    Table::new(headings).with_rows(tensors.iter().map(|tensor| {
        let sign = if tensor.signed { 's' } else { 'u' };
        let log2: Vec<f64> = tensor.log2_threshold.iter().map(|&t| t.into()).collect();
        [
            tensor.path.clone(),
            format!("{sign}{}", tensor.bits),
            span(&tensor.threshold, |t| t.to_string()),
            span(&log2, |t| format!("{t:.3}")),
            format!("{:.4} %", 100.0 * tensor.clipped),
            tensor.sqnr.map_or("-".into(), |db| format!("{db:.1} dB")),
            tensor.cosine.map_or("-".into(), |c| format!("{c:.6}")),
        ]
    }))
}

/// One line a kind of step; then, for each that tells, a table of where its time went.
pub fn step_times(times: &StepTimes) -> Vec<Table> {
    let memory = times.memory_bytes;
    let memory = memory.map_or("an unknown amount".into(), |bytes| {
        format!("{} MiB", bytes >> 20)
    });
    let caption = format!(
        "{}, batch {}, {} threads, median of {} rounds\n\
         multiply-add peak {:.0} GFLOP/s, {memory} of memory",
        times.model,
        times.batch,
        times.threads,
        times.rounds,
        times.peak_operations_per_second / 1e9,
    );
    let headings = [
        "step",
        "seconds",
        "images/s",
        "time over float",
        "inference images/s",
        "of peak",
    ];
    let steps = times.steps.iter().map(|step| {
        [
            step.name.clone(),
            format!("{:.4}", step.seconds),
            format!("{:.0}", step.images_per_second),
            or_dash(step.ratio_to_float),
            format!("{:.0}", step.inference_images_per_second),
            or_dash(step.fraction_of_peak),
        ]
    });
    let mut tables = vec![Table::new(headings).with_caption(caption).with_rows(steps)];
    let told = times.steps.iter().filter(|step| !step.operators.is_empty());
    tables.extend(told.map(operators));
    tables
}

/// One line an operator of a step.
fn operators(step: &StepTime) -> Table {
    let named: f64 = step.operators.iter().map(|operator| operator.share).sum();
    let rest = ["the rest".into(), format!("{:.3}", 1.0 - named), "-".into()];
    let operators = step.operators.iter().map(|operator| {
        [
            operator.name.clone(),
            format!("{:.3}", operator.share),
            or_dash(operator.fraction_of_peak),
        ]
    });
    Table::new([step.name.as_str(), "share of the step", "of peak"])
        .with_rows(operators)
        .with_rows([rest])
}

fn or_dash(number: Option<f64>) -> String {
    number.map_or("-".into(), |number| format!("{number:.3}"))
}

/// One line a layer.
pub fn accumulators(layers: &[AccumulatorBits]) -> Table {
    let headings = [
        "layer",
        "type",
        "input",
        "weight",
        "terms",
        "bits by shape",
        "by weights",
        "given",
        "saturated",
        "exact in f32",
    ];
    Table::new(headings).with_rows(layers.iter().map(|layer| {
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
            layer
                .saturated
                .map_or("-".into(), |share| format!("{:.4} %", 100.0 * share)),
            if layer.exact_in_f32 { "yes" } else { "no" }.into(),
        ]
    }))
}

/// One line a convolution. The bound is the longer of its operations at the peak and its bytes at
/// the speed of a copy.
pub fn convolution_times(times: &ConvolutionTimes) -> Table {
    let headings = [
        "convolution",
        "peak GFLOP/s",
        "forward ms",
        "of peak",
        "of bound",
        "backward ms",
        "of peak",
        "of bound",
    ];
    let caption = format!(
        "batch {}, {} threads, median of {} rounds",
        times.batch, times.threads, times.rounds
    );
    let convolutions = times.convolutions.iter().map(|c| {
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
    });
    Table::new(headings)
        .with_caption(caption)
        .with_rows(convolutions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Activity;

    #[test]
    fn a_run_is_a_line() {
        let run = RunResult {
            name: "float".into(),
            accuracy: 0.5,
            top5_accuracy: None,
            loss: 1.25,
            best_epoch: 3,
            best_accuracy: 0.75,
            held_out: None,
            last_weights: None,
            seconds: 2.04,
            images_per_second: 1500.4,
            model_bits: 777_024,
            activity: None,
            weights_sha256: None,
            epochs: 4,
            warnings: Vec::new(),
        };
        let expected = "\
run    accuracy    loss  best (epoch)  seconds  images/s  model bits
float   50.00 %  1.2500   75.00 % (3)      2.0      1500     777,024
";
        assert_eq!(results(std::slice::from_ref(&run)).to_string(), expected);
        let run = RunResult {
            top5_accuracy: Some(0.875),
            ..run
        };
        let expected = "\
run    accuracy    top-5    loss  best (epoch)  seconds  images/s  model bits
float   50.00 %  87.50 %  1.2500   75.00 % (3)      2.0      1500     777,024
";
        assert_eq!(results(std::slice::from_ref(&run)).to_string(), expected);
        let run = RunResult {
            top5_accuracy: None,
            activity: Some(Activity {
                spikes: 1234.4,
                synaptic_operations: 56_789.0,
            }),
            ..run
        };
        let table = results(&[run]).to_string();
        let mut lines = table.lines().map(|line| line.split_whitespace().rev());
        assert_eq!(
            lines.next().unwrap().take(3).collect::<Vec<_>>(),
            ["operations", "synaptic", "spikes"]
        );
        assert_eq!(
            lines.next().unwrap().take(2).collect::<Vec<_>>(),
            ["56,789", "1,234"]
        );
    }
}
