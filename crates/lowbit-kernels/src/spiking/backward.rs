//! The way back.

use rayon::prelude::*;

use super::step::{BLOCK, Block, Constants, State, block, expect_next, load, store};
use super::{Extent, Gradients, Neuron, Pass, Reset};
use crate::scratch;
use crate::vector::{Kernel, dispatch};

impl Pass<'_> {
    /// The gradients, given that of the output, `[batch][time][neurons]`, and that of the state after
    /// the last step, `[states][batch][neurons]`; that of the input is written to `dx`.
    ///
    /// With `D` for the gradient of what follows it, each step does, the last one first:
    ///
    /// ```text
    /// Dz += g_b Db
    /// Dw  = Dv where w >= min, else 0               w: the potential after the reset
    /// Du  = Dw,  Dz -= t Dw,  Dt -= z Dw            subtracted
    /// Du  = Dw where z = 0,  Dz += (value - u) Dw   set to a value
    /// Du += Dz h(u),  Dt -= Dz h(u)                 h: the surrogate; Dt times u / t for several spikes
    /// Di += g Du,  Da += v' Du + g'(a) i Du         v': the membrane of the step before
    /// Dx  = g_s Di,  Ds += i' Di + g_s'(s) x Di
    /// Dv' = a Du,  Di' = s Di,  Db' = r Db + strength Dt
    /// ```
    ///
    /// The reset's part of `Dz` is there if the neuron's `reset_gradient` says so. A grid changes
    /// nothing: its rounding passes gradients straight through, and so do its limits.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn backward(&self, dy: &[f32], dend: Option<&[f32]>, dx: &mut [f32]) -> Gradients {
        self.check();
        let Extent { batch, neurons, .. } = self.extent;
        assert_eq!(dy.len(), self.extent.numbers(), "numbers of the output");
        assert_eq!(dx.len(), self.extent.numbers(), "numbers of the input");
        let states = self.neuron.states();
        if self.extent.sample() == 0 {
            let start = dend.map_or_else(|| vec![0.0; states * batch * neurons], <[f32]>::to_vec);
            return self.sum(&[], start);
        }
        let neuron = self.neuron.on_its_grid();
        let pass = &Pass {
            neuron: &neuron,
            ..*self
        };
        let samples: Vec<Sums> = dx
            .par_chunks_mut(self.extent.sample())
            .enumerate()
            .map(|(sample, dx)| {
                dispatch(Backward {
                    pass,
                    sample,
                    dy: &dy[sample * dx.len()..][..dx.len()],
                    dend: dend.map(|dend| self.rows(dend, sample)),
                    dx,
                })
            })
            .collect();
        let mut start = vec![0.0; states * batch * neurons];
        self.gather(samples.iter().map(|sums| sums.start.as_slice()), &mut start);
        self.sum(&samples, start)
    }

    /// The sums over samples, and over neurons where they share a parameter.
    fn sum(&self, samples: &[Sums], start: Vec<f32>) -> Gradients {
        let p = &self.parameters;
        let sum = |which: usize, values: &[f32]| {
            let mut total = vec![0.0f64; values.len()];
            for sums in samples {
                let made = &sums.parameters[which];
                if let [shared] = total.as_mut_slice() {
                    *shared += made.iter().map(|&g| f64::from(g)).sum::<f64>();
                } else {
                    total
                        .iter_mut()
                        .zip(made)
                        .for_each(|(t, &g)| *t += f64::from(g));
                }
            }
            total.into_iter().map(|g| g as f32).collect()
        };
        Gradients {
            decay: sum(0, p.decay),
            threshold: sum(1, p.threshold),
            synapse_decay: sum(2, p.synapse_decay),
            adaptation_decay: sum(3, p.adaptation_decay),
            start,
        }
    }
}

/// What a sample adds to the gradients.
struct Sums {
    /// Of decay, threshold, synapse's and adaptation's decay, `[neurons]` each.
    parameters: [Vec<f32>; 4],
    /// `[states][neurons]`
    start: Vec<f32>,
}

