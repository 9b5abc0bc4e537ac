//! Counter-based random numbers: Philox 4x32 with ten rounds.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A block
//! of four words is a pure function of a 128-bit counter and a 64-bit key, so the number an
//! element gets depends on its index alone, not on threads or chunks.

const MULTIPLIER_0: u64 = 0xD251_1F53;
const MULTIPLIER_1: u64 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;
const ROUNDS: usize = 10;
const LOW: u64 = 0xFFFF_FFFF;

/// One block of Philox 4x32-10: four random words for a counter and a key.
pub const fn philox_4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    let mut round = 0;
    while round < ROUNDS {
        let p0 = MULTIPLIER_0 * c0 as u64;
        let p1 = MULTIPLIER_1 * c2 as u64;
        (c0, c2) = ((p1 >> 32) as u32 ^ c1 ^ k0, (p0 >> 32) as u32 ^ c3 ^ k1);
        (c1, c3) = (p1 as u32, p0 as u32);
        k0 = k0.wrapping_add(WEYL_0);
        k1 = k1.wrapping_add(WEYL_1);
        round += 1;
    }
    [c0, c1, c2, c3]
}

/// Random words addressed by element index.
///
/// The key is `seed`; the counter's upper half is `stream` and its lower half counts blocks.
/// Element `i` takes word `2 * (i / 16 % 2) + i % 2` of block `8 * (i / 32) + i % 16 / 2`: within
/// 32 elements, eight blocks lie side by side in the order in which eight 64-bit lanes hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    seed: u64,
    stream: u64,
    /// Groups that come before the first.
    skipped: u64,
}

/// How many elements [`Philox::group`] serves at once.
pub const GROUP: usize = 32;

/// Elements of two groups.
pub(crate) const PAIR: usize = 2 * GROUP;

