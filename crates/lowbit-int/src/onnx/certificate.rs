//! Which operators of a file have the integers' bits in which runtime.
//!
//! The rules, which `docs/onnx.md` states with their reasons and what was measured:
//!
//! 1. Integers below 2^24 times a power of two are exact in `f32`, and so are sums all of whose partial
//!    sums, in any order, are below 2^24 of their step. Every step of a file is a power of two.
//! 2. A requantization of an exact sum is one function of one number that does not fall, in integers
//!    and in `f32`. The two are compared at the ends of all its steps, within the sum's proven interval.
//! 3. Integer operators are exact while their sums fit 32 or 64 bits.

use std::fmt;

use serde::{Serialize, Serializer};

use super::plan::{EXACT, Plan, magnitude};
use super::requantize::{Agreement, Example, Form};
use super::runtimes::Programs;
use super::{Dialect, ExportError, Options, float, model};
use crate::graph::{Graph, Node};
use crate::ops::Operator;

/// What runs a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// ONNX Runtime without optimizations.
    OrtDisabled,
    /// ONNX Runtime with its basic optimizations.
    OrtBasic,
    /// ONNX Runtime with its extended optimizations, which fuse quantizers.
    OrtExtended,
    /// ONNX Runtime with all optimizations.
    OrtAll,
    /// ONNX's reference evaluator, in numpy.
    Numpy,
    /// The `qonnx` package's executor.
    Qonnx,
    /// tract, with its optimizations.
    Tract,
    /// rten, with its optimizations.
    Rten,
}

impl Runtime {
    /// Runtimes that no dialect is written for. Which operators they have, a certificate says beside.
    pub const OTHERS: [Self; 2] = [Self::Tract, Self::Rten];

    /// The runtimes that a dialect is written for.
    pub fn of(dialect: Dialect) -> &'static [Self] {
        match dialect {
            Dialect::Qonnx => &[Self::Qonnx],
            Dialect::Qdq | Dialect::QOperator => &[
                Self::OrtDisabled,
                Self::OrtBasic,
                Self::OrtExtended,
                Self::OrtAll,
                Self::Numpy,
            ],
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::OrtDisabled => "ort-disabled",
            Self::OrtBasic => "ort-basic",
            Self::OrtExtended => "ort-extended",
            Self::OrtAll => "ort-all",
            Self::Numpy => "numpy",
            Self::Qonnx => "qonnx",
            Self::Tract => "tract",
            Self::Rten => "rten",
        })
    }
}

impl Serialize for Runtime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What holds of an operator's integers, given the same integers before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Verdict {
    /// The same for every input.
    #[serde(rename = "EXACT")]
    Exact,
    /// The same but where a number lies halfway between two of the output.
    #[serde(rename = "EXACT UNLESS TIE")]
    ExactUnlessTie,
    /// Not the same for every input, or not proven to be.
    #[serde(rename = "DIFFERS")]
    Differs,
    /// The runtime has no such operator, or not of these types, and takes no file with it.
    #[serde(rename = "CANNOT RUN")]
    CannotRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::Exact => "EXACT",
            Self::ExactUnlessTie => "EXACT UNLESS TIE",
            Self::Differs => "DIFFERS",
            Self::CannotRun => "CANNOT RUN",
        })
    }
}

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The node's name.
    pub node: String,
    /// The operator's name, as JSON files have it.
    pub operator: String,
    /// A verdict for each of the certificate's runtimes.
    pub verdicts: Vec<Verdict>,
    /// Why.
    pub reason: String,
    /// What holds in the runtimes that no dialect is written for.
    pub others: Vec<Elsewhere>,
}

/// What holds of an operator in a runtime that no dialect is written for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Elsewhere {
    /// One of [`Runtime::OTHERS`].
    pub runtime: Runtime,
    /// What holds.
    pub verdict: Verdict,
    /// Why, if it is not for the entry's reason.
    pub reason: String,
}

