//! Whether another threshold of the same width would do better.

use serde::Serialize;

use super::tensor::{Strides, TensorCounts};
use crate::quantizers::{Histogram, Integers, QuantizerConfig};

/// Widths with which a threshold matters, beyond which noise drowns in that of `f32`.
const MOST_BITS: u32 = 16;

/// Noise below this share of the signal is no noise.
const FLOOR: f64 = 1e-9;

/// How finely steps are searched, in parts of an octave, where they need not be powers of two.
const PARTS: i32 = 4;

/// The noise of a quantizer's grid, and that of the best grid of the same width.
///
/// The best is that with the least `sum (x - q)^2` over all steps, of powers of two where the
/// quantizer's is one; integers are signed where a value is negative.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refit {
    /// Mean square error of the quantizer as it is, `sum (x - q)^2 / n`.
    pub now: f64,
    /// That of the best grid.
    pub best: f64,
    /// The upper end of that grid, for the tensor or for each channel.
    pub thresholds: Vec<f64>,
    /// The channel whose noise is furthest above what it could be, and by which factor; of a quantizer
    /// with a step for each.
    pub worst_channel: Option<(usize, f64)>,
    /// The factor by which the noise is above what it could be; of channels that of the worst, where
    /// that has a hundredth of the tensor's noise at least.
    pub ratio: f64,
}

impl Refit {
    /// That of a tensor; `None` where its quantizer is no even grid of at most 16 bits.
    pub(super) fn of(tensor: &TensorCounts) -> Option<Self> {
        let quantizer = tensor.quantizer.as_ref()?;
        let bits = quantizer.config.bits();
        let (is_even, power_of_two) = kind(&quantizer.config);
        if !is_even || bits > MOST_BITS || tensor.values().count() == 0 {
            return None;
        }
        match (&quantizer.integers, tensor.held()) {
            (Some(integers), Some(held)) if integers.log2_steps.len() > 1 => {
                let strides = Strides::of(held.shape().as_slice(), tensor.axis);
                let values: Vec<f32> = held.iter::<f32>().collect();
                Some(Self::of_channels(&values, strides, integers, bits))
            }
            (integers, _) => {
                let values = tensor.values();
                let now = match integers {
                    Some(integers) => noise(values, grid_of(integers, 0)),
                    None => tensor.alone_noise(),
                };
                let (best, threshold) = best(values, bits, power_of_two);
                let count = values.count() as f64;
                let floor = FLOOR * signal(values);
                Some(Self {
                    now: now / count,
                    best: best / count,
                    thresholds: vec![threshold],
                    worst_channel: None,
                    ratio: (now + floor) / (best + floor),
                })
            }
        }
    }

    fn of_channels(values: &[f32], strides: Strides, integers: &Integers, bits: u32) -> Self {
        let mut channels = vec![Histogram::default(); strides.count];
        for (at, run) in values.chunks(strides.inner.max(1)).enumerate() {
            let finite: Vec<f32> = run.iter().copied().filter(|x| x.is_finite()).collect();
            channels[at % strides.count].record(&finite);
        }
        let found: Vec<(f64, f64, f64)> = channels
            .iter()
            .enumerate()
            .map(|(channel, values)| {
                let (least, threshold) = best(values, bits, true);
                (noise(values, grid_of(integers, channel)), least, threshold)
            })
            .collect();
        let all = |of: fn(&(f64, f64, f64)) -> f64| found.iter().map(of).sum::<f64>();
        let (now, least) = (all(|f| f.0), all(|f| f.1));
        let floor = FLOOR * channels.iter().map(signal).sum::<f64>() / strides.count as f64;
        let ratio = |(now, best, _): &(f64, f64, f64)| (now + floor) / (best + floor);
        let worst = found.iter().map(ratio).enumerate();
        let worst = worst.max_by(|a, b| a.1.total_cmp(&b.1));
        let felt = worst.filter(|&(channel, _)| found[channel].0 >= 0.01 * now);
        let whole = (now + floor) / (least + floor);
        Self {
            now: now / values.len().max(1) as f64,
            best: least / values.len().max(1) as f64,
            thresholds: found.iter().map(|f| f.2).collect(),
            worst_channel: worst,
            ratio: felt.map_or(whole, |(_, ratio)| ratio.max(whole)),
        }
    }
}

/// Whether a quantizer's values are even steps that may lie anywhere, and whether those steps are
/// powers of two.
fn kind(config: &QuantizerConfig) -> (bool, bool) {
    match config {
        QuantizerConfig::Tqt(_) | QuantizerConfig::LearnedWidth(_) => (true, true),
        QuantizerConfig::Lsq(_)
        | QuantizerConfig::LsqPlus(_)
        | QuantizerConfig::Pact(_)
        | QuantizerConfig::RangeLinear(_) => (true, false),
        _ => (false, false),
    }
}

/// Step and ends of a grid, the ends in steps.
type Grid = (f64, f64, f64);

fn grid_of(integers: &Integers, channel: usize) -> Grid {
    let step = f64::from(integers.log2_step(channel)).exp2();
    (step, integers.min as f64, integers.max as f64)
}

/// `sum (x - q)^2` of a grid, to the width of the histogram's bins.
fn noise(values: &Histogram, (step, min, max): Grid) -> f64 {
    let bins = values.bins();
    let parts = bins.iter().map(|bin| {
        let x = if bin.is_negative() {
            -bin.middle()
        } else {
            bin.middle()
        };
        let q = (x / step).round_ties_even().clamp(min, max) * step;
        (x - q).powi(2) * bin.count() as f64
    });
    parts.sum()
}

fn signal(values: &Histogram) -> f64 {
    let bins = values.bins();
    bins.iter()
        .map(|bin| bin.middle().powi(2) * bin.count() as f64)
        .sum()
}

/// The least noise of a grid with so many bits, and its upper end.
fn best(values: &Histogram, bits: u32, power_of_two: bool) -> (f64, f64) {
    let largest = f64::from(values.largest());
    if values.count() == 0 || largest == 0.0 {
        return (0.0, 0.0);
    }
    let signed = values.min() < 0.0;
    let levels = f64::from(bits - u32::from(signed && bits > 1)).exp2();
    let min = if signed { -levels } else { 0.0 };
    let parts = if power_of_two { 1 } else { PARTS };
    let top = largest.log2().ceil();
    let (mut least, mut end) = (f64::INFINITY, largest);
    for part in -parts..=24 * parts {
        let threshold = (top - f64::from(part) / f64::from(parts)).exp2();
        let found = noise(values, (threshold / levels, min, levels - 1.0));
        if found < least {
            (least, end) = (found, threshold);
        }
        if found > 64.0 * least {
            break;
        }
    }
    (least, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bits, signed: -2 to 1 steps. Of 0.25 and -0.5, the threshold 1/2 has step 1/4 and no noise;
    /// the threshold 8 has step 4 and makes both 0: noise 1/16 + 1/4.
    #[test]
    fn noise_by_hand() {
        let mut values = Histogram::default();
        values.record(&[0.25, -0.5]);
        assert_eq!(noise(&values, (4.0, -2.0, 1.0)), 0.3125);
        assert_eq!(best(&values, 2, true), (0.0, 0.5));
        assert_eq!(signal(&values), 0.3125);
    }
}
