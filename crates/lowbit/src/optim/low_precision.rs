//! Any optimizer with its numbers in low precision.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};
use lowbit_formats::{Format, Granularity};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{ClampedGradient, fake_quantize};
use crate::quantizers::{Draws, Number};

/// Formats of the numbers that an optimizer reads, keeps and writes; what is none stays in float.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerNumbers {
    /// Of the weights, as the next forward pass sees them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Number>,
    /// Of the gradients, as the optimizer gets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient: Option<Number>,
    /// What a gradient is multiplied by before it is rounded, also where it is not.
    pub gradient_scale: f32,
    /// Of what the optimizer remembers: a velocity, means of gradients and of their squares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<Number>,
    /// Of Adam's mean of squares, where that is not `momentum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second_moment: Option<Number>,
    /// Of the copy of the weights on which steps are made. Without one, they are made on the rounded
    /// weights themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulator: Option<Number>,
    /// Whether biases and the parameters of normalizations are rounded, too: all tensors of one
    /// dimension.
    pub vectors: bool,
    /// Whether a run rounds the weights before its first step, so that the first forward pass sees
    /// them rounded; that step then starts from them. QPyTorch's first pass sees them in float.
    pub from_start: bool,
}

impl Default for OptimizerNumbers {
    fn default() -> Self {
        Self {
            weight: None,
            gradient: None,
            gradient_scale: 1.0,
            momentum: None,
            second_moment: None,
            accumulator: None,
            vectors: true,
            from_start: false,
        }
    }
}

impl OptimizerNumbers {
    /// Whether everything stays in float.
    pub fn is_float(&self) -> bool {
        let numbers = [
            &self.weight,
            &self.gradient,
            &self.momentum,
            &self.second_moment,
            &self.accumulator,
        ];
        numbers.iter().all(|number| number.is_none()) && self.gradient_scale == 1.0
    }

    /// Whether every field is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let scale = self.gradient_scale;
        if !(scale.is_finite() && scale > 0.0) {
            let message = format!("is {scale}, expected a positive number");
            return Err(Error::config("gradient_scale", message));
        }
        let numbers = [
            ("weight", &self.weight),
            ("gradient", &self.gradient),
            ("momentum", &self.momentum),
            ("second_moment", &self.second_moment),
            ("accumulator", &self.accumulator),
        ];
        for (field, number) in numbers {
            let least = number
                .as_ref()
                .map_or(0, |number| dimensions(&number.format));
            if least > 1 && self.vectors {
                let message = format!(
                    "has blocks of tensors of {least} dimensions, and biases have one; vectors = false \
                     leaves those out"
                );
                return Err(Error::config(field, message));
            }
            if let Some(Err(error)) = number.as_ref().map(|number| number.rounding.validate()) {
                return Err(Error::config(field, error.to_string()));
            }
        }
        Ok(())
    }
}

/// The least number of dimensions of a tensor that has the format's blocks.
fn dimensions(format: &Format) -> usize {
    match format {
        Format::Block(format) => match format.granularity() {
            Granularity::Dimension(dim) => usize::from(dim) + 1,
            Granularity::Block { dim: Some(dim), .. } => usize::from(dim) + 1,
            _ => 1,
        },
        _ => 1,
    }
}

/// An optimizer around which numbers are rounded, in the order of QPyTorch's `OptimLP` (Zhang et
/// al., arXiv 1910.04540, section 3.4): the gradient is scaled and rounded; the step is made on the
/// accumulator; the accumulator is rounded, and the weight from it; what the optimizer remembers is
/// rounded last.
///
/// Unlike there, the gradient is scaled whether or not it is rounded, and all of the state, the
/// accumulator included, is in the record.
#[derive(Debug, Clone)]
pub struct LowPrecision<O> {
    optimizer: O,
    numbers: OptimizerNumbers,
    draws: Draws,
}

impl<O> LowPrecision<O> {
    /// The optimizer with these numbers.
    pub fn new(optimizer: O, numbers: OptimizerNumbers) -> Self {
        Self {
            optimizer,
            numbers,
            draws: Draws::new(),
        }
    }

    fn rounded<const D: usize>(&self, x: Tensor<D>, number: &Option<Number>) -> Tensor<D> {
        rounded(x, number, &self.draws)
    }

