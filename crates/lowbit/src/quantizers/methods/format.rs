//! Quantization to a fixed number format.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::codebook::Decision;
use lowbit_formats::philox::Philox;
use lowbit_formats::{Codebook, Format, Rounding};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{
    ClampedGradient, GradientHook, GradientQuantization, LargestPower, Operand, Quantization,
    has_all_integers,
};
use crate::quantizers::integers::Integers;
use crate::quantizers::methods::method::{Channels, Fans, Method, StatedGrid, TensorKind};
use crate::quantizers::number::Number;
use crate::quantizers::slot::Slot;
use crate::quantizers::watch::{Switch, is_observing};

/// The step of everything that is not training: calibration and tests.
pub const UNTRAINED_STEP: u64 = u32::MAX as u64;

/// What the random numbers of stochastic rounding depend on, beside the quantizer.
#[derive(Clone, Copy)]
struct RoundingContext {
    seed: u64,
    step: u64,
    /// Stochastic quantizations in this step so far.
    calls: u64,
}

thread_local! {
    /// None where nobody has said what step it is.
    static CONTEXT: Cell<Option<RoundingContext>> = const { Cell::new(None) };
    /// Quantizers built on this thread so far.
    static BUILT: Cell<u32> = const { Cell::new(0) };
}

/// What the random numbers of a quantizer, or of an optimizer, depend on where nobody has said what
/// step it is.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    /// Which of its thread's quantizers this was when it was built.
    quantizer: u32,
    /// Stochastic quantizations so far, of this quantizer and of all copies of it: workers on other
    /// threads have copies, and each draws other numbers.
    calls: Arc<AtomicU32>,
}

impl Draws {
    pub(crate) fn new() -> Self {
        let quantizer = BUILT.get();
        BUILT.set(quantizer.wrapping_add(1));
        Self {
            quantizer,
            calls: Arc::default(),
        }
    }

    /// How many this thread has built.
    pub(crate) fn built() -> u32 {
        BUILT.get()
    }

    /// Gives the next ones that this thread builds the places after the first `built`.
    pub(crate) fn go_on_from(built: u32) {
        BUILT.set(built);
    }

    /// The stream of the next quantization.
    fn stream(&self) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        u64::from(call) << 32 | u64::from(self.quantizer)
    }

    /// A seed of random numbers of this call's own.
    pub(crate) fn seed(&self) -> u64 {
        let drawn = self.rounding(Rounding::stochastic(0, 0));
        let Rounding::Stochastic { seed, stream, .. } = drawn else {
            unreachable!("it was stochastic");
        };
        let philox = Philox::new(seed, stream);
        u64::from(philox.word(0)) | u64::from(philox.word(1)) << 32
    }

    /// `rounding` with the random numbers of this call.
    pub(crate) fn rounding(&self, rounding: Rounding) -> Rounding {
        let Rounding::Stochastic { seed, stream, bits } = rounding else {
            return rounding;
        };
        let (step_seed, step_stream) = match CONTEXT.get() {
            Some(mut context) => {
                context.calls += 1;
                CONTEXT.set(Some(context));
                (context.seed, context.step << 32 | context.calls)
            }
            None => (0, self.stream()),
        };
        Rounding::Stochastic {
            // An odd factor spreads the streams, of which a person gives small ones.
            seed: seed ^ step_seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            stream: step_stream,
            bits,
        }
    }
}

/// Sets the seed and the step, from 0 to 2^32 - 1, of stochastic rounding on this thread. Every
/// quantization of a step draws other numbers, every step too, and the same ones when a resumed
/// run repeats it.
///
/// On a thread where this was never called, as in a training loop that is not of this crate, the
/// numbers depend on how many quantizers of formats the building thread had built before, and on
/// how often this quantizer and its copies have rounded. A program that builds and trains its
/// networks in the same order draws the same numbers whenever it runs; workers on several threads
/// draw different ones, in the order in which they get there. A run that is resumed draws from the
/// start: call this in each step where that matters, or where several threads train.
pub fn set_rounding(seed: u64, step: u64) {
    CONTEXT.set(Some(RoundingContext {
        seed,
        step,
        calls: 0,
    }));
}

