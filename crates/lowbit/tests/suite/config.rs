//! Plans as a person writes them, on networks.

use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use lowbit::calibrate::calibrate;
use lowbit::config::{Describe, PlanFile, Planner, Preset, QConfig, QPlan};
use lowbit::models::{Architecture, Classifier, Network};
use lowbit::nn::{Adder2dConfig, DecayConfig, EmbeddingConfig, LifConfig, Linear, LinearConfig};
use lowbit::nn::{ShiftAdder2dConfig, ShiftConv2dConfig};
use lowbit::quantizers::{
    BitShiftConfig, QuantizerConfig, RangeLinearConfig, Scheme, Selection, Taps,
};

const MIXED: &str = include_str!("../../../../recipes/plans/resnet20-mixed.toml");

fn resnet20(plan: &QPlan, device: &Device) -> Network {
    let architecture: Architecture = "resnet20".parse().unwrap();
    let (input, classes) = architecture.usual_images();
    architecture.init(input, classes, plan, 7, device).unwrap()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// ResNet-20 has 22 layers with a weight: a convolution before the blocks, two in each of nine, one in
/// each of two shortcuts, and a linear layer.
#[test]
fn a_mixed_plan_is_what_it_says_and_trains() {
    let plan = PlanFile::parse("resnet20-mixed.toml", MIXED, None)
        .unwrap()
        .plan;
    let device = Device::flex().autodiff();
    let network = resnet20(&plan, &device);
    let mut weights = 0;
    for layer in network.layers() {
        let bits = ["weight", "input"].map(|slot| layer.config.get(slot).map(|q| q.bits()));
        if layer.description.weight.is_none() {
            assert!(layer.config.is_float(), "{}", layer.path);
            continue;
        }
        weights += 1;
        let eight = ["conv1", "fc"].contains(&&layer.path[..]) || layer.path.ends_with("shortcut");
        let expected = if eight { 8 } else { 4 };
        assert_eq!(bits, [Some(expected); 2], "{}", layer.path);
    }
    assert_eq!(weights, 22);

    let numbers = Tensor::<1, Int>::arange(0..2 * 3 * 32 * 32, &device).float();
    let images = numbers.sin().reshape([2, 3, 32, 32]);
    let forward = |network: &Network| {
        network.forward(images.clone());
    };
    let (network, _) = calibrate(network, |_| true, forward).unwrap();
    let loss = |network: &Network| {
        let scores = network.forward(images.clone());
        (scores - 1.0).powf_scalar(2.0).mean()
    };
    let first = values(loss(&network))[0];
    let mut sgd = SgdConfig::new().init();
    let trained = (0..10).fold(network, |network, _| {
        let grads = loss(&network).backward();
        let grads = GradientsParams::from_grads(grads, &network);
        sgd.step(0.01, network, grads)
    });
    let last = values(loss(&trained))[0];
    assert!(last < first, "{last} {first}");
}

/// What was said before overrides could name slots still says the same.
#[test]
fn an_override_without_set_replaces_everything() {
    let text = "[default]
        weight = { method = \"tqt\", bits = 4 }
        input = { method = \"tqt\", bits = 4 }
        [[overrides]]
        path = \"layer2.*\"
        type = \"Conv2d\"
        config.weight = { method = \"tqt\", bits = 6 }
        ";
    let plan = QPlan::from_toml(text).unwrap();
    let network = resnet20(&plan, &Device::flex());
    let of = |path: &str| {
        let mut layers = network.layers().iter();
        let layer = layers.find(|layer| layer.path == path).unwrap();
        let slots = layer
            .config
            .slots()
            .map(|(slot, q)| format!("{slot} {}", q.bits()));
        slots.collect::<Vec<_>>()
    };
    assert_eq!(of("layer2.1.conv1"), ["weight 6"]);
    assert_eq!(of("layer1.1.conv1"), ["input 4", "weight 4"]);
}

#[test]
fn presets_are_built_as_they_are_printed() {
    for preset in Preset::all() {
        let plan = preset.plan(None, None).unwrap();
        let read = QPlan::from_toml(&plan.to_toml()).unwrap();
        assert_eq!(read, plan, "{preset}");
        let network = resnet20(&read, &Device::flex());
        let mut weights = 0;
        for layer in network.layers() {
            let position = layer.description.weight.map(|_| weights);
            weights += usize::from(position.is_some());
            let said = plan.resolve(layer, position).config;
            assert_eq!(layer.config, said, "{preset}: {}", layer.path);
        }
        assert_eq!(weights, 22);
    }
}

fn range(text: &str) -> QuantizerConfig {
    toml::from_str(&format!("method = \"range-linear\"\n{text}")).unwrap()
}

fn rounded(config: &QuantizerConfig, x: Tensor<2>) -> Vec<f32> {
    config.check("input").unwrap();
    values(config.init(None, &x.device()).operand(x).quantized())
}

/// 2 bits over a fixed range from -1 to 2: the step is 1 and the least -1. With the scale 0.5 and the
/// zero point 1, values are -0.5, 0, 0.5 and 1.
#[test]
fn ranges_and_scales_can_be_fixed() {
    let x = || Tensor::<2>::from_floats([[-3.0, -0.6, 0.3, 1.7, 9.0]], &Device::flex());
    let fixed = range("bits = 2\nrange = \"fixed(-1,2)\"");
    assert_eq!(rounded(&fixed, x()), [-1.0, -1.0, 0.0, 2.0, 2.0]);
    let scale = range("bits = 2\nrange = \"scale(0.5,1)\"");
    assert_eq!(rounded(&scale, x()), [-0.5, -0.5, 0.5, 1.0, 1.0]);
    let refused = range("bits = 2\nrange = \"scale(0.5,4)\"").check("input");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "input: the zero point is 4, expected 0 to 3"
    );
}

/// Runs of two along the last dimension, in 2 symmetric bits: each run's largest magnitude is the step.
#[test]
fn each_run_has_a_range_of_its_own() {
    let x = || Tensor::<2>::from_floats([[1.0, 0.4, 8.0], [-3.0, 2.0, 0.5]], &Device::flex());
    let grouped = range("bits = 2\nscheme = \"symmetric\"\ngroup = 2");
    assert_eq!(rounded(&grouped, x()), [1.0, 0.0, 8.0, -3.0, 3.0, 0.5]);
    let whole = range("bits = 2\nscheme = \"symmetric\"");
    assert_eq!(rounded(&whole, x()), [0.0, 0.0, 8.0, 0.0, 0.0, 0.0]);
}

/// A linear layer's weight is `[d_input, d_output]`: runs lie along its inputs.
#[test]
fn runs_of_a_weight_lie_along_its_inputs() {
    let device = Device::flex();
    let config = QConfig::new().with(
        "weight",
        range("bits = 2\nscheme = \"symmetric\"\ngroup = 2"),
    );
    let config = LinearConfig::new(2, 2)
        .with_bias(false)
        .with_quantization(config);
    config.check().unwrap();
    let mut linear = config.init(&device);
    let weight = Tensor::from_floats([[1.0, 8.0], [0.4, 5.0]], &device);
    linear.weight = linear.weight.map(|_| weight);
    let one = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
    assert_eq!(values(linear.forward(one)), [1.0, 8.0, 0.0, 8.0]);
}

/// With stochastic rounding the mean stays: 4000 draws of 0.3 on a grid of step 1 have a deviation of
/// sqrt(0.3 0.7 / 4000) = 0.007.
#[test]
fn integers_over_a_range_round_at_random() {
    lowbit::quantizers::set_rounding(1, 2);
    let x = Tensor::<2>::full([1, 4000], 0.3, &Device::flex());
    let random = range("bits = 2\nrange = \"fixed(-1,2)\"\nrounding = \"stochastic\"");
    let y = rounded(&random, x);
    assert!(y.iter().all(|y| [0.0, 1.0].contains(y)));
    let mean = y.iter().sum::<f32>() / y.len() as f32;
    assert!((mean - 0.3).abs() < 0.05, "{mean}");
}

#[test]
fn the_gradient_beyond_a_range_is_zero_or_passes() {
    let device = Device::flex().autodiff();
    for (clamped, rounding, expected) in [
        ("zero", "nearest-even", [0.0, 1.0]),
        ("pass", "nearest-even", [1.0, 1.0]),
        ("zero", "stochastic", [0.0, 1.0]),
        ("pass", "stochastic", [1.0, 1.0]),
    ] {
        let config = range(&format!(
            "bits = 2\nrange = \"fixed(-1,2)\"\nclamped = \"{clamped}\"\nrounding = \"{rounding}\""
        ));
        let x = Tensor::<2>::from_floats([[9.0, 0.3]], &device).require_grad();
        let y = config.init(None, &device).operand(x.clone()).quantized();
        let grads = y.sum().backward();
        assert_eq!(
            values(x.grad(&grads).unwrap()),
            expected,
            "{clamped} {rounding}"
        );
    }
}

/// Batches from -1 to 1, then from 0 to 4: all of both is from -1 to 4.
#[test]
fn the_largest_of_all_batches_is_kept() {
    let device = Device::flex().autodiff();
    let config = range("bits = 8\nrange = \"min-max\"");
    let quantizer = config.init(None, &device);
    let see = |x: [f32; 2]| {
        quantizer
            .operand(Tensor::<1>::from_floats(x, &device))
            .quantized()
    };
    see([-1.0, 1.0]);
    see([0.0, 4.0]);
    let y = quantizer.operand(Tensor::<1>::from_floats([9.0, -9.0], &Device::flex()));
    let ends = values(y.quantized());
    assert!(
        (ends[0] - 4.0).abs() < 0.02 && (ends[1] + 1.0).abs() < 0.02,
        "{ends:?}"
    );
}

/// The columns of a linear layer's weight are its channels: up to 1 and up to 8. With symmetric 2 bits
/// those are the steps; after weights up to 0.5 and 2, averages with a constant of 1/2 are 0.75 and 5.
#[test]
fn each_channel_has_an_average_of_its_own() {
    let device = Device::flex().autodiff();
    let average = "bits = 2\nscheme = \"symmetric\"\nper_channel = true\n\
                   range = \"moving-average(0.5)\"";
    let config = QConfig::new().with("weight", range(average));
    let layer = LinearConfig::new(2, 2)
        .with_bias(false)
        .with_quantization(config);
    let mut linear = layer.init(&device);
    let mut read = |weight: [[f32; 2]; 2]| {
        let weight = Tensor::from_floats(weight, &device);
        linear.weight = linear.weight.clone().map(|_| weight.require_grad());
        values(linear.forward(Tensor::<2>::eye(2, &device)))
    };
    assert_eq!(read([[1.0, 8.0], [-0.4, -5.0]]), [1.0, 8.0, 0.0, -8.0]);
    assert_eq!(read([[0.5, 2.0], [-0.5, 2.0]]), [0.75, 0.0, -0.75, 0.0]);
}

fn sharing(share: &str) -> Linear {
    sharing_of(share, [[1.5], [-0.6]], 2.2)
}

fn sharing_of(share: &str, weight: [[f32; 1]; 2], bias: f32) -> Linear {
    let text = format!(
        "{share}
        weight = {{ method = \"range-linear\", bits = 3, scheme = \"symmetric\" }}
        bias = {{ method = \"range-linear\", bits = 8, scheme = \"symmetric\" }}"
    );
    let config: QConfig = toml::from_str(&text).unwrap();
    assert_eq!(
        toml::from_str::<QConfig>(&toml::to_string(&config).unwrap()).unwrap(),
        config
    );
    let device = Device::flex().autodiff();
    let mut linear = LinearConfig::new(2, 1)
        .with_quantization(config)
        .init(&device);
    let weight = Tensor::from_data(TensorData::from(weight), &device);
    let bias = Tensor::from_floats([bias], &device);
    linear.weight = linear.weight.map(|_| weight.require_grad());
    linear.bias = linear
        .bias
        .map(|old| old.map(|_| bias.clone().require_grad()));
    linear
}

/// Of a weight up to 1.5 in 3 bits the step is 1.5 / 3, of a bias of 2.2 in 8 bits 2.2 / 127: shared,
/// both have 0.5. The weights are 1.5 and -0.5, the bias 2.0; alone it is 2.2.
#[test]
fn weight_and_bias_share_a_scale() {
    let device = Device::flex().autodiff();
    let x = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
    let shared = sharing("share = [\"weight\", \"bias\"]");
    let y = shared.forward(x.clone());
    assert_eq!(values(y.clone()), [3.5, 1.5]);
    let grads = y.sum().backward();
    assert_eq!(
        values(shared.weight.val().grad(&grads).unwrap()),
        [1.0, 1.0]
    );
    let alone = values(sharing("").forward(x));
    assert!((alone[0] - 3.7).abs() < 1e-5 && (alone[1] - 1.7).abs() < 1e-5);
    // The scale is gone with the pass.
    assert_eq!(
        values(shared.forward(Tensor::<2>::ones([1, 2], &device))),
        [3.0]
    );
}

/// What the operator reads of both, as above.
#[test]
fn taps_see_what_a_shared_scale_makes() {
    let shared = sharing("share = [\"weight\", \"bias\"]");
    let device = Device::flex().autodiff();
    let taps = Taps::attach(&shared, Selection::all());
    shared.forward(Tensor::<2>::ones([1, 2], &device));
    let seen = taps.detach();
    let of = |slot: &str| {
        let seen = seen.iter().find(|tapped| tapped.place.slot == slot);
        let seen = seen.unwrap();
        [&seen.tensor, &seen.read].map(|data| data.iter::<f32>().collect::<Vec<_>>())
    };
    assert_eq!(of("weight"), [[1.5, -0.6], [1.5, -0.5]]);
    assert_eq!(of("bias"), [[2.2], [2.0]]);
}

/// Zeros have no scale. Of weights up to 0.09 in 3 bits the step is 0.03 with a bias of 0, and of a bias of
/// 12.7 in 8 bits 0.1 with weights of 0.
#[test]
fn zeros_say_nothing_of_a_shared_scale() {
    let share = "share = [\"weight\", \"bias\"]";
    let device = Device::flex().autodiff();
    let read = |linear: Linear| values(linear.forward(Tensor::<2>::eye(2, &device)));
    for (weight, bias, expected) in [
        ([[0.09], [-0.04]], 0.0, [0.09, -0.03]),
        ([[0.0], [0.0]], 12.7, [12.7, 12.7]),
        ([[0.0], [0.0]], 0.0, [0.0, 0.0]),
    ] {
        let found = read(sharing_of(share, weight, bias));
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }
}

/// A layer that would leave each its own scale, and one whose weight nothing would quantize.
#[test]
fn a_layer_shares_what_it_says_or_is_refused() {
    let symmetric = |bits: u32| range(&format!("bits = {bits}\nscheme = \"symmetric\""));
    let sharing = |slots: [&str; 2]| {
        let [first, second] = slots;
        let mut config = QConfig::new()
            .with(first, symmetric(8))
            .with(second, symmetric(16));
        config.share = slots.map(Into::into).to_vec();
        config
    };
    let refused = |config: &dyn Describe| config.check().unwrap_err().to_string();
    let lif = LifConfig::new(DecayConfig::tau(20.0)).with_recurrent(Some(3));
    let both = lif
        .clone()
        .with_quantization(sharing(["weight", "threshold"]));
    assert!(both.check().is_ok());
    let lif = lif.with_quantization(sharing(["weight", "tau"]));
    assert_eq!(
        refused(&lif),
        "Lif.share: Lif has a scale of its own for tau"
    );
    let both = || sharing(["weight", "bias"]);
    let embedding = EmbeddingConfig::new(4, 3).with_quantization(both());
    assert_eq!(
        refused(&embedding),
        "Embedding.share: Embedding has a scale of its own for weight"
    );
    for bias in [true, false] {
        let linear = LinearConfig::new(2, 2).with_bias(bias);
        assert!(linear.with_quantization(both()).check().is_ok());
    }
    let adder = Adder2dConfig::new([2, 2], [1, 1]).with_quantization(both());
    let shift = ShiftConv2dConfig::new([2, 2], [1, 1]);
    let pair = ShiftAdder2dConfig::new(shift, adder);
    assert_eq!(
        pair.check().unwrap_err().to_string(),
        "adder.share: the bias is added after the normalization, expected none"
    );
    assert!(pair.with_adder_norm(false).check().is_ok());
}

/// Of a plan, the slots that a layer has; where that leaves one, there is nothing to share.
#[test]
fn a_plan_shares_where_the_layer_does() {
    let symmetric = "{ method = \"range-linear\", scheme = \"symmetric\", bits = 8 }";
    let text = format!(
        "[[overrides]]
        path = \"*\"
        set.share = [\"weight\", \"bias\"]
        set.weight = {symmetric}
        set.bias = {symmetric}
        "
    );
    let plan = QPlan::from_toml(&text).unwrap();
    let mut planner = Planner::new(&plan).unwrap();
    let linear = planner.layer("fc", LinearConfig::new(2, 2)).unwrap();
    assert_eq!(linear.quantization.share.len(), 2);
    let embedding = planner.layer("table", EmbeddingConfig::new(4, 3)).unwrap();
    assert!(embedding.quantization.share.is_empty());
    assert!(embedding.quantization.get("weight").is_some());

    let text = text.replace("\"bias\"]", "\"threshold\"]");
    let text = text.replace("set.bias", "set.threshold");
    let plan = QPlan::from_toml(&text).unwrap();
    let mut planner = Planner::new(&plan).unwrap();
    let refused = planner.layer("fc", LinearConfig::new(2, 2)).unwrap_err();
    let message = "fc.share: Linear has a scale of its own for threshold";
    assert_eq!(refused.to_string(), message);
    let float = QPlan::float();
    let mut layers = Planner::new(&float).unwrap();
    layers.layer("fc", LinearConfig::new(2, 2)).unwrap();
    let checked = plan.check_on(&layers.finish().unwrap());
    let problem = &checked.problems[0];
    assert_eq!(problem.message, message);
    assert_eq!(problem.entry, "overrides[0].set.share");
}

#[test]
fn what_cannot_share_is_refused() {
    let refused = |text: &str| {
        let config: QConfig = toml::from_str(text).unwrap();
        config.check().unwrap_err().to_string()
    };
    assert_eq!(
        refused("share = [\"weight\", \"bias\"]\nweight = { method = \"tqt\", bits = 8 }"),
        "share: weight is tqt, expected range-linear with the scheme symmetric and one dynamic range"
    );
    let weight = "weight = { method = \"range-linear\", bits = 8, scheme = \"symmetric\" }";
    assert_eq!(
        refused(&format!("share = [\"weight\", \"bias\"]\n{weight}")),
        "share: bias is in float"
    );
    assert_eq!(
        refused(&format!("share = [\"weight\"]\n{weight}")),
        "share: names one slot, expected at least two"
    );
}

/// Old texts have no new keys.
#[test]
fn usual_fields_are_not_written() {
    let usual =
        QuantizerConfig::RangeLinear(RangeLinearConfig::new(8).with_scheme(Scheme::Symmetric));
    assert_eq!(
        toml::to_string(&usual).unwrap(),
        "method = \"range-linear\"\nbits = 8\nscheme = \"symmetric\"\nrange = \"dynamic\"\n\
         per_channel = false\n"
    );
    let shift = QuantizerConfig::ShiftTau(BitShiftConfig::new(4));
    assert_eq!((shift.name(), shift.bits()), ("shift-tau", 3));
}
