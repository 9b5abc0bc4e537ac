//! What is known of a tensor before it holds numbers: its shape, its integers, and what has been
//! proven of them.

use lowbit_formats::bits_of;

use crate::numbers::Numbers;

/// The elements that a tensor may have.
pub(crate) const ELEMENTS: usize = 1 << 24;

/// The elements that all tensors of a graph may have together, each convolution's padded image counted
/// as one: two gigabytes as the interpreter has them.
pub(crate) const ALL_ELEMENTS: usize = 1 << 28;

/// The indices of first dimensions that all tensors of a graph may have together, of each of which is
/// kept what is known of it.
pub(crate) const ALL_CHANNELS: usize = 1 << 25;

/// Everything from `least` to `greatest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The least number.
    pub least: i64,
    /// The greatest number.
    pub greatest: i64,
}

impl Interval {
    /// The fewest bits of a two's complement number that holds all of it.
    pub fn bits(&self) -> u32 {
        bits_of(self.least.into(), self.greatest.into())
    }

    /// The greatest magnitude.
    pub fn magnitude(&self) -> u64 {
        self.least.unsigned_abs().max(self.greatest.unsigned_abs())
    }

    /// The least interval that holds both.
    pub fn union(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            greatest: self.greatest.max(other.greatest),
        }
    }

    /// The interval of a function that does not fall.
    pub(crate) fn map(self, f: impl Fn(i64) -> i64) -> Self {
        Self {
            least: f(self.least),
            greatest: f(self.greatest),
        }
    }
}

/// All `k` with the same last bits: `k mod 2^bits = residue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Residue {
    /// How many of the last bits are known, 0 to 62.
    pub bits: u32,
    /// What they are, from 0 to `2^bits - 1`.
    pub residue: i64,
}

impl Residue {
    /// Nothing is known.
    pub const ANY: Self = Self {
        bits: 0,
        residue: 0,
    };

    /// Of one number.
    pub fn of(number: i64) -> Self {
        Self::new(62, number)
    }

    fn new(bits: u32, number: i64) -> Self {
        let bits = bits.min(62);
        Self {
            bits,
            residue: number & ((1 << bits) - 1),
        }
    }

    /// Of the sums of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        let bits = self.bits.min(other.bits);
        Self::new(bits, self.residue.wrapping_add(other.residue))
    }

    /// Of the product with a number.
    pub(crate) fn times(self, factor: i64) -> Self {
        if factor == 0 {
            return Self::of(0);
        }
        let bits = self.bits + factor.trailing_zeros();
        Self::new(bits, self.residue.wrapping_mul(factor))
    }

    /// What is known of a number that is one of either.
    pub(crate) fn union(self, other: Self) -> Self {
        let differ = (self.residue ^ other.residue).trailing_zeros();
        Self::new(self.bits.min(other.bits).min(differ), self.residue)
    }

    /// Whether some `k` of these has `k mod 2^bits = residue`.
    pub fn meets(&self, bits: u32, residue: i64) -> bool {
        let mask = (1i64 << bits.min(self.bits)) - 1;
        (residue ^ self.residue) & mask == 0
    }
}

/// A tensor without its batch dimension: of an image, `[channels, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) numbers: Numbers,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) residues: Vec<Residue>,
}

impl Tensor {
    /// A tensor of which nothing is known but its numbers.
    pub(crate) fn any(shape: Vec<usize>, numbers: Numbers) -> Result<Self, String> {
        let channels = channels(&shape)?;
        let interval = Interval {
            least: numbers.least(),
            greatest: numbers.greatest(),
        };
        let (intervals, residues) = (vec![interval; channels], vec![Residue::ANY; channels]);
        Self::new(shape, numbers, intervals, residues)
    }

    /// A tensor with an interval and a residue for each index of its first dimension.
    pub(crate) fn new(
        shape: Vec<usize>,
        numbers: Numbers,
        intervals: Vec<Interval>,
        residues: Vec<Residue>,
    ) -> Result<Self, String> {
        let channels = channels(&shape)?;
        assert_eq!([intervals.len(), residues.len()], [channels; 2]);
        Ok(Self {
            name: String::new(),
            shape,
            numbers,
            intervals,
            residues,
        })
    }

    /// Its name: the input's, or that of the node that makes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape, without the batch dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its integers.
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    /// The elements of one image.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// What its numbers have been proven to lie in, for each index of its first dimension.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// What has been proven of its numbers' last bits, for each index of its first dimension.
    pub fn residues(&self) -> &[Residue] {
        &self.residues
    }

    /// The least interval that holds all its numbers.
    pub fn interval(&self) -> Interval {
        let all = self.intervals.iter().copied().reduce(Interval::union);
        all.expect("a dimension has an index")
    }

    /// An image of the least number that each element can have.
    pub(crate) fn least(&self) -> Vec<i64> {
        let elements = 0..self.elements();
        elements
            .map(|e| self.intervals[self.channel(e)].least)
            .collect()
    }

    /// The index of an element's first dimension.
    pub(crate) fn channel(&self, element: usize) -> usize {
        element / (self.elements() / self.shape[0])
    }
}

/// What follows from each interval, found once for neighbours of which the same is known: it may take
/// as long as a table.
pub(crate) fn for_each_known(
    intervals: &[Interval],
    f: impl Fn(&Interval) -> Interval,
) -> Vec<Interval> {
    let mut last: Option<(Interval, Interval)> = None;
    let found = intervals.iter().map(|interval| {
        let found = match last {
            Some((known, found)) if known == *interval => found,
            _ => f(interval),
        };
        last = Some((*interval, found));
        found
    });
    found.collect()
}

/// The size of the first dimension.
pub(crate) fn channels(shape: &[usize]) -> Result<usize, String> {
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match (elements, shape.first()) {
        (Some(1..=ELEMENTS), Some(&channels)) => Ok(channels),
        _ => Err(format!(
            "shape is {shape:?}, expected 1 to {ELEMENTS} elements in at least one dimension"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 k + 1 for any k is odd; three times that, plus 1, is even and 4 modulo 6, of which one bit
    /// is known.
    #[test]
    fn last_bits_by_hand() {
        let odd = Residue::ANY.times(2).plus(Residue::of(1));
        assert_eq!(
            odd,
            Residue {
                bits: 1,
                residue: 1
            }
        );
        assert!(odd.meets(3, 5) && !odd.meets(3, 4));
        let even = odd.times(3).plus(Residue::of(1));
        assert_eq!(
            even,
            Residue {
                bits: 1,
                residue: 0
            }
        );
        assert_eq!(odd.union(even), Residue::ANY);
        assert_eq!(Residue::of(-1).residue, (1 << 62) - 1);
        assert_eq!(Residue::of(5).union(Residue::of(13)).bits, 3);
    }

    #[test]
    fn shapes_have_elements() {
        let numbers = Numbers::power_of_two(8, true, 0).unwrap();
        for shape in [
            vec![],
            vec![0],
            vec![3, 0],
            vec![1 << 13, 1 << 13],
            vec![usize::MAX, 2],
        ] {
            assert!(Tensor::any(shape, numbers).is_err());
        }
        assert_eq!(Tensor::any(vec![3, 2], numbers).unwrap().channel(3), 1);
    }
}
