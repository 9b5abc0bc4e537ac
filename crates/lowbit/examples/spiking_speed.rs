//! The time of leaky neurons over 500 steps, forward and backward: 512 neurons, 16 samples, two threads.
//! `benches/peers/spiking.py` has other libraries do the same.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use lowbit::config::QConfig;
use lowbit::nn::{DecayConfig, Lif, LifConfig};
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig};

const SHAPE: [usize; 3] = [16, 500, 512];
const REPEATS: usize = 10;

/// The least milliseconds of a pass forward and backward.
fn milliseconds(layer: &Lif, device: &Device) -> f64 {
    let input = Tensor::<3>::random(SHAPE, Distribution::Uniform(-0.2, 0.9), device);
    let times = (0..REPEATS).map(|_| {
        let input = input.clone().require_grad();
        let start = Instant::now();
        let grads = layer.forward(input.clone()).sum().backward();
        let gradient = input.grad(&grads).expect("the input has a gradient");
        drop(gradient.slice([0..1, 0..1, 0..1]).into_data());
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    pool.build_global().expect("no threads before this");
    let device = Device::flex().autodiff();
    let format = |text: &str| {
        let format = text.parse().expect("a format");
        QuantizerConfig::Format(FormatQuantizerConfig::new(format))
    };
    let config = LifConfig::new(DecayConfig::tau(10.0)).with_norm_input(false);
    let quantized = QConfig::new()
        .with("tau", format("ufixed(8,3)"))
        .with("threshold", format("fixed(16,12)"))
        .with("state", format("fixed(16,12)"));
    let float = milliseconds(&config.init(&device), &device);
    let quantized = config.with_quantization(quantized).init(&device);
    let quantized = milliseconds(&quantized, &device);
    println!("float      {float:8.1} ms");
    println!("quantized  {quantized:8.1} ms   {:.2}", quantized / float);
}
