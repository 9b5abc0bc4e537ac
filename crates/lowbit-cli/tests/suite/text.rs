//! Transformers of text, as a person asks them.

use std::fs;
use std::path::Path;

use super::program::{error, text};

/// A folder with a network's files and a tokenizer's, and a text.
fn folder(network: &str, tokenizer: &str) -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lowbit-text/tests/fixtures");
    let temporary = tempfile::tempdir().unwrap();
    let model = temporary.path().join("model");
    fs::create_dir(&model).unwrap();
    for from in [format!("models/{network}"), format!("squad/{tokenizer}")] {
        for file in fs::read_dir(fixtures.join(from)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), model.join(file.file_name())).unwrap();
        }
    }
    let told =
        "The tower was built in 1889. It stands in Paris, by the river, and is made of iron.";
    fs::write(temporary.path().join("context.txt"), told).unwrap();
    let squad = serde_json::json!({ "version": "1.1", "data": [{ "title": "Tower", "paragraphs": [{
        "context": told,
        "qas": [{ "id": "1", "question": "When?",
            "answers": [{ "text": "1889", "answer_start": 23 }] }],
    }] }] });
    fs::write(temporary.path().join("squad.json"), squad.to_string()).unwrap();
    temporary
}

#[test]
fn questions_are_answered_in_float_and_in_formats() {
    let temporary = folder("bert", "wordpiece");
    let at = temporary.path();
    let ask = "qa --model model --question When? --context context.txt --answers 3";
    let table = text(at, ask);
    assert_eq!(table.lines().count(), 4, "{table}");
    let json = text(
        at,
        &format!("{ask} --plan posit-albert --compare e4m3 int8 --json"),
    );
    let ways: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> = ways
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["way"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["float", "posit-albert", "e4m3", "int8"]);
    let answers = |way: usize| ways[way]["answers"][0]["score"].as_f64().unwrap();
    assert!(answers(0) != answers(1) && answers(0) != answers(2));

    // Far above, any answer is given; far below, none is.
    let alone = text(at, &format!("{ask} --no-answer 1000"));
    assert!(
        !alone.lines().nth(1).unwrap().contains("(no answer)"),
        "{alone}"
    );
    let none = text(at, &format!("{ask} --no-answer -1000"));
    assert!(
        none.lines().nth(1).unwrap().contains("(no answer)"),
        "{none}"
    );
    let without = "the tower was built";
    let file = std::fs::read_to_string(at.join("squad.json")).unwrap();
    let mut squad: serde_json::Value = serde_json::from_str(&file).unwrap();
    squad["data"][0]["paragraphs"][0]["qas"][0] = serde_json::json!({
        "id": "2", "question": without, "answers": [], "is_impossible": true });
    std::fs::write(at.join("none.json"), squad.to_string()).unwrap();
    let table = text(at, "qa --model model --data none.json --no-answer -1000");
    assert!(table.contains("100.00 %"), "{table}");

    let table = text(at, "qa --model model --data squad.json --compare mxfp4");
    assert!(
        table.starts_with("1 questions\n") && table.contains("\nmxfp4 "),
        "{table}"
    );
}

#[test]
fn a_text_is_expected_and_goes_on() {
    let temporary = folder("gpt2", "bytes");
    let at = temporary.path();
    let table = text(at, "lm --model model --text context.txt --compare e4m3");
    assert!(
        table.contains("perplexity") && table.contains("\ne4m3 "),
        "{table}"
    );
    let write = "lm --model model --prompt The --tokens 8 --temperature 1 --seed 3";
    let written = text(at, write);
    assert!(written.starts_with("The"), "{written}");
    assert_eq!(text(at, write), written);
}

