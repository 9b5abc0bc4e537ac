//! The layers of a network, as a plan sees them.

use burn::tensor::Device;

use super::{Part, QConfig};
use crate::Error;
use crate::quantizers::{Channels, QuantizerConfig, Quantizers, Signs, Slot, Sums};

/// What plans, tables and reports need to know of a layer. All of it follows from the layer's
/// configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name of its module, such as `Conv2d`.
    pub name: &'static str,
    /// The names of its slots, in order.
    pub slots: Vec<&'static str>,
    /// The dimension of its weight that has one index per output channel of a group; `None` for a
    /// layer without weight. A plan's `default` is for layers with one, its `unweighted` for some
    /// of the others.
    pub weight: Option<Channels>,
    /// How it rounds its weight by what it is, without a slot for it.
    pub weight_format: Option<QuantizerConfig>,
    /// The sums that it computes, with the axis of a result `[batch, channels, ...]`.
    pub sums: Option<Sums>,
    /// Whether it can make its sums in low precision.
    pub accumulates: bool,
    /// The slots that can have one scale: those that it hands to
    /// [`Quantizers::share`], weight and bias where it sums.
    pub shares: Vec<&'static str>,
    /// Whether its results can be negative, whatever its parameters become; calibration makes
    /// integers of what never can be unsigned.
    pub signs: Signs,
    /// Whether it has no weight and computes numbers that its inputs' grid does not hold: not a
    /// rectifier, a clamp or a maximum, whose results belong to the layer before.
    pub leaves_grid: bool,
}

impl Description {
    /// A layer of that name without weight, with the slots `input`, `output` and `error`, whose
    /// results are on its inputs' grid.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            slots: vec![Slot::INPUT, Slot::OUTPUT, Slot::ERROR],
            weight: None,
            weight_format: None,
            sums: None,
            accumulates: false,
            shares: Vec::new(),
            signs: Signs::Any,
            leaves_grid: false,
        }
    }

    /// A layer that sums products or distances of its input and a weight with these channels, with
    /// the slots `input`, `weight`, `bias` where it has one, `accumulator`, `output`, `error` and
    /// `gradient`.
    pub fn summing(name: &'static str, weight: Channels, sums: Sums, bias: bool) -> Self {
        let mut slots = vec![
            Slot::INPUT,
            Slot::WEIGHT,
            Slot::BIAS,
            Slot::ACCUMULATOR,
            Slot::OUTPUT,
            Slot::ERROR,
            Slot::GRADIENT,
        ];
        slots.retain(|slot| *slot != Slot::BIAS || bias);
        Self {
            slots,
            weight: Some(weight),
            sums: Some(sums),
            shares: vec![Slot::WEIGHT, Slot::BIAS],
            ..Self::new(name)
        }
    }

    /// The same layer, whose results are not on its inputs' grid.
    pub fn leaving_grid(self) -> Self {
        Self {
            leaves_grid: true,
            ..self
        }
    }

    /// The same layer, which can make its sums in low precision.
    pub fn accumulating(self) -> Self {
        Self {
            accumulates: true,
            ..self
        }
    }

    /// The same layer, whose results have these signs.
    pub fn with_signs(self, signs: Signs) -> Self {
        Self { signs, ..self }
    }

    /// Whether it has the slot of that name.
    pub fn has_slot(&self, slot: &str) -> bool {
        self.slots.contains(&slot)
            || self.accumulates && slot == Slot::ACCUMULATE
            || !self.shares.is_empty() && slot == Slot::SHARE
    }

    /// The names of everything that a plan may speak of, in order.
    pub fn every_slot(&self) -> impl Iterator<Item = &'static str> {
        let sums = self.accumulates.then_some(Slot::ACCUMULATE);
        self.slots.iter().copied().chain(sums)
    }

    /// Whether a layer at `path` can have what `config` gives it.
    ///
    /// A `bias` is no error for a layer that happens to have none: it quantizes nothing.
    ///
    /// # Errors
    /// If it quantizes a tensor that the layer does not have, or with what does not fit that
    /// tensor; the error names path and slot.
    pub fn check(&self, path: &str, config: &QConfig) -> Result<(), Error> {
        let accumulator = config.accumulator.iter().map(|_| Slot::ACCUMULATOR);
        for slot in config.slots().map(|(slot, _)| slot).chain(accumulator) {
            if slot != Slot::BIAS && !self.has_slot(slot) {
                let message = format!("a {} has no {slot} to quantize", self.name);
                return Err(Error::config(path, message));
            }
        }
        if config.accumulate.is_some() && !self.accumulates {
            let message = format!("a {} makes its sums in float", self.name);
            return Err(Error::config(path, message));
        }
        self.check_share(path, config)?;
        config.check().map_err(|error| error.within(path))?;
        config
            .check_accumulator(self.weight_format.is_some())
            .map_err(|error| error.within(path))
    }

    /// Whether the layer has one scale for all that is to share one.
    fn check_share(&self, path: &str, config: &QConfig) -> Result<(), Error> {
        let alone = |slot: &&Slot| !self.shares.contains(&slot.name());
        let Some(slot) = config.share.iter().find(alone) else {
            return Ok(());
        };
        let message = format!("{} has a scale of its own for {slot}", self.name);
        Err(Error::config(Slot::SHARE, message).within(path))
    }
}

