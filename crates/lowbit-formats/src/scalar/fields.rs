//! The fields of a code, set apart.

/// A field of a code: its name, and its binary digits, the highest first.
pub type CodeField<'a> = (&'static str, &'a str);

/// What follows the point of a fixed-point number.
const FRACTIONAL: &str = "fractional part";

/// Fields of the given names and widths from the highest digit on, and of what is left the `last`;
/// one without digits is left out.
pub(crate) fn fields<'a>(
    digits: &'a str,
    widths: &[(&'static str, usize)],
    last: &'static str,
) -> Vec<CodeField<'a>> {
    let mut rest = digits;
    let mut found = Vec::new();
    for &(name, width) in widths {
        let (field, after) = rest.split_at(width.min(rest.len()));
        found.push((name, field));
        rest = after;
    }
    found.push((last, rest));
    found.retain(|(_, field)| !field.is_empty());
    found
}

/// The length of a posit's regime: a run of equal bits and the bit that ends it.
pub(crate) fn regime(digits: &str) -> usize {
    let first = digits.chars().next();
    let run = digits.chars().take_while(|&digit| Some(digit) == first);
    (run.count() + 1).min(digits.len())
}

/// The fields of a number whose last `fraction` digits follow a point, where it lies among the digits.
pub(crate) fn point(digits: &str, fraction: i64) -> Vec<CodeField<'_>> {
    match usize::try_from(fraction) {
        Ok(fraction) if fraction > 0 && fraction < digits.len() => {
            let whole = digits.len() - fraction;
            fields(digits, &[("whole part", whole)], FRACTIONAL)
        }
        _ => fields(digits, &[], "number"),
    }
}

/// The digits of all fields, with a point before a fractional part and else spaces between them.
pub(crate) fn joined(fields: &[CodeField<'_>]) -> String {
    let mut text = String::new();
    for (i, &(name, digits)) in fields.iter().enumerate() {
        if i > 0 {
            text.push(if name == FRACTIONAL { '.' } else { ' ' });
        }
        text += digits;
    }
    text
}
