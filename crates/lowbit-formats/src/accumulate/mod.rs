//! Sums of products as low-precision hardware makes them: every partial sum rounded to a format.
//!
//! An [`Accumulation`] says how `a_1 b_1 + a_2 b_2 + ...` is made: what holds a partial sum, whether
//! a product is rounded before it is added, and in which order. It is data, with a text such as
//! `e6m9 chunk 64`; [`Accumulation::sum_of_products`] is its meaning, one sum at a time. Kernels that
//! make many sums at once are compared with that.

mod draws;
mod exact;
mod integer;
mod order;
mod tensor_core;
mod text;

use crate::error::FormatError;
use crate::format::Format;
use crate::rounding::Rounding;
use crate::scalar::{Float, bits_of};

pub use draws::{random_word, random_words};
pub use integer::{IntegerOverflow, IntegerSum};
pub use order::Order;
pub use tensor_core::{Joining, TensorCore};

use draws::Draws;
use exact::add_to_odd;
use order::{FormatSums, IntegerSums, sum};

/// What holds a partial sum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Partial {
    /// A scalar format, to which every partial sum is rounded.
    Format(Format),
    /// An integer of a width, in units of a power of two.
    Integer(IntegerSum),
    /// The accumulator of a chip's matrix unit, an f32.
    TensorCore(TensorCore),
}

/// How a sum of products is made.
///
/// With `R` the rounding to the format of the partial sums, the sum in [order](Order) starts at zero
/// and goes on with
///
/// - `s = R(s + a b)`, the product exact: a fused multiply-add with one rounding, or
/// - `s = R(s + P(a b))`, where the product is first rounded to a format of its own.
///
/// `s + a b` is not first rounded to f32 or f64 on the way: an f64 of the sum rounded to odd, and
/// rounded again to a format, gives what rounding the exact sum once gives (Boldo and Melquiond,
/// "Emulation of FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd", IEEE
/// Transactions on Computers 57(4), 2008).
///
/// Stochastic rounding draws each rounding's random word from a seed, the place of the output and the
/// rounding's number, see [`random_words`].
///
/// Text: what holds the partial sums, then in this order, each if wanted, `wrap` or `saturate` (for
/// integers), `rounding MODE`, `product FORMAT`, and `pairwise`, `kahan` or `chunk N`, the last with
/// `outer FORMAT`. A floating-point format may be written `e6m9`, for `float(6,9)`, and its rounding
/// after a colon, as in `e6m9:stochastic`. The text of a chip's matrix unit is that of [`TensorCore`].
///
/// ```
/// use lowbit_formats::accumulate::Accumulation;
///
/// // 1-6-9 has ten bits: 1024 + 1 is halfway to 1026 and goes back to 1024.
/// let ones = vec![1.0; 4096];
/// let sequential: Accumulation = "e6m9".parse()?;
/// assert_eq!(sequential.sum_of_products(&ones, &ones), 1024.0);
/// let chunked: Accumulation = "e6m9 chunk 64".parse()?;
/// assert_eq!(chunked.sum_of_products(&ones, &ones), 4096.0);
/// # Ok::<(), lowbit_formats::FormatError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Accumulation {
    partial: Partial,
    product: Option<Format>,
    rounding: Rounding,
    order: Order,
}

impl Accumulation {
    /// Partial sums held by `partial`, sequential, to the nearest, with exact products.
    ///
    /// # Errors
    ///
    /// If a format's numbers share a scale or have no sign.
    pub fn new(partial: Partial) -> Result<Self, FormatError> {
        check_partial(&partial)?;
        Ok(Self {
            partial,
            product: None,
            rounding: Rounding::NearestEven,
            order: Order::Sequential,
        })
    }

    /// The same with each product rounded to a format before it is added.
    ///
    /// # Errors
    ///
    /// If the format's numbers share a scale or have no sign, or are integers wider than the partial
    /// sums.
    pub fn with_product(self, product: Format) -> Result<Self, FormatError> {
        self.check_no_unit("products rounded first")?;
        check_partial(&Partial::Format(product.clone()))?;
        if let (Partial::Integer(sums), Some(range)) = (&self.partial, product.integer_range()) {
            sums.check_holds(&product.to_string(), range.exponent, (range.min, range.max))?;
        }
        Ok(Self {
            product: Some(product),
            ..self
        })
    }

