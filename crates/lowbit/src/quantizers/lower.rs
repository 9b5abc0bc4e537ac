//! Lowering a whole model: a quantizer behind each of its layers that are chosen.

use std::cell::RefCell;
use std::collections::BTreeSet;

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::Device;

use crate::Error;
use crate::ops::ClampedGradient;
use crate::quantizers::watch::{ModulePath, Place, Selection, matches};
use crate::quantizers::{FormatQuantizerConfig, Number, PerSlot, Quantizer, QuantizerConfig, Slot};

/// What [`lower`] puts behind layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lowering {
    /// Which layers; their slots do not matter. All unless said.
    pub layers: Selection,
    /// Of their results, or none.
    pub forward: Option<Number>,
    /// Of the gradients that reach their results on the way back, or none.
    pub backward: Option<Number>,
}

/// Layers that compute alike, by their types: what QPyTorch's `lower` calls a layer type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Convolutions, transposed ones too.
    Convolution,
    /// Linear layers.
    Linear,
    /// Poolings.
    Pool,
    /// Activation functions.
    Activation,
    /// Normalizations.
    Normalization,
    /// Dropout.
    Dropout,
    /// Sums, products and concatenations of branches.
    Join,
}

impl LayerKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Convolution,
        Self::Linear,
        Self::Pool,
        Self::Activation,
        Self::Normalization,
        Self::Dropout,
        Self::Join,
    ];

    /// The types of this crate's layers.
    pub fn types(self) -> &'static [&'static str] {
        match self {
            Self::Convolution => &[
                "Conv1d",
                "Conv2d",
                "Conv3d",
                "ConvTranspose1d",
                "ConvTranspose2d",
                "ConvTranspose3d",
                "Adder2d",
                "ShiftConv2d",
                "ShiftAdder2d",
            ],
            Self::Linear => &["Linear"],
            Self::Pool => &[
                "AvgPool1d",
                "AvgPool2d",
                "MaxPool1d",
                "MaxPool2d",
                "AdaptiveAvgPool1d",
                "AdaptiveAvgPool2d",
                "AdaptiveAvgPool3d",
            ],
            Self::Activation => &["Relu", "Relu6", "Hardtanh", "LeakyRelu", "Sigmoid", "Tanh"],
            Self::Normalization => &["BatchNorm"],
            Self::Dropout => &["Dropout"],
            Self::Join => &["Add", "Mul", "Concat"],
        }
    }
}

impl Selection {
    /// Also the layers of a kind.
    pub fn kind(mut self, kind: LayerKind) -> Self {
        self.types
            .extend(kind.types().iter().map(|&name| name.into()));
        self
    }
}

/// Puts a quantizer behind each chosen layer of this crate's in `model`, in place of one that is
/// there, and returns the paths of those layers; their parameters keep their paths. Lower a clone to
/// keep the model as it is.
///
/// Forward, a layer's result is rounded to the one number, the gradient passing straight through; on
/// the way back, the gradient that reaches the result is rounded to the other. That is
/// `qtorch.auto_low.lower` (Zhang et al., arXiv 1910.04540, section 3.4), without its shared
/// quantizers: each layer draws random numbers of its own. A normalization that is folded into its
/// convolution in training has no result of its own to round.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use lowbit::nn::LinearConfig;
/// use lowbit::quantizers::{LayerKind, Lowering, Selection, lower};
///
/// let linear = LinearConfig::new(2, 3).init(&Device::flex());
/// let lowering = Lowering {
///     layers: Selection::all().kind(LayerKind::Linear),
///     forward: Some("fixed(8,2)".parse()?),
///     backward: Some("e5m2:stochastic".parse()?),
/// };
/// let (linear, lowered) = lower(linear, &lowering)?;
/// assert_eq!(lowered, [""]);
/// let y = linear.forward(Tensor::<2>::ones([1, 2], &Device::flex())) * 4.0;
/// assert!(y.into_data().iter::<f32>().all(|y| y.fract() == 0.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a rounding is out of its range, nothing is to be put there, or a path or type names no layer.
pub fn lower<M: Module>(model: M, lowering: &Lowering) -> Result<(M, Vec<String>), Error> {
    let quantizers = lowering.quantizers()?;
    let mut mapper = Lower {
        path: ModulePath::default(),
        layers: &lowering.layers,
        quantizers: &quantizers,
        lowered: Vec::new(),
        seen: Vec::new(),
    };
    let model = model.map(&mut mapper);
    let Lower { lowered, seen, .. } = mapper;
    lowering.all_named(&seen)?;
    Ok((model, lowered))
}

