//! `lowbit analyze` as a person meets it.

use std::path::Path;
use std::process::{Command, Output};

use lowbit::train::RunFolder;

fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lowbit"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn error(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments} succeeded");
    assert!(output.stdout.is_empty(), "{arguments} printed");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_quantizer_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        folder.path(),
        "analyze quantizer --method tqt --bits 3 -o x.svg",
    );
    assert!(output.status.success() && output.stdout.is_empty());
    let svg = std::fs::read_to_string(folder.path().join("x.svg")).unwrap();
    assert!(svg.contains("3 bits, signed, t = 1, step 0.25"));
}

#[test]
fn what_cannot_be_drawn_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        ("--bits 1", "error: bits: is 1, expected 2 to 24\n"),
        (
            "--threshold 0",
            "error: threshold: is 0, expected a positive number from 2^-100 to 2^100\n",
        ),
        ("--method dorefa", "error: --method dorefa: expected tqt\n"),
    ] {
        let arguments = format!("analyze quantizer {arguments} -o x.svg");
        assert_eq!(error(folder.path(), &arguments), message);
    }
    let missing = error(folder.path(), "analyze quantizer -o none/x.svg");
    assert!(missing.starts_with("error: none/x.svg: "));
}

/// The network for the digits: every layer's weight and input have 8 bits.
#[test]
fn the_sums_of_a_trained_network_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.toml"), PLAN).unwrap();
    let training = run(folder.path(), "train --config c.toml --epochs 1 --out a");
    let complaint = String::from_utf8_lossy(&training.stderr);
    assert!(training.status.success(), "{complaint}");
    let output = run(folder.path(), "analyze accumulators a/plan --json");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = report["layers"].as_array().unwrap();
    let paths: Vec<&str> = layers.iter().map(|l| l["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["conv1", "conv2", "conv3", "fc"]);
    for layer in layers {
        let bits = |field: &str| layer[field].as_u64().unwrap();
        assert_eq!((bits("input"), bits("weight"), bits("given")), (8, 8, 32));
        assert!(bits("needed_by_weights") <= bits("needed_by_shape"));
        // 8 bits each, one more at most for an unsigned input, and the logarithm of the terms.
        let most = 16 + (bits("terms") as f64).log2().ceil() as u64 + 1;
        assert!((16..=most).contains(&bits("needed_by_shape")));
    }
    let table = run(folder.path(), "analyze accumulators a/plan");
    assert!(String::from_utf8_lossy(&table.stdout).contains("by weights"));
    assert_eq!(
        error(folder.path(), "analyze accumulators a/float"),
        "error: a/float: no layer's weight and input both have power-of-two steps\n"
    );
}

const PLAN: &str = r#"
[plan.default]
input = { method = "tqt", bits = 8 }
weight = { method = "tqt", bits = 8 }
accumulator = { bits = 32 }
[plan.first]
input = { method = "tqt", bits = 8 }
weight = { method = "tqt", bits = 8 }
accumulator = { bits = 32 }
[plan.last]
input = { method = "tqt", bits = 8 }
weight = { method = "tqt", bits = 8 }
accumulator = { bits = 32 }
"#;

const TWO: &str = "
[[compare]]
name = \"float\"
method = \"float\"
epochs = 1
[[compare]]
name = \"tqt\"
method = \"tqt\"
epochs = 1
";

#[test]
fn a_run_is_analyzed_and_its_widths_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let ended_well = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
        let output = command.current_dir(folder.path()).args(arguments).output();
        let output = output.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::write(folder.path().join("c.toml"), TWO).unwrap();
    ended_well(&["train", "--config", "c.toml", "--out", "a<i>&"]);
    let printed = ended_well(&[
        "analyze",
        "a<i>&/tqt",
        "--images",
        "64",
        "--json",
        "-o",
        "r.html",
        "--assets",
        "parts",
        "--plan",
        "w.toml",
        "--budget",
        "bits=4",
    ]);
    let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(found["images"], 64);
    assert!(!found["findings"].as_array().unwrap().is_empty());
    let layers = found["layers"].as_array().unwrap();
    let first: Vec<&str> = layers
        .iter()
        .map(|l| l["path"].as_str().unwrap())
        .take(3)
        .collect();
    assert_eq!(first, ["conv1", "bn1", "relu1"]);
    let plan = std::fs::read_to_string(folder.path().join("w.toml")).unwrap();
    let from = plan.lines().find(|line| line.starts_with("from = "));
    assert!(from.unwrap().ends_with("a<i>&/tqt\""), "{plan}");
    let page = std::fs::read_to_string(folder.path().join("r.html")).unwrap();
    // The plan names the run that it starts from.
    assert!(page.contains("a&lt;i&gt;&amp;/tqt") && !page.contains("<i>"));
    // Nothing is fetched: the only addresses name SVG.
    let addresses = page.matches("http").count();
    assert_eq!(
        addresses,
        page.matches("http://www.w3.org/2000/svg").count()
    );
    assert!(page.len() < 5 << 20);
    for part in [
        "layers.csv",
        "tensors.csv",
        "network.svg",
        "cost.svg",
        "values-conv2.weight.svg",
    ] {
        assert!(folder.path().join("parts").join(part).is_file(), "{part}");
    }
    let said = ended_well(&["analyze", "a<i>&/tqt", "--images", "64"]);
    assert!(said.contains("The layer to look at first is "), "{said}");
    ended_well(&[
        "train",
        "--config",
        "w.toml",
        "--epochs",
        "1",
        "--no-baseline",
        "--out",
        "b",
    ]);
    the_better_widths_were_trained(&found["suggested"], &folder.path().join("b"));
    let compared = ended_well(&["report", "a<i>&", "b", "-o", "two.html"]);
    assert!(compared.contains("plan.widths.0.path"), "{compared}");
    let page = std::fs::read_to_string(folder.path().join("two.html")).unwrap();
    assert!(
        page.contains("a&lt;i&gt;&amp;/tqt")
            && page.contains("Accuracy in percent over bit operations")
    );
}

