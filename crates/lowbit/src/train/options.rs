//! What a person can say of an experiment: one list of options, from which come the fields of
//! [`Settings`], the keys of a TOML file, the flags of the commands and their help.
//!
//! An option is described here once. What becomes of it is said where it is used: mostly in
//! [`Experiment`](super::Experiment), which is complete.

use std::error::Error;
use std::path::PathBuf;

use lowbit_formats::Accumulation;
use serde::{Deserialize, Serialize};

use super::averaging::AveragingInterval;
use super::bit_budget::BitBudget;
use super::defaults;
use super::distillation::{TEMPERATURE, WEIGHT};
use super::loss_scale::LossScale;
use super::objective::Objective;
use super::recipe::Recipe;
use super::values::{self, of_the_run, usual};
use super::width_list::WidthList;
use crate::config::{Fold, Method, QPlan};
use crate::data::{DataSet, HoldOut, ImageFolder};
use crate::models::{Architecture, SpikeTime, Tolerance};
use crate::nn::Coding;
use crate::optim::{OptimizerConfig, OptimizerNumbers, Schedule};
use crate::quantizers::{Number, ThresholdInit};
use crate::repair::Algorithm;

/// Why a text is no value of an option.
pub type Reason = Box<dyn Error + Send + Sync>;

/// An option of [`Settings`].
#[derive(Debug, Clone, Copy)]
pub struct SettingOption {
    /// Its key in TOML.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub doc: &'static str,
    /// What it decides.
    pub decides: Decides,
    /// How it is said on the command line, if it can be.
    pub flag: Option<Flag>,
    /// Whether the settings say something of it.
    pub is_set: fn(&Settings) -> bool,
}

/// What an option decides, and so beside what it cannot stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decides {
    /// What is quantized, which a complete plan says, too.
    Quantization,
    /// Which runs there are, which a complete experiment says, too.
    Runs,
    /// Anything else.
    Training,
}

/// How an option is said on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name after `--`, where that is not the option's.
    long: Option<&'static str>,
    /// What its value is called in help; none where it has no value.
    pub value_name: Option<&'static str>,
    /// What a flag without a value sets the option to.
    pub switch_value: &'static str,
    /// Whether it may be given several times.
    pub is_list: bool,
    /// Reads a text into settings.
    pub set: fn(&mut Settings, &str) -> Result<(), Reason>,
    uses: [Option<Usage>; Command::COUNT],
}

/// A command that has some of the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Trains an experiment.
    Train,
    /// Quantizes what was trained.
    Quantize,
    /// Looks at what was trained.
    Look,
    /// Trains a student with a teacher; it has the options of training, too.
    Distill,
    /// Trains networks from one width to the next; it has the options of training, too, but for those
    /// that say which runs there are.
    Chain,
}

impl Command {
    const COUNT: usize = 5;
}

/// An option in one command.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Its values, in help, after the option's meaning.
    values: fn() -> String,
    /// What it is unless given, in help.
    default: fn() -> String,
    /// Help in place of both and of the option's meaning.
    help: Option<&'static str>,
    /// Whether it must be given.
    pub is_required: bool,
    /// The flag or option that must be given, too.
    pub requires: Option<&'static str>,
}

impl Usage {
    const fn new(values: fn() -> String, default: fn() -> String) -> Self {
        Self {
            values,
            default,
            help: None,
            is_required: false,
            requires: None,
        }
    }

    const fn requires(self, other: &'static str) -> Self {
        Self {
            requires: Some(other),
            ..self
        }
    }
}

/// What a chain of widths says itself.
const OF_A_CHAIN: [&str; 6] = ["model", "wbits", "abits", "baseline", "from", "accept"];

/// Nothing to say.
const NO: fn() -> String = String::new;

impl Flag {
    const fn new(
        value_name: &'static str,
        set: fn(&mut Settings, &str) -> Result<(), Reason>,
    ) -> Self {
        Self {
            long: None,
            value_name: Some(value_name),
            switch_value: "",
            is_list: false,
            set,
            uses: [None; Command::COUNT],
        }
    }

    /// Without a value: it sets the option to `value`.
    const fn switch(self, value: &'static str) -> Self {
        Self {
            value_name: None,
            switch_value: value,
            ..self
        }
    }

    const fn long(self, name: &'static str) -> Self {
        Self {
            long: Some(name),
            ..self
        }
    }

    const fn list(self) -> Self {
        Self {
            is_list: true,
            ..self
        }
    }