/// What holds of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The dialect's name.
    pub dialect: String,
    /// The runtimes that the dialect is written for.
    pub runtimes: Vec<Runtime>,
    /// The operators, in the order in which they run.
    pub entries: Vec<Entry>,
    /// Convolutions and linear layers two neighbouring products of which may be beyond 16 bits. ONNX
    /// Runtime adds products of bytes in pairs that saturate at 16 bits on x86 processors without VNNI,
    /// where it has operators on integers: in `onnx-qoperator` always, in `onnx-qdq` from the extended
    /// level on. There, these differ. With weights of 7 bits there are none.
    pub saturates_without_vnni: Vec<String>,
}

impl Certificate {
    /// The worst verdict of a runtime: what holds of the network. `None` of a runtime that is not
    /// judged.
    pub fn verdict(&self, runtime: Runtime) -> Option<Verdict> {
        let place = self.runtimes.iter().position(|&r| r == runtime);
        if place.is_none() && !Runtime::OTHERS.contains(&runtime) {
            return None;
        }
        let verdicts = self.entries.iter().filter_map(|entry| match place {
            Some(place) => Some(entry.verdicts[place]),
            None => {
                let found = entry.others.iter().find(|other| other.runtime == runtime);
                found.map(|other| other.verdict)
            }
        });
        Some(verdicts.max().unwrap_or(Verdict::Exact))
    }

    /// Whether every runtime that the dialect is written for has the integers' bits on every input.
    pub fn is_exact(&self) -> bool {
        let mut runtimes = self.runtimes.iter();
        runtimes.all(|&runtime| self.verdict(runtime) == Some(Verdict::Exact))
    }

    /// The certificate as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and verdicts are JSON")
    }
}

/// A line a node: its verdict for each runtime, and why.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let width = self.entries.iter().map(|entry| entry.node.chars().count());
        let width = width.max().unwrap_or(0).max(4);
        write!(f, "{:width$}", "node")?;
        for runtime in self.runtimes.iter().chain(&Runtime::OTHERS) {
            write!(f, "  {runtime:16}")?;
        }
        writeln!(f, "  reason")?;
        for entry in &self.entries {
            write!(f, "{:width$}", entry.node)?;
            let others = entry.others.iter().map(|other| &other.verdict);
            for verdict in entry.verdicts.iter().chain(others) {
                write!(f, "  {verdict:16}")?;
            }
            write!(f, "  {}", entry.reason)?;
            for other in entry.others.iter().filter(|o| !o.reason.is_empty()) {
                write!(f, "; {}", other.reason)?;
            }
            writeln!(f)?;
        }
        if !self.saturates_without_vnni.is_empty() {
            let nodes = self.saturates_without_vnni.join(", ");
            writeln!(f, "may saturate on x86 without VNNI: {nodes}")?;
        }
        Ok(())
    }
}

/// The certificate of the file that [`write`](super::write) makes.
///
/// # Errors
///
/// As of [`write`](super::write).
pub fn certificate(graph: &Graph, options: impl Into<Options>) -> Result<Certificate, ExportError> {
    let options = options.into();
    let (file, plans) = model(graph, options)?;
    let file = file.graph.unwrap_or_default();
    let programs = Programs::new(graph, &file);
    let runtimes = Runtime::of(options.dialect);
    let entries = graph.nodes().iter().map(|node| {
        let (verdict, mut reason) = of_node(graph, node, options, &plans);
        let mut verdicts = vec![verdict; runtimes.len()];
        let others = programs.others(node, verdict);
        let numpy = runtimes.iter().position(|&r| r == Runtime::Numpy);
        if let (Some(place), Some((found, why))) = (numpy, programs.numpy(node, options.dialect))
            && found > verdict
        {
            verdicts[place] = found;
            reason = format!("{reason}; {why}");
        }
        Entry {
            node: node.name().into(),
            operator: operator_name(node.operator()),
            verdicts,
            reason,
            others,
        }
    });
    let nodes = graph.nodes().iter();
    let saturating = nodes.filter(|node| {
        options.dialect != Dialect::Qonnx && pairs_reach_beyond_16_bits(graph, node)
    });
    Ok(Certificate {
        dialect: options.dialect.to_string(),
        saturates_without_vnni: saturating.map(|node| node.name().into()).collect(),
        entries: entries.collect(),
        runtimes: runtimes.to_vec(),
    })
}

