//! Partial sums in integers.
//!
//! Operands are made whole numbers of their steps first. Wrapping keeps the low bits alone, of which
//! sums modulo a larger power of two lose none, so that it is enough to wrap at the end.

use lowbit_formats::Accumulation;
use lowbit_formats::accumulate::{IntegerOverflow, IntegerSum, Order, Partial};
use lowbit_formats::kernel::isa::dispatch_on;

use crate::accumulate::Shape;
use crate::accumulate::blocks::{Product, Steps, add_sums};
use crate::accumulate::operands::Extent;
use crate::vector::LANES;

/// An integer that holds sums, with arithmetic modulo its width.
trait Word: Copy + PartialOrd + Send + Sync {
    const BITS: u32;
    const ZERO: Self;
    /// The low bits.
    fn of(k: i64) -> Self;
    fn multiply(a: i32, b: i32) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    /// The low `BITS - cut` bits, the highest of them the sign.
    fn cut(self, cut: u32) -> Self;
    /// The nearest f32.
    fn single(self) -> f32;
}

macro_rules! word {
    ($word:ty) => {
        impl Word for $word {
            const BITS: u32 = <$word>::BITS;
            const ZERO: Self = 0;

            #[inline(always)]
            fn of(k: i64) -> Self {
                k as Self
            }

            #[inline(always)]
            fn multiply(a: i32, b: i32) -> Self {
                Self::from(a).wrapping_mul(Self::from(b))
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn cut(self, cut: u32) -> Self {
                self << cut >> cut
            }

            #[inline(always)]
            fn single(self) -> f32 {
                self as f32
            }
        }
    };
}

word!(i32);
word!(i64);

/// Sums that saturate at every step if they are `SATURATING`, else modulo the word's width.
#[derive(Clone, Copy)]
struct IntegerSteps<W, const SATURATING: bool> {
    min: W,
    max: W,
}

impl<W: Word, const SATURATING: bool> IntegerSteps<W, SATURATING> {
    fn new(sums: IntegerSum) -> Self {
        let (min, max) = sums.limits();
        Self {
            min: W::of(min),
            max: W::of(max),
        }
    }

    #[inline(always)]
    fn limited(self, sum: W) -> W {
        if !SATURATING {
            return sum;
        }
        let sum = if sum > self.max { self.max } else { sum };
        if sum < self.min { self.min } else { sum }
    }
}

impl<W: Word, const SATURATING: bool> Steps for IntegerSteps<W, SATURATING> {
    type Operand = i32;
    type Sum = W;

    const ZERO: W = W::ZERO;

    #[inline(always)]
    fn add_product(self, sum: W, a: i32, b: i32) -> W {
        self.limited(sum.plus(W::multiply(a, b)))
    }

    #[inline(always)]
    fn add(self, sum: W, other: W) -> W {
        self.limited(sum.plus(other))
    }

    #[inline(always)]
    fn subtract(self, sum: W, other: W) -> W {
        self.limited(sum.minus(other))
    }
}

/// A sum of the word's width brought within the limits.
#[inline(always)]
fn limit<W: Word>(sums: IntegerSum) -> impl Fn(W) -> W + Copy + Sync {
    let (min, max) = sums.limits();
    let (min, max) = (W::of(min), W::of(max));
    let saturates = sums.overflow() == IntegerOverflow::Saturate;
    let cut = W::BITS.saturating_sub(sums.bits());
    std::convert::identity(
        #[inline(always)]
        move |sum: W| {
            if !saturates {
                return sum.cut(cut);
            }
            let sum = if sum > max { max } else { sum };
            if sum < min { min } else { sum }
        },
    )
}

/// Matrices of whole numbers, and what becomes of their products.
struct Work<'a> {
    order: &'a Order,
    inner: IntegerSum,
    outer: IntegerSum,
    shape: &'a Shape,
    left: Whole,
    right: Whole,
}

