//! Source code, compiled by the environment's compilers, has the interpreter's bits.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lowbit_int::ops::{Add, Concat, Mul, Requantize};
use lowbit_int::{Graph, Interval, Numbers, Rounding, TensorId, interpret, source};

use super::networks;
use super::random::{Random, slices};
use super::variable;

/// A folder of its own, removed when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
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
fn networks_have_the_interpreters_bits() {
    let mut random = Random(33);
    let graphs = networks::all().map(|(_, graph)| graph);
    let cases = graphs.map(|graph| Case::new(graph, 5, &mut random));
    check_rust("networks-rust", &cases);
    check_c("networks-c", &cases);
}

#[test]
fn c_has_the_interpreters_bits() {
    check_c("c", &cases(32, 60));
}

/// A block of code of the documentation.
fn documented(language: &str) -> String {
    let text = include_str!("../../../../docs/integer-source.md");
    let block = text.split_once(&format!("```{language}\n")).unwrap().1;
    block.split_once("```").unwrap().0.into()
}

/// The examples of the documentation are what they are said to be.
#[test]
fn documented_programs_have_the_interpreters_bits() {
    let graph = networks::digits();
    let pixels: Vec<i64> = (0..64).map(|i| i * 5 % 17).collect();
    let expected = interpret(&graph, &[&pixels]).unwrap();
    let folder = Folder::new("documented");
    if is_there("cc") {
        for (path, text) in source::c(&graph, "digits").unwrap() {
            folder.write(path.to_str().unwrap(), &text);
        }
        folder.write("main.c", &documented("c"));
        let program = folder.0.join("main");
        let flags = [
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Wconversion",
            "-pedantic",
            "-Os",
        ];
        let files = ["main.c", "digits.c"].map(|name| folder.0.join(name));
        succeeds(
            Command::new("cc")
                .args(flags)
                .args(files)
                .arg("-o")
                .arg(&program),
        );
        assert_eq!(run(&program, &[]), expected[0]);
    }
    if is_there("cargo") {
        for crate_folder in ["digits/src", "app/src"] {
            std::fs::create_dir_all(folder.0.join(crate_folder)).unwrap();
        }
        for (path, text) in source::rust(&graph, "digits").unwrap() {
            std::fs::write(folder.0.join("digits").join(path), text).unwrap();
        }
        folder.write("app/Cargo.toml", &documented("toml"));
        folder.write("app/src/main.rs", &documented("rust"));
        let manifest = folder.0.join("app/Cargo.toml");
        succeeds(
            Command::new("cargo")
                .args(["build", "--quiet", "--offline", "--manifest-path"])
                .arg(manifest)
                .env("CARGO_TARGET_DIR", folder.0.join("target")),
        );
        assert_eq!(run(&folder.0.join("target/debug/app"), &[]), expected[0]);
    }
}

/// Names that are no names in either language, two inputs of the widest types, one of which is an output
/// too, limits, and a requantization of 61 bits.
fn odd() -> Graph {
    let mut graph = Graph::new();
    let wide = |signed| Numbers::power_of_two(32, signed, 0).unwrap();
    let a = graph.input("a*/b", &[2, 3], wide(true)).unwrap();
    let b = graph.input("int", &[2, 3], wide(false)).unwrap();
    let numbers = Numbers::affine(32, false, 1.0, 1 << 31).unwrap();
    let affine = graph.input("42", &[2, 3], numbers).unwrap();
    let limits = Interval {
        least: 3,
        greatest: 100,
    };
    graph.limit(b, limits).unwrap();
    let add = Add {
        multipliers: [-7, 1 << 10],
    };
    let sum = graph.push("\u{202e}y", add, &[a, affine]).unwrap();
    let requantize = Requantize {
        multiplier: vec![1, 1 << 17 | 1],
        offset: vec![5, -(1 << 40)],
        shift: vec![25, 42],
        rounding: Rounding::HalfAway,
        numbers: Numbers::affine(16, false, 3.0, 40_000).unwrap(),
    };
    let y = graph.push("run", requantize, &[sum]).unwrap();
    let product = graph.push("y", Mul {}, &[b, b]).unwrap();
    let joined = Concat { axis: 1 };
    let joined = graph.push("y/weights", joined, &[a, a]).unwrap();
    for output in [b, y, product, joined] {
        graph.output(output).unwrap();
    }
    graph
}

#[test]
fn odd_graphs_have_the_interpreters_bits() {
    let cases = [Case::new(odd(), 50, &mut Random(35))];
    check_rust("odd-rust", &cases);
    check_c("odd-c", &cases);
}

