//! A histogram whose bins do not depend on what it sees.

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

/// Values that one thread counts at a time. Sums are added up in this order, whatever the number
/// of threads.
const CHUNK: usize = 1 << 16;

/// Values that are kept as they are before they are counted; fewer need no bins at all, and less
/// memory without them.
const KEPT: usize = 1 << 16;

/// Values that are worth another thread's bins.
const SHARE: usize = 1 << 18;

/// Values of one sign whose magnitudes have the exponent and the first twelve fraction bits of an
/// `f32` in common: they differ by less than 2^-12 of themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The bits of the only value that was seen, or of the bin's end nearest to zero.
    bits: u32,
    /// Whether more than one value was seen.
    several: bool,
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
    fn number(&self) -> u32 {
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
    /// [`least`](Self::least), at most a part of 2^-12 larger. It is in the same octave, or the
    /// power of two at its end.
    pub fn bound(&self) -> f32 {
        let width = if self.several { 1 << REST } else { 0 };
        f32::from_bits(self.bits + width).abs()
    }
}

/// Counts of all values seen so far, by sign and magnitude, with their moments and extremes.
///
/// The bins divide each octave evenly into 2^12, so that the largest value, be it ever so far
/// from the others, makes none wider; a bin knows its value where it saw no other. One pass over
/// any number of batches, in any order and on any number of threads, gives the same bins. Zeros
/// are counted apart: every threshold keeps them exactly.
#[derive(Debug, Clone)]
pub struct Histogram {
    octaves: Octaves,
    /// Values that are not among them yet.
    kept: Vec<f32>,
    moments: Moments,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            octaves: Octaves::default(),
            kept: Vec::new(),
            moments: Moments::NONE,
        }
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.moments == other.moments && self.bins() == other.bins()
    }
}

impl Histogram {
    /// Adds values. Once a NaN or an infinity is among them, nothing more is counted.
    pub fn record(&mut self, values: &[f32]) {
        if values.is_empty() {
            return;
        }
        let parts: Vec<Moments> = values.par_chunks(CHUNK).map(Moments::of).collect();
        let seen = parts.into_iter().fold(Moments::NONE, Moments::and);
        self.moments = self.moments.and(seen);
        if self.moments.not_finite > 0 || seen.largest() == 0.0 {
            return;
        }
        if self.kept.len() + values.len() <= KEPT {
            self.kept.extend_from_slice(values);
            return;
        }
        self.octaves.count(&std::mem::take(&mut self.kept));
        self.octaves.count_on_threads(values);
    }

    /// How many values were seen.
    pub fn count(&self) -> u64 {
        self.moments.count
    }

    /// How many of them are zero.
    pub fn zeros(&self) -> u64 {
        self.moments.zeros
    }

    /// The smallest value.
    pub fn min(&self) -> f32 {
        self.moments.min
    }

    /// The largest value.
    pub fn max(&self) -> f32 {
        self.moments.max
    }

    /// The largest magnitude.
    pub fn largest(&self) -> f32 {
        self.moments.largest()
    }

    /// Whether a NaN or an infinity was among the values.
    pub fn saw_not_finite(&self) -> bool {
        self.moments.not_finite > 0
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.moments.sum / self.moments.count as f64
    }

    /// The mean magnitude, `E[|x|]`.
    pub fn mean_magnitude(&self) -> f64 {
        self.moments.magnitudes / self.moments.count as f64
    }

    /// The standard deviation, `sqrt(E[x^2] - E[x]^2)`.
    pub fn standard_deviation(&self) -> f64 {
        let mean_square = self.moments.squares / self.moments.count as f64;
        (mean_square - self.mean().powi(2)).max(0.0).sqrt()
    }

    /// The bins that hold something: positive values from the smallest to the largest, then negative
    /// ones from the smallest magnitude to the largest. They have all values but zeros.
    pub fn bins(&self) -> Vec<Bin> {
        merged(&self.octaves.bins(), &sorted(&self.kept))
    }

    /// Magnitudes other than zero, from the smallest to the largest: the bins of the values whose
    /// signs are left out.
    pub fn magnitudes(&self) -> Vec<Bin> {
        let bins = self.bins();
        let (positive, negative) = bins.split_at(bins.partition_point(|bin| !bin.is_negative()));
        let flipped = negative.iter().map(|bin| Bin {
            bits: bin.bits & !(1 << 31),
            ..*bin
        });
        merged(positive, &flipped.collect::<Vec<_>>())
    }
}