/// What holds of a node in runtimes without defects.
fn of_node(
    graph: &Graph,
    node: &Node,
    options: Options,
    plans: &float::Plans,
) -> (Verdict, String) {
    if let Some(loss) = loss_at_output(graph, node) {
        return (Verdict::Differs, loss);
    }
    match plans.get(&node.output()) {
        _ if options.dialect == Dialect::QOperator => {
            let reason = "integers, rounded where all sums agree";
            (Verdict::Exact, reason.into())
        }
        Some(plan) => of_requantization(plan),
        None => of_sum(graph, node, float::is_folded(graph, node, plans)),
    }
}

fn operator_name(operator: &Operator) -> String {
    let value = serde_json::to_value(operator).unwrap_or_default();
    value["op"].as_str().unwrap_or_default().into()
}

/// Whether two products of bytes, as runtimes hold them, may be beyond 16 bits together.
fn pairs_reach_beyond_16_bits(graph: &Graph, node: &Node) -> bool {
    let weights = match node.operator() {
        Operator::Convolution(convolution) if convolution.transposed.is_none() => {
            &convolution.weights
        }
        Operator::Linear(linear) => &linear.weights,
        _ => return false,
    };
    let input = graph.tensor(node.inputs()[0]);
    let numbers = input.numbers();
    if numbers.bits() > 8 || weights.numbers.bits() > 8 || !weights.numbers.signed() {
        return false;
    }
    // Integers with sign are held 128 higher.
    let raised = if numbers.signed() { 128 } else { 0 };
    let greatest = (input.interval().greatest + raised).unsigned_abs();
    let weight = weights.values.iter().map(|w| w.unsigned_abs()).max();
    2 * greatest * weight.unwrap_or(0) > 32_767
}

/// Rule 2.
fn of_requantization(plan: &Plan) -> (Verdict, String) {
    match plan.form {
        Form::Integers => (Verdict::Exact, "in integers".into()),
        _ => of_agreement(&plan.agreement),
    }
}

/// What an agreement says.
pub(super) fn of_agreement(agreement: &Agreement) -> (Verdict, String) {
    let example = |example: &Example| {
        let Example {
            sum,
            expected,
            found,
        } = example;
        format!("of {sum} it makes {found} instead of {expected}")
    };
    match agreement {
        Agreement::Same => (Verdict::Exact, "equal at every step".into()),
        Agreement::UnlessTie(at) => (Verdict::ExactUnlessTie, example(at)),
        Agreement::Differs(at) => (Verdict::Differs, example(at)),
        Agreement::Untried => (Verdict::Differs, "more than 2^16 outputs, not tried".into()),
    }
}

/// Rule 1.
fn of_sum(graph: &Graph, node: &Node, folded: bool) -> (Verdict, String) {
    let inputs = graph.inputs_of(node);
    let output = graph.tensor(node.output());
    for tensor in inputs.iter().copied().chain([output]) {
        let reach = magnitude(tensor);
        if reach >= EXACT {
            let name = tensor.name();
            return (
                Verdict::Differs,
                format!("{name} reaches {reach}, f32 holds 2^24"),
            );
        }
    }
    let bounds = node.operator().operation().bounds(&inputs, output.shape());
    let partial = bounds
        .iter()
        .flatten()
        .map(|bound| bound.partial.magnitude());
    match partial.max() {
        Some(partial) if partial >= EXACT => {
            let reason = format!("partial sums reach {partial}, f32 holds 2^24");
            (Verdict::Differs, reason)
        }
        Some(partial) if folded => (
            Verdict::Exact,
            format!("sums below 2^24, {partial} times the multiplier"),
        ),
        Some(partial) => (Verdict::Exact, format!("partial sums of at most {partial}")),
        None => (Verdict::Exact, "integers below 2^24".into()),
    }
}

/// An output's floats say which integers they stand for up to 2^20 steps from zero, where their scale
/// is no power of two; else up to 2^24.
fn loss_at_output(graph: &Graph, node: &Node) -> Option<String> {
    if !graph.outputs().contains(&node.output()) {
        return None;
    }
    let output = graph.tensor(node.output());
    let most = if output.numbers().exponent().is_some() {
        EXACT
    } else {
        EXACT >> 4
    };
    let reach = magnitude(output);
    (reach >= most).then(|| format!("the output reaches {reach} steps, its floats hold {most}"))
}
