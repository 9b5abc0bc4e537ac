//! One scale for weights, biases and the thresholds that their sums meet, in a network.

use burn::tensor::Device;
use lowbit::config::QPlan;
use lowbit::models::{Classifier, SnnLeNetConfig, Width};
use lowbit::quantizers::{Selection, Taps};

use crate::numbers::numbers;

/// Of each pair of layers, all are multiples of the largest of `max |x| / (2^(bits - 1) - 1)`: of 8 bits
/// for weights, and of 16 for the others. A last layer, which no neurons read, has its own.
#[test]
fn thresholds_have_the_scale_of_what_their_neurons_read() {
    let linear = |bits: u32| {
        format!("{{ method = \"range-linear\", scheme = \"symmetric\", bits = {bits} }}")
    };
    let sums = |kind: &str| {
        let (weight, bias) = (linear(8), linear(16));
        format!(
            "[[overrides]]
            type = \"{kind}\"
            set.share = [\"weight\", \"bias\"]
            set.weight = {weight}
            set.bias = {bias}
            "
        )
    };
    let neurons = format!(
        "[[overrides]]
        type = \"Lif\"
        set.share = [\"threshold\"]
        set.threshold = {}",
        linear(16)
    );
    let plan = [sums("Conv2d"), sums("Linear"), neurons].concat();
    let device = Device::flex();
    let config = SnnLeNetConfig {
        width: Width::ONE,
        input: [1, 16, 16],
        classes: 10,
        plan: QPlan::from_toml(&plan).unwrap(),
    };
    let model = config.init(&device).unwrap();
    let taps = Taps::attach(&model, Selection::all());
    model.forward(numbers([1, 1, 16, 16], 0.5, &device));
    let taps = taps.detach();
    let of = |path: &str| {
        let seen = taps.iter().find(|tapped| tapped.path() == path);
        let seen = seen.unwrap_or_else(|| panic!("{path} was not seen"));
        [&seen.tensor, &seen.read].map(|data| data.iter::<f32>().collect::<Vec<_>>())
    };
    let largest = |x: &[f32]| x.iter().fold(0f64, |most, x| most.max(f64::from(x.abs())));
    for (layer, neurons) in [("conv1", "lif1"), ("conv2", "lif2"), ("fc1", "lif3")] {
        let slots = [
            (format!("{layer}.weight"), 127.0),
            (format!("{layer}.bias"), 32767.0),
            (format!("{neurons}.threshold"), 32767.0),
        ];
        let scales = slots
            .iter()
            .map(|(path, most)| largest(&of(path)[0]) / most);
        let scale = scales.fold(0.0, f64::max);
        for (path, _) in &slots {
            let [tensor, read] = of(path);
            for (x, read) in tensor.iter().zip(read) {
                let expected = (f64::from(*x) / scale).round() * scale;
                let near = (f64::from(read) - expected).abs() < 1e-3 * scale;
                // What lies between two multiples may be either, to f32's rounding of the scale.
                let tie = ((f64::from(*x) / scale).fract().abs() - 0.5).abs() < 1e-3;
                assert!(near || tie, "{path}: {x} is {read}, expected {expected}");
            }
        }
    }
}
