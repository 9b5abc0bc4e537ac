//! Products of two tensors.

use serde::{Deserialize, Serialize};

use super::{Operation, Values, two};
use crate::tensor::{Interval, Residue, Tensor};

/// `(a - zero_point a) (b - zero_point b)`, exactly; the step is the product of both. The output is
/// as wide as its products.
///
/// # Shapes
///
/// `b` has the shape of `a`, or 1 in place of dimensions along which it is repeated. The output has
/// the shape of `a`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mul {}

/// The element of `b` that meets an element of `a`.
fn partner(element: usize, a: &[usize], b: &[usize]) -> usize {
    let (mut rest, mut at, mut step) = (element, 0, 1);
    for (&size, &other) in a.iter().zip(b).rev() {
        if other > 1 {
            at += rest % size * step;
        }
        rest /= size;
        step *= other;
    }
    at
}

/// Pairs of numbers of two intervals among whose products are the least and the greatest: their ends;
/// of a square, both ends and what is nearest to zero.
fn extremes(inputs: &[&Tensor], x: Interval, y: Interval) -> Vec<(i64, i64)> {
    if super::read_twice(inputs) {
        let nearest = inputs[0].numbers.zero_point().clamp(x.least, x.greatest);
        return [x.least, nearest, x.greatest].map(|x| (x, x)).to_vec();
    }
    let pairs = [x.least, x.greatest].map(|x| [y.least, y.greatest].map(|y| (x, y)));
    pairs.as_flattened().to_vec()
}

impl Operation for Mul {
    fn output(&self, inputs: &[&Tensor]) -> Result<Tensor, String> {
        let [a, b] = two(inputs)?;
        let fits = |(x, y): (&usize, &usize)| x == y || *y == 1;
        if a.shape.len() != b.shape.len() || !a.shape.iter().zip(&b.shape).all(fits) {
            return Err(format!(
                "shapes are {:?} and {:?}, expected one, or 1 in the second",
                a.shape, b.shape
            ));
        }
        let [za, zb] = [a, b].map(|t| i128::from(t.numbers.zero_point()));
        let mut intervals = Vec::with_capacity(a.shape[0]);
        let mut residues = Vec::with_capacity(a.shape[0]);
        for channel in 0..a.shape[0] {
            let other = if b.shape[0] == 1 { 0 } else { channel };
            let (x, y) = (a.intervals[channel], b.intervals[other]);
            let products = extremes(inputs, x, y)
                .into_iter()
                .map(|(x, y)| (i128::from(x) - za) * (i128::from(y) - zb));
            let least = products.clone().min().unwrap_or(0);
            let greatest = products.max().unwrap_or(0);
            let limit = 1i128 << 62;
            if least < -limit || greatest >= limit {
                return Err(format!(
                    "products reach {least} to {greatest}, beyond 63 bits"
                ));
            }
            intervals.push(Interval {
                least: least as i64,
                greatest: greatest as i64,
            });
            residues.push(Residue::ANY);
        }
        let bits = intervals.iter().map(Interval::bits).max().unwrap_or(1);
        let numbers = a.numbers.times(&b.numbers).numbers(bits)?;
        Tensor::new(a.shape.clone(), numbers, intervals, residues)
    }

    fn evaluate(&self, inputs: &[Values], output: &Tensor) -> Vec<i64> {
        let [a, b] = [&inputs[0], &inputs[1]];
        let [za, zb] = [a, b].map(|input| input.tensor.numbers.zero_point());
        let elements = 0..output.elements();
        let product = |e: usize| {
            let other = partner(e, &a.tensor.shape, &b.tensor.shape);
            (a.values[e] - za) * (b.values[other] - zb)
        };
        elements.map(product).collect()
    }

    fn witness(
        &self,
        inputs: &[&Tensor],
        shape: &[usize],
        element: usize,
        greatest: bool,
    ) -> Option<Vec<Vec<i64>>> {
        let [a, b] = [inputs[0], inputs[1]];
        let other = partner(element, shape, &b.shape);
        let (x, y) = (
            a.intervals[a.channel(element)],
            b.intervals[b.channel(other)],
        );
        let product = |x: i64, y: i64| (x - a.numbers.zero_point()) * (y - b.numbers.zero_point());
        let pairs = extremes(inputs, x, y).into_iter();
        let key = |&(x, y): &(i64, i64)| product(x, y);
        let (x, y) = if greatest {
            pairs.max_by_key(key)
        } else {
            pairs.min_by_key(key)
        }?;
        let (mut first, mut second) = (a.least(), b.least());
        (first[element], second[other]) = (x, y);
        if super::read_twice(inputs) {
            second.clone_from(&first);
        }
        Some(vec![first, second])
    }
}

#[cfg(test)]
mod tests {
    use super::partner;

    /// `[2, 3]` with `[2, 1]`: row 1 meets element 1; with `[1, 3]`: column 2 meets element 2.
    #[test]
    fn repeated_dimensions() {
        assert_eq!(partner(4, &[2, 3], &[2, 1]), 1);
        assert_eq!(partner(5, &[2, 3], &[1, 3]), 2);
        assert_eq!(partner(5, &[2, 3], &[2, 3]), 5);
        assert_eq!(partner(5, &[2, 3], &[1, 1]), 0);
    }
}
