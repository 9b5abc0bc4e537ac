//! Rounding to the values of a table.

use std::fmt;

use crate::Rounding;
use crate::between::moves_on;
use crate::grid::Grid;

/// Buckets of a search, at most.
const BUCKETS: usize = 2048;

/// A table of values, ready for rounding: its values in order, their codes, and where one gives
/// way to the next.
pub(crate) struct Levels {
    /// Ascending and distinct; zero is +0.
    values: Vec<f32>,
    /// The code of each value.
    codes: Vec<u32>,
    /// Finds the largest value not above a number.
    floor: Search,
    /// Finds the nearest value, ties to an even code.
    nearest_even: Search,
    /// Finds the nearest value, ties away from zero.
    nearest_away: Search,
}

/// Where nearest rounding goes over from a value to the next: the smallest number that is rounded
/// to the upper one, for either way to break a tie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Boundary {
    pub(crate) even: f32,
    pub(crate) away: f32,
}

impl Boundary {
    /// Halfway between two values; `upper_is_even` breaks the tie.
    pub(crate) fn midpoint(lower: f32, upper: f32, upper_is_even: bool) -> Self {
        Self {
            even: first_above(lower, upper, upper_is_even),
            away: first_above(lower, upper, upper.abs() >= lower.abs()),
        }
    }
}

/// The smallest `f32` that is nearer to `upper` than to `lower`, or as near if `tie_goes_up`.
fn first_above(lower: f32, upper: f32, tie_goes_up: bool) -> f32 {
    // The sum as two numbers without error (Knuth, The Art of Computer Programming, volume 2,
    // section 4.2.2, theorem B).
    let (a, b) = (f64::from(lower), f64::from(upper));
    let sum = a + b;
    let b_part = sum - a;
    let rest = (a - (sum - b_part)) + (b - b_part);
    let goes_up = |x: f32| {
        let distance = 2.0 * f64::from(x) - sum;
        distance > 0.0 || (distance == 0.0 && (rest < 0.0 || (rest == 0.0 && tie_goes_up)))
    };
    let mut x = (0.5 * sum) as f32;
    while goes_up(x) {
        x = x.next_down();
    }
    while !goes_up(x) {
        x = x.next_up();
    }
    x
}

impl Levels {
    /// `entries` are values with their codes, ascending and distinct, 1 to 65,536 of them;
    /// `boundaries` lie between each two.
    pub(crate) fn new(entries: &[(f32, u32)], boundaries: &[Boundary]) -> Self {
        let values: Vec<f32> = entries.iter().map(|entry| entry.0).collect();
        Self {
            floor: Search::new(values[1..].to_vec()),
            nearest_even: Search::new(boundaries.iter().map(|b| b.even).collect()),
            nearest_away: Search::new(boundaries.iter().map(|b| b.away).collect()),
            codes: entries.iter().map(|entry| entry.1).collect(),
            values,
        }
    }

    /// The values in ascending order.
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// The code of `x` rounded. NaN has no code and gets that of zero rounded.
    pub(crate) fn encode(&self, x: f32, rounding: Rounding, random: u32) -> u32 {
        let x = if x.is_nan() { 0.0 } else { x };
        self.codes[self.index(x, rounding, random)]
    }

    /// The value of a code, NaN if no value has it.
    pub(crate) fn decode(&self, code: u32) -> f32 {
        let index = self.codes.iter().position(|&c| c == code);
        index.map_or(f32::NAN, |index| self.values[index])
    }

    /// The index of the value to which `x` is rounded.
    #[inline(always)]
    fn index(&self, x: f32, rounding: Rounding, random: u32) -> usize {
        // Minus zero becomes zero.
        let x = x + 0.0;
        match rounding {
            Rounding::NearestEven => return self.nearest_even.find(x),
            Rounding::NearestAway => return self.nearest_away.find(x),
            _ => {}
        }
        let index = self.floor.find(x);
        let next = (index + 1).min(self.values.len() - 1);
        let (lower, upper) = (self.values[index], self.values[next]);
        let inexact = x > lower;
        let up = match rounding {
            Rounding::Up => inexact,
            Rounding::TowardZero => inexact && x < 0.0,
            Rounding::ToOdd => inexact && self.codes[index].is_multiple_of(2),
            Rounding::Stochastic { bits, .. } => {
                let part = f64::from(x) - f64::from(lower);
                let whole = f64::from(upper) - f64::from(lower);
                moves_on(part, whole, bits, random)
            }
            _ => false,
        };
        if up { next } else { index }
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} levels", self.values.len())
    }
}

