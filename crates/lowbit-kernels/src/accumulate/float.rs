//! Partial sums in floating point.

use lowbit_formats::accumulate::{Order, Partial};
use lowbit_formats::{Accumulation, Float, Format, Grid, Pass, Rounding, ScalarFormat};

#[cfg(target_arch = "x86_64")]
use crate::accumulate::avx512;
use crate::accumulate::blocks::{Product, Steps, add_sums};
#[cfg(target_arch = "x86_64")]
use crate::accumulate::bounds::highest_product;
use crate::accumulate::bounds::{highest, min_exponent};
use crate::accumulate::nearest::{Bounded, Narrow, Nearest, Wide};
use crate::accumulate::odd::{add_double_to_odd, add_to_odd};
use crate::accumulate::operands::Extent;
use crate::accumulate::{Shape, one_nan};
#[cfg(not(target_arch = "aarch64"))]
use crate::vector::{Isa, isa};

/// The most significant bits of partial sums whose rounding by way of f32 changes nothing.
const INNOCUOUS: i32 = 11;

/// The most significant bits of partial sums that are attempted. One f32 in `2^(24 - bits)` is in the
/// middle of two.
const ATTEMPTED: i32 = 17;

/// How a partial sum and a product are added before they are rounded to the format.
mod way {
    /// The product is an f32 and the sum is rounded to f32.
    pub(super) const PLAIN: u8 = 0;
    /// The product is an f32 and the sum is rounded to odd.
    pub(super) const ODD: u8 = 1;
    /// The product is an f64, and the sum is rounded to an odd f64 and to an odd f32.
    pub(super) const ODD_DOUBLE: u8 = 2;
    /// The sum with the exact product is rounded to f32.
    pub(super) const FUSED: u8 = 3;
    /// The product is an f64 that is rounded, and the sum is rounded to f32.
    pub(super) const PLAIN_OF_DOUBLE: u8 = 4;
}

/// `x` rounded to the nearest number of a grid.
#[inline(always)]
fn nearest(grid: impl Grid, x: f32) -> f32 {
    grid.round(x, const { Rounding::NearestEven }, 0)
}

/// The numbers of f32.
#[derive(Clone, Copy)]
struct Single;

impl Grid for Single {
    #[inline(always)]
    fn round(&self, x: f32, _: Rounding, _: u32) -> f32 {
        x
    }
}

/// Sums rounded to the numbers of `grid`, of products that are rounded to those of `product` if they
/// are `ROUNDED`.
#[derive(Clone, Copy)]
struct FloatSteps<G, P, const WAY: u8, const ROUNDED: bool> {
    grid: G,
    product: P,
}

impl<G: Grid, P: Grid, const WAY: u8, const ROUNDED: bool> Steps
    for FloatSteps<G, P, WAY, ROUNDED>
{
    type Operand = f32;
    type Sum = f32;

    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn add_product(self, sum: f32, a: f32, b: f32) -> f32 {
        if ROUNDED {
            let product = match WAY {
                // Minus zero changes no number, and no zero's sign.
                way::ODD_DOUBLE | way::PLAIN_OF_DOUBLE => {
                    add_double_to_odd(f64::from(a) * f64::from(b), -0.0)
                }
                _ => a * b,
            };
            return self.add(sum, nearest(self.product, product));
        }
        let sum = match WAY {
            way::PLAIN => sum + a * b,
            way::ODD => add_to_odd(sum, a * b),
            way::ODD_DOUBLE => add_double_to_odd(sum.into(), f64::from(a) * f64::from(b)),
            _ => a.mul_add(b, sum),
        };
        nearest(self.grid, sum)
    }

    #[inline(always)]
    fn add(self, sum: f32, other: f32) -> f32 {
        let sum = match WAY {
            way::PLAIN | way::FUSED | way::PLAIN_OF_DOUBLE => sum + other,
            _ => add_to_odd(sum, other),
        };
        nearest(self.grid, sum)
    }

    #[inline(always)]
    fn subtract(self, sum: f32, other: f32) -> f32 {
        self.add(sum, -other)
    }
}