/// Runs `body` with the random numbers of a seed and a step of its own; what is rounded after it
/// draws as if it had not been there.
pub(crate) fn with_rounding<T>(seed: u64, step: u64, body: impl FnOnce() -> T) -> T {
    let outer = CONTEXT.get();
    set_rounding(seed, step);
    let result = body();
    CONTEXT.set(outer);
    result
}

/// Rounds to a [`Format`]; the gradient passes straight through where the format has the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatQuantizerConfig {
    /// The format, such as `fixed(8,6)` or `e4m3`.
    pub format: Format,
    /// How a number between two values of the format is rounded.
    #[serde(default)]
    pub rounding: Rounding,
    /// The gradient where the input is outside the format's range.
    #[serde(default)]
    pub clamped: ClampedGradient,
    /// The format of the gradient on its way back, before `clamped` says where it is zero; in the
    /// slots `error` and `gradient` that is `format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backward: Option<Format>,
    /// How it is rounded.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub backward_rounding: Rounding,
    /// What is done to the gradient before it is rounded, in order; in TOML,
    /// `hooks = ["shift-to-largest", { scale = 1000.0 }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
}

fn is_usual(rounding: &Rounding) -> bool {
    *rounding == Rounding::default()
}

/// A [`GradientHook`] that a plan can name.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Multiplies the gradient by a finite number.
    Scale(f32),
    /// Divides it by the power of two nearest to its largest magnitude.
    ShiftToLargest,
}

/// Factors that are no numbers are refused.
impl Eq for Hook {}

impl From<Hook> for GradientHook {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Scale(factor) => Self::Scale(factor),
            Hook::ShiftToLargest => Self::Shift(LargestPower::Nearest),
        }
    }
}

impl From<&Number> for FormatQuantizerConfig {
    fn from(number: &Number) -> Self {
        Self {
            rounding: number.rounding,
            ..Self::new(number.format.clone())
        }
    }
}

impl FormatQuantizerConfig {
    /// To the nearest value of `format`; the gradient is zero outside its range.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            rounding: Rounding::default(),
            clamped: ClampedGradient::default(),
            backward: None,
            backward_rounding: Rounding::default(),
            hooks: Vec::new(),
        }
    }

    /// Zero and `+-2^k` for every `k` of `exponents` (at most 127 of them, from -126 to 127), the
    /// nearest in logarithm: `sign(x) 2^round(log2 |x|)`, held to the range, and 0 for 0. The
    /// gradient passes straight through.
    ///
    /// # Panics
    /// If `exponents` is empty or out of its range.
    pub fn shifts(exponents: RangeInclusive<i32>) -> Self {
        let magnitudes: Vec<f32> = exponents.map(|k| 2f32.powi(k)).collect();
        let table = Codebook::with_sign(&magnitudes)
            .and_then(|table| table.with_decision(Decision::GeometricMean { zero_up_to: 0.0 }));
        let table = table.unwrap_or_else(|error| panic!("exponents: {error}"));
        Self {
            clamped: ClampedGradient::Pass,
            ..Self::new(table.into())
        }
    }

    /// The shifts of a weight of `bits` bits, sign included: `2^(bits-1) - 1` of them, from none
    /// downwards.
    ///
    /// # Panics
    /// If `bits` is not from 2 to 8.
    pub fn shifts_of_weight(bits: u8) -> Self {
        assert!(
            (2..=8).contains(&bits),
            "weight_bits: is {bits}, expected 2 to 8"
        );
        Self::shifts(2 - (1 << (bits - 1))..=0)
    }

    /// Builds the quantizer.
    pub fn init(&self) -> FormatQuantizer {
        FormatQuantizer {
            config: self.clone(),
            switch: Switch::default(),
            draws: Draws::new(),
        }
    }
}

