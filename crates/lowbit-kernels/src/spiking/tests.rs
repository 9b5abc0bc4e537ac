//! Neurons against a plain recursion in f64, one neuron after the other; gradients against the same
//! recursion on dual numbers, which knows nothing of a way back.

use super::*;
use crate::vector::{Isa, isa, use_at_most};

/// A number and its derivative to whatever is asked for.
#[derive(Debug, Clone, Copy)]
struct Dual {
    value: f64,
    slope: f64,
}

impl Dual {
    fn constant(value: f64) -> Self {
        Self { value, slope: 0.0 }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            slope: self.slope + other.slope,
        }
    }

    fn times(self, other: Self) -> Self {
        Self {
            value: self.value * other.value,
            slope: self.slope * other.value + self.value * other.slope,
        }
    }

    fn negative(self) -> Self {
        self.times(Self::constant(-1.0))
    }

    fn fixed(self) -> Self {
        Self::constant(self.value)
    }
}

/// The surrogate of all tests of gradients, in f64.
const SURROGATE: Surrogate = Surrogate::FastSigmoid {
    slope: 2.0,
    scale: 1.5,
};

fn slope(u: f64, t: f64) -> f64 {
    1.5 / (1.0 + 2.0 * (u - t).abs()).powi(2)
}

/// What one neuron has: decay, threshold, synapse's decay, adaptation's decay, and its first states.
#[derive(Clone)]
struct One {
    numbers: [Dual; 4],
    start: Vec<Dual>,
    x: Vec<Dual>,
}

fn gain(gain: Gain, decay: Dual) -> Dual {
    match gain {
        Gain::One => Dual::constant(1.0),
        Gain::Decay => decay,
        Gain::Rest => Dual::constant(1.0).plus(decay.negative()),
    }
}

fn spike(firing: &Firing, u: Dual, t: Dual) -> Dual {
    let h = slope(u.value, t.value);
    if firing.most_spikes == 1 {
        let fires = if firing.above {
            u.value > t.value
        } else {
            u.value >= t.value
        };
        return Dual {
            value: f64::from(u8::from(fires)),
            slope: h * (u.slope - t.slope),
        };
    }
    // The spikes are a function of u / t; its derivative is h t to that.
    let spikes = (u.value / t.value)
        .floor()
        .clamp(0.0, f64::from(firing.most_spikes));
    Dual {
        value: spikes,
        slope: h * (u.slope - t.slope * u.value / t.value),
    }
}

fn reset(firing: &Firing, u: Dual, z: Dual, t: Dual) -> Dual {
    let z = if firing.reset_gradient { z } else { z.fixed() };
    match firing.reset {
        Reset::None => u,
        Reset::Subtract => u.plus(z.times(t).negative()),
        Reset::To(value) => {
            let to = Dual::constant(value.into()).plus(u.negative());
            // u + z (value - u) for a spike or none; several set the same value.
            let fired = Dual {
                value: z.value.min(1.0),
                slope: z.slope,
            };
            u.plus(fired.times(to))
        }
    }
}

/// What a neuron hands on, and its last states.
fn run(neuron: &Neuron, one: &One) -> (Vec<Dual>, Vec<Dual>) {
    let [decay, threshold, synapse_decay, adaptation_decay] = one.numbers;
    let mut states = one.start.iter().copied();
    let mut v = states.next().unwrap();
    let mut i = neuron.synapse.map(|_| states.next().unwrap());
    let mut b = neuron.adaptation.map(|_| states.next().unwrap());
    let waits = neuron.firing.filter(|firing| firing.reset_next);
    let mut before = waits.map(|firing| spike(&firing, v, threshold).fixed());
    let mut handed_on = Vec::new();
    for &x in &one.x {
        let current = match (neuron.synapse, i) {
            (Some(g), Some(i)) => synapse_decay.times(i).plus(gain(g, synapse_decay).times(x)),
            _ => x,
        };
        i = i.map(|_| current);
        let mut u = decay.times(v).plus(gain(neuron.gain, decay).times(current));
        if let (Some(firing), Some(z)) = (waits, before) {
            u = match firing.reset {
                Reset::Subtract => u.plus(z.times(threshold).negative()),
                Reset::To(value) if z.value > 0.0 => Dual::constant(value.into()),
                _ => u,
            };
        }
        let mut t = threshold;
        if let (Some(a), Some(b)) = (neuron.adaptation, b) {
            t = t.plus(Dual::constant(a.strength.into()).times(b));
        }
        let mut z = Dual::constant(0.0);
        v = u;
        if let Some(firing) = &neuron.firing {
            z = spike(firing, u, t);
            if !firing.reset_next {
                v = reset(firing, u, z, t);
            }
        }
        before = before.map(|_| z.fixed());
        if let Some(min) = neuron.min_potential
            && v.value < f64::from(min)
        {
            v = Dual::constant(min.into());
        }
        if let (Some(a), Some(last)) = (neuron.adaptation, b) {
            b = Some(
                adaptation_decay
                    .times(last)
                    .plus(gain(a.gain, adaptation_decay).times(z)),
            );
        }
        handed_on.push(if neuron.firing.is_some() { z } else { v });
    }
    let ends = [Some(v), i, b].into_iter().flatten().collect();
    (handed_on, ends)
}