#[test]
fn code_has_no_floating_point_and_no_memory_of_its_own() {
    let words = ["f32", "f64", "float", "double", "alloc", "unsafe ", "std::"];
    for (name, graph) in networks::all() {
        let mut files = source::rust(&graph, name).unwrap();
        files.extend(source::c(&graph, name).unwrap());
        for (path, text) in files {
            for word in words {
                assert!(!text.contains(word), "{path:?} has {word}");
            }
            let own = format!("#include \"{name}.h\"");
            let includes = text.lines().filter(|line| line.contains("#include"));
            for line in includes {
                assert!(line == "#include <stdint.h>" || line == own, "{line}");
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_refused_in_one_line() {
    let graph = networks::digits();
    for name in [
        "", "Net", "1st", "a-b", "fn", "double", "core", "uint8", "stdint", "a b", "é",
    ] {
        let error = source::rust(&graph, name).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1);
        assert_eq!(source::c(&graph, name).unwrap_err().to_string(), error);
    }
    let error = source::rust(&Graph::new(), "net").unwrap_err();
    assert_eq!(error.to_string(), "graph: it has no input");
}

/// Image and answer are the caller's. conv1 makes 16 x 64 bytes, its pool 16 x 16, conv2 32 x 16, its
/// pool 32 x 4; sums are not stored. Of neighbours the greatest pair is conv1 and its pool.
#[test]
fn sizes_by_hand() {
    let size = source::size(&networks::digits()).unwrap();
    assert_eq!(size.buffers, 16 * 64 + 16 * 16);
    // 16 x 9 and 32 x 16 x 9 weights, 10 x 128, and 58 biases of 4 bytes.
    let lists = 16 * 9 + 32 * 16 * 9 + 10 * 128 + 58 * 4;
    // Each of the five calls has a multiplier and an offset of 4 bytes, and a shift.
    assert_eq!(size.constants, lists + 5 * 9);
}

/// Whether the environment's compiler has a target, whose name is given.
fn has_target(target: &str) -> bool {
    if !is_there("rustc") {
        return false;
    }
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .unwrap();
    let path = String::from_utf8(output.stdout).unwrap();
    let there = output.status.success() && Path::new(path.trim()).is_dir();
    if !there {
        eprintln!("SKIPPED: the target {target} is not installed");
    }
    there
}

/// Compiles the crate of a graph for a target, as it is, and a program around it.
fn compile_for(target: &str, folder: &Folder, graph: &Graph, around: &str, kind: &[&str]) {
    let compile = |source: &str| {
        let mut command = Command::new("rustc");
        command
            .args([
                "--edition=2024",
                "-Dwarnings",
                "-Copt-level=s",
                "-Cpanic=abort",
            ])
            .args(["--target", target, "--out-dir"])
            .arg(&folder.0)
            .arg(folder.0.join(source));
        command
    };
    for (path, text) in source::rust(graph, "network").unwrap() {
        folder.write(path.file_name().unwrap().to_str().unwrap(), &text);
    }
    succeeds(compile("lib.rs").args(["--crate-type=rlib", "--crate-name=network"]));
    folder.write("around.rs", around);
    let library = format!("network={}", folder.0.join("libnetwork.rlib").display());
    succeeds(compile("around.rs").args(kind).args(["--extern", &library]));
}

/// A program that holds a network's input, output and buffers.
fn around(graph: &Graph) -> String {
    let [x, y] = [graph.inputs()[0], graph.outputs()[0]].map(|id| graph.tensor(id));
    let ports = [("INPUT", x), ("OUTPUT", y)].map(|(name, tensor)| {
        let (int, count) = (rust_int(tensor.numbers()), tensor.elements());
        let place = name.to_lowercase();
        format!(
            "static mut {name}: [{int}; {count}] = [0; {count}];\n#[unsafe(no_mangle)]\n\
             pub extern \"C\" fn {place}() -> *const {int} {{\n    (&raw const {name}).cast()\n}}\n"
        )
    });
    format!(
        "#![no_std]\n#![no_main]\n{}static mut BUFFERS: network::Buffers = network::Buffers::new();\n\
         #[unsafe(no_mangle)]\npub extern \"C\" fn run() -> i32 {{\n    let (x, b, y) = unsafe {{\n        \
         (&*(&raw const INPUT), &mut *(&raw mut BUFFERS), &mut *(&raw mut OUTPUT))\n    }};\n    \
         network::run(x, b, y).is_err().into()\n}}\n#[panic_handler]\n\
         fn panic(_: &core::panic::PanicInfo) -> ! {{\n    loop {{}}\n}}\n",
        ports.concat()
    )
}

/// Bytes of instructions, of constants, and of memory in a linked file of 32-bit ELF: what is loaded
/// of its sections, by their flags.
fn elf_sizes(file: &[u8]) -> [usize; 3] {
    let half = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    let word = |at: usize| half(at) + (half(at + 2) << 16);
    let (start, size, count) = (word(0x20), half(0x2e), half(0x30));
    let mut sizes = [0; 3];
    for section in 0..count {
        let at = start + section * size;
        let (flags, bytes) = (word(at + 8), word(at + 20));
        let (writes, loads, runs) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        if loads {
            sizes[if runs {
                0
            } else if writes {
                2
            } else {
                1
            }] += bytes;
        }
    }
    sizes
}

#[test]
fn builds_for_a_cortex_m0() {
    let target = "thumbv6m-none-eabi";
    if !has_target(target) {
        return;
    }
    for (name, graph) in networks::all() {
        let folder = Folder::new(&format!("thumb-{name}"));
        let kind = [
            "--crate-type=bin",
            "-Clink-arg=-erun",
            "-Clink-arg=--gc-sections",
        ];
        compile_for(target, &folder, &graph, &around(&graph), &kind);
        let [code, constants, memory] = elf_sizes(&std::fs::read(folder.0.join("around")).unwrap());
        let size = source::size(&graph).unwrap();
        println!(
            "{name}: {code} bytes of code, {constants} of constants ({} of weights and tables), \
             {memory} of memory ({} of buffers)",
            size.constants, size.buffers
        );
        assert!(constants >= size.constants && memory >= size.buffers);
    }
}

/// What WebAssembly answers, byte by byte of input and output.
const NODE: &str = r#"
const fs = require("fs");
const [file, bytes, answers] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const network = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(file)), {}).exports;
const given = fs.readFileSync(0);
for (let at = 0; at < given.length; at += bytes) {
  new Uint8Array(network.memory.buffer, network.input(), bytes).set(given.subarray(at, at + bytes));
  if (network.run() !== 0) process.exit(1);
  const answer = new Uint8Array(network.memory.buffer, network.output(), answers);
  for (const byte of answer) console.log(byte);
}
"#;

/// Bytes of a number.
fn width(numbers: Numbers) -> usize {
    int(numbers).0 as usize / 8
}

/// Integers as memory has them.
fn bytes(values: &[i64], numbers: Numbers) -> Vec<u8> {
    let each = values.iter().map(|value| value.to_le_bytes());
    each.flat_map(|bytes| bytes[..width(numbers)].to_vec())
        .collect()
}

/// What a program makes of images, one after the other: it is told the bytes of input and output.
fn answers(mut program: Command, sizes: &[usize; 2], given: &[u8]) -> Vec<u8> {
    let mut child = program
        .args(sizes.map(|size| size.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(given).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

#[test]
fn web_assembly_has_the_interpreters_bits() {
    let target = "wasm32-unknown-unknown";
    if !has_target(target) || !is_there("node") {
        return;
    }
    let mut random = Random(34);
    for (name, graph) in networks::all() {
        let folder = Folder::new(&format!("wasm-{name}"));
        compile_for(
            target,
            &folder,
            &graph,
            &around(&graph),
            &["--crate-type=cdylib", "-Cstrip=symbols"],
        );
        let file = folder.0.join("around.wasm");
        println!(
            "{name}: {} bytes of WebAssembly",
            std::fs::metadata(&file).unwrap().len()
        );
        folder.write("run.cjs", NODE);
        let mut program = Command::new("node");
        program.args(["run.cjs", "around.wasm"].map(|name| folder.0.join(name)));
        assert_answers(name, program, Case::new(graph, 5, &mut random));
    }
}

/// Instructions are emulated, and those that a Cortex-M0 has not are refused.
#[test]
fn a_cortex_m0_has_the_interpreters_bits() {
    let Some(python) = variable("LOWBIT_UNICORN") else {
        eprintln!("SKIPPED: LOWBIT_UNICORN names no Python with unicorn");
        return;
    };
    let target = "thumbv6m-none-eabi";
    if !has_target(target) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/cortex_m0.py");
    let mut random = Random(35);
    for (name, graph) in networks::all() {
        let folder = Folder::new(&format!("m0-{name}"));
        let kind = [
            "--crate-type=bin",
            "-Clink-arg=-erun",
            "-Clink-arg=--undefined=input",
            "-Clink-arg=--undefined=output",
            "-Clink-arg=--gc-sections",
        ];
        compile_for(target, &folder, &graph, &around(&graph), &kind);
        let mut program = Command::new(&python);
        program.arg(&script).arg(folder.0.join("around"));
        assert_answers(name, program, Case::new(graph, 5, &mut random));
    }
}

/// A program of a network has the interpreter's bits.
fn assert_answers(name: &str, program: Command, case: Case) {
    let port = |id: TensorId| case.graph.tensor(id);
    let [x, y] = [case.graph.inputs()[0], case.graph.outputs()[0]].map(port);
    let sizes = [x, y].map(|tensor| tensor.elements() * width(tensor.numbers()));
    let of = |all: &[Vec<Vec<i64>>], numbers: Numbers| -> Vec<u8> {
        let all = all.iter().flat_map(|image| bytes(&image[0], numbers));
        all.collect()
    };
    let start = Instant::now();
    let found = answers(program, &sizes, &of(&case.images, x.numbers()));
    assert_eq!(found, of(&case.outputs, y.numbers()), "{name}");
    let images = case.images.len();
    println!(
        "{name}: {images} images, the same bits, {:?}",
        start.elapsed()
    );
}
