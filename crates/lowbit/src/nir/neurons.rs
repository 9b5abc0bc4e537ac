//! A graph's neurons as layers.

use burn::module::Param;
use burn::tensor::Tensor;

use super::convention::Convention;
use super::fields::{bias, count, numbers, weight};
use super::formats::formats;
use super::network::{Builder, Built, Layer};
use crate::config::{Describe, QConfig};
use crate::nn::{
    CubaLif, CubaLifConfig, Decay, DecayConfig, ExpLeak, ExpLeakConfig, FiringThresholdConfig, Iaf,
    IafConfig, Lif, LifConfig,
};
use crate::ops::{Firing, Reset};
use crate::quantizers::Slot;

impl Builder<'_> {
    /// A layer of neurons with the fields of its node, one of each for every neuron.
    pub(super) fn neurons(&self, input: Vec<usize>) -> Result<Built, String> {
        let node = self.place.node;
        let count = count(&input)?;
        let formats = formats(node)?;
        let read = QConfig::new().with(Slot::INPUT, formats.get(Slot::INPUT).cloned());
        let formats = formats.without(Slot::INPUT);
        let leak = self.leak(count)?;
        // A current that no synapse lets decay comes in behind it.
        let is_apart = node.kind == "CubaLI" || node.kind == "CubaLIF" && leak.is_some();
        let of_synapse = || formats.clone().without(Slot::OUTPUT);
        let synapse = match is_apart {
            true => Some(self.exp_leak("tau_syn", count, of_synapse())?),
            false => None,
        };
        let layer = match node.kind.as_str() {
            "IF" => Layer::Iaf(self.iaf(count, formats)?),
            "LIF" => Layer::Lif(self.lif("tau", count, formats)?),
            "CubaLIF" if is_apart => Layer::Lif(self.lif("tau_mem", count, formats)?),
            "CubaLIF" => Layer::CubaLif(self.cuba_lif(count, formats)?),
            "Threshold" => Layer::Lif(self.threshold(count, formats)?),
            "I" => Layer::ExpLeak(self.integrator(formats)?),
            "LI" => Layer::ExpLeak(self.exp_leak("tau", count, formats)?),
            "CubaLI" => Layer::ExpLeak(self.exp_leak("tau_mem", count, formats)?),
            other => return Err(format!("is a {other}, which no layer is")),
        };
        if is_apart && self.place.recurrent.is_some() {
            return Err("reads itself and has a v_leak, which no layer with a synapse does".into());
        }
        let scale = self.scale(count)?;
        let (layer, bias) = self.with_recurrent(layer, count, scale.as_deref())?;
        let current = match (bias, leak) {
            (Some(bias), Some(leak)) => Some(bias.iter().zip(leak).map(|(b, l)| b + l).collect()),
            (bias, leak) => bias.or(leak),
        };
        Ok(Built {
            read: read.init(None, self.device),
            scale: scale.map(|scale| self.vector(scale)),
            synapse,
            current: current.map(|current| self.vector(current)),
            ..Built::new(Some(layer), input)
        })
    }

    fn iaf(&self, count: usize, formats: QConfig) -> Result<Iaf, String> {
        let threshold = self.positive("v_threshold", count)?;
        let least = threshold.iter().copied().fold(f64::INFINITY, f64::min);
        let config = IafConfig::new()
            .with_threshold(thresholds(count))
            .with_firing(self.firing(count)?)
            .with_min_v(self.convention.limits_if.then_some(-least as f32))
            .with_quantization(formats);
        checked(&config)?;
        let mut layer = config.init(self.device);
        layer.threshold = self.vector(threshold);
        Ok(layer)
    }

    /// Leaky neurons without a synapse, whose time constants are in the field `tau`.
    fn lif(&self, tau: &str, count: usize, formats: QConfig) -> Result<Lif, String> {
        let firing = self.firing(count)?;
        let mut layer = self.firing_at("v_threshold", count, firing, formats)?;
        self.set(&mut layer.mem, self.decays(tau, count)?);
        Ok(layer)
    }

    /// A `Threshold`, which keeps nothing.
    fn threshold(&self, count: usize, formats: QConfig) -> Result<Lif, String> {
        self.firing_at("threshold", count, self.comparing(), formats)
    }

    /// Neurons that keep nothing, and fire at the potentials of a field.
    fn firing_at(
        &self,
        at: &str,
        count: usize,
        firing: Firing,
        formats: QConfig,
    ) -> Result<Lif, String> {
        let threshold = self.positive(at, count)?;
        let config = LifConfig::new(decay(count))
            .with_threshold(thresholds(count))
            .with_firing(firing)
            .with_norm_input(false)
            .with_quantization(formats);
        checked(&config)?;
        let mut layer = config.init(self.device);
        layer.threshold = self.vector(threshold);
        Ok(layer)
    }

    fn cuba_lif(&self, count: usize, formats: QConfig) -> Result<CubaLif, String> {
        let threshold = self.positive("v_threshold", count)?;
        let config = CubaLifConfig::new(decay(count), decay(count))
            .with_threshold(thresholds(count))
            .with_firing(self.firing(count)?)
            .with_quantization(formats);
        checked(&config)?;
        let mut layer = config.init(self.device);
        layer.threshold = self.vector(threshold);
        self.set(&mut layer.mem, self.decays("tau_mem", count)?);
        self.set(&mut layer.syn, self.decays("tau_syn", count)?);
        Ok(layer)
    }

    /// Leaky integrators, whose time constants are in the field `tau`.
    fn exp_leak(&self, tau: &str, count: usize, formats: QConfig) -> Result<ExpLeak, String> {
        let config = ExpLeakConfig::new(decay(count))
            .with_norm_input(false)
            .with_quantization(formats);
        checked(&config)?;
        let mut layer = config.init(self.device);
        self.set(&mut layer.mem, self.decays(tau, count)?);
        Ok(layer)
    }

    /// An `I`, which forgets nothing.
    fn integrator(&self, formats: QConfig) -> Result<ExpLeak, String> {
        let config = ExpLeakConfig::new(DecayConfig::alpha(1.0))
            .with_norm_input(false)
            .with_quantization(formats);
        checked(&config)?;
        Ok(config.init(self.device))
    }

    /// The current by which membranes end at `v_leak` without another: `(1 - alpha) v_leak`. None where
    /// all end at zero.
    fn leak(&self, count: usize) -> Result<Option<Vec<f64>>, String> {
        let node = self.place.node;
        let tau = match node.kind.as_str() {
            "LIF" | "LI" => "tau",
            "CubaLIF" | "CubaLI" => "tau_mem",
            _ => return Ok(None),
        };
        if !node.fields.contains_key("v_leak") {
            return Ok(None);
        }
        let leak = self.each("v_leak", count)?;
        if leak.iter().all(|&v| v == 0.0) {
            return Ok(None);
        }
        let alpha = self.decays(tau, count)?;
        let currents = leak.iter().zip(alpha).map(|(v, alpha)| (1.0 - alpha) * v);
        Ok(Some(currents.collect()))
    }

    /// Gives a layer the weights by which it reads itself, and says the current of their bias. What they
    /// make is an input as any other: it is scaled, too.
    fn with_recurrent(
        &self,
        mut layer: Layer,
        count: usize,
        scale: Option<&[f64]>,
    ) -> Result<(Layer, Option<Vec<f64>>), String> {
        let Some(node) = self.place.recurrent else {
            return Ok((layer, None));
        };
        let ([to, from], mut values) = weight(node)?;
        if [to, from] != [count; 2] {
            let message = format!("recurrent weights of shape {:?}", [to, from]);
            return Err(format!("{message} for {count} neurons"));
        }
        let mut current = match node.kind.as_str() {
            "Affine" => bias(node, count)?,
            _ => vec![0.0; count],
        };
        for (neuron, scale) in scale.into_iter().flatten().enumerate() {
            current[neuron] *= scale;
            let row = &mut values[neuron * count..][..count];
            row.iter_mut().for_each(|w| *w *= scale);
        }
        let weight: Tensor<2> = self.vector(values).val().reshape([count, count]);
        let weight = Some(Param::from_tensor(weight.transpose()));
        match &mut layer {
            Layer::Iaf(layer) => layer.weight = weight,
            Layer::Lif(layer) => layer.weight = weight,
            Layer::CubaLif(layer) => layer.weight = weight,
            _ => return Err("reads itself and does not fire, which no layer does".into()),
        }
        let current = current.iter().any(|&b| b != 0.0).then_some(current);
        Ok((layer, current))
    }

    /// A neuron without a state: a spike where its input reaches the threshold, and nothing to reset.
    fn comparing(&self) -> Firing {
        Firing {
            reset: Reset::None,
            reset_next: false,
            most_spikes: 1,
            ..self.convention.firing
        }
    }

    fn firing(&self, count: usize) -> Result<Firing, String> {
        let node = self.place.node;
        let given = self.convention.firing;
        if !(self.convention.resets_to_v_reset && node.fields.contains_key("v_reset")) {
            return Ok(given);
        }
        let reset = self.each("v_reset", count)?;
        let first = reset.first().copied().unwrap_or(0.0);
        if reset.iter().any(|&v| v != first) {
            return Err("v_reset differs from neuron to neuron, which no layer has".into());
        }
        Ok(Firing {
            reset: Reset::To(first as f32),
            ..given
        })
    }

    /// The decays of the time constants in a field.
    fn decays(&self, name: &str, count: usize) -> Result<Vec<f64>, String> {
        let Convention {
            dt, exponential, ..
        } = *self.convention;
        let decay = |tau: &f64| match exponential {
            true => (-dt / tau).exp(),
            false => 1.0 - dt / tau,
        };
        Ok(self.positive(name, count)?.iter().map(decay).collect())
    }

    fn set(&self, decay: &mut Decay, alpha: Vec<f64>) {
        decay.alpha = Some(self.vector(alpha));
    }

    /// What the currents are multiplied by; none where that is 1 to seven places.
    fn scale(&self, count: usize) -> Result<Option<Vec<f64>>, String> {
        let Convention {
            dt, exponential, ..
        } = *self.convention;
        let fields = &self.place.node.fields;
        let mut scale = vec![1.0; count];
        let mut multiply = |factors: Vec<f64>| {
            scale.iter_mut().zip(factors).for_each(|(s, f)| *s *= f);
        };
        for (factor, tau) in [("r", "tau"), ("r", "tau_mem"), ("w_in", "tau_syn")] {
            if exponential || !fields.contains_key(tau) {
                continue;
            }
            let taus = self.positive(tau, count)?;
            multiply(taus.iter().map(|tau| dt / tau).collect());
            if fields.contains_key(factor) {
                multiply(self.each(factor, count)?);
            }
        }
        if fields.contains_key("r")
            && !["tau", "tau_mem"]
                .iter()
                .any(|tau| fields.contains_key(*tau))
        {
            multiply(self.each("r", count)?);
        }
        if ["IF", "I"].contains(&self.place.node.kind.as_str()) && self.convention.scales_if {
            multiply(vec![dt; count]);
        }
        let is_one = scale.iter().all(|s| (s - 1.0).abs() < 1e-6);
        Ok((!is_one).then_some(scale))
    }

    /// A number for each neuron; one is that of all.
    pub(super) fn each(&self, name: &str, count: usize) -> Result<Vec<f64>, String> {
        let found = numbers(self.place.node, name)?;
        match found.len() {
            1 => Ok(vec![found[0]; count]),
            length if length == count => Ok(found),
            length => Err(format!("{name} has {length} numbers for {count} neurons")),
        }
    }

    /// The same, all of them positive.
    fn positive(&self, name: &str, count: usize) -> Result<Vec<f64>, String> {
        let found = self.each(name, count)?;
        match found.iter().find(|&&x| x as f32 <= 0.0) {
            Some(x) => Err(format!("{name} is {x}, expected positive")),
            None => Ok(found),
        }
    }
}

/// A threshold for each neuron, to be set.
fn thresholds(count: usize) -> FiringThresholdConfig {
    FiringThresholdConfig::new(1.0).with_neurons(Some(count))
}

/// A decay for each neuron, to be set.
fn decay(count: usize) -> DecayConfig {
    DecayConfig::alpha(0.0).with_neurons(Some(count))
}

/// Whether neurons can be what the convention makes of them.
pub(super) fn checked(config: &impl Describe) -> Result<(), String> {
    config.check().map_err(|error| error.to_string())
}
