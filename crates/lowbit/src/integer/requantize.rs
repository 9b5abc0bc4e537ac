//! Quantizers as requantizations.

use std::cmp::Ordering;

use lowbit_formats as formats;
use lowbit_int::ops::{Clamp, Convolution, Flatten, LookUp, Requantize, Weights};
use lowbit_int::{Numbers, Rounding};

use super::line::{Kind, Line, Value};
use super::lower::{LoweredInput, Lowering, Quantized, no_grid};
use crate::Error;
use crate::ops::ValueGrid;
use crate::ops::exponent;

/// Bits of what a table reads, at most.
const TABLE_BITS: u32 = 16;

/// Bits of a result that is brought to a grid.
const RESULT_BITS: u32 = 32;

/// Bits of a multiplier that stands for a ratio of scales.
const MULTIPLIER_BITS: i32 = 31;

impl Lowering<'_> {
    /// The value as a slot quantizes it; as it is where the slot has no quantizer.
    pub(super) fn quantize(
        &mut self,
        value: Value,
        quantized: &Quantized<'_>,
    ) -> Result<Value, Error> {
        if quantized.quantization.is_float() {
            return Ok(value);
        }
        let grids = quantized.quantization.grids(&quantized.parameters);
        let Some((grids, _)) = grids else {
            return Err(no_grid(
                &value,
                "is quantized to numbers that are on no grid",
            ));
        };
        let [grid] = grids[..] else {
            return Err(no_grid(
                &value,
                "has a scale for each channel, expected one",
            ));
        };
        let (Some(rounding), Some(Ordering::Greater)) =
            (grid.rounding, grid.step.partial_cmp(&0.0))
        else {
            return Err(no_grid(&value, "is not rounded to all integers of a grid"));
        };
        let rounding = of_integers(rounding).ok_or_else(|| {
            let text = format!(
                "is rounded {rounding}, expected nearest-even, nearest-away, nearest-up or down"
            );
            no_grid(&value, &text)
        })?;
        let numbers = numbers(&grid).map_err(|reason| no_grid(&value, &reason))?;
        let line = match &value.kind {
            Kind::Input { of, flat } => {
                let line = self.input(*of, quantized, (grid, rounding), numbers, &value)?;
                match *flat && self.graph.tensor(line.tensor).shape().len() > 1 {
                    true => self.flattened(line)?,
                    false => line,
                }
            }
            Kind::Line(line) => self.requantize(line.clone(), grid, quantized, numbers, &value)?,
            Kind::Function(tensor) => {
                let made = self.look_up(*tensor, grid, quantized, numbers, &value)?;
                made.ok_or_else(|| {
                    let text = format!(
                        "is a function of more than {TABLE_BITS} bits, or of the channel, which no \
                         table holds"
                    );
                    no_grid(&value, &text)
                })?
            }
        };
        let value = Value {
            kind: Kind::Line(line),
            ..value
        };
        self.note(&value);
        Ok(value)
    }

    /// An input of the graph.
    fn input(
        &mut self,
        of: usize,
        quantized: &Quantized<'_>,
        (grid, rounding): (ValueGrid, Rounding),
        numbers: Numbers,
        value: &Value,
    ) -> Result<Line, Error> {
        let known = self.inputs.iter().position(|known| {
            let same = known.quantization.grids(&known.parameters);
            let same = same.is_some_and(|(grids, _)| grids == [grid]);
            known.of == of && same && known.numbers == numbers
        });
        let known = match known {
            Some(known) => known,
            None => {
                let input = LoweredInput {
                    name: self.free(&value.name("input")),
                    of,
                    quantization: quantized.quantization.clone(),
                    parameters: quantized.parameters.clone(),
                    numbers,
                    rounding,
                };
                if !self.graph.nodes().is_empty() {
                    self.inputs.push(input);
                    self.begins_again = true;
                    return Err(no_grid(value, "is an input that comes late"));
                }
                self.with_input(input)?;
                self.inputs.len() - 1
            }
        };
        let line = Line::new(self.graph.inputs()[known], grid.step);
        self.within(line, grid, value)
    }

    /// An input in one dimension.
    fn flattened(&mut self, line: Line) -> Result<Line, Error> {
        let tensor = self.push("flatten", Flatten {}, &[line.tensor])?;
        Ok(Line { tensor, ..line })
    }

    /// A function of an exact tensor as a table of what the simulation makes of each integer; `None` where
    /// there are too many of them, or the function is not the same in all channels.
    fn look_up(
        &mut self,
        tensor: lowbit_int::TensorId,
        grid: ValueGrid,
        quantized: &Quantized<'_>,
        numbers: Numbers,
        value: &Value,
    ) -> Result<Option<Line>, Error> {
        let before = self.graph.tensor(tensor).numbers();
        let table = match &value.history {
            Some(history) if before.bits() <= TABLE_BITS => {
                history.table(&mut self.constants, quantized, before, numbers)?
            }
            _ => None,
        };
        let Some(table) = table else {
            return Ok(None);
        };
        let name = value.name("table");
        let tensor = self.push(&name, LookUp { table, numbers }, &[tensor])?;
        self.verify(tensor);
        Ok(Some(Line::new(tensor, grid.step)))
    }

    /// Takes note that a node was held against the simulation for every integer.
    fn verify(&mut self, tensor: lowbit_int::TensorId) {
        let name = self.graph.tensor(tensor).name();
        self.verified.push(name.into());
    }

    /// A line brought to a grid.
    fn requantize(
        &mut self,
        line: Line,
        grid: ValueGrid,
        quantized: &Quantized<'_>,
        numbers: Numbers,
        value: &Value,
    ) -> Result<Line, Error> {
        let stem = value.name("requantize");
        if !line.rises()
            && let Some(made) = self.look_up(line.tensor, grid, quantized, numbers, value)?
        {
            return Ok(made);
        }
        let original = line.tensor;
        let line = self.rising(line, &stem)?;
        let before = self.graph.tensor(line.tensor);
        let interval = before.interval();
        let inside = interval.least >= grid.least && interval.greatest <= grid.greatest;
        if line.is_whole()
            && line.step() == Some(grid.step)
            && before.numbers() == numbers
            && inside
        {
            return Ok(line);
        }
        // What was cut off before is cut off after, since rounding keeps the order.
        let end = |end: f64, open: i64| match end.is_infinite() {
            true => open,
            false => rounded(end / grid.step, &grid) as i64 + grid.zero_point,
        };
        let ends = ValueGrid {
            least: grid.least.max(end(line.low, grid.least)),
            greatest: grid.greatest.min(end(line.high, grid.greatest)),
            ..grid
        };
        let mut requantize = constants(&line, &grid, numbers);
        let history = value.history.as_ref().filter(|_| line.tensor == original);
        let mut verified = false;
        if let Some(history) = history.filter(|_| !is_shift(&line, &requantize)) {
            let before = (before.numbers(), before.intervals());
            let all = &mut self.constants;
            let ends = [ends.least, ends.greatest];
            verified = requantize.rounding != Rounding::Floor
                && history.fit(all, quantized, before, &mut requantize, ends)?;
            // What ties become may follow no line, but a table has it.
            if !verified
                && let Some(made) = self.look_up(line.tensor, grid, quantized, numbers, value)?
            {
                return Ok(made);
            }
        }
        let before = self.graph.tensor(line.tensor);
        if line.step() != Some(before.numbers().scale()) && requantize.multiplier.len() == 1 {
            // A factor is not what the exponents say; one for each channel is not held against them.
            let channels = before.shape()[0];
            requantize.multiplier = vec![requantize.multiplier[0]; channels];
        }
        let tensor = self.push(&stem, requantize, &[line.tensor])?;
        if verified {
            self.verify(tensor);
        }
        self.within(Line::new(tensor, grid.step), ends, value)
    }

    /// A line's integers, held to those of a grid.
    fn within(&mut self, line: Line, grid: ValueGrid, value: &Value) -> Result<Line, Error> {
        let interval = self.graph.tensor(line.tensor).interval();
        if interval.least >= grid.least && interval.greatest <= grid.greatest {
            return Ok(line);
        }
        let clamp = Clamp {
            least: grid.least,
            greatest: grid.greatest,
        };
        let name = value.name("clamp");
        let tensor = self.push(&name, clamp, &[line.tensor])?;
        Ok(Line { tensor, ..line })
    }

    /// The tensor of a line whose integers stand for its numbers by themselves; where scales differ, or
    /// something is added, one of 32 bits whose step is the least power of two that reaches all of them.
    pub(super) fn plain(&mut self, line: Line) -> Result<lowbit_int::TensorId, Error> {
        let tensor = self.graph.tensor(line.tensor);
        let before = tensor.numbers();
        if line.step() == Some(before.scale()) {
            return Ok(line.tensor);
        }
        let line = self.rising(line, "output")?;
        let channels = self
            .graph
            .tensor(line.tensor)
            .intervals()
            .iter()
            .enumerate();
        let ends = channels.flat_map(|(c, interval)| {
            let (scale, offset) = line.of(c);
            let zero_point = before.zero_point();
            let of = move |k: i64| (scale * (k - zero_point) as f64 + offset).abs();
            [of(interval.least), of(interval.greatest)]
        });
        let largest = ends.fold(f64::MIN_POSITIVE, f64::max);
        let step = (largest.log2().floor() + 2.0 - f64::from(RESULT_BITS)).exp2();
        let end = 1i64 << (RESULT_BITS - 1);
        let grid = ValueGrid::new(step, [-end, end - 1]);
        let numbers = numbers(&grid).map_err(|reason| Error::capture("output", reason))?;
        self.push("output", constants(&line, &grid, numbers), &[line.tensor])
    }

    /// The same line with scales above zero: channels in which it falls, or is the same for all
    /// integers, are multiplied by -1 or 0 first.
    pub(super) fn rising(&mut self, line: Line, stem: &str) -> Result<Line, Error> {
        if line.rises() {
            return Ok(line);
        }
        let tensor = self.graph.tensor(line.tensor);
        let shape = tensor.shape();
        let channels = shape[0];
        let signs = (0..channels).map(|c| {
            let (scale, _) = line.of(c);
            i64::from(scale > 0.0) - i64::from(scale < 0.0)
        });
        let [_, sizes @ ..] = shape else {
            return Err(Error::capture(stem, "falls in some channels"));
        };
        if sizes.is_empty() {
            return Err(Error::capture(stem, "falls in some features"));
        }
        let mut weight_shape = vec![channels, 1];
        weight_shape.extend(sizes.iter().map(|_| 1));
        let numbers = Numbers::power_of_two(2, true, 0);
        let weights = Weights {
            shape: weight_shape,
            numbers: numbers.map_err(|reason| Error::capture(stem, reason))?,
            values: signs.collect(),
        };
        let flip = Convolution::new(weights, None).with_groups(channels);
        let tensor = self.push(&format!("{stem}.sign"), flip, &[line.tensor])?;
        let scale = (0..channels).map(|c| match line.of(c).0 {
            0.0 => line
                .scale
                .iter()
                .fold(0.0, |most: f64, s| most.max(s.abs())),
            scale => scale.abs(),
        });
        let scale = scale.map(|s| if s > 0.0 { s } else { 1.0 });
        Ok(Line {
            scale: scale.collect(),
            tensor,
            ..line
        })
    }
}

