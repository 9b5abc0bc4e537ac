//! Networks as integers, as a person writes and runs them.

use std::fs;

use super::program::{error, run, text};

/// A plan that rounds half up, as the ESP32-S3 does, trains what it runs; on the ESP32-P4 half goes to even.
#[test]
fn a_plan_for_a_chip_has_its_integers() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let plan = include_str!("../../../../recipes/plans/cnn-esp32-s3.toml");
    fs::write(folder.join("chip.toml"), plan).unwrap();
    text(folder, "train --config chip.toml --epochs 1 --out runs");
    let of = |target: &str| {
        let command = format!("export runs/plan --target {target} --layers 0 --out chip.json");
        text(folder, &command)
    };
    let table = of("esp32-s3");
    let same = "\n0 nodes may have other integers, 0 of 359 results differ from the simulation";
    assert!(table.contains(same), "{table}");
    let table = of("esp32-p4");
    assert!(
        !table.contains("\n0 nodes may have other integers"),
        "{table}"
    );
}

#[test]
fn a_quantized_run_is_written_compared_and_run() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    text(
        folder,
        "train --method float --epochs 2 --threads 1 --out float",
    );
    assert_eq!(
        error(folder, "export float --out x.json"),
        "error: conv1.input: is not quantized\n"
    );
    text(
        folder,
        "quantize --from float --wbits 4 --fold merged --out int",
    );

    let table = text(folder, "export int --layers 20 --random 50 --out net.json");
    assert!(table.contains("0 of 359 results differ from the simulation, 0 of 10 tensors"));
    assert!(
        table.contains("0 of 50 results on random inputs differ"),
        "{table}"
    );
    let eval: serde_json::Value = serde_json::from_str(&text(folder, "eval int --json")).unwrap();
    let ran = text(folder, "run net.json --data digits --json");
    let ran: serde_json::Value = serde_json::from_str(&ran).unwrap();
    assert_eq!(ran["accuracy"], eval["runs"][0]["accuracy"]);

    // The same network without ties, for any rounding to the nearest.
    let table = text(
        folder,
        "export int --tie-free offset --layers 0 --out free.json",
    );
    assert!(table.contains("requantizations could have ties"), "{table}");

    // As a chip rounds: half up, which is half to even but for ties.
    let table = text(
        folder,
        "export int --target tflite-single --layers 0 --out chip.json",
    );
    assert!(
        table.contains("of 359 results differ from the simulation, accuracy"),
        "{table}"
    );
    let told = error(folder, "export int --target abacus --out chip.json");
    assert!(
        told.contains("cmsis-nn") && told.contains("abacus"),
        "{told}"
    );

    // Other programs' files, with what they are certified to compute.
    let table = text(
        folder,
        "export int --unchecked --to onnx-qdq --certify --out net.onnx",
    );
    assert!(
        table.contains("EXACT") && !table.contains("DIFFERS"),
        "{table}"
    );
    for made in ["net.onnx", "net.certificate.json", "net.conformance/run.py"] {
        assert!(folder.join(made).is_file(), "{made}");
    }
    text(folder, "export int --unchecked --to c --out net-c");
    assert!(
        fs::read_to_string(folder.join("net-c/net_c.c"))
            .unwrap()
            .contains("net_c_run")
    );
    text(folder, "export int --unchecked --to rust --out digits");
    assert!(folder.join("digits/Cargo.toml").is_file());

    // The integers alone: those of a weight of 4 bits, in the narrowest type.
    text(folder, "export int --unchecked --to text --out net.txt");
    let integers = fs::read_to_string(folder.join("net.txt")).unwrap();
    let weight = integers
        .lines()
        .skip_while(|line| !line.starts_with("conv2.weight"));
    let weight: Vec<&str> = weight.take(2).collect();
    assert!(weight[0].contains("4 bits signed, fraction"), "{weight:?}");
    let row = weight[1]
        .split_whitespace()
        .map(|k| k.parse::<i64>().unwrap());
    assert!(row.into_iter().all(|k| (-8..8).contains(&k)), "{weight:?}");
    text(
        folder,
        "export int --unchecked --to safetensors --out net.safetensors",
    );
    let stored = fs::read(folder.join("net.safetensors")).unwrap();
    let stored = String::from_utf8_lossy(&stored);
    assert!(stored.contains("\"conv1.weight\":{\"dtype\":\"I8\""));
}

#[test]
fn what_cannot_be_run_is_told() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    assert!(error(folder, "run none.json --data digits").contains("none.json: "));
    fs::write(folder.join("a.json"), "{").unwrap();
    let told = error(folder, "run a.json --data digits");
    assert!(
        told.contains("a.json: ") && told.lines().count() == 1,
        "{told}"
    );
    // Eight pixels, where digits have 64.
    let text = r#"{"format":"lowbit-int","version":1,
"inputs":[{"name":"x","shape":[8],"numbers":{"bits":8,"signed":true,"exponent":-7}}],
"nodes":[{"name":"y","inputs":["x"],"op":"rectifier"}],
"outputs":["y"]}"#;
    fs::write(folder.join("b.json"), text).unwrap();
    assert_eq!(
        error(folder, "run b.json --data digits"),
        "error: x: an item is [1, 8, 8], expected [8]\n"
    );
    assert!(!run(folder, "run b.json").status.success());
}
