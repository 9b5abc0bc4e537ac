//! Rust without the standard library.

use std::fmt::Write;

use super::finish::Finish;
use super::kind::{Kind, List};
use super::plan::{Memory, Place, Plan, Step};
use super::storage::Int;
use super::text::{self, any, field};
use super::window::Axis;
use crate::graph::Graph;
use crate::ops::Rounding;

pub(crate) fn manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [lib]\npath = \"src/lib.rs\"\n\n[profile.release]\nopt-level = \"s\"\nlto = true\n\
         codegen-units = 1\npanic = \"abort\"\n"
    )
}

pub(crate) fn library(graph: &Graph, plan: &Plan, name: &str) -> String {
    let mut code = String::new();
    for line in text::head(graph, plan, name) {
        code += format!("//! {line}").trim_end();
        code.push('\n');
    }
    code += "\n#![no_std]\n#![forbid(unsafe_code)]\n\nuse core::ops::{Add, Mul, Sub};\n\n";
    code += &buffers(plan);
    code += &run(graph, plan);
    code = code + "\n" + &requantize_code(plan);
    for (file, functions) in FILES {
        if any(plan, |step| functions.contains(&step.kind.function())) {
            code = code + "\n" + file;
        }
    }
    if any(plan, |step| {
        matches!(step.output.memory, Memory::Buffer(..))
    }) {
        code = code + "\n" + include_str!("rust/apart.rs");
    }
    if any(plan, |step| {
        step.kind.list().is_some_and(|list| list.packed)
    }) {
        code = code + "\n" + include_str!("rust/packed.rs");
    }
    for step in &plan.steps {
        let _ = writeln!(code, "\n// {}.", step.comment);
        code += &constants(plan, step);
    }
    code
}

/// The code of requantizations, whose multipliers and offsets are of 32 bits or of the type that it
/// computes in.
fn requantize_code(plan: &Plan) -> String {
    let code = include_str!("rust/requantize.rs");
    if plan.constant(Int::I64) == Int::I32 {
        return code.replace("$M", "i32");
    }
    let code = code.replace("R::from(multiplier)", "multiplier");
    code.replace("R::from(offset)", "offset").replace("$M", "R")
}

/// The code of the operators, and which functions need it.
const FILES: [(&str, &[&str]); 16] = [
    (
        include_str!("rust/axis.rs"),
        &[
            "convolve",
            "convolve_transposed",
            "max_pool",
            "average_pool",
        ],
    ),
    (
        include_str!("rust/window.rs"),
        &["convolve", "max_pool", "average_pool"],
    ),
    (
        include_str!("rust/weights.rs"),
        &["convolve", "convolve_transposed", "linear"],
    ),
    (
        include_str!("rust/convolution.rs"),
        &["convolve", "convolve_transposed"],
    ),
    (include_str!("rust/convolve.rs"), &["convolve"]),
    (
        include_str!("rust/convolve_transposed.rs"),
        &["convolve_transposed"],
    ),
    (include_str!("rust/linear.rs"), &["linear"]),
    (include_str!("rust/add.rs"), &["add"]),
    (include_str!("rust/mul.rs"), &["mul"]),
    (include_str!("rust/max_pool.rs"), &["max_pool"]),
    (include_str!("rust/average_pool.rs"), &["average_pool"]),
    (include_str!("rust/map.rs"), &["map"]),
    (include_str!("rust/place.rs"), &["place"]),
    (include_str!("rust/index.rs"), &["look_up", "embedding"]),
    (include_str!("rust/look_up.rs"), &["look_up"]),
    (include_str!("rust/embedding.rs"), &["embedding"]),
];