/// Sums with exact products rounded to f32 by the fused instruction, and made again where that may be
/// wrong.
#[derive(Clone, Copy)]
struct Attempts<G, S> {
    grid: G,
    exact: S,
    /// Products that are attempted together: of more bits, middles are more frequent.
    together: usize,
}

impl<G: Nearest, S: Steps<Operand = f32, Sum = f32>> Steps for Attempts<G, S> {
    type Operand = f32;
    type Sum = f32;

    const ZERO: f32 = 0.0;
    const ATTEMPTS: bool = true;

    #[inline(always)]
    fn add_product(self, sum: f32, a: f32, b: f32) -> f32 {
        self.exact.add_product(sum, a, b)
    }

    #[inline(always)]
    fn together(self) -> usize {
        self.together
    }

    #[inline(always)]
    fn attempt(self, sum: f32, a: f32, b: f32) -> (f32, bool) {
        let sum = a.mul_add(b, sum);
        (nearest(self.grid, sum), self.grid.is_middle(sum))
    }

    #[inline(always)]
    fn add(self, sum: f32, other: f32) -> f32 {
        self.exact.add(sum, other)
    }

    #[inline(always)]
    fn subtract(self, sum: f32, other: f32) -> f32 {
        self.exact.subtract(sum, other)
    }
}

/// Whether the instruction set in use multiplies and adds with one rounding.
fn has_fused() -> bool {
    #[cfg(not(target_arch = "aarch64"))]
    return isa() != Isa::Portable;
    #[cfg(target_arch = "aarch64")]
    return true;
}

/// A format to which sums can be rounded here.
pub(super) fn float(partial: &Partial) -> Option<&Float> {
    match partial {
        Partial::Format(Format::Float(float)) => {
            // Numbers rounded to an odd f32 have two bits more than these.
            let even = float.mantissa() <= 21;
            (even || is_single(float)).then_some(float)
        }
        _ => None,
    }
}

/// Whether a format is f32's own.
fn is_single(float: &Float) -> bool {
    Float::named("fp32").as_ref() == Some(float)
}

/// The products to be made, without their steps.
#[derive(Clone, Copy)]
struct Work<'a> {
    order: &'a Order,
    outer: &'a Float,
    shape: &'a Shape,
    operands: [&'a [f32]; 2],
}

impl Work<'_> {
    /// The products of the longest sum in the inner format.
    fn longest(&self) -> usize {
        match self.order {
            Order::Chunked { size, .. } => self.shape.inner.min(*size),
            _ => self.shape.inner,
        }
    }

    fn run<S: Steps<Operand = f32, Sum = f32>>(self, steps: S, output: &mut [f32]) {
        let product = Product {
            steps,
            order: self.order,
            add_chunks: &|sums, chunk| add_chunks(self.outer, sums, chunk),
            shape: self.shape,
            left: self.operands[0],
            right: self.operands[1],
        };
        product.run(one_nan, output);
    }
}

/// Adds sums of chunks, which may be of another format.
pub(super) fn add_chunks(format: &Float, sums: &mut [f32], chunk: &[f32]) {
    struct Add<'a>(&'a mut [f32], &'a [f32]);
    impl Pass for Add<'_> {
        type Output = ();
        fn run<G: Grid>(self, grid: G) {
            add_sums(
                #[inline(always)]
                |x, y| nearest(grid, add_to_odd(x, y)),
                self.0,
                self.1,
            );
        }
    }
    if is_single(format) {
        return add_sums(
            #[inline(always)]
            |x, y| x + y,
            sums,
            chunk,
        );
    }
    match Narrow::new(format) {
        Some(grid) => Add(sums, chunk).run(grid),
        None => format.apply(Add(sums, chunk)),
    }
}