    /// Every tensor of what the optimizer remembers, rounded: states say what they hold only as
    /// records.
    fn remembered<S: RecordState>(&self, state: S, device: &Device) -> S {
        let OptimizerNumbers {
            momentum,
            second_moment,
            ..
        } = &self.numbers;
        if momentum.is_none() && second_moment.is_none() {
            return state;
        }
        let mut sink = StateSink::default();
        state.state_flatten("", &mut sink);
        let mut source = StateSource::new(sink.scalars.into_iter().collect());
        for (name, data) in sink.tensors {
            let number = match is_second_moment(&name) {
                true => second_moment.as_ref().or(momentum.as_ref()),
                false => momentum.as_ref(),
            };
            let Some(Number { format, rounding }) = number else {
                source.insert_tensor(name, data);
                continue;
            };
            let shape = data.shape().clone();
            let mut values: Vec<f32> = data.iter::<f32>().collect();
            let rounding = self.draws.rounding(*rounding);
            let made = format.quantize_shaped_in_place(&mut values, &shape, rounding);
            made.unwrap_or_else(|error| panic!("momentum: {error}"));
            source.insert_tensor(name, TensorData::new(values, shape));
        }
        let rounded = S::state_unflatten("", &mut source, device);
        rounded.expect("a state reads what it wrote")
    }
}

/// Whether a tensor of an optimizer's state is a mean of squares: ours, or one of Burn's.
fn is_second_moment(name: &str) -> bool {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    ["square", "moment_2", "max_moment_2"].contains(&leaf)
}

/// `x` in the number, if there is one.
pub(super) fn rounded<const D: usize>(
    x: Tensor<D>,
    number: &Option<Number>,
    draws: &Draws,
) -> Tensor<D> {
    match number {
        Some(Number { format, rounding }) => {
            let rounding = draws.rounding(*rounding);
            fake_quantize(x, format, rounding, ClampedGradient::Pass)
        }
        None => x,
    }
}

/// State of [`LowPrecision`].
#[derive(Debug, Clone)]
pub struct LowPrecisionState<S, const D: usize> {
    /// The optimizer's own.
    pub optimizer: Option<S>,
    /// The weights on which steps are made, where they are not the network's.
    pub accumulator: Option<Tensor<D>>,
}

impl<S: RecordState, const D: usize> RecordState for LowPrecisionState<S, D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        if let Some(state) = &self.optimizer {
            state.state_flatten(&within(prefix), out);
        }
        if let Some(accumulator) = &self.accumulator {
            out.push_tensor(prefix, "accumulator", accumulator.to_data());
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let own = within(prefix);
        let optimizer = src.has_under(&own);
        let optimizer = optimizer.then(|| S::state_unflatten(&own, src, device));
        let accumulator = src.take_tensor(prefix, "accumulator");
        Some(Self {
            optimizer: optimizer.flatten(),
            accumulator: accumulator.map(|data| Tensor::from_data(data, device)),
        })
    }
}

/// Where the optimizer's own state lies.
fn within(prefix: &str) -> String {
    match prefix {
        "" => "optimizer".into(),
        prefix => format!("{prefix}.optimizer"),
    }
}

