//! `lowbit formats` and `lowbit bench kernels` as a person meets them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lowbit"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn here(arguments: &[&str]) -> Output {
    run(Path::new("."), arguments)
}

fn text(arguments: &[&str]) -> String {
    let output = here(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one object on standard output.
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(arguments)).unwrap()
}

fn error(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert!(output.stdout.is_empty(), "{arguments:?} printed");
    String::from_utf8(output.stderr).unwrap()
}

/// A NumPy array of four f32.
fn array(numbers: [f32; 4]) -> Vec<u8> {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }";
    let header = format!("{header:117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
fn formats_are_listed_with_their_facts() {
    let report = json(&["formats", "list", "--json"]);
    let formats = report["formats"].as_array().unwrap();
    let e4m3 = formats.iter().find(|f| f["format"] == "e4m3").unwrap();
    assert_eq!(e4m3["facts"]["max"], 448.0);
    assert!(text(&["formats", "list"]).lines().count() == formats.len() + 1);
}

#[test]
fn a_small_format_shows_all_values() {
    let report = json(&["formats", "describe", "e2m1", "--json"]);
    assert_eq!(report["facts"]["values"], 15);
    let codes = report["codes"].as_array().unwrap();
    assert_eq!(codes.len(), 16);
    assert_eq!(codes[15]["value"], 6.0);
    assert_eq!(codes[15]["bits"], "0 11 1");
    assert!(text(&["formats", "describe", "e2m1"]).contains("0 11 1  6"));
    // bitsandbytes' table, whose largest value is 1, has the name that others give to e2m1.
    let table = text(&["formats", "describe", "fp4"]);
    assert!(table.lines().nth(1).unwrap().contains("e2m1"), "{table}");
    let wide = json(&["formats", "describe", "bf16", "--json"]);
    assert!(wide["codes"].as_array().unwrap().is_empty());
}

/// 0.3 lies 0.6 of the way from 0.28125 to 0.3125, the code of which is 0 0101 010.
#[test]
fn numbers_are_rounded() {
    let report = json(&["formats", "round", "e4m3", "0.3", "-1", "--json"]);
    let numbers = report["numbers"].as_array().unwrap();
    assert_eq!(numbers[0]["value"], 0.3125);
    assert_eq!(numbers[0]["bits"], "0 0101 010");
    assert!((numbers[0]["error_ulp"].as_f64().unwrap() - 0.4).abs() < 1e-5);
    assert_eq!(numbers[1]["error_ulp"], 0.0);
    let down = json(&[
        "formats",
        "round",
        "e4m3",
        "0.3",
        "--rounding",
        "down",
        "--json",
    ]);
    assert_eq!(down["numbers"][0]["value"], 0.28125);
    let infinite = json(&["formats", "round", "e5m2", "--json", "--", "-inf"]);
    assert_eq!(infinite["numbers"][0]["value"], "-inf");
    // Numbers are shown as they were typed, and one beside a value has an error of nearly zero.
    let typed = text(&[
        "formats",
        "round",
        "e4m3",
        "1e400",
        "1e-400",
        "1.0000000000000000000001",
    ]);
    assert!(
        typed.contains("1e400 ") && typed.contains("1e-400 "),
        "{typed}"
    );
    assert_eq!(typed.matches("out of range").count(), 1, "{typed}");
    // Up, the last place of int8 below zero is zero's.
    let arguments = "formats round int8 -1e-9 0.3 -.5 -inf -2E+1 -nan --rounding up --json";
    let negative = json(&arguments.split(' ').collect::<Vec<_>>());
    let values = [0.into(), 1.into(), 0.into(), (-128).into(), (-20).into()];
    for (i, expected) in values.iter().map(Value::as_f64).enumerate() {
        assert_eq!(negative["numbers"][i]["value"].as_f64(), expected, "{i}");
    }
    assert_eq!(negative["numbers"][5]["value"], "nan");
    let seed = ["--rounding", "stochastic", "--seed", "5"];
    let arguments = [
        &["formats", "round", "int8", "0.5", "0.5", "0.5"][..],
        &seed,
    ]
    .concat();
    assert_eq!(text(&arguments), text(&arguments));
}

#[test]
fn wrong_names_get_the_nearest_right_one() {
    let here = Path::new(".");
    for (arguments, expected) in [
        (vec!["formats", "describe", "e4m33"], "did you mean `e4m3`?"),
        (
            vec!["formats", "describe", "fixed(8"],
            "did you mean `fixed(8,6)`?",
        ),
        (
            vec!["formats", "compare", "int8", "int99"],
            "did you mean `int8`?",
        ),
        (
            vec!["formats", "round", "e4m3", "1", "--rounding", "upp"],
            "did you mean `up`?",
        ),
        (
            vec!["formats", "round", "e4m3", "1", "--seed", "1"],
            "--rounding stochastic",
        ),
        (
            vec!["formats", "round", "e4m3", "1.x"],
            "invalid value '1.x' for '<X>...'",
        ),
        (
            vec!["formats", "describe", "affine(8,dim=0"],
            "did you mean `affine(8,dim=0)`?",
        ),
        (
            vec!["formats", "verify", "mxfp4"],
            "mxfp4 does not support verification",
        ),
    ] {
        let message = error(here, &arguments);
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn formats_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    fs::write(&path, array([1.0, 2.0, 3.25, -4.0])).unwrap();
    let path = path.to_str().unwrap();
    let report = json(&[
        "formats",
        "compare",
        "int8",
        "mxfp4",
        "--tensors",
        path,
        "--json",
    ]);
    let samples = report["formats"][0]["samples"].as_array().unwrap();
    let names: Vec<&str> = samples
        .iter()
        .map(|s| s["sample"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["normal", "uniform", "laplace", "x.npy"]);
    // Only 3.25 changes, to 3: 10 log10((1 + 4 + 10.5625 + 16) / 0.0625) = 27.0335 dB; times four
    // nothing does.
    let ratio = samples[3]["plain"]["sqnr_db"].as_f64().unwrap();
    assert!((ratio - 27.0335).abs() < 1e-3);
    assert_eq!(samples[3]["scaled"]["max_error"], 0.0);
    assert!(text(&["formats", "compare", "int8", "e4m3"]).contains("SQNR in dB"));
}

#[test]
fn a_file_is_rounded() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.npy"), array([0.3, 1.0, 1e9, -2.1])).unwrap();
    let arguments = "formats apply e4m3(saturate) x.npy -o y.npy --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = run(folder.path(), &arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["tensors"][0]["error"]["saturated"], 1);
    let written = fs::read(folder.path().join("y.npy")).unwrap();
    assert_eq!(written, array([0.3125, 1.0, 448.0, -2.0]));
    let codes: Vec<&str> = "formats apply int4 x.npy -o z.npy --codes"
        .split(' ')
        .collect();
    assert!(run(folder.path(), &codes).status.success());
    // 0, 1, 7 and -2, the lower half of each byte first.
    let written = fs::read(folder.path().join("z.npy")).unwrap();
    assert_eq!(written[written.len() - 2..], [0x10, 0xE7]);
    // Codes with scales go into a safetensors file: of -2.1 to 1e9, only that the largest counts.
    let codes = "formats apply mxfp4 x.npy -o z.safetensors --codes";
    let codes: Vec<&str> = codes.split(' ').collect();
    assert!(run(folder.path(), &codes).status.success());
    let written = fs::read(folder.path().join("z.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&written).contains("\"x.scales\""));
    for arguments in [
        "formats apply int4 none.npy -o z.npy",
        "formats apply int4 x.npy -o z.safetensors",
        "formats apply mxfp4 x.npy -o z.npy --codes",
        "formats apply bfp(8,dim=3) x.npy -o z.npy",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let message = error(folder.path(), &arguments);
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// Each index of dimension 0 has its own scale, or all share one, in which 0.3 is lost beside 1e9.
#[test]
fn integers_have_scales_by_channel() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.npy"), array([0.3, 1.0, 1e9, -2.1])).unwrap();
    let first = |format: &str| {
        let arguments = ["formats", "apply", format, "x.npy", "-o", "y.npy"];
        assert!(run(folder.path(), &arguments).status.success());
        let written = fs::read(folder.path().join("y.npy")).unwrap();
        f32::from_le_bytes(*written[written.len() - 16..].first_chunk().unwrap())
    };
    assert!((first("affine(8,dim=0)") - 0.3).abs() < 1e-6);
    assert_eq!(first("affine(8)"), 0.0);
}

/// A one-byte type of ml_dtypes is `V1` in a NumPy file, so it has to be told: 0x38 is 1 and 0x44 is 3
/// in float8_e4m3fn (OCP 8-bit floating point, table 2).
#[test]
fn a_float8_file_is_rounded_if_its_type_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = array([0.0; 4]);
    file.truncate(file.len() - 12);
    let at = file.windows(3).position(|w| w == b"<f4").unwrap();
    file[at..at + 3].copy_from_slice(b"<V1");
    let data = file.len() - 4;
    file[data..].copy_from_slice(&[0x38, 0x44, 0xB8, 0x30]);
    fs::write(folder.path().join("x.npy"), &file).unwrap();
    let apply = "formats apply fixed(2,0) x.npy -o y.npy";
    let apply: Vec<&str> = apply.split(' ').collect();
    let message = error(folder.path(), &apply);
    assert!(
        message.contains("`<V1`, which may be one of several"),
        "{message}"
    );
    let typed = [&apply[..], &["--dtype", "float8_e4m3fn"]].concat();
    assert!(run(folder.path(), &typed).status.success());
    // 1, 3 clamped to 1, -1, and 0.5 to the even 0.
    let written = fs::read(folder.path().join("y.npy")).unwrap();
    assert_eq!(written[data..], [0x38, 0x38, 0xB8, 0x00]);
    let wrong = [&apply[..], &["--dtype", "float8"]].concat();
    assert!(error(folder.path(), &wrong).contains("expected float8_e4m3fn, "));
}

/// Stochastic rounding draws by the names of file and tensor, or from the stream that is named.
#[test]
fn files_draw_words_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let rounded = |name: &str, mode: &str| {
        fs::write(folder.path().join(name), array([0.1, 0.3, 0.5, 0.7])).unwrap();
        let arguments = [
            "formats",
            "apply",
            "fp16",
            name,
            "-o",
            "y.npy",
            "--seed",
            "7",
            "--rounding",
            mode,
            "--json",
        ];
        let output = run(folder.path(), &arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["tensors"][0]["rounding"]
            .as_str()
            .unwrap()
            .to_string()
    };
    let [a, b, again] = ["a.npy", "b.npy", "a.npy"].map(|name| rounded(name, "stochastic"));
    assert!(a != b && a == again && a.starts_with("stochastic(seed=7,"));
    let named = rounded("a.npy", "stochastic(stream=3)");
    assert_eq!(named, "stochastic(seed=7,stream=3,bits=32)");
    assert!(text(&["formats", "apply", "--help"]).contains("stream="));
}

/// int4 has no code for NaN.
#[test]
fn lost_nan_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let numbers = [f32::NAN, 1.0, 2.0, f32::NAN];
    fs::write(folder.path().join("x.npy"), array(numbers)).unwrap();
    let told = |flags: &str| {
        let arguments = format!("formats apply int4 x.npy -o y.npy {flags}");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = run(folder.path(), &arguments);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        told("--codes"),
        "warning: x.npy: 2 NaN became finite numbers of int4\n"
    );
    assert_eq!(told("--codes --json"), told("--codes"));
    assert_eq!(told(""), "");
}

#[test]
fn formats_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["formats", "plot", "e4m3", "posit(8,1)", "-o", "x.svg"];
    assert!(run(folder.path(), &arguments).status.success());
    let picture = fs::read_to_string(folder.path().join("x.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains(">posit(8,1)</text>"));
    let message = error(
        folder.path(),
        &["formats", "plot", "e4m3", "-o", "none/x.svg"],
    );
    assert!(message.contains("none/x.svg: "));
}

#[test]
fn kernels_are_measured() {
    let arguments = "bench kernels int8 --elements 100000 --rounds 1 --threads 1 --json";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let report = json(&arguments);
    assert!(report["copy_elements_per_second"].as_f64().unwrap() > 0.0);
    let kernels = report["kernels"].as_array().unwrap();
    assert_eq!(kernels.len(), 2);
    for kernel in kernels {
        assert_eq!(kernel["format"], "int8");
        for field in [
            "elements_per_second",
            "ratio_to_copy",
            "in_cache_elements_per_second",
        ] {
            assert!(kernel[field].as_f64().unwrap() > 0.0, "{field}");
        }
    }
}

/// The page is one file, and opens without others.
#[test]
fn a_page_of_formats_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = run(folder.path(), &["formats", "page", "-o", "formats.html"]);
    assert!(written.status.success() && written.stdout.is_empty());
    let page = fs::read_to_string(folder.path().join("formats.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("src="));
    let other = error(folder.path(), &["formats", "page", "-o", "formats.pdf"]);
    assert_eq!(
        other,
        "error: formats.pdf: expected the ending .html, not .pdf: the page is an HTML file\n"
    );
}
