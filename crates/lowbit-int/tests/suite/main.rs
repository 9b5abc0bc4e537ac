//! Graphs of integers, as other crates use them.

mod engine;
mod json;
mod messages;
mod onnx;
mod proofs;
mod random;
mod reference;
#[path = "../../examples/int_speed/resnet20.rs"]
mod resnet20;
mod tie_free;
