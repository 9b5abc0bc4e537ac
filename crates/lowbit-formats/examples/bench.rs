//! Measures kernels: `cargo run --release --example bench -- FORMAT..`
use lowbit_formats::{Format, Rounding, bench};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut formats: Vec<Format> = std::env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    if formats.is_empty() {
        for text in [
            "fixed(8,6)",
            "int8",
            "unit(4)",
            "e4m3",
            "e5m2",
            "fp16",
            "bf16",
            "e2m1",
        ] {
            formats.push(text.parse()?);
        }
    }
    let modes = [
        Rounding::NearestEven,
        Rounding::NearestAway,
        Rounding::TowardZero,
        Rounding::Up,
        Rounding::ToOdd,
        Rounding::stochastic(1, 2),
    ];
    let cases: Vec<(Format, Rounding)> = formats
        .iter()
        .flat_map(|format| modes.map(|mode| (format.clone(), mode)))
        .collect();
    let report = bench::kernels(&cases, 1 << 24, 2, 7)?;
    println!("copy {:.3e} elements/s", report.copy_elements_per_second);
    for kernel in report.kernels {
        println!(
            "{:16} {:40} {:.3e}/s  ratio {:.3}  in cache {:.3e}/s",
            kernel.format,
            format!("{:?}", kernel.rounding),
            kernel.elements_per_second,
            kernel.ratio_to_copy,
            kernel.in_cache_elements_per_second
        );
    }
    Ok(())
}