fn firing() -> Firing {
    Firing {
        reset: Reset::Subtract,
        reset_next: false,
        most_spikes: 1,
        above: false,
        reset_gradient: true,
        surrogate: SURROGATE,
    }
}

fn plain() -> Neuron {
    Neuron {
        gain: Gain::One,
        synapse: None,
        adaptation: None,
        firing: Some(firing()),
        min_potential: None,
        grid: None,
    }
}

/// Neurons of every kind.
fn kinds() -> Vec<(&'static str, Neuron)> {
    let adapts = Adaptation {
        gain: Gain::Rest,
        strength: 1.8,
    };
    let fires = |f: fn(&mut Firing)| {
        let mut firing = firing();
        f(&mut firing);
        Neuron {
            firing: Some(firing),
            ..plain()
        }
    };
    vec![
        ("leaky", plain()),
        (
            "normed",
            Neuron {
                gain: Gain::Rest,
                ..plain()
            },
        ),
        (
            "decayed at once",
            Neuron {
                gain: Gain::Decay,
                ..plain()
            },
        ),
        (
            "leaky integrator",
            Neuron {
                firing: None,
                ..plain()
            },
        ),
        ("to a value", fires(|f| f.reset = Reset::To(-0.1))),
        ("no reset", fires(|f| f.reset = Reset::None)),
        ("several spikes", fires(|f| f.most_spikes = 3)),
        (
            "several spikes to zero",
            fires(|f| (f.most_spikes, f.reset) = (31, Reset::To(0.0))),
        ),
        (
            "reset without gradient",
            fires(|f| f.reset_gradient = false),
        ),
        ("next", fires(|f| (f.reset_next, f.above) = (true, true))),
        (
            "next to zero",
            fires(|f| (f.reset_next, f.reset) = (true, Reset::To(0.0))),
        ),
        (
            "limited",
            Neuron {
                min_potential: Some(-0.2),
                ..plain()
            },
        ),
        (
            "synapse",
            Neuron {
                synapse: Some(Gain::One),
                ..plain()
            },
        ),
        (
            "synapse of sinabs",
            Neuron {
                synapse: Some(Gain::Decay),
                gain: Gain::Rest,
                ..plain()
            },
        ),
        (
            "adaptive",
            Neuron {
                adaptation: Some(adapts),
                ..plain()
            },
        ),
        (
            "everything",
            Neuron {
                synapse: Some(Gain::Rest),
                adaptation: Some(Adaptation {
                    gain: Gain::One,
                    strength: 0.4,
                }),
                gain: Gain::Rest,
                min_potential: Some(-0.3),
                ..fires(|f| f.most_spikes = 4)
            },
        ),
        (
            "integrator with a synapse",
            Neuron {
                synapse: Some(Gain::One),
                firing: None,
                min_potential: Some(-0.5),
                ..plain()
            },
        ),
    ]
}