impl Work<'_> {
    fn run<W: Word>(&self, output: &mut [f32]) {
        match self.inner.overflow() {
            IntegerOverflow::Saturate => {
                self.run_steps(IntegerSteps::<W, true>::new(self.inner), output);
            }
            IntegerOverflow::Wrap => {
                self.run_steps(IntegerSteps::<W, false>::new(self.inner), output);
            }
        }
    }

    fn run_steps<W: Word, const SATURATING: bool>(
        &self,
        steps: IntegerSteps<W, SATURATING>,
        output: &mut [f32],
    ) {
        let (inner, outer) = (limit::<W>(self.inner), limit::<W>(self.outer));
        let add = std::convert::identity(
            #[inline(always)]
            |sum: W, chunk: W| outer(sum.plus(inner(chunk))),
        );
        let product = Product {
            steps,
            order: self.order,
            add_chunks: &|sums, chunk| add_sums(add, sums, chunk),
            shape: self.shape,
            left: self.left.numbers(),
            right: self.right.numbers(),
        };
        let unit = f64::from(self.outer.exponent()).exp2();
        let finish = |sum: W| (f64::from(outer(sum).single()) * unit) as f32;
        product.run(finish, output);
    }
}

/// Whole numbers from the beginning of a cache line on: a vector that lies in two takes twice as long
/// to read, as long as it takes to add its products.
struct Whole {
    numbers: Vec<i32>,
    first: usize,
}

impl Whole {
    /// Numbers in units of `2^exponent`, of which they are multiples below `2^31`.
    fn new(numbers: &[f32], exponent: i32) -> Self {
        let per_unit = f64::from(-exponent).exp2();
        let mut whole = vec![0; numbers.len() + LANES - 1];
        let first = whole.as_ptr().align_offset(LANES * size_of::<i32>());
        let first = first.min(LANES - 1);
        dispatch_on(
            numbers,
            &mut whole[first..],
            #[inline(always)]
            |numbers, whole| {
                for (whole, &x) in whole.iter_mut().zip(numbers) {
                    *whole = (f64::from(x) * per_unit) as i32;
                }
            },
        );
        Self {
            numbers: whole,
            first,
        }
    }

    fn numbers(&self) -> &[i32] {
        &self.numbers[self.first..]
    }
}

/// Integers of a word for both, if no sum, below `2^most`, reaches a limit of either: they need not be
/// brought within it.
fn unlimited(inner: IntegerSum, outer: IntegerSum, most: i32) -> Option<[IntegerSum; 2]> {
    let bits = if most < 32 { 32 } else { 64 };
    if most >= inner.bits().min(outer.bits()) as i32 {
        return None;
    }
    let word = IntegerSum::new(bits, IntegerOverflow::Wrap).ok()?;
    let word = word.with_exponent(inner.exponent()).ok()?;
    Some([word, word])
}

/// Makes the products, if they are whole numbers of the sums' unit that a register holds.
pub(super) fn product(
    accumulation: &Accumulation,
    shape: &Shape,
    operands: [&[f32]; 2],
    [left, right]: [Extent; 2],
    output: &mut [f32],
) -> bool {
    let (&Partial::Integer(inner), None) = (accumulation.partial(), accumulation.product()) else {
        return false;
    };
    let outer = match accumulation.order() {
        Order::Chunked {
            outer: Some(Partial::Integer(outer)),
            ..
        } => *outer,
        _ => inner,
    };
    // Whole numbers of units are not rounded, in any mode.
    //
    // Products are multiples of so many units; the left numbers are made so many times as large.
    let more = left.lowest + right.lowest - inner.exponent();
    let widths = [left.width() + more, right.width()];
    if !left.finite() || !right.finite() || more < 0 || widths.iter().any(|&width| width > 31) {
        return false;
    }
    let most = widths[0] + widths[1] + (usize::BITS - shape.inner.leading_zeros()) as i32;
    let [inner, outer] = unlimited(inner, outer, most).unwrap_or([inner, outer]);
    let work = Work {
        order: accumulation.order(),
        inner,
        outer,
        shape,
        left: Whole::new(operands[0], left.lowest - more),
        right: Whole::new(operands[1], right.lowest),
    };
    let saturates = [inner, outer].map(|sums| sums.overflow() == IntegerOverflow::Saturate);
    let any_saturates = saturates[0] || saturates[1];
    let bits = inner.bits().max(outer.bits());
    // A sum and a product below half a word's limits do not leave it before they are limited.
    let product = widths[0] + widths[1];
    let fits = |word: u32| {
        bits <= word - u32::from(any_saturates) && (!any_saturates || product <= word as i32 - 2)
    };
    if fits(32) {
        work.run::<i32>(output);
    } else if fits(64) {
        work.run::<i64>(output);
    } else {
        return false;
    }
    true
}
