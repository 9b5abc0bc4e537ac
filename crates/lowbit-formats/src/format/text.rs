//! The text of every format: parsing, printing, and what to suggest for a wrong one.

use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::FormatError;
use crate::format::Format;
use crate::grammar::{Call, Reason, nearest};

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
