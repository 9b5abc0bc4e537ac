//! Whether tract and rten have the integers of exported files where the certificate says so.
//!
//! ```sh
//! LOWBIT_CASES=/tmp/cases LOWBIT_GRAPHS=400 cargo test --release -p lowbit-int --test suite cases_are
//! cargo run --release --manifest-path benches/peers/onnx_rust/Cargo.toml -- /tmp/cases
//! ```
//!
//! The folder has cases.jsonl: a line a file, with images, the integers of each output, and the
//! certificate; each network is there twice, once with every tensor as an output. An operator is judged
//! in the latter, where its inputs are right, and each file as a whole. Printed are, for each dialect,
//! runtime and verdict, operators and how many differ, and of the files whose worst verdict it is how
//! many differ and are refused. The exit status is 1 if an operator or a file that is certified as
//! EXACT differs, if a file is refused none of whose operators is certified as CANNOT RUN or DIFFERS, or
//! if one runs that cannot.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use rten_tensor::prelude::*;
use serde_json::Value;
use tract_onnx::prelude::*;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Run = fn(&Path, &Value) -> Result<Vec<Vec<f32>>, Failure>;

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A tensor of a case as floats, and its shape with the batch.
fn floats(tensor: &Value) -> (Vec<usize>, Vec<f32>) {
    let (scale, zero) = (tensor["scale"].as_f64().unwrap(), tensor["zero_point"].as_i64().unwrap());
    let real = |k: &Value| (scale * (k.as_i64().unwrap() - zero) as f64) as f32;
    let values: Vec<f32> = list(&tensor["values"]).iter().map(real).collect();
    let mut shape: Vec<usize> = vec![];
    shape.extend(list(&tensor["shape"]).iter().map(|d| d.as_u64().unwrap() as usize));
    let elements: usize = shape.iter().product();
    shape.insert(0, values.len() / elements);
    (shape, values)
}

fn tract(path: &Path, case: &Value) -> Result<Vec<Vec<f32>>, Failure> {
    let mut model = tract_onnx::onnx().model_for_path(path)?;
    let mut given = tvec!();
    for (at, input) in list(&case["inputs"]).iter().enumerate() {
        let (shape, values) = floats(input);
        model.set_input_fact(at, f32::fact(&shape).into())?;
        given.push(Tensor::from_shape(&shape, &values)?.into());
    }
    let outputs = model.into_optimized()?.into_runnable()?.run(given)?;
    let mut found = vec![];
    for output in outputs.iter() {
        let output = output.cast_to::<f32>()?;
        found.push(output.to_plain_array_view::<f32>()?.iter().copied().collect());
    }
    Ok(found)
}

fn rten(path: &Path, case: &Value) -> Result<Vec<Vec<f32>>, Failure> {
    let model = rten::Model::load_file(path)?;
    let mut inputs = vec![];
    for input in list(&case["inputs"]) {
        let (shape, values) = floats(input);
        let id = model.node_id(input["name"].as_str().unwrap())?;
        inputs.push((id, rten_tensor::Tensor::from_data(&shape, values).into()));
    }
    let outputs = list(&case["outputs"]).iter();
    let ids = outputs.map(|output| model.node_id(output["name"].as_str().unwrap()));
    let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
    let mut found = vec![];
    for output in model.run(inputs, &ids, None)? {
        let output: rten_tensor::Tensor<f32> = output.try_into()?;
        found.push(output.iter().copied().collect());
    }
    Ok(found)
}

/// Which tensors differ.
fn differing(case: &Value, found: &[Vec<f32>]) -> BTreeMap<String, bool> {
    let outputs = list(&case["outputs"]).iter().zip(found);
    let differs = |(output, found): (&Value, &Vec<f32>)| {
        let (scale, zero) = (output["scale"].as_f64().unwrap(), output["zero_point"].as_i64().unwrap());
        let expected = list(&output["values"]);
        let integer = |y: f32| (f64::from(y) / scale).round_ties_even() as i64 + zero;
        let same = |(k, &y): (&Value, &f32)| k.as_i64() == Some(integer(y));
        let alike = expected.len() == found.len() && expected.iter().zip(found).all(same);
        let name = output["name"].as_str().unwrap();
        (name.strip_suffix("/output").unwrap_or(name).to_owned(), !alike)
    };
    outputs.map(differs).collect()
}

