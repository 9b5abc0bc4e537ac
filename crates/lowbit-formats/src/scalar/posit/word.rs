//! Rounding a posit by cutting its bit string.

use crate::rounding::Rounding;
use crate::scalar::posit::{FRACTION, INFINITY, Posit, SIGN};

/// The word.
///
/// A magnitude is worked on as a "word": `(floor(log2(magnitude / 2^scale_log2)) + bias) << 23`
/// plus 23 fraction bits. Like an `f32`'s bits it orders as the magnitude does, and its lowest
/// `es + 23` bits are exactly the exponent and fraction fields of the posit; the bits above them
/// are the biased regime. Cutting the posit's string is therefore cutting the word, at a place
/// that depends on the regime only, and a carry out of the exponent field moves to the next regime
/// as it should.
impl Posit {
    /// The bias of a word's exponent.
    ///
    /// It is a multiple of `2^es` so that it does not disturb the exponent field, and large enough
    /// for every `f32` and scale (exponents -149 - 63 to 127 + 64). Its multiple has the parity of
    /// `bits + 1`: where nothing of exponent and fraction is kept, the last bit of the code is the
    /// regime's last bit, a 0 for regime `bits - 3` and a 1 for regime `2 - bits`, and with this
    /// bias the regime in the word has that same last bit. So the last kept bit of a word tells
    /// an odd code in every case.
    #[inline(always)]
    pub(crate) const fn word_bias(&self) -> u32 {
        let parity = (self.bits as u32 + 1 + (224 >> self.exponent_bits)) & 1;
        224 + (parity << self.exponent_bits)
    }

    /// What a word has more than the bits of the `f32` of the same value.
    #[inline(always)]
    const fn word_offset(&self) -> u32 {
        self.word_bias()
            .wrapping_sub(127)
            .wrapping_sub(self.scale.word_exponent() as u32)
            << FRACTION
    }

    /// The word of the power of two `2^(scale_log2 + exponent)`, kept within 32 bits.
    #[inline(always)]
    const fn power_word(&self, exponent: i32) -> u32 {
        let biased = exponent + self.word_bias() as i32;
        if biased < 0 {
            0
        } else if biased > 511 {
            u32::MAX
        } else {
            (biased as u32) << FRACTION
        }
    }

    /// The number of a word's lowest bits that a code has no place for.
    #[inline(always)]
    pub(crate) const fn cut_bits(&self, word: u32) -> u32 {
        let tail = self.exponent_bits as u32 + FRACTION;
        let regime = (word >> tail) as i32 - (self.word_bias() >> self.exponent_bits) as i32;
        // Regime r >= 0 is written with r + 2 bits, and r < 0 with 1 - r.
        let length = (regime ^ (regime >> 31)) + 2;
        let cut = tail as i32 + length - (self.bits as i32 - 1);
        // The largest magnitude has one bit less of regime than this counts; it has no tail.
        if cut < 0 {
            0
        } else if cut > tail as i32 {
            tail
        } else {
            cut as u32
        }
    }

    /// `x` rounded; `BEYOND` says that some values are no normal `f32`s.
    #[inline(always)]
    pub(crate) fn round_within<const BEYOND: bool>(
        &self,
        x: f32,
        rounding: Rounding,
        random: u32,
    ) -> f32 {
        let bits = x.to_bits();
        let magnitude = bits & !SIGN;
        let word = self.held_word::<BEYOND>(x, rounding, random);
        let value = if BEYOND {
            let value = self.word_value(word.min(self.largest_f32_word()));
            (value as f32).to_bits()
        } else {
            word.wrapping_sub(self.word_offset())
        };
        let signed = value | (bits & SIGN);
        let number = if magnitude == 0 || word == 0 {
            0
        } else {
            signed
        };
        f32::from_bits(if magnitude >= INFINITY {
            f32::NAN.to_bits()
        } else {
            number
        })
    }