fn buffers(plan: &Plan) -> String {
    let mut fields = String::new();
    let mut zeros = String::new();
    for &(int, elements) in &plan.buffers {
        let _ = writeln!(fields, "    {}: [{}; {elements}],", field(int), int.rust());
        let _ = write!(zeros, " {}: [0; {elements}],", field(int));
    }
    let zeros = if zeros.is_empty() {
        String::new()
    } else {
        zeros.trim_end_matches(',').to_owned() + " "
    };
    let body = if fields.is_empty() {
        " {}".into()
    } else {
        format!(" {{\n{fields}}}")
    };
    format!(
        "/// Bytes of [`Buffers`].\npub const MEMORY: usize = {};\n\n\
         /// Memory for the tensors between input and output. What is in it before a run does not matter.\n\
         pub struct Buffers{body}\n\n\
         impl Buffers {{\n    /// Zeros.\n    pub const fn new() -> Self {{\n        Self {{{zeros}}}\n    }}\n}}\n\n\
         impl Default for Buffers {{\n    fn default() -> Self {{\n        Self::new()\n    }}\n}}\n\n\
         /// A number of an input is beyond its limits.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq)]\npub struct OutOfRange;\n\n",
        plan.memory()
    )
}

fn run(graph: &Graph, plan: &Plan) -> String {
    let mut code = String::from("/// Runs the network on one image.\n///\n");
    for port in plan.inputs.iter().chain(&plan.outputs) {
        let _ = writeln!(code, "/// {}", text::port(graph, port));
    }
    let limited: Vec<_> = plan
        .inputs
        .iter()
        .filter(|port| text::is_limited(graph, port))
        .collect();
    let errors = if limited.is_empty() {
        "None: every number is within its limits."
    } else {
        "If a number is beyond these."
    };
    let _ = write!(code, "///\n/// # Errors\n///\n/// {errors}\npub fn run(\n");
    for port in &plan.inputs {
        let _ = writeln!(
            code,
            "    {}: &[{}; {}],",
            port.name,
            port.int.rust(),
            port.elements
        );
    }
    let uses = if plan.buffers.is_empty() {
        "_buffers"
    } else {
        "buffers"
    };
    let _ = writeln!(code, "    {uses}: &mut Buffers,");
    for port in &plan.outputs {
        let _ = writeln!(
            code,
            "    {}: &mut [{}; {}],",
            port.name,
            port.int.rust(),
            port.elements
        );
    }
    code += ") -> Result<(), OutOfRange> {\n";
    for port in limited {
        let interval = graph.tensor(port.id).interval();
        let _ = writeln!(
            code,
            "    if !{}.iter().all(|k| ({}..={}).contains(k)) {{\n        return Err(OutOfRange);\n    }}",
            port.name, interval.least, interval.greatest
        );
    }
    for step in &plan.steps {
        let _ = writeln!(code, "    // {}.", step.comment);
        code += &call(plan, step);
    }
    code + "    Ok(())\n}\n"
}

/// The call of a step, with the memory that it reads and writes.
fn call(plan: &Plan, step: &Step) -> String {
    let mut code = String::new();
    let name = step.name.to_uppercase();
    let arguments = match &step.kind {
        Kind::Map { pixels } => format!("&{name}, {pixels}"),
        Kind::Place { length, step, at } => format!("&{name}, [{length}, {step}, {at}]"),
        _ => format!("&{name}"),
    };
    let output = match step.output.memory {
        Memory::Buffer(int, at) => {
            let count = step.output.elements;
            let read = |after: bool| {
                let in_buffer = |place: &Place| match place.memory {
                    Memory::Buffer(other, from) => other == int && (from > at) == after,
                    _ => false,
                };
                step.inputs.iter().any(in_buffer)
            };
            let [before, after] = [("before", read(false)), ("after", read(true))]
                .map(|(name, read)| if read { name } else { "_" });
            let _ = writeln!(
                code,
                "    let ({before}, y, {after}) = apart(&mut buffers.{}, {at}, {count});",
                field(int)
            );
            "y".into()
        }
        Memory::Output(index) => plan.outputs[index].name.clone(),
        Memory::Input(_) => unreachable!("no step writes an input"),
    };
    let inputs = step
        .inputs
        .iter()
        .map(|place| input(plan, place, &step.output));
    let inputs: Vec<String> = inputs.collect();
    let _ = writeln!(
        code,
        "    {}({arguments}, {}, {output});",
        step.kind.function(),
        inputs.join(", ")
    );
    code
}

