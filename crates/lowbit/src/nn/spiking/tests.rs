//! Layers: their equations are the operator's, whose tests compare it with a plain recursion; here is
//! what a layer makes of its fields and slots.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::config::{Describe, QConfig};
use crate::nn::LinearConfig;
use crate::ops::{Firing, Leak, LeakRounding, Reset, Surrogate};
use crate::quantizers::{
    FormatQuantizerConfig, Quantizer, QuantizerConfig, Selection, Tapped, Taps,
    TrainedThresholdConfig, observe,
};

const SHAPE: [usize; 3] = [2, 12, 5];

fn wave(shape: [usize; 3]) -> TensorData {
    let count = shape.iter().product();
    let numbers = (0..count).map(|i| ((i as f64 * 0.77).sin() * 1.3 + 0.5) as f32);
    TensorData::new(numbers.collect::<Vec<f32>>(), shape)
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn format(text: &str) -> QuantizerConfig {
    QuantizerConfig::Format(FormatQuantizerConfig::new(text.parse().unwrap()))
}

fn lif() -> LifConfig {
    LifConfig::new(DecayConfig::tau(5.3)).with_syn(Some(DecayConfig::tau(2.7)))
}

/// Spikes of a plain recursion in f64: sinabs' equations as its `lif_forward_single` has them.
fn sinabs(x: &[f32], [alpha_mem, alpha_syn, threshold]: [f64; 3]) -> Vec<f32> {
    let [batch, time, neurons] = SHAPE;
    let mut spikes = vec![0.0; x.len()];
    for (sample, neuron) in (0..batch * neurons).map(|i| (i / neurons, i % neurons)) {
        let (mut v, mut i) = (0.0, 0.0);
        for t in 0..time {
            let at = (sample * time + t) * neurons + neuron;
            i = alpha_syn * (i + f64::from(x[at]));
            v = alpha_mem * v + (1.0 - alpha_mem) * i;
            if v >= threshold {
                spikes[at] = 1.0;
                v -= threshold;
            }
        }
    }
    spikes
}

fn spikes(config: &LifConfig) -> Vec<f32> {
    let device = Device::flex();
    let x = Tensor::<3>::from_data(wave(SHAPE), &device);
    numbers(config.init(&device).forward(x))
}

#[test]
fn a_leaky_neuron_is_that_of_sinabs() {
    let config = lif().with_threshold(FiringThresholdConfig::new(0.3));
    let x: Vec<f32> = wave(SHAPE).iter::<f32>().collect();
    let expected = sinabs(&x, [(-1.0f64 / 5.3).exp(), (-1.0f64 / 2.7).exp(), 0.3]);
    assert!(expected.iter().sum::<f32>() > 5.0);
    assert_eq!(spikes(&config), expected);
}

/// A slot at a time: the neuron then has the number that the slot makes of it, and no other.
#[test]
fn each_parameter_goes_through_its_slot() {
    let base = lif().with_threshold(FiringThresholdConfig::new(0.3));
    let with = |slot: &str, text: &str| {
        let quantization = QConfig::new().with(slot, format(text));
        spikes(&base.clone().with_quantization(quantization))
    };
    let x: Vec<f32> = wave(SHAPE).iter::<f32>().collect();
    // Whole numbers: 5.3 is 5, 2.7 is 3. Sixteenths: exp(-1/5.3) = 0.828 is 13/16 and exp(-1/2.7) =
    // 0.690 is 11/16. Eighths: 0.3 is 0.25. Quarters of the input.
    let tau = |tau: f64| (-1.0 / tau).exp();
    let (mem, syn) = (tau(5.3), tau(2.7));
    assert_eq!(
        with("tau", "fixed(8,0)"),
        sinabs(&x, [tau(5.0), tau(3.0), 0.3])
    );
    let sixteenths = sinabs(&x, [13.0 / 16.0, 11.0 / 16.0, 0.3]);
    assert_eq!(with("alpha", "fixed(8,4)"), sixteenths);
    assert_eq!(
        with("threshold", "fixed(8,3)"),
        sinabs(&x, [mem, syn, 0.25])
    );
    let quarters: Vec<f32> = x
        .iter()
        .map(|x| (x * 4.0).round_ties_even() / 4.0)
        .collect();
    assert_eq!(
        with("input", "fixed(8,2)"),
        sinabs(&quarters, [mem, syn, 0.3])
    );
    // Four bits with three after the point end at 0.875.
    let most = spikes(&base).iter().map(|z| z * 0.875).collect::<Vec<_>>();
    assert_eq!(with("output", "fixed(4,3)"), most);
}

/// A neuron in f64, with the equations of the layers' documentation.
#[derive(Clone, Copy)]
struct Plain {
    mem: f64,
    /// Whether the membrane takes `1 - mem` of the current.
    norm: bool,
    syn: Option<f64>,
    /// Whether what comes in decays at once.
    at_once: bool,
    threshold: Option<f64>,
    adapt: Option<f64>,
    /// From all neurons to all.
    weight: Option<[[f64; 5]; 5]>,
}

impl Plain {
    /// What is handed on, `[batch][time][neurons]`.
    fn run(&self, x: &[f32]) -> Vec<f32> {
        let mut made = Vec::new();
        for sample in x.chunks(SHAPE[1] * SHAPE[2]) {
            let (mut v, mut i, mut b, mut z) = ([0.0; 5], [0.0; 5], [0.0; 5], [0.0; 5]);
            for row in sample.chunks(SHAPE[2]) {
                let before = z;
                for n in 0..5 {
                    let back = |w: [[f64; 5]; 5]| (0..5).map(|m| before[m] * w[m][n]).sum::<f64>();
                    let x = f64::from(row[n]) + self.weight.map_or(0.0, back);
                    i[n] = match self.syn {
                        Some(syn) if self.at_once => syn * (i[n] + x),
                        Some(syn) => syn * i[n] + x,
                        None => x,
                    };
                    let gain = if self.norm { 1.0 - self.mem } else { 1.0 };
                    v[n] = self.mem * v[n] + gain * i[n];
                    let Some(threshold) = self.threshold else {
                        made.push(v[n] as f32);
                        continue;
                    };
                    let threshold = threshold + 1.8 * b[n];
                    z[n] = f64::from(u8::from(v[n] >= threshold));
                    v[n] -= z[n] * threshold;
                    if let Some(adapt) = self.adapt {
                        b[n] = adapt * b[n] + (1.0 - adapt) * z[n];
                    }
                    made.push(z[n] as f32);
                }
            }
        }
        made
    }

    fn decays(self, decay: impl Fn(f64) -> f64) -> Self {
        let (syn, adapt) = (self.syn.map(&decay), self.adapt.map(&decay));
        let mem = if self.mem == 1.0 {
            1.0
        } else {
            decay(self.mem)
        };
        Self {
            mem,
            syn,
            adapt,
            ..self
        }
    }
}

/// What a layer does with a slot's format, and what its neurons are then, given what they are without.
fn assert_slots(name: &str, base: Plain, layer: impl Fn(QConfig) -> Vec<f32>) {
    let x: Vec<f32> = wave(SHAPE).iter::<f32>().collect();
    let plain = base.run(&x);
    let near = |slot: &str, text: &str, expected: Vec<f32>| {
        assert_ne!(expected, plain, "{name} {slot}");
        let found = layer(QConfig::new().with(slot, format(text)));
        let far = found
            .iter()
            .zip(&expected)
            .find(|(a, b)| (*a - *b).abs() > 1e-5);
        assert!(far.is_none(), "{name} {slot} {far:?}");
    };
    assert!(plain.iter().sum::<f32>() > 3.0, "{name}");
    // Whole numbers; the decay of tau is exp(-1 / tau).
    let whole = |alpha: f64| (-1.0 / (-1.0 / alpha.ln()).round_ties_even()).exp();
    near("tau", "fixed(8,0)", base.decays(whole).run(&x));
    let eighths = |alpha: f64| (alpha * 8.0).round_ties_even() / 8.0;
    near("alpha", "fixed(8,3)", base.decays(eighths).run(&x));
    let halves: Vec<f32> = x
        .iter()
        .map(|x| (x * 2.0).round_ties_even() / 2.0)
        .collect();
    near("input", "fixed(8,1)", base.run(&halves));
    let coarse = |y: &f32| ((y * 8.0).round_ties_even() / 8.0).min(0.875);
    near("output", "fixed(4,3)", plain.iter().map(coarse).collect());
    if let Some(threshold) = base.threshold {
        let threshold = Some((threshold * 4.0).round_ties_even() / 4.0);
        let moved = Plain { threshold, ..base };
        near("threshold", "fixed(8,2)", moved.run(&x));
    }
}

/// Each slot of each layer alone.
#[test]
fn each_layer_has_its_slots() {
    let device = Device::flex();
    let x = || Tensor::<3>::from_data(wave(SHAPE), &device);
    let tau = |tau: f64| (-1.0 / tau).exp();
    let at = FiringThresholdConfig::new(0.6);
    let leaky = Plain {
        mem: tau(5.3),
        norm: true,
        syn: Some(tau(2.7)),
        at_once: true,
        threshold: Some(0.6),
        adapt: None,
        weight: None,
    };
    let iaf = IafConfig::new().with_syn(Some(DecayConfig::tau(2.7)));
    let iaf = iaf.with_threshold(at.clone());
    let plain = Plain {
        mem: 1.0,
        norm: false,
        ..leaky
    };
    assert_slots("Iaf", plain, |slots| {
        numbers(
            iaf.clone()
                .with_quantization(slots)
                .init(&device)
                .forward(x()),
        )
    });
    let leak = ExpLeakConfig::new(DecayConfig::tau(5.3)).with_syn(Some(DecayConfig::tau(2.7)));
    let plain = Plain {
        threshold: None,
        ..leaky
    };
    assert_slots("ExpLeak", plain, |slots| {
        numbers(
            leak.clone()
                .with_quantization(slots)
                .init(&device)
                .forward(x()),
        )
    });
    let alif = AlifConfig::new(DecayConfig::tau(5.3), DecayConfig::tau(9.4));
    let alif = alif.with_threshold(at).with_norm_input(false);
    let plain = Plain {
        adapt: Some(tau(9.4)),
        norm: false,
        syn: None,
        ..leaky
    };
    assert_slots("Alif", plain, |slots| {
        numbers(
            alif.clone()
                .with_quantization(slots)
                .init(&device)
                .forward(x()),
        )
    });
    let cuba = CubaLifConfig::new(DecayConfig::tau(2.7), DecayConfig::tau(5.3));
    let cuba = cuba.with_threshold(FiringThresholdConfig::new(2.7));
    let plain = Plain {
        threshold: Some(2.7),
        norm: false,
        at_once: false,
        ..leaky
    };
    assert_slots("CubaLif", plain, |slots| {
        numbers(
            cuba.clone()
                .with_quantization(slots)
                .init(&device)
                .forward(x()),
        )
    });
}

/// Weights from five neurons to five, between -1 and 1.
fn recurrent_weight() -> [[f64; 5]; 5] {
    std::array::from_fn(|m| std::array::from_fn(|n| ((m * 5 + n) as f64 * 1.3).sin()))
}

fn recurrent(quantization: QConfig) -> Lif {
    let device = Device::flex();
    let config = lif()
        .with_threshold(FiringThresholdConfig::new(0.4))
        .with_recurrent(Some(5))
        .with_quantization(quantization);
    let mut layer = config.init(&device);
    let weight = recurrent_weight().map(|row| row.map(|w| w as f32));
    let weight = Tensor::<2>::from_floats(weight, &device);
    layer.weight = Some(burn::module::Param::from_tensor(weight));
    layer
}

#[test]
fn a_recurrent_weight_goes_through_its_slot() {
    let x: Vec<f32> = wave(SHAPE).iter::<f32>().collect();
    let tau = |tau: f64| (-1.0 / tau).exp();
    let plain = |weight: [[f64; 5]; 5]| Plain {
        mem: tau(5.3),
        norm: true,
        syn: Some(tau(2.7)),
        at_once: true,
        threshold: Some(0.4),
        adapt: None,
        weight: Some(weight),
    };
    let found = |quantization| {
        let x = Tensor::<3>::from_data(wave(SHAPE), &Device::flex());
        numbers(recurrent(quantization).forward(x))
    };
    let exact = plain(recurrent_weight()).run(&x);
    assert_eq!(found(QConfig::new()), exact);
    let whole = recurrent_weight().map(|row| row.map(f64::round_ties_even));
    let rounded = plain(whole).run(&x);
    assert_ne!(rounded, exact);
    let slot = QConfig::new().with("weight", format("fixed(8,0)"));
    assert_eq!(found(slot), rounded);
}

/// Slots of so many bits with one scale: `share`, and then bits of each.
fn sharing(share: &str, slots: &[(&str, u32)]) -> QConfig {
    let slot = |(name, bits): &(&str, u32)| {
        format!("{name} = {{ method = \"range-linear\", bits = {bits}, scheme = \"symmetric\" }}\n")
    };
    let slots: String = slots.iter().map(slot).collect();
    toml::from_str(&format!("share = [{share}]\n{slots}")).unwrap()
}

/// What taps see of a slot's parameter as it is read.
fn read_of(taps: &[Tapped], slot: &str) -> Vec<f32> {
    let seen = taps.iter().find(|tapped| tapped.place.slot == slot);
    seen.unwrap().read.iter::<f32>().collect()
}

/// A recurrent weight up to 1.5 in 3 bits has steps of 1.5 / 3, a threshold of 2.2 in 8 bits of 2.2 / 127:
/// shared, both have 0.5.
#[test]
fn recurrent_weight_and_threshold_share_a_scale() {
    let slots = sharing(
        "\"weight\", \"threshold\"",
        &[("weight", 3), ("threshold", 8)],
    );
    let device = Device::flex();
    let mut layer = lif()
        .with_threshold(FiringThresholdConfig::new(2.2))
        .with_recurrent(Some(2))
        .with_quantization(slots)
        .init(&device);
    let weight = Tensor::from_floats([[1.5, -0.6], [0.2, 0.3]], &device);
    layer.weight = Some(Param::from_tensor(weight));
    for state in [false, true] {
        let taps = Taps::attach(&layer, Selection::all());
        let x = Tensor::<3>::ones([1, 2, 2], &device);
        match state {
            false => drop(layer.forward(x)),
            true => drop(layer.forward_with_state(x, None)),
        }
        let taps = taps.detach();
        assert_eq!(read_of(&taps, "weight"), [1.5, -0.5, 0.0, 0.5]);
        assert_eq!(read_of(&taps, "threshold"), [2.0]);
    }
}

/// The same of a linear layer and the neurons behind it, until the scale is dropped. Alone, 2.2 is
/// 2.2, and a bias of 0.7 in 3 bits, whose step is 0.7 / 3 alone, is 0.5 beside 1.5 / 3.
#[test]
fn a_threshold_shares_the_scale_of_the_layer_before() {
    let device = Device::flex();
    let slots = sharing("\"weight\", \"bias\"", &[("weight", 3), ("bias", 3)]);
    let config = LinearConfig::new(2, 1).with_quantization(slots);
    let mut linear = config.init(&device);
    linear.weight = Param::from_tensor(Tensor::from_floats([[1.5], [-0.6]], &device));
    let bias = Tensor::from_floats([0.7], &device);
    linear.bias = Some(Param::from_tensor(bias.clone()));
    let neurons = lif()
        .with_threshold(FiringThresholdConfig::new(2.2))
        .with_quantization(sharing("\"threshold\"", &[("threshold", 8)]));
    let neurons = neurons.init(&device);
    let pair = (linear, neurons);
    let run = || {
        let taps = Taps::attach(&pair, Selection::all());
        let x = Tensor::<3>::ones([1, 2, 2], &device);
        pair.1.forward(pair.0.forward(x));
        let taps = taps.detach();
        ["weight", "bias", "threshold"].map(|slot| read_of(&taps, slot))
    };
    let alone = run();
    assert_eq!(alone[..2], [vec![1.5, -0.5], vec![0.5]]);
    assert!((alone[2][0] - 2.2).abs() < 1e-6, "{alone:?}");
    let weight = pair.0.weight.val();
    let shared = pair.1.share_scale(&pair.0.quantizers, &weight, Some(&bias));
    assert_eq!(run(), [vec![1.5, -0.5], vec![0.5], vec![2.0]]);
    drop(shared);
    assert_eq!(run(), alone);
    // The threshold's scale, where it is the largest: 254 / 127 is 2, and 1.5 is nearer to 2.
    let (linear, mut neurons) = pair;
    neurons.threshold = Param::from_tensor(Tensor::from_floats([254.0], &device));
    let shared = neurons.share_scale(&linear.quantizers, &weight, Some(&bias));
    let read = numbers(linear.quantizers.weight(weight).quantized());
    assert_eq!(read, [2.0, 0.0]);
    drop(shared);
    // Neurons that share nothing leave it to the layer.
    let neurons = lif().init(&device);
    let weight = linear.weight.val();
    let none = neurons.share_scale(&linear.quantizers, &weight, Some(&bias));
    assert!(none.is_none());
}

/// Cut anywhere, it is the whole: the spikes before the cut are kept.
#[test]
fn a_recurrent_layer_goes_on_from_its_spikes() {
    let layer = recurrent(QConfig::new());
    let x = Tensor::<3>::from_data(wave(SHAPE), &Device::flex());
    let whole = numbers(layer.forward(x.clone()));
    let mut matter = false;
    for cut in 1..SHAPE[1] {
        let (first, state) = layer.forward_with_state(x.clone().slice([0..2, 0..cut]), None);
        let rest = || x.clone().slice([0..2, cut..SHAPE[1]]);
        let kept = state.detach();
        let (second, _) = layer.forward_with_state(rest(), Some(kept.clone()));
        let halves = |second| numbers(Tensor::cat(vec![first.clone(), second], 1));
        assert_eq!(halves(second), whole, "{cut}");
        let forgets = NeuronState {
            spikes: None,
            ..kept
        };
        let (second, _) = layer.forward_with_state(rest(), Some(forgets));
        matter |= halves(second) != whole;
    }
    assert!(matter);
}

/// A membrane of integers: `state` on the grid of 1/8, whose leak is rounded toward zero.
#[test]
fn a_state_on_a_grid_is_integers() {
    let config = LifConfig::new(DecayConfig::alpha(0.75))
        .with_norm_input(false)
        .with_leak(Leak::Product(LeakRounding::TowardZero))
        .with_quantization(QConfig::new().with("state", format("fixed(8,3)")));
    let x: Vec<f32> = wave(SHAPE).iter::<f32>().collect();
    let [batch, time, neurons] = SHAPE;
    let mut expected = vec![0.0; x.len()];
    let mut last = vec![0.0; batch * neurons];
    for (sample, neuron) in (0..batch * neurons).map(|i| (i / neurons, i % neurons)) {
        let mut v = 0i32;
        for t in 0..time {
            let at = (sample * time + t) * neurons + neuron;
            // Rust's division rounds toward zero.
            v = (v * 3 / 4 + (x[at] * 8.0).round_ties_even() as i32).clamp(-128, 127);
            if v >= 8 {
                expected[at] = 1.0;
                v -= 8;
            }
        }
        last[sample * neurons + neuron] = v as f32 / 8.0;
    }
    assert_eq!(spikes(&config), expected);
    let device = Device::flex();
    let layer = config.init(&device);
    let x = Tensor::<3>::from_data(wave(SHAPE), &device);
    let (_, state) = layer.forward_with_state(x.clone(), None);
    assert_eq!(numbers(state.membrane()), last);
    // Who looks at each step's state sees the same.
    let taps = Taps::attach(&layer, Selection::default());
    assert_eq!(numbers(layer.forward(x)), expected);
    let seen = taps.detach();
    let states: Vec<_> = seen
        .iter()
        .filter(|tapped| tapped.place.slot == "state")
        .collect();
    assert_eq!(states.len(), time);
    assert_eq!(
        states[time - 1].tensor.iter::<f32>().collect::<Vec<_>>(),
        last
    );
}

/// A reset to 0.3 and a least potential of -0.3 are 2/8 and -2/8, whoever looks.
#[test]
fn what_a_reset_sets_is_on_the_grid() {
    let config = LifConfig::new(DecayConfig::alpha(0.75))
        .with_norm_input(false)
        .with_firing(Firing {
            reset: Reset::To(0.3),
            ..Firing::default()
        })
        .with_min_v(Some(-0.3))
        .with_leak(Leak::Product(LeakRounding::TowardZero))
        .with_quantization(QConfig::new().with("state", format("fixed(8,3)")));
    let numbers_in: Vec<f32> = wave(SHAPE).iter::<f32>().map(|x| x - 0.3).collect();
    let [batch, time, neurons] = SHAPE;
    let mut expected = vec![0.0; numbers_in.len()];
    let mut last = vec![0.0; batch * neurons];
    let (mut reset, mut limited) = (0, 0);
    for (sample, neuron) in (0..batch * neurons).map(|i| (i / neurons, i % neurons)) {
        let mut v = 0i32;
        for t in 0..time {
            let at = (sample * time + t) * neurons + neuron;
            v = v * 3 / 4 + (numbers_in[at] * 8.0).round_ties_even() as i32;
            if v >= 8 {
                (expected[at], v, reset) = (1.0, 2, reset + 1);
            }
            if v < -2 {
                (v, limited) = (-2, limited + 1);
            }
        }
        last[sample * neurons + neuron] = v as f32 / 8.0;
    }
    assert!(reset > 5 && limited > 5);
    let layer = config.init(&Device::flex());
    let x = TensorData::new(numbers_in, SHAPE);
    let x = Tensor::<3>::from_data(x, &Device::flex());
    let assert_same = || {
        let (made, state) = layer.forward_with_state(x.clone(), None);
        assert_eq!(numbers(made), expected);
        assert_eq!(numbers(state.membrane()), last);
    };
    assert_same();
    let taps = Taps::attach(&layer, Selection::default());
    assert_same();
    drop(taps.detach());
}

/// A state whose step is learned is rounded after each step and learns it; calibration sees the states
/// and nothing else.
#[test]
fn a_state_learns_its_step() {
    let device = Device::flex().autodiff();
    let tqt = QuantizerConfig::Tqt(TrainedThresholdConfig::new(4));
    let config = LifConfig::new(DecayConfig::alpha(0.75)).with_norm_input(false);
    let config = config.with_threshold(FiringThresholdConfig::new(0.5));
    let layer = config
        .with_quantization(QConfig::new().with("state", tqt))
        .init(&device);
    let x = Tensor::<3>::from_data(wave(SHAPE), &device);
    let grads = layer.forward(x.clone()).sum().backward();
    let Some(Quantizer::TrainedThreshold(state)) = layer.quantizers.get("state") else {
        panic!("the slot has a trained threshold");
    };
    let learned = state.log2_threshold.val().grad(&grads).unwrap();
    assert!(numbers(learned)[0] != 0.0);
    let seen = observe(|| drop(layer.forward(x)));
    let counts: Vec<u64> = seen
        .values()
        .map(|seen| seen.histograms[0].count())
        .collect();
    assert_eq!(counts, [SHAPE.iter().product::<usize>() as u64]);
}

/// 0.3 is 0 as a whole number: nothing is left after a step, and no gradient is NaN.
#[test]
fn a_time_constant_of_zero_keeps_nothing() {
    let device = Device::flex().autodiff();
    for euler in [false, true] {
        let decay = DecayConfig::tau(0.3).with_trained(true).with_euler(euler);
        let config = LifConfig::new(decay).with_norm_input(false);
        let slots = QConfig::new().with("tau", format("fixed(8,0)"));
        let layer = config.with_quantization(slots).init(&device);
        let x = Tensor::<3>::from_data(wave(SHAPE), &device);
        let made = layer.forward(x.clone());
        let fires = |x: f32| f32::from(u8::from(x >= 1.0));
        let expected: Vec<f32> = numbers(x).into_iter().map(fires).collect();
        assert_eq!(numbers(made.clone()), expected);
        let grads = made.sum().backward();
        let tau = layer.mem.tau.as_ref().unwrap().val();
        assert!(numbers(tau.grad(&grads).unwrap())[0].is_finite());
    }
}

/// A state in a format that is no grid is rounded after each step.
#[test]
fn a_state_takes_any_format() {
    let config = LifConfig::new(DecayConfig::alpha(0.75)).with_norm_input(false);
    let config = config.with_quantization(QConfig::new().with("state", format("e4m3")));
    let device = Device::flex();
    let x = Tensor::<3>::from_data(wave(SHAPE), &device);
    let (_, state) = config.init(&device).forward_with_state(x, None);
    let membrane = numbers(state.membrane());
    assert!(membrane.iter().all(|v| {
        // Four bits of significand.
        let significand = v.to_bits() & 0x007f_ffff;
        significand.trailing_zeros() >= 20 || *v == 0.0
    }));
}

#[test]
fn spikes_come_back_through_the_recurrent_weight() {
    let device = Device::flex().autodiff();
    let mut layer = LifConfig::new(DecayConfig::alpha(0.5))
        .with_norm_input(false)
        .with_recurrent(Some(2))
        .init(&device);
    let weight = Tensor::from_floats([[0.0, 2.0], [0.0, 0.0]], &device);
    layer.weight = layer
        .weight
        .map(|_| burn::module::Param::from_tensor(weight));
    let x = Tensor::<3>::from_floats([[[1.5, 0.0], [0.0, 0.0], [0.0, 0.0]]], &device);
    let y = layer.forward(x.require_grad());
    // The first neuron fires at once; the second a step later, by the first one's spike. It keeps 2 - 1
    // and half of that.
    assert_eq!(numbers(y.clone()), [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let grads = y.sum().backward();
    let weight = layer.weight.as_ref().unwrap().val();
    let to_weight = numbers(weight.grad(&grads).unwrap());
    // From the first neuron to the second: its potentials 2 and 0.5 have the slopes h = 2 e^(-|u - 1| / 0.5),
    // 0.2707 and 0.7358; the second step reaches the third by 0.5 (1 - 0.2707).
    assert!((to_weight[1] - (0.2707 + 0.5 * (1.0 - 0.2707) * 0.7358)).abs() < 1e-4);
}

#[test]
fn what_is_trained_gets_gradients() {
    let device = Device::flex().autodiff();
    let config = AlifConfig::new(
        DecayConfig::tau(5.0)
            .with_trained(true)
            .with_neurons(Some(5)),
        DecayConfig::tau(20.0).with_trained(true),
    )
    .with_threshold(FiringThresholdConfig::new(0.4).with_trained(true))
    .with_syn(Some(DecayConfig::alpha(0.5)));
    let layer = config.init(&device);
    let x = Tensor::<3>::from_data(wave(SHAPE), &device);
    let grads = layer.forward(x).sum().backward();
    let tau = layer.mem.tau.as_ref().unwrap().val();
    assert!(numbers(tau.grad(&grads).unwrap()).iter().all(|g| *g != 0.0));
    let adapt = layer.adapt.tau.as_ref().unwrap().val();
    assert!(numbers(adapt.grad(&grads).unwrap())[0] != 0.0);
    assert!(numbers(layer.threshold.val().grad(&grads).unwrap())[0] < 0.0);
    let syn = layer.syn.as_ref().unwrap().alpha.as_ref().unwrap().val();
    assert!(syn.grad(&grads).is_none());
}

/// Folded, of any shape, and with the state kept between halves, it is the same sequence.
#[test]
fn time_can_be_folded_and_cut() {
    let device = Device::flex();
    let config = CubaLifConfig::new(DecayConfig::alpha(0.7), DecayConfig::alpha(0.8));
    let layer = config.init(&device);
    let x = Tensor::<3>::from_data(wave(SHAPE), &device);
    let whole = numbers(layer.forward(x.clone()));
    let folded = layer.forward_folded(fold_time::<3, 2>(x.clone()), SHAPE[1]);
    assert_eq!(numbers(unfold_time::<2, 3>(folded, SHAPE[1])), whole);
    let (first, state) = layer.forward_with_state(x.clone().slice([0..2, 0..7]), None);
    let rest = x.slice([0..2, 7..12]);
    let (second, _) = layer.forward_with_state(rest, Some(state.detach()));
    assert_eq!(numbers(Tensor::cat(vec![first, second], 1)), whole);
}

#[test]
fn fields_out_of_range_are_refused() {
    let refused = |config: LifConfig| config.check().unwrap_err().to_string();
    assert_eq!(
        refused(LifConfig::new(DecayConfig::tau(0.0))),
        "Lif.mem: tau is 0, expected finite and positive"
    );
    assert_eq!(
        refused(LifConfig::new(DecayConfig::alpha(1.5))),
        "Lif.mem: alpha is 1.5, expected 0 to 1"
    );
    let recurrent = QConfig::new().with("weight", format("fixed(8,6)"));
    assert_eq!(
        refused(lif().with_quantization(recurrent)),
        "Lif: a Lif has no weight to quantize"
    );
    let waits = Firing {
        reset_next: true,
        reset: Reset::To(0.0),
        surrogate: Surrogate::Box {
            width: 1.0,
            scale: 1.0,
        },
        ..Firing::default()
    };
    let adaptive = AlifConfig::new(DecayConfig::tau(5.0), DecayConfig::tau(9.0));
    assert_eq!(
        adaptive.with_firing(waits).check().unwrap_err().to_string(),
        "Alif.firing: reset_next is not for a threshold that moves"
    );
    let firing = |firing| refused(lif().with_firing(firing));
    assert_eq!(
        firing(Firing {
            most_spikes: 0,
            ..Firing::default()
        }),
        "Lif.firing: most_spikes is 0, expected 1 at least"
    );
    assert_eq!(
        firing(Firing {
            reset: Reset::To(f32::NAN),
            ..Firing::default()
        }),
        "Lif.firing: resets to NaN, expected finite"
    );
    let surrogate = |surrogate| {
        firing(Firing {
            surrogate,
            ..Firing::default()
        })
    };
    let (width, scale) = (0.0, 1.0);
    assert_eq!(
        surrogate(Surrogate::Box { width, scale }),
        "Lif.firing: width is 0, expected finite and positive"
    );
    let (slope, scale) = (25.0, f32::INFINITY);
    assert_eq!(
        surrogate(Surrogate::FastSigmoid { slope, scale }),
        "Lif.firing: scale is inf, expected finite"
    );
    assert_eq!(
        SumPool2dConfig::new([0, 2])
            .check()
            .unwrap_err()
            .to_string(),
        "SumPool2d.kernel_size: is [0, 2], expected at least 1 each"
    );
}
