//! Trains recurrent, adaptive neurons on the embedded digits, read row after row, with 8-bit weights and
//! time constants and 16-bit states: `cargo run --release --example adaptive_spikes`.

use burn::tensor::{Device, Tensor};
use burn::{module::Module, optim::GradientsParams};
use lowbit::config::{Planner, QPlan};
use lowbit::data::{DataSet, epoch_order};
use lowbit::nn::{Alif, AlifConfig, DecayConfig, ExpLeak, ExpLeakConfig, Linear, LinearConfig};
use lowbit::{Error, ops, optim::OptimizerConfig, train};

/// What is quantized: a format for each tensor.
const PLAN: &str = r#"
[default]
weight = { method = "format", format = "fixed(8,6)" }

[[overrides]]
type = "Alif"
[overrides.config]
weight = { method = "format", format = "fixed(8,6)" }
tau = { method = "format", format = "ufixed(8,3)" }
state = { method = "format", format = "fixed(16,10)" }
"#;

#[derive(Module, Debug)]
struct Net {
    read: Linear,
    neurons: Alif,
    scores: Linear,
    mean: ExpLeak,
}

impl Net {
    fn new(plan: &QPlan, device: &Device) -> Result<Self, Error> {
        let trained = |tau: f64| DecayConfig::tau(tau).with_trained(true);
        let neurons = AlifConfig::new(trained(4.0), trained(12.0))
            .with_norm_input(false)
            .with_recurrent(Some(96));
        let mut planner = Planner::new(plan)?;
        let mut linear = |path: &str, inputs, outputs| -> Result<Linear, Error> {
            let layer = planner.layer(path, LinearConfig::new(inputs, outputs))?;
            Ok(layer.init(device))
        };
        let (read, scores) = (linear("read", 8, 96)?, linear("scores", 96, 10)?);
        let neurons = planner.layer("neurons", neurons)?.init(device);
        let mean = planner.layer("mean", ExpLeakConfig::new(trained(6.0)))?;
        let net = Self {
            read,
            neurons,
            scores,
            mean: mean.init(device),
        };
        planner.finish().map(|_| net)
    }

    /// A row in each step; the potentials after the last one are the scores.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let rows: Tensor<3> = images.squeeze_dim(1);
        let spikes = self.neurons.forward(self.read.forward(rows));
        let scores = self.mean.forward(self.scores.forward(spikes));
        let [batch, time, classes] = scores.dims();
        scores
            .slice([0..batch, time - 1..time, 0..classes])
            .squeeze_dim(1)
    }
}

fn main() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    let digits = DataSet::Digits.load(None, &mut |_| {})?;
    let everything: Vec<u32> = (0..digits.test.len() as u32).collect();
    let plan: QPlan = toml::from_str(PLAN).expect("a plan");
    let mut net = Net::new(&plan, &device)?;
    let mut optimizer = OptimizerConfig::Adam { weight_decay: 0.0 }.init();
    for epoch in 0..15 {
        for indices in epoch_order(digits.train.len(), 0, epoch).chunks(32) {
            let batch = train::batch(&digits.train, indices, None, &device);
            let loss = ops::cross_entropy(net.forward(batch.images), batch.targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(5e-3, net, gradients);
        }
        let test = train::batch(&digits.test, &everything, None, &Device::flex());
        let predicted = net.valid().forward(test.images).argmax(1).flatten(0, 1);
        let right = predicted.equal(test.targets).int().sum();
        let (right, all) = (right.into_scalar::<i64>(), everything.len());
        println!("epoch {}: {right} of {all} right", epoch + 1);
    }
    Ok(())
}
