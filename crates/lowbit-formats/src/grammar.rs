//! The text form of formats: a name, and arguments in parentheses.

use std::str::FromStr;

use crate::error::FormatError;

/// Why a text names no format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason(pub(crate) String);

impl Reason {
    /// An option that the format does not have; `known` lists those it has.
    pub(crate) fn option(given: &str, known: &str) -> Self {
        Self(format!(
            "unknown option `{given}`, expected one of: {known}"
        ))
    }
}

impl From<FormatError> for Reason {
    fn from(error: FormatError) -> Self {
        Self(error.to_string())
    }
}

/// `name` or `name(argument,argument,...)`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    name: &'a str,
    arguments: Vec<Argument<'a>>,
}

/// One argument: `value` or `key=value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Argument<'a> {
    key: Option<&'a str>,
    value: &'a str,
}

impl<'a> Call<'a> {
    /// Takes a text apart; blanks around names and values do not count.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Reason> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else {
            return Ok(Self {
                name: text,
                arguments: Vec::new(),
            });
        };
        let inside = rest
            .strip_suffix(')')
            .ok_or_else(|| Reason("no closing parenthesis at the end".into()))?;
        let arguments = split_arguments(inside)?.into_iter().map(Argument::parse);
        let arguments: Vec<Argument<'_>> = arguments.collect();
        for (i, argument) in arguments.iter().enumerate() {
            let key = argument.key();
            // Numbers may be alike, words are options.
            let is_option = key.starts_with(|c: char| c.is_ascii_alphabetic());
            if is_option && arguments[..i].iter().any(|a| a.key() == key) {
                return Err(Reason(format!("`{key}` is given twice")));
            }
        }
        Ok(Self {
            name: name.trim(),
            arguments,
        })
    }

    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// Refuses options of which one rules out the other.
    pub(crate) fn exclusive(&self, options: &[&str]) -> Result<(), Reason> {
        let mut given = options
            .iter()
            .filter(|option| self.arguments.iter().any(|a| a.key() == **option));
        match (given.next(), given.next()) {
            (Some(one), Some(other)) => Err(Reason(format!(
                "`{one}` and `{other}` contradict each other"
            ))),
            _ => Ok(()),
        }
    }

    /// The first `count` arguments, which have no key, and the options after them.
    pub(crate) fn split(&self, count: usize) -> Result<(&[Argument<'a>], &[Argument<'a>]), Reason> {
        let given = self
            .arguments
            .iter()
            .take_while(|a| a.key.is_none())
            .count();
        if given < count {
            return Err(Reason(format!(
                "`{}` takes {count} numbers, {given} given",
                self.name
            )));
        }
        Ok(self.arguments.split_at(count))
    }
}

impl<'a> Argument<'a> {
    fn parse(text: &'a str) -> Self {
        match text.split_once('=') {
            // A `=` inside an inner call belongs to that call.
            Some((key, value)) if !key.contains('(') => Self {
                key: Some(key.trim()),
                value: value.trim(),
            },
            _ => Self {
                key: None,
                value: text.trim(),
            },
        }
    }

    /// The key of `key=value`, or the whole of an argument without one.
    pub(crate) fn key(&self) -> &'a str {
        self.key.unwrap_or(self.value)
    }

    /// The value of an argument, or of `key=value`.
    pub(crate) fn value(&self) -> &'a str {
        self.value
    }

    /// The argument as a number; `field` is named in the error.
    pub(crate) fn number<T: FromStr>(&self, field: &str) -> Result<T, Reason> {
        let value = self.value();
        value
            .parse()
            .map_err(|_| Reason(format!("{field} `{value}` is not a number in range")))
    }

    /// The argument as a word without a value.
    pub(crate) fn flag(&self) -> Result<&'a str, Reason> {
        match self.key {
            None => Ok(self.value),
            Some(key) => Err(Reason(format!("option `{key}` takes no value"))),
        }
    }
}

/// Cuts at the commas that are in no inner parentheses.
fn split_arguments(text: &str) -> Result<Vec<&str>, Reason> {
    let mut arguments = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| Reason("a closing parenthesis too many".into()))?;
            }
            ',' if depth == 0 => {
                arguments.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 {
        return Err(Reason("an inner parenthesis is not closed".into()));
    }
    arguments.push(&text[start..]);
    if arguments.iter().any(|a| a.trim().is_empty()) {
        return Err(Reason("an argument is empty".into()));
    }
    Ok(arguments)
}

/// The candidate with the fewest letters inserted, deleted or replaced; the first among equals.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    candidates
        .into_iter()
        .min_by_key(|candidate| distance(text, candidate))
        .unwrap_or_default()
}

/// As [`nearest`], if the candidate is near: at most two letters away, and not all of them.
pub(crate) fn near<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let candidate = nearest(text, candidates);
    let letters = text.chars().count();
    (distance(text, candidate) <= 2.min(letters.saturating_sub(1))).then_some(candidate)
}

/// Levenshtein distance. Of a long text only the beginning counts.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().take(64).collect();
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_name_and_arguments() {
        let call = Call::parse(" block( mx(a,b=1) , dim=0,fn )").unwrap();
        assert_eq!(call.name(), "block");
        let (numbers, options) = call.split(1).unwrap();
        assert_eq!(numbers[0].value(), "mx(a,b=1)");
        assert_eq!((options[0].key(), options[0].value()), ("dim", "0"));
        assert_eq!(options[1].flag(), Ok("fn"));
        assert!(call.split(2).is_err());
        assert_eq!(Call::parse("f(1,1,-a,-a)").unwrap().arguments.len(), 4);
        assert_eq!(Call::parse("e4m3").unwrap().split(0).unwrap().1, []);
    }

    #[test]
    fn ill_formed_calls_are_errors() {
        for text in [
            "f(",
            "f(1",
            "f()",
            "f(1,)",
            "f(1))",
            "f((1)",
            "f(1)x",
            "f(a=1,b=1,a=1)",
            "f(1,a,b,a)",
        ] {
            assert!(Call::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distances_by_hand() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("e4m4", "e4m3", 1),
        ] {
            assert_eq!(distance(a, b), expected);
        }
        assert_eq!(nearest("inty8", ["e4m3", "int8", "uint8"]), "int8");
    }
}