/// A small GPT is trained on a text, in float and with weights and inputs in a format, and written as a folder
/// that expects the test text as it did in training.
#[test]
fn a_network_of_characters_is_trained_and_written_as_a_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let at = temporary.path();
    let line = "The quick brown fox jumps over the lazy dog; 0123456789 times, no less!\n";
    fs::write(at.join("train.txt"), line.repeat(60)).unwrap();
    // A window of 64, and what follows its last character.
    fs::write(at.join("test.txt"), &line[..65]).unwrap();
    let file = r#"
        data = "text"
        epochs = 2
        [[compare]]
        name = "float"
        method = "float"
        [[compare]]
        name = "posit"
        [compare.plan.default]
        input = { method = "format", format = "posit(8,1)" }
        weight = { method = "format", format = "posit(8,1)" }
    "#;
    fs::write(at.join("runs.toml"), file).unwrap();
    text(at, "train --config runs.toml --data-dir . --out runs");
    for run in ["float", "posit"] {
        let json = text(at, &format!("eval runs/{run} --last --json"));
        let evaluated: serde_json::Value = serde_json::from_str(&json).unwrap();
        let evaluated = &evaluated["runs"][0];
        assert_eq!(evaluated["images"], 1);
        let expected = evaluated["loss"].as_f64().unwrap();
        // Of 40 characters as often as each other.
        assert!(expected < 3.4, "{json}");
        let export = format!("export runs/{run} --last --to transformers --out {run}");
        text(at, &export);
        let plan = match at.join(run).join("plan.toml").exists() {
            true => format!("--plan {run}/plan.toml"),
            false => String::new(),
        };
        assert_eq!(plan.is_empty(), run == "float");
        let ask = format!("lm --model {run} {plan} --text test.txt --length 65 --json");
        // The network knows 64 positions.
        let refused = error(at, &ask);
        assert!(
            refused.contains("length: is 65, expected 2 to 64"),
            "{refused}"
        );
        let ask = ask.replace("65", "64 --stride 1");
        let ways: serde_json::Value = serde_json::from_str(&text(at, &ask)).unwrap();
        let found = ways[0]["loss"].as_f64().unwrap();
        // The first character of the window is expected by none, and the last one after 63 others.
        assert_eq!(ways[0]["tokens"], 64);
        assert!((found - expected).abs() < 0.1, "{found} {expected}");
    }
    let refused = error(at, "export runs/float --to transformers --out posit");
    assert_eq!(
        refused,
        "error: posit: is not empty, expected a new folder\n"
    );
    let refused = error(at, "export runs/float --out a.json");
    assert_eq!(
        refused,
        "error: gpt-nano reads text, whose networks have no integers yet; expected --to transformers\n"
    );
    let refused = error(at, "export runs/float --to transformers --certify");
    assert_eq!(
        refused,
        "error: --certify: is of integers, and --to transformers writes none\n"
    );
    fs::remove_file(at.join("test.txt")).unwrap();
    let refused = error(at, "eval runs/float");
    assert!(
        refused.ends_with("no text here, expected train.txt and test.txt\n"),
        "{refused}"
    );
}

#[test]
fn what_does_not_fit_is_told_in_one_line() {
    let temporary = folder("bert", "wordpiece");
    let at = temporary.path();
    let ask = "qa --model model --question When? --context context.txt";
    let refused = |arguments: &str| error(at, arguments);
    assert_eq!(
        refused(&format!("{ask} --max-length 99")),
        "error: max_length: is 99, the network knows 64 positions\n"
    );
    assert_eq!(
        refused("lm --model model --prompt a"),
        "error: model/config.json: model_type: is of an encoder, expected gpt2, llama, mistral or qwen2, which \
         write text\n"
    );
    assert_eq!(
        refused(&ask.replace("context.txt", "none.txt")),
        "error: none.txt: No such file or directory (os error 2)\n"
    );
    fs::remove_file(at.join("model/tokenizer.json")).unwrap();
    assert!(refused(ask).starts_with("error: model: no tokenizer.json here; "));
    fs::remove_file(at.join("model/model.safetensors")).unwrap();
    let expected =
        "error: model: holds neither model.safetensors nor model.safetensors.index.json\n";
    assert_eq!(refused(ask), expected);
}

/// Rounded with a text and without, packed, and read again.
#[test]
fn weights_are_packed_and_read_again() {
    let temporary = folder("bert", "wordpiece");
    let at = temporary.path();
    let told = "The tower was built in 1889. It stands in Paris, by the river. ".repeat(40);
    fs::write(at.join("long.txt"), told).unwrap();
    let usual = "compress --model model --format affine(4,block=8)";
    let table = text(at, &format!("{usual} --text long.txt --out small"));
    assert!(table.contains("encoder.layers.0.query"), "{table}");
    assert!(table.contains("written to small"), "{table}");
    let plain = text(at, &format!("{usual} --out plain --json"));
    let plain: serde_json::Value = serde_json::from_str(&plain).unwrap();
    assert!(plain["layers"][0]["error"].is_null(), "{plain}");
    assert!(
        plain["bytes"].as_u64() < plain["bytes_before"].as_u64(),
        "{plain}"
    );
    let ask = "qa --model small --question When? --context context.txt";
    assert_eq!(text(at, ask).lines().count(), 2);
    let refused = error(at, &format!("{usual} --out small"));
    assert_eq!(
        refused,
        "error: small: is not empty; expected a new folder\n"
    );
    let refused = error(at, &format!("{usual} --algorithm awq --out other"));
    assert!(
        refused.starts_with("error: algorithm: awq divides"),
        "{refused}"
    );
    let refused = error(at, &format!("{usual} --algorithm gpt --out other"));
    let known = "error: algorithm: is `gpt`, expected nearest, gptq, awq or awq-gptq\n";
    assert_eq!(refused, known);
    let refused = error(at, "compress --model model --format posit(8,1) --out other");
    assert!(
        refused.starts_with("error: format: posit(8,1) has no packed layout"),
        "{refused}"
    );
}
