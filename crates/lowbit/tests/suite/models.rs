//! Sizes and shapes of the networks.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use lowbit::config::QPlan;
use lowbit::models::{Architecture, Classifier, model_bits};
use lowbit::quantizers::set_quantization;

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

/// Weights of a convolution.
fn conv(a: usize, b: usize, k: usize) -> usize {
    a * b * k * k
}

/// What is stored of a network beside what is trained: two statistics for each normalized channel.
fn assert_size(name: &str, trained: usize, normalized: usize) {
    let size = build(name, &QPlan::float()).num_params();
    assert_eq!(size, trained + 2 * normalized, "{name}");
}

/// PyTorch's example on MNIST, and QPyTorch's: 21,840 parameters.
#[test]
fn the_tutorials_network_has_its_21840_parameters() {
    let convolutions = conv(1, 10, 5) + 10 + conv(10, 20, 5) + 20;
    let linear = 320 * 50 + 50 + 50 * 10 + 10;
    assert_eq!(convolutions + linear, 21_840);
    assert_size("mnist-cnn", 21_840, 0);
}

/// arXiv 1802.04680, section 4.1: 2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-1024FC, no biases.
#[test]
fn vgg7_has_the_weights_of_wage() {
    let stages = conv(3, 128, 3) + conv(128, 128, 3) + conv(128, 256, 3) + conv(256, 256, 3);
    let stages = stages + conv(256, 512, 3) + conv(512, 512, 3);
    assert_size("vgg7", stages + 512 * 4 * 4 * 1024 + 1024 * 10, 0);
}

/// The convolutions of VGG-16 have 14,714,688 parameters and those of VGG-19 20,024,384, as Keras
/// says of its networks without their top, and torchvision's VGG-16 and VGG-19 with normalizations
/// have 8,448 and 11,008 more than those without (138,365,992 - 138,357,544 and
/// 143,678,248 - 143,667,240).
#[test]
fn vggs_have_the_parameters_of_the_literature() {
    let classifier = 2 * (512 * 512 + 512) + 512 * 10 + 10;
    for (name, convolutions, normalizations) in
        [("vgg16", 14_714_688, 8_448), ("vgg19", 20_024_384, 11_008)]
    {
        assert_size(name, convolutions + classifier, 0);
        // Scale and shift of each channel; mean and variance are as many.
        let trained = convolutions + classifier + normalizations;
        assert_size(&format!("{name}-bn"), trained, normalizations / 2);
    }
}

/// Trained parameters and normalized channels of a ResNet with `n` bottlenecks a stage.
fn bottleneck_parameters(n: usize) -> (usize, usize) {
    let block = |a: usize, w: usize| {
        let shortcut = if a == 4 * w { 0 } else { conv(a, 4 * w, 1) };
        let norms = a + w + w;
        let convolutions = conv(a, w, 1) + conv(w, w, 3) + conv(w, 4 * w, 1);
        (convolutions + shortcut + 2 * norms, norms)
    };
    let (mut trained, mut normalized, mut channels) = (conv(3, 16, 3), 0, 16);
    for width in [16, 32, 64] {
        for _ in 0..n {
            let (parameters, norms) = block(channels, width);
            (trained, normalized) = (trained + parameters, normalized + norms);
            channels = 4 * width;
        }
    }
    let end = 2 * channels + channels * 10 + 10;
    (trained + end, normalized + channels)
}

/// arXiv 1603.05027, section 5: ResNet-110 and ResNet-164 both have 1.7 million parameters.
#[test]
fn networks_with_raw_shortcuts_have_the_parameters_of_their_depth() {
    for (name, n) in [("preresnet20", 3), ("preresnet110", 18)] {
        assert_size(name, resnet_parameters(n), resnet_normalized(n));
    }
    assert_eq!(resnet_parameters(18) / 100_000, 17);
    let (trained, normalized) = bottleneck_parameters(18);
    assert_eq!(trained / 100_000, 17);
    assert_size("preresnet164", trained, normalized);
}

