//! Where a number lies in an ascending list.

/// Buckets of a search, and of steps that stay in the first cache.
pub(crate) const BUCKETS: usize = 2048;

/// Counts the numbers of an ascending list that are not above a given one.
///
/// A bucket, computed from the number, says where the count starts; a few steps of binary search
/// finish it. A bucket is any function of the number that does not descend, so that a number
/// cannot be in a lower bucket than one below it. Two are tried, and the one with the fewest steps
/// is kept: a straight line, for evenly spread lists, and a number's upper bits, for lists spread
/// over many powers of two.
pub(crate) struct Search {
    /// The list, and after it NaNs, which are above nothing.
    pub(crate) list: Vec<f32>,
    bucket: Bucket,
    /// How many numbers of the list lie in lower buckets, for each bucket.
    start: Vec<u16>,
    /// The first stride of the binary search, a power of two, or zero.
    stride: usize,
}

#[derive(Clone, Copy)]
pub(crate) enum Bucket {
    /// By `(x - origin) * per_unit`.
    Line { origin: f32, per_unit: f32 },
    /// By a number's bits read as an integer, of which the lowest `shift` do not count, and from
    /// which magnitudes up to the one of bits `flat` are taken out, counted from `first`.
    Bits { flat: u32, first: i32, shift: u32 },
}

impl Bucket {
    #[inline(always)]
    pub(crate) fn of(self, x: f32, buckets: usize) -> usize {
        match self {
            Self::Line { .. } => self.of_kind::<true>(x, buckets),
            Self::Bits { .. } => self.of_kind::<false>(x, buckets),
        }
    }

    /// The bucket of `x`; the kind must be the one that `LINE` says.
    #[inline(always)]
    pub(crate) fn of_kind<const LINE: bool>(self, x: f32, buckets: usize) -> usize {
        match self {
            Self::Line { origin, per_unit } if LINE => {
                let place = (x - origin) * per_unit;
                let place = if place > 0.0 { place } else { 0.0 };
                let last = (buckets - 1) as f32;
                let place = if place < last { place } else { last };
                // 2^23 leaves no place after the point, so the fraction bits are the integer.
                ((place + 8_388_608.0).to_bits() & 0x7f_ffff) as usize
            }
            Self::Bits { flat, first, shift } if !LINE => {
                let bucket = (ordered(x, flat) >> shift) - first;
                bucket.clamp(0, buckets as i32 - 1) as usize
            }
            _ => 0,
        }
    }

    /// The line that spreads the buckets over a list.
    pub(crate) fn line(list: &[f32], buckets: usize) -> Self {
        let (first, last) = ends(list);
        Self::Line {
            origin: first,
            per_unit: ((buckets - 1) as f32 / (last - first)).clamp(0.0, f32::MAX),
        }
    }

    /// The bits that spread the buckets over a list.
    pub(crate) fn bits(list: &[f32], buckets: usize) -> Self {
        let magnitudes = list.iter().map(|x| x.abs().to_bits());
        let smallest = magnitudes.filter(|&bits| bits > 1).min().unwrap_or(1);
        let (first, last) = ends(list);
        let range =
            i64::from(ordered(last, smallest - 1)) - i64::from(ordered(first, smallest - 1));
        // The buckets and four more fit into the range shifted. The shift is not zero, so that the
        // difference of two shifted numbers does not overflow.
        let shift = (range / (buckets as i64 - 4) + 1).ilog2() + 1;
        // Two buckets below the smallest magnitude keep it apart from zero.
        let flat = smallest.saturating_sub(1 + (2 << shift));
        Self::Bits {
            flat,
            first: ordered(first, flat) >> shift,
            shift,
        }
    }
}

/// First and last number, zeros for an empty list.
fn ends(list: &[f32]) -> (f32, f32) {
    (
        list.first().copied().unwrap_or(0.0),
        list.last().copied().unwrap_or(0.0),
    )
}

/// An integer that orders as numbers do; magnitudes whose bits are up to `flat` count as zero.
#[inline(always)]
fn ordered(x: f32, flat: u32) -> i32 {
    let magnitude = (x.to_bits() & 0x7fff_ffff).saturating_sub(flat) as i32;
    if x.is_sign_negative() {
        -magnitude
    } else {
        magnitude
    }
}

impl Search {
    pub(crate) fn new(mut list: Vec<f32>) -> Self {
        let candidates = [Bucket::line(&list, BUCKETS), Bucket::bits(&list, BUCKETS)];
        let [line, bits] = candidates.map(|bucket| crowd(&list, bucket));
        let (most, bucket) = if line <= bits {
            (line, candidates[0])
        } else {
            (bits, candidates[1])
        };
        let mut members = [0u16; BUCKETS];
        for &x in &list {
            members[bucket.of(x, BUCKETS)] += 1;
        }
        let mut below = 0;
        let start = members
            .iter()
            .map(|count| {
                below += count;
                below - count
            })
            .collect();
        let stride = (most + 1).next_power_of_two() / 2;
        list.resize(list.len() + 2 * stride, f32::NAN);
        Self {
            list,
            bucket,
            start,
            stride,
        }
    }

    #[inline(always)]
    pub(crate) fn find(&self, x: f32) -> usize {
        let mut count = usize::from(self.start[self.bucket.of(x, BUCKETS)]);
        let mut stride = self.stride;
        while stride > 0 {
            // Without a branch, which could not be foretold.
            count += stride * usize::from(x >= self.list[count + stride - 1]);
            stride /= 2;
        }
        count
    }
}

/// How many numbers of a list fall into one bucket, at most.
fn crowd(list: &[f32], bucket: Bucket) -> usize {
    let groups = list.chunk_by(|a, b| bucket.of(*a, BUCKETS) == bucket.of(*b, BUCKETS));
    groups.map(<[f32]>::len).max().unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Lists that favour the one and the other bucket, and lists that are bad for both.
    pub(in crate::scalar::levels) fn lists() -> Vec<Vec<f32>> {
        let even = (-128..128).map(|i| i as f32 / 100.0).collect();
        let powers: Vec<f32> = (-140..120).map(|e| 2f32.powi(e)).collect();
        let both = powers
            .iter()
            .rev()
            .map(|x| -x)
            .chain([0.0])
            .chain(powers.clone());
        let crowded = (0..300).map(|i| f32::from_bits(0x3f80_0000 + i));
        let far = crowded.clone().chain([1e30, f32::MAX]);
        let wide = vec![-f32::MAX, f32::MAX];
        let many = (0..3000).map(|i| i as f32 / 1000.0).collect();
        let sixteen: Vec<f32> = (0..16).map(|i| (i * i) as f32 - 100.0).collect();
        vec![
            vec![],
            vec![0.5],
            even,
            both.collect(),
            crowded.collect(),
            far.collect(),
            wide,
            many,
            vec![-1.0, 0.0, 1.0],
            sixteen[1..].to_vec(),
            sixteen,
        ]
    }

    /// Counting by comparing with every number of the list.
    #[test]
    fn search_counts() {
        for list in lists() {
            let search = Search::new(list.clone());
            let nearby = list.iter().flat_map(|x| [x.next_down(), *x, x.next_up()]);
            let numbers = (0..u32::MAX / 65_521).map(|i| f32::from_bits(i * 65_521));
            for x in nearby.chain(numbers).filter(|x| !x.is_nan()) {
                let expected = list.iter().filter(|&&y| x >= y).count();
                assert_eq!(search.find(x), expected, "{x} among {}", list.len());
            }
        }
    }
}
