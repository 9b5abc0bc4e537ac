//! The order in which a sum is made.

use crate::accumulate::draws::Draws;
use crate::accumulate::exact::add_to_odd;
use crate::accumulate::{IntegerSum, Partial};
use crate::format::Format;

/// The order in which a sum is made; `R` is the rounding of a partial sum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Order {
    /// `s = R(s + p_i)`, from the first product to the last.
    Sequential,
    /// Products are rounded, `R(0 + p_i)`, and neighbours added until one sum is left; of an odd
    /// number, the last goes on as it is (Higham, Accuracy and Stability of Numerical Algorithms,
    /// second edition, section 4.1).
    Pairwise,
    /// Compensated: with `e = 0` at first, `y = R(e + p_i)`, `t = s`, `s = R(t + y)`,
    /// `e = R(R(t - s) + y)` (Kahan; Higham, algorithm 4.2).
    Kahan,
    /// Every `size` products are summed as in `Sequential`, from zero, and so are those sums, in the
    /// outer format, or in the same one (Wang et al., "Training Deep Neural Networks with 8-bit
    /// Floating Point Numbers", arXiv 1812.08011, section 3). The last chunk may be shorter.
    Chunked {
        /// Products of a chunk.
        size: usize,
        /// What holds the sum of the chunks, where it is not what holds a chunk's.
        outer: Option<Partial>,
    },
}

/// How a step of a sum is rounded.
pub(super) trait Steps {
    /// A partial sum.
    type Sum: Copy;

    const ZERO: Self::Sum;

    /// `R(sum + product)`, the product exact.
    fn add_product(&self, sum: Self::Sum, product: f64) -> Self::Sum;

    /// `R(sum + other)`.
    fn add(&self, sum: Self::Sum, other: Self::Sum) -> Self::Sum;

    /// `R(sum - other)`.
    fn subtract(&self, sum: Self::Sum, other: Self::Sum) -> Self::Sum;

    /// The number that a sum stands for.
    fn value(&self, sum: Self::Sum) -> f32;
}

/// The sum of products in an order.
pub(super) fn sum<S: Steps>(order: &Order, inner: &S, outer: &S, products: &[f64]) -> f32 {
    match order {
        Order::Sequential => inner.value(sequential(inner, products)),
        Order::Pairwise => {
            let rounded = products.iter().map(|&p| inner.add_product(S::ZERO, p));
            inner.value(pairwise(inner, rounded.collect()))
        }
        Order::Kahan => inner.value(kahan(inner, products)),
        Order::Chunked { size, .. } => {
            let chunks = products.chunks(*size);
            let sum = chunks.fold(S::ZERO, |sum, chunk| {
                outer.add(sum, sequential(inner, chunk))
            });
            outer.value(sum)
        }
    }
}

fn sequential<S: Steps>(steps: &S, products: &[f64]) -> S::Sum {
    let add = |sum, &product: &f64| steps.add_product(sum, product);
    products.iter().fold(S::ZERO, add)
}

fn pairwise<S: Steps>(steps: &S, mut sums: Vec<S::Sum>) -> S::Sum {
    while sums.len() > 1 {
        let pairs = sums.chunks(2).map(|pair| match *pair {
            [a, b] => steps.add(a, b),
            [a] => a,
            _ => unreachable!("chunks of at most two"),
        });
        sums = pairs.collect();
    }
    sums.first().copied().unwrap_or(S::ZERO)
}

fn kahan<S: Steps>(steps: &S, products: &[f64]) -> S::Sum {
    let (mut sum, mut error) = (S::ZERO, S::ZERO);
    for &product in products {
        let before = sum;
        let y = steps.add_product(error, product);
        sum = steps.add(before, y);
        error = steps.add(steps.subtract(before, sum), y);
    }
    sum
}

/// Sums of a format.
pub(super) struct FormatSums<'a> {
    pub(super) format: &'a Format,
    pub(super) draws: &'a Draws,
}

impl Steps for FormatSums<'_> {
    type Sum = f32;

    const ZERO: f32 = 0.0;

    fn add_product(&self, sum: f32, product: f64) -> f32 {
        let exact = add_to_odd(sum.into(), product);
        let random = self.draws.next();
        self.format.round_f64(exact, self.draws.rounding(), random)
    }

    fn add(&self, sum: f32, other: f32) -> f32 {
        self.add_product(sum, other.into())
    }

    fn subtract(&self, sum: f32, other: f32) -> f32 {
        self.add_product(sum, -f64::from(other))
    }

    fn value(&self, sum: f32) -> f32 {
        sum
    }
}

/// Integer sums; `None` once there was NaN.
pub(super) struct IntegerSums<'a> {
    pub(super) sums: IntegerSum,
    pub(super) draws: &'a Draws,
}

impl Steps for IntegerSums<'_> {
    type Sum = Option<i64>;

    const ZERO: Option<i64> = Some(0);

    fn add_product(&self, sum: Option<i64>, product: f64) -> Option<i64> {
        let random = self.draws.next();
        self.sums.add(sum?, product, self.draws.rounding(), random)
    }

    fn add(&self, sum: Option<i64>, other: Option<i64>) -> Option<i64> {
        Some(self.sums.limited(i128::from(sum?) + i128::from(other?)))
    }

    fn subtract(&self, sum: Option<i64>, other: Option<i64>) -> Option<i64> {
        Some(self.sums.limited(i128::from(sum?) - i128::from(other?)))
    }

    fn value(&self, sum: Option<i64>) -> f32 {
        sum.map_or(f32::NAN, |k| self.sums.to_f32(k))
    }
}
