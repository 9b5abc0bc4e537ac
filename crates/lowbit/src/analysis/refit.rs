//! Whether another threshold of the same width would do better.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

use super::tensor::{Strides, TensorCounts};
use crate::quantizers::{Bin, Histogram, Integers, QuantizerConfig};

/// Widths with which a threshold matters, beyond which noise drowns in that of `f32`.
const MOST_BITS: u32 = 16;

/// Noise below this share of the signal is no noise.
const FLOOR: f64 = 1e-9;

/// How finely steps are searched, in parts of an octave, where they need not be powers of two.
const PARTS: i32 = 4;

/// The noise of a quantizer's grid, and that of the best grid of the same width.
///
/// The best is that with the least `sum (x - q)^2` over all steps, of powers of two where the
/// quantizer's is one; its integers are signed where the quantizer's are, or, where those are not known,
/// where a value is negative.
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
    /// Two channels that both have less noise with each other's threshold, those that gain most.
    pub swapped: Option<SwappedChannels>,
}

/// Two channels whose thresholds look as if they had been exchanged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SwappedChannels {
    /// The channels.
    pub channels: [usize; 2],
    /// Their thresholds as they are.
    pub thresholds: [f64; 2],
    /// The noise of both over that with each other's threshold.
    pub ratio: f64,
}

impl Refit {
    /// That of a tensor; `None` where its quantizer is no even grid of at most 16 bits.
    pub(super) fn of(tensor: &TensorCounts) -> Option<Self> {
        let quantizer = tensor.quantizer.as_ref()?;
        let bits = quantizer.config.bits();
        let power_of_two = has_power_of_two(&quantizer.config)?;
        let values = tensor.values();
        if bits > MOST_BITS || values.count() == 0 {
            return None;
        }
        let integers = quantizer.integers.as_ref();
        if let (Some(integers), Some(held)) = (integers, tensor.held())
            && integers.log2_steps.len() > 1
        {
            let strides = Strides::of(
                held.shape().as_slice(),
                tensor.axis_of(held.shape().as_slice()),
            );
            let values: Vec<f32> = held.iter::<f32>().collect();
            return Some(Self::of_channels(&values, strides, integers));
        }
        let bins = values.bins();
        let signed = integers.map_or(values.min() < 0.0, is_signed);
        let now = match integers {
            Some(integers) => noise(&bins, grid_of(integers, 0)),
            None => tensor.alone_noise(),
        };
        let (best, threshold) = best(&bins, bits, signed, power_of_two);
        let count = values.count() as f64;
        let floor = FLOOR * signal(&bins);
        Some(Self {
            now: now / count,
            best: best / count,
            thresholds: vec![threshold],
            worst_channel: None,
            ratio: (now + floor) / (best + floor),
            swapped: None,
        })
    }

    fn of_channels(values: &[f32], strides: Strides, integers: &Integers) -> Self {
        let mut channels = vec![Histogram::default(); strides.count];
        for (at, run) in values.chunks(strides.inner.max(1)).enumerate() {
            let finite: Vec<f32> = run.iter().copied().filter(|x| x.is_finite()).collect();
            channels[at % strides.count].record(&finite);
        }
        let channels: Vec<Vec<Bin>> = channels.iter().map(Histogram::bins).collect();
        let found: Vec<(f64, f64, f64)> = channels
            .iter()
            .enumerate()
            .map(|(channel, bins)| {
                let (least, threshold) = best(bins, integers.bits, is_signed(integers), true);
                (noise(bins, grid_of(integers, channel)), least, threshold)
            })
            .collect();
        let all = |of: fn(&(f64, f64, f64)) -> f64| found.iter().map(of).sum::<f64>();
        let (now, least) = (all(|f| f.0), all(|f| f.1));
        let floor =
            FLOOR * channels.iter().map(|bins| signal(bins)).sum::<f64>() / strides.count as f64;
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
            swapped: swapped(&channels, integers, floor),
        }
    }
}

