//! Rounding to the values of a table.

use std::fmt;

use crate::Rounding;
use crate::between::moves_on;
use crate::grid::{Grid, Pass};

/// Buckets of a search, and of steps that stay in the first cache.
const BUCKETS: usize = 2048;

/// Buckets of steps that need more of them.
const MANY_BUCKETS: usize = 16384;

/// A table of values, ready for rounding: its values in order, their codes, and where one gives
/// way to the next.
pub(crate) struct Levels {
    /// Ascending and distinct; zero is +0.
    values: Vec<f32>,
    /// The code of each value.
    codes: Vec<u32>,
    /// The value of each code, NaN for codes that no value has.
    decoded: Vec<f32>,
    /// The lowest code that no value has.
    unused: u32,
    /// Finds the largest value not above a number.
    floor: Search,
    /// Finds the nearest value, ties to an even code.
    nearest_even: Search,
    /// Finds the nearest value, ties away from zero.
    nearest_away: Search,
    /// The two nearest modes by one comparison, where that is enough.
    steps: Option<[Box<Steps<BUCKETS>>; 2]>,
    /// The same with more buckets, where those are too few.
    many_steps: Option<[Box<Steps<MANY_BUCKETS>>; 2]>,
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
        let even: Vec<f32> = boundaries.iter().map(|b| b.even).collect();
        let away: Vec<f32> = boundaries.iter().map(|b| b.away).collect();
        let steps = Steps::pair(&even, &away, &values);
        let many_steps = match steps {
            Some(_) => None,
            None => Steps::pair(&even, &away, &values),
        };
        let codes = entries.iter().map(|entry| entry.1 as usize);
        let mut decoded = vec![f32::NAN; codes.max().unwrap_or(0) + 1];
        for &(value, code) in entries {
            decoded[code as usize] = value;
        }
        let unused = decoded.iter().position(|value| value.is_nan());
        Self {
            unused: unused.unwrap_or(decoded.len()) as u32,
            decoded,
            floor: Search::new(values[1..].to_vec()),
            nearest_even: Search::new(even),
            nearest_away: Search::new(away),
            codes: entries.iter().map(|entry| entry.1).collect(),
            values,
            steps,
            many_steps,
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

    /// The lowest code that no value has.
    pub(crate) fn unused_code(&self) -> u32 {
        self.unused
    }

    /// The value of a code, NaN if no value has it.
    pub(crate) fn decode(&self, code: u32) -> f32 {
        self.decoded.get(code as usize).copied().unwrap_or(f32::NAN)
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
            Rounding::TowardZero => inexact && upper.abs() <= lower.abs(),
            Rounding::ToOdd => inexact && self.codes[index].is_multiple_of(2),
            Rounding::Stochastic { bits, .. } => {
                let (lower, upper) = (f64::from(lower), f64::from(upper));
                // The move is away from zero, so that both signs take the same random numbers; but
                // upwards between values of both signs, where all numbers must move the same way.
                let negative = upper <= 0.0;
                let part = if negative {
                    upper - f64::from(x)
                } else {
                    f64::from(x) - lower
                };
                moves_on(part, upper - lower, bits, random) != negative
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

impl LevelGrid<'_> {
    /// Runs a pass with the fastest grid that the levels allow.
    pub(crate) fn apply<P: Pass>(self, pass: P) -> P::Output {
        let levels = self.0;
        match (&levels.steps, &levels.many_steps) {
            (Some(steps), _) => StepGrid::<true, BUCKETS>::apply(steps, levels, pass),
            (_, Some(steps)) => StepGrid::<true, MANY_BUCKETS>::apply(steps, levels, pass),
            _ => pass.run(self),
        }
    }
}

impl Grid for LevelGrid<'_> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let value = self.0.values[self.0.index(x, rounding, random)];
        if x.is_nan() { x } else { value }
    }
}

/// Levels with [`Steps`], whose buckets are lines or not as `LINE` says.
#[derive(Clone, Copy)]
struct StepGrid<'a, const LINE: bool, const N: usize> {
    steps: &'a [Box<Steps<N>>; 2],
    levels: &'a Levels,
}

impl<'a, const N: usize> StepGrid<'a, true, N> {
    /// Runs a pass with the grid for the kind of the steps' buckets.
    fn apply<P: Pass>(steps: &'a [Box<Steps<N>>; 2], levels: &'a Levels, pass: P) -> P::Output {
        match steps[0].bucket {
            Bucket::Line { .. } => pass.run(Self { steps, levels }),
            Bucket::Bits { .. } => pass.run(StepGrid::<'a, false, N> { steps, levels }),
        }
    }
}

impl<const LINE: bool, const N: usize> Grid for StepGrid<'_, LINE, N> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        match rounding {
            Rounding::NearestEven => self.steps[0].round::<LINE>(x),
            Rounding::NearestAway => self.steps[1].round::<LINE>(x),
            _ => LevelGrid(self.levels).round(x, rounding, random),
        }
    }
}

