//! The Neuromorphic Intermediate Representation (Pedersen et al., Nature Communications 15, 8122, 2024):
//! networks of snnTorch, Norse, sinabs and others as graphs of nodes.
//!
//! [`read`] and [`write`](write()) are for files; whatever a node has, also what is not known here, is
//! kept. A [`Network`] computes a graph. NIR's neurons are differential equations, and simulators take
//! different steps of them: a [`Convention`] says which.

mod convention;
mod delay;
mod fields;
mod file;
mod formats;
mod graph;
mod layers;
mod network;
mod neurons;
mod order;

pub use convention::Convention;
pub use file::{read, write};
pub use graph::{Array, Graph, Node, Values};
pub use network::Network;
