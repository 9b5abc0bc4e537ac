//! The networks that a name stands for.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Mutex;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use super::Classifier;
use crate::Error;
use crate::config::QPlan;
use crate::quantizers::Draws;

/// The images that a network is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Images {
    /// `[channels, height, width]`
    pub(super) input: [usize; 3],
    /// Classes to tell apart.
    pub(super) classes: usize,
}

/// A network that has a name, or several for several sizes.
pub(super) trait Named: Classifier {
    /// What its names tell apart.
    type Size: Copy;

    /// The images that it is made for.
    const IMAGES: Images;

    /// The size that a name stands for; `None` if the name is another network's.
    fn size(name: &str) -> Option<Self::Size>;

    /// The name of a size.
    fn name(size: Self::Size) -> String;

    /// Builds the network.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    fn build(
        size: Self::Size,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error>;
}

/// Builds a network whose parameters are drawn from `seed`.
pub(super) fn drawn<M: Classifier>(
    seed: u64,
    device: &Device,
    build: impl Fn() -> Result<M, Error>,
) -> Result<M, Error> {
    // The backend has one generator for the whole process, and parameters are drawn when they
    // are first read: seeding and drawing must not be interrupted by another network's.
    static DRAWING: Mutex<()> = Mutex::new(());
    let _guard = DRAWING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    // Other threads may draw from it all the same. A network that comes out twice was disturbed by
    // none.
    let built = Draws::built();
    let mut before = None;
    for _ in 0..MOST_DRAWN {
        Draws::go_on_from(built);
        device.seed(seed);
        let network = build()?;
        let mut draw = Draw::default();
        network.visit(&mut draw);
        let found = draw.0.finish();
        if before == Some(found) {
            return Ok(network);
        }
        before = Some(found);
    }
    let message = "other threads draw random numbers without a pause";
    Err(Error::config("seed", message))
}

/// Times that a network is drawn before it is given up.
const MOST_DRAWN: usize = 1000;

/// Reads every parameter once, which draws it, and keeps what tells them from others.
#[derive(Default)]
struct Draw(DefaultHasher);

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data();
        data.iter::<f32>()
            .for_each(|x| self.0.write_u32(x.to_bits()));
    }
}

/// Refuses images that are less than `side` high or wide.
pub(super) fn check_side(name: &str, side: usize, images: Images) -> Result<(), Error> {
    let [_, height, width] = images.input;
    if height.min(width) >= side {
        return Ok(());
    }
    let message =
        format!("{name} needs images of {side}x{side} at least, these are {height}x{width}");
    Err(Error::config("model", message))
}

/// From the list of networks: `Architecture` with a variant for each, which has the fields of its
/// size, and `Network`, the enum over their modules. A network is one line of the list, and a file
/// with its module, which is [`Classifier`] and [`Named`].
macro_rules! networks {
    (
        names: $names:literal;
        $(
            $(#[$doc:meta])*
            $variant:ident
            $({ $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })?
            is $model:ident;
        )+
    ) => {
        /// A network's name, one of [`NAMES`](Self::NAMES).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Architecture {
            $(
                $(#[$doc])*
                $variant $({ $($(#[$field_doc])* $field: $type,)+ })?,
            )+
        }

        impl Architecture {
            /// The names of all networks.
            pub const NAMES: &str = $names;

            /// `[channels, height, width]` and classes of the images that the network is made for.
            pub fn usual_images(self) -> ([usize; 3], usize) {
                let images = match self {
                    $(Self::$variant { .. } => <$model as Named>::IMAGES,)+
                };
                (images.input, images.classes)
            }

            fn build(self, images: Images, plan: &QPlan, device: &Device) -> Result<Network, Error> {
                match self {
                    $(Self::$variant $({ $($field),+ })? => {
                        let size = ($($($field,)+)?);
                        <$model as Named>::build(size, images, plan, device).map(Network::$variant)
                    })+
                }
            }
        }

        impl fmt::Display for Architecture {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match *self {
                    $(Self::$variant $({ $($field),+ })? => {
                        <$model as Named>::name(($($($field,)+)?))
                    })+
                };
                f.write_str(&name)
            }
        }

        impl FromStr for Architecture {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                $(if let Some(($($($field,)+)?)) = <$model as Named>::size(text) {
                    return Ok(Self::$variant $({ $($field),+ })?);
                })+
                Err(Error::Unknown {
                    kind: "model",
                    text: text.into(),
                    expected: Self::NAMES,
                })
            }
        }

        /// One of the networks.
        #[derive(Module, Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "there is one of it, and it is passed by reference"
        )]
        pub enum Network {
            $(
                $(#[$doc])*
                $variant($model),
            )+
        }

        impl Classifier for Network {
            fn forward(&self, images: Tensor<4>) -> Tensor<2> {
                match self { $(Self::$variant(model) => model.forward(images),)+ }
            }

            fn stages(&self, images: Tensor<4>) -> Stages {
                match self { $(Self::$variant(model) => model.stages(images),)+ }
            }

            fn layers(&self) -> &[Layer] {
                match self { $(Self::$variant(model) => model.layers(),)+ }
            }

            fn folds(&self) -> Vec<FoldedPair> {
                match self { $(Self::$variant(model) => model.folds(),)+ }
            }

            fn fold(&self) -> Fold {
                match self { $(Self::$variant(model) => model.fold(),)+ }
            }

            // A record names parameters as the network itself does, without this enum's variant.
            fn record(&self) -> ModuleRecord {
                match self { $(Self::$variant(model) => model.record(),)+ }
            }

            fn with_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
                match self {
                    $(Self::$variant(model) => model.with_record(record).map(Self::$variant),)+
                }
            }
        }
    };
}
pub(super) use networks;