/// A step function with at most one step in each [`Bucket`]: two loads and no branch.
struct Steps<const N: usize> {
    bucket: Bucket,
    /// Where the step is; NaN after the last.
    threshold: [f32; N],
    /// The levels below and from there on.
    values: [[f32; 2]; N],
    /// The level of zero.
    zero: f32,
}

impl<const N: usize> Steps<N> {
    /// The steps of both lists, with buckets of the same kind.
    fn pair(even: &[f32], away: &[f32], levels: &[f32]) -> Option<[Box<Self>; 2]> {
        [Bucket::line, Bucket::bits].into_iter().find_map(|bucket| {
            let bucket = bucket(even, N);
            Some([
                Self::new(even, levels, bucket)?,
                Self::new(away, levels, bucket)?,
            ])
        })
    }

    /// `list[i]` is where `levels[i]` gives way to `levels[i + 1]`. None if two of the list share a
    /// bucket.
    fn new(list: &[f32], levels: &[f32], bucket: Bucket) -> Option<Box<Self>> {
        let (mut list, mut levels) = (list.to_vec(), levels.to_vec());
        let zero = list.iter().filter(|&&x| 0.0 >= x).count();
        let mut steps = Box::new(Self {
            bucket,
            threshold: [f32::NAN; N],
            values: [[0.0; 2]; N],
            zero: levels[zero],
        });
        // Zero is looked at by itself; a level for zero alone is none of the others' steps.
        if zero > 0 && list[zero - 1] == 0.0 && list.get(zero) == Some(&f32::from_bits(1)) {
            list.remove(zero - 1);
            levels.remove(zero);
        }
        let mut below = 0;
        for index in 0..N {
            let next = list.get(below).copied().unwrap_or(f32::NAN);
            steps.threshold[index] = next;
            steps.values[index] = [levels[below], levels[(below + 1).min(list.len())]];
            let here = list[below..]
                .iter()
                .take_while(|&&x| bucket.of(x, N) == index)
                .count();
            if here > 1 {
                return None;
            }
            below += here;
        }
        Some(steps)
    }

    #[inline(always)]
    fn round<const LINE: bool>(&self, x: f32) -> f32 {
        let bucket = self.bucket.of_kind::<LINE>(x, N) % N;
        let upper = usize::from(x >= self.threshold[bucket]);
        let value = self.values[bucket][upper];
        let value = if x == 0.0 { self.zero } else { value };
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
    bucket: Bucket,
    /// How many numbers of the list lie in lower buckets, for each bucket.
    start: Vec<u16>,
    /// The first stride of the binary search, a power of two, or zero.
    stride: usize,
}

#[derive(Clone, Copy)]
enum Bucket {
    /// By `(x - origin) * per_unit`.
    Line { origin: f32, per_unit: f32 },
    /// By a number's bits read as an integer, of which the lowest `shift` do not count, and from
    /// which magnitudes up to the one of bits `flat` are taken out, counted from `first`.
    Bits { flat: u32, first: i32, shift: u32 },
}

impl Bucket {
    #[inline(always)]
    fn of(self, x: f32, buckets: usize) -> usize {
        match self {
            Self::Line { .. } => self.of_kind::<true>(x, buckets),
            Self::Bits { .. } => self.of_kind::<false>(x, buckets),
        }
    }

    /// The bucket of `x`; the kind must be the one that `LINE` says.
    #[inline(always)]
    fn of_kind<const LINE: bool>(self, x: f32, buckets: usize) -> usize {
        match self {
            Self::Line { origin, per_unit } if LINE => {
                let place = (x - origin) * per_unit;
                let place = if place > 0.0 { place } else { 0.0 };
                let last = (buckets - 1) as f32;
                let place = if place < last { place } else { last };
                // 2^23 leaves no place after the point, so the fraction bits are the integer.
                ((place + 8_388_608.0).to_bits() & 0x7f_ffff) as usize
            }
            Self::Bits { flat, first, shift } if !LINE => {
                let bucket = (ordered(x, flat) >> shift) - first;
                bucket.clamp(0, buckets as i32 - 1) as usize
            }
            _ => 0,
        }
    }

    /// The line that spreads the buckets over a list.
    fn line(list: &[f32], buckets: usize) -> Self {
        let (first, last) = ends(list);
        Self::Line {
            origin: first,
            per_unit: ((buckets - 1) as f32 / (last - first)).clamp(0.0, f32::MAX),
        }
    }

