//! The module that the page holds answers as the crate beside it does.

use std::io::Write;
use std::process::{Command, Stdio};

use lowbit_formats::{Format, Rounding};
use lowbit_playground::{MODULE, answer, page};
use serde_json::Value;

/// What a page that is downloaded may hold of code, in bytes.
const LARGEST: usize = 400_000;

/// Requests of every kind, each format and each rounding among them, and such that make no sense.
fn requests() -> Vec<String> {
    let numbers = "0.3 -1.7 3.14159 1e400 -1e-400 448.0000000000000000001 inf -inf nan 0 -0";
    let mut requests = vec!["choices".to_owned(), String::new(), "describe".into()];
    for text in Format::examples() {
        requests.push(format!("describe\n{text}"));
        requests.push(format!("round\n{text}\nnearest-even\n{numbers}"));
        requests.push(format!("compare\n50\n{text}\ne4m3"));
    }
    let drawn = ["stochastic(seed=5,bits=8)", "stochastic(bits=33)", "upp"];
    let modes = Rounding::DETERMINISTIC.map(|mode| mode.to_string());
    for mode in drawn.into_iter().chain(modes.iter().map(String::as_str)) {
        for format in ["posit(16,1)", "e4m3", "mxfp4", "table(-1,0,0.5,1)"] {
            requests.push(format!("round\n{format}\n{mode}\n{numbers}"));
        }
    }
    for wrong in [
        "",
        "e4m33",
        "fixed(8",
        "fixed(8,200)",
        "flot(5,3)",
        "\u{1f600}",
        "table()",
        "int8(int8(int8(",
    ] {
        requests.push(format!("describe\n{wrong}"));
        requests.push(format!("compare\n10\n{wrong}"));
        requests.push(format!("round\ne4m3\nup\n{wrong}"));
    }
    requests.push("compare\n0\ne4m3".into());
    requests.push("compare\n10".into());
    requests.push(format!("round\ne4m3\nup\n{}", "1 ".repeat(1001)));
    requests
}

/// Asks the module in `node`, one reply a line.
const NODE: &str = r#"
const fs = require("fs");
const lines = fs.readFileSync(0, "utf8").split("\n");
const compiled = new WebAssembly.Module(require("zlib").gunzipSync(Buffer.from(lines[0], "base64")));
const module = new WebAssembly.Instance(compiled, {}).exports;
for (const line of lines.slice(1)) {
  const request = new TextEncoder().encode(JSON.parse(line));
  // Reserving may move the memory, so that it comes first.
  const place = module.reserve(request.length);
  new Uint8Array(module.memory.buffer, place, request.length).set(request);
  const length = module.reply();
  console.log(Buffer.from(module.memory.buffer, module.reply_place(), length).toString());
}
"#;

/// The replies of the module; `None` without `node`.
fn replies(requests: &[String]) -> Option<Vec<String>> {
    let mut child = Command::new("node")
        .args(["-e", NODE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let lines = requests
        .iter()
        .map(|request| serde_json::to_string(request).unwrap());
    let module = MODULE.replace('\n', "");
    let input: Vec<String> = std::iter::once(module).chain(lines).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.join("\n").as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "node failed");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(str::to_owned).collect())
}

/// Where this fails, the module is older than the formats or the answers: `make.sh` makes it again.
#[test]
fn the_module_is_that_of_this_crate() {
    let requests = requests();
    let Some(replies) = replies(&requests) else {
        eprintln!("SKIPPED: node is not there to run the module");
        return;
    };
    assert_eq!(replies.len(), requests.len());
    for (request, reply) in requests.iter().zip(&replies) {
        let [reply, expected] =
            [reply, &answer(request)].map(|text| serde_json::from_str(text).unwrap());
        assert!(
            is_same(&reply, &expected),
            "{request}: {reply}, not {expected}: run crates/lowbit-playground/make.sh"
        );
    }
}

/// Whether replies are the same: all texts and numbers, but that logarithms and powers of two, which each platform's
/// library computes, may differ in their last digits.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| is_same(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        (Value::Number(a), Value::Number(b)) => match a.as_f64().zip(b.as_f64()) {
            Some((a, b)) => a == b || (a - b).abs() <= 1e-14 * a.abs(),
            None => a == b,
        },
        _ => a == b,
    }
}

#[test]
fn the_page_is_one_small_file() {
    let page = page();
    assert!(
        MODULE.len() * 3 / 4 < LARGEST,
        "{} bytes in base64",
        MODULE.len()
    );
    assert!(page.contains(MODULE) && page.ends_with("</html>\n"));
    for mark in [
        "/*STYLE*/",
        "/*MODULE*/",
        "/*SCRIPT*/",
        "src=",
        "@import",
        "fetch(",
    ] {
        assert!(!page.contains(mark), "{mark}");
    }
}