/// The rounding of integers that is that of the simulation.
fn of_integers(rounding: formats::Rounding) -> Option<Rounding> {
    match rounding {
        formats::Rounding::NearestEven => Some(Rounding::HalfEven),
        formats::Rounding::NearestAway => Some(Rounding::HalfAway),
        formats::Rounding::NearestUp => Some(Rounding::HalfUp),
        formats::Rounding::Down => Some(Rounding::Floor),
        _ => None,
    }
}

/// A number in steps of a grid, rounded as the grid's are.
fn rounded(x: f64, grid: &ValueGrid) -> f64 {
    match grid.rounding {
        Some(formats::Rounding::NearestAway) => x.round(),
        Some(formats::Rounding::NearestUp) => (x + 0.5).floor(),
        Some(formats::Rounding::Down) => x.floor(),
        _ => x.round_ties_even(),
    }
}

/// Whether a requantization is exact by itself.
fn is_shift(line: &Line, requantize: &Requantize) -> bool {
    line.step().is_some_and(|step| exponent(step).is_some())
        && requantize.multiplier.iter().all(|m| m.count_ones() == 1)
        && exponent(requantize.numbers.scale()).is_some()
}

/// The integers of a grid.
fn numbers(grid: &ValueGrid) -> Result<Numbers, String> {
    let signed = grid.least < 0;
    let bits = lowbit_formats::bits_of(grid.least.into(), grid.greatest.into());
    let bits = if signed { bits } else { bits - 1 }.max(1);
    match exponent(grid.step).filter(|_| grid.zero_point == 0) {
        Some(exponent) => Numbers::power_of_two(bits, signed, exponent),
        None => Numbers::affine(bits, signed, grid.step, grid.zero_point),
    }
}

