//! Quantizes a float checkpoint to 8-bit integers times powers of two, without training.
//!
//! `cargo run --release --example quantize_checkpoint -- cnn.safetensors` (or `.pt`, `.bpk`); without
//! a file, a `cnn` is trained on the embedded digits first.

use burn::{optim::AdamConfig, tensor::Device, train::Learner};
use lowbit::calibrate::{calibrate, measure};
use lowbit::config::{QPlan, TqtPlan};
use lowbit::data::{DataSet, Split, epoch_order};
use lowbit::models::{Architecture, Classifier, Network, Tolerance, load_plain};
use lowbit::train::{Objective, batch, evaluate};
use std::{error::Error, path::PathBuf};

fn network(plan: &QPlan, device: &Device) -> Result<Network, lowbit::Error> {
    let architecture: Architecture = "cnn".parse()?;
    architecture.init([1, 8, 8], 10, plan, 0, device)
}

/// Trains in float for some epochs, and writes the checkpoint.
fn trained(digits: &Split) -> Result<PathBuf, Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let model = network(&QPlan::float(), &device)?;
    let mut learner = Learner::new(model, AdamConfig::new().init(), 5e-3);
    for epoch in 0..4 {
        for indices in epoch_order(digits.train.len(), 0, epoch).chunks(32) {
            let step = learner.train_step(batch(&digits.train, indices, None, &device));
            learner.lr_step();
            learner.optimizer_step(step.grads);
        }
    }
    let file = std::env::temp_dir().join("lowbit-digits-cnn.bpk");
    std::fs::write(&file, &learner.model().record().into_bytes()?[..])?;
    Ok(file)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (device, accept) = (Device::flex(), Tolerance::default());
    let digits = DataSet::Digits.load(None, &mut |_| {})?;
    let file = std::env::args().nth(1).map(PathBuf::from);
    let file = file.map_or_else(|| trained(&digits), Ok)?;
    let (float, _) = load_plain(network(&QPlan::float(), &device)?, &file, accept)?;

    let plan = TqtPlan::new(8, 8).all_tensors().plan();
    let (model, _) = load_plain(network(&plan, &device)?, &file, accept)?;
    let indices: Vec<u32> = (0..256).collect();
    let images = batch(&digits.train, &indices, None, &device).images;
    let forward = |model: &Network| drop(model.forward(images.clone()));
    let (model, _) = calibrate(model, |_| true, forward)?;
    println!("tensor         bits  threshold   clipped   SQNR in dB");
    for t in measure(&model, forward) {
        let (bits, threshold, clipped) = (t.bits, t.threshold[0], 100.0 * t.clipped);
        let (path, sqnr) = (t.path, t.sqnr.unwrap_or(f64::INFINITY));
        println!("{path:<14} {bits:>4} {threshold:>10} {clipped:>7.2} % {sqnr:>12.1}");
    }
    for (name, model) in [("float", float), ("8 bits", model)] {
        let accuracy = evaluate(&model, &digits.test, Objective::default(), &device).accuracy();
        println!("{name}: {:.2} %", 100.0 * accuracy);
    }
    Ok(())
}