/// A sample's.
struct Backward<'a> {
    pass: &'a Pass<'a>,
    sample: usize,
    dy: &'a [f32],
    dend: Option<[&'a [f32]; 3]>,
    dx: &'a mut [f32],
}

/// What the way back makes again of the way forward, step after step: potentials before they fire, the
/// spikes and what the reset leaves, currents, and the adaptation before each step, the last two where
/// there are any.
struct Tape<'a> {
    u: &'a mut [Block],
    spikes: &'a mut [Block],
    reset: &'a mut [Block],
    current: &'a mut [Block],
    adaptation: &'a mut [Block],
}

impl<'a> Tape<'a> {
    fn length(neuron: &Neuron, time: usize) -> usize {
        (neuron.states() + 2) * time * BLOCK
    }

    fn new(neuron: &Neuron, time: usize, memory: &'a mut [f32]) -> Self {
        let (blocks, _) = memory.as_chunks_mut::<BLOCK>();
        let (u, rest) = blocks.split_at_mut(time);
        let (spikes, rest) = rest.split_at_mut(time);
        let (reset, rest) = rest.split_at_mut(time);
        let synapse = if neuron.synapse.is_some() { time } else { 0 };
        let (current, adaptation) = rest.split_at_mut(synapse);
        Self {
            u,
            spikes,
            reset,
            current,
            adaptation,
        }
    }
}

/// The gradients on their way back through time, and those of a block's parameters so far.
struct Flow {
    membrane: Block,
    current: Block,
    adaptation: Block,
    parameters: [Block; 4],
}

impl Kernel for Backward<'_> {
    type Output = Sums;

    #[inline(always)]
    fn run(self) -> Sums {
        match self.pass.neuron.plain() {
            Some(plain) => match plain.grid {
                None => self.through(&Neuron {
                    grid: None,
                    ..plain
                }),
                grid => self.through(&Neuron { grid, ..plain }),
            },
            None => {
                let pass = self.pass;
                self.through(pass.neuron)
            }
        }
    }
}

impl Backward<'_> {
    /// Goes back through time, as `neuron` says.
    #[inline(always)]
    fn through(self, neuron: &Neuron) -> Sums {
        let Extent { time, neurons, .. } = self.pass.extent;
        let mut sums = Sums {
            parameters: std::array::from_fn(|_| vec![0.0; neurons]),
            start: vec![0.0; neuron.states() * neurons],
        };
        let mut memory = scratch::take(Tape::length(neuron, time));
        let start = self
            .pass
            .start
            .map(|start| self.pass.rows(start, self.sample));
        let x = &self.pass.x[self.sample * self.pass.extent.sample()..][..self.dx.len()];
        for at in (0..neurons).step_by(BLOCK) {
            let width = BLOCK.min(neurons - at);
            let constants = Constants::new(neuron, &self.pass.parameters, at, width);
            let first = neuron.start(&constants, start, at, width);
            let mut tape = Tape::new(neuron, time, &mut memory);
            record(neuron, &constants, first.clone(), &mut tape, |t| {
                let row = t * neurons..(t + 1) * neurons;
                expect_next(&x[row.clone()], at);
                expect_next(&self.dy[row.clone()], at);
                load(&x[row], at, width, 0.0)
            });
            let mut flow = Flow::new(self.dend, neuron, at, width);
            for t in (0..time).rev() {
                let row = t * neurons..(t + 1) * neurons;
                let dy = load(&self.dy[row.clone()], at, width, 0.0);
                let x = load(&x[row.clone()], at, width, 0.0);
                let dx = back(neuron, &constants, &mut flow, &tape, &first, t, [&dy, &x]);
                store(&dx, &mut self.dx[row], at, width);
            }
            flow.write(neuron, &mut sums, at, width);
        }
        sums
    }
}

