//! The text of an accumulation.

use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::accumulate::{Accumulation, IntegerOverflow, IntegerSum, Order, Partial, TensorCore};
use crate::error::FormatError;
use crate::format::Format;
use crate::grammar::{Call, Reason, nearest};
use crate::rounding::Rounding;
use crate::scalar::Float;

/// The words that may follow the first.
const WORDS: [&str; 9] = [
    "wrap", "saturate", "operands", "rounding", "product", "pairwise", "kahan", "chunk", "outer",
];

/// The words of a text; blanks within parentheses belong to the word.
fn words(text: &str) -> Vec<String> {
    let mut depth = 0usize;
    let mut words = vec![String::new()];
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if character.is_whitespace() && depth == 0 {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(character);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `float(X,Y)` of the text `eXmY`.
fn plain_float(text: &str) -> Option<Float> {
    let (exponent, mantissa) = text.strip_prefix('e')?.split_once('m')?;
    Float::new(exponent.parse().ok()?, mantissa.parse().ok()?).ok()
}

/// A format, or `eXmY`; what has a name is what the name says, as in `e4m3`.
fn format(text: &str) -> Result<Format, Reason> {
    text.parse().or_else(|error: FormatError| {
        let float = plain_float(&text.to_lowercase());
        float.map(Format::Float).ok_or_else(|| match error {
            FormatError::Parse {
                reason, nearest, ..
            } => Reason(format!("`{text}`: {reason}; did you mean `{nearest}`?")),
            other => other.into(),
        })
    })
}

/// Whether a text is that of a matrix unit, or is meant to be: no format's has a hyphen.
fn unit(text: &str) -> Result<Option<TensorCore>, Reason> {
    let known = TensorCore::named(text);
    if known.is_some() || !text.contains('-') || text.contains('(') {
        return Ok(known);
    }
    let names = TensorCore::ALL.iter().map(TensorCore::name);
    Err(Reason(format!(
        "`{text}` is no chip's matrix unit; did you mean `{}`?",
        nearest(text, names)
    )))
}

/// What holds a sum: a matrix unit or an integer where the text is that of one, else a format.
fn partial(text: &str) -> Result<Partial, Reason> {
    if let Some(core) = unit(text)? {
        return Ok(Partial::TensorCore(core));
    }
    let call = Call::parse(text)?;
    if let Some(bits) = call.name().strip_prefix("int")
        && !text.contains('(')
    {
        let bits = bits.parse();
        let bits = bits.map_err(|_| Reason(format!("`{text}` has no number of bits")))?;
        return Ok(Partial::Integer(IntegerSum::new(
            bits,
            IntegerOverflow::Saturate,
        )?));
    }
    if call.name() == "fixed" {
        let (widths, options) = call.split(2)?;
        let overflow = match options {
            [] => IntegerOverflow::Saturate,
            [option] if option.flag() == Ok("wrap") => IntegerOverflow::Wrap,
            _ => return Ok(Partial::Format(format(text)?)),
        };
        let sums = IntegerSum::new(widths[0].number("word")?, overflow)?;
        let fraction: i32 = widths[1].number("fraction")?;
        return Ok(Partial::Integer(
            sums.with_exponent(fraction.saturating_neg())?,
        ));
    }
    Ok(Partial::Format(format(text)?))
}

/// An integer with another treatment of overflow.
fn overflowing(partial: &Partial, overflow: IntegerOverflow) -> Result<Partial, Reason> {
    match partial {
        Partial::Integer(sums) => {
            let integer = IntegerSum::new(sums.bits(), overflow)?;
            Ok(Partial::Integer(integer.with_exponent(sums.exponent())?))
        }
        Partial::Format(_) | Partial::TensorCore(_) => Err(Reason(format!(
            "only integers saturate or wrap at every step, `{partial}` is none"
        ))),
    }
}

/// The words after the first, read one after another.
struct Reader<'a>(std::iter::Peekable<std::slice::Iter<'a, String>>);

impl<'a> Reader<'a> {
    /// Whether the next word is this one; it is then read.
    fn takes(&mut self, word: &str) -> bool {
        self.0.next_if(|next| next.as_str() == word).is_some()
    }

    /// What follows a word.
    fn argument(&mut self, word: &str) -> Result<&'a str, Reason> {
        let next = self.0.next().map(String::as_str);
        next.ok_or_else(|| Reason(format!("nothing follows `{word}`")))
    }

    /// What holds a sum, with `wrap` or `saturate` after it.
    fn partial(&mut self, word: &str) -> Result<Partial, Reason> {
        let text = self.argument(word)?;
        self.held(text)
    }

    /// The same, of a text of its own.
    fn held(&mut self, text: &str) -> Result<Partial, Reason> {
        let mut held = partial(text)?;
        if self.takes("wrap") {
            held = overflowing(&held, IntegerOverflow::Wrap)?;
        } else if self.takes("saturate") {
            held = overflowing(&held, IntegerOverflow::Saturate)?;
        }
        Ok(held)
    }

    fn order(&mut self) -> Result<Order, Reason> {
        if self.takes("pairwise") {
            return Ok(Order::Pairwise);
        }
        if self.takes("kahan") {
            return Ok(Order::Kahan);
        }
        if !self.takes("chunk") {
            return Ok(Order::Sequential);
        }
        let size = self.argument("chunk")?;
        let size = size.parse();
        let size = size.map_err(|_| Reason("`chunk` takes a number of products".into()))?;
        let outer = self.takes("outer").then(|| self.partial("outer"));
        Ok(Order::Chunked {
            size,
            outer: outer.transpose()?,
        })
    }

    /// The first word: what holds the sums, and their rounding after a colon.
    fn first(&mut self) -> Result<Accumulation, Reason> {
        let text = self.argument("accumulate =")?;
        let (held, rounding) = match text.split_once(':') {
            None => (text, None),
            Some((held, rounding)) => (held, Some(rounding.parse::<Rounding>()?)),
        };
        let mut accumulation = Accumulation::new(self.held(held)?)?;
        if let Some(rounding) = rounding {
            accumulation = accumulation.with_rounding(rounding)?;
        }
        if self.takes("operands") {
            let left = format(self.argument("operands")?)?;
            let right = format(self.argument("operands")?)?;
            if !matches!(accumulation.partial(), Partial::TensorCore(_)) {
                let partial = accumulation.partial();
                return Err(Reason(format!("`{partial}` takes operands of any format")));
            }
            accumulation = accumulation.with_operands(&left, &right)?;
        }
        Ok(accumulation)
    }

    fn accumulation(&mut self) -> Result<Accumulation, Reason> {
        let mut accumulation = self.first()?;
        if self.takes("rounding") {
            let rounding: Rounding = self.argument("rounding")?.parse()?;
            accumulation = accumulation.with_rounding(rounding)?;
        }
        if self.takes("product") {
            accumulation = accumulation.with_product(format(self.argument("product")?)?)?;
        }
        let accumulation = accumulation.with_order(self.order()?)?;
        match self.0.next() {
            None => Ok(accumulation),
            Some(word) if WORDS.contains(&word.as_str()) => {
                Err(Reason(format!("`{word}` does not belong where it stands")))
            }
            Some(word) => Err(Reason(format!(
                "unknown word `{word}`; did you mean `{}`?",
                nearest(word, WORDS)
            ))),
        }
    }
}

