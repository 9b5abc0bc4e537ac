//! Numbers and names as a page shows them.

/// A text in which no character means anything to HTML or SVG.
pub(in crate::report) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A path as the name of a file.
pub(in crate::report) fn file_name(path: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    path.chars()
        .map(|c| if keep(c) { c } else { '_' })
        .collect()
}

/// A loss or an error in three digits, in plain digits where those are few.
pub(in crate::report) fn short(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN".into()
        } else {
            "infinite".into()
        };
    }
    let digits = 2 - number.abs().log10().floor() as i32;
    match digits {
        -3..=0 => format!("{number:.0}"),
        1..=6 => format!("{number:.*}", digits as usize),
        _ => format!("{number:.2e}"),
    }
}

/// A number that may not be there.
pub(in crate::report) fn or_dash(number: Option<f64>, form: impl Fn(f64) -> String) -> String {
    number.map_or("-".into(), form)
}

/// Bits of a number, of learned ones on average to two digits.
pub(in crate::report) fn width(bits: Option<f64>) -> String {
    bits.map_or("float".into(), |bits| {
        ((100.0 * bits).round() / 100.0).to_string()
    })
}

/// Numbers of a shape.
pub(in crate::report) fn shape(shape: &[usize]) -> String {
    let numbers: Vec<String> = shape.iter().map(usize::to_string).collect();
    numbers.join("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_is_markup() {
        assert_eq!(
            escaped("<b a='1'>&\"\u{1}"),
            "&lt;b a=&#39;1&#39;&gt;&amp;&quot;\u{fffd}"
        );
        assert_eq!(file_name("a/../b c.weight"), "a_.._b_c.weight");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0, 1234.5, 12.345, 0.01234, 1.5e-9, f64::INFINITY].map(short);
        assert_eq!(
            shown,
            ["0", "1234", "12.3", "0.0123", "1.50e-9", "infinite"]
        );
    }
}
