//! C99 with `stdint.h` alone.

use std::fmt::Write;

use super::finish::Finish;
use super::kind::{Kind, List};
use super::plan::{Memory, Place, Plan, Port, Step};
use super::storage::Int;
use super::text::{self, any, field};
use super::window::Axis;
use crate::graph::Graph;
use crate::ops::Rounding;

pub(crate) fn header(graph: &Graph, plan: &Plan, name: &str) -> String {
    let guard = name.to_uppercase();
    let mut members = String::new();
    for &(int, elements) in &plan.buffers {
        let _ = writeln!(members, "    {} {}[{elements}];", int.c(), field(int));
    }
    if members.is_empty() {
        members += "    uint8_t none;\n";
    }
    let memory = plan.memory();
    format!(
        "{}#ifndef {guard}_H\n#define {guard}_H\n\n#include <stdint.h>\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n\
         /* Memory for the tensors between input and output, {memory} bytes. What is in it before a run\n   \
         does not matter. */\ntypedef struct {{\n{members}}} {name}_buffers;\n\n\
         /* Runs the network on one image. Returns 0, or 1 if a number of an input is beyond its\n   \
         limits. */\n{};\n\n#ifdef __cplusplus\n}}\n#endif\n\n#endif\n",
        head(graph, plan, name),
        signature(plan, name)
    )
}

pub(crate) fn source(graph: &Graph, plan: &Plan, name: &str) -> String {
    let mut code = head(graph, plan, name);
    let _ = write!(code, "#include \"{name}.h\"\n\n");
    code += include_str!("c/rounding.c");
    for function in functions(plan) {
        code = code + "\n" + &function;
    }
    for step in &plan.steps {
        let _ = writeln!(code, "\n/* {}. */", step.comment);
        code += &constants(plan, &format!("{name}_{}", step.name), step);
    }
    code.push('\n');
    code + &run(graph, plan, name)
}

fn head(graph: &Graph, plan: &Plan, name: &str) -> String {
    let lines = text::head(graph, plan, name).join("\n   ");
    format!("/* {} */\n\n", lines.replace("   \n", "\n"))
}

fn signature(plan: &Plan, name: &str) -> String {
    let port = |port: &Port, constant: &str| {
        let Port {
            name,
            int,
            elements,
            ..
        } = port;
        format!("{constant}{} {name}[{elements}]", int.c())
    };
    let mut arguments: Vec<String> = plan.inputs.iter().map(|p| port(p, "const ")).collect();
    arguments.push(format!("{name}_buffers *buffers"));
    arguments.extend(plan.outputs.iter().map(|p| port(p, "")));
    format!("int {name}_run({})", arguments.join(", "))
}

/// The code of the functions that steps call, each once, before what calls it.
fn functions(plan: &Plan) -> Vec<String> {
    let mut functions: Vec<String> = Vec::new();
    let mut add = |text: String| {
        if !functions.contains(&text) {
            functions.push(text);
        }
    };
    for step in &plan.steps {
        let constant = plan.constant(step.finish.wide).c();
        let text = include_str!("c/requantize.c").replace("$M", constant);
        add(typed(&text, step));
    }
    for (text, names) in SHARED {
        if any(plan, |step| names.contains(&step.kind.function())) {
            add(text.into());
        }
    }
    for step in &plan.steps {
        match (&step.kind, step.kind.list()) {
            (Kind::Convolve { .. } | Kind::Linear { .. }, Some(list)) if list.packed => {
                add(include_str!("c/packed.c").into());
            }
            (Kind::Convolve { .. } | Kind::Linear { .. }, _) => {
                add(typed(include_str!("c/weight.c"), step));
            }
            _ => {}
        }
        add(typed(template(&step.kind), step));
    }
    functions
}

/// Code that functions share, and which do.
const SHARED: [(&str, &[&str]); 4] = [
    (
        include_str!("c/axis.c"),
        &[
            "convolve",
            "convolve_transposed",
            "max_pool",
            "average_pool",
        ],
    ),
    (
        include_str!("c/window.c"),
        &["convolve", "max_pool", "average_pool"],
    ),
    (include_str!("c/meets.c"), &["convolve_transposed"]),
    (
        include_str!("c/convolution.c"),
        &["convolve", "convolve_transposed"],
    ),
];

fn template(kind: &Kind) -> &'static str {
    match kind {
        Kind::Convolve {
            transposed: false, ..
        } => include_str!("c/convolve.c"),
        Kind::Convolve { .. } => include_str!("c/convolve_transposed.c"),
        Kind::Linear { .. } => include_str!("c/linear.c"),
        Kind::Add { .. } => include_str!("c/add.c"),
        Kind::Mul { .. } => include_str!("c/mul.c"),
        Kind::MaxPool { .. } => include_str!("c/max_pool.c"),
        Kind::AveragePool { .. } => include_str!("c/average_pool.c"),
        Kind::Map { .. } => include_str!("c/map.c"),
        Kind::Place { .. } => include_str!("c/place.c"),
        Kind::LookUp { .. } => include_str!("c/look_up.c"),
        Kind::Embedding { .. } => include_str!("c/embedding.c"),
    }
}

