//! Rounding to few levels by comparing with each.

use crate::rounding::Rounding;
use crate::scalar::Grid;
use crate::scalar::levels::{LevelGrid, Levels, moves_up};

/// The most levels for which comparing a vector of numbers with every step takes less time than
/// looking up each number's step.
pub(crate) const FEW: usize = 16;

/// The steps of the nearest modes and between neighbours.
pub(crate) struct FewTables {
    even: [f32; FEW],
    away: [f32; FEW],
    /// The levels after the first.
    bounds: [f32; FEW],
    levels: [f32; FEW],
    /// The level after each; the last is its own.
    next: [f32; FEW],
}

impl FewTables {
    /// `even[i]` and `away[i]` are where `levels[i]` gives way to `levels[i + 1]`. None if there
    /// are more than [`FEW`] levels.
    pub(crate) fn new(even: &[f32], away: &[f32], levels: &[f32]) -> Option<Self> {
        let last = levels.len().checked_sub(1)?;
        if last >= FEW {
            return None;
        }
        // No number reaches NaN, so that the steps after the last are never taken.
        let steps =
            |list: &[f32]| std::array::from_fn(|i| list.get(i).copied().unwrap_or(f32::NAN));
        let level = |i: usize| levels[i.min(last)];
        Some(Self {
            even: steps(even),
            away: steps(away),
            bounds: steps(&levels[1..]),
            levels: std::array::from_fn(level),
            next: std::array::from_fn(|i| level(i + 1)),
        })
    }

    #[inline(always)]
    fn step(&self, x: f32, steps: &[f32; FEW]) -> f32 {
        let mut value = self.levels[0];
        for i in 1..FEW {
            value = if x >= steps[i - 1] {
                self.levels[i]
            } else {
                value
            };
        }
        if x.is_nan() { x } else { value }
    }

    /// The largest level not above `x`, or the first one, and the next one, or the last one.
    #[inline(always)]
    fn neighbours(&self, x: f32) -> [f32; 2] {
        let mut index = 0;
        for i in 1..FEW {
            index += u32::from(x >= self.bounds[i - 1]);
        }
        let index = index as usize % FEW;
        [self.levels[index], self.next[index]]
    }
}

/// Few levels.
#[derive(Clone, Copy)]
pub(crate) struct FewGrid<'a> {
    pub(crate) tables: &'a FewTables,
    pub(crate) levels: &'a Levels,
}

impl Grid for FewGrid<'_> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        match rounding {
            Rounding::NearestEven => self.tables.step(x, &self.tables.even),
            Rounding::NearestAway => self.tables.step(x, &self.tables.away),
            Rounding::Stochastic { bits, .. } => {
                let [lower, upper] = self.tables.neighbours(x);
                let up = moves_up(x + 0.0, lower, upper, bits, random);
                let value = if up { upper } else { lower };
                if x.is_nan() { x } else { value }
            }
            _ => LevelGrid(self.levels).round(x, rounding, random),
        }
    }
}