/// A slice that a step reads.
fn input(plan: &Plan, place: &Place, output: &Place) -> String {
    let count = place.elements;
    match (place.memory, output.memory) {
        (Memory::Buffer(int, at), Memory::Buffer(other, start)) if int == other => {
            if at < start {
                format!("&before[{at}..{}]", at + count)
            } else {
                let at = at - start - output.elements;
                format!("&after[{at}..{}]", at + count)
            }
        }
        (Memory::Buffer(int, at), _) => {
            format!("&buffers.{}[{at}..{}]", field(int), at + count)
        }
        (Memory::Output(index), _) => format!("&{}[..]", plan.outputs[index].name),
        (Memory::Input(index), _) => plan.inputs[index].name.clone(),
    }
}

/// The static items of a step.
fn constants(plan: &Plan, step: &Step) -> String {
    let name = step.name.to_uppercase();
    let mut code = String::new();
    let constant = plan.constant(step.finish.wide).rust();
    let sum = step.kind.values(&step.inputs);
    if let Some(list) = step.kind.list() {
        code += &weights(&name, &step.kind, list);
    }
    if let Some(bias) = step.kind.bias()
        && bias.len() > 1
    {
        code += &array(&format!("{name}_BIAS"), sum.rust(), bias);
    }
    let finish = &step.finish;
    let shift: Vec<i64> = finish.shift.iter().map(|&shift| shift.into()).collect();
    for (list, int, values) in [
        ("MULTIPLIER", constant, &finish.multiplier),
        ("OFFSET", constant, &finish.offset),
        ("SHIFT", "u8", &shift),
    ] {
        if values.len() > 1 {
            code += &array(&format!("{name}_{list}"), int, values);
        }
    }
    code + &item(&name, step)
}

fn weights(name: &str, kind: &Kind, list: &List) -> String {
    let name = format!("{name}_{}", kind.list_name().to_uppercase());
    if list.packed {
        array(&name, "u8", &text::packed(&list.values))
    } else {
        array(&name, list.int.rust(), &list.values)
    }
}

fn array(name: &str, int: &str, values: &[i64]) -> String {
    let count = values.len();
    let lines = text::lines(values.iter().map(i64::to_string), "    ");
    format!("static {name}: [{int}; {count}] = [\n{lines}\n];\n")
}

/// A list that is in a static item of its own if it is long.
fn list_of(name: &str, what: &str, values: &[i64]) -> String {
    match values {
        [value] => format!("&[{value}]"),
        _ => format!("&{name}_{what}"),
    }
}

/// The static item that a call is given.
fn item(name: &str, step: &Step) -> String {
    let finish = &step.finish;
    let wide = finish.wide.rust();
    let sum = step.kind.values(&step.inputs).rust();
    let list = step.kind.list();
    let table = list.map_or("", |list| list.int.rust());
    let (stored, weights) = match list {
        Some(list) if list.packed => ("Packed".into(), format!("Packed(&{name}_WEIGHTS)")),
        _ => (format!("&'static [{table}]"), format!("&{name}_WEIGHTS")),
    };
    let (kind, types, fields) = match &step.kind {
        Kind::Map { .. } | Kind::Place { .. } => {
            let then = requantize(name, finish, "");
            return format!("static {name}: Requantize<{wide}> = {then};\n");
        }
        Kind::Convolve {
            zero,
            axes,
            channels,
            bias,
            ..
        } => {
            let fields = convolution(*zero, axes, channels);
            let bias = list_of(name, "BIAS", bias);
            let fields = format!("    weights: {weights},\n    bias: {bias},\n{fields}");
            ("Convolution", format!("{stored}, {sum}, {wide}"), fields)
        }
        Kind::Linear {
            zero,
            inputs,
            outputs,
            pixels,
            bias,
            ..
        } => {
            let bias = list_of(name, "BIAS", bias);
            let sizes = lines(&[
                ("zero", zero.to_string()),
                ("inputs", inputs.to_string()),
                ("outputs", outputs.to_string()),
                ("pixels", pixels.to_string()),
            ]);
            let fields = format!("    weights: {weights},\n    bias: {bias},\n{sizes}");
            ("Linear", format!("{stored}, {sum}, {wide}"), fields)
        }
        Kind::LookUp { sum, .. } | Kind::Embedding { sum, .. } => {
            let (kind, fields) = tables(name, &step.kind);
            (kind, format!("{table}, {}, {wide}", sum.rust()), fields)
        }
        Kind::MaxPool { axes } => ("MaxPool", wide.into(), pair(axes)),
        _ => {
            let (kind, fields) = sums(&step.kind);
            (kind, format!("{sum}, {wide}"), fields)
        }
    };
    let then = requantize(name, finish, "    ");
    format!("static {name}: {kind}<{types}> = {kind} {{\n{fields}    then: {then},\n}};\n")
}

