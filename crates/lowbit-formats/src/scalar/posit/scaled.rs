//! Posits times a factor that is no power of two.
//!
//! A word's exponent field takes up a power of two. Any other factor is divided out of the number
//! first: the quotient becomes a word whose last bit says whether anything was cut, and cutting that
//! word further is cutting the exact quotient.

use std::cmp::Ordering;

use crate::rounding::Rounding;
use crate::rounding::between::moves_on;
use crate::scalar::posit::{FRACTION, INFINITY, Posit, SIGN};
use crate::scalar::{Grid, Wide};

/// The most bits of a posit whose factor is no power of two. With 24 bits and no exponent bits,
/// 21 bits of fraction are left: two less than an `f32` has, so that rounding a product to `f32`
/// never takes it to another code.
pub(crate) const MAX_BITS: u8 = 24;

/// Bits of an `f64`'s fraction that a word does not have.
const EXTRA: u32 = 52 - FRACTION;

/// A posit with its factor apart, ready for rounding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaledPosit {
    /// The posit without its factor.
    posit: Posit,
    /// The factor, in f64.
    factor: f64,
    /// One over the factor, in f64.
    per: f64,
    /// The words of the smallest and the largest posit whose value as `f32` is neither 0 nor
    /// infinite.
    smallest: u32,
    largest: u32,
}

impl ScaledPosit {
    pub(crate) fn new(posit: Posit) -> Self {
        let (times, over) = posit.scale.quotient();
        let mut scaled = Self {
            posit: posit.unscaled(),
            factor: times / over,
            per: over / times,
            smallest: 0,
            largest: u32::MAX,
        };
        scaled.largest = scaled.cut(scaled.exact_word(f32::MAX.into()), Rounding::TowardZero);
        // Half of the smallest f32 becomes zero, and everything above it the smallest f32.
        let half = 0.5 * f64::from(f32::from_bits(1));
        scaled.smallest = scaled.cut(scaled.exact_word(half), Rounding::Up);
        if scaled.value(scaled.smallest) == 0.0 {
            scaled.smallest = scaled.next(scaled.smallest);
        }
        scaled
    }

    /// The value of a word as an `f32`, rounded once: f64 gives the exact product, or the quotient
    /// [`snapped`], which lies far from a middle of two `f32` or at one.
    #[inline(always)]
    pub(crate) fn value(&self, word: u32) -> f32 {
        snapped(self.posit.word_value(word) * self.factor) as f32
    }

    /// The word of `magnitude` over the factor, cut to 23 bits of fraction, the last of which is set
    /// if anything was cut off (rounding to odd).
    #[inline(always)]
    fn exact_word(&self, magnitude: f64) -> u32 {
        let bits = snapped(magnitude * self.per).to_bits();
        let offset = (1023 - u64::from(self.posit.word_bias())) << FRACTION;
        let inexact = bits & ((1 << EXTRA) - 1) != 0;
        (bits >> EXTRA).wrapping_sub(offset) as u32 | u32::from(inexact)
    }

    #[inline(always)]
    fn cut(&self, exact: u32, rounding: Rounding) -> u32 {
        self.posit.cut_word(exact, false, rounding, 0)
    }

    /// Cut to nearest; nothing but zero becomes zero.
    #[inline(always)]
    fn nearest(&self, exact: u32, negative: bool, mode: Rounding) -> u32 {
        let word = self.posit.cut_word(exact, negative, mode, 0);
        word.max(self.smallest).min(self.largest)
    }

    /// The word after that of a value.
    fn next(&self, word: u32) -> u32 {
        self.cut(word + 1, Rounding::Up)
    }

    /// The word of `x`'s magnitude, rounded. Zero, NaN and infinities give some word.
    #[inline(always)]
    pub(crate) fn word(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        let (magnitude, negative) = (x.abs(), x.to_bits() & SIGN != 0);
        let exact = self.exact_word(magnitude.into());
        let near = self.nearest(exact, negative, Rounding::NearestEven);
        let directed = match rounding {
            Rounding::NearestEven => return near,
            Rounding::NearestAway | Rounding::NearestUp => {
                return self.nearest(exact, negative, rounding);
            }
            Rounding::Stochastic { bits, .. } => {
                let lower = self.cut(exact, Rounding::TowardZero).min(self.largest);
                let upper = self.cut(exact, Rounding::Up).min(self.largest);
                let [low, high] = [lower, upper].map(|word| f64::from(self.value(word)));
                let up = moves_on(f64::from(magnitude) - low, high - low, bits, random);
                if up { upper } else { lower }
            }
            mode => {
                let word = self.posit.cut_word(exact, negative, mode, 0);
                word.min(self.largest)
            }
        };
        // A value that lies beside its product is not moved on to the product's other neighbour.
        if self.value(near) == magnitude {
            near
        } else {
            directed
        }
    }

    /// Where the nearest modes go over from `toward` to `away`, two neighbouring values above zero:
    /// the factor, here as a quotient, times the posit that has one bit more. `None` if `f32` does not hold the values
    /// between them.
    fn boundary(&self, (times, over): (f64, f64), toward: f32, away: f32) -> Option<Wide> {
        let word = self.word(toward, Rounding::NearestEven, 0);
        let half = self.posit.cut_bits(word).checked_sub(1)?;
        if self.value(self.next(word)) != away {
            return None;
        }
        let product = self.posit.word_value(word | 1 << half) * times;
        let boundary = product / over;
        let rest = (-boundary).mul_add(over, product);
        Some(Wide::beside(boundary, rest.total_cmp(&0.0)))
    }
}

/// A product with the factor or its reciprocal, which f64 may have rounded, made exact where the exact
/// one has at most 25 bits, and else left on the side of every such number on which it belongs.
///
/// The exact one is `v d` or `v / d` for numbers of at most 24 bits. A quotient between `2^24` and
/// `2^25`, with integers `d < 2^24` and `t` of 25 bits, is `t`, or differs from it by
/// `|v - t d| / d > 2^-24`: sixteen last places of f64, which has 28 bits after the point there. The
/// computed one differs from it by less than two, from the reciprocal's rounding and its own. So the
/// nearest multiple of eight last places is the exact number where that has 25 bits, and does not pass
/// one where not.
#[inline(always)]
fn snapped(product: f64) -> f64 {
    f64::from_bits(product.to_bits().wrapping_add(4) & !7)
}

impl Grid for ScaledPosit {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let bits = x.to_bits();
        let magnitude = bits & !SIGN;
        let value = self.value(self.word(x, rounding, random));
        let signed = if value == 0.0 || magnitude == 0 {
            0
        } else {
            value.to_bits() | (bits & SIGN)
        };
        f32::from_bits(if magnitude >= INFINITY {
            f32::NAN.to_bits()
        } else {
            signed
        })
    }
}

/// On which side of the boundary between two values of one sign `x` lies; see
/// [`ScalarFormat::compare_boundary`](crate::ScalarFormat::compare_boundary).
pub(crate) fn compare(posit: Posit, x: Wide, (lower, upper): (f64, f64)) -> Ordering {
    let (toward, away) = (lower.abs().min(upper.abs()), lower.abs().max(upper.abs()));
    let scaled = ScaledPosit::new(posit);
    let boundary = scaled.boundary(posit.scale.quotient(), toward as f32, away as f32);
    let Some(boundary) = boundary else {
        return x.compare_middle(lower, upper);
    };
    let order = x.abs().compare_wide(boundary);
    if upper > 0.0 { order } else { order.reverse() }
}
