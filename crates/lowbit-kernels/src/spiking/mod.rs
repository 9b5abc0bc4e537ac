//! Spiking neurons over time, forward and backward, in one pass each.
//!
//! One description serves integrate-and-fire, leaky, adaptive and second-order neurons and leaky
//! integrators. With the input `x`, the decays `a` of the membrane, `s` of the synapse and `r` of the
//! adaptation, a step of time is
//!
//! ```text
//! i = s i + g_s x                    where there is a synapse, else i = x
//! u = a v + g i
//! t = threshold + strength b         where there is an adaptation
//! z = 1 where u >= t, or min(floor(u / t), most) where that is more than one
//! v = u - z t, or a value where z > 0
//! v = max(v, min)
//! b = r b + g_b z
//! ```
//!
//! and hands `z` on, or `v` where nothing fires. A gain `g` is 1, the decay or what the decay leaves
//! of 1 ([`Gain`]). Sources: Neftci, Mostafa, Zenke, "Surrogate Gradient Learning in Spiking Neural
//! Networks", arXiv 1901.09948 (leaky and second-order neurons); Bellec et al., arXiv 1803.09574
//! (adaptation).
//!
//! Numbers are `[batch][time][neurons]`. A sample's neurons go through time in blocks whose state
//! stays in the first cache. The way back makes potentials again from the input instead of keeping
//! them: a block's are in the second cache, while written and read they would be twice the traffic of
//! the pass. Samples are spread over threads; sums over samples are made in their order, so that a
//! result depends neither on the number of threads nor on the instruction set.

mod backward;
mod forward;
mod grid;
mod step;
mod surrogate;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use grid::{Grid, Leak, LeakRounding, Overflow};
pub use surrogate::Surrogate;

/// What a state takes of what comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gain {
    /// All of it.
    One,
    /// As much as it keeps of itself: `a`. What comes in decays at once, as in `a (v + i)`.
    Decay,
    /// What is left: `1 - a`. A constant input is what the state ends at.
    Rest,
}

/// What becomes of a potential that fired.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// It stays.
    None,
    /// It loses the threshold, once a spike.
    Subtract,
    /// It becomes this value.
    To(f32),
}

/// A threshold that rises with the neuron's own spikes: by `strength b`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// What `b` takes of a spike.
    pub gain: Gain,
    /// What the threshold takes of `b`.
    pub strength: f32,
}

/// When and how a neuron fires.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firing {
    /// What becomes of the potential.
    pub reset: Reset,
    /// Whether it waits for the next step, where it comes after the decay, as in snnTorch: then the
    /// state is the potential before the reset, and no gradient goes through the reset to the spike.
    pub reset_next: bool,
    /// The most spikes of one step; 1 for one at the threshold and above.
    pub most_spikes: u32,
    /// Whether a single spike needs a potential above the threshold, not at it.
    pub above: bool,
    /// Whether the gradient of what a reset takes away goes to the spike, too.
    pub reset_gradient: bool,
    /// What stands for the derivative of a spike.
    pub surrogate: Surrogate,
}

/// What a neuron is; its numbers are [`Parameters`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neuron {
    /// What the membrane takes of the current.
    pub gain: Gain,
    /// What the current takes of the input, where there is a synapse.
    pub synapse: Option<Gain>,
    /// How the threshold adapts.
    pub adaptation: Option<Adaptation>,
    /// How it fires; a neuron that does not hands on its potential.
    pub firing: Option<Firing>,
    /// The least potential after a reset.
    pub min_potential: Option<f32>,
    /// The numbers that its state can be; none for f32. A value that a reset sets and the least
    /// potential become the nearest of them.
    pub grid: Option<Grid>,
}

/// A single spike at the threshold and above, which is subtracted; gradients go through the reset.
impl Default for Firing {
    fn default() -> Self {
        Self {
            reset: Reset::Subtract,
            reset_next: false,
            most_spikes: 1,
            above: false,
            reset_gradient: true,
            surrogate: Surrogate::default(),
        }
    }
}

impl Neuron {
    /// Numbers that it keeps from step to step: membrane, current and adaptation, as far as it has
    /// them, in that order.
    pub fn states(&self) -> usize {
        1 + usize::from(self.synapse.is_some()) + usize::from(self.adaptation.is_some())
    }

