//! The text of every format: parsing, printing, and what to suggest for a wrong one.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::FormatError;
use crate::format::Format;
use crate::grammar::{Call, Reason, near, nearest};

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let canonical = canonical(text);
        if let Some((reason, nearest)) = unclear(name_of(&canonical)) {
            return Err(FormatError::Parse {
                text: text.into(),
                reason,
                nearest,
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

/// Modules whose names may stand before a type's.
const MODULES: [&str; 6] = [
    "torch.",
    "jnp.",
    "jax.numpy.",
    "np.",
    "numpy.",
    "ml_dtypes.",
];

/// Names that other libraries have, without underscores, and ours. PyTorch, ml_dtypes, ONNX, XLA and
/// safetensors: `float8_e4m3` is IEEE-like in ml_dtypes, with an infinity, and `float8_e4m3fn` is OCP's
/// E4M3.
const ALIASES: [(&str, &str); 35] = [
    ("bfloat16", "bf16"),
    ("float16", "fp16"),
    ("half", "fp16"),
    ("binary16", "fp16"),
    ("f16", "fp16"),
    ("float32", "fp32"),
    ("single", "fp32"),
    ("binary32", "fp32"),
    ("f32", "fp32"),
    ("tfloat32", "tf32"),
    ("float8e4m3", "float(4,3)"),
    ("float8e4m3fn", "e4m3"),
    ("f8e4m3fn", "e4m3"),
    ("e4m3fn", "e4m3"),
    ("float8e5m2", "e5m2"),
    ("f8e5m2", "e5m2"),
    ("float8e4m3fnuz", "e4m3fnuz"),
    ("f8e4m3fnuz", "e4m3fnuz"),
    ("float8e5m2fnuz", "e5m2fnuz"),
    ("f8e5m2fnuz", "e5m2fnuz"),
    ("float8e4m3b11fnuz", "e4m3b11fnuz"),
    ("f8e4m3b11fnuz", "e4m3b11fnuz"),
    ("float8e3m4", "e3m4"),
    ("f8e3m4", "e3m4"),
    ("float8e8m0fnu", "e8m0"),
    ("f8e8m0fnu", "e8m0"),
    ("float8e8m0", "e8m0"),
    ("e8m0fnu", "e8m0"),
    ("float6e3m2fn", "e3m2"),
    ("e3m2fn", "e3m2"),
    ("float6e2m3fn", "e2m3"),
    ("e2m3fn", "e2m3"),
    ("float4e2m1fn", "e2m1"),
    ("e2m1fn", "e2m1"),
    ("float4e2m1fnx2", "e2m1"),
];

/// Why a name may be that of several formats, or of none here though it is like others; and what to
/// suggest.
fn unclear(name: &str) -> Option<(String, String)> {
    let told = |reason: &str, nearest: &str| Some((reason.to_string(), nearest.to_string()));
    match name {
        "fp8" | "float8" => return told(&format!("{name} may be e4m3 or e5m2"), "e4m3"),
        "fp6" | "float6" => return told(&format!("{name} may be e3m2 or e2m3"), "e3m2"),
        "float4" => return told("float4 may be e2m1, or fp4 of bitsandbytes", "e2m1"),
        "double" => return told(TOO_WIDE, ""),
        _ => {}
    }
    let bits = |prefix: &str| name.strip_prefix(prefix)?.parse::<u32>().ok();
    if let Some(bits) = bits("posit") {
        let reason = "no exponent bits are given, of which the Posit Standard (2022) has 2";
        let standard = format!("posit({bits},2)");
        let known = standard.parse::<Format>().is_ok();
        return told(reason, if known { &standard } else { "" });
    }
    let bits = ["float", "fp", "f", "binary"].into_iter().find_map(bits)?;
    match (name, bits) {
        ("fp4" | "fp16" | "fp32", _) => None,
        (_, 33..) => told(TOO_WIDE, ""),
        _ => told(
            "no format has this name; float(exponent,mantissa) takes any widths",
            "",
        ),
    }
}

const TOO_WIDE: &str = "the widest float is fp32";

fn name_of(text: &str) -> &str {
    text.split('(').next().unwrap_or_default().trim()
}

/// The text with its name in small letters, and with our name where it has another library's.
fn canonical(text: &str) -> Cow<'_, str> {
    let name = name_of(text);
    let lower = name.to_lowercase();
    let alone = MODULES.iter().find_map(|module| lower.strip_prefix(module));
    let alone = alone.unwrap_or(&lower).replace('_', "");
    let alias = ALIASES.iter().find(|(alias, _)| *alias == alone);
    let ours = alias.map_or(alone.as_str(), |(_, ours)| ours);
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
/// those were not at fault, or with the same name; empty if none is near.
fn suggestion(text: &str) -> String {
    if let Ok(format) = Call::parse(&format!("{text})")).and_then(|call| Format::from_call(&call)) {
        return format.to_string();
    }
    let name = name_of(text);
    if let Some((_, arguments)) = text.split_once('(') {
        let renamed = near(name, Format::examples().map(name_of))
            .map(|name| format!("{name}({arguments}"))
            .and_then(|renamed| Format::from_call(&Call::parse(&renamed).ok()?).ok());
        if let Some(format) = renamed {
            return format.to_string();
        }
    }
    let namesake = |name: &str| {
        let namesakes = Format::examples().filter(|example| name_of(example) == name);
        nearest(text.trim(), namesakes)
    };
    if !namesake(name).is_empty() {
        return namesake(name).into();
    }
    let aliases = ALIASES.iter().map(|(alias, _)| *alias);
    let known = near(name, Format::examples().map(name_of).chain(aliases));
    let known = known.unwrap_or_default();
    let ours = ALIASES.iter().find(|(alias, _)| *alias == known);
    ours.map_or_else(|| namesake(known), |(_, ours)| ours)
        .into()
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
            ("e6m9", "float(6,9)"),
            ("E6M9(saturate)", "float(6,9,saturate)"),
            ("e4m4( fn , bias=9 )", "float(4,4,bias=9,fn)"),
            ("e5m10", "fp16"),
            ("e8m7", "bf16"),
            ("e8m23", "fp32"),
        ] {
            assert_eq!(parse(text).to_string(), canonical);
        }
    }

    /// OCP's E4M3 (8-bit floating point specification, revision 1.0, table 1) has no infinity and
    /// goes up to 448, where `float(4,3)` of IEEE 754 has one and ends at 240; its E8M0 has no sign;
    /// and the E2M1 of its microscaling formats goes up to 6, where IEEE's ends at 3.
    #[test]
    fn names_of_widths_that_documents_define_are_theirs() {
        for (text, max) in [("e4m3", 448.0), ("float(4,3)", 240.0), ("e2m1", 6.0)] {
            assert_eq!(parse(text).facts().max, max, "{text}");
        }
        assert!(matches!(parse("e8m0"), Format::E8M0(_)));
        let all = (1..=8).flat_map(|exponent| (0..=23).map(move |mantissa| (exponent, mantissa)));
        for (exponent, mantissa) in all {
            let name = format!("e{exponent}m{mantissa}");
            let Ok(float) = format!("float({exponent},{mantissa})").parse::<Format>() else {
                assert!(name.parse::<Format>().is_err() || name == "e8m0", "{name}");
                continue;
            };
            let defined = ["e4m3", "e3m2", "e2m3", "e2m1", "e8m0"].contains(&name.as_str());
            assert_eq!(parse(&name) != float, defined, "{name}");
        }
        for text in [
            "e9m9", "e4m24", "e0m3", "e+6m9", "e06m9", "e6m9m1", "e6m", "e6m9(4)",
        ] {
            assert!(text.parse::<Format>().is_err(), "{text}");
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
            ("torch.float8_e4m3fn", "e4m3"),
            ("torch.bfloat16", "bf16"),
            ("jnp.float8_e5m2", "e5m2"),
            ("np.float16", "fp16"),
            ("ml_dtypes.float8_e4m3b11fnuz", "e4m3b11fnuz"),
            // The type of ml_dtypes, without its underscore.
            ("float8e4m3", "float(4,3)"),
            ("FLOAT8E4M3FN", "e4m3"),
            ("F8E4M3FN", "e4m3"),
            ("e8m0fnu", "e8m0"),
            ("torch.float8_e8m0fnu", "e8m0"),
            ("torch.float4_e2m1fn_x2", "e2m1"),
            ("BF16", "bf16"),
            ("F32", "fp32"),
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
            ("float(4,3,fn,fn)", "`fn` is given twice"),
            ("int8(narrow,narrow)", "`narrow` is given twice"),
            ("e4m3(saturate,saturate)", "`saturate` is given twice"),
            ("scaled(e4m3,double,double)", "`double` is given twice"),
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
            ("e4m33", "e4m3"),
            ("flot(5,3)", "float(5,3)"),
            ("fxied(16,12,wrap)", "fixed(16,12,wrap)"),
            ("int99", "int8"),
            ("fixed(8,200)", "fixed(8,6)"),
            ("bfloat17", "bf16"),
            ("fp8", "e4m3"),
            ("mxfp8", "mxfp8(e4m3)"),
            ("flot", "float(4,3)"),
            ("float8", "e4m3"),
            ("fp6", "e3m2"),
            // SoftPosit's posit8 and posit16 have other exponent bits.
            ("posit8", "posit(8,2)"),
            ("posit32", "posit(32,2)"),
            // No format is near, or only one of another width.
            ("float64", ""),
            ("F64", ""),
            ("fp64", ""),
            ("double", ""),
            ("torch.float64", ""),
            ("np.double", ""),
            ("fp24", ""),
            ("posit99", ""),
            ("complex64", ""),
            ("nonsense", ""),
            ("", ""),
        ] {
            let Err(FormatError::Parse { nearest, .. }) = text.parse::<Format>() else {
                panic!("{text} parses");
            };
            assert_eq!(nearest, expected, "{text}");
        }
        let error = "float64".parse::<Format>().unwrap_err().to_string();
        assert_eq!(error, "unknown format `float64`: the widest float is fp32");
        let error = "e4m33".parse::<Format>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown format `e4m33`: no format has this name; did you mean `e4m3`?"
        );
    }
}
