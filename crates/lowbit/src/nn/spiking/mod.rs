//! Spiking neurons. They read currents over time, `[batch, time, ...]`, and hand on spikes of the same
//! shape; [`forward_folded`](Lif::forward_folded) takes `[batch * time, ...]`, as convolutions do
//! ([`fold_time`], [`unfold_time`]).
//!
//! A neuron starts from zero with every call of `forward`; `forward_with_state` takes the
//! [`NeuronState`] that the caller has kept and returns the next one.

mod alif;
mod chip;
mod coding;
mod cuba_lif;
mod decay;
mod dynamics;
mod exp_leak;
mod iaf;
mod lif;
mod state;
mod sum_pool2d;
#[cfg(test)]
mod tests;
mod threshold;

pub use alif::{Alif, AlifConfig};
pub use chip::Chip;
pub use coding::Coding;
pub use cuba_lif::{CubaLif, CubaLifConfig};
pub use decay::{Decay, DecayConfig, DecayValue};
pub(crate) use dynamics::Dynamics;
pub use exp_leak::{ExpLeak, ExpLeakConfig};
pub use iaf::{Iaf, IafConfig};
pub use lif::{Lif, LifConfig};
pub use state::{NeuronState, fold_time, unfold_time};
pub use sum_pool2d::{SumPool2d, SumPool2dConfig};
pub use threshold::FiringThresholdConfig;
