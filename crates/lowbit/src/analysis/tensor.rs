//! What is known of one tensor of a layer: its values, its grid, and how far quantization moved it.

use std::sync::OnceLock;

use burn::tensor::TensorData;
use serde::Serialize;

use super::error::{PairSums, TensorError};
use super::histogram::ValueHistogram;
use super::refit::Refit;
use crate::quantizers::{Histogram, Integers, Place, Quantizer, QuantizerConfig};

/// Values of a grid that are listed at most.
const LISTED: usize = 64;

/// Widths from here on have more codes than are counted.
const MOST_COUNTED_BITS: f64 = 12.0;

/// A channel is an outlier from here on: its largest magnitude over the median of those.
const OUTLIER: f64 = 4.0;

/// A tensor of a layer over all images that were looked at; a parameter once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorAnalysis {
    /// Its path, such as `conv1.weight`.
    pub path: String,
    /// Its slot.
    pub slot: String,
    /// Whether it is a parameter, the same for all images.
    pub parameter: bool,
    /// Its shape, of an activation that of one image.
    pub shape: Vec<usize>,
    /// How it is quantized, such as `tqt 4`; none in float.
    pub format: Option<String>,
    /// Bits of its numbers, where it is quantized; learned ones on average over channels.
    pub bits: Option<f64>,
    /// How many values were seen.
    pub count: u64,
    /// How many of them are NaN or infinite. All else is said of the others, but that infinite ones count
    /// as clipped.
    pub not_finite: u64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The ends of the grid, one pair for the tensor or one for each channel; empty where the results
    /// are no integers times powers of two.
    pub ends: Vec<(f64, f64)>,
    /// The distance from one value of the grid to the next, likewise.
    pub steps: Vec<f64>,
    /// The values of the grid, if there are at most 64 and all channels have the same.
    pub grid: Vec<f64>,
    /// Share of the values beyond the grid's ends by more than half a step; none without those ends.
    pub clipped: Option<f64>,
    /// Share of the values that are not zero and became zero.
    pub rounded_to_zero: Option<f64>,
    /// Codes that came out, of integers those of all channels together; none with more than 12 bits.
    pub used_codes: Option<u64>,
    /// Codes that there are.
    pub codes: Option<u64>,
    /// What quantization made of the values that it got; none where it is more than rounding.
    pub alone: Option<TensorError>,
    /// The tensor as the quantized network reads it against that of the float network.
    pub accumulated: Option<TensorError>,
    /// The values before they were quantized.
    pub histogram: ValueHistogram,
    /// Channels with far larger values than the others.
    pub outliers: Vec<OutlierChannel>,
    /// Channels of which every value is zero, of a parameter.
    pub zero_channels: Vec<usize>,
    /// Of a quantized parameter whose channels share a threshold: the largest magnitude of a channel over that of
    /// all, on average over channels that are not zero.
    pub channel_share: Option<f64>,
    /// Of what passes between layers: the share of its noise against the float network's that is the mean error of
    /// each channel, `sum over channels of n mean(y - x)^2 / sum (y - x)^2`. Two values that err at random share
    /// half of it, a thousand a thousandth.
    pub bias_share: Option<f64>,
    /// What another threshold of the same width would give, where one can be told.
    pub refit: Option<Refit>,
}

impl TensorAnalysis {
    /// The thresholds of the grid, one or one for each channel: powers of two that its integers, of two's
    /// complement or without sign, end below.
    pub fn thresholds(&self) -> Vec<f64> {
        let ends = self.ends.iter().zip(&self.steps);
        let threshold = |(&(low, high), &step): (&(f64, f64), &f64)| (high + step).max(-low);
        ends.map(threshold).collect()
    }
}

/// A channel whose largest magnitude is far above those of the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutlierChannel {
    /// The channel.
    pub channel: usize,
    /// Its largest magnitude.
    pub largest: f64,
    /// That over the median of all channels' largest magnitudes.
    pub ratio: f64,
}

/// The quantizer of a tensor, with what describes it.
#[derive(Debug, Clone)]
pub(super) struct InSlot {
    pub(super) config: QuantizerConfig,
    /// Its width, of a learned one as it is.
    pub(super) bits: f64,
    pub(super) quantizer: Quantizer,
    pub(super) integers: Option<Integers>,
}

