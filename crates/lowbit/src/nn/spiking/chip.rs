//! Neurons in the integers of neuromorphic chips.
//!
//! A network with 8-bit weights `fixed(8,f)` ([`Chip::weight`]) before the neurons that are made here
//! computes the chip's integers times `2^-f`, in training and in test; there is nothing to convert.
//! What a chip adds up event by event is one sum here: where such a sum saturates on its way, and
//! only there, the chip's is another.

use lowbit_formats::Format;

use super::cuba_lif::CubaLifConfig;
use super::decay::DecayConfig;
use super::iaf::IafConfig;
use super::lif::LifConfig;
use crate::config::QConfig;
use crate::ops::{Firing, Leak, LeakRounding, Overflow, Reset};
use crate::quantizers::{FormatQuantizerConfig, QuantizerConfig, Slot};

/// A neuromorphic chip, by its arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    /// SynSense's Xylo: weights of 8 bits; states and thresholds of 16; decays by shifts of 0 to 15,
    /// after which a small state still loses one; at most 31 spikes a step, subtracted. As Rockpool's
    /// XyloSim computes them.
    Xylo,
    /// SynSense's Speck and DynapCNN: weights of 8 bits, states and thresholds of 16, no decay.
    Speck,
    /// Intel's Loihi as lava-dl simulates it: weights of 8 bits, states of 24, decays in 4096ths,
    /// rounded toward zero; a single spike above the threshold, after which a membrane is zero.
    Loihi,
}

impl Chip {
    /// The slot `weight` of what the neurons read, with `fraction` bits after the point.
    pub fn weight(self, fraction: i32) -> QuantizerConfig {
        format(&format!("fixed(8,{fraction})"))
    }

    /// The slots of the neurons, which go with weights of as many bits after the point.
    pub fn slots(self, fraction: i32) -> QConfig {
        let bits = match self {
            Self::Xylo | Self::Speck => 16,
            Self::Loihi => 24,
        };
        let integers = format(&format!("fixed({bits},{fraction})"));
        let slots = QConfig::new()
            .with(Slot::STATE, integers.clone())
            .with(Slot::THRESHOLD, integers);
        match self {
            Self::Xylo => slots.with(Slot::ALPHA, format(&shifts())),
            Self::Speck => slots,
            Self::Loihi => slots.with(Slot::ALPHA, format("ufixed(13,12)")),
        }
    }

    /// Xylo's hidden neurons: `i = L(i + x)`, `v = L(v) + i`. Its output neurons fire once a step
    /// (`most_spikes` 1).
    pub fn xylo(mem: DecayConfig, syn: DecayConfig, fraction: i32) -> LifConfig {
        let firing = Firing {
            most_spikes: 31,
            ..Firing::default()
        };
        LifConfig::new(mem)
            .with_syn(Some(syn))
            .with_norm_input(false)
            .with_firing(firing)
            .with_leak(Leak::ShiftToZero)
            .with_quantization(Self::Xylo.slots(fraction))
    }

    /// Speck's neurons: `v = v + x`.
    pub fn speck(fraction: i32) -> IafConfig {
        IafConfig::new().with_quantization(Self::Speck.slots(fraction))
    }

    /// Loihi's neurons: `i = L(i) + x`, `v = L(v) + i`.
    pub fn loihi(syn: DecayConfig, mem: DecayConfig, fraction: i32) -> CubaLifConfig {
        let firing = Firing {
            above: true,
            reset: Reset::To(0.0),
            ..Firing::default()
        };
        CubaLifConfig::new(syn, mem)
            .with_firing(firing)
            .with_leak(Leak::Product(LeakRounding::TowardZero))
            .with_overflow(Overflow::Wrap)
            .with_quantization(Self::Loihi.slots(fraction))
    }
}

/// The decays `1 - 2^-k` of shifts by `k` from 0 to 15.
fn shifts() -> String {
    let decays = (0..16).map(|k| (1.0 - 0.5f64.powi(k)).to_string());
    format!("table({})", decays.collect::<Vec<_>>().join(","))
}

fn format(text: &str) -> QuantizerConfig {
    let format: Format = text.parse().expect("a format");
    QuantizerConfig::Format(FormatQuantizerConfig::new(format))
}
