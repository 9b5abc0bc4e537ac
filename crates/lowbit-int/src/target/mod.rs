//! The arithmetic of other runtimes and chips, as graphs: a network that computes what they compute.
//!
//! Targets differ in how a sum becomes eight bits again: where half goes, whether it is rounded once or
//! twice, how wide sums are, and whether an average is rounded before or after its step changes.
//! [`for_target`] rebuilds a network so that the interpreter, the engine and every file have the
//! target's integers. No operator means anything else than before: two roundings are two
//! requantizations. What a target cannot do is refused with the node's name.
//!
//! `docs/targets.md` says where each fact is from, and which were compared with the target's own code.

mod add;
mod average;
mod kernels;
mod requantize;
mod scale;

use std::fmt;
use std::str::FromStr;

use crate::error::GraphError;
use crate::graph::{Graph, Node, TensorId};
use crate::onnx::{Dialect, Runtime, Verdict, certificate};
use crate::ops::{Operator, Requantize, Rounding};
use kernels::{Rescaling, Rules};

/// What a network runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The network as it is: one rounding of the exact sum, in the way that each requantization says.
    Generic,
    /// ONNX Runtime on x86, a file in the dialect `onnx-qdq`: `int32` sums become `f32`, are multiplied
    /// with the scale and rounded half to even. Refused where the file is not certified as EXACT.
    OrtX86,
    /// TensorFlow Lite's kernels of `int8`: `int32` biases and sums; a sum times a multiplier of 31 bits
    /// is rounded half up to `int32`, then shifted and rounded again, half away from zero. An addition
    /// brings both inputs to one step first, 20 bits finer, rounding each. An average is rounded half
    /// away from zero in its input's step, before anything else.
    Tflite,
    /// The same built with `TFLITE_SINGLE_ROUNDING`: multiplier and shift at once, rounded half up.
    TfliteSingle,
    /// CMSIS-NN: as [`Tflite`](Self::Tflite).
    CmsisNn,
    /// CMSIS-NN built with `CMSIS_NN_USE_SINGLE_ROUNDING`: as [`TfliteSingle`](Self::TfliteSingle).
    CmsisNnSingle,
    /// ESP-DL on the ESP32-P4: powers of two, a step for each output channel, zero points of 0, `int32`
    /// sums; one shift, rounded half to even. Averages are rounded once, to the output's step. Additions
    /// have one step for both inputs and the output, and saturate.
    Esp32P4,
    /// ESP-DL on the ESP32-S3: powers of two, one step for all channels, zero points of 0, sums of 20
    /// bits that saturate; one shift, rounded half up. Averages and additions as of
    /// [`Esp32P4`](Self::Esp32P4).
    Esp32S3,
    /// FINN: sums as wide as they need to be, compared with thresholds half a step above each integer,
    /// which is rounding half up, once. Zero points of 0; of averages only those of whole images.
    Finn,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Generic,
        Self::OrtX86,
        Self::Tflite,
        Self::TfliteSingle,
        Self::CmsisNn,
        Self::CmsisNnSingle,
        Self::Esp32P4,
        Self::Esp32S3,
        Self::Finn,
    ];

    /// What it does with sums, in one line.
    pub fn facts(self) -> &'static str {
        match self {
            Self::Generic => "exact sums, one rounding as each requantization says",
            Self::OrtX86 => "int32 sums in f32, times a scale, half to even; certified as exact",
            Self::Tflite | Self::CmsisNn => {
                "int32 sums times 31 bits, half up, then a shift, half away; averages half away first"
            }
            Self::TfliteSingle | Self::CmsisNnSingle => {
                "int32 sums times 31 bits and a shift, half up, once; averages half away first"
            }
            Self::Esp32P4 => "int32 sums, one shift, half to even; powers of two, zero points 0",
            Self::Esp32S3 => "20-bit sums, one shift, half up; powers of two, one step a layer",
            Self::Finn => "exact sums against thresholds: half up, once; zero points 0",
        }
    }
}

/// Its name, as [`from_str`](FromStr::from_str) reads it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Self::Generic => "generic",
            Self::OrtX86 => "ort-x86",
            Self::Tflite => "tflite",
            Self::TfliteSingle => "tflite-single",
            Self::CmsisNn => "cmsis-nn",
            Self::CmsisNnSingle => "cmsis-nn-single",
            Self::Esp32P4 => "esp32-p4",
            Self::Esp32S3 => "esp32-s3",
            Self::Finn => "finn",
        })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|t| t.to_string() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|t| t.to_string()).join(", ");
            format!("target is {text:?}, expected one of {names}")
        })
    }
}