/// Where a block changes the shape, its shortcut reads the input as it is: of a negative image,
/// which the rectifier makes zero, something is left.
#[test]
fn a_raw_shortcut_is_another_network() {
    let images = || Tensor::<4>::ones([1, 3, 32, 32], &Device::flex()) * -3.0;
    let scores = |name| build(name, &QPlan::float()).forward(images()).into_data();
    assert_ne!(scores("preresnet20"), scores("resnet20"));
}

/// Trained parameters and normalized channels of a DenseNet-BC with `n` layers a block.
fn densenet_parameters(n: usize, growth: usize) -> (usize, usize) {
    let inner = 4 * growth;
    let mut channels = 2 * growth;
    let (mut trained, mut normalized) = (conv(3, channels, 3), 0);
    for block in 0..3 {
        for _ in 0..n {
            trained += conv(channels, inner, 1) + conv(inner, growth, 3);
            normalized += channels + inner;
            channels += growth;
        }
        normalized += channels;
        if block < 2 {
            trained += conv(channels, channels / 2, 1);
            channels /= 2;
        }
    }
    (trained + 2 * normalized + channels * 10 + 10, normalized)
}

/// arXiv 1608.06993, table 2: DenseNet-BC has 0.8 million parameters at depth 100 and growth 12
/// (769,162 in the authors' and others' implementations), 25.6 million at depth 190 and growth 40.
#[test]
fn densenets_have_the_parameters_of_the_paper() {
    let (trained, normalized) = densenet_parameters(16, 12);
    assert_eq!(trained, 769_162);
    assert_size("densenet-bc-100-12", trained, normalized);
    assert_eq!(densenet_parameters(31, 40).0 / 100_000, 256);
}

const NEW: [&str; 6] = [
    "mnist-cnn",
    "vgg7",
    "vgg16",
    "vgg16-bn",
    "preresnet20",
    "densenet-bc-22-12",
];

/// The first and the last layer with a weight, which DoReFa leaves in float.
#[test]
fn the_first_and_the_last_layer_are_found() {
    for name in NEW {
        let model = build(name, &QPlan::dorefa(4, 4));
        let weights = model.layers().iter();
        let weights: Vec<_> = weights.filter(|l| l.description.weight.is_some()).collect();
        let quantized: Vec<bool> = weights
            .iter()
            .map(|layer| layer.config.get("weight").is_some())
            .collect();
        let count = quantized.len();
        let expected: Vec<bool> = (0..count).map(|i| i != 0 && i != count - 1).collect();
        assert_eq!(quantized, expected, "{name}");
        // Every layer is a module of the network, at the path that the plan names.
        let (_, switched) = set_quantization(model, false, |_| true);
        assert_eq!(switched.len(), 2 * (count - 2), "{name}");
    }
}

/// Forward and backward, quantized: every parameter that is trained gets a gradient.
#[test]
fn every_parameter_of_the_new_networks_gets_a_gradient() {
    struct Missing<'a>(&'a GradientsParams, usize, Vec<Vec<usize>>);
    impl ModuleVisitor for Missing<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.1 += 1;
                if self.0.get::<D>(param.id).is_none() {
                    self.2.push(param.dims().to_vec());
                }
            }
        }
    }
    let device = Device::flex().autodiff();
    for name in NEW {
        let architecture: Architecture = name.parse().unwrap();
        let (input, classes) = architecture.usual_images();
        let [channels, height, width] = input;
        let model = architecture.init(input, classes, &QPlan::dorefa(8, 8), 0, &device);
        let model = model.unwrap();
        let shape = [2, channels, height, width];
        let images = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let scores = model.forward(images);
        assert_eq!(scores.dims(), [2, 10], "{name}");
        let grads = GradientsParams::from_grads(scores.sum().backward(), &model);
        let mut missing = Missing(&grads, 0, Vec::new());
        model.visit(&mut missing);
        assert!(missing.1 > 0);
        assert!(missing.2.is_empty(), "{name}: {:?}", missing.2);
    }
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
