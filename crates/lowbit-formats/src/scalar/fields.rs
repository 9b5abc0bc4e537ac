//! The fields of a code, set apart.

/// Spaces after fields of the given widths; widths beyond the end leave the rest whole.
pub(crate) fn fields(digits: &str, widths: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = digits;
    for &width in widths {
        let (field, after) = rest.split_at(width.min(rest.len()));
        if !text.is_empty() && !field.is_empty() {
            text.push(' ');
        }
        text += field;
        rest = after;
    }
    if !text.is_empty() && !rest.is_empty() {
        text.push(' ');
    }
    text + rest
}

/// The length of a posit's regime: a run of equal bits and the bit that ends it.
pub(crate) fn regime(digits: &str) -> usize {
    let first = digits.chars().next();
    let run = digits.chars().take_while(|&digit| Some(digit) == first);
    (run.count() + 1).min(digits.len())
}

/// A point before the last `fraction` digits, where it lies among the digits.
pub(crate) fn point(digits: &str, fraction: i64) -> String {
    match usize::try_from(fraction) {
        Ok(fraction) if fraction > 0 && fraction < digits.len() => {
            let (whole, part) = digits.split_at(digits.len() - fraction);
            format!("{whole}.{part}")
        }
        _ => digits.into(),
    }
}
