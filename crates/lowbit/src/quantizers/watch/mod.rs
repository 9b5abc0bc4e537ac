//! Watching tensors on their way through the quantizers, and switching quantizers from outside.

mod bins;
mod histogram;
mod moments;
pub(crate) mod observe;
mod place;
pub(crate) mod quality;
mod scope;
mod signs;
mod switch;
pub(crate) mod tap;

pub use bins::Bin;
pub use histogram::Histogram;
pub use observe::{Observation, Observations, observe};
pub(crate) use observe::{Observed, is_observing};
pub(crate) use place::matches;
pub use place::{ModulePath, Place, Selection};
pub(crate) use quality::{Grids, is_measuring};
pub use quality::{Qualities, Quality, measuring};
pub use signs::Signs;
pub use switch::{Switch, set_quantization};
pub(crate) use tap::marked;
pub use tap::{Tapped, Taps};