/// The two channels that gain most from each other's thresholds, of those pairs in which both gain.
fn swapped(channels: &[Vec<Bin>], integers: &Integers, floor: f64) -> Option<SwappedChannels> {
    let steps = &integers.log2_steps;
    let places: Vec<usize> = (0..channels.len().min(steps.len())).collect();
    let kinds: BTreeSet<i32> = steps.iter().copied().collect();
    // Of each channel, its noise with the steps of the others.
    let of_channel = |channel: &usize| -> BTreeMap<i32, f64> {
        let noise = |&log2: &i32| {
            let (_, min, max) = grid_of(integers, *channel);
            (
                log2,
                noise(&channels[*channel], (f64::from(log2).exp2(), min, max)),
            )
        };
        kinds.iter().map(noise).collect()
    };
    let noises: Vec<_> = places.par_iter().map(of_channel).collect();
    let gain = |a: usize, b: usize| {
        let now = [noises[a][&steps[a]], noises[b][&steps[b]]];
        let then = [noises[a][&steps[b]], noises[b][&steps[a]]];
        let both = then[0] < now[0] && then[1] < now[1];
        both.then(|| (now[0] + now[1], then[0] + then[1]))
    };
    let pairs = places.iter().flat_map(|&b| (0..b).map(move |a| (a, b)));
    let gains = pairs
        .filter(|&(a, b)| steps[a] != steps[b])
        .filter_map(|(a, b)| Some(([a, b], gain(a, b)?)));
    let (channels, (now, then)) =
        gains.max_by(|(_, x), (_, y)| (x.0 - x.1).total_cmp(&(y.0 - y.1)))?;
    let threshold = |channel| {
        let (step, min, max) = grid_of(integers, channel);
        step * (max + 1.0).max(-min)
    };
    Some(SwappedChannels {
        channels,
        thresholds: channels.map(threshold),
        ratio: (now + floor) / (then + floor),
    })
}

/// Whether a quantizer's steps are powers of two; `None` where they are not even, may not lie anywhere,
/// or have a width that is learned.
pub(super) fn has_power_of_two(config: &QuantizerConfig) -> Option<bool> {
    match config {
        QuantizerConfig::Tqt(_) => Some(true),
        QuantizerConfig::Lsq(_)
        | QuantizerConfig::LsqPlus(_)
        | QuantizerConfig::Pact(_)
        | QuantizerConfig::RangeLinear(_) => Some(false),
        _ => None,
    }
}

pub(super) fn is_signed(integers: &Integers) -> bool {
    integers.min < 0
}

/// Step and ends of a grid, the ends in steps.
type Grid = (f64, f64, f64);

fn grid_of(integers: &Integers, channel: usize) -> Grid {
    let step = f64::from(integers.log2_step(channel)).exp2();
    (step, integers.min as f64, integers.max as f64)
}

