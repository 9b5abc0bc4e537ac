//! Layers: their equations are the operator's, whose tests compare it with a plain recursion; here is
//! what a layer makes of its fields and slots.

use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::config::{Describe, QConfig};
use crate::ops::{Firing, Leak, LeakRounding, Reset, Surrogate};
use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig, Selection, Taps};

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
    assert_eq!(with("output", "fixed(8,2)"), spikes(&base));
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
    assert_eq!(
        SumPool2dConfig::new([0, 2])
            .check()
            .unwrap_err()
            .to_string(),
        "SumPool2d.kernel_size: is [0, 2], expected at least 1 each"
    );
}
