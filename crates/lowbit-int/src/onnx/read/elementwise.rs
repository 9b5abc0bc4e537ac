//! What is done to each element: constants, conversions, and roundings that take several nodes.

use super::constant::{Constant, integer, is_of_channels};
use super::held::{Held, Kind, Step};
use super::quantizer::Quantizer;
use super::state::requantize;
use super::{Known, Reader};
use crate::numbers::Numbers;
use crate::onnx::plan::EXACT;
use crate::onnx::proto::NodeProto;
use crate::ops::{Rounding, of_channel};

/// A part of what several nodes do together.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// What a division of integers leaves over.
    Rest(Held, Vec<i64>),
    /// 1 where that is zero.
    Whole(Held, Vec<i64>),
    /// 1 where an integer is below zero.
    Negative(Held),
    /// What is taken back where a division leaves nothing over.
    Back(Held, Vec<i64>, Box<Part>),
    Sign(Held),
    /// A float's magnitude: as it is, with a half, and rounded down.
    Magnitude(Held, Nearest),
    /// The elements of windows along an axis.
    Windows(Held, usize, Vec<Vec<usize>>),
}

/// How far a magnitude is rounded to the nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    Not,
    WithHalf,
    Done,
}

const OUT_OF_PLACE: &str = "is not part of a rounding that is read";

