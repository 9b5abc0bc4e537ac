//! The bits that the sums inside a network's layers can need.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use lowbit_formats::{IntegerRange, bits_of};
use serde::Serialize;

use crate::calibrate::Measured;
use crate::config::Layer;
use crate::models::Parameters;
use crate::quantizers::{Channels, Integers, QuantizerConfig, Slot, Sums as LayerSums, Term};

/// The widths of a layer's sums, in bits of two's complement. Each holds every partial
/// sum too, in any order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccumulatorBits {
    /// The layer's path.
    pub path: String,
    /// Its type.
    pub layer_type: &'static str,
    /// Bits of its input.
    pub input: u32,
    /// Whether the input's integers are signed.
    pub input_signed: bool,
    /// Bits of its weight.
    pub weight: u32,
    /// Products (of an adder, distances) in a sum.
    pub terms: usize,
    /// Bits that no sum of so many products exceeds, whatever the weights: about those of the
    /// weight, plus those of the input, plus `log2(terms)`.
    pub needed_by_shape: u32,
    /// Bits that no sum of any input with these weights exceeds: the sum, over an output channel's
    /// weights, of each one's product with the end of the input's range that makes it largest (or
    /// smallest), for the channel that needs most.
    pub needed_by_weights: u32,
    /// Bits of its accumulator, if it has one.
    pub given: Option<u32>,
    /// Whether f32 holds every partial sum exactly: magnitudes up to `2^24` steps.
    pub exact_in_f32: bool,
    /// The share of the sums that saturated where that was [`measured`](Self::with_measured).
    pub saturated: Option<f64>,
}

impl AccumulatorBits {
    /// The same with the share of the sums that saturated, as measured on data.
    pub fn with_measured(mut self, measured: &[Measured]) -> Self {
        let path = format!("{}.{}", self.path, Slot::ACCUMULATOR);
        let found = measured.iter().find(|tensor| tensor.path == path);
        self.saturated = found.map(|sums| sums.clipped);
        self
    }

    /// Whether no sum can saturate.
    pub fn is_enough(&self) -> bool {
        self.given
            .is_none_or(|given| given >= self.needed_by_weights)
    }
}

/// The widths of the sums of every layer of `model` whose weight and input are both quantized to
/// integers times powers of two. `layers` are the network's, as its planner listed them.
///
/// No data is needed; thresholds and signedness are the model's, so that calibration comes first.
/// Layers with a stride or padding have sums of fewer terms at some places; what is counted is a
/// sum of all. The weights of a `ShiftConv2d` are integers times its longest shift; with 7 bits and
/// more those are too wide to be counted.
pub fn accumulator_bits<M: Module>(model: &M, layers: &[Layer]) -> Vec<AccumulatorBits> {
    let parameters = Parameters::of(model);
    layers
        .iter()
        .filter_map(|layer| of_layer(&parameters, layer))
        .collect()
}

/// What a layer's sums are made of.
struct Sums<'a> {
    input: &'a Integers,
    weight: &'a Integers,
    distances: bool,
}

impl Sums<'_> {
    /// The least and the greatest value of a term, or zero, in steps of the sum of that channel,
    /// for any input and a weight from `low` to `high`. Exponents further apart than 60 count as
    /// 60, which no register holds.
    fn limits(&self, (low, high): (i64, i64), channel: usize) -> (i128, i128) {
        let input = (self.input.min, self.input.max);
        if !self.distances {
            let range = |(min, max): (i64, i64)| IntegerRange {
                exponent: 0,
                min: min.into(),
                max: max.into(),
            };
            return range(input).sum_of_products(&range((low, high)), 1);
        }
        let (of_input, of_weight) = (
            self.input.log2_step(channel),
            self.weight.log2_step(channel),
        );
        let step = of_input.min(of_weight);
        let shifted = |k: i64, log2_step: i32| i128::from(k) << (log2_step - step).min(60);
        let input = [input.0, input.1].map(|k| shifted(k, of_input));
        let weight = [low, high].map(|k| shifted(k, of_weight));
        let distances = input.map(|x| weight.map(|w| (x - w).abs()));
        (-distances.into_iter().flatten().fold(0, i128::max), 0)
    }
}

