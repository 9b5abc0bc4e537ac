//! Networks trained on: stopped and gone on with to the same bits, on a text and on questions, from teachers.

use std::fs;
use std::path::{Path, PathBuf};

use lowbit::Device;
use lowbit::config::QPlan;
use lowbit::quantizers::learned;
use lowbit::train::{EpochMetrics, Interrupter, Progress, StepMetrics};
use lowbit_text::finetune::FineTune;
use lowbit_text::{ModelFolder, plans};

/// A folder with a network's files and a tokenizer's.
pub(crate) fn folder(at: &Path, network: &str, tokenizer: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let model = at.join(network);
    fs::create_dir(&model).unwrap();
    for from in [format!("models/{network}"), format!("squad/{tokenizer}")] {
        for file in fs::read_dir(fixtures.join(from)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), model.join(file.file_name())).unwrap();
        }
    }
    model
}

fn options(model: &Path, data: &Path, plan: QPlan) -> FineTune {
    FineTune {
        model: model.into(),
        data: data.into(),
        test: None,
        epochs: 3,
        lr: 1e-2,
        threshold_lr: 1e-2,
        weight_decay: 0.01,
        batch: 4,
        length: 24,
        stride: 4,
        seed: 3,
        teacher: None,
        temperature: 2.0,
        distill_weight: 0.5,
        plan,
    }
}

/// Losses of tests, and a stop after so many steps.
#[derive(Default)]
struct Seen {
    losses: Vec<f64>,
    stop: Option<(usize, Interrupter)>,
}

impl Progress for Seen {
    fn step(&mut self, _step: &StepMetrics<'_>) {
        if let Some((left, interrupter)) = &mut self.stop {
            *left -= 1;
            if *left == 0 {
                interrupter.stop(None);
            }
        }
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.losses.push(metrics.test_loss);
    }
}

/// Trains to the end; returns the losses of tests after each epoch, and the weights.
pub(crate) fn whole(options: &FineTune, out: &Path) -> (Vec<f64>, Vec<u8>) {
    let mut seen = Seen::default();
    options.begin(out).unwrap();
    let finished = options.run(out, &Device::flex(), &Interrupter::new(), &mut seen);
    assert!(finished.unwrap());
    (
        seen.losses,
        fs::read(out.join("model.safetensors")).unwrap(),
    )
}

/// A text that says the same again and again.
fn text(at: &Path) -> PathBuf {
    let path = at.join("text.txt");
    let line = "The tower stands by the river, and the river runs by the tower.\n";
    fs::write(&path, line.repeat(40)).unwrap();
    path
}

#[test]
fn a_text_is_learned_and_a_stop_changes_no_bit() {
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    let model = folder(at, "gpt2", "bytes");
    let plan = plans::of_operands(&"mxfp8(e4m3)".parse().unwrap());
    let options = options(&model, &text(at), plan.clone());
    let (losses, weights) = whole(&options, &at.join("whole"));
    assert!(losses[2] < 0.8 * losses[0], "{losses:?}");

    let parts = at.join("parts");
    options.begin(&parts).unwrap();
    let device = Device::flex();
    let run = |stop: Option<usize>| {
        let interrupter = Interrupter::new();
        let mut seen = Seen {
            stop: stop.map(|steps| (steps, interrupter.clone())),
            ..Seen::default()
        };
        let options = FineTune::of(&parts).unwrap();
        options
            .run(&parts, &device, &interrupter, &mut seen)
            .unwrap()
    };
    assert_eq!(
        [run(Some(2)), run(Some(9)), run(None)],
        [false, false, true]
    );
    assert_eq!(fs::read(parts.join("model.safetensors")).unwrap(), weights);
    assert!(!parts.join("checkpoints").exists());

    let read = ModelFolder::open(&parts).unwrap();
    assert!(!read.config.tied);
    read.language_model(&plan, &device).unwrap();
    let refused = options.begin(&parts).unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    let finished = FineTune::of(&parts).unwrap_err().to_string();
    assert!(finished.ends_with("parts: is finished"), "{finished}");

    let changed = at.join("changed");
    options.begin(&changed).unwrap();
    fs::write(&options.data, "another text").unwrap();
    let refused = FineTune::of(&changed).unwrap_err().to_string();
    assert!(
        refused.ends_with("text.txt: is another file than when the folder was begun"),
        "{refused}"
    );
}

