//! Convolutions in integers, where both operands of a product are integers of 8 bits times powers of two.
//!
//! Every partial sum is then an integer times the product of both steps. While that integer is below
//! 2^24 an `f32` holds it, so that sums of floats are exact, too, in any order and with or without
//! fused multiply-add: the integers' sums are the same bits.

mod backward;
mod forward;
mod grid;
mod to_input;
mod to_weight;

pub(super) use backward::{InIntegers, Wanted};
pub use forward::forward_in_integers;

use crate::packing::{RoundSlice, rounded};
use crate::scratch::{self, Scratch};
use grid::Bytes;

/// Numbers at a place that are looked at before all are, and places: most tensors of floats show what they
/// are by then, though many gradients are zero.
const LOOK: usize = 64;
const PLACES: usize = 4;

/// Whether some of the rounded numbers are integers that a byte holds, times a power of two.
fn looks_on_grid(numbers: &[f32], rounding: Option<RoundSlice>) -> bool {
    let apart = numbers.len().div_ceil(PLACES).max(1);
    numbers.chunks(apart).all(|part| {
        let some = &part[..part.len().min(LOOK)];
        grid::found(rounded(some, rounding, &mut None)).is_some()
    })
}

/// Numbers as `rounding` makes them where they are integers that a byte holds, times a power of two, and which.
fn on_grid<'a>(
    numbers: &'a [f32],
    rounding: Option<RoundSlice>,
    room: &'a mut Option<Scratch>,
) -> Option<(&'a [f32], Bytes)> {
    if !looks_on_grid(numbers, rounding) {
        return None;
    }
    let numbers = rounded(numbers, rounding, room);
    Some((numbers, Bytes::new(grid::found(numbers)?)?))
}

/// The integers of numbers; `None` where one is not on the grid.
fn integers(numbers: &[f32], grid: &Bytes) -> Option<Vec<i8>> {
    let mut bytes = scratch::take_of(numbers.len());
    let fits = grid.bytes(numbers, &mut bytes);
    let signed = |byte: u8| (i32::from(byte) + grid.least) as i8;
    fits.then(|| bytes.iter().map(|&byte| signed(byte)).collect())
}
