//! Rounding to floating-point formats, shared by all of them.

use crate::rounding::Rounding;
use crate::rounding::fraction_bits;
use crate::scalar::{Grid, Pass, power_of_two};

pub(crate) const INFINITY: u32 = 0x7F80_0000;
pub(crate) const NAN: u32 = 0x7FC0_0000;
const MAGNITUDE: u32 = 0x7FFF_FFFF;

/// How the codes of magnitudes map to numbers: an exponent field above `mantissa` bits, counted up
/// to `max_code`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) mantissa: u32,
    pub(crate) bias: i32,
    pub(crate) subnormals: bool,
    /// The code of the largest finite value.
    pub(crate) max_code: u32,
}

impl Layout {
    /// The number that a code up to `max_code` stands for.
    pub(crate) fn decode(&self, code: u32) -> f32 {
        let field = code >> self.mantissa;
        if field > 0 {
            let exponent = (field as i32 - self.bias + 127) as u32;
            let mantissa = code & ((1 << self.mantissa) - 1);
            f32::from_bits(exponent << 23 | mantissa << (23 - self.mantissa))
        } else if self.subnormals {
            code as f32 * self.min_positive()
        } else {
            0.0
        }
    }

    /// The code of a magnitude that [`decode`](Self::decode) gives; of others, that of a neighbour.
    pub(crate) fn encode(&self, magnitude: f32) -> u32 {
        let bits = magnitude.to_bits();
        let exponent = bits >> 23;
        if exponent >= (128 - self.bias) as u32 {
            // Cut the mantissa, and subtract the difference of the biases from the exponent.
            let biases = ((127 - self.bias) as u32) << self.mantissa;
            return (bits >> (23 - self.mantissa)) - biases;
        }
        if !self.subnormals {
            return 0;
        }
        let leading = u32::from(exponent != 0);
        let significand = (bits & 0x7F_FFFF) | leading << 23;
        let cut = self.small() - exponent.max(1);
        significand.checked_shr(cut).unwrap_or(0)
    }

    /// The smallest positive value.
    pub(crate) fn min_positive(&self) -> f32 {
        let below = if self.subnormals {
            self.mantissa as i32
        } else {
            0
        };
        power_of_two(1 - self.bias - below)
    }

    /// The number that the code after the largest value's would stand for.
    pub(crate) fn past_max(&self) -> f64 {
        let code = self.max_code + 1;
        let field = (code >> self.mantissa) as i32;
        let whole = f64::from(1u32 << self.mantissa);
        let fraction = f64::from(code & ((1 << self.mantissa) - 1)) / whole;
        if field > 0 {
            // Its exponent is at most 128.
            (1.0 + fraction) * f64::from(field - self.bias).exp2()
        } else {
            fraction * f64::from(1 - self.bias).exp2()
        }
    }

    /// The smallest normal value.
    pub(crate) fn min_normal(&self) -> f32 {
        power_of_two(1 - self.bias)
    }

    /// The largest finite value.
    pub(crate) fn max(&self) -> f32 {
        self.decode(self.max_code)
    }

    /// How many positive finite values there are.
    pub(crate) fn positive_values(&self) -> u64 {
        let skipped = if self.subnormals {
            0
        } else {
            (1 << self.mantissa) - 1
        };
        u64::from(self.max_code - skipped)
    }

    /// The biases with which f32 holds every value: the smallest normal is at least 2^-126 and at
    /// most 2^127, the largest value below 2^128.
    pub(crate) fn biases(&self) -> (i32, i32) {
        let field = (self.max_code >> self.mantissa) as i32;
        ((field - 127).max(-126), 127)
    }

    fn small(&self) -> u32 {
        let below = if self.subnormals {
            self.mantissa as i32
        } else {
            0
        };
        (151 - self.bias - below) as u32
    }

    /// The constants of rounding; finite numbers beyond the largest become `overflow`, infinity
    /// becomes `infinity`, both as bits of f32.
    pub(crate) fn grid(&self, overflow: u32, infinity: u32, minus_zero: bool) -> FloatGrid {
        FloatGrid {
            shift: 23 - self.mantissa,
            min_exponent: (128 - self.bias) as u32,
            small: self.small(),
            min_positive: self.min_positive().to_bits(),
            max: self.max().to_bits(),
            overflow,
            infinity,
            minus_zero,
            odd_to_max: true,
        }
    }
}

