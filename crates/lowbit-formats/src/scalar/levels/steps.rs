//! Rounding to levels by one comparison.

use crate::rounding::Rounding;
use crate::scalar::levels::search::Bucket;
use crate::scalar::levels::{LevelGrid, Levels, moves_up};
use crate::scalar::{Grid, Pass};

/// The steps of the nearest modes and the neighbours of each number, with buckets of one kind.
pub(crate) struct StepTables<const N: usize> {
    even: Box<Steps<N>>,
    away: Box<Steps<N>>,
    neighbours: Box<Neighbours<N>>,
}

impl<const N: usize> StepTables<N> {
    /// `even[i]` and `away[i]` are where `levels[i]` gives way to `levels[i + 1]`. None if two of
    /// a list share a bucket.
    pub(crate) fn new(even: &[f32], away: &[f32], levels: &[f32]) -> Option<Self> {
        [Bucket::line, Bucket::bits].into_iter().find_map(|kind| {
            let bucket = kind(even, N);
            Some(Self {
                even: Steps::new(even, levels, bucket)?,
                away: Steps::new(away, levels, bucket)?,
                neighbours: Neighbours::new(levels, kind(&levels[1..], N))?,
            })
        })
    }
}

/// Levels with steps, whose buckets are lines or not as `LINE` says.
#[derive(Clone, Copy)]
pub(crate) struct StepGrid<'a, const LINE: bool, const N: usize> {
    steps: &'a StepTables<N>,
    levels: &'a Levels,
}

impl<'a, const N: usize> StepGrid<'a, true, N> {
    /// Runs a pass with the grid for the kind of the steps' buckets.
    pub(crate) fn apply<P: Pass>(
        steps: &'a StepTables<N>,
        levels: &'a Levels,
        pass: P,
    ) -> P::Output {
        match steps.even.bucket {
            Bucket::Line { .. } => pass.run(Self { steps, levels }),
            Bucket::Bits { .. } => pass.run(StepGrid::<'a, false, N> { steps, levels }),
        }
    }
}

impl<const LINE: bool, const N: usize> Grid for StepGrid<'_, LINE, N> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        match rounding {
            Rounding::NearestEven => self.steps.even.round::<LINE>(x),
            Rounding::NearestAway => self.steps.away.round::<LINE>(x),
            Rounding::Stochastic { bits, .. } => {
                let [lower, upper] = self.steps.neighbours.of::<LINE>(x);
                let up = moves_up(x + 0.0, lower, upper, bits, random);
                let value = if up { upper } else { lower };
                if x.is_nan() { x } else { value }
            }
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

/// The values about a number, with at most one value in each [`Bucket`].
struct Neighbours<const N: usize> {
    bucket: Bucket,
    /// The bucket's value; NaN after the last.
    threshold: [f32; N],
    /// The value below the bucket's, that value, and the one above; the first and the last value
    /// stand for those beyond.
    levels: [[f32; 4]; N],
}

impl<const N: usize> Neighbours<N> {
    /// None if two of the levels after the first share a bucket.
    fn new(levels: &[f32], bucket: Bucket) -> Option<Box<Self>> {
        let mut table = Box::new(Self {
            bucket,
            threshold: [f32::NAN; N],
            levels: [[0.0; 4]; N],
        });
        let level = |i: usize| levels[i.min(levels.len() - 1)];
        let mut below = 0;
        for index in 0..N {
            let above = &levels[below + 1..];
            table.threshold[index] = above.first().copied().unwrap_or(f32::NAN);
            table.levels[index] = [level(below), level(below + 1), level(below + 2), 0.0];
            let here = above.iter().take_while(|&&x| bucket.of(x, N) == index);
            match here.count() {
                0 => {}
                1 => below += 1,
                _ => return None,
            }
        }
        Some(table)
    }

    /// The largest value not above `x`, or the first value, and the next one, or the last value.
    #[inline(always)]
    fn of<const LINE: bool>(&self, x: f32) -> [f32; 2] {
        let bucket = self.bucket.of_kind::<LINE>(x, N) % N;
        let at = usize::from(x >= self.threshold[bucket]);
        let levels = &self.levels[bucket];
        [levels[at], levels[at + 1]]
    }
}
