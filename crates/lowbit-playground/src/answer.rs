//! What the page asks, and what it is told.

use lowbit_formats::inspect::{Code, LISTED_BITS, Rounded};
use lowbit_formats::plot::{MOST, relative_errors};
use lowbit_formats::{CodeField, Facts, Format, Granularity, Rounding, Wide};
use serde::Serialize;

/// The most numbers that are rounded at a time.
const MOST_NUMBERS: usize = 1000;

/// The most columns of a curve.
const MOST_COLUMNS: usize = 4000;

/// A reply, or what is wrong with the request in one line.
type Answer = Result<String, String>;

/// Answers a request: its first line says what is asked, the others are its arguments.
///
/// | first line | arguments | reply |
/// |---|---|---|
/// | `choices` | | texts of formats, names of rounding modes |
/// | `describe` | format | facts, values up to 16 bits, codes up to 8 bits |
/// | `round` | format, rounding mode, numbers | each number: value, code, fields, error; in every mode |
/// | `compare` | columns, formats | the relative error over magnitude of each |
///
/// The reply is a JSON object; of a request that makes no sense it has `error` alone, one line.
pub fn answer(request: &str) -> String {
    let mut lines = request.split('\n');
    let kind = lines.next().unwrap_or_default();
    let arguments: Vec<&str> = lines.collect();
    let reply = match (kind, arguments.as_slice()) {
        ("choices", []) => choices(),
        ("describe", [format]) => describe(format),
        ("round", [format, rounding, numbers]) => round(format, rounding, numbers),
        ("compare", [columns, formats @ ..]) => compare(columns, formats),
        _ => Err(format!(
            "`{kind}` with {} arguments is not known",
            arguments.len()
        )),
    };
    reply.unwrap_or_else(|error| {
        let error = Refusal { error };
        json(&error).unwrap_or_default()
    })
}

#[derive(Serialize)]
struct Refusal {
    error: String,
}

fn json<T: Serialize>(reply: &T) -> Answer {
    serde_json::to_string(reply).map_err(|error| error.to_string())
}

fn parsed(text: &str) -> Result<Format, String> {
    text.parse::<Format>().map_err(|error| error.to_string())
}

#[derive(Serialize)]
struct Choices {
    formats: Vec<&'static str>,
    roundings: Vec<String>,
}

fn choices() -> Answer {
    let modes = Rounding::DETERMINISTIC.iter();
    json(&Choices {
        formats: Format::examples().collect(),
        roundings: modes.map(Rounding::to_string).collect(),
    })
}

#[derive(Serialize)]
struct Description {
    /// The format's own text.
    format: String,
    note: Option<&'static str>,
    /// Which numbers share a scale, of a block format.
    shares: Option<String>,
    facts: Facts,
    /// Positive values below the smallest normal one, of formats whose values are listed.
    subnormals: Option<usize>,
    /// Finite values in order, up to 16 bits.
    values: Option<Vec<f32>>,
    /// All codes in the order of their values, up to 8 bits.
    codes: Vec<NamedCode>,
}