/// The constants of rounding to a floating-point format. Magnitudes are bit patterns of f32, whose
/// order is that of the numbers.
#[derive(Debug, Clone, Copy)]
pub struct FloatGrid {
    /// How many bits of a normal number's significand are cut, `23 - mantissa`.
    pub(crate) shift: u32,
    /// The stored f32 exponent of the smallest normal value.
    pub(crate) min_exponent: u32,
    /// Below it, the stored f32 exponent plus the number of bits that are cut.
    pub(crate) small: u32,
    /// The smallest positive value.
    pub(crate) min_positive: u32,
    /// The largest finite value.
    pub(crate) max: u32,
    /// What a finite number beyond it becomes.
    pub(crate) overflow: u32,
    /// What infinity becomes.
    pub(crate) infinity: u32,
    /// Whether a zero keeps its sign.
    pub(crate) minus_zero: bool,
    /// Whether rounding to odd stops at the largest finite value.
    pub(crate) odd_to_max: bool,
}

impl FloatGrid {
    /// Runs a pass with the fastest grid that rounds as this one.
    pub(crate) fn apply<P: Pass>(self, pass: P) -> P::Output {
        if let Some(narrow) = NarrowFloatGrid::new(&self) {
            pass.run(narrow)
        } else if let Some(wide) = WideFloatGrid::new(self) {
            pass.run(wide)
        } else {
            pass.run(self)
        }
    }

    /// The magnitude of a finite number, rounded as if there were no largest value.
    #[inline(always)]
    fn round_magnitude(&self, bits: u32, rounding: Rounding, random: u32) -> u32 {
        let magnitude = bits & MAGNITUDE;
        let exponent = magnitude >> 23;
        if exponent >= self.min_exponent {
            return self.round_normal(bits, self.shift, rounding, random);
        }
        // f32's own subnormals have the exponent of its smallest normals and no leading bit.
        let cut = self.small - exponent.max(1);
        if cut < 24 {
            return self.round_normal(bits, cut, rounding, random);
        }
        // Nothing is kept: the number lies between zero and the smallest positive value.
        let leading = u32::from(exponent != 0);
        let significand = magnitude << 8 | leading << 31;
        let fraction = significand.checked_shr(cut - 24).unwrap_or(0);
        let negative = bits >> 31 != 0;
        if rounding.away_from_zero_u32(negative, false, fraction, magnitude != 0, random) {
            self.min_positive
        } else {
            0
        }
    }

    /// Rounds the last `cut` bits, 0 to 23, off a magnitude.
    #[inline(always)]
    fn round_normal(&self, bits: u32, cut: u32, rounding: Rounding, random: u32) -> u32 {
        let magnitude = bits & MAGNITUDE;
        let fraction = magnitude << 8 << (24 - cut);
        // Where the leading bit is the last one kept, the pattern shows the exponent's parity in
        // its place. The parity of the code, which decides, differs by that of `small`.
        let odd = (magnitude.wrapping_add((self.small & 1) << 23) >> cut) & 1 != 0;
        let negative = bits >> 31 != 0;
        let away = rounding.away_from_zero_u32(negative, odd, fraction, fraction != 0, random);
        // A carry out of the mantissa moves into the exponent, as it should.
        (magnitude >> cut << cut) + (u32::from(away) << cut)
    }

    /// Limits a rounded magnitude and gives it the sign of the number that was rounded.
    #[inline(always)]
    fn finish(&self, x: f32, rounded: u32, rounding: Rounding) -> f32 {
        let bits = x.to_bits();
        let negative = x.is_sign_negative();
        let to_max = match rounding {
            Rounding::TowardZero => true,
            Rounding::ToOdd => self.odd_to_max,
            Rounding::Down => !negative,
            Rounding::Up => negative,
            _ => false,
        };
        let beyond = if to_max { self.max } else { self.overflow };
        let rounded = if rounded > self.max { beyond } else { rounded };
        let rounded = match bits & MAGNITUDE {
            INFINITY => self.infinity,
            magnitude if magnitude > INFINITY => NAN,
            _ => rounded,
        };
        let signed = rounded != 0 || self.minus_zero;
        f32::from_bits(rounded | if signed { bits & !MAGNITUDE } else { 0 })
    }
}

