//! A network's integers for other programs: as text, and as safetensors.
//!
//! Both say of every tensor how its integers stand for numbers; neither says what the operators are,
//! which [`json`](crate::json) does.

use std::fmt::Write;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};

use crate::graph::{Graph, Node};
use crate::numbers::Numbers;
use crate::ops::Operator;

/// Integers that a node brings along.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The node's name and what they are to it: `conv1.weight`.
    pub name: String,
    /// The shape, output channels first but for transposed convolutions.
    pub shape: Vec<usize>,
    /// What they stand for; of multipliers, offsets and shifts nothing but themselves.
    pub numbers: Option<Numbers>,
    /// The integers, the last dimension's index moving fastest.
    pub values: Vec<i64>,
}

impl Parameter {
    /// The type that holds them: the narrowest with a sign.
    fn bytes(&self) -> (Dtype, Vec<u8>) {
        let each = |bytes: usize| {
            let of_each = self.values.iter();
            of_each
                .flat_map(|v| v.to_le_bytes().into_iter().take(bytes))
                .collect()
        };
        match bits(&self.values) {
            ..=8 => (Dtype::I8, each(1)),
            9..=16 => (Dtype::I16, each(2)),
            17..=32 => (Dtype::I32, each(4)),
            _ => (Dtype::I64, each(8)),
        }
    }
}

/// Bits that integers need, sign included.
fn bits(values: &[i64]) -> u32 {
    let least = values.iter().copied().min().unwrap_or(0).min(-1);
    let greatest = values.iter().copied().max().unwrap_or(0);
    lowbit_formats::bits_of(least.into(), greatest.into())
}

impl Graph {
    /// The integers that its nodes bring along, in the order of the nodes.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes().iter().flat_map(|n| self.of_node(n)).collect()
    }

    fn of_node(&self, node: &Node) -> Vec<Parameter> {
        let parameter = |what: &str, shape: &[usize], numbers, values: &[i64]| Parameter {
            name: format!("{}.{what}", node.name()),
            shape: shape.to_vec(),
            numbers,
            values: values.to_vec(),
        };
        let mut made = Vec::new();
        if let Some(weights) = node.operator().weights() {
            let numbers = Some(weights.numbers);
            made.push(parameter(
                "weight",
                &weights.shape,
                numbers,
                &weights.values,
            ));
        }
        let bias = match node.operator() {
            Operator::Convolution(convolution) => convolution.bias.as_deref(),
            Operator::Linear(linear) => linear.bias.as_deref(),
            _ => None,
        };
        // In the sums' step, in as many bits as it needs.
        let step = self.tensor(node.output()).numbers().step();
        made.extend(bias.map(|b| parameter("bias", &[b.len()], step.numbers(bits(b)).ok(), b)));
        match node.operator() {
            Operator::Requantize(requantize) => {
                let shifts: Vec<i64> = requantize.shift.iter().map(|&s| s.into()).collect();
                let parts = [
                    ("multiplier", &requantize.multiplier),
                    ("offset", &requantize.offset),
                    ("shift", &shifts),
                ];
                made.extend(parts.map(|(what, all)| parameter(what, &[all.len()], None, all)));
            }
            Operator::LookUp(look_up) => {
                let table = &look_up.table;
                let numbers = Some(look_up.numbers);
                made.push(parameter("table", &[table.len()], numbers, table));
            }
            Operator::Add(add) => {
                made.push(parameter("multipliers", &[2], None, &add.multipliers));
            }
            _ => {}
        }
        made
    }

    /// Integers and fraction lengths as text, a line for each tensor, and below it those that a node
    /// brings along, a line for each index of the first dimension.
    ///
    /// ```text
    /// x              [3]     4 bits unsigned, fraction 4, rounded half-even
    /// linear.weight  [2, 3]  4 bits signed, fraction 3
    ///   1 -2 3
    ///   7 0 -8
    /// ```
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# The number is integer / 2^fraction, or scale (integer - zero). Activations are without the batch.\n",
        );
        for &id in self.inputs() {
            self.line(&mut text, id);
        }
        for node in self.nodes() {
            for parameter in self.of_node(node) {
                let stands_for = match parameter.numbers {
                    Some(numbers) => words(numbers),
                    None => "integers".into(),
                };
                let Parameter { name, shape, .. } = &parameter;
                let _ = writeln!(text, "{name}  {shape:?}  {stands_for}");
                let rest: usize = shape[1..].iter().product();
                let rows = match shape.len() {
                    1 => parameter.values.len(),
                    _ => rest,
                };
                for row in parameter.values.chunks(rows.max(1)) {
                    let row: Vec<String> = row.iter().map(ToString::to_string).collect();
                    let _ = writeln!(text, "  {}", row.join(" "));
                }
            }
            self.line(&mut text, node.output());
        }
        text
    }

    fn line(&self, text: &mut String, id: crate::TensorId) {
        let tensor = self.tensor(id);
        let (name, shape) = (tensor.name(), tensor.shape());
        let _ = write!(text, "{name}  {shape:?}  {}", words(tensor.numbers()));
        if let Some(rounding) = self.input_rounding(id) {
            let _ = write!(text, ", rounded {rounding}");
        }
        text.push('\n');
    }

    /// The integers that nodes bring along as a safetensors file, each in the narrowest type with a sign.
    /// The file's metadata have one key, `lowbit-int`: a JSON object that says under `parameters` and
    /// `activations` what the integers of each tensor stand for, as in [`json`](crate::json) files.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let parameters = self.parameters();
        let bytes: Vec<(Dtype, Vec<u8>)> = parameters.iter().map(Parameter::bytes).collect();
        let views = parameters
            .iter()
            .zip(&bytes)
            .map(|(parameter, (dtype, bytes))| {
                let view = TensorView::new(*dtype, parameter.shape.clone(), bytes);
                (
                    &parameter.name,
                    view.expect("a number of that type for each element"),
                )
            });
        let of = |numbers: Numbers| serde_json::to_value(numbers).expect("numbers are plain data");
        let known = parameters
            .iter()
            .filter_map(|p| Some((p.name.clone(), of(p.numbers?))));
        let known: Map<String, Value> = known.collect();
        let made = self.nodes().iter().map(Node::output);
        let activations = self.inputs().iter().copied().chain(made).map(|id| {
            let tensor = self.tensor(id);
            (tensor.name().to_string(), of(tensor.numbers()))
        });
        let activations: Map<String, Value> = activations.collect();
        let about = json!({ "parameters": known, "activations": activations }).to_string();
        let metadata = [("lowbit-int".to_string(), about)].into();
        safetensors::serialize(views, Some(metadata)).expect("each name is one node's")
    }
}

