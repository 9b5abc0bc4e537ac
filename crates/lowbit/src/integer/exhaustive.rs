//! Requantizations held against the simulation for every integer that they can be given.
//!
//! What follows an exact tensor of the simulation one number at a time, such as a normalization with a
//! rectifier and the quantizer of the next layer, is a function of one integer and its channel. Where there
//! are not too many of them, that function is asked for all, with the simulation's own operations, and the
//! requantization's constants are chosen so that it is the same for each.

use burn::tensor::{Device, Tensor, TensorData};
use burn_ir::{
    ActivationOperationIr, FloatOperationIr, NumericOperationIr, OperationIr, TensorId, TensorIr,
};
use lowbit_int::ops::Requantize;
use lowbit_int::{Interval, Numbers};

use super::constants::{Constants, numbers, quantized};
use super::line::one_if_alike;
use super::lower::Quantized;
use crate::Error;

/// The most integers of all channels that are tried, and how many at once.
const MOST: u64 = 1 << 26;
const AT_ONCE: usize = 1 << 22;

/// How far from the quotient of the scales a multiplier is looked for, and its greatest: it has 31 bits.
const FAR: i64 = 1 << 20;
const MOST_MULTIPLIER: i64 = (1 << 31) - 1;
/// More than any offset.
const ANY_OFFSET: i128 = 1 << 100;

/// Integers whose product with a step `f32` holds, times a power of two.
const EXACT: u64 = 1 << 24;

/// What happened to a number.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// An operation that makes one number of each.
    Run(Box<OperationIr>),
    /// One that changes where numbers are, or leaves some out: the tensor before it, and the one after.
    Moved(TensorId, TensorIr),
}

/// How a value follows from an exact tensor.
#[derive(Debug, Clone)]
pub(super) struct History {
    /// The tensor of the recording.
    pub(super) source: TensorIr,
    /// The step that its integers are multiples of, a power of two.
    pub(super) step: f64,
    /// What is done to it, one number at a time.
    pub(super) steps: Vec<Step>,
    /// What comes out.
    pub(super) result: TensorId,
}

/// The integers of the tensor before, channel by channel, and what the simulation makes of each.
struct Staircase {
    /// Of each channel.
    runs: Vec<Vec<Run>>,
}

/// Integers in a row of which the simulation makes the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: i64,
    last: i64,
    expected: i64,
}

impl Run {
    /// Those of an interval; `None` if there are none.
    fn within(self, interval: Interval) -> Option<Self> {
        let first = self.first.max(interval.least);
        let last = self.last.min(interval.greatest);
        (first <= last).then_some(Self {
            first,
            last,
            ..self
        })
    }
}

/// Adds an integer, the next one, to a channel's runs.
fn add_to(runs: &mut Vec<Run>, integer: i64, expected: i64) {
    match runs.last_mut() {
        Some(run) if run.expected == expected => run.last = integer,
        _ => runs.push(Run {
            first: integer,
            last: integer,
            expected,
        }),
    }
}

impl History {
    /// The tensor itself.
    pub(super) fn new(source: TensorIr, step: f64) -> Self {
        Self {
            result: source.id,
            source,
            step,
            steps: Vec::new(),
        }
    }

    /// Whether nothing was done yet.
    pub(super) fn is_new(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.all(|step| matches!(step, Step::Moved(..)))
    }

    /// The same with one more operation.
    pub(super) fn then(mut self, operation: &OperationIr, result: TensorId) -> Self {
        self.steps.push(Step::Run(Box::new(operation.clone())));
        Self { result, ..self }
    }

    /// The same with its numbers in another tensor.
    pub(super) fn moved_to(mut self, to: &TensorIr) -> Self {
        self.steps.push(Step::Moved(self.result, to.clone()));
        Self {
            result: to.id,
            ..self
        }
    }

