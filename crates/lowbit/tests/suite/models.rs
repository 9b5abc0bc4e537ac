//! Sizes and shapes of the networks.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor};
use lowbit::config::{QConfig, QPlan, TqtPlan};
use lowbit::models::{Architecture, Classifier, Network, Tolerance, load_plain, model_bits};
use lowbit::nn::{Conv2dConfig, ConvTranspose2dConfig, LinearConfig};
use lowbit::optim::OptimizerConfig;
use lowbit::quantizers::{
    QuantizerConfig, Role, TrainedThresholdConfig, learned, set_quantization,
};
use lowbit::train::{Objective, Settings};
use std::collections::BTreeMap;

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
        ("resnet32", 5),
        ("resnet56", 9),
        ("resnet110", 18),
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

/// Three layers of 48, four of 128 and six of 192 features, as minGPT's `gpt-nano`, `gpt-micro` and `gpt-mini`
/// are; its head has no bias either. 65 characters, 64 positions.
#[test]
fn gpts_have_the_parameters_of_their_sizes() {
    let linear = |from: usize, to: usize| from * to + to;
    for (name, layers, d) in [
        ("gpt-nano", 3, 48),
        ("gpt-micro", 4, 128),
        ("gpt-mini", 6, 192),
    ] {
        let attention = 4 * linear(d, d);
        let layer = 2 * d + attention + 2 * d + linear(d, 4 * d) + linear(4 * d, d);
        assert_size(name, (65 + 64) * d + layers * layer + 2 * d + d * 65, 0);
    }
}

/// What follows a character is said by it and those before it alone, about as if all were equally likely at
/// first.
#[test]
fn a_gpt_does_not_see_what_comes() {
    let model = build("gpt-nano", &QPlan::float());
    let device = Device::flex();
    let window = |last: f32| {
        let characters: Vec<f32> = (0..64)
            .map(|i| if i < 40 { i as f32 } else { last })
            .collect();
        Tensor::<1>::from_floats(characters.as_slice(), &device).reshape([1, 1, 1, 64])
    };
    let [a, b] = [7.0, 9.0].map(|last| model.forward(window(last)));
    assert_eq!(a.dims(), [64, 65]);
    let part = |x: &Tensor<2>, first: usize, count: usize| {
        let rows = x.clone().narrow(0, first, count);
        rows.into_data().try_to_vec::<f32>().unwrap()
    };
    assert_eq!(part(&a, 0, 40), part(&b, 0, 40));
    assert_ne!(part(&a, 40, 24), part(&b, 40, 24));
    let targets = Tensor::<1, Int>::from_ints([3; 64], &device);
    let loss: f32 = Objective::CrossEntropy.loss(a, targets).into_scalar();
    assert!((loss - 65f32.ln()).abs() < 0.2, "{loss}");
}

