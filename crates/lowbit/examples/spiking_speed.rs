//! The time of leaky neurons over 500 steps, forward and backward: 512 neurons, 16 samples, two threads.
//! `benches/peers/spiking.py` has other libraries do the same.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use lowbit::config::QConfig;
use lowbit::nn::{DecayConfig, Lif, LifConfig};
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig};

const SHAPE: [usize; 3] = [16, 500, 512];
const REPEATS: usize = 30;

/// Milliseconds of a pass forward and backward.
fn milliseconds(layer: &Lif, input: &Tensor<3>) -> f64 {
    let input = input.clone().require_grad();
    let start = Instant::now();
    let grads = layer.forward(input.clone()).sum().backward();
    let gradient = input.grad(&grads).expect("the input has a gradient");
    drop(gradient.slice([0..1, 0..1, 0..1]).into_data());
    start.elapsed().as_secs_f64() * 1e3
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
    let layers = [config.clone(), config.with_quantization(quantized)];
    let layers = layers.map(|config| config.init(&device));
    let input = Tensor::<3>::random(SHAPE, Distribution::Uniform(-0.2, 0.9), &device);
    // In turn, so that what else the machine does meets both; the least is what it costs.
    let mut least = [f64::INFINITY; 2];
    for _ in 0..REPEATS {
        for (layer, least) in layers.iter().zip(&mut least) {
            *least = least.min(milliseconds(layer, &input));
        }
    }
    let [float, quantized] = least;
    println!("float      {float:8.1} ms");
    println!("quantized  {quantized:8.1} ms   {:.2}", quantized / float);
}
