//! Timing whole training steps.

mod convolutions;
mod memory;
mod stock;

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Instant;

use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::TrainStep;
use serde::Serialize;

pub use self::convolutions::{ConvolutionTime, ConvolutionTimes, convolutions};
use self::stock::Stock;
use crate::Error;
use crate::calibrate::calibrate;
use crate::config::{LowPrecisionPlan, Method, QPlan};
use crate::error::one_of;
use crate::models::{Architecture, Batch, Classifier, Network};
use crate::ops;
use crate::optim::{OptimizerConfig, OptimizerNumbers, ThresholdOptimizer};
use crate::quantizers::Number;

/// Rounds before those that count.
const WARM_UP: usize = 2;

/// The time of a network's training step, made in several kinds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTimes {
    /// The network.
    pub model: String,
    /// Images in a step.
    pub batch: usize,
    /// Threads.
    pub threads: usize,
    /// Steps timed of each.
    pub rounds: usize,
    /// Multiplications and additions a second that the machine's registers allow.
    pub peak_operations_per_second: f64,
    /// The most memory that the process had beyond what it had before the networks were built,
    /// in bytes, where the system says.
    pub memory_bytes: Option<u64>,
    /// One entry a kind of step, in the order asked for.
    pub steps: Vec<StepTime>,
}

/// The time of one kind of step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepTime {
    /// The method and its widths, or `stock` for a float network on Burn's own operators.
    pub name: String,
    /// Median seconds of a step: forward, backward and optimizer.
    pub seconds: f64,
    /// Images over those seconds.
    pub images_per_second: f64,
    /// Median over the rounds of this step's time over the float step's of the same round, if that
    /// was timed.
    pub ratio_to_float: Option<f64>,
    /// Images over the median seconds of a forward pass without gradients.
    pub inference_images_per_second: f64,
    /// The share of the machine's peak that the operators which count their multiplications and
    /// additions reach over the whole step; absent for Burn's.
    pub fraction_of_peak: Option<f64>,
    /// Where the time of one step went, longest first; what is in none of them is the rest.
    pub operators: Vec<OperatorTime>,
}

/// The time of one kind of operator in a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperatorTime {
    /// The operator.
    pub name: String,
    /// Its share of the step's time.
    pub share: f64,
    /// The share of the machine's peak that it reaches, if it counts its multiplications and
    /// additions.
    pub fraction_of_peak: Option<f64>,
}

/// How a training step is made.
#[derive(Debug, Clone, PartialEq)]
pub enum StepKind {
    /// A float network on our operators.
    Float,
    /// A float network on Burn's own operators.
    Stock,
    /// A quantized network: the method, and the bits of weights and activations.
    Quantized(Method, u32, u32),
    /// TQT of no more than what DoReFa quantizes, the weights and inputs of the layers with
    /// weights: their bits.
    TqtOperands(u32, u32),
    /// Weights, activations, errors, gradients of weights and momentum, all five as this number.
    Numbers(Number),
    /// A quantized network as one of those, whose layers get errors in this number.
    Errors(Box<Self>, Number),
    /// A network of this plan, with this optimizer.
    Planned {
        /// What it is called.
        name: String,
        /// What is quantized.
        plan: Box<QPlan>,
        /// The optimizer.
        optimizer: Box<OptimizerConfig>,
        /// Its numbers.
        numbers: Box<OptimizerNumbers>,
    },
}

impl StepKind {
    const TQT_OPERANDS: Self = Self::TqtOperands(8, 8);

    /// A method with its usual widths.
    fn quantized(method: Method) -> Self {
        let [weight_bits, activation_bits] = method.usual_bits();
        Self::Quantized(method, weight_bits, activation_bits)
    }