impl Lowering {
    /// A quantizer for each slot that gets one.
    fn quantizers(&self) -> Result<Vec<(&'static str, QuantizerConfig)>, Error> {
        let slots = [(Slot::OUTPUT, &self.forward), (Slot::ERROR, &self.backward)];
        let mut quantizers = Vec::new();
        for (slot, number) in slots {
            if let Some(Number { format, rounding }) = number.clone() {
                let config = QuantizerConfig::Format(FormatQuantizerConfig {
                    rounding,
                    clamped: ClampedGradient::Pass,
                    ..FormatQuantizerConfig::new(format)
                });
                config.check(slot)?;
                quantizers.push((slot, config));
            }
        }
        if quantizers.is_empty() {
            return Err(Error::config(
                "lowering",
                "has neither a forward nor a backward number",
            ));
        }
        Ok(quantizers)
    }

    /// Whether every path and type names one of the layers.
    fn all_named(&self, layers: &[Place]) -> Result<(), Error> {
        let Selection { paths, types, .. } = &self.layers;
        let known: BTreeSet<&str> = layers
            .iter()
            .map(|place| place.layer_type.as_str())
            .collect();
        let has = |pattern: &str| layers.iter().any(|place| matches(pattern, &place.layer));
        if let Some(path) = paths.iter().find(|path| !has(path)) {
            return Err(Error::config("paths", format!("no layer is `{path}`")));
        }
        // The types of a kind are named together, so that one of them is enough.
        let of_a_kind = |name: &str| {
            LayerKind::ALL
                .iter()
                .any(|kind| kind.types().contains(&name))
        };
        let strange = |name: &&String| !known.contains(name.as_str()) && !of_a_kind(name);
        let none = !types.is_empty() && types.iter().all(|name| !known.contains(name.as_str()));
        let named = match types.iter().find(strange) {
            Some(name) => name.clone(),
            None if none => types.join(", "),
            None => return Ok(()),
        };
        let known: Vec<&str> = known.into_iter().collect();
        let message = format!("no layer is a {named}; the model has {}", known.join(", "));
        Err(Error::config("types", message))
    }
}

thread_local! {
    /// Quantizers for the layer that a walk is in. A mapper changes parameters alone, so that it
    /// leaves here what the layer's [`Quantizers`](crate::quantizers::Quantizers) take at once.
    static PENDING: RefCell<Vec<(&'static str, Quantizer)>> = const { RefCell::new(Vec::new()) };
}

/// The slots with what a walk has left for them.
pub(super) fn with_pending(mut slots: PerSlot<Quantizer>) -> PerSlot<Quantizer> {
    for (slot, quantizer) in PENDING.take() {
        slots.set(slot, Some(quantizer));
    }
    slots
}

struct Lower<'a> {
    path: ModulePath,
    layers: &'a Selection,
    quantizers: &'a [(&'static str, QuantizerConfig)],
    lowered: Vec<String>,
    seen: Vec<Place>,
}

