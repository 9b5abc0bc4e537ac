//! Integers of 8, 16 or 32 bits brought to others by a multiplier, an offset and a shift for each channel.
//!
//! Plain loops over blocks of a known length, which compilers turn into vectors on every instruction set.

use lowbit_formats::kernel::isa::dispatch_on;

/// Numbers that are made at once, and those from which on constants do not repeat: calls are few then.
const BLOCK: usize = 64;
const PERIOD: usize = 4 * BLOCK;

/// An integer as tensors keep it: a byte without sign, or 16 or 32 bits with one.
pub trait Number: Copy + Ord {
    /// As 32 bits.
    fn get(self) -> i32;
    /// The last bits of 32.
    fn of(number: i32) -> Self;
    /// The nearest to one of 32 bits.
    fn nearest(number: i32) -> Self;
    /// `self factor + more`, its last bits.
    fn product(self, factor: Self, more: Self) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            #[inline(always)]
            fn get(self) -> i32 {
                i32::from(self)
            }

            #[inline(always)]
            fn of(number: i32) -> Self {
                number as Self
            }

            #[inline(always)]
            fn nearest(number: i32) -> Self {
                number.clamp(Self::MIN.into(), Self::MAX.into()) as Self
            }

            #[inline(always)]
            fn product(self, factor: Self, more: Self) -> Self {
                self.wrapping_mul(factor).wrapping_add(more)
            }
        }
    )*};
}
numbers!(u8, i16, i32);

/// `round(v / 2^shift)` of `v = multiplier x + offset`, which fits the bits of `W` with what is added to
/// it; constants of each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scales<W> {
    /// What integers are multiplied with.
    pub multiplier: Vec<W>,
    /// What is added before the shift.
    pub offset: Vec<W>,
    /// How many bits are taken away.
    pub shift: Vec<W>,
    /// How it is rounded; down if it is not said.
    pub rounding: Option<Rounding<W>>,
}

/// A shift that rounds: `(v + add + (even & (v >> shift)) - (away & sign of v)) >> shift`, constants of each
/// channel as of [`Narrow`](super::Narrow).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rounding<W> {
    /// What is added to each.
    pub add: Vec<W>,
    /// 1 if half goes to the even integer.
    pub even: Vec<W>,
    /// 1 if half goes away from zero.
    pub away: Vec<W>,
    /// What is added after the shift.
    pub zero: W,
}

/// In how many bits numbers are multiplied and shifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arithmetic {
    /// Nothing is multiplied: this is added to each number, which fits 32 bits.
    Added(i32),
    /// In 32.
    Words(Scales<i32>),
    /// In 64.
    Longs(Scales<i64>),
}

/// The least and the greatest number that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The least number.
    pub least: i32,
    /// The greatest number.
    pub greatest: i32,
}

/// `clamp(round(v / 2^shift) + zero, least, greatest)` (zero where it rounds down) of `v = multiplier x + offset`, for each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requantization {
    arithmetic: Arithmetic,
    limits: Limits,
    /// Whether all multipliers fit 32 bits.
    narrow: bool,
    /// Numbers after which the constants repeat: all channels, several times where they are few.
    period: usize,
}

impl<W: Copy> Scales<W> {
    /// The constants, again and again.
    fn repeated(self, times: usize, period: usize) -> Self {
        let repeated = |constants: Vec<W>| {
            let constants = constants.repeat(times);
            assert_eq!(constants.len(), period);
            constants
        };
        Self {
            multiplier: repeated(self.multiplier),
            offset: repeated(self.offset),
            shift: repeated(self.shift),
            rounding: self.rounding.map(|rounding| Rounding {
                add: repeated(rounding.add),
                even: repeated(rounding.even),
                away: repeated(rounding.away),
                zero: rounding.zero,
            }),
        }
    }

    fn constants(&self) -> [&[W]; 3] {
        [&self.multiplier, &self.offset, &self.shift]
    }
}