/// A text with the types of a step in place of `$X` and their short names in place of `$x`: of its
/// inputs X, or A and B, weights W, sums S, requantization R, output Y.
fn typed(text: &str, step: &Step) -> String {
    let input = |index: usize| step.inputs.get(index).map_or(Int::I8, |p| p.storage.int);
    let sum = step.kind.sum(&step.inputs);
    let (wide, output) = (step.finish.wide, step.output.storage.int);
    let mut text = text.to_owned();
    for (mark, int) in [
        ('x', input(0)),
        ('a', input(0)),
        ('b', input(1)),
        ('s', sum),
        ('r', wide),
        ('y', output),
    ] {
        text = text.replace(&format!("${mark}"), int.rust());
        text = text.replace(&format!("${}", mark.to_ascii_uppercase()), int.c());
    }
    if let Some(list) = step.kind.list() {
        let (short, int) = stored(list);
        text = text.replace("$w", short).replace("$W", int);
    }
    text
}

/// The short name and the type of a list's numbers.
fn stored(list: &List) -> (&'static str, &'static str) {
    if list.packed {
        ("packed", Int::U8.c())
    } else {
        (list.int.rust(), list.int.c())
    }
}

/// The lists and structures of a step.
fn constants(plan: &Plan, name: &str, step: &Step) -> String {
    let mut code = String::new();
    if let Some(list) = step.kind.list() {
        let values = if list.packed {
            text::packed(&list.values)
        } else {
            list.values.clone()
        };
        let what = step.kind.list_name();
        code += &array(&format!("{name}_{what}"), stored(list).1, &values);
    }
    if let Some(bias) = step.kind.bias() {
        let sum = step.kind.sum(&step.inputs);
        code += &array(&format!("{name}_bias"), sum.c(), bias);
    }
    match &step.kind {
        Kind::Convolve { axes, channels, .. } => {
            let [rows, columns] = axes.map(axis);
            let [inputs, outputs, groups] = channels;
            let _ = writeln!(
                code,
                "static const convolution {name} = {{\n    {rows}, {columns},\n    \
                 {inputs}, {outputs}, {groups}\n}};"
            );
        }
        Kind::MaxPool { axes } | Kind::AveragePool { axes, .. } => {
            for (what, side) in ["rows", "columns"].into_iter().zip(axes) {
                let _ = writeln!(code, "static const axis {name}_{what} = {};", axis(*side));
            }
        }
        Kind::Mul { shape, .. } => {
            let shape: Vec<i64> = shape.as_flattened().iter().map(|&n| n as i64).collect();
            code += &array(&format!("{name}_shape"), Int::U32.c(), &shape);
        }
        _ => {}
    }
    code + &requantization(plan.constant(step.finish.wide), name, &step.finish)
}

fn array(name: &str, int: &str, values: &[i64]) -> String {
    let count = values.len();
    let lines = text::lines(values.iter().map(i64::to_string), "    ");
    format!("static const {int} {name}[{count}] = {{\n{lines}\n}};\n")
}

fn axis(axis: Axis) -> String {
    let Axis {
        input,
        output,
        kernel,
        stride,
        before,
        dilation,
    } = axis;
    format!("{{{input}, {output}, {kernel}, {stride}, {before}, {dilation}}}")
}

fn requantization(constant: Int, name: &str, finish: &Finish) -> String {
    let (constant, short) = (constant.c(), finish.wide.rust());
    let shift: Vec<i64> = finish.shift.iter().map(|&shift| shift.into()).collect();
    let rounding = match finish.rounding {
        Rounding::HalfEven => "HALF_EVEN",
        Rounding::HalfAway => "HALF_AWAY",
        Rounding::HalfUp => "HALF_UP",
        Rounding::Floor => "FLOOR",
    };
    let mut code = String::new();
    for (list, int, values) in [
        ("multiplier", constant, &finish.multiplier),
        ("offset", constant, &finish.offset),
        ("shift", Int::U8.c(), &shift),
    ] {
        code += &array(&format!("{name}_{list}"), int, values);
    }
    let [multiplier, offset, shift] =
        [finish.multiplier.len(), finish.offset.len(), shift.len()].map(|n| u8::from(n > 1));
    let (values, limits) = (finish.values, finish.limits);
    let _ = writeln!(
        code,
        "static const requantization_{short} {name}_then = {{\n    {}, {}, {},\n    \
         {name}_multiplier, {name}_offset, {name}_shift,\n    \
         {multiplier}, {offset}, {shift}, {rounding},\n    {}, {}, {}\n}};",
        values.least, values.greatest, finish.zero, finish.to, limits.least, limits.greatest
    );
    code
}

