//! Numbers that f32 does not hold, rounded once.
//!
//! A format's values are f32, and so is what its grid rounds. A real number between two neighbouring
//! f32 is rounded by what the format does with those two: where both go to one value, so does
//! everything between them; else a boundary of the format lies there, at which the exact number is
//! looked at.

use std::cmp::Ordering;

use crate::rounding::Rounding;
use crate::rounding::between::moves_on;
use crate::scalar::ScalarFormat;

/// A real number: an f64, or one that differs from it by less than half of any step of f64.
///
/// A decimal text is such a number: its nearest f64, and on which side of it the text lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wide {
    nearest: f64,
    /// `Greater` if the number is larger than `nearest`.
    rest: Ordering,
}

impl From<f64> for Wide {
    fn from(x: f64) -> Self {
        Self {
            nearest: x,
            rest: Ordering::Equal,
        }
    }
}

impl Wide {
    /// The number next to `nearest`, a finite f64, that is larger or smaller than it.
    pub fn beside(nearest: f64, rest: Ordering) -> Self {
        Self { nearest, rest }
    }

    /// The nearest f64, the largest one for finite numbers beyond it.
    pub fn nearest(self) -> f64 {
        self.nearest
    }

    /// Whether the number is below, at or above `y`.
    pub fn compare(self, y: f64) -> Ordering {
        match self.nearest.partial_cmp(&y) {
            Some(Ordering::Equal) => self.rest,
            Some(order) => order,
            None => Ordering::Equal,
        }
    }

    /// Whether the number is below, at or above another.
    pub(crate) fn compare_wide(self, other: Self) -> Ordering {
        match self.nearest.partial_cmp(&other.nearest) {
            Some(Ordering::Equal) | None => self.rest.cmp(&other.rest),
            Some(order) => order,
        }
    }

    /// The number as f32, an inexact one to the neighbour with an odd significand: rounding that to
    /// fewer bits gives what rounding the number itself gives (Boldo and Melquiond, "Emulation of FMA
    /// and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd", 2008).
    pub(crate) fn to_odd(self) -> f32 {
        match self.between() {
            Ok(None) => self.nearest as f32,
            Ok(Some((lo, hi))) => {
                if lo.to_bits() & 1 == 1 {
                    lo
                } else {
                    hi
                }
            }
            // The largest f32 is odd.
            Err(()) => f32::MAX.copysign(self.nearest as f32),
        }
    }

    /// The same number as f32, if it is one, infinite or NaN.
    pub(crate) fn single(self) -> Option<f32> {
        matches!(self.between(), Ok(None)).then_some(self.nearest as f32)
    }

    /// Whether the number is below, at or above its nearest f64.
    pub(crate) fn beyond_nearest(self) -> Ordering {
        self.rest
    }

    /// The number without its sign.
    pub fn abs(self) -> Self {
        if self.is_negative() {
            Self {
                nearest: -self.nearest,
                rest: self.rest.reverse(),
            }
        } else {
            self
        }
    }

    /// Whether the number, or a zero's sign, is negative.
    pub fn is_negative(self) -> bool {
        self.nearest.is_sign_negative() && !(self.nearest == 0.0 && self.rest == Ordering::Greater)
            || (self.nearest == 0.0 && self.rest == Ordering::Less)
    }

    /// The remainder of a division by a power of two, with the number's sign.
    pub(crate) fn remainder(self, modulus: f64) -> Self {
        Self {
            nearest: self.nearest % modulus,
            ..self
        }
    }

    /// Whether the number is below, at or above the middle of two others.
    pub(crate) fn compare_middle(self, lower: f64, upper: f64) -> Ordering {
        // The sum as two numbers without error (Knuth, The Art of Computer Programming, volume 2,
        // section 4.2.2, theorem B).
        let sum = lower + upper;
        let upper_part = sum - lower;
        let rest = (lower - (sum - upper_part)) + (upper - upper_part);
        let twice = 2.0 * self.nearest;
        if twice.is_infinite() || sum.is_infinite() {
            return self.nearest.total_cmp(&(0.5 * lower + 0.5 * upper));
        }
        match twice.partial_cmp(&sum) {
            Some(Ordering::Equal) if rest > 0.0 => Ordering::Less,
            Some(Ordering::Equal) if rest < 0.0 => Ordering::Greater,
            Some(Ordering::Equal) | None => self.rest,
            Some(order) => order,
        }
    }

    /// The neighbouring f32 between which the number lies, `None` if it is an f32, infinite or NaN;
    /// `Err` if it is finite and beyond all f32.
    fn between(self) -> Result<Option<(f32, f32)>, ()> {
        let x = self.nearest;
        if !x.is_finite() {
            return Ok(None);
        }
        let beyond = self.abs().compare(f32::MAX.into()) == Ordering::Greater;
        if beyond {
            return Err(());
        }
        let near = x as f32;
        Ok(match self.compare(near.into()) {
            Ordering::Equal => None,
            Ordering::Less => Some((near.next_down(), near)),
            // Above a zero of either sign lies the smallest number.
            Ordering::Greater => Some((near + 0.0, near.next_up())),
        })
    }
}

/// Rounds a number to a format; see [`Format::round_f64`](crate::Format::round_f64).
pub(crate) fn round<F: ScalarFormat + ?Sized>(
    format: &F,
    x: Wide,
    rounding: Rounding,
    random: u32,
) -> f32 {
    let single = |x: f32| format.round_single(x, rounding, random);
    let (lo, hi) = match x.between() {
        Ok(None) => return single(x.nearest as f32),
        Ok(Some(neighbours)) => neighbours,
        Err(()) => return beyond_singles(format, x, rounding, random),
    };
    let (toward, away) = if x.is_negative() { (hi, lo) } else { (lo, hi) };
    if toward == 0.0 && format.round_single(toward, rounding, random).is_nan() {
        return single(away);
    }
    match rounding {
        mode if mode.is_nearest() => nearest(format, x, (lo, hi), mode),
        Rounding::Stochastic { bits, .. } => {
            let lower = format.round_single(lo, Rounding::Down, 0);
            let upper = format.round_single(hi, Rounding::Up, 0);
            at_random(format, x, (lower, upper), bits, random)
        }
        _ => directed(format, (toward, away), rounding),
    }
}