fn of_layer(parameters: &Parameters, layer: &Layer) -> Option<AccumulatorBits> {
    let description = &layer.description;
    let made_of = description.sums?;
    let at = |name: &str| format!("{}.{name}", layer.path);
    let data = parameters.get(&at("weight"))?;
    let input = layer.config.get("input")?;
    let input = parameters
        .quantizer(input, None, &at("quantizers.input"))?
        .integers()?;
    let config = layer.quantizer(Slot::WEIGHT)?;
    let (weight, values) = quantized(parameters, layer, config, data)?;
    let axis = description.weight?.axis;
    let layout = Layout::of(&made_of, axis, data.shape().as_slice())?;

    let sums = Sums {
        input: &input,
        weight: &weight,
        distances: made_of.term == Term::Distance,
    };
    let mut limits = vec![(0i128, 0i128); layout.channels];
    for (i, &value) in values.iter().enumerate() {
        let channel = layout.channel(i);
        let (least, greatest) = sums.limits((value, value), channel);
        limits[channel].0 += least;
        limits[channel].1 += greatest;
    }
    let terms = made_of.terms as i128;
    let any_weight = (0..layout.channels).map(|channel| {
        let (least, greatest) = sums.limits((weight.min, weight.max), channel);
        (least * terms, greatest * terms)
    });
    let width = |(least, greatest): (i128, i128)| bits_of(least, greatest);
    let largest = limits.iter().map(|&(least, greatest)| greatest.max(-least));
    Some(AccumulatorBits {
        path: layer.path.clone(),
        layer_type: layer.description.name,
        input: input.bits,
        input_signed: input.min < 0,
        weight: weight.bits,
        terms: made_of.terms,
        needed_by_shape: any_weight.map(width).max().unwrap_or(1),
        needed_by_weights: limits.iter().copied().map(width).max().unwrap_or(1),
        given: layer.config.accumulator.as_ref().map(|a| a.bits),
        exact_in_f32: largest.max().is_none_or(|largest| largest <= 1 << 24),
        saturated: None,
    })
}

/// The integers that a layer's weight is rounded to, and their limits.
fn quantized(
    parameters: &Parameters,
    layer: &Layer,
    config: &QuantizerConfig,
    weight: &TensorData,
) -> Option<(Integers, Vec<i64>)> {
    let shape = weight.shape().as_slice();
    let axis = layer.description.weight?.axis;
    let count = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let path = format!("{}.quantizers.weight", layer.path);
    let quantizer = parameters.quantizer(config, Some(Channels { axis: 1, count }), &path)?;
    let integers = quantizer.integers()?;
    let rows = [shape[..axis].iter().product(), count, inner];
    let rows = TensorData::new(weight.iter::<f32>().collect::<Vec<_>>(), rows);
    let rows = Tensor::<3>::from_data(rows, &Device::flex());
    let rounded = quantizer.operand(rows).quantized().into_data();
    let integer = |(i, value): (usize, f32)| {
        let log2_step = integers.log2_step(i / inner % count);
        (f64::from(value) / f64::from(log2_step).exp2()) as i64
    };
    let values = rounded.iter::<f32>().enumerate().map(integer).collect();
    Some((integers, values))
}

/// Where the weights of each output channel lie in a weight.
struct Layout {
    /// Output channels, of all groups.
    channels: usize,
    /// Weights that follow one another and belong to one channel.
    inner: usize,
    /// Channels in a group, and weights in a group.
    group: (usize, usize),
}

impl Layout {
    /// The layout of a weight of that shape, with a channel at each index of `axis`, which repeat
    /// with the groups of the sums; `None` if a sum does not read each of its channel's weights
    /// once.
    fn of(sums: &LayerSums, axis: usize, shape: &[usize]) -> Option<Self> {
        let all: usize = shape.iter().product();
        let channels = *shape.get(axis)?;
        let layout = Self {
            channels: channels * sums.groups,
            inner: shape[axis + 1..].iter().product(),
            group: (channels, all.checked_div(sums.groups)?),
        };
        (layout.channels * sums.terms == all).then_some(layout)
    }

