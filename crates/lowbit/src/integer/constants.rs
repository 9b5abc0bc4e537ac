//! What a forward computes of parameters alone, with the steps that quantized ones are multiples of.

use std::collections::HashMap;

use burn::backend::{DispatchTensor, TensorMetadata};
use burn::tensor::{Device, Tensor, TensorData};
use burn_ir::{OperationIr, TensorId, TensorIr};

use super::exhaustive::Step;
use crate::Error;
use crate::capture::of_any_rank;
use crate::capture::replay::{NotReplayed, Tensors};
use crate::ops::{Meaning, OperandQuantization, ValueGrid};

/// A constant's numbers in row-major order.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// A constant whose numbers are integers times steps.
#[derive(Debug, Clone)]
pub(super) struct Integers {
    pub(super) shape: Vec<usize>,
    pub(super) integers: Vec<i64>,
    /// One for each integer.
    pub(super) steps: Vec<f64>,
}

/// The constants of a recording.
pub(super) struct Constants<'a> {
    tensors: Tensors<'a>,
    /// For each number of a constant the index of its step.
    of_step: HashMap<TensorId, DispatchTensor>,
    steps: Vec<f64>,
}

/// A tensor's numbers.
pub(super) fn numbers(x: DispatchTensor) -> Numbers {
    let shape = x.shape().iter().copied().collect();
    let data: TensorData = of_any_rank!(x, x.into_data());
    let values = match data.as_slice::<f32>() {
        Ok(values) => values.to_vec(),
        Err(_) => data.iter::<f32>().collect(),
    };
    Numbers { shape, values }
}

/// A tensor quantized.
pub(super) fn quantized(
    x: DispatchTensor,
    quantization: &OperandQuantization,
    parameters: &[Vec<f32>],
) -> DispatchTensor {
    let device = Device::flex();
    let parameters = parameters.iter();
    let parameters = parameters.map(|p| Tensor::<1>::from_floats(&p[..], &device));
    let parameters = parameters.collect();
    of_any_rank!(x, quantization.clone().apply(x, parameters).into_dispatch())
}

/// Other numbers in the shape of a tensor.
fn like(x: &DispatchTensor, values: Vec<f32>) -> DispatchTensor {
    let x = x.clone();
    of_any_rank!(x, with_values(x, values).into_dispatch())
}

fn with_values<const D: usize>(x: Tensor<D>, values: Vec<f32>) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, x.dims()), &x.device())
}

impl<'a> Constants<'a> {
    pub(super) fn new(tensors: Tensors<'a>) -> Self {
        Self {
            tensors,
            of_step: HashMap::new(),
            steps: Vec::new(),
        }
    }

    /// Whether a tensor is one of them.
    pub(super) fn has(&self, id: TensorId) -> bool {
        self.tensors.get(id).is_some()
    }

    /// The numbers of one.
    pub(super) fn numbers(&self, tensor: &TensorIr) -> Option<Numbers> {
        Some(numbers(self.tensors.get(tensor.id)?.clone()))
    }

    /// The integers of one, quantized as an operator reads it.
    pub(super) fn integers(
        &self,
        tensor: &TensorIr,
        quantization: &OperandQuantization,
        parameters: &[Vec<f32>],
    ) -> Option<Integers> {
        let x = self.tensors.get(tensor.id)?.clone();
        if quantization.is_float() {
            let of_step = numbers(self.of_step.get(&tensor.id)?.clone()).values;
            let steps = of_step.iter().map(|&i| self.steps[i as usize]);
            return Some(Integers::of(numbers(x), steps.collect()));
        }
        let grids = quantization.grids(parameters)?;
        let values = numbers(quantized(x, quantization, parameters));
        let steps = step_of_each(&values.shape, grids);
        Some(Integers::of(values, steps))
    }

    /// Runs an operation that reads constants alone.
    pub(super) fn run(
        &mut self,
        operation: &OperationIr,
        meaning: Option<&Meaning>,
    ) -> Result<(), Error> {
        let inputs: Vec<TensorIr> = operation.inputs().cloned().collect();
        let output = operation.outputs().next().cloned();
        let moves = match meaning {
            Some(Meaning::Mark(_) | Meaning::Same) => true,
            _ => matches!(operation, OperationIr::BaseFloat(_)),
        };
        let moved = match (&output, moves) {
            (Some(output), true) => self.moved(operation, &inputs, output)?,
            _ => None,
        };
        let grids = match meaning {
            Some(Meaning::Quantized(quantization)) => {
                let parameters = self.parameters(&inputs[1..]);
                parameters.and_then(|parameters| quantization.grids(&parameters))
            }
            _ => None,
        };
        self.tensors.run(operation).map_err(not_replayed)?;
        let Some(made) = output.and_then(|o| Some((o.id, self.tensors.get(o.id)?.clone()))) else {
            return Ok(());
        };
        let (id, value) = made;
        let of_step = match (moved, meaning) {
            (Some(moved), _) => Some(moved),
            (None, Some(&Meaning::DorefaWeight(bits))) => {
                let values = numbers(value.clone());
                let largest = values
                    .values
                    .iter()
                    .fold(0.0f32, |most, v| most.max(v.abs()));
                let steps = ((1u64 << bits) - 1) as f64;
                let grid = ValueGrid::odd(f64::from(largest) / steps, steps as i64);
                Some(self.with_steps(&value, (vec![grid], 0)))
            }
            (None, _) => grids.map(|grids| self.with_steps(&value, grids)),
        };
        match of_step {
            Some(of_step) => self.of_step.insert(id, of_step),
            None => self.of_step.remove(&id),
        };
        Ok(())
    }

