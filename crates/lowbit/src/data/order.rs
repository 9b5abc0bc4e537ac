use super::random::{self, Purpose};

/// The order in which an epoch goes through a set of `len` images: a permutation of 0 to
/// `len - 1`, a function of the run's seed and the epoch alone.
///
/// Fisher-Yates (Knuth, The Art of Computer Programming 2, algorithm 3.4.2 P): from the last place
/// to the second, place `i` is swapped with one drawn evenly from 0 to `i`. The draws are Philox
/// words addressed by seed, epoch and `i`, so the order stays the same on every machine and in
/// every version.
pub fn epoch_order(len: usize, seed: u64, epoch: u32) -> Vec<u32> {
    order(len, seed, Purpose::Order, epoch)
}

/// The same for another purpose than that of an epoch.
pub(super) fn order(len: usize, seed: u64, purpose: Purpose, epoch: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..len as u32).rev() {
        let [word, ..] = random::words(seed, purpose, epoch, i);
        order.swap(i as usize, random::below(word, i + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected orders come from a separate program in Python, with its own Philox that gives
    /// the published known answers.
    #[test]
    fn the_order_is_the_same_forever() {
        assert_eq!(epoch_order(10, 42, 0), [4, 7, 9, 6, 5, 0, 1, 8, 3, 2]);
        assert_eq!(epoch_order(10, u64::MAX, 7), [3, 9, 2, 0, 1, 7, 6, 8, 4, 5]);
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
    fn seed_and_epoch_change_the_order() {
        let order = epoch_order(1000, 4, 2);
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
