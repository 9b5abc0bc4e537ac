//! A convolution and what follows it in one pass, where nobody can tell the difference.

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Tensor};

use crate::config::Fold;
use crate::nn::activation::Relu;
use crate::nn::conv::Conv2d;
use crate::nn::join::Add;
use crate::nn::norm::BatchNorm;
use crate::nn::norm::fold::folded;
use crate::nn::norm::parts::INSIDE;
use crate::ops::{Activation, Following, conv2d_then};
use crate::quantizers::{Quantizers, Slot, Taps, is_measuring, is_observing};

/// A convolution and the layers after it, in this order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) fold: Fold,
    pub(super) conv: &'a Conv2d,
    pub(super) norm: Option<&'a BatchNorm>,
    pub(super) add: Option<&'a Add>,
    pub(super) relu: Option<&'a Relu>,
}

/// Whether none of these slots has a quantizer.
fn are_empty(quantizers: &Quantizers, slots: &[&str]) -> bool {
    slots.iter().all(|slot| quantizers.get(slot).is_none())
}

/// Whether tensors of a device are computed here, without a way back and unseen.
fn is_plain_evaluation(device: &Device) -> bool {
    // A device with a way back is another.
    let is_here = matches!(device.as_dispatch(), DispatchDevice::Flex(_));
    let is_watched = Taps::are_attached() || is_observing() || is_measuring();
    is_here && !is_watched
}