    /// The word of `x`'s magnitude, rounded. Zero stands for zero. NaN and infinities give some
    /// word. `SUBNORMALS` says that subnormal inputs matter, because they are not all below the
    /// smallest posit.
    #[inline(always)]
    pub(crate) fn rounded_word<const SUBNORMALS: bool>(
        &self,
        x: f32,
        rounding: Rounding,
        random: u32,
    ) -> u32 {
        let exact = self.exact_word::<SUBNORMALS>(x, rounding);
        let negative = x.to_bits() & SIGN != 0;
        self.cut_word(exact, negative, rounding, random)
    }

    /// The word of `x`'s magnitude, not cut.
    #[inline(always)]
    fn exact_word<const SUBNORMALS: bool>(&self, x: f32, rounding: Rounding) -> u32 {
        let magnitude = x.to_bits() & !SIGN;
        let exactly = SUBNORMALS || matches!(rounding, Rounding::Stochastic { .. });
        let bits = if exactly && magnitude < 1 << FRACTION {
            // The integer's own float, brought back by the 149 places that it stands for.
            (magnitude as i32 as f32)
                .to_bits()
                .wrapping_sub(149 << FRACTION)
        } else {
            magnitude
        };
        bits.wrapping_add(self.word_offset())
    }

    /// A magnitude's word cut to what a code has place for, between the smallest and the largest
    /// posit; zero stands for zero.
    #[inline(always)]
    pub(crate) fn cut_word(
        &self,
        exact: u32,
        negative: bool,
        rounding: Rounding,
        random: u32,
    ) -> u32 {
        let (smallest, largest) = (
            self.power_word(-self.max_exponent()),
            self.power_word(self.max_exponent()),
        );
        let underflows = exact < smallest;
        let word = exact.max(smallest).min(largest);
        let cut = self.cut_bits(word);
        let mask = (1u32 << cut) - 1;
        let lower = word & !mask;
        let lower_or_zero = if underflows { 0 } else { lower };
        let upper = word.wrapping_add(mask) & !mask;
        match rounding {
            Rounding::NearestEven => {
                let odd = (word >> cut) & mask & 1;
                word.wrapping_add((mask >> 1) + odd) & !mask
            }
            Rounding::NearestAway => word.wrapping_add(mask.wrapping_add(1) >> 1) & !mask,
            Rounding::NearestUp if negative => word.wrapping_add(mask >> 1) & !mask,
            Rounding::NearestUp => word.wrapping_add(mask.wrapping_add(1) >> 1) & !mask,
            Rounding::TowardZero => lower_or_zero,
            Rounding::Down if negative => upper,
            Rounding::Down => lower_or_zero,
            Rounding::Up if negative => lower_or_zero,
            Rounding::Up => upper,
            Rounding::ToOdd => {
                let inexact = word & mask != 0;
                lower | (u32::from(inexact) << cut)
            }
            Rounding::Stochastic { bits, .. } => {
                let up = if underflows {
                    stays_above_zero(exact, smallest, bits, random)
                } else {
                    moves_up(word, cut, bits, random)
                };
                let (lower, step) = if underflows {
                    (0, smallest)
                } else {
                    (lower, mask + 1)
                };
                lower + step * u32::from(up)
            }
        }
    }

    /// Where a positive value gives way to the next in the nearest modes: the number whose string
    /// has a one after the value's. `None` if the value's string has room for all of an `f32`.
    pub(crate) fn boundary_above(&self, value: f32) -> Option<f64> {
        let word = self.rounded_word::<true>(value, Rounding::TowardZero, 0);
        let half = self.cut_bits(word).checked_sub(1)?;
        Some(self.word_value(word | 1 << half))
    }

