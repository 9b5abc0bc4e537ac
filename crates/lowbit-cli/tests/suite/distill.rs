//! Teachers, students and chains of widths, as a person meets them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use burn::tensor::Bytes;

use super::program::{self, lowbit, text};

/// The one line that a command ends with.
fn error(folder: &Path, arguments: &str) -> String {
    let complaint = program::error(folder, arguments);
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    complaint
}

#[test]
fn a_student_stands_in_a_table_with_its_teacher() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let train = "train --method float --hold-out 0.1 --epochs 1 --threads 1 --out teacher";
    let table = text(folder, train);
    assert!(table.contains("held out (best)"), "{table}");
    let distill = "distill --teacher teacher --wbits 2 --abits 2 --epochs 1 --threads 1";
    let table = text(folder, &format!("{distill} --out a"));
    let names: Vec<&str> = table
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split("  ").next().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "network",
            "cnn float (teacher)",
            "dorefa-w2a2",
            "dorefa-w2a2-distilled"
        ]
    );
    // The teacher's hold-out is the student's.
    assert!(table.contains("held out (best)"), "{table}");
    let config = fs::read_to_string(folder.join("a/config.toml")).unwrap();
    assert!(config.contains("hold_out = 0.1") && config.contains("[runs.distillation.teacher]"));

    let alone = format!("{distill} --student resnet8 --no-baseline --json --out b");
    let report: serde_json::Value = serde_json::from_str(&text(folder, &alone)).unwrap();
    assert_eq!(report["runs"].as_array().unwrap().len(), 1);
    assert_eq!(report["config"]["model"], "resnet8");
    assert!(report["teacher"]["accuracy"].as_f64().unwrap() > 0.1);
    // A distilled run is a run like another.
    let eval = text(folder, "eval b/dorefa-w2a2-distilled --json");
    let eval: serde_json::Value = serde_json::from_str(&eval).unwrap();
    assert_eq!(
        eval["runs"][0]["accuracy"],
        report["runs"][0]["best_accuracy"]
    );
}

#[test]
fn mistakes_are_answered_in_a_line() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    text(folder, "train --method float --epochs 1 --out teacher");
    let distill = |rest: &str| error(folder, &format!("distill --teacher {rest}"));
    assert!(distill("nowhere").contains("nowhere: No such file"));
    assert_eq!(
        distill("teacher --temperature -1"),
        "error: temperature: is -1, expected a positive number\n"
    );
    assert_eq!(
        distill("teacher --distill-weight 1.5"),
        "error: distill_weight: is 1.5, expected 0 to 1\n"
    );
    assert_eq!(
        distill("teacher --no-labels --distill-weight 0.5"),
        "error: distill_weight: is 0.5, expected 1 without labels\n"
    );
    assert_eq!(
        distill("teacher --data mnist"),
        "error: teacher: was trained on digits, the student learns mnist\n"
    );
    let chain = |rest: &str| error(folder, &format!("chain {rest}"));
    assert_eq!(
        chain("--bits 32,20"),
        "error: abits: is 20, dorefa takes 1 to 16, or 32 for float\n"
    );
    assert_eq!(
        chain("--bits 32,4 --seeds 0"),
        "error: seeds: is 0, expected at least 1\n"
    );
    assert!(chain("--resume --out teacher").contains("it has no chain.toml"));
    assert!(chain("--bits 32,4 --out teacher").contains("already holds something"));
}

/// Names and values of parameters.
type Tensors = Vec<(String, Vec<u8>)>;

/// Those of every checkpoint below a folder, by path.
fn weights(folder: &Path) -> Vec<(PathBuf, Tensors)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("model.bpk") {
                let bytes = Bytes::from_bytes_vec(fs::read(&path).unwrap());
                let reader = burn_pack::Reader::from_bytes(bytes).unwrap();
                let names = reader.tensor_names().into_iter().map(String::from);
                let tensors = names.map(|name| {
                    let values = reader.tensor_data(&name).unwrap();
                    (name, values)
                });
                let tensors = tensors.collect();
                found.push((path.strip_prefix(folder).unwrap().into(), tensors));
            }
        }
    }
    found.sort();
    found
}

/// Delays in milliseconds, evenly from `low` to `high`: a linear congruence (Knuth, MMIX).
struct Delays {
    state: u64,
    low: u64,
    high: u64,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let span = self.high - self.low;
        Some(Duration::from_millis(self.low + (self.state >> 33) % span))
    }
}

/// Trains a chain in `folder`, killed after each of the delays.
fn killed(folder: &Path, arguments: &str, delays: impl Iterator<Item = Duration>) -> usize {
    let mut kills = 0;
    for delay in delays {
        // What was killed before it could write its configuration begins again.
        let arguments = match folder.join("chain/chain.toml").is_file() {
            true => "chain --resume --out chain",
            false => arguments,
        };
        let mut child = lowbit(folder, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        match child.wait().unwrap().success() {
            true => break,
            false => kills += 1,
        }
    }
    kills
}

/// A chain that is killed and goes on ends with the weights and tables of one that is not.
fn assert_killed_is_whole(chain: &str, delays: impl Iterator<Item = Duration>) {
    let temporary = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| temporary.path().join(name));
    fs::create_dir(&whole).unwrap();
    fs::create_dir(&parts).unwrap();
    let arguments = format!("{chain} --out chain");
    let begun = std::time::Instant::now();
    let table = text(&whole, &arguments);
    let seconds = begun.elapsed().as_secs_f64();
    let kills = killed(&parts, &arguments, delays);
    let again = text(&parts, "chain --resume --out chain");
    println!("{table}unkilled in {seconds:.1} s; killed {kills} times and resumed: the same");
    assert!(kills > 0);
    assert_eq!(table, again);
    let [whole, parts] = [whole, parts].map(|folder| folder.join("chain"));
    for file in ["table.txt", "table.csv", "table.json", "accuracy.svg"] {
        let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
        assert!(read(&whole) == read(&parts), "{file}");
    }
    let (a, b) = (weights(&whole), weights(&parts));
    assert!(!a.is_empty());
    assert!(a == b, "weights differ");
}

#[test]
fn a_killed_chain_ends_as_one_that_was_not() {
    let delays = Delays {
        state: 3,
        low: 100,
        high: 900,
    };
    let chain = "chain --bits 32,2 --epochs 1 --threads 1 --distill-weight 0.5";
    assert_killed_is_whole(chain, delays.take(4));
}

/// The whole chain, 32 bits to 1, killed every few seconds: some minutes.
#[test]
#[ignore = "takes minutes; run it with --ignored --nocapture"]
fn the_whole_chain_killed_at_random_ends_as_one_that_was_not() {
    let delays = Delays {
        state: 20,
        low: 500,
        high: 9000,
    };
    let chain = "chain --temperature 4 --distill-weight 0.9";
    assert_killed_is_whole(chain, delays.take(20));
}
