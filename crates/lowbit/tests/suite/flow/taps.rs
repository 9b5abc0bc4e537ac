use burn::module::Module;
use burn::tensor::Device;
use burn::train::TrainStep;
use lowbit::config::QPlan;
use lowbit::models::{Batch, Classifier};
use lowbit::quantizers::{Selection, Taps};

use super::{build, images, values};

fn outputs() -> Selection {
    Selection::all().slot("output")
}

#[test]
fn outputs_come_in_the_order_of_the_forward_pass() {
    let device = Device::flex();
    for plan in [QPlan::float(), super::all_tensors()] {
        let model = build("lenet", &plan, &device);
        let x = images("lenet", 2, &device);
        let taps = Taps::attach(&model, outputs());
        let scores = model.forward(x);
        let seen = taps.detach();
        let paths: Vec<String> = seen.iter().map(|tapped| tapped.path()).collect();
        let expected = [
            "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2",
        ];
        assert_eq!(paths, expected.map(|layer| format!("{layer}.output")));
        assert_eq!(
            seen[8].tensor.iter::<f32>().collect::<Vec<_>>(),
            values(scores)
        );
        // The rectifier's output is its input, the convolution's output, without the negatives.
        let conv = seen[0].tensor.iter::<f32>();
        let relu = seen[1].tensor.iter::<f32>();
        assert!(conv.zip(relu).all(|(conv, relu)| relu == conv.max(0.0)));
    }
}

/// With every tensor quantized: each layer of the list is a module at its path, and reached.
#[test]
fn every_layer_of_the_other_networks_is_seen() {
    let device = Device::flex();
    for name in [
        "mnist-cnn",
        "vgg7",
        "vgg16-bn",
        "preresnet20",
        "densenet-bc-22-12",
    ] {
        let x = images(name, 2, &device);
        let model = super::calibrated(build(name, &super::all_tensors(), &device), &x);
        let taps = Taps::attach(&model, outputs());
        let scores = values(model.forward(x));
        assert!(scores.iter().all(|score| score.is_finite()), "{name}");
        let seen = taps.detach();
        let mut seen: Vec<&str> = seen.iter().map(|t| t.place.layer.as_str()).collect();
        let layers = model.layers().iter();
        let mut layers: Vec<&str> = layers.map(|layer| layer.path.as_str()).collect();
        seen.sort_unstable();
        layers.sort_unstable();
        assert_eq!(seen, layers, "{name}");
    }
}

#[test]
fn every_layer_of_a_residual_network_is_seen() {
    let device = Device::flex();
    let model = build("resnet20", &QPlan::float(), &device);
    let x = images("resnet20", 1, &device);
    let taps = Taps::attach(&model, outputs());
    model.forward(x.clone());
    let seen = taps.detach();
    assert_eq!(seen.len(), model.layers().len());
    let taps = Taps::attach(&model, outputs().layer_type("Add").except_path("layer3.*"));
    model.forward(x.clone());
    let paths: Vec<String> = taps
        .detach()
        .iter()
        .map(|t| t.place.layer.clone())
        .collect();
    let expected = [
        "layer1.0", "layer1.1", "layer1.2", "layer2.0", "layer2.1", "layer2.2",
    ];
    assert_eq!(paths, expected.map(|block| format!("{block}.add")));
    // Both branches of one addition, and a weight.
    let selection = Selection::all()
        .path("layer2.0.add.input")
        .path("fc.weight");
    let taps = Taps::attach(&model, selection);
    model.forward(x);
    let paths: Vec<String> = taps.detach().iter().map(|t| t.path()).collect();
    assert_eq!(
        paths,
        ["layer2.0.add.input", "layer2.0.add.input", "fc.weight"]
    );
}

#[test]
fn detached_taps_leave_nothing_behind() {
    let device = Device::flex();
    for name in ["lenet", "resnet20"] {
        let model = build(name, &super::all_tensors(), &device);
        let x = images(name, 2, &device);
        let before = values(model.forward(x.clone()));
        let taps = Taps::attach(&model, Selection::all());
        assert_eq!(values(model.forward(x.clone())), before, "{name}");
        assert!(!taps.detach().is_empty());
        assert_eq!(values(model.forward(x.clone())), before, "{name}");
        // Dropped is detached, too; new taps start with nothing.
        drop(Taps::attach(&model, Selection::all()));
        model.forward(x);
        assert!(Taps::attach(&model, Selection::all()).detach().is_empty());
    }
}

#[test]
fn gradients_are_those_of_the_loss() {
    let device = Device::flex().autodiff();
    for (name, last) in [("lenet", "fc2"), ("resnet20", "fc")] {
        check_gradients(name, last, &device);
    }
}

/// Gradients at the network's last layer, which is a linear one.
fn check_gradients(name: &str, last: &str, device: &Device) {
    let model = build(name, &QPlan::float(), device);
    let x = images(name, 4, device);
    let classes = [3i32, 1, 4, 1];
    let batch = Batch {
        images: x,
        targets: burn::tensor::Tensor::from_ints(classes, device),
    };
    let selection = Selection::all()
        .path(format!("{last}.output"))
        .path(format!("{last}.weight"));
    let taps = Taps::attach_with_gradients(&model, selection);
    let output = TrainStep::step(&model, batch);
    let seen = taps.detach();
    // Of mean cross-entropy over scores: (softmax - one-hot) / batch.
    let scores = seen.iter().find(|t| t.place.slot == "output").unwrap();
    let gradient: Vec<f32> = scores.gradient.as_ref().unwrap().iter::<f32>().collect();
    let logits: Vec<f32> = scores.tensor.iter::<f32>().collect();
    for (i, row) in logits.chunks(10).enumerate() {
        let total: f32 = row.iter().map(|x| x.exp()).sum();
        for (j, x) in row.iter().enumerate() {
            let hit = f32::from(u8::from(classes[i] == j as i32));
            let expected = (x.exp() / total - hit) / 4.0;
            assert!((gradient[10 * i + j] - expected).abs() < 1e-6);
        }
    }
    let weight = seen.iter().find(|t| t.place.slot == "weight").unwrap();
    let sum: f32 = weight.gradient.as_ref().unwrap().iter::<f32>().sum();
    assert!(
        sum.abs() < 1e-3,
        "columns of a softmax's gradient cancel: {sum}"
    );
    assert!(!output.grads.is_empty());
    assert!(model.num_params() > 0);
}
