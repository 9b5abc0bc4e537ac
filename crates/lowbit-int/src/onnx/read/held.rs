//! A value of a file as a function of the integers of a tensor.

use crate::graph::TensorId;
use crate::ops::Rounding;
use crate::ops::of_channel;

/// A value of a file: of each integer `k` of a tensor first `scale (k - zero_point) + shift`, and then
/// what the steps do to that, each element alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    pub(super) id: TensorId,
    pub(super) kind: Kind,
    /// For all, or for each channel; 1 of integers.
    pub(super) scale: Vec<f64>,
    /// Beside 0 the scale is 1.
    pub(super) shift: i64,
    pub(super) steps: Vec<Step>,
    /// Whether the file's first float is that number, in whichever order its sum was added.
    pub(super) is_exact: bool,
    /// Whether the first float was an integer.
    pub(super) was_integer: bool,
}

/// What a value is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    /// Of so many bits, with or without sign.
    Integer(u32, bool),
}

impl Kind {
    /// Of a type.
    pub(super) fn of(data_type: i64) -> Result<Self, String> {
        match data_type {
            1 => Ok(Self::Float),
            7 => Ok(Self::Integer(64, true)),
            _ => {
                let data_type = i32::try_from(data_type).map_err(|_| "no type")?;
                let (bits, signed) = super::constant::width(data_type)?;
                Ok(Self::Integer(bits, signed))
            }
        }
    }

    /// The least and the greatest integer.
    pub(super) fn ends(self) -> [i64; 2] {
        match self {
            Self::Float => [0, 0],
            Self::Integer(bits, true) => [i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)],
            Self::Integer(bits, false) => [0, i64::MAX >> (63 - bits)],
        }
    }
}

/// What is done to each element. Constants are one for all, or one for each channel. None but a factor
/// below zero falls.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Floats.
    Mul(Vec<f32>),
    Add(Vec<f32>),
    Round(Rounding),
    /// With the name of the node that does it.
    Clip(String, [f64; 2]),
    /// Integers.
    Times(Vec<i64>),
    Plus(Vec<i64>),
    /// Divided by powers of two, rounded towards zero.
    Over(Vec<i64>),
    /// Divided by powers of two, rounded.
    Shift(Vec<u32>, Rounding),
}

impl Held {
    /// A tensor's integers `k` as `k - zero_point + shift`.
    pub(super) fn integers(id: TensorId, kind: Kind, shift: i64) -> Self {
        Self {
            id,
            kind,
            scale: vec![1.0],
            shift,
            steps: vec![],
            is_exact: true,
            was_integer: true,
        }
    }

    /// The real numbers that a tensor's integers stand for.
    pub(super) fn real(id: TensorId, scale: Vec<f64>, is_exact: bool) -> Self {
        Self {
            id,
            kind: Kind::Float,
            scale,
            shift: 0,
            steps: vec![],
            is_exact,
            was_integer: false,
        }
    }

    /// With one more step.
    pub(super) fn with(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The scales, if the value is nothing but a product with them.
    pub(super) fn product(&self) -> Option<Vec<f64>> {
        let mut scale = self.scale.clone();
        if self.kind != Kind::Float || self.shift != 0 {
            return None;
        }
        for step in &self.steps {
            let Step::Mul(factors) = step else {
                return None;
            };
            scale = times(&scale, factors)?;
        }
        Some(scale)
    }

    /// Whether there is a factor below zero.
    pub(super) fn falls(&self) -> bool {
        let is_negative = |step: &Step| match step {
            Step::Mul(factors) => factors.iter().any(|&f| f < 0.0),
            Step::Times(factors) => factors.iter().any(|&f| f < 0),
            _ => false,
        };
        self.scale.iter().any(|&s| s < 0.0) || self.steps.iter().any(is_negative)
    }

    /// With factors, which are part of the scale where that loses nothing.
    pub(super) fn times(mut self, factors: &[f32]) -> Self {
        let are_powers = factors
            .iter()
            .all(|f| f.is_normal() && f.to_bits() << 9 == 0);
        let scaled = times(&self.scale, factors);
        match scaled {
            Some(scale) if are_powers && self.steps.is_empty() && self.shift == 0 => {
                let fits = |s: &f64| s.abs() as f32 >= f32::MIN_POSITIVE && s.abs() < 100f64.exp2();
                if self.is_exact && scale.iter().all(fits) {
                    self.scale = scale;
                    return self;
                }
                self.with(Step::Mul(factors.to_vec()))
            }
            _ => self.with(Step::Mul(factors.to_vec())),
        }
    }

    /// What a float becomes of `x = k - zero_point`.
    pub(super) fn float(&self, channel: usize, x: i64) -> f32 {
        let first = of_channel(&self.scale, channel) * x as f64 + self.shift as f64;
        floats(&self.steps, channel, first as f32)
    }

    /// What an integer becomes of `x = k - zero_point`; `None` beyond its type.
    pub(super) fn integer(&self, channel: usize, x: i64) -> Option<i64> {
        let [least, greatest] = self.kind.ends();
        let holds = |x: &i64| (least..=greatest).contains(x);
        let mut x = x.checked_add(self.shift).filter(holds)?;
        for step in &self.steps {
            x = match step {
                Step::Times(factors) => x.checked_mul(of_channel(factors, channel))?,
                Step::Plus(terms) => x.checked_add(of_channel(terms, channel))?,
                Step::Over(divisors) => x.checked_div(of_channel(divisors, channel))?,
                Step::Shift(shifts, rounding) => rounding.shift(x, of_channel(shifts, channel)),
                _ => return None,
            };
            if !holds(&x) {
                return None;
            }
        }
        Some(x)
    }
}

/// What becomes of a float.
pub(super) fn floats(steps: &[Step], channel: usize, first: f32) -> f32 {
    steps.iter().fold(first, |x, step| match step {
        Step::Mul(factors) => x * of_channel(factors, channel),
        Step::Add(terms) => x + of_channel(terms, channel),
        Step::Clip(_, [least, greatest]) => x.max(*least as f32).min(*greatest as f32),
        Step::Round(Rounding::Floor) => x.floor(),
        Step::Round(Rounding::HalfEven) => x.round_ties_even(),
        Step::Round(_) => (x.abs() + 0.5).floor().copysign(x),
        _ => f32::NAN,
    })
}

/// Scales times factors, of each channel.
fn times(scale: &[f64], factors: &[f32]) -> Option<Vec<f64>> {
    let count = scale.len().max(factors.len());
    let lengths = [scale.len(), factors.len()];
    if lengths.iter().any(|&n| n != 1 && n != count) {
        return None;
    }
    let channels = 0..count;
    Some(
        channels
            .map(|c| of_channel(scale, c) * f64::from(of_channel(factors, c)))
            .collect(),
    )
}
