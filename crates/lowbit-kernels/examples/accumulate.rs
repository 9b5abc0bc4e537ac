//! Products in low-precision sums over the plain product, 256 by 256 by 256:
//! `cargo run --release -p lowbit-kernels --example accumulate`, with `-- WORD` of those whose text has
//! the word.

use std::time::Instant;

use lowbit_formats::{Accumulation, Format, Rounding};
use lowbit_kernels::Terms;
use lowbit_kernels::accumulate::{self, product};
use lowbit_kernels::linear;

const SIZE: usize = 256;

/// Numbers of a format, of both signs.
fn numbers(format: &str, seed: u64) -> Vec<f32> {
    let format: Format = format.parse().expect("a format");
    let numbers: Vec<f32> = (0..SIZE * SIZE)
        .map(|i| ((i as f32 + seed as f32) * 0.618).sin() * 100.0)
        .collect();
    let rounded = format.quantize_to_vec(&numbers, Rounding::NearestEven);
    rounded.expect("a rounding without parameters")
}

/// The least of several times, in milliseconds.
fn time(mut work: impl FnMut()) -> f64 {
    let times = (0..15).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}

fn main() {
    let word = std::env::args().nth(1);
    let mut output = vec![0.0; SIZE * SIZE];
    for (operands, texts) in [
        (
            "e5m2",
            vec![
                "e6m9",
                "e6m9 chunk 64",
                "fp16 chunk 64 outer fp32",
                "bf16",
                "tf32",
                "e8m14",
                "fp32",
                "e6m9 pairwise",
                "e6m9 kahan",
                "fp16 kahan",
                "e6m9 product e4m3",
                "e6m9:stochastic",
                "e6m9:stochastic chunk 64",
                "hopper-fp8 operands e5m2 e5m2",
                "hopper-fp8 operands e5m2 e5m2 chunk 128",
                "blackwell-fp8 operands e5m2 e5m2",
                "ada-fp8 operands e5m2 e5m2",
            ],
        ),
        (
            "bf16",
            vec![
                "e6m9",
                "fp16",
                "e8m14",
                "bf16",
                "fp32",
                "e6m9 pairwise",
                "e6m9 kahan",
                "fp16 kahan",
                "e6m9 product e4m3",
                "ampere-bf16",
                "hopper-bf16",
                "cdna3-bf16",
            ],
        ),
        ("fp16", vec!["volta-fp16", "hopper-fp16", "cdna3-fp16"]),
        ("e4m3fnuz", vec!["cdna3-fp8"]),
        (
            "fp32",
            vec![
                "e6m9",
                "fp16",
                "e8m14",
                "fp32",
                "e6m9 pairwise",
                "e6m9 kahan",
                "e8m14 kahan",
                "e6m9 product e4m3",
                "hopper-bf16",
                "ampere-tf32",
                "hopper-tf32",
                "cdna3-tf32",
            ],
        ),
        (
            "int8",
            vec![
                "int16",
                "int24",
                "int24 wrap",
                "int32 wrap",
                "int24 chunk 64",
                "int48",
            ],
        ),
    ] {
        let [a, b] = [1, 2].map(|seed| numbers(operands, seed));
        let shape = linear::Shape {
            rows: SIZE,
            features: [SIZE, SIZE],
        };
        let plain = || {
            linear::forward(
                &shape,
                [&a, &b],
                None,
                [None; 2],
                Terms::Numbers,
                &mut output,
            )
        };
        let plain = time(plain);
        println!("{operands} operands, plain product: {plain:.3} ms");
        let shape = accumulate::Shape {
            rows: SIZE,
            inner: SIZE,
            columns: SIZE,
        };
        let chosen = |text: &&str| word.as_ref().is_none_or(|word| text.contains(word));
        for text in texts.into_iter().filter(chosen) {
            let accumulation: Accumulation = text.parse().expect("an accumulation");
            let made = time(|| product(&accumulation, &shape, [&a, &b], 0, &mut output));
            println!("  {text:28} {made:8.3} ms, {:5.1} times", made / plain);
        }
    }
}
