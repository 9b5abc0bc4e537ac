use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit::config::{Fold, QPlan};
use lowbit::data::DataSet;
use lowbit::models::{Classifier, Network, Tolerance, load_plain};
use lowbit::train::recipe::freeze_statistics;

use super::{all_tensors, build, calibrated, images, save, values};

fn folded(fold: Fold, plan: QPlan) -> QPlan {
    QPlan { fold, ..plan }
}

/// A network whose normalizations have seen something.
fn with_statistics(name: &str) -> Network {
    let device = Device::flex().autodiff();
    let model = build(name, &QPlan::float(), &device);
    for _ in 0..3 {
        model.forward(images(name, 8, &device) * 2.0 + 0.5);
    }
    model.valid()
}

fn load(name: &str, plan: &QPlan, folder: &std::path::Path) -> Network {
    let model = build(name, plan, &Device::flex());
    let path = folder.join("model.bpk");
    load_plain(model, &path, Tolerance::default()).unwrap().0
}

/// The largest difference over the range of `a`.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let (min, max) = a
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &x| {
            (lo.min(x), hi.max(x))
        });
    let largest = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    largest.fold(0.0, f32::max) / (max - min)
}

/// A thousand of the embedded digits.
fn digits() -> Vec<Tensor<4>> {
    let split = DataSet::Digits.load(None, &mut |_| {}).unwrap();
    let order: Vec<u32> = (0..1000).collect();
    vec![lowbit::train::batch(&split.train, &order, None, &Device::flex()).images]
}

/// The scores of every batch.
fn scores(model: &Network, batches: &[Tensor<4>]) -> Vec<f32> {
    let scores = |x: &Tensor<4>| values(model.forward(x.clone()));
    batches.iter().flat_map(scores).collect()
}

fn check(name: &str, batches: &[Tensor<4>]) {
    let temporary = tempfile::tempdir().unwrap();
    let plain = with_statistics(name);
    save(&plain, temporary.path());
    let expected = scores(&plain, batches);
    for fold in [Fold::Training, Fold::Merged] {
        let model = load(name, &folded(fold, QPlan::float()), temporary.path());
        let found = scores(&model, batches);
        let difference = difference(&expected, &found);
        assert!(difference <= 1e-4, "{name} {fold:?}: {difference}");
    }
    // Quantized, the pair that is folded in each step and the merged one are one and the same.
    let training = load(
        name,
        &folded(Fold::Training, all_tensors()),
        temporary.path(),
    );
    let training = calibrated(training, &batches[0]);
    save(&training, temporary.path());
    let merged = load(name, &folded(Fold::Merged, all_tensors()), temporary.path());
    let quantized = scores(&training, batches);
    assert_eq!(scores(&merged, batches), quantized, "{name}");
    assert_ne!(quantized, expected);
}

fn noise(name: &str, batches: usize, count: usize) -> Vec<Tensor<4>> {
    let batch = |_| images(name, count, &Device::flex());
    (0..batches).map(batch).collect()
}

/// Those whose convolutions have biases, and those that read many branches.
#[test]
fn other_folded_networks_are_the_plain_ones() {
    for name in ["vgg16-bn", "preresnet20", "densenet-bc-22-12"] {
        check(name, &noise(name, 1, 4));
    }
}

/// Those whose convolutions feed an addition after their normalization, and depthwise ones.
#[test]
fn folded_networks_with_normalized_sums_are_the_plain_ones() {
    for name in [
        "resnet8-v1",
        "resnet8-v1b",
        "resnet18-x0.25",
        "plane4",
        "vgg-small-x0.25",
        "mobilenetv2-x0.25",
    ] {
        check(name, &noise(name, 1, 4));
    }
}

#[test]
fn a_folded_network_is_the_plain_one() {
    let noise = |batches: usize, count: usize| noise("resnet20", batches, count);
    check("cnn", &digits());
    check("resnet20", &noise(8, 125));
    check("resnet20-bottleneck", &noise(1, 4));
}

#[test]
fn merging_takes_the_normalizations_away_and_gives_biases() {
    let keys = |fold| {
        let model = build("resnet8", &folded(fold, QPlan::float()), &Device::flex());
        let bytes = model.record().into_bytes().unwrap();
        let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
        reader
            .tensor_names()
            .into_iter()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let has = |keys: &[String], key: &str| keys.iter().any(|k| k == key);
    let (plain, training, merged) = (keys(Fold::Off), keys(Fold::Training), keys(Fold::Merged));
    assert_eq!(plain, training);
    assert!(has(&plain, "layer1.0.bn2.gamma") && !has(&plain, "layer1.0.conv1.bias"));
    assert!(!has(&merged, "layer1.0.bn2.gamma") && has(&merged, "layer1.0.conv1.bias"));
    // The first normalization of a block reads what an addition reads, too.
    assert!(has(&merged, "layer1.0.bn1.gamma"));
}

#[test]
fn statistics_are_those_of_the_batch_until_they_are_frozen() {
    let device = Device::flex().autodiff();
    let plan = |fold| folded(fold, QPlan::float());
    let (plain, pair) = (
        build("cnn", &plan(Fold::Off), &device),
        build("cnn", &plan(Fold::Training), &device),
    );
    let x = images("cnn", 32, &device);
    let live = values(pair.forward(x.clone()));
    assert!(difference(&values(plain.forward(x.clone())), &live) <= 1e-4);
    let (plain, pair) = (plain.valid(), pair.valid());
    let y = images("cnn", 8, &Device::flex());
    let (a, b) = (values(plain.forward(y.clone())), values(pair.forward(y)));
    assert!(difference(&a, &b) <= 1e-4, "the running statistics differ");
    let (frozen, changed) = freeze_statistics(pair.train());
    assert_eq!(changed, ["bn1", "bn2", "bn3"]);
    let first = values(frozen.forward(x.clone()));
    assert_eq!(values(frozen.forward(x)), first);
    assert_ne!(first, live);
}