impl<W> Rounding<W> {
    /// Those of the scales, and its own.
    fn with<'a>(&'a self, [m, o, s]: [&'a [W]; 3]) -> [&'a [W]; 6] {
        [m, o, s, &self.add, &self.even, &self.away]
    }
}

impl Requantization {
    /// # Panics
    ///
    /// If there is no channel, not of every constant one for each, or a shift is not below the bits of a
    /// number.
    pub fn new(arithmetic: Arithmetic, limits: Limits) -> Self {
        let (channels, are_below) = match &arithmetic {
            Arithmetic::Added(_) => (1, true),
            Arithmetic::Words(scales) => {
                let below = scales.shift.iter().all(|s| (0..32).contains(s));
                (scales.multiplier.len(), below)
            }
            Arithmetic::Longs(scales) => {
                let below = scales.shift.iter().all(|s| (0..64).contains(s));
                (scales.multiplier.len(), below)
            }
        };
        assert!(
            are_below,
            "a number has not as many bits as are shifted out"
        );
        let narrow = match &arithmetic {
            Arithmetic::Added(_) | Arithmetic::Words(_) => true,
            Arithmetic::Longs(scales) => {
                let fits = |&m: &i64| i32::try_from(m).is_ok();
                scales.multiplier.iter().all(fits)
            }
        };
        let times = PERIOD.div_ceil(channels);
        let period = channels * times;
        let arithmetic = match arithmetic {
            Arithmetic::Added(_) => arithmetic,
            Arithmetic::Words(scales) => Arithmetic::Words(scales.repeated(times, period)),
            Arithmetic::Longs(scales) => Arithmetic::Longs(scales.repeated(times, period)),
        };
        Self {
            arithmetic,
            limits,
            narrow,
            period,
        }
    }

    /// Whether numbers are multiplied and shifted in 32 bits.
    pub fn is_of_words(&self) -> bool {
        !matches!(self.arithmetic, Arithmetic::Longs(_))
    }

    /// What is made of pixels that lie in lines of `line` numbers, of which the first `count` are wanted, to
    /// lines of `count`. Of constants for each channel `count` is the number of channels, or lines are as
    /// long as they are wanted and a whole number of channels.
    ///
    /// # Panics
    ///
    /// If there are not as many lines of both.
    pub fn lines<X: Number, Y: Number>(&self, x: &[X], line: usize, y: &mut [Y], count: usize) {
        assert_eq!(x.len() / line, y.len() / count);
        dispatch_on(
            (self, x),
            y,
            #[inline(always)]
            |(this, x): (&Self, &[X]), y: &mut [Y]| {
                if line == count {
                    return this.slice(x, y);
                }
                for (x, y) in x.chunks_exact(line).zip(y.chunks_exact_mut(count)) {
                    this.slice(&x[..count], y);
                }
            },
        );
    }

    /// Pixels one after the other, from the first channel on.
    #[inline(always)]
    fn slice<X: Number, Y: Number>(&self, x: &[X], y: &mut [Y]) {
        if let Arithmetic::Added(more) = self.arithmetic {
            return self.limits.added(x, more, y);
        }
        for (x, y) in x.chunks(self.period).zip(y.chunks_mut(self.period)) {
            match &self.arithmetic {
                Arithmetic::Added(_) => {}
                Arithmetic::Words(scales) => self.words(scales, x, y),
                Arithmetic::Longs(scales) => self.longs(scales, x, y),
            }
        }
    }

