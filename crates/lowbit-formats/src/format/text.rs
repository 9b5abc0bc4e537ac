//! The text of every format: parsing, printing, and what to suggest for a wrong one.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::block::BlockFormat;
use crate::error::FormatError;
use crate::format::Format;
use crate::grammar::{Call, Reason, nearest};
use crate::scalar::apot::AdditivePowerOfTwo;
use crate::scalar::codebook::Codebook;
use crate::scalar::e8m0::E8M0;
use crate::scalar::fixed::FixedPoint;
use crate::scalar::float::Float;
use crate::scalar::integer::Integer;
use crate::scalar::lns::Logarithmic;
use crate::scalar::p3109::P3109;
use crate::scalar::posit::Posit;
use crate::scalar::pot::PowerOfTwo;
use crate::scalar::qpytorch::QPyTorch;
use crate::scalar::unit::UnitGrid;

/// Texts that an error may suggest, at least one of each kind.
const EXAMPLES: [&str; 42] = [
    "fixed(8,6)",
    "fixed(8,6,symmetric)",
    "fixed(8,6,wrap)",
    "fixed(8,6,unbounded)",
    "ufixed(8,8)",
    "float(4,3)",
    "e4m3(saturate)",
    "float(4,4,fnuz)",
    "float(3,3,finite)",
    "float(4,3,bias=9,flush)",
    "int8",
    "int8(narrow)",
    "int4",
    "int16",
    "uint8",
    "uint4",
    "uint8(narrow)",
    "unit(4)",
    "unit(8)",
    "posit(8,0)",
    "posit(8,2)",
    "posit(16,1)",
    "posit(16,2,scale_log2=-3)",
    "posit(32,2)",
    "pot(4)",
    "pot(5,max=2)",
    "apot(5)",
    "apot(4,alpha=2)",
    "lns(4,3)",
    "table(-1,0,0.5,2)",
    "table(1,2,4,sign)",
    "table(1,2,4,sign,geometric=0.0001)",
    "nf4(scale=0.5)",
    "ternary(thresholds(0.25))",
    "p3109(8,4)",
    "p3109(8,3,finite)",
    "p3109(8,4,unsigned)",
    "p3109(8,3,unsigned,finite,saturate)",
    "p3109(8,1)",
    "qpytorch(5,2)",
    "qpytorch(8,7)",
    "e8m0",
];

impl Format {
    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        let name = call.name();
        if let Some(format) = BlockFormat::from_call(call) {
            return format.map(Self::Block);
        }
        match name {
            "fixed" | "ufixed" => FixedPoint::from_call(call).map(Self::Fixed),
            "float" => Float::from_call(call).map(Self::Float),
            "unit" => UnitGrid::from_call(call).map(Self::Unit),
            "posit" => Posit::from_call(call).map(Self::Posit),
            "pot" => PowerOfTwo::from_call(call).map(Self::PowerOfTwo),
            "apot" => AdditivePowerOfTwo::from_call(call).map(Self::AdditivePowerOfTwo),
            "lns" => Logarithmic::from_call(call).map(Self::Logarithmic),
            "table" => Codebook::from_call(call).map(Self::Codebook),
            _ if Codebook::names().any(|known| known == name) => {
                Codebook::from_call(call).map(Self::Codebook)
            }
            "p3109" => P3109::from_call(call).map(Self::P3109),
            "qpytorch" => QPyTorch::from_call(call).map(Self::QPyTorch),
            "e8m0" => E8M0::from_call(call).map(Self::E8M0),
            _ if Float::named(name).is_some() => Float::from_call(call).map(Self::Float),
            _ if name.starts_with("int") || name.starts_with("uint") => {
                Integer::from_call(call).map(Self::Integer)
            }
            _ => Err(Reason("no format has this name".into())),
        }
    }

    /// Names and texts of formats of every kind, to show or to choose from.
    pub fn examples() -> impl Iterator<Item = &'static str> {
        Float::names()
            .chain(Codebook::names())
            .chain(EXAMPLES)
            .chain(BlockFormat::EXAMPLES)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(format) => format.fmt(f),
            Self::Float(format) => format.fmt(f),
            Self::Integer(format) => format.fmt(f),
            Self::Unit(format) => format.fmt(f),
            Self::Posit(format) => format.fmt(f),
            Self::Codebook(format) => format.fmt(f),
            Self::PowerOfTwo(format) => format.fmt(f),
            Self::AdditivePowerOfTwo(format) => format.fmt(f),
            Self::Logarithmic(format) => format.fmt(f),
            Self::Block(format) => format.fmt(f),
            Self::P3109(format) => format.fmt(f),
            Self::QPyTorch(format) => format.fmt(f),
            Self::E8M0(format) => format.fmt(f),
        }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Call::parse(text)
            .and_then(|call| Self::from_call(&call))
            .map_err(|Reason(reason)| FormatError::Parse {
                text: text.into(),
                reason,
                nearest: suggestion(text),
            })
    }
}

/// The valid text nearest to an invalid one: closed where it was not, or with the same arguments if
/// those were not at fault, or with the same name.
fn suggestion(text: &str) -> String {
    if let Ok(format) = Call::parse(&format!("{text})")).and_then(|call| Format::from_call(&call)) {
        return format.to_string();
    }
    if let Some((name, arguments)) = text.split_once('(') {
        let names = Format::examples().filter_map(|example| example.split('(').next());
        let renamed = format!("{}({arguments}", nearest(name.trim(), names));
        let parsed = Call::parse(&renamed).and_then(|call| Format::from_call(&call));
        if let Ok(format) = parsed {
            return format.to_string();
        }
    }
    let name = |text: &'_ str| {
        text.split('(')
            .next()
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    let namesakes = Format::examples().filter(|example| name(example) == name(text));
    let namesake = nearest(text.trim(), namesakes);
    if namesake.is_empty() {
        nearest(text.trim(), Format::examples()).into()
    } else {
        namesake.into()
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Format {
        text.parse().unwrap()
    }

    #[test]
    fn examples_print_as_themselves() {
        for text in Format::examples() {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn equal_formats_have_one_text() {
        for (text, canonical) in [
            (" float( 4 , 3 , fn ) ", "e4m3"),
            ("float(4,3,bias=7,fn,saturate)", "e4m3(saturate)"),
            ("float(2,1,finite,saturate)", "e2m1"),
            ("float(4,3,bias=7)", "float(4,3)"),
            ("float(5,10)", "fp16"),
            ("float(8,7,flush,ieee)", "float(8,7,flush)"),
            ("fixed(8,-3)", "fixed(8,-3)"),
        ] {
            assert_eq!(parse(text).to_string(), canonical);
        }
    }

    #[test]
    fn errors_name_the_nearest_format() {
        for (text, expected) in [
            ("e4m4", "e4m3"),
            ("flot(5,3)", "float(5,3)"),
            ("fxied(16,12,wrap)", "fixed(16,12,wrap)"),
            ("int99", "int8"),
            ("fixed(8,200)", "fixed(8,6)"),
            ("bfloat16", "bf16"),
            ("mxfp8", "mxfp8(e4m3)"),
        ] {
            let Err(FormatError::Parse { nearest, .. }) = text.parse::<Format>() else {
                panic!("{text} parses");
            };
            assert_eq!(nearest, expected, "{text}");
        }
        let error = "e4m4".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown format `e4m4`: no format has this name; did you mean `e4m3`?"
        );
    }
}