/// A code with its fields.
#[derive(Serialize)]
struct NamedCode {
    #[serde(flatten)]
    code: Code,
    hex: String,
    fields: Vec<(&'static str, String)>,
}

fn describe(text: &str) -> Answer {
    let format = parsed(text)?;
    let found = format.describe();
    let values = format.values().ok().map(|mut values| {
        values.retain(|value| value.is_finite());
        values
    });
    let normal = found.facts.min_normal;
    let subnormals = normal.zip(values.as_ref()).map(|(normal, values)| {
        let is_subnormal = |value: &&f32| **value > 0.0 && **value < normal;
        values.iter().filter(is_subnormal).count()
    });
    let codes = found.codes.into_iter().map(|code| NamedCode {
        hex: hex(&format, code.code),
        fields: fields(&format, code.code),
        code,
    });
    debug_assert!(format.bits() > LISTED_BITS || codes.len() == 1 << format.bits());
    json(&Description {
        format: found.format,
        note: found.note,
        shares: shares(&format),
        facts: found.facts,
        subnormals,
        values,
        codes: codes.collect(),
    })
}

/// Which numbers share a scale.
fn shares(format: &Format) -> Option<String> {
    let Format::Block(block) = format else {
        return None;
    };
    Some(match block.granularity() {
        Granularity::Tensor => "all numbers of a tensor".into(),
        Granularity::Dimension(dim) => format!("numbers with the same index along dimension {dim}"),
        Granularity::Block { size, dim: None } => {
            format!("runs of {size} numbers along the last dimension")
        }
        Granularity::Block {
            size,
            dim: Some(dim),
        } => {
            format!("runs of {size} numbers along dimension {dim}")
        }
        Granularity::Tile { rows, columns } => {
            format!("tiles of {rows} rows and {columns} columns")
        }
    })
}

fn hex(format: &Format, code: u32) -> String {
    let digits = format.bits().div_ceil(4) as usize;
    format!("0x{code:0digits$x}")
}

fn fields(format: &Format, code: u32) -> Vec<(&'static str, String)> {
    let digits = format.digits(code);
    let owned = |(name, digits): CodeField<'_>| (name, digits.to_owned());
    format.code_fields(&digits).into_iter().map(owned).collect()
}

#[derive(Serialize)]
struct RoundedNumbers {
    format: String,
    rounding: String,
    numbers: Vec<NamedNumber>,
    /// What each number becomes in every mode without random numbers.
    modes: Vec<Mode>,
}

/// A number as it was typed, and what became of it.
#[derive(Serialize)]
struct NamedNumber {
    typed: String,
    #[serde(flatten)]
    rounded: Rounded,
    hex: String,
    fields: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Mode {
    rounding: String,
    values: Vec<String>,
}

fn round(format: &str, rounding: &str, numbers: &str) -> Answer {
    let format = parsed(format)?;
    let rounding: Rounding = rounding.parse().map_err(|error| format!("{error}"))?;
    let typed: Vec<&str> = numbers
        .split(|c: char| c.is_whitespace() || c == ',' || c == ';')
        .filter(|word| !word.is_empty())
        .collect();
    if typed.len() > MOST_NUMBERS {
        let count = typed.len();
        return Err(format!("{count} numbers are more than {MOST_NUMBERS}"));
    }
    let numbers = typed.iter().map(|word| number(word));
    let numbers: Vec<Wide> = numbers.collect::<Result<_, _>>()?;
    let inspect = |rounding| {
        let found = format.inspect_wide(&numbers, rounding);
        found.map_err(|error| error.to_string())
    };
    let rounded = typed.iter().zip(inspect(rounding)?);
    let rounded = rounded.map(|(typed, rounded)| NamedNumber {
        typed: (*typed).into(),
        hex: hex(&format, rounded.code),
        fields: fields(&format, rounded.code),
        rounded,
    });
    let mode = |mode: &Rounding| {
        Ok(Mode {
            rounding: mode.to_string(),
            values: inspect(*mode)?.iter().map(|r| shown(r.value)).collect(),
        })
    };
    let modes: Result<Vec<Mode>, String> = Rounding::DETERMINISTIC.iter().map(mode).collect();
    json(&RoundedNumbers {
        format: format.to_string(),
        rounding: rounding.to_string(),
        numbers: rounded.collect(),
        modes: modes?,
    })
}

/// A number as it is typed; a minus sign may be the hyphen or the sign.
fn number(word: &str) -> Result<Wide, String> {
    let plain = word.replace('\u{2212}', "-");
    plain
        .parse()
        .map_err(|_| format!("`{word}` is no number, expected one such as 0.3, -1e-9, inf or nan"))
}

/// The shortest text that is this number and no other.
fn shown(x: f32) -> String {
    match x.abs() {
        magnitude if magnitude == 0.0 || !x.is_finite() => x.to_string(),
        magnitude if (1e-4..1e7).contains(&magnitude) => x.to_string(),
        _ => format!("{x:e}"),
    }
}

#[derive(Serialize)]
struct Comparison {
    /// The power of two at which the first column begins.
    low: i32,
    /// The one at which the last column ends.
    high: i32,
    curves: Vec<Curve>,
}

#[derive(Serialize)]
struct Curve {
    format: String,
    facts: Facts,
    /// The largest relative error in the middle of each column; none where numbers overflow.
    errors: Vec<Option<f64>>,
}

fn compare(columns: &str, texts: &[&str]) -> Answer {
    let columns = columns
        .parse()
        .ok()
        .filter(|n| (1..=MOST_COLUMNS).contains(n));
    let columns = columns.ok_or(format!("columns: expected 1 to {MOST_COLUMNS}"))?;
    if !(1..=MOST).contains(&texts.len()) {
        return Err(format!("{} formats: expected 1 to {MOST}", texts.len()));
    }
    let formats = texts.iter().map(|text| parsed(text));
    let formats: Vec<Format> = formats.collect::<Result<_, _>>()?;
    let (axis, errors) = relative_errors(&formats, columns);
    let curves = formats.iter().zip(errors).map(|(format, errors)| Curve {
        format: format.to_string(),
        facts: format.facts(),
        errors: errors
            .into_iter()
            .map(|e| e.is_finite().then_some(e))
            .collect(),
    });
    json(&Comparison {
        low: axis.low,
        high: axis.high,
        curves: curves.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn reply(request: &str) -> Value {
        serde_json::from_str(&answer(request)).unwrap()
    }

    /// OCP 8-bit floating point, revision 1.0, table 2: the largest e4m3 is 448 = S.1111.110, the smallest
    /// normal 2^-6, and there are seven subnormal magnitudes below it, the least 2^-9.
    #[test]
    fn a_format_is_described() {
        let e4m3 = reply("describe\ne4m3");
        assert_eq!(e4m3["facts"]["max"], 448.0);
        assert_eq!(e4m3["subnormals"], 7);
        assert_eq!(e4m3["values"].as_array().unwrap().len(), 253);
        let code = &e4m3["codes"][253];
        assert_eq!(
            (&code["hex"], &code["value"]),
            (&"0x7e".into(), &448.0.into())
        );
        assert_eq!(code["fields"][1], serde_json::json!(["exponent", "1111"]));
        let wide = reply("describe\nfp32");
        assert!(wide["values"].is_null() && wide["codes"].as_array().unwrap().is_empty());
        assert_eq!(
            reply("describe\nmxfp4")["shares"],
            "runs of 32 numbers along the last dimension"
        );
    }

    /// 0.3 lies 0.6 of the way from 0.28125 to 0.3125 in e4m3, so that it is 0.4 of a step below the latter.
    #[test]
    fn numbers_are_rounded() {
        let found = reply("round\ne4m3\nnearest-even\n0.3, \u{2212}1");
        let [first, second] = [&found["numbers"][0], &found["numbers"][1]];
        assert_eq!(
            (&first["value"], &first["hex"]),
            (&0.3125.into(), &"0x2a".into())
        );
        assert!((first["error_ulp"].as_f64().unwrap() - 0.4).abs() < 1e-6);
        assert_eq!(second["value"], -1.0);
        let down = found["modes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["rounding"] == "down");
        assert_eq!(down.unwrap()["values"][0], "0.28125");
    }

    /// In e4m3 the error at 1 is a sixteenth: half a step of 1/8.
    #[test]
    fn formats_are_compared() {
        let found = reply("compare\n64\ne4m3\nint8");
        let (low, high) = (
            found["low"].as_f64().unwrap(),
            found["high"].as_f64().unwrap(),
        );
        let column = ((0.0 - low) / (high - low) * 64.0) as usize;
        let error = found["curves"][0]["errors"][column].as_f64().unwrap();
        assert!(error <= 0.0625 && error > 0.0312, "{error}");
        assert_eq!(found["curves"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_one_line() {
        for (request, expected) in [
            (
                "describe\ne4m33",
                "unknown format `e4m33`: no format has this name; did you mean `e4m3`?",
            ),
            ("round\ne4m3\nupp\n1", "did you mean `up`?"),
            ("round\ne4m3\nup\n1.x", "`1.x` is no number"),
            ("compare\n9\n", "unknown format ``"),
            ("compare\n9", "0 formats: expected 1 to 7"),
            ("compare\nx\ne4m3", "columns: expected 1 to 4000"),
            ("draw\ne4m3", "`draw` with 1 arguments is not known"),
        ] {
            let found = reply(request);
            let error = found["error"].as_str().unwrap();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