/// [`Levels`] as a grid. NaN stays NaN, infinities and numbers beyond the table go to its ends.
#[derive(Debug, Clone, Copy)]
pub struct LevelGrid<'a>(pub(crate) &'a Levels);

impl Grid for LevelGrid<'_> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let value = self.0.values[self.0.index(x, rounding, random)];
        if x.is_nan() { x } else { value }
    }
}

/// Counts the numbers of an ascending list that are not above a given one.
///
/// A bucket, computed from the number, says where the count starts; a few steps of binary search
/// finish it. A bucket is any function of the number that does not descend, so that a number
/// cannot be in a lower bucket than one below it. Two are tried, and the one with the fewest steps
/// is kept: a straight line, for evenly spread lists, and a number's upper bits, for lists spread
/// over many powers of two.
struct Search {
    /// The list, and after it NaNs, which are above nothing.
    list: Vec<f32>,
    /// How many numbers of the list lie in lower buckets, for each bucket.
    start: Vec<u16>,
    bucket: Bucket,
    /// The first stride of the binary search, a power of two, or zero.
    stride: usize,
}

#[derive(Clone, Copy)]
enum Bucket {
    Line { origin: f32, per_unit: f32 },
    Bits { origin: i32, shift: u32 },
}

impl Bucket {
    #[inline(always)]
    fn of(self, x: f32) -> usize {
        let bucket = match self {
            // The conversion takes what is out of range to the ends.
            Self::Line { origin, per_unit } => ((x - origin) * per_unit) as i32,
            Self::Bits { origin, shift } => ordered(x).saturating_sub(origin) >> shift,
        };
        bucket.clamp(0, BUCKETS as i32 - 1) as usize
    }
}

