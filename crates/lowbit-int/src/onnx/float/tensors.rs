//! Operators of tensors as they are: sums of two, limits, one after the other.

use super::Writer;
use crate::graph::Node;
use crate::onnx::model::Attribute;
use crate::onnx::steps::power;
use crate::ops::{Add, Clamp, Concat};

impl Writer<'_> {
    pub(super) fn add(&mut self, node: &Node, add: &Add) -> String {
        let to = self.exponents[node.output().0];
        let name = node.name();
        let mut operands = Vec::new();
        let mut factors = Vec::new();
        for (&id, multiplier) in node.inputs().iter().zip(add.multipliers) {
            let factor = multiplier as f64 * f64::from(to - self.exponents[id.0]).exp2();
            operands.push((self.float(id), factor as f32));
        }
        // A difference needs no factor.
        let op = match [operands[0].1, operands[1].1] {
            [_, -1.0] => "Sub",
            [-1.0, _] => {
                operands.reverse();
                "Sub"
            }
            _ => "Add",
        };
        if op == "Sub" {
            operands[1].1 = 1.0;
        }
        for (value, factor) in operands {
            factors.push(self.times(name, &value, &[factor]));
        }
        self.model
            .main(op, name, &[&factors[0], &factors[1]], vec![])
    }

    pub(super) fn clamp(&mut self, node: &Node, clamp: &Clamp) -> String {
        let id = node.inputs()[0];
        let (name, zero) = (node.name(), self.graph.tensor(id).numbers().zero_point());
        let step = power(self.exponents[id.0]);
        let end = |k: i64| (k - zero) as f32 * step;
        let least = self
            .model
            .floats(&format!("{name}/least"), &[], &[end(clamp.least)]);
        let greatest = self
            .model
            .floats(&format!("{name}/greatest"), &[], &[end(clamp.greatest)]);
        let x = self.float(id);
        self.model
            .main("Clip", name, &[&x, &least, &greatest], vec![])
    }

    pub(super) fn concat(&mut self, node: &Node, concat: &Concat) -> String {
        let to = self.exponents[node.output().0];
        let mut inputs = Vec::new();
        for &id in node.inputs() {
            let value = self.float(id);
            inputs.push(self.times(node.name(), &value, &[power(to - self.exponents[id.0])]));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let axis = vec![Attribute::Int("axis", concat.axis as i64 + 1)];
        self.model.main("Concat", node.name(), &inputs, axis)
    }
}