/// Neurons of integers, which the plain recursion does not know.
fn kinds_on_a_grid() -> Vec<(&'static str, Neuron)> {
    let grid = |leak, overflow| Grid {
        step: 0.0625,
        min: -32.0,
        max: 31.0,
        overflow,
        leak,
    };
    let next = Firing {
        reset_next: true,
        ..firing()
    };
    let to = Firing {
        reset: Reset::To(0.3),
        ..firing()
    };
    vec![
        (
            "integers of a synapse",
            Neuron {
                synapse: Some(Gain::Decay),
                firing: Some(next),
                grid: Some(grid(Leak::ShiftToZero, Overflow::Saturate)),
                ..plain()
            },
        ),
        (
            "integers that wrap",
            Neuron {
                firing: Some(to),
                min_potential: Some(-0.3),
                grid: Some(grid(Leak::Product(LeakRounding::Nearest), Overflow::Wrap)),
                ..plain()
            },
        ),
    ]
}

/// Numbers from `low` to `high` without a pattern.
fn spread(count: usize, seed: u32, low: f32, high: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        low + (high - low) * ((state >> 8) as f32 / (1 << 24) as f32)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Everything that a pass needs and gets back.
struct Case {
    extent: Extent,
    numbers: [Vec<f32>; 4],
    x: Vec<f32>,
    start: Vec<f32>,
    dy: Vec<f32>,
    dend: Vec<f32>,
}

impl Case {
    fn new(neuron: &Neuron, extent: Extent, parameters: usize) -> Self {
        let states = neuron.states() * extent.batch * extent.neurons;
        let number = |there: bool, seed, low, high| {
            spread(if there { parameters } else { 0 }, seed, low, high)
        };
        Self {
            extent,
            numbers: [
                number(true, 1, 0.5, 0.97),
                number(neuron.firing.is_some(), 2, 0.6, 1.2),
                number(neuron.synapse.is_some(), 3, 0.3, 0.8),
                number(neuron.adaptation.is_some(), 4, 0.5, 0.95),
            ],
            x: spread(extent.numbers(), 5, -0.7, 1.3),
            start: spread(states, 6, -0.4, 0.5),
            dy: spread(extent.numbers(), 7, -1.0, 1.0),
            dend: spread(states, 8, -1.0, 1.0),
        }
    }

    fn pass<'a>(&'a self, neuron: &'a Neuron) -> Pass<'a> {
        let [decay, threshold, synapse_decay, adaptation_decay] = &self.numbers;
        Pass {
            neuron,
            parameters: Parameters {
                decay,
                threshold,
                synapse_decay,
                adaptation_decay,
            },
            extent: self.extent,
            x: &self.x,
            start: Some(&self.start),
        }
    }

    fn forward(&self, neuron: &Neuron) -> [Vec<f32>; 2] {
        let mut y = vec![0.0; self.x.len()];
        let mut end = vec![0.0; self.start.len()];
        self.pass(neuron).forward(&mut y, Some(&mut end));
        [y, end]
    }

    fn backward(&self, neuron: &Neuron) -> (Vec<f32>, Gradients) {
        let mut dx = vec![0.0; self.x.len()];
        let gradients = self
            .pass(neuron)
            .backward(&self.dy, Some(&self.dend), &mut dx);
        (dx, gradients)
    }

    /// One neuron of one sample.
    fn one(&self, neuron: &Neuron, sample: usize, at: usize) -> One {
        let Extent {
            batch,
            time,
            neurons,
        } = self.extent;
        let dual = |x: f32| Dual::constant(x.into());
        let number = |values: &Vec<f32>| match values.len() {
            0 => dual(0.0),
            1 => dual(values[0]),
            _ => dual(values[at]),
        };
        One {
            numbers: self.numbers.each_ref().map(number),
            start: (0..neuron.states())
                .map(|part| dual(self.start[(part * batch + sample) * neurons + at]))
                .collect(),
            x: (0..time)
                .map(|t| dual(self.x[(sample * time + t) * neurons + at]))
                .collect(),
        }
    }

    /// The derivative of what the gradients `dy` and `dend` weight, to what `with` gives a slope.
    fn derivative(
        &self,
        neuron: &Neuron,
        [sample, at]: [usize; 2],
        with: impl Fn(&mut One) -> &mut Dual,
    ) -> f64 {
        let Extent {
            batch,
            time,
            neurons,
        } = self.extent;
        let mut one = self.one(neuron, sample, at);
        with(&mut one).slope = 1.0;
        let (handed_on, ends) = run(neuron, &one);
        let outputs = handed_on
            .iter()
            .enumerate()
            .map(|(t, y)| y.slope * f64::from(self.dy[(sample * time + t) * neurons + at]));
        let ends = ends.iter().enumerate().map(|(part, end)| {
            end.slope * f64::from(self.dend[(part * batch + sample) * neurons + at])
        });
        outputs.sum::<f64>() + ends.sum::<f64>()
    }
}

fn assert_near(name: &str, found: f32, exact: f64) {
    let error = (f64::from(found) - exact).abs();
    assert!(
        error < 4e-5 * (1.0 + exact.abs()),
        "{name}: {found}, expected {exact}"
    );
}

const EXTENT: Extent = Extent {
    batch: 2,
    time: 23,
    neurons: 67,
};

#[test]
fn neurons_are_the_plain_recursion() {
    for (name, neuron) in kinds() {
        let case = Case::new(&neuron, EXTENT, EXTENT.neurons);
        let [y, end] = case.forward(&neuron);
        let mut fired = 0.0;
        for sample in 0..EXTENT.batch {
            for at in 0..EXTENT.neurons {
                let (handed_on, ends) = run(&neuron, &case.one(&neuron, sample, at));
                for (t, exact) in handed_on.iter().enumerate() {
                    let found = y[(sample * EXTENT.time + t) * EXTENT.neurons + at];
                    assert_near(name, found, exact.value);
                    fired += found;
                }
                for (part, exact) in ends.iter().enumerate() {
                    let found = end[(part * EXTENT.batch + sample) * EXTENT.neurons + at];
                    assert_near(name, found, exact.value);
                }
            }
        }
        assert!(fired != 0.0, "{name}");
    }
}

#[test]
fn gradients_are_those_of_dual_numbers() {
    for (name, neuron) in kinds() {
        for parameters in [1, EXTENT.neurons] {
            let case = Case::new(&neuron, EXTENT, parameters);
            let (dx, gradients) = case.backward(&neuron);
            // Inputs and first states, of some neurons.
            for place @ [sample, at] in [[0, 0], [1, 63], [1, 66]] {
                for t in 0..EXTENT.time {
                    let exact = case.derivative(&neuron, place, |one| &mut one.x[t]);
                    let found = dx[(sample * EXTENT.time + t) * EXTENT.neurons + at];
                    assert_near(name, found, exact);
                }
                for part in 0..neuron.states() {
                    let exact = case.derivative(&neuron, place, |one| &mut one.start[part]);
                    let row = part * EXTENT.batch + sample;
                    assert_near(name, gradients.start[row * EXTENT.neurons + at], exact);
                }
            }
            let made = [
                &gradients.decay,
                &gradients.threshold,
                &gradients.synapse_decay,
                &gradients.adaptation_decay,
            ];
            for (which, made) in made.into_iter().enumerate() {
                assert_eq!(made.len(), case.numbers[which].len());
                let exact = |at: usize| -> f64 {
                    let samples = 0..EXTENT.batch;
                    let one = |sample| {
                        case.derivative(&neuron, [sample, at], |one| &mut one.numbers[which])
                    };
                    samples.map(one).sum()
                };
                match made.as_slice() {
                    [] => {}
                    [shared] => assert_near(name, *shared, (0..EXTENT.neurons).map(exact).sum()),
                    made => made
                        .iter()
                        .enumerate()
                        .for_each(|(at, g)| assert_near(name, *g, exact(at))),
                }
            }
        }
    }
}

/// A sequence cut in two, the second half from where the first ended, is the whole one.
#[test]
fn a_state_that_is_kept_goes_on() {
    let (_, neuron) = kinds().swap_remove(15);
    let case = Case::new(&neuron, Extent { batch: 1, ..EXTENT }, 1);
    let [whole, last] = case.forward(&neuron);
    let cut = 11 * EXTENT.neurons;
    let half = |x: &[f32], start: &[f32]| {
        let mut y = vec![0.0; x.len()];
        let mut end = vec![0.0; start.len()];
        let extent = Extent {
            batch: 1,
            time: x.len() / EXTENT.neurons,
            ..EXTENT
        };
        let pass = Pass {
            extent,
            x,
            start: Some(start),
            ..case.pass(&neuron)
        };
        pass.forward(&mut y, Some(&mut end));
        (y, end)
    };
    let (first, kept) = half(&case.x[..cut], &case.start);
    let (second, end) = half(&case.x[cut..], &kept);
    assert_eq!([first, second].concat(), whole);
    assert_eq!(end, last);
}

#[test]
fn bits_depend_on_neither_threads_nor_instructions() {
    let before = isa();
    for (name, neuron) in kinds().into_iter().chain(kinds_on_a_grid()) {
        let case = Case::new(&neuron, Extent { batch: 5, ..EXTENT }, 1);
        let mut found = Vec::new();
        for &isa in Isa::ALL {
            use_at_most(isa);
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                found.push(pool.install(|| (case.forward(&neuron), case.backward(&neuron))));
            }
        }
        use_at_most(before);
        assert!(found.iter().all(|other| *other == found[0]), "{name}");
    }
}

