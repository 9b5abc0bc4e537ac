//! Quotients, products and differences of numbers that f32 does not hold, rounded once.
//!
//! A guess in f64 is nearer to the exact result than the next f32, so that it only has to be settled
//! on which side of an f32, or of a middle of two, the exact result lies.

use std::cmp::Ordering;

use crate::scalar::Wide;

/// `x / divisor` as f32, to nearest-even.
pub(crate) fn nearest(x: Wide, divisor: f32) -> f32 {
    if let Some(x) = x.single() {
        return x / divisor;
    }
    let divisor = f64::from(divisor);
    // A middle has 25 bits and the divisor 24: their product is exact.
    nearest_to(x.nearest() / divisor, |y| x.compare(y * divisor))
}

/// `x / divisor` as f32; of a number that is no f32, an inexact quotient to the neighbour with an odd
/// significand, so that rounding it again is rounding the exact one.
pub(crate) fn to_odd(x: Wide, divisor: f32) -> f32 {
    if let Some(x) = x.single() {
        return x / divisor;
    }
    if !divisor.is_finite() || divisor == 0.0 {
        return x.nearest() as f32 / divisor;
    }
    let divisor = f64::from(divisor);
    odd_beside(x.nearest() / divisor, |y| x.compare(y * divisor))
}

/// `x * factor` as f32, as [`to_odd`] rounds.
pub(crate) fn product_to_odd(x: Wide, factor: f32) -> f32 {
    if let Some(x) = x.single() {
        return x * factor;
    }
    if !factor.is_finite() || factor == 0.0 {
        return x.nearest() as f32 * factor;
    }
    let factor = f64::from(factor);
    odd_beside(x.nearest() * factor, |y| {
        // The product less y is rounded once, and keeps its sign.
        let difference = x.nearest().mul_add(factor, -y);
        order(difference).then(x.beyond_nearest())
    })
}

/// `dividend / x` as f32, to nearest-even, for an `x` that is not negative.
pub(crate) fn nearest_inverse(dividend: f32, x: Wide) -> f32 {
    if let Some(x) = x.single() {
        return dividend / x;
    }
    let dividend = f64::from(dividend);
    nearest_to(dividend / x.nearest(), |y| {
        let product = y.mul_add(x.nearest(), -dividend);
        order(-product).then(x.beyond_nearest().reverse())
    })
}

/// `high - low` as f32, to nearest-even. Where both are texts that no f64 holds, what lies beyond f64
/// does not count.
pub(crate) fn nearest_difference(high: Wide, low: Wide) -> f32 {
    if let (Some(high), Some(low)) = (high.single(), low.single()) {
        return high - low;
    }
    let (a, b) = (high.nearest(), -low.nearest());
    // The sum as two numbers without error (Knuth, The Art of Computer Programming, volume 2,
    // section 4.2.2, theorem B).
    let sum = a + b;
    let of_b = sum - a;
    let error = (a - (sum - of_b)) + (b - of_b);
    nearest_to(sum, |y| {
        let difference = (sum - y) + error;
        let beyond = high.beyond_nearest().then(low.beyond_nearest().reverse());
        order(difference).then(beyond)
    })
}

/// The sign of a number that is not NaN.
fn order(x: f64) -> Ordering {
    x.partial_cmp(&0.0).unwrap_or(Ordering::Equal)
}

/// The f32 nearest to a number, near which `guess` is; `compare` says whether it is below, at or
/// above another.
fn nearest_to(guess: f64, compare: impl Fn(f64) -> Ordering) -> f32 {
    let near = guess as f32;
    if !near.is_finite() {
        return near;
    }
    let other = match compare(near.into()) {
        Ordering::Less => near.next_down(),
        Ordering::Equal => return near,
        Ordering::Greater => (near + 0.0).next_up(),
    };
    if other.is_infinite() {
        return near;
    }
    let middle = 0.5 * (f64::from(near) + f64::from(other));
    let (lower, upper) = if near < other {
        (near, other)
    } else {
        (other, near)
    };
    match compare(middle) {
        Ordering::Less => lower,
        Ordering::Greater => upper,
        Ordering::Equal if lower.to_bits() & 1 == 0 => lower,
        Ordering::Equal => upper,
    }
}

/// As [`nearest_to`], an f32 if the number is one, else the neighbour with an odd significand.
fn odd_beside(guess: f64, compare: impl Fn(f64) -> Ordering) -> f32 {
    let near = guess as f32;
    if near.is_infinite() {
        // The number is finite, and the largest f32 is odd.
        return f32::MAX.copysign(near);
    }
    let other = match compare(near.into()) {
        Ordering::Less => near.next_down(),
        Ordering::Equal => return near,
        Ordering::Greater => (near + 0.0).next_up(),
    };
    if near.to_bits() & 1 == 1 { near } else { other }
}
