//! A graph that computes.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::convention::Convention;
use super::graph::{Array, Graph, Node, Values};
use super::order::{Place, in_order};
use crate::Error;
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
}

/// A node as a layer.
#[derive(Module, Debug)]
struct Stage {
    /// None of a node that hands on what it reads.
    layer: Option<Layer>,
    /// Multiplies what neurons read, one for each.
    scale: Option<Param<Tensor<1>>>,
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
        let wrong = |message| Error::config("graph", message);
        let mut stages: Vec<Stage> = Vec::new();
        for place in in_order(graph).map_err(wrong)? {
            let input = match place.sources.first() {
                Some(&source) => stages[source].place.shape.clone(),
                None => Vec::new(),
            };
            let builder = Builder {
                place: &place,
                convention,
                device,
            };
            let built = builder.build(input);
            let (layer, scale, shape) =
                built.map_err(|message| Error::config(place.name.clone(), message))?;
            stages.push(Stage {
                layer,
                scale,
                place: StagePlace {
                    name: place.name,
                    sources: place.sources,
                    shape,
                },
            });
        }
        Ok(Self { stages })
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
        let last = self.stages.iter().rev().find(|stage| stage.layer.is_none());
        let name = last.map(|stage| stage.place.name.as_str());
        made.remove(name.unwrap_or_default())
            .expect("a graph has an output")
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

type Built = (Option<Layer>, Option<Param<Tensor<1>>>, Vec<usize>);

impl Builder<'_> {
    /// The layer, what its input is multiplied by, and the shape of its output.
    fn build(&self, input: Vec<usize>) -> Result<Built, String> {
        let node = self.place.node;
        let plain = |layer, shape| Ok((Some(layer), None, shape));
        match node.kind.as_str() {
            "Input" if self.place.sources.is_empty() => {
                Ok((None, None, sizes(field(node, "shape")?)))
            }
            "Input" | "Output" => Ok((None, None, input)),
            "Flatten" => Ok((None, None, flattened(node, &input)?)),
            "Affine" | "Linear" => {
                let (layer, outputs) = self.linear()?;
                plain(Layer::Linear(layer), vec![outputs])
            }
            "Conv1d" => self.conv1d(&input),
            "Conv2d" => self.conv2d(&input),
            "SumPool2d" | "AvgPool2d" => self.pool(&input),
            "Scale" => {
                let scale = self.vector(numbers(node, "scale")?);
                Ok((None, Some(scale), input))
            }
            _ => self.neurons(input),
        }
    }

    fn linear(&self) -> Result<(Linear, usize), String> {
        let node = self.place.node;
        let weight = field(node, "weight")?;
        let [outputs, inputs] = weight.shape[..] else {
            return Err(format!(
                "weight has the shape {:?}, expected two",
                weight.shape
            ));
        };
        let config = LinearConfig::new(inputs, outputs).with_bias(node.kind == "Affine");
        let mut layer = config.init(self.device);
        let weight: Tensor<2> = self
            .vector(weight.numbers())
            .val()
            .reshape([outputs, inputs]);
        layer.weight = Param::from_tensor(weight.transpose());
        if let Some(bias) = &mut layer.bias {
            *bias = self.vector(numbers(node, "bias")?);
        }
        Ok((layer, outputs))
    }

    fn conv1d(&self, input: &[usize]) -> Result<Built, String> {
        let node = self.place.node;
        let (weight, bias) = (field(node, "weight")?, numbers(node, "bias")?);
        let (&[outputs, group, size], &[inputs, length]) = (&weight.shape[..], input) else {
            return Err(shapes(&weight.shape, input));
        };
        let [stride] = whole(node, "stride", 1)?;
        let [dilation] = whole(node, "dilation", 1)?;
        let [padding] = padded(node, [size], [dilation])?;
        let mut layer = Conv1dConfig::new(inputs, outputs, size)
            .with_stride(stride)
            .with_dilation(dilation)
            .with_groups(groups(node)?)
            .with_padding(burn::nn::PaddingConfig1d::Explicit(padding, padding))
            .init(self.device);
        let weight = self
            .vector(weight.numbers())
            .val()
            .reshape([outputs, group, size]);
        layer.weight = Param::from_tensor(weight);
        layer.bias = Some(self.vector(bias));
        let reach = dilation * (size - 1) + 1;
        let length = reached(length, padding, reach, stride)?;
        Ok((Some(Layer::Conv1d(layer)), None, vec![outputs, length]))
    }

