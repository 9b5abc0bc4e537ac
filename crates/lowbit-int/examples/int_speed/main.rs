//! The speed of ResNet-20's shapes in integers, and its share of what the CPU's instruction for
//! products of bytes can do: in 8 bits, and with weights of -1 and 1 and activations of one and two bits
//! between a first and a last layer of 8 (W1A1, W1A2).
//!
//! ```text
//! cargo run --release -p lowbit-int --example int_speed [IMAGES [FILE.json]]
//! ```
//!
//! A file is a network of one input that `lowbit export --to json` wrote, measured in their place.
//!
//! Weights are random: the speed depends on the shapes alone. The network is the one with activations
//! after the additions, normalizations folded: 40.55 million products an image (CIFAR's 32 x 32), with
//! the 1x1 convolutions of its two shortcuts. The networks take turns.

mod resnet20;

use std::time::Instant;

use lowbit_int::{Engine, Graph, Interval, interpret};
use lowbit_kernels::integer::{kind, products_per_second};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A network, and the least time that an image has taken.
struct Measured {
    name: String,
    engine: Engine,
    products: usize,
    seconds: f64,
}

impl Measured {
    /// Compares the network with the interpreter first, on two images.
    fn new(name: &str, graph: Graph, products: usize, images: &[i64]) -> Result<Self> {
        let some = &images[..(2 * elements(&graph)).min(images.len())];
        let expected = interpret(&graph, &[some])?;
        let engine = Engine::new(graph);
        let differences = usize::from(engine.run(&[some])? != expected);
        let plain: Vec<&str> = engine.plain_nodes().collect();
        println!(
            "{name}: {differences} differences to the interpreter, {} nodes run by it",
            plain.len()
        );
        Ok(Self {
            name: name.into(),
            engine,
            products,
            seconds: f64::INFINITY,
        })
    }

    /// Runs a batch a few times.
    fn measure(&mut self, images: &[i64], outputs: &mut [Vec<i64>]) -> Result<()> {
        let batch = images.len() / elements(self.engine.graph());
        // The least of single calls, which other programs disturb least.
        let mut seconds = f64::INFINITY;
        for _ in 0..(256 / batch).max(1) {
            let start = Instant::now();
            self.engine.run_into(&[images], outputs)?;
            seconds = start.elapsed().as_secs_f64().min(seconds);
        }
        let seconds = seconds / batch as f64;
        self.seconds = self.seconds.min(seconds);
        Ok(())
    }
}

/// Numbers of an image.
fn elements(graph: &Graph) -> usize {
    graph.tensor(graph.inputs()[0]).elements()
}

/// Images at random.
fn images(graph: &Graph, batch: usize, byte: &mut impl FnMut() -> i64) -> Vec<i64> {
    let Interval { least, greatest } = graph.tensor(graph.inputs()[0]).interval();
    let number = |byte: i64| least + (byte + 128) % (greatest - least + 1);
    let count = batch * elements(graph);
    (0..count).map(|_| number(byte())).collect()
}

/// The networks of a run, and images for them.
fn networks(batch: usize, file: Option<String>) -> Result<(Vec<Measured>, Vec<i64>)> {
    let mut net = resnet20::resnet20()?;
    if let Some(file) = file {
        let graph = Graph::from_json(&std::fs::read_to_string(&file)?)?;
        let images = images(&graph, batch, &mut || net.byte());
        return Ok((vec![Measured::new(&file, graph, 0, &images)?], images));
    }
    let graph = net.graph.clone();
    let images = images(&graph, batch, &mut || net.byte());
    let mut nets = Vec::new();
    for (name, bits) in [("8 bits", 8), ("W1A1", 1), ("W1A2", 2)] {
        let net = resnet20::resnet20_of(bits)?;
        nets.push(Measured::new(name, net.graph, net.products, &images)?);
    }
    Ok((nets, images))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let batch = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let peaks = [
        one_thread.install(products_per_second),
        products_per_second(),
    ];
    let [one, all] = peaks.map(|peak| peak / 1e9);
    println!(
        "{:?}: {one:.1} G products/s of one thread, {all:.1} of all, at most",
        kind()
    );
    let (mut nets, images) = networks(batch, arguments.next())?;
    let threads = rayon::current_num_threads();
    for (batch, threads, peak) in [(1, 1, peaks[0]), (batch, threads, peaks[1])] {
        println!("{batch} images at a time, {threads} threads:");
        let images = &images[..batch * elements(nets[0].engine.graph())];
        for net in &mut nets {
            net.seconds = f64::INFINITY;
        }
        for _ in 0..15 {
            for net in &mut nets {
                let mut outputs = net.engine.run(&[images])?;
                net.measure(images, &mut outputs)?;
            }
        }
        for net in &nets {
            let share = net.products as f64 / net.seconds / peak;
            println!(
                "  {}: {:.0} images/s, {:.1} us an image, {share:.2} of the peak, {:.2} times the speed of 8 bits",
                net.name,
                1.0 / net.seconds,
                net.seconds * 1e6,
                nets[0].seconds / net.seconds
            );
        }
    }
    Ok(())
}
