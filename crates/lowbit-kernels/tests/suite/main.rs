//! Kernels against plain loops.

mod accumulate;
#[path = "../plain/mod.rs"]
mod plain;
mod small_shapes;
