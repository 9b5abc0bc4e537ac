//! Rows of tables.

use super::quantizer::storage;
use super::{Stored, Writer};
use crate::graph::Node;
use crate::numbers::Numbers;
use crate::onnx::model::Attribute;
use crate::onnx::proto::DataType;
use crate::onnx::steps::power;
use crate::onnx::{Dialect, ExportError};
use crate::ops::{Embedding, LookUp, Weights};

impl Writer<'_> {
    pub(super) fn look_up(&mut self, node: &Node, look_up: &LookUp) -> Result<(), ExportError> {
        let input = self.graph.tensor(node.inputs()[0]).numbers();
        let table = by_wrapped_index(look_up, input);
        self.gather(node, look_up.numbers, &[table.len()], &table)
    }

    pub(super) fn embedding(
        &mut self,
        node: &Node,
        embedding: &Embedding,
    ) -> Result<(), ExportError> {
        let Weights {
            shape,
            numbers,
            values,
        } = &embedding.weights;
        self.gather(node, *numbers, shape, values)
    }

    /// Rows of a table by the input's integers, which wrap where they are below zero.
    fn gather(
        &mut self,
        node: &Node,
        numbers: Numbers,
        shape: &[usize],
        table: &[i64],
    ) -> Result<(), ExportError> {
        let (name, id) = (node.name(), node.output());
        let integers = self.integers(node.inputs()[0])?;
        let cast = vec![Attribute::Int("to", DataType::Int32 as i64)];
        let index = self.model.node("Cast", name, &[&integers], cast);
        let step = power(self.exponents[id.0]);
        if self.dialect == Dialect::Qonnx {
            let real = |&v: &i64| (v - numbers.zero_point()) as f32 * step;
            let values: Vec<f32> = table.iter().map(real).collect();
            let table = self.model.floats(&format!("{name}/table"), shape, &values);
            let value = self.model.main("Gather", name, &[&table, &index], vec![]);
            self.values[id.0].float = Some(value);
            return Ok(());
        }
        let Some(data_type) = storage(numbers) else {
            let bits = numbers.bits();
            return Err(ExportError::new(
                name,
                format!("a table of {bits} bits, of at most 16"),
            ));
        };
        let table = self
            .model
            .integers(&format!("{name}/table"), data_type, shape, table);
        let zero = numbers.zero_point();
        let stored = Stored {
            integers: self.model.main("Gather", name, &[&table, &index], vec![]),
            scale: self.model.floats(&format!("{name}/scale"), &[], &[step]),
            zero_point: self
                .model
                .integers(&format!("{name}/zero_point"), data_type, &[], &[zero]),
        };
        self.values[id.0].stored = Some(stored);
        Ok(())
    }
}

/// A table whose index may be below zero: then it counts from the end, as `Gather` has it.
fn by_wrapped_index(look_up: &LookUp, input: Numbers) -> Vec<i64> {
    let mut table = look_up.table.clone();
    table.rotate_left(input.least().unsigned_abs() as usize);
    table
}