    /// The text forms, as a person reads them.
    pub fn names() -> &'static str {
        static NAMES: LazyLock<String> = LazyLock::new(|| {
            let methods = quantizing().map(Method::name);
            let mut names = vec!["float", "stock"];
            names.extend(methods);
            names.push("tqt-operands");
            one_of(&names)
        });
        &NAMES
    }

    /// The same with errors in a number format, where it is a method that quantizes.
    pub fn with_errors(&self, error: &Number) -> Option<Self> {
        let quantizes = matches!(self, Self::Quantized(..) | Self::TqtOperands(..));
        quantizes.then(|| Self::Errors(Box::new(self.clone()), error.clone()))
    }

    /// The plan, where a method says it.
    fn plan(&self) -> Option<QPlan> {
        Some(match self {
            Self::Float => Method::FLOAT.plan(32, 32),
            &Self::Quantized(method, weight_bits, activation_bits) => {
                method.plan(weight_bits, activation_bits)
            }
            &Self::TqtOperands(weight_bits, activation_bits) => {
                QPlan::tqt(weight_bits, activation_bits).retrained()
            }
            Self::Errors(kind, error) => kind.plan()?.with_errors(error),
            Self::Stock | Self::Numbers(_) | Self::Planned { .. } => return None,
        })
    }

    /// All kinds of step there are of the network, quantized with the methods' usual widths.
    pub fn usual(model: Architecture) -> Vec<Self> {
        let quantized = quantizing().map(Self::quantized);
        let mut kinds = vec![Self::Float];
        kinds.extend(quantized);
        kinds.push(Self::TQT_OPERANDS);
        if Stock::has(model) {
            kinds.push(Self::Stock);
        }
        kinds
    }
}

/// The methods that quantize something.
fn quantizing() -> impl Iterator<Item = Method> {
    let methods = Method::ALL.iter().copied();
    methods.filter(|method| method.weight_bits().is_some())
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.write_str("float"),
            Self::Stock => f.write_str("stock"),
            Self::Quantized(method, weight_bits, activation_bits) => {
                write!(f, "{method}-w{weight_bits}a{activation_bits}")
            }
            Self::TqtOperands(weight_bits, activation_bits) => {
                write!(f, "tqt-operands-w{weight_bits}a{activation_bits}")
            }
            Self::Numbers(number) => write!(f, "{number}"),
            Self::Errors(kind, number) => write!(f, "{kind}, errors {number}"),
            Self::Planned { name, .. } => f.write_str(name),
        }
    }
}

impl FromStr for StepKind {
    type Err = Error;

    /// `float`, `stock`, `tqt-operands`, or a method, with its usual widths.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "float" => Ok(Self::Float),
            "stock" => Ok(Self::Stock),
            "tqt-operands" => Ok(Self::TQT_OPERANDS),
            _ => {
                let method: Method = text.parse().map_err(|_| Error::Unknown {
                    kind: "way",
                    text: text.into(),
                    expected: Self::names(),
                })?;
                Ok(Self::quantized(method))
            }
        }
    }
}

/// What is to be timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The network.
    pub model: Architecture,
    /// The kinds of its step.
    pub kinds: Vec<StepKind>,
    /// Images in a step.
    pub batch: usize,
    /// Steps of each kind that count.
    pub rounds: usize,
}

/// Steps of a network whose type is not known.
trait Steps {
    fn step(&mut self, batch: Batch);

    fn infer(&self, images: Tensor<4>);
}

/// A network ready to step.
struct TimedStep<M> {
    /// Absent only while the optimizer has it.
    model: Option<M>,
    optimizer: ModuleOptimizer,
}

impl<M: Classifier + 'static> TimedStep<M> {
    fn boxed(model: M, optimizer: &OptimizerConfig, numbers: &OptimizerNumbers) -> Box<dyn Steps> {
        Box::new(Self {
            model: Some(model),
            optimizer: optimizer.init_with(ThresholdOptimizer::default(), numbers),
        })
    }
}

impl<M: Classifier> Steps for TimedStep<M> {
    fn step(&mut self, batch: Batch) {
        // As in training, the optimizer gets the only copy of the network.
        if let Some(model) = self.model.take() {
            let output = TrainStep::step(&model, batch);
            self.model = Some(self.optimizer.step(1e-3, model, output.grads));
        }
    }

    fn infer(&self, images: Tensor<4>) {
        if let Some(model) = &self.model {
            model.valid().forward(images);
        }
    }
}

