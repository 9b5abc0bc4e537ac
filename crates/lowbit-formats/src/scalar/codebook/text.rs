//! The text of tables, by which they are also compared.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::grammar::{Argument, Call, Reason};
use crate::scalar::FormatText;
use crate::scalar::codebook::{Codebook, Decision, named};

impl FormatText for Codebook {
    const EXAMPLES: &'static [&'static str] = &[
        "table(-1,0,0.5,2)",
        "table(1,2,4,sign)",
        "table(1,2,4,sign,geometric=0.0001)",
        "nf4(scale=0.5)",
        "ternary(thresholds(0.25))",
    ];

    fn has_name(name: &str) -> bool {
        name == "table" || Self::names().any(|known| known == name)
    }

    fn from_call(call: &Call<'_>) -> Result<Self, Reason> {
        call.exclusive(&["nearest", "geometric"])?;
        let (_, arguments) = call.split(0)?;
        if let Some(format) = Self::named(call.name()) {
            return format.with_options(arguments);
        }
        let is_number = |argument: &&Argument<'_>| argument.key().parse::<f32>().is_ok();
        let (numbers, options) = arguments.split_at(arguments.iter().take_while(is_number).count());
        let values: Vec<f32> = numbers
            .iter()
            .map(|argument| argument.number("value"))
            .collect::<Result<_, _>>()?;
        match options {
            [sign, options @ ..] if sign.key() == "sign" => {
                Self::with_sign(&values)?.with_options(options)
            }
            _ => Self::new(&values)?.with_options(options),
        }
    }
}

impl Codebook {
    fn with_options(self, options: &[Argument<'_>]) -> Result<Self, Reason> {
        options.iter().try_fold(self, |format, option| {
            let key = option.key();
            Ok(match key {
                "scale" => format.scaled(option.number("scale")?)?,
                "nearest" => format.with_decision(Decision::Nearest)?,
                "geometric" => format.with_decision(Decision::GeometricMean {
                    zero_up_to: option.number("geometric")?,
                })?,
                _ if key.starts_with("thresholds(") => {
                    let call = Call::parse(key)?;
                    let thresholds = call.split(0)?.1.iter().map(|t| t.number("threshold"));
                    let thresholds = thresholds.collect::<Result<_, _>>()?;
                    format.with_decision(Decision::Thresholds(thresholds))?
                }
                _ => {
                    let known = "sign after the values, scale=number, nearest, \
                                 geometric=number, thresholds(numbers)";
                    return Err(Reason::option(key, known));
                }
            })
        })
    }
}

impl fmt::Display for Codebook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        if self.name.is_none() {
            parts.extend(self.values.iter().map(f32::to_string));
            if self.with_sign {
                parts.push("sign".to_owned());
            }
        }
        let default = self
            .name
            .and_then(named::decision)
            .unwrap_or(Decision::Nearest);
        match &self.decision {
            decision if *decision == default => {}
            Decision::Nearest => parts.push("nearest".to_owned()),
            Decision::GeometricMean { zero_up_to } => parts.push(format!("geometric={zero_up_to}")),
            Decision::Thresholds(thresholds) => {
                let texts: Vec<String> = thresholds.iter().map(f32::to_string).collect();
                parts.push(format!("thresholds({})", texts.join(",")));
            }
        }
        if self.scale != 1.0 {
            parts.push(format!("scale={}", self.scale));
        }
        f.write_str(self.name.unwrap_or("table"))?;
        if parts.is_empty() {
            return Ok(());
        }
        write!(f, "({})", parts.join(","))
    }
}

/// Two are equal if they print the same.
impl PartialEq for Codebook {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Codebook {}

impl Hash for Codebook {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}