/// Thresholds and steps are calibrated, trained, and kept beside the weights, whether training stopped or not; a
/// network that is read with their plan has them, and one that is trained on goes on from them.
#[test]
fn what_quantizers_learn_is_kept() {
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    let model = folder(at, "gpt2", "bytes");
    let device = Device::flex();
    for (name, plan) in [
        ("lsq", QPlan::lsq(4, 4)),
        ("tqt", QPlan::tqt(8, 8).retrained()),
    ] {
        let options = FineTune {
            epochs: 1,
            ..options(&model, &text(at), plan.clone())
        };
        let out = at.join(name);
        whole(&options, &out);
        let stopped = at.join(format!("{name}-stopped"));
        options.begin(&stopped).unwrap();
        // As a stop leaves it that comes while the first checkpoint is written.
        fs::create_dir(stopped.join("checkpoints")).unwrap();
        for steps in [Some(3), None] {
            let interrupter = Interrupter::new();
            let mut seen = Seen {
                stop: steps.map(|steps| (steps, interrupter.clone())),
                ..Seen::default()
            };
            let options = FineTune::of(&stopped).unwrap();
            let finished = options.run(&stopped, &device, &interrupter, &mut seen);
            assert_eq!(finished.unwrap(), steps.is_none());
        }
        let file = |folder: &Path, name: &str| fs::read(folder.join(name)).unwrap();
        for name in ["quantizers.safetensors", "model.safetensors"] {
            assert_eq!(file(&out, name), file(&stopped, name), "{name}");
        }
        let read = ModelFolder::open(&out).unwrap();
        let loaded = read.language_model(&plan, &device).unwrap();
        assert_eq!(loaded.warnings(), Vec::<String>::new());
        let kept = learned(&loaded.network);
        let begun = ModelFolder::open(&model).unwrap();
        let begun = begun.language_model(&plan, &device).unwrap();
        assert_eq!(begun.begun.len(), kept.len());
        let both: Vec<_> = kept.iter().zip(learned(&begun.network)).collect();
        let trained = both.iter().filter(|(a, _)| a.learned.group.is_some());
        let moved = trained.clone().filter(|(a, b)| a.values != b.values);
        assert!(10 * moved.count() > 9 * trained.count(), "{name}");
        // Another plan's quantizers have other names.
        let other = read.language_model(&QPlan::tqt(4, 4), &device).unwrap();
        assert_eq!(other.begun.is_empty(), name == "tqt");
        let mut damaged = file(&out, "quantizers.safetensors");
        damaged.truncate(20);
        fs::write(out.join("quantizers.safetensors"), damaged).unwrap();
        let refused = read.language_model(&plan, &device).unwrap_err().to_string();
        assert!(refused.contains("quantizers.safetensors: "), "{refused}");
    }
}

/// Questions whose answer is always the last word, as themselves and as a float teacher has them.
#[test]
fn questions_are_learned_with_a_teacher_and_without() {
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    let model = folder(at, "bert", "wordpiece");
    let asked: Vec<serde_json::Value> = (0..40)
        .map(|i| {
            let words = ["tower", "river", "iron", "Paris"];
            let context = format!("It is the {}", words[i % 4]);
            let paragraph = serde_json::json!({ "context": context, "qas": [{
                "id": i.to_string(), "question": "What?",
                "answers": [{ "text": words[i % 4], "answer_start": 10 }],
            }] });
            serde_json::json!({ "title": i.to_string(), "paragraphs": [paragraph] })
        })
        .collect();
    let data = at.join("questions.json");
    let file = serde_json::json!({ "version": "1.1", "data": asked });
    fs::write(&data, file.to_string()).unwrap();
    let plan = plans::of_operands(&"posit(8,1)".parse().unwrap());
    let alone = options(&model, &data, plan);
    let (losses, weights) = whole(&alone, &at.join("alone"));
    assert!(losses[2] < 0.8 * losses[0], "{losses:?}");
    let taught = FineTune {
        teacher: Some(at.join("alone")),
        distill_weight: 1.0,
        ..alone
    };
    let (losses, others) = whole(&taught, &at.join("taught"));
    assert!(losses[2] < losses[0], "{losses:?}");
    assert_ne!(weights, others);
}

#[test]
fn what_cannot_be_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    let model = folder(at, "gpt2", "bytes");
    let good = options(&model, &text(at), QPlan::float());
    let refused = |options: FineTune| {
        let out = at.join("out");
        let begun = options.begin(&out);
        let run = |()| options.run(&out, &Device::flex(), &Interrupter::new(), &mut ());
        let error = begun.and_then(run).unwrap_err().to_string();
        FineTune::discard_unstarted(&out);
        assert!(!out.exists());
        error
    };
    let lr = FineTune {
        lr: -1.0,
        ..good.clone()
    };
    assert_eq!(refused(lr), "lr: is -1, expected above 0");
    let length = FineTune {
        length: 5000,
        ..good.clone()
    };
    assert!(refused(length).starts_with("length: is 5000, the network knows "));
    let short = at.join("short.txt");
    fs::write(&short, "The tower.").unwrap();
    let alone = FineTune {
        data: short.clone(),
        ..good.clone()
    };
    assert!(refused(alone).ends_with("expected more, or --test"));
    let teacher = FineTune {
        teacher: Some(folder(at, "bert", "wordpiece")),
        ..good.clone()
    };
    let told = refused(teacher);
    assert!(
        told.ends_with("answers questions or writes text, and the student does the other"),
        "{told}"
    );
    let short = FineTune {
        test: Some(short),
        ..good
    };
    let told = refused(short);
    assert!(told.starts_with("test: text of "), "{told}");
}
