//! A slot at a time, for every layer: only that tensor changes, it lies on its grid, and the operator
//! reads it so; and with nothing quantized, the layer is Burn's.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn as plain;
use burn::store::ModuleRecord;
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, Tolerance};
use lowbit::config::{Describe, Description, Planner, QConfig, QPlan};
use lowbit::nn;
use lowbit::quantizers::{
    FormatQuantizerConfig, QuantizerConfig, Selection, Slot, Tapped, Taps, set_rounding,
};
use lowbit_formats::{Format, Rounding};

/// Steps of an eighth up to 16.
const GRID: &str = "fixed(8,3)";

fn quantizer(grid: &str) -> QuantizerConfig {
    QuantizerConfig::Format(FormatQuantizerConfig::new(grid.parse().unwrap()))
}

/// The numbers on the grid, apart from any layer.
fn rounded(values: Vec<f32>) -> Vec<f32> {
    rounded_to(GRID, values)
}

fn rounded_to(grid: &str, mut values: Vec<f32>) -> Vec<f32> {
    let grid: Format = grid.parse().unwrap();
    grid.quantize_in_place(&mut values, Rounding::NearestEven)
        .unwrap();
    values
}

/// Numbers of both signs, off the grid.
fn wave(count: usize, frequency: f64) -> Vec<f32> {
    let wave = |i| ((i as f64 * frequency).sin() * 1.7 + 0.03) as f32;
    (0..count).map(wave).collect()
}

fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    values(&x.into_data())
}

/// Gives every parameter numbers that are positive, as variances must be, and off the grid; rounds
/// those of one name.
struct Fill<'a> {
    fields: Vec<String>,
    rounded: Option<&'a str>,
    filled: usize,
}

impl<'a> Fill<'a> {
    fn rounding(rounded: Option<&'a str>) -> Self {
        Self {
            fields: Vec::new(),
            rounded,
            filled: 0,
        }
    }
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.fields.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.fields.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // A parameter of the layer itself or of its decays, not of a layer inside it.
        let rounds = match &self.fields[..] {
            [field] => self.rounded == Some(field),
            [decay, field] => {
                let is_decay = ["mem", "syn", "adapt"].contains(&decay.as_str());
                is_decay && self.rounded == Some(field)
            }
            _ => false,
        };
        self.filled += 1;
        let phase = self.filled as f64;
        param.map(|old| {
            let value = |i| (0.8 + 0.6 * (i as f64 * 0.73 + phase).sin()) as f32;
            let numbers: Vec<f32> = (0..old.shape().num_elements()).map(value).collect();
            let numbers = if rounds { rounded(numbers) } else { numbers };
            let trains = old.is_require_grad();
            Tensor::from_data(TensorData::new(numbers, old.shape()), &old.device())
                .set_require_grad(trains)
        })
    }
}

/// The gradients of a layer's parameters, by their paths.
struct OfParameters<'a> {
    gradients: &'a Gradients,
    fields: Vec<String>,
    found: BTreeMap<String, Vec<f32>>,
}

impl OfParameters<'_> {
    fn of<M: Module>(layer: &M, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
        let mut of_parameters = OfParameters {
            gradients,
            fields: Vec::new(),
            found: BTreeMap::new(),
        };
        layer.visit(&mut of_parameters);
        of_parameters.found
    }
}

impl ModuleVisitor for OfParameters<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.fields.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.fields.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.found.insert(self.fields.join("."), read(gradient));
        }
    }
}

/// How a layer is run.
#[derive(Debug, Clone, Copy, Default)]
struct Run<'a> {
    /// On an autodiff device, and back.
    training: bool,
    /// The slot with the quantizer.
    quantized: Option<&'a str>,
    /// The input, the parameter or the error that is rounded before the layer sees it.
    rounded: Option<&'a str>,
    /// To what the quantizer rounds.
    grid: Option<&'static str>,
}

/// What was seen of it.
#[derive(Debug, PartialEq)]
struct Seen {
    taps: Vec<Tapped>,
    result: Vec<f32>,
    to_input: Option<Vec<f32>>,
    to_parameters: BTreeMap<String, Vec<f32>>,
}

/// How near to Burn's layer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Like {
    /// The same bits, forward and backward.
    Bits,
    /// The same up to the order of sums, or the last bits of an exponential, where ours have kernels of
    /// their own.
    Sums,
}

