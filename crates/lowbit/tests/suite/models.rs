//! Sizes and shapes of the networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit::config::QPlan;
use lowbit::models::{Architecture, Classifier, model_bits};

fn build(name: &str, plan: &QPlan) -> lowbit::models::Network {
    let architecture: Architecture = name.parse().unwrap();
    let (input, classes) = architecture.usual_images();
    architecture
        .init(input, classes, plan, 0, &Device::flex())
        .unwrap()
}

/// Trainable parameters of a pre-activation ResNet with `n` basic blocks a stage, by hand.
fn resnet_parameters(n: usize) -> usize {
    let conv = |a: usize, b: usize, k: usize| a * b * k * k;
    let block = |a: usize, b: usize| {
        let shortcut = if a == b { 0 } else { conv(a, b, 1) };
        2 * a + conv(a, b, 3) + 2 * b + conv(b, b, 3) + shortcut
    };
    let stage = |a: usize, b: usize| block(a, b) + (n - 1) * block(b, b);
    conv(3, 16, 3) + stage(16, 16) + stage(16, 32) + stage(32, 64) + 2 * 64 + (64 * 10 + 10)
}

/// Channels that are normalized: a running mean and variance each, which are not trained.
fn resnet_normalized(n: usize) -> usize {
    let block = |a: usize, b: usize| a + b;
    let stage = |a: usize, b: usize| block(a, b) + (n - 1) * block(b, b);
    stage(16, 16) + stage(16, 32) + stage(32, 64) + 64
}

#[test]
fn lenet_has_the_431080_parameters_of_the_literature() {
    assert_eq!(build("lenet", &QPlan::float()).num_params(), 431_080);
}

#[test]
fn resnets_have_the_parameters_of_their_depth() {
    for (name, n) in [
        ("resnet8", 1),
        ("resnet14", 2),
        ("resnet20", 3),
        ("resnet26", 4),
    ] {
        let model = build(name, &QPlan::float());
        assert_eq!(
            model.num_params(),
            resnet_parameters(n) + 2 * resnet_normalized(n),
            "{name}"
        );
        let scores = model.forward(Tensor::zeros([2, 3, 32, 32], &Device::flex()));
        assert_eq!(scores.dims(), [2, 10]);
    }
    // He et al. (arXiv 1512.03385, table 6): ResNet-20 has 0.27 million parameters.
    assert_eq!(resnet_parameters(3) / 1000, 272);
}

#[test]
fn a_bottleneck_network_runs() {
    let model = build("resnet20-bottleneck", &QPlan::dorefa(4, 4));
    let scores = model.forward(Tensor::zeros([2, 3, 32, 32], &Device::flex()));
    assert_eq!(scores.dims(), [2, 10]);
}

#[test]
fn quantized_weights_count_at_their_width() {
    let float = model_bits(&build("lenet", &QPlan::float()));
    assert_eq!(float, 32 * 431_080);
    // conv2 and fc1 go from 32 bits to 4; conv1, fc2 and the biases stay.
    let dorefa = model_bits(&build("lenet", &QPlan::dorefa(4, 4)));
    assert_eq!(dorefa, float - 28 * (50 * 20 * 25 + 800 * 500));
}

#[test]
fn parameters_are_named_as_in_a_plain_network() {
    let record = build("resnet8", &QPlan::tqt(8, 8))
        .record()
        .into_bytes()
        .unwrap();
    let reader = burn_pack::Reader::from_bytes(record).unwrap();
    let names = reader.tensor_names();
    for name in [
        "conv1.weight",
        "layer2.0.shortcut.weight",
        "layer3.0.bn2.running_mean",
        "fc.bias",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let thresholds = names
        .iter()
        .filter(|name| name.ends_with(".log2_threshold"))
        .count();
    // Weight and input of 9 convolutions and the linear layer.
    assert_eq!(thresholds, 20);
}

#[test]
fn one_seed_gives_one_network() {
    let weights = |seed| {
        let architecture: Architecture = "cnn".parse().unwrap();
        let model = architecture.init([1, 8, 8], 10, &QPlan::float(), seed, &Device::flex());
        model
            .unwrap()
            .forward(Tensor::ones([1, 1, 8, 8], &Device::flex()))
            .into_data()
    };
    assert_eq!(weights(3), weights(3));
    assert_ne!(weights(3), weights(4));
}