/// What decides the way: the operands' bits and the formats.
#[derive(Clone, Copy)]
struct Bits {
    /// Whether f32 holds the products.
    exact: bool,
    /// Of a product, rounded or not.
    product: i32,
    /// Of a partial sum.
    sum: i32,
}

impl Bits {
    /// Whether products, and whether sums, may be added to the nearest f32 before they are rounded.
    #[cfg(target_arch = "x86_64")]
    fn plain(self, rounded: bool) -> [bool; 2] {
        let sums = self.sum <= INNOCUOUS;
        let products = (self.exact || rounded) && self.product <= self.sum;
        [sums && products, sums]
    }

    fn way(self) -> u8 {
        match self.exact {
            true if self.product <= self.sum && self.sum <= INNOCUOUS => way::PLAIN,
            true => way::ODD,
            false => way::ODD_DOUBLE,
        }
    }
}

/// Calls `$work.run` with the steps of a way, which is known when they are compiled.
macro_rules! run_in_way {
    ($work:ident, $bits:expr, $grid:expr, $product:expr, $rounded:literal, $output:expr) => {{
        let (grid, product) = ($grid, $product);
        match $bits.way() {
            way::PLAIN => $work.run(
                FloatSteps::<_, _, { way::PLAIN }, $rounded> { grid, product },
                $output,
            ),
            way::ODD => $work.run(
                FloatSteps::<_, _, { way::ODD }, $rounded> { grid, product },
                $output,
            ),
            _ => $work.run(
                FloatSteps::<_, _, { way::ODD_DOUBLE }, $rounded> { grid, product },
                $output,
            ),
        }
    }};
}

impl Work<'_> {
    /// Makes the products with a fast grid, if there is one for the products as well.
    fn with_grid<G: Nearest>(
        self,
        grid: G,
        product: Option<&Float>,
        bits: Bits,
        output: &mut [f32],
    ) -> bool {
        let Some(product) = product else {
            self.with_exact_products(grid, bits, output);
            return true;
        };
        let Some(product) = Narrow::new(product) else {
            return false;
        };
        run_in_way!(self, bits, grid, product, true, output);
        true
    }

    /// Makes products that are not rounded with a fast grid.
    fn with_exact_products(self, grid: impl Nearest, bits: Bits, output: &mut [f32]) {
        let product = Single;
        match bits.way() {
            way::PLAIN => {
                let steps = FloatSteps::<_, _, { way::PLAIN }, false> { grid, product };
                self.run(steps, output);
            }
            way::ODD => {
                // Products of few bits are often exactly in the middle, which attempts do not like.
                let steps = FloatSteps::<_, _, { way::ODD }, false> { grid, product };
                self.run(steps, output);
            }
            _ => {
                let exact = FloatSteps::<_, _, { way::ODD_DOUBLE }, false> { grid, product };
                if has_fused() && bits.sum <= ATTEMPTED {
                    let together = if bits.sum <= INNOCUOUS { 4 } else { 1 };
                    let attempts = Attempts {
                        grid,
                        exact,
                        together,
                    };
                    self.run(attempts, output);
                } else {
                    self.run(exact, output);
                }
            }
        }
    }

    /// Makes the products with any grid, in the way that is right for all operands.
    fn with_any_grid(self, sum: &Float, product: Option<&Float>, output: &mut [f32]) {
        struct Any<'a>(Work<'a>, Option<&'a Float>, &'a mut [f32]);
        impl Pass for Any<'_> {
            type Output = ();
            fn run<G: Grid>(self, grid: G) {
                let Self(work, product, output) = self;
                match product {
                    Some(product) => {
                        let product = product.grid();
                        work.run(
                            FloatSteps::<_, _, { way::ODD_DOUBLE }, true> { grid, product },
                            output,
                        );
                    }
                    None => work.run(
                        FloatSteps::<_, _, { way::ODD_DOUBLE }, false> {
                            grid,
                            product: Single,
                        },
                        output,
                    ),
                }
            }
        }
        sum.apply(Any(self, product, output));
    }

    /// Makes the products in fp32, to which f32 addition rounds once.
    fn in_single(self, product: Option<&Float>, exact: bool, output: &mut [f32]) {
        let grid = Single;
        match product.map(Narrow::new) {
            None if exact => self.run(
                FloatSteps::<_, _, { way::PLAIN }, false> {
                    grid,
                    product: Single,
                },
                output,
            ),
            None => self.run(
                FloatSteps::<_, _, { way::FUSED }, false> {
                    grid,
                    product: Single,
                },
                output,
            ),
            Some(Some(product)) if exact => self.run(
                FloatSteps::<_, _, { way::PLAIN }, true> { grid, product },
                output,
            ),
            Some(_) => {
                let product = product.map(Float::grid);
                let Some(product) = product else { return };
                self.run(
                    FloatSteps::<_, _, { way::PLAIN_OF_DOUBLE }, true> { grid, product },
                    output,
                );
            }
        }
    }
}

