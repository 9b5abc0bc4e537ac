//! Requantization by operators on integers of 64 bits, for every multiplier and rounding.

use super::model::Model;
use super::proto::DataType;
use crate::ops::{Requantize, Rounding};

/// `floor((m x + offset + half + P) / 2^s) - P / 2^s` with `P = 2^62`, so that the division, which
/// rounds towards zero, rounds down; where nothing is left over the number was a tie, which even
/// and away take back. Limited to the output's integers, and `raised` higher.
pub(super) fn shifted(
    model: &mut Model,
    name: &str,
    x: &str,
    requantize: &Requantize,
    rank: usize,
    raised: i64,
) -> String {
    let numbers = requantize.numbers;
    // Without a shift there is nothing to round; twice as much is shifted by one. A multiplier of 2^62 or
    // more has no sums but 0, of which any other makes the same.
    let constants = (0..requantize.channels()).map(|channel| match requantize.constants(channel) {
        (multiplier, offset, 0) => [multiplier.saturating_mul(2), 2 * offset, 1],
        (multiplier, offset, shift) => [multiplier, offset, i64::from(shift)],
    });
    let constants: Vec<[i64; 3]> = constants.collect();
    let of = |f: fn([i64; 3]) -> i64| constants.iter().map(|&c| f(c)).collect::<Vec<i64>>();
    let wide = DataType::Int64;
    let mut with = |op: &str, value: &str, constants: &[i64]| {
        model.with_integers(op, name, value, (constants, wide), rank)
    };
    let scaled = with("Mul", x, &of(|[multiplier, ..]| multiplier));
    let scaled = with("Add", &scaled, &of(|[_, offset, _]| offset));
    let half = match requantize.rounding {
        Rounding::Floor => of(|_| 1 << 62),
        _ => of(|[.., shift]| (1 << 62) + (1 << (shift - 1))),
    };
    let positive = with("Add", &scaled, &half);
    let unit = of(|[.., shift]| 1 << shift);
    let quotient = with("Div", &positive, &unit);
    let mut y = with("Sub", &quotient, &of(|[.., shift]| 1 << (62 - shift)));
    let taken_back = match requantize.rounding {
        Rounding::HalfEven => Some(with("Mod", &y, &[2])),
        Rounding::HalfAway => Some(is(model, name, "Less", &scaled)),
        Rounding::HalfUp | Rounding::Floor => None,
    };
    if let Some(taken_back) = taken_back {
        let rest = model.with_integers("Mod", name, &positive, (&unit, wide), rank);
        let tie = is(model, name, "Equal", &rest);
        let down = model.node("Mul", name, &[&tie, &taken_back], vec![]);
        y = model.node("Sub", name, &[&y, &down], vec![]);
    }
    let zero = [numbers.zero_point() + raised];
    y = model.with_integers("Add", name, &y, (&zero, wide), rank);
    let ends = [numbers.least(), numbers.greatest()].map(|end| [end + raised]);
    let least = model.integers(&format!("{name}/least"), wide, &[], &ends[0]);
    let greatest = model.integers(&format!("{name}/greatest"), wide, &[], &ends[1]);
    model.main("Clip", name, &[&y, &least, &greatest], vec![])
}

/// 1 where a number is zero, or below it, else 0.
fn is(model: &mut Model, name: &str, op: &str, value: &str) -> String {
    let zero = model.integers(&format!("{name}/zero"), DataType::Int64, &[], &[0]);
    let is = model.node(op, name, &[value, &zero], vec![]);
    model.cast(name, &is, DataType::Int64)
}