    const fn on(mut self, command: Command, usage: Usage) -> Self {
        self.uses[command as usize] = Some(usage);
        self
    }
}

impl SettingOption {
    /// The flag's name after `--`.
    pub fn long(&self) -> &'static str {
        let own = self.flag.and_then(|flag| flag.long);
        own.unwrap_or(self.name)
    }

    /// The flag and how a command has it, if it does.
    pub fn on(&self, command: Command) -> Option<(Flag, Usage)> {
        let flag = self.flag?;
        let own = flag.uses[command as usize];
        let of_training = flag.uses[Train as usize].filter(|_| match command {
            Distill => true,
            Chain => !OF_A_CHAIN.contains(&self.name),
            _ => false,
        });
        Some((flag, own.or(of_training)?))
    }

    /// A command's help, if it has the option: `MEANING: VALUES [default: DEFAULT]`.
    pub fn help(&self, command: Command) -> Option<String> {
        let (_, usage) = self.on(command)?;
        if let Some(help) = usage.help {
            return Some(help.into());
        }
        let mut help = self.doc.trim().trim_end_matches('.').to_string();
        let (values, default) = ((usage.values)(), (usage.default)());
        if !values.is_empty() {
            help += &format!(": {values}");
        }
        if !default.is_empty() {
            help += &format!(" [default: {default}]");
        }
        Some(help)
    }
}

/// The settings and the list of their options, from one list: meaning, name, type, what it decides
/// and, for a flag, how a text is read, what its value is called, and the commands that have it.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $type:ty, $decides:ident
            $(, $read:expr => $value_name:literal $(. $build:ident ($($argument:expr),*))*)?;
    )+) => {
        /// The part of an [`Experiment`](super::Experiment) that is given; the rest is as usual for
        /// the data set and the method.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: Option<$type>,)+
        }

        impl Settings {
            /// All options, in the order of help.
            pub const OPTIONS: &[SettingOption] = &[$(
                SettingOption {
                    name: stringify!($name),
                    doc: concat!($($doc),+),
                    decides: Decides::$decides,
                    flag: settings!(@flag $name $($read => $value_name $(. $build ($($argument),*))*)?),
                    is_set: |settings| settings.$name.is_some(),
                },
            )+];

            /// The same without what they say of what is quantized.
            pub(super) fn without_quantization(mut self) -> Self {
                $(if Decides::$decides == Decides::Quantization {
                    self.$name = None;
                })+
                self
            }

            /// These settings where they say something, `other` where they do not.
            pub fn or(self, other: Self) -> Self {
                Self {
                    $($name: self.$name.or(other.$name),)+
                }
            }
        }
    };
    (@flag $name:ident) => { None };
    (@flag $name:ident $read:expr => $value_name:literal $(. $build:ident ($($argument:expr),*))*) => {
        Some(
            Flag::new($value_name, |settings, text| {
                settings.$name = Some($read(text)?);
                Ok(())
            })
            $(. $build ($($argument),*))*
        )
    };
}

use Command::{Chain, Distill, Look, Quantize, Train};