/// A layer of the list.
struct Layer {
    description: Description,
    /// Slots whose tensors are given to the layer: what it makes of quantized ones is what it makes of
    /// those that were rounded before.
    given: Vec<&'static str>,
    /// The grids of some slots, where they are others.
    grids: &'static [(&'static str, &'static str)],
    run: Box<dyn Fn(Run<'_>) -> Seen>,
    burn: Option<Box<dyn Fn()>>,
}

/// The gradient of each parameter, by name.
type GradientsByName = dyn Fn(&Gradients) -> BTreeMap<String, Vec<f32>>;

/// What a layer of Burn makes of an input.
struct Made<const E: usize> {
    result: Tensor<E>,
    parameters: ModuleRecord,
    /// Of its parameters.
    gradients: Box<GradientsByName>,
}

/// A layer of Burn.
type Burn<const D: usize, const E: usize> = (Like, Box<dyn Fn(Tensor<D>) -> Made<E>>);

fn burn<B: Module + 'static, const D: usize, const E: usize>(
    like: Like,
    init: impl Fn(&Device) -> B + 'static,
    forward: impl Fn(&B, Tensor<D>) -> Tensor<E> + 'static,
) -> Option<Burn<D, E>> {
    let run = move |x: Tensor<D>| {
        let layer = init(&x.device()).map(&mut Fill::rounding(None));
        Made {
            result: forward(&layer, x),
            parameters: layer.clone().into_record(),
            gradients: Box::new(move |gradients| OfParameters::of(&layer, gradients)),
        }
    };
    Some((like, Box::new(run)))
}

fn layer<C, L, const D: usize, const E: usize>(
    config: C,
    shape: [usize; D],
    init: impl Fn(&C, &Device) -> L + Copy + 'static,
    forward: impl Fn(&L, Tensor<D>) -> Tensor<E> + Copy + 'static,
    burn: Option<Burn<D, E>>,
) -> Layer
where
    C: Describe + Clone + 'static,
    L: Module + 'static,
{
    let description = config.describe();
    let name = description.name;
    let plain_config = config.clone();
    let burn = burn.map(|(like, burn)| -> Box<dyn Fn()> {
        Box::new(move || {
            for device in [Device::flex(), Device::flex().autodiff()] {
                let x = || input(shape, wave(shape.iter().product(), 0.77), &device);
                let (burn_x, our_x) = (x(), x());
                let expected = burn(burn_x.clone());
                let ours = init(&plain_config, &device).load_record(expected.parameters);
                let found = forward(&ours, our_x.clone());
                same(name, like, expected.result.clone(), found.clone());
                if device.is_autodiff() {
                    let (of_burns, of_ours) = (back(expected.result), back(found));
                    if let Some(expected) = burn_x.grad(&of_burns) {
                        same(name, like, expected, our_x.grad(&of_ours).unwrap());
                    }
                    let expected = (expected.gradients)(&of_burns);
                    same_gradients(name, like, expected, OfParameters::of(&ours, &of_ours));
                }
            }
        })
    });
    let run = move |how: Run<'_>| run_layer(&config, shape, init, forward, how);
    let given = vec![
        Slot::INPUT,
        Slot::WEIGHT,
        Slot::BIAS,
        Slot::GAMMA,
        Slot::BETA,
        Slot::ALPHA,
    ];
    Layer {
        description,
        given,
        grids: &[],
        run: Box::new(run),
        burn,
    }
}

impl Layer {
    /// To what the quantizer in that slot rounds.
    fn grid(&self, slot: &str) -> &'static str {
        let own = self.grids.iter().find(|(name, _)| *name == slot);
        own.map_or(GRID, |(_, grid)| grid)
    }
}

fn input<const D: usize>(shape: [usize; D], numbers: Vec<f32>, device: &Device) -> Tensor<D> {
    let x = Tensor::from_data(TensorData::new(numbers, shape), device);
    if device.is_autodiff() {
        x.require_grad()
    } else {
        x
    }
}

fn back<const D: usize>(y: Tensor<D>) -> Gradients {
    let error = wave(y.shape().num_elements(), 1.3);
    let error = Tensor::<D>::from_data(TensorData::new(error, y.shape()), &y.device());
    (y * error).sum().backward()
}

fn same<const D: usize>(name: &str, like: Like, expected: Tensor<D>, found: Tensor<D>) {
    let (expected, found) = (expected.into_data(), found.into_data());
    match like {
        Like::Bits => assert_eq!(found, expected, "{name}"),
        Like::Sums => {
            // What a sum's order leaves is as large as its terms, not as what is left of them.
            let largest = expected.iter::<f32>().fold(1.0, |a: f32, b| a.max(b.abs()));
            let tolerance = Tolerance::rel_abs(1e-5, 1e-5 * largest);
            let near = || found.assert_approx_eq::<f32>(&expected, tolerance);
            let near = catch_unwind(AssertUnwindSafe(near));
            near.unwrap_or_else(|_| panic!("{name}"));
        }
    }
}

