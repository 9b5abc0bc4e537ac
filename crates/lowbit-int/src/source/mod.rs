//! Networks as source code that computes the same integers anywhere: a Rust crate without the standard
//! library, or a file of C.
//!
//! What is generated has no floating point, no memory but that which it is given, and no dependency;
//! the Rust is without `unsafe`. Weights and tables are constants of the narrowest type that holds
//! them, weights of four bits two a byte; of tables only what is proven to be read is there. Sums are
//! of 32 bits where [`Proof`](crate::proof::Proof) bounds them so, else of 64. A requantization is
//! joined to the operator whose sums it narrows, with the clamps and rectifiers before and after it, so
//! that sums are not stored. Tensors lie in buffers of four types (8, 16, 32 and 64 bits), in which
//! those of one type share memory where they are not needed at the same time; a flattened tensor lies
//! where it was. What no output depends on is left out.
//!
//! The same numbers come out as of [`interpret`](crate::interpret()), bit for bit, for every input
//! within the limits of the graph; other inputs are refused.

mod c_file;
mod finish;
mod kind;
mod memory;
mod names;
mod plan;
mod rust_crate;
mod storage;
mod text;
mod window;

use std::path::PathBuf;

use thiserror::Error;

use crate::graph::Graph;
use plan::Plan;

/// Why a network cannot be written as source code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {reason}")]
pub struct SourceError {
    /// The node's name, or what else is in the way.
    pub what: String,
    /// What does not fit, and what would.
    pub reason: String,
}

impl SourceError {
    pub(crate) fn new(what: &str, reason: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// How many bytes generated code needs, beside its instructions and its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Weights, biases, tables, and the constants of requantizations.
    pub constants: usize,
    /// Buffers for the tensors between input and output.
    pub buffers: usize,
}

/// What the code of a graph needs, in either language.
///
/// # Errors
///
/// As [`rust`].
pub fn size(graph: &Graph) -> Result<Size, SourceError> {
    let plan = Plan::of(graph)?;
    Ok(Size {
        constants: plan.constants(),
        buffers: plan.memory(),
    })
}

/// A crate of this name that computes the graph: `Cargo.toml` and `src/lib.rs`, paths and texts. Its
/// function is `run(input: &[T; N], buffers: &mut Buffers, output: &mut [U; M]) -> Result<(),
/// OutOfRange>`, with an argument for each input and output in their order, each of the type of its
/// integers' width, the last dimension's index moving fastest. It fails only if a number of an input is
/// beyond the graph's limits, which cannot be where they are those of the type.
///
/// # Errors
///
/// One line: if the name is none of a crate in lower case, the graph has no input or no output, or a
/// pool shares a side of more than 65,535 elements unevenly.
pub fn rust(graph: &Graph, name: &str) -> Result<Vec<(PathBuf, String)>, SourceError> {
    check(name)?;
    let plan = Plan::of(graph)?;
    Ok(vec![
        (PathBuf::from("Cargo.toml"), rust_crate::manifest(name)),
        (
            PathBuf::from("src/lib.rs"),
            rust_crate::library(graph, &plan, name),
        ),
    ])
}

/// A file of C99 and its header of this name that compute the graph: `NAME.c` and `NAME.h`, paths and
/// texts. The function is `int NAME_run(const T input[N], NAME_buffers *buffers, U output[M])`, with
/// arguments as [`rust`] has them; it returns 0, or 1 if a number of an input is beyond the graph's
/// limits. It includes `stdint.h` and nothing else, and leaves nothing to the compiler: no right shift
/// of a negative number, no number that its type does not hold.
///
/// # Errors
///
/// As [`rust`].
pub fn c(graph: &Graph, name: &str) -> Result<Vec<(PathBuf, String)>, SourceError> {
    check(name)?;
    let plan = Plan::of(graph)?;
    let file = |ending: &str| PathBuf::from(format!("{name}.{ending}"));
    Ok(vec![
        (file("h"), c_file::header(graph, &plan, name)),
        (file("c"), c_file::source(graph, &plan, name)),
    ])
}

fn check(name: &str) -> Result<(), SourceError> {
    names::refuse(name).map_or(Ok(()), |reason| Err(SourceError::new(name, reason)))
}
