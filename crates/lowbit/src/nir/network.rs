//! A graph that computes.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::convention::Convention;
use super::fields::{
    bias, count, field, flattened, groups, numbers, padded, reached, shapes, sizes, weight, whole,
};
use super::graph::Graph;
use super::order::{Place, in_order};
use crate::Error;
use crate::config::Describe;
use crate::nn::{
    AvgPool2d, AvgPool2dConfig, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, CubaLif, CubaLifConfig,
    Decay, DecayConfig, ExpLeak, ExpLeakConfig, FiringThresholdConfig, Iaf, IafConfig, Lif,
    LifConfig, Linear, LinearConfig, SumPool2d, SumPool2dConfig,
};
use crate::ops::{Firing, Reset};

/// The layers of a graph. Built by [`Network::new`].
#[derive(Module, Debug)]
pub struct Network {
    stages: Vec<Stage>,
    /// The one that is the graph's output.
    #[module(skip)]
    output: usize,
}

/// A node as a layer.
#[derive(Module, Debug)]
struct Stage {
    /// None of a node that hands on what it reads.
    layer: Option<Layer>,
    /// Multiplies what neurons read, one for each.
    scale: Option<Param<Tensor<1>>>,
    /// A current into each in every step: the bias of recurrent weights.
    current: Option<Param<Tensor<1>>>,
    #[module(skip)]
    place: StagePlace,
}

#[derive(Debug, Clone)]
struct StagePlace {
    name: String,
    sources: Vec<usize>,
    /// Of what it hands on, without batch and time.
    shape: Vec<usize>,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has few")]
enum Layer {
    Linear(Linear),
    Conv1d(Conv1d),
    Conv2d(Conv2d),
    SumPool2d(SumPool2d),
    AvgPool2d(AvgPool2d),
    Iaf(Iaf),
    Lif(Lif),
    CubaLif(CubaLif),
    ExpLeak(ExpLeak),
}

impl Network {
    /// The layers of a graph whose input has the shape that its `Input` says.
    ///
    /// # Errors
    /// If a node is of a type, or has a field, that no layer here has; the error names the node.
    pub fn new(graph: &Graph, convention: &Convention, device: &Device) -> Result<Self, Error> {
        convention.check()?;
        let wrong = |message| Error::config("graph", message);
        let places = in_order(graph).map_err(wrong)?;
        let mut stages: Vec<Stage> = Vec::new();
        let mut output = 0;
        for place in places {
            let read = place.sources.iter().map(|&source| &stages[source].place);
            let builder = Builder {
                place: &place,
                convention,
                device,
            };
            let built = builder.read(read).and_then(|input| builder.build(input));
            let built = built.map_err(|message| Error::config(place.name.clone(), message))?;
            if place.node.kind == "Output" && graph.nodes.contains_key(&place.name) {
                output = stages.len();
            }
            stages.push(Stage {
                layer: built.layer,
                scale: built.scale,
                current: built.current,
                place: StagePlace {
                    name: place.name,
                    sources: place.sources,
                    shape: built.shape,
                },
            });
        }
        Ok(Self { stages, output })
    }

    /// What the graph's output is.
    ///
    /// # Shapes
    /// - `input`: `[batch, time, ...]`
    /// - result: `[batch, time, features]`
    ///
    /// # Panics
    /// If the input has another shape than the graph says.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<3> {
        let mut made = self.trace(input);
        let output = &self.stages[self.output].place.name;
        made.remove(output).expect("a graph has an output")
    }

    /// What every node hands on, by name, `[batch, time, features]`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn trace<const D: usize>(&self, input: Tensor<D>) -> BTreeMap<String, Tensor<3>> {
        let [batch, time] = [input.dims()[0], input.dims()[1]];
        let input: Tensor<2> = input.reshape([(batch * time) as i32, -1]);
        let mut made: Vec<Tensor<2>> = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let mut sources = stage
                .place
                .sources
                .iter()
                .map(|&source| made[source].clone());
            let first = sources.next().unwrap_or_else(|| input.clone());
            let x = sources.fold(first, |sum, x| sum + x);
            let shape = match stage.place.sources.first() {
                Some(&source) => &self.stages[source].place.shape,
                None => &stage.place.shape,
            };
            made.push(stage.forward(x, shape, time));
        }
        let names = self.stages.iter().map(|stage| stage.place.name.clone());
        let unfolded = made.into_iter().map(|x| {
            let [_, features] = x.dims();
            x.reshape([batch, time, features])
        });
        names.zip(unfolded).collect()
    }
}

