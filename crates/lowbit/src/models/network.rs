//! The networks that a name stands for.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

use super::{Classifier, Width};
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

/// Blocks in each of the three stages of the ResNets for CIFAR that have a name: those of depth 8, 14,
/// 20, 26, 32, 44, 56 and 110, which is `6 n + 2`.
pub(super) const CIFAR_BLOCKS: [usize; 8] = [1, 2, 3, 4, 5, 7, 9, 18];

/// A network that has a name, or several for several sizes.
pub(super) trait Named: Classifier {
    /// What its names tell apart.
    type Size: Copy;

    /// The images that it is made for, whatever its size.
    const IMAGES: Images;

    /// Whether they are windows of text, and it says of each character which is next.
    const READS_TEXT: bool = false;

    /// The images that a size is made for.
    fn images(_size: Self::Size) -> Images {
        Self::IMAGES
    }

    /// The size that a name stands for; `None` if the name is another network's.
    fn size(name: &str) -> Option<Self::Size>;

    /// The name of a size.
    fn name(size: Self::Size) -> String;

    /// Builds the network, so much wider than it is defined.
    ///
    /// # Errors
    /// If the images are too small, the plan cannot be built, or an override matches no layer.
    fn build(
        size: Self::Size,
        width: Width,
        images: Images,
        plan: &QPlan,
        device: &Device,
    ) -> Result<Self, Error>;
}

/// Builds a network whose parameters are drawn from `seed`: on the host, so that they are the same on
/// every device.
pub(super) fn drawn<M: Classifier>(
    seed: u64,
    device: &Device,
    build: impl Fn(&Device) -> Result<M, Error>,
) -> Result<M, Error> {
    let host = Device::flex().with_autodiff_context_from(device);
    let network = drawn_on(&host, seed, build)?;
    Ok(match host == *device {
        true => network,
        false => network.fork(device),
    })
}

fn drawn_on<M: Classifier>(
    device: &Device,
    seed: u64,
    build: impl Fn(&Device) -> Result<M, Error>,
) -> Result<M, Error> {
    // The backend has one generator for the whole process, and parameters are drawn when they
    // are first read: seeding and drawing must not be interrupted by another network's.
    static DRAWING: Mutex<()> = Mutex::new(());
    let _guard = DRAWING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    // Other threads may draw from it all the same. A network that comes out `ALIKE` times was disturbed
    // by none: one that draws again and again takes its turn after each of our draws, and so comes between
    // in the same places every time, unless there are pauses between the parameters, each time longer, in
    // which it draws more.
    let built = Draws::built();
    let (mut before, mut alike) = (None, 1);
    for tried in 0..MOST_DRAWN {
        Draws::go_on_from(built);
        device.seed(seed);
        let network = build(device)?;
        let mut draw = Draw {
            pause: PAUSE * (tried % (LONGEST + 1)),
            found: DefaultHasher::default(),
        };
        network.visit(&mut draw);
        let found = draw.found.finish();
        alike = if before == Some(found) { alike + 1 } else { 1 };
        if alike == ALIKE {
            return Ok(network);
        }
        before = Some(found);
    }
    let message = "other threads draw random numbers without a pause";
    Err(Error::config("seed", message))
}

/// Times that a network is drawn before it is given up.
const MOST_DRAWN: u32 = 1000;

/// Times after one another that it must come out the same.
const ALIKE: u32 = 3;

/// The pause before each parameter: none, then longer each time up to so many times this, and again.
const PAUSE: Duration = Duration::from_micros(20);
const LONGEST: u32 = 12;

/// Reads every parameter once, which draws it, and keeps what tells them from others.
struct Draw {
    /// What is waited before each.
    pause: Duration,
    found: DefaultHasher,
}

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.pause.is_zero() {
            thread::sleep(self.pause);
        }
        let data = param.val().into_data();
        data.iter::<f32>()
            .for_each(|x| self.found.write_u32(x.to_bits()));
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

/// From the list of networks: `BaseNetwork` with a variant for each, which has the fields of its
/// size, and `Network`, the enum over their modules. A network is one line of the list, and a file
/// with its module, which is [`Classifier`] and [`Named`].
macro_rules! networks {
    (
        $(
            $(#[$doc:meta])*
            $variant:ident
            $({ $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ })?
            is $model:ident;
        )+
    ) => {
        /// A network of one of the names, as it is defined: at width one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum BaseNetwork {
            $(
                $(#[$doc])*
                $variant $({ $($(#[$field_doc])* $field: $type,)+ })?,
            )+
        }

        impl BaseNetwork {
            /// The images that it is made for.
            fn images(self) -> Images {
                match self {
                    $(Self::$variant $({ $($field),+ })? => {
                        <$model as Named>::images(($($($field,)+)?))
                    })+
                }
            }

            /// Whether those are windows of text.
            fn reads_text(self) -> bool {
                match self {
                    $(Self::$variant $({ $($field: _),+ })? => <$model as Named>::READS_TEXT,)+
                }
            }

            fn build(
                self,
                width: Width,
                images: Images,
                plan: &QPlan,
                device: &Device,
            ) -> Result<Network, Error> {
                match self {
                    $(Self::$variant $({ $($field),+ })? => {
                        let size = ($($($field,)+)?);
                        let network = <$model as Named>::build(size, width, images, plan, device);
                        network.map(Network::$variant)
                    })+
                }
            }

            /// The network of that name.
            fn named(name: &str) -> Option<Self> {
                $(if let Some(($($($field,)+)?)) = <$model as Named>::size(name) {
                    return Some(Self::$variant $({ $($field),+ })?);
                })+
                None
            }
        }

        impl fmt::Display for BaseNetwork {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match *self {
                    $(Self::$variant $({ $($field),+ })? => {
                        <$model as Named>::name(($($($field,)+)?))
                    })+
                };
                f.write_str(&name)
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

            fn time_mut(&mut self) -> Option<&mut SpikeTime> {
                match self { $(Self::$variant(model) => model.time_mut(),)+ }
            }

            fn activity(&self, images: Tensor<4>) -> Option<Activity> {
                match self { $(Self::$variant(model) => model.activity(images),)+ }
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
