//! Graphs of integers, as other crates use them.

mod engine;
mod json;
mod messages;
mod proofs;
mod random;
mod reference;
mod tie_free;