/// Images are refused, and text by networks that see images.
#[test]
fn text_and_images_are_not_taken_for_each_other() {
    let refused = |text: &str| {
        let settings: Settings = toml::from_str(text).unwrap();
        settings.complete().unwrap_err().to_string()
    };
    assert_eq!(
        refused("data = \"shakespeare\"\nmodel = \"resnet20\""),
        "model: resnet20 sees images, and shakespeare is text; expected gpt-nano, gpt-micro or gpt-mini"
    );
    assert_eq!(
        refused("data = \"digits\"\nmodel = \"gpt-micro\""),
        "model: gpt-micro reads text, and digits are images"
    );
    assert_eq!(
        refused("data = \"shakespeare\"\nmixup = 0.2"),
        "runs[0].regularization.mixup: changes pixels, and shakespeare is text"
    );
    assert_eq!(
        refused("data = \"text\""),
        "data_dir: is not given, and the data set `text` is the files train.txt and test.txt of a folder of yours"
    );
    let gpt: Architecture = "gpt-nano".parse().unwrap();
    let built = gpt.init([1, 8, 8], 10, &QPlan::float(), 0, &Device::flex());
    assert_eq!(
        built.unwrap_err().to_string(),
        "model: gpt-nano reads text, these are images of 8x8"
    );
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

/// Trained parameters of a post-activation ResNet of `n` blocks a stage, by hand.
fn post_activation_parameters(n: usize, projection: bool) -> (usize, usize) {
    let block = |a: usize, b: usize| {
        let projected = projection && a != b;
        let shortcut = if projected { conv(a, b, 1) + 2 * b } else { 0 };
        let norms = if projected { 3 * b } else { 2 * b };
        (conv(a, b, 3) + conv(b, b, 3) + 4 * b + shortcut, norms)
    };
    let mut sums = (conv(3, 16, 3) + 2 * 16 + 64 * 10 + 10, 16);
    for (a, b) in [(16, 16), (16, 32), (32, 64)] {
        for i in 0..n {
            let (parameters, norms) = block(if i == 0 { a } else { b }, b);
            sums = (sums.0 + parameters, sums.1 + norms);
        }
    }
    sums
}

/// He et al. (arXiv 1512.03385), table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million parameters; the
/// numbers themselves are those that other implementations of option A print.
#[test]
fn post_activation_resnets_have_the_parameters_of_the_paper() {
    for (n, parameters) in [
        (3, 269_722),
        (5, 464_154),
        (7, 658_586),
        (9, 853_018),
        (18, 1_727_962),
    ] {
        assert_eq!(post_activation_parameters(n, false).0, parameters);
    }
    for n in [1, 2, 3, 4, 5, 7, 9, 18] {
        let depth = 6 * n + 2;
        for (name, projection) in [("v1", false), ("v1b", true)] {
            if n < 9 || !projection {
                let (trained, normalized) = post_activation_parameters(n, projection);
                assert_size(&format!("resnet{depth}-{name}"), trained, normalized);
            }
        }
    }
}

/// torchvision's `resnet18` has 11,689,512 parameters. With a 3x3 convolution at the start, which
/// has 3 64 (49 - 9) fewer, and ten classes, it has the 11,173,962 of the usual one for CIFAR.
#[test]
fn resnet18_has_the_parameters_of_torchvisions() {
    // Channels that are normalized: those of the stem, of two blocks and of a projection.
    let normalized = 64 + 4 * (64 + 128 + 256 + 512) + 128 + 256 + 512;
    assert_size("resnet18-imagenet", 11_689_512, normalized);
    assert_eq!(11_689_512 - 513_000 + 5130 - 3 * 64 * 40, 11_173_962);
    assert_size("resnet18", 11_173_962, normalized);
}

/// The keys of the state dict of torchvision's `resnet18`, less the counts of batches.
#[test]
fn resnet18_has_the_parameter_paths_of_torchvisions() {
    let mut expected = Vec::new();
    let norm = |expected: &mut Vec<String>, conv: String, bn: String| {
        expected.push(format!("{conv}.weight"));
        for name in ["gamma", "beta", "running_mean", "running_var"] {
            expected.push(format!("{bn}.{name}"));
        }
    };
    norm(&mut expected, "conv1".into(), "bn1".into());
    for layer in 1..=4 {
        for block in 0..2 {
            let at = |name: &str| format!("layer{layer}.{block}.{name}");
            norm(&mut expected, at("conv1"), at("bn1"));
            norm(&mut expected, at("conv2"), at("bn2"));
            if layer > 1 && block == 0 {
                norm(&mut expected, at("downsample.0"), at("downsample.1"));
            }
        }
    }
    expected.extend(["fc.weight", "fc.bias"].map(String::from));
    expected.sort();
    let record = build("resnet18-imagenet-x0.125", &QPlan::float()).record();
    let reader = burn_pack::Reader::from_bytes(record.into_bytes().unwrap()).unwrap();
    let names = reader.tensor_names().into_iter();
    let mut names: Vec<String> = names.map(String::from).collect();
    names.sort();
    assert_eq!(names, expected);
}

/// A file with torchvision's keys and layouts loads by name: normalizations as `weight` and `bias`,
/// the linear layer as `[classes, features]`.
#[test]
fn a_checkpoint_of_torchvisions_loads_by_name() {
    let model = build("resnet18-imagenet-x0.125", &QPlan::float());
    let record = model.record().into_bytes().unwrap();
    let reader = burn_pack::Reader::from_bytes(record).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in reader.into_tensors().unwrap() {
        let (name, mut shape) = (tensor.name, tensor.shape.to_vec());
        let count: usize = shape.iter().product();
        if name == "fc.weight" {
            shape.reverse();
        }
        let start = data.len();
        (0..count).for_each(|i| data.extend(((start + i) as f32 / 1e6).to_le_bytes()));
        let key = name.replace(".gamma", ".weight").replace(".beta", ".bias");
        let offsets = [start, data.len()];
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
        header.insert(key, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let length = (header.len() as u64).to_le_bytes();
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile();
    let file = file.unwrap();
    std::fs::write(file.path(), [&length, &header[..], &data].concat()).unwrap();
    let (_, report) = load_plain(model, file.path(), Tolerance::default()).unwrap();
    assert!(report.differences().is_empty());
    assert_eq!(report.loaded.len(), 1 + 4 + 16 + 64 + 3 * 5 + 2);
}

/// arXiv 1807.10029: `2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-FC`, by hand.
#[test]
fn vgg_small_has_the_parameters_of_its_layers() {
    let convolutions = conv(3, 128, 3) + conv(128, 128, 3) + conv(128, 256, 3) + conv(256, 256, 3);
    let convolutions = convolutions + conv(256, 512, 3) + conv(512, 512, 3);
    let normalized = 2 * (128 + 256 + 512);
    let trained = convolutions + 2 * normalized + 512 * 4 * 4 * 10 + 10;
    assert_eq!(trained, 4_660_106);
    assert_size("vgg-small", trained, normalized);
}

/// torchvision's `mobilenet_v2` has 3,504,872 parameters with 1000 classes, and 17,056 normalized
/// channels. With ten classes and at other widths, those of the networks for CIFAR-10 of
/// github.com/chenyaofo/pytorch-cifar-models: 0.70, 1.37, 2.24 and 4.33 million at 0.5, 0.75, 1 and
/// 1.4.
#[test]
fn mobilenetv2_has_the_parameters_of_torchvisions() {
    assert_size("mobilenetv2", 3_504_872 - 990 * 1281, 17_056);
    for (name, hundredths) in [
        ("mobilenetv2-x0.5", 70),
        ("mobilenetv2-x0.75", 137),
        ("mobilenetv2", 224),
        ("mobilenetv2-x1.4", 433),
    ] {
        let mut trained = Trained(0);
        let device = Device::flex().autodiff();
        let architecture: Architecture = name.parse().unwrap();
        let model = architecture.init([3, 32, 32], 10, &QPlan::float(), 0, &device);
        model.unwrap().visit(&mut trained);
        assert_eq!((trained.0 + 5000) / 10_000, hundredths, "{name}");
    }
}

/// Numbers that are trained.
struct Trained(usize);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.0 += param.dims().iter().product::<usize>();
        }
    }
}