/// The module of [`FormatQuantizerConfig`]. It has no parameters.
#[derive(Module, Debug)]
pub struct FormatQuantizer {
    #[module(skip)]
    config: FormatQuantizerConfig,
    /// On or off.
    pub switch: Switch,
    #[module(skip)]
    draws: Draws,
}

impl FormatQuantizer {
    /// The tensor as an operand, with how the operator shall quantize it; see
    /// [`Quantizer::operand`](crate::quantizers::Quantizer::operand).
    pub fn operand<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        let on = self.switch.is_on() && !is_observing();
        let quantization = on.then(|| self.quantization(&x, TensorKind::Batch));
        Operand::new(x, quantization)
    }

    /// What it rounds to, and how.
    pub(crate) fn number(&self) -> Number {
        Number {
            format: self.config.format.clone(),
            rounding: self.config.rounding,
        }
    }

    /// The integers that a kernel may round to itself: those of a format that has all of a range, clamps and
    /// rounds to the nearest, where it rounds now.
    pub(crate) fn nearest_integers(&self) -> Option<Integers> {
        let now = self.switch.is_on() && !is_observing();
        let nearest = self.config.rounding == Rounding::default();
        let all = has_all_integers(&self.config.format);
        (now && nearest && all).then(|| self.integers()).flatten()
    }

    fn hooks(&self) -> Vec<GradientHook> {
        self.config.hooks.iter().map(|&hook| hook.into()).collect()
    }

    fn gradient_to(&self, format: Format, rounding: Rounding) -> GradientQuantization {
        GradientQuantization {
            hooks: self.hooks(),
            ..GradientQuantization::to(format, self.draws.rounding(rounding))
        }
    }
}

impl Method for FormatQuantizer {
    type Config = FormatQuantizerConfig;

    const NAME: &'static str = "format";
    /// A format has its own.
    const BITS: Option<RangeInclusive<u32>> = None;
    const GRADIENTS: bool = true;

    fn bits(config: &FormatQuantizerConfig) -> u32 {
        config.format.bits()
    }

    fn set_bits(_config: &mut FormatQuantizerConfig, _bits: u32) {}

    fn check(config: &FormatQuantizerConfig, slot: &str) -> Result<(), Error> {
        let refused = |field: &str, message| Error::config(slot, format!("{field}: {message}"));
        let rounding = |field: &str, rounding: &Rounding| {
            let checked = rounding.validate();
            checked.map_err(|error| refused(field, error.to_string()))
        };
        rounding("rounding", &config.rounding)?;
        rounding("backward_rounding", &config.backward_rounding)?;
        if config.clamped == ClampedGradient::ZeroRounded
            && !ClampedGradient::has_rounded(&config.format)
        {
            let format = &config.format;
            let message = format!("zero-rounded is for fixed point that clamps, not {format}");
            return Err(refused("clamped", message));
        }
        if Slot::is_gradient(slot) && config.backward.is_some() {
            let message = format!("is not for {slot}, which `format` is the format of");
            return Err(refused("backward", message));
        }
        match config
            .hooks
            .iter()
            .find(|hook| matches!(hook, Hook::Scale(by) if !by.is_finite()))
        {
            Some(_) => Err(refused("hooks", "scale is no finite number".into())),
            None => Ok(()),
        }
    }

    fn text(config: &FormatQuantizerConfig) -> String {
        config.format.to_string()
    }

    fn has_integers(config: &FormatQuantizerConfig) -> bool {
        config.format.integer_range().is_some()
    }

    fn stated_grid(config: &FormatQuantizerConfig, _fans: Fans) -> Option<StatedGrid> {
        config.format.integer_range()?;
        Some(StatedGrid::Of(config.format.clone()))
    }