/// What integers stand for.
fn words(numbers: Numbers) -> String {
    let sign = if numbers.signed() {
        "signed"
    } else {
        "unsigned"
    };
    let bits = numbers.bits();
    match numbers.exponent() {
        Some(exponent) => format!("{bits} bits {sign}, fraction {}", -exponent),
        None => {
            let (scale, zero) = (numbers.scale(), numbers.zero_point());
            format!("{bits} bits {sign}, scale {scale:e}, zero {zero}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Linear, Requantize, Weights};
    use crate::{Numbers, Rounding};

    fn layer() -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", &[3], Numbers::power_of_two(4, false, -4).unwrap());
        let weights = Weights {
            shape: vec![2, 3],
            numbers: Numbers::power_of_two(4, true, -3).unwrap(),
            values: vec![1, -2, 3, 7, 0, -8],
        };
        let bias = Some(vec![300, -5]);
        let linear = Linear { weights, bias };
        let sums = graph.push("linear", linear, &[x.unwrap()]).unwrap();
        let output = Numbers::affine(4, true, 0.1, 1).unwrap();
        let requantize = Requantize::by_multiplier(5, 6, Rounding::HalfEven, output);
        let y = graph.push("requantize", requantize, &[sums]).unwrap();
        graph.output(y).unwrap();
        graph
    }

    /// Sums reach 300 + 4 * 15 and -5 - 8 * 15: ten bits.
    #[test]
    fn text_has_integers_and_fraction_lengths() {
        let expected = "\
# The number is integer / 2^fraction, or scale (integer - zero). Activations are without the batch.
x  [3]  4 bits unsigned, fraction 4, rounded half-even
linear.weight  [2, 3]  4 bits signed, fraction 3
  1 -2 3
  7 0 -8
linear.bias  [2]  10 bits signed, fraction 7
  300 -5
linear  [2]  10 bits signed, fraction 7
requantize.multiplier  [1]  integers
  5
requantize.offset  [1]  integers
  0
requantize.shift  [1]  integers
  6
requantize  [2]  4 bits signed, scale 1e-1, zero 1
";
        assert_eq!(layer().to_text(), expected);
    }

    /// The file begins with the length of its header; the integers follow in little endian, those of
    /// wider types first.
    #[test]
    fn a_safetensors_file_has_the_narrowest_types() {
        let bytes = layer().to_safetensors();
        assert_eq!(bytes, layer().to_safetensors());
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let bias = read.tensor("linear.bias").unwrap();
        assert_eq!((bias.dtype(), bias.shape()), (Dtype::I16, &[2][..]));
        assert_eq!(bias.data(), [44, 1, 251, 255]);
        let weight = read.tensor("linear.weight").unwrap();
        assert_eq!((weight.dtype(), weight.shape()), (Dtype::I8, &[2, 3][..]));
        assert_eq!(weight.data(), [1, 254, 3, 7, 0, 248]);
        let (_, about) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let about = &about.metadata().as_ref().unwrap()["lowbit-int"];
        let about: Value = serde_json::from_str(about).unwrap();
        assert_eq!(about["parameters"]["linear.weight"]["exponent"], -3);
        assert_eq!(about["activations"]["requantize"]["zero_point"], 1);
    }
}
