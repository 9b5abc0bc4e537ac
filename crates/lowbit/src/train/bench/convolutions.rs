//! Timing convolutions alone, over the machine's multiply-add peak.

use std::collections::BTreeMap;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;

use super::median;
use crate::ops::{self, Spent};

/// One convolution: square images and kernels, padding of half the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    network: &'static str,
    channels: [usize; 2],
    size: usize,
    kernel: usize,
    stride: usize,
}

/// The distinct convolutions of CIFAR's ResNet-20 (16 to 64 channels) and ResNet-18 (64 to 512).
const SHAPES: [Shape; 19] = {
    const fn shape(
        network: &'static str,
        channels: [usize; 2],
        size: usize,
        kernel: usize,
        stride: usize,
    ) -> Shape {
        Shape {
            network,
            channels,
            size,
            kernel,
            stride,
        }
    }
    [
        shape("resnet20", [3, 16], 32, 3, 1),
        shape("resnet20", [16, 16], 32, 3, 1),
        shape("resnet20", [16, 32], 32, 3, 2),
        shape("resnet20", [16, 32], 32, 1, 2),
        shape("resnet20", [32, 32], 16, 3, 1),
        shape("resnet20", [32, 64], 16, 3, 2),
        shape("resnet20", [32, 64], 16, 1, 2),
        shape("resnet20", [64, 64], 8, 3, 1),
        shape("resnet18", [3, 64], 32, 3, 1),
        shape("resnet18", [64, 64], 32, 3, 1),
        shape("resnet18", [64, 128], 32, 3, 2),
        shape("resnet18", [64, 128], 32, 1, 2),
        shape("resnet18", [128, 128], 16, 3, 1),
        shape("resnet18", [128, 256], 16, 3, 2),
        shape("resnet18", [128, 256], 16, 1, 2),
        shape("resnet18", [256, 256], 8, 3, 1),
        shape("resnet18", [256, 512], 8, 3, 2),
        shape("resnet18", [256, 512], 8, 1, 2),
        shape("resnet18", [512, 512], 4, 3, 1),
    ]
};

/// The speed of each convolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvolutionTimes {
    /// Images.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Passes timed of each.
    pub rounds: usize,
    /// One entry a convolution.
    pub convolutions: Vec<ConvolutionTime>,
}

/// The speed of one convolution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvolutionTime {
    /// The network it is in.
    pub network: String,
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Height and width of the input.
    pub size: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step of the kernel.
    pub stride: usize,
    /// Multiplications and additions a second that the machine's registers allowed just before.
    pub peak_operations_per_second: f64,
    /// Median seconds of the forward pass.
    pub forward_seconds: f64,
    /// The share of the peak it reaches.
    pub forward_fraction_of_peak: f64,
    /// Median seconds of the gradients of weight and input together, of the weight alone where the
    /// input is the image.
    pub backward_seconds: f64,
    /// The share of the peak they reach.
    pub backward_fraction_of_peak: f64,
}

/// Times the convolutions of ResNet-20 and ResNet-18 on CIFAR's images.
pub fn convolutions(batch: usize, rounds: usize, device: &Device) -> ConvolutionTimes {
    let device = device.clone().autodiff();
    ConvolutionTimes {
        batch,
        threads: rayon::current_num_threads(),
        rounds,
        convolutions: SHAPES
            .iter()
            .map(|shape| shape.time(batch, rounds, &device))
            .collect(),
    }
}

impl Shape {
    fn time(&self, batch: usize, rounds: usize, device: &Device) -> ConvolutionTime {
        let noise = |shape: [usize; 4]| {
            Tensor::<4>::random(shape, Distribution::Uniform(-1.0, 1.0), device)
        };
        let [inputs, outputs] = self.channels;
        let input = noise([batch, inputs, self.size, self.size]);
        let weight = noise([outputs, inputs, self.kernel, self.kernel]);
        let stride = [self.stride; 2];
        let options = ConvOptions::new(stride, [self.kernel / 2; 2], [1, 1], 1);
        let pass = || {
            // Nobody asks for the gradient of an image.
            let input = match inputs {
                3 => input.clone(),
                _ => input.clone().require_grad(),
            };
            let weight = weight.clone().require_grad();
            let output = ops::conv2d(input.into(), weight.into(), None, options.clone());
            ops::profile(|| output.sum().backward()).1
        };
        let forward = || {
            let (input, weight) = (input.clone(), weight.clone());
            ops::profile(|| ops::conv2d(input.into(), weight.into(), None, options.clone())).1
        };
        let mut measured: [Vec<Spent>; 2] = Default::default();
        // The first of each brings the memory in.
        pass();
        let peak = ops::multiply_add_peak();
        for _ in 0..rounds {
            let take = |spent: BTreeMap<&'static str, Spent>, name| {
                spent.get(name).copied().unwrap_or_default()
            };
            measured[0].push(take(forward(), "conv2d"));
            measured[1].push(take(pass(), "conv2d backward"));
        }
        let [forward, backward] = measured.map(|spent| {
            let seconds = median(spent.iter().map(|spent| spent.seconds).collect());
            (seconds, spent[0].operations / seconds / peak)
        });
        ConvolutionTime {
            network: self.network.into(),
            channels: self.channels,
            size: self.size,
            kernel: self.kernel,
            stride: self.stride,
            peak_operations_per_second: peak,
            forward_seconds: forward.0,
            forward_fraction_of_peak: forward.1,
            backward_seconds: backward.0,
            backward_fraction_of_peak: backward.1,
        }
    }
}