/// What brings a rising line to a grid. Where all scales are powers of two and offsets multiples of the
/// line's, that is exact; other ratios are multipliers of [`MULTIPLIER_BITS`] bits.
fn constants(line: &Line, grid: &ValueGrid, numbers: Numbers) -> Requantize {
    let channels = line.scale.len().max(line.offset.len());
    let mut requantize = Requantize {
        multiplier: Vec::with_capacity(channels),
        offset: Vec::with_capacity(channels),
        shift: Vec::with_capacity(channels),
        rounding: grid
            .rounding
            .and_then(of_integers)
            .unwrap_or(Rounding::HalfEven),
        numbers,
    };
    for channel in 0..channels {
        let (scale, offset) = line.of(channel);
        let (ratio, offset) = (scale / grid.step, offset / grid.step);
        let exact = exponent(ratio).and_then(|exponent| {
            let shift = (-exponent).max(0);
            let scaled = offset * f64::from(shift).exp2();
            let fits = shift <= 62 && exponent <= 31 && scaled.fract() == 0.0;
            (fits && scaled.abs() < 2f64.powi(53)).then_some((exponent, shift, scaled))
        });
        let (multiplier, shift, scaled) = match exact {
            Some((exponent, shift, scaled)) => (1 << exponent.max(0), shift, scaled),
            None => {
                let shift = MULTIPLIER_BITS - 1 - ratio.log2().floor() as i32;
                // What is added has to fit, too, beside a factor that is next to nothing.
                let room = 60 - offset.abs().max(1.0).log2().ceil() as i32;
                let shift = shift.clamp(0, room.max(0));
                let unit = f64::from(shift).exp2();
                let multiplier = (ratio * unit).round().max(1.0) as i64;
                (multiplier, shift, (offset * unit).round())
            }
        };
        requantize.multiplier.push(multiplier);
        requantize.shift.push(shift as u32);
        requantize.offset.push(scaled as i64);
    }
    requantize
}