/// The layers that the authors of arXiv 1902.03393 list, by hand: convolutions and linear layers
/// with biases.
#[test]
fn planes_have_the_parameters_of_their_layers() {
    let layers = |convs: &[usize], linear: &[usize]| {
        let mut channels = 3;
        let mut sum = 0;
        for &next in convs {
            sum += conv(channels, next, 3) + next + 2 * next;
            channels = next;
        }
        let pairs = linear.windows(2).map(|pair| pair[0] * pair[1] + pair[1]);
        (sum + pairs.sum::<usize>(), convs.iter().sum())
    };
    let check = |name: &str, (trained, normalized)| assert_size(name, trained, normalized);
    check("plane2", layers(&[16, 16], &[16 * 64, 10]));
    check("plane4", layers(&[16, 16, 32, 32], &[32 * 64, 10]));
    let six = [16, 16, 32, 32, 64, 64];
    check("plane6", layers(&six, &[64 * 16, 10]));
    let eight = [&six[..], &[128, 128]].concat();
    check("plane8", layers(&eight, &[128 * 4, 64, 10]));
    let ten = [32, 32, 64, 64, 128, 128, 256, 256, 256, 256];
    check("plane10", layers(&ten, &[256 * 4, 128, 10]));
    // For CIFAR-100: no pooling after the last convolution.
    let architecture: Architecture = "plane6".parse().unwrap();
    let model = architecture.init([3, 32, 32], 100, &QPlan::float(), 0, &Device::flex());
    let (trained, normalized): (usize, usize) =
        layers(&[32, 32, 64, 64, 128, 128], &[128 * 64, 100]);
    assert_eq!(model.unwrap().num_params(), trained + 2 * normalized);
}