/// The bins of a few values, by their number.
fn sorted(values: &[f32]) -> Vec<Bin> {
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
fn merged(a: &[Bin], b: &[Bin]) -> Vec<Bin> {
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
struct Octaves(Vec<Option<Box<[u64; BINS]>>>);

impl Octaves {
    const SEVERAL: u64 = 1 << REST;
    const ONE: u64 = Self::SEVERAL << 1;

    fn count(&mut self, values: &[f32]) {
        self.0.resize(OCTAVES + 1, None);
        for &x in values {
            let bits = x.to_bits();
            let octave = (bits >> (f32::MANTISSA_DIGITS - 1)) as usize;
            let octave = if x == 0.0 { ZEROS } else { octave };
            let octave = self.0[octave].get_or_insert_with(|| Box::new([0; BINS]));
            let count = &mut octave[(bits >> REST) as usize % BINS];
            *count = Self::both(*count, Self::ONE | u64::from(bits & REST_MASK));
        }
    }

    /// Counts shares of the values on as many threads as they are worth.
    fn count_on_threads(&mut self, values: &[f32]) {
        let threads = rayon::current_num_threads().min(values.len() / SHARE);
        if threads < 2 {
            return self.count(values);
        }
        let shares = values.par_chunks(values.len().div_ceil(threads));
        let shares: Vec<Self> = shares
            .map(|share| {
                let mut octaves = Self::default();
                octaves.count(share);
                octaves
            })
            .collect();
        shares.into_iter().for_each(|share| self.add(share));
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

    fn bins(&self) -> Vec<Bin> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// From 1 to 2 there are 4096 bins, 2^-12 wide. 1 is there twice, two values share the bin 1024,
    /// and one, negative, is alone in the middle of the bin 3.
    #[test]
    fn bins_by_hand() {
        let bin = 1.0 / 4096.0;
        let values = [
            1.0,
            1.0 + 1024.5 * bin,
            1.0 + 1024.25 * bin,
            -1.0 - 3.5 * bin,
        ];
        let mut histogram = Histogram::default();
        histogram.record(&values);
        histogram.record(&[1.0, 0.0]);
        let facts = |bins: &[Bin]| -> Vec<(f32, f32, u64)> {
            let fact = |bin: &Bin| (bin.least(), bin.bound(), bin.count());
            bins.iter().map(fact).collect()
        };
        let bins = histogram.bins();
        assert_eq!(
            bins.iter().map(Bin::is_negative).collect::<Vec<_>>(),
            [false, false, true]
        );
        let (positive, negative) = bins.split_at(2);
        let shared = (1.0 + 1024.0 * bin, 1.0 + 1025.0 * bin, 2);
        assert_eq!(facts(positive), [(1.0, 1.0, 2), shared]);
        let alone = (1.0 + 3.5 * bin, 1.0 + 3.5 * bin, 1);
        assert_eq!(facts(negative), [alone]);
        assert_eq!(
            facts(&histogram.magnitudes()),
            [(1.0, 1.0, 2), alone, shared]
        );
        // The last bin of an octave ends at the power of two.
        let mut histogram = Histogram::default();
        histogram.record(&[2.0f32.next_down(), 2.0f32.next_down().next_down()]);
        let last = histogram.bins()[0];
        assert_eq!((last.least(), last.bound()), (2.0 - bin, 2.0));
    }

    /// Numbers of both signs over all exponents, some of them often: whatever their order, in
    /// parts of whatever size, they give the bins of a count one by one.
    #[test]
    fn neither_order_nor_parts_change_it() {
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 32) as u32
        };
        let of_bits = (0..200_000)
            .map(|_| f32::from_bits(next()))
            .filter(|x| x.is_finite());
        let mut values: Vec<f32> = of_bits.collect();
        values.extend((0..100_000).map(|i| (i % 256) as f32 / 255.0 - 0.3));
        let mut expected = std::collections::BTreeMap::<u32, Vec<u32>>::new();
        for x in values.iter().filter(|&&x| x != 0.0) {
            expected
                .entry(x.to_bits() >> 11)
                .or_default()
                .push(x.to_bits());
        }
        let mut whole = Histogram::default();
        whole.record(&values);
        assert_eq!(whole.bins().len(), expected.len());
        for (bin, (number, bits)) in whole.bins().iter().zip(&expected) {
            assert_eq!((bin.number(), bin.count), (*number, bits.len() as u64));
            let several = bits.iter().any(|&other| other != bits[0]);
            let first = if several { number << 11 } else { bits[0] };
            assert_eq!((bin.bits, bin.several), (first, several));
        }
        values.sort_by(f32::total_cmp);
        for size in [1000, 4097, 150_000] {
            let mut parts = Histogram::default();
            values.chunks(size).for_each(|part| parts.record(part));
            assert_eq!(whole.bins(), parts.bins(), "{size}");
        }
    }

    #[test]
    fn threads_do_not_change_it() {
        let values: Vec<f32> = (0..500_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let mut histogram = Histogram::default();
                histogram.record(&values);
                histogram
            })
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn moments_by_hand() {
        let mut histogram = Histogram::default();
        histogram.record(&[1.0, 2.0]);
        histogram.record(&[3.0, 6.0]);
        // Mean 3, squares 1 + 4 + 9 + 36 = 50, variance 12.5 - 9 = 3.5.
        assert_eq!(histogram.mean(), 3.0);
        assert!((histogram.standard_deviation() - 3.5f64.sqrt()).abs() < 1e-12);
        assert_eq!((histogram.min(), histogram.max()), (1.0, 6.0));
        assert_eq!(histogram.mean_magnitude(), 3.0);
    }

    #[test]
    fn zeros_and_what_is_no_number() {
        let mut histogram = Histogram::default();
        histogram.record(&[-1.0, 2.0]);
        assert_eq!(histogram.mean_magnitude(), 1.5);
        let mut histogram = Histogram::default();
        histogram.record(&[0.0, -0.0]);
        assert_eq!((histogram.largest(), histogram.zeros()), (0.0, 2));
        assert_eq!(histogram.magnitudes().len(), 0);
        histogram.record(&[f32::NAN]);
        assert!(histogram.saw_not_finite());
    }
}
