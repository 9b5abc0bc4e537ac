//! Kernels of the Flex backend: slices of numbers in, slices out. Nothing here knows of tensors.

pub(crate) mod activation;
pub(crate) mod conv;
pub(crate) mod elementwise;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod packing;
pub(crate) mod peak;
pub(crate) mod pool;
pub(crate) mod scratch;
pub(crate) mod tanh;
pub(crate) mod tile;
pub(crate) mod vector;