fn same_gradients(
    name: &str,
    like: Like,
    expected: BTreeMap<String, Vec<f32>>,
    mut found: BTreeMap<String, Vec<f32>>,
) {
    let data = |numbers: Vec<f32>| {
        let count = numbers.len();
        Tensor::<1>::from_data(TensorData::new(numbers, [count]), &Device::flex())
    };
    for (path, expected) in expected {
        let at = format!("{name}.{path}");
        let found = found.remove(&path);
        let found = found.unwrap_or_else(|| panic!("{at}: has no gradient"));
        same(&at, like, data(expected), data(found));
    }
    assert!(found.is_empty(), "{name}: Burn's has none of {found:?}");
}

fn run_layer<C: Describe + Clone, L: Module, const D: usize, const E: usize>(
    config: &C,
    shape: [usize; D],
    init: impl Fn(&C, &Device) -> L,
    forward: impl Fn(&L, Tensor<D>) -> Tensor<E>,
    how: Run<'_>,
) -> Seen {
    let device = match how.training {
        true => Device::flex().autodiff(),
        false => Device::flex(),
    };
    let rounds = |what: &str, numbers: Vec<f32>| match how.rounded == Some(what) {
        true => rounded(numbers),
        false => numbers,
    };
    let plain = init(config, &device).map(&mut Fill::rounding(how.rounded));
    let mut config = config.clone();
    if let Some(slot) = how.quantized {
        let grid = how.grid.unwrap_or(GRID);
        config.quantization_mut().set(slot, quantizer(grid));
    }
    let layer = init(&config, &device).load_record(plain.into_record());
    let numbers = rounds("input", wave(shape.iter().product(), 0.77));
    let x = input(shape, numbers, &device);
    set_rounding(1, 0);
    let taps = Taps::attach(&layer, Selection::all());
    let y = forward(&layer, x.clone());
    let taps = taps.detach();
    let mut seen = Seen {
        taps,
        result: read(y.clone()),
        to_input: None,
        to_parameters: BTreeMap::new(),
    };
    if how.training {
        let error = rounds(Slot::ERROR, wave(y.shape().num_elements(), 1.3));
        let error = Tensor::<E>::from_data(TensorData::new(error, y.shape()), &device);
        let gradients = (y * error).sum().backward();
        seen.to_parameters = OfParameters::of(&layer, &gradients);
        seen.to_input = x.grad(&gradients).map(read);
    }
    seen
}

/// `layer!(config, shape)`, and `layer!(config, shape, like, burn)` with what builds Burn's: a layer
/// with `init(device)` and `forward(x)`.
macro_rules! layer {
    ($config:expr, $shape:expr) => {
        layer($config, $shape, |c, d| c.init(d), |l, x| l.forward(x), None)
    };
    ($config:expr, $shape:expr, $like:expr, $burn:expr) => {
        layer(
            $config,
            $shape,
            |c, d| c.init(d),
            |l, x| l.forward(x),
            burn($like, $burn, |l, x| l.forward(x)),
        )
    };
}

/// Every layer of `nn` that has slots of its own.
fn layers() -> Vec<Layer> {
    let mut all = sums();
    all.extend(activations());
    all.extend(units());
    all.extend(norms());
    all.extend(pools());
    all.extend(joins());
    all.extend(sequences());
    all.extend(neurons());
    all
}

