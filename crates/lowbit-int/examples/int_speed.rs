//! The speed of ResNet-20's shapes in integers, and its share of what the CPU's instruction for
//! products of bytes can do.
//!
//! ```text
//! cargo run --release -p lowbit-int --example int_speed [IMAGES]
//! ```
//!
//! Weights are random: the speed depends on the shapes alone. The network is the one with activations
//! after the additions, normalizations folded: 40.55 million products an image (CIFAR's 32 x 32), with
//! the 1x1 convolutions of its two shortcuts.

use std::time::Instant;

use lowbit_int::ops::{
    Add, AveragePool, Convolution, Flatten, Linear, Requantize, Sliding, Weights, Windows,
};
use lowbit_int::{Engine, Graph, GraphError, Numbers, Operator, Rounding, TensorId, interpret};
use lowbit_kernels::integer::{kind, products_per_second};

type Made = Result<TensorId, Box<dyn std::error::Error>>;

/// A network that grows, and its products.
struct Network {
    graph: Graph,
    products: usize,
    random: u64,
}

impl Network {
    fn byte(&mut self) -> i64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.random >> 40) & 255) as i64 - 128
    }

    fn weights(&mut self, shape: &[usize]) -> Result<Weights, String> {
        let count = shape.iter().product();
        Ok(Weights {
            shape: shape.to_vec(),
            numbers: Numbers::power_of_two(8, true, -7)?,
            values: (0..count).map(|_| self.byte()).collect(),
        })
    }

    /// A requantization to a byte with exponent -4.
    fn narrow(&mut self, name: &str, sums: TensorId, signed: bool) -> Made {
        let exponent = self.graph.tensor(sums).numbers().exponent().unwrap_or(0);
        let numbers = Numbers::power_of_two(8, signed, -4)?;
        let shift = (-4 - exponent) as u32;
        let requantize = Requantize::by_shift(shift, Rounding::HalfEven, numbers);
        Ok(self.graph.push(name, requantize, &[sums])?)
    }

    /// A convolution and its requantization, whose saturation at zero is the rectifier.
    fn convolution(
        &mut self,
        name: &str,
        x: TensorId,
        outputs: usize,
        kernel: usize,
        stride: usize,
        signed: bool,
    ) -> Made {
        let inputs = self.graph.tensor(x).shape()[0];
        let weights = self.weights(&[outputs, inputs, kernel, kernel])?;
        let sliding = Sliding::new(2).with_stride(stride).with_padding(kernel / 2);
        let convolution = Convolution::new(weights, Some(vec![100; outputs])).with_sliding(sliding);
        let sums = self.graph.push(name, convolution, &[x])?;
        let pixels: usize = self.graph.tensor(sums).shape()[1..].iter().product();
        self.products += pixels * outputs * inputs * kernel * kernel;
        self.narrow(&format!("{name}.requantize"), sums, signed)
    }

    fn block(&mut self, name: &str, x: TensorId, outputs: usize, stride: usize) -> Made {
        let first = self.convolution(&format!("{name}.conv1"), x, outputs, 3, stride, false)?;
        let second = self.convolution(&format!("{name}.conv2"), first, outputs, 3, 1, true)?;
        let shortcut = if stride == 1 {
            x
        } else {
            self.convolution(&format!("{name}.shortcut"), x, outputs, 1, stride, true)?
        };
        let sum = self.graph.push(
            &format!("{name}.add"),
            Add {
                multipliers: [1, 1],
            },
            &[second, shortcut],
        )?;
        self.narrow(&format!("{name}.out"), sum, false)
    }
}

fn resnet20() -> Result<Network, Box<dyn std::error::Error>> {
    let mut net = Network {
        graph: Graph::new(),
        products: 0,
        random: 20,
    };
    let image = net
        .graph
        .input("image", &[3, 32, 32], Numbers::power_of_two(8, true, -6)?)?;
    let mut x = net.convolution("conv", image, 16, 3, 1, false)?;
    for (stage, outputs) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.block(&format!("layer{stage}.{block}"), x, outputs, stride)?;
        }
    }
    let windows = Windows::global(2);
    let average = AveragePool {
        windows,
        include_padding: false,
    };
    let average = net.graph.push("average", average, &[x])?;
    let average = net.narrow("average.requantize", average, false)?;
    let flat = net.graph.push("flatten", Flatten {}, &[average])?;
    let weights = net.weights(&[10, 64])?;
    net.products += 640;
    let operator: Operator = Linear {
        weights,
        bias: None,
    }
    .into();
    let logits = net.graph.push("linear", operator, &[flat])?;
    net.graph.output(logits)?;
    Ok(net)
}

/// Images a second, the best of a few tries.
fn speed(engine: &Engine, images: &[i64], batch: usize) -> Result<f64, GraphError> {
    let mut outputs = engine.run(&[images])?;
    let calls = (256 / batch).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..calls {
            engine.run_into(&[images], &mut outputs)?;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok((calls * batch) as f64 / best)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batch = std::env::args()
        .nth(1)
        .map_or(Ok(128), |text| text.parse())?;
    let mut net = resnet20()?;
    let images: Vec<i64> = (0..batch * 3 * 32 * 32).map(|_| net.byte()).collect();
    let products = net.products as f64;
    let few = batch.min(2);
    let some = &images[..few * 3 * 32 * 32];
    let expected = interpret(&net.graph, &[some])?;
    let engine = Engine::new(net.graph);
    let differences = usize::from(engine.run(&[some])? != expected);
    let peak = products_per_second();
    println!(
        "{:?}: {:.1} G products/s a thread at most",
        kind(),
        peak / 1e9
    );
    println!(
        "{:.2} M products an image, {differences} differences to the interpreter",
        products / 1e6
    );
    println!(
        "nodes by the interpreter: {}",
        engine.plain_nodes().collect::<Vec<_>>().join(", ")
    );
    let one = &images[..3 * 32 * 32];
    let threads = rayon::current_num_threads();
    for (what, batch, threads) in [
        ("batch 1, one thread", 1, 1),
        ("batch, all threads", batch, threads),
    ] {
        let images = if batch == 1 { one } else { &images };
        let speed = speed(&engine, images, batch)?;
        let share = speed * products / (peak * threads as f64);
        println!(
            "{what}: {batch} images, {threads} threads, {speed:.0} images/s, {:.1} us an image, {share:.2} of the peak",
            1e6 / speed
        );
    }
    Ok(())
}
