//! The mean of a network's weights over its training.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::store::RecordError;
use burn::tensor::{Bytes, Device, Tensor, TensorData};
use burn_store::bridge;

use crate::ops::{ClampedGradient, fake_quantize};
use crate::quantizers::{Draws, ModulePath, Number, learned_at};

/// The mean of a network's weights at several times of its training: stochastic weight averaging
/// (Izmailov et al., arXiv 1803.05407, algorithm 1), and in low precision SWALP (Yang et al.,
/// arXiv 1904.11943, algorithm 1).
///
/// After `n` networks, the next one's weight `w` brings each mean `a` to `Q(a + (w - a) / (n + 1))`,
/// in `f32`; the first mean is `Q(w)`. `Q` rounds to a format, or there is none. What does not
/// change stays what it is, to the bit.
///
/// All parameters that require a gradient take part. What quantizers learn is averaged, but never
/// rounded. Running statistics are no parameters: they belong to the weights of one time, and are
/// to be estimated again ([`estimate_statistics`](crate::nn::estimate_statistics)).
///
/// # Example
/// ```
/// use burn::module::{Module, Param};
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{Linear, LinearConfig};
/// use lowbit::optim::WeightAverage;
///
/// let device = Device::flex().autodiff();
/// let with_bias = |bias: f32| {
///     let mut linear = LinearConfig::new(1, 1).init(&device);
///     linear.bias = Some(Param::from_tensor(Tensor::from_floats([bias], &device)));
///     linear
/// };
/// let mut average = WeightAverage::new(None);
/// for bias in [1.0, 2.0, 6.0] {
///     average.include(&with_bias(bias));
/// }
/// let mean: Linear = average.apply(with_bias(0.0).valid());
/// assert_eq!(mean.bias.unwrap().val().into_scalar::<f32>(), 3.0);
/// ```
#[derive(Debug, Clone)]
pub struct WeightAverage {
    count: u64,
    /// By the parameter's path.
    means: BTreeMap<String, Mean>,
    rounding: Option<(Number, Draws)>,
}

#[derive(Debug, Clone)]
struct Mean {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Mean {
    fn data(&self) -> TensorData {
        TensorData::new(self.values.clone(), self.shape.clone())
    }
}

impl WeightAverage {
    /// The mean of no networks yet, rounded to that number after each.
    pub fn new(number: Option<Number>) -> Self {
        Self {
            count: 0,
            means: BTreeMap::new(),
            rounding: number.map(|number| (number, Draws::new())),
        }
    }

    /// How many networks it is the mean of.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes in the weights of a network, the same as before but for what it learned since.
    /// A parameter that no longer requires a gradient is no longer part of the average.
    ///
    /// Random numbers of a stochastic rounding are those of the step that
    /// [`set_rounding`](crate::quantizers::set_rounding) says.
    pub fn include<M: Module>(&mut self, model: &M) {
        let mut include = Include {
            path: ModulePath::default(),
            before: std::mem::take(&mut self.means),
            divisor: (self.count + 1) as f32,
            rounding: self.rounding.as_ref(),
            means: BTreeMap::new(),
        };
        model.visit(&mut include);
        self.means = include.means;
        self.count += 1;
    }

    /// The network, in its validation form, with the means in place of its weights.
    pub fn apply<M: Module>(&self, model: M) -> M {
        model.map(&mut Apply {
            path: ModulePath::default(),
            means: &self.means,
        })
    }

    /// The means as a file's bytes, by the parameters' paths. The count is not among them.
    ///
    /// # Errors
    /// If they cannot be packed.
    pub fn to_bytes(&self) -> Result<Bytes, RecordError> {
        let means = self.means.iter();
        let tensors = means.map(|(key, mean)| bridge::from_data(mean.data(), key.clone(), None));
        burn_pack::Writer::new(tensors.collect())
            .into_bytes()
            .map_err(RecordError::from)
    }

    /// The same average with the means of a file, of `count` networks.
    ///
    /// # Errors
    /// If the bytes are no such file.
    pub fn with_bytes(self, count: u64, bytes: Bytes) -> Result<Self, RecordError> {
        let tensors = burn_pack::Reader::from_bytes(bytes)?.into_tensors()?;
        let mut means = BTreeMap::new();
        for tensor in tensors {
            let (name, shape) = (tensor.name.clone(), tensor.shape.to_vec());
            let values = bridge::into_data(tensor)?.iter::<f32>().collect();
            means.insert(name, Mean { shape, values });
        }
        Ok(Self {
            count,
            means,
            ..self
        })
    }
}

struct Include<'a> {
    path: ModulePath,
    before: BTreeMap<String, Mean>,
    divisor: f32,
    rounding: Option<&'a (Number, Draws)>,
    means: BTreeMap<String, Mean>,
}