/// Where a deformable kernel of three rows and two columns reads, for results of two rows and four
/// columns.
fn offsets(device: &Device) -> Tensor<4> {
    let shape = [2, 12, 2, 4];
    let numbers = wave(shape.iter().product(), 0.9);
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// What such a kernel's places are multiplied by.
fn mask(device: &Device) -> Tensor<4> {
    let shape = [2, 6, 2, 4];
    let numbers = wave(shape.iter().product(), 0.5);
    Tensor::from_data(TensorData::new(numbers, shape), device)
}

/// Layers with a weight.
fn sums() -> Vec<Layer> {
    use Like::Sums;
    use plain::conv;
    vec![
        layer!(nn::LinearConfig::new(5, 3), [4, 5], Sums, |d| {
            plain::LinearConfig::new(5, 3).init(d)
        }),
        layer!(nn::Conv1dConfig::new(2, 4, 3), [2, 2, 7], Sums, |d| {
            conv::Conv1dConfig::new(2, 4, 3).init(d)
        }),
        layer!(
            nn::Conv2dConfig::new([2, 3], [3, 2]),
            [2, 2, 6, 5],
            Sums,
            |d| { conv::Conv2dConfig::new([2, 3], [3, 2]).init(d) }
        ),
        layer!(
            nn::Conv3dConfig::new([1, 2], [2; 3]),
            [1, 1, 3, 4, 3],
            Sums,
            |d| { conv::Conv3dConfig::new([1, 2], [2; 3]).init(d) }
        ),
        layer!(
            nn::ConvTranspose1dConfig::new([2, 3], 3),
            [2, 2, 5],
            Sums,
            |d| { conv::ConvTranspose1dConfig::new([2, 3], 3).init(d) }
        ),
        layer!(
            nn::ConvTranspose2dConfig::new([2, 3], [2, 3]),
            [1, 2, 4, 3],
            Sums,
            |d| { conv::ConvTranspose2dConfig::new([2, 3], [2, 3]).init(d) }
        ),
        layer!(
            nn::ConvTranspose3dConfig::new([1, 2], [2; 3]),
            [1, 1, 2, 3, 2],
            Sums,
            |d| { conv::ConvTranspose3dConfig::new([1, 2], [2; 3]).init(d) }
        ),
        layer(
            nn::DeformConv2dConfig::new([2, 3], [3, 2]).with_stride([2, 1]),
            [2, 2, 6, 5],
            |c, d| c.init(d),
            |l, x: Tensor<4>| l.forward(x.clone(), offsets(&x.device()), Some(mask(&x.device()))),
            burn(
                Sums,
                |d| {
                    conv::DeformConv2dConfig::new([2, 3], [3, 2])
                        .with_stride([2, 1])
                        .init(d)
                },
                |l, x: Tensor<4>| {
                    l.forward(x.clone(), offsets(&x.device()), Some(mask(&x.device())))
                },
            ),
        ),
        layer!(nn::Adder2dConfig::new([2, 3], [3, 2]), [2, 2, 6, 5]),
        layer!(nn::ShiftConv2dConfig::new([2, 3], [3, 2]), [2, 2, 6, 5]),
        layer(
            nn::EmbeddingConfig::new(4, 3),
            [1],
            |c, d| c.init(d),
            |l, x: Tensor<1>| l.forward(words(&x.device())),
            burn(
                Like::Bits,
                |d| plain::EmbeddingConfig::new(4, 3).init(d),
                |l, x: Tensor<1>| l.forward(words(&x.device())),
            ),
        ),
    ]
}

fn words(device: &Device) -> Tensor<2, Int> {
    Tensor::from_ints([[0, 2], [2, 3]], device)
}

/// Layers that look at one number, or at a row of them.
fn activations() -> Vec<Layer> {
    use Like::{Bits, Sums};
    use plain::activation as act;
    vec![
        layer!(nn::ReluConfig::new(), [3, 5], Bits, |_| act::Relu::new()),
        layer!(nn::Relu6Config::new(), [3, 5], Bits, |_| act::Relu6::new()),
        layer!(nn::HardtanhConfig::new(), [3, 5], Bits, |_| {
            act::HardtanhConfig::new().init()
        }),
        layer!(nn::LeakyReluConfig::new(), [3, 5], Bits, |_| {
            act::LeakyReluConfig::new().init()
        }),
        layer!(nn::SigmoidConfig::new(), [3, 5], Bits, |_| {
            act::Sigmoid::new()
        }),
        layer!(nn::TanhConfig::new(), [3, 5], Bits, |_| act::Tanh::new()),
        layer!(nn::GeluConfig::new(), [3, 5], Sums, |_| act::Gelu::new()),
        layer!(
            nn::GeluConfig::new().with_approximate(true),
            [3, 5],
            Sums,
            |_| { act::Gelu::new_approximate() }
        ),
        layer!(nn::SiluConfig::new(), [3, 5], Sums, |_| act::SiLU::new()),
        layer!(nn::GluConfig::new(-1), [3, 6], Bits, |_| act::GLU::new(-1)),
        // Burn draws other random numbers.
        layer!(nn::RReluConfig::new(), [3, 5]),
        layer!(nn::HardSigmoidConfig::new(), [3, 5], Bits, |_| {
            act::HardSigmoidConfig::new().init()
        }),
        layer!(nn::HardSwishConfig::new(), [3, 5], Bits, |_| {
            act::HardSwish::new()
        }),
        layer!(
            nn::PReluConfig::new().with_num_parameters(5),
            [3, 5],
            Bits,
            |d| { act::PReluConfig::new().with_num_parameters(5).init(d) }
        ),
        layer!(nn::SoftmaxConfig::new(1), [3, 5]),
        // Burn draws other random numbers.
        layer!(nn::DropoutConfig::new(0.4), [3, 5]),
        layer!(nn::QuantizeConfig::new(), [3, 5]),
    ]
}

/// Exponential units, and functions that make small numbers smaller.
fn units() -> Vec<Layer> {
    use Like::Bits;
    use plain::activation as act;
    vec![
        layer!(nn::EluConfig::new(), [3, 5], Bits, |_| act::EluConfig::new(
        )
        .init()),
        layer!(nn::CeluConfig::new(), [3, 5], Bits, |_| {
            act::CeluConfig::new().init()
        }),
        layer!(nn::SeluConfig::new(), [3, 5], Bits, |_| act::Selu::new()),
        layer!(nn::SoftplusConfig::new(), [3, 5], Bits, |_| {
            act::SoftplusConfig::new().init()
        }),
        layer!(nn::SoftsignConfig::new(), [3, 5], Bits, |_| {
            act::Softsign::new()
        }),
        layer!(nn::MishConfig::new(), [3, 5], Bits, |_| act::Mish::new()),
        layer!(nn::LogSigmoidConfig::new(), [3, 5], Bits, |_| {
            act::LogSigmoid::new()
        }),
        layer!(nn::TanhshrinkConfig::new(), [3, 5], Bits, |_| {
            act::Tanhshrink::new()
        }),
        layer!(nn::HardShrinkConfig::new(), [3, 5], Bits, |_| {
            act::HardShrinkConfig::new().init()
        }),
        layer!(nn::SoftShrinkConfig::new(), [3, 5], Bits, |_| {
            act::SoftShrinkConfig::new().init()
        }),
        layer!(nn::ShrinkConfig::new(), [3, 5], Bits, |_| {
            act::ShrinkConfig::new().init()
        }),
        layer!(nn::ThresholdedReluConfig::new(), [3, 5], Bits, |_| {
            act::ThresholdedReluConfig::new().init()
        }),
        layer!(nn::ThresholdConfig::new(0.3, 0.7), [3, 5], Bits, |_| {
            act::ThresholdConfig::new(0.3, 0.7).init()
        }),
    ]
}

fn norms() -> Vec<Layer> {
    use Like::{Bits, Sums};
    vec![
        layer!(nn::BatchNormConfig::new(3), [4, 3, 2, 2], Sums, |d| {
            plain::BatchNormConfig::new(3).init(d)
        }),
        layer!(nn::GroupNormConfig::new(2, 4), [3, 4, 5], Bits, |d| {
            plain::GroupNormConfig::new(2, 4).init(d)
        }),
        layer!(nn::InstanceNormConfig::new(3), [2, 3, 5], Bits, |d| {
            plain::InstanceNormConfig::new(3).init(d)
        }),
        layer!(nn::LayerNormConfig::new(5), [3, 5], Sums, |d| {
            plain::LayerNormConfig::new(5).init(d)
        }),
        layer!(nn::RmsNormConfig::new(5), [3, 5], Sums, |d| {
            plain::RmsNormConfig::new(5).init(d)
        }),
    ]
}

fn pools() -> Vec<Layer> {
    use Like::{Bits, Sums};
    use plain::pool;
    vec![
        layer!(nn::MaxPool1dConfig::new(2), [1, 2, 6], Bits, |_| {
            pool::MaxPool1dConfig::new(2).init()
        }),
        layer!(nn::MaxPool2dConfig::new([2, 2]), [1, 2, 4, 4], Bits, |_| {
            pool::MaxPool2dConfig::new([2, 2]).init()
        }),
        layer!(nn::MaxPool3dConfig::new([2; 3]), [1, 2, 4, 2, 4]),
        // Burn has none.
        layer!(nn::SumPool2dConfig::new([2, 2]), [1, 2, 4, 4]),
        layer!(nn::AvgPool1dConfig::new(2), [1, 2, 6], Bits, |_| {
            pool::AvgPool1dConfig::new(2).init()
        }),
        layer!(nn::AvgPool2dConfig::new([2, 2]), [1, 2, 4, 4], Sums, |_| {
            pool::AvgPool2dConfig::new([2, 2]).init()
        }),
        layer!(nn::AvgPool3dConfig::new([2; 3]), [1, 2, 4, 2, 4]),
        layer!(nn::AdaptiveAvgPool1dConfig::new(2), [1, 2, 6], Bits, |_| {
            pool::AdaptiveAvgPool1dConfig::new(2).init()
        }),
        layer!(
            nn::AdaptiveAvgPool2dConfig::new([1, 1]),
            [1, 2, 4, 4],
            Sums,
            |_| { pool::AdaptiveAvgPool2dConfig::new([1, 1]).init() }
        ),
        layer!(
            nn::AdaptiveAvgPool3dConfig::new([1, 2, 1]),
            [1, 1, 2, 4, 2],
            Bits,
            |_| { pool::AdaptiveAvgPool3dConfig::new([1, 2, 1]).init() }
        ),
    ]
}

/// Layers that read several tensors: the input, and the input from its end.
fn joins() -> Vec<Layer> {
    vec![
        layer(
            nn::AddConfig::new(),
            [3, 5],
            |c, d| c.init(d),
            |l, x: Tensor<2>| l.forward(x.clone(), x.flip([0, 1])),
            None,
        ),
        layer(
            nn::MulConfig::new(),
            [3, 5],
            |c, d| c.init(d),
            |l, x: Tensor<2>| l.forward(x.clone(), x.flip([0, 1])),
            None,
        ),
        layer(
            nn::ConcatConfig::new(),
            [3, 5],
            |c, d| c.init(d),
            |l, x: Tensor<2>| l.forward(vec![x.clone(), x.flip([0, 1])]),
            None,
        ),
    ]
}

fn sequences() -> Vec<Layer> {
    use plain::attention;
    let attends = |l: &nn::MultiHeadAttention, x| l.forward(nn::MhaInput::self_attn(x)).context;
    let burn_attends =
        |l: &attention::MultiHeadAttention, x| l.forward(attention::MhaInput::self_attn(x)).context;
    let gru = |after: bool| {
        layer(
            nn::GruConfig::new(3, 4, true).with_reset_after(after),
            [2, 3, 3],
            |c, d| c.init(d),
            |l, x| l.forward(x, None),
            burn(
                Like::Sums,
                move |d| {
                    plain::gru::GruConfig::new(3, 4, true)
                        .with_reset_after(after)
                        .init(d)
                },
                |l, x| l.forward(x, None),
            ),
        )
    };
    vec![
        layer(
            nn::LstmConfig::new(3, 4, true),
            [2, 3, 3],
            |c, d| c.init(d),
            |l, x| l.forward(x, None).0,
            burn(
                Like::Sums,
                |d| plain::LstmConfig::new(3, 4, true).init(d),
                |l, x| l.forward(x, None).0,
            ),
        ),
        gru(true),
        gru(false),
        layer(
            nn::MultiHeadAttentionConfig::new(4, 2).with_dropout(0.0),
            [2, 3, 4],
            |c, d| c.init(d),
            attends,
            burn(
                Like::Sums,
                |d| {
                    attention::MultiHeadAttentionConfig::new(4, 2)
                        .with_dropout(0.0)
                        .init(d)
                },
                burn_attends,
            ),
        ),
        layer(
            nn::DotProductAttentionConfig::new(4, 2, 2),
            [2, 2, 3, 4],
            |c, d| c.init(d),
            |l, x: Tensor<4>| {
                let kept = l.remember(x.clone(), x.clone(), &mut None);
                l.forward(x, kept.key, kept.value, None)
            },
            None,
        ),
        layer(
            nn::CrossAttentionConfig::new(4, 4, 2, 1, 2).with_dropout(0.0),
            [2, 3, 4],
            |c, d| c.init(d),
            |l, x| l.forward(x.clone(), x, None),
            burn(
                Like::Sums,
                |d| {
                    attention::CrossAttentionConfig::new(4, 4, 2, 1, 2)
                        .with_dropout(0.0)
                        .init(d)
                },
                |l, x| l.forward(x.clone(), x, None),
            ),
        ),
    ]
}

/// Spiking neurons, whose decays are given (`alpha`) or made of time constants, over four steps.
fn neurons() -> Vec<Layer> {
    let tau = || nn::DecayConfig::tau(2.0).with_trained(true);
    let alpha = || nn::DecayConfig::alpha(0.5).with_trained(true);
    let at = || nn::FiringThresholdConfig::new(1.0).with_trained(true);
    // A single spike would be on any grid of integers, which ends at 0.875 here.
    // The kernel itself rounds a state of integers up to 24 bits; tests beside the neurons are of those. Of
    // more bits, all that such a state is here are multiples of 1/8, too.
    const GRIDS: &[(&str, &str)] = &[("output", "fixed(4,3)"), ("state", "fixed(32,3)")];
    // The wave comes back after eight numbers, so that each neuron reads nearly the same in every step.
    let shape = [2, 4, 8];
    let of_tau = vec![
        layer!(
            nn::IafConfig::new()
                .with_threshold(at())
                .with_syn(Some(tau())),
            shape
        ),
        layer!(nn::LifConfig::new(tau()).with_threshold(at()), shape),
        layer!(
            nn::AlifConfig::new(tau(), tau())
                .with_threshold(at())
                .with_recurrent(Some(8)),
            shape
        ),
    ];
    let of_alpha = vec![
        layer!(
            nn::LifConfig::new(alpha())
                .with_syn(Some(alpha()))
                .with_threshold(at())
                .with_recurrent(Some(8)),
            shape
        ),
        layer!(
            nn::CubaLifConfig::new(alpha(), alpha()).with_threshold(at()),
            shape
        ),
        layer!(nn::ExpLeakConfig::new(alpha()), shape),
    ];
    let neurons = |mut layer: Layer, decay: &'static str, never: Option<&str>| {
        let slots = &mut layer.description.slots;
        slots.retain(|slot| never != Some(slot));
        layer.given = vec![Slot::INPUT, Slot::WEIGHT, Slot::THRESHOLD, decay];
        layer.grids = if layer.description.name == "ExpLeak" {
            &GRIDS[1..]
        } else {
            GRIDS
        };
        layer
    };
    let of_tau = of_tau
        .into_iter()
        .map(|layer| neurons(layer, Slot::TAU, None));
    // What is given has no time constant.
    let of_alpha = of_alpha
        .into_iter()
        .map(|layer| neurons(layer, Slot::ALPHA, Some(Slot::TAU)));
    of_tau.chain(of_alpha).collect()
}