    /// The value of a word.
    #[inline(always)]
    pub(crate) fn word_value(&self, word: u32) -> f64 {
        let exponent = 1023 + self.scale.word_exponent() - self.word_bias() as i32;
        let offset = i64::from(exponent) << FRACTION;
        let bits = (i64::from(word) + offset) << 29;
        if word == 0 {
            0.0
        } else {
            f64::from_bits(bits as u64)
        }
    }

    /// As [`rounded_word`](Self::rounded_word), but to nearest no posit below all `f32`s, which would
    /// be zero as one: nothing but zero becomes zero.
    #[inline(always)]
    pub(crate) fn held_word<const BEYOND: bool>(
        &self,
        x: f32,
        rounding: Rounding,
        random: u32,
    ) -> u32 {
        let word = self.rounded_word::<BEYOND>(x, rounding, random);
        if BEYOND && rounding.is_nearest() {
            word.max(self.rounded_word::<true>(f32::from_bits(1), Rounding::Up, 0))
        } else {
            word
        }
    }

    /// The word of the largest posit that is an `f32`.
    #[inline(always)]
    fn largest_f32_word(&self) -> u32 {
        self.rounded_word::<true>(f32::MAX, Rounding::TowardZero, 0)
    }

    /// The code of a rounded word.
    pub(crate) fn word_code(&self, word: u32) -> u32 {
        if word == 0 {
            return 0;
        }
        let tail_width = self.exponent_bits() + FRACTION;
        let regime = (word >> tail_width) as i32 - (self.word_bias() >> self.exponent_bits) as i32;
        let room = self.width() - 1;
        // Regime and tail as one string, at most 57 bits long, put at the top of 64 bits and then
        // cut to the room there is.
        let tail = u64::from(word & ((1 << tail_width) - 1));
        let (head, length) = if regime >= 0 {
            let ones = regime as u32 + 1;
            (((1u64 << ones) - 1) << 1, ones + 1)
        } else {
            (1, regime.unsigned_abs() + 1)
        };
        let string = ((head << tail_width) | tail) << (64 - length - tail_width);
        (string >> (64 - room)) as u32
    }
}

/// Whether stochastic rounding takes a word whose lowest `cut` bits go to its upper neighbour.
///
/// With `t = 2^32 - random` (only the upper `bits` of `random` count), it does if
/// `(x - lower) / (upper - lower) * 2^32 >= t`, here multiplied out in integers.
#[inline(always)]
fn moves_up(word: u32, cut: u32, bits: u8, random: u32) -> bool {
    let threshold = stochastic_threshold(bits, random);
    let rest = word & ((1 << cut) - 1);
    // Only fraction bits are cut: the value is linear in them.
    let linear = u64::from(rest) << (32 - cut) >= threshold;
    // Exponent bits are cut too: lower is 2^a, upper is 2^(a + span), and x is
    // significand * 2^(a + over - 23).
    let span = 1u64 << cut.saturating_sub(FRACTION);
    let over = rest >> FRACTION;
    let distance = (significand(word) << over) - (1 << FRACTION);
    let exponential = distance << (32 - FRACTION) >= (threshold << span) - threshold;
    if cut > FRACTION { exponential } else { linear }
}

/// The same between zero and the smallest magnitude, whose word is `smallest`.
#[inline(always)]
fn stays_above_zero(word: u32, smallest: u32, bits: u8, random: u32) -> bool {
    let below = (smallest >> FRACTION).wrapping_sub(word >> FRACTION);
    let part = (significand(word) << (32 - FRACTION)) >> below.min(63);
    part >= stochastic_threshold(bits, random)
}

/// `2^32 - random`, of which the upper `bits` count.
#[inline(always)]
fn stochastic_threshold(bits: u8, random: u32) -> u64 {
    (1 << 32) - u64::from(random & (u32::MAX << (32 - u32::from(bits))))
}

/// The fraction bits of a word with the hidden bit.
#[inline(always)]
fn significand(word: u32) -> u64 {
    u64::from(word & ((1 << FRACTION) - 1) | 1 << FRACTION)
}
