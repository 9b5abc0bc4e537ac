//! Source code, compiled by the environment's compilers, has the interpreter's bits.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lowbit_int::{Graph, Numbers, TensorId, interpret, source};

use super::random::{Random, slices};

/// A folder of its own, removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lowbit-int-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a program of the environment runs. What needs it says that it is skipped.
fn is_there(program: &str) -> bool {
    let there = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        eprintln!("SKIPPED: there is no {program}");
    }
    there
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}");
    assert!(text.is_empty(), "{command:?}\n{text}");
}

/// The type of a tensor's integers: 8, 16, 32 or 64 bits, with or without sign.
fn int(numbers: Numbers) -> (u32, bool) {
    let bits = numbers.bits().max(8).next_power_of_two();
    (bits, numbers.signed())
}

fn rust_int(numbers: Numbers) -> String {
    let (bits, signed) = int(numbers);
    format!("{}{bits}", if signed { 'i' } else { 'u' })
}

/// Runs a program that reads numbers and writes numbers.
fn run(program: &Path, images: &[Vec<Vec<i64>>]) -> Vec<i64> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    for number in images.iter().flatten().flatten() {
        let _ = writeln!(text, "{number}");
    }
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

/// A graph and, image by image, what it is given and what it answers.
struct Case {
    graph: Graph,
    images: Vec<Vec<Vec<i64>>>,
    outputs: Vec<Vec<Vec<i64>>>,
}

impl Case {
    fn new(graph: Graph, images: usize, random: &mut Random) -> Self {
        let images: Vec<_> = (0..images).map(|_| random.images(&graph, 1)).collect();
        let outputs = images.iter().map(|image| interpret(&graph, &slices(image)));
        let outputs = outputs.map(Result::unwrap).collect();
        Self {
            graph,
            images,
            outputs,
        }
    }

    /// The part of a Rust program that runs the graph of module `name`.
    fn rust(&self, name: &str) -> String {
        let mut code = format!(
            "    let mut buffers = {name}::Buffers::new();\n    for _ in 0..{} {{\n",
            self.images.len()
        );
        let ports = |ids: &[TensorId], text: &str| -> Vec<String> {
            let mut lines = Vec::new();
            for (i, id) in ids.iter().enumerate() {
                let tensor = self.graph.tensor(*id);
                let (int, count) = (rust_int(tensor.numbers()), tensor.elements());
                lines.push(format!(
                    "        let mut {text}{i} = [0 as {int}; {count}];\n"
                ));
            }
            lines
        };
        for line in ports(self.graph.inputs(), "x")
            .iter()
            .chain(&ports(self.graph.outputs(), "y"))
        {
            code += line;
        }
        for (i, id) in self.graph.inputs().iter().enumerate() {
            let int = rust_int(self.graph.tensor(*id).numbers());
            let _ = writeln!(
                code,
                "        for x in &mut x{i} {{ *x = numbers.next().unwrap() as {int}; }}"
            );
        }
        let names =
            |n: usize, text: &str| -> String { (0..n).map(|i| format!("{text}{i}, ")).collect() };
        let _ = writeln!(
            code,
            "        {name}::run({}&mut buffers, {}).unwrap();",
            names(self.graph.inputs().len(), "&x"),
            names(self.graph.outputs().len(), "&mut y")
        );
        for i in 0..self.graph.outputs().len() {
            let _ = writeln!(code, "        for y in y{i} {{ println!(\"{{y}}\"); }}");
        }
        code + "    }\n"
    }
}

impl Case {
    /// The part of a C program that runs the graph that is called `name`.
    fn c(&self, name: &str) -> String {
        let mut code = format!("    static {name}_buffers buffers;\n    int n;\n    long k;\n");
        let (mut reads, mut writes) = (String::new(), String::new());
        let mut arguments = vec!["&buffers".to_owned()];
        let inputs = self.graph.inputs().iter().map(|id| (id, true));
        let outputs = self.graph.outputs().iter().map(|id| (id, false));
        for (i, (id, is_input)) in inputs.chain(outputs).enumerate() {
            let tensor = self.graph.tensor(*id);
            let (bits, signed) = int(tensor.numbers());
            let sign = if signed { "" } else { "u" };
            let (int, count) = (format!("{sign}int{bits}_t"), tensor.elements());
            let _ = writeln!(code, "    static {int} p{i}[{count}];");
            let each = format!("        for (k = 0; k < {count}; k++)");
            if is_input {
                let _ = writeln!(reads, "{each} p{i}[k] = ({int})number();");
                arguments.insert(i, format!("p{i}"));
            } else {
                let _ = writeln!(writes, "{each} printf(\"%lld\\n\", (long long)p{i}[k]);");
                arguments.push(format!("p{i}"));
            }
        }
        let (images, arguments) = (self.images.len(), arguments.join(", "));
        let _ = writeln!(
            code,
            "    for (n = 0; n < {images}; n++) {{\n{reads}        \
             if ({name}_run({arguments})) return 1;\n{writes}    }}"
        );
        code
    }
}

