//! What holds for every format, against tables of other libraries, oracles and random numbers. One
//! program for all files: each of its own would compile the formats' generics again.

mod accumulate;
mod block_formats;
mod blocks;
mod exact;
#[cfg(feature = "verify")]
mod exhaustive;
mod folder;
mod fuzz;
mod kernels;
mod new_file;
#[cfg(feature = "files")]
mod numpy_files;
#[cfg(feature = "verify")]
mod posit;
#[cfg(feature = "verify")]
mod posit_exhaustive;
mod posit_scale;
mod properties;
mod qpytorch;
mod reference_tables;
mod scaled;
mod stochastic;
mod stochastic_sums;
mod swamping;
mod tables;
mod tensor_cores;
mod wide;
mod words;
