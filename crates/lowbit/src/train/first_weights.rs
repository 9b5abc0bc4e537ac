//! First weights that quantization methods draw.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use lowbit_formats::philox::Philox;

use crate::models::Classifier;
use crate::quantizers::{Channels, Fans, ModulePath, QuantizerConfig, Slot};

/// The network with its weights drawn anew, even between a bound and its opposite, where the method
/// that quantizes them says the bound (as that of WAGE does). The numbers depend on the seed and the
/// layer's place alone.
pub(super) fn drawn_by_methods<M: Classifier>(model: M, seed: u64) -> M {
    let weights = model
        .layers()
        .iter()
        .enumerate()
        .filter_map(|(place, layer)| {
            let weight = Weight {
                config: layer.config.get(Slot::WEIGHT)?.clone(),
                channels: layer.description.weight,
                place,
            };
            Some((format!("{}.{}", layer.path, Slot::WEIGHT), weight))
        });
    let mut draw = Draw {
        weights: weights.collect(),
        path: ModulePath::default(),
        seed,
    };
    model.map(&mut draw)
}

/// How a weight is quantized.
struct Weight {
    config: QuantizerConfig,
    channels: Option<Channels>,
    /// Of its layer among all.
    place: usize,
}

struct Draw {
    /// By the path of the parameter.
    weights: BTreeMap<String, Weight>,
    path: ModulePath,
    seed: u64,
}

impl ModuleMapper for Draw {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(weight) = self.weights.get(&self.path.key()) else {
            return param;
        };
        let dims = param.val().dims();
        let fans = Fans::of(&dims, weight.channels);
        let Some(bound) = weight.config.first_bound(fans) else {
            return param;
        };
        // Steps round at random by the seed itself.
        let philox = Philox::new(!self.seed, weight.place as u64);
        let even = |i: usize| {
            let part = (f64::from(philox.word(i as u64)) + 0.5) / (f64::from(u32::MAX) + 1.0);
            ((2.0 * part - 1.0) * f64::from(bound)) as f32
        };
        let numbers: Vec<f32> = (0..dims.iter().product()).map(even).collect();
        param.map(|old| {
            let data = TensorData::new(numbers, dims);
            let drawn = Tensor::from_data(data, &old.device());
            drawn.set_require_grad(old.is_require_grad())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{QConfig, QPlan};
    use crate::models::Architecture;
    use crate::quantizers::{NitiConfig, WageConfig, WageLimit};
    use burn::module::Module;
    use burn::tensor::Device;

    /// Weights of LeNet-5, of which the second convolution's are WAGE's (500 products: `sqrt(6 / 500)`
    /// is below 3/4) and the last layer's NITI's (`sqrt(6 / 510)` is 0.1085, below 1/8: kept, it is
    /// 0.868); the others stay.
    #[test]
    fn those_that_a_method_draws_are_even_and_the_others_stay() {
        let limit = WageLimit::Paper;
        let weight = |config| QConfig::new().with(Slot::WEIGHT, Some(config));
        let plan = QPlan {
            default: weight(QuantizerConfig::WageWeight(WageConfig { bits: 2, limit })),
            last: weight(QuantizerConfig::NitiWeight(NitiConfig { bits: 8 })),
            ..QPlan::float()
        };
        let device = Device::flex();
        let lenet: Architecture = "lenet".parse().unwrap();
        let network = || lenet.init([1, 28, 28], 10, &plan, 3, &device).unwrap();
        let drawn = |seed| {
            let record = drawn_by_methods(network(), seed);
            let mut weights = Weights::default();
            record.visit(&mut weights);
            weights.0
        };
        let (before, after) = (
            {
                let mut weights = Weights::default();
                network().visit(&mut weights);
                weights.0
            },
            drawn(3),
        );
        let [conv1, conv2, fc2] = ["conv1.weight", "conv2.weight", "fc2.weight"];
        assert_eq!(before[conv1], after[conv1]);
        for (path, bound) in [(conv2, 0.75), (fc2, 0.868)] {
            let weights = &after[path];
            assert_ne!(&before[path], weights);
            let largest = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
            assert!(largest <= bound + 1e-3 && largest > 0.99 * bound, "{path}");
            let count = weights.len() as f32;
            let square = weights.iter().map(|w| w * w).sum::<f32>() / count;
            // The variance of an even distribution is a third of its bound's square.
            let relative = square / (bound * bound / 3.0) - 1.0;
            assert!(relative.abs() < 4.0 / count.sqrt(), "{path}: {relative}");
        }
        assert_eq!(drawn(3), after);
        assert_ne!(drawn(4)[conv2], after[conv2]);
    }

    #[derive(Default)]
    struct Weights(BTreeMap<String, Vec<f32>>, ModulePath);

    impl burn::module::ModuleVisitor for Weights {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.1.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.1.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let numbers = param.val().into_data().iter::<f32>().collect();
            self.0.insert(self.1.key(), numbers);
        }
    }
}
