//! The way forward.

use rayon::prelude::*;

use super::step::{BLOCK, Constants, expect_next, load, store};
use super::{Extent, Pass};
use crate::vector::{Kernel, dispatch};

impl Pass<'_> {
    /// The spikes, or potentials where nothing fires, `[batch][time][neurons]`; the state after the
    /// last step goes to `end`, `[states][batch][neurons]`, if that is given.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn forward(&self, y: &mut [f32], end: Option<&mut [f32]>) {
        self.check();
        let Extent { neurons, .. } = self.extent;
        assert_eq!(y.len(), self.extent.numbers(), "numbers of the output");
        if self.extent.sample() == 0 {
            if let (Some(end), Some(start)) = (end, self.start) {
                end.copy_from_slice(start);
            }
            return;
        }
        let kept = if end.is_some() {
            self.neuron.states()
        } else {
            0
        };
        let neuron = self.neuron.on_its_grid();
        let pass = &Pass {
            neuron: &neuron,
            ..*self
        };
        let states: Vec<Vec<f32>> = y
            .par_chunks_mut(self.extent.sample())
            .enumerate()
            .map(|(sample, y)| {
                let mut end = vec![0.0; kept * neurons];
                dispatch(Forward {
                    pass,
                    sample,
                    y,
                    end: &mut end,
                });
                end
            })
            .collect();
        if let Some(end) = end {
            self.gather(states.iter().map(Vec::as_slice), end);
        }
    }
}

/// A sample's.
struct Forward<'a> {
    pass: &'a Pass<'a>,
    sample: usize,
    y: &'a mut [f32],
    /// `[states][neurons]`, or empty.
    end: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self {
            pass,
            sample,
            y,
            end,
        } = self;
        let neuron = pass.neuron;
        let neurons = pass.extent.neurons;
        let x = &pass.x[sample * pass.extent.sample()..][..y.len()];
        let start = pass.start.map(|start| pass.rows(start, sample));
        for at in (0..neurons).step_by(BLOCK) {
            let width = BLOCK.min(neurons - at);
            let constants = Constants::new(neuron, &pass.parameters, at, width);
            let mut state = neuron.start(&constants, start, at, width);
            for (x, y) in x.chunks_exact(neurons).zip(y.chunks_exact_mut(neurons)) {
                expect_next(x, at);
                let x = load(x, at, width, 0.0);
                let u = neuron.integrate(&constants, &mut state, &x);
                let threshold = neuron.thresholds(&constants, &state.adaptation);
                let fired = neuron.fire(&constants, &u, &threshold);
                store(neuron.output(&fired), y, at, width);
                neuron.settle(&constants, &mut state, &fired);
            }
            if end.is_empty() {
                continue;
            }
            let mut rows = end.chunks_exact_mut(neurons);
            let kept = [
                Some(&state.membrane),
                neuron.synapse.map(|_| &state.current),
                neuron.adaptation.map(|_| &state.adaptation),
            ];
            for part in kept.into_iter().flatten() {
                let row = rows.next().expect("a row for each state");
                store(part, row, at, width);
            }
        }
    }
}
