use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_store::{ModuleSnapshot, SafetensorsStore};
use lowbit::config::QPlan;
use lowbit::models::{Architecture, Classifier, Network, Tolerance, load_plain};
use lowbit::quantizers::set_quantization;
use lowbit::train::checkpoint::load_weights;

use super::{all_tensors, build, images, save, values};

pub(super) fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/flow/pytorch");
    Path::new(folder).join(name)
}

/// The images of a file that PyTorch was given, and its scores.
pub(super) fn pytorch(name: &str) -> (Tensor<4>, Vec<f32>) {
    let text = std::fs::read(fixture(name)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let read = |key: &str| -> Vec<f32> {
        let numbers = json[key].as_array().unwrap().iter();
        numbers.map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let images = read("images");
    let shape = [images.len() / 64, 1, 8, 8];
    let data = TensorData::new(images, shape);
    (Tensor::from_data(data, &Device::flex()), read("scores"))
}

#[test]
fn pytorchs_own_files_give_pytorchs_scores() {
    let device = Device::flex();
    let (images, scores) = pytorch("cnn.json");
    for name in ["cnn.pt", "cnn.safetensors"] {
        for plan in [QPlan::float(), all_tensors()] {
            let model = build("cnn", &plan, &device);
            let (model, report) = load_plain(model, &fixture(name), Tolerance::default()).unwrap();
            // Three weights, five of each normalization less the count, weight and bias of fc.
            assert_eq!(report.loaded.len(), 3 + 3 * 4 + 2, "{name}");
            assert!(report.loaded.contains(&"bn2.running_var".to_string()));
            let (model, _) = set_quantization(model, false, |_| true);
            let found = values(model.forward(images.clone()));
            for (found, expected) in found.iter().zip(&scores) {
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{name}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn keys_of_our_records_stay_as_they_are() {
    let device = Device::flex();
    for name in ["lenet", "resnet20"] {
        let temporary = tempfile::tempdir().unwrap();
        let float = build(name, &QPlan::float(), &device);
        save(&float, temporary.path());
        let file = temporary.path().join("model.safetensors");
        let mut store = SafetensorsStore::from_file(&file).skip_enum_variants(true);
        float.save_into(&mut store).unwrap();
        let x = images(name, 2, &device);
        let expected = values(float.forward(x.clone()));
        for path in [temporary.path().join("model.bpk"), file] {
            let model = build(name, &all_tensors(), &device);
            let (model, report) = load_plain(model, &path, Tolerance::default()).unwrap();
            let bytes = float.record().into_bytes().unwrap();
            let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
            let mut keys: Vec<String> = reader
                .tensor_names()
                .into_iter()
                .map(String::from)
                .collect();
            let mut loaded = report.loaded.clone();
            keys.sort();
            loaded.sort();
            assert_eq!(loaded, keys, "{name}");
            let (model, _) = set_quantization(model, false, |_| true);
            assert_eq!(values(model.forward(x.clone())), expected, "{name}");
        }
    }
}

#[test]
fn every_difference_is_named_and_refused_unless_accepted() {
    let device = Device::flex();
    let lenet = || build("lenet", &QPlan::float(), &device);
    let error = load_plain(lenet(), &fixture("cnn.pt"), Tolerance::default()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("cnn.pt: holds no tensor of this network; it lacks conv1.bias"),
        "{message}"
    );
    assert!(
        message.contains("it alone has bn1.bias, bn1.running_mean"),
        "{message}"
    );
    assert!(
        message.contains("conv1.weight is [16, 1, 3, 3], expected [20, 1, 5, 5]"),
        "{message}"
    );
    assert!(!message.contains("num_batches_tracked"), "{message}");
    // Three outputs in place of ten: the rest of the file is this network's.
    let three = || {
        let architecture: Architecture = "cnn".parse().unwrap();
        let network = architecture.init([1, 8, 8], 3, &QPlan::float(), 7, &device);
        network.unwrap()
    };
    let shapes = Tolerance {
        other_shape: true,
        ..Tolerance::default()
    };
    assert!(load_plain(three(), &fixture("cnn.pt"), Tolerance::default()).is_err());
    let (_, report) = load_plain(three(), &fixture("cnn.pt"), shapes).unwrap();
    assert!(report.loaded.contains(&"conv1.weight".to_string()));
    let names = report.other_shape.iter().map(|(name, ..)| name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["fc.weight", "fc.bias"]);
    assert!(report.missing.is_empty() && report.unexpected.is_empty());
}

/// Whatever is accepted, a network is not handed back with the weights it was built with.
#[test]
fn a_file_without_a_parameter_of_the_network_is_refused_always() {
    let device = Device::flex();
    let everything = Tolerance {
        missing: true,
        unexpected: true,
        other_shape: true,
    };
    let refused = |model: Network, path: &Path| {
        let error = load_plain(model, path, everything).unwrap_err();
        error.to_string()
    };
    let message = refused(build("lenet", &all_tensors(), &device), &fixture("cnn.pt"));
    assert!(
        message.contains("cnn.pt: holds no tensor of this network; it lacks conv1.bias"),
        "{message}"
    );
    assert!(message.contains("it alone has bn1.bias"), "{message}");
    // A file with thresholds alone.
    let temporary = tempfile::tempdir().unwrap();
    let model = build("cnn", &all_tensors(), &device);
    let bytes = model.record().into_bytes().unwrap();
    let tensors = burn_pack::Reader::from_bytes(bytes).unwrap();
    let mut tensors = tensors.into_tensors().unwrap();
    tensors.retain(|tensor| tensor.name.contains("quantizers."));
    assert!(!tensors.is_empty());
    let path = temporary.path().join("thresholds.bpk");
    let bytes = burn_pack::Writer::new(tensors).into_bytes().unwrap();
    std::fs::write(&path, &bytes[..]).unwrap();
    let message = refused(model, &path);
    assert!(
        message.contains("holds no tensor of this network; it lacks conv1.weight"),
        "{message}"
    );
}

#[test]
fn what_is_no_such_file_is_told_in_one_line() {
    let device = Device::flex();
    let temporary = tempfile::tempdir().unwrap();
    for name in ["a.pt", "a.safetensors", "a.bpk", "a.onnx"] {
        let path = temporary.path().join(name);
        let load = || {
            let model = build("cnn", &QPlan::float(), &device);
            load_plain(model, &path, Tolerance::default())
                .unwrap_err()
                .to_string()
        };
        assert!(load().contains(name), "missing {name}");
        std::fs::write(
            &path,
            b"this is not what the name says, by any reading of it",
        )
        .unwrap();
        let message = load();
        assert!(
            message.contains(name) && !message.contains('\n'),
            "{message}"
        );
    }
}

/// Gives every threshold one value.
struct SetThresholds(f32, Vec<String>);

impl ModuleMapper for SetThresholds {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.1.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.1.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.1.last().map(String::as_str) {
            Some("log2_threshold") => param.map(|t| t.zeros_like() + self.0),
            _ => param,
        }
    }
}

#[test]
fn a_threshold_of_zero_or_nan_is_refused() {
    let device = Device::flex();
    // An f32 holds powers of two from 2^-126 to 2^127 without losing bits.
    let range = " from 2^-126 to 2^127";
    for (log2_threshold, written, range) in [
        (f32::NEG_INFINITY, "0", ""),
        (f32::NAN, "NaN", ""),
        (140.0, "2^140", range),
        (-400.0, "2^-400", range),
    ] {
        let temporary = tempfile::tempdir().unwrap();
        let model = build("lenet", &all_tensors(), &device);
        let model = model.map(&mut SetThresholds(log2_threshold, Vec::new()));
        save(&model, temporary.path());
        let load = |model: Network| load_weights(model, temporary.path(), Tolerance::default());
        let error = load(build("lenet", &all_tensors(), &device)).unwrap_err();
        let expected =
            format!("the threshold of conv1.input is {written}, expected a positive number{range}");
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
}
