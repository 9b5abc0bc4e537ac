//! What can be said about formats: comparisons, pictures, sweeps against other implementations, speed.

pub mod bench;
pub mod compare;
pub mod error_summary;
pub mod inspect;
pub mod plot;
pub mod svg;
pub mod swamping;
#[cfg(feature = "verify")]
pub mod verify;