impl Stage {
    /// `[batch * time, features]` in and out; `shape` is that of the features that go in.
    fn forward(&self, x: Tensor<2>, shape: &[usize], time: usize) -> Tensor<2> {
        let x = match &self.scale {
            Some(scale) => x * scale.val().unsqueeze(),
            None => x,
        };
        let x = match &self.current {
            Some(current) => x + current.val().unsqueeze(),
            None => x,
        };
        let [rows, _] = x.dims();
        let image = |x: Tensor<2>| -> Tensor<4> { x.reshape([rows, shape[0], shape[1], shape[2]]) };
        match &self.layer {
            None => x,
            Some(Layer::Linear(layer)) => layer.forward(x),
            Some(Layer::Conv1d(layer)) => layer
                .forward(x.reshape([rows, shape[0], shape[1]]))
                .flatten(1, 2),
            Some(Layer::Conv2d(layer)) => layer.forward(image(x)).flatten(1, 3),
            Some(Layer::SumPool2d(layer)) => layer.forward(image(x)).flatten(1, 3),
            Some(Layer::AvgPool2d(layer)) => layer.forward(image(x)).flatten(1, 3),
            Some(Layer::Iaf(layer)) => layer.forward_folded(x, time),
            Some(Layer::Lif(layer)) => layer.forward_folded(x, time),
            Some(Layer::CubaLif(layer)) => layer.forward_folded(x, time),
            Some(Layer::ExpLeak(layer)) => layer.forward_folded(x, time),
        }
    }
}

/// Makes a node's layer.
struct Builder<'a> {
    place: &'a Place<'a>,
    convention: &'a Convention,
    device: &'a Device,
}

/// A node's layer, and what is done around it.
struct Built {
    layer: Option<Layer>,
    /// What its input is multiplied by, and what is added then.
    scale: Option<Param<Tensor<1>>>,
    current: Option<Param<Tensor<1>>>,
    /// Of its output, without batch and time.
    shape: Vec<usize>,
}

impl Built {
    fn new(layer: Option<Layer>, shape: Vec<usize>) -> Self {
        Self {
            layer,
            scale: None,
            current: None,
            shape,
        }
    }
}

