//! Activations, pooling, products, joins and tables against Burn's.

use burn::module::Module;
use burn::nn::{PaddingConfig1d, activation, pool};
use burn::tensor::{Device, Distribution, Int, Tensor, Tolerance};
use lowbit::config::QConfig;
use lowbit::nn;
use lowbit::quantizers::{FormatQuantizerConfig, QuantizerConfig, TrainedThresholdConfig};

fn noise<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn assert_same<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
    assert_eq!(a.dims(), b.dims());
    a.into_data()
        .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(0.0));
}

fn format(text: &str) -> Option<QuantizerConfig> {
    Some(QuantizerConfig::Format(FormatQuantizerConfig::new(
        text.parse().unwrap(),
    )))
}

#[test]
fn activations_are_burns() {
    let device = Device::flex();
    let x = noise([3, 5, 7]) * 3.0;
    let burn = activation::LeakyReluConfig::new()
        .with_negative_slope(0.2)
        .init();
    let ours = nn::LeakyReluConfig::new()
        .with_negative_slope(0.2)
        .init(&device);
    assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
    let burn = activation::HardtanhConfig::new().with_min_val(-2.0).init();
    let ours = nn::HardtanhConfig::new().with_min_val(-2.0).init(&device);
    assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
    let ours = nn::SigmoidConfig::new().init(&device);
    assert_same(
        activation::Sigmoid::new().forward(x.clone()),
        ours.forward(x.clone()),
    );
    let ours = nn::TanhConfig::new().init(&device);
    assert_same(activation::Tanh::new().forward(x.clone()), ours.forward(x));
}

/// fixed(4,2) holds quarters from -2 to 1.75.
#[test]
fn activations_quantize_both_ends() {
    let device = Device::flex();
    let config = || {
        let ends = format("fixed(4,2)");
        QConfig::new()
            .with("input", ends.clone())
            .with("output", ends)
    };
    let x = Tensor::<1>::from_floats([-9.0, -0.6, 0.3, 1.9], &device);
    let read = |t: Tensor<1>| t.into_data().iter::<f32>().collect::<Vec<_>>();
    // The inputs are -2, -1/2, 1/4 and 7/4; a tenth of -2 is -0.2, nearest to -1/4, of -1/2 to 0.
    let leaky = nn::LeakyReluConfig::new()
        .with_negative_slope(0.1)
        .with_quantization(config())
        .init(&device);
    assert_eq!(read(leaky.forward(x.clone())), [-0.25, 0.0, 0.25, 1.75]);
    let clamp = nn::HardtanhConfig::new()
        .with_quantization(config())
        .init(&device);
    assert_eq!(read(clamp.forward(x.clone())), [-1.0, -0.5, 0.25, 1.0]);
    // tanh: -0.964, -0.462, 0.245, 0.941; sigmoid: 0.119, 0.378, 0.562, 0.852.
    let tanh = nn::TanhConfig::new()
        .with_quantization(config())
        .init(&device);
    assert_eq!(read(tanh.forward(x.clone())), [-1.0, -0.5, 0.25, 1.0]);
    let sigmoid = nn::SigmoidConfig::new()
        .with_quantization(config())
        .init(&device);
    assert_eq!(read(sigmoid.forward(x)), [0.0, 0.5, 0.5, 0.75]);
}

/// The values that `lowbit_formats` gives by hand for posit(8,0): sigmoid(1) = 3/4,
/// tanh(1/2) = 1/2, and enhanced tanh(2) = 7/8 + 0.06795.
#[test]
fn sigmoid_and_tanh_may_be_a_posits() {
    let device = Device::flex();
    let at = |x: f32| Tensor::<1>::from_floats([x], &device);
    let sigmoid = nn::SigmoidConfig::new()
        .with_posit_bits(Some(8))
        .init(&device);
    assert_eq!(sigmoid.forward(at(1.0)).into_scalar::<f32>(), 0.75);
    let tanh = nn::TanhConfig::new().with_posit_bits(Some(8));
    assert_eq!(
        tanh.init(&device).forward(at(0.5)).into_scalar::<f32>(),
        0.5
    );
    let enhanced = tanh.with_enhanced(true).init(&device);
    assert_eq!(
        enhanced.forward(at(2.0)).into_scalar::<f32>(),
        0.875 + 0.06795
    );
}

