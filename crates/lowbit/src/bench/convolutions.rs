//! Timing convolutions alone, over the machine's multiply-add peak and over what its memory allows.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use rayon::prelude::*;
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
    /// The shortest time that peak and memory allow over `forward_seconds`: that of the operations
    /// at the peak or, if longer, that of a copy with as much traffic as the pass cannot do
    /// without, measured in turns with it. What is written counts twice, since a cache reads it
    /// first.
    pub forward_fraction_of_bound: f64,
    /// Median seconds of the gradients of weight and input together, of the weight alone where the
    /// input is the image.
    pub backward_seconds: f64,
    /// The share of the peak they reach.
    pub backward_fraction_of_peak: f64,
    /// As `forward_fraction_of_bound`.
    pub backward_fraction_of_bound: f64,
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
        let mut copies = self.traffic(batch).map(Copy::new);
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
            copies.iter_mut().for_each(Copy::time);
        }
        let [forward, backward] = [0, 1].map(|direction| {
            let spent = &measured[direction];
            let seconds = median(spent.iter().map(|spent| spent.seconds).collect());
            let at_peak = spent[0].operations / peak;
            let copied = median(copies[direction].seconds.clone());
            (seconds, at_peak / seconds, at_peak.max(copied) / seconds)
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
            forward_fraction_of_bound: forward.2,
            backward_seconds: backward.0,
            backward_fraction_of_peak: backward.1,
            backward_fraction_of_bound: backward.2,
        }
    }

    /// Numbers between caches and memory, forward and backward: what is read, and twice what is
    /// written.
    fn traffic(&self, batch: usize) -> [usize; 2] {
        let [inputs, outputs] = self.channels;
        let pixels = |side: usize| batch * side * side;
        let output = pixels(self.size.div_ceil(self.stride)) * outputs;
        let input = pixels(self.size) * inputs;
        // A kernel of one pixel reads those that its steps meet.
        let read = match self.kernel {
            1 => pixels(self.size.div_ceil(self.stride)) * inputs,
            _ => input,
        };
        let weight = inputs * outputs * self.kernel * self.kernel;
        let to_input = if inputs == 3 { 0 } else { input };
        [
            read + weight + 2 * output,
            read + weight + output + 2 * (to_input + weight),
        ]
    }
}

/// A copy with so much traffic: each number is read, and written for two.
struct Copy {
    from: Vec<f32>,
    to: Vec<f32>,
    seconds: Vec<f64>,
}

impl Copy {
    fn new(traffic: usize) -> Self {
        Self {
            from: vec![1.0; traffic.div_ceil(3)],
            to: vec![0.0; traffic.div_ceil(3)],
            seconds: Vec::new(),
        }
    }

    fn time(&mut self) {
        let start = Instant::now();
        let chunk = self
            .from
            .len()
            .div_ceil(rayon::current_num_threads())
            .max(1);
        self.to
            .par_chunks_mut(chunk)
            .zip(self.from.par_chunks(chunk))
            .for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&self.to);
        self.seconds.push(start.elapsed().as_secs_f64());
    }
}