impl Builder<'_> {
    /// The shape of what it reads, which is the same from every source.
    fn read<'a>(
        &self,
        sources: impl Iterator<Item = &'a StagePlace>,
    ) -> Result<Vec<usize>, String> {
        let mut found: Option<&StagePlace> = None;
        for source in sources {
            if let Some(first) = found.filter(|first| first.shape != source.shape) {
                return Err(format!(
                    "reads {} of shape {:?} and {} of shape {:?}",
                    first.name, first.shape, source.name, source.shape
                ));
            }
            found = found.or(Some(source));
        }
        Ok(found.map_or_else(Vec::new, |source| source.shape.clone()))
    }

    fn build(&self, input: Vec<usize>) -> Result<Built, String> {
        let node = self.place.node;
        match node.kind.as_str() {
            "Input" if self.place.sources.is_empty() => {
                let shape = sizes(node, "shape", 1)?;
                count(&shape)?;
                Ok(Built::new(None, shape))
            }
            "Input" | "Output" => Ok(Built::new(None, input)),
            "Flatten" => Ok(Built::new(None, flattened(node, &input)?)),
            "Affine" | "Linear" => self.linear(&input),
            "Conv1d" => self.conv1d(&input),
            "Conv2d" => self.conv2d(&input),
            "SumPool2d" | "AvgPool2d" => self.pool(&input),
            "Scale" => {
                let scale = self.each("scale", count(&input)?)?;
                Ok(Built {
                    scale: Some(self.vector(scale)),
                    ..Built::new(None, input)
                })
            }
            _ => self.neurons(input),
        }
    }

    fn linear(&self, input: &[usize]) -> Result<Built, String> {
        let node = self.place.node;
        let ([outputs, inputs], values) = weight(node)?;
        if count(input)? != inputs {
            return Err(shapes(&[outputs, inputs], input));
        }
        let config = LinearConfig::new(inputs, outputs).with_bias(node.kind == "Affine");
        let mut layer = config.init(self.device);
        let weight: Tensor<2> = self.vector(values).val().reshape([outputs, inputs]);
        layer.weight = Param::from_tensor(weight.transpose());
        if let Some(own) = &mut layer.bias {
            *own = self.vector(bias(node, outputs)?);
        }
        Ok(Built::new(Some(Layer::Linear(layer)), vec![outputs]))
    }

    fn conv1d(&self, input: &[usize]) -> Result<Built, String> {
        let node = self.place.node;
        let &[inputs, length] = input else {
            return Err(shapes(&field(node, "weight")?.shape, input));
        };
        let (dims @ [outputs, _, size], values) = weight::<3>(node)?;
        let [stride] = whole(node, "stride", 1)?;
        let [dilation] = whole(node, "dilation", 1)?;
        let [padding] = padded(node, [size], [dilation])?;
        let length = reached(length, padding, dilation * (size - 1) + 1, stride)?;
        let mut layer = Conv1dConfig::new(inputs, outputs, size)
            .with_stride(stride)
            .with_dilation(dilation)
            .with_groups(groups(node, &dims, input)?)
            .with_padding(burn::nn::PaddingConfig1d::Explicit(padding, padding))
            .init(self.device);
        layer.weight = Param::from_tensor(self.vector(values).val().reshape(dims));
        layer.bias = Some(self.vector(bias(node, outputs)?));
        Ok(Built::new(
            Some(Layer::Conv1d(layer)),
            vec![outputs, length],
        ))
    }

    fn conv2d(&self, input: &[usize]) -> Result<Built, String> {
        let node = self.place.node;
        let &[inputs, height, width] = input else {
            return Err(shapes(&field(node, "weight")?.shape, input));
        };
        let (dims @ [outputs, _, rows, columns], values) = weight::<4>(node)?;
        let stride = whole(node, "stride", 1)?;
        let dilation = whole(node, "dilation", 1)?;
        let [top, left] = padded(node, [rows, columns], dilation)?;
        let side = |size, padding, kernel, d: usize| {
            reached(size, padding, dilation[d] * (kernel - 1) + 1, stride[d])
        };
        let shape = vec![
            outputs,
            side(height, top, rows, 0)?,
            side(width, left, columns, 1)?,
        ];
        let mut layer = Conv2dConfig::new([inputs, outputs], [rows, columns])
            .with_stride(stride)
            .with_dilation(dilation)
            .with_groups(groups(node, &dims, input)?)
            .with_padding(burn::nn::PaddingConfig2d::Explicit(top, left, top, left))
            .init(self.device);
        layer.weight = Param::from_tensor(self.vector(values).val().reshape(dims));
        layer.bias = Some(self.vector(bias(node, outputs)?));
        Ok(Built::new(Some(Layer::Conv2d(layer)), shape))
    }

    fn pool(&self, input: &[usize]) -> Result<Built, String> {
        let node = self.place.node;
        let &[channels, height, width] = input else {
            return Err(shapes(&[], input));
        };
        let size: [usize; 2] = whole(node, "kernel_size", 1)?;
        let stride: [usize; 2] = whole(node, "stride", 1)?;
        let padding: [usize; 2] = whole(node, "padding", 0)?;
        if padding != [0, 0] {
            return Err(format!("padding is {padding:?}, expected none"));
        }
        let layer = match node.kind.as_str() {
            "SumPool2d" => {
                let config = SumPool2dConfig::new(size).with_strides(stride);
                Layer::SumPool2d(config.init(self.device))
            }
            _ => {
                let config = AvgPool2dConfig::new(size).with_strides(stride);
                Layer::AvgPool2d(config.init(self.device))
            }
        };
        let side = |n, d: usize| reached(n, 0, size[d], stride[d]);
        let shape = vec![channels, side(height, 0)?, side(width, 1)?];
        Ok(Built::new(Some(layer), shape))
    }

    /// A layer of neurons with the fields of its node, one of each for every neuron.
    fn neurons(&self, input: Vec<usize>) -> Result<Built, String> {
        let node = self.place.node;
        let count = count(&input)?;
        self.check_leak(count)?;
        let layer = match node.kind.as_str() {
            "IF" => Layer::Iaf(self.iaf(count)?),
            "LIF" | "Threshold" => Layer::Lif(self.lif(count)?),
            "CubaLIF" => Layer::CubaLif(self.cuba_lif(count)?),
            "LI" => Layer::ExpLeak(self.exp_leak(count)?),
            other => return Err(format!("is a {other}, which no layer is")),
        };
        let scale = self.scale(count)?;
        let (layer, bias) = self.with_recurrent(layer, count, scale.as_deref())?;
        Ok(Built {
            scale: scale.map(|scale| self.vector(scale)),
            current: bias.map(|bias| self.vector(bias)),
            ..Built::new(Some(layer), input)
        })
    }

    fn iaf(&self, count: usize) -> Result<Iaf, String> {
        let threshold = self.positive("v_threshold", count)?;
        let least = threshold.iter().copied().fold(f64::INFINITY, f64::min);
        let config = IafConfig::new()
            .with_threshold(thresholds(count))
            .with_firing(self.firing(count)?)
            .with_min_v(self.convention.limits_if.then_some(-least as f32));
        checked(&config)?;
        let mut layer = config.init(self.device);
        layer.threshold = self.vector(threshold);
        Ok(layer)
    }

    /// A `LIF`, or a `Threshold`, which keeps nothing.
    fn lif(&self, count: usize) -> Result<Lif, String> {
        let leaks = self.place.node.kind == "LIF";
        let (at, firing) = match leaks {
            true => ("v_threshold", self.firing(count)?),
            false => ("threshold", self.comparing()),
        };
        let threshold = self.positive(at, count)?;
        let config = LifConfig::new(decay(count))
            .with_threshold(thresholds(count))
            .with_firing(firing)
            .with_norm_input(false);
        checked(&config)?;
        let mut layer = config.init(self.device);
        layer.threshold = self.vector(threshold);
        if leaks {
            self.set(&mut layer.mem, self.decays("tau", count)?);
        }
        Ok(layer)
    }

    fn cuba_lif(&self, count: usize) -> Result<CubaLif, String> {
        let threshold = self.positive("v_threshold", count)?;
        let config = CubaLifConfig::new(decay(count), decay(count))
            .with_threshold(thresholds(count))
            .with_firing(self.firing(count)?);
        checked(&config)?;
        let mut layer = config.init(self.device);
        layer.threshold = self.vector(threshold);
        self.set(&mut layer.mem, self.decays("tau_mem", count)?);
        self.set(&mut layer.syn, self.decays("tau_syn", count)?);
        Ok(layer)
    }

    fn exp_leak(&self, count: usize) -> Result<ExpLeak, String> {
        let config = ExpLeakConfig::new(decay(count)).with_norm_input(false);
        let mut layer = config.init(self.device);
        self.set(&mut layer.mem, self.decays("tau", count)?);
        Ok(layer)
    }

    fn check_leak(&self, count: usize) -> Result<(), String> {
        let there = self.place.node.fields.contains_key("v_leak");
        if there && self.each("v_leak", count)?.iter().any(|&v| v != 0.0) {
            return Err("v_leak is not 0, which no layer has".into());
        }
        Ok(())
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
        if self.place.node.kind == "IF" && self.convention.scales_if {
            multiply(vec![dt; count]);
        }
        let is_one = scale.iter().all(|s| (s - 1.0).abs() < 1e-6);
        Ok((!is_one).then_some(scale))
    }

    /// A number for each neuron; one is that of all.
    fn each(&self, name: &str, count: usize) -> Result<Vec<f64>, String> {
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

    fn vector(&self, values: Vec<f64>) -> Param<Tensor<1>> {
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        Param::from_tensor(Tensor::from_floats(values.as_slice(), self.device))
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
fn checked(config: &impl Describe) -> Result<(), String> {
    config.check().map_err(|error| error.to_string())
}
