//! Runs that an earlier build wrote are read as they were: `fixtures/README.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::{Bytes, Device};
use lowbit::data::DataSet;
use lowbit::models::{Classifier, Tolerance};
use lowbit::train::checkpoint::load_weights;
use lowbit::train::{evaluate_run, find_run};

/// The folders of the quantized runs.
fn runs() -> [PathBuf; 2] {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    [
        fixtures.join("tqt/tqt-w8a8"),
        fixtures.join("dorefa/dorefa-w4a4"),
    ]
}

/// The loss of the TQT run with biases on the grids of their sums.
const TQT_LOSS: f64 = 0.23383984916057426;

#[test]
fn runs_of_an_earlier_build_test_to_the_same_bits() {
    let split = DataSet::Digits.load(None, &mut |_| {}).unwrap();
    for run in runs() {
        let text = std::fs::read_to_string(run.join("result.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (folder, name, experiment) = find_run(&run).unwrap();
        let device = Device::flex();
        let found = evaluate_run(&folder, &experiment, &name, false, &split, &device).unwrap();
        assert_eq!(expected["name"], name.as_str());
        let bits = |key: &str| expected[key].as_f64().unwrap().to_bits();
        assert_eq!(found.accuracy.to_bits(), bits("accuracy"), "{name}");
        // That build rounded biases to a finer grid than the sums they were added to, which no
        // integer hardware can. The sums of integers are checked in `flow/scales.rs`.
        let loss = match name.as_str() {
            "tqt-w8a8" => TQT_LOSS,
            _ => expected["loss"].as_f64().unwrap(),
        };
        assert_eq!(found.loss.to_bits(), loss.to_bits(), "{name}");
        let before = expected["loss"].as_f64().unwrap();
        assert!((found.loss - before).abs() < 1e-3 * before, "{name}");
        assert_eq!(expected["model_bits"], found.model_bits, "{name}");
    }
}

/// Names and values of the tensors in a checkpoint's bytes.
fn tensors(bytes: Bytes) -> BTreeSet<(String, Vec<u8>)> {
    let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
    let names = reader.tensor_names().into_iter().map(String::from);
    let names: Vec<String> = names.collect();
    let named = |name: String| (name.clone(), reader.tensor_data(&name).unwrap().to_vec());
    names.into_iter().map(named).collect()
}

#[test]
fn checkpoints_of_an_earlier_build_are_written_as_they_were_read() {
    for run in runs() {
        let (folder, name, experiment) = find_run(&run).unwrap();
        let setting = experiment.runs.iter().find(|run| run.name == name).unwrap();
        let checkpoint = folder.checkpoints(&name).best().unwrap().unwrap();
        let model = experiment
            .model
            .init([1, 8, 8], 10, &setting.plan, 1, &Device::flex());
        let (model, _) = load_weights(model.unwrap(), &checkpoint, Tolerance::default()).unwrap();
        let read = tensors(Bytes::from_bytes_vec(
            std::fs::read(checkpoint.join("model.bpk")).unwrap(),
        ));
        assert!(read.len() > 10, "{name}");
        assert!(
            read == tensors(model.record().into_bytes().unwrap()),
            "{name}"
        );
    }
}