/// `sum (x - q)^2` of a grid, to the width of the histogram's bins.
fn noise(bins: &[Bin], (step, min, max): Grid) -> f64 {
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

fn signal(bins: &[Bin]) -> f64 {
    bins.iter()
        .map(|bin| bin.middle().powi(2) * bin.count() as f64)
        .sum()
}

/// The least noise of a grid with so many bits, and its upper end.
fn best(bins: &[Bin], bits: u32, signed: bool, power_of_two: bool) -> (f64, f64) {
    let largest = bins.iter().map(Bin::bound).fold(0.0, f32::max);
    if largest == 0.0 {
        return (0.0, 0.0);
    }
    let levels = f64::from(bits - u32::from(signed && bits > 1)).exp2();
    let min = if signed { -levels } else { 0.0 };
    let parts = if power_of_two { 1 } else { PARTS };
    let top = f64::from(largest).log2().ceil();
    let (mut least, mut end) = (f64::INFINITY, f64::from(largest));
    for part in -parts..=24 * parts {
        let threshold = (top - f64::from(part) / f64::from(parts)).exp2();
        let found = noise(bins, (threshold / levels, min, levels - 1.0));
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
    use crate::analysis::tensor::InSlot;
    use crate::quantizers::{Channels, LearnedWidthConfig, Place, TrainedThresholdConfig};
    use burn::tensor::{Device, TensorData};

    /// Two bits, signed: -2 to 1 steps. Of 0.25 and -0.5, the threshold 1/2 has step 1/4 and no noise;
    /// the threshold 8 has step 4 and makes both 0: noise 1/16 + 1/4.
    #[test]
    fn noise_by_hand() {
        let bins = bins(&[0.25, -0.5]);
        assert_eq!(noise(&bins, (4.0, -2.0, 1.0)), 0.3125);
        assert_eq!(best(&bins, 2, true, true), (0.0, 0.5));
        assert_eq!(signal(&bins), 0.3125);
    }

    fn bins(values: &[f32]) -> Vec<Bin> {
        let mut histogram = Histogram::default();
        histogram.record(values);
        histogram.bins()
    }

    fn in_slot(values: &[f32], log2_thresholds: &[f32], signed: bool) -> TensorCounts {
        let (bits, count) = (2, log2_thresholds.len());
        let config = QuantizerConfig::Tqt(TrainedThresholdConfig {
            per_channel: count > 1,
            ..TrainedThresholdConfig::new(bits)
        });
        let channels = Channels { axis: 0, count };
        let quantizer = config.init(Some(channels), &Device::flex());
        let slot = InSlot {
            config,
            bits: bits.into(),
            quantizer,
            integers: Some(Integers::below_thresholds(bits, signed, log2_thresholds)),
        };
        let place = Place {
            layer: "layer".into(),
            layer_type: "Linear".into(),
            slot: "weight".into(),
        };
        let mut counts = TensorCounts::new(place, true, 0, Some(slot));
        let data = TensorData::new(values.to_vec(), [count, values.len() / count]);
        counts.add(&data, &data, None);
        counts
    }

    /// Two bits, signed, below 1: steps of 1/2 up to 1/2. Of 1/4 and 3/4 one becomes 0 and the other
    /// 1/2, noise 1/16 each. Unsigned, steps of 1/4 up to 3/4 would have none, but the quantizer's
    /// integers are signed: below 2, with steps of 1, noise is 1/16 + 1/16, too, and below 1/2 it is
    /// (3/4 - 1/4)^2.
    #[test]
    fn the_best_grid_has_the_integers_of_the_quantizer() {
        let values = [0.25, 0.75];
        let refit = |signed| Refit::of(&in_slot(&values, &[0.0], signed)).unwrap();
        assert_eq!((refit(true).now, refit(true).best), (0.0625, 0.0625));
        assert_eq!(refit(true).ratio, 1.0);
        assert_eq!((refit(false).now, refit(false).best), (0.0, 0.0));
        assert_eq!(refit(false).thresholds, [1.0]);
    }

    /// The same in two channels, the second four times as large with the threshold 64 instead of 4:
    /// its steps are 32, so that 1 and 3 become 0. That is noise 1 + 9 instead of 1 + 1.
    #[test]
    fn channels_by_hand() {
        let counts = in_slot(&[0.25, 0.75, 1.0, 3.0], &[0.0, 6.0], true);
        let refit = Refit::of(&counts).unwrap();
        assert_eq!((refit.now, refit.best), (10.125 / 4.0, 2.125 / 4.0));
        let (channel, ratio) = refit.worst_channel.unwrap();
        assert!(channel == 1 && (ratio - 5.0).abs() < 1e-6, "{ratio}");
        assert_eq!(refit.ratio, ratio);
    }

    /// Two bits, signed: 1 and -2 are on the grid below 2, 1/4 and -1/2 on that below 1/2. Exchanged, 1 becomes 1/4
    /// and -2 becomes -1/2, noise 9/16 + 9/4, and in steps of 1 both others become 0, noise 1/16 + 1/4. Both far
    /// too large, nothing is left of either, whichever threshold it has.
    #[test]
    fn thresholds_that_were_exchanged_are_found() {
        let values = [1.0, -2.0, 0.25, -0.5];
        let swapped = |log2: [f32; 2]| Refit::of(&in_slot(&values, &log2, true)).unwrap();
        assert_eq!(swapped([1.0, -1.0]).swapped, None);
        assert_eq!(swapped([7.0, 5.0]).swapped, None);
        let refit = swapped([-1.0, 1.0]);
        assert_eq!(
            refit.now,
            (9.0 / 16.0 + 9.0 / 4.0 + 1.0 / 16.0 + 1.0 / 4.0) / 4.0
        );
        let found = refit.swapped.unwrap();
        assert_eq!((found.channels, found.thresholds), ([0, 1], [0.5, 2.0]));
        assert!(found.ratio > 1e6, "{}", found.ratio);
    }

    #[test]
    fn a_learned_width_has_no_best_threshold() {
        let learned = QuantizerConfig::LearnedWidth(LearnedWidthConfig::new(4));
        assert_eq!(has_power_of_two(&learned), None);
    }
}