/// Makes the products, if the formats are floating-point ones that are rounded to nearest.
pub(super) fn product(
    accumulation: &Accumulation,
    shape: &Shape,
    operands: [&[f32]; 2],
    [left, right]: [Extent; 2],
    output: &mut [f32],
) -> bool {
    let Some(inner) = float(accumulation.partial()) else {
        return false;
    };
    let outer = match accumulation.order() {
        Order::Chunked {
            outer: Some(outer), ..
        } => float(outer),
        _ => Some(inner),
    };
    let product = match accumulation.product() {
        None => None,
        Some(Format::Float(product)) if product.mantissa() <= 21 => Some(product),
        Some(_) => return false,
    };
    let (Some(outer), Rounding::NearestEven) = (outer, accumulation.rounding()) else {
        return false;
    };
    let work = Work {
        order: accumulation.order(),
        outer,
        shape,
        operands,
    };
    let exact = left.holds_products(&right);
    if is_single(inner) {
        work.in_single(product, exact, output);
        return true;
    }
    let bits = |format: &Float| i32::from(format.mantissa()) + 1;
    let bits = Bits {
        exact,
        product: product.map_or(left.bits + right.bits, bits),
        sum: bits(inner),
    };
    let finite = left.finite() && right.finite();
    let highest = highest([left, right], inner, product, work.longest());
    // Multiples of the smallest number are not rounded below the smallest normal one.
    let step = |format: &Float| min_exponent(format) - i32::from(format.mantissa());
    let multiples = product.map_or(left.lowest + right.lowest, step) >= step(inner);
    #[cfg(target_arch = "x86_64")]
    {
        let work = avx512::Work {
            order: accumulation.order(),
            formats: (inner, outer, product),
            shape,
            operands,
            highest: [highest_product([left, right]), highest],
            multiples,
            plain: bits.plain(product.is_some()),
        };
        if work.run(output) {
            return true;
        }
    }
    let plain = multiples && product.is_none() && bits.way() == way::PLAIN;
    let done = match (Narrow::new(inner), Wide::new(inner)) {
        (Some(narrow), _) => match (narrow.bounded::<false>(highest), narrow.bounded(highest)) {
            (Some(grid), _) if plain => {
                let product = Single;
                let steps = FloatSteps::<_, _, { way::PLAIN }, false> { grid, product };
                work.run(steps, output);
                true
            }
            (_, Some(grid)) => work.with_grid::<Bounded<true>>(grid, product, bits, output),
            _ => work.with_grid(narrow, product, bits, output),
        },
        (None, Some(grid)) if finite => work.with_grid(grid, product, bits, output),
        _ => false,
    };
    if !done {
        work.with_any_grid(inner, product, output);
    }
    true
}
