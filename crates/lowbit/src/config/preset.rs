//! The plans that a name stands for.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::{AllDirect, IoStrict, Method, QPlan, TqtWidths};
use crate::Error;
use crate::error::one_of;

/// A plan that a name stands for: one of the [methods](Method::ALL), `tqt-integer`
/// ([`QPlan::tqt_integer`]), or `io-strict` ([`IoStrict`]).
///
/// # Example
/// ```
/// use lowbit::config::{Preset, QPlan};
///
/// let preset: Preset = "tqt-integer".parse()?;
/// let plan = preset.plan(Some(4), None)?;
/// assert_eq!(plan.default.get("weight").unwrap().bits(), 4);
/// assert_eq!(QPlan::from_toml(&plan.to_toml())?, plan);
/// # Ok::<(), lowbit::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// What a method quantizes.
    Method(Method),
    /// TQT with every tensor quantized.
    TqtInteger,
    /// Every tensor as in the wageubn package; the bits are those of weights, and of inputs.
    IoStrict,
}

const TQT_INTEGER: &str = "tqt-integer";
const IO_STRICT: &str = "io-strict";

impl Preset {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let methods = Method::ALL.iter().copied().map(Self::Method);
        methods.chain([Self::TqtInteger, Self::IoStrict])
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method(method) => method.name(),
            Self::TqtInteger => TQT_INTEGER,
            Self::IoStrict => IO_STRICT,
        }
    }

    /// The plan with bits of weights and activations, the usual ones where they are not given; 32
    /// leave a tensor in float.
    ///
    /// # Errors
    /// If the method has no such width.
    pub fn plan(self, wbits: Option<u32>, abits: Option<u32>) -> Result<QPlan, Error> {
        let plan = match self {
            Self::Method(method) => {
                let [weights, activations] = method.widths(wbits, abits)?;
                method.plan(weights, activations)
            }
            Self::TqtInteger => {
                let [weight, activation] = Method::TQT.widths(wbits, abits)?;
                QPlan::tqt_integer(TqtWidths {
                    weight,
                    activation,
                    ..TqtWidths::default()
                })
            }
            Self::IoStrict => {
                let usual = IoStrict::default();
                let of = |bits: Option<u32>, usual| bits.map_or(usual, AllDirect::of);
                IoStrict {
                    weight: of(wbits, usual.weight),
                    input: of(abits, usual.input),
                    ..usual
                }
                .plan()?
            }
        };
        Ok(plan)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        static NAMES: LazyLock<String> = LazyLock::new(|| {
            let names: Vec<&str> = Preset::all().map(Preset::name).collect();
            one_of(&names)
        });
        Self::all()
            .find(|preset| preset.name() == text)
            .ok_or_else(|| Error::Unknown {
                kind: "plan",
                text: text.into(),
                expected: &NAMES,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_as_it_is_printed() {
        for preset in Preset::all() {
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
            let plan = preset.plan(None, None).unwrap();
            assert_eq!(QPlan::from_toml(&plan.to_toml()).unwrap(), plan, "{preset}");
        }
        let unknown = "tqt-int".parse::<Preset>().unwrap_err().to_string();
        assert!(
            unknown.ends_with("learned-width, tqt-integer or io-strict"),
            "{unknown}"
        );
        let refused = Preset::TqtInteger.plan(Some(77), None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "wbits: is 77, tqt takes 2 to 24, or 32 for float"
        );
    }
}