impl Grid for FloatGrid {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let rounded = self.round_magnitude(x.to_bits(), rounding, random);
        self.finish(x, rounded, rounding)
    }
}

/// A [`FloatGrid`] with the exponents of f32, where the same number of bits is always cut.
#[derive(Debug, Clone, Copy)]
struct WideFloatGrid(FloatGrid);

impl WideFloatGrid {
    fn new(grid: FloatGrid) -> Option<Self> {
        let subnormals_alike = grid.small == grid.shift + 1;
        (grid.min_exponent == 1 && subnormals_alike).then_some(Self(grid))
    }
}

impl Grid for WideFloatGrid {
    const EVERY_MODE: bool = true;

    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let Self(grid) = self;
        let rounded = grid.round_normal(x.to_bits(), grid.shift, rounding, random);
        grid.finish(x, rounded, rounding)
    }
}

/// A [`FloatGrid`] far enough from the ends of f32 to let f32 additions round.
///
/// Adding a power of two `c` so large that its last place is the distance between neighbours
/// rounds to the nearest even, and taking `c` away again is exact. The other modes correct that
/// result by one place. This is three times as fast as cutting bits, which takes different
/// numbers of bits in different lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NarrowFloatGrid {
    /// Added to the exponent bits of a normal number, gives those of `c`.
    lift: u32,
    min_normal: f32,
    /// The `c` of numbers below `min_normal`.
    small: f32,
    max: f32,
    /// The power of two beyond `max`; larger numbers may as well be this one.
    top: f32,
    overflow: f32,
    /// Zero is added at last, to remove the sign of minus zero or to leave it.
    zero: f32,
    /// Whether rounding to odd stops at `max`.
    odd_to_max: bool,
}

impl NarrowFloatGrid {
    pub(crate) fn new(grid: &FloatGrid) -> Option<Self> {
        let top = (grid.max & INFINITY) + (1 << 23);
        // The exponents of the distances between neighbours, and of `c`, must be normal.
        let fits = (1..=22).contains(&grid.shift)
            && grid.min_exponent + grid.shift > 23
            && grid.small <= 254
            && (top >> 23) + grid.shift <= 254
            && grid.overflow == grid.infinity;
        fits.then(|| Self {
            lift: grid.shift << 23,
            min_normal: f32::from_bits(grid.min_exponent << 23),
            small: f32::from_bits(grid.small << 23),
            max: f32::from_bits(grid.max),
            top: f32::from_bits(top),
            overflow: f32::from_bits(grid.overflow),
            zero: if grid.minus_zero { -0.0 } else { 0.0 },
            odd_to_max: grid.odd_to_max,
        })
    }

    /// Brings `magnitude` to its neighbour below or above, which are `nearest` and the number one
    /// `step` from it on the other side.
    #[inline(always)]
    fn correct(
        &self,
        negative: bool,
        magnitude: f32,
        nearest: f32,
        c: f32,
        rounding: Rounding,
        random: u32,
    ) -> f32 {
        // The last place of `c`.
        let step = f32::from_bits(c.to_bits() - (23 << 23));
        let lower = nearest - if nearest > magnitude { step } else { 0.0 };
        let cut = magnitude - lower;
        let away = match rounding {
            Rounding::NearestEven => return nearest,
            Rounding::NearestAway => cut + cut >= step,
            Rounding::NearestUp => cut + cut > step || (!negative && cut + cut == step),
            Rounding::TowardZero => return lower,
            Rounding::Down => negative && cut > 0.0,
            Rounding::Up => !negative && cut > 0.0,
            // The last bit of `lower + c` is that of `lower / step`.
            Rounding::ToOdd => cut > 0.0 && (lower + c).to_bits() & 1 == 0,
            Rounding::Stochastic { .. } => {
                // 1 / step, whose exponent is the opposite.
                let per_step = f32::from_bits((254 << 23) - step.to_bits());
                let fraction = fraction_bits(cut * per_step);
                rounding.away_from_zero_u32(negative, false, fraction, false, random)
            }
        };
        lower + if away { step } else { 0.0 }
    }
}

