//! Inputs of tests.

use burn::tensor::{Device, Tensor, TensorData};

/// Numbers from -2 to 2 that look random. The backend's generator is the whole process's: a seed here would reach into
/// networks that other tests draw.
pub(crate) fn numbers<const D: usize>(shape: [usize; D], first: f32, device: &Device) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let number = |i: usize| {
        let x = (first + 12.9898 * i as f32).sin() * 43_758.547;
        4.0 * (x - x.floor()) - 2.0
    };
    let numbers: Vec<f32> = (0..count).map(number).collect();
    Tensor::from_data(TensorData::new(numbers, shape), device)
}
