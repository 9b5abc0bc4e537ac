//! One step of time, of a block of neurons.
//!
//! A step is a row of short loops over a block, so that each is vector code and what a neuron is, is
//! asked once a loop and not once a number. A block's state stays in the first cache.

use super::{Gain, Neuron, Parameters, Reset};
use crate::vector::expect_load;

/// Neurons that go through time together: four of the widest registers.
pub(super) const BLOCK: usize = 64;

/// A number for each neuron of a block.
pub(super) type Block = [f32; BLOCK];

/// The numbers `row[at..at + width]`, and `pad` after them.
#[inline(always)]
pub(super) fn load(row: &[f32], at: usize, width: usize, pad: f32) -> Block {
    match row[at..].first_chunk() {
        Some(whole) if width == BLOCK => *whole,
        _ => {
            let mut block = [pad; BLOCK];
            block[..width].copy_from_slice(&row[at..at + width]);
            block
        }
    }
}

/// Says that the block behind that at `at` will be read soon: one row after the other is too far for the
/// CPU to guess.
#[inline(always)]
pub(super) fn expect_next(row: &[f32], at: usize) {
    if let Some(next) = row.get(at + BLOCK..at + 2 * BLOCK) {
        expect_load(next);
    }
}

/// Writes the first `width` numbers to `row[at..]`.
#[inline(always)]
pub(super) fn store(block: &Block, row: &mut [f32], at: usize, width: usize) {
    match row[at..].first_chunk_mut() {
        Some(whole) if width == BLOCK => *whole = *block,
        _ => row[at..at + width].copy_from_slice(&block[..width]),
    }
}

/// `block!(|j| number)`: that number for every neuron `j` of a block. No closure, since one that is
/// not inlined would be compiled for the instructions that every CPU has.
macro_rules! block {
    (|$j:ident| $number:expr) => {{
        let mut made: Block = [0.0; BLOCK];
        #[allow(clippy::needless_range_loop, reason = "several blocks at one place")]
        #[allow(unused_braces, reason = "the formatter puts them around a condition")]
        for $j in 0..BLOCK {
            made[$j] = $number;
        }
        made
    }};
}
pub(super) use block;

/// The parameters of a block of neurons.
pub(super) struct Constants {
    pub(super) decay: Block,
    pub(super) gain: Block,
    pub(super) synapse_decay: Block,
    pub(super) synapse_gain: Block,
    pub(super) adaptation_decay: Block,
    pub(super) adaptation_gain: Block,
    pub(super) threshold: Block,
    /// Whether every threshold is on the neuron's grid, if it has one.
    thresholds_on_grid: bool,
}

impl Gain {
    #[inline(always)]
    fn of(self, decay: &Block) -> Block {
        match self {
            Self::One => [1.0; BLOCK],
            Self::Decay => *decay,
            Self::Rest => block!(|j| 1.0 - decay[j]),
        }
    }

    /// The derivative of the gain to the decay.
    #[inline(always)]
    pub(super) fn slope(self) -> f32 {
        match self {
            Self::One => 0.0,
            Self::Decay => 1.0,
            Self::Rest => -1.0,
        }
    }
}

impl Constants {
    #[inline(always)]
    pub(super) fn new(neuron: &Neuron, p: &Parameters<'_>, at: usize, width: usize) -> Self {
        let spread = |values: &[f32], pad| match values {
            [] => [pad; BLOCK],
            [shared] => [*shared; BLOCK],
            values => load(values, at, width, pad),
        };
        let decay = spread(p.decay, 0.0);
        let synapse_decay = spread(p.synapse_decay, 0.0);
        let adaptation_decay = spread(p.adaptation_decay, 0.0);
        // Where there is no neuron, none fires.
        let threshold = spread(p.threshold, 1.0);
        let gain = |gain: Option<Gain>, decay: &Block| gain.unwrap_or(Gain::One).of(decay);
        let is_whole = |t: &f32, step: f32| (t / step).fract() == 0.0;
        let on_grid = |step: f32| threshold[..width].iter().all(|t| is_whole(t, step));
        Self {
            gain: neuron.gain.of(&decay),
            synapse_gain: gain(neuron.synapse, &synapse_decay),
            adaptation_gain: gain(neuron.adaptation.map(|a| a.gain), &adaptation_decay),
            thresholds_on_grid: neuron.grid.is_some_and(|grid| on_grid(grid.step)),
            threshold,
            decay,
            synapse_decay,
            adaptation_decay,
        }
    }
}

/// What a block of neurons keeps from one step to the next.
#[derive(Clone)]
pub(super) struct State {
    pub(super) membrane: Block,
    pub(super) current: Block,
    pub(super) adaptation: Block,
    /// The spikes of the step before, where the reset waits for the next one.
    pub(super) spikes: Block,
}

/// What has become of the potentials of a step.
pub(super) struct Fired {
    pub(super) spikes: Block,
    /// After the reset.
    pub(super) reset: Block,
    /// After the lower limit, too.
    pub(super) membrane: Block,
}

impl Neuron {
    /// The state at the start: zero, or the rows of `start`, of membrane, current and adaptation as
    /// far as the neuron has them.
    #[inline(always)]
    pub(super) fn start(
        &self,
        c: &Constants,
        start: Option<[&[f32]; 3]>,
        at: usize,
        width: usize,
    ) -> State {
        let zeros = [0.0; BLOCK];
        let mut state = State {
            membrane: zeros,
            current: zeros,
            adaptation: zeros,
            spikes: zeros,
        };
        let Some([membrane, current, adaptation]) = start else {
            return state;
        };
        state.membrane = load(membrane, at, width, 0.0);
        if self.synapse.is_some() {
            state.current = load(current, at, width, 0.0);
        }
        if self.adaptation.is_some() {
            state.adaptation = load(adaptation, at, width, 0.0);
        }
        if self.resets_next() {
            state.spikes = self.spikes(&state.membrane, &c.threshold);
        }
        state
    }

