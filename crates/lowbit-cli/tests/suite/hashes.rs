//! One hash of the weights: on any number of threads, on any instruction set, and as `eval` expects it.

use std::path::Path;

use lowbit_formats::kernel::isa::Isa;

use super::program::{error, run, text};

/// The hashes of the runs that a training makes, by name.
fn hashes(folder: &Path, arguments: &str) -> Vec<(String, String)> {
    let output = run(folder, &format!("train {arguments} --json"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {complaint}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap().iter();
    let of = |run: &serde_json::Value, key: &str| run[key].as_str().unwrap().to_string();
    runs.map(|run| (of(run, "name"), of(run, "weights_sha256")))
        .collect()
}

/// Float, trained thresholds, numbers of 8 bits that are rounded at random, products of bfloat16; WAGE, WAGEUBN and
/// NITI; a GPT in float and with attention in a format with blocks.
#[test]
fn threads_and_instructions_do_not_change_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = r#"
        epochs = 1
        [[compare]]
        name = "float"
        method = "float"
        [[compare]]
        name = "tqt"
        method = "tqt"
        [[compare]]
        name = "random"
        method = "float"
        weight_format = "e5m2:stochastic"
        error_format = "e5m2:stochastic"
        gradient_format = "e5m2:stochastic"
        [[compare]]
        name = "products"
        method = "dorefa"
        wbits = 4
        abits = 4
        error_format = "bf16"
    "#;
    std::fs::write(folder.path().join("runs.toml"), file).unwrap();
    let file = r#"
        data = "text"
        data_dir = "."
        epochs = 1
        [[compare]]
        name = "float"
        method = "float"
        [[compare]]
        name = "blocks"
        [[compare.plan.overrides]]
        type = "DotProductAttention"
        [compare.plan.overrides.set]
        query = { method = "format", format = "mxfp8(e4m3)" }
        probabilities = { method = "format", format = "mxfp8(e4m3)" }
    "#;
    std::fs::write(folder.path().join("text.toml"), file).unwrap();
    let line = "Now is the winter of our discontent made glorious summer by this sun of York.\n";
    std::fs::write(folder.path().join("train.txt"), line.repeat(20)).unwrap();
    std::fs::write(folder.path().join("test.txt"), line).unwrap();
    let on_digits = "--data digits --model cnn --epochs 1";
    for what in [
        "--config runs.toml".to_string(),
        "--config text.toml".to_string(),
        format!("--recipe wage {on_digits}"),
        format!("--recipe wageubn {on_digits}"),
        format!("--recipe niti {on_digits}"),
    ] {
        let sets = Isa::ALL.iter().filter(|&&isa| isa <= Isa::detected());
        let each = sets.map(|isa| (isa.name(), 2));
        let widest = Isa::detected().name();
        let mut first = None;
        for (isa, threads) in each.chain([(widest, 1), (widest, 7)]) {
            let out = format!("{isa}-{threads}-{}", what.replace(['-', ' '], ""));
            let arguments = format!("{what} --isa {isa} --threads {threads} --out {out}");
            let found = hashes(folder.path(), &arguments);
            let first = first.get_or_insert_with(|| found.clone());
            assert_eq!(*first, found, "{what}, {isa}, {threads} threads");
        }
    }
}

#[test]
fn eval_compares_the_hash() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let made = hashes(folder, "--method float --epochs 1 --out a");
    let hash = &made[0].1;
    let printed = text(folder, &format!("eval a --last --expect {hash}"));
    assert!(
        printed.contains(&format!("weights sha256  {hash}\n")),
        "{printed}"
    );
    text(folder, &format!("eval a --last --expect {}", &hash[..8]));
    let other = error(folder, "eval a --last --expect 00000000");
    let checkpoint = "a/float/checkpoints/epoch-00001";
    let expected = format!("error: {checkpoint}: weights sha256 is {hash}, expected 00000000\n");
    assert_eq!(other, expected);
    let refused = error(folder, "eval a --expect soup");
    assert_eq!(
        refused,
        "error: invalid value 'soup' for '--expect <SHA256>': expected 8 to 64 hexadecimal digits\n"
    );
    let refused = error(folder, "eval a --isa mmx");
    assert!(
        refused.contains("expected one that this CPU has: "),
        "{refused}"
    );
}
