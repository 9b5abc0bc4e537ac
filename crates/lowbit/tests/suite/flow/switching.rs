use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use lowbit::config::QPlan;
use lowbit::models::{Classifier, Network, Tolerance, load_plain};
use lowbit::quantizers::{ModulePath, Selection, set_quantization, set_retraining};

use super::{all_tensors, build, calibrated, images, save, values};

#[test]
fn off_is_float_and_on_again_is_as_before() {
    let device = Device::flex();
    for name in ["lenet", "resnet20"] {
        let temporary = tempfile::tempdir().unwrap();
        let x = images(name, 2, &device);
        let float = build(name, &QPlan::float(), &device);
        save(&float, temporary.path());
        let model = build(name, &all_tensors(), &device);
        let record = temporary.path().join("model.bpk");
        let (model, _) = load_plain(model, &record, Tolerance::default()).unwrap();
        let model = calibrated(model, &x);
        let quantized = values(model.forward(x.clone()));
        let (off, changed) = set_quantization(model, false, |_| true);
        let expected = values(float.forward(x.clone()));
        assert_eq!(values(off.forward(x.clone())), expected, "{name}");
        assert_ne!(quantized, expected, "{name}");
        let slots = |network: &Network| {
            let layers = network.layers().iter();
            let slots = layers.map(|layer| {
                let config = &layer.config;
                let quantizers = config.slots().count();
                quantizers + usize::from(config.accumulator.is_some())
            });
            slots.sum::<usize>()
        };
        assert_eq!(changed.len(), slots(&off), "{name}");
        let (on, again) = set_quantization(off, true, |_| true);
        assert_eq!(again, changed);
        assert_eq!(values(on.forward(x)), quantized, "{name}");
    }
}

#[test]
fn types_and_paths_are_left_out() {
    let device = Device::flex();
    let model = build("lenet", &all_tensors(), &device);
    let selection = Selection::all().except_type("Linear").except_path("conv1");
    let (model, changed) = set_quantization(model, false, |p| selection.accepts(p));
    let slots = ["input", "weight", "bias", "accumulator"];
    assert_eq!(changed, slots.map(|slot| format!("conv2.{slot}")));
    // What is off already does not change.
    let (_, changed) = set_quantization(model, false, |place| place.layer == "conv2");
    assert!(changed.is_empty());
    let model = build("resnet20", &all_tensors(), &device);
    let selection = Selection::all().layer_type("Add");
    let (_, changed) = set_quantization(model, false, |p| selection.accepts(p));
    assert_eq!(changed.len(), 9);
    assert_eq!(changed[0], "layer1.0.add.input");
    let model = build("resnet20", &all_tensors(), &device);
    let selection = Selection::all()
        .path("layer2.0.*")
        .except_path("*.shortcut")
        .except_type("Add");
    let (_, changed) = set_quantization(model, false, |p| selection.accepts(p));
    let slots = ["input", "weight", "accumulator"];
    let of = |conv: &'static str| slots.map(|slot| format!("layer2.0.{conv}.{slot}"));
    assert_eq!(changed, [of("conv1"), of("conv2")].concat());
}

#[test]
fn static_thresholds_train_again_when_told() {
    let device = Device::flex().autodiff();
    for (name, weights) in [("lenet", 4), ("resnet20", 22)] {
        let model = build(name, &all_tensors(), &device);
        let selection = Selection::all().slot("weight");
        let (model, changed) = set_retraining(model, false, |p| selection.accepts(p));
        assert_eq!(changed.len(), weights, "{name}: {changed:?}");
        let (model, again) = set_retraining(model, false, |p| selection.accepts(p));
        assert!(again.is_empty());
        // A static threshold gets no gradient, the others do, and all once they train again.
        let x = images(name, 2, &device);
        let with_gradient = |model: &Network| {
            let mut seen = WithGradient {
                path: ModulePath::default(),
                gradients: &model.forward(x.clone()).sum().backward(),
                found: Vec::new(),
            };
            model.visit(&mut seen);
            seen.found
        };
        let training = with_gradient(&model);
        assert!(!training.is_empty() && training.iter().all(|path| !changed.contains(path)));
        let (model, back) = set_retraining(model, true, |_| true);
        assert_eq!(back, changed);
        assert_eq!(with_gradient(&model).len(), training.len() + weights);
    }
}

/// The tensors whose threshold has a gradient.
struct WithGradient<'a> {
    path: ModulePath,
    gradients: &'a Gradients,
    found: Vec<String>,
}

impl ModuleVisitor for WithGradient<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_threshold = self.path.field() == "log2_threshold";
        if is_threshold && param.val().grad(self.gradients).is_some() {
            self.found.extend(self.path.place().map(|p| p.to_string()));
        }
    }
}