/// A file's result, or what the runtime says instead.
fn run(run: Run, path: &Path, case: &Value) -> Result<BTreeMap<String, bool>, String> {
    match catch_unwind(AssertUnwindSafe(|| run(path, case))) {
        Ok(Ok(found)) => Ok(differing(case, &found)),
        Ok(Err(error)) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                text += &format!(": {error}");
                source = error.source();
            }
            Err(text)
        }
        Err(_) => Err("panics".into()),
    }
}

/// Verdicts, the worst last.
const VERDICTS: [&str; 4] = ["EXACT", "EXACT UNLESS TIE", "DIFFERS", "CANNOT RUN"];

/// For each dialect, kind of ties, runtime and verdict: operators that are judged and those that differ;
/// and of the files whose worst verdict it is, all, those that are refused, and those that differ.
type Counts = BTreeMap<[String; 4], [usize; 5]>;

/// A file's operators' verdicts in a runtime, and the worst of them.
fn verdicts(case: &Value, runtime: &str) -> (Vec<String>, String) {
    let of = |entry: &Value| {
        let other = list(&entry["others"]).iter().find(|other| other["runtime"] == runtime);
        other.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    let rank = |verdict: &String| VERDICTS.iter().position(|v| v == verdict);
    let all: Vec<String> = list(&case["certificate"]["entries"]).iter().map(of).collect();
    let worst = all.iter().max_by_key(|verdict| rank(verdict)).cloned();
    (all, worst.unwrap_or_else(|| VERDICTS[0].into()))
}

/// Counts a file. Answers whether the certificate is right.
fn count(counts: &mut Counts, case: &Value, runtime: &str, result: Result<BTreeMap<String, bool>, String>) -> bool {
    let key = |verdict: &str| {
        let of = |key: &str| case[key].as_str().unwrap().to_owned();
        [of("dialect"), of("ties"), runtime.to_owned(), verdict.to_owned()]
    };
    let (all, worst) = verdicts(case, runtime);
    if all.is_empty() {
        // Without operators nothing is certified.
        return true;
    }
    let file = &case["file"];
    let whole = counts.entry(key(&worst)).or_default();
    whole[2] += 1;
    let differs = match result {
        Ok(differs) => differs,
        Err(text) => {
            whole[3] += 1;
            let expected = ["DIFFERS", "CANNOT RUN"].contains(&worst.as_str());
            if !expected {
                println!("{file}: {runtime} refuses it: {text}");
            }
            return expected;
        }
    };
    let is_wrong = differs.values().any(|&differs| differs);
    whole[4] += usize::from(is_wrong);
    let mut right = worst != "CANNOT RUN" && !(worst == "EXACT" && is_wrong);
    if !right {
        println!("{file}: {worst}, but {runtime} runs it, {}", if is_wrong { "and differs" } else { "exactly" });
    }
    for (node, given) in list(&case["nodes"]).iter().zip(&all) {
        // Only where all that it reads is an output, and right.
        let is_known = |name: &Value| differs.get(name.as_str().unwrap());
        let Some(&is_wrong) = is_known(&node["name"]) else { continue };
        if !list(&node["inputs"]).iter().all(|name| is_known(name) == Some(&false)) {
            continue;
        }
        let counted = counts.entry(key(given)).or_default();
        counted[0] += 1;
        counted[1] += usize::from(is_wrong);
        if given == "EXACT" && is_wrong {
            println!("{file}: {runtime} differs in {}", node["name"]);
            right = false;
        }
    }
    right
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let folder = std::env::args().nth(1).expect("a folder with cases.jsonl");
    let folder = Path::new(&folder);
    let lines = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
    let mut counts = Counts::new();
    let mut right = true;
    for line in lines.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let path = folder.join(case["file"].as_str().unwrap());
        for (name, by) in [("tract", tract as Run), ("rten", rten)] {
            right &= count(&mut counts, &case, name, run(by, &path, &case));
        }
    }
    println!("dialect         ties    runtime  certified         operators  differ  files  differ  refused");
    for ([dialect, ties, runtime, verdict], [operators, differ, files, refused, wrong]) in counts {
        println!(
            "{dialect:14}  {ties:6}  {runtime:7}  {verdict:16}  {operators:9}  {differ:6}  {files:5}  {wrong:6}  {refused:7}"
        );
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
