//! A small spiking network for the embedded digits.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named, check_side};
use super::snn::{Activity, Counter, SpikeTime, neurons};
use super::{Classifier, FoldedPair, Width};
use crate::Error;
use crate::config::{Fold, Layer, Planner, QPlan};
use crate::nn::{
    BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Lif, Linear, LinearConfig, SumPool2d,
    SumPool2dConfig, conv_norm,
};

/// Configuration of a [`SnnCnn`].
#[derive(Debug, Clone)]
pub struct SnnCnnConfig {
    /// By how much channels are multiplied.
    pub width: Width,
    /// Channels, height and width of the images, at least 2 high and wide.
    pub input: [usize; 3],
    /// Classes to tell apart.
    pub classes: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// Three 3x3 convolutions of 16, 32 and 64 channels, each with batch normalization and leaky neurons
/// whose time constant is learned; the spikes of the second are summed by two; and a linear layer that
/// reads the last spikes, whose results are averaged over time.
#[derive(Module, Debug)]
pub struct SnnCnn {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    lif1: Lif,
    conv2: Conv2d,
    bn2: Option<BatchNorm>,
    lif2: Lif,
    pool: SumPool2d,
    conv3: Conv2d,
    bn3: Option<BatchNorm>,
    lif3: Lif,
    fc: Linear,
    #[module(skip)]
    time: SpikeTime,
    #[module(skip)]
    fold: Fold,
    #[module(skip)]
    layers: Vec<Layer>,
}

impl SnnCnnConfig {
    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<SnnCnn, Error> {
        let (input, classes) = (self.input, self.classes);
        check_side("snn-cnn", 2, Images { input, classes })?;
        let [channels, height, width] = input;
        let mut planner = Planner::new(&self.plan)?;
        let fold = planner.fold();
        let [c1, c2, c3] = [16, 32, 64].map(|channels| self.width.channels(channels));
        let conv = |planner: &Planner, channels: [usize; 2]| {
            let conv = Conv2dConfig::new(channels, [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(fold == Fold::Merged);
            planner.foldable(conv)
        };
        let conv1 = planner.first("conv1", conv(&planner, [channels, c1]))?;
        let conv2 = planner.layer("conv2", conv(&planner, [c1, c2]))?;
        let conv3 = planner.layer("conv3", conv(&planner, [c2, c3]))?;
        let mut bn = |path: &str, features| -> Result<_, Error> {
            let norm = planner.norm(path, BatchNormConfig::new(features))?;
            Ok((fold != Fold::Merged).then(|| norm.init(device)))
        };
        let (bn1, bn2, bn3) = (bn("bn1", c1)?, bn("bn2", c2)?, bn("bn3", c3)?);
        let mut lif =
            |path: &str| -> Result<_, Error> { Ok(planner.layer(path, neurons())?.init(device)) };
        let (lif1, lif2, lif3) = (lif("lif1")?, lif("lif2")?, lif("lif3")?);
        let pool = planner.layer("pool", SumPool2dConfig::new([2, 2]))?;
        let features = c3 * (height / 2) * (width / 2);
        let fc = planner.last("fc", LinearConfig::new(features, self.classes))?;
        Ok(SnnCnn {
            conv1: conv1.layer.init(device),
            bn1,
            lif1,
            conv2: conv2.layer.init(device),
            bn2,
            lif2,
            pool: pool.init(device),
            conv3: conv3.layer.init(device),
            bn3,
            lif3,
            fc: fc.init(device),
            time: SpikeTime::default(),
            fold,
            layers: planner.finish()?,
        })
    }
}

impl Classifier for SnnCnn {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.through(images, None)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    fn folds(&self) -> Vec<FoldedPair> {
        let pair = |i| FoldedPair::new(format!("conv{i}"), format!("bn{i}"));
        (1..=3).map(pair).collect()
    }

    fn fold(&self) -> Fold {
        self.fold
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

impl SnnCnn {
    /// The scores; `counter` sees the spikes.
    fn through(&self, images: Tensor<4>, mut counter: Option<&mut Counter>) -> Tensor<2> {
        let steps = self.time.steps;
        let normed = |conv, bn: &Option<BatchNorm>, x| conv_norm(self.fold, conv, bn.as_ref(), x);
        let x = self.time.first(images, &mut counter, &self.conv1, |x| {
            normed(&self.conv1, &self.bn1, x)
        });
        let x = self.lif1.forward_folded(x, steps);
        if let Some(counter) = &mut counter {
            counter.fired(&x);
            counter.convolved(&self.conv2, &x);
        }
        let x = self
            .lif2
            .forward_folded(normed(&self.conv2, &self.bn2, x), steps);
        let pooled = self.pool.forward(x.clone());
        if let Some(counter) = &mut counter {
            counter.fired(&x);
            counter.convolved(&self.conv3, &pooled);
        }
        let x = self
            .lif3
            .forward_folded(normed(&self.conv3, &self.bn3, pooled), steps);
        let x: Tensor<2> = x.flatten(1, 3);
        if let Some(counter) = counter {
            counter.fired(&x);
            counter.multiplied(&self.fc, &x);
        }
        self.time.mean(self.fc.forward(x))
    }
}

impl Named for SnnCnn {
    type Size = ();

    const IMAGES: Images = Images {
        input: [1, 8, 8],
        classes: 10,
    };

    fn size(name: &str) -> Option<()> {
        (name == "snn-cnn").then_some(())
    }

    fn name((): ()) -> String {
        "snn-cnn".into()
    }

    fn build(
        (): (),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let config = SnnCnnConfig {
            width,
            input: images.input,
            classes: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(SnnCnn);