/// The configuration of a layer, which says what the layer is.
///
/// Every configuration in [`nn`](crate::nn) has it. A layer of your own that has it, too, takes
/// part in plans, tables and reports; if its module keeps its [`Quantizers`] in a field
/// `quantizers`, and hands them every tensor, in calibration, switching and taps as well.
///
/// # Example
/// ```
/// use lowbit::config::{Describe, Description, QConfig};
///
/// /// Twice its input.
/// struct DoubleConfig {
///     quantization: QConfig,
/// }
///
/// impl Describe for DoubleConfig {
///     fn describe(&self) -> Description {
///         Description::new("Double")
///     }
///
///     fn quantization(&self) -> &QConfig {
///         &self.quantization
///     }
///
///     fn quantization_mut(&mut self) -> &mut QConfig {
///         &mut self.quantization
///     }
/// }
///
/// let double = DoubleConfig { quantization: QConfig::default() };
/// assert!(double.check().is_ok() && !double.describe().has_slot("weight"));
/// ```
pub trait Describe {
    /// What the layer is. Of fields that [`check_fields`](Self::check_fields) refuses, it may say
    /// anything, but must not panic.
    fn describe(&self) -> Description;

    /// What the layer quantizes.
    fn quantization(&self) -> &QConfig;

    /// The same, to be set by a plan.
    fn quantization_mut(&mut self) -> &mut QConfig;

    /// Whether each of the layer's own fields is in its range, and they fit each other.
    ///
    /// # Errors
    /// [`Error::Config`] with the name of the field.
    fn check_fields(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the layer can be built.
    ///
    /// # Errors
    /// [`Error::Config`] with the layer's name and the field or slot.
    fn check(&self) -> Result<(), Error> {
        let name = self.describe().name;
        self.check_at(name)
    }

    /// The same for the layer at `path`, which the error names in place of the layer.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn check_at(&self, path: &str) -> Result<(), Error> {
        self.check_fields().map_err(|error| error.within(path))?;
        self.describe().check(path, self.quantization())
    }

    /// The layer's quantizers, for its `init`.
    ///
    /// # Panics
    /// With the one line of [`check`](Self::check) where that is an error.
    fn init_quantizers(&self, device: &Device) -> Quantizers {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        let description = self.describe();
        let quantizers = self.quantization().init(description.weight, device);
        quantizers.with_signs(description.signs)
    }
}

/// A layer that a normalization follows which may be folded into it: folded, it has a bias to
/// quantize, whether or not one is its own.
#[derive(Debug, Clone)]
pub struct Foldable<C> {
    /// The layer's configuration.
    pub layer: C,
    /// Whether the plan folds it.
    pub folded: bool,
}

impl<C: Describe> Describe for Foldable<C> {
    fn describe(&self) -> Description {
        let mut description = self.layer.describe();
        if self.folded && !description.has_slot("bias") {
            let after_weight = description.slots.iter().position(|slot| *slot == "weight");
            let at = after_weight.map_or(0, |i| i + 1);
            description.slots.insert(at, "bias");
        }
        description
    }

    fn quantization(&self) -> &QConfig {
        self.layer.quantization()
    }

    fn quantization_mut(&mut self) -> &mut QConfig {
        self.layer.quantization_mut()
    }

    fn check_fields(&self) -> Result<(), Error> {
        self.layer.check_fields()
    }
}

/// A layer of a network and what it quantizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The part of the plan that it takes before any override.
    pub part: Part,
    /// Its path in the module tree, such as `layer1.0.conv1`.
    pub path: String,
    /// What it is.
    pub description: Description,
    /// What it quantizes.
    pub config: QConfig,
}

impl Layer {
    /// What quantizes the tensor in a slot: of a weight that the layer rounds by what it is, that.
    pub fn quantizer(&self, slot: &str) -> Option<&QuantizerConfig> {
        let own = self.description.weight_format.as_ref();
        let own = own.filter(|_| slot == Slot::WEIGHT);
        own.or(self.config.get(slot))
    }
}

impl Default for Layer {
    /// A layer of no name that quantizes nothing.
    fn default() -> Self {
        Self {
            part: Part::default(),
            path: String::new(),
            description: Description::new(""),
            config: QConfig::default(),
        }
    }
}
