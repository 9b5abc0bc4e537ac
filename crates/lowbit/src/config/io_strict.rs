//! The widths of the wageubn package.

use lowbit_formats::{FixedPoint, Format};

use super::{Override, QConfig, QPlan};
use crate::Error;
use crate::ops::ClampedGradient;
use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig, Slot};

/// All-direct quantization `clip(round(x 2^(dec - 1)), -2^(all - 1) + 1, 2^(all - 1) - 1) / 2^(dec - 1)`:
/// so many bits in all, sign included, and after the point, one less than `dec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllDirect {
    /// Bits after the point, and one.
    pub dec: u32,
    /// Bits in all, 2 to 24.
    pub all: u32,
}

impl AllDirect {
    /// Everything after the point but the sign.
    pub const fn of(bits: u32) -> Self {
        Self {
            dec: bits,
            all: bits,
        }
    }

    /// The format.
    ///
    /// # Errors
    /// If there is none of these widths.
    pub fn format(self) -> Result<Format, Error> {
        let (word, fraction) = (u8::try_from(self.all), i8::try_from(self.dec));
        let fixed = word.ok().zip(fraction.ok());
        let fixed = fixed.filter(|(word, dec)| (2..=24).contains(word) && *dec >= 1);
        let made = fixed.and_then(|(word, dec)| FixedPoint::new(word, dec - 1).ok());
        let made = made.and_then(|fixed| fixed.symmetric().ok());
        made.map(Format::from).ok_or_else(|| {
            let Self { dec, all } = self;
            let message =
                format!("dec {dec}, all {all}: expected dec from 1 on and all from 2 to 24");
            Error::config("io_strict", message)
        })
    }
}

/// The strict widths of the wageubn package (`iostrict=True`; its `Conv2d`, `Linear`, `Adder2d`,
/// `BatchNorm2d` and `ReLU`): every tensor of every layer all-direct, inputs and outputs, too.
///
/// Unlike there, a normalization's deviation is rounded, as in the paper, and not its variance; and it
/// trains.
///
/// # Example
/// ```
/// use lowbit::config::{AllDirect, IoStrict};
///
/// let plan = IoStrict {
///     weight: AllDirect { dec: 8, all: 10 },
///     ..IoStrict::default()
/// };
/// let text = plan.plan()?.to_toml();
/// assert!(text.contains("fixed(10,7,symmetric)"));
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoStrict {
    /// Of weights.
    pub weight: AllDirect,
    /// Of biases.
    pub bias: AllDirect,
    /// Of what layers with a weight read.
    pub input: AllDirect,
    /// Of what they make.
    pub output: AllDirect,
    /// Of each tensor of a normalization.
    pub norm: AllDirect,
    /// Of what rectifiers read and make.
    pub activation: AllDirect,
}

impl Default for IoStrict {
    /// The package's.
    fn default() -> Self {
        Self {
            weight: AllDirect::of(8),
            bias: AllDirect::of(16),
            input: AllDirect::of(8),
            output: AllDirect::of(12),
            norm: AllDirect::of(8),
            activation: AllDirect::of(8),
        }
    }
}

impl IoStrict {
    /// The plan.
    ///
    /// # Errors
    /// If there is no format of some widths.
    pub fn plan(&self) -> Result<QPlan, Error> {
        let config = |slots: &[(&str, AllDirect)]| -> Result<QConfig, Error> {
            slots
                .iter()
                .try_fold(QConfig::new(), |config, (slot, width)| {
                    let quantizer = QuantizerConfig::Format(FormatQuantizerConfig {
                        clamped: ClampedGradient::Pass,
                        ..FormatQuantizerConfig::new(width.format()?)
                    });
                    Ok(config.with(*slot, Some(quantizer)))
                })
        };
        let layer = config(&[
            (Slot::INPUT, self.input),
            (Slot::WEIGHT, self.weight),
            (Slot::BIAS, self.bias),
            (Slot::OUTPUT, self.output),
        ])?;
        let norm = [
            Slot::INPUT,
            Slot::GAMMA,
            Slot::BETA,
            Slot::MEAN,
            Slot::DEVIATION,
            Slot::OUTPUT,
        ];
        let norm = config(&norm.map(|slot| (slot, self.norm)))?;
        let relu = config(&[Slot::INPUT, Slot::OUTPUT].map(|slot| (slot, self.activation)))?;
        let of_type = |name: &str, config: &QConfig| Override {
            layer_type: Some(name.into()),
            optional: true,
            config: config.clone(),
            ..Override::default()
        };
        Ok(QPlan {
            default: layer.clone(),
            first: layer.clone(),
            last: layer,
            overrides: vec![
                of_type("BatchNorm", &norm),
                of_type("Relu", &relu),
                of_type("Relu6", &relu),
            ],
            ..QPlan::float()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Classifier};
    use burn::tensor::Device;

    /// `round(x 2^7)` clipped to 511 steps of ten bits: 3.992 and no more; 0.3 is 38 steps.
    #[test]
    fn all_direct_by_hand() {
        let format = AllDirect { dec: 8, all: 10 }.format().unwrap();
        let round = |x: f32| format.round(x, lowbit_formats::Rounding::NearestEven, 0);
        assert_eq!(
            [0.3, 9.0, -9.0].map(round),
            [38.0 / 128.0, 511.0 / 128.0, -511.0 / 128.0]
        );
        let error = AllDirect { dec: 0, all: 8 }.format().unwrap_err();
        assert_eq!(
            error.to_string(),
            "io_strict: dec 0, all 8: expected dec from 1 on and all from 2 to 24"
        );
    }

    #[test]
    fn every_tensor_of_a_network_has_its_width() {
        let plan = IoStrict::default().plan().unwrap();
        let resnet: Architecture = "resnet8".parse().unwrap();
        let device = Device::flex();
        let network = resnet.init([3, 32, 32], 10, &plan, 0, &device).unwrap();
        let layers = network.layers();
        let of = |layer_type: &str, slot: &str| {
            let layer = layers
                .iter()
                .find(|layer| layer.description.name == layer_type);
            layer.unwrap().config.get(slot).map(QuantizerConfig::bits)
        };
        let conv = ["input", "weight", "output"].map(|slot| of("Conv2d", slot));
        assert_eq!(conv, [Some(8), Some(8), Some(12)]);
        assert_eq!(of("Linear", "bias"), Some(16));
        assert_eq!(of("BatchNorm", "deviation"), Some(8));
        assert_eq!(of("Relu", "output"), Some(8));
    }
}