    /// Sets the constants of a requantization so that it, and a clamp to `ends` after it, make of every
    /// integer what the simulation makes of it. Says whether it does; where there are too many integers, or no constants of this
    /// kind are right for all, nothing changes.
    ///
    /// # Errors
    /// If an operation cannot be run again.
    pub(super) fn fit(
        &self,
        constants: &mut Constants<'_>,
        quantized: &Quantized<'_>,
        before: (Numbers, &[Interval]),
        requantize: &mut Requantize,
        ends: [i64; 2],
    ) -> Result<bool, Error> {
        let Some(staircase) = self.staircase(constants, quantized, before, requantize.numbers)?
        else {
            return Ok(false);
        };
        let zero_point = before.0.zero_point();
        let channels = staircase.runs.len();
        let mut fitted = Requantize {
            multiplier: Vec::with_capacity(channels),
            offset: Vec::with_capacity(channels),
            shift: Vec::with_capacity(channels),
            ..requantize.clone()
        };
        let at = |channel: usize, count: usize| if count == 1 { 0 } else { channel };
        let known = [before.1.len(), requantize.multiplier.len()];
        let count = known.into_iter().max().unwrap_or(1).max(channels);
        for channel in 0..count {
            let own = before.1[at(channel, before.1.len())];
            let runs = staircase.runs[at(channel, channels)].iter();
            let multiplier = requantize.multiplier[at(channel, requantize.multiplier.len())];
            let offset = requantize.offset[at(channel, requantize.offset.len())];
            let shift = requantize.shift[at(channel, requantize.shift.len())];
            let steps = Steps {
                runs: runs.filter_map(|run| run.within(own)).collect(),
                zero_points: [zero_point, requantize.numbers.zero_point()],
                ends,
            };
            let Some([multiplier, offset]) = steps.constants(multiplier, offset, shift) else {
                return Ok(false);
            };
            fitted.multiplier.push(multiplier);
            fitted.offset.push(offset);
            fitted.shift.push(shift);
        }
        *requantize = Requantize {
            multiplier: one_if_alike(fitted.multiplier),
            offset: one_if_alike(fitted.offset),
            shift: one_if_alike(fitted.shift),
            ..fitted
        };
        Ok(true)
    }

    /// What the simulation makes of every integer of a width; `None` if that is not the same in all
    /// channels, or there are too many.
    ///
    /// # Errors
    /// If an operation cannot be run again.
    pub(super) fn table(
        &self,
        constants: &mut Constants<'_>,
        quantized: &Quantized<'_>,
        from: Numbers,
        to: Numbers,
    ) -> Result<Option<Vec<i64>>, Error> {
        let all = Interval {
            least: from.least(),
            greatest: from.greatest(),
        };
        let found = self.staircase(constants, quantized, (from, &[all]), to)?;
        let of_channels = found.map(|staircase| staircase.runs.into_iter());
        let Some(mut of_channels) = of_channels else {
            return Ok(None);
        };
        let first = of_channels.next();
        let alike = first.filter(|first| of_channels.all(|other| other == *first));
        let each = |run: Run| (run.first..=run.last).map(move |_| run.expected);
        Ok(alike.map(|runs| runs.into_iter().flat_map(each).collect()))
    }

    /// Whether the function may be another in each channel.
    fn has_channels(&self) -> bool {
        let reads_several = |step: &Step| match step {
            Step::Run(operation) => operation.inputs().count() > 1,
            Step::Moved(..) => false,
        };
        self.steps.iter().any(reads_several)
    }

    fn staircase(
        &self,
        constants: &mut Constants<'_>,
        quantization: &Quantized<'_>,
        (from, intervals): (Numbers, &[Interval]),
        to: Numbers,
    ) -> Result<Option<Staircase>, Error> {
        let all = intervals.iter().copied().reduce(Interval::union);
        let Some(interval) = all else { return Ok(None) };
        let magnitude = interval.magnitude() + from.zero_point().unsigned_abs();
        let count = (interval.greatest - interval.least) as u64 + 1;
        let channels = match self.has_channels() {
            true => self.source.shape.get(1).copied().unwrap_or(1),
            false => 1,
        };
        if magnitude >= EXACT || count.saturating_mul(channels as u64) > MOST {
            return Ok(None);
        }
        let mut runs = vec![Vec::new(); channels];
        let rows = (AT_ONCE / channels).max(1);
        let all = (interval.least..=interval.greatest).step_by(rows);
        for first in all {
            let last = interval.greatest.min(first + rows as i64 - 1);
            let number = |k: i64| ((k - from.zero_point()) as f64 * self.step) as f32;
            let each = |k: i64| std::iter::repeat_n(number(k), channels);
            let values: Vec<f32> = (first..=last).flat_map(each).collect();
            let size = [values.len() / channels, channels];
            let Some(x) = of_rank(values, size, self.source.shape.len()) else {
                return Ok(None);
            };
            let y = constants.run_on(&self.source, x, &self.steps, self.result)?;
            let (quantization, parameters) = (quantization.quantization, &quantization.parameters);
            let y = numbers(quantized(y, quantization, parameters)).values;
            for (k, row) in (first..).zip(y.chunks(channels)) {
                for (runs, &v) in runs.iter_mut().zip(row) {
                    let integer = (f64::from(v) / to.scale()).round() as i64;
                    add_to(runs, k, integer + to.zero_point());
                }
            }
        }
        Ok(Some(Staircase { runs }))
    }
}