    /// Whether a reset waits for the next step.
    #[inline(always)]
    pub(super) fn resets_next(&self) -> bool {
        self.firing.is_some_and(|firing| firing.reset_next)
    }

    /// `decay * state + share * input`, where the share is that of the gain, on the grid if there is
    /// one. What decays at once is added first: `decay * (state + input)`.
    #[inline(always)]
    fn decayed(
        &self,
        state: &Block,
        decay: &Block,
        (gain, share): (Gain, &Block),
        input: &Block,
    ) -> Block {
        let at_once = gain == Gain::Decay;
        let Some(grid) = &self.grid else {
            return match at_once {
                true => block!(|j| decay[j] * (state[j] + input[j])),
                false => block!(|j| decay[j] * state[j] + share[j] * input[j]),
            };
        };
        let mut incoming = match at_once {
            true => *input,
            false => block!(|j| share[j] * input[j]),
        };
        grid.round(&mut incoming);
        let kept = if at_once {
            *state
        } else {
            grid.leak(state, decay)
        };
        let mut sum = block!(|j| kept[j] + incoming[j]);
        grid.limit(&mut sum);
        if at_once { grid.leak(&sum, decay) } else { sum }
    }

    /// Takes the input in; returns the potentials that may fire.
    #[inline(always)]
    pub(super) fn integrate(&self, c: &Constants, state: &mut State, x: &Block) -> Block {
        state.current = match self.synapse {
            Some(gain) => {
                let gain = (gain, &c.synapse_gain);
                self.decayed(&state.current, &c.synapse_decay, gain, x)
            }
            None => *x,
        };
        let gain = (self.gain, &c.gain);
        let u = self.decayed(&state.membrane, &c.decay, gain, &state.current);
        if self.resets_next() {
            self.reset(&u, &state.spikes, &c.threshold, false)
        } else {
            u
        }
    }

    /// The thresholds of a step, given the adaptation before it.
    #[inline(always)]
    pub(super) fn thresholds(&self, c: &Constants, adaptation: &Block) -> Block {
        match self.adaptation {
            Some(a) => block!(|j| c.threshold[j] + a.strength * adaptation[j]),
            None => c.threshold,
        }
    }

    /// The number of spikes at those potentials.
    #[inline(always)]
    pub(super) fn spikes(&self, u: &Block, threshold: &Block) -> Block {
        let Some(firing) = self.firing else {
            return [0.0; BLOCK];
        };
        if firing.most_spikes != 1 {
            let most = firing.most_spikes as f32;
            return block!(|j| {
                let spikes = (u[j] / threshold[j]).floor();
                let some = if spikes > 0.0 { spikes } else { 0.0 };
                if some > most { most } else { some }
            });
        }
        if firing.above {
            block!(|j| if u[j] > threshold[j] { 1.0 } else { 0.0 })
        } else {
            block!(|j| if u[j] >= threshold[j] { 1.0 } else { 0.0 })
        }
    }

    /// What is left of potentials; `exact` says that no difference leaves the grid or its range.
    #[inline(always)]
    fn reset(&self, u: &Block, spikes: &Block, threshold: &Block, exact: bool) -> Block {
        match self.firing.map_or(Reset::None, |firing| firing.reset) {
            Reset::None => *u,
            Reset::Subtract => {
                let mut left = block!(|j| u[j] - spikes[j] * threshold[j]);
                if let Some(grid) = self.grid.as_ref().filter(|_| !exact) {
                    grid.round(&mut left);
                    grid.limit(&mut left);
                }
                left
            }
            Reset::To(value) => block!(|j| if spikes[j] > 0.0 { value } else { u[j] }),
        }
    }

    /// Potentials no less than the least one.
    #[inline(always)]
    pub(super) fn limited(&self, potentials: &Block) -> Block {
        match self.min_potential {
            Some(min) => block!(|j| if potentials[j] < min {
                min
            } else {
                potentials[j]
            }),
            None => *potentials,
        }
    }

    /// Spikes at potentials, and what is left of these.
    #[inline(always)]
    pub(super) fn fire(&self, c: &Constants, u: &Block, threshold: &Block) -> Fired {
        let spikes = self.spikes(u, threshold);
        let reset = if self.resets_next() {
            *u
        } else {
            // A potential that fires is no less than what it loses.
            let exact = c.thresholds_on_grid && self.adaptation.is_none();
            self.reset(u, &spikes, threshold, exact)
        };
        let membrane = self.limited(&reset);
        Fired {
            spikes,
            reset,
            membrane,
        }
    }

    /// The state after a step.
    #[inline(always)]
    pub(super) fn settle(&self, c: &Constants, state: &mut State, fired: &Fired) {
        state.membrane = fired.membrane;
        if let Some(a) = self.adaptation {
            let gain = (a.gain, &c.adaptation_gain);
            let (b, z) = (&state.adaptation, &fired.spikes);
            state.adaptation = self.decayed(b, &c.adaptation_decay, gain, z);
        }
        if self.resets_next() {
            state.spikes = fired.spikes;
        }
    }

    /// What a step hands on.
    #[inline(always)]
    pub(super) fn output<'a>(&self, fired: &'a Fired) -> &'a Block {
        match self.firing {
            Some(_) => &fired.spikes,
            None => &fired.membrane,
        }
    }
}