    #[inline(always)]
    fn words<X: Number, Y: Number>(&self, scales: &Scales<i32>, x: &[X], y: &mut [Y]) {
        let (limits, constants) = (self.limits, scales.constants());
        match &scales.rounding {
            None => blocks(
                x,
                y,
                constants,
                #[inline(always)]
                |x, [m, o, s]| {
                    // SAFETY: `new` has looked at all shifts.
                    let s = unsafe { below(s as u32, i32::BITS) };
                    limits.clamp(x.wrapping_mul(m).wrapping_add(o) >> s)
                },
            ),
            Some(rounding) => blocks(
                x,
                y,
                rounding.with(constants),
                #[inline(always)]
                |x, [m, o, s, add, even, away]| {
                    let zero = rounding.zero;
                    let v = x.wrapping_mul(m).wrapping_add(o);
                    // SAFETY: `new` has looked at all shifts.
                    let s = unsafe { below(s as u32, i32::BITS) };
                    let more = add.wrapping_add(even & (v >> s)) - (away & (v >> 31));
                    limits.clamp((v.wrapping_add(more) >> s).wrapping_add(zero))
                },
            ),
        }
    }

    #[inline(always)]
    fn longs<X: Number, Y: Number>(&self, scales: &Scales<i64>, x: &[X], y: &mut [Y]) {
        let (limits, constants) = (self.limits, scales.constants());
        match &scales.rounding {
            None if self.narrow => blocks(
                x,
                y,
                constants,
                #[inline(always)]
                |x, [m, o, s]| {
                    // Which compilers know to be one instruction.
                    let product = i64::from(x) * i64::from(m as i32);
                    // SAFETY: `new` has looked at all shifts.
                    let s = unsafe { below(s as u32, i64::BITS) };
                    limits.clamp_long(product.wrapping_add(o) >> s)
                },
            ),
            None => blocks(
                x,
                y,
                constants,
                #[inline(always)]
                |x, [m, o, s]| {
                    let product = i64::from(x).wrapping_mul(m);
                    // SAFETY: `new` has looked at all shifts.
                    let s = unsafe { below(s as u32, i64::BITS) };
                    limits.clamp_long(product.wrapping_add(o) >> s)
                },
            ),
            Some(rounding) => blocks(
                x,
                y,
                rounding.with(constants),
                #[inline(always)]
                |x, [m, o, s, add, even, away]| {
                    let zero = rounding.zero;
                    let v = i64::from(x).wrapping_mul(m).wrapping_add(o);
                    // SAFETY: `new` has looked at all shifts.
                    let s = unsafe { below(s as u32, i64::BITS) };
                    let more = add.wrapping_add(even & (v >> s)) - (away & (v >> 63));
                    limits.clamp_long((v.wrapping_add(more) >> s).wrapping_add(zero))
                },
            ),
        }
    }
}

impl Limits {
    /// `clamp(x + more)`, made of `x` where that is within the limits less `more`.
    #[inline(always)]
    fn added<X: Number, Y: Number>(self, x: &[X], more: i32, y: &mut [Y]) {
        let [least, greatest] =
            [self.least, self.greatest].map(|y| X::nearest(y.saturating_sub(more)));
        for (y, &x) in y.iter_mut().zip(x) {
            let x = x.max(least).min(greatest);
            *y = Y::of(x.get().wrapping_add(more));
        }
    }

    #[inline(always)]
    fn clamp(self, number: i32) -> i32 {
        // `clamp` of numbers would be compiled to comparisons and masks.
        number.max(self.least).min(self.greatest)
    }

    #[inline(always)]
    fn clamp_long(self, number: i64) -> i32 {
        number.max(self.least.into()).min(self.greatest.into()) as i32
    }
}

/// Says to the compiler that a shift is below the number of bits.
///
/// # Safety
/// It is.
#[inline(always)]
unsafe fn below(shift: u32, bits: u32) -> u32 {
    // SAFETY: the caller's.
    unsafe { std::hint::assert_unchecked(shift < bits) };
    shift
}

