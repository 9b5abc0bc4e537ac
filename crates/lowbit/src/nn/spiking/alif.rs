//! Leaky neurons with a threshold that adapts.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::decay::{Decay, DecayConfig};
use super::dynamics::{
    Dynamics, Fields, OnGrid, describe, recurrent_weight, share_scale, through_time,
};
use super::state::NeuronState;
use super::threshold::FiringThresholdConfig;
use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops::{Adaptation, Firing, Gain, Leak, LeakRounding, Neuron, Overflow};
use crate::quantizers::{Quantizers, SharedScale, Slot};

/// Configuration of an [`Alif`].
#[derive(Config, Debug)]
pub struct AlifConfig {
    /// How the membrane decays.
    pub mem: DecayConfig,
    /// How the adaptation decays.
    pub adapt: DecayConfig,
    /// How the current decays, where there is a synapse.
    pub syn: Option<DecayConfig>,
    /// Whether the membrane takes `1 - alpha` of the current, so that a constant one is what it ends at.
    #[config(default = true)]
    pub norm_input: bool,
    /// What the threshold takes of the adaptation.
    #[config(default = 1.8)]
    pub adapt_scale: f32,
    /// At which potential it fires.
    #[config(default = "FiringThresholdConfig::new(1.0)")]
    pub threshold: FiringThresholdConfig,
    /// How it fires.
    #[config(default = "Firing::default()")]
    pub firing: Firing,
    /// The least potential after a reset.
    pub min_v: Option<f32>,
    /// Neurons of a sample, where each reads the spikes of all in the step before.
    pub recurrent: Option<usize>,
    /// How a state decays where the slot `state` makes it integers.
    #[config(default = "Leak::Product(LeakRounding::Nearest)")]
    pub leak: Leak,
    /// What becomes of one beyond the range of these.
    #[config(default = "Overflow::Saturate")]
    pub overflow: Overflow,
    /// What is quantized; the slots are
    /// `input`, `weight` where it is recurrent, `output`, `tau`, `alpha`, `threshold`, `state`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Adaptive leaky integrate-and-fire neurons (Bellec et al., arXiv 1803.09574): a [`Lif`](super::Lif)
/// whose threshold is `threshold + adapt_scale b`, where `b = alpha_adapt b + (1 - alpha_adapt) z`
/// follows its spikes `z`. Built by [`AlifConfig`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{AlifConfig, DecayConfig};
///
/// let config = AlifConfig::new(DecayConfig::alpha(0.0), DecayConfig::alpha(0.5));
/// let neurons = config.init(&Device::flex());
/// let x = Tensor::<3>::from_floats([[[1.0], [1.0], [2.0]]], &Device::flex());
/// // The spike lifts the threshold to 1 + 1.8 / 2; the next step lets it fall to 1.45.
/// let spikes = neurons.forward(x);
/// assert_eq!(spikes.into_data().try_to_vec::<f32>().unwrap(), [1.0, 0.0, 1.0]);
/// ```
#[derive(Module, Debug)]
pub struct Alif {
    /// How the membrane decays.
    pub mem: Decay,
    /// How the current decays, where there is a synapse.
    pub syn: Option<Decay>,
    /// How the adaptation decays.
    pub adapt: Decay,
    /// `[1]` or `[neurons]`
    pub threshold: Param<Tensor<1>>,
    /// `[neurons, neurons]`, where it is recurrent.
    pub weight: Option<Param<Tensor<2>>>,
    #[module(skip)]
    neuron: Neuron,
    #[module(skip)]
    on_grid: OnGrid,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl AlifConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Alif {
        let quantizers = self.init_quantizers(device);
        Alif {
            mem: self.mem.init(device),
            syn: self.syn.as_ref().map(|syn| syn.init(device)),
            adapt: self.adapt.init(device),
            threshold: self.threshold.init(device),
            weight: recurrent_weight(self.recurrent, device),
            neuron: self.neuron(),
            on_grid: OnGrid::new(self.leak, self.overflow),
            quantizers,
        }
    }

    /// What a step does.
    fn neuron(&self) -> Neuron {
        Neuron {
            gain: if self.norm_input {
                Gain::Rest
            } else {
                Gain::One
            },
            synapse: self.syn.as_ref().map(|_| Gain::Decay),
            adaptation: Some(Adaptation {
                gain: Gain::Rest,
                strength: self.adapt_scale,
            }),
            firing: Some(self.firing),
            min_potential: self.min_v,
            grid: None,
        }
    }
}

impl Describe for AlifConfig {
    fn describe(&self) -> Description {
        let slots = [Slot::TAU, Slot::ALPHA, Slot::THRESHOLD];
        describe("Alif", &slots, self.recurrent)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        let fields = Fields {
            mem: Some(&self.mem),
            syn: self.syn.as_ref(),
            adapt: Some(&self.adapt),
            threshold: Some(&self.threshold),
            firing: Some(&self.firing),
            recurrent: self.recurrent,
            min_v: self.min_v,
        };
        fields.check()
    }
}

through_time!(Alif, "spikes");
share_scale!(Alif);

impl Alif {
    fn dynamics(&self) -> Dynamics<'_> {
        Dynamics {
            neuron: self.neuron,
            on_grid: self.on_grid,
            mem: Some(&self.mem),
            syn: self.syn.as_ref(),
            adapt: Some(&self.adapt),
            threshold: Some(&self.threshold),
            weight: self.weight.as_ref(),
            quantizers: &self.quantizers,
        }
    }
}
