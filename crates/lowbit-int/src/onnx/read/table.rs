//! Rows of tables, and elements of windows.

use super::constant::{Constant, Values, integer};
use super::elementwise::Part;
use super::held::{Held, Kind};
use super::quantizer::Quantizer;
use super::{Known, Reader, numbers};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;
use crate::ops::{Embedding, LookUp, Weights};
use crate::tensor::Interval;

/// A table's integers, and what the file makes of its rows.
struct Entries {
    values: Vec<i64>,
    numbers: Numbers,
    kind: Kind,
    /// Of real numbers.
    scale: f64,
    /// Of integers.
    shift: i64,
}

impl Entries {
    /// What the file has of a tensor of them.
    fn held(&self, id: TensorId) -> Held {
        match self.kind {
            Kind::Float => Held::real(id, vec![self.scale], true),
            kind => Held::integers(id, kind, self.shift),
        }
    }

    /// Real numbers in a step.
    fn real(values: Vec<i64>, scale: f64) -> Result<Self, String> {
        let least = values.iter().copied().min().unwrap_or(0).min(0);
        let greatest = values.iter().copied().max().unwrap_or(0).max(1);
        let bits = Interval { least, greatest }.bits();
        let numbers = match least {
            0 => numbers(bits - 1, false, scale, 0),
            _ => numbers(bits, true, scale, 0),
        };
        Ok(Self {
            values,
            numbers: numbers?,
            kind: Kind::Float,
            scale,
            shift: 0,
        })
    }
}