    /// The same with another rounding, of products and of every sum.
    ///
    /// # Errors
    ///
    /// If the rounding is stochastic with a seed or stream, or with random bits beyond 1 to 32.
    pub fn with_rounding(self, rounding: Rounding) -> Result<Self, FormatError> {
        rounding.validate()?;
        if let Rounding::Stochastic { seed, stream, .. } = rounding
            && (seed, stream) != (0, 0)
        {
            let expected = "none here, since each product is given its seed";
            let field = if seed != 0 { "seed" } else { "stream" };
            let value = if seed != 0 { seed } else { stream };
            return Err(FormatError::parameter("accumulate", field, value, expected));
        }
        if rounding != Rounding::NearestEven {
            self.check_no_unit("another rounding")?;
        }
        Ok(Self { rounding, ..self })
    }

    /// Checks that the partial sums are no chip's, whose arithmetic is given.
    fn check_no_unit(&self, operation: &str) -> Result<(), FormatError> {
        match &self.partial {
            Partial::TensorCore(core) => Err(FormatError::Unsupported {
                format: core.name().into(),
                operation: operation.into(),
            }),
            _ => Ok(()),
        }
    }

    /// The same in another order.
    ///
    /// # Errors
    ///
    /// If chunks are empty, the outer format is none for sums or is an integer where the partial sums
    /// are not (or the other way round), a compensated sum wraps or is an integer, or a chip's sums
    /// are to be pairwise or compensated. Chunks of a chip's are summed in fp32 without an outer
    /// format.
    pub fn with_order(self, order: Order) -> Result<Self, FormatError> {
        let wrong = |field, value: &dyn std::fmt::Display, expected: &str| {
            Err(FormatError::parameter("accumulate", field, value, expected))
        };
        match &order {
            Order::Chunked { size: 0, .. } => {
                return wrong("chunk", &0, "at least 1 product");
            }
            Order::Chunked {
                outer: Some(outer), ..
            } => {
                check_partial(outer)?;
                match (&self.partial, outer) {
                    (Partial::Integer(a), Partial::Integer(b)) if a.exponent() == b.exponent() => {}
                    (Partial::Format(_) | Partial::TensorCore(_), Partial::Format(_)) => {}
                    (Partial::Integer(_), _) => {
                        return wrong("outer", outer, "an integer in the units of the chunks");
                    }
                    _ => return wrong("outer", outer, "a format that is no integer's"),
                }
            }
            Order::Kahan if matches!(self.partial, Partial::Integer(_)) => {
                let expected = "floating point, since integers lose nothing that a sum could be \
                                compensated for, and wrapped ones no longer know it";
                return wrong("kahan", &self.partial, expected);
            }
            Order::Pairwise => self.check_no_unit("sums in pairs")?,
            Order::Kahan => self.check_no_unit("compensated sums")?,
            _ => {}
        }
        let order = match (order, &self.partial) {
            (Order::Chunked { size, outer: None }, Partial::TensorCore(_)) => Order::Chunked {
                size,
                outer: Float::named("fp32").map(|single| Partial::Format(Format::Float(single))),
            },
            (order, _) => order,
        };
        Ok(Self { order, ..self })
    }

    /// The same with integers that count units of `2^exponent`, which is the product of both
    /// operands' steps; integers of a unit of their own, as in `fixed(16,8)`, keep it.
    ///
    /// # Errors
    ///
    /// If the exponent is beyond [`IntegerSum::EXPONENTS`].
    pub fn in_units(self, exponent: i32) -> Result<Self, FormatError> {
        let set = |partial: Partial| match partial {
            Partial::Integer(sums) if sums.exponent() == 0 => {
                Ok::<_, FormatError>(Partial::Integer(sums.with_exponent(exponent)?))
            }
            other => Ok(other),
        };
        let order = match self.order {
            Order::Chunked {
                size,
                outer: Some(outer),
            } => Order::Chunked {
                size,
                outer: Some(set(outer)?),
            },
            other => other,
        };
        Ok(Self {
            partial: set(self.partial)?,
            order,
            ..self
        })
    }

    /// What holds a partial sum.
    pub fn partial(&self) -> &Partial {
        &self.partial
    }

    /// The format to which a product is rounded first.
    pub fn product(&self) -> Option<&Format> {
        self.product.as_ref()
    }

    /// How products and sums are rounded.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// In which order the sum is made.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Checks that an integer holds the product of any two numbers of these formats, and that a
    /// chip's matrix unit takes them. Floating point holds any, rounded.
    ///
    /// # Errors
    ///
    /// [`FormatError::Parameter`] if an integer does not, [`FormatError::Unsupported`] if a unit does
    /// not.
    pub fn check_operands(&self, left: &Format, right: &Format) -> Result<(), FormatError> {
        if let Partial::TensorCore(core) = &self.partial {
            return core.with_operands(left, right).map(|_| ());
        }
        let ranges = left.integer_range().zip(right.integer_range());
        let (Partial::Integer(sums), Some((a, b)), None) = (&self.partial, ranges, &self.product)
        else {
            return Ok(());
        };
        let what = format!("{left} times {right}");
        sums.check_holds(&what, a.exponent + b.exponent, a.sum_of_products(&b, 1))
    }