/// What all tensors are in a slot's run and what they were without, up to and in that slot.
fn check_flow(at: &str, slot: &str, grid: &str, plain: &Seen, quantized: &Seen) {
    let rounded = |values| rounded_to(grid, values);
    let place = |tapped: &Tapped| (tapped.place.layer.clone(), tapped.place.slot.clone());
    let own = |tapped: &Tapped| tapped.place.layer.is_empty() && tapped.place.slot == slot;
    let places = |seen: &Seen| seen.taps.iter().map(place).collect::<Vec<_>>();
    assert_eq!(places(plain), places(quantized), "{at}");
    let first = quantized.taps.iter().position(own);
    let first = first.unwrap_or_else(|| panic!("{at}: no tensor passes"));
    for (i, (before, tapped)) in plain.taps.iter().zip(&quantized.taps).enumerate() {
        let here = format!("{at}: {}", tapped.path());
        if i < first {
            assert_eq!(tapped, before, "{here}: changes");
        }
        let is_quantized = own(tapped) && slot != Slot::OUTPUT;
        let expected = match is_quantized {
            true => rounded(values(&tapped.tensor)),
            false => values(&tapped.tensor),
        };
        assert_eq!(values(&tapped.read), expected, "{here}: is read so");
    }
    let (before, tapped) = (&plain.taps[first], &quantized.taps[first]);
    if slot != Slot::OUTPUT {
        assert_eq!(tapped.tensor, before.tensor, "{at}: another tensor");
    }
    assert_eq!(
        values(&tapped.read),
        rounded(values(&before.tensor)),
        "{at}: is not on the grid"
    );
    // A state starts from zeros, which lie on the grid.
    let mut of_slot = quantized.taps.iter().filter(|tapped| own(tapped));
    let changes = match slot {
        Slot::OUTPUT => tapped.tensor != before.tensor,
        _ => of_slot.any(|tapped| tapped.read != tapped.tensor),
    };
    assert!(changes, "{at}: is not quantized");
}

