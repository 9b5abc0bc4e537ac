//! Loss scaling: gradients that would be too small for a format are made larger on their way back.

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What the loss is multiplied by before gradients are computed; each gradient of a parameter is
/// divided by it, in float, before the optimizer gets it (Micikevicius et al., arXiv 1710.03740,
/// section 3.2). What layers round on the way back, in the slots `error` and `gradient`, is scaled;
/// what the optimizer rounds is not.
///
/// A step with a gradient that is NaN or infinite is left out and counted.
///
/// Text: the number, as `1000`; `dynamic`, or with the scale to start from `dynamic 1024`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub enum LossScale {
    /// Always this number.
    Static(f32),
    /// A power of two that is doubled after [`GROWS_AFTER`](Self::GROWS_AFTER) steps in a row with
    /// finite gradients, and halved after each step that was left out.
    Dynamic {
        /// The first scale.
        start: f32,
    },
}

/// A number or a text, as TOML has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl LossScale {
    /// Steps after which a dynamic scale grows, those of PyTorch's `GradScaler`.
    pub const GROWS_AFTER: u32 = 2000;

    /// Where a dynamic scale starts unless said, as there.
    pub const START: f32 = 65_536.0;

    /// The largest and the least that a dynamic scale becomes.
    const RANGE: (f32, f32) = (1.0 / 16_777_216.0, 1.701_411_8e38);

    /// Whether the number is in its range.
    pub fn check(&self) -> Result<(), Error> {
        let refused = |message| Err(Error::config("loss_scale", message));
        match *self {
            Self::Static(scale) if !(scale.is_normal() && scale > 0.0) => refused(format!(
                "is {scale}, expected a positive number or `dynamic`"
            )),
            Self::Dynamic { start }
                if !(start.is_normal() && start > 0.0 && start.log2().fract() == 0.0) =>
            {
                refused(format!("starts from {start}, expected a power of two"))
            }
            _ => Ok(()),
        }
    }

    /// How it starts.
    pub(super) fn state(&self) -> LossScaling {
        let (Self::Static(scale) | Self::Dynamic { start: scale }) = *self;
        LossScaling {
            scale,
            finite_steps: 0,
            skipped: 0,
        }
    }
}

impl fmt::Display for LossScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(scale) => write!(f, "{scale}"),
            Self::Dynamic { start } if *start == Self::START => f.write_str("dynamic"),
            Self::Dynamic { start } => write!(f, "dynamic {start}"),
        }
    }
}

impl FromStr for LossScale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || {
            let message = format!("is `{text}`, expected a positive number or `dynamic`");
            Error::config("loss_scale", message)
        };
        let number = |text: &str| text.trim().parse::<f32>().map_err(|_| unknown());
        let scale = match text.trim().strip_prefix("dynamic") {
            Some("") => Self::Dynamic { start: Self::START },
            Some(start) if start.starts_with(' ') => Self::Dynamic {
                start: number(start)?,
            },
            Some(_) => return Err(unknown()),
            None => Self::Static(number(text)?),
        };
        scale.check()?;
        Ok(scale)
    }
}

impl TryFrom<Value> for LossScale {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self, Error> {
        match value {
            Value::Number(number) => number.to_string().parse(),
            Value::Text(text) => text.parse(),
            Value::Other(_) => {
                let message = "expected a positive number or `dynamic`";
                Err(Error::config("loss_scale", message))
            }
        }
    }
}

impl From<LossScale> for String {
    fn from(scale: LossScale) -> Self {
        scale.to_string()
    }
}

/// Where loss scaling stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaling {
    /// The scale of the next step.
    pub scale: f32,
    /// Steps since it last changed.
    pub finite_steps: u32,
    /// Steps of the epoch under way that were left out.
    pub skipped: u64,
}

impl LossScaling {
    /// Takes note of a step, whose gradients were finite or not.
    pub(super) fn follow(&mut self, kind: LossScale, finite: bool) {
        self.skipped += u64::from(!finite);
        if let LossScale::Static(_) = kind {
            return;
        }
        self.finite_steps = if finite { self.finite_steps + 1 } else { 0 };
        let (least, largest) = LossScale::RANGE;
        if !finite {
            self.scale = (self.scale / 2.0).max(least);
        } else if self.finite_steps == LossScale::GROWS_AFTER {
            self.scale = (self.scale * 2.0).min(largest);
            self.finite_steps = 0;
        }
    }
}

/// The gradients of a model's parameters over the scale; `None` if one is not finite.
pub(super) fn unscaled<M: Module>(
    model: &M,
    grads: GradientsParams,
    scale: f32,
) -> Option<GradientsParams> {
    let mut visitor = Unscale {
        grads,
        scale,
        finite: true,
    };
    model.visit(&mut visitor);
    visitor.finite.then_some(visitor.grads)
}

struct Unscale {
    grads: GradientsParams,
    scale: f32,
    finite: bool,
}

impl ModuleVisitor for Unscale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let grad = grad.div_scalar(self.scale);
        self.finite = self.finite && grad.clone().is_finite().all().into_scalar::<bool>();
        self.grads.register(param.id, grad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_go_both_ways() {
        for text in ["1000", "0.5", "dynamic", "dynamic 1024"] {
            let scale: LossScale = text.parse().unwrap();
            assert_eq!(scale.to_string(), text);
        }
        #[derive(Deserialize)]
        struct File {
            scale: LossScale,
        }
        let file: File = toml::from_str("scale = 1000").unwrap();
        assert_eq!(file.scale, LossScale::Static(1000.0));
        let file: File = toml::from_str("scale = \"dynamic\"").unwrap();
        assert_eq!(file.scale, LossScale::Dynamic { start: 65_536.0 });
    }

    #[test]
    fn what_is_no_scale_is_one_line() {
        let refused = |text: &str| text.parse::<LossScale>().unwrap_err().to_string();
        let expected = "expected a positive number or `dynamic`";
        assert_eq!(refused("0"), format!("loss_scale: is 0, {expected}"));
        assert_eq!(refused("-8"), format!("loss_scale: is -8, {expected}"));
        assert_eq!(refused("NaN"), format!("loss_scale: is NaN, {expected}"));
        assert_eq!(refused("big"), format!("loss_scale: is `big`, {expected}"));
        assert_eq!(
            refused("dynamics"),
            format!("loss_scale: is `dynamics`, {expected}")
        );
        assert_eq!(
            refused("dynamic 1000"),
            "loss_scale: starts from 1000, expected a power of two"
        );
    }

    /// Halved where gradients overflow, doubled after 2000 steps in which they do not.
    #[test]
    fn a_dynamic_scale_follows_the_gradients() {
        let kind: LossScale = "dynamic 8".parse().unwrap();
        let mut state = kind.state();
        state.follow(kind, false);
        state.follow(kind, false);
        assert_eq!((state.scale, state.skipped), (2.0, 2));
        (0..1999).for_each(|_| state.follow(kind, true));
        assert_eq!(state.scale, 2.0);
        state.follow(kind, true);
        assert_eq!((state.scale, state.finite_steps), (4.0, 0));
        (0..100).for_each(|_| state.follow(kind, true));
        state.follow(kind, false);
        assert_eq!((state.scale, state.finite_steps), (2.0, 0));
        let fixed = LossScale::Static(1000.0);
        let mut state = fixed.state();
        state.follow(fixed, false);
        assert_eq!((state.scale, state.skipped), (1000.0, 1));
    }
}