    /// The same for products of these formats' numbers: a chip's matrix unit aligns the smallest
    /// numbers of each format in another way.
    ///
    /// # Errors
    ///
    /// As [`check_operands`](Self::check_operands).
    pub fn with_operands(self, left: &Format, right: &Format) -> Result<Self, FormatError> {
        self.check_operands(left, right)?;
        let partial = match self.partial {
            Partial::TensorCore(core) => Partial::TensorCore(core.with_operands(left, right)?),
            other => other,
        };
        Ok(Self { partial, ..self })
    }

    /// `a[0] b[0] + a[1] b[1] + ...`, made as this says; zero of no products. An integer beyond
    /// 24 bits gives the nearest f32. NaN among the products gives NaN, and so does an infinity that
    /// would have to wrap. Where the rounding is stochastic, it is that of seed 0 and output 0.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn sum_of_products(&self, a: &[f32], b: &[f32]) -> f32 {
        self.seeded_sum_of_products(a, b, 0, 0)
    }

    /// As [`sum_of_products`](Self::sum_of_products), for an output at a place among all outputs:
    /// where the rounding is stochastic, its random words are those of the seed and the place.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn seeded_sum_of_products(&self, a: &[f32], b: &[f32], seed: u64, output: u64) -> f32 {
        assert_eq!(a.len(), b.len(), "slices differ in length");
        let outer = match &self.order {
            Order::Chunked {
                outer: Some(outer), ..
            } => outer,
            _ => &self.partial,
        };
        let draws = &Draws::new(self.rounding, seed, output);
        if let Partial::TensorCore(core) = &self.partial {
            return self.sum_of_unit(core, outer, a, b);
        }
        let products = a.iter().zip(b);
        let products = products.map(|(&a, &b)| self.multiply(a, b, draws));
        let products: Vec<f64> = products.collect();
        match (&self.partial, outer) {
            (&Partial::Integer(inner), &Partial::Integer(outer)) => {
                let [inner, outer] = [inner, outer].map(|sums| IntegerSums { sums, draws });
                sum(&self.order, &inner, &outer, &products)
            }
            (Partial::Format(inner), Partial::Format(outer)) => {
                let [inner, outer] = [inner, outer].map(|format| FormatSums { format, draws });
                sum(&self.order, &inner, &outer, &products)
            }
            _ => unreachable!("both are integers or both are not"),
        }
    }

    /// The sum in a chip's matrix unit, or of such sums of chunks.
    fn sum_of_unit(&self, core: &TensorCore, outer: &Partial, a: &[f32], b: &[f32]) -> f32 {
        let (Order::Chunked { size, .. }, Partial::Format(outer)) = (&self.order, outer) else {
            return core.sum(a, b);
        };
        let chunks = a.chunks(*size).zip(b.chunks(*size));
        chunks.fold(0.0, |sum: f32, (a, b)| {
            let exact = add_to_odd(sum.into(), core.sum(a, b).into());
            outer.round_f64(exact, Rounding::NearestEven, 0)
        })
    }

    /// The product that is added. That of two f32 is an f64: 48 bits, with exponents from -298.
    fn multiply(&self, a: f32, b: f32, draws: &Draws) -> f64 {
        let exact = f64::from(a) * f64::from(b);
        match &self.product {
            Some(format) => {
                let rounded = format.round_f64(exact, self.rounding, draws.next());
                rounded.into()
            }
            None => exact,
        }
    }
}

impl IntegerSum {
    /// Checks that integers from `least` to `greatest` in units of `2^exponent` fit.
    fn check_holds(
        &self,
        what: &str,
        exponent: i32,
        (least, greatest): (i128, i128),
    ) -> Result<(), FormatError> {
        // Bits below the unit are rounded away, bits above are those that are missing.
        let bits = bits_of(least, greatest) as i32 + exponent - self.exponent();
        if bits <= self.bits() as i32 {
            return Ok(());
        }
        let expected = format!("at least {bits}, which {what} needs");
        Err(FormatError::parameter(
            "accumulate",
            "bits",
            self.bits(),
            expected,
        ))
    }
}

/// Whether sums can be rounded to a format.
fn check_partial(partial: &Partial) -> Result<(), FormatError> {
    let Partial::Format(format) = partial else {
        return Ok(());
    };
    let refused = match format {
        Format::Block(_) => "sums, since its numbers share a scale",
        _ if format.min() >= 0.0 => "sums, since it has no negative numbers",
        _ => return Ok(()),
    };
    Err(FormatError::Unsupported {
        format: format.to_string(),
        operation: refused.into(),
    })
}
