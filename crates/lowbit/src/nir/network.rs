//! A graph that computes.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::convention::Convention;
use super::delay::Delay;
use super::fields::{
    bias, count, field, flattened, groups, padded, reached, shapes, sizes, weight, whole,
};
use super::formats::{formats, without_formats};
use super::graph::Graph;
use super::neurons::checked;
use super::order::{Place, in_order};
use crate::Error;
use crate::nn::{
    AvgPool2d, AvgPool2dConfig, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, CubaLif, ExpLeak, Iaf,
    Lif, Linear, LinearConfig, SumPool2d, SumPool2dConfig,
};
use crate::quantizers::Quantizers;

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
    /// Of what neurons read, before it is multiplied.
    quantizers: Quantizers,
    /// Multiplies what neurons read, one for each.
    scale: Option<Param<Tensor<1>>>,
    /// The current that decays before it reaches the membrane, where that takes another, too.
    synapse: Option<ExpLeak>,
    /// A current into each in every step: the bias of recurrent weights, and what leads to `v_leak`.
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
pub(super) enum Layer {
    Linear(Linear),
    Conv1d(Conv1d),
    Conv2d(Conv2d),
    SumPool2d(SumPool2d),
    AvgPool2d(AvgPool2d),
    Delay(Delay),
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
                quantizers: built.read,
                scale: built.scale,
                synapse: built.synapse,
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
        let x = self.quantizers.input(x).quantized();
        let x = match &self.scale {
            Some(scale) => x * scale.val().unsqueeze(),
            None => x,
        };
        let x = match &self.synapse {
            Some(synapse) => synapse.forward_folded(x, time),
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
            Some(Layer::Delay(layer)) => layer.forward_folded(x, time),
            Some(Layer::Iaf(layer)) => layer.forward_folded(x, time),
            Some(Layer::Lif(layer)) => layer.forward_folded(x, time),
            Some(Layer::CubaLif(layer)) => layer.forward_folded(x, time),
            Some(Layer::ExpLeak(layer)) => layer.forward_folded(x, time),
        }
    }
}

/// Makes a node's layer.
pub(super) struct Builder<'a> {
    pub(super) place: &'a Place<'a>,
    pub(super) convention: &'a Convention,
    pub(super) device: &'a Device,
}

/// A node's layer, and what is done before it.
pub(super) struct Built {
    pub(super) layer: Option<Layer>,
    /// Of its input.
    pub(super) read: Quantizers,
    /// What its input is multiplied by, through which synapse it goes, and what is added then.
    pub(super) scale: Option<Param<Tensor<1>>>,
    pub(super) synapse: Option<ExpLeak>,
    pub(super) current: Option<Param<Tensor<1>>>,
    /// Of its output, without batch and time.
    pub(super) shape: Vec<usize>,
}

impl Built {
    pub(super) fn new(layer: Option<Layer>, shape: Vec<usize>) -> Self {
        Self {
            layer,
            read: Quantizers::default(),
            scale: None,
            synapse: None,
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
        if ["Input", "Output", "Flatten", "Scale", "Delay"].contains(&node.kind.as_str()) {
            without_formats(node)?;
        }
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
            "Delay" => {
                let delays = self.each("delay", count(&input)?)?;
                let delay = Delay::new(&delays, self.convention.dt)?;
                Ok(Built::new(Some(Layer::Delay(delay)), input))
            }
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
        let config = LinearConfig::new(inputs, outputs)
            .with_bias(node.kind == "Affine")
            .with_quantization(formats(node)?);
        checked(&config)?;
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
        let config = Conv1dConfig::new(inputs, outputs, size)
            .with_stride(stride)
            .with_dilation(dilation)
            .with_groups(groups(node, &dims, input)?)
            .with_padding(burn::nn::PaddingConfig1d::Explicit(padding, padding))
            .with_quantization(formats(node)?);
        checked(&config)?;
        let mut layer = config.init(self.device);
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
        let config = Conv2dConfig::new([inputs, outputs], [rows, columns])
            .with_stride(stride)
            .with_dilation(dilation)
            .with_groups(groups(node, &dims, input)?)
            .with_padding(burn::nn::PaddingConfig2d::Explicit(top, left, top, left))
            .with_quantization(formats(node)?);
        checked(&config)?;
        let mut layer = config.init(self.device);
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
        let formats = formats(node)?;
        let layer = match node.kind.as_str() {
            "SumPool2d" => {
                let config = SumPool2dConfig::new(size)
                    .with_strides(stride)
                    .with_padding(padding)
                    .with_quantization(formats);
                checked(&config)?;
                Layer::SumPool2d(config.init(self.device))
            }
            _ => {
                let [top, left] = padding;
                let config = AvgPool2dConfig::new(size)
                    .with_strides(stride)
                    .with_padding(burn::nn::PaddingConfig2d::Explicit(top, left, top, left))
                    .with_quantization(formats);
                checked(&config)?;
                Layer::AvgPool2d(config.init(self.device))
            }
        };
        let side = |n, d: usize| reached(n, padding[d], size[d], stride[d]);
        let shape = vec![channels, side(height, 0)?, side(width, 1)?];
        Ok(Built::new(Some(layer), shape))
    }

    pub(super) fn vector(&self, values: Vec<f64>) -> Param<Tensor<1>> {
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        Param::from_tensor(Tensor::from_floats(values.as_slice(), self.device))
    }
}
