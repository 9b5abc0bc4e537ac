//! Dropout.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor, TensorData};
use lowbit_formats::Rounding;
use lowbit_formats::philox::{GROUP, Philox};
use rayon::prelude::*;

use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::quantizers::{Draws, Quantizers, Signs};

/// Configuration of a [`Dropout`]; the field of `burn::nn::DropoutConfig`, and what is quantized.
#[derive(Config, Debug)]
pub struct DropoutConfig {
    /// The probability that an element becomes zero, 0 to below 1.
    pub prob: f64,
    /// What is quantized; the slots are `input` and `output`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Zeroes elements at random in training (Srivastava et al., "Dropout: A Simple Way to Prevent
/// Neural Networks from Overfitting", JMLR 15, 2014): on an autodiff device,
/// `y = x m / (1 - prob)`, where each `m` is 0 with probability `prob` and 1 otherwise, up to
/// `2^-32`; `dL/dx = m / (1 - prob) dL/dy`. Anywhere else, and where the layer is frozen, `y = x`.
///
/// The numbers are those of stochastic rounding: a function of the seed, the step
/// ([`set_rounding`](crate::quantizers::set_rounding)), how many random tensors the step drew
/// before, and the element's index. A resumed run drops the same elements, on any number of
/// threads.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::DropoutConfig;
///
/// let x = || Tensor::<1>::ones([8], &Device::flex());
/// let dropout = DropoutConfig::new(0.5).init(&Device::flex().autodiff());
/// let read = |y: Tensor<1>| y.into_data().try_to_vec::<f32>().unwrap();
/// assert!(read(dropout.forward(x().autodiff())).iter().all(|y| [0.0, 2.0].contains(y)));
/// assert_eq!(read(dropout.forward(x())), [1.0; 8]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Dropout {
    /// The probability that an element becomes zero.
    pub prob: f64,
    /// Whether elements are dropped, on an autodiff device.
    pub training: Param<Flag>,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
    #[module(skip)]
    draws: Draws,
}

/// Tells these random numbers from those that round with the same seed: "drop" in ASCII.
const SEED: u64 = 0x6472_6f70;

/// Elements that a thread draws at a time.
const CHUNK: usize = 64 * GROUP;

impl DropoutConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Dropout {
        Dropout {
            quantizers: self.init_quantizers(device),
            prob: self.prob,
            training: Param::from_bool(true),
            draws: Draws::new(),
        }
    }
}

impl Describe for DropoutConfig {
    fn describe(&self) -> Description {
        Description::new("Dropout").with_signs(Signs::OfInputs)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        if (0.0..1.0).contains(&self.prob) {
            return Ok(());
        }
        let message = format!("is {}, expected 0 to below 1", self.prob);
        Err(Error::config("prob", message))
    }
}

impl Dropout {
    /// Applies the layer; any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let input = self.quantizers.input(input).quantized();
        let drops = self.training.is_enabled() && input.device().is_autodiff() && self.prob > 0.0;
        let output = match drops {
            true => {
                let data =
                    TensorData::new(self.factors(input.shape().num_elements()), input.shape());
                let factors = Tensor::from_data(data, &input.device());
                input * factors
            }
            false => input,
        };
        self.quantizers.output(output)
    }

    /// `m / (1 - prob)` of as many elements.
    fn factors(&self, elements: usize) -> Vec<f32> {
        let kept = (1.0 / (1.0 - self.prob)) as f32;
        // Words below this are dropped, prob of all 2^32.
        let limit = (self.prob * 2f64.powi(32)).round() as u64;
        let factor = |word: u32| if u64::from(word) < limit { 0.0 } else { kept };
        factors(&self.draws, SEED, elements, factor)
    }
}