/// Compares the numbers of a program that ran all cases.
fn compare(cases: &[Case], numbers: &[i64]) {
    let mut at = 0;
    for case in cases {
        for expected in case.outputs.iter().flatten() {
            let found = &numbers[at..at + expected.len()];
            assert_eq!(found, expected, "{}", case.graph.to_json());
            at += expected.len();
        }
    }
    assert_eq!(at, numbers.len());
}

fn images(cases: &[Case]) -> Vec<Vec<Vec<i64>>> {
    cases.iter().flat_map(|case| case.images.clone()).collect()
}

/// Compiles the Rust of all cases into one program, with checks of overflow, and runs it.
fn check_rust(name: &str, cases: &[Case]) {
    if !is_there("rustc") {
        return;
    }
    let folder = Folder::new(name);
    let mut main = String::from("#![allow(unused_mut)]\n");
    let mut body = String::new();
    for (i, case) in cases.iter().enumerate() {
        let name = format!("g{i}");
        let files = source::rust(&case.graph, &name).unwrap();
        assert_eq!(files.len(), 2);
        // A module has no say in the standard library.
        let text = files[1].1.replace("#![no_std]\n", "");
        folder.write(&format!("{name}.rs"), &text);
        let _ = writeln!(main, "#[deny(warnings)]\n#[allow(dead_code)]\nmod {name};");
        let _ = write!(body, "    {{\n{}    }}\n", case.rust(&name));
    }
    main += "fn main() {\n    let text = std::io::read_to_string(std::io::stdin()).unwrap();\n    \
             let mut numbers = text.split_whitespace().map(|n| n.parse::<i64>().unwrap());\n";
    main = main + &body + "}\n";
    folder.write("main.rs", &main);
    let program = folder.0.join("main");
    succeeds(
        Command::new("rustc")
            .args([
                "--edition=2024",
                "-Cdebug-assertions=on",
                "-Cdebuginfo=0",
                "-o",
            ])
            .arg(&program)
            .arg(folder.0.join("main.rs")),
    );
    compare(cases, &run(&program, &images(cases)));
}

/// Compiles the C of all cases with warnings and checks of undefined behaviour, and runs it.
fn check_c(name: &str, cases: &[Case]) {
    if !is_there("cc") {
        return;
    }
    let folder = Folder::new(name);
    let mut includes = String::from("#include <stdio.h>\n");
    let mut body = String::new();
    let mut command = Command::new("cc");
    for (i, case) in cases.iter().enumerate() {
        let name = format!("g{i}");
        for (path, text) in source::c(&case.graph, &name).unwrap() {
            folder.write(path.to_str().unwrap(), &text);
        }
        command.arg(folder.0.join(format!("{name}.c")));
        let _ = writeln!(includes, "#include \"{name}.h\"");
        let _ = write!(body, "    {{\n{}    }}\n", case.c(&name));
    }
    let main = format!(
        "{includes}static long long number(void) {{\n    long long n = 0;\n    \
         return scanf(\"%lld\", &n) == 1 ? n : 0;\n}}\nint main(void) {{\n{body}    return 0;\n}}\n"
    );
    folder.write("main.c", &main);
    let program = folder.0.join("main");
    command
        .arg(folder.0.join("main.c"))
        .arg("-o")
        .arg(&program)
        .args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Wconversion",
            "-pedantic",
            "-Werror",
            "-fsanitize=undefined,address",
            "-fno-sanitize-recover=all",
        ]);
    succeeds(&mut command);
    compare(cases, &run(&program, &images(cases)));
}

/// Graphs at random, with images of their ends and between.
fn cases(seed: u64, graphs: usize) -> Vec<Case> {
    let mut random = Random(seed);
    let case = |_| {
        let graph = random.graph();
        Case::new(graph, 4, &mut random)
    };
    (0..graphs).map(case).collect()
}

#[test]
fn rust_has_the_interpreters_bits() {
    check_rust("rust", &cases(31, 100));
}

#[test]
fn c_has_the_interpreters_bits() {
    check_c("c", &cases(32, 60));
}