/// Takes the gradients back through step `t`, given that of what it handed on, and what it read; returns
/// that of what it read.
#[inline(always)]
fn back(
    neuron: &Neuron,
    c: &Constants,
    flow: &mut Flow,
    tape: &Tape<'_>,
    first: &State,
    t: usize,
    [dy, x]: [&Block; 2],
) -> Block {
    let threshold = thresholds(neuron, c, tape, t);
    let limited;
    let (spikes_before, membrane_before) = match t.checked_sub(1) {
        None => (&first.spikes, &first.membrane),
        Some(t) if neuron.min_potential.is_some() => {
            limited = neuron.limited(&tape.reset[t]);
            (&tape.spikes[t], &limited)
        }
        Some(t) => (&tape.spikes[t], &tape.reset[t]),
    };
    let step = Step {
        neuron,
        c,
        u: &tape.u[t],
        threshold: &threshold,
        spikes: &tape.spikes[t],
        reset: &tape.reset[t],
        spikes_before,
        membrane_before,
    };
    let du = step.through_firing(flow, dy, tape.adaptation.get(t));
    let currents = Currents {
        now: tape.current.get(t).unwrap_or(x),
        before: match t.checked_sub(1) {
            None => &first.current,
            Some(t) => tape.current.get(t).unwrap_or(x),
        },
    };
    step.through_leak(flow, &du, x, currents)
}

/// The way forward once more, kept.
#[inline(always)]
fn record(
    neuron: &Neuron,
    c: &Constants,
    mut state: State,
    tape: &mut Tape<'_>,
    x: impl Fn(usize) -> Block,
) {
    for t in 0..tape.u.len() {
        if neuron.adaptation.is_some() {
            tape.adaptation[t] = state.adaptation;
        }
        let u = neuron.integrate(c, &mut state, &x(t));
        tape.u[t] = u;
        if neuron.synapse.is_some() {
            tape.current[t] = state.current;
        }
        let threshold = neuron.thresholds(c, &state.adaptation);
        let fired = neuron.fire(c, &u, &threshold);
        tape.spikes[t] = fired.spikes;
        tape.reset[t] = fired.reset;
        neuron.settle(c, &mut state, &fired);
    }
}

#[inline(always)]
fn thresholds(neuron: &Neuron, c: &Constants, tape: &Tape<'_>, t: usize) -> Block {
    match tape.adaptation.get(t) {
        Some(adaptation) => neuron.thresholds(c, adaptation),
        None => c.threshold,
    }
}

struct Currents<'a> {
    now: &'a Block,
    before: &'a Block,
}

/// A step on the way back.
struct Step<'a> {
    neuron: &'a Neuron,
    c: &'a Constants,
    u: &'a Block,
    threshold: &'a Block,
    spikes: &'a Block,
    reset: &'a Block,
    /// Of the step before.
    spikes_before: &'a Block,
    membrane_before: &'a Block,
}

