//! Weights rounded by what layers read, written packed and read again.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Int, Tensor};
use lowbit::Device;
use lowbit::config::QPlan;
use lowbit_text::ModelFolder;
use lowbit_text::compress::{Algorithm, Compress, Compressed};
use lowbit_text::finetune::FineTune;
use lowbit_text::models::Cache;
use serde_json::{Value, json};

use crate::finetune::{folder, whole};

fn llama(at: &Path) -> PathBuf {
    with_words(at, "llama")
}

/// A network of the fixtures that knows 40 tokens, with a tokenizer of 40 words.
fn with_words(at: &Path, network: &str) -> PathBuf {
    let model = folder(at, network, "wordpiece");
    let words = (0..40).map(|i| (format!("w{i}"), i.into()));
    let words: serde_json::Map<String, Value> = words.collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": { "type": "Whitespace" },
        "model": { "type": "WordLevel", "vocab": words, "unk_token": "w0" },
    });
    fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let _none = fs::remove_file(model.join("tokenizer_config.json"));
    let _none = fs::remove_file(model.join("special_tokens_map.json"));
    model
}

/// 640 of the words.
fn text(at: &Path) -> PathBuf {
    let words = (0..640u32).map(|i| format!("w{}", i.wrapping_mul(2_654_435_761) >> 16 & 31));
    let path = at.join("text.txt");
    fs::write(&path, words.collect::<Vec<String>>().join(" ")).unwrap();
    path
}

fn options(model: &Path, format: &str, algorithm: Algorithm, text: Option<PathBuf>) -> Compress {
    Compress {
        model: model.into(),
        format: format.parse().unwrap(),
        algorithm,
        text,
        length: 16,
        windows: 100,
        unpacked: false,
    }
}

fn run(options: &Compress, out: &Path) -> Compressed {
    options.run(out, &Device::flex(), &mut |_, _| {}).unwrap()
}

fn refused(options: &Compress, out: &Path) -> String {
    let refused = options.run(out, &Device::flex(), &mut |_, _| {});
    refused.unwrap_err().to_string()
}

/// What the network of a folder says of some tokens.
fn scores(folder: &Path) -> Vec<f32> {
    let device = Device::flex();
    let model = ModelFolder::open(folder).unwrap();
    let loaded = model.language_model(&QPlan::float(), &device).unwrap();
    assert_eq!(loaded.unused, [""; 0]);
    let tokens = Tensor::<2, Int>::from_ints([[3, 17, 1, 30, 8, 22, 9, 5, 11]], &device);
    let scores = loaded.network.forward(tokens, None, &mut Cache::default());
    scores.into_data().iter::<f32>().collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (apart / a.iter().map(|&a| square(a)).sum::<f64>()).sqrt()
}

