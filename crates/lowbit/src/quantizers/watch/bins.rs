//! Bins of values by sign, exponent and fraction.

use rayon::prelude::*;

use super::moments::Moments;

/// Binary digits of a significand, after its first, that bins tell apart: an octave has 2^12 bins.
const DIGITS: u32 = 12;

/// Bits of an `f32` after those that name its bin.
const REST: u32 = f32::MANTISSA_DIGITS - 1 - DIGITS;

/// Those bits.
const REST_MASK: u32 = (1 << REST) - 1;

/// Bins of an octave.
const BINS: usize = 1 << DIGITS;

/// Signs and exponents of an `f32`.
const OCTAVES: usize = 1 << 9;

/// Where zeros are counted: apart from the octaves, with no branch.
const ZEROS: usize = OCTAVES;

/// Values whose sums are added up before those of others, whatever the number of threads.
pub(super) const CHUNK: usize = 1 << 16;

/// Values that are worth another thread's bins.
const SHARE: usize = 1 << 18;

/// Values of one sign whose magnitudes have the exponent and the first twelve fraction bits of an
/// `f32` in common: they differ by less than 2^-12 of themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The bits of the only value that was seen, or of the bin's end nearest to zero.
    pub(super) bits: u32,
    /// Whether more than one value was seen.
    pub(super) several: bool,
    count: u64,
}

impl Bin {
    fn one(bits: u32) -> Self {
        Self {
            bits,
            several: false,
            count: 1,
        }
    }

    /// Bins by sign and magnitude, positive ones first.
    pub(super) fn number(&self) -> u32 {
        self.bits >> REST
    }

    /// Adds the values of another one with the same number.
    fn add(&mut self, other: Self) {
        self.several |= other.several || self.bits != other.bits;
        self.count += other.count;
        if self.several {
            self.bits &= !REST_MASK;
        }
    }

    /// The bin with the signs left out.
    pub(super) fn positive(self) -> Self {
        Self {
            bits: self.bits & !(1 << 31),
            ..self
        }
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether they are negative.
    pub fn is_negative(&self) -> bool {
        self.bits >> 31 == 1
    }

    /// The magnitude that none is below: that of all where they are equal, else the bin's end.
    pub fn least(&self) -> f32 {
        f32::from_bits(self.bits).abs()
    }

    /// The magnitude that none exceeds: that of all where they are equal, else the next bin's
    /// [`least`](Self::least), which is at most 2^-12 of itself larger unless it is subnormal. It is in the same octave, or the
    /// power of two at its end.
    pub fn bound(&self) -> f32 {
        let width = if self.several { 1 << REST } else { 0 };
        f32::from_bits(self.bits + width).abs()
    }

    /// Halfway between both.
    pub fn middle(&self) -> f64 {
        0.5 * (f64::from(self.least()) + f64::from(self.bound()))
    }
}

/// The bins of a few values, by their number.
pub(super) fn sorted(values: &[f32]) -> Vec<Bin> {
    let bits = values.iter().filter(|&&x| x != 0.0).map(|x| x.to_bits());
    let mut bits: Vec<u32> = bits.collect();
    bits.sort_unstable();
    let mut bins: Vec<Bin> = Vec::new();
    for one in bits.into_iter().map(Bin::one) {
        match bins.last_mut() {
            Some(last) if last.number() == one.number() => last.add(one),
            _ => bins.push(one),
        }
    }
    bins
}

/// The bins of both, by their number.
pub(super) fn merged(a: &[Bin], b: &[Bin]) -> Vec<Bin> {
    let mut all = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(&&x), Some(&&y)) = (a.peek(), b.peek()) {
        let (left, right) = (x.number(), y.number());
        let mut bin = if left <= right { x } else { y };
        if left == right {
            bin.add(y);
        }
        all.push(bin);
        a.next_if(|_| left <= right);
        b.next_if(|_| right <= left);
    }
    all.extend(a.chain(b));
    all
}

/// Counts of values by sign and exponent, and then by fraction; those of what was never seen are
/// empty. A count has the bits of the value below its bin's under it, and above these one that tells
/// that it is of several values.
#[derive(Debug, Clone, Default)]
pub(super) struct Octaves(Vec<Option<Box<[u64; BINS]>>>);

impl Octaves {
    const SEVERAL: u64 = 1 << REST;
    const ONE: u64 = Self::SEVERAL << 1;

    /// Counts values, shares of them on as many threads as they are worth, and returns their moments.
    pub(super) fn record(&mut self, values: &[f32]) -> Moments {
        let threads = rayon::current_num_threads().min(values.len() / SHARE);
        if threads < 2 {
            return self
                .count(values)
                .into_iter()
                .fold(Moments::NONE, Moments::and);
        }
        let share = values.len().div_ceil(CHUNK).div_ceil(threads) * CHUNK;
        let counted = values.par_chunks(share).map(|share| {
            let mut octaves = Self::default();
            let moments = octaves.count(share);
            (octaves, moments)
        });
        let counted: Vec<_> = counted.collect();
        let mut seen = Moments::NONE;
        for (octaves, moments) in counted {
            self.add(octaves);
            seen = moments.into_iter().fold(seen, Moments::and);
        }
        seen
    }

    /// Counts values and returns the moments of each chunk.
    fn count(&mut self, values: &[f32]) -> Vec<Moments> {
        self.0.resize(OCTAVES + 1, None);
        let mut one = |x: f32| {
            let bits = x.to_bits();
            let octave = (bits >> (f32::MANTISSA_DIGITS - 1)) as usize;
            let octave = if x == 0.0 { ZEROS } else { octave };
            let octave = self.0[octave].get_or_insert_with(|| Box::new([0; BINS]));
            let count = &mut octave[(bits >> REST) as usize % BINS];
            *count = Self::both(*count, Self::ONE | u64::from(bits & REST_MASK));
        };
        let chunks = values.chunks(CHUNK);
        chunks.map(|chunk| Moments::of(chunk, &mut one)).collect()
    }

    fn add(&mut self, other: Self) {
        self.0.resize(OCTAVES + 1, None);
        for (octave, more) in self.0.iter_mut().zip(other.0) {
            match (octave, more) {
                (_, None) => {}
                (octave @ None, more) => *octave = more,
                (Some(octave), Some(more)) => {
                    for (count, more) in octave.iter_mut().zip(*more) {
                        *count = Self::both(*count, more);
                    }
                }
            }
        }
    }

    /// Two counts of one bin as one.
    fn both(a: u64, b: u64) -> u64 {
        if a == 0 || b == 0 {
            return a | b;
        }
        let differ = (a ^ b) & u64::from(REST_MASK) != 0;
        let several = if differ {
            Self::SEVERAL
        } else {
            b & Self::SEVERAL
        };
        (a | several) + (b & !(Self::ONE - 1))
    }

    pub(super) fn bins(&self) -> Vec<Bin> {
        let mut all = Vec::new();
        for (octave, counts) in self.0.iter().take(ZEROS).enumerate() {
            let counts = counts.iter().flat_map(|counts| counts.iter().enumerate());
            for (i, &count) in counts.filter(|(_, count)| **count > 0) {
                let several = count & Self::SEVERAL != 0;
                let rest = if several { 0 } else { count as u32 & REST_MASK };
                all.push(Bin {
                    bits: ((octave * BINS + i) as u32) << REST | rest,
                    several,
                    count: count / Self::ONE,
                });
            }
        }
        all
    }
}
