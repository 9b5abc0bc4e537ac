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
            return repeated(layer(images), self.steps);
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

/// Each row `steps` times, one after the other.
fn repeated<const D: usize>(x: Tensor<D>, steps: usize) -> Tensor<D> {
    let mut dims = x.dims();
    let rows: Tensor<3> = x.reshape([dims[0] as i32, 1, -1]);
    dims[0] *= steps;
    rows.repeat_dim(1, steps).reshape(dims)
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
