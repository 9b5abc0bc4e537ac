//! The random words of stochastic roundings.

use std::cell::Cell;

use crate::rounding::Rounding;
use crate::rounding::philox::philox_4x32_10;

/// The random words of four roundings of a sum, numbers `4 block` to `4 block + 3`: a block of Philox
/// with the seed as key and the counter `block + 2^64 output`.
///
/// The roundings of a sum are numbered from 0 in the order in which they are made: those of all
/// products, where products are rounded, then those of the sums, of chunks with that of the chunk's sum
/// after those within it.
pub const fn random_words(seed: u64, output: u64, block: u64) -> [u32; 4] {
    let counter = [
        block as u32,
        (block >> 32) as u32,
        output as u32,
        (output >> 32) as u32,
    ];
    philox_4x32_10(counter, [seed as u32, (seed >> 32) as u32])
}

/// The random word of one rounding: it depends on the seed, on the place of the output among all and
/// on the rounding's number, and so on no thread and no instruction set. See [`random_words`].
pub const fn random_word(seed: u64, output: u64, number: u64) -> u32 {
    random_words(seed, output, number / 4)[(number % 4) as usize]
}

/// The random words of an output, one after another.
pub(super) struct Draws {
    rounding: Rounding,
    seed: u64,
    output: u64,
    number: Cell<u64>,
}

impl Draws {
    pub(super) fn new(rounding: Rounding, seed: u64, output: u64) -> Self {
        let number = Cell::new(0);
        Self {
            rounding,
            seed,
            output,
            number,
        }
    }

    pub(super) fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// The next one; zero where the rounding takes none.
    pub(super) fn next(&self) -> u32 {
        if !matches!(self.rounding, Rounding::Stochastic { .. }) {
            return 0;
        }
        let number = self.number.replace(self.number.get() + 1);
        random_word(self.seed, self.output, number)
    }
}
