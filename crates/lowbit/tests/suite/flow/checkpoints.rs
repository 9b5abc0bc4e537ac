//! Checkpoints as PyTorch's training scripts write them: `pytorch/make_checkpoints.py`.

use std::path::Path;

use burn::tensor::Device;
use lowbit::config::{Fold, QPlan};
use lowbit::models::{Classifier, Network, Tolerance, load_plain};
use lowbit::quantizers::set_quantization;

use super::loading::{fixture, pytorch};
use super::{all_tensors, build, values};

fn load(path: &Path, plan: &QPlan) -> Result<Network, lowbit::Error> {
    let model = build("cnn", plan, &Device::flex());
    let (model, report) = load_plain(model, path, Tolerance::default())?;
    assert!(report.loaded.contains(&"bn2.running_var".to_string()) || plan.fold == Fold::Merged);
    Ok(model)
}

#[test]
fn a_state_dict_is_found_in_whatever_it_is_wrapped_in() {
    let (images, scores) = pytorch("checkpoints.json");
    for name in [
        "state_dict.pt",
        "model_parallel.pth",
        "parallel_compiled.pt",
        "whole.pt",
    ] {
        let merged = QPlan {
            fold: Fold::Merged,
            ..QPlan::float()
        };
        for plan in [QPlan::float(), all_tensors(), merged] {
            let model = load(&fixture(name), &plan).unwrap();
            let (model, _) = set_quantization(model, false, |_| true);
            let found = values(model.forward(images.clone()));
            for (found, expected) in found.iter().zip(&scores) {
                let difference = (found - expected).abs();
                assert!(
                    difference < 1e-5 * expected.abs().max(1.0),
                    "{name}: {found}"
                );
            }
        }
    }
}

/// The state dict of `cnn` as a safetensors file without a producer, which is taken for PyTorch's,
/// under other names, and with an empty tensor of the name `more`.
fn safetensors(rename: impl Fn(&str) -> String, more: &str) -> tempfile::NamedTempFile {
    let bytes = std::fs::read(fixture("cnn.safetensors")).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&rest[..length]).unwrap();
    let entries = header.as_object().unwrap().iter();
    let mut entries: serde_json::Map<_, _> = entries
        .filter(|(key, _)| *key != "__metadata__")
        .map(|(key, entry)| (rename(key), entry.clone()))
        .collect();
    let empty = serde_json::json!({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]});
    entries.insert(more.into(), empty);
    let header = serde_json::to_vec(&entries).unwrap();
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile();
    let file = file.unwrap();
    let header_length = (header.len() as u64).to_le_bytes();
    let parts = [&header_length, &header[..], &rest[length..]];
    std::fs::write(file.path(), parts.concat()).unwrap();
    file
}

#[test]
fn what_is_ambiguous_or_left_over_is_told() {
    let refused = |path: &Path| load(path, &QPlan::float()).unwrap_err().to_string();
    let message = refused(&fixture("two.pt"));
    let expected = "two.pt: holds several state dicts, `state_dict` and `model`; save one alone";
    assert!(message.ends_with(expected), "{message}");
    // A key beside those with the prefix is a key too many.
    let file = safetensors(|key| format!("module.{key}"), "other");
    let message = refused(file.path());
    let expected = "holds another network; it alone has other";
    assert!(message.ends_with(expected), "{message}");
    let file = safetensors(str::to_string, "module.fc.bias");
    let message = refused(file.path());
    let expected = "holds both `fc.bias` and `module.fc.bias`";
    assert!(message.ends_with(expected), "{message}");
}
