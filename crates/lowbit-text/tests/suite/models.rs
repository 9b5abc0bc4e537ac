//! Networks of each family against `transformers`; `fixtures/make_models.py` wrote both.

use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use lowbit::config::QPlan;
use lowbit_text::models::{Cache, EncoderInput, ModelConfig};
use lowbit_text::{Error, Language, Sampling, Weights};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/models")
        .join(name)
}

fn opened(name: &str) -> (ModelConfig, Weights, Value) {
    let folder = folder(name);
    let config = ModelConfig::read(&folder.join("config.json")).unwrap();
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let expected = serde_json::from_slice(&expected).unwrap();
    (config, Weights::open(&folder).unwrap(), expected)
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn tokens(value: &Value) -> Tensor<2, Int> {
    let rows = value.as_array().unwrap().len();
    let values: Vec<i64> = flat(value).into_iter().map(|v| v as i64).collect();
    let shape = [rows, values.len() / rows];
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn padding(value: &Value) -> Tensor<2, Bool> {
    tokens(value).equal_elem(0)
}

/// The largest difference over the largest number, where `mask` is 1; each position has equally many.
fn difference<const D: usize>(ours: Tensor<D>, theirs: &Value, mask: &Value) -> f64 {
    let ours = ours.into_data().try_to_vec::<f32>().unwrap();
    let (theirs, mask) = (flat(theirs), flat(mask));
    assert_eq!(ours.len(), theirs.len());
    let each = ours.len() / mask.len();
    let seen = |(i, _): &(usize, (f32, f64))| mask[i / each] == 1.0;
    let pairs: Vec<(f32, f64)> = ours
        .into_iter()
        .zip(theirs)
        .enumerate()
        .filter(seen)
        .map(|p| p.1)
        .collect();
    let largest = pairs
        .iter()
        .fold(0.0, |most: f64, (_, t)| most.max(t.abs()));
    assert!(largest > 0.5, "numbers that say nothing, to {largest}");
    let off = pairs.iter().map(|(o, t)| (f64::from(*o) - t).abs());
    off.fold(0.0, f64::max) / largest
}

#[test]
fn encoders_have_the_scores_of_transformers() {
    for name in ["albert", "bert"] {
        let (config, weights, expected) = opened(name);
        let device = Device::flex();
        let loaded = config
            .question_answering(&weights, &QPlan::float(), &device)
            .unwrap();
        assert_eq!(loaded.unused, [""; 0]);
        let input = EncoderInput {
            tokens: tokens(&expected["tokens"]),
            types: tokens(&expected["types"]),
            padding: Some(padding(&expected["mask"])),
        };
        let [starts, ends] = loaded.network.forward(input);
        for (scores, theirs) in [(starts, "starts"), (ends, "ends")] {
            let off = difference(scores, &expected[theirs], &expected["mask"]);
            println!("{name} {theirs}: {off:.1e}");
            assert!(off < 1e-5, "{name} {theirs}: {off}");
        }
    }
}

#[test]
fn decoders_have_the_scores_of_transformers() {
    for name in ["gpt2", "llama", "mistral", "qwen2"] {
        let (config, weights, expected) = opened(name);
        let loaded = config.language_model(&weights, &QPlan::float(), &Device::flex());
        let loaded = loaded.unwrap();
        assert_eq!(loaded.unused, [""; 0]);
        let (network, all) = (loaded.network, tokens(&expected["tokens"]));
        let mask = &expected["mask"];
        let scores = network.forward(all.clone(), Some(padding(mask)), &mut Cache::default());
        let off = difference(scores, &expected["logits"], mask);
        println!("{name}: {off:.1e}");
        assert!(off < 1e-5, "{name}: {off}");
        // Three positions, then one by one.
        let first = all.narrow(0, 0, 1);
        let (mut cache, [_, length]) = (Cache::default(), first.dims());
        let mut steps = vec![network.forward(first.clone().narrow(1, 0, 3), None, &mut cache)];
        for position in 3..length {
            steps.push(network.forward(first.clone().narrow(1, position, 1), None, &mut cache));
        }
        assert_eq!(cache.positions(), length);
        let ones = Value::from(vec![1; length]);
        let off = difference(Tensor::cat(steps, 1), &expected["cached"], &ones);
        println!("{name}, remembered: {off:.1e}");
        assert!(off < 1e-5, "{name}, remembered: {off}");
    }
}

/// Text goes on as greedy generation goes on, and is as unexpected as in transformers' sliding window.
#[test]
fn language_is_that_of_transformers() {
    for name in ["gpt2", "llama", "mistral", "qwen2"] {
        let (config, weights, expected) = opened(name);
        let device = Device::flex();
        let loaded = config
            .language_model(&weights, &QPlan::float(), &device)
            .unwrap();
        let language = Language {
            network: &loaded.network,
            positions: config.positions(),
            device,
        };
        let ids = |value: &Value| -> Vec<u32> { flat(value).iter().map(|id| *id as u32).collect() };
        let whole = ids(&expected["greedy"]);
        let sampling = Sampling {
            tokens: 5,
            temperature: 0.0,
            top: 0,
            seed: 0,
        };
        let made = language.go_on(&whole[..7], &sampling, &[]);
        assert_eq!(made.unwrap(), whole[7..], "{name}");
        let text = ids(&expected["text"]);
        // Of windows apart, each but the first has a token that nothing expects.
        for (stride, theirs, tokens) in [(5, "loss", 39), (12, "loss_apart", 36)] {
            let found = language.perplexity(&text, 12, stride, &mut |_, _| {});
            let (found, loss) = (found.unwrap(), expected[theirs].as_f64().unwrap());
            let off = (found.loss - loss).abs();
            assert!(off < 1e-5 * loss, "{name}, {theirs}: {} {loss}", found.loss);
            assert_eq!(found.tokens, tokens, "{name}, {theirs}");
        }
    }
}

#[test]
fn a_network_of_the_other_kind_is_refused() {
    let (config, weights, _) = opened("gpt2");
    let refused = config.question_answering(&weights, &QPlan::float(), &Device::flex());
    let refused: Error = refused.unwrap_err();
    let refused = refused.to_string();
    let expected = "config.json: model_type: is of a language model, expected albert or bert, which answer questions";
    assert!(refused.ends_with(expected), "{refused}");
    let (config, ..) = opened("bert");
    let refused = config.question_answering(&weights, &QPlan::float(), &Device::flex());
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("lacks bert.embeddings") || refused.contains("lacks embeddings"),
        "{refused}"
    );
}
