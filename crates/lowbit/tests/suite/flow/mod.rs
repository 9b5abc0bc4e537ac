//! From a float network to a quantized one: taps, switches, folding, loading and the recipe, on
//! the networks that people train.

mod checkpoints;
mod folding;
mod loading;
mod recipe;
mod scales;
mod switching;
mod taps;

use burn::tensor::{Device, Distribution, Tensor};
use lowbit::config::{QPlan, TqtPlan};
use lowbit::models::{Architecture, Classifier, Network};

/// A network for its usual images.
fn build(name: &str, plan: &QPlan, device: &Device) -> Network {
    let architecture: Architecture = name.parse().unwrap();
    let (input, classes) = architecture.usual_images();
    architecture.init(input, classes, plan, 7, device).unwrap()
}

/// Noise in the shape of a network's usual images.
fn images(name: &str, count: usize, device: &Device) -> Tensor<4> {
    let architecture: Architecture = name.parse().unwrap();
    let ([channels, height, width], _) = architecture.usual_images();
    let shape = [count, channels, height, width];
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
    t.into_data().iter::<f32>().collect()
}

/// Weights, biases, activations and branches that meet, in 8 bits.
fn all_tensors() -> QPlan {
    TqtPlan::new(8, 8).all_tensors().plan()
}

/// A checkpoint folder with the network's parameters, and no more.
fn save(model: &Network, folder: &std::path::Path) {
    let bytes = model.record().into_bytes().unwrap();
    std::fs::write(folder.join("model.bpk"), &bytes[..]).unwrap();
}

/// The network with thresholds from `images`.
fn calibrated(model: Network, images: &Tensor<4>) -> Network {
    let forward = |model: &Network| {
        model.forward(images.clone());
    };
    lowbit::calibrate::calibrate(model, |_| true, forward)
        .unwrap()
        .0
}
