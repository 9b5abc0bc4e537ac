//! Kernels against plain loops.

mod accumulate;
mod bfloat16;
mod in_integers;
#[path = "../plain/mod.rs"]
mod plain;
mod small_shapes;
