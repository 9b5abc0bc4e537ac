//! Plans, checked and printed.

use std::fs;
use std::path::Path;

use lowbit::config::QPlan;

use super::program::{error, run, text};

const MIXED: &str = include_str!("../../../../recipes/plans/resnet20-mixed.toml");

/// The cells of a line, which are two blanks apart at least.
fn cells(line: &str) -> Vec<&str> {
    let cells = line.split("  ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a_check_says_which_line_decides_each_slot() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mixed.toml"), MIXED).unwrap();
    let table = text(folder.path(), "config check mixed.toml --model resnet20");
    // The file names the network itself.
    assert_eq!(text(folder.path(), "config check mixed.toml"), table);
    let line_of = |text: &str| {
        1 + MIXED
            .lines()
            .position(|line| line.starts_with(text))
            .unwrap()
    };
    let first = line_of("set.weight");
    let rows: Vec<Vec<&str>> = table.lines().map(cells).collect();
    let at = |path: &str| {
        rows.iter()
            .position(|row| row.first() == Some(&path))
            .unwrap()
    };
    let weight = &rows[at("conv1") + 1];
    let said = format!("{first}");
    assert_eq!(
        weight[..],
        ["weight", "lsq 8", &said, "overrides[0].set.weight"]
    );
    let norm = &rows[at("layer1.0.bn1")];
    assert_eq!(norm[1], "BatchNorm");
    assert!(
        norm.contains(&"float") && norm.contains(&"overrides[2]"),
        "{norm:?}"
    );

    let json = text(
        folder.path(),
        "config check mixed.toml --model resnet20 --data cifar10 --json",
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let conv1 = &json["layers"][0];
    assert_eq!(conv1["position"], 0);
    assert_eq!(conv1["slots"]["weight"]["quantized"], "lsq 8");
    assert_eq!(conv1["slots"]["weight"]["said_by"][0]["line"], first);
    assert_eq!(json["problems"].as_array().unwrap().len(), 0);
}

#[test]
fn a_check_names_everything_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "[default]
wieght = { method = \"tqt\", bits = 8 }

[[overrides]]
path = \"layer1.*.covn1\"
set.weight = { method = \"tqt\", bits = 8 }

[[widths]]
type = \"Conv\"
weight = 4
";
    fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let refused = error(folder.path(), "config check plan.toml");
    assert_eq!(refused, "error: plan.toml: names no model; --model does\n");
    let output = run(folder.path(), "config check plan.toml --model resnet20");
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: plan.toml:4:1: path `layer1.*.covn1` matches no layer; the nearest is \
         `layer1.0.conv1`\n\
         error: plan.toml:8:1: type `Conv` matches no layer; the nearest is `Conv2d`\n\
         error: plan.toml:2:1: no layer has the slot `wieght`; the nearest is `weight`\n"
    );
    fs::write(
        folder.path().join("plan.toml"),
        "[default]\nweight = { method = \"tqt\" bits = 8 }",
    )
    .unwrap();
    let refused = error(folder.path(), "config check plan.toml --model resnet20");
    assert!(refused.starts_with("error: plan.toml:2:"), "{refused}");
    assert_eq!(refused.lines().count(), 1);
}

#[test]
fn what_is_shown_is_a_plan() {
    let here = Path::new(".");
    let shown = text(here, "config show tqt-integer --model resnet20");
    let plan = QPlan::from_toml(&shown).unwrap();
    assert_eq!(plan, QPlan::tqt_integer(Default::default()));
    assert!(shown.contains("# What it makes of resnet20:"));
    let conv = shown
        .lines()
        .find(|line| line.starts_with("# conv1"))
        .unwrap();
    assert!(conv.contains("first.input"), "{conv}");
    let four = text(here, "config show lsq --wbits 4 --abits 3");
    assert_eq!(QPlan::from_toml(&four).unwrap(), QPlan::lsq(4, 3));
    let unknown = error(here, "config show tqt-int");
    assert!(unknown.contains("tqt-integer"), "{unknown}");
}