impl Reader<'_> {
    pub(super) fn gather(&mut self, node: &NodeProto) -> Result<Known, String> {
        let axis = integer(node, "axis").unwrap_or(0);
        match self.get(node, 0)?.clone() {
            Known::Constant(table) if axis == 0 => self.rows(node, table),
            Known::Held(held) => self.windows(node, held, axis),
            _ => Err(format!(
                "{} is neither a table nor quantized",
                node.input[0]
            )),
        }
    }

    /// Elements of windows: indices `[windows, elements]` of an axis, of which a window may have one
    /// several times.
    fn windows(&mut self, node: &NodeProto, held: Held, axis: i64) -> Result<Known, String> {
        let indices = self.constant(node, 1)?;
        let shape = self.graph.tensor(held.id).shape();
        let dimension = usize::try_from(axis)
            .ok()
            .and_then(|axis| axis.checked_sub(1));
        let size = dimension.and_then(|d| shape.get(d)).copied();
        let (Some(dimension @ 1..), Some(size), Some(all), [_, most]) =
            (dimension, size, indices.integers(), &indices.shape[..])
        else {
            return Err("indices are not those of windows of an image".into());
        };
        if !held.steps.is_empty() || *most == 0 || all.iter().any(|i| !(0..size as i64).contains(i))
        {
            return Err("indices are not those of windows of an image".into());
        }
        let window = |window: &[i64]| {
            let mut window: Vec<usize> = window.iter().map(|&i| i as usize).collect();
            window.dedup();
            window
        };
        let elements = all.chunks_exact(*most).map(window).collect();
        Ok(Known::Part(Part::Windows(held, dimension, elements)))
    }

    /// Rows of a table by integers, which count from its end where they are below zero.
    fn rows(&mut self, node: &NodeProto, table: Constant) -> Result<Known, String> {
        let index = self.held(node, 1)?;
        if index.kind == Kind::Float || !index.steps.is_empty() {
            return Err("an index is no integer".into());
        }
        let count = *table.shape.first().ok_or("a table has no rows")? as i64;
        let tensor = self.graph.tensor(index.id);
        let given = tensor.numbers();
        let (zero, interval) = (given.zero_point(), tensor.interval());
        let row = |k: i64| k - zero + index.shift;
        let [least, greatest] = [row(interval.least), row(interval.greatest)];
        if least < -count || greatest >= count {
            return Err(format!("rows {least} to {greatest} of a table of {count}"));
        }
        let wrapped = |k: i64| row(k).clamp(least, greatest).rem_euclid(count) as usize;
        let entries = self.entries(node, &table)?;
        let (values, numbers) = (&entries.values, entries.numbers);
        let id = match table.shape.len() {
            1 => {
                if given.bits() > 16 {
                    return Err("a table's index has more than 16 bits".into());
                }
                let all = given.least()..=given.greatest();
                let table = all.map(|k| values[wrapped(k)]).collect();
                self.push(node, LookUp { table, numbers }, &[index.id])?
            }
            2 if interval.least >= 0 => {
                let columns = table.shape[1];
                let all = 0..=interval.greatest;
                let values = all.flat_map(|k| &values[wrapped(k) * columns..][..columns]);
                let weights = Weights {
                    shape: vec![interval.greatest as usize + 1, columns],
                    numbers,
                    values: values.copied().collect(),
                };
                self.push(node, Embedding { weights }, &[index.id])?
            }
            _ => return Err("a table is a row or a matrix".into()),
        };
        Ok(Known::Held(entries.held(id)))
    }

    /// A table's integers, and how the file has them: as real numbers, or as integers.
    fn entries(&self, node: &NodeProto, table: &Constant) -> Result<Entries, String> {
        const NONE: &str = "a table's numbers are no multiples of a step that they have";
        let quantized = table.clone().quantized().ok_or(NONE)?;
        let Values::Integers(values) = quantized.values else {
            return Err(NONE.into());
        };
        if table.is_real {
            let [scale] = quantized.scale[..] else {
                return Err("a table has a scale for each row".into());
            };
            return Entries::real(values, scale);
        }
        let (bits, signed) = quantized.width.ok_or("a table has no width")?;
        let output = node.output.first().map_or("", String::as_str);
        // Tables of rows have no zero but 0.
        let zero = match table.shape.len() {
            1 => self.zero_after(output, 0),
            _ => self.zero_after(output, 0).filter(|&zero| zero == 128),
        };
        let quantizer = Quantizer {
            scale: 1.0,
            divisor: 1.0,
            zero_point: zero.unwrap_or(0),
            bits,
            signed,
            ends: Kind::Integer(bits, signed).ends(),
            qonnx: None,
        };
        let found = quantizer.numbers(quantizer.ends);
        let (found, raised) = found.ok_or("a table's zero point is beyond its type")?;
        // What its numbers are is not in the file; an output says it.
        let zero = found.zero_point();
        let numbers = Numbers::affine(found.bits(), found.signed(), 1.0, zero)?;
        Ok(Entries {
            values: values.iter().map(|v| v - raised).collect(),
            numbers,
            kind: quantizer.kind(),
            scale: 1.0,
            shift: zero + raised,
        })
    }

    /// From which integer a reader of a value counts.
    fn zero_after(&self, value: &str, depth: usize) -> Option<i64> {
        let readers = self.readers.get(value)?;
        let mut found = readers.iter().filter_map(|&at| {
            let node = &self.file.node[at];
            let output = node.output.first()?;
            let zero = |at: usize| self.zero_point(node, at).ok();
            let place = node.input.iter().position(|input| input == value)?;
            match node.op_type() {
                _ if depth > 8 => None,
                "DequantizeLinear" | "ConvInteger" | "MatMulInteger" | "QLinearConv" => zero(2),
                "Clip" | "MaxPool" | "Flatten" | "Identity" | "ReduceMax" | "Concat" => {
                    self.zero_after(output, depth + 1)
                }
                "Gather" if place == 0 => self.zero_after(output, depth + 1),
                "Cast" => self.zero_of_difference(output),
                _ => None,
            }
        });
        found.next()
    }

    /// What is subtracted from integers that are no index.
    fn zero_of_difference(&self, value: &str) -> Option<i64> {
        let readers = self.readers.get(value)?;
        let mut found = readers.iter().filter_map(|&at| {
            let node = &self.file.node[at];
            let output = node.output.first()?;
            let readers = self.readers.get(output.as_str())?.iter();
            let mut readers = readers.map(|&at| self.file.node[at].op_type());
            let is_index = readers.any(|op| op == "Gather");
            let is_difference = node.op_type() == "Sub" && !is_index;
            is_difference.then(|| self.scalar(node, 1).ok()).flatten()
        });
        found.next().map(|zero| zero as i64)
    }
}