/// What is counted of a tensor, batch after batch.
#[derive(Debug)]
pub(super) struct TensorCounts {
    pub(super) place: Place,
    pub(super) parameter: bool,
    /// The dimension with a channel at each index.
    pub(super) axis: usize,
    pub(super) quantizer: Option<InSlot>,
    shape: Vec<usize>,
    values: Histogram,
    float: Histogram,
    /// As the layer reads them; of integers, those.
    codes: Histogram,
    read: Histogram,
    not_finite: u64,
    clipped: u64,
    zeroed: u64,
    alone: PairSums,
    accumulated: PairSums,
    largest: Vec<f32>,
    /// By channel, the sum of what is read less what the float network reads, over finite values.
    drift: Vec<f64>,
    /// Of a parameter, its values.
    held: Option<TensorData>,
    refit: OnceLock<Option<Refit>>,
}

impl TensorCounts {
    /// The dimension of its channels: of activations in rows of positions, as networks of text have them, the last.
    pub(super) fn axis_of(&self, dims: &[usize]) -> usize {
        match !self.parameter && dims.len() == 3 {
            true => 2,
            false => self.axis,
        }
    }

    pub(super) fn new(
        place: Place,
        parameter: bool,
        axis: usize,
        quantizer: Option<InSlot>,
    ) -> Self {
        Self {
            place,
            parameter,
            axis,
            quantizer,
            shape: Vec::new(),
            values: Histogram::default(),
            float: Histogram::default(),
            codes: Histogram::default(),
            read: Histogram::default(),
            not_finite: 0,
            clipped: 0,
            zeroed: 0,
            alone: PairSums::default(),
            accumulated: PairSums::default(),
            largest: Vec::new(),
            drift: Vec::new(),
            held: None,
            refit: OnceLock::new(),
        }
    }

    /// What another threshold would give, once all is counted.
    pub(super) fn refit(&self) -> Option<&Refit> {
        self.refit.get_or_init(|| Refit::of(self)).as_ref()
    }

    /// The values of the float network.
    pub(super) fn float_values(&self) -> &Histogram {
        &self.float
    }

    /// The values before they are quantized.
    pub(super) fn values(&self) -> &Histogram {
        &self.values
    }

    /// Of a parameter, its values.
    pub(super) fn held(&self) -> Option<&TensorData> {
        self.held.as_ref()
    }

    /// Adds a batch: the tensor, what is read of it, and the float network's.
    pub(super) fn add(&mut self, x: &TensorData, read: &TensorData, float: Option<&TensorData>) {
        if self.parameter && self.held.is_some() {
            return;
        }
        let shape = x.shape();
        let dims = shape.as_slice();
        if self.shape.is_empty() {
            let of_image = usize::from(!self.parameter);
            self.shape = dims.get(of_image..).unwrap_or_default().to_vec();
        }
        let channels = Strides::of(dims, self.axis_of(dims));
        let of = |data: &TensorData| -> Vec<f32> { data.iter::<f32>().collect() };
        let (values, read) = (of(x), of(read));
        self.add_values(&values, channels);
        if self.quantizer.is_some() {
            self.add_quantized(&values, &read, channels);
        }
        if let Some(float) = float.map(of).filter(|float| float.len() == read.len()) {
            self.accumulated.add(&float, &read);
            self.add_drift(&float, &read, channels);
            record(&mut self.float, &float);
            record(&mut self.read, &read);
        }
        if self.parameter {
            self.held = Some(x.clone());
        }
    }

    fn add_values(&mut self, values: &[f32], channels: Strides) {
        self.not_finite += record(&mut self.values, values);
        self.largest
            .resize(channels.count.max(self.largest.len()), 0.0);
        for (at, run) in values.chunks(channels.inner.max(1)).enumerate() {
            let largest = &mut self.largest[at % channels.count];
            let finite = run.iter().filter(|x| x.is_finite());
            *largest = finite.fold(*largest, |most, x| most.max(x.abs()));
        }
    }

    fn add_drift(&mut self, float: &[f32], read: &[f32], channels: Strides) {
        self.drift.resize(channels.count.max(self.drift.len()), 0.0);
        let inner = channels.inner.max(1);
        let runs = float.chunks(inner).zip(read.chunks(inner)).enumerate();
        for (at, (float, read)) in runs {
            let error = |(&x, &y): (&f32, &f32)| f64::from(y) - f64::from(x);
            let errors = float.iter().zip(read).map(error);
            let sum: f64 = errors.filter(|error| error.is_finite()).sum();
            self.drift[at % channels.count] += sum;
        }
    }