/// What `one` makes of each number and of the constants in its place.
#[inline(always)]
fn blocks<X: Number, Y: Number, W: Copy, const N: usize>(
    x: &[X],
    y: &mut [Y],
    constants: [&[W]; N],
    one: impl Fn(i32, [W; N]) -> i32,
) {
    let count = x.len();
    let constants = constants.map(|all| &all[..count]);
    let (x_blocks, x_rest) = x.as_chunks::<BLOCK>();
    let (y_blocks, y_rest) = y.as_chunks_mut::<BLOCK>();
    for (b, (x, y)) in x_blocks.iter().zip(y_blocks).enumerate() {
        let constants = constants.map(|all| &all.as_chunks::<BLOCK>().0[b]);
        for i in 0..BLOCK {
            y[i] = Y::of(one(x[i].get(), constants.map(|all| all[i])));
        }
    }
    let constants = constants.map(|all| &all[count - x_rest.len()..]);
    for (i, (x, y)) in x_rest.iter().zip(y_rest).enumerate() {
        *y = Y::of(one(x.get(), constants.map(|all| all[i])));
    }
}

/// `a m[0] + b m[1] + m[2]` of each pair, modulo 2^32; their last bits are kept.
///
/// # Panics
///
/// If the slices differ in length.
pub fn sums_of<A: Number, B: Number, Y: Number>(a: &[A], b: &[B], m: [i32; 3], sums: &mut [Y]) {
    assert_eq!([a.len(), b.len()], [sums.len(); 2]);
    dispatch_on(
        (a, b),
        sums,
        #[inline(always)]
        move |(a, b): (&[A], &[B]), sums: &mut [Y]| {
            // In the bits of sums, of which vectors hold more than of 32.
            let [m, n, constant] = m.map(Y::of);
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                let [a, b] = [Y::of(a.get()), Y::of(b.get())];
                *sum = a.product(m, b.product(n, constant));
            }
        },
    );
}

