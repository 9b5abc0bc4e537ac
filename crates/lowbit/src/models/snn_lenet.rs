//! LeNet-5 of spiking neurons.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::lenet::Sizes;
use super::network::{Images, Named, check_side};
use super::snn::{Activity, Counter, SpikeTime, neurons};
use super::{Classifier, Width};
use crate::Error;
use crate::config::{Layer, Planner, QPlan};
use crate::nn::{Conv2d, Conv2dConfig, Lif, Linear, LinearConfig, SumPool2d, SumPool2dConfig};
use crate::quantizers::SharedScale;

/// Configuration of a [`SnnLeNet`].
#[derive(Debug, Clone)]
pub struct SnnLeNetConfig {
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 16 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// [`LeNet5`](super::LeNet5) with leaky neurons, whose time constant is learned, for rectifiers, and
/// sums of spikes for maxima; the results of the last layer are averaged over time.
#[derive(Module, Debug)]
pub struct SnnLeNet {
    conv1: Conv2d,
    lif1: Lif,
    pool1: SumPool2d,
    conv2: Conv2d,
    lif2: Lif,
    pool2: SumPool2d,
    fc1: Linear,
    lif3: Lif,
    fc2: Linear,
    #[module(skip)]
    time: SpikeTime,
    #[module(skip)]
    layers: Vec<Layer>,
}

impl SnnLeNetConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<SnnLeNet, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("snn-lenet", 16, Images { input, classes })?;
        let Sizes {
            c1,
            c2,
            features,
            hidden,
        } = Sizes::new(input, self.width);

        let mut planner = Planner::new(&self.plan)?;
        let conv = |channels: [usize; 2]| Conv2dConfig::new(channels, [5, 5]);
        let conv1 = planner.first("conv1", conv([input[0], c1]))?.init(device);
        let conv2 = planner.layer("conv2", conv([c1, c2]))?.init(device);
        let mut lif =
            |path: &str| -> Result<_, Error> { Ok(planner.layer(path, neurons())?.init(device)) };
        let (lif1, lif2, lif3) = (lif("lif1")?, lif("lif2")?, lif("lif3")?);
        let mut pool = |path: &str| -> Result<_, Error> {
            let pool = planner.layer(path, SumPool2dConfig::new([2, 2]))?;
            Ok(pool.init(device))
        };
        let (pool1, pool2) = (pool("pool1")?, pool("pool2")?);
        let fc1 = planner.layer("fc1", LinearConfig::new(features, hidden))?;
        let fc2 = planner.last("fc2", LinearConfig::new(hidden, self.classes))?;
        Ok(SnnLeNet {
            conv1,
            lif1,
            pool1,
            conv2,
            lif2,
            pool2,
            fc1: fc1.init(device),
            lif3,
            fc2: fc2.init(device),
            time: SpikeTime::default(),
            layers: planner.finish()?,
        })
    }
}

impl Classifier for SnnLeNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.through(images, None)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn time_mut(&mut self) -> Option<&mut SpikeTime> {
        Some(&mut self.time)
    }

    fn activity(&self, images: Tensor<4>) -> Option<Activity> {
        let [count, ..] = images.dims();
        let mut counter = Counter::default();
        self.through(images, Some(&mut counter));
        Some(counter.per_image(count))
    }
}

impl SnnLeNet {
    /// Gives the weights and biases of each layer and the thresholds of the neurons that read it one
    /// scale, where the plan says so.
    fn share_scales(&self) -> [Option<[SharedScale; 2]>; 3] {
        let conv = |conv: &Conv2d, lif: &Lif| {
            let bias = conv.bias.as_ref().map(Param::val);
            lif.share_scale(&conv.quantizers, &conv.weight.val(), bias.as_ref())
        };
        let (fc1, bias) = (&self.fc1, self.fc1.bias.as_ref().map(Param::val));
        [
            conv(&self.conv1, &self.lif1),
            conv(&self.conv2, &self.lif2),
            self.lif3
                .share_scale(&fc1.quantizers, &fc1.weight.val(), bias.as_ref()),
        ]
    }

    /// The scores; `counter` sees the spikes.
    fn through(&self, images: Tensor<4>, mut counter: Option<&mut Counter>) -> Tensor<2> {
        let steps = self.time.steps;
        let _shared = self.share_scales();
        let x = self
            .time
            .first(images, &mut counter, &self.conv1, |x| self.conv1.forward(x));
        let x = self.lif1.forward_folded(x, steps);
        let pooled = self.pool1.forward(x.clone());
        if let Some(counter) = &mut counter {
            counter.fired(&x);
            counter.convolved(&self.conv2, &pooled);
        }
        let x = self.lif2.forward_folded(self.conv2.forward(pooled), steps);
        let pooled: Tensor<2> = self.pool2.forward(x.clone()).flatten(1, 3);
        if let Some(counter) = &mut counter {
            counter.fired(&x);
            counter.multiplied(&self.fc1, &pooled);
        }
        let x = self.lif3.forward_folded(self.fc1.forward(pooled), steps);
        if let Some(counter) = counter {
            counter.fired(&x);
            counter.multiplied(&self.fc2, &x);
        }
        self.time.mean(self.fc2.forward(x))
    }
}

impl Named for SnnLeNet {
    type Size = ();

    const IMAGES: Images = Images {
        input: [1, 28, 28],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "snn-lenet").then_some(())
    }

    fn name((): ()) -> String {
        "snn-lenet".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = SnnLeNetConfig {
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(SnnLeNet);