/// Checks every layer; tells of all that fail.
fn each(check: impl Fn(&Layer)) {
    let fails = |layer: &Layer| {
        let checked = catch_unwind(AssertUnwindSafe(|| check(layer)));
        checked.is_err().then_some(layer.description.name)
    };
    let failed: Vec<&str> = layers().iter().filter_map(fails).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Each slot of each layer, alone, in and out of training: what comes before it is as it was, it lies
/// on its grid where the operator reads it, and all others are read as they are. An input and the
/// parameters make the result, and the gradients, that they make where they are rounded before the layer
/// sees them.
#[test]
fn a_slot_quantizes_its_tensor_and_no_other() {
    each(|layer| {
        let description = &layer.description;
        for training in [false, true] {
            let run = |quantized: Option<&'static str>, rounded| {
                (layer.run)(Run {
                    training,
                    quantized,
                    rounded,
                    grid: quantized.map(|slot| layer.grid(slot)),
                })
            };
            let plain = run(None, None);
            for &slot in &description.slots {
                let skipped = slot == Slot::ACCUMULATOR || Slot::is_gradient(slot);
                if skipped {
                    continue;
                }
                let at = format!("{}.{slot}, training {training}", description.name);
                let quantized = run(Some(slot), None);
                check_flow(&at, slot, layer.grid(slot), &plain, &quantized);
                let before = run(None, Some(slot));
                if layer.given.contains(&slot) {
                    assert_eq!(quantized.result, before.result, "{at}: the result");
                    assert_eq!(quantized.to_input, before.to_input, "{at}: to the input");
                    let (made, expected) = (&quantized.to_parameters, &before.to_parameters);
                    assert_eq!(made, expected, "{at}: to the parameters");
                }
            }
        }
    });
}

