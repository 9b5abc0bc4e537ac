//! Leaky integrators.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::decay::{Decay, DecayConfig};
use super::dynamics::{Dynamics, Fields, OnGrid, describe, through_time};
use super::state::NeuronState;
use crate::Error;
use crate::config::{Describe, Description, QConfig};
use crate::ops::{Gain, Leak, LeakRounding, Neuron, Overflow};
use crate::quantizers::{Quantizers, Slot};

/// Configuration of an [`ExpLeak`].
#[derive(Config, Debug)]
pub struct ExpLeakConfig {
    /// How the membrane decays.
    pub mem: DecayConfig,
    /// How the current decays, where there is a synapse.
    pub syn: Option<DecayConfig>,
    /// Whether the membrane takes `1 - alpha` of the current, so that a constant one is what it ends at.
    #[config(default = true)]
    pub norm_input: bool,
    /// The least potential after a reset.
    pub min_v: Option<f32>,
    /// How a state decays where the slot `state` makes it integers.
    #[config(default = "Leak::Product(LeakRounding::Nearest)")]
    pub leak: Leak,
    /// What becomes of one beyond the range of these.
    #[config(default = "Overflow::Saturate")]
    pub overflow: Overflow,
    /// What is quantized; the slots are
    /// `input`, `output`, `tau`, `alpha`, `state`, `error` and `gradient`.
    #[config(default = "QConfig::default()")]
    pub quantization: QConfig,
}

/// Leaky integrators, which do not fire and hand their potential on:
/// `v = alpha v + (1 - alpha) i`. Built by [`ExpLeakConfig`]. With a synapse, `i = alpha_syn (i + x)`.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::{DecayConfig, ExpLeakConfig};
///
/// let leak = ExpLeakConfig::new(DecayConfig::alpha(0.5)).init(&Device::flex());
/// let x = Tensor::<3>::from_floats([[[1.0], [1.0], [0.0]]], &Device::flex());
/// let potentials = leak.forward(x);
/// assert_eq!(potentials.into_data().try_to_vec::<f32>().unwrap(), [0.5, 0.75, 0.375]);
/// ```
#[derive(Module, Debug)]
pub struct ExpLeak {
    /// How the membrane decays.
    pub mem: Decay,
    /// How the current decays, where there is a synapse.
    pub syn: Option<Decay>,
    #[module(skip)]
    neuron: Neuron,
    #[module(skip)]
    on_grid: OnGrid,
    /// The layer's quantizers.
    pub quantizers: Quantizers,
}

impl ExpLeakConfig {
    /// Builds the layer.
    ///
    /// # Panics
    /// With the one line of [`check`](Describe::check) where that is an error.
    pub fn init(&self, device: &Device) -> ExpLeak {
        let quantizers = self.init_quantizers(device);
        ExpLeak {
            mem: self.mem.init(device),
            syn: self.syn.as_ref().map(|syn| syn.init(device)),
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
            adaptation: None,
            firing: None,
            min_potential: self.min_v,
            grid: None,
        }
    }
}

impl Describe for ExpLeakConfig {
    fn describe(&self) -> Description {
        let slots = [Slot::TAU, Slot::ALPHA];
        describe("ExpLeak", &slots, None).leaving_grid()
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
            min_v: self.min_v,
            ..Fields::default()
        };
        fields.check()
    }
}

through_time!(ExpLeak, "potentials");

impl ExpLeak {
    pub(crate) fn dynamics(&self) -> Dynamics<'_> {
        Dynamics {
            neuron: self.neuron,
            on_grid: self.on_grid,
            mem: Some(&self.mem),
            syn: self.syn.as_ref(),
            adapt: None,
            threshold: None,
            weight: None,
            quantizers: &self.quantizers,
        }
    }
}
