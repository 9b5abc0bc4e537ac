//! What spiking networks have in common: steps of time, and what they count.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::nn::{Coding, Conv2d, DecayConfig, LifConfig, Linear};
use crate::ops;
use crate::quantizers::Draws;

/// Leaky neurons whose time constant, two steps at first, is learned (Fang et al., arXiv 2007.05785).
/// They take the whole input: what comes before them learns its size.
pub(super) fn neurons() -> LifConfig {
    let mem = DecayConfig::tau(2.0).with_trained(true);
    LifConfig::new(mem).with_norm_input(false)
}

/// How a network sees an image over time.
#[derive(Debug, Clone)]
pub struct SpikeTime {
    /// Steps, at least one.
    pub steps: usize,
    /// What the image becomes in each.
    pub coding: Coding,
    draws: Draws,
}

impl Default for SpikeTime {
    /// Eight steps of the image itself.
    fn default() -> Self {
        Self {
            steps: 8,
            coding: Coding::default(),
            draws: Draws::new(),
        }
    }
}

impl SpikeTime {
    /// The images over time. Random spikes are a function of seed and step, as stochastic rounding is.
    ///
    /// # Shapes
    /// - `images`: `[batch, ...]`
    /// - result: `[batch * steps, ...]`
    fn encode(&self, images: Tensor<4>) -> Tensor<4> {
        let seed = match self.coding {
            Coding::Rate => self.draws.seed(),
            _ => 0,
        };
        self.coding.encode(images, self.steps, seed)
    }

    /// What `layer`, with the first convolution, makes of the images over time. Where they are the same
    /// in each step, it sees them once; where they are spikes, `counter` counts what they ask for.
    ///
    /// # Shapes
    /// - `images`: `[batch, ...]`
    /// - result: `[batch * steps, ...]`
    pub(super) fn first(
        &self,
        images: Tensor<4>,
        counter: &mut Option<&mut Counter>,
        conv: &Conv2d,
        layer: impl FnOnce(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        if self.coding == Coding::Direct {
            return ops::repeated(layer(images), self.steps);
        }
        let spikes = self.encode(images);
        if let Some(counter) = counter {
            counter.convolved(conv, &spikes);
        }
        layer(spikes)
    }

    /// The mean over time.
    ///
    /// # Shapes
    /// - `scores`: `[batch * steps, classes]`
    /// - result: `[batch, classes]`
    pub(super) fn mean(&self, scores: Tensor<2>) -> Tensor<2> {
        let [rows, classes] = scores.dims();
        let scores: Tensor<3> = scores.reshape([rows / self.steps, self.steps, classes]);
        scores.mean_dim(1).squeeze_dim(1)
    }
}

/// What a spiking network does for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activity {
    /// Spikes of its neurons.
    pub spikes: f64,
    /// Additions of a weight to a current that spikes ask for; a layer that reads the image itself asks
    /// for none.
    pub synaptic_operations: f64,
}

/// What is counted on the way through a network.
#[derive(Debug, Default)]
pub(super) struct Counter {
    spikes: f64,
    operations: f64,
}

impl Counter {
    /// Spikes that neurons hand on.
    pub(super) fn fired<const D: usize>(&mut self, spikes: &Tensor<D>) {
        self.spikes += total(spikes.clone());
    }

    /// Spikes that a convolution reads: each reaches every output whose window it lies under.
    pub(super) fn convolved(&mut self, conv: &Conv2d, x: &Tensor<4>) {
        let [outputs, inputs, height, width] = conv.weight.dims();
        let ones = Tensor::<4>::ones([1, inputs, height, width], &x.device());
        let [_, _, rows, columns] = x.dims();
        let options = conv.parts().options([rows, columns]);
        let reached = ops::conv2d(x.clone().into(), ones.into(), None, options);
        self.operations += total(reached) * outputs as f64;
    }

    /// Spikes that a linear layer reads.
    pub(super) fn multiplied(&mut self, linear: &Linear, x: &Tensor<2>) {
        let [_, outputs] = linear.weight.dims();
        self.operations += total(x.clone()) * outputs as f64;
    }

    /// The mean of so many images.
    pub(super) fn per_image(&self, images: usize) -> Activity {
        let images = images.max(1) as f64;
        Activity {
            spikes: self.spikes / images,
            synaptic_operations: self.operations / images,
        }
    }
}

fn total<const D: usize>(x: Tensor<D>) -> f64 {
    let data = x.into_data();
    data.iter::<f32>().map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use burn::nn::PaddingConfig2d;
    use burn::tensor::Device;

    use super::*;
    use crate::nn::{Conv2dConfig, LinearConfig};

    /// Two images of 3x3, one with a spike in a corner, at an edge and in the middle, the other with two
    /// in a corner of its second channel.
    fn spikes() -> Tensor<4> {
        let none = [[0.0; 3]; 3];
        let first = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]];
        let second = [[0.0; 3], [0.0; 3], [0.0, 0.0, 2.0]];
        Tensor::from_floats([[first, none], [none, second]], &Device::flex())
    }

    /// With a border of one, a 3x3 kernel sees a corner from 4 places, an edge from 6 and the middle from
    /// 9: 19, and twice 4. Without one it stands
    /// in one place and sees each once.
    #[test]
    fn operations_are_the_places_that_a_spike_reaches() {
        let device = Device::flex();
        let conv = Conv2dConfig::new([2, 5], [3, 3]);
        let bordered = conv
            .clone()
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let count = |conv: Conv2d| {
            let mut counter = Counter::default();
            counter.fired(&spikes());
            counter.convolved(&conv, &spikes());
            counter.per_image(2)
        };
        let found = count(bordered.init(&device));
        assert_eq!(found.spikes, 5.0 / 2.0);
        assert_eq!(found.synaptic_operations, (19.0 + 8.0) * 5.0 / 2.0);
        let found = count(conv.init(&device));
        assert_eq!(found.synaptic_operations, (3.0 + 2.0) * 5.0 / 2.0);
        // A linear layer has a weight from each feature to each of its outputs.
        let mut counter = Counter::default();
        let linear = LinearConfig::new(18, 7).init(&device);
        counter.multiplied(&linear, &spikes().reshape([2, 18]));
        assert_eq!(counter.per_image(1).synaptic_operations, 5.0 * 7.0);
    }
}
