//! Random words for shuffling and augmentation: Philox, so that each is a function of what it is
//! for and not of what was drawn before it.

use lowbit_formats::philox::philox_4x32_10;

/// What the words are for. Each purpose has a sequence of its own.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// The order of the images in an epoch.
    Order = 0,
    /// Crop and flip of an image.
    Augment = 1,
    /// The square that is cut out of an image.
    Cutout = 2,
    /// The share in which the images of a batch are mixed.
    Mixup = 3,
    /// Which images are held out.
    HoldOut = 4,
}

/// The highest counter word, "data" in ASCII, which keeps these sequences apart from those that
/// round numbers with the same seed.
const DATA: u32 = 0x6461_7461;

/// Four independent, evenly distributed words for item `index` of `epoch`: Philox 4x32-10 with the
/// seed as key and `[index, epoch, purpose, "data"]` as counter.
pub(super) fn words(seed: u64, purpose: Purpose, epoch: u32, index: u32) -> [u32; 4] {
    let key = [seed as u32, (seed >> 32) as u32];
    philox_4x32_10([index, epoch, purpose as u32, DATA], key)
}

/// The same without end: further words have the number of their four in the upper bits of the
/// purpose.
pub(super) fn stream(
    seed: u64,
    purpose: Purpose,
    epoch: u32,
    index: u32,
) -> impl Iterator<Item = u32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let purpose = purpose as u32;
    (0..1 << 24)
        .flat_map(move |block: u32| philox_4x32_10([index, epoch, purpose | block << 8, DATA], key))
}

/// Brings an evenly distributed word to 0 up to `bound - 1`: `word * bound / 2^32`, rounded down.
/// No value's probability is off by more than `2^-32`.
pub(super) fn below(word: u32, bound: u32) -> u32 {
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_covers_its_range() {
        assert_eq!(below(0, 9), 0);
        assert_eq!(below(u32::MAX, 9), 8);
        // 2^32 / 9 = 477218588.4: the last word of the first ninth, and the next.
        assert_eq!((below(477_218_588, 9), below(477_218_589, 9)), (0, 1));
    }

    #[test]
    fn a_stream_begins_with_the_words_and_goes_on() {
        let stream: Vec<u32> = stream(7, Purpose::Mixup, 1, 2).take(12).collect();
        assert_eq!(stream[..4], words(7, Purpose::Mixup, 1, 2));
        let different: std::collections::BTreeSet<_> = stream.iter().collect();
        assert_eq!(different.len(), 12);
    }

    #[test]
    fn every_argument_changes_the_words() {
        let words = [
            words(0, Purpose::Order, 0, 0),
            words(1, Purpose::Order, 0, 0),
            words(1 << 32, Purpose::Order, 0, 0),
            words(0, Purpose::Augment, 0, 0),
            words(0, Purpose::Order, 1, 0),
            words(0, Purpose::Order, 0, 1),
        ];
        let different: std::collections::BTreeSet<_> = words.iter().collect();
        assert_eq!(different.len(), words.len());
    }
}
