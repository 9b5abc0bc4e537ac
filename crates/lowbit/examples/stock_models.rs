//! Models made of `burn::nn` alone, with weights and activations in 4 bits from a TOML plan: a plain
//! network, a residual one and a transformer encoder, trained in float and then quantized, and a LeNet-5
//! that burn-onnx read from a file, on the embedded digits:
//! `cargo run --release --example stock_models`.
//!
//! No line of a model knows of quantization: its forward is captured, and what was captured trains.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::optim::GradientsParams;
use burn::tensor::{Bytes, Device, Tensor};
use lowbit::calibrate::calibrate;
use lowbit::capture::{Captured, prepare};
use lowbit::config::QPlan;
use lowbit::data::{DataSet, Split, epoch_order};
use lowbit::{Error, ops, optim::OptimizerConfig, train};

/// A LeNet-5 with its weights as PyTorch trained them; see `onnx/lenet.py`.
#[path = "onnx/lenet.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all)]
mod onnx;

/// Images of 28 x 28 pixels: each of the 8 x 8 three times, in a frame.
fn enlarged(images: Tensor<4>) -> Tensor<4> {
    let [count, ..] = images.dims();
    let pixels = images.reshape([count, 1, 8, 1, 8, 1]);
    let tripled = pixels.expand([count, 1, 8, 3, 8, 3]);
    tripled.reshape([count, 1, 24, 24]).pad((2, 2, 2, 2), 0.0)
}

#[derive(Module, Debug)]
struct Plain {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    relu: Relu,
    fc: Linear,
}

impl Plain {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 16], [3, 3]).init(device),
            conv2: Conv2dConfig::new([16, 32], [3, 3]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).init(),
            relu: Relu::new(),
            fc: LinearConfig::new(128, 10).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.relu.forward(self.conv1.forward(images));
        let x = self.pool.forward(self.relu.forward(self.conv2.forward(x)));
        self.fc.forward(x.flatten(1, 3))
    }
}

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
}

impl Block {
    fn new(channels: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_padding(PaddingConfig2d::Same)
            .with_bias(false);
        Self {
            conv1: conv.init(device),
            bn1: BatchNormConfig::new(channels).init(device),
            conv2: conv.init(device),
            bn2: BatchNormConfig::new(channels).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.bn1.forward(self.conv1.forward(x.clone()));
        let y = self.bn2.forward(self.conv2.forward(Relu::new().forward(y)));
        Relu::new().forward(y + x)
    }
}

#[derive(Module, Debug)]
struct Residual {
    stem: Conv2d,
    blocks: Vec<Block>,
    pool: AdaptiveAvgPool2d,
    fc: Linear,
}

impl Residual {
    fn new(device: &Device) -> Self {
        Self {
            stem: Conv2dConfig::new([1, 16], [3, 3]).init(device),
            blocks: (0..3).map(|_| Block::new(16, device)).collect(),
            pool: AdaptiveAvgPool2dConfig::new([2, 2]).init(),
            fc: LinearConfig::new(64, 10).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.stem.forward(images);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.fc.forward(self.pool.forward(x).flatten(1, 3))
    }
}

/// Reads an image as eight steps of eight pixels.
#[derive(Module, Debug)]
struct Encoder {
    rows: Linear,
    encoder: TransformerEncoder,
    fc: Linear,
}

impl Encoder {
    fn new(device: &Device) -> Self {
        let encoder = TransformerEncoderConfig::new(32, 64, 4, 2).with_dropout(0.0);
        Self {
            rows: LinearConfig::new(8, 32).init(device),
            encoder: encoder.init(device),
            fc: LinearConfig::new(8 * 32, 10).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let rows = self.rows.forward(images.squeeze_dim::<3>(1));
        let x = self.encoder.forward(TransformerEncoderInput::new(rows));
        self.fc.forward(x.flatten(1, 2))
    }
}

/// Trains a model by its forward, captured or not.
fn trained<M: Module>(
    mut model: M,
    digits: &Split,
    epochs: u32,
    rate: f64,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<2>,
) -> M {
    let device = Device::flex().autodiff();
    let mut optimizer = OptimizerConfig::Adam { weight_decay: 0.0 }.init();
    for epoch in 0..epochs {
        for indices in epoch_order(digits.train.len(), 0, epoch).chunks(32) {
            let batch = train::batch(&digits.train, indices, None, &device);
            let loss = ops::cross_entropy(forward(&model, batch.images), batch.targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(rate, model, gradients);
        }
    }
    model
}

/// The part of the test images that is classified right.
fn accuracy(digits: &Split, forward: impl Fn(Tensor<4>) -> Tensor<2>) -> f64 {
    let all: Vec<u32> = (0..digits.test.len() as u32).collect();
    let test = train::batch(&digits.test, &all, None, &Device::flex());
    let predicted = forward(test.images).argmax(1).flatten(0, 1);
    let right = predicted.equal(test.targets).int().sum();
    right.into_scalar::<i64>() as f64 / all.len() as f64
}

fn compare<M: Module>(
    (name, plan): (&str, &str),
    model: M,
    digits: &Split,
    epochs: u32,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<2>,
) -> Result<(), Error> {
    let plan = QPlan::from_toml(plan)?;
    let model = trained(model, digits, epochs, 2e-3, &forward);
    let float = accuracy(digits, |images| forward(&model.valid(), images));

    let some: Vec<u32> = (0..256).collect();
    let images = train::batch(&digits.train, &some, None, &Device::flex()).images;
    let captured = prepare(model, &plan, &images, forward)?;
    let run = |model: &Captured<M, _, Tensor<2>>| drop(model.forward(images.clone()));
    let (captured, calibrated) = calibrate(captured, |_| true, run)?;
    let captured = trained(captured, digits, 4, 5e-4, Captured::forward);
    let quantized = accuracy(digits, |images| captured.valid().forward(images));
    let (tensors, layers) = (calibrated.len(), captured.layers().len());
    let (float, quantized) = (100.0 * float, 100.0 * quantized);
    println!(
        "{name:<12} {float:>6.2} % {quantized:>8.2} % {tensors:>7} tensors of {layers} layers"
    );
    Ok(())
}

fn main() -> Result<(), Error> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let digits = DataSet::Digits.load(None, &mut |_| {})?;
    println!("model           float     4 bits    quantized");
    let plan = include_str!("stock_models.toml");
    let plain = Plain::new(&device);
    compare(("plain", plan), plain, &digits, 8, Plain::forward)?;
    let residual = Residual::new(&device);
    compare(("residual", plan), residual, &digits, 8, Residual::forward)?;
    let of_encoder = include_str!("stock_encoder.toml");
    let encoder = Encoder::new(&device);
    compare(
        ("encoder", of_encoder),
        encoder,
        &digits,
        8,
        Encoder::forward,
    )?;
    // Trained already.
    let weights = Bytes::from_bytes_vec(include_bytes!("onnx/lenet.bpk").to_vec());
    let lenet = onnx::Model::from_bytes(weights, &device);
    compare(("onnx lenet", plan), lenet, &digits, 0, |model, images| {
        model.forward(enlarged(images))
    })
}
