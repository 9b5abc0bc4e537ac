//! The time of a linear layer on one input, with weights of 8 and of 4 bits, of which two are in a byte from
//! 2^16 weights on.
//!
//! ```text
//! cargo run --release -p lowbit-kernels --example four_bits
//! ```

use std::time::Instant;

use lowbit_kernels::integer::{Convolution, Shape, kind};

/// A layer of so many inputs and outputs with weights from `-2^(bits - 1)` on.
fn layer(size: usize, bits: u32) -> Convolution {
    let shape = Shape {
        image: [1, 1],
        inputs: size,
        outputs: size,
        groups: 1,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
    };
    let weight = |o: usize, i: usize, _: usize, _: usize| {
        let mixed = (o * size + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (mixed as i64 % (1 << bits) - (1 << (bits - 1))) as i8
    };
    Convolution::new(shape, weight, &vec![0; size])
}

fn main() {
    println!("{:?}, one thread", kind());
    println!("inputs and outputs  8 bits, us  4 bits, us  8 over 4");
    for size in [512, 1024, 1536, 2048, 4096, 8192] {
        let layers = [layer(size, 8), layer(size, 4)];
        let input: Vec<u8> = (0..size).map(|i| (i * 37) as u8).collect();
        let mut sums = vec![0; size];
        let mut best = [f64::INFINITY; 2];
        for _ in 0..40 {
            for (layer, best) in layers.iter().zip(&mut best) {
                let start = Instant::now();
                layer.row(&input, 0, &mut sums);
                *best = start.elapsed().as_secs_f64().min(*best);
            }
        }
        let [eight, four] = best.map(|seconds| seconds * 1e6);
        println!(
            "{size:>18}  {eight:>10.1}  {four:>10.1}  {:>8.2}",
            eight / four
        );
    }
}
