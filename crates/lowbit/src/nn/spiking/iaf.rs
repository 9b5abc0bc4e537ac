//! Integrate-and-fire neurons.

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
use crate::ops::{Firing, Gain, Leak, LeakRounding, Neuron, Overflow};
use crate::quantizers::{Quantizers, SharedScale, Slot};

/// Configuration of an [`Iaf`].
#[derive(Config, Debug)]
pub struct IafConfig {
    /// How the current decays, where there is a synapse.
    pub syn: Option<DecayConfig>,
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

/// Integrate-and-fire neurons: `v = v + i`, a spike where `v` reaches the threshold, which is
/// subtracted. Built by [`IafConfig`]. With a synapse, `i = alpha_syn (i + x)`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::IafConfig;
///
/// let neurons = IafConfig::new().init(&Device::flex());
/// let x = Tensor::<3>::from_floats([[[0.4], [0.4], [0.4]]], &Device::flex());
/// // 0.4, 0.8, 1.2: the third step fires.
/// let spikes = neurons.forward(x);
/// assert_eq!(spikes.into_data().try_to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0]);
/// ```
#[derive(Module, Debug)]
pub struct Iaf {
    /// How the current decays, where there is a synapse.
    pub syn: Option<Decay>,
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

impl IafConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> Iaf {
        let quantizers = self.init_quantizers(device);
        Iaf {
            syn: self.syn.as_ref().map(|syn| syn.init(device)),
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
            gain: Gain::One,
            synapse: self.syn.as_ref().map(|_| Gain::Decay),
            adaptation: None,
            firing: Some(self.firing),
            min_potential: self.min_v,
            grid: None,
        }
    }
}

impl Describe for IafConfig {
    fn describe(&self) -> Description {
        let slots = [Slot::TAU, Slot::ALPHA, Slot::THRESHOLD];
        describe("Iaf", &slots, self.recurrent)
    }

    fn quantization(&self) -> &QConfig {
        &self.quantization
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        &mut self.quantization
    }

    fn check_fields(&self) -> Result<(), Error> {
        let fields = Fields {
            syn: self.syn.as_ref(),
            threshold: Some(&self.threshold),
            firing: Some(&self.firing),
            recurrent: self.recurrent,
            min_v: self.min_v,
            ..Fields::default()
        };
        fields.check()
    }
}

through_time!(Iaf, "spikes");
share_scale!(Iaf);

impl Iaf {
    pub(crate) fn dynamics(&self) -> Dynamics<'_> {
        Dynamics {
            neuron: self.neuron,
            on_grid: self.on_grid,
            mem: None,
            syn: self.syn.as_ref(),
            adapt: None,
            threshold: Some(&self.threshold),
            weight: self.weight.as_ref(),
            quantizers: &self.quantizers,
        }
    }
}
