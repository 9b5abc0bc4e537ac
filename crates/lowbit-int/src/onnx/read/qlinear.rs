//! ONNX Runtime's operators from integers to integers, which compute in floats between.
//!
//! What each computes was measured; `docs/onnx.md` has the formulas.

use super::concat::concat_axis;
use super::constant::{Constant, integer, is_of_channels, windows};
use super::held::{Held, Kind, Step};
use super::pairs::{FloatSum, Pairs};
use super::product::{by_outputs, convolution, outputs};
use super::quantizer::Quantizer;
use super::state::{Line, requantize};
use super::{Known, Reader};
use crate::graph::TensorId;
use crate::numbers::Numbers;
use crate::onnx::proto::NodeProto;
use crate::ops::{Add, AveragePool, Linear, LookUp, Mul, Rounding, Windows, of_channel};

impl Reader<'_> {
    pub(super) fn qlinear(&mut self, node: &NodeProto) -> Result<Known, String> {
        let held = match node.op_type() {
            "QLinearConv" => self.qlinear_convolution(node),
            "QLinearMatMul" | "QGemm" => self.qlinear_product(node),
            "QLinearAdd" => self.qlinear_add(node),
            "QLinearMul" => self.qlinear_mul(node),
            "QLinearGlobalAveragePool" => self.qlinear_global_average(node),
            "QLinearAveragePool" => self.qlinear_average(node),
            "QLinearConcat" => return self.qlinear_concat(node),
            "QLinearLeakyRelu" => self.qlinear_leaky(node),
            other => Err(format!("{other} of {} is not read", node.domain())),
        };
        held.map(Known::Held)
    }

    /// A scale as the float that it is.
    fn float(&self, node: &NodeProto, at: usize) -> Result<f32, String> {
        let scale = self.scalar(node, at)? as f32;
        if scale.is_finite() && scale > 0.0 {
            return Ok(scale);
        }
        Err(format!(
            "scale is {scale}, expected a finite number above 0"
        ))
    }

    /// Scales of outputs, as floats.
    fn floats(&self, node: &NodeProto, at: usize) -> Result<Vec<f32>, String> {
        let scales = self.constant(node, at)?.reals();
        if scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err("a scale is not finite and above 0".into());
        }
        Ok(scales.iter().map(|&s| s as f32).collect())
    }

    /// Integers counted from the zero point that the node gives them.
    fn operand(&mut self, node: &NodeProto, at: usize) -> Result<TensorId, String> {
        let held = self.held(node, at)?;
        if held.kind == Kind::Float {
            return Err(format!("{} is no integer", node.input[at]));
        }
        let zero = self.zero_point(node, at + 2)?;
        self.counted_from(node, &held, zero)
    }

    /// The output's quantizer, of floats in its steps.
    fn to_steps(&self, node: &NodeProto, at: usize) -> Result<Quantizer, String> {
        self.float(node, at)?;
        let quantizer = self.quantizer_of(node, [at, at + 1])?;
        Ok(Quantizer {
            divisor: 1.0,
            ..quantizer
        })
    }

    /// `clamp(rint(f32(sum) ratio) + zero_point)`, with the clip that alone reads it.
    fn rounded(
        &mut self,
        node: &NodeProto,
        sum: TensorId,
        ratios: Vec<f32>,
        quantizer: Quantizer,
    ) -> Result<Held, String> {
        self.fits(sum, Kind::Integer(32, true))?;
        let mut quantizer = quantizer;
        let output = node.output.first().map_or("", String::as_str);
        let after = self.clip_after(output);
        let narrow = after.filter(|(_, ends)| quantizer.numbers(*ends).is_some());
        if let Some((_, ends)) = narrow {
            quantizer.ends = ends;
        }
        let held = Held {
            kind: Kind::Float,
            ..Held::integers(sum, Kind::Float, 0)
        };
        let held = held.with(Step::Mul(ratios));
        let name = self.name(node);
        let made = self.requantize(&name, &held, quantizer)?;
        if narrow.is_some() {
            self.take_clip(output, &made);
        }
        Ok(made)
    }

    /// `f32(x_scale weight_scale / y_scale)` of each output.
    fn ratios(&self, x: f32, weights: &[f32], y: f32) -> Vec<f32> {
        weights.iter().map(|w| x * w / y).collect()
    }

    fn qlinear_convolution(&mut self, node: &NodeProto) -> Result<Held, String> {
        let x = self.operand(node, 0)?;
        let scales = self.floats(node, 4)?;
        let ratios = self.ratios(self.float(node, 1)?, &scales, self.float(node, 6)?);
        let step = scales.first().copied().ok_or("a weight has no scale")?;
        let weights = self.integer_weights(node, [3, 5], 0, step.into())?;
        let mut convolution = convolution(node, weights)?;
        convolution.bias = self.whole_bias(node, 8)?;
        if scales.len() != 1 && scales.len() != outputs(&convolution) {
            return Err(format!("{} scales of weights", scales.len()));
        }
        let quantizer = self.to_steps(node, 6)?;
        let sum = self.push(node, convolution, &[x])?;
        self.rounded(node, sum, ratios, quantizer)
    }

    /// A bias of integers.
    fn whole_bias(&self, node: &NodeProto, at: usize) -> Result<Option<Vec<i64>>, String> {
        if !Self::has(node, at) {
            return Ok(None);
        }
        let constant = self.constant(node, at)?;
        let bias = constant.integers().ok_or("a bias is of int32")?;
        Ok(Some(bias.to_vec()))
    }

    /// Products with a matrix: `a, a_scale, a_zero_point, b, b_scale, b_zero_point`, and of `QGemm` a bias.
    fn qlinear_product(&mut self, node: &NodeProto) -> Result<Held, String> {
        let gemm = node.op_type() == "QGemm";
        let flag = |name| integer(node, name).unwrap_or(0) != 0;
        let alpha = node.attribute.iter().find(|a| a.name() == "alpha");
        if flag("transA") || alpha.is_some_and(|a| a.f() != 1.0) {
            return Err("transA is 0, and alpha 1".into());
        }
        let by_rows = gemm && flag("transB");
        let x = self.operand(node, 0)?;
        let scales = self.floats(node, 4)?;
        let step = scales.first().copied().ok_or("a weight has no scale")?;
        let axis = usize::from(!by_rows);
        let weights = self.integer_weights(node, [3, 5], axis, step.into())?;
        let weights = by_outputs(weights, by_rows)?;
        if scales.len() > 1 && self.graph.tensor(x).shape().len() > 1 {
            return Err("rows of sums have one scale".into());
        }
        let mut bias = if gemm {
            self.whole_bias(node, 6)?
        } else {
            None
        };
        let count = weights.shape.first().copied().unwrap_or(0);
        if let Some(all) = &mut bias
            && all.len() == 1
        {
            all.resize(count, all[0]);
        }
        if scales.len() != 1 && scales.len() != count {
            return Err(format!("{} scales of weights", scales.len()));
        }
        let y = if gemm { 7 } else { 6 };
        let quantizer = match Self::has(node, y) {
            true => Some(self.to_steps(node, y)?),
            false => None,
        };
        let sum = self.push(node, Linear { weights, bias }, &[x])?;
        let x_scale = self.float(node, 1)?;
        match quantizer {
            Some(quantizer) => {
                let ratios = self.ratios(x_scale, &scales, self.float(node, y)?);
                self.rounded(node, sum, ratios, quantizer)
            }
            None => {
                self.fits(sum, Kind::Integer(32, true))?;
                let scales = self.ratios(x_scale, &scales, 1.0);
                let held = Held::integers(sum, Kind::Float, 0);
                Ok(held.times(&scales))
            }
        }
    }

    /// `rint((a - a_zero_point) (b - b_zero_point) f32(a_scale b_scale / y_scale) + zero_point)`.
    fn qlinear_mul(&mut self, node: &NodeProto) -> Result<Held, String> {
        let [a, b] = [self.operand(node, 0)?, self.operand(node, 3)?];
        let ratio = self.float(node, 1)? * self.float(node, 4)? / self.float(node, 6)?;
        let quantizer = self.to_steps(node, 6)?;
        let product = self.push(node, Mul {}, &[a, b])?;
        let quantizer = Quantizer {
            qonnx: Some(Rounding::HalfEven),
            ..quantizer
        };
        self.rounded(node, product, vec![ratio], quantizer)
    }

    /// `rint(f32(sum) f32(x_scale / f32(y_scale elements))) + zero_point`.
    fn qlinear_global_average(&mut self, node: &NodeProto) -> Result<Held, String> {
        if integer(node, "channels_last").unwrap_or(0) != 0 {
            return Err("channels_last is 0".into());
        }
        let x = self.operand(node, 0)?;
        let shape = self.graph.tensor(x).shape();
        let elements: usize = shape.iter().skip(1).product();
        let windows = Windows::global(shape.len().saturating_sub(1));
        let ratio = self.float(node, 1)? / (self.float(node, 3)? * elements as f32);
        let quantizer = self.to_steps(node, 3)?;
        let pool = AveragePool {
            windows,
            include_padding: false,
        };
        let sum = self.push(node, pool, &[x])?;
        self.rounded(node, sum, vec![ratio], quantizer)
    }

    /// `rint(average / y_scale) + zero_point` with an average of floats, which is one number if their step
    /// is a power of two.
    fn qlinear_average(&mut self, node: &NodeProto) -> Result<Held, String> {
        if integer(node, "channels_last").unwrap_or(0) != 0 {
            return Err("channels_last is 0".into());
        }
        let x_scale = self.float(node, 1)?;
        if x_scale.to_bits() << 9 != 0 {
            return Err(format!(
                "the order of a sum of floats in steps of {x_scale}, no power of two, is not known"
            ));
        }
        let x = self.operand(node, 0)?;
        let windows = windows(node)?;
        let include_padding = integer(node, "count_include_pad") == Some(1);
        let Windows::Sliding { kernel, sliding } = &windows else {
            return Err("windows slide".into());
        };
        let count: usize = kernel.iter().product();
        let is_padded = sliding.padding.as_flattened().iter().any(|&p| p > 0);
        if is_padded && !include_padding {
            return Err("windows in the padding have other counts".into());
        }
        let quantizer = self.quantizer_of(node, [3, 4])?;
        self.float(node, 3)?;
        let sum = self.push(
            node,
            AveragePool {
                windows,
                include_padding,
            },
            &[x],
        )?;
        let (numbers, raised) = all_numbers(quantizer)?;
        let line = Line {
            ratio: f64::from(x_scale) / count as f64 / quantizer.divisor,
            offset: 0.0,
        };
        let made = |_: usize, sum: i64| {
            let average = sum as f32 * x_scale / count as f32;
            quantizer.apply(average) - raised
        };
        let name = self.name(node);
        let id = self.fitted(&name, sum, numbers, |_| line, made)?;
        let shift = numbers.zero_point() + raised;
        Ok(Held::integers(id, quantizer.kind(), shift))
    }

    /// Each input in steps of the output, as its floats are quantized again, and joined.
    fn qlinear_concat(&mut self, node: &NodeProto) -> Result<Known, String> {
        let quantizer = self.quantizer_of(node, [0, 1])?;
        self.float(node, 0)?;
        let name = self.name(node);
        let mut inputs = Vec::new();
        for at in (2..node.input.len()).step_by(3) {
            let scale = self.float(node, at + 1)?;
            let id = self.operand(node, at)?;
            let real = Held {
                was_integer: true,
                ..Held::real(id, vec![scale.into()], true)
            };
            let name = self.unique(&format!("{name}/input"));
            inputs.push(self.requantize(&name, &real, quantizer)?);
        }
        self.concat_of(node, &inputs)
    }

    /// A rectifier with a slope below zero, as a table.
    fn qlinear_leaky(&mut self, node: &NodeProto) -> Result<Held, String> {
        let alpha = node.attribute.iter().find(|a| a.name() == "alpha");
        let alpha = alpha.map_or(0.01, |a| a.f());
        let x = self.operand(node, 0)?;
        let scale = self.float(node, 1)?;
        self.float(node, 3)?;
        let quantizer = self.quantizer_of(node, [3, 4])?;
        let (numbers, raised) = all_numbers(quantizer)?;
        let given = self.graph.tensor(x).numbers();
        if given.bits() > 16 {
            return Err("a table's index has more than 16 bits".into());
        }
        let entry = |k: i64| {
            let real = (k - given.zero_point()) as f32 * scale;
            let real = if real < 0.0 { real * alpha } else { real };
            quantizer.apply(real) - raised
        };
        let table = (given.least()..=given.greatest()).map(entry).collect();
        let id = self.push(node, LookUp { table, numbers }, &[x])?;
        let shift = numbers.zero_point() + raised;
        Ok(Held::integers(id, quantizer.kind(), shift))
    }

    /// `rint(fma(a, f32(a_scale / y_scale), fma(b, f32(b_scale / y_scale), fixed)))` of integers as the
    /// file has them.
    fn qlinear_add(&mut self, node: &NodeProto) -> Result<Held, String> {
        let y = self.float(node, 6)?;
        let ratios = [self.float(node, 1)? / y, self.float(node, 4)? / y];
        let zeros = [self.zero_point(node, 2)?, self.zero_point(node, 5)?];
        let quantizer = self.to_steps(node, 6)?;
        let sum = FloatSum::new(ratios, zeros, quantizer);
        let (numbers, raised) = all_numbers(quantizer)?;
        let constant = [0, 3].map(|at| self.constant(node, at));
        let id = match constant {
            [Err(_), Err(_)] => {
                let [a, b] = [self.held(node, 0)?, self.held(node, 3)?];
                self.add_two(node, &sum, [a, b], (numbers, raised))?
            }
            [Err(_), Ok(b)] => {
                let held = self.held(node, 0)?;
                self.add_constant(node, &sum, (held, 0), &b, (numbers, raised))?
            }
            [Ok(a), Err(_)] => {
                let held = self.held(node, 3)?;
                self.add_constant(node, &sum, (held, 1), &a, (numbers, raised))?
            }
            [Ok(_), Ok(_)] => return Err("both operands are constants".into()),
        };
        let shift = numbers.zero_point() + raised;
        Ok(Held::integers(id, quantizer.kind(), shift))
    }

    /// A tensor, which is the sum's operand `place`, and a constant for all or for each channel.
    fn add_constant(
        &mut self,
        node: &NodeProto,
        sum: &FloatSum,
        (held, place): (Held, usize),
        constant: &Constant,
        (numbers, raised): (Numbers, i64),
    ) -> Result<TensorId, String> {
        let shape = &constant.shape;
        if !is_of_channels(shape, self.graph.tensor(held.id).shape()) {
            return Err(format!(
                "terms of shape {shape:?}, expected one for all or for each channel"
            ));
        }
        let terms = constant.integers().ok_or("a term is no integer")?;
        if !held.steps.is_empty() || held.kind == Kind::Float {
            return Err("an operand is rounded or moved".into());
        }
        let pair = |channel: usize, x: i64| {
            let term = of_channel(terms, channel);
            if place == 0 {
                [x + held.shift, term]
            } else {
                [term, x + held.shift]
            }
        };
        let line = |channel: usize| Line {
            ratio: f64::from(sum.ratios[place]),
            offset: sum.real(pair(channel, 0)) - sum.quantizer.zero_point as f64,
        };
        let made = |channel: usize, x: i64| sum.apply(pair(channel, x)) - raised;
        let name = self.name(node);
        self.fitted(&name, held.id, numbers, line, made)
    }

    /// Two tensors: a sum with multipliers, and a shift, that have every pair of integers that can be.
    fn add_two(
        &mut self,
        node: &NodeProto,
        sum: &FloatSum,
        operands: [Held; 2],
        (numbers, raised): (Numbers, i64),
    ) -> Result<TensorId, String> {
        if operands
            .iter()
            .any(|held| !held.steps.is_empty() || held.kind == Kind::Float)
        {
            return Err("an operand is rounded or moved".into());
        }
        let ids = [operands[0].id, operands[1].id];
        let intervals = ids.map(|id| {
            let tensor = self.graph.tensor(id);
            let zero = tensor.numbers().zero_point();
            tensor.interval().map(|x| x - zero)
        });
        let shifts = [operands[0].shift, operands[1].shift];
        let zero = numbers.zero_point();
        let centered = Numbers::affine(numbers.bits(), numbers.signed(), numbers.scale(), 0)?;
        let name = self.name(node);
        let mut free = Vec::new();
        for id in ids {
            // Exponents do not say what the multipliers are.
            let given = self.graph.tensor(id).numbers();
            let id = match given.exponent() {
                Some(_) => {
                    let (bits, signed) = (given.bits(), given.signed());
                    let other = Numbers::affine(bits, signed, given.scale(), 0)?;
                    self.restated(&format!("{name}/operand"), id, other, 0)?
                }
                None => id,
            };
            free.push(id);
        }
        for (numbers, moved) in [(numbers, 0), (centered, zero)] {
            let pairs = Pairs::new(sum, intervals, shifts, (numbers, raised))?;
            let Some((multipliers, offset, shift)) = pairs.find(moved) else {
                continue;
            };
            let before = self.unique(&format!("{name}/sum"));
            let added = self.push_as(&before, Add { multipliers }, &free)?;
            let constants = [(1, offset, shift)];
            let rounded = requantize(&constants, Rounding::HalfEven, numbers);
            if moved == 0 {
                return self.push_requantize(&name, rounded, added);
            }
            let before = self.unique(&format!("{name}/rounded"));
            let id = self.push_requantize(&before, rounded, added)?;
            let (bits, signed) = (numbers.bits(), numbers.signed());
            let other = Numbers::affine(bits, signed, numbers.scale(), zero)?;
            return self.restated(&name, id, other, -zero);
        }
        Err("no multipliers and shift have the integers of all pairs that floats make".into())
    }

    /// Integers one after the other.
    fn concat_of(&mut self, node: &NodeProto, inputs: &[Held]) -> Result<Known, String> {
        let first = inputs.first().ok_or("has no inputs")?;
        let rank = self.graph.tensor(first.id).shape().len();
        let axis = concat_axis(node, rank)?;
        self.concat_integers(node, axis, inputs, 1.0)
    }
}

/// All of a type's numbers.
fn all_numbers(quantizer: Quantizer) -> Result<(Numbers, i64), String> {
    let found = quantizer.numbers(quantizer.kind().ends());
    found.ok_or("a zero point is beyond its type".into())
}