fn lines(fields: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| format!("    {name}: {value},\n");
    fields.iter().map(line).collect()
}

fn convolution(zero: i64, axes: &[Axis; 2], [inputs, outputs, groups]: &[usize; 3]) -> String {
    let counts = lines(&[
        ("inputs", inputs.to_string()),
        ("outputs", outputs.to_string()),
        ("groups", groups.to_string()),
    ]);
    format!("    zero: {zero},\n{}{counts}", pair(axes))
}

/// The fields of a sum or product of two tensors, or of an average.
fn sums(kind: &Kind) -> (&'static str, String) {
    match kind {
        Kind::Add {
            multipliers,
            zeros,
            pixels,
            ..
        } => {
            let fields = [
                ("multipliers", format!("{multipliers:?}")),
                ("zeros", format!("{zeros:?}")),
                ("pixels", pixels.to_string()),
            ];
            ("Sum", lines(&fields))
        }
        Kind::Mul {
            zeros,
            shape,
            pixels,
            ..
        } => {
            let fields = [
                ("zeros", format!("{zeros:?}")),
                ("shape", format!("&{shape:?}")),
                ("pixels", pixels.to_string()),
            ];
            ("Product", lines(&fields))
        }
        Kind::AveragePool {
            zero, axes, common, ..
        } => {
            let axes = pair(axes);
            let fields = format!("    zero: {zero},\n{axes}    common: {common},\n");
            ("AveragePool", fields)
        }
        _ => unreachable!("other kinds have fields of their own"),
    }
}

fn tables(name: &str, kind: &Kind) -> (&'static str, String) {
    let fields = |least: &i64, what: &'static str, size: &usize| {
        lines(&[
            ("table", format!("&{name}_TABLE")),
            ("least", least.to_string()),
            (what, size.to_string()),
        ])
    };
    match kind {
        Kind::LookUp { least, pixels, .. } => ("LookUp", fields(least, "pixels", pixels)),
        Kind::Embedding {
            least, features, ..
        } => ("Embedding", fields(least, "features", features)),
        _ => unreachable!("other kinds have no table"),
    }
}

fn pair(axes: &[Axis; 2]) -> String {
    let axis = |axis: Axis| {
        let Axis {
            input,
            output,
            kernel,
            stride,
            before,
            dilation,
        } = axis;
        format!(
            "Axis {{ input: {input}, output: {output}, kernel: {kernel}, stride: {stride}, \
             before: {before}, dilation: {dilation} }}"
        )
    };
    lines(&[("rows", axis(axes[0])), ("columns", axis(axes[1]))])
}

fn requantize(name: &str, finish: &Finish, indent: &str) -> String {
    let shift: Vec<i64> = finish.shift.iter().map(|&shift| shift.into()).collect();
    let rounding = match finish.rounding {
        Rounding::HalfEven => "HalfEven",
        Rounding::HalfAway => "HalfAway",
        Rounding::HalfUp => "HalfUp",
        Rounding::Floor => "Floor",
    };
    let (values, limits) = (finish.values, finish.limits);
    let fields = [
        ("values", format!("[{}, {}]", values.least, values.greatest)),
        ("zero", finish.zero.to_string()),
        (
            "multiplier",
            list_of(name, "MULTIPLIER", &finish.multiplier),
        ),
        ("offset", list_of(name, "OFFSET", &finish.offset)),
        ("shift", list_of(name, "SHIFT", &shift)),
        ("rounding", format!("Rounding::{rounding}")),
        ("to", finish.to.to_string()),
        ("limits", format!("[{}, {}]", limits.least, limits.greatest)),
    ];
    let line = |(name, value): &(&str, String)| format!("{indent}    {name}: {value},\n");
    let fields: String = fields.iter().map(line).collect();
    format!("Requantize {{\n{fields}{indent}}}")
}
