//! Number formats in the browser: one page that opens from disk, in which `lowbit-formats` runs as
//! WebAssembly.
//!
//! [`answer`] is all that the page asks: texts in, JSON out. The page draws what it is told and computes no
//! number of a format itself.

mod answer;
#[cfg(target_family = "wasm")]
mod memory;
#[cfg(not(target_family = "wasm"))]
mod page;

pub use answer::answer;
#[cfg(not(target_family = "wasm"))]
pub use page::{MODULE, page};
