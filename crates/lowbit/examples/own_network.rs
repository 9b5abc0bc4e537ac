//! Trains a network of your own, with 4-bit weights and activations, on the embedded digits:
//! `cargo run --release --example own_network`.

use burn::tensor::{Device, Tensor};
use burn::{module::Module, optim::GradientsParams};
use lowbit::config::{Planner, QPlan};
use lowbit::data::{DataSet, epoch_order};
use lowbit::nn::{Conv2d, Conv2dConfig, Linear, LinearConfig, Relu, ReluConfig};
use lowbit::{Error, ops, optim::OptimizerConfig, train};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    relu: Relu,
    fc: Linear,
}

impl Net {
    /// Each layer gets from the plan what it quantizes.
    fn new(plan: &QPlan, device: &Device) -> Result<Self, Error> {
        let mut planner = Planner::new(plan)?;
        let conv = Conv2dConfig::new([1, 32], [3, 3]);
        let net = Self {
            conv: planner.layer("conv", conv)?.init(device),
            relu: planner.layer("relu", ReluConfig::new())?.init(device),
            fc: planner
                .layer("fc", LinearConfig::new(32 * 36, 10))?
                .init(device),
        };
        planner.finish().map(|_| net)
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.relu.forward(self.conv.forward(images));
        self.fc.forward(x.flatten::<2>(1, 3))
    }
}

fn main() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let digits = DataSet::Digits.load(None, &mut |_| {})?;
    let everything: Vec<u32> = (0..digits.test.len() as u32).collect();
    let mut net = Net::new(&QPlan::dorefa(4, 4), &device)?;
    let mut optimizer = OptimizerConfig::Adam { weight_decay: 0.0 }.init();
    for epoch in 0..10 {
        for indices in epoch_order(digits.train.len(), 0, epoch).chunks(32) {
            let batch = train::batch(&digits.train, indices, None, &device);
            let loss = ops::cross_entropy(net.forward(batch.images), batch.targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(2e-3, net, gradients);
        }
        let test = train::batch(&digits.test, &everything, None, &Device::flex());
        let predicted = net.valid().forward(test.images).argmax(1).flatten(0, 1);
        let right = predicted.equal(test.targets).int().sum();
        let (right, all) = (right.into_scalar::<i64>(), everything.len());
        println!("epoch {}: {right} of {all} right", epoch + 1);
    }
    Ok(())
}
