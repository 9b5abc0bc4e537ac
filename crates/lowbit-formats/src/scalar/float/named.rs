//! Names and text of floating-point formats.

use std::fmt;

use crate::error::check_range;
use crate::grammar::{Argument, Call, Reason};
use crate::scalar::FormatText;
use crate::scalar::e8m0::E8M0;
use crate::scalar::float::{Float, Specials, default_bias};

/// Formats with a name: exponent and mantissa bits, bias, special codes, and the definition.
///
/// - fp32, fp16: IEEE 754-2019, table 3.5 (binary32, binary16). tf32: NVIDIA A100 white paper.
///   bf16: Google's bfloat16. All with an exponent bias of `2^(exponent-1) - 1`.
/// - e5m2, e4m3: OCP 8-bit floating point specification, revision 1.0, table 1.
/// - e4m3fnuz, e5m2fnuz: Noune et al., arXiv 2206.02915. e4m3b11fnuz, e3m4: as in ml_dtypes.
/// - e3m2, e2m3, e2m1: OCP microscaling formats, version 1.0, tables 3 and 4.
const NAMED: [(&str, u8, u8, i16, Specials); 13] = [
    ("fp32", 8, 23, 127, Specials::Ieee),
    ("tf32", 8, 10, 127, Specials::Ieee),
    ("fp16", 5, 10, 15, Specials::Ieee),
    ("bf16", 8, 7, 127, Specials::Ieee),
    ("e5m2", 5, 2, 15, Specials::Ieee),
    ("e4m3", 4, 3, 7, Specials::Fn),
    ("e4m3fnuz", 4, 3, 8, Specials::Fnuz),
    ("e5m2fnuz", 5, 2, 16, Specials::Fnuz),
    ("e3m4", 3, 4, 3, Specials::Ieee),
    ("e4m3b11fnuz", 4, 3, 11, Specials::Fnuz),
    ("e3m2", 3, 2, 3, Specials::Finite),
    ("e2m3", 2, 3, 1, Specials::Finite),
    ("e2m1", 2, 1, 1, Specials::Finite),
];

impl Float {
    /// The format of a name such as `e4m3`.
    pub fn named(name: &str) -> Option<Self> {
        let &(_, exponent, mantissa, bias, specials) =
            NAMED.iter().find(|(known, ..)| *known == name)?;
        Some(Self {
            exponent,
            mantissa,
            bias,
            subnormals: true,
            specials,
            saturate: specials == Specials::Finite,
        })
    }

    /// The exponent and mantissa bits of a name such as `e6m9`: that of `float(6,9)`. A name that a
    /// document defines is what the document says: `e4m3` is no `float(4,3)`, and `e8m0` no float.
    fn widths(name: &str) -> Option<(u8, u8)> {
        let (exponent, mantissa) = name.strip_prefix('e')?.split_once('m')?;
        let (exponent, mantissa) = (exponent.parse().ok()?, mantissa.parse().ok()?);
        let plain = name == format!("e{exponent}m{mantissa}");
        let defined = Self::named(name).is_some() || E8M0::has_name(name);
        let widths = plain && !defined && Self::new(exponent, mantissa).is_ok();
        widths.then_some((exponent, mantissa))
    }

    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name)
    }
}

impl FormatText for Float {
    const EXAMPLES: &'static [&'static str] = &[
        "float(4,3)",
        "e4m3(saturate)",
        "float(4,4,fnuz)",
        "float(3,3,finite)",
        "float(4,3,bias=9,flush)",
    ];

    fn has_name(name: &str) -> bool {
        name == "float" || Self::named(name).is_some() || Self::widths(name).is_some()
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        if let Some(format) = Self::named(call.name()) {
            return match call.split(0)?.1 {
                [] => Ok(format),
                [option] if option.flag() == Ok("saturate") => Ok(format.saturating()),
                [option, ..] => Err(Reason::option(option.key(), "saturate")),
            };
        }
        call.exclusive(&["ieee", "fn", "fnuz", "finite"])?;
        let ((exponent, mantissa), options) = match Self::widths(call.name()) {
            Some(widths) => (widths, call.split(0)?.1),
            None => {
                let (widths, options) = call.split(2)?;
                let exponent = widths[0].number("exponent")?;
                ((exponent, widths[1].number("mantissa")?), options)
            }
        };
        let specials = options.iter().find_map(|option| match option.key() {
            "ieee" => Some(Specials::Ieee),
            "fn" => Some(Specials::Fn),
            "fnuz" => Some(Specials::Fnuz),
            "finite" => Some(Specials::Finite),
            _ => None,
        });
        let specials = specials.unwrap_or_default();
        check_range("float", "exponent", exponent, 1..=8)?;
        check_range("float", "mantissa", mantissa, 0..=23)?;
        let mut format = Self {
            exponent,
            mantissa,
            bias: default_bias(exponent, specials),
            subnormals: true,
            specials,
            saturate: specials == Specials::Finite,
        };
        for option in options {
            format.set(option)?;
        }
        Ok(format.checked()?)
    }
}

impl Float {
    fn set(&mut self, option: &Argument<'_>) -> Result<(), Reason> {
        match option.key() {
            "bias" => self.bias = option.number("bias")?,
            "flush" => self.subnormals = false,
            "saturate" => self.saturate = true,
            "ieee" | "fn" | "fnuz" | "finite" => {}
            other => {
                let known = "bias=.., flush, ieee, fn, fnuz, finite, saturate";
                return Err(Reason::option(other, known));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let saturate = self.saturate && self.specials != Specials::Finite;
        let name = NAMED
            .iter()
            .find(|(_, exponent, mantissa, bias, specials)| {
                let named = (*exponent, *mantissa, *bias, *specials);
                named == (self.exponent, self.mantissa, self.bias, self.specials)
            });
        if let (Some((name, ..)), true) = (name, self.subnormals) {
            return f.write_str(name).and_then(|()| match saturate {
                true => f.write_str("(saturate)"),
                false => Ok(()),
            });
        }
        write!(f, "float({},{}", self.exponent, self.mantissa)?;
        if self.bias != default_bias(self.exponent, self.specials) {
            write!(f, ",bias={}", self.bias)?;
        }
        f.write_str(match self.specials {
            Specials::Ieee => "",
            Specials::Fn => ",fn",
            Specials::Fnuz => ",fnuz",
            Specials::Finite => ",finite",
        })?;
        f.write_str(if self.subnormals { "" } else { ",flush" })?;
        f.write_str(if saturate { ",saturate)" } else { ")" })
    }
}
