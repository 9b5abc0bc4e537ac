//! Convolutions and linear layers.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn_ir::TensorIr;
use lowbit_int::ops::{Convolution, Linear, Sliding, Weights};
use lowbit_int::{Numbers, Operator};

use super::constants::Integers;
use super::line::{Kind, Line, Value};
use super::lower::{Lowering, no_grid, stem};
use crate::Error;
use crate::ops::exponent;
use crate::ops::{OperandQuantization, ProductKind};
use crate::quantizers::{Place, Slot};

/// A weight with the steps of its output channels.
struct Weight {
    shape: Vec<usize>,
    integers: Vec<i64>,
    /// One, or one for each channel.
    steps: Vec<f64>,
}

/// Operands of Burn's operations are quantized before.
pub(super) const FLOAT: [OperandQuantization; 2] =
    [OperandQuantization::Float, OperandQuantization::Float];

impl Lowering<'_> {
    /// A product of Burn's.
    pub(super) fn product_of(
        &mut self,
        kind: &ProductKind,
        operands: [&TensorIr; 2],
        bias: Option<&TensorIr>,
    ) -> Result<Value, Error> {
        let inputs: Vec<TensorIr> = operands.into_iter().chain(bias).cloned().collect();
        self.product(kind, &FLOAT, bias.is_some(), &inputs)
    }

    /// The product of a quantized input and a weight, and the bias added.
    pub(super) fn product(
        &mut self,
        kind: &ProductKind,
        quantizations: &[OperandQuantization; 2],
        has_bias: bool,
        inputs: &[TensorIr],
    ) -> Result<Value, Error> {
        let value = self.data(&inputs[0])?;
        let rest = &inputs[2 + usize::from(has_bias)..];
        let (of_input, of_weight) = rest.split_at(quantizations[0].parameters());
        let quantized = self.quantized(&quantizations[0], of_input, &value)?;
        let value = self.quantize(value, &quantized)?;
        let name = stem(&value, "product");
        let line = self.line(&value)?;
        let line = self.whole(line, &name);
        let line = line.map_err(|_| no_grid(&value, "is not quantized"))?;
        let Some(step) = line.step() else {
            return Err(no_grid(&value, "is not quantized"));
        };
        let kind_of = Kind::Line(line.clone());
        let value = Value {
            kind: kind_of,
            ..value
        };
        self.note(&value);
        let of_weight = self.quantized(&quantizations[1], of_weight, &value)?;
        let weight = self.weight(
            kind,
            &inputs[1],
            &of_weight.parameters,
            of_weight.quantization,
        );
        let weight = weight.ok_or_else(|| {
            let weight = value.place.clone().map(|place| Place {
                slot: Slot::WEIGHT.into(),
                ..place
            });
            let weight = weight.map_or(Slot::WEIGHT.into(), |place| place.to_string());
            Error::capture(weight, "is on no grid of integers; give it a quantizer")
        })?;
        let sums: Vec<f64> = weight.steps.iter().map(|s| s * step).collect();
        let bias = match has_bias {
            true => self.constants.numbers(&inputs[2]).map(|n| n.values),
            false => None,
        };
        if has_bias && bias.is_none() {
            return Err(no_grid(&value, "gets a bias that depends on the input"));
        }
        let (bias, offset) = split_bias(bias, &sums);
        let weights = weight
            .weights()
            .map_err(|reason| Error::capture(&name, reason))?;
        let unit = weights.numbers.scale();
        let operator = match kind.convolution() {
            Some(moves) => {
                let is_sequence = self.graph.tensor(line.tensor).shape().len() == 2;
                moves.operator(weights, bias, is_sequence).into()
            }
            None => Operator::from(Linear { weights, bias }),
        };
        let tensor = self.push(&name, operator, &[line.tensor])?;
        let scale = match sums[..] {
            [_] => unit * step,
            _ => 1.0,
        };
        let mut line = Line::new(tensor, scale);
        if sums.len() > 1 {
            line.scale = sums;
        }
        line.offset = offset;
        Ok(Value::made(Kind::Line(line), value.reader()))
    }

    /// The weight, as the operator of the graph has it.
    fn weight(
        &self,
        kind: &ProductKind,
        tensor: &TensorIr,
        parameters: &[Vec<f32>],
        quantization: &OperandQuantization,
    ) -> Option<Weight> {
        let integers = self.constants.integers(tensor, quantization, parameters)?;
        match kind.convolution() {
            None => Weight::of(transposed(integers), Outputs::first),
            Some(moves) if moves.output_padding.is_some() => {
                Weight::of(integers, |shape| Outputs::second(shape, moves.groups))
            }
            Some(_) => Weight::of(integers, Outputs::first),
        }
    }
}

/// How the window of a convolution moves.
struct Moves {
    sliding: Sliding,
    groups: usize,
    /// Of a transposed one.
    output_padding: Option<Vec<usize>>,
}

impl ProductKind {
    /// How the window moves, of a convolution.
    fn convolution(&self) -> Option<Moves> {
        fn plain<const D: usize>(options: &ConvOptions<D>) -> Moves {
            Moves {
                sliding: Sliding {
                    stride: options.stride.to_vec(),
                    padding: options.padding.map(|(a, b)| [a, b]).to_vec(),
                    dilation: options.dilation.to_vec(),
                },
                groups: options.groups,
                output_padding: None,
            }
        }
        fn transposed<const D: usize>(options: &ConvTransposeOptions<D>) -> Moves {
            Moves {
                sliding: Sliding {
                    stride: options.stride.to_vec(),
                    padding: options.padding.map(|p| [p, p]).to_vec(),
                    dilation: options.dilation.to_vec(),
                },
                groups: options.groups,
                output_padding: Some(options.padding_out.to_vec()),
            }
        }
        match self {
            Self::Conv1d(options) => Some(plain(options)),
            Self::Conv2d(options) => Some(plain(options)),
            Self::ConvTranspose1d(options) => Some(transposed(options)),
            Self::ConvTranspose2d(options) => Some(transposed(options)),
            Self::Linear => None,
        }
    }
}