/// Whether an operation makes each number of its result from the number at the same place of one tensor.
pub(super) fn is_of_each_number(operation: &OperationIr) -> bool {
    use ActivationOperationIr as Activation;
    use FloatOperationIr as Float;
    use NumericOperationIr as Number;
    match operation {
        OperationIr::Activation(op) => matches!(
            op,
            Activation::Relu(_)
                | Activation::LeakyRelu(_)
                | Activation::Gelu(_)
                | Activation::Sigmoid(_)
                | Activation::HardSigmoid(_)
                | Activation::LogSigmoid(_)
        ),
        OperationIr::Float(_, op) => matches!(
            op,
            Float::Exp(_)
                | Float::Log(_)
                | Float::Log1p(_)
                | Float::Erf(_)
                | Float::PowfScalar(_)
                | Float::Sqrt(_)
                | Float::Cos(_)
                | Float::Cosh(_)
                | Float::Sin(_)
                | Float::Sinh(_)
                | Float::Tan(_)
                | Float::Tanh(_)
                | Float::ArcTan(_)
                | Float::Round(_)
                | Float::Floor(_)
                | Float::Ceil(_)
                | Float::Trunc(_)
                | Float::Recip(_)
        ),
        OperationIr::NumericFloat(_, op) => matches!(
            op,
            Number::AddScalar(_)
                | Number::SubScalar(_)
                | Number::MulScalar(_)
                | Number::DivScalar(_)
                | Number::PowiScalar(_)
                | Number::Abs(_)
                | Number::Neg(_)
                | Number::Sign(_)
                | Number::Clamp(_)
                | Number::ClampMin(_)
                | Number::ClampMax(_)
        ),
        _ => false,
    }
}

/// A tensor of that rank whose first two dimensions are given and whose others are 1.
fn of_rank(
    values: Vec<f32>,
    [count, channels]: [usize; 2],
    rank: usize,
) -> Option<burn::backend::DispatchTensor> {
    let mut shape = vec![count, channels];
    shape.resize(rank.max(2), 1);
    let data = TensorData::new(values, shape);
    let device = Device::flex();
    Some(match rank {
        2 => Tensor::<2>::from_data(data, &device).into_dispatch(),
        3 => Tensor::<3>::from_data(data, &device).into_dispatch(),
        4 => Tensor::<4>::from_data(data, &device).into_dispatch(),
        _ => return None,
    })
}

/// What one channel's requantization has to be.
struct Steps {
    runs: Vec<Run>,
    /// Of the input and the output.
    zero_points: [i64; 2],
    /// What the output is held to.
    ends: [i64; 2],
}

impl Steps {
    /// Multiplier and offset for which each integer becomes what is expected: the multiplier given, or else
    /// the one that leaves the offset most room, and the offset that is nearest to the one given.
    ///
    /// The room is the least of lines in the multiplier less the greatest of others, so concave: where it
    /// falls on both sides there is no more.
    fn constants(&self, multiplier: i64, offset: i64, shift: u32) -> Option<[i64; 2]> {
        let of = |multiplier: i64| {
            let (low, high) = self.offsets(multiplier, shift);
            let offset = i128::from(offset);
            (low <= high).then(|| [multiplier, offset.clamp(low, high) as i64])
        };
        if let Some(near) = of(multiplier) {
            return Some(near);
        }
        let room = |multiplier: i64| {
            let (low, high) = self.offsets(multiplier, shift);
            high - low
        };
        let (mut least, mut greatest) = (
            (multiplier - FAR).max(1),
            (multiplier + FAR).min(MOST_MULTIPLIER),
        );
        while least < greatest {
            let middle = least + (greatest - least) / 2;
            match room(middle) < room(middle + 1) {
                true => least = middle + 1,
                false => greatest = middle,
            }
        }
        of(least)
    }