#[test]
#[should_panic(expected = "8 or 16")]
fn another_posit_is_refused() {
    nn::TanhConfig::new()
        .with_posit_bits(Some(10))
        .init(&Device::flex());
}

#[test]
fn pooling_of_sequences_and_volumes_is_burns() {
    let device = Device::flex();
    let x = noise([2, 3, 11]);
    for padding in [
        PaddingConfig1d::Valid,
        PaddingConfig1d::Same,
        PaddingConfig1d::Explicit(1, 0),
    ] {
        let burn = pool::MaxPool1dConfig::new(3)
            .with_stride(2)
            .with_padding(padding.clone())
            .init();
        let ours = nn::MaxPool1dConfig::new(3)
            .with_stride(2)
            .with_padding(padding.clone())
            .init(&device);
        assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
        let burn = pool::AvgPool1dConfig::new(3)
            .with_padding(padding.clone())
            .with_count_include_pad(false)
            .init();
        let ours = nn::AvgPool1dConfig::new(3)
            .with_padding(padding)
            .with_count_include_pad(false)
            .init(&device);
        assert_same(burn.forward(x.clone()), ours.forward(x.clone()));
    }
    let burn = pool::AdaptiveAvgPool1dConfig::new(4).init();
    let ours = nn::AdaptiveAvgPool1dConfig::new(4).init(&device);
    assert_same(burn.forward(x.clone()), ours.forward(x));
    let x = noise([2, 3, 4, 5, 6]);
    let burn = pool::AdaptiveAvgPool3dConfig::new([2, 1, 3]).init();
    let ours = nn::AdaptiveAvgPool3dConfig::new([2, 1, 3]).init(&device);
    assert_same(burn.forward(x.clone()), ours.forward(x));
}

/// Integers: 1.4 and 2.6 become 1 and 3, for both branches.
#[test]
fn branches_share_one_quantizer() {
    let device = Device::flex();
    let config = || QConfig::new().with("input", format("int8"));
    let a = Tensor::<2>::from_floats([[1.4, 2.6]], &device);
    let b = Tensor::<2>::from_floats([[2.6, -1.4]], &device);
    let mul = nn::MulConfig::new()
        .with_quantization(config())
        .init(&device);
    let product = mul.forward(a.clone(), b.clone());
    assert_same(product, Tensor::from_floats([[3.0, -3.0]], &device));
    for (dim, shape) in [(0, [2, 2]), (1, [1, 4])] {
        let concat = nn::ConcatConfig::new()
            .with_dim(dim)
            .with_quantization(config())
            .init(&device);
        let joined = concat.forward(vec![a.clone(), b.clone()]);
        let expected = Tensor::<1>::from_floats([1.0, 3.0, 3.0, -1.0], &device);
        assert_same(joined, expected.reshape(shape));
    }
}

#[test]
fn an_embedding_takes_burns_record_and_quantizes_its_vectors() {
    let device = Device::flex();
    let burn = burn::nn::EmbeddingConfig::new(10, 4).init(&device);
    let ours = nn::EmbeddingConfig::new(10, 4)
        .init(&device)
        .load_record(burn.clone().into_record());
    let indices = Tensor::<2, Int>::from_ints([[0, 9, 3], [3, 3, 1]], &device);
    assert_same(burn.forward(indices.clone()), ours.forward(indices.clone()));

    let threshold = QuantizerConfig::Tqt(TrainedThresholdConfig {
        per_channel: true,
        ..TrainedThresholdConfig::new(4)
    });
    let config = QConfig::new().with("weight", threshold);
    let ours = nn::EmbeddingConfig::new(10, 4)
        .with_quantization(config)
        .init(&device);
    let vectors = ours.forward(indices).into_data();
    // Steps of 1/8 from -1 to 7/8.
    for value in vectors.iter::<f32>() {
        assert!(
            (value * 8.0).fract() == 0.0 && (-1.0..1.0).contains(&value),
            "{value}"
        );
    }
}
