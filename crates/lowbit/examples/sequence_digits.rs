//! Trains an LSTM and a transformer's encoder on the embedded digits, read as sequences of eight rows
//! of pixels, in float and then with every tensor quantized to 8 and to 4 bits:
//! `cargo run --release --example sequence_digits`.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use lowbit::calibrate::calibrate;
use lowbit::config::{Override, Planner, QConfig, QPlan, TqtPlan};
use lowbit::data::{DataSet, ImageSet, epoch_order};
use lowbit::nn::{
    Linear, LinearConfig, Lstm, LstmConfig, Quantize, QuantizeConfig, TransformerEncoder,
    TransformerEncoderConfig, TransformerEncoderInput,
};
use lowbit::optim::OptimizerConfig;
use lowbit::quantizers::{QuantizerConfig, TrainedThresholdConfig};
use lowbit::{Error, ops, train};

/// Rows of an image, and pixels of a row.
const ROWS: usize = 8;
/// Features of a state or a position.
const FEATURES: usize = 32;

trait Network: Module {
    const NAME: &'static str;

    fn new(plan: &QPlan, device: &Device) -> Result<Self, Error>;

    /// The scores of images, `[batch, rows, pixels]`.
    fn forward(&self, rows: Tensor<3>) -> Tensor<2>;
}

/// The hidden state after the last row says what it was.
#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    head: Linear,
}

impl Network for Recurrent {
    const NAME: &'static str = "LSTM";

    fn new(plan: &QPlan, device: &Device) -> Result<Self, Error> {
        let mut planner = Planner::new(plan)?;
        let lstm = LstmConfig::new(ROWS, FEATURES, true);
        let lstm = lstm.init_planned(&mut planner, "lstm", device)?;
        let head = planner.last("head", LinearConfig::new(FEATURES, 10))?;
        let head = head.init(device);
        planner.finish().map(|_| Self { lstm, head })
    }

    fn forward(&self, rows: Tensor<3>) -> Tensor<2> {
        let (_, state) = self.lstm.forward(rows, None);
        self.head.forward(state.hidden)
    }
}

/// Each row becomes a vector, to which one for its place is added; the mean of what the encoder makes
/// of them says what it was.
#[derive(Module, Debug)]
struct Attentive {
    embedding: Linear,
    places: Param<Tensor<3>>,
    place: Quantize,
    encoder: TransformerEncoder,
    head: Linear,
}

impl Network for Attentive {
    const NAME: &'static str = "transformer encoder";

    fn new(plan: &QPlan, device: &Device) -> Result<Self, Error> {
        let mut planner = Planner::new(plan)?;
        let embedding = planner.first("embedding", LinearConfig::new(ROWS, FEATURES))?;
        let place = planner.layer("place", QuantizeConfig::new())?;
        let encoder = TransformerEncoderConfig::new(FEATURES, 2 * FEATURES, 4, 1)
            .with_dropout(0.0)
            .init_planned(&mut planner, "encoder", device)?;
        let head = planner.last("head", LinearConfig::new(FEATURES, 10))?;
        let places = Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        };
        let network = Self {
            embedding: embedding.init(device),
            places: places.init([1, ROWS, FEATURES], device),
            place: place.init(device),
            encoder,
            head: head.init(device),
        };
        planner.finish().map(|_| network)
    }

    fn forward(&self, rows: Tensor<3>) -> Tensor<2> {
        let x = self.embedding.forward(rows);
        let x = x + self.place.forward(self.places.val());
        let x = self.encoder.forward(TransformerEncoderInput::new(x));
        self.head.forward(x.mean_dim(1).squeeze_dim::<2>(1))
    }
}

/// A quantizer of so many bits with a trained threshold in each of these slots.
fn slots(bits: u32, names: &[&str]) -> QConfig {
    names.iter().fold(QConfig::new(), |config, name| {
        let bits = if *name == "deviation" {
            bits.max(8)
        } else {
            bits
        };
        let quantizer = TrainedThresholdConfig::new(bits);
        config.with(*name, QuantizerConfig::Tqt(quantizer))
    })
}

/// Weights, biases, what layers read and the result, and whatever is inside of them.
fn every_tensor(bits: u32, types: &[(&str, &[&str])]) -> QPlan {
    let overrides = types.iter().map(|(layer_type, names)| Override {
        layer_type: Some((*layer_type).into()),
        config: slots(bits, names),
        ..Override::default()
    });
    QPlan {
        overrides: overrides.collect(),
        ..TqtPlan::new(bits, bits).all_tensors().plan()
    }
}

fn rows_of(images: Tensor<4>) -> Tensor<3> {
    images.squeeze_dim::<3>(1)
}

fn trained<N: Network>(mut network: N, images: &ImageSet, epochs: u32, lr: f64) -> N {
    let device = Device::flex().autodiff();
    let mut optimizer = OptimizerConfig::Adam { weight_decay: 0.0 }.init();
    for epoch in 0..epochs {
        for indices in epoch_order(images.len(), 0, epoch).chunks(32) {
            let batch = train::batch(images, indices, None, &device);
            let scores = network.forward(rows_of(batch.images));
            let loss = ops::cross_entropy(scores, batch.targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            // Falls to a tenth.
            let lr = lr * 0.1f64.powf(f64::from(epoch) / f64::from(epochs));
            network = optimizer.step(lr, network, gradients);
        }
    }
    network
}

/// The part of the images that are recognized, in percent.
fn accuracy<N: Network>(network: &N, images: &ImageSet) -> f64 {
    let all: Vec<u32> = (0..images.len() as u32).collect();
    let batch = train::batch(images, &all, None, &Device::flex());
    let scores = network.valid().forward(rows_of(batch.images));
    let right = scores.argmax(1).flatten(0, 1).equal(batch.targets).int();
    100.0 * right.sum().into_scalar::<i64>() as f64 / all.len() as f64
}

fn run<N: Network>(types: &[(&str, &[&str])]) -> Result<(), Error> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let digits = DataSet::Digits.load(None, &mut |_| {})?;
    let float = trained(N::new(&QPlan::float(), &device)?, &digits.train, 20, 1e-2);
    println!(
        "{}, float: {:.1} %",
        N::NAME,
        accuracy(&float, &digits.test)
    );
    for bits in [8, 4] {
        let network = N::new(&every_tensor(bits, types), &device)?;
        let record = float.clone().into_record().allow_partial(true);
        let network = network.load_record(record);
        let some: Vec<u32> = (0..256).collect();
        let images = train::batch(&digits.train, &some, None, &Device::flex()).images;
        let (network, thresholds) = calibrate(
            network,
            |_| true,
            |network| {
                network.forward(rows_of(images));
            },
        )?;
        let network = trained(network, &digits.train, 10, 2e-3);
        println!(
            "{}, {bits} bits in {} tensors: {:.1} %",
            N::NAME,
            thresholds.len(),
            accuracy(&network, &digits.test)
        );
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let lstm = [
        "input",
        "gates",
        "candidate",
        "cell",
        "activated_cell",
        "hidden",
    ];
    run::<Recurrent>(&[("Lstm", &lstm)])?;
    let attention = [
        "query",
        "key",
        "value",
        "scores",
        "probabilities",
        "context",
    ];
    let norm = [
        "input",
        "gamma",
        "beta",
        "mean",
        "deviation",
        "normalized",
        "output",
    ];
    run::<Attentive>(&[
        ("MultiHeadAttention", &attention),
        ("LayerNorm", &norm),
        ("Gelu", &["input", "output"]),
        ("Quantize", &["input"]),
    ])
}