/// Twice the channels of LeNet-5, by hand, and what a hidden layer has; half of WAGE's.
#[test]
fn a_width_multiplies_channels_and_hidden_features() {
    let lenet = conv(1, 40, 5) + 40 + conv(40, 100, 5) + 100;
    let lenet = lenet + 100 * 16 * 1000 + 1000 + 1000 * 10 + 10;
    assert_size("lenet-x2", lenet, 0);
    let stages = conv(3, 64, 3) + conv(64, 64, 3) + conv(64, 128, 3) + conv(128, 128, 3);
    let stages = stages + conv(128, 256, 3) + conv(256, 256, 3);
    assert_size("vgg7-x0.5", stages + 256 * 4 * 4 * 512 + 512 * 10, 0);
    let (trained, normalized) = densenet_parameters(3, 24);
    assert_size("densenet-bc-22-12-x2", trained, normalized);
    for name in [
        "cnn-x2",
        "mnist-cnn-x0.5",
        "resnet8-x0.3",
        "preresnet8-x1.5",
        "resnet8-bottleneck-x2",
        "resnet8-v1-x1.5",
        "vgg16-bn-x0.1",
    ] {
        let model = build(name, &QPlan::dorefa(4, 4));
        let architecture: Architecture = name.parse().unwrap();
        let ([channels, height, width], classes) = architecture.usual_images();
        let scores = model.forward(Tensor::zeros([2, channels, height, width], &Device::flex()));
        assert_eq!(scores.dims(), [2, classes], "{name}");
    }
}

