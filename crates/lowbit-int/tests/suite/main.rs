//! Graphs of integers, as other crates use them.

mod binary;
mod conformance;
mod engine;
mod json;
mod messages;
mod networks;
mod onnx;
mod onnx_read;
mod onnx_round_trip;
mod proofs;
mod random;
mod reference;
#[path = "../../examples/int_speed/resnet20.rs"]
mod resnet20;
mod sizes;
mod source;
mod targets;
mod tie_free;

/// What an environment variable says; an empty one says nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
