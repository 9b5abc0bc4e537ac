//! The values of options as help shows them, and how those are read that have no text form of their
//! own.

use super::bit_budget::BitBudget;
use crate::Error;
use crate::config::{FLOAT_BITS, Fold, widths_text};
use crate::data::DataSet;
use crate::error::one_of;
use crate::models::{Architecture, Tolerance};
use crate::optim::Schedule;
use crate::quantizers::{DorefaConfig, Number, ThresholdInit, TrainedThresholdConfig};
use crate::repair::Algorithm;
use lowbit_formats::{Accumulation, FormatError};

pub(super) const START_FROM_TEACHER: &str =
    "Start the student from the parameters and statistics that it shares with its teacher";

/// Help of `--check-integers`.
pub(super) const CHECK_INTEGERS: &str = "Check in each step that every tensor that is quantized is on its stated grid of integers, forward, \
     backward and after the update, and every sum in 32 bits (64 of operands of more than 8); the first that is not ends the run";

pub(super) const PER_CHANNEL: &str = "A threshold for each output channel of a weight";

pub(super) fn data_sets() -> String {
    let names = DataSet::ALL.map(|set| match set.is_embedded() {
        true => format!("{set} (embedded)"),
        false => set.to_string(),
    });
    one_of(&names.each_ref().map(String::as_str))
}

/// Reads a number for each of three channels, with commas.
pub(super) fn channels(text: &str) -> Result<[f64; 3], Error> {
    let numbers = text.split(',').map(|number| number.trim().parse().ok());
    let numbers: Option<Vec<f64>> = numbers.collect();
    let three = numbers.and_then(|numbers| numbers.try_into().ok());
    three.ok_or_else(|| Error::Unknown {
        kind: "numbers of three channels",
        text: text.into(),
        expected: "three numbers with commas, such as 0.5,0.5,0.5",
    })
}

pub(super) fn of_the_run() -> String {
    "that of the run".into()
}

pub(super) fn cache_folder() -> String {
    "a cache folder, filled by download".into()
}

pub(super) fn networks() -> String {
    Architecture::NAMES.into()
}

pub(super) fn inits() -> String {
    ThresholdInit::FORMS.into()
}

pub(super) fn weight_files() -> String {
    ".safetensors, .pt, .pth or .bpk".into()
}

pub(super) fn width_lists() -> String {
    "one for each layer with a weight (8,4,4,8), or by path (conv2=4,fc*=6)".into()
}

/// The default of what trained weights take a `part` of.
pub(super) fn usual(part: &str) -> String {
    format!("the usual for the data; a {part} of it from trained weights")
}

pub(super) fn widths() -> String {
    format!("those of the method (lowbit methods), or {FLOAT_BITS} for float")
}

pub(super) fn usual_bits() -> String {
    "the method's usual".into()
}

pub(super) fn bit_budget(text: &str) -> Result<BitBudget, Error> {
    let budget = BitBudget::new(text.parse().unwrap_or(f64::NAN));
    let checked = budget.check();
    checked.map_err(|_| Error::config("bit_budget", format!("is `{text}`, expected bits")))?;
    Ok(budget)
}

pub(super) fn gradient_widths() -> String {
    let widths = widths_text(&DorefaConfig::ACTIVATION_BITS);
    format!("dorefa {widths}, or {FLOAT_BITS} for float")
}

pub(super) fn tqt_widths() -> String {
    let range = TrainedThresholdConfig::BITS;
    let (first, last) = (range.start(), range.end());
    format!("{first} to {last}, or {FLOAT_BITS} for float")
}

pub(super) fn outer_widths() -> String {
    format!(
        "{}; the first and the last layer have 8 at least",
        tqt_widths()
    )
}

/// Reads algorithms, with commas.
pub(super) fn algorithms(text: &str) -> Result<Vec<Algorithm>, Error> {
    text.split(',').map(|name| name.trim().parse()).collect()
}

