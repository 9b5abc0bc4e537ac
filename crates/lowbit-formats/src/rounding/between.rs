//! Stochastic rounding between two neighbours that are any distance apart.

/// Whether a number at `part / whole` of the way from one neighbour to the next moves on to the
/// next, given `bits` random bits (the upper bits of `random`).
///
/// The probability is `floor(part / whole * 2^bits) / 2^bits`, as in
/// [`Rounding::Stochastic`](crate::Rounding::Stochastic). `part` is from 0 to `whole`.
#[inline(always)]
pub(crate) fn moves_on(part: f64, whole: f64, bits: u8, random: u32) -> bool {
    let bits = u32::from(bits);
    // 2^bits, from its exponent field: exact and without a call to `powi`.
    let steps = f64::from_bits(u64::from(1023 + bits) << 52);
    let random = f64::from(random >> (32 - bits));
    // floor(a) + r >= s is the same as a >= s - r for integers r and s; multiplied by `whole` there
    // is no quotient to be rounded, and where both sides have at most 53 bits the answer is exact.
    part * steps >= (steps - random) * whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the random numbers of `bits` bits for which 1/3 of the way moves on: by the
    /// definition `floor(2^bits / 3)`, worked out by hand.
    #[test]
    fn a_third_of_the_way() {
        for (bits, expected) in [(1, 0), (2, 1), (3, 2), (4, 5), (8, 85)] {
            let moved = (0..1u32 << bits)
                .filter(|r| moves_on(1.0, 3.0, bits, r << (32 - bits)))
                .count();
            assert_eq!(moved, expected, "{bits} bits");
        }
    }

    #[test]
    fn exact_numbers_stay() {
        assert!(!moves_on(0.0, 1.0, 32, u32::MAX));
        assert!(!moves_on(0.0, 1.0, 1, u32::MAX));
    }
}