/// On the batch that it is made on, a small step of descent lowers the loss.
#[test]
fn a_step_lowers_the_loss() {
    let device = Device::flex().autodiff();
    for name in [
        "resnet32",
        "resnet8-v1",
        "resnet8-v1b",
        "resnet18-x0.25",
        "plane2",
        "plane8",
        "vgg-small-x0.25",
        "mobilenetv2-x0.25",
        "resnet8-x2",
    ] {
        let architecture: Architecture = name.parse().unwrap();
        let model = architecture.init([3, 32, 32], 10, &QPlan::float(), 0, &device);
        let images = Tensor::random([8, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
        let classes = Tensor::<1, Int>::from_ints([0, 1, 2, 3, 4, 5, 6, 7], &device);
        let loss = |model: &Network| {
            Objective::CrossEntropy.loss(model.forward(images.clone()), classes.clone())
        };
        let model = model.unwrap();
        let before = loss(&model);
        let grads = GradientsParams::from_grads(before.clone().backward(), &model);
        let sgd = OptimizerConfig::Sgd {
            momentum: 0.0,
            weight_decay: 0.0,
        };
        let model = sgd.init().step(1e-3, model, grads);
        let (before, after) = (
            before.into_scalar::<f32>(),
            loss(&model).into_scalar::<f32>(),
        );
        assert!(after < before, "{name}: {before} {after}");
    }
}

/// The ImageNet form, on images of half the usual side.
#[test]
fn the_imagenet_form_reads_large_images() {
    let architecture: Architecture = "resnet18-imagenet-x0.125".parse().unwrap();
    assert_eq!(architecture.usual_images(), ([3, 224, 224], 1000));
    let model = build("resnet18-imagenet-x0.125", &QPlan::float());
    let scores = model.forward(Tensor::zeros([1, 3, 112, 112], &Device::flex()));
    assert_eq!(scores.dims(), [1, 1000]);
}

/// A threshold for each output channel: of every convolution of MobileNetV2, depthwise ones too, the
/// channels of the normalization after it.
#[test]
fn every_output_channel_has_its_threshold() {
    let plan = TqtPlan {
        per_channel: true,
        ..TqtPlan::new(8, 8)
    };
    let model = build("mobilenetv2-x0.25", &plan.plan());
    let thresholds: BTreeMap<String, usize> = learned(&model)
        .into_iter()
        .filter(|parameter| parameter.learned.role == Role::Log2Threshold)
        .map(|parameter| (parameter.place.to_string(), parameter.values.len()))
        .collect();
    // Width 0.25: the stem has 8 channels, blocks of 24 have 8, of which the expansion makes 48;
    // the last convolution stays at 1280.
    for (path, channels) in [
        ("conv1.weight", 8),
        ("blocks.0.depthwise.weight", 8),
        ("blocks.2.expand.weight", 48),
        ("blocks.2.depthwise.weight", 48),
        ("blocks.2.project.weight", 8),
        ("conv2.weight", 1280),
        ("fc.weight", 10),
        ("blocks.2.depthwise.input", 1),
    ] {
        assert_eq!(thresholds.get(path), Some(&channels), "{path}");
    }
}

/// The same of single layers: grouped, depthwise and transposed convolutions, whose weights have
/// their channels in different places, and linear layers.
#[test]
fn channels_are_found_in_the_weight_of_every_layer() {
    let threshold = TrainedThresholdConfig {
        per_channel: true,
        ..TrainedThresholdConfig::new(8)
    };
    let config = QConfig::default().with("weight", Some(QuantizerConfig::Tqt(threshold)));
    let device = Device::flex();
    let grouped = |channels, groups| {
        let conv = Conv2dConfig::new(channels, [3, 3]).with_groups(groups);
        thresholds(&conv.with_quantization(config.clone()).init(&device))
    };
    assert_eq!(grouped([4, 6], 2), 6);
    assert_eq!(grouped([5, 5], 5), 5);
    assert_eq!(grouped([4, 8], 4), 8);
    let transposed = |channels, groups| {
        let conv = ConvTranspose2dConfig::new(channels, [3, 3]).with_groups(groups);
        thresholds(&conv.with_quantization(config.clone()).init(&device))
    };
    // A weight of [channels in, channels out of a group, ...].
    assert_eq!((transposed([4, 6], 1), transposed([4, 6], 2)), (6, 3));
    let linear = LinearConfig::new(7, 3).with_quantization(config.clone());
    assert_eq!(thresholds(&linear.init(&device)), 3);
}

fn thresholds<M: Module>(layer: &M) -> usize {
    let found = learned(layer).into_iter();
    let mut found = found.filter(|parameter| parameter.learned.role == Role::Log2Threshold);
    found.next().unwrap().values.len()
}

const NEW: [&str; 12] = [
    "resnet8-v1",
    "resnet8-v1b",
    "resnet18-x0.25",
    "plane8",
    "vgg-small-x0.25",
    "mobilenetv2-x0.5",
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