settings! {
    /// The data set.
    data: DataSet, Training, str::parse => "SET"
        .on(Train, Usage::new(values::data_sets, || defaults::DATA.to_string()))
        .on(Quantize, Usage::new(values::data_sets, of_the_run));

    /// Folder with the data set's files.
    data_dir: PathBuf, Training, str::parse => "DIR"
        .long("data-dir")
        .on(Train, Usage::new(NO, values::cache_folder))
        .on(Quantize, Usage::new(NO, values::cache_folder))
        .on(Look, Usage::new(NO, values::cache_folder));

    /// Pixels of the shorter side that the images of a folder are brought to; 0 for images as they are.
    image_resize: u32, Training, str::parse => "N"
        .long("image-resize")
        .on(Train, Usage::new(NO, || "as 256 for a crop of 224".into()));

    /// Rows and columns of the images of a folder that the network sees.
    image_crop: u32, Training, str::parse => "N"
        .long("image-crop")
        .on(Train, Usage::new(NO, || ImageFolder::default().crop.to_string()));

    /// Mean of red, green and blue of the images of a folder, from 0 to 1.
    image_mean: [f64; 3], Training, values::channels => "R,G,B"
        .long("image-mean")
        .on(Train, Usage::new(NO, || "that of ImageNet".into()));

    /// Standard deviation of red, green and blue of the images of a folder.
    image_std: [f64; 3], Training, values::channels => "R,G,B"
        .long("image-std")
        .on(Train, Usage::new(NO, || "that of ImageNet".into()));

    /// The network.
    model: Architecture, Training, str::parse => "NAME"
        .on(Train, Usage::new(values::networks, || "the usual one for the data".into()))
        .on(Quantize, Usage::new(values::networks, || "that of the run, or the usual one for the data".into()));

    /// Steps of time of a spiking network.
    steps: usize, Training, str::parse => "N"
        .on(Train, Usage::new(NO, || SpikeTime::default().steps.to_string()));

    /// What an image becomes over these steps.
    coding: Coding, Training, str::parse => "HOW"
        .on(Train, Usage::new(|| Coding::NAMES.into(), || Coding::default().to_string()));

    /// How it is quantized.
    method: Method, Quantization, str::parse => "NAME"
        .on(Train, Usage::new(|| Method::names().into(), || defaults::METHOD.to_string()))
        .on(Quantize, Usage::new(|| Method::TQT.to_string(), || Method::TQT.to_string()));

    /// Whether a float network is trained first, for comparison; it is unless the weights are
    /// given by `from`.
    baseline: bool, Runs, str::parse => ""
        .switch("false")
        .long("no-baseline")
        .on(Train, Usage { help: Some("Train the quantized network alone"), ..Usage::new(NO, NO) })
        .on(Distill, Usage { help: Some("Train no student without the teacher"), ..Usage::new(NO, NO) });

    /// Bits of weights.
    wbits: u32, Quantization, str::parse => "N"
        .on(Train, Usage::new(values::widths, values::usual_bits))
        .on(Quantize, Usage::new(values::outer_widths, || Method::TQT.usual_bits()[0].to_string()));

    /// Bits of activations.
    abits: u32, Quantization, str::parse => "N"
        .on(Train, Usage::new(values::widths, values::usual_bits))
        .on(Quantize, Usage::new(values::outer_widths, || Method::TQT.usual_bits()[0].to_string()));

    /// Bits of the gradients that reach results of layers on the way back, stochastic.
    gbits: u32, Quantization, str::parse => "N"
        .on(Train, Usage::new(values::gradient_widths, || "float".into()));

    /// Bits of biases.
    bbits: u32, Quantization, str::parse => "N"
        .on(Train, Usage::new(|| format!("tqt {}", values::tqt_widths()), || defaults::BIAS_BITS.to_string()))
        .on(Quantize, Usage::new(values::tqt_widths, || defaults::BIAS_BITS.to_string()));

    /// How thresholds of activations start from the training images; the network's input starts from
    /// max where this is kl-j or entropy.
    init: ThresholdInit, Quantization, str::parse => "HOW"
        .on(Train, Usage::new(values::inits, || "that of the method".into()))
        .on(Quantize, Usage::new(values::inits, || defaults::STATIC_ACTIVATIONS.to_string()));

    /// How thresholds of weights start, with the values of --init.
    weight_init: ThresholdInit, Quantization, str::parse => "HOW"
        .long("weight-init")
        .on(Train, Usage::new(NO, || "that of the method".into()))
        .on(Quantize, Usage::new(NO, || defaults::STATIC_WEIGHTS.to_string()));

    /// Whether each output channel of a weight has a threshold of its own.
    per_channel: bool, Quantization, str::parse => ""
        .long("per-channel")
        .switch("true")
        .on(Train, Usage { help: Some(values::PER_CHANNEL), ..Usage::new(NO, NO) })
        .on(Quantize, Usage { help: Some(values::PER_CHANNEL), ..Usage::new(NO, NO) });

    /// Whether convolutions are quantized as one with the normalizations after them.
    fold: Fold, Quantization, values::fold => "HOW"
        .on(Train, Usage::new(values::folds, || "off, or that of the quantized run in --from".into()))
        .on(Quantize, Usage::new(values::folds, || "off".into()));

    /// What is done to a trained network, in this order, before its run: moving ranges between layers,
    /// choosing how weights are rounded, correcting biases.
    algorithms: Vec<Algorithm>, Runs, values::algorithms => "LIST"
        .long("algorithm")
        .on(Train, Usage::new(values::algorithm_names, || "none".into()))
        .on(Quantize, Usage::new(values::algorithm_names, || "none".into()));

    /// Bits of weight and input by layer.
    widths: WidthList, Quantization, str::parse => "LIST"
        .on(Train, Usage::new(values::width_lists, NO))
        .on(Quantize, Usage::new(values::width_lists, NO));

    /// The format of what layers with a weight read, in a float method.
    activation_format: Number, Quantization, values::number => "NUMBER"
        .long("activation-format")
        .on(Train, Usage::new(values::numbers, || "float".into()));

    /// The format of the gradient that reaches the results of layers with a weight on the way back; with
    /// `bf16`, products with it are made in bfloat16.
    error_format: Number, Quantization, values::number => "NUMBER"
        .long("error-format")
        .on(Train, Usage::new(NO, || "float".into()));

    /// How layers with a weight make their sums, forward and backward, in a float method.
    sums: Accumulation, Quantization, values::sums => "SUM"
        .on(Train, Usage::new(values::sum_forms, || "float".into()));

    /// The format of weights, as the optimizer leaves them.
    weight_format: Number, Runs, values::number => "NUMBER"
        .long("weight-format")
        .on(Train, Usage::new(NO, || "float".into()));

    /// The format of the gradients of weights, as the optimizer gets them.
    gradient_format: Number, Runs, values::number => "NUMBER"
        .long("gradient-format")
        .on(Train, Usage::new(NO, || "float".into()));

    /// The format of momentum, and of all else that the optimizer remembers.
    momentum_format: Number, Runs, values::number => "NUMBER"
        .long("momentum-format")
        .on(Train, Usage::new(NO, || "float".into()));

    /// The format of a copy of the weights on which the optimizer makes its steps.
    accumulator_format: Number, Runs, values::number => "NUMBER"
        .long("accumulator-format")
        .on(Train, Usage::new(NO, || "no copy".into()));

    /// The format of Adam's mean of squares, in place of that of momentum.
    second_moment_format: Number, Runs, values::number => "NUMBER"
        .long("second-moment-format")
        .on(Train, Usage::new(NO, || "that of --momentum-format".into()));

    /// The formats of all that the optimizer has, and which tensors they are of; those above replace
    /// its own.
    numbers: OptimizerNumbers, Runs;

    /// What the loss is multiplied by, so that gradients are not too small for their formats.
    loss_scale: LossScale, Runs, str::parse => "SCALE"
        .long("loss-scale")
        .on(Train, Usage::new(|| "a number, or dynamic [START]".into(), || "1".into()));

    /// What is quantized, in place of what the method would.
    plan: QPlan, Runs;

    /// Times that each run sees every image.
    epochs: usize, Training, str::parse => "N"
        .on(Train, Usage::new(NO, || usual("fifth")))
        .on(
            Quantize,
            Usage::new(|| "in a comparison, each that is retrained".into(), || "a fifth of the usual".into())
                .requires("compare")
        );

    /// Images in a step.
    batch: usize, Training, str::parse => "N"
        .on(Train, Usage::new(NO, || "the usual for the data".into()));

    /// Highest learning rate of the weights.
    lr: f64, Training, str::parse => "RATE"
        .on(Train, Usage::new(NO, || usual("tenth")));

    /// Highest learning rate of trained thresholds.
    threshold_lr: f64, Training;

    /// The optimizer.
    optimizer: OptimizerConfig, Training;

    /// The learning rate over the run, or until weights are averaged.
    schedule: Schedule, Training, values::schedule => "NAME"
        .on(Train, Usage::new(values::schedules, || "the usual for the data".into()));

    /// Epochs after which weights are averaged: the average is what is tested and kept.
    swa_start: usize, Training, str::parse => "N"
        .long("swa-start")
        .on(Train, Usage::new(NO, || "no average".into()));

    /// How often the average takes in the weights.
    swa_every: AveragingInterval, Training, str::parse => "HOW"
        .long("swa-every")
        .on(Train, Usage::new(values::intervals, || AveragingInterval::default().to_string()));

    /// The learning rate of the weights from there on.
    swa_rate: f64, Training, str::parse => "RATE"
        .long("swa-rate")
        .on(Train, Usage::new(NO, || "a fifth of --lr".into()));

    /// The format of the average.
    swa_format: Number, Training, values::number => "NUMBER"
        .long("swa-format")
        .on(Train, Usage::new(values::numbers, || "float".into()));

    /// The largest norm of all gradients of a step together; larger ones are scaled down to it.
    clip_norm: f64, Training, str::parse => "NORM"
        .long("clip-norm")
        .on(Train, Usage::new(NO, || "any".into()));

    /// What label smoothing takes from the right class and spreads over all.
    label_smoothing: f64, Training, str::parse => "PART"
        .long("label-smoothing")
        .on(Train, Usage::new(|| "0 to below 1".into(), || "0".into()));

    /// Alpha of mixup, which trains on pairs of images, mixed in shares of the beta distribution.
    mixup: f64, Training, str::parse => "ALPHA"
        .on(Train, Usage::new(NO, || "0, nothing is mixed".into()));

    /// Rows and columns of a square that is cut out of each training image.
    cutout: u32, Training, str::parse => "SIZE"
        .on(Train, Usage::new(NO, || "0, nothing is cut out".into()));

    /// Whether each step is checked to be made of integers: every tensor on its stated grid, every sum
    /// in 32 bits, or 64 of operands of more than 8.
    check_integers: bool, Training, str::parse => ""
        .switch("true")
        .long("check-integers")
        .on(Train, Usage { help: Some(values::CHECK_INTEGERS), ..Usage::new(NO, NO) });

    /// How many bits learned widths may have on average, of weights and of activations.
    bit_budget: BitBudget, Runs, values::bit_budget => "BITS"
        .long("bit-budget")
        .on(Train, Usage::new(NO, || "none".into()));

    /// The loss.
    objective: Objective, Training, str::parse => "NAME"
        .on(Train, Usage::new(|| Objective::names().into(), || Objective::default().to_string()));

    /// What a network learns from beside the labels: the folder of a run, whose best weights are
    /// meant, a checkpoint of one, or a file of weights.
    teacher: PathBuf, Runs, str::parse => "RUN"
        .on(Distill, Usage { is_required: true, ..Usage::new(values::weight_files, NO) });

    /// The network of a teacher that is a file of weights.
    teacher_model: Architecture, Runs, str::parse => "NAME"
        .long("teacher-model")
        .on(Distill, Usage::new(NO, NO));

    /// How it is quantized.
    teacher_method: Method, Runs, str::parse => "NAME"
        .long("teacher-method")
        .on(Distill, Usage::new(NO, || Method::FLOAT.to_string()));

    /// Bits of its weights.
    teacher_wbits: u32, Runs, str::parse => "N"
        .long("teacher-wbits")
        .on(Distill, Usage::new(NO, || "the usual of its method".into()));

    /// Bits of its activations.
    teacher_abits: u32, Runs, str::parse => "N"
        .long("teacher-abits")
        .on(Distill, Usage::new(NO, || "the usual of its method".into()));

    /// What the scores of student and teacher are divided by; 4 is common, too.
    temperature: f64, Runs, str::parse => "T"
        .on(Distill, Usage::new(NO, || TEMPERATURE.to_string()))
        .on(Chain, Usage::new(NO, || TEMPERATURE.to_string()));

    /// How much of the loss is the teacher's, 0 to 1; 0.9 is common, too.
    distill_weight: f64, Runs, str::parse => "L"
        .long("distill-weight")
        .on(Distill, Usage::new(NO, || WEIGHT.to_string()))
        .on(Chain, Usage::new(NO, || WEIGHT.to_string()));

    /// Whether labels take part in the loss; without them the teacher is all of it.
    labels: bool, Runs, str::parse => ""
        .switch("false")
        .long("no-labels")
        .on(Distill, Usage { help: Some("Learn from the teacher alone, without labels"), ..Usage::new(NO, NO) });

    /// The weight in the loss of the distance between what the stages of both hand on (FitNets).
    feature_weight: f64, Runs, str::parse => "W"
        .long("feature-weight")
        .on(Distill, Usage::new(NO, || "0".into()))
        .on(Chain, Usage::new(NO, || "0".into()));

    /// The weight of the distance between their attention maps.
    attention_weight: f64, Runs, str::parse => "W"
        .long("attention-weight")
        .on(Distill, Usage::new(NO, || "0".into()))
        .on(Chain, Usage::new(NO, || "0".into()));

    /// Epochs in which the student learns from labels alone, before it has the teacher (QKD).
    self_study: usize, Runs, str::parse => "N"
        .long("self-study")
        .on(Distill, Usage::new(NO, || "0".into()));

    /// Epochs after them in which the teacher learns from the student, too (QKD).
    co_study: usize, Runs, str::parse => "N"
        .long("co-study")
        .on(Distill, Usage::new(NO, || "0".into()));

    /// Whether the student starts from those of the teacher's parameters and statistics that have its
    /// names and shapes.
    start_from_teacher: bool, Runs, str::parse => ""
        .switch("true")
        .long("start-from-teacher")
        .on(Distill, Usage { help: Some(values::START_FROM_TEACHER), ..Usage::new(NO, NO) })
        .on(Chain, Usage { help: Some(values::START_FROM_TEACHER), ..Usage::new(NO, NO) });

    /// Whether training images are cropped and flipped at random.
    augment: bool, Training;

    /// What is done beside descending.
    recipe: Recipe, Training;

    /// Training images to calibrate thresholds with.
    calibration_images: usize, Training, str::parse => "N"
        .long("images")
        .on(Quantize, Usage::new(NO, || defaults::CALIBRATION_IMAGES.to_string()));

    /// Training images that are held out to choose the best checkpoint by, each class's share of them
    /// drawn by the seed; otherwise the test images choose it.
    hold_out: HoldOut, Training, str::parse => "PART"
        .long("hold-out")
        .on(Train, Usage::new(values::parts, || "none".into()));

    /// Where all randomness comes from.
    seed: u64, Training, str::parse => "N"
        .on(Train, Usage::new(NO, || defaults::SEED.to_string()))
        .on(Quantize, Usage::new(NO, of_the_run));

    /// Threads; the numbers do not depend on it.
    threads: usize, Training, str::parse => "N"
        .on(Train, Usage::new(NO, || "all cores".into()))
        .on(Quantize, Usage::new(NO, || "all cores".into()))
        .on(Look, Usage::new(NO, || "those of the run".into()));

    /// The folder of an earlier run whose best weights this one starts from, or a file with the
    /// weights of the plain network.
    from: PathBuf, Runs, str::parse => "RUN"
        .on(Train, Usage::new(values::weight_files, NO))
        .on(Quantize, Usage { is_required: true, ..Usage::new(values::weight_files, NO) });

    /// What of a difference between their weights and the network is accepted, and listed.
    accept: Tolerance, Training, values::tolerance => "LIST"
        .list()
        .on(Train, Usage::new(values::differences, || "nothing".into()).requires("from"))
        .on(Quantize, Usage::new(values::differences, || "nothing".into()));
}

