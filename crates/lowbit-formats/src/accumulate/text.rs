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

/// A format, or `eXmY`; what has a name is what the name says, as in `e4m3`.
fn format(text: &str) -> Result<Format, Reason> {
    text.parse().map_err(|error: FormatError| match error {
        FormatError::Parse {
            reason, nearest, ..
        } => Reason(format!("`{text}`: {reason}; did you mean `{nearest}`?")),
        other => other.into(),
    })
}

/// Whether a text is that of a matrix unit, or is meant to be: few formats have a hyphen.
fn unit(text: &str) -> Result<Option<TensorCore>, Reason> {
    let known = TensorCore::named(text);
    let is_format = || text.parse::<Format>().is_ok();
    if known.is_some() || !text.contains('-') || text.contains('(') || is_format() {
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
mod tests;
