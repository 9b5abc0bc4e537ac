//! Where branches meet.

mod add;
mod concat;
mod mul;

pub use add::{Add, AddConfig};
pub use concat::{Concat, ConcatConfig};
pub use mul::{Mul, MulConfig};