/// Builds the network of one kind of step.
fn timed_step(
    kind: &StepKind,
    architecture: Architecture,
    images: &Tensor<4>,
    device: &Device,
) -> Result<Box<dyn Steps>, Error> {
    let (input, classes) = architecture.usual_images();
    let mut numbers = OptimizerNumbers::default();
    let mut optimizer = OptimizerConfig::Sgd {
        momentum: 0.9,
        weight_decay: 1e-4,
    };
    let plan = match kind {
        StepKind::Stock => {
            return match Stock::new(architecture, device) {
                Some(Stock::ResNet(model)) => Ok(TimedStep::boxed(model, &optimizer, &numbers)),
                Some(Stock::LeNet(model)) => Ok(TimedStep::boxed(model, &optimizer, &numbers)),
                None => Err(Error::config(
                    "model",
                    format!("there is no {architecture} on Burn's own operators to time"),
                )),
            };
        }
        StepKind::Planned {
            plan,
            optimizer: of_plan,
            numbers: of_optimizer,
            ..
        } => {
            numbers = *of_optimizer.clone();
            optimizer = *of_plan.clone();
            *plan.clone()
        }
        StepKind::Numbers(number) => {
            numbers = OptimizerNumbers {
                weight: Some(number.clone()),
                gradient: Some(number.clone()),
                momentum: Some(number.clone()),
                ..numbers
            };
            let plan = LowPrecisionPlan {
                activation: Some(number.clone()),
                error: Some(number.clone()),
                sums: None,
            };
            plan.plan()
        }
        of_method => of_method.plan().expect("the others are above"),
    };
    let model = architecture.init(input, classes, &plan, 0, device)?;
    let (model, _) = calibrate(
        model,
        |_| true,
        |model: &Network| {
            model.forward(images.clone());
        },
    )?;
    Ok(TimedStep::boxed(model, &optimizer, &numbers))
}

/// Times training steps on random images, the kinds in turn within each round so that a slow
/// moment meets all of them.
///
/// # Errors
/// If the network cannot be built.
pub fn training_steps(workload: &Workload, device: &Device) -> Result<StepTimes, Error> {
    let &Workload {
        model: architecture,
        ref kinds,
        batch,
        rounds,
    } = workload;
    let (input, classes) = architecture.usual_images();
    let autodiff = device.clone().autodiff();
    let memory_before = memory::current_bytes();
    let data = match architecture.reads_text() {
        true => synthetic_text(input, classes, batch, &autodiff),
        false => synthetic(input, classes, batch, &autodiff),
    };
    let images = data.images.clone().without_autodiff();
    let mut steps = Vec::new();
    for kind in kinds {
        steps.push(timed_step(kind, architecture, &images, &autodiff)?);
    }
    let seconds = time_in_turn(&mut steps, &data, rounds, device)?;
    let peak = ops::multiply_add_peak();
    let float = kinds.iter().position(|kind| *kind == StepKind::Float);
    let float = float.map(|float| &seconds[float].step);
    let mut times = Vec::new();
    for ((step, seconds), kind) in steps.iter_mut().zip(&seconds).zip(kinds) {
        let (operators, operations) = profile(step.as_mut(), &data, peak, device)?;
        let median_seconds = median(seconds.step.clone());
        let ratios =
            |float: &Vec<f64>| seconds.step.iter().zip(float).map(|(s, f)| s / f).collect();
        times.push(StepTime {
            name: kind.to_string(),
            seconds: median_seconds,
            images_per_second: batch as f64 / median_seconds,
            ratio_to_float: float.map(|float| median(ratios(float))),
            inference_images_per_second: batch as f64 / median(seconds.inference.clone()),
            fraction_of_peak: fraction_of_peak(operations, median_seconds, peak),
            operators,
        });
    }
    let memory = memory::peak_bytes().zip(memory_before);
    Ok(StepTimes {
        model: architecture.to_string(),
        batch,
        threads: rayon::current_num_threads(),
        rounds,
        peak_operations_per_second: peak,
        memory_bytes: memory.map(|(peak, before)| peak.saturating_sub(before)),
        steps: times,
    })
}

/// Seconds of each round.
#[derive(Default)]
struct Seconds {
    step: Vec<f64>,
    inference: Vec<f64>,
}