    fn conv2d(&self, input: &[usize]) -> Result<Built, String> {
        let node = self.place.node;
        let (weight, bias) = (field(node, "weight")?, numbers(node, "bias")?);
        let (&[outputs, group, rows, columns], &[inputs, height, width]) =
            (&weight.shape[..], input)
        else {
            return Err(shapes(&weight.shape, input));
        };
        let stride = whole(node, "stride", 1)?;
        let dilation = whole(node, "dilation", 1)?;
        let [top, left] = padded(node, [rows, columns], dilation)?;
        let mut layer = Conv2dConfig::new([inputs, outputs], [rows, columns])
            .with_stride(stride)
            .with_dilation(dilation)
            .with_groups(groups(node)?)
            .with_padding(burn::nn::PaddingConfig2d::Explicit(top, left, top, left))
            .init(self.device);
        let weight = self.vector(weight.numbers()).val();
        layer.weight = Param::from_tensor(weight.reshape([outputs, group, rows, columns]));
        layer.bias = Some(self.vector(bias));
        let side = |size, padding, kernel, d: usize| {
            reached(size, padding, dilation[d] * (kernel - 1) + 1, stride[d])
        };
        let shape = vec![
            outputs,
            side(height, top, rows, 0)?,
            side(width, left, columns, 1)?,
        ];
        Ok((Some(Layer::Conv2d(layer)), None, shape))
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
        Ok((Some(layer), None, shape))
    }

    /// A layer of neurons with the fields of its node, one of each for every neuron.
    fn neurons(&self, input: Vec<usize>) -> Result<Built, String> {
        let node = self.place.node;
        let count: usize = input.iter().product();
        let has = |name: &str| node.fields.contains_key(name);
        let fires = has("v_threshold") || node.kind == "Threshold";
        let threshold = match node.kind.as_str() {
            "Threshold" => Some(self.each("threshold", count)?),
            _ if fires => Some(self.each("v_threshold", count)?),
            _ => None,
        };
        self.check_leak(count)?;
        let firing = self.firing(count)?;
        let recurrent = self.place.recurrent.map(|_| count);
        let decay = || DecayConfig::alpha(0.0).with_neurons(Some(count));
        let membrane = |name: &str| self.decays(name, count);
        let at = FiringThresholdConfig::new(1.0).with_neurons(Some(count));
        let layer = match node.kind.as_str() {
            "IF" => {
                let min = threshold.as_ref().filter(|_| self.convention.limits_if);
                let min = min.map(|t| -t.iter().copied().fold(f64::INFINITY, f64::min) as f32);
                let config = IafConfig::new().with_threshold(at).with_firing(firing);
                Layer::Iaf(
                    config
                        .with_min_v(min)
                        .with_recurrent(recurrent)
                        .init(self.device),
                )
            }
            "LIF" | "Threshold" => {
                let config = LifConfig::new(decay())
                    .with_threshold(at)
                    .with_firing(firing);
                let config = config.with_norm_input(false).with_recurrent(recurrent);
                let mut layer = config.init(self.device);
                if node.kind == "LIF" {
                    self.set(&mut layer.mem, membrane("tau")?);
                }
                Layer::Lif(layer)
            }
            "CubaLIF" => {
                let config = CubaLifConfig::new(decay(), decay()).with_threshold(at);
                let config = config.with_firing(firing).with_recurrent(recurrent);
                let mut layer = config.init(self.device);
                self.set(&mut layer.mem, membrane("tau_mem")?);
                self.set(&mut layer.syn, membrane("tau_syn")?);
                Layer::CubaLif(layer)
            }
            "LI" => {
                let config = ExpLeakConfig::new(decay()).with_norm_input(false);
                let mut layer = config.init(self.device);
                self.set(&mut layer.mem, membrane("tau")?);
                Layer::ExpLeak(layer)
            }
            other => return Err(format!("is a {other}, which no layer is")),
        };
        let layer = self.with_numbers(layer, threshold)?;
        Ok((Some(layer), self.scale(count)?, input))
    }

    fn check_leak(&self, count: usize) -> Result<(), String> {
        let there = self.place.node.fields.contains_key("v_leak");
        if there && self.each("v_leak", count)?.iter().any(|&v| v != 0.0) {
            return Err("v_leak is not 0, which no layer has".into());
        }
        Ok(())
    }

