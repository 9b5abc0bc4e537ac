//! Rounding to the values of a table.

mod few;
mod search;
mod steps;

use std::fmt;

use crate::rounding::Rounding;
use crate::rounding::between::moves_on;
use crate::scalar::{Grid, Pass};

use few::{FewBlockGrid, FewGrid, FewTables};
use search::{BUCKETS, Search};
use steps::{StepGrid, StepTables};

/// Buckets of steps that need more of them than stay in the first cache.
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
    /// Finds the nearest value, ties to the upper one.
    nearest_up: Search,
    /// The nearest and the stochastic modes by comparing with each value, where those are few.
    few: Option<FewTables>,
    /// The same by one comparison, where that is enough.
    steps: Option<StepTables<BUCKETS>>,
    /// The same with more buckets, where those are too few.
    many_steps: Option<StepTables<MANY_BUCKETS>>,
}

/// Where nearest rounding goes over from a value to the next: the smallest number that is rounded
/// to the upper one, for either way to break a tie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Boundary {
    pub(crate) even: f32,
    pub(crate) away: f32,
    pub(crate) up: f32,
    pub(crate) down: f32,
}

impl Boundary {
    /// Halfway between two values; `upper_is_even` breaks the tie.
    pub(crate) fn midpoint(lower: f32, upper: f32, upper_is_even: bool) -> Self {
        Self {
            even: first_above(lower, upper, upper_is_even),
            away: first_above(lower, upper, upper.abs() >= lower.abs()),
            up: first_above(lower, upper, true),
            down: first_above(lower, upper, false),
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
        let up = boundaries.iter().map(|b| b.up).collect();
        let few = FewTables::new(&even, &away, &values);
        let steps = match few {
            Some(_) => None,
            None => StepTables::new(&even, &away, &values),
        };
        let many_steps = match (&few, &steps) {
            (None, None) => StepTables::new(&even, &away, &values),
            _ => None,
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
            nearest_up: Search::new(up),
            codes: entries.iter().map(|entry| entry.1).collect(),
            values,
            few,
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
            Rounding::NearestUp => return self.nearest_up.find(x),
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
            Rounding::Stochastic { bits, .. } => moves_up(x, lower, upper, bits, random),
            _ => false,
        };
        if up { next } else { index }
    }
}

/// Whether stochastic rounding takes `x`, which is not below `lower`, to the value above it.
#[inline(always)]
fn moves_up(x: f32, lower: f32, upper: f32, bits: u8, random: u32) -> bool {
    let (x, lower, upper) = (f64::from(x), f64::from(lower), f64::from(upper));
    // The move is away from zero, so that both signs take the same random numbers; but upwards
    // between values of both signs, where all numbers must move the same way.
    let negative = upper <= 0.0;
    let part = if negative { upper - x } else { x - lower };
    moves_on(part, upper - lower, bits, random) != negative
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} levels", self.values.len())
    }
}

/// [`Levels`] as a grid. NaN stays NaN, infinities and numbers beyond the table go to its ends.
#[derive(Debug, Clone, Copy)]
pub struct LevelGrid<'a>(pub(crate) &'a Levels);

impl<'a> LevelGrid<'a> {
    /// The grid that compares with each level, where those are few, for the passes over blocks.
    pub(crate) fn few(self) -> Option<FewBlockGrid<'a>> {
        let levels = self.0;
        let tables = levels.few.as_ref()?;
        Some(FewBlockGrid(FewGrid { tables, levels }))
    }

    /// Runs a pass with the fastest grid that the levels allow.
    pub(crate) fn apply<P: Pass>(self, pass: P) -> P::Output {
        let levels = self.0;
        if let Some(tables) = &levels.few {
            return pass.run(FewGrid { tables, levels });
        }
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
                .map(|&x| {
                    // Some word for stochastic rounding.
                    let random = x.to_bits().wrapping_mul(0x9E37_79B9);
                    grid.round(x, self.1, random).to_bits()
                })
                .collect()
        }
    }

    /// The grid with steps against the one that searches, around every step.
    #[test]
    fn steps_are_the_search() {
        let mut kinds = [0; 4];
        for list in search::tests::lists()
            .into_iter()
            .filter(|list| list.len() > 1)
        {
            let entries: Vec<(f32, u32)> = list.iter().copied().zip(0..).collect();
            let levels = halfway(&entries);
            kinds[0] += usize::from(levels.steps.is_some());
            kinds[1] += usize::from(levels.many_steps.is_some());
            kinds[2] += usize::from(levels.few.is_some());
            kinds[3] += 1;
            let middles = levels.nearest_even.list.iter().filter(|x| x.is_finite());
            let nearby = middles.flat_map(|x| [x.next_down(), *x, x.next_up()]);
            let numbers = (0..u32::MAX / 65_521).map(|i| f32::from_bits(i * 65_521));
            let inputs: Vec<f32> = nearby
                .chain(numbers)
                .chain([0.0, -0.0, f32::from_bits(1)])
                .collect();
            let stochastic = Rounding::stochastic(0, 0);
            for mode in [Rounding::NearestEven, Rounding::NearestAway, stochastic] {
                let grid = LevelGrid(&levels);
                let searched = RoundAll(&inputs, mode).run(grid);
                assert!(grid.apply(RoundAll(&inputs, mode)) == searched, "{list:?}");
                if let Some(few) = grid.few() {
                    assert!(RoundAll(&inputs, mode).run(few) == searched, "{list:?}");
                }
            }
        }
        // Few levels, both kinds of steps, and lists for neither, were there.
        let [one, many, few, all] = kinds;
        assert!(
            one > 0 && many > 0 && few > 0 && one + many + few < all,
            "{kinds:?}"
        );
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
            // x, nearest-even, nearest-away, nearest-up, toward zero, down, up, to odd
            (0.5, [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]),
            (2.0, [3.0, 3.0, 3.0, 1.0, 1.0, 3.0, 1.0]),
            (1.0, [1.0; 7]),
            (9.0, [3.0; 7]),
            (-1.0, [0.0; 7]),
            (-0.0, [0.0; 7]),
            (f32::INFINITY, [3.0; 7]),
        ];
        let modes = Rounding::DETERMINISTIC;
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
