//! Sums brought to fewer bits: a ratio, a rounding, a quantizer.

use super::quantizer::{FUSED_CLIP, Target, is_narrow, storage, too_wide};
use super::{Plans, Stored, Writer};
use crate::graph::{Graph, Node};
use crate::onnx::plan::Planned;
use crate::onnx::proto::DataType;
use crate::onnx::requantize::Form;
use crate::onnx::shift::shifted;
use crate::onnx::steps::power;
use crate::onnx::{Dialect, ExportError, Options};
use crate::ops::{Operator, Requantize, Rounding};

/// A plan for every requantization.
pub(super) fn plans(graph: &Graph, exponents: &[i32], options: Options) -> Plans {
    let nodes = graph.nodes().iter();
    let plans = nodes.filter_map(|node| match node.operator() {
        Operator::Requantize(requantize) => {
            let planned = Planned {
                graph,
                node,
                requantize,
                exponents,
            };
            Some((node.output(), planned.plan(options)))
        }
        _ => None,
    });
    plans.collect()
}

impl Writer<'_> {
    pub(super) fn requantize(
        &mut self,
        node: &Node,
        requantize: &Requantize,
    ) -> Result<(), ExportError> {
        let (name, id) = (node.name(), node.output());
        let plan = self.plans[&id].clone();
        let rank = self.graph.tensor(id).shape().len();
        let mut value = self.float(node.inputs()[0]);
        if plan.form == Form::Integers {
            return self.by_integers(node, requantize, &value);
        }
        value = self.with_constant("Mul", name, &value, &plan.ratio, rank, 1.0);
        value = self.with_constant("Add", name, &value, &plan.offset, rank, 0.0);
        let (numbers, exponent) = (requantize.numbers, self.exponents[id.0]);
        let mut clip = true;
        if let Form::Explicit(rounding) = plan.form {
            value = self.round(name, &value, rounding);
            value = self.clip(name, &value, numbers, 1.0);
            value = self.times(name, &value, &[power(exponent)]);
            clip = false;
        } else if self.dialect == Dialect::Qdq && is_narrow(numbers) && power(exponent) < FUSED_CLIP
        {
            value = self.times(name, &value, &[power(-exponent)]);
            value = self.clip(name, &value, numbers, 1.0);
            value = self.times(name, &value, &[power(exponent)]);
            clip = false;
        }
        if self.dialect == Dialect::Qonnx {
            let rounding = match plan.form {
                Form::ZeroFirst(rounding) => rounding,
                _ => Rounding::HalfEven,
            };
            let scale = [power(exponent)];
            let value = self.quant(name, &value, numbers, &scale, &[], rounding)?;
            self.values[id.0].float = Some(value);
            return Ok(());
        }
        let target = Target {
            numbers,
            exponent,
            scale: None,
            clip,
        };
        let (stored, _) = self.quantize(name, &value, &target, true)?;
        self.values[id.0].stored = Some(stored);
        Ok(())
    }

    /// A requantization that no float can be trusted with.
    pub(super) fn by_integers(
        &mut self,
        node: &Node,
        requantize: &Requantize,
        value: &str,
    ) -> Result<(), ExportError> {
        let (name, id, numbers) = (node.name(), node.output(), requantize.numbers);
        let Some(data_type) = storage(numbers) else {
            return Err(too_wide(name, numbers, self.dialect));
        };
        let rank = self.graph.tensor(id).shape().len();
        let steps = power(-self.exponents[node.inputs()[0].0]);
        let whole = self.times(name, value, &[steps]);
        let whole = self.model.cast(name, &whole, DataType::Int64);
        let integers = shifted(&mut self.model, name, &whole, requantize, rank, 0);
        let integers = self.model.cast(name, &integers, data_type);
        let step = power(self.exponents[id.0]);
        let zero = numbers.zero_point();
        self.values[id.0].stored = Some(Stored {
            integers,
            scale: self.model.floats(&format!("{name}/scale"), &[], &[step]),
            zero_point: self
                .model
                .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]),
        });
        Ok(())
    }

    /// Rounds to whole numbers.
    fn round(&mut self, name: &str, value: &str, rounding: Rounding) -> String {
        match rounding {
            Rounding::HalfEven => self.model.node("Round", name, &[value], vec![]),
            Rounding::Floor => self.model.node("Floor", name, &[value], vec![]),
            Rounding::HalfUp => {
                let value = self.plus(name, value, &[0.5]);
                self.model.node("Floor", name, &[&value], vec![])
            }
            Rounding::HalfAway => {
                let sign = self.model.node("Sign", name, &[value], vec![]);
                let magnitude = self.model.node("Abs", name, &[value], vec![]);
                let magnitude = self.plus(name, &magnitude, &[0.5]);
                let magnitude = self.model.node("Floor", name, &[&magnitude], vec![]);
                self.model.node("Mul", name, &[&sign, &magnitude], vec![])
            }
        }
    }
}