impl FromStr for Accumulation {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let words = words(text);
        let read = Reader(words.iter().peekable()).accumulation();
        read.map_err(|Reason(reason)| FormatError::Accumulation {
            text: text.into(),
            reason,
        })
    }
}

/// A format as an accumulation's text has it.
struct Text<'a>(&'a Format);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        if let Format::Float(float) = self.0 {
            let (exponent, mantissa) = (float.exponent(), float.mantissa());
            if text == format!("float({exponent},{mantissa})")
                && format!("e{exponent}m{mantissa}").parse().as_ref() == Ok(self.0)
            {
                return write!(f, "e{exponent}m{mantissa}");
            }
        }
        f.write_str(&text)
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(format) => Text(format).fmt(f),
            Self::TensorCore(core) => core.fmt(f),
            Self::Integer(sums) => {
                match (sums.bits(), sums.exponent()) {
                    (bits, 0) => write!(f, "int{bits}")?,
                    (bits, exponent) => write!(f, "fixed({bits},{})", -exponent)?,
                }
                match sums.overflow() {
                    IntegerOverflow::Saturate => Ok(()),
                    IntegerOverflow::Wrap => f.write_str(" wrap"),
                }
            }
        }
    }
}

impl fmt::Display for Accumulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.partial().fmt(f)?;
        match self.rounding() {
            Rounding::NearestEven => {}
            Rounding::Stochastic { bits: 32, .. } => f.write_str(":stochastic")?,
            Rounding::Stochastic { bits, .. } => write!(f, ":stochastic(bits={bits})")?,
            rounding => write!(f, " rounding {rounding}")?,
        }
        if let Some(product) = self.product() {
            write!(f, " product {}", Text(product))?;
        }
        match self.order() {
            Order::Sequential => Ok(()),
            Order::Pairwise => f.write_str(" pairwise"),
            Order::Kahan => f.write_str(" kahan"),
            Order::Chunked { size, outer: None } => write!(f, " chunk {size}"),
            Order::Chunked {
                size,
                outer: Some(outer),
            } => write!(f, " chunk {size} outer {outer}"),
        }
    }
}