    /// The same neuron, if it is the usual one: a membrane alone, and a spike of the step, which is
    /// subtracted. What it does not have is a constant where this is inlined: loops that ask for it are
    /// not compiled, which takes a fourth off the way back.
    #[inline(always)]
    fn plain(&self) -> Option<Self> {
        let firing = self.firing?;
        let Surrogate::SingleExponential { width, scale } = firing.surrogate else {
            return None;
        };
        let plain = Self {
            gain: Gain::One,
            synapse: None,
            adaptation: None,
            firing: Some(Firing {
                surrogate: Surrogate::SingleExponential { width, scale },
                ..Firing::default()
            }),
            min_potential: None,
            grid: self.grid,
        };
        (plain == *self).then_some(plain)
    }
}

/// Decays and thresholds: each one for all neurons, or one per neuron. Those that the neuron does not
/// have are empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parameters<'a> {
    /// Of the membrane.
    pub decay: &'a [f32],
    /// At which it fires, positive.
    pub threshold: &'a [f32],
    /// Of the synapse.
    pub synapse_decay: &'a [f32],
    /// Of the adaptation.
    pub adaptation_decay: &'a [f32],
}

/// `[batch][time][neurons]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Samples.
    pub batch: usize,
    /// Steps.
    pub time: usize,
    /// Neurons, each with a state of its own.
    pub neurons: usize,
}

impl Extent {
    /// Numbers of a sample.
    fn sample(self) -> usize {
        self.time * self.neurons
    }

    /// Numbers of all.
    pub fn numbers(self) -> usize {
        self.batch * self.sample()
    }
}

/// Neurons, what they read and where they start.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// What they are.
    pub neuron: &'a Neuron,
    /// Their parameters.
    pub parameters: Parameters<'a>,
    /// How many.
    pub extent: Extent,
    /// `[batch][time][neurons]`
    pub x: &'a [f32],
    /// `[states][batch][neurons]`, the states in the order of [`Neuron::states`]; zero if not given.
    pub start: Option<&'a [f32]>,
}

/// The gradients of everything but the input; empty for what a neuron does not have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gradients {
    /// As long as the parameter, as are the next three.
    pub decay: Vec<f32>,
    /// Of the threshold.
    pub threshold: Vec<f32>,
    /// Of the synapse's decay.
    pub synapse_decay: Vec<f32>,
    /// Of the adaptation's decay.
    pub adaptation_decay: Vec<f32>,
    /// `[states][batch][neurons]`
    pub start: Vec<f32>,
}

impl<'a> Pass<'a> {
    /// Checks lengths.
    fn check(&self) {
        let Extent { batch, neurons, .. } = self.extent;
        assert_eq!(self.x.len(), self.extent.numbers(), "numbers of the input");
        let states = self.neuron.states() * batch * neurons;
        if let Some(start) = self.start {
            assert_eq!(start.len(), states, "numbers of the first state");
        }
        let p = &self.parameters;
        for (name, values, there) in [
            ("decay", p.decay, true),
            ("threshold", p.threshold, self.neuron.firing.is_some()),
            (
                "synapse_decay",
                p.synapse_decay,
                self.neuron.synapse.is_some(),
            ),
            (
                "adaptation_decay",
                p.adaptation_decay,
                self.neuron.adaptation.is_some(),
            ),
        ] {
            let fits = values.len() == neurons || values.len() == 1;
            assert!(
                fits || !there,
                "{name} has {} numbers, expected 1 or {neurons}",
                values.len()
            );
        }
    }

    /// The rows of a sample in a state `[states][batch][neurons]`: of membrane, current and
    /// adaptation; empty where there is none.
    fn rows<'s>(&self, state: &'s [f32], sample: usize) -> [&'s [f32]; 3] {
        let Extent { batch, neurons, .. } = self.extent;
        let row = |part: usize| &state[(part * batch + sample) * neurons..][..neurons];
        let synapse = self.neuron.synapse.is_some();
        let current = if synapse { row(1) } else { &[] };
        let adaptation = match self.neuron.adaptation {
            Some(_) => row(1 + usize::from(synapse)),
            None => &[],
        };
        [row(0), current, adaptation]
    }

    /// Puts what samples made of their states, `[states][neurons]` each, into
    /// `[states][batch][neurons]`.
    fn gather<'s>(&self, samples: impl Iterator<Item = &'s [f32]>, state: &mut [f32]) {
        let Extent { batch, neurons, .. } = self.extent;
        for (sample, made) in samples.enumerate() {
            for (part, row) in made.chunks_exact(neurons.max(1)).enumerate() {
                state[(part * batch + sample) * neurons..][..neurons].copy_from_slice(row);
            }
        }
    }
}