    fn init(config: &FormatQuantizerConfig, _: Option<Channels>, _: &Device) -> Self {
        config.init()
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization<const D: usize>(&self, _x: &Tensor<D>, _kind: TensorKind) -> Quantization {
        Quantization::Format {
            format: self.config.format.clone(),
            rounding: self.draws.rounding(self.config.rounding),
            clamped: self.config.clamped,
        }
    }

    fn backward(&self) -> GradientQuantization {
        let Some(format) = &self.config.backward else {
            return GradientQuantization {
                hooks: self.hooks(),
                ..GradientQuantization::default()
            };
        };
        self.gradient_to(format.clone(), self.config.backward_rounding)
    }

    fn of_gradient(&self) -> GradientQuantization {
        self.gradient_to(self.config.format.clone(), self.config.rounding)
    }

    fn integers(&self) -> Option<Integers> {
        let range = self.config.format.integer_range()?;
        Some(Integers {
            bits: self.config.format.bits(),
            min: range.min.try_into().ok()?,
            max: range.max.try_into().ok()?,
            log2_steps: vec![range.exponent],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantizer() -> FormatQuantizer {
        FormatQuantizerConfig {
            rounding: Rounding::Stochastic {
                seed: 1,
                stream: 0,
                bits: 8,
            },
            clamped: ClampedGradient::Pass,
            ..FormatQuantizerConfig::new("fixed(4,2)".parse().unwrap())
        }
        .init()
    }

    /// Numbers halfway between two of the format's, rounded.
    fn rounded(quantizer: &FormatQuantizer) -> Vec<f32> {
        let x = Tensor::<1>::full([64], 0.125, &Device::flex());
        let rounded = quantizer.operand(x).quantized();
        rounded.into_data().iter::<f32>().collect()
    }

    /// What a fresh thread makes of it.
    fn on_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(body).join().unwrap())
    }

    fn assert_all_differ(rounded: &[Vec<f32>]) {
        for (i, a) in rounded.iter().enumerate() {
            assert!(rounded[..i].iter().all(|b| b != a), "{i}");
        }
    }

    #[test]
    fn without_a_step_a_program_repeats_its_random_numbers() {
        let program = || {
            let (a, b) = (quantizer(), quantizer());
            [&a, &b, &a, &b, &a.clone()].map(rounded)
        };
        let found = on_a_thread(program);
        assert_all_differ(&found);
        assert_eq!(on_a_thread(program), found);
        // What other quantizers have rounded on the thread does not matter.
        let beside = on_a_thread(|| {
            let (a, b) = (quantizer(), quantizer());
            let [first, ..] = [&a, &a, &a, &b].map(rounded);
            (first, rounded(&b))
        });
        assert_eq!((&beside.0, &beside.1), (&found[0], &found[3]));
    }

    #[test]
    fn without_a_step_copies_on_other_threads_draw_other_numbers() {
        let drawn = on_a_thread(|| {
            let model = quantizer();
            [(); 4].map(|()| {
                let worker = model.clone();
                on_a_thread(move || rounded(&worker))
            })
        });
        assert_all_differ(&drawn);
    }

    #[test]
    fn a_step_alone_decides_where_it_is_set() {
        let steps = |before: usize| {
            on_a_thread(move || {
                let quantizer = quantizer();
                (0..before).for_each(|_| drop(rounded(&quantizer)));
                [5, 5, 6].map(|step| {
                    set_rounding(3, step);
                    [rounded(&quantizer), rounded(&quantizer)].concat()
                })
            })
        };
        let found = steps(0);
        assert_eq!(found[0], found[1]);
        assert_ne!(found[0], found[2]);
        assert_eq!(steps(4), found);
        // Seed and stream as they have always been: training that was recorded repeats.
        let rounding = on_a_thread(|| {
            set_rounding(3, 5);
            Draws::new().rounding(quantizer().config.rounding)
        });
        let expected = Rounding::Stochastic {
            seed: 1 ^ 3,
            stream: 5 << 32 | 1,
            bits: 8,
        };
        assert_eq!(rounding, expected);
    }
}