/// The network whose integers are those of a target, and the names of the nodes whose integers may be
/// others than before, given the same inputs. Inputs, outputs and nodes keep their names; nodes that
/// are added are called after the node they belong to, with a dot.
///
/// A tensor of eight bits without sign is, on targets of `int8`, the same tensor 128 lower with a zero
/// point of -128; the graph keeps its own integers. Multipliers become multipliers of 31 bits, to the
/// nearest.
///
/// # Errors
///
/// One line with the node's name: what the target cannot do.
pub fn for_target(graph: &Graph, target: Target) -> Result<(Graph, Vec<String>), GraphError> {
    let rules = |rescaling, sum_bits| Rules {
        target,
        rescaling,
        sum_bits,
    };
    let shift = |rounding, per_channel| Rescaling::Shift {
        rounding,
        per_channel,
    };
    match target {
        Target::Generic => Ok((graph.clone(), Vec::new())),
        Target::OrtX86 => for_ort(graph),
        Target::Finn => for_finn(graph),
        Target::Tflite | Target::CmsisNn => kernels::rebuild(graph, rules(Rescaling::Twice, 32)),
        Target::TfliteSingle | Target::CmsisNnSingle => {
            kernels::rebuild(graph, rules(Rescaling::Once, 32))
        }
        Target::Esp32P4 => kernels::rebuild(graph, rules(shift(Rounding::HalfEven, true), 32)),
        Target::Esp32S3 => kernels::rebuild(graph, rules(shift(Rounding::HalfUp, false), 20)),
    }
}

/// The network with one rounding everywhere, and the requantizations that have another result.
fn rounded(graph: &Graph, rounding: Rounding) -> Result<(Graph, Vec<String>), GraphError> {
    let mut changed = Vec::new();
    let result = graph.rebuilt(|node| match &node.operator {
        Operator::Requantize(old) => {
            let new = Requantize {
                rounding,
                ..old.clone()
            };
            if differs(graph, node.inputs[0], old, rounding) {
                changed.push(node.name.clone());
            }
            Ok(new.into())
        }
        other => Ok(other.clone()),
    })?;
    Ok((result, changed))
}

/// Whether a requantization may have another result with another rounding to the nearest.
fn differs(graph: &Graph, input: TensorId, old: &Requantize, rounding: Rounding) -> bool {
    let input = graph.tensor(input);
    let mut channels = 0..input.shape[0];
    old.rounding != rounding
        && match old.rounding {
            Rounding::Floor => channels.any(|channel| old.constants(channel).2 > 0),
            _ => channels.any(|channel| old.can_tie(input, channel)),
        }
}

fn for_ort(graph: &Graph) -> Result<(Graph, Vec<String>), GraphError> {
    let (result, changed) = rounded(graph, Rounding::HalfEven)?;
    let judged = certificate(&result, Dialect::Qdq)
        .map_err(|error| GraphError::node(error.node, error.reason))?;
    for entry in &judged.entries {
        let verdicts = judged.runtimes.iter().zip(&entry.verdicts);
        let mut of_ort = verdicts.filter(|(runtime, _)| **runtime != Runtime::Numpy);
        if of_ort.any(|(_, &verdict)| verdict != Verdict::Exact) {
            return Err(GraphError::node(&entry.node, &entry.reason));
        }
    }
    Ok((result, changed))
}

fn for_finn(graph: &Graph) -> Result<(Graph, Vec<String>), GraphError> {
    for (_, tensor) in graph.tensors() {
        let zero = tensor.numbers().zero_point();
        if zero != 0 {
            let reason = format!("zero_point is {zero}, expected 0");
            return Err(GraphError::node(tensor.name(), reason));
        }
    }
    for node in graph.nodes() {
        let refused = |reason: &str| Err(refused(node, Target::Finn, reason));
        match node.operator() {
            Operator::AveragePool(pool) if !pool.windows.is_global() => {
                return refused("averages whole images alone; others it rounds down");
            }
            Operator::LookUp(_) => return refused("has no tables"),
            _ => {}
        }
    }
    rounded(graph, Rounding::HalfUp)
}

/// What a target cannot do.
fn refused(node: &Node, target: Target, reason: &str) -> GraphError {
    GraphError::node(&node.name, format!("{target} {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for target in Target::ALL {
            assert_eq!(target.to_string().parse(), Ok(target));
            assert!(target.facts().len() < 100);
        }
        let error = "tf-lite".parse::<Target>().unwrap_err();
        assert!(error.starts_with("target is \"tf-lite\", expected one of generic, ort-x86, "));
    }
}