/// An error that is rounded is one that was rounded before; gradients are rounded ones. Nothing else
/// changes.
#[test]
fn a_gradients_slot_rounds_that_gradient_and_no_other() {
    each(|layer| {
        let description = &layer.description;
        let run = |quantized, rounded| {
            (layer.run)(Run {
                training: true,
                quantized,
                rounded,
                grid: None,
            })
        };
        let plain = run(None, None);
        let at = description.name;
        if description.has_slot(Slot::ERROR) {
            let expected = run(None, Some(Slot::ERROR));
            assert!(run(Some(Slot::ERROR), None) == expected, "{at}.error");
            assert!(expected != plain, "{at}.error: is not quantized");
        }
        if description.has_slot(Slot::GRADIENT) {
            let found = run(Some(Slot::GRADIENT), None);
            let expected = plain.to_parameters.clone().into_iter();
            let expected = expected.map(|(path, numbers)| (path, rounded(numbers)));
            let expected: BTreeMap<String, Vec<f32>> = expected.collect();
            assert_eq!(found.to_parameters, expected, "{at}.gradient");
            assert_eq!(found.to_input, plain.to_input, "{at}.gradient");
            assert_eq!(found.result, plain.result, "{at}.gradient");
        }
    });
}

/// The gradients of recurrent layers, each over three steps, and how often each weight is read.
fn recurrent(text: &str) -> (BTreeMap<String, Vec<f32>>, Vec<String>) {
    let device = Device::flex().autodiff();
    let plan = QPlan::from_toml(text).unwrap();
    let mut planner = Planner::new(&plan).unwrap();
    let (lstm, gru) = (
        nn::LstmConfig::new(3, 4, true).init_planned(&mut planner, "0", &device),
        nn::GruConfig::new(3, 4, true).init_planned(&mut planner, "1", &device),
    );
    planner.finish().unwrap();
    let layers = (lstm.unwrap(), gru.unwrap()).map(&mut Fill::rounding(None));
    let x = || input([2, 3, 3], wave(18, 0.77), &device);
    let taps = Taps::attach(&layers, Selection::all());
    let y = layers.0.forward(x(), None).0 + layers.1.forward(x(), None);
    let seen = taps.detach();
    let weights = seen.iter().filter(|seen| seen.place.slot == Slot::WEIGHT);
    let weights = weights.map(Tapped::path).collect();
    let error = TensorData::new(wave(24, 1.3), [2, 3, 4]);
    let error = Tensor::<3>::from_data(error, &device).mul_scalar(64.0);
    let gradients = (y * error).sum().backward();
    (OfParameters::of(&layers, &gradients), weights)
}

