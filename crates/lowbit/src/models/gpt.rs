//! Small networks of GPT-2's kind, which expect a text character by character.

use burn::module::Module;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Device, Tensor};

use super::classifier::impl_steps;
use super::network::{Images, Named};
use super::transformer::{Cache, Decoder, DecoderConfig, DecoderKind, LanguageModel};
use super::{Classifier, Width};
use crate::Error;
use crate::config::{Layer, Planner, QPlan};
use crate::nn::Linear;

/// Characters of the windows that the networks are made for, those of nanoGPT's example for a CPU.
pub const GPT_CONTEXT: usize = 64;

/// The sizes that have a name, those of A. Karpathy's minGPT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GptSize {
    /// `gpt-nano`: 3 layers of 48 features in 3 heads.
    Nano,
    /// `gpt-micro`: 4 layers of 128 features in 4 heads.
    Micro,
    /// `gpt-mini`: 6 layers of 192 features in 6 heads.
    Mini,
}

impl GptSize {
    const ALL: [Self; 3] = [Self::Nano, Self::Micro, Self::Mini];

    fn name(self) -> &'static str {
        match self {
            Self::Nano => "gpt-nano",
            Self::Micro => "gpt-micro",
            Self::Mini => "gpt-mini",
        }
    }

    /// Layers, heads of each, features of a head.
    fn sizes(self) -> [usize; 3] {
        match self {
            Self::Nano => [3, 3, 16],
            Self::Micro => [4, 4, 32],
            Self::Mini => [6, 6, 32],
        }
    }
}

/// Configuration of a [`Gpt`].
#[derive(Debug, Clone)]
pub struct GptConfig {
    /// Which of them.
    pub size: GptSize,
    /// By how much the features of a head are multiplied.
    pub width: Width,
    /// Characters of a window.
    pub context: usize,
    /// Different characters there are.
    pub characters: usize,
    /// What is quantized.
    pub plan: QPlan,
}

/// GPT-2's decoder (Radford et al., 2019) at the size of a toy: characters and positions as vectors; layers
/// of attention and a feed-forward part of four times the features, each of which reads a normalization of
/// what it is added to; a linear layer with a score for each character. 94,224 parameters of 65 characters in
/// windows of 64 for `gpt-nano`, without sharing between head and table.
#[derive(Module, Debug)]
pub struct Gpt {
    decoder: Decoder,
    head: Linear,
    #[module(skip)]
    sizes: DecoderConfig,
    #[module(skip)]
    layers: Vec<Layer>,
}

impl GptConfig {
    /// The decoder's sizes.
    pub fn decoder(&self) -> DecoderConfig {
        let [n_layers, n_heads, d_head] = self.size.sizes();
        let d_head = self.width.channels(d_head);
        let d_model = n_heads * d_head;
        DecoderConfig {
            vocabulary: self.characters,
            positions: self.context,
            d_model,
            d_ff: 4 * d_model,
            n_layers,
            n_heads,
            n_heads_kv: n_heads,
            d_head,
            epsilon: 1e-5,
            kind: DecoderKind::Gpt2(ActivationConfig::Gelu),
        }
    }

    /// Builds the network.
    ///
    /// # Errors
    /// If the plan cannot be built, or an override matches no layer.
    pub fn init(&self, device: &Device) -> Result<Gpt, Error> {
        let mut planner = Planner::new(&self.plan)?;
        let LanguageModel { decoder, head } =
            LanguageModel::init_planned(&self.decoder(), &mut planner, device)?;
        Ok(Gpt {
            decoder,
            head,
            sizes: self.decoder(),
            layers: planner.finish()?,
        })
    }
}

impl Gpt {
    /// The decoder's sizes.
    pub fn sizes(&self) -> &DecoderConfig {
        &self.sizes
    }

    /// The network without what a classifier knows of itself.
    pub fn language_model(&self) -> LanguageModel {
        LanguageModel {
            decoder: self.decoder.clone(),
            head: self.head.clone(),
        }
    }
}

impl Classifier for Gpt {
    /// Scores of what follows each character.
    ///
    /// # Shapes
    /// - `windows`: `[batch, 1, 1, length]`, classes of characters
    /// - result: `[batch * length, characters]`
    fn forward(&self, windows: Tensor<4>) -> Tensor<2> {
        let [batch, _, _, length] = windows.dims();
        let characters = windows.reshape([batch, length]).int();
        let features = self
            .decoder
            .forward(characters, None, &mut Cache::default());
        self.head.forward(features).flatten(0, 1)
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl Named for Gpt {
    type Size = (GptSize,);

    const READS_TEXT: bool = true;

    const IMAGES: Images = Images {
        input: [1, 1, GPT_CONTEXT],
        classes: 65,
    };

    fn size(name: &str) -> Option<(GptSize,)> {
        let mut sizes = GptSize::ALL.into_iter();
        sizes.find(|size| size.name() == name).map(|size| (size,))
    }

    fn name((size,): (GptSize,)) -> String {
        size.name().into()
    }

    fn build(
        (size,): (GptSize,),
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error> {
        let [1, 1, context] = images.input else {
            let [_, rows, columns] = images.input;
            let message = format!(
                "{} reads text, these are images of {rows}x{columns}",
                size.name()
            );
            return Err(Error::config("model", message));
        };
        let config = GptConfig {
            size,
            width,
            context,
            characters: images.classes,
            plan: plan.clone(),
        };
        config.init(device)
    }
}

impl_steps!(Gpt);