impl Chain<'_> {
    /// Whether it may be one pass: in evaluation on the CPU, where nothing is watched, and nothing is
    /// quantized between the convolution's operands and the last result. The bits are the same.
    pub(super) fn is_one_pass(&self, x: &Tensor<4>) -> bool {
        let ends = [Slot::INPUT, Slot::OUTPUT];
        let conv = &self.conv.quantizers;
        let norm = self.own_norm();
        let norm_is_plain = |norm: &BatchNorm| {
            are_empty(&norm.quantizers, &ends) && are_empty(&norm.quantizers, &INSIDE)
        };
        (norm.is_some() || self.add.is_some() || self.relu.is_some())
            && is_plain_evaluation(&x.device())
            && conv.accumulator.is_none()
            && conv.sums_are_in_float()
            && are_empty(conv, &[Slot::OUTPUT])
            && norm.is_none_or(norm_is_plain)
            && self.add.is_none_or(|add| are_empty(&add.quantizers, &ends))
            && self
                .relu
                .is_none_or(|relu| are_empty(&relu.quantizers, &ends))
    }

    /// The normalization that is applied, and not folded.
    fn own_norm(&self) -> Option<&BatchNorm> {
        self.norm.filter(|_| self.fold.is_off())
    }

    /// The chain of an input, with what the shortcut makes, if there is one. Quantizers draw their random
    /// numbers in the order of one operator after the other.
    pub(super) fn in_one_pass(
        &self,
        x: Tensor<4>,
        shortcut: Option<impl FnOnce() -> Tensor<4>>,
    ) -> Tensor<4> {
        let device = x.device();
        let product = |operands, options| {
            let norm = self.own_norm().map(|norm| norm.in_evaluation(&device));
            let following = Following {
                norm,
                added: shortcut.map(|shortcut| shortcut()),
                activation: match self.relu {
                    Some(_) => Activation::Relu,
                    None => Activation::Identity,
                },
            };
            conv2d_then(operands, options, following)
        };
        match self.norm {
            Some(norm) if !self.fold.is_off() => folded(self.conv, norm, x, product),
            _ => self.conv.forward_by(x, product),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QConfig;
    use crate::nn::{AddConfig, BatchNormConfig, Conv2dConfig, ReluConfig};
    use crate::quantizers::{
        FormatQuantizerConfig, QuantizerConfig, Selection, measuring, observe,
    };

    #[test]
    fn what_is_seen_or_quantized_between_stays_apart() {
        let device = Device::flex();
        let fixed = FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap());
        let quantized = QConfig::new().with("input", QuantizerConfig::Format(fixed));
        let config = Conv2dConfig::new([2, 3], [1, 1]);
        let conv = config.with_quantization(quantized.clone()).init(&device);
        let norm = BatchNormConfig::new(3).init(&device);
        let (add, relu) = (
            AddConfig::new().init(&device),
            ReluConfig::new().init(&device),
        );
        let x = Tensor::<4>::zeros([1, 2, 4, 4], &device);
        let chain = Chain {
            fold: Fold::Off,
            conv: &conv,
            norm: Some(&norm),
            add: Some(&add),
            relu: Some(&relu),
        };
        assert!(chain.is_one_pass(&x));
        let alone = Chain {
            norm: None,
            add: None,
            relu: None,
            ..chain
        };
        assert!(!alone.is_one_pass(&x), "nothing follows");
        let trained = Tensor::zeros([1, 2, 4, 4], &device.clone().autodiff());
        assert!(!chain.is_one_pass(&trained), "there may be a way back");
        let taps = Taps::attach(&conv, Selection::all());
        assert!(!chain.is_one_pass(&x), "a tap sees each result");
        drop(taps);
        let add = AddConfig::new().with_quantization(quantized).init(&device);
        let add = Some(&add);
        assert!(
            !Chain { add, ..chain }.is_one_pass(&x),
            "its inputs are rounded"
        );
    }

    /// What may be one pass, and each thing alone that keeps it apart.
    #[test]
    fn every_reason_keeps_it_apart() {
        let device = Device::flex();
        let x = Tensor::<4>::zeros([1, 2, 4, 4], &device);
        let fixed = FormatQuantizerConfig::new("fixed(8,2)".parse().unwrap());
        let in_slot =
            |slot: &str| QConfig::new().with(slot, QuantizerConfig::Format(fixed.clone()));
        let conv = |config: QConfig| {
            let conv = Conv2dConfig::new([2, 3], [1, 1]).with_quantization(config);
            conv.init(&device)
        };
        let norm = |config: QConfig| {
            let norm = BatchNormConfig::new(3).with_quantization(config);
            norm.init(&device)
        };
        let relu = |config: QConfig| ReluConfig::new().with_quantization(config).init(&device);
        let plain = (
            conv(QConfig::new()),
            norm(QConfig::new()),
            relu(QConfig::new()),
        );
        let chain = Chain {
            fold: Fold::Off,
            conv: &plain.0,
            norm: Some(&plain.1),
            add: None,
            relu: Some(&plain.2),
        };
        for fold in [Fold::Off, Fold::Training, Fold::Merged] {
            assert!(Chain { fold, ..chain }.is_one_pass(&x), "{fold:?}");
        }
        assert!(
            Chain {
                norm: None,
                ..chain
            }
            .is_one_pass(&x)
        );
        let gamma = norm(in_slot("gamma"));
        assert!(
            Chain {
                norm: Some(&gamma),
                ..chain
            }
            .is_one_pass(&x)
        );
        for slot in ["input", "output", "mean", "deviation", "normalized"] {
            let norm = norm(in_slot(slot));
            let norm = Some(&norm);
            assert!(!Chain { norm, ..chain }.is_one_pass(&x), "norm {slot}");
            // Folded, its slots are not passed.
            let fold = Fold::Training;
            assert!(
                Chain {
                    norm,
                    fold,
                    ..chain
                }
                .is_one_pass(&x),
                "folded {slot}"
            );
        }
        for slot in ["input", "output"] {
            let relu = relu(in_slot(slot));
            let relu = Some(&relu);
            assert!(!Chain { relu, ..chain }.is_one_pass(&x), "relu {slot}");
        }
        let integers = in_slot("input").with("weight", in_slot("input").get("input").cloned());
        for config in [
            in_slot("output"),
            integers.with_accumulator(16),
            QConfig::new().with_accumulate(Some("e6m9 chunk 64".parse().unwrap())),
        ] {
            let conv = conv(config.clone());
            assert!(
                !Chain {
                    conv: &conv,
                    ..chain
                }
                .is_one_pass(&x),
                "{config:?}"
            );
        }
        let is_one_pass = || chain.is_one_pass(&x);
        let (mut observed, mut measured) = (true, true);
        observe(|| observed = is_one_pass());
        measuring(|| measured = is_one_pass());
        assert!(!observed && !measured, "every tensor is counted");
    }
}