impl ModuleVisitor for Include<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let key = self.path.key();
        let weights = param.val().into_data();
        let values = match self.before.remove(&key) {
            None => weights.iter::<f32>().collect(),
            Some(Mean { mut values, .. }) => {
                for (mean, weight) in values.iter_mut().zip(weights.iter::<f32>()) {
                    *mean += (weight - *mean) / self.divisor;
                }
                values
            }
        };
        let shape = param.dims().to_vec();
        let mut mean = Mean { shape, values };
        if let Some((number, draws)) = self.rounding
            && learned_at(&self.path).is_none()
        {
            let rounding = draws.rounding(number.rounding);
            let mean_tensor = Tensor::<D>::from_data(mean.data(), &Device::flex());
            let pass = ClampedGradient::Pass;
            let rounded = fake_quantize(mean_tensor, &number.format, rounding, pass);
            mean.values = rounded.into_data().iter::<f32>().collect();
        }
        self.means.insert(key, mean);
    }
}

struct Apply<'a> {
    path: ModulePath,
    means: &'a BTreeMap<String, Mean>,
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.means.get(&self.path.key()) {
            Some(mean) => param.map(|weight| Tensor::from_data(mean.data(), &weight.device())),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QConfig;
    use crate::nn::{BatchNormConfig, Linear, LinearConfig};
    use crate::quantizers::{QuantizerConfig, TrainedThresholdConfig, set_rounding};

    fn linear(weight: [f32; 2]) -> Linear {
        let device = Device::flex().autodiff();
        let mut linear = LinearConfig::new(2, 1).with_bias(false).init(&device);
        let weight = Tensor::from_floats([[weight[0]], [weight[1]]], &device);
        linear.weight = Param::from_tensor(weight);
        linear
    }

    fn mean(average: &WeightAverage) -> Vec<f32> {
        let model = average.apply(linear([9.0, 9.0]).valid());
        model.weight.val().into_data().iter::<f32>().collect()
    }

    /// (1 + 2 + 6) / 3 = 3, (0 - 1 + 4) / 3 = 1; the third network's part is a third.
    #[test]
    fn three_networks_by_hand() {
        let mut average = WeightAverage::new(None);
        let mut means = Vec::new();
        for weight in [[1.0, 0.0], [2.0, -1.0], [6.0, 4.0]] {
            average.include(&linear(weight));
            means.push(mean(&average));
        }
        assert_eq!(means, [[1.0, 0.0], [1.5, -0.5], [3.0, 1.0]]);
        assert_eq!(average.count(), 3);
    }

    /// In quarters: 1.1 is 1; 1 + (1.6 - 1) / 2 = 1.3 is 1.25; 1.25 + (2.3 - 1.25) / 3 = 1.6 is 1.5.
    #[test]
    fn a_mean_in_quarters_by_hand() {
        let mut average = WeightAverage::new(Some("fixed(8,2)".parse().unwrap()));
        let mut means = Vec::new();
        for weight in [1.1, 1.6, 2.3] {
            average.include(&linear([weight, 0.0]));
            means.push(mean(&average)[0]);
        }
        assert_eq!(means, [1.0, 1.25, 1.5]);
    }

    #[test]
    fn a_file_holds_the_means_and_a_random_rounding_repeats() {
        let number = || Some("fixed(8,2):stochastic".parse().unwrap());
        let second = |mut average: WeightAverage| {
            set_rounding(3, 7);
            average.include(&linear([0.3, -0.9]));
            mean(&average)
        };
        let mut first = WeightAverage::new(number());
        set_rounding(3, 6);
        first.include(&linear([0.1, 0.7]));
        let bytes = first.to_bytes().unwrap();
        let read = WeightAverage::new(number()).with_bytes(1, bytes).unwrap();
        assert_eq!(mean(&read), mean(&first));
        assert_eq!(second(read), second(first));
    }

    /// Sets every threshold to 2^0.5.
    #[derive(Default)]
    struct HalfThresholds {
        path: ModulePath,
    }

    impl ModuleMapper for HalfThresholds {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.exit();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.path.field() == "log2_threshold" {
                true => param.map(|t| (t.zeros_like() + 0.5).detach().require_grad()),
                false => param,
            }
        }
    }

    #[test]
    fn what_is_not_trained_is_left_and_thresholds_are_not_rounded() {
        let device = Device::flex().autodiff();
        let mut average = WeightAverage::new(Some("int8".parse().unwrap()));
        let norm = BatchNormConfig::new(1).init(&device);
        average.include(&norm);
        let keys: Vec<_> = average.means.keys().map(String::as_str).collect();
        assert_eq!(keys, ["beta", "gamma"]);

        let tqt = QuantizerConfig::Tqt(TrainedThresholdConfig::new(8));
        let config = LinearConfig::new(1, 1).with_bias(false);
        let config = config.with_quantization(QConfig::new().with("weight", tqt));
        let layer = config.init(&device);
        let mut average = WeightAverage::new(Some("int8".parse().unwrap()));
        let layer = layer.map(&mut HalfThresholds::default());
        average.include(&layer);
        let thresholds = average.means.iter();
        let mut thresholds = thresholds.filter(|(key, _)| key.ends_with("log2_threshold"));
        assert_eq!(thresholds.next().unwrap().1.values, [0.5]);
    }
}
