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
    /// The bits in which each level differs from the next.
    changes: [u32; FEW],
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
            changes: std::array::from_fn(|i| level(i).to_bits() ^ level(i + 1).to_bits()),
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

    /// As [`step`](Self::step): steps ascend, so that all changes up to a level's are made.
    #[inline(always)]
    fn step_by_changes(&self, x: f32, steps: &[f32; FEW]) -> f32 {
        let mut bits = self.levels[0].to_bits();
        for i in 1..FEW {
            let change = self.changes[i - 1];
            bits ^= if x >= steps[i - 1] { change } else { 0 };
        }
        if x.is_nan() { x } else { f32::from_bits(bits) }
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

/// Few levels of blocks. In their passes, whose grid is not all that a loop reads, the compiler turns
/// a choice between two levels in memory into one between their addresses, and gathers, which takes
/// three times as long; the bits in which levels differ it takes or leaves.
#[derive(Clone, Copy)]
pub(crate) struct FewBlockGrid<'a>(pub(crate) FewGrid<'a>);

impl Grid for FewBlockGrid<'_> {
    #[inline(always)]
    fn round(&self, x: f32, rounding: Rounding, random: u32) -> f32 {
        let tables = self.0.tables;
        match rounding {
            Rounding::NearestEven => tables.step_by_changes(x, &tables.even),
            Rounding::NearestAway => tables.step_by_changes(x, &tables.away),
            _ => self.0.round(x, rounding, random),
        }
    }
}
