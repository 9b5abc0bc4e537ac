//! Quantization to a fixed number format.

use std::cell::Cell;
use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use lowbit_formats::codebook::Decision;
use lowbit_formats::{Codebook, Format, Rounding};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::ops::{ClampedGradient, Operand, Quantization};
use crate::quantizers::integers::Integers;
use crate::quantizers::methods::method::{Channels, Method};
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
    static CONTEXT: Cell<RoundingContext> =
        const { Cell::new(RoundingContext { seed: 0, step: UNTRAINED_STEP, calls: 0 }) };
}

/// Sets the seed and the step, from 0 to 2^32 - 1, of stochastic rounding on this thread. Every
/// quantization of a step draws other numbers, every step too, and the same ones when a resumed
/// run repeats it.
pub fn set_rounding(seed: u64, step: u64) {
    CONTEXT.set(RoundingContext {
        seed,
        step,
        calls: 0,
    });
}

/// `rounding` with the random numbers of this call.
fn in_context(rounding: Rounding) -> Rounding {
    let Rounding::Stochastic { seed, stream, bits } = rounding else {
        return rounding;
    };
    let mut context = CONTEXT.get();
    context.calls += 1;
    CONTEXT.set(context);
    Rounding::Stochastic {
        // An odd factor spreads the streams, of which a person gives small ones.
        seed: seed ^ context.seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        stream: context.step << 32 | context.calls,
        bits,
    }
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
}

impl FormatQuantizerConfig {
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
        Self {
            format: table
                .unwrap_or_else(|error| panic!("exponents: {error}"))
                .into(),
            rounding: Rounding::NearestEven,
            clamped: ClampedGradient::Pass,
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
}

impl FormatQuantizer {
    /// The tensor as an operand, with how the operator shall quantize it; see
    /// [`Quantizer::operand`](crate::quantizers::Quantizer::operand).
    pub fn operand<const D: usize>(&self, x: Tensor<D>) -> Operand<D> {
        let on = self.switch.is_on() && !is_observing();
        let quantization = on.then(|| self.quantization(x.shape().num_elements()));
        Operand::new(x, quantization)
    }
}

impl Method for FormatQuantizer {
    type Config = FormatQuantizerConfig;

    const NAME: &'static str = "format";
    /// A format has its own.
    const BITS: Option<RangeInclusive<u32>> = None;

    fn bits(config: &FormatQuantizerConfig) -> u32 {
        config.format.bits()
    }

    fn set_bits(_config: &mut FormatQuantizerConfig, _bits: u32) {}

    fn check(config: &FormatQuantizerConfig, slot: &str) -> Result<(), Error> {
        let refused = |error| Error::config(slot, format!("rounding: {error}"));
        config.rounding.validate().map_err(refused)
    }

    fn text(config: &FormatQuantizerConfig) -> String {
        config.format.to_string()
    }

    fn has_integers(config: &FormatQuantizerConfig) -> bool {
        config.format.integer_range().is_some()
    }

    fn init(config: &FormatQuantizerConfig, _: Option<Channels>, _: &Device) -> Self {
        config.init()
    }

    fn switch(&self) -> &Switch {
        &self.switch
    }

    fn quantization(&self, _numbers: usize) -> Quantization {
        Quantization::Format {
            format: self.config.format.clone(),
            rounding: in_context(self.config.rounding),
            clamped: self.config.clamped,
        }
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