impl Moves {
    /// The operator. Over a sequence a convolution of images of one row is one of sequences.
    fn operator(
        mut self,
        mut weights: Weights,
        bias: Option<Vec<i64>>,
        is_sequence: bool,
    ) -> Convolution {
        if is_sequence && weights.shape.len() == 4 {
            weights.shape.remove(2);
            let sliding = &mut self.sliding;
            (sliding.stride, sliding.dilation) =
                (sliding.stride.split_off(1), sliding.dilation.split_off(1));
            sliding.padding = sliding.padding.split_off(1);
        }
        let convolution = Convolution::new(weights, bias);
        let convolution = convolution
            .with_sliding(self.sliding)
            .with_groups(self.groups);
        match self.output_padding {
            Some(padding) => convolution.with_transposed(padding),
            None => convolution,
        }
    }
}

/// Where the output channels lie in a weight.
struct Outputs {
    count: usize,
    /// How many numbers of a channel lie beside each other, and of how many inputs.
    beside: usize,
    inputs: usize,
    /// Output channels that share their inputs.
    of_group: usize,
}

impl Outputs {
    /// `[out, ..]`
    fn first(shape: &[usize]) -> Self {
        Self {
            count: shape[0],
            beside: shape[1..].iter().product(),
            inputs: 1,
            of_group: 1,
        }
    }

    /// `[in, out / groups, ..]`
    fn second(shape: &[usize], groups: usize) -> Self {
        Self {
            count: shape[1] * groups,
            beside: shape[2..].iter().product(),
            inputs: shape[0] / groups,
            of_group: shape[1],
        }
    }

    /// The channel of a number of the weight.
    fn channel(&self, place: usize) -> usize {
        let row = place / self.beside;
        row / (self.inputs * self.of_group) * self.of_group + row % self.of_group
    }
}

/// `[in, out]` as `[out, in]`.
fn transposed(x: Integers) -> Integers {
    let [rows, columns] = [x.shape[0], x.shape[1]];
    let from = |i: usize| i % rows * columns + i / rows;
    let count = rows * columns;
    Integers {
        shape: vec![columns, rows],
        integers: (0..count).map(|i| x.integers[from(i)]).collect(),
        steps: (0..count).map(|i| x.steps[from(i)]).collect(),
    }
}

impl Weight {
    /// The weight, if each channel has one step. Powers of two become the finest of them for all.
    fn of(x: Integers, outputs: impl FnOnce(&[usize]) -> Outputs) -> Option<Self> {
        let outputs = outputs(&x.shape);
        let mut steps = vec![None; outputs.count];
        for (place, &step) in x.steps.iter().enumerate() {
            let known = steps[outputs.channel(place)].get_or_insert(step);
            if *known != step || step.is_nan() || step <= 0.0 {
                return None;
            }
        }
        let steps: Vec<f64> = steps.into_iter().collect::<Option<_>>()?;
        let (shape, mut integers) = (x.shape, x.integers);
        if steps.iter().all(|&s| s == steps[0]) {
            let steps = vec![steps[0]];
            return Some(Self {
                shape,
                integers,
                steps,
            });
        }
        let finest = steps.iter().copied().fold(f64::INFINITY, f64::min);
        let shifts = steps
            .iter()
            .map(|s| exponent(s / finest).filter(|&e| e < 24));
        if let (Some(_), Some(shifts)) = (exponent(finest), shifts.collect::<Option<Vec<_>>>()) {
            for (place, k) in integers.iter_mut().enumerate() {
                *k <<= shifts[outputs.channel(place)];
            }
            let steps = vec![finest];
            return Some(Self {
                shape,
                integers,
                steps,
            });
        }
        Some(Self {
            shape,
            integers,
            steps,
        })
    }

    /// The same for a graph. Of steps that differ from channel to channel the graph has the first; what
    /// follows knows all of them.
    fn weights(self) -> Result<Weights, String> {
        let least = self.integers.iter().copied().min().unwrap_or(0).min(-1);
        let greatest = self.integers.iter().copied().max().unwrap_or(0);
        let bits = lowbit_formats::bits_of(least.into(), greatest.into());
        let numbers = match (exponent(self.steps[0]), self.steps.len()) {
            (Some(exponent), 1) => Numbers::power_of_two(bits, true, exponent),
            _ => Numbers::affine(bits, true, self.steps[0], 0),
        };
        Ok(Weights {
            shape: self.shape,
            numbers: numbers?,
            values: self.integers,
        })
    }
}

/// The bias as integers in units of the sums; where it is no multiple of them, as what the result of
/// the layer is shifted by.
fn split_bias(bias: Option<Vec<f32>>, sums: &[f64]) -> (Option<Vec<i64>>, Vec<f64>) {
    let Some(bias) = bias else {
        return (None, vec![0.0]);
    };
    let at = |i: usize| sums[if sums.len() == 1 { 0 } else { i }];
    let units = bias.iter().enumerate();
    let units: Vec<f64> = units.map(|(i, &b)| f64::from(b) / at(i)).collect();
    let whole = |u: &f64| u.fract() == 0.0 && u.abs() < 2f64.powi(40);
    if units.iter().all(whole) {
        let integers = units.iter().map(|&u| u as i64);
        return (Some(integers.collect()), vec![0.0]);
    }
    (None, bias.into_iter().map(f64::from).collect())
}
