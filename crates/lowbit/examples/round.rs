//! Rounds a tensor to number formats, and lets the gradient through.
//!
//! `cargo run --release --example round -- e4m3 "fixed(8,6)" mxfp4`

use burn::tensor::{Device, Tensor};
use lowbit::ops::{ClampedGradient, fake_quantize};
use lowbit_formats::{Format, FormatError, Rounding};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn main() -> Result<(), FormatError> {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names = ["fixed(8,6)", "e4m3", "posit(8,1)"]
            .map(String::from)
            .into();
    }
    let device = Device::flex().autodiff();
    let x = Tensor::<1>::from_floats([0.1, -1.3, 3.7, 500.0], &device).require_grad();
    println!("{:<12} {:?}", "float", values(x.clone()));
    for name in names {
        let format: Format = name.parse()?;
        let rounded = fake_quantize(
            x.clone(),
            &format,
            Rounding::NearestEven,
            ClampedGradient::Zero,
        );
        println!("{name:<12} {:?}", values(rounded.clone()));
        // Straight through the rounding, but not where the format ends.
        let gradients = rounded.sum().backward();
        let gradient = x.grad(&gradients).expect("it is part of the sum");
        println!("{:<12} {:?}", "  gradient", values(gradient));
    }
    Ok(())
}
