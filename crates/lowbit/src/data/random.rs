//! Random numbers for shuffling and augmentation: counter-based, so that each is a function of
//! what it is for and not of what was drawn before it.

/// What the numbers are for. Each purpose has a stream of its own.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// The order of the images in an epoch.
    Order = 1,
    /// Crop and flip of an image.
    Augment = 2,
}

/// Four independent evenly distributed words for item `index` of `epoch`.
pub(super) fn words(seed: u64, purpose: Purpose, epoch: u64, index: u32) -> [u32; 4] {
    let key = mix(mix(mix(seed) ^ purpose as u64) ^ epoch) ^ u64::from(index);
    let (a, b) = (mix(key), mix(key ^ (1 << 63)));
    [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
}

/// One step of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014).
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Brings an evenly distributed word to 0 up to `bound - 1`: `word * bound / 2^32`, rounded down.
/// No value's probability is off by more than `2^-32`.
pub(super) fn below(word: u32, bound: u32) -> u32 {
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

/// The order in which an epoch goes through a set of `len` images: a permutation of 0 to
/// `len - 1`, a function of the run's seed and the epoch alone.
///
/// Fisher-Yates (Knuth, The Art of Computer Programming 2, algorithm 3.4.2 P), from the end to the
/// start, with place `i` swapped with a place drawn from 0 to `i`.
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..len as u32).rev() {
        let [word, ..] = words(seed, Purpose::Order, epoch, i);
        order.swap(i as usize, below(word, i + 1) as usize);
    }
    order
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
    fn an_order_is_a_permutation() {
        for len in [0, 1, 2, 1000] {
            let mut order = epoch_order(len, 4, 2);
            order.sort_unstable();
            assert_eq!(order, (0..len as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_order_depends_on_seed_and_epoch_alone() {
        let order = epoch_order(1000, 4, 2);
        assert_eq!(order, epoch_order(1000, 4, 2));
        assert_ne!(order, epoch_order(1000, 4, 3));
        assert_ne!(order, epoch_order(1000, 5, 2));
    }

    #[test]
    fn every_order_of_four_is_about_equally_frequent() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(epoch_order(4, 9, epoch)).or_insert(0) += 1;
        }
        // 24 orders, 1000 each expected, standard deviation 31.
        assert_eq!(counts.len(), 24);
        assert!(
            counts.values().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
