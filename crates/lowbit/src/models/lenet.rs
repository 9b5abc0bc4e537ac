//! LeNet-5, in the form that the compression literature measures.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::{Classifier, Width};
use crate::Error;
use crate::config::{Layer, Planner, QPlan};
use crate::nn::{
    Conv2d, Conv2dConfig, Linear, LinearConfig, MaxPool2d, MaxPool2dConfig, Relu, ReluConfig,
};

/// Configuration of a [`LeNet5`].
#[derive(Debug, Clone)]
pub struct LeNet5Config {
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 16 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// Two 5x5 convolutions of 20 and 50 channels, each with a rectifier and pooled by two, and two
/// linear layers of 500 features and one per class: on 28x28 grey images, the 431,080 parameters
/// of Han et al. (arXiv 1510.00149) and of Caffe. After LeCun et al., "Gradient-Based Learning
/// Applied to Document Recognition", 1998.
#[derive(Module, Debug)]
pub struct LeNet5 {
    conv1: Conv2d,
    relu1: Relu,
    pool1: MaxPool2d,
    conv2: Conv2d,
    relu2: Relu,
    pool2: MaxPool2d,
    fc1: Linear,
    relu3: Relu,
    fc2: Linear,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// Channels of both convolutions, and features before and after the first linear layer.
pub(super) struct Sizes {
    pub(super) c1: usize,
    pub(super) c2: usize,
    pub(super) features: usize,
    pub(super) hidden: usize,
}

impl Sizes {
    /// Those for images of at least 16 by 16.
    pub(super) fn new([_, height, width]: [usize; 3], by: Width) -> Self {
        // A side loses four to each convolution and halves in each pooling.
        let side = |n: usize| ((n - 4) / 2 - 4) / 2;
        let [c1, c2, hidden] = [20, 50, 500].map(|channels| by.channels(channels));
        let features = c2 * side(height) * side(width);
        Self {
            c1,
            c2,
            features,
            hidden,
        }
    }
}

impl LeNet5Config {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<LeNet5, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("lenet", 16, Images { input, classes })?;
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
        let mut relu = |path: &str| -> Result<_, Error> {
            Ok(planner.layer(path, ReluConfig::new())?.init(device))
        };
        let (relu1, relu2, relu3) = (relu("relu1")?, relu("relu2")?, relu("relu3")?);
        let mut pool = |path: &str| -> Result<_, Error> {
            let pool = planner.layer(path, MaxPool2dConfig::new([2, 2]))?;
            Ok(pool.init(device))
        };
        let (pool1, pool2) = (pool("pool1")?, pool("pool2")?);
        let fc1 = planner.layer("fc1", LinearConfig::new(features, hidden))?;
        let fc2 = planner.last("fc2", LinearConfig::new(hidden, self.classes))?;
        Ok(LeNet5 {
            conv1,
            relu1,
            pool1,
            conv2,
            relu2,
            pool2,
            fc1: fc1.init(device),
            relu3,
            fc2: fc2.init(device),
            layers: planner.finish()?,
        })
    }
}

impl Classifier for LeNet5 {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self
            .pool1
            .forward(self.relu1.forward(self.conv1.forward(images)));
        let x = self
            .pool2
            .forward(self.relu2.forward(self.conv2.forward(x)));
        let x: Tensor<2> = x.flatten(1, 3);
        self.fc2.forward(self.relu3.forward(self.fc1.forward(x)))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl Named for LeNet5 {
    type Size = ();

    const IMAGES: Images = Images {
        input: [1, 28, 28],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "lenet").then_some(())
    }

    fn name((): ()) -> String {
        "lenet".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = LeNet5Config {
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(LeNet5);