fn time_in_turn(
    steps: &mut [Box<dyn Steps>],
    data: &Batch,
    rounds: usize,
    device: &Device,
) -> Result<Vec<Seconds>, Error> {
    let images = data.images.clone().without_autodiff();
    let mut seconds: Vec<Seconds> = steps.iter().map(|_| Seconds::default()).collect();
    // Rounds that are not counted bring the memory in.
    for round in 0..rounds + WARM_UP {
        for (step, seconds) in steps.iter_mut().zip(&mut seconds) {
            // In training, a step follows another of the same network; one that follows another
            // network's finds that one's memory in the caches. So the second is timed.
            step.step(data.clone());
            finish(device)?;
            let start = Instant::now();
            step.step(data.clone());
            finish(device)?;
            let trained = start.elapsed().as_secs_f64();
            let start = Instant::now();
            step.infer(images.clone());
            finish(device)?;
            if round >= WARM_UP {
                seconds.step.push(trained);
                seconds.inference.push(start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(seconds)
}

/// Waits until the device has done what it was told.
fn finish(device: &Device) -> Result<(), Error> {
    device
        .sync()
        .map_err(|error| Error::config("device", error.to_string()))
}

fn fraction_of_peak(operations: f64, seconds: f64, peak: f64) -> Option<f64> {
    (operations > 0.0).then_some(operations / seconds / peak)
}

/// Where the time of one more step goes, longest first, and the multiplications and additions that
/// it counts.
fn profile(
    step: &mut dyn Steps,
    data: &Batch,
    peak: f64,
    device: &Device,
) -> Result<(Vec<OperatorTime>, f64), Error> {
    let start = Instant::now();
    let (finished, spent) = ops::profile(|| {
        step.step(data.clone());
        finish(device)
    });
    finished?;
    let profiled = start.elapsed().as_secs_f64();
    let mut operators: Vec<OperatorTime> = spent
        .iter()
        .map(|(&name, spent)| OperatorTime {
            name: name.into(),
            share: spent.seconds / profiled,
            fraction_of_peak: fraction_of_peak(spent.operations, spent.seconds, peak),
        })
        .collect();
    operators.sort_by(|a, b| b.share.total_cmp(&a.share));
    let operations = spent.values().map(|spent| spent.operations).sum();
    Ok((operators, operations))
}

/// Windows of characters at random, in each of which the first follows the last.
fn synthetic_text(
    [_, _, length]: [usize; 3],
    classes: usize,
    batch: usize,
    device: &Device,
) -> Batch {
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 16) as usize % classes;
    let places = 0..batch * length;
    let characters: Vec<f32> = places.clone().map(|i| noise(i) as f32).collect();
    let next = |i: usize| i / length * length + (i + 1) % length;
    let labels: Vec<i32> = places.map(|i| noise(next(i)) as i32).collect();
    let shape = [batch, 1, 1, length];
    Batch {
        images: Tensor::from_data(TensorData::new(characters, shape), device),
        targets: Tensor::from_data(TensorData::new(labels, [batch * length]), device),
    }
}

/// Images of noise between -1 and 1, and classes in turn.
fn synthetic(input: [usize; 3], classes: usize, batch: usize, device: &Device) -> Batch {
    let [channels, height, width] = input;
    let count = batch * channels * height * width;
    // A multiplicative congruential sequence is noise enough for a timing.
    let pixels = (0..count as u32)
        .map(|i| f32::from((i.wrapping_mul(2_654_435_761) >> 16) as u16) / 32_768.0 - 1.0);
    let labels: Vec<i32> = (0..batch).map(|i| (i % classes) as i32).collect();
    Batch {
        images: Tensor::from_data(
            TensorData::new(
                pixels.collect::<Vec<f32>>(),
                [batch, channels, height, width],
            ),
            device,
        ),
        targets: Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), device),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_step_go_by_their_names() {
        let kind = |text: &str| text.parse::<StepKind>();
        assert_eq!(kind("stock").unwrap(), StepKind::Stock);
        assert_eq!(kind("tqt").unwrap().to_string(), "tqt-w8a8");
        let error = kind("magic").unwrap_err().to_string();
        let expected = "unknown way `magic`, expected float, stock, dorefa, ";
        assert!(error.starts_with(expected), "{error}");
        assert!(error.ends_with(" or tqt-operands"), "{error}");
    }
}