impl Grid for NarrowFloatGrid {
    const EVERY_MODE: bool = true;

    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let negative = x.is_sign_negative();
        let magnitude = x.abs();
        let magnitude = if magnitude > self.top {
            self.top
        } else {
            magnitude
        };
        let c = if magnitude < self.min_normal {
            self.small
        } else {
            f32::from_bits((magnitude.to_bits() & INFINITY).wrapping_add(self.lift))
        };
        let nearest = (magnitude + c) - c;
        let rounded = self.correct(negative, magnitude, nearest, c, rounding, random);
        let to_max = match rounding {
            Rounding::TowardZero => x.abs() < f32::INFINITY,
            Rounding::ToOdd => self.odd_to_max && x.abs() < f32::INFINITY,
            Rounding::Down => !negative && x < f32::INFINITY,
            Rounding::Up => negative && x > f32::NEG_INFINITY,
            _ => false,
        };
        let beyond = if to_max { self.max } else { self.overflow };
        let rounded = if rounded > self.max { beyond } else { rounded };
        let rounded = if x.is_nan() {
            f32::from_bits(NAN)
        } else {
            rounded
        };
        rounded.copysign(x) + self.zero
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::float::Float;
    use crate::scalar::{ScalarFormat, quantize_to_vec};

    fn float(name: &str) -> Float {
        Float::named(name).unwrap()
    }

    /// Whether the fast grid gives the same bits as the general one, for every `stride`-th f32.
    struct RoundsAlike(FloatGrid, Rounding, usize);

    impl Pass for RoundsAlike {
        type Output = bool;

        fn run<G: Grid>(self, fast: G) -> bool {
            const PART: usize = 1 << 22;
            let Self(truth, rounding, stride) = self;
            let count = (1usize << 32).div_ceil(stride);
            (0..count).step_by(PART).all(|first| {
                let numbers = first..count.min(first + PART);
                let input: Vec<f32> = numbers
                    .map(|i| f32::from_bits((i * stride) as u32))
                    .collect();
                let rounded = quantize_to_vec(fast, &input, rounding).unwrap();
                let expected = quantize_to_vec(truth, &input, rounding).unwrap();
                let bits = |x: &f32| x.to_bits();
                rounded.iter().map(bits).eq(expected.iter().map(bits))
            })
        }
    }

    fn check_fast_grids(stride: usize) {
        let formats = Float::names().map(float).chain([
            Float::new(8, 1).unwrap(),
            Float::new(7, 4).unwrap(),
            Float::new(2, 20).unwrap(),
            Float::new(4, 3).unwrap().without_subnormals().unwrap(),
            Float::new(5, 2).unwrap().with_bias(-3).unwrap(),
            // Its steps are normal numbers, but only just.
            Float::new(2, 4)
                .unwrap()
                .with_bias(123)
                .unwrap()
                .without_subnormals()
                .unwrap(),
            Float::new(2, 4)
                .unwrap()
                .with_bias(124)
                .unwrap()
                .without_subnormals()
                .unwrap(),
            Float::new(2, 4).unwrap().with_bias(-96).unwrap(),
            float("e4m3").saturating(),
        ]);
        let stochastic = [
            Rounding::stochastic(0, 0),
            Rounding::Stochastic {
                seed: 0,
                stream: 0,
                bits: 5,
            },
        ];
        for format in formats {
            for rounding in Rounding::DETERMINISTIC.into_iter().chain(stochastic) {
                let grid = format.grid();
                let alike = grid.apply(RoundsAlike(grid, rounding, stride));
                assert!(alike, "{format} {rounding:?}");
            }
        }
    }

    #[test]
    fn fast_grids_round_alike() {
        check_fast_grids(16_381);
    }

    /// All 2^32 inputs; run with `--release -- --ignored`.
    #[test]
    #[ignore = "half an hour"]
    fn fast_grids_round_alike_everywhere() {
        check_fast_grids(1);
    }
}
