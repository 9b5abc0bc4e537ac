//! Operators against PyTorch's, in integers (`tests/reference/operators.py`).

use lowbit_int::ops::{
    AveragePool, Convolution, Embedding, Linear, MaxPool, Sliding, Weights, Windows,
};
use lowbit_int::{Graph, Numbers, Operator, interpret};
use serde::Deserialize;

#[derive(Deserialize)]
struct Integers {
    shape: Vec<usize>,
    values: Vec<i64>,
}

#[derive(Deserialize)]
struct Case {
    op: String,
    input: Integers,
    output: Integers,
    weight: Option<Integers>,
    bias: Option<Integers>,
    #[serde(default)]
    kernel: Vec<usize>,
    #[serde(default)]
    stride: Vec<usize>,
    #[serde(default)]
    padding: Vec<usize>,
    #[serde(default)]
    dilation: Vec<usize>,
    #[serde(default)]
    output_padding: Vec<usize>,
    #[serde(default)]
    size: Vec<usize>,
    groups: Option<usize>,
    include: Option<bool>,
    scale: Option<u64>,
}

impl Case {
    fn weights(&self) -> Weights {
        let weight = self.weight.as_ref().unwrap();
        Weights {
            shape: weight.shape.clone(),
            numbers: Numbers::power_of_two(8, true, -3).unwrap(),
            values: weight.values.clone(),
        }
    }

    fn sliding(&self) -> Sliding {
        let mut sliding = Sliding::new(self.stride.len());
        sliding.stride.clone_from(&self.stride);
        sliding.padding = self.padding.iter().map(|&p| [p, p]).collect();
        if !self.dilation.is_empty() {
            sliding.dilation.clone_from(&self.dilation);
        }
        sliding
    }

    fn windows(&self) -> Windows {
        if self.size.is_empty() {
            Windows::Sliding {
                kernel: self.kernel.clone(),
                sliding: self.sliding(),
            }
        } else {
            Windows::Adaptive {
                output: self.size.clone(),
            }
        }
    }

    fn operator(&self) -> Operator {
        let bias = || self.bias.as_ref().map(|bias| bias.values.clone());
        let convolution = || {
            let convolution = Convolution::new(self.weights(), bias());
            convolution
                .with_sliding(self.sliding())
                .with_groups(self.groups.unwrap())
        };
        match self.op.as_str() {
            "conv" => convolution().into(),
            "conv_transpose" => convolution()
                .with_transposed(self.output_padding.clone())
                .into(),
            "linear" => Linear {
                weights: self.weights(),
                bias: bias(),
            }
            .into(),
            "max_pool" | "adaptive_max_pool" => MaxPool {
                windows: self.windows(),
            }
            .into(),
            "avg_pool" | "adaptive_avg_pool" => AveragePool {
                windows: self.windows(),
                include_padding: self.include.unwrap_or(false),
            }
            .into(),
            "embedding" => Embedding {
                weights: self.weights(),
            }
            .into(),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn operators_are_those_of_pytorch() {
    let mut count = 0;
    for line in include_str!("../reference/operators.jsonl").lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        let mut graph = Graph::new();
        let unsigned = case.op == "embedding";
        let numbers = Numbers::power_of_two(if unsigned { 2 } else { 8 }, !unsigned, 0).unwrap();
        let x = graph.input("x", &case.input.shape, numbers).unwrap();
        let y = graph.push("y", case.operator(), &[x]).unwrap();
        graph.output(y).unwrap();
        assert_eq!(graph.tensor(y).shape(), case.output.shape, "{line}");
        let outputs = interpret(&graph, &[&case.input.values]).unwrap();
        assert_eq!(outputs[0], case.output.values, "{line}");
        if let Some(scale) = case.scale {
            assert_eq!(graph.tensor(y).numbers().scale(), 1.0 / scale as f64);
        }
        count += 1;
    }
    assert_eq!(count, 21);
}
