//! Averages.

use super::kernels::{Made, Rebuild, Rescaling, State, Sums};
use crate::error::GraphError;
use crate::graph::Node;
use crate::numbers::Numbers;
use crate::ops::{AveragePool, Requantize, Rounding, Windows};

/// Magnitudes whose halves are exact in `f32`.
const EXACT: u64 = 1 << 23;

/// The longest shift of an average in floats: what is within 1e-6 of a tie counts as one where ESP-DL
/// rounds without an instruction for it, and 2^-16 is more.
const LONGEST: u32 = 16;

impl Rebuild<'_> {
    /// An average. Kernels of multipliers round it to the input's integers, where half goes away from
    /// the zero of `int8`; chips that shift keep the sum and round it once.
    pub(super) fn average(&mut self, node: &Node, pool: &AveragePool) -> Result<Made, GraphError> {
        let inputs = self.all_bytes(node)?;
        let padded = match &pool.windows {
            Windows::Sliding { sliding, .. } => sliding.padding.iter().any(|p| *p != [0; 2]),
            Windows::Adaptive { .. } => false,
        };
        let shift = matches!(self.rules.rescaling, Rescaling::Shift { .. });
        if padded && (pool.include_padding || shift) {
            return Err(self.refused(node, "averages without padding"));
        }
        let count = self.count(node);
        if !shift {
            return self.rounded_average(node, pool, count);
        }
        // In floats, of which sums divided by powers of two are exact.
        let interval = self.source.tensor(node.output).interval();
        if !count.is_power_of_two() || interval.magnitude() >= EXACT {
            let reason = format!("averages in floats, {count} elements are no power of two");
            return Err(self.refused(node, &reason));
        }
        self.check_reader(node)?;
        let id = self
            .graph
            .push(&node.name, node.operator.clone(), &inputs)?;
        let state = State::Sums(Sums {
            longest: LONGEST,
            ..Sums::plain(1)
        });
        Ok(Made { id, state })
    }

    /// How many of the sums' steps are one of the input's.
    fn count(&self, node: &Node) -> u64 {
        let step = |id| self.source.tensor(id).numbers().scale();
        (step(node.inputs[0]) / step(node.output)).round() as u64
    }

    /// `round(sum / count)`, of the integers as `int8` has them.
    fn rounded_average(
        &mut self,
        node: &Node,
        pool: &AveragePool,
        count: u64,
    ) -> Result<Made, GraphError> {
        let input = self.of(node.inputs[0]).id;
        let numbers = self.graph.tensor(input).numbers();
        let name = self.name(node, "sum");
        let sums = self.graph.push(&name, pool.clone(), &[input])?;
        self.check_sums(node)?;
        // The integer of `int8` is the graph's, less this.
        let below = if numbers.greatest() > 127 { 128 } else { 0 };
        let offset = count as i64 * (numbers.zero_point() - below);
        let most = self.graph.tensor(sums).interval().magnitude() + offset.unsigned_abs();
        let most = most.max(1);
        let (multiplier, shift) = self.division(node, count, most)?;
        let mut divide = Requantize {
            multiplier: vec![multiplier],
            offset: vec![multiplier * offset],
            shift: vec![shift],
            rounding: Rounding::HalfAway,
            numbers,
        };
        if count > 1 {
            self.changed.push(node.name.clone());
        }
        let state = State::Averages(count);
        if numbers.zero_point() == below {
            let id = self.graph.push(&node.name, divide, &[sums])?;
            return Ok(Made { id, state });
        }
        divide.numbers = match numbers {
            Numbers::PowerOfTwo(grid) => Numbers::power_of_two(8, true, grid.exponent()),
            Numbers::Affine(_) => Numbers::affine(8, true, numbers.scale(), 0),
        }
        .map_err(|reason| GraphError::node(&node.name, reason))?;
        let name = self.name(node, "int8");
        let rounded = self.graph.push(&name, divide, &[sums])?;
        let back = Requantize {
            offset: vec![below - numbers.zero_point()],
            ..Requantize::by_shift(0, Rounding::HalfAway, numbers)
        };
        let id = self.graph.push(&node.name, back, &[rounded])?;
        Ok(Made { id, state })
    }
}