impl Reader<'_> {
    /// A sum or difference with a constant.
    pub(super) fn plus(
        &mut self,
        node: &NodeProto,
        held: Held,
        constant: &Constant,
    ) -> Result<Held, String> {
        self.check_channels(&held, constant, "terms")?;
        let is_difference = node.op_type() == "Sub";
        if held.kind != Kind::Float {
            let terms = constant
                .integers()
                .ok_or("a float is added to integers")?
                .iter();
            let terms = terms.map(|&term| if is_difference { -term } else { term });
            return Ok(plus_integers(held, terms.collect()));
        }
        let sign = if is_difference { -1.0 } else { 1.0 };
        let terms: Vec<f64> = constant.reals().iter().map(|term| sign * term).collect();
        if let ([term], [1.0], [], true) =
            (&terms[..], &held.scale[..], &held.steps[..], held.is_exact)
        {
            // Sums of whole numbers below 2^24 are whole.
            let tensor = self.graph.tensor(held.id);
            let zero = tensor.numbers().zero_point();
            let reach = tensor.interval().map(|x| x - zero).magnitude();
            let most = term.abs() + reach as f64 + held.shift.unsigned_abs() as f64;
            if term.fract() == 0.0 && most < EXACT as f64 {
                let shift = held.shift + *term as i64;
                return Ok(Held { shift, ..held });
            }
        }
        let terms = terms.iter().map(|&term| term as f32).collect();
        Ok(held.with(Step::Add(terms)))
    }

    /// A product with a constant.
    pub(super) fn times(&mut self, held: Held, constant: &Constant) -> Result<Held, String> {
        if held.kind != Kind::Float {
            self.check_channels(&held, constant, "factors")?;
            let factors = constant
                .integers()
                .ok_or("integers are multiplied by a float")?;
            return Ok(held.with(Step::Times(factors.to_vec())));
        }
        let factors = constant.reals();
        // One that is below zero makes a difference of a sum.
        let is_factor = |&f: &f64| f.is_finite() && (f > 0.0 || f < 0.0 && factors.len() == 1);
        if !factors.iter().all(is_factor) {
            return Err("a factor is not above 0".into());
        }
        self.check_channels(&held, constant, "factors")?;
        let count = held.scale.len().max(factors.len());
        let lengths = [held.scale.len(), factors.len()];
        if lengths.iter().any(|&n| n != 1 && n != count) {
            return Err(format!("{lengths:?} factors do not fit each other"));
        }
        let factors: Vec<f32> = factors.iter().map(|&f| f as f32).collect();
        Ok(held.times(&factors))
    }

    fn check_channels(&self, held: &Held, constant: &Constant, what: &str) -> Result<(), String> {
        let shape = &constant.shape;
        if is_of_channels(shape, self.graph.tensor(held.id).shape()) {
            return Ok(());
        }
        Err(format!(
            "{what} of shape {shape:?}, expected one for all or for each channel"
        ))
    }

    /// A product that is a part of several nodes.
    pub(super) fn product_of_parts(&self, a: &Known, b: &Known) -> Result<Known, String> {
        match (a, b) {
            (Known::Part(Part::Whole(held, unit)), Known::Part(back)) => {
                let back = Box::new(back.clone());
                Ok(Known::Part(Part::Back(held.clone(), unit.clone(), back)))
            }
            (Known::Part(Part::Sign(sign)), Known::Part(Part::Magnitude(held, Nearest::Done)))
                if sign == held =>
            {
                let held = held.clone().with(Step::Round(Rounding::HalfAway));
                Ok(Known::Held(held))
            }
            _ => Err(OUT_OF_PLACE.into()),
        }
    }

    /// A sum or difference that is a part of several nodes.
    pub(super) fn sum_of_parts(
        &self,
        node: &NodeProto,
        a: &Known,
        b: &Known,
    ) -> Result<Known, String> {
        match (a, b, node.op_type()) {
            (Known::Part(Part::Magnitude(held, Nearest::Not)), Known::Constant(half), "Add")
                if half.reals() == [0.5] =>
            {
                let with_half = Part::Magnitude(held.clone(), Nearest::WithHalf);
                Ok(Known::Part(with_half))
            }
            (Known::Held(y), Known::Part(Part::Back(positive, unit, back)), "Sub") => {
                let found = rounded(y, positive, unit, back).ok_or(OUT_OF_PLACE)?;
                Ok(Known::Held(found))
            }
            _ => Err(OUT_OF_PLACE.into()),
        }
    }

    /// Conversions, and operators of one tensor and perhaps a constant.
    pub(super) fn elementwise(&mut self, node: &NodeProto) -> Result<Known, String> {
        let x = self.get(node, 0)?.clone();
        if node.op_type() == "Cast" {
            return self.cast(node, x);
        }
        if let Known::Input(entering) = x {
            return entering.elementwise(self, node);
        }
        let powers = |found: Constant| {
            let integers = found.integers().map(<[i64]>::to_vec);
            integers.filter(|all| all.iter().all(|&p| p > 0 && p.count_ones() == 1))
        };
        let part = match (node.op_type(), x) {
            ("Div" | "Mod", Known::Held(held)) if held.kind != Kind::Float => {
                let constant = self.constant(node, 1)?;
                self.check_channels(&held, &constant, "divisors")?;
                let divisors = powers(constant).ok_or("a divisor is no power of two")?;
                if node.op_type() == "Div" {
                    return Ok(Known::Held(held.with(Step::Over(divisors))));
                }
                Part::Rest(held, divisors)
            }
            ("Equal", Known::Part(Part::Rest(held, unit))) if self.scalar(node, 1)? == 0.0 => {
                Part::Whole(held, unit)
            }
            ("Less", Known::Held(held))
                if held.kind != Kind::Float && self.scalar(node, 1)? == 0.0 =>
            {
                Part::Negative(held)
            }
            ("Floor", Known::Part(Part::Magnitude(held, Nearest::WithHalf))) => {
                Part::Magnitude(held, Nearest::Done)
            }
            (op, Known::Held(held)) if held.kind == Kind::Float => match op {
                "Floor" => return Ok(Known::Held(held.with(Step::Round(Rounding::Floor)))),
                "Round" => return Ok(Known::Held(held.with(Step::Round(Rounding::HalfEven)))),
                "Sign" => Part::Sign(held),
                "Abs" => Part::Magnitude(held, Nearest::Not),
                _ => return Err(OUT_OF_PLACE.into()),
            },
            _ => return Err(OUT_OF_PLACE.into()),
        };
        Ok(Known::Part(part))
    }

    fn cast(&mut self, node: &NodeProto, x: Known) -> Result<Known, String> {
        let to = Kind::of(integer(node, "to").ok_or("has no type")?)?;
        match x {
            Known::Constant(mut constant) => {
                if constant.is_real && to != Kind::Float {
                    return Err("a constant of floats becomes one of integers".into());
                }
                constant.is_real = to == Kind::Float;
                Ok(Known::Constant(constant))
            }
            Known::Held(held) => {
                let held = self.in_steps_of_one(node, held)?;
                self.cast_held(held, to).map(Known::Held)
            }
            Known::Part(part @ (Part::Whole(..) | Part::Negative(_))) => Ok(Known::Part(part)),
            _ => Err(format!("{} is not quantized", node.input[0])),
        }
    }

    /// Whole numbers in steps of more than 1 as multiples of 1, and zeros in any step.
    fn in_steps_of_one(&mut self, node: &NodeProto, held: Held) -> Result<Held, String> {
        let [step] = held.scale[..] else {
            return Ok(held);
        };
        if !held.steps.is_empty() || held.shift != 0 || !held.is_exact {
            return Ok(held);
        }
        let tensor = self.graph.tensor(held.id);
        let zero = tensor.numbers().zero_point();
        let interval = tensor.interval();
        if interval.map(|x| x - zero).magnitude() == 0 {
            let scale = vec![1.0];
            return Ok(Held { scale, ..held });
        }
        if step.fract() != 0.0 || !(2.0..f64::from(1 << 30)).contains(&step) {
            return Ok(held);
        }
        let all = interval.map(|x| (x - zero).saturating_mul(step as i64));
        let numbers = Numbers::affine(all.bits(), true, 1.0, 0)?;
        let name = self.unique(&format!("{}/steps", self.name(node)));
        let requantize = requantize(&[(step as i64, 0, 0)], Rounding::Floor, numbers);
        let id = self.push_requantize(&name, requantize, held.id)?;
        let scale = vec![1.0];
        Ok(Held { id, scale, ..held })
    }

    fn cast_held(&self, held: Held, to: Kind) -> Result<Held, String> {
        if !held.steps.is_empty() || held.scale[..] != [1.0] || !held.is_exact {
            return Err("no whole numbers, or integers that are rounded or moved".into());
        }
        let tensor = self.graph.tensor(held.id);
        let zero = tensor.numbers().zero_point();
        let interval = tensor.interval().map(|x| x - zero + held.shift);
        let [least, greatest] = to.ends();
        let fits = least <= interval.least && interval.greatest <= greatest;
        if to != Kind::Float && !fits {
            return Err(format!(
                "integers of {} to {} are beyond the type",
                interval.least, interval.greatest
            ));
        }
        Ok(Held {
            kind: to,
            was_integer: true,
            ..held
        })
    }

    /// Integers that are multiplied, divided by a power of two, moved, and limited.
    pub(super) fn shifted(
        &mut self,
        node: &NodeProto,
        held: &Held,
        ends: [f64; 2],
    ) -> Result<Held, String> {
        let ends = ends.map(|end| end as i64);
        let tensor = self.graph.tensor(held.id);
        let zero = tensor.numbers().zero_point();
        for (channel, interval) in tensor.intervals().iter().enumerate() {
            let made = [interval.least, interval.greatest].map(|x| held.integer(channel, x - zero));
            if made.contains(&None) {
                return Err("integers may be beyond their type".into());
            }
        }
        let kind = match held.kind {
            Kind::Integer(bits, signed) => (bits, signed),
            Kind::Float => return Err("is no integer".into()),
        };
        let fractions = (0..tensor.intervals().len()).map(|channel| {
            let interval = tensor.intervals()[channel];
            Fraction::of(held, channel, interval.least - zero)
        });
        let fractions: Option<Vec<Fraction>> = fractions.collect();
        let fractions = fractions.ok_or(OUT_OF_PLACE)?;
        let zero_point = fractions[0].zero_point(ends);
        let quantizer = Quantizer {
            scale: 1.0,
            divisor: 1.0,
            zero_point,
            bits: kind.0,
            signed: kind.1,
            ends,
            qonnx: None,
        };
        // Bytes without sign may follow, in which integers with sign are 128 higher.
        let bytes = Quantizer {
            bits: 8,
            signed: false,
            ends: Kind::Integer(8, false).ends(),
            ..quantizer
        };
        let found = bytes.numbers(ends).or(quantizer.numbers(ends));
        let (numbers, raised) = found.ok_or("the limits are those of no width")?;
        let constants = fractions.iter().map(|f| f.constants(zero_point));
        let constants: Option<Vec<(i64, i64, u32)>> = constants.collect();
        let rounding = fractions[0].rounding;
        let constants = constants.filter(|_| fractions.iter().all(|f| f.rounding == rounding));
        let requantize = requantize(&constants.ok_or(OUT_OF_PLACE)?, rounding, numbers);
        let name = self.name(node);
        let made = self.push_requantize(&name, requantize, held.id)?;
        let shift = numbers.zero_point() + raised;
        Ok(Held::integers(made, held.kind, shift))
    }
}