    /// The least and the greatest offset with which a multiplier is right for all:
    /// `e - 1/2 < (m k + offset) / 2^shift < e + 1/2`, but at the ends of the output's integers. Where the
    /// least is above the greatest, there is none.
    fn offsets(&self, multiplier: i64, shift: u32) -> (i128, i128) {
        let [least, greatest] = self.ends;
        let [before, after] = self.zero_points;
        // Far beyond every offset, and far within an `i128`.
        let (mut low, mut high) = (-ANY_OFFSET, ANY_OFFSET);
        for run in &self.runs {
            // The multiplier is above zero: the first integer of a run bounds the offset from below, and
            // the last from above.
            let scaled = |k: i64| i128::from(multiplier) * i128::from(k - before);
            let expected = run.expected;
            let twice = 2 * i128::from(expected - after);
            let edge = |twice: i128| match shift {
                // Every integer is its own.
                0 => twice.div_euclid(2),
                _ => twice << (shift - 1),
            };
            if expected > least {
                low = low.max(edge(twice - 1) - scaled(run.first) + 1);
            }
            if expected < greatest {
                let open = i128::from(shift > 0);
                high = high.min(edge(twice + 1) - scaled(run.last) - open);
            }
        }
        (low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the integers from one on, with zero points of zero.
    fn steps(least: i64, expected: &[i64], ends: [i64; 2]) -> Steps {
        let mut runs = Vec::new();
        for (k, &expected) in (least..).zip(expected) {
            add_to(&mut runs, k, expected);
        }
        Steps {
            runs,
            zero_points: [0, 0],
            ends,
        }
    }

    #[test]
    fn runs_are_cut_to_an_interval() {
        let runs = steps(-2, &[0, 0, 0, 1, 1], [0, 1]).runs;
        let run = |first, last, expected| Run {
            first,
            last,
            expected,
        };
        assert_eq!(runs, [run(-2, 0, 0), run(1, 2, 1)]);
        let inside = Interval {
            least: -1,
            greatest: 0,
        };
        let cut: Vec<_> = runs.iter().map(|run| run.within(inside)).collect();
        assert_eq!(cut, [Some(run(-1, 0, 0)), None]);
    }

    /// 3 k / 8 rounded, of k from -4 to 4: -1.5, -1.125, -0.75, -0.375, 0, ..; a tie at the ends. With
    /// what the tie has to become, an offset is found that moves it there and no other.
    #[test]
    fn an_offset_decides_ties() {
        let ends = [-128, 127];
        for (low, high) in [(-2, 2), (-1, 2), (-2, 1)] {
            let expected = [low, -1, -1, 0, 0, 0, 1, 1, high];
            let steps = steps(-4, &expected, ends);
            let [multiplier, offset] = steps.constants(3 << 20, 0, 23).unwrap();
            for (i, &e) in expected.iter().enumerate() {
                let scaled = multiplier * (i as i64 - 4) + offset;
                assert_eq!(
                    ((scaled as f64) / f64::from(1 << 23)).round_ties_even() as i64,
                    e
                );
            }
        }
        // 0.3 k, from a multiplier that is too small by a thousandth: of 300 it makes 90 and not 90.3.
        let expected: Vec<i64> = (0..=300).map(|k| (3 * k + 5) / 10).collect();
        let multiplier = (0.2997 * f64::from(1 << 23)) as i64;
        let found = steps(0, &expected, ends).constants(multiplier, 0, 23);
        let [multiplier, offset] = found.unwrap();
        for (k, &e) in (0..).zip(&expected) {
            assert_eq!((multiplier * k + offset + (1 << 22)) >> 23, e, "{k}");
        }
        let falling = steps(0, &[1, 0], ends);
        assert_eq!(falling.constants(1, 0, 0), None);
        // Held to 0 and above, as after a rectifier, what is below says nothing.
        let rectified = steps(-3, &[0, 0, 0, 0, 1, 2], [0, 127]);
        assert_eq!(rectified.constants(1, 0, 0), Some([1, 0]));
    }
}