/// Adds each pixel's numbers to the sums of their channels.
pub fn add_pixels<X: Number>(pixels: &[X], sums: &mut [i32]) {
    dispatch_on(
        pixels,
        sums,
        #[inline(always)]
        |pixels: &[X], sums: &mut [i32]| {
            for pixel in pixels.chunks_exact(sums.len()) {
                for (sum, x) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(x.get());
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, without a limit of bits: floor of a fraction plus a half, whose ties are told apart.
    fn rounded([x, m, o, shift]: [i128; 4], mode: usize) -> i128 {
        let v = m * x + o;
        let (floor, rest, unit) = (v >> shift, v & ((1 << shift) - 1), 1i128 << shift);
        let up = match (mode, (2 * rest).cmp(&unit)) {
            (0, _) | (_, std::cmp::Ordering::Less) => false,
            (1, std::cmp::Ordering::Equal) => floor & 1 == 1,
            (2, std::cmp::Ordering::Equal) => v >= 0,
            _ => true,
        };
        floor + i128::from(up && rest > 0)
    }

    /// Down, half to even, half away from zero, as the scales say it.
    fn rounding<W: From<i32>>(
        shifts: &[u32],
        mode: usize,
        wide: impl Fn(i64) -> W,
    ) -> Option<Rounding<W>> {
        let of = |f: &dyn Fn(i64, i64) -> i64| {
            let each = shifts.iter().map(|&s| {
                let half = if s == 0 { 0 } else { 1 << (s - 1) };
                wide(f(half, i64::from(s > 0)))
            });
            each.collect()
        };
        (mode > 0).then(|| Rounding {
            add: of(&|half, nearest| if mode == 1 { half - nearest } else { half }),
            even: of(&|_, nearest| if mode == 1 { nearest } else { 0 }),
            away: of(&|_, nearest| if mode == 2 { nearest } else { 0 }),
            zero: W::from(3),
        })
    }

    fn check<X: Number, Y: Number>(numbers: &[X], [channels, line]: [usize; 2], limits: Limits) {
        let shifts: Vec<u32> = (0..channels as u32).map(|c| c % 5).collect();
        let x: Vec<X> = numbers.iter().copied().cycle().take(7 * line).collect();
        for (mode, long) in [
            (0, false),
            (1, false),
            (2, false),
            (0, true),
            (1, true),
            (2, true),
        ] {
            let more = if long { 27 } else { 0 };
            let m = |c: usize| (1 + 3 * c as i64 % 11) << more;
            let o = |c: usize| (c as i64 * 37 % 101 - 50) << more;
            let all = shifts.iter().map(|&s| s + more).collect::<Vec<u32>>();
            let channel = || 0..channels;
            let arithmetic = if long {
                Arithmetic::Longs(Scales {
                    multiplier: channel().map(m).collect(),
                    offset: channel().map(o).collect(),
                    shift: all.iter().map(|&s| s.into()).collect(),
                    rounding: rounding(&all, mode, |x| x),
                })
            } else {
                Arithmetic::Words(Scales {
                    multiplier: channel().map(|c| m(c) as i32).collect(),
                    offset: channel().map(|c| o(c) as i32).collect(),
                    shift: all.iter().map(|&s| s as i32).collect(),
                    rounding: rounding(&all, mode, |x| x as i32),
                })
            };
            let mut y = vec![Y::of(0); 7 * channels];
            Requantization::new(arithmetic, limits).lines(&x, line, &mut y, channels);
            let zero = if mode == 0 { 0 } else { 3 };
            for (place, y) in y.iter().enumerate() {
                let (pixel, c) = (place / channels, place % channels);
                let x = i128::from(x[pixel * line + c].get());
                let number = rounded([x, m(c).into(), o(c).into(), all[c].into()], mode) + zero;
                let expected = number.clamp(limits.least.into(), limits.greatest.into());
                assert_eq!(i128::from(y.get()), expected, "{mode} {long} {place}");
            }
        }
    }

    #[test]
    fn numbers_of_all_widths_are_rounded_as_defined() {
        let limits = |least, greatest| Limits { least, greatest };
        let words: Vec<i32> = (0..97).map(|i| i * i * i * 7 - 300_000).collect();
        let shorts: Vec<i16> = (0..97).map(|i| (i - 48) * 600).collect();
        let bytes: Vec<u8> = (0..97).map(|i| (i * 11 % 256) as u8).collect();
        for sizes in [
            [1, 1],
            [3, 16],
            [16, 16],
            [10, 10],
            [64, 64],
            [300, 300],
            [70, 80],
        ] {
            check::<i32, u8>(&words, sizes, limits(0, 255));
            check::<i16, u8>(&shorts, sizes, limits(5, 99));
            check::<u8, i16>(&bytes, sizes, limits(-300, 3000));
            check::<i32, i32>(&words, sizes, limits(-500_000, 400_000));
            check::<i16, i16>(&shorts, sizes, limits(-30_000, 32_000));
        }
    }

    /// With limits on both sides, within and beyond what the numbers are.
    #[test]
    fn numbers_are_added_to_within_limits() {
        let x: Vec<i16> = (-300..300).collect();
        for (more, least, greatest) in [(128, 0, 255), (-40_000, -40_100, -39_950), (0, -500, 500)]
        {
            let added = Requantization::new(Arithmetic::Added(more), Limits { least, greatest });
            let mut y = vec![0i32; x.len()];
            added.lines(&x, x.len(), &mut y, x.len());
            let expected = x
                .iter()
                .map(|&x| (i32::from(x) + more).clamp(least, greatest));
            assert!(y.iter().copied().eq(expected), "{more}");
        }
    }

    /// By hand: -3 2 + 5 7 - 1, and so on; bytes of -1 are those of 255.
    #[test]
    fn sums_by_hand() {
        let mut sums = [0i16; 3];
        sums_of(&[-3i16, 0, 9], &[5u8, 1, 255], [2, 7, -1], &mut sums);
        assert_eq!(sums, [28, 6, 1802]);
        let mut bytes = [0u8; 1];
        sums_of(&[1u8], &[2u8], [-3, 1, 0], &mut bytes);
        assert_eq!(bytes, [255]);
        let mut totals = [1, 2];
        add_pixels(&[3i16, -4, 5, 6], &mut totals);
        assert_eq!(totals, [9, 4]);
    }
}