fn run(graph: &Graph, plan: &Plan, name: &str) -> String {
    let mut code = signature(plan, name) + "\n{\n";
    let limits: Vec<String> = plan.inputs.iter().map(|port| limit(graph, port)).collect();
    if limits.iter().any(|limit| !limit.is_empty()) {
        code += "    uint32_t i;\n";
    }
    if plan.buffers.is_empty() {
        code += "    (void)buffers;\n";
    }
    code += &limits.concat();
    for step in &plan.steps {
        let _ = writeln!(code, "    /* {}. */", step.comment);
        code += &call(plan, &format!("{name}_{}", step.name), step);
    }
    code + "    return 0;\n}\n"
}

/// Refuses what is beyond an input's limits, where its type holds such numbers.
fn limit(graph: &Graph, port: &Port) -> String {
    let (known, all) = (graph.tensor(port.id).interval(), port.int.interval());
    let mut conditions = Vec::new();
    if known.least > all.least {
        conditions.push(format!("{}[i] < {}", port.name, known.least));
    }
    if known.greatest < all.greatest {
        conditions.push(format!("{}[i] > {}", port.name, known.greatest));
    }
    if conditions.is_empty() {
        return String::new();
    }
    format!(
        "    for (i = 0; i < {}; i++) {{\n        if ({}) {{\n            return 1;\n        }}\n    }}\n",
        port.elements,
        conditions.join(" || ")
    )
}

fn call(plan: &Plan, name: &str, step: &Step) -> String {
    let types = typed(tags(&step.kind), step);
    let count = step.output.elements;
    let mut arguments = arguments(name, step, count);
    arguments.push(format!("&{name}_then"));
    arguments.extend(step.inputs.iter().map(|input| place(plan, input)));
    arguments.push(place(plan, &step.output));
    let mut lines = Vec::new();
    let mut line = String::from("       ");
    for argument in arguments {
        if line.len() + argument.len() + 3 > 100 {
            lines.push(line);
            line = String::from("       ");
        }
        line = line + " " + &argument + ",";
    }
    lines.push(line.trim_end_matches(',').to_owned());
    format!(
        "    {}{types}(\n{});\n",
        step.kind.function(),
        lines.join("\n")
    )
}

/// The types that a function's name says.
fn tags(kind: &Kind) -> &'static str {
    match kind {
        Kind::Add { .. } | Kind::Mul { .. } => "_$a_$b_$s_$r_$y",
        Kind::MaxPool { .. } | Kind::Map { .. } | Kind::Place { .. } => "_$x_$r_$y",
        Kind::AveragePool { .. } => "_$x_$s_$r_$y",
        _ => "_$x_$w_$s_$r_$y",
    }
}

/// What a call is given before its requantization and its tensors.
fn arguments(name: &str, step: &Step, count: usize) -> Vec<String> {
    let weights = |bias: &Vec<i64>, zero: &i64| {
        let step = u8::from(bias.len() > 1);
        format!("{name}_weights, {name}_bias, {step}, {zero}")
    };
    let arguments = match &step.kind {
        Kind::Convolve { bias, zero, .. } => format!("&{name}, {}", weights(bias, zero)),
        Kind::Linear {
            bias,
            zero,
            inputs,
            outputs,
            pixels,
            ..
        } => {
            let rows = count / outputs;
            format!(
                "{}, {rows}, {inputs}, {outputs}, {pixels}",
                weights(bias, zero)
            )
        }
        Kind::Add {
            multipliers: [m, n],
            zeros: [a, b],
            pixels,
            ..
        } => format!("{m}, {a}, {n}, {b}, {count}, {pixels}"),
        Kind::Mul {
            zeros: [a, b],
            shape,
            pixels,
            ..
        } => format!("{a}, {b}, {name}_shape, {}, {count}, {pixels}", shape.len()),
        Kind::MaxPool { axes } => pool(name, axes, count),
        Kind::AveragePool {
            zero, axes, common, ..
        } => format!("{}, {zero}, {common}", pool(name, axes, count)),
        Kind::Map { pixels } => format!("{count}, {pixels}"),
        Kind::Place { length, step, at } => format!("{}, {length}, {step}, {at}", count / step),
        Kind::LookUp { least, pixels, .. } => format!("{name}_table, {least}, {count}, {pixels}"),
        Kind::Embedding {
            least, features, ..
        } => format!("{name}_table, {least}, {}, {features}", count / features),
    };
    arguments.split(", ").map(str::to_owned).collect()
}

fn pool(name: &str, axes: &[Axis; 2], count: usize) -> String {
    let channels = count / (axes[0].output * axes[1].output);
    format!("&{name}_rows, &{name}_columns, {channels}")
}

fn place(plan: &Plan, place: &Place) -> String {
    match place.memory {
        Memory::Input(index) => plan.inputs[index].name.clone(),
        Memory::Output(index) => plan.outputs[index].name.clone(),
        Memory::Buffer(int, at) => format!("buffers->{} + {at}", field(int)),
    }
}
