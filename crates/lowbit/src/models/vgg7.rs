//! The network of WAGE.

use burn::module::Module;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::normed_conv::conv;
use super::{Classifier, Width};
use crate::Error;
use crate::config::{Layer, Planner, QPlan};
use crate::nn::{Conv2d, Linear, LinearConfig, MaxPool2d, MaxPool2dConfig, Relu, ReluConfig};

/// Configuration of a [`Vgg7`].
#[derive(Debug, Clone)]
pub struct Vgg7Config {
    /// By how much channels and hidden features are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 8 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// `2x128C3-MP2-2x256C3-MP2-2x512C3-MP2-1024FC` and a linear layer of one score per class, without
/// biases and normalizations: 12,973,440 parameters on 32x32 color images. From Wu, Li, Chen, Shi,
/// "Training and Inference with Integers in Deep Neural Networks", arXiv 1802.04680, section 4.1.
///
/// A convolution before a pooling is pooled first and rectified then, as in QPyTorch's example:
/// the values are the same, and the rectifier has a quarter of the work.
#[derive(Module, Debug)]
pub struct Vgg7 {
    stages: Vec<Vgg7Stage>,
    fc1: Linear,
    relu: Relu,
    fc2: Linear,
    #[module(skip)]
    layers: Vec<Layer>,
}

/// Two 3x3 convolutions of as many channels, and a pooling by two before the second rectifier.
#[derive(Module, Debug)]
pub struct Vgg7Stage {
    conv1: Conv2d,
    relu1: Relu,
    conv2: Conv2d,
    pool: MaxPool2d,
    relu2: Relu,
}

impl Vgg7Config {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<Vgg7, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("vgg7", 8, Images { input, classes })?;
        let [mut channels, height, width] = input;
        let mut planner = Planner::new(&self.plan)?;
        let mut stages = Vec::new();
        let stage_widths = [128, 256, 512].map(|width| self.width.channels(width));
        for (i, width) in stage_widths.into_iter().enumerate() {
            stages.push(stage(&mut planner, i, [channels, width], device)?);
            channels = width;
        }
        let features = channels * (height / 8) * (width / 8);
        let hidden = self.width.channels(1024);
        // A layer with a rectifier behind it: as the convolutions.
        let rectified = Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: false,
        };
        let fc1 = LinearConfig::new(features, hidden).with_bias(false);
        let fc1 = planner.layer("fc1", fc1.with_initializer(rectified))?;
        let relu = planner.layer("relu", ReluConfig::new())?;
        let fc2 = LinearConfig::new(hidden, classes).with_bias(false);
        let fc2 = planner.last("fc2", fc2)?;
        Ok(Vgg7 {
            stages,
            fc1: fc1.init(device),
            relu: relu.init(device),
            fc2: fc2.init(device),
            layers: planner.finish()?,
        })
    }
}

fn stage(
    planner: &mut Planner<'_>,
    index: usize,
    [channels, width]: [usize; 2],
    device: &Device,
) -> Result<Vgg7Stage, Error> {
    let at = |name: &str| format!("stages.{index}.{name}");
    let conv1 = conv([channels, width], 3, 1);
    let conv1 = match index {
        0 => planner.first(at("conv1"), conv1)?,
        _ => planner.layer(at("conv1"), conv1)?,
    };
    let relu1 = planner.layer(at("relu1"), ReluConfig::new())?;
    let conv2 = planner.layer(at("conv2"), conv([width, width], 3, 1))?;
    let pool = planner.layer(at("pool"), MaxPool2dConfig::new([2, 2]))?;
    let relu2 = planner.layer(at("relu2"), ReluConfig::new())?;
    Ok(Vgg7Stage {
        conv1: conv1.init(device),
        relu1: relu1.init(device),
        conv2: conv2.init(device),
        pool: pool.init(device),
        relu2: relu2.init(device),
    })
}

impl Classifier for Vgg7 {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.stages.iter().fold(images, |x, stage| {
            let x = stage.relu1.forward(stage.conv1.forward(x));
            let x = stage.pool.forward(stage.conv2.forward(x));
            stage.relu2.forward(x)
        });
        let x = self.fc1.forward(x.flatten::<2>(1, 3));
        self.fc2.forward(self.relu.forward(x))
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl Named for Vgg7 {
    type Size = ();

    const IMAGES: Images = Images {
        input: [3, 32, 32],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "vgg7").then_some(())
    }

    fn name((): ()) -> String {
        "vgg7".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = Vgg7Config {
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(Vgg7);