    fn add_quantized(&mut self, values: &[f32], read: &[f32], channels: Strides) {
        self.alone.add(values, read);
        let pairs = values.iter().zip(read);
        self.zeroed += pairs.filter(|&(&x, &q)| x != 0.0 && q == 0.0).count() as u64;
        let integers = self.quantizer.as_ref().and_then(|q| q.integers.clone());
        let Some(integers) = integers else {
            record(&mut self.codes, read);
            return;
        };
        let steps = integers.log2_steps.iter();
        let over_steps = steps.map(|&exponent| (-exponent as f32).exp2());
        let grid: Vec<_> = integers.unclipped().into_iter().zip(over_steps).collect();
        let mut codes = Vec::with_capacity(read.len());
        for (i, (&x, &q)) in values.iter().zip(read).enumerate() {
            let channel = i / channels.inner.max(1) % channels.count;
            let ((least, greatest), over_step) = grid[channel % grid.len()];
            self.clipped += u64::from(x < least || x > greatest);
            codes.push(q * over_step);
        }
        record(&mut self.codes, &codes);
    }

    /// What all of it comes to.
    pub(super) fn finish(&self) -> TensorAnalysis {
        let empty = self.values.count() == 0;
        let number = |x: f64| if empty { 0.0 } else { x };
        let (min, max) = (self.values.min().into(), self.values.max().into());
        let (min, max) = (number(min), number(max));
        let bins = ValueHistogram::over(min, max);
        let histogram = bins.filled(&self.values);
        let rounds = self
            .quantizer
            .as_ref()
            .is_some_and(|q| !q.config.transforms());
        let alone = rounds.then(|| {
            let codes = match self.integers() {
                None => Some(histogram.divergence(&histogram.clone().filled(&self.codes))),
                // Codes are integers, and the values were recorded only beside the float network's.
                Some(_) if self.read.count() == self.values.count() => {
                    Some(histogram.divergence(&histogram.clone().filled(&self.read)))
                }
                Some(_) => None,
            };
            self.alone.error(codes)
        });
        let total = (self.values.count() + self.not_finite).max(1) as f64;
        let quantized = self.quantizer.as_ref();
        let (ends, steps) = self.ends();
        TensorAnalysis {
            path: self.place.to_string(),
            slot: self.place.slot.clone(),
            parameter: self.parameter,
            shape: self.shape.clone(),
            format: quantized.map(describe),
            bits: quantized.map(|q| q.bits),
            count: self.values.count() + self.not_finite,
            not_finite: self.not_finite,
            min,
            max,
            mean: number(self.values.mean()),
            deviation: number(self.values.standard_deviation()),
            clipped: self.integers().map(|_| self.clipped as f64 / total),
            rounded_to_zero: quantized.map(|_| self.zeroed as f64 / total),
            used_codes: self.used_codes(),
            codes: quantized.and_then(|q| self.all_codes(q)),
            alone: alone.flatten(),
            accumulated: self.accumulated_error(),
            histogram,
            outliers: outliers(&self.largest),
            zero_channels: self.zero_channels(),
            channel_share: self.channel_share(),
            bias_share: self.bias_share(),
            refit: self.refit().cloned(),
            grid: self.grid(&steps),
            ends,
            steps,
        }
    }

    /// The sum of `(x - q)^2`.
    pub(super) fn alone_noise(&self) -> f64 {
        self.alone.noise()
    }

    pub(super) fn integers(&self) -> Option<&Integers> {
        self.quantizer.as_ref()?.integers.as_ref()
    }

    fn accumulated_error(&self) -> Option<TensorError> {
        if self.float.count() == 0 {
            return self.accumulated.error(None);
        }
        let bins = ValueHistogram::over(self.float.min().into(), self.float.max().into());
        let float = bins.filled(&self.float);
        let read = float.clone().filled(&self.read);
        self.accumulated.error(Some(float.divergence(&read)))
    }

    fn ends(&self) -> (Vec<(f64, f64)>, Vec<f64>) {
        let Some(integers) = self.integers() else {
            return Default::default();
        };
        let step = |&exponent: &i32| f64::from(exponent).exp2();
        let steps: Vec<f64> = integers.log2_steps.iter().map(step).collect();
        let end = |step: &f64| (integers.min as f64 * step, integers.max as f64 * step);
        (steps.iter().map(end).collect(), steps)
    }

    fn grid(&self, steps: &[f64]) -> Vec<f64> {
        match (self.integers(), steps) {
            (Some(integers), [step]) if integers.max - integers.min < LISTED as i64 => {
                (integers.min..=integers.max)
                    .map(|k| k as f64 * step)
                    .collect()
            }
            (None, _) if self.quantizer.is_some() => {
                let bins = self.codes.bins();
                if bins.len() >= LISTED {
                    return Vec::new();
                }
                let value = |bin: &crate::quantizers::Bin| {
                    let sign = if bin.is_negative() { -1.0 } else { 1.0 };
                    sign * f64::from(bin.least())
                };
                let zero = (self.codes.zeros() > 0).then_some(0.0);
                let mut values: Vec<f64> = bins.iter().map(value).chain(zero).collect();
                values.sort_by(f64::total_cmp);
                values
            }
            _ => Vec::new(),
        }
    }