    /// The output channel of the weight at index `i`.
    fn channel(&self, i: usize) -> usize {
        let (channels, weights) = self.group;
        i / weights * channels + i / self.inner % channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{ModuleDisplay, Param};

    use crate::config::{Describe, QConfig};
    use crate::nn;
    use crate::quantizers::TrainedThresholdConfig;

    #[derive(Module, Debug)]
    struct Net<L: Module + ModuleDisplay> {
        layer: L,
    }

    fn config(per_channel: bool) -> QConfig {
        let threshold = |per_channel| {
            Some(QuantizerConfig::Tqt(TrainedThresholdConfig {
                per_channel,
                ..TrainedThresholdConfig::new(4)
            }))
        };
        QConfig::new()
            .with("input", threshold(false))
            .with("weight", threshold(per_channel))
            .with_accumulator(10)
    }

    fn report<C: Describe, L: Module + ModuleDisplay>(config: &C, layer: L) -> AccumulatorBits {
        let layers = [Layer {
            path: "layer".into(),
            description: config.describe(),
            config: config.quantization().clone(),
            ..Layer::default()
        }];
        let mut report = accumulator_bits(&Net { layer }, &layers);
        assert_eq!(report.len(), 1);
        report.remove(0)
    }

    fn weight<const D: usize>(values: &[f32], shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    /// Signed 4-bit inputs, -8..7, and weights in eighths. By shape, three products of up to 64 are
    /// up to 192, 9 bits. By weights: channel one has 7, -8 and 1: at most 7*7 + 8*8 + 7 = 120 and
    /// at least -(7*8 + 8*7 + 8) = -120, 8 bits; channel two less.
    #[test]
    fn a_linear_layer_by_hand() {
        let config = nn::LinearConfig::new(3, 2).with_quantization(config(false));
        let mut linear = config.init(&Device::flex());
        linear.weight = weight(&[0.875, 0.0, -1.0, 0.125, 0.125, 0.0], [3, 2]);
        let bits = report(&config, linear);
        assert_eq!((bits.terms, bits.input, bits.weight), (3, 4, 4));
        assert_eq!((bits.needed_by_shape, bits.needed_by_weights), (9, 8));
        assert!(bits.is_enough() && bits.exact_in_f32 && bits.input_signed);
    }

    /// An unsigned input, 0..15, can only make the sum of positive, or of negative weights: two
    /// weights of 7 give 210, 9 bits, one of -8 gives -120, 8 bits.
    #[test]
    fn an_unsigned_input_by_hand() {
        let config = nn::Conv1dConfig::new(1, 2, 2).with_quantization(config(false));
        let mut conv = config.init(&Device::flex());
        conv.weight = weight(&[0.875, 0.875, -1.0, 0.0], [2, 1, 2]);
        if let Some(crate::quantizers::Quantizer::TrainedThreshold(input)) =
            conv.quantizers.get_mut("input")
        {
            input.signed = weight(&[0.0], [1]);
        }
        let bits = report(&config, conv);
        // By shape: 2 * 15 * -8 = -240.
        assert_eq!((bits.needed_by_shape, bits.needed_by_weights), (9, 9));
        assert!(!bits.input_signed);
    }

    /// Two groups of two channels in and two out; thresholds 1 and 4 per channel, so that 3.5 is 7
    /// steps. Only the last output channel has two weights that are not zero: 7 and 7 with inputs
    /// of -8 are -112, 8 bits; one alone is -56, 7 bits.
    #[test]
    fn a_transposed_convolution_by_hand() {
        let config = nn::ConvTranspose1dConfig::new([4, 4], 1)
            .with_groups(2)
            .with_quantization(config(true));
        let mut conv = config.init(&Device::flex());
        // Rows are channels in, columns the places of channels out in their group.
        let values = [0.875, 0.0, 0.0, 3.5, 0.0, 3.5, 0.0, 3.5];
        conv.weight = weight(&values, [4, 2, 1]);
        if let Some(crate::quantizers::Quantizer::TrainedThreshold(threshold)) =
            conv.quantizers.get_mut("weight")
        {
            threshold.log2_threshold = weight(&[0.0, 2.0], [2]);
        }
        let bits = report(&config, conv);
        assert_eq!((bits.terms, bits.needed_by_weights), (2, 8));
    }

    /// Two groups of one channel in and one out, without bias: each sum is one product, at most
    /// -8 times -8 = 64 steps by shape, 8 bits, and -8 times 4 = -32 by these weights, 6 bits. Were
    /// both weights in one sum, it could reach 64.
    #[test]
    fn groups_are_told_without_a_bias() {
        let config = nn::ConvTranspose1dConfig::new([2, 2], 1)
            .with_groups(2)
            .with_bias(false)
            .with_quantization(config(false));
        let mut conv = config.init(&Device::flex());
        conv.weight = weight(&[0.5, 0.5], [2, 1, 1]);
        let bits = report(&config, conv);
        assert_eq!((bits.terms, bits.needed_by_shape), (1, 8));
        assert_eq!(bits.needed_by_weights, 6);
    }

    /// Steps 1/8 for inputs and, with threshold 4, 1/2 for weights: in eighths, inputs are -8..7,
    /// weights -32..28 in steps of four. A weight of 1.5 is 12 eighths: at most 20 from -8; -4 is
    /// -32: at most 39 from 7. Together -59, 7 bits; by shape 2 * 39 = 78, 8 bits.
    #[test]
    fn an_adder_by_hand() {
        let config = nn::Adder2dConfig::new([2, 1], [1, 1]).with_quantization(config(false));
        let mut adder = config.init(&Device::flex());
        adder.weight = weight(&[1.5, -4.0], [1, 2, 1, 1]);
        if let Some(crate::quantizers::Quantizer::TrainedThreshold(threshold)) =
            adder.quantizers.get_mut("weight")
        {
            threshold.log2_threshold = weight(&[2.0], [1]);
        }
        let bits = report(&config, adder);
        assert_eq!((bits.needed_by_shape, bits.needed_by_weights), (8, 7));
    }

    /// Weights of 3 bits are 0, +-1/4, +-1/2 and +-1: 1, -0.3 and 0.6 become 4, -1 and 2 quarters,
    /// since log2 0.3 = -1.74 rounds to -2 and log2 0.6 = -0.74 to -1. Inputs are -8..7: at most
    /// 4*7 + 8 + 2*7 = 50, at least -(4*8 + 7 + 2*8) = -55, 7 bits; by shape 3 * -4 * -8 = 96, 8
    /// bits.
    #[test]
    fn a_shift_convolution_by_hand() {
        let config = config(false).without("weight");
        let config = nn::ShiftConv2dConfig::new([3, 1], [1, 1])
            .with_weight_bits(3)
            .with_quantization(config);
        let mut conv = config.init(&Device::flex());
        conv.weight = weight(&[1.0, -0.3, 0.6], [1, 3, 1, 1]);
        let bits = report(&config, conv);
        assert_eq!((bits.terms, bits.input, bits.weight), (3, 4, 3));
        assert_eq!((bits.needed_by_shape, bits.needed_by_weights), (8, 7));
        assert_eq!(bits.given, Some(10));
    }

    #[test]
    fn formats_count_too_and_float_does_not() {
        let format = |text: &str| {
            Some(QuantizerConfig::Format(
                crate::quantizers::FormatQuantizerConfig::new(text.parse().unwrap()),
            ))
        };
        let config = QConfig::new()
            .with("input", format("ufixed(8,8)"))
            .with("weight", format("fixed(4,3)"));
        let config = nn::LinearConfig::new(2, 1).with_quantization(config);
        let mut linear = config.init(&Device::flex());
        linear.weight = weight(&[0.875, 0.875], [2, 1]);
        // 2 * 7 * 255 = 3570, 13 bits; by shape 2 * -8 * 255 = -4080.
        let bits = report(&config, linear.clone());
        assert_eq!((bits.needed_by_shape, bits.needed_by_weights), (13, 13));
        assert_eq!(bits.given, None);
        let layers = [Layer {
            path: "layer".into(),
            description: config.describe(),
            config: QConfig::default(),
            ..Layer::default()
        }];
        assert!(accumulator_bits(&Net { layer: linear }, &layers).is_empty());
    }
}