    /// Values of constants that are parameters of a quantization.
    pub(super) fn parameters(&self, tensors: &[TensorIr]) -> Option<Vec<Vec<f32>>> {
        let values = tensors.iter().map(|t| self.numbers(t).map(|n| n.values));
        values.collect()
    }

    fn with_steps(
        &mut self,
        value: &DispatchTensor,
        (grids, axis): (Vec<ValueGrid>, usize),
    ) -> DispatchTensor {
        let shape: Vec<usize> = value.shape().iter().copied().collect();
        let first = self.steps.len();
        self.steps.extend(grids.iter().map(|grid| grid.step));
        let indices = by_axis(&shape, grids.len(), axis);
        like(value, indices.map(|i| (first + i) as f32).collect())
    }

    /// What operations make of another tensor in place of one.
    pub(super) fn run_on(
        &mut self,
        source: &TensorIr,
        value: DispatchTensor,
        steps: &[Step],
        result: TensorId,
    ) -> Result<DispatchTensor, Error> {
        let operations = || {
            steps.iter().filter_map(|step| match step {
                Step::Run(operation) => Some(&**operation),
                Step::Moved(..) => None,
            })
        };
        let read = operations().flat_map(OperationIr::inputs);
        let kept: Vec<_> = read.map(|t| (t, self.tensors.get(t.id).cloned())).collect();
        self.tensors.write(source, value);
        for step in steps {
            match step {
                Step::Run(operation) => self.tensors.run(operation).map_err(not_replayed)?,
                Step::Moved(from, to) => {
                    if let Some(moved) = self.tensors.get(*from).cloned() {
                        self.tensors.write(to, moved);
                    }
                }
            }
        }
        let made = self.tensors.get(result).cloned();
        self.tensors.forget(source.id);
        for step in steps {
            match step {
                Step::Run(operation) => operation
                    .outputs()
                    .for_each(|output| self.tensors.forget(output.id)),
                Step::Moved(_, to) => self.tensors.forget(to.id),
            }
        }
        for (tensor, value) in kept {
            if let Some(value) = value {
                self.tensors.write(tensor, value);
            }
        }
        made.ok_or_else(|| Error::capture("the model", "has an operation without a result"))
    }

    /// Where an operation that only moves numbers takes the indices of their steps.
    fn moved(
        &mut self,
        operation: &OperationIr,
        inputs: &[TensorIr],
        output: &TensorIr,
    ) -> Result<Option<DispatchTensor>, Error> {
        let all = inputs.iter().all(|t| self.of_step.contains_key(&t.id));
        if inputs.is_empty() || !all {
            return Ok(None);
        }
        let values: Vec<_> = inputs
            .iter()
            .map(|t| (t, self.tensors.get(t.id).cloned()))
            .collect();
        for tensor in inputs {
            let of_step = self.of_step[&tensor.id].clone();
            self.tensors.write(tensor, of_step);
        }
        self.tensors.run(operation).map_err(not_replayed)?;
        let moved = self.tensors.get(output.id).cloned();
        for (tensor, value) in values {
            if let Some(value) = value {
                self.tensors.write(tensor, value);
            }
        }
        Ok(moved)
    }
}

fn not_replayed(NotReplayed(name): NotReplayed) -> Error {
    Error::capture(name, "is no operation that can be run again")
}

/// The index along an axis of each number, or 0 where the axis has none of its own.
fn by_axis(shape: &[usize], count: usize, axis: usize) -> impl Iterator<Item = usize> {
    let inner: usize = shape.iter().skip(axis + 1).product();
    let all: usize = shape.iter().product();
    (0..all).map(move |i| {
        if count == 1 {
            0
        } else {
            i / inner.max(1) % count
        }
    })
}

fn step_of_each(shape: &[usize], (grids, axis): (Vec<ValueGrid>, usize)) -> Vec<f64> {
    let indices = by_axis(shape, grids.len(), axis);
    indices.map(|i| grids[i].step).collect()
}

impl Integers {
    fn of(numbers: Numbers, steps: Vec<f64>) -> Self {
        let values = numbers.values.iter().zip(&steps);
        let integer = |(&v, &step): (&f32, &f64)| match step {
            0.0 => 0,
            _ => (f64::from(v) / step).round() as i64,
        };
        Self {
            integers: values.map(integer).collect(),
            shape: numbers.shape,
            steps,
        }
    }
}