    fn used_codes(&self) -> Option<u64> {
        let quantizer = self.quantizer.as_ref()?;
        let counted = quantizer.bits <= MOST_COUNTED_BITS;
        let zero = u64::from(self.codes.zeros() > 0);
        counted.then(|| self.codes.bins().len() as u64 + zero)
    }

    fn all_codes(&self, quantizer: &InSlot) -> Option<u64> {
        match &quantizer.integers {
            Some(integers) => Some((integers.max - integers.min + 1) as u64),
            // Channels of several widths have no one number of codes.
            None if quantizer.bits.fract() > 0.0 => None,
            None => 1u64.checked_shl(quantizer.bits as u32),
        }
    }

    fn channel_share(&self) -> Option<f64> {
        let shared = self.integers().is_some_and(|i| i.log2_steps.len() == 1);
        let most = self.largest.iter().copied().fold(0.0, f32::max);
        if !(self.parameter && shared && self.largest.len() > 1 && most > 0.0) {
            return None;
        }
        let shares = self.largest.iter().filter(|largest| **largest > 0.0);
        let shares: Vec<f64> = shares.map(|x| f64::from(*x) / f64::from(most)).collect();
        Some(shares.iter().sum::<f64>() / shares.len() as f64)
    }

    fn bias_share(&self) -> Option<f64> {
        let noise = self.accumulated.noise();
        let per_channel = self.read.count() as f64 / self.drift.len().max(1) as f64;
        if self.parameter || noise <= 0.0 || per_channel < 1.0 {
            return None;
        }
        let squares: f64 = self.drift.iter().map(|sum| sum * sum / per_channel).sum();
        Some((squares / noise).min(1.0))
    }

    fn zero_channels(&self) -> Vec<usize> {
        let several = self.parameter && self.largest.len() > 1 && self.shape.len() > 1;
        let zero = |(channel, &largest): (usize, &f32)| (largest == 0.0).then_some(channel);
        let found = self.largest.iter().enumerate().filter_map(zero);
        found.filter(|_| several).collect()
    }
}

/// Records the finite values; returns how many were not.
pub(super) fn record(histogram: &mut Histogram, values: &[f32]) -> u64 {
    if values.iter().all(|x| x.is_finite()) {
        histogram.record(values);
        return 0;
    }
    let finite: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
    histogram.record(&finite);
    (values.len() - finite.len()) as u64
}

/// The quantizer in a word and its width.
pub(super) fn describe(in_slot: &InSlot) -> String {
    match &in_slot.config {
        QuantizerConfig::Format(format) => format.format.to_string(),
        other => format!(
            "{} {}",
            other.name(),
            (100.0 * in_slot.bits).round() / 100.0
        ),
    }
}

fn outliers(largest: &[f32]) -> Vec<OutlierChannel> {
    let mut sorted: Vec<f32> = largest.to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let ratio = |largest: f32| f64::from(largest) / f64::from(median);
    let channels = largest.iter().enumerate();
    let found = channels.filter(|&(_, &most)| median > 0.0 && ratio(most) >= OUTLIER);
    found
        .map(|(channel, &most)| OutlierChannel {
            channel,
            largest: most.into(),
            ratio: ratio(most),
        })
        .collect()
}

/// Where the values of a channel lie: `inner` after one another, then those of the next channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) count: usize,
    pub(super) inner: usize,
}

impl Strides {
    pub(super) fn of(dims: &[usize], axis: usize) -> Self {
        match dims.get(axis) {
            Some(&count) if count > 0 => Self {
                count,
                inner: dims[axis + 1..].iter().product(),
            },
            _ => Self {
                count: 1,
                inner: dims.iter().product(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of two channels, all zero in float. The first channel errs by 1 and 1, mean 1, the second by 1 and
    /// -1, mean 0: of the squares, 4, its mean makes 2.
    #[test]
    fn the_share_of_mean_errors_by_hand() {
        let place = Place {
            layer: "layer".into(),
            layer_type: "Conv2d".into(),
            slot: "input".into(),
        };
        let tensor = |values: [f32; 4]| TensorData::new(values.to_vec(), [2, 2, 1, 1]);
        let mut counts = TensorCounts::new(place, false, 1, None);
        let read = tensor([1.0, 1.0, 1.0, -1.0]);
        counts.add(&read, &read, Some(&tensor([0.0; 4])));
        let found = counts.finish();
        assert_eq!(found.bias_share, Some(0.5));
        assert_eq!(found.channel_share, None);
    }
}
