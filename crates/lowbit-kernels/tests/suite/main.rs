//! Kernels against plain loops.

mod accumulate;
mod in_integers;
#[path = "../plain/mod.rs"]
mod plain;
mod small_shapes;
