//! The text of every format: parsing, printing, and what to suggest for a wrong one.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::FormatError;
use crate::format::Format;
use crate::grammar::{Call, Reason, nearest};

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let canonical = canonical(text);
        if name_of(&canonical) == "fp8" {
            return Err(FormatError::Parse {
                text: text.into(),
                reason: "fp8 may be e4m3 or e5m2".into(),
                nearest: "e4m3".into(),
            });
        }
        let parsed = Call::parse(&canonical).and_then(|call| Self::from_call(&call));
        parsed.map_err(|Reason(reason)| FormatError::Parse {
            text: text.into(),
            reason,
            nearest: suggestion(&canonical),
        })
    }
}

/// Names that other libraries have, and ours. PyTorch, ml_dtypes and ONNX: `float8_e4m3` is IEEE-like
/// in ml_dtypes, with an infinity, and `float8_e4m3fn` is OCP's E4M3.
const ALIASES: [(&str, &str); 21] = [
    ("bfloat16", "bf16"),
    ("float16", "fp16"),
    ("half", "fp16"),
    ("binary16", "fp16"),
    ("float32", "fp32"),
    ("single", "fp32"),
    ("binary32", "fp32"),
    ("tfloat32", "tf32"),
    ("float8_e4m3", "float(4,3)"),
    ("float8_e4m3fn", "e4m3"),
    ("float8e4m3fn", "e4m3"),
    ("e4m3fn", "e4m3"),
    ("float8_e5m2", "e5m2"),
    ("float8e5m2", "e5m2"),
    ("float8_e4m3fnuz", "e4m3fnuz"),
    ("float8_e5m2fnuz", "e5m2fnuz"),
    ("float8_e4m3b11fnuz", "e4m3b11fnuz"),
    ("float8_e3m4", "e3m4"),
    ("float8_e8m0fnu", "e8m0"),
    ("float6_e3m2fn", "e3m2"),
    ("float4_e2m1fn", "e2m1"),
];

fn name_of(text: &str) -> &str {
    text.split('(').next().unwrap_or_default().trim()
}

/// The text with its name in small letters, and with our name where it has another library's.
fn canonical(text: &str) -> Cow<'_, str> {
    let name = name_of(text);
    let lower = name.to_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == lower);
    let ours = alias.map_or(lower.as_str(), |(_, ours)| ours);
    if ours == name {
        return text.into();
    }
    let rest = text.trim_start()[name.len()..].trim();
    match (ours.strip_suffix(')'), rest.strip_prefix('(')) {
        (Some(call), Some(options)) => format!("{call},{options}").into(),
        _ => format!("{ours}{rest}").into(),
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

    /// The definitions that the libraries give: torch.half is binary16, ml_dtypes.float8_e4m3 has
    /// an infinity (its largest is 240), float8_e4m3fn none (448).
    #[test]
    fn names_of_other_libraries() {
        for (text, canonical) in [
            ("bfloat16", "bf16"),
            ("float16", "fp16"),
            ("half", "fp16"),
            ("float32", "fp32"),
            ("float8_e4m3fn", "e4m3"),
            ("float8_e4m3fn(saturate)", "e4m3(saturate)"),
            ("float8_e4m3", "float(4,3)"),
            ("float8_e4m3(flush)", "float(4,3,flush)"),
            ("float8_e5m2", "e5m2"),
            ("E4M3", "e4m3"),
            (" E4M3 ( saturate ) ", "e4m3(saturate)"),
            ("Float(5,10)", "fp16"),
            ("INT8", "int8"),
        ] {
            assert_eq!(parse(text).to_string(), canonical, "{text}");
        }
        for (alias, ours) in ALIASES {
            assert_eq!(parse(alias), parse(ours), "{alias}");
        }
        let error = "fp8".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown format `fp8`: fp8 may be e4m3 or e5m2; did you mean `e4m3`?"
        );
    }

    #[test]
    fn contradictions_are_errors() {
        for (text, reason) in [
            (
                "float(4,3,fn,ieee)",
                "`ieee` and `fn` contradict each other",
            ),
            (
                "float(4,3,finite,fnuz)",
                "`fnuz` and `finite` contradict each other",
            ),
            ("float(4,3,bias=7,bias=8)", "`bias` is given twice"),
            (
                "fixed(8,6,wrap,unbounded)",
                "`wrap` and `unbounded` contradict each other",
            ),
            (
                "p3109(8,4,saturate,propagate)",
                "`saturate` and `propagate` contradict each other",
            ),
            ("pot(4,max=1,max=1)", "`max` is given twice"),
            ("mxfp4(scale=up,scale=floor)", "`scale` is given twice"),
        ] {
            let error = text.parse::<Format>().unwrap_err();
            let FormatError::Parse { reason: ours, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(ours, reason, "{text}");
            assert!(!error.to_string().contains('\n'));
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
            ("bfloat17", "bf16"),
            ("fp8", "e4m3"),
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