impl Settings {
    /// The first option that is set and of which `chosen` holds.
    pub(super) fn first(&self, chosen: impl Fn(&SettingOption) -> bool) -> Option<&'static str> {
        let set = |option: &&SettingOption| (option.is_set)(self) && chosen(option);
        Self::OPTIONS.iter().find(set).map(|option| option.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str) -> &'static SettingOption {
        let mut options = Settings::OPTIONS.iter();
        options.find(|option| option.name == name).unwrap()
    }

    #[test]
    fn help_is_made_of_meaning_values_and_default() {
        let help = |name, command| option(name).help(command).unwrap();
        assert_eq!(
            help("bbits", Train),
            "Bits of biases: tqt 2 to 24, or 32 for float [default: 16]"
        );
        assert_eq!(
            help("calibration_images", Quantize),
            "Training images to calibrate thresholds with [default: 1024]"
        );
        assert_eq!(option("calibration_images").long(), "images");
        assert_eq!(option("batch").help(Quantize), None);
    }

    #[test]
    fn a_flag_has_hyphens() {
        let flags = Settings::OPTIONS.iter().filter(|o| o.flag.is_some());
        assert!(flags.clone().count() > 10);
        for option in flags {
            assert!(!option.long().contains('_'), "{}", option.name);
        }
    }

    #[test]
    fn a_text_sets_its_option_and_no_other() {
        for (name, text) in [
            ("data", "mnist"),
            ("fold", "merged"),
            ("accept", "missing,other-shape"),
            ("baseline", "false"),
            ("widths", "8,4"),
            ("algorithms", "equalize,gptq"),
            ("objective", "sum-of-squares"),
            ("schedule", "ramp"),
            ("swa_every", "50 steps"),
            ("image_mean", "0.5,0.5,0.5"),
            ("swa_format", "bfp(8):stochastic"),
        ] {
            let mut settings = Settings::default();
            (option(name).flag.unwrap().set)(&mut settings, text).unwrap();
            let set: Vec<&str> = Settings::OPTIONS
                .iter()
                .filter(|option| (option.is_set)(&settings))
                .map(|option| option.name)
                .collect();
            assert_eq!(set, [name]);
        }
    }

    #[test]
    fn flags_stand_over_a_file() {
        let file: Settings = toml::from_str("epochs = 3\nbatch = 16\nwidths = \"8,4\"").unwrap();
        let flags = Settings {
            epochs: Some(5),
            ..Settings::default()
        };
        let both = flags.or(file);
        assert_eq!((both.epochs, both.batch), (Some(5), Some(16)));
        assert_eq!(both.widths.unwrap().layers, [8, 4]);
    }
}
