use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ImageSet;
use super::order::order;
use super::random::Purpose;
use crate::Error;

/// How many of the training images are held out: never trained on, they choose the best checkpoint
/// in place of the test images, which then tell of a network that nothing was chosen by.
///
/// Its text form and its value in TOML are a count (`500`) or a fraction above 0 and below 1
/// (`0.1`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HoldOut {
    /// So many images.
    Images(usize),
    /// This part of the images, rounded to the nearest count.
    Fraction(f64),
}

/// The training images apart: those that are trained on, and those that are held out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Indices of the images that are trained on, ascending.
    pub train: Vec<u32>,
    /// Indices of the held-out images, ascending.
    pub held_out: Vec<u32>,
}

impl HoldOut {
    /// Whether it is a count or a fraction that some set has.
    ///
    /// # Errors
    /// If the count is 0, or the fraction not above 0 and below 1.
    pub fn check(self) -> Result<(), Error> {
        let message = match self {
            Self::Images(0) => "is 0, expected at least 1".into(),
            Self::Fraction(part) if !(part > 0.0 && part < 1.0) => {
                format!("is {part}, expected a fraction above 0 and below 1, or a count")
            }
            _ => return Ok(()),
        };
        Err(Error::config("hold_out", message))
    }

    /// Whether a set has so many images, and some are left to train on.
    ///
    /// # Errors
    /// If it has not.
    pub fn check_for(self, set: &ImageSet) -> Result<(), Error> {
        self.check()?;
        let (count, images) = (self.count(set.len()), set.len());
        let most = images.saturating_sub(usize::from(set.answers() > 1));
        if (1..most).contains(&count) {
            return Ok(());
        }
        let message = format!("holds out {count} of {images} training images");
        Err(Error::config("hold_out", message))
    }

    fn count(self, images: usize) -> usize {
        match self {
            Self::Images(count) => count,
            Self::Fraction(part) => (part * images as f64).round() as usize,
        }
    }

    /// The two parts of a set's images. Each class gives its share, by the method of largest
    /// remainders (of equal ones the lower class's first), and which of its images are held out is
    /// drawn from the seed alone. Of text, whose windows overlap, the last ones are held out, and
    /// the one before them is in neither part.
    pub fn parts(self, set: &ImageSet, seed: u64) -> Parts {
        let images = set.len();
        let count = self.count(images).min(images);
        if set.answers() > 1 {
            let first = (images - count) as u32;
            return Parts {
                train: (0..first.saturating_sub(1)).collect(),
                held_out: (first..images as u32).collect(),
            };
        }
        let class = |image: usize| usize::from(set.labels[image]);
        let mut left = shares(count, (0..images).map(class));
        let mut is_held = vec![false; images];
        for image in order(images, seed, Purpose::HoldOut, 0) {
            let share = left.entry(class(image as usize)).or_default();
            if *share > 0 {
                *share -= 1;
                is_held[image as usize] = true;
            }
        }
        let (held_out, train) = (0..images as u32).partition(|&i| is_held[i as usize]);
        Parts { train, held_out }
    }
}

/// How many of `count` images each class gives.
fn shares(count: usize, classes: impl Iterator<Item = usize>) -> BTreeMap<usize, usize> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for class in classes {
        *sizes.entry(class).or_default() += 1;
    }
    let images = sizes.values().sum::<usize>().max(1);
    let mut remainders: Vec<(usize, usize)> = sizes
        .iter()
        .map(|(&class, size)| (size * count % images, class))
        .collect();
    remainders.sort_by_key(|&(remainder, class)| (std::cmp::Reverse(remainder), class));
    let mut shares: BTreeMap<usize, usize> = sizes
        .iter()
        .map(|(&class, size)| (class, size * count / images))
        .collect();
    let rest = count - shares.values().sum::<usize>();
    for (_, class) in remainders.into_iter().take(rest) {
        *shares.entry(class).or_default() += 1;
    }
    shares
}

impl fmt::Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images(count) => count.fmt(f),
            Self::Fraction(part) => part.fmt(f),
        }
    }
}

impl FromStr for HoldOut {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let count = text.parse().ok().map(Self::Images);
        let parsed = count.or_else(|| text.parse().ok().map(Self::Fraction));
        let parsed = parsed.ok_or_else(|| Error::Unknown {
            kind: "part of the training images",
            text: text.into(),
            expected: "a count or a fraction above 0 and below 1",
        })?;
        parsed.check()?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six images of class 0, three of class 1, one of class 2.
    fn set() -> ImageSet {
        ImageSet {
            margin: 0,
            name: "ten".into(),
            images: vec![0; 10],
            labels: vec![0, 1, 0, 0, 2, 0, 1, 0, 1, 0],
            channels: 1,
            height: 1,
            width: 1,
            classes: 3,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
        }
    }

    /// Of five: 3, 1.5 and 0.5 are due; the lower class gets the one that is left.
    #[test]
    fn each_class_gives_its_share() {
        let set = set();
        let parts = HoldOut::Images(5).parts(&set, 3);
        let of = |class: u8| {
            let held = parts.held_out.iter();
            held.filter(|&&i| set.labels[i as usize] == class).count()
        };
        assert_eq!([of(0), of(1), of(2)], [3, 2, 0]);
        assert_eq!(HoldOut::Fraction(0.5).parts(&set, 3), parts);
        let mut all = [parts.train, parts.held_out].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    /// Windows of a text overlap: the last ones are held out, whatever the seed, and the one before them, which
    /// shares characters with the first of them, is not trained on.
    #[test]
    fn of_text_the_end_is_held_out() {
        let text = ImageSet {
            images: vec![0; 20],
            labels: vec![0; 20],
            width: 2,
            ..set()
        };
        assert_eq!((text.len(), text.answers()), (10, 2));
        let parts = HoldOut::Images(3).parts(&text, 7);
        assert_eq!(parts.held_out, [7, 8, 9]);
        assert_eq!(parts.train, [0, 1, 2, 3, 4, 5]);
        assert_eq!(parts, HoldOut::Images(3).parts(&text, 8));
        HoldOut::Images(8).check_for(&text).unwrap();
        assert!(HoldOut::Images(9).check_for(&text).is_err());
        HoldOut::Images(9).check_for(&set()).unwrap();
    }

    #[test]
    fn the_seed_chooses() {
        let chosen = |seed| HoldOut::Images(3).parts(&set(), seed).held_out;
        assert_eq!(chosen(7), chosen(7));
        assert!((0..20).any(|seed| chosen(seed) != chosen(7)));
    }

    #[test]
    fn texts_go_both_ways_and_mistakes_are_told() {
        for text in ["500", "0.1"] {
            assert_eq!(text.parse::<HoldOut>().unwrap().to_string(), text);
        }
        let refused = |text: &str| text.parse::<HoldOut>().unwrap_err().to_string();
        let range = "expected a fraction above 0 and below 1, or a count";
        assert_eq!(refused("1.5"), format!("hold_out: is 1.5, {range}"));
        assert_eq!(refused("0"), "hold_out: is 0, expected at least 1");
        assert_eq!(
            refused("some"),
            "unknown part of the training images `some`, expected a count or a fraction above 0 \
             and below 1"
        );
        let all = HoldOut::Images(10).check_for(&set()).unwrap_err();
        assert_eq!(
            all.to_string(),
            "hold_out: holds out 10 of 10 training images"
        );
    }
}
