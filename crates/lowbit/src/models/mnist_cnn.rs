//! The convolutional network of PyTorch's and QPyTorch's examples on MNIST.

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

/// Configuration of a [`MnistCnn`].
#[derive(Debug, Clone)]
pub struct MnistCnnConfig {
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 16 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// Two 5x5 convolutions of 10 and 20 channels, each pooled by two and then rectified, and two
/// linear layers of 50 features and one per class: 21,840 parameters on 28x28 grey images. The
/// network of QPyTorch's tutorials on posits, there trained with `posit(8,2)` for weights,
/// activations, errors and gradients and `posit(16,2)` for momentum and accumulator.
#[derive(Module, Debug)]
pub struct MnistCnn {
    conv1: Conv2d,
    pool1: MaxPool2d,
    relu1: Relu,
    conv2: Conv2d,
    pool2: MaxPool2d,
    relu2: Relu,
    fc1: Linear,
    relu3: Relu,
    fc2: Linear,
    #[module(skip)]
    layers: Vec<Layer>,
}

impl MnistCnnConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<MnistCnn, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("mnist-cnn", 16, Images { input, classes })?;
        let [channels, height, width] = input;
        // A side loses four to each convolution and halves in each pooling.
        let side = |n: usize| ((n - 4) / 2 - 4) / 2;
        let [c1, c2, hidden] = [10, 20, 50].map(|channels| self.width.channels(channels));
        let features = c2 * side(height) * side(width);

        let mut planner = Planner::new(&self.plan)?;
        let conv = |channels: [usize; 2]| Conv2dConfig::new(channels, [5, 5]);
        let conv1 = planner.first("conv1", conv([channels, c1]))?;
        let pool1 = planner.layer("pool1", MaxPool2dConfig::new([2, 2]))?;
        let relu1 = planner.layer("relu1", ReluConfig::new())?;
        let conv2 = planner.layer("conv2", conv([c1, c2]))?;
        let pool2 = planner.layer("pool2", MaxPool2dConfig::new([2, 2]))?;
        let relu2 = planner.layer("relu2", ReluConfig::new())?;
        let fc1 = planner.layer("fc1", LinearConfig::new(features, hidden))?;
        let relu3 = planner.layer("relu3", ReluConfig::new())?;
        let fc2 = planner.last("fc2", LinearConfig::new(hidden, classes))?;
        Ok(MnistCnn {
            conv1: conv1.init(device),
            pool1: pool1.init(device),
            relu1: relu1.init(device),
            conv2: conv2.init(device),
            pool2: pool2.init(device),
            relu2: relu2.init(device),
            fc1: fc1.init(device),
            relu3: relu3.init(device),
            fc2: fc2.init(device),
            layers: planner.finish()?,
        })
    }
}

impl Classifier for MnistCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.pool1.forward(self.conv1.forward(images));
        let x = self.relu1.forward(x);
        let x = self.pool2.forward(self.conv2.forward(x));
        let x: Tensor<2> = self.relu2.forward(x).flatten(1, 3);
        self.fc2.forward(self.relu3.forward(self.fc1.forward(x)))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl Named for MnistCnn {
    type Size = ();

    const IMAGES: Images = Images {
        input: [1, 28, 28],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "mnist-cnn").then_some(())
    }

    fn name((): ()) -> String {
        "mnist-cnn".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = MnistCnnConfig {
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(MnistCnn);