impl Serialize for Accumulation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Accumulation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_print_as_themselves() {
        for text in [
            "e6m9",
            "e6m9 chunk 64",
            "e6m9 chunk 64 outer fp32",
            "fp16 product e4m3 pairwise",
            "e8m12 rounding toward-zero product bf16 chunk 128 outer e8m14",
            "int24",
            "int24 wrap",
            "int64 wrap chunk 32 outer int64",
            "int16 wrap chunk 32 outer int32 wrap",
            "fixed(16,8)",
            "fixed(48,20) wrap",
            "fixed(16,8,symmetric)",
            "bf16 kahan",
            "float(4,3)",
            "e4m3",
            "float(4,3,bias=9,flush) kahan",
            "posit(16,2) chunk 1",
            "hopper-fp8",
            "hopper-fp8 operands e5m2 e4m3",
            "blackwell-fp8 chunk 128 outer fp32",
            "cdna3-tf32 operands fp32 tf32",
            "e6m9:stochastic chunk 64",
            "e6m9:stochastic(bits=8) product e4m3",
            "fixed(16,8):stochastic",
        ] {
            let accumulation: Accumulation = text.parse().unwrap();
            assert_eq!(accumulation.to_string(), text);
            let json = serde_json::to_string(&accumulation).unwrap();
            assert_eq!(
                serde_json::from_str::<Accumulation>(&json).unwrap(),
                accumulation
            );
        }
    }

    #[test]
    fn other_texts_of_the_same() {
        for (text, printed) in [
            ("  float( 6, 9 )   chunk  64", "e6m9 chunk 64"),
            ("E6M9", "e6m9"),
            ("e5m10 product e4m3 pairwise", "fp16 product e4m3 pairwise"),
            ("fixed(16,8) saturate", "fixed(16,8)"),
            ("fixed(16,8,wrap)", "fixed(16,8) wrap"),
            ("fixed(24,0)", "int24"),
            ("bf16 rounding nearest-even", "bf16"),
            ("half kahan", "fp16 kahan"),
            ("Hopper-FP8 operands e4m3 e4m3", "hopper-fp8"),
            ("hopper-fp8 chunk 128", "hopper-fp8 chunk 128 outer fp32"),
            ("e6m9 rounding stochastic", "e6m9:stochastic"),
            ("e6m9:toward-zero", "e6m9 rounding toward-zero"),
        ] {
            assert_eq!(text.parse::<Accumulation>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn mistakes_are_one_line() {
        for (text, reason) in [
            ("", "nothing follows `accumulate =`"),
            (
                "e6m9 chunks 64",
                "unknown word `chunks`; did you mean `chunk`?",
            ),
            (
                "e6m9 pairwise chunk 4",
                "`chunk` does not belong where it stands",
            ),
            ("e6m9 chunk", "nothing follows `chunk`"),
            ("e6m9 chunk x", "`chunk` takes a number of products"),
            (
                "e6m9 chunk 0",
                "accumulate: chunk is 0, expected at least 1 product",
            ),
            (
                "e9m9",
                "`e9m9`: no format has this name; did you mean `e5m2`?",
            ),
            (
                "e6m9 wrap",
                "only integers saturate or wrap at every step, `e6m9` is none",
            ),
            ("int1", "accumulate: bits is 1, expected 2 to 64"),
            ("int", "`int` has no number of bits"),
            (
                "int24 wrap kahan",
                "accumulate: kahan is int24 wrap, expected floating point, since integers lose \
                 nothing that a sum could be compensated for, and wrapped ones no longer know it",
            ),
            (
                "int8 product int16",
                "accumulate: bits is 8, expected at least 16, which int16 needs",
            ),
            (
                "bf16 rounding stochastic(seed=3)",
                "accumulate: seed is 3, expected none here, since each product is given its seed",
            ),
            (
                "bf16:stochastic(bits=40)",
                "unknown rounding `stochastic(bits=40)`: stochastic: bits is 40, expected 1 to 32; \
                 did you mean `stochastic`?",
            ),
            (
                "hoper-fp8",
                "`hoper-fp8` is no chip's matrix unit; did you mean `hopper-fp8`?",
            ),
            (
                "hopper-fp8 operands int8 e4m3",
                "int8 does not support sums of hopper-fp8, which takes e4m3, e5m2",
            ),
            (
                "e6m9 operands e4m3 e4m3",
                "`e6m9` takes operands of any format",
            ),
            (
                "hopper-fp8 kahan",
                "hopper-fp8 does not support compensated sums",
            ),
            (
                "hopper-fp8 pairwise",
                "hopper-fp8 does not support sums in pairs",
            ),
            (
                "hopper-fp8 product e4m3",
                "hopper-fp8 does not support products rounded first",
            ),
            (
                "hopper-fp8:stochastic",
                "hopper-fp8 does not support another rounding",
            ),
            (
                "hopper-fp8 wrap",
                "only integers saturate or wrap at every step, `hopper-fp8` is none",
            ),
            (
                "hopper-fp8 chunk 128 outer int32",
                "accumulate: outer is int32, expected a format that is no integer's",
            ),
            (
                "mxfp8(e4m3)",
                "mxfp8(e4m3) does not support sums, since its numbers share a scale",
            ),
            (
                "uint8",
                "uint8 does not support sums, since it has no negative numbers",
            ),
            (
                "int16 chunk 8 outer fp32",
                "accumulate: outer is fp32, expected an integer in the units of the chunks",
            ),
            (
                "fp16 chunk 8 outer int32",
                "accumulate: outer is int32, expected a format that is no integer's",
            ),
        ] {
            let error = text.parse::<Accumulation>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("unknown sums `{text}`: {reason}")
            );
            assert!(!error.to_string().contains('\n'));
        }
    }

    /// The product of -128 and -128 is 2^14 and takes 16 bits with its sign.
    #[test]
    fn operands_that_an_integer_does_not_hold() {
        let check = |text: &str, format: &str| {
            let format: Format = format.parse().unwrap();
            text.parse::<Accumulation>()
                .unwrap()
                .check_operands(&format, &format)
        };
        let error = check("int15", "int8").unwrap_err().to_string();
        assert_eq!(
            error,
            "accumulate: bits is 15, expected at least 16, which int8 times int8 needs"
        );
        assert_eq!(check("int16", "int8"), Ok(()));
        assert_eq!(check("fixed(16,12)", "fixed(8,6)"), Ok(()));
        assert_eq!(check("fixed(12,8)", "fixed(8,6)"), Ok(()));
        assert!(check("fixed(16,14)", "fixed(8,6)").is_err());
        assert_eq!(check("e4m3", "e5m2"), Ok(()));
        assert_eq!(check("hopper-fp8", "e4m3(saturate)"), Ok(()));
        assert_eq!(check("hopper-tf32", "fp32"), Ok(()));
        let error = check("hopper-bf16", "e4m3").unwrap_err().to_string();
        assert_eq!(
            error,
            "e4m3 does not support sums of hopper-bf16, which takes bf16"
        );
    }
}