impl Philox {
    /// The sequence of a seed and a stream.
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self {
            seed,
            stream,
            skipped: 0,
        }
    }

    /// The same sequence from element `32 * groups` on, for a tensor that is passed in parts.
    pub const fn skip_groups(self, groups: u64) -> Self {
        Self {
            skipped: self.skipped.wrapping_add(groups),
            ..self
        }
    }

    /// The random word of element `index`.
    pub const fn word(&self, index: u64) -> u32 {
        let group = self.skipped.wrapping_add(index / 32);
        let block = group.wrapping_mul(8) + index % 16 / 2;
        let word = 2 * (index / 16 % 2) + index % 2;
        let counter = [
            block as u32,
            (block >> 32) as u32,
            self.stream as u32,
            (self.stream >> 32) as u32,
        ];
        philox_4x32_10(counter, [self.seed as u32, (self.seed >> 32) as u32])[word as usize]
    }

    /// The random words of the elements `32 * group .. 32 * group + 32`.
    #[inline(always)]
    pub fn group(&self, group: u64) -> [u32; GROUP] {
        self.words::<8, GROUP>(group)
    }

    /// The random words of two groups. They wait for each other's multiplications, so that two at
    /// a time are faster than one after the other.
    #[inline(always)]
    pub(crate) fn pair(&self, group: u64) -> [u32; PAIR] {
        self.words::<16, PAIR>(group)
    }

    /// Fills `words` with those of the elements from `index` on.
    #[inline(always)]
    pub(crate) fn fill(&self, index: usize, words: &mut [u32]) {
        let (group, skip) = ((index / GROUP) as u64, index % GROUP);
        let (head, rest) = if skip == 0 {
            words.split_at_mut(0)
        } else {
            words.split_at_mut(words.len().min(GROUP - skip))
        };
        if skip > 0 {
            head.copy_from_slice(&self.group(group)[skip..][..head.len()]);
        }
        let first = group + u64::from(skip > 0);
        let (pairs, tail) = rest.as_chunks_mut::<PAIR>();
        let groups = (first..).step_by(2);
        let last = first + 2 * pairs.len() as u64;
        for (pair, group) in pairs.iter_mut().zip(groups) {
            *pair = self.pair(group);
        }
        if !tail.is_empty() {
            tail.copy_from_slice(&self.pair(last)[..tail.len()]);
        }
    }

    /// Fills `words` with those of one group in each of several rows, the rows' words side by side:
    /// `words[i * rows + row]` is that of element `i` of group `group + row * apart`.
    #[inline(always)]
    pub(crate) fn fill_columns(&self, group: u64, apart: u64, rows: usize, words: &mut [u32]) {
        const LANES: usize = 16;
        assert_eq!(words.len(), GROUP * rows);
        for first in (0..rows).step_by(LANES) {
            let lanes = LANES.min(rows - first);
            let group = |lane: usize| group.wrapping_add((first + lane) as u64 * apart);
            let block = |lane: usize| self.skipped.wrapping_add(group(lane)).wrapping_mul(8);
            for pair in 0..8 {
                let blocks = self.blocks::<LANES>(
                    #[inline(always)]
                    |lane| block(lane).wrapping_add(pair as u64),
                );
                let places = [2 * pair, 2 * pair + 1, 16 + 2 * pair, 17 + 2 * pair];
                for (place, block) in places.into_iter().zip(blocks) {
                    let narrow = block.map(|word| word as u32);
                    let words = &mut words[place * rows + first..][..lanes];
                    // A whole vector is stored at once.
                    match lanes == LANES {
                        true => words.copy_from_slice(&narrow),
                        false => words.copy_from_slice(&narrow[..lanes]),
                    }
                }
            }
        }
    }

    /// The words of `LANES` blocks from those of `group` on.
    #[inline(always)]
    fn words<const LANES: usize, const WORDS: usize>(&self, group: u64) -> [u32; WORDS] {
        const { assert!(WORDS == 4 * LANES && LANES.is_multiple_of(8)) };
        let first = self.skipped.wrapping_add(group).wrapping_mul(8);
        let [c0, c1, c2, c3] = self.blocks::<LANES>(
            #[inline(always)]
            |lane| first.wrapping_add(lane as u64),
        );
        // Two words of a block in a lane, which is how they lie in memory.
        let mut even = [0; LANES];
        let mut odd = [0; LANES];
        for lane in 0..LANES {
            even[lane] = c0[lane] & LOW | c1[lane] << 32;
            odd[lane] = c2[lane] & LOW | c3[lane] << 32;
        }
        let mut words = [0; WORDS];
        for (group, words) in words.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            for lane in 0..8 {
                let (even, odd) = (even[8 * group + lane], odd[8 * group + lane]);
                words[2 * lane] = even as u32;
                words[2 * lane + 1] = (even >> 32) as u32;
                words[16 + 2 * lane] = odd as u32;
                words[16 + 2 * lane + 1] = (odd >> 32) as u32;
            }
        }
        words
    }

    /// The four words of each of `LANES` blocks, in the lower halves of 64-bit lanes. The upper halves
    /// hold leftovers, which the 32-bit multiplication ignores; clearing them would cost instructions.
    #[inline(always)]
    fn blocks<const LANES: usize>(&self, block: impl Fn(usize) -> u64) -> [[u64; LANES]; 4] {
        let mut c0: [u64; LANES] = std::array::from_fn(&block);
        let mut c1: [u64; LANES] = std::array::from_fn(|lane| block(lane).rotate_right(32));
        let mut c2 = [self.stream; LANES];
        let mut c3 = [self.stream.rotate_right(32); LANES];
        let mut k0 = self.seed;
        let mut k1 = self.seed.rotate_right(32);
        for _ in 0..ROUNDS {
            for lane in 0..LANES {
                let p0 = (c0[lane] & LOW) * MULTIPLIER_0;
                let p1 = (c2[lane] & LOW) * MULTIPLIER_1;
                c0[lane] = (p1 >> 32) ^ c1[lane] ^ k0;
                c2[lane] = (p0 >> 32) ^ c3[lane] ^ k1;
                c1[lane] = p1;
                c3[lane] = p0;
            }
            k0 = k0.wrapping_add(WEYL_0.into());
            k1 = k1.wrapping_add(WEYL_1.into());
        }
        [c0, c1, c2, c3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors published with Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox_4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn groups_are_words_by_index() {
        for (seed, stream, group) in [(0, 0, 0), (u64::MAX, 7, 1 << 30), (42, u64::MAX - 3, 12345)]
        {
            let philox = Philox::new(seed, stream);
            let skipping = philox.skip_groups(3);
            assert_eq!(skipping.group(group), philox.group(group.wrapping_add(3)));
            assert_eq!(skipping.word(5), philox.word(3 * 32 + 5));
            for (offset, word) in philox.group(group).into_iter().enumerate() {
                assert_eq!(word, philox.word(group * 32 + offset as u64));
            }
        }
    }

    #[test]
    fn columns_are_words_by_row() {
        for (rows, group, apart) in [(1, 0, 1), (16, 5, 2), (40, 1 << 40, 7)] {
            let philox = Philox::new(42, 7).skip_groups(3);
            let mut words = vec![0; GROUP * rows];
            philox.fill_columns(group, apart, rows, &mut words);
            for (place, word) in words.into_iter().enumerate() {
                let (element, row) = (place / rows, place % rows);
                let index = (group + row as u64 * apart) * GROUP as u64 + element as u64;
                assert_eq!(word, philox.word(index), "{rows} {place}");
            }
        }
    }

    /// From every place in a group, also where the lower half of the counter overflows.
    #[test]
    fn words_are_filled_by_index() {
        for (skipped, length) in [(0, 300), ((1 << 29) - 2, 200), (u64::MAX - 1, 130), (3, 7)] {
            let philox = Philox::new(42, 7).skip_groups(skipped);
            for index in 0..70 {
                let mut words = vec![0; length];
                philox.fill(index, &mut words);
                for (word, index) in words.into_iter().zip(index as u64..) {
                    assert_eq!(word, philox.word(index));
                }
            }
        }
    }

    #[test]
    fn a_group_uses_every_word_of_its_blocks_once() {
        let philox = Philox::new(5, 6);
        let mut expected: Vec<u32> = (8..16)
            .flat_map(|block| philox_4x32_10([block, 0, 6, 0], [5, 0]))
            .collect();
        let mut words = philox.group(1).to_vec();
        expected.sort_unstable();
        words.sort_unstable();
        assert_eq!(words, expected);
    }
}
