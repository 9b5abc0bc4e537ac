//! Sums and concatenations of branches.

use burn_ir::TensorIr;
use lowbit_int::Numbers;
use lowbit_int::ops::{Add, Concat, Convolution, Weights};

use super::line::{Kind, Line, Value};
use super::lower::{Lowering, no_grid, stem};
use super::product::FLOAT;
use crate::Error;
use crate::ops::OperandQuantization;
use crate::ops::exponent;

/// An operation of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
}

impl Lowering<'_> {
    /// The sum of two tensors, each quantized.
    pub(super) fn add(
        &mut self,
        quantizations: &[OperandQuantization; 2],
        inputs: &[TensorIr],
    ) -> Result<Value, Error> {
        let (of_left, of_right) = inputs[2..].split_at(quantizations[0].parameters());
        let mut lines = Vec::new();
        let mut place = None;
        for (i, parameters) in [of_left, of_right].into_iter().enumerate() {
            let value = self.data(&inputs[i])?;
            let quantized = self.quantized(&quantizations[i], parameters, &value)?;
            let value = self.quantize(value, &quantized)?;
            let line = self.line(&value)?;
            lines.push(self.whole(line, &stem(&value, "add"))?);
            place = place.or(value.place);
        }
        let kind = Kind::Line(lines[0].clone());
        let place = Value {
            kind,
            place,
            history: None,
        };
        let [left, right] = [&lines[0], &lines[1]];
        let one = |line: &Line| match line.scale[..] {
            [scale] if scale > 0.0 => Ok(scale),
            _ => Err(no_grid(&place, "is not quantized")),
        };
        let (a, b) = (one(left)?, one(right)?);
        let (least, ratio) = (a.min(b), a.max(b) / a.min(b));
        let times = (ratio.fract() == 0.0 && ratio < 2f64.powi(31)).then_some(ratio as i64);
        let alike = exponent(ratio).is_some();
        let Some(times) = times.filter(|_| alike) else {
            let text = format!("adds steps of {a} and {b}, whose ratio is no power of two");
            return Err(no_grid(&place, &text));
        };
        let multipliers = if a >= b { [times, 1] } else { [1, times] };
        let name = stem(&place, "add");
        let tensor = self.push(&name, Add { multipliers }, &[left.tensor, right.tensor])?;
        let mut line = Line::new(tensor, least);
        let count = left.offset.len().max(right.offset.len());
        let offsets = (0..count).map(|c| left.of(c).1 + right.of(c).1);
        line.offset = offsets.collect();
        Ok(Value::made(Kind::Line(line), place.reader()))
    }

    /// An operation with a constant that has one number, or one for each channel; the sum of two tensors
    /// where neither is constant.
    pub(super) fn arithmetic(
        &mut self,
        operation: Arithmetic,
        left: &TensorIr,
        right: &TensorIr,
    ) -> Result<Value, Error> {
        let constant = [left, right].map(|t| self.constants.has(t.id));
        let (x, of) = match constant {
            [false, true] => (left, right),
            [true, false] => (right, left),
            _ if operation == Arithmetic::Add => {
                return self.add(&FLOAT, &[left.clone(), right.clone()]);
            }
            _ => {
                let value = self.data(left)?;
                let text = format!("operation {operation:?} of two tensors has no integers here");
                return Err(no_grid(&value, &text));
            }
        };
        let value = self.data(x)?;
        let numbers = self.constants.numbers(of).filter(|n| {
            let alike = n.shape.len() == x.shape.len();
            let others = n.shape.iter().enumerate().filter(|(d, _)| *d != 1);
            n.values.len() == 1 || alike && others.map(|(_, n)| n).all(|&n| n == 1)
        });
        let Some(numbers) = numbers else {
            let text = "meets a constant that is not one for each channel";
            return Err(no_grid(&value, text));
        };
        if operation == Arithmetic::Add {
            self.forget_output(&value);
        }
        let c: Vec<f64> = numbers.values.into_iter().map(f64::from).collect();
        self.with_constant(operation, value, &c, constant[0])
    }

    /// The operation with a constant on one side.
    pub(super) fn with_constant(
        &mut self,
        operation: Arithmetic,
        value: Value,
        c: &[f64],
        constant_first: bool,
    ) -> Result<Value, Error> {
        let line = self.line(&value)?;
        let line = self.whole(line, &stem(&value, "line"))?;
        let each = |f: fn(f64) -> f64| c.iter().map(|&c| f(c)).collect::<Vec<f64>>();
        let line = match (operation, constant_first) {
            (Arithmetic::Add, _) => line.then(&[1.0], c),
            (Arithmetic::Sub, false) => line.then(&[1.0], &each(|c| -c)),
            (Arithmetic::Sub, true) => line.then(&[-1.0], c),
            (Arithmetic::Mul, _) => line.then(c, &[0.0]),
            (Arithmetic::Div, false) => line.then(&each(|c| 1.0 / c), &[0.0]),
            (Arithmetic::Div, true) => return Err(no_grid(&value, "is divided by")),
        };
        Ok(Value {
            kind: Kind::Line(line),
            ..value
        })
    }

    /// Branches and constant zeros side by side in the channels.
    pub(super) fn concat(&mut self, tensors: &[TensorIr], dim: usize) -> Result<Value, Error> {
        let of_input = tensors.iter().filter(|t| !self.constants.has(t.id));
        let values: Vec<Value> = of_input.map(|t| self.data(t)).collect::<Result<_, _>>()?;
        let place = values[0].clone();
        if dim != 1 {
            let text = format!("is joined along dimension {dim}, expected 1");
            return Err(no_grid(&place, &text));
        }
        let mut lines = Vec::new();
        for value in &values {
            let line = self.line(value)?;
            lines.push(self.whole(line, &stem(value, "concat"))?);
        }
        let first = lines[0].clone();
        let numbers = self.graph.tensor(first.tensor).numbers();
        let alike = lines.iter().all(|line| {
            line.step().is_some()
                && line.step() == first.step()
                && self.graph.tensor(line.tensor).numbers() == numbers
        });
        if !alike {
            return Err(no_grid(&place, "is joined with what is on another grid"));
        }
        let zeros = tensors.iter().filter(|t| self.constants.has(t.id));
        for zero in zeros.clone() {
            let numbers = self.constants.numbers(zero);
            if numbers.is_none_or(|n| n.values.iter().any(|&v| v != 0.0)) {
                return Err(no_grid(&place, "is joined with a constant"));
            }
        }
        let tensor = match (zeros.count(), &lines[..]) {
            (0, _) => {
                let all: Vec<_> = lines.iter().map(|line| line.tensor).collect();
                self.push(&stem(&place, "concat"), Concat { axis: 0 }, &all)?
            }
            (_, [only]) => self.padded(only, tensors, &place)?,
            _ => return Err(no_grid(&place, "is joined with zeros and other tensors")),
        };
        Ok(Value::made(
            Kind::Line(Line::new(tensor, first.scale[0])),
            place.reader(),
        ))
    }

    /// A tensor with channels of zeros before and behind: the convolution with ones where a channel
    /// goes.
    fn padded(
        &mut self,
        line: &Line,
        tensors: &[TensorIr],
        place: &Value,
    ) -> Result<lowbit_int::TensorId, Error> {
        let own = |t: &&TensorIr| !self.constants.has(t.id);
        let before = tensors
            .iter()
            .take_while(|t| !own(t))
            .map(|t| t.shape[1])
            .sum::<usize>();
        let channels: usize = tensors.iter().map(|t| t.shape[1]).sum();
        let shape = self.graph.tensor(line.tensor).shape();
        let (inputs, dimensions) = (shape[0], shape.len() - 1);
        let weight = |i: usize| i64::from(i / inputs == before + i % inputs);
        let mut weight_shape = vec![channels, inputs];
        weight_shape.extend(std::iter::repeat_n(1, dimensions));
        let numbers = Numbers::power_of_two(1, false, 0);
        let weights = Weights {
            shape: weight_shape,
            numbers: numbers.map_err(|reason| no_grid(place, &reason))?,
            values: (0..channels * inputs).map(weight).collect(),
        };
        self.push("shortcut", Convolution::new(weights, None), &[line.tensor])
    }
}