/// That widths for 4 bits are no wider, and that those with less measured loss were trained.
fn the_better_widths_were_trained(suggested: &serde_json::Value, folder: &Path) {
    assert_eq!(suggested["budget"], "bits=4");
    assert!(suggested["weight_bits"].as_f64().unwrap() <= 4.0);
    assert!(suggested["input_bits"].as_f64().unwrap() <= 4.0);
    let loss = |widths: &serde_json::Value| widths["measured"]["loss"].as_f64().unwrap();
    if !suggested["other"].is_null() {
        assert!(loss(suggested) <= loss(&suggested["other"]));
    }
    let (_, experiment) = RunFolder::open(folder).unwrap();
    let trained = &experiment.runs[0].plan.widths;
    let layers = suggested["layers"].as_array().unwrap();
    assert_eq!(trained.len(), layers.len());
    for (trained, layer) in trained.iter().zip(layers) {
        assert_eq!(trained.path.as_deref(), layer["path"].as_str());
        for slot in ["weight", "input"] {
            let bits = trained.bits.get(slot).copied();
            assert_eq!(bits.map(u64::from), layer[slot].as_u64());
        }
    }
}

/// Weights of 2 bits break the digits' network, and those of 8 do not: of the first a repair is named, whose command
/// makes what was promised, of the second none.
#[test]
fn a_repair_is_named_where_one_helps() {
    let folder = tempfile::tempdir().unwrap();
    let ended_well = |arguments: &str| {
        let output = run(folder.path(), arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |arguments: &str| -> serde_json::Value {
        serde_json::from_str(&ended_well(arguments)).unwrap()
    };
    ended_well("train --method float --epochs 3 --out f");
    for bits in ["2", "8"] {
        ended_well(&format!("quantize --from f --wbits {bits} --out w{bits}"));
    }
    let found = json("analyze w2 --tensorboard board -o r.html --json");
    let repair = &found["repair"];
    let command = repair["command"].as_str().unwrap();
    let page = std::fs::read_to_string(folder.path().join("r.html")).unwrap();
    assert!(page.contains("Without training, ") && page.contains(command));
    let beside = match found["integers"].is_null() {
        true => "It does not lower to integers: ",
        false => "In integers it has the same bits on 64 images",
    };
    assert!(page.contains(beside), "{beside}");
    assert!(folder.path().join("board").is_dir());
    let command = command.strip_prefix("lowbit ").unwrap();
    let made = json(&format!("{command} --out made --json"));
    let promised = &repair["measured"];
    let accuracy = |value: &serde_json::Value| value["accuracy"].as_f64().unwrap();
    assert_eq!(accuracy(&made["runs"][0]), accuracy(promised));
    // 89.4 % and a loss of 0.446 become 98.6 % and 0.057.
    let quantized = &found["quantized"];
    assert!(accuracy(promised) > accuracy(quantized));
    let loss = |value: &serde_json::Value| value["loss"].as_f64().unwrap();
    assert!(
        loss(promised) < loss(quantized) / 2.0,
        "{promised}, {quantized}"
    );
    let kept = json("analyze w8 --json");
    assert!(kept["repair"].is_null(), "{}", kept["repair"]);
    assert!(!ended_well("analyze w8").contains("Without training"));
}

#[test]
fn what_cannot_be_analyzed_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (
            "analyze --json",
            "error: RUN: is not given, expected the folder of a run\n",
        ),
        (
            "analyze a --budget 4",
            "error: budget: is `4`, expected such as bits=4, bytes=60000 or bitops=5e8\n",
        ),
    ] {
        assert_eq!(error(folder.path(), arguments), message);
    }
    let missing = error(folder.path(), "analyze nowhere");
    assert!(missing.starts_with("error: nowhere: "), "{missing}");
}