impl<O: Optimizer> Optimizer for LowPrecision<O> {
    type State<const D: usize> = LowPrecisionState<O::State<D>, D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let numbers = &self.numbers;
        let (state, accumulator) = match state {
            Some(state) => (state.optimizer, state.accumulator),
            None => (None, None),
        };
        let scaled = match numbers.gradient_scale == 1.0 {
            true => grad,
            false => grad * numbers.gradient_scale,
        };
        if D == 1 && !numbers.vectors {
            let (tensor, optimizer) = self.optimizer.step(lr, tensor, scaled, state);
            let accumulator = None;
            return (
                tensor,
                Some(LowPrecisionState {
                    optimizer,
                    accumulator,
                }),
            );
        }
        let grad = self.rounded(scaled, &numbers.gradient);
        let device = tensor.device();
        // The first step starts from the weights as they are.
        let start = accumulator.unwrap_or(tensor);
        let (tensor, state) = self.optimizer.step(lr, start, grad, state);
        let tensor = self.rounded(tensor, &numbers.accumulator);
        let accumulator = numbers.accumulator.is_some().then(|| tensor.clone());
        let tensor = self.rounded(tensor, &numbers.weight);
        let optimizer = state.map(|state| self.remembered(state, &device));
        (
            tensor,
            Some(LowPrecisionState {
                optimizer,
                accumulator,
            }),
        )
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        LowPrecisionState {
            optimizer: state.optimizer.map(|state| O::to_device(state, device)),
            accumulator: state.accumulator.map(|tensor| tensor.to_device(device)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Adam, Sgd};
    use crate::quantizers::set_rounding;

    fn tensor(values: &[f32]) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), [values.len(), 1]),
            &Device::flex(),
        )
    }

    fn read<const D: usize>(t: &Tensor<D>) -> Vec<f32> {
        t.to_data().iter::<f32>().collect()
    }

    fn number(text: &str) -> Option<Number> {
        Some(text.parse().unwrap())
    }

    const SGD: Sgd = Sgd {
        momentum: 0.5,
        weight_decay: 0.0,
    };

    /// Gradients in eighths after a scale of 2, velocity in quarters, accumulator in 32nds, weights in
    /// quarters; learning rate 1/4.
    ///
    /// Step 1, weight 1, gradient 0.3: 0.6 is 5/8 (0.625); velocity 0.625; 1 - 0.15625 = 0.84375 is
    /// 27/32; the weight is 0.75 (0.84375 is 3.375 quarters); the velocity is rounded to 0.5, the
    /// even one of 2 and 3 quarters.
    ///
    /// Step 2, gradient -0.1: -0.2 is -2/8 (-0.25, -1.6 eighths); velocity 0.25 - 0.25 = 0; the
    /// accumulator stays 0.84375, from where the weight is 0.75 again.
    ///
    /// Step 3, gradient 0.5: 1; velocity 1; 0.84375 - 0.25 = 0.59375, 19/32; the weight is 0.5 (2.375
    /// quarters).
    #[test]
    fn three_steps_by_hand() {
        let numbers = OptimizerNumbers {
            weight: number("fixed(8,2)"),
            gradient: number("fixed(8,3)"),
            gradient_scale: 2.0,
            momentum: number("fixed(8,2)"),
            accumulator: number("fixed(16,5)"),
            ..OptimizerNumbers::default()
        };
        let optimizer = LowPrecision::new(SGD, numbers);
        let (mut weight, mut state) = (tensor(&[1.0]), None);
        let mut seen = Vec::new();
        for gradient in [0.3, -0.1, 0.5] {
            (weight, state) = optimizer.step(0.25, weight, tensor(&[gradient]), state);
            let state = state.as_ref().unwrap();
            let velocity = &state.optimizer.as_ref().unwrap().velocity;
            let accumulator = state.accumulator.as_ref().unwrap();
            seen.push([&weight, velocity, accumulator].map(|t| read(t)[0]));
        }
        assert_eq!(
            seen,
            [
                [0.75, 0.5, 0.84375],
                [0.75, 0.0, 0.84375],
                [0.5, 1.0, 0.59375]
            ]
        );
    }

    #[test]
    fn in_float_it_is_the_optimizer() {
        let adam = Adam {
            weight_decay: 0.01,
            decoupled_decay: 0.0,
        };
        let wrapped = LowPrecision::new(adam, OptimizerNumbers::default());
        assert!(OptimizerNumbers::default().is_float());
        let (mut a, mut b) = (tensor(&[0.3, -1.2]), tensor(&[0.3, -1.2]));
        let (mut a_state, mut b_state) = (None, None);
        for i in 0..4 {
            let grad = tensor(&[0.1 * i as f32, 0.7]);
            (a, a_state) = adam.step(0.05, a, grad.clone(), a_state);
            (b, b_state) = wrapped.step(0.05, b, grad, b_state);
        }
        assert_eq!(read(&a), read(&b));
    }

    /// One step of Adam from zero moments, gradient 1/4: the means are 0.025 and 0.0000625. In steps
    /// of 1/64 the first is 2/64 (1.6 steps), in steps of 2^-14 the second 2^-14 (1.024 steps).
    #[test]
    fn the_second_moment_has_a_format_of_its_own() {
        let adam = Adam {
            weight_decay: 0.0,
            decoupled_decay: 0.0,
        };
        let state = |second_moment: &str| {
            let numbers = OptimizerNumbers {
                momentum: number("fixed(8,6)"),
                second_moment: second_moment.parse().ok(),
                ..OptimizerNumbers::default()
            };
            let optimizer = LowPrecision::new(adam, numbers);
            let (_, state) = optimizer.step(0.1, tensor(&[1.0]), tensor(&[0.25]), None);
            let state = state.unwrap().optimizer.unwrap();
            [read(&state.mean)[0], read(&state.square)[0]]
        };
        assert_eq!(state("fixed(16,14)"), [2.0 / 64.0, 2f32.powi(-14)]);
        assert_eq!(state("-"), [2.0 / 64.0, 0.0]);
    }

    /// One exponent a row: of 1.0 and 0.3 in four bits, steps of 2^-2; of 0.1 and 0.03, of 2^-6.
    #[test]
    fn a_velocity_has_the_scales_of_its_rows() {
        let numbers = OptimizerNumbers {
            momentum: number("bfp(4,dim=0)"),
            ..OptimizerNumbers::default()
        };
        let optimizer = LowPrecision::new(SGD, numbers);
        let device = Device::flex();
        let gradient = Tensor::<2>::from_floats([[1.0, 0.3], [0.1, 0.03]], &device);
        let (_, state) = optimizer.step(0.1, gradient.zeros_like(), gradient, None);
        let velocity = read(&state.unwrap().optimizer.unwrap().velocity);
        assert_eq!(velocity, [1.0, 0.25, 0.09375, 0.03125]);
    }

    #[test]
    fn vectors_are_left_out_where_that_is_asked_for() {
        let numbers = OptimizerNumbers {
            weight: number("int8"),
            vectors: false,
            ..OptimizerNumbers::default()
        };
        let optimizer = LowPrecision::new(SGD, numbers);
        let bias = Tensor::<1>::from_floats([0.3], &Device::flex());
        let (bias, _) = optimizer.step(0.5, bias.clone(), bias.zeros_like(), None);
        assert_eq!(read(&bias), [0.3]);
        let (weight, _) = optimizer.step(0.5, tensor(&[0.7]), tensor(&[0.0]), None);
        assert_eq!(read(&weight), [1.0]);
    }

    /// Steps of 1/128 on weights in eighths: to nearest they are lost, at random a sixteenth of them
    /// moves the weight by a whole step, and the mean is that of float.
    #[test]
    fn a_small_step_is_lost_to_nearest_and_kept_at_random() {
        let trained = |rounding: &str| {
            let numbers = OptimizerNumbers {
                weight: number(&format!("fixed(8,3){rounding}")),
                ..OptimizerNumbers::default()
            };
            let sgd = Sgd {
                momentum: 0.0,
                weight_decay: 0.0,
            };
            let optimizer = LowPrecision::new(sgd, numbers);
            let (mut weight, mut state) = (tensor(&[2.0; 256]), None);
            for step in 0..64 {
                set_rounding(5, step);
                (weight, state) = optimizer.step(1.0 / 128.0, weight, tensor(&[1.0; 256]), state);
            }
            read(&weight)
        };
        assert_eq!(trained(""), [2.0; 256]);
        let random = trained(":stochastic");
        // 64 steps of 1/128 are 1/2. The variance of a weight is 64 * 1/64 * 1/16 * 15/16.
        let mean = random.iter().sum::<f32>() / 256.0;
        assert!(
            (mean - 1.5).abs() < 4.0 * (15.0f32 / 256.0).sqrt() / 16.0,
            "{mean}"
        );
        assert_eq!(random, trained(":stochastic"));
    }

    #[test]
    fn a_record_holds_all_of_the_state() {
        let numbers = OptimizerNumbers {
            weight: number("e4m3"),
            accumulator: number("fp16"),
            momentum: number("bf16"),
            ..OptimizerNumbers::default()
        };
        let optimizer = LowPrecision::new(SGD, numbers);
        let gradient = || tensor(&[0.3, -0.01]);
        let (weight, state) = optimizer.step(0.1, tensor(&[1.0, 0.2]), gradient(), None);
        let state = state.unwrap();
        let mut sink = StateSink::default();
        state.state_flatten("p", &mut sink);
        let mut source = StateSource::new(sink.scalars.into_iter().collect());
        for (name, data) in sink.tensors {
            source.insert_tensor(name, data);
        }
        let restored = RecordState::state_unflatten("p", &mut source, &Device::flex());
        let restored: LowPrecisionState<_, 2> = restored.unwrap();
        let (a, _) = optimizer.step(0.1, weight.clone(), gradient(), Some(state));
        let (b, _) = optimizer.step(0.1, weight.clone(), gradient(), Some(restored));
        let (c, _) = optimizer.step(0.1, weight, gradient(), None);
        assert_eq!(read(&a), read(&b));
        assert_ne!(read(&a), read(&c));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let numbers = |text: &str| toml::from_str::<OptimizerNumbers>(text).unwrap();
        let refused = |text: &str| numbers(text).check().unwrap_err().to_string();
        assert_eq!(
            refused("gradient_scale = 0.0"),
            "gradient_scale: is 0, expected a positive number"
        );
        let blocks = refused("weight = \"bfp(8,dim=1)\"");
        assert!(
            blocks.starts_with("weight: has blocks of tensors of 2 dimensions"),
            "{blocks}"
        );
        numbers("weight = \"bfp(8,dim=1)\"\nvectors = false")
            .check()
            .unwrap();
        let all = numbers("weight = \"e4m3:stochastic\"\nmomentum = \"posit(16,2)\"");
        all.check().unwrap();
        assert!(!all.is_float());
    }
}
