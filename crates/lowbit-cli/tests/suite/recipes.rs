//! Recipes, comparisons of runs and the pictures of them, as a person meets them.

use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lowbit"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn error(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(output.stdout.is_empty(), "{arguments:?} printed");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn recipes_are_listed_and_printed() {
    let here = Path::new(".");
    let table = text(here, &["recipes"]);
    for name in ["ibm8", "swalp", "number-formats"] {
        let lines = table.lines().filter(|line| line.starts_with(name));
        assert_eq!(lines.count(), 1, "{name}");
    }
    assert!(text(here, &["recipes", "ibm8"]).contains("loss_scale = 1000"));
    let unknown = error(here, &["train", "--recipe", "soup"]);
    assert!(unknown.contains("`soup`"), "{unknown}");
    assert_eq!(unknown.lines().count(), 1);
}

/// Two runs in one file, one table of them, and their curves.
#[test]
fn runs_of_a_file_are_compared_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let file = "
        method = \"float\"
        epochs = 2
        [[compare]]
        name = \"whole\"
        [[compare]]
        name = \"eight\"
        weight_format = \"fixed(8,6):stochastic\"
        loss_scale = \"dynamic 64\"
    ";
    std::fs::write(path.join("two.toml"), file).unwrap();
    let table = text(path, &["train", "--config", "two.toml", "--out", "a"]);
    let names: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["whole", "eight"]);
    let metrics = std::fs::read_to_string(path.join("a/eight/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["loss_scale"], &last["skipped_steps"]),
        (&64.0.into(), &0.into())
    );
    text(path, &["analyze", "curves", "a", "-o", "curves.svg"]);
    let svg = std::fs::read_to_string(path.join("curves.svg")).unwrap();
    assert!(svg.contains("whole: ") && svg.contains("eight: "));
    std::fs::create_dir(path.join("empty")).unwrap();
    let none = error(path, &["analyze", "curves", "empty", "-o", "b.svg"]);
    assert_eq!(
        none,
        "error: empty: is not the folder of a run: it has no config.toml\n"
    );
}

#[test]
fn long_sums_are_shown_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["formats", "sums", "e6m9", "e6m9 chunk 64", "-o", "sums.svg"];
    let table = text(folder.path(), &arguments);
    // The error of each, in percent: sequential sums stand still, chunks do not.
    let errors: Vec<f64> = table
        .lines()
        .skip(2)
        .map(|line| {
            let error = line.trim_end_matches(" %");
            error.rsplit(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(errors.len(), 2, "{table}");
    assert!(errors[0] < -5.0 && errors[1].abs() < 1.0, "{table}");
    let svg = std::fs::read_to_string(folder.path().join("sums.svg")).unwrap();
    assert!(svg.contains("e6m9 chunk 64: "));
}

#[test]
fn what_cannot_be_is_one_line() {
    let here = Path::new(".");
    for (arguments, message) in [
        (
            &["train", "--method", "float", "--loss-scale", "0"][..],
            "error: loss_scale: is 0, expected a positive number or `dynamic`\n",
        ),
        (
            &["formats", "sums", "e6m9 kahan", "--products", "100"],
            "error: invalid value '100' for '--products <N>': expected a multiple of 64 up to 1048576\n",
        ),
    ] {
        assert_eq!(error(here, arguments), message);
    }
    let refused = error(
        here,
        &[
            "train",
            "--method",
            "float",
            "--sums",
            "hopper-fp8",
            "--activation-format",
            "bf16",
            "--weight-format",
            "e4m3",
        ],
    );
    assert!(
        refused.contains("accumulate: bf16 does not support sums of hopper-fp8"),
        "{refused}"
    );
    assert_eq!(refused.lines().count(), 1);
    let wrapping = error(here, &["formats", "sums", "int16 wrap kahan"]);
    assert_eq!(wrapping.lines().count(), 1, "{wrapping}");
}
