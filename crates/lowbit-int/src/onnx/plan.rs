//! How a file says a requantization, chosen before anything is written.

use super::requantize::{Agreement, Arithmetic, Fit, Form};
use super::steps::{self, power};
use super::{Dialect, Options, Ties};
use crate::graph::{Graph, Node};
use crate::ops::{Operator, Requantize, Rounding};
use crate::tensor::Tensor;

/// Magnitudes that are exact in `f32` in every order of a sum.
pub(super) const EXACT: u64 = 1 << 24;

/// The greatest magnitude of a tensor's integers, counted from its zero point.
pub(super) fn magnitude(tensor: &Tensor) -> u64 {
    let zero = tensor.numbers().zero_point();
    tensor.interval().map(|x| x - zero).magnitude()
}

/// A requantization in floats.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Whether the weights before it are scaled instead of their sums.
    pub(super) folded: bool,
    /// What the sum is multiplied with: one for all, or one a channel.
    pub(super) ratio: Vec<f32>,
    /// What is added then.
    pub(super) offset: Vec<f32>,
    pub(super) form: Form,
    /// How it compares with the integers, on exact sums, in every order in which it may be run.
    pub(super) agreement: Agreement,
}

/// The node that makes a node's first input.
pub(super) fn source<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Node> {
    let made = |n: &&Node| n.output() == node.inputs()[0];
    graph.nodes().iter().find(made)
}

/// The nodes that read a node's output, and whether it is an output of the network.
pub(super) fn readers<'g>(graph: &'g Graph, node: &Node) -> (Vec<&'g Node>, bool) {
    let reads = |n: &&Node| n.inputs().contains(&node.output());
    let readers = graph.nodes().iter().filter(reads).collect();
    (readers, graph.outputs().contains(&node.output()))
}

/// What a requantization needs to be planned.
pub(super) struct Planned<'a> {
    pub(super) graph: &'a Graph,
    pub(super) node: &'a Node,
    pub(super) requantize: &'a Requantize,
    /// The tensors' exponents.
    pub(super) exponents: &'a [i32],
}