/// Integers with one more step; one that moves the value alone is part of its shift.
fn plus_integers(held: Held, terms: Vec<i64>) -> Held {
    match (&terms[..], held.steps.is_empty()) {
        // Beyond 32 bits it is part of a division.
        ([term], true) if i32::try_from(*term).is_ok() => Held {
            shift: held.shift + *term,
            ..held
        },
        _ => held.with(Step::Plus(terms)),
    }
}

/// Of a division that rounds half up, with what is taken back of ties, the division that rounds half to
/// even or away from zero: `y = (scaled + 2^62 + unit / 2) / unit - 2^62 / unit`.
fn rounded(y: &Held, positive: &Held, unit: &[i64], back: &Part) -> Option<Held> {
    let half = |unit: i64| (1 << 62) + unit / 2;
    let is = |terms: &[i64], f: &dyn Fn(i64) -> i64| {
        let count = terms.len().max(unit.len());
        let fits = terms.len() == unit.len() || terms.len() == 1 || unit.len() == 1;
        fits && (0..count).all(|c| of_channel(terms, c) == f(of_channel(unit, c)))
    };
    let (last, scaled) = positive.steps.split_last()?;
    let tail = y.steps.strip_prefix(&positive.steps[..])?;
    let [Step::Over(divisors), Step::Plus(down)] = tail else {
        return None;
    };
    let Step::Plus(halves) = last else {
        return None;
    };
    let same = (y.id, y.kind, y.shift) == (positive.id, positive.kind, positive.shift);
    if !same || divisors != unit || !is(halves, &half) || !is(down, &|unit| -((1 << 62) / unit)) {
        return None;
    }
    let rounding = match back {
        Part::Rest(odd, two) if odd == y && two[..] == [2] => Rounding::HalfEven,
        Part::Negative(negative) if negative.id == y.id && negative.steps == scaled => {
            Rounding::HalfAway
        }
        _ => return None,
    };
    let shifts = unit.iter().map(|unit| unit.trailing_zeros()).collect();
    let steps = scaled.iter().cloned();
    let steps = steps.chain([Step::Shift(shifts, rounding)]).collect();
    Some(Held { steps, ..y.clone() })
}