/// Numbers made of random words, those of the next random tensor of the step.
pub(super) fn factors(
    draws: &Draws,
    seed: u64,
    elements: usize,
    factor: impl Fn(u32) -> f32 + Sync,
) -> Vec<f32> {
    let drawn = draws.rounding(Rounding::Stochastic {
        seed,
        stream: 0,
        bits: 32,
    });
    let Rounding::Stochastic { seed, stream, .. } = drawn else {
        unreachable!("it stays stochastic");
    };
    let words = Philox::new(seed, stream);
    let mut factors = vec![0.0; elements];
    let chunks = factors.par_chunks_mut(CHUNK).enumerate();
    chunks.for_each(|(i, chunk)| {
        for (j, group) in chunk.chunks_mut(GROUP).enumerate() {
            let words = words.group((i * CHUNK / GROUP + j) as u64);
            for (number, word) in group.iter_mut().zip(words) {
                *number = factor(word);
            }
        }
    });
    factors
}

impl ModuleDisplay for Dropout {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content.add("prob", &self.prob).optional()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantizers::set_rounding;

    const ELEMENTS: usize = 10_000;

    fn read<const D: usize>(t: Tensor<D>) -> Vec<f32> {
        t.into_data().iter::<f32>().collect()
    }

    /// What becomes of ones, in 100 rows.
    fn dropped(layer: &Dropout) -> Vec<f32> {
        let ones = Tensor::<2>::ones([100, ELEMENTS / 100], &Device::flex().autodiff());
        read(layer.forward(ones))
    }

    #[test]
    fn elements_are_zero_or_divided_by_what_is_kept() {
        let layer = DropoutConfig::new(0.2).init(&Device::flex().autodiff());
        set_rounding(1, 0);
        let y = dropped(&layer);
        assert!(y.iter().all(|&y| y == 0.0 || y == 1.25));
        let zeros = y.iter().filter(|y| **y == 0.0).count() as f64;
        // 2,000 of 10,000, with a deviation of sqrt(10,000 * 0.2 * 0.8) = 40.
        assert!((zeros - 2000.0).abs() < 4.0 * 40.0, "{zeros}");
    }

    /// In step 5 with seed 3, the second tensor's words are those of the stream `5 * 2^32 + 2`.
    #[test]
    fn what_is_dropped_depends_on_seed_step_and_index() {
        let layer = DropoutConfig::new(0.5).init(&Device::flex().autodiff());
        set_rounding(3, 5);
        let (first, second) = (dropped(&layer), dropped(&layer));
        assert_ne!(first, second);
        let words = Philox::new(0x6472_6f70 ^ 3, 5 << 32 | 2);
        let expected = (0..ELEMENTS as u64).map(|i| match words.word(i) < 1 << 31 {
            true => 0.0,
            false => 2.0,
        });
        assert_eq!(second, expected.collect::<Vec<f32>>());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
        let again = pool.unwrap().install(|| {
            set_rounding(3, 5);
            dropped(&layer)
        });
        assert_eq!(first, again);
    }

    #[test]
    fn the_gradient_is_dropped_where_the_element_was() {
        let device = Device::flex().autodiff();
        let layer = DropoutConfig::new(0.5).init(&device);
        let x = Tensor::<1>::ones([64], &device).require_grad();
        let y = layer.forward(x.clone());
        let grads = y.clone().sum().backward();
        assert_eq!(read(x.grad(&grads).unwrap()), read(y));
    }

    #[test]
    fn outside_of_training_nothing_is_dropped() {
        let device = Device::flex().autodiff();
        let layer = DropoutConfig::new(0.5).init(&device);
        let ones = Tensor::<1>::ones([64], &device);
        assert_eq!(read(layer.clone().freeze().forward(ones)), [1.0; 64]);
        let ones = Tensor::<1>::ones([64], &Device::flex());
        assert_eq!(read(layer.valid().forward(ones)), [1.0; 64]);
        let never = DropoutConfig::new(0.0).init(&device);
        assert_eq!(dropped(&never), [1.0; ELEMENTS]);
    }

    #[test]
    fn a_probability_out_of_range_is_refused() {
        let refused = |prob: f64| DropoutConfig::new(prob).check().unwrap_err().to_string();
        assert_eq!(refused(1.0), "Dropout.prob: is 1, expected 0 to below 1");
        assert!(DropoutConfig::new(f64::NAN).check().is_err());
    }
}
