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

/// `clamp(round(v / 2^shift) + zero, least, greatest)` of `v = multiplier x + offset`, for each channel; rounded
/// down, nothing is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requantization {
    arithmetic: Arithmetic,
    limits: Limits,
    /// Whether all multipliers fit 32 bits.
    narrow: bool,
}

impl<W: Copy> Scales<W> {
    /// The constants, again and again where channels are few.
    ///
    /// # Panics
    /// As of [`Requantization::new`].
    fn repeated(self, is_shift: impl Fn(&W) -> bool) -> Self {
        let are_shifts = self.shift.iter().all(is_shift);
        assert!(
            are_shifts,
            "a number has not as many bits as are shifted out"
        );
        let times = PERIOD.div_ceil(self.multiplier.len());
        let period = self.multiplier.len() * times;
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
        let narrow = match &arithmetic {
            Arithmetic::Added(_) | Arithmetic::Words(_) => true,
            Arithmetic::Longs(scales) => {
                let fits = |&m: &i64| i32::try_from(m).is_ok();
                scales.multiplier.iter().all(fits)
            }
        };
        let arithmetic = match arithmetic {
            Arithmetic::Added(_) => arithmetic,
            Arithmetic::Words(scales) => {
                Arithmetic::Words(scales.repeated(|s| (0..32).contains(s)))
            }
            Arithmetic::Longs(scales) => {
                Arithmetic::Longs(scales.repeated(|s| (0..64).contains(s)))
            }
        };
        Self {
            arithmetic,
            limits,
            narrow,
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
        match &self.arithmetic {
            Arithmetic::Added(more) => self.limits.added(x, *more, y),
            Arithmetic::Words(scales) => {
                let period = scales.multiplier.len();
                for (x, y) in x.chunks(period).zip(y.chunks_mut(period)) {
                    self.words(scales, x, y);
                }
            }
            Arithmetic::Longs(scales) => {
                let period = scales.multiplier.len();
                for (x, y) in x.chunks(period).zip(y.chunks_mut(period)) {
                    self.longs(scales, x, y);
                }
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
mod tests;