/// A number between two f32, of which at most both are values of the format.
fn directed<F: ScalarFormat + ?Sized>(
    format: &F,
    (toward, away): (f32, f32),
    rounding: Rounding,
) -> f32 {
    let single = |x: f32, mode| format.round_single(x, mode, 0);
    // An f32 that is no value lies between the same two values as the number itself.
    if let Some(inside) = [away, toward]
        .into_iter()
        .find(|&x| single(x, Rounding::TowardZero) != x)
    {
        return single(inside, rounding);
    }
    let (lower, upper) = if toward < away {
        (toward, away)
    } else {
        (away, toward)
    };
    match rounding {
        Rounding::Down => lower,
        Rounding::Up => upper,
        Rounding::ToOdd if is_odd(format, away, toward) => away,
        _ => toward,
    }
}

/// Whether `x`, of two neighbouring values, has the odd code; of codes that are both even or both
/// odd, since there are codes between them that f32 does not hold, whether its f32 is odd.
fn is_odd<F: ScalarFormat + ?Sized>(format: &F, x: f32, other: f32) -> bool {
    let [code, next] = [x, other].map(|x| format.encode(x) & 1);
    if code == next {
        x.to_bits() & 1 == 1
    } else {
        code == 1
    }
}

/// A number between two f32 to nearest.
fn nearest<F: ScalarFormat + ?Sized>(
    format: &F,
    x: Wide,
    (lo, hi): (f32, f32),
    rounding: Rounding,
) -> f32 {
    let lower = format.round_single(lo, rounding, 0);
    let upper = format.round_single(hi, rounding, 0);
    let alike = lower == upper || (lower.is_nan() && upper.is_nan());
    let negative = x.is_negative();
    if alike {
        return if negative { lower } else { upper };
    }
    let ends = (lower_end(format, lower), upper_end(format, upper));
    match format.compare_boundary(x, ends, rounding) {
        Ordering::Less => lower,
        Ordering::Greater => upper,
        Ordering::Equal => {
            let up = match rounding {
                Rounding::NearestAway => !negative,
                Rounding::NearestUp => true,
                _ => is_odd(format, lower, upper),
            };
            if up { upper } else { lower }
        }
    }
}

/// A number between two values at random.
fn at_random<F: ScalarFormat + ?Sized>(
    format: &F,
    x: Wide,
    (lower, upper): (f32, f32),
    bits: u8,
    random: u32,
) -> f32 {
    if lower == upper || (lower.is_nan() && upper.is_nan()) {
        return if x.is_negative() { lower } else { upper };
    }
    let (low, high) = (lower_end(format, lower), upper_end(format, upper));
    // The move is away from zero, but upwards between values of both signs.
    let negative = high <= 0.0;
    let (part, rest) = if negative {
        (high - x.nearest, x.rest.reverse())
    } else {
        (x.nearest - low, x.rest)
    };
    let mut moves = moves_on(part, high - low, bits, random);
    if rest == Ordering::Less && moves {
        // Just below a threshold is not at it.
        moves = moves_on(part.next_down(), high - low, bits, random);
    }
    if moves != negative { upper } else { lower }
}

/// A lower value, or what stands in its place where numbers overflow.
fn lower_end<F: ScalarFormat + ?Sized>(format: &F, value: f32) -> f64 {
    if value.is_finite() {
        value.into()
    } else {
        format.past_ends().0
    }
}

/// As [`lower_end`], for the upper one.
fn upper_end<F: ScalarFormat + ?Sized>(format: &F, value: f32) -> f64 {
    if value.is_finite() {
        value.into()
    } else {
        format.past_ends().1
    }
}

/// A finite number beyond the largest f32, or below the smallest.
fn beyond_singles<F: ScalarFormat + ?Sized>(
    format: &F,
    x: Wide,
    rounding: Rounding,
    random: u32,
) -> f32 {
    let negative = x.is_negative();
    let last = if negative { f32::MIN } else { f32::MAX };
    let (below, above) = format.past_ends();
    let past = if negative { -below } else { above };
    let value = format.round_single(last, Rounding::TowardZero, 0);
    let overflow = format.round_single(last * 2.0, rounding, random);
    if value != last || past.is_infinite() {
        // Numbers are already beyond the last value, and nothing changes further out.
        return format.round_single(last, rounding, random);
    }
    let away = match rounding {
        Rounding::NearestEven | Rounding::NearestAway | Rounding::NearestUp => {
            match x.abs().compare_middle(f32::MAX.into(), past) {
                // The last f32 is odd, so that a tie goes on.
                Ordering::Equal => !(negative && rounding == Rounding::NearestUp),
                side => side == Ordering::Greater,
            }
        }
        Rounding::Down => negative,
        Rounding::Up => !negative,
        Rounding::TowardZero | Rounding::ToOdd => false,
        Rounding::Stochastic { bits, .. } => {
            let part = x.abs().nearest - f64::from(f32::MAX);
            moves_on(part, past - f64::from(f32::MAX), bits, random)
        }
    };
    if away { overflow } else { last }
}

/// See [`Wide::to_odd`].
pub(crate) fn to_odd(x: f64) -> f32 {
    Wide::from(x).to_odd()
}
