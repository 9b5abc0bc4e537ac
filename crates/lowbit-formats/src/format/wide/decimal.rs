//! Decimal texts, compared exactly with the f64 next to them.

use std::cmp::Ordering;
use std::num::ParseFloatError;
use std::str::FromStr;

use crate::scalar::Wide;

/// More digits than any f64 has; what follows them only decides whether there is a rest.
const DIGITS: usize = 800;

/// A text that [`f64`] takes, without its rounding.
impl FromStr for Wide {
    type Err = ParseFloatError;

    fn from_str(text: &str) -> Result<Self, ParseFloatError> {
        let nearest: f64 = text.parse()?;
        let Some(decimal) = Decimal::parse(text) else {
            return Ok(nearest.into());
        };
        let magnitude = nearest.abs();
        if magnitude.is_infinite() {
            // A finite number beyond f64.
            return Ok(Self::beside(
                f64::MAX.copysign(nearest),
                if nearest > 0.0 {
                    Ordering::Greater
                } else {
                    Ordering::Less
                },
            ));
        }
        let rest = decimal.compare(magnitude);
        let negative = nearest.is_sign_negative();
        Ok(Self::beside(
            nearest,
            if negative { rest.reverse() } else { rest },
        ))
    }
}

/// `digits * 10^exponent`.
struct Decimal {
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// The magnitude of a text that is a finite decimal number.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(['+', '-']);
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent),
            None => (text, "0"),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit()) {
            return None;
        }
        // An exponent beyond i64 has the sign that matters.
        let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') {
            i64::MIN / 4
        } else {
            i64::MAX / 4
        });
        let digits = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0');
        let mut digits: Vec<u8> = digits.skip_while(|&d| d == 0).collect();
        let mut exponent = exponent - fraction.len() as i64;
        if digits.len() > DIGITS {
            let rest = digits.split_off(DIGITS);
            exponent += rest.len() as i64;
            if rest.iter().any(|&d| d != 0) {
                digits.push(1);
                exponent -= 1;
            }
        }
        Some(Self { digits, exponent })
    }

    /// Compares with a finite f64 that is not negative.
    fn compare(&self, x: f64) -> Ordering {
        if self.digits.is_empty() || x == 0.0 {
            return self.digits.len().cmp(&0).then(if x > 0.0 {
                Ordering::Less
            } else {
                Ordering::Equal
            });
        }
        let field = (x.to_bits() >> 52) as i64;
        let leading = u64::from(field > 0) << 52;
        let significand = x.to_bits() & ((1 << 52) - 1) | leading;
        let exponent = field.max(1) - 1075;
        let mut decimal = Large::default();
        for &digit in &self.digits {
            decimal.multiply_add(10, digit.into());
        }
        let mut binary = Large::default();
        binary.multiply_add(1, (significand >> 32) as u32);
        binary.multiply_add(1 << 16, 0);
        binary.multiply_add(1 << 16, significand as u32);
        // Next to an f64 the exponents are at most 1075 and the digits' count away from zero.
        let powers = |number: &mut Large, base: u32, count: i64| {
            for _ in 0..count {
                number.multiply_add(base, 0);
            }
        };
        powers(&mut decimal, 10, self.exponent);
        powers(&mut binary, 10, -self.exponent);
        powers(&mut binary, 2, exponent);
        powers(&mut decimal, 2, -exponent);
        decimal.compare(&binary)
    }
}

/// A natural number, its lowest word first.
#[derive(Default)]
struct Large(Vec<u32>);

impl Large {
    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for word in &mut self.0 {
            let product = u64::from(*word) * u64::from(factor) + carry;
            *word = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let lengths = self.0.len().cmp(&other.0.len());
        lengths.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0.1 as f64 is 0.1000000000000000055511151231257827..., so the text lies below; 0.5 is exact.
    #[test]
    fn texts_beside_f64() {
        for (text, nearest, rest) in [
            ("0.1", 0.1, Ordering::Less),
            ("-0.1", -0.1, Ordering::Greater),
            ("0.3", 0.3, Ordering::Greater),
            ("0.5", 0.5, Ordering::Equal),
            ("+5e-1", 0.5, Ordering::Equal),
            ("1.0000000000000000000000001", 1.0, Ordering::Greater),
            ("0.99999999999999999999999999", 1.0, Ordering::Less),
            ("1e-999999999999999999999", 0.0, Ordering::Greater),
            ("-1e-400", -0.0, Ordering::Less),
            ("0e5", 0.0, Ordering::Equal),
            ("1e400", f64::MAX, Ordering::Greater),
            ("-1e400", f64::MIN, Ordering::Less),
            ("9007199254740993", 9007199254740992.0, Ordering::Greater),
            ("1e300", 1e300, Ordering::Less),
            ("inf", f64::INFINITY, Ordering::Equal),
        ] {
            assert_eq!(text.parse(), Ok(Wide::beside(nearest, rest)), "{text}");
        }
        let long = format!("0.5{}1", "0".repeat(5000));
        assert_eq!(long.parse(), Ok(Wide::beside(0.5, Ordering::Greater)));
        let long = format!("0.{}5e3000", "0".repeat(3000));
        assert_eq!(long.parse(), Ok(Wide::from(0.5)));
        assert!("1.2.3".parse::<Wide>().is_err());
    }
}
