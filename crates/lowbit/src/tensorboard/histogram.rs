//! Numbers counted in buckets.

use std::sync::LazyLock;

use super::proto::HistogramProto;

/// The ends of TensorFlow's buckets: `1e-12 * 1.1^k` up to 1e20 and the largest number, 0, and the
/// opposites of those, ascending.
static ENDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let powers = std::iter::successors(Some(1e-12), |end| Some(end * 1.1));
    let powers = powers.take_while(|end| *end < 1e20);
    let above: Vec<f64> = powers.chain([f64::MAX]).collect();
    let below = above.iter().rev().map(|end| -end);
    below.chain([0.0]).chain(above.iter().copied()).collect()
});

/// The numbers counted in TensorFlow's buckets, each from the end of the one before up to below its own.
/// Buckets before and behind those that count something are left out, but for the one in front that says
/// where the first begins. Numbers that are NaN or infinite are not counted.
pub(super) fn histogram(values: &[f32]) -> HistogramProto {
    let finite = || {
        values
            .iter()
            .map(|&x| f64::from(x))
            .filter(|x| x.is_finite())
    };
    let mut counts = vec![0.0; ENDS.len()];
    for value in finite() {
        counts[ENDS.partition_point(|end| *end <= value)] += 1.0;
    }
    let Some(first) = counts.iter().position(|count| *count > 0.0) else {
        return HistogramProto::default();
    };
    let last = counts.iter().rposition(|count| *count > 0.0);
    let used = first.saturating_sub(1)..=last.unwrap_or(first);
    HistogramProto {
        min: finite().fold(f64::INFINITY, f64::min),
        max: finite().fold(f64::NEG_INFINITY, f64::max),
        num: finite().count() as f64,
        sum: finite().sum(),
        sum_squares: finite().map(|x| x * x).sum(),
        bucket_limit: ENDS[used.clone()].to_vec(),
        bucket: counts[used].to_vec(),
    }
}

/// Numbers that were counted in bins of somebody else's.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_squares: f64,
    /// Where the first bin begins.
    pub first: f64,
    /// Of each bin, ascending, where it ends and how many numbers it holds.
    pub bins: Vec<(f64, u64)>,
}

impl From<&Counted> for HistogramProto {
    /// The bins, with an empty one in front that says where the first begins.
    fn from(counted: &Counted) -> Self {
        let bins = || std::iter::once((counted.first, 0)).chain(counted.bins.iter().copied());
        Self {
            min: counted.min,
            max: counted.max,
            num: bins().map(|(_, count)| count as f64).sum(),
            sum: counted.sum,
            sum_squares: counted.sum_squares,
            bucket_limit: bins().map(|(end, _)| end).collect(),
            bucket: bins().map(|(_, count)| count as f64).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1e-12 * 1.1^289 is 0.91725 and the next end 1.00897: 1 lies between. 2 lies below
    /// 1e-12 * 1.1^298 = 2.16282. Of -1, the bucket ends at -0.91725.
    #[test]
    fn counts_by_hand() {
        let found = histogram(&[1.0, 2.0, 1.0, f32::NAN, f32::INFINITY]);
        assert_eq!((found.min, found.max, found.num), (1.0, 2.0, 3.0));
        assert_eq!((found.sum, found.sum_squares), (4.0, 6.0));
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-4, "{a}, {b}");
        near(found.bucket_limit[0], 0.91725);
        near(found.bucket_limit[1], 1.00897);
        near(*found.bucket_limit.last().unwrap(), 2.16282);
        assert_eq!(found.bucket[..3], [0.0, 2.0, 0.0]);
        assert_eq!(found.bucket.len(), found.bucket_limit.len());
        assert_eq!(found.bucket.last(), Some(&1.0));
        let negative = histogram(&[-1.0]);
        near(negative.bucket_limit[1], -0.91725);
        // Zero is the first number of the bucket above it.
        assert_eq!(histogram(&[0.0]).bucket_limit, [0.0, 1e-12]);
        assert_eq!(histogram(&[]), HistogramProto::default());
    }

    /// Of 1, 1 and 3 in bins from 0 to 2 and to 4.
    #[test]
    fn counted_numbers_are_what_was_counted() {
        let found = HistogramProto::from(&Counted {
            min: 1.0,
            max: 3.0,
            sum: 5.0,
            sum_squares: 11.0,
            first: 0.0,
            bins: vec![(2.0, 2), (4.0, 1)],
        });
        assert_eq!((found.num, found.sum, found.sum_squares), (3.0, 5.0, 11.0));
        assert_eq!(found.bucket_limit, [0.0, 2.0, 4.0]);
        assert_eq!(found.bucket, [0.0, 2.0, 1.0]);
    }
}