    /// The bits that spread the buckets over a list.
    fn bits(list: &[f32], buckets: usize) -> Self {
        let magnitudes = list.iter().map(|x| x.abs().to_bits());
        let smallest = magnitudes.filter(|&bits| bits > 1).min().unwrap_or(1);
        let (first, last) = ends(list);
        let range =
            i64::from(ordered(last, smallest - 1)) - i64::from(ordered(first, smallest - 1));
        // The buckets and four more fit into the range shifted. The shift is not zero, so that the
        // difference of two shifted numbers does not overflow.
        let shift = (range / (buckets as i64 - 4) + 1).ilog2() + 1;
        // Two buckets below the smallest magnitude keep it apart from zero.
        let flat = smallest.saturating_sub(1 + (2 << shift));
        Self::Bits {
            flat,
            first: ordered(first, flat) >> shift,
            shift,
        }
    }
}

/// First and last number, zeros for an empty list.
fn ends(list: &[f32]) -> (f32, f32) {
    (
        list.first().copied().unwrap_or(0.0),
        list.last().copied().unwrap_or(0.0),
    )
}

/// An integer that orders as numbers do; magnitudes whose bits are up to `flat` count as zero.
#[inline(always)]
fn ordered(x: f32, flat: u32) -> i32 {
    let magnitude = (x.to_bits() & 0x7fff_ffff).saturating_sub(flat) as i32;
    if x.is_sign_negative() {
        -magnitude
    } else {
        magnitude
    }
}

impl Search {
    fn new(mut list: Vec<f32>) -> Self {
        let candidates = [Bucket::line(&list, BUCKETS), Bucket::bits(&list, BUCKETS)];
        let [line, bits] = candidates.map(|bucket| crowd(&list, bucket));
        let (most, bucket) = if line <= bits {
            (line, candidates[0])
        } else {
            (bits, candidates[1])
        };
        let mut members = [0u16; BUCKETS];
        for &x in &list {
            members[bucket.of(x, BUCKETS)] += 1;
        }
        let mut below = 0;
        let start = members
            .iter()
            .map(|count| {
                below += count;
                below - count
            })
            .collect();
        let stride = (most + 1).next_power_of_two() / 2;
        list.resize(list.len() + 2 * stride, f32::NAN);
        Self {
            list,
            bucket,
            start,
            stride,
        }
    }

    #[inline(always)]
    fn find(&self, x: f32) -> usize {
        let mut count = usize::from(self.start[self.bucket.of(x, BUCKETS)]);
        let mut stride = self.stride;
        while stride > 0 {
            // Without a branch, which could not be foretold.
            count += stride * usize::from(x >= self.list[count + stride - 1]);
            stride /= 2;
        }
        count
    }
}

/// How many numbers of a list fall into one bucket, at most.
fn crowd(list: &[f32], bucket: Bucket) -> usize {
    let groups = list.chunk_by(|a, b| bucket.of(*a, BUCKETS) == bucket.of(*b, BUCKETS));
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

    /// Rounds a few numbers with whatever grid it is given.
    struct RoundAll<'a>(&'a [f32], Rounding);

    impl Pass for RoundAll<'_> {
        type Output = Vec<u32>;
        fn run<G: Grid>(self, grid: G) -> Vec<u32> {
            self.0
                .iter()
                .map(|&x| grid.round(x, self.1, 0).to_bits())
                .collect()
        }
    }

    /// The grid with steps against the one that searches, around every step.
    #[test]
    fn steps_are_the_search() {
        let mut kinds = [0; 3];
        for list in lists().into_iter().filter(|list| list.len() > 1) {
            let entries: Vec<(f32, u32)> = list.iter().copied().zip(0..).collect();
            let levels = halfway(&entries);
            kinds[0] += usize::from(levels.steps.is_some());
            kinds[1] += usize::from(levels.many_steps.is_some());
            kinds[2] += 1;
            let middles = levels.nearest_even.list.iter().filter(|x| x.is_finite());
            let nearby = middles.flat_map(|x| [x.next_down(), *x, x.next_up()]);
            let numbers = (0..u32::MAX / 65_521).map(|i| f32::from_bits(i * 65_521));
            let inputs: Vec<f32> = nearby
                .chain(numbers)
                .chain([0.0, -0.0, f32::from_bits(1)])
                .collect();
            for mode in [Rounding::NearestEven, Rounding::NearestAway] {
                let grid = LevelGrid(&levels);
                let searched = RoundAll(&inputs, mode).run(grid);
                assert!(grid.apply(RoundAll(&inputs, mode)) == searched, "{list:?}");
            }
        }
        // Both kinds of steps, and lists for neither, were there.
        assert!(
            kinds[0] > 0 && kinds[1] > 0 && kinds[0] + kinds[1] < kinds[2],
            "{kinds:?}"
        );
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
        let many = (0..3000).map(|i| i as f32 / 1000.0).collect();
        vec![
            vec![],
            vec![0.5],
            even,
            both.collect(),
            crowded.collect(),
            far.collect(),
            wide,
            many,
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
        // With a sign, the random number that moves 1.5 to 3 is the one that moves -1.5 to -3.
        let levels = halfway(&[(-3.0, 6), (-1.0, 5), (0.0, 0), (1.0, 1), (3.0, 2)]);
        for random in 0..4u32 {
            let round = |x| LevelGrid(&levels).round(x, rounding, random << 30);
            assert_eq!(round(1.5), if random == 3 { 3.0 } else { 1.0 });
            assert_eq!(round(-1.5), -round(1.5));
            assert_eq!([round(-3.0), round(-1.0), round(-9.0)], [-3.0, -1.0, -3.0]);
        }
    }
}