/// Packed and unpacked, the network of the new folder is the same, in each layout, and nearer to the old one by
/// GPTQ than by rounding to the nearest, layer by layer.
#[test]
fn a_packed_folder_is_read_as_it_was_rounded() {
    let at = tempfile::tempdir().unwrap();
    let (model, text) = (llama(at.path()), text(at.path()));
    let float = scores(&model);
    for (index, format) in [
        "affine(4,symmetric,block=8)",
        "affine(3,block=8)",
        "affine(5,dim=0)",
        "scaled(e4m3,dim=0)",
    ]
    .into_iter()
    .enumerate()
    {
        let out = |name: &str| at.path().join(format!("{name}-{index}"));
        let packed = options(&model, format, Algorithm::Gptq, Some(text.clone()));
        let made = run(&packed, &out("packed"));
        assert_eq!(made.layers.len(), 14);
        for layer in &made.layers {
            let [nearest, error] = [layer.nearest, layer.error].map(Option::unwrap);
            assert!(error < nearest, "{format}: {layer:?}");
        }
        let unpacked = Compress {
            unpacked: true,
            ..packed.clone()
        };
        let same = run(&unpacked, &out("unpacked"));
        assert_eq!(same.layers, made.layers);
        assert!(made.bytes < same.bytes, "{made:?}");
        let [a, b] = ["packed", "unpacked"].map(|name| scores(&out(name)));
        assert_eq!(a, b, "{format}");
        let near = distance(&float, &a);
        assert!(near > 0.0 && near < 0.5, "{format}: {near}");
        let config = fs::read_to_string(out("packed").join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(
            config["quantization_config"]["quant_method"],
            "compressed-tensors"
        );
        let weights = &config["quantization_config"]["config_groups"]["group_0"]["weights"];
        assert_eq!(
            weights["symmetric"],
            format != "affine(3,block=8)" && format != "affine(5,dim=0)"
        );
        let config = fs::read_to_string(out("unpacked").join("config.json")).unwrap();
        assert!(!config.contains("quantization_config"));
    }
}

/// What AWQ multiplies and divides is the same network, but for its rounding: at 8 bits it is as near as one that
/// is rounded to the nearest.
#[test]
fn columns_are_multiplied_and_what_they_read_is_divided() {
    let at = tempfile::tempdir().unwrap();
    let (model, text) = (llama(at.path()), text(at.path()));
    let float = scores(&model);
    let near = |algorithm: Algorithm| {
        let out = at.path().join(algorithm.name());
        let text = Some(text.clone());
        let made = run(&options(&model, "affine(8,block=8)", algorithm, text), &out);
        let error = made.layers.iter().map(|layer| layer.error.unwrap());
        (distance(&float, &scores(&out)), error.sum::<f64>())
    };
    let (nearest, error) = near(Algorithm::Nearest);
    for algorithm in [Algorithm::Awq, Algorithm::AwqGptq] {
        let (distance, less) = near(algorithm);
        assert!(
            distance < 2.0 * nearest,
            "{algorithm}: {distance}, not {nearest}"
        );
        assert!(less < error, "{algorithm}: {less}, not {error}");
    }
}

/// An encoder, whose layers are applied several times, and a decoder that cannot be packed: every layer's sums are
/// nearer by GPTQ.
#[test]
fn other_families_are_rounded() {
    let at = tempfile::tempdir().unwrap();
    let words = text(at.path());
    let line = "the time has come to talk of many things. ".repeat(40);
    let told = at.path().join("told.txt");
    fs::write(&told, line).unwrap();
    let albert = with_words(at.path(), "albert");
    let gpt2 = folder(at.path(), "gpt2", "bytes");
    // Four layers of six and the mapping; two layers of six.
    for (model, text, unpacked, layers) in [(albert, words, false, 25), (gpt2, told, true, 12)] {
        let options = Compress {
            unpacked,
            ..options(&model, "affine(4,block=8)", Algorithm::Gptq, Some(text))
        };
        let made = run(&options, &model.with_extension("int4"));
        assert_eq!(made.layers.len(), layers, "{made:?}");
        for layer in &made.layers {
            let [nearest, error] = [layer.nearest, layer.error].map(Option::unwrap);
            assert!(error < nearest, "{layer:?}");
        }
    }
}

/// A packed network that is trained on is not packed any more.
#[test]
fn a_packed_folder_is_trained_on() {
    let at = tempfile::tempdir().unwrap();
    let (model, text) = (llama(at.path()), text(at.path()));
    let packed = at.path().join("packed");
    run(
        &options(&model, "affine(4,block=8)", Algorithm::Nearest, None),
        &packed,
    );
    let finetune = FineTune {
        model: packed,
        data: text,
        test: None,
        epochs: 1,
        lr: 1e-4,
        threshold_lr: 1e-4,
        weight_decay: 0.0,
        batch: 4,
        length: 16,
        stride: 4,
        seed: 3,
        teacher: None,
        temperature: 2.0,
        distill_weight: 0.5,
        plan: QPlan::float(),
    };
    let out = at.path().join("trained");
    whole(&finetune, &out);
    let config = fs::read_to_string(out.join("config.json")).unwrap();
    assert!(!config.contains("quantization_config"));
    assert_eq!(scores(&out).len(), 9 * 40);
}

/// A folder for another of the same name.
fn damaged_parent(at: &Path) -> PathBuf {
    let parent = at.join("others");
    fs::create_dir(&parent).unwrap();
    parent
}

#[test]
fn what_cannot_be_is_refused_in_a_line() {
    let at = tempfile::tempdir().unwrap();
    let (model, text) = (llama(at.path()), text(at.path()));
    let out = at.path().join("out");
    let usual = options(
        &model,
        "affine(4,block=8)",
        Algorithm::Gptq,
        Some(text.clone()),
    );
    let with = |change: &dyn Fn(&mut Compress)| {
        let mut options = usual.clone();
        change(&mut options);
        let message = refused(&options, &out);
        assert!(!out.exists(), "{message}");
        message
    };
    assert_eq!(
        with(&|o| o.text = None),
        "text: is missing, which gptq goes by"
    );
    assert_eq!(
        with(&|o| o.length = 17),
        "length: is 17, expected 3 to 16, the network's positions"
    );
    assert_eq!(
        with(&|o| o.format = "affine(4,block=7)".parse().unwrap()),
        "decoder.layers.0.query.weight: has 16 columns, which blocks of 7 do not divide"
    );
    assert!(
        with(&|o| o.format = "posit(8,1)".parse().unwrap())
            .starts_with("format: posit(8,1) has no packed layout")
    );
    let short = at.path().join("short.txt");
    fs::write(&short, "w1 w2 w3").unwrap();
    let message = with(&|o| o.text = Some(short.clone()));
    assert!(
        message.ends_with("short.txt: has 3 tokens, a window has 16 of them"),
        "{message}"
    );
    let gpt2 = folder(at.path(), "gpt2", "bytes");
    assert!(with(&|o| o.model = gpt2.clone()).starts_with("model: linear layers of gpt2"));
    let bert = folder(at.path(), "bert", "wordpiece");
    let message = with(&|o| {
        o.model = bert.clone();
        o.algorithm = Algorithm::Awq;
    });
    assert!(message.starts_with("algorithm: awq divides"), "{message}");
    let damaged = at.path().join("damaged");
    fs::rename(llama(&damaged_parent(at.path())), &damaged).unwrap();
    let shard = damaged.join("model-00001-of-00003.safetensors");
    let mut bytes = fs::read(&shard).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&shard, bytes).unwrap();
    for algorithm in Algorithm::ALL {
        let message = with(&|o| {
            o.model = damaged.clone();
            o.algorithm = algorithm;
        });
        assert!(message.starts_with("decoder.layers."), "{message}");
        assert!(message.contains("a NaN or an infinity"), "{message}");
    }
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine"), "").unwrap();
    assert!(refused(&usual, &out).ends_with("is not empty; expected a new folder"));
    let name = "gpt".parse::<Algorithm>().unwrap_err().to_string();
    assert_eq!(
        name,
        "algorithm: is `gpt`, expected nearest, gptq, awq or awq-gptq"
    );
}
