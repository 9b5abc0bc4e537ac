//! Kernels of neural networks on the CPU: slices of numbers in, slices out. No tensors, no framework.
//!
//! Convolutions ([`conv`]) and products with a matrix ([`linear`]) are made of the same register
//! tiles and round their operands as they pack them ([`packing`]); products in the sums of
//! low-precision hardware ([`accumulate`]) are loops over outputs; normalization with the activation
//! that follows it ([`norm`], [`activation`]), what a convolution does to its results while they are in the
//! cache ([`after`]), pooling ([`pool`]) and passes over pairs of numbers
//! ([`elementwise`]) are plain loops, compiled for each instruction set ([`vector`]). Few levels
//! ([`levels`]) are found in registers. Convolutions
//! of bytes ([`integer`]) have register tiles of their own.
//!
//! Images are stored channels last, `[batch][height][width][channels]`, so that the channels of a
//! pixel fill vectors. Work is spread over the threads of Rayon's pool; every sum runs in an order
//! that depends on the shapes alone, so a result depends neither on the number of threads nor on
//! how the pool takes turns.
//!
//! A kernel checks the lengths of the slices it is given where it would otherwise write beyond them;
//! that shapes fit each other is the caller's part.

pub mod accumulate;
pub mod activation;
pub mod after;
pub mod attention;
pub mod bfloat16;
pub mod conv;
pub mod cross_entropy;
pub mod elementwise;
pub mod exp;
pub mod integer;
pub mod levels;
pub mod linear;
pub mod matmul;
pub mod norm;
pub mod packing;
mod parts;
pub mod peak;
pub mod pool;
pub mod row_norm;
pub mod scratch;
pub mod smooth;
pub mod softmax;
pub mod spiking;
pub mod standardize;
pub mod tanh;
mod tile;
pub mod vector;

pub use tile::Terms;
