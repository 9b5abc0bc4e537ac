//! Another device beside the host: quantizers have the host's bits there, and their gradients too, up to
//! the order of sums. `LOWBIT_DEVICE` names the device:
//!
//! ```sh
//! LOWBIT_DEVICE=wgpu cargo test --release --features wgpu --test suite -- --ignored devices
//! ```

use std::ops::RangeInclusive;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit::DeviceKind;
use lowbit::config::{Method, QConfig};
use lowbit::ops::{self, ClampedGradient};
use lowbit::quantizers::{Channels, learned};
use lowbit_formats::{Format, Rounding};

/// Numbers as of a normal distribution, with ties, both zeros and what is out of range among them.
fn numbers(count: usize, seed: u32, scale: f32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut drawn: Vec<f32> = (0..count)
        .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
        .map(|x| x * scale)
        .collect();
    let special = [0.0, -0.0, 0.5, 1.5, -2.5, 0.125, 0.375, 1e-3, 40.0, -40.0];
    drawn.truncate(count.saturating_sub(special.len()));
    drawn.extend(special);
    drawn
}

/// What comes out of a quantizer, and the gradients of its input and of what it learns.
struct Made {
    forward: Vec<f32>,
    to_input: Vec<f32>,
    to_learned: Vec<(String, Vec<f32>)>,
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

const SHAPE: [usize; 4] = [6, 5, 4, 3];

fn quantized(config: &QConfig, slot: &str, x: &[f32], device: &Device) -> Made {
    let tensor = |x: &[f32]| Tensor::<4>::from_data(TensorData::new(x.to_vec(), SHAPE), device);
    let channels = Channels {
        axis: 0,
        count: SHAPE[0],
    };
    let quantizers = config.init(Some(channels), device);
    let input = tensor(x).require_grad();
    let y = match slot {
        "weight" => quantizers.weight(input.clone()).quantized(),
        slot => quantizers.activation(slot, input.clone()).quantized(),
    };
    let grad = numbers(x.len(), 77, 1.0);
    let mut grads = (y.clone() * tensor(&grad)).sum().backward();
    let to_input = input.grad(&grads).map(read).unwrap_or_default();
    let to_learned = GradientsParams::from_module(&mut grads, &quantizers);
    let to_learned = learned(&quantizers).into_iter().filter_map(|parameter| {
        let gradient = to_learned.get::<1>(parameter.id)?;
        Some((parameter.key, read(gradient)))
    });
    Made {
        forward: read(y),
        to_input,
        to_learned: to_learned.collect(),
    }
}

/// The device that `LOWBIT_DEVICE` names.
fn other() -> Device {
    let name = std::env::var("LOWBIT_DEVICE").expect("LOWBIT_DEVICE names a device");
    name.parse::<DeviceKind>().unwrap().device().unwrap()
}

/// The places at which two lists have other bits, as text; a NaN is a NaN.
fn differences(host: &[f32], device: &[f32]) -> Option<String> {
    assert_eq!(host.len(), device.len());
    let pairs = host.iter().zip(device).enumerate();
    let differ: Vec<_> = pairs
        .filter(|(_, (a, b))| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()))
        .collect();
    let (i, (a, b)) = differ.first()?;
    let count = differ.len();
    Some(format!(
        "{count} of {}, [{i}]: {a:e}, not {b:e}",
        host.len()
    ))
}

fn far(host: &[f32], device: &[f32], tolerance: f32) -> Option<String> {
    assert_eq!(host.len(), device.len());
    let largest = host.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    let mut pairs = host.iter().zip(device);
    let near = |a: f32, b: f32| (a - b).abs() <= tolerance * largest || a.is_nan() && b.is_nan();
    let (a, b) = pairs.find(|(a, b)| !near(**a, **b))?;
    Some(format!("{a:e}, not {b:e}"))
}

/// Every method at its usual and at its least widths, of a weight and of an activation.
#[test]
#[ignore = "needs LOWBIT_DEVICE"]
fn methods_have_the_hosts_bits() {
    let (host, device) = (Device::flex().autodiff(), other().autodiff());
    let mut wrong = Vec::new();
    let mut compared = 0;
    for method in Method::ALL {
        let least = |range: Option<RangeInclusive<u32>>| range.map(|bits| *bits.start());
        let least = [method.weight_bits(), method.activation_bits()].map(least);
        for [weight, activation] in [
            method.usual_bits(),
            [least[0].unwrap_or(32), least[1].unwrap_or(32)],
        ] {
            let config = method.plan(weight, activation).default;
            for (slot, _) in config.slots() {
                let x = numbers(SHAPE.iter().product(), 5, 0.4);
                let [on_host, there] =
                    [&host, &device].map(|device| quantized(&config, slot, &x, device));
                let name = format!("{}-{weight}/{activation} {slot}", method.name());
                let mut check = |what: &str, found: Option<String>| {
                    wrong.extend(found.map(|found| format!("{name} {what}: {found}")));
                };
                check("forward", differences(&on_host.forward, &there.forward));
                check("gradient", far(&on_host.to_input, &there.to_input, 1e-6));
                assert_eq!(on_host.to_learned.len(), there.to_learned.len(), "{name}");
                let learned = on_host.to_learned.iter().zip(&there.to_learned);
                for ((key, host), (_, device)) in learned {
                    check(key, far(host, device, 1e-5));
                }
                compared += 1;
            }
        }
    }
    assert!(compared > Method::ALL.len(), "{compared} quantizers");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Formats of every family, to nearest and at random.
#[test]
#[ignore = "needs LOWBIT_DEVICE"]
fn formats_have_the_hosts_bits() {
    let (host, device) = (Device::flex().autodiff(), other().autodiff());
    let texts = [
        "fixed(8,4)",
        "int8",
        "e4m3",
        "e5m2",
        "bf16",
        "posit(8,1)",
        "mxfp8(e4m3)",
        "nvfp4",
        "nf4",
    ];
    let at_random = Rounding::stochastic(3, 4);
    let mut wrong = Vec::new();
    for text in texts {
        let format: Format = text.parse().unwrap();
        for rounding in [Rounding::NearestEven, at_random] {
            let x = numbers(960, 9, 1.0);
            let [a, b] = [&host, &device].map(|device| {
                let x = Tensor::<2>::from_data(TensorData::new(x.clone(), [30, 32]), device);
                let x = x.require_grad();
                let y = ops::fake_quantize(x.clone(), &format, rounding, ClampedGradient::Zero);
                let grads = (y.clone() * y.clone().detach()).sum().backward();
                [read(y), read(x.grad(&grads).unwrap())]
            });
            for (what, (a, b)) in ["forward", "gradient"].iter().zip(a.iter().zip(&b)) {
                let found = differences(a, b);
                wrong.extend(found.map(|found| format!("{text} {rounding} {what}: {found}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