impl Planned<'_> {
    /// The best way to say it: as a quantizer if that has the integers' bits, else with rounding of
    /// its own, else in integers, which QONNX has not.
    pub(super) fn plan(&self, options: Options) -> Plan {
        let rounding = self.requantize.rounding;
        let first = match options.dialect {
            Dialect::Qonnx if rounding == Rounding::HalfUp => Form::ZeroFirst(Rounding::HalfEven),
            Dialect::Qonnx => Form::ZeroFirst(rounding),
            _ => Form::Quantize,
        };
        let explicit = Form::Explicit(rounding);
        let tolerated = options.ties == Ties::ToEven && rounding != Rounding::Floor;
        let mut ways = vec![
            (first, false, false),
            (first, false, true),
            (explicit, false, true),
        ];
        if self.folds() {
            ways.insert(0, (first, true, false));
        }
        let mut last = None;
        for (form, folded, nudges) in ways {
            let plan = self.with(options, form, folded, nudges);
            match plan.agreement {
                Agreement::Same => return plan,
                Agreement::UnlessTie(_) if tolerated => return plan,
                _ => last = Some(plan),
            }
        }
        match last {
            Some(plan) if options.dialect == Dialect::Qonnx => plan,
            _ => Plan {
                folded: false,
                ratio: vec![1.0],
                offset: vec![0.0],
                form: Form::Integers,
                agreement: Agreement::Same,
            },
        }
    }

    /// Whether the sum and its quantizer may become one operator that is no product with weights.
    fn fuses(&self) -> bool {
        let operator = source(self.graph, self.node).map(Node::operator);
        matches!(
            operator,
            Some(Operator::Add(_) | Operator::Mul(_) | Operator::AveragePool(_))
        )
    }

    /// What a fused addition, product or average may reach, in whichever order it adds its zero points,
    /// in steps of the sum.
    fn reach_of_fused(&self) -> f64 {
        let Some(source) = source(self.graph, self.node) else {
            return 0.0;
        };
        let multipliers = match source.operator() {
            Operator::Add(add) => add.multipliers,
            _ => [1, 1],
        };
        let inputs = self.graph.inputs_of(source);
        let terms = inputs.iter().zip(multipliers).map(|(input, multiplier)| {
            let zero = input.numbers().zero_point().unsigned_abs();
            (input.interval().magnitude() + zero) as f64 * multiplier.unsigned_abs() as f64
        });
        let sum = self.graph.tensor(source.output()).interval().magnitude() as f64;
        let [from, to] = self.ends();
        let zero = self.requantize.numbers.zero_point().unsigned_abs() as f64;
        sum.max(terms.sum()) + zero * f64::from(to - from).exp2()
    }

    /// Whether ONNX Runtime may make the ratio a factor of a product of matrices (`FusedMatMul`), whose
    /// long sums it multiplies part by part. A power of two is as good there.
    fn product_takes_ratio(&self, options: Options) -> bool {
        let Some(source) = source(self.graph, self.node) else {
            return false;
        };
        let matrices = match source.operator() {
            Operator::Linear(_) => self.graph.tensor(source.output()).shape().len() > 1,
            Operator::AveragePool(_) => true,
            _ => false,
        };
        matrices && options.dialect == Dialect::Qdq
    }

    fn with(&self, options: Options, form: Form, folded: bool, nudges: bool) -> Plan {
        let input = self.graph.tensor(self.node.inputs()[0]);
        let fit = |form, nudges| {
            let count = self.requantize.channels();
            let arithmetic = |channel| self.arithmetic(channel, form, folded);
            Fit::of(self.requantize, input, count, nudges, arithmetic)
        };
        let mut found = fit(form, nudges);
        let mut constants = found.arithmetic.iter().map(|a| (a.ratio, a.offset));
        let alone = constants.all(|constants| constants == (1.0, 0.0));
        // Fused additions, products and averages add the zero point before they round; what is
        // multiplied or moved in between is not fused.
        if found.agreement == Agreement::Same && form == Form::Quantize && alone && self.fuses() {
            found = fit(Form::ZeroFirst(Rounding::HalfEven), false);
            if self.reach_of_fused() >= EXACT as f64 {
                found.agreement = Agreement::Untried;
            }
        }
        let mut ratios = found.arithmetic.iter().map(|a| a.ratio);
        if self.product_takes_ratio(options) && ratios.any(|ratio| ratio.to_bits() << 9 != 0) {
            found.agreement = Agreement::Untried;
        }
        Plan {
            folded,
            ratio: found.arithmetic.iter().map(|a| a.ratio).collect(),
            offset: found.arithmetic.iter().map(|a| a.offset).collect(),
            form,
            agreement: found.agreement,
        }
    }

    /// What a channel's sum is multiplied with to be in the output's step, if nothing is folded.
    pub(super) fn ratio(&self, channel: usize) -> f64 {
        let (multiplier, _, shift) = self.requantize.constants(channel);
        let [from, to] = self.ends();
        multiplier as f64 * f64::from(to - from - shift as i32).exp2()
    }

    /// The exponents of the input and the output.
    fn ends(&self) -> [i32; 2] {
        [self.node.inputs()[0], self.node.output()].map(|id| self.exponents[id.0])
    }

    /// Ratio and offset as they are written.
    fn constants(&self, channel: usize, form: Form, folded: bool) -> (f32, f32) {
        let (_, offset, shift) = self.requantize.constants(channel);
        let [_, to] = self.ends();
        let ratio = if folded { 1.0 } else { self.ratio(channel) };
        let offset = offset as f64 * f64::from(to - shift as i32).exp2();
        let unit = match form {
            Form::Explicit(_) => f64::from(-to).exp2(),
            _ => 1.0,
        };
        ((ratio * unit) as f32, (offset * unit) as f32)
    }

    /// One channel's arithmetic.
    fn arithmetic(&self, channel: usize, form: Form, folded: bool) -> Arithmetic {
        let (ratio, offset) = self.constants(channel, form, folded);
        let [from, to] = self.ends();
        let numbers = self.requantize.numbers;
        let step = f64::from(from).exp2() * if folded { self.ratio(channel) } else { 1.0 };
        Arithmetic {
            step: step as f32,
            ratio,
            offset,
            output: match form {
                Form::Explicit(_) => 1.0,
                _ => power(to),
            },
            form,
            zero_point: numbers.zero_point(),
            least: numbers.least(),
            greatest: numbers.greatest(),
        }
    }

    /// Whether the weights take the ratio: the sums are read by nothing else, and stay exact.
    fn folds(&self) -> bool {
        let Some(source) = source(self.graph, self.node) else {
            return false;
        };
        let output = self.graph.tensor(source.output());
        let rows = output.shape().len() > 1;
        let weights = match source.operator() {
            Operator::Convolution(convolution) if convolution.transposed.is_none() => {
                &convolution.weights
            }
            Operator::Linear(linear) if !rows || self.requantize.channels() == 1 => &linear.weights,
            _ => return false,
        };
        let (readers, is_output) = readers(self.graph, source);
        if readers.len() > 1
            || is_output
            || (0..self.requantize.channels()).all(|c| self.ratio(c) == 1.0)
        {
            return false;
        }
        let inputs = self.graph.inputs_of(source);
        let bounds = source
            .operator()
            .operation()
            .bounds(&inputs, output.shape());
        let weight = weights.values.iter().map(|w| w.unsigned_abs()).max();
        let bounds = bounds.unwrap_or_default().into_iter().enumerate();
        bounds.into_iter().all(|(channel, bound)| {
            let (multiplier, ..) = self.requantize.constants(channel);
            let odd = (multiplier >> multiplier.trailing_zeros()).unsigned_abs();
            let most = bound.partial.magnitude().max(weight.unwrap_or(0));
            let exponents = [steps::nearest(weights.numbers), self.ends()[0]];
            let holds = |exponent| self.scaled_fits(channel, exponent, most);
            most.saturating_mul(odd) < EXACT && exponents.into_iter().all(holds)
        })
    }

    /// Whether floats hold integers up to `most` in steps of a power of two times a channel's ratio: the
    /// ends of a requantization may be so far apart that its ratio is none.
    fn scaled_fits(&self, channel: usize, exponent: i32, most: u64) -> bool {
        let step = self.ratio(channel) * f64::from(exponent).exp2();
        let greatest = step * most.max(1) as f64;
        step >= f64::from(f32::MIN_POSITIVE) && greatest < 127f64.exp2()
    }
}
