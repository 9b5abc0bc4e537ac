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

mod resnet20;

use std::time::Instant;

use lowbit_int::{Engine, GraphError, interpret};
use lowbit_kernels::integer::{kind, products_per_second};

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
    let mut net = resnet20::resnet20()?;
    let images: Vec<i64> = (0..batch * 3 * 32 * 32).map(|_| net.byte()).collect();
    let products = net.products as f64;
    let few = batch.min(2);
    let some = &images[..few * 3 * 32 * 32];
    let expected = interpret(&net.graph, &[some])?;
    let engine = Engine::new(net.graph);
    let differences = usize::from(engine.run(&[some])? != expected);
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let peaks = [
        one_thread.install(products_per_second),
        products_per_second(),
    ];
    println!(
        "{:?}: {:.1} G products/s of one thread, {:.1} of all, at most",
        kind(),
        peaks[0] / 1e9,
        peaks[1] / 1e9
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
    for (what, batch, threads, peak) in [
        ("batch 1, one thread", 1, 1, peaks[0]),
        ("batch, all threads", batch, threads, peaks[1]),
    ] {
        let images = if batch == 1 { one } else { &images };
        let speed = speed(&engine, images, batch)?;
        let share = speed * products / peak;
        println!(
            "{what}: {batch} images, {threads} threads, {speed:.0} images/s, {:.1} us an image, {share:.2} of the peak",
            1e6 / speed
        );
    }
    Ok(())
}
