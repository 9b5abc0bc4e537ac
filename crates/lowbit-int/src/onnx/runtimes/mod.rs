//! Where programs have another arithmetic than the dialects are written for: tract 0.23 and rten 0.27, for
//! which none is written, and ONNX's reference evaluator.
//!
//! The rules are those of the programs' sources, which each rule names; `benches/peers/onnx_rust` runs
//! tract and rten and holds these verdicts against them. What neither the dialect's verdict nor a rule
//! says otherwise is exact there for the dialect's reasons: both quantize by the reciprocal of a step,
//! which is a power of two, round half to even and add the zero point then.

mod file;
mod numpy;
mod rten;
mod tract;

use super::Dialect;
use super::certificate::{Elsewhere, Runtime, Verdict};
use super::plan::{magnitude, readers};
use super::proto::{GraphProto, TensorProto};
use super::requantize::{Agreement, Arithmetic, Fit, Form};
use crate::graph::{Graph, Node};
use crate::ops::{Operator, Requantize};
use crate::tensor::Tensor;
use file::{File, floats};

/// What holds of an operator, and why.
type Found = Option<(Verdict, String)>;

/// Judges the operators of a file.
pub(super) struct Programs<'a> {
    graph: &'a Graph,
    file: File<'a>,
}

impl<'a> Programs<'a> {
    pub(super) fn new(graph: &'a Graph, file: &'a GraphProto) -> Self {
        Self {
            graph,
            file: File::new(graph, file),
        }
    }

    /// What holds of a node, and of the quantizers of inputs that it reads, where runtimes without
    /// defects have the `verdict`.
    pub(super) fn others(&self, node: &Node, verdict: Verdict) -> Vec<Elsewhere> {
        let judged = Runtime::OTHERS.map(|runtime| match self.found(node, runtime) {
            Some((found, reason)) if found > verdict => Elsewhere {
                runtime,
                verdict: found,
                reason,
            },
            _ => Elsewhere {
                runtime,
                verdict,
                reason: String::new(),
            },
        });
        judged.into()
    }

    /// What holds of a node in ONNX's reference evaluator, where it has rules of its own.
    pub(super) fn numpy(&self, node: &Node, dialect: Dialect) -> Found {
        numpy::judge(self.graph, node, &self.file, dialect)
    }

    fn found(&self, node: &Node, runtime: Runtime) -> Found {
        let graph = self.graph;
        let inputs = node.inputs().iter();
        let inputs = inputs.filter(|id| graph.inputs().contains(id));
        let names = inputs.map(|&id| graph.tensor(id).name());
        let names = names.chain([node.name()]);
        let of_file = names
            .flat_map(|name| self.file.of(name))
            .map(|file_node| match runtime {
                Runtime::Tract => tract::judge(graph, node, &self.file, file_node),
                Runtime::Rten => rten::judge(graph, node, &self.file, file_node),
                _ => None,
            });
        let found = of_file.chain([beyond_32_bits(graph, node)]).flatten();
        found.reduce(|worst, found| if found.0 > worst.0 { found } else { worst })
    }
}

/// How a `QLinearConv`'s requantization in such a form, with these scales for all channels or one each,
/// compares with the integers.
fn agreement(graph: &Graph, node: &Node, scales: &TensorProto, form: Form) -> Option<Agreement> {
    let ratios: Vec<f32> = floats(scales).collect();
    let (readers, _) = readers(graph, node);
    let Operator::Requantize(requantize) = readers.first()?.operator() else {
        return None;
    };
    let numbers = requantize.numbers;
    let arithmetic = |channel: usize| Arithmetic {
        step: 1.0,
        ratio: *ratios.get(channel).unwrap_or(&ratios[0]),
        offset: 0.0,
        output: 1.0,
        form,
        zero_point: numbers.zero_point(),
        least: numbers.least(),
        greatest: numbers.greatest(),
    };
    let sums = graph.tensor(node.output());
    let fit = Fit::of(requantize, sums, ratios.len(), false, arithmetic);
    Some(fit.agreement)
}

/// Both quantizers make an `int32` of the rounded quotient before they add the zero point and saturate
/// (`tract-core/src/ops/quant.rs`, `rten-vecmath/src/quantize.rs`).
fn beyond_32_bits(graph: &Graph, node: &Node) -> Found {
    let Operator::Requantize(requantize) = node.operator() else {
        return None;
    };
    let reach = quotients(requantize, graph.tensor(node.inputs()[0]));
    let fits = reach < (1 << 31) - (1 << 17);
    let reason = || format!("numbers of {reach} steps saturate after they are int32");
    (!fits).then(|| (Verdict::Differs, reason()))
}

/// The greatest magnitude of what a requantization makes before it saturates.
fn quotients(requantize: &Requantize, sums: &Tensor) -> u128 {
    let zero = sums.numbers().zero_point();
    let channels = sums.intervals().iter().enumerate();
    let reach = channels.map(|(channel, ends)| {
        let (multiplier, offset, shift) = requantize.constants(channel);
        let scaled = |x: i64| {
            let scaled = i128::from(multiplier) * i128::from(x - zero) + i128::from(offset);
            (scaled.unsigned_abs() >> shift) + 1
        };
        scaled(ends.least).max(scaled(ends.greatest))
    });
    reach.max().unwrap_or(0)
}

/// Whether a node reads or makes integers that are beyond 32 bits.
fn is_wide(graph: &Graph, node: &Node) -> bool {
    let inputs = graph.inputs_of(node);
    let mut tensors = inputs.into_iter().chain([graph.tensor(node.output())]);
    tensors.any(|tensor| tensor.interval().magnitude().max(magnitude(tensor)) >= 1 << 31)
}