/// What every step uses has one gradient, which is rounded whole, not each step's part, and is quantized
/// once.
#[test]
fn what_all_steps_use_is_rounded_once() {
    let (plain, _) = recurrent("");
    let gradient = format!("{{ method = \"format\", format = \"{GRID}\" }}");
    let (found, weights) = recurrent(&format!("[default]\ngradient = {gradient}\n"));
    assert_eq!(found.len(), 2 * 2 * (4 + 3));
    let expected = plain.clone().into_iter();
    let expected = expected.map(|(path, numbers)| (path, rounded(numbers)));
    let expected: BTreeMap<String, Vec<f32>> = expected.collect();
    assert_eq!(found, expected);
    for (path, numbers) in &expected {
        let is_rounded = numbers.iter().any(|x| *x != 0.0) && *numbers != plain[path];
        assert!(is_rounded, "{path}: {:?}", plain[path]);
    }
    let each: BTreeSet<&String> = weights.iter().collect();
    assert_eq!((weights.len(), each.len()), (14, 14));
}

#[test]
fn with_nothing_quantized_a_layer_is_burns() {
    each(|layer| {
        if let Some(burn) = &layer.burn {
            burn();
        }
    });
    let compared = layers().iter().filter(|layer| layer.burn.is_some()).count();
    assert!(compared >= 49, "{compared}");
}

/// Every `impl Describe` in `nn` is in the list, by its own name.
#[test]
fn every_layer_is_in_the_list() {
    let listed = layers().into_iter().map(|layer| layer.description.name);
    let listed: BTreeSet<String> = listed.map(String::from).collect();
    let mut declared = BTreeSet::new();
    let nn = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn");
    find_layers(&nn, &mut declared);
    let missing: Vec<&String> = declared.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the list: {missing:?}");
    assert!(declared.len() >= 55, "{}", declared.len());
}

fn find_layers(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_layers(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let name = line.strip_prefix("impl Describe for ");
            let name = name.and_then(|rest| rest.strip_suffix("Config {"));
            found.extend(name.map(String::from));
        }
    }
}

/// The slots that a configuration accepts are those it declares.
#[test]
fn a_slot_that_is_not_declared_is_refused() {
    for layer in layers() {
        let config = QConfig::new().with("no_such_slot", quantizer(GRID));
        let name = layer.description.name;
        let refused = layer.description.check(name, &config).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("{name}: a {name} has no no_such_slot to quantize")
        );
    }
}

/// `docs/config.md` names every layer that `unweighted` is for.
#[test]
fn the_layers_without_a_weight_are_told() {
    let docs = include_str!("../../../../docs/config.md");
    let row = docs.lines().find(|line| line.starts_with("| `unweighted`"));
    let told: BTreeSet<&str> = row.unwrap().split('`').skip(3).step_by(2).collect();
    let all = layers().into_iter().map(|layer| layer.description);
    let unweighted = all.filter(|layer| layer.weight.is_none() && layer.leaves_grid);
    let names = unweighted.map(|layer| layer.name);
    assert_eq!(told, names.collect());
}