pub(super) fn algorithm_names() -> String {
    format!("{}, with commas", Algorithm::NAMES)
}

const FOLDS: [(&str, Fold); 3] = [
    ("off", Fold::Off),
    ("training", Fold::Training),
    ("merged", Fold::Merged),
];

pub(super) fn folds() -> String {
    format!("{} (for good)", one_of(&FOLDS.map(|(name, _)| name)))
}

pub(super) fn fold(text: &str) -> Result<Fold, Error> {
    let known = FOLDS.into_iter().find(|(name, _)| *name == text);
    let unknown = || Error::Unknown {
        kind: "way to fold",
        text: text.into(),
        expected: "off, training or merged",
    };
    known.map(|(_, fold)| fold).ok_or_else(unknown)
}

/// The schedules that need no numbers.
const SCHEDULES: [(&str, Schedule); 3] = [
    ("constant", Schedule::Constant),
    ("cosine", Schedule::Cosine),
    ("ramp", Schedule::Ramp),
];

pub(super) fn schedules() -> String {
    let names = one_of(&SCHEDULES.each_ref().map(|(name, _)| *name));
    format!("{names}; a file can also say step, stages, exponential, one-cycle")
}

/// Reads a schedule that needs no numbers.
pub(super) fn schedule(text: &str) -> Result<Schedule, Error> {
    let mut known = SCHEDULES.into_iter();
    let known = known.find(|(name, _)| *name == text);
    let unknown = || Error::Unknown {
        kind: "schedule",
        text: text.into(),
        expected: "constant, cosine or ramp; step, stages, exponential and one-cycle in a file",
    };
    known.map(|(_, schedule)| schedule).ok_or_else(unknown)
}

pub(super) fn parts() -> String {
    "a count (500) or a fraction (0.1)".into()
}

pub(super) fn intervals() -> String {
    "N epochs or N steps".into()
}

pub(super) fn numbers() -> String {
    "a format and, after a colon, a rounding (e5m2:stochastic)".into()
}

/// Reads a format with its rounding.
pub(super) fn number(text: &str) -> Result<Number, FormatError> {
    text.parse()
}

pub(super) fn sum_forms() -> String {
    "a format or integer, and an order (e6m9 chunk 64; int24 wrap), or a chip (hopper-fp8; hopper-fp8 \
     chunk 128)"
        .into()
}

/// Reads how a sum is made.
pub(super) fn sums(text: &str) -> Result<Accumulation, FormatError> {
    text.parse()
}

const DIFFERENCES: [&str; 3] = ["missing", "unexpected", "other-shape"];

pub(super) fn differences() -> String {
    format!("{}, or several of these", DIFFERENCES.join(", "))
}

/// A list of kinds of difference, with commas.
pub(super) fn tolerance(text: &str) -> Result<Tolerance, Error> {
    let mut tolerance = Tolerance::default();
    for kind in text.split(',') {
        let accepted = match kind {
            "missing" => &mut tolerance.missing,
            "unexpected" => &mut tolerance.unexpected,
            "other-shape" => &mut tolerance.other_shape,
            _ => {
                return Err(Error::Unknown {
                    kind: "difference",
                    text: kind.into(),
                    expected: "missing, unexpected or other-shape",
                });
            }
        };
        *accepted = true;
    }
    Ok(tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_named_as_in_toml() {
        for (name, schedule) in SCHEDULES {
            assert_eq!(serde_json::to_value(schedule).unwrap()["name"], name);
        }
        assert_eq!(
            schedule("Ramp").unwrap_err().to_string(),
            "unknown schedule `Ramp`, expected constant, cosine or ramp; step, stages, exponential and \
             one-cycle in a file"
        );
    }

    #[test]
    fn a_fold_is_named_as_in_toml() {
        for (name, fold) in FOLDS {
            assert_eq!(serde_json::to_value(fold).unwrap(), name);
        }
    }
}