/// `round((multiplier x + offset) / 2^shift) + moved` of one channel.
struct Fraction {
    multiplier: i128,
    offset: i128,
    shift: u32,
    rounding: Rounding,
    moved: i128,
    /// What is added last.
    last: i64,
}

impl Fraction {
    fn of(held: &Held, channel: usize, least: i64) -> Option<Self> {
        let mut fraction = Self {
            multiplier: 1,
            offset: held.shift.into(),
            shift: 0,
            rounding: Rounding::Floor,
            moved: 0,
            last: 0,
        };
        let mut is_divided = false;
        for step in &held.steps {
            match step {
                Step::Times(factors) if !is_divided => {
                    let factor = i128::from(of_channel(factors, channel));
                    fraction.multiplier *= factor;
                    fraction.offset *= factor;
                }
                Step::Plus(terms) => {
                    let term = of_channel(terms, channel);
                    if is_divided {
                        fraction.moved += i128::from(term);
                        fraction.last = term;
                    } else {
                        fraction.offset += i128::from(term);
                    }
                }
                Step::Over(divisors) if !is_divided => {
                    // Towards zero is down where nothing is below zero.
                    if fraction.multiplier * i128::from(least) + fraction.offset < 0 {
                        return None;
                    }
                    fraction.shift = of_channel(divisors, channel).trailing_zeros();
                    is_divided = true;
                }
                Step::Shift(shifts, rounding) if !is_divided => {
                    fraction.shift = of_channel(shifts, channel);
                    fraction.rounding = *rounding;
                    is_divided = true;
                }
                _ => return None,
            }
        }
        (1..1 << 63)
            .contains(&fraction.multiplier)
            .then_some(fraction)
    }

    /// The output's zero: what is added last, if it is one of the output's integers.
    fn zero_point(&self, [least, greatest]: [i64; 2]) -> i64 {
        if (least..=greatest).contains(&self.last) {
            self.last
        } else {
            0
        }
    }

    /// Multiplier, offset and shift of an output with a zero point.
    fn constants(&self, zero_point: i64) -> Option<(i64, i64, u32)> {
        let moved = self.moved - i128::from(zero_point);
        if self.rounding != Rounding::Floor && moved != 0 {
            return None;
        }
        let offset = self.offset + (moved << self.shift);
        let offset = i64::try_from(offset).ok()?;
        Some((self.multiplier as i64, offset, self.shift))
    }
}