/// An integer that orders as numbers do.
#[inline(always)]
fn ordered(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

impl Search {
    fn new(mut list: Vec<f32>) -> Self {
        let (&first, &last) = match (list.first(), list.last()) {
            (Some(first), Some(last)) => (first, last),
            _ => (&0.0, &0.0),
        };
        let line = Bucket::Line {
            origin: first,
            per_unit: ((BUCKETS - 1) as f32 / (last - first)).clamp(0.0, f32::MAX),
        };
        let range = (i64::from(ordered(last)) - i64::from(ordered(first))).min(i32::MAX.into());
        let bits = Bucket::Bits {
            origin: ordered(first),
            shift: (range / BUCKETS as i64 + 1).ilog2() + 1,
        };
        let (fewest, bucket) = [line, bits]
            .map(|bucket| (crowd(&list, bucket), bucket))
            .into_iter()
            .min_by_key(|(most, _)| *most)
            .unwrap_or((0, line));
        let mut members = [0u16; BUCKETS];
        for &x in &list {
            members[bucket.of(x)] += 1;
        }
        let mut below = 0;
        let start = members
            .iter()
            .map(|count| {
                below += count;
                below - count
            })
            .collect();
        let stride = (fewest + 1).next_power_of_two() / 2;
        list.resize(list.len() + 2 * stride, f32::NAN);
        Self {
            list,
            start,
            bucket,
            stride,
        }
    }

    #[inline(always)]
    fn find(&self, x: f32) -> usize {
        let mut count = usize::from(self.start[self.bucket.of(x)]);
        let mut stride = self.stride;
        while stride > 0 {
            if x >= self.list[count + stride - 1] {
                count += stride;
            }
            stride /= 2;
        }
        count
    }
}

/// How many numbers of a list fall into one bucket, at most.
fn crowd(list: &[f32], bucket: Bucket) -> usize {
    let groups = list.chunk_by(|a, b| bucket.of(*a) == bucket.of(*b));
    groups.map(<[f32]>::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels with each boundary halfway between its values.
    fn halfway(entries: &[(f32, u32)]) -> Levels {
        let boundaries: Vec<Boundary> = entries
            .windows(2)
            .map(|pair| Boundary::midpoint(pair[0].0, pair[1].0, pair[1].1 % 2 == 0))
            .collect();
        Levels::new(entries, &boundaries)
    }

    /// Lists that favour the one and the other bucket, and lists that are bad for both.
    fn lists() -> Vec<Vec<f32>> {
        let even = (-128..128).map(|i| i as f32 / 100.0).collect();
        let powers: Vec<f32> = (-140..120).map(|e| 2f32.powi(e)).collect();
        let both = powers
            .iter()
            .rev()
            .map(|x| -x)
            .chain([0.0])
            .chain(powers.clone());
        let crowded = (0..300).map(|i| f32::from_bits(0x3f80_0000 + i));
        let far = crowded.clone().chain([1e30, f32::MAX]);
        let wide = vec![-f32::MAX, f32::MAX];
        vec![
            vec![],
            vec![0.5],
            even,
            both.collect(),
            crowded.collect(),
            far.collect(),
            wide,
        ]
    }

    /// Counting by comparing with every number of the list.
    #[test]
    fn search_counts() {
        for list in lists() {
            let search = Search::new(list.clone());
            let nearby = list.iter().flat_map(|x| [x.next_down(), *x, x.next_up()]);
            let numbers = (0..u32::MAX / 65_521).map(|i| f32::from_bits(i * 65_521));
            for x in nearby.chain(numbers).filter(|x| !x.is_nan()) {
                let expected = list.iter().filter(|&&y| x >= y).count();
                assert_eq!(search.find(x), expected, "{x} among {}", list.len());
            }
        }
    }

    /// Halfway points by hand: between 1 and 2 it is 1.5; between 1 and the next number there is
    /// no number, so the upper one is the first that is nearer to it; between 0 and the smallest
    /// subnormal likewise; and 2^-149 beside 1 moves the middle of 1 and 2^-149 up a little above
    /// 0.5, so that 0.5 itself is nearer to 2^-149.
    #[test]
    fn midpoints() {
        let next = 1f32.next_up();
        let tiny = f32::from_bits(1);
        for (lower, upper, tie_up, expected) in [
            (1.0, 2.0, true, 1.5),
            (1.0, 2.0, false, 1.5f32.next_up()),
            (-2.0, -1.0, true, -1.5),
            (1.0, next, true, next),
            (0.0, tiny, false, tiny),
            (tiny, 1.0, true, 0.5f32.next_up()),
            (-tiny, 1.0, false, 0.5),
        ] {
            assert_eq!(
                first_above(lower, upper, tie_up),
                expected,
                "{lower} {upper}"
            );
        }
    }

    /// The table 0, 1, 3 with codes 0, 1, 2, by hand.
    #[test]
    fn every_mode_by_hand() {
        let levels = halfway(&[(0.0, 0), (1.0, 1), (3.0, 2)]);
        let cases = [
            // x, nearest-even, nearest-away, toward zero, down, up, to odd
            (0.5, [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]),
            (2.0, [3.0, 3.0, 1.0, 1.0, 3.0, 1.0]),
            (1.0, [1.0; 6]),
            (9.0, [3.0; 6]),
            (-1.0, [0.0; 6]),
            (-0.0, [0.0; 6]),
            (f32::INFINITY, [3.0; 6]),
        ];
        let modes = [
            Rounding::NearestEven,
            Rounding::NearestAway,
            Rounding::TowardZero,
            Rounding::Down,
            Rounding::Up,
            Rounding::ToOdd,
        ];
        for (x, expected) in cases {
            for (mode, expected) in modes.into_iter().zip(expected) {
                let y = LevelGrid(&levels).round(x, mode, 0);
                assert_eq!(y.to_bits(), f32::to_bits(expected), "{mode:?} {x}");
                let code = levels.encode(x, mode, 0);
                assert_eq!(levels.decode(code), expected);
            }
        }
        assert!(LevelGrid(&levels).round(f32::NAN, Rounding::Up, 0).is_nan());
        assert!(levels.decode(3).is_nan());
    }

    /// 1.5 is a quarter of the way from 1 to 3: with two random bits, one of the four moves up.
    #[test]
    fn stochastic_by_hand() {
        let levels = halfway(&[(0.0, 0), (1.0, 1), (3.0, 2)]);
        let rounding = Rounding::Stochastic {
            seed: 0,
            stream: 0,
            bits: 2,
        };
        for (x, expected) in [
            (1.5, 1),
            (1.0, 0),
            (2.999, 3),
            (3.0, 4),
            (7.0, 4),
            (-2.0, 0),
        ] {
            let up = (0..4u32)
                .filter(|r| LevelGrid(&levels).round(x, rounding, r << 30) == 3.0)
                .count();
            assert_eq!(up, expected, "{x}");
        }
    }
}
