//! How wide a network is.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// By how much the channels of a network's layers, and the features of its hidden linear layers,
/// are multiplied: the widening factor of WRPN (arXiv 1709.01134, section 3), the width multiplier of
/// MobileNets (arXiv 1704.04861, section 3.3). Images and classes stay what they are.
///
/// Text: a decimal number of at most three places, `2` or `0.5`, from 0.001 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width {
    /// In thousandths, so that text and number are the same.
    thousandths: u32,
}

impl Width {
    /// The network as it is defined.
    pub const ONE: Self = Self { thousandths: 1000 };

    /// The largest.
    const MOST: u32 = 100_000;

    /// Of so many channels, those of this width: the nearest whole number, of two the greater, and
    /// at least 1.
    pub fn channels(self, channels: usize) -> usize {
        let thousandths = channels * self.thousandths as usize;
        ((thousandths + 500) / 1000).max(1)
    }

    /// The same in multiples of 8: the nearest, of two the greater, or the next where that would lose
    /// more than a tenth; the rounding of the code of MobileNetV2's authors.
    pub fn channels_by_eight(self, channels: usize) -> usize {
        let thousandths = channels * self.thousandths as usize;
        let nearest = ((thousandths + 4000) / 8000 * 8).max(8);
        match nearest * 10_000 < thousandths * 9 {
            true => nearest + 8,
            false => nearest,
        }
    }

    /// This width, or one where it is less.
    pub fn at_least_one(self) -> Self {
        Self {
            thousandths: self.thousandths.max(Self::ONE.thousandths),
        }
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.thousandths / 1000, self.thousandths % 1000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let part = format!("{part:03}");
        write!(f, "{whole}.{}", part.trim_end_matches('0'))
    }
}

impl FromStr for Width {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown {
            kind: "width",
            text: text.into(),
            expected: "a number from 0.001 to 100 with at most three places, such as 2 or 0.5",
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{part:0<3}");
        let simple = !whole.is_empty() && part.len() <= 3 && !text.ends_with('.');
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        let thousandths = digits.parse().ok().filter(|_| simple && all_digits);
        let in_range = thousandths.filter(|thousandths| (1..=Self::MOST).contains(thousandths));
        let thousandths = in_range.ok_or_else(unknown)?;
        Ok(Self { thousandths })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn width(text: &str) -> Width {
        text.parse().unwrap()
    }

    #[test]
    fn text_forms_go_both_ways() {
        for text in ["1", "2", "0.5", "1.25", "0.001", "100", "10"] {
            assert_eq!(width(text).to_string(), text);
        }
        assert_eq!(width("1.0"), Width::ONE);
        for text in [
            "", "0", "0.0", "-1", "+1", "1.", ".5", "1e2", "0.0001", "100.001", "x2", "1,5",
        ] {
            assert!(text.parse::<Width>().is_err(), "{text}");
        }
    }

    #[test]
    fn channels_are_the_nearest_number() {
        assert_eq!(Width::ONE.channels(17), 17);
        assert_eq!(width("2").channels(16), 32);
        // 7.5 and 0.16.
        assert_eq!(
            (width("0.5").channels(15), width("0.01").channels(16)),
            (8, 1)
        );
    }

    /// From the widths of MobileNetV2 1.4 and 0.35 of torchvision: 32 becomes 44.8 and 48, 16 becomes
    /// 22.4 and 24, 24 becomes 33.6 and 32; 16 becomes 5.6 and 8, 24 becomes 8.4 and 8, 32 becomes
    /// 11.2, 8 would lose more than a tenth, and 16.
    #[test]
    fn channels_by_eight_lose_at_most_a_tenth() {
        let by =
            |text: &str, channels: [usize; 3]| channels.map(|n| width(text).channels_by_eight(n));
        assert_eq!(by("1.4", [32, 16, 24]), [48, 24, 32]);
        assert_eq!(by("0.35", [16, 24, 32]), [8, 8, 16]);
        assert_eq!(by("1", [24, 160, 320]), [24, 160, 320]);
    }
}
