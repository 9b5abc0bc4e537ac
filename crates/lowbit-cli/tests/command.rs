//! The command as a person meets it.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use burn::tensor::Bytes;

fn lowbit(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
    command
        .current_dir(folder)
        .args(arguments.split_whitespace());
    command
}

fn run(folder: &Path, arguments: &str) -> Output {
    lowbit(folder, arguments).output().unwrap()
}

fn error(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments} succeeded");
    assert!(
        output.stdout.is_empty(),
        "{arguments} printed to standard output"
    );
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn json_is_the_only_thing_on_standard_output() {
    let temporary = tempfile::tempdir().unwrap();
    let output = run(
        temporary.path(),
        "train --epochs 1 --threads 1 --seed 5 --json --out a",
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["seed"], 5);
    assert_eq!(report["config"]["data"], "digits");
    let runs = report["runs"].as_array().unwrap();
    let names: Vec<&str> = runs
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["float", "dorefa-w4a4"]);
    for run in runs {
        for field in [
            "accuracy",
            "loss",
            "seconds",
            "images_per_second",
            "model_bits",
        ] {
            assert!(run[field].as_f64().unwrap() > 0.0, "{field}");
        }
        assert!(run["accuracy"].as_f64().unwrap() <= 1.0);
    }

    // The folder's configuration repeats the numbers.
    let again = run(
        temporary.path(),
        "train --config a/config.toml --json --out b",
    );
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["runs"][1]["loss"], report["runs"][1]["loss"]);

    // A test of the last weights finds what training reported.
    let eval = run(temporary.path(), "eval a/dorefa-w4a4 --last --json");
    let eval: serde_json::Value = serde_json::from_slice(&eval.stdout).unwrap();
    assert_eq!(eval["accuracy"], report["runs"][1]["accuracy"]);
    assert_eq!(eval["loss"], report["runs"][1]["loss"]);
}

/// Names and values of the parameters of a run's last checkpoint.
fn weights(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut checkpoints: Vec<_> = std::fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    checkpoints.sort();
    let bytes = std::fs::read(checkpoints.last().unwrap().join("model.bpk")).unwrap();
    let reader = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(bytes)).unwrap();
    let names: Vec<String> = reader
        .tensor_names()
        .into_iter()
        .map(String::from)
        .collect();
    names
        .into_iter()
        .map(|name| (name.clone(), reader.tensor_data(&name).unwrap()))
        .collect()
}

#[test]
fn a_killed_run_ends_with_the_weights_of_one_that_was_not() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let flags = "train --epochs 3 --threads 1 --no-baseline";
    assert!(
        run(folder, &format!("{flags} --out whole"))
            .status
            .success()
    );
    let mut arguments = format!("{flags} --out killed");
    for pause in [150, 300, 450, 600, 900] {
        let mut child = lowbit(folder, &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.join("killed/config.toml").exists() {
            arguments = "train --resume --out killed".into();
        }
    }
    let last = run(folder, &arguments);
    assert!(
        last.status.success(),
        "{}",
        String::from_utf8_lossy(&last.stderr)
    );
    let run = "dorefa-w4a4";
    assert!(
        weights(&folder.join("whole").join(run)) == weights(&folder.join("killed").join(run)),
        "weights differ"
    );
}

#[test]
fn bad_input_is_answered_in_one_line_that_names_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/file"), "x").unwrap();
    std::fs::write(folder.join("bad.toml"), "data = \"digits\"\nepoch = 3\n").unwrap();
    for (arguments, named) in [
        ("train --wbits 40", "wbits"),
        ("train --epochs 0", "epochs"),
        ("train --batch 0", "batch"),
        ("train --lr -1", "lr"),
        ("train --threads 0", "threads"),
        ("train --out full", "full"),
        ("train --resume --out nowhere", "nowhere"),
        ("train --from nowhere --method tqt", "nowhere"),
        ("train --config missing.toml", "missing.toml"),
        ("train --config bad.toml", "bad.toml line 2"),
        ("train --data mnist --data-dir nowhere", "nowhere"),
        ("train --model lenet", "lenet needs images of 16x16"),
        ("eval nowhere", "nowhere"),
        ("bench train --rounds 0", "--rounds"),
    ] {
        let text = error(folder, arguments);
        let last = text.lines().last().unwrap();
        assert!(last.contains(named), "{arguments}: {text}");
        assert!(
            last.starts_with("error:") && !text.contains("panicked"),
            "{arguments}: {text}"
        );
    }
    for arguments in [
        "train --data imagenet",
        "train --method magic",
        "train --model vgg",
    ] {
        let text = error(folder, arguments);
        assert!(text.contains("expected"), "{arguments}: {text}");
    }
}

#[test]
fn help_names_every_shared_flag() {
    let output = run(Path::new("."), "train --help");
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--data",
        "--data-dir",
        "--model",
        "--method",
        "--wbits",
        "--abits",
        "--epochs",
        "--batch",
        "--lr",
        "--seed",
        "--threads",
        "--config",
        "--out",
        "--from",
        "--resume",
        "--json",
    ] {
        assert!(text.contains(flag), "{flag}");
    }
}