impl Step<'_> {
    /// The gradient of the potentials, from that of what the step hands on and of what follows.
    #[inline(always)]
    fn through_firing(&self, flow: &mut Flow, dy: &Block, adaptation: Option<&Block>) -> Block {
        let dv = &flow.membrane;
        let dv = match self.neuron.firing {
            Some(_) => *dv,
            None => block!(|j| dv[j] + dy[j]),
        };
        let dw = match self.neuron.min_potential {
            Some(min) => block!(|j| { if self.reset[j] < min { 0.0 } else { dv[j] } }),
            None => dv,
        };
        let Some(firing) = self.neuron.firing else {
            return dw;
        };
        let (u, t, z) = (self.u, self.threshold, self.spikes);
        let mut dz = match self.neuron.adaptation {
            Some(_) => block!(|j| dy[j] + self.c.adaptation_gain[j] * flow.adaptation[j]),
            None => *dy,
        };
        let mut dt = [0.0; BLOCK];
        let mut du = dw;
        if !firing.reset_next {
            match firing.reset {
                Reset::None => {}
                Reset::Subtract => {
                    dt = block!(|j| -z[j] * dw[j]);
                    if firing.reset_gradient {
                        dz = block!(|j| dz[j] - t[j] * dw[j]);
                    }
                }
                Reset::To(value) => {
                    du = block!(|j| if z[j] > 0.0 { 0.0 } else { dw[j] });
                    if firing.reset_gradient {
                        dz = block!(|j| dz[j] + (value - u[j]) * dw[j]);
                    }
                }
            }
        }
        let slopes = firing.surrogate.slopes(u, t);
        let through = block!(|j| dz[j] * slopes[j]);
        du = block!(|j| du[j] + through[j]);
        dt = if firing.most_spikes == 1 {
            block!(|j| dt[j] - through[j])
        } else {
            block!(|j| dt[j] - through[j] * (u[j] / t[j]))
        };
        self.through_threshold(flow, &mut du, &dt, adaptation);
        du
    }

    /// Takes the threshold's gradient to where it comes from, and a reset of the step before out of
    /// the potential's.
    #[inline(always)]
    fn through_threshold(
        &self,
        flow: &mut Flow,
        du: &mut Block,
        dt: &Block,
        adaptation: Option<&Block>,
    ) {
        let total = &mut flow.parameters[1];
        for j in 0..BLOCK {
            total[j] += dt[j];
        }
        if let (Some(a), Some(before)) = (self.neuron.adaptation, adaptation) {
            let (db, z) = (flow.adaptation, self.spikes);
            let slope = a.gain.slope();
            let total = &mut flow.parameters[3];
            for j in 0..BLOCK {
                total[j] += db[j] * (before[j] + slope * z[j]);
            }
            let decay = &self.c.adaptation_decay;
            flow.adaptation = block!(|j| decay[j] * db[j] + a.strength * dt[j]);
        }
        if !self.neuron.resets_next() {
            return;
        }
        let z = self.spikes_before;
        match self.neuron.firing.map(|firing| firing.reset) {
            Some(Reset::Subtract) => {
                let total = &mut flow.parameters[1];
                for j in 0..BLOCK {
                    total[j] -= z[j] * du[j];
                }
            }
            Some(Reset::To(_)) => *du = block!(|j| if z[j] > 0.0 { 0.0 } else { du[j] }),
            Some(Reset::None) | None => {}
        }
    }

    /// The gradient of the input, from that of the potentials.
    #[inline(always)]
    fn through_leak(&self, flow: &mut Flow, du: &Block, x: &Block, current: Currents<'_>) -> Block {
        let (c, neuron) = (self.c, self.neuron);
        let (v, i) = (self.membrane_before, current.now);
        let slope = neuron.gain.slope();
        let total = &mut flow.parameters[0];
        for j in 0..BLOCK {
            total[j] += du[j] * (v[j] + slope * i[j]);
        }
        flow.membrane = block!(|j| c.decay[j] * du[j]);
        let Some(gain) = neuron.synapse else {
            return block!(|j| c.gain[j] * du[j]);
        };
        let di = block!(|j| flow.current[j] + c.gain[j] * du[j]);
        let slope = gain.slope();
        let total = &mut flow.parameters[2];
        for j in 0..BLOCK {
            total[j] += di[j] * (current.before[j] + slope * x[j]);
        }
        flow.current = block!(|j| c.synapse_decay[j] * di[j]);
        block!(|j| c.synapse_gain[j] * di[j])
    }
}

impl Flow {
    #[inline(always)]
    fn new(dend: Option<[&[f32]; 3]>, neuron: &Neuron, at: usize, width: usize) -> Self {
        let row = |part: usize, there: bool| match dend {
            Some(rows) if there => load(rows[part], at, width, 0.0),
            _ => [0.0; BLOCK],
        };
        Self {
            membrane: row(0, true),
            current: row(1, neuron.synapse.is_some()),
            adaptation: row(2, neuron.adaptation.is_some()),
            parameters: [[0.0; BLOCK]; 4],
        }
    }

    #[inline(always)]
    fn write(&self, neuron: &Neuron, sums: &mut Sums, at: usize, width: usize) {
        for (made, sum) in self.parameters.iter().zip(&mut sums.parameters) {
            store(made, sum, at, width);
        }
        let parts = [
            Some(&self.membrane),
            neuron.synapse.map(|_| &self.current),
            neuron.adaptation.map(|_| &self.adaptation),
        ];
        let neurons = sums.parameters[0].len();
        let rows = sums.start.chunks_exact_mut(neurons);
        for (part, row) in parts.into_iter().flatten().zip(rows) {
            store(part, row, at, width);
        }
    }
}
