//! Convolutions and what follows them in one pass, in evaluation, against one operator after the other.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit::config::{Fold, QPlan};
use lowbit::models::{Architecture, Classifier};
use lowbit::quantizers::{Selection, Taps, set_rounding};

use crate::numbers::numbers;

/// The scores of a network that has seen some batches; taps keep its operators apart.
fn assert_equal(name: &str, plan: &QPlan) {
    let device = Device::flex().autodiff();
    let architecture: Architecture = name.parse().unwrap();
    let ([channels, height, width], classes) = architecture.usual_images();
    let network = architecture.init([channels, height, width], classes, plan, 7, &device);
    let network = network.unwrap_or_else(|e| panic!("{name}: {e}"));
    for i in 0..2 {
        let images = numbers([4, channels, height, width], 0.4 + i as f32, &device);
        network.forward(images);
    }
    let network = network.valid();
    let images = numbers([5, channels, height, width], 0.7, &Device::flex());
    let zeros = Tensor::zeros([1, channels, height, width], &Device::flex());
    let images = Tensor::cat(
        vec![images, zeros.clone() * f32::NAN, zeros + f32::INFINITY],
        0,
    );
    let bits = |scores: Tensor<2>| -> Vec<u32> {
        let scores = scores.into_data().try_to_vec::<f32>().unwrap();
        // Which of two NaN a sum has is not said.
        let scores = scores
            .into_iter()
            .map(|y| if y.is_nan() { f32::NAN } else { y });
        scores.map(f32::to_bits).collect()
    };
    // Where quantizers draw random numbers, they are the same.
    set_rounding(3, 5);
    let together = bits(network.forward(images.clone()));
    set_rounding(3, 5);
    let taps = Taps::attach(&network, Selection::all().path("nowhere"));
    let apart = bits(network.forward(images));
    drop(taps);
    assert_eq!(together, apart, "{name}");
}

/// Weights, inputs, gamma and beta in a format of powers of two.
fn formats(format: &str, rounding: &str) -> QPlan {
    let quantizer =
        format!("{{ method = \"format\", format = \"{format}\", rounding = \"{rounding}\" }}");
    let layer = format!("weight = {quantizer}\ninput = {quantizer}\n");
    let norm = format!("config.gamma = {quantizer}\nconfig.beta = {quantizer}\n");
    let parts = ["first", "default", "last"].map(|part| format!("[{part}]\n{layer}"));
    let text = format!(
        "{}[[overrides]]\ntype = \"BatchNorm\"\n{norm}",
        parts.concat()
    );
    QPlan::from_toml(&text).unwrap()
}

#[test]
fn one_pass_has_the_bits_of_one_operator_after_the_other() {
    let folded = |fold| QPlan {
        fold,
        ..QPlan::float()
    };
    let plans = [
        QPlan::float(),
        folded(Fold::Training),
        folded(Fold::Merged),
        QPlan::dorefa(4, 4),
        formats("fixed(8,6)", "nearest-even"),
        formats("fixed(8,5)", "stochastic"),
    ];
    for name in [
        "resnet8",
        "resnet8-bottleneck",
        "resnet8-v1",
        "resnet8-v1b",
        "mobilenetv2",
    ] {
        for plan in &plans {
            assert_equal(name, plan);
        }
    }
}
