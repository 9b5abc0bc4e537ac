//! How many bits a matrix's numbers have, which decides how their products may be summed.

use lowbit_formats::kernel::isa::dispatch_on;

use crate::vector::LANES;

/// The bits between which all numbers of a matrix lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The most significant bits that a number has, from its first one to its last; of subnormal
    /// ones no more than these.
    pub(super) bits: i32,
    /// The least exponent of a last one.
    pub(super) lowest: i32,
    /// The greatest exponent of a first one, of subnormal numbers at most -127; 128 where there is
    /// an infinity or NaN.
    pub(super) highest: i32,
}

impl Extent {
    /// Of nothing but zeros, 1 bit: that of one.
    pub(super) fn of(numbers: &[f32]) -> Self {
        let mut lanes = [[23; LANES], [i32::MAX; LANES], [i32::MIN; LANES]];
        dispatch_on(
            numbers,
            &mut lanes,
            #[inline(always)]
            |numbers, lanes| {
                let [mut cut, mut lowest, mut highest] = *lanes;
                let (lines, rest) = numbers.as_chunks::<LANES>();
                for line in lines {
                    for (lane, &x) in line.iter().enumerate() {
                        let [c, l, h] = bits_of(x);
                        cut[lane] = cut[lane].min(c);
                        lowest[lane] = lowest[lane].min(l);
                        highest[lane] = highest[lane].max(h);
                    }
                }
                for &x in rest {
                    let [c, l, h] = bits_of(x);
                    cut[0] = cut[0].min(c);
                    lowest[0] = lowest[0].min(l);
                    highest[0] = highest[0].max(h);
                }
                *lanes = [cut, lowest, highest];
            },
        );
        let least = |lanes: [i32; LANES]| lanes.into_iter().fold(i32::MAX, i32::min);
        let (cut, lowest) = (least(lanes[0]), least(lanes[1]));
        let highest = lanes[2].into_iter().fold(i32::MIN, i32::max);
        if highest == i32::MIN {
            return Self {
                bits: 1,
                lowest: 0,
                highest: 0,
            };
        }
        Self {
            bits: 24 - cut,
            lowest,
            highest,
        }
    }

    /// Whether all numbers are finite.
    pub(super) fn finite(&self) -> bool {
        self.highest < 128
    }

    /// Bits of the greatest number in units of the least exponent.
    pub(super) fn width(&self) -> i32 {
        self.highest - self.lowest + 1
    }

    /// Whether f32 holds the products with another matrix's numbers.
    pub(super) fn holds_products(&self, other: &Self) -> bool {
        self.bits + other.bits <= 24
            && self.lowest + other.lowest >= -149
            && self.highest + other.highest < 127
    }
}

/// The zeros at the end of a significand of 24 bits, and the exponents of its last and its first
/// one; of zero, what changes no minimum and no maximum.
#[inline(always)]
fn bits_of(x: f32) -> [i32; 3] {
    let magnitude = x.to_bits() & 0x7FFF_FFFF;
    let field = (magnitude >> 23) as i32;
    let leading = i32::from(field > 0) << 23;
    let significand = (magnitude & 0x7F_FFFF) as i32 | leading;
    // A power of two, whose f32 has its exponent.
    let last = (significand & -significand) as f32;
    let zeros = (last.to_bits() >> 23) as i32 - 127;
    let exponent = if field > 1 { field } else { 1 } - 127;
    let highest = if field > 0 { exponent } else { -127 };
    let nothing = magnitude == 0;
    [
        if nothing { 23 } else { zeros },
        if nothing {
            i32::MAX
        } else {
            exponent - 23 + zeros
        },
        if nothing { i32::MIN } else { highest },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_by_hand() {
        let extent = |numbers: &[f32]| {
            let Extent {
                bits,
                lowest,
                highest,
            } = Extent::of(numbers);
            (bits, lowest, highest)
        };
        assert_eq!(extent(&[0.0, -0.0]), (1, 0, 0));
        // 1.5 = 3 / 2 and 20 = 5 * 4.
        assert_eq!(extent(&[0.0, 1.5, -20.0]), (3, -1, 4));
        // 2^-149, whose zeros above do not tell, and 2^-147 + 2^-149.
        assert_eq!(extent(&[1e-45]), (24, -149, -127));
        assert_eq!(extent(&[f32::from_bits(5)]).1, -149);
        assert_eq!(extent(&[f32::MAX]), (24, 104, 127));
        assert!(!Extent::of(&[1.0, f32::NEG_INFINITY]).finite());
        assert!(!Extent::of(&[f32::NAN]).finite());
    }
}