impl ModuleMapper for Lower<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        if (self.path.holder_type(), self.path.field()) != ("Quantizers", "identity") {
            return flag;
        }
        let Some(place) = self.path.place() else {
            return flag;
        };
        if self.layers.accepts(&place) {
            self.lowered.push(place.layer.clone());
            let quantizers = self.quantizers.iter();
            let built = quantizers
                .map(|(slot, config)| (*slot, config.init(None, &Device::default())))
                .collect();
            PENDING.set(built);
        }
        self.seen.push(place);
        flag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use burn::module::ModuleVisitor;
    use burn::tensor::Tensor;

    use crate::nn;

    #[derive(Module, Debug)]
    struct Two {
        first: nn::Linear,
        relu: nn::Relu,
        last: nn::Linear,
    }

    fn two(device: &Device) -> Two {
        Two {
            first: nn::LinearConfig::new(3, 2).init(device),
            relu: nn::ReluConfig::new().init(device),
            last: nn::LinearConfig::new(2, 2).init(device),
        }
    }

    fn lowering(forward: &str, backward: &str) -> Lowering {
        Lowering {
            layers: Selection::all(),
            forward: forward.parse().ok(),
            backward: backward.parse().ok(),
        }
    }

    /// The paths of all parameters.
    fn keys(model: &Two) -> Vec<String> {
        #[derive(Default)]
        struct Keys(ModulePath, Vec<String>);
        impl ModuleVisitor for Keys {
            fn enter_module(&mut self, name: &str, container_type: &str) {
                self.0.enter(name, container_type);
            }

            fn exit_module(&mut self, _name: &str, _container_type: &str) {
                self.0.exit();
            }

            fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
                self.1.push(self.0.key());
            }
        }
        let mut keys = Keys::default();
        model.visit(&mut keys);
        keys.1
    }

    #[test]
    fn chosen_layers_are_quantized_both_ways_and_keep_their_parameters() {
        let device = Device::flex().autodiff();
        let plain = two(&device);
        let to = lowering("fixed(8,1)", "fixed(8,3)");
        let layers = Selection::all().kind(LayerKind::Linear).except_path("last");
        let (lowered, paths) = lower(plain.clone(), &Lowering { layers, ..to }).unwrap();
        assert_eq!(paths, ["first"]);
        assert_eq!(keys(&plain)[0], "first.weight");
        assert_eq!(keys(&plain), keys(&lowered));
        let x = Tensor::<2>::from_floats([[0.3, -1.1, 0.77]], &device).require_grad();
        // By hand: the result in halves; the gradient, which is 0.3, in eighths, times the weight.
        let (y, whole) = (
            lowered.first.forward(x.clone()),
            plain.first.forward(x.clone()),
        );
        let read = |t: Tensor<2>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        let halves: Vec<f32> = read(whole)
            .iter()
            .map(|y| (y * 2.0).round_ties_even() / 2.0)
            .collect();
        assert_eq!(read(y.clone()), halves);
        let grads = (y * 0.3).sum().backward();
        let error = Tensor::<2>::full([1, 2], 0.25, &device);
        let expected = error.matmul(plain.first.weight.val().transpose());
        let found = read(x.grad(&grads).unwrap());
        for (found, expected) in found.into_iter().zip(read(expected)) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        // The other layer is as it was, and so is the model that was cloned.
        assert!(lowered.last.quantizers.get(Slot::OUTPUT).is_none());
        assert!(plain.first.quantizers.get(Slot::OUTPUT).is_none());
        assert!(lowered.valid().first.quantizers.get(Slot::ERROR).is_some());
    }

    #[test]
    fn all_layers_are_lowered_unless_said_and_draw_their_own_numbers() {
        let device = Device::flex();
        let (model, paths) = lower(two(&device), &lowering("int8:stochastic", "-")).unwrap();
        assert_eq!(paths, ["first", "relu", "last"]);
        let x = Tensor::<2>::full([1, 64], 0.5, &device);
        let rounded = |layer: &nn::Relu| {
            let y = layer.forward(x.clone());
            y.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        let (again, _) = lower(two(&device), &lowering("int8:stochastic", "-")).unwrap();
        assert_ne!(rounded(&model.relu), rounded(&again.relu));
    }

    #[test]
    fn mistakes_are_one_line() {
        let refused = |lowering: Lowering| {
            let refused = lower(two(&Device::flex()), &lowering);
            refused.err().unwrap().to_string()
        };
        let to = lowering("int8", "int8");
        assert_eq!(
            refused(Lowering {
                layers: Selection::all().layer_type("Conv2d"),
                ..to.clone()
            }),
            "types: no layer is a Conv2d; the model has Linear, Relu"
        );
        assert_eq!(
            refused(Lowering {
                layers: Selection::all().layer_type("Linear").layer_type("Liner"),
                ..to.clone()
            }),
            "types: no layer is a Liner; the model has Linear, Relu"
        );
        assert_eq!(
            refused(Lowering {
                layers: Selection::all().path("middle"),
                ..to
            }),
            "paths: no layer is `middle`"
        );
        assert_eq!(
            refused(Lowering::default()),
            "lowering: has neither a forward nor a backward number"
        );
        let bits = Number {
            rounding: lowbit_formats::Rounding::Stochastic {
                seed: 0,
                stream: 0,
                bits: 40,
            },
            ..Number::nearest("int8".parse().unwrap())
        };
        let refused = refused(Lowering {
            forward: Some(bits),
            ..Lowering::default()
        });
        assert!(refused.starts_with("output: rounding: "), "{refused}");
    }
}