    /// Gives a layer its thresholds and recurrent weights.
    fn with_numbers(&self, layer: Layer, threshold: Option<Vec<f64>>) -> Result<Layer, String> {
        let threshold = threshold.map(|values| self.vector(values));
        let weight = self.place.recurrent.map(|node| {
            let weight = field(node, "weight")?;
            let [to, from] = weight.shape[..] else {
                return Err(format!("weight has the shape {:?}", weight.shape));
            };
            let bias = numbers(node, "bias").unwrap_or_default();
            if bias.iter().any(|&b| b != 0.0) {
                return Err("recurrent weights have a bias, which no layer has".to_string());
            }
            let weight: Tensor<2> = self.vector(weight.numbers()).val().reshape([to, from]);
            Ok(Param::from_tensor(weight.transpose()))
        });
        let weight = weight.transpose()?;
        let mut layer = layer;
        let (at, own) = match &mut layer {
            Layer::Iaf(layer) => (&mut layer.threshold, &mut layer.weight),
            Layer::Lif(layer) => (&mut layer.threshold, &mut layer.weight),
            Layer::CubaLif(layer) => (&mut layer.threshold, &mut layer.weight),
            _ => return Ok(layer),
        };
        if let Some(threshold) = threshold {
            *at = threshold;
        }
        *own = weight;
        Ok(layer)
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
        Ok(self.each(name, count)?.iter().map(decay).collect())
    }

    fn set(&self, decay: &mut Decay, alpha: Vec<f64>) {
        decay.alpha = Some(self.vector(alpha));
    }

    /// What the currents are multiplied by; none where that is 1 to seven places.
    fn scale(&self, count: usize) -> Result<Option<Param<Tensor<1>>>, String> {
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
            multiply(self.each(tau, count)?.iter().map(|tau| dt / tau).collect());
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
        let is_one = scale.iter().all(|s| (s - 1.0).abs() < 1e-6);
        Ok((!is_one).then(|| self.vector(scale)))
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

    fn vector(&self, values: Vec<f64>) -> Param<Tensor<1>> {
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        Param::from_tensor(Tensor::from_floats(values.as_slice(), self.device))
    }
}

fn field<'a>(node: &'a Node, name: &str) -> Result<&'a Array, String> {
    node.fields
        .get(name)
        .ok_or_else(|| format!("has no {name}"))
}

fn numbers(node: &Node, name: &str) -> Result<Vec<f64>, String> {
    Ok(field(node, name)?.numbers())
}

fn sizes(array: &Array) -> Vec<usize> {
    array.numbers().into_iter().map(|n| n as usize).collect()
}

/// `N` whole numbers of a field, of which one stands for all; `least` at least.
fn whole<const N: usize>(node: &Node, name: &str, least: usize) -> Result<[usize; N], String> {
    let found = sizes(field(node, name)?);
    let all = match found[..] {
        [one] => [one; N],
        _ => found[..]
            .try_into()
            .map_err(|_| format!("{name} is {found:?}, expected {N}"))?,
    };
    match all.iter().all(|&n| n >= least) {
        true => Ok(all),
        false => Err(format!("{name} is {all:?}, expected at least {least}")),
    }
}

fn groups(node: &Node) -> Result<usize, String> {
    let [groups] = whole(node, "groups", 1)?;
    Ok(groups)
}

/// The padding of each dimension: numbers, or `same` or `valid`.
fn padded<const N: usize>(
    node: &Node,
    size: [usize; N],
    dilation: [usize; N],
) -> Result<[usize; N], String> {
    let array = field(node, "padding")?;
    let Values::Text(texts) = &array.values else {
        return whole(node, "padding", 0);
    };
    match texts.first().map(String::as_str) {
        Some("valid") => Ok([0; N]),
        Some("same") if size.iter().all(|n| n % 2 == 1) => {
            Ok(std::array::from_fn(|d| dilation[d] * (size[d] - 1) / 2))
        }
        other => Err(format!(
            "padding is {other:?}, expected numbers, same of odd kernels, or valid"
        )),
    }
}

/// Windows that fit.
fn reached(size: usize, padding: usize, reach: usize, stride: usize) -> Result<usize, String> {
    let room = (size + 2 * padding).checked_sub(reach);
    let room = room.ok_or_else(|| format!("windows that reach over {reach} do not fit {size}"))?;
    Ok(room / stride + 1)
}

fn shapes(weight: &[usize], input: &[usize]) -> String {
    format!("a weight of shape {weight:?} reads an input of shape {input:?}")
}

/// The shape after a `Flatten`, whose dimensions count without the batch.
fn flattened(node: &Node, input: &[usize]) -> Result<Vec<usize>, String> {
    let dim = |name: &str| -> Result<usize, String> {
        let dim = numbers(node, name)?.first().copied().unwrap_or(0.0) as i64;
        let counted = if dim < 0 {
            dim + input.len() as i64
        } else {
            dim
        };
        let fits = usize::try_from(counted).ok().filter(|&d| d < input.len());
        fits.ok_or_else(|| format!("{name} is {dim}, of {} dimensions", input.len()))
    };
    let (start, end) = (dim("start_dim")?, dim("end_dim")?);
    if start > end {
        return Err(format!("flattens from {start} to {end}"));
    }
    let mut shape = input[..start].to_vec();
    shape.push(input[start..=end].iter().product());
    shape.extend(&input[end + 1..]);
    Ok(shape)
}