/// In sixteenths 0.3 is 4.8: what a reset sets is 5 of them, and what is least -5.
#[test]
fn a_state_stays_on_its_grid() {
    for (name, neuron) in kinds_on_a_grid() {
        let mut case = Case::new(&neuron, EXTENT, 1);
        case.start = case
            .start
            .iter()
            .map(|v| (v * 16.0).round() / 16.0)
            .collect();
        case.numbers[1] = vec![0.75];
        let [_, end] = case.forward(&neuron);
        assert!(end.iter().all(|v| (v * 16.0).fract() == 0.0), "{name}");
    }
    let (_, neuron) = kinds_on_a_grid().swap_remove(1);
    let pass = |x: &[f32]| {
        let pass = Pass {
            neuron: &neuron,
            parameters: Parameters {
                decay: &[0.5],
                threshold: &[1.0],
                ..Parameters::default()
            },
            extent: Extent {
                batch: 1,
                time: 1,
                neurons: 2,
            },
            x,
            start: None,
        };
        let mut end = [0.0; 2];
        pass.forward(&mut [0.0; 2], Some(&mut end));
        end
    };
    assert_eq!(pass(&[1.25, -0.75]), [0.3125, -0.3125]);
}

/// A leaky neuron with a synapse as a plain program of integers: 16 bits, decays by shift.
#[test]
fn a_grid_is_a_program_of_integers() {
    for overflow in [Overflow::Saturate, Overflow::Wrap] {
        let grid = Grid {
            step: 1.0,
            min: -32768.0,
            max: 32767.0,
            overflow,
            leak: Leak::Difference(LeakRounding::Down),
        };
        let neuron = Neuron {
            synapse: Some(Gain::One),
            firing: Some(Firing {
                most_spikes: 31,
                ..firing()
            }),
            grid: Some(grid),
            ..plain()
        };
        let limit = |x: i64| match overflow {
            Overflow::Saturate => x.clamp(-32768, 32767),
            Overflow::Wrap => i64::from(x as i16),
        };
        let extent = Extent {
            batch: 1,
            time: 50,
            neurons: 100,
        };
        let x: Vec<f32> = spread(extent.numbers(), 9, -9000.0, 11000.0)
            .into_iter()
            .map(f32::round)
            .collect();
        let [decay, synapse_decay] = [1.0 - 0.125, 1.0 - 0.25];
        let pass = Pass {
            neuron: &neuron,
            parameters: Parameters {
                decay: &[decay],
                threshold: &[1500.0],
                synapse_decay: &[synapse_decay],
                adaptation_decay: &[],
            },
            extent,
            x: &x,
            start: None,
        };
        let mut y = vec![0.0; x.len()];
        pass.forward(&mut y, None);
        for at in 0..extent.neurons {
            let (mut v, mut i) = (0i64, 0i64);
            for t in 0..extent.time {
                i = limit(i - (i >> 2) + x[t * extent.neurons + at] as i64);
                v = limit(v - (v >> 3) + i);
                let spikes = v.div_euclid(1500).clamp(0, 31);
                v = limit(v - 1500 * spikes);
                assert_eq!(
                    y[t * extent.neurons + at],
                    spikes as f32,
                    "{overflow:?} {t} {at}"
                );
            }
        }
    }
}
