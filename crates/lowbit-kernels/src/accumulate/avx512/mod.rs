//! Partial sums in floating point with AVX-512, whose instructions round in the direction that each of
//! them names: a sum rounded to odd takes four of them, with an exact product or without, where others
//! take fourteen for an f32 and as many again where the product is an f64.

// Vector instructions, each called where the CPU has been asked for it.
#![allow(unsafe_code)]

mod nearest;
mod steps;
mod stochastic;

use std::arch::x86_64::{
    __m512, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use lowbit_formats::Float;
use lowbit_formats::accumulate::Order;
use lowbit_formats::float::Specials;
use rayon::prelude::*;

use crate::accumulate::float::add_chunks;
use crate::accumulate::{Shape, one_nan};
use crate::vector::{Isa, LANES, isa};
use nearest::{Nearest, case};
use steps::{Steps, way};
pub(super) use stochastic::stochastic_sums;

/// Rows whose sums are in registers together: a vector of the right matrix is read once for all.
const ROWS: usize = 4;

/// Vectors of each of these rows.
const VECTORS: usize = 2;

/// Columns of these.
const COLUMNS: usize = VECTORS * LANES;

/// Sums that wait for another of as many products, each of twice as many as that before.
const LEVELS: usize = usize::BITS as usize;

/// The body once for each row, without a loop, which would leave sums in memory.
macro_rules! for_each_row {
    ($r:ident, $body:block) => {{
        macro_rules! of_row {
            ($at:literal) => {{
                let $r: usize = $at;
                $body
            }};
        }
        of_row!(0);
        of_row!(1);
        of_row!(2);
        of_row!(3);
    }};
}

/// Sums in registers.
type Sums = [[__m512; VECTORS]; ROWS];

/// Their numbers.
type Numbers = [[f32; COLUMNS]; ROWS];

/// Numbers of the right matrix, from the beginning of a cache line on.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([f32; COLUMNS]);

/// Steps that are right for all numbers.
type Always = (Nearest<{ case::ANY }>, Option<Nearest<{ case::ANY }>>);

/// A matrix product to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) order: &'a Order,
    /// Of the partial sums, of those of chunks, and of products if these are rounded.
    pub(super) formats: (&'a Float, &'a Float, Option<&'a Float>),
    pub(super) shape: &'a Shape,
    pub(super) operands: [&'a [f32]; 2],
    /// The exponents that no exact product and no partial sum goes beyond; of infinite operands, beyond
    /// f32's.
    pub(super) highest: [i32; 2],
    /// Whether all sums are multiples of the format's smallest number.
    pub(super) multiples: bool,
    /// Whether products, and whether sums, are added to the nearest f32.
    pub(super) plain: [bool; 2],
}

impl Work<'_> {
    /// Makes the products, if the CPU has AVX-512 and the formats are such that fused instructions
    /// round to them.
    pub(super) fn run(self, output: &mut [f32]) -> bool {
        if isa() != Isa::Avx512 {
            return false;
        }
        match self.formats.2 {
            None => self.with_exact_products(output),
            Some(product) => self.with_rounded_products(product, output),
        }
    }

    fn with_exact_products(self, output: &mut [f32]) -> bool {
        const SMALL: u8 = case::SMALL | case::SIGNED | case::WATCHED;
        let (format, highest) = (self.formats.0, self.highest[1]);
        let any = Nearest::new(format, highest);
        let within = Nearest::<0>::new(format, highest);
        let sure = any.is_some() || within.is_some();
        let watched = Nearest::<{ case::WATCHED }>::new(format, highest).filter(|_| sure);
        let small = Nearest::<SMALL>::new(format, highest).filter(|_| sure);
        let always = any.map(|grid| (grid, None));
        let product_alone = matches!(self.order, Order::Kahan) && !self.multiples;
        if product_alone && self.with_small_products(watched, always, output) {
            return true;
        }
        match (within, watched, small, any) {
            (Some(grid), ..) if self.multiples => {
                self.with_grid::<_, 0, 0>(grid, None, None, output);
            }
            (_, Some(grid), ..) if self.multiples => {
                self.with_grid::<_, 0, 0>(grid, None, always, output);
            }
            (_, _, Some(grid), _) => self.with_grid::<_, 0, 0>(grid, None, always, output),
            (.., Some(grid)) => self.with_grid::<_, 0, 0>(grid, None, None, output),
            _ => return false,
        }
        true
    }

    /// Makes compensated sums where only products are no multiples of the smallest number. Zeros need no
    /// sign: a sum begins as plus zero, and what is added to it leaves none that is minus zero.
    fn with_small_products(
        self,
        watched: Option<Nearest<{ case::WATCHED }>>,
        always: Option<Always>,
        output: &mut [f32],
    ) -> bool {
        const SMALL: u8 = case::SMALL;
        const WATCHED: u8 = case::SMALL | case::WATCHED;
        let (format, highest) = (self.formats.0, self.highest[1]);
        let small = Nearest::<SMALL>::new(format, highest);
        if let Some(grids) = small.zip(Nearest::<0>::new(format, highest)) {
            self.with_grids::<_, _, 0, 0>(grids, None, None, output);
            return true;
        }
        let Some(grids) = Nearest::<WATCHED>::new(format, highest).zip(watched) else {
            return false;
        };
        self.with_grids::<_, _, 0, 0>(grids, None, always, output);
        true
    }

    fn with_rounded_products(self, product: &Float, output: &mut [f32]) -> bool {
        const ANY: u8 = case::ANY;
        const PRODUCTS: u8 = case::SMALL | case::LARGE;
        let format = self.formats.0;
        let any = Nearest::new(format, self.highest[1]);
        let any_product = Nearest::new(product, self.highest[0]);
        let always: Option<Always> = any.zip(any_product.map(Some));
        let products = Nearest::<PRODUCTS>::new(product, self.highest[0]);
        let products = products.filter(|_| self.multiples);
        let stays_finite =
            !is_infinite(product) || Nearest::<0>::new(product, self.highest[0]).is_some();
        let within = Nearest::<0>::new(format, self.highest[1]).filter(|_| stays_finite);
        let watched = Nearest::<{ case::WATCHED }>::new(format, self.highest[1]);
        match (products, within, watched) {
            (Some(_), Some(grid), _) => {
                self.with_grid::<_, PRODUCTS, ANY>(grid, products, None, output);
            }
            (Some(_), _, Some(grid)) if always.is_some() => {
                self.with_grid::<_, PRODUCTS, ANY>(grid, products, always, output);
            }
            _ => {
                let Some((grid, product)) = always else {
                    return false;
                };
                self.with_grid::<_, ANY, ANY>(grid, product, None, output);
            }
        }
        true
    }

    fn with_grid<const SUMS: u8, const PRODUCTS: u8, const ALWAYS: u8>(
        self,
        grid: Nearest<SUMS>,
        product: Option<Nearest<PRODUCTS>>,
        always: Option<Always>,
        output: &mut [f32],
    ) {
        self.with_grids::<_, _, _, ALWAYS>((grid, grid), product, always, output);
    }

    fn with_grids<const SUMS: u8, const ADDS: u8, const PRODUCTS: u8, const ALWAYS: u8>(
        self,
        (grid, adds): (Nearest<SUMS>, Nearest<ADDS>),
        product: Option<Nearest<PRODUCTS>>,
        always: Option<Always>,
        output: &mut [f32],
    ) {
        macro_rules! run {
            ($way:expr) => {{
                let steps = Steps::<{ $way }, _, _, _> {
                    grid,
                    adds,
                    product,
                };
                let always = always.map(|(grid, product)| {
                    let product = product.map(Nearest::with_cases);
                    let adds = grid;
                    Steps::<{ $way }, _, _, ALWAYS> {
                        grid,
                        adds,
                        product,
                    }
                });
                self.with_steps(steps, always, output)
            }};
        }
        match self.plain {
            [true, _] => run!(way::PLAIN),
            [_, true] => run!(way::ODD_PRODUCTS),
            _ => run!(way::ODD),
        }
    }

    /// Makes the products with some steps, and again with others where a sum went beyond the format.
    fn with_steps<
        const WAY: u8,
        const SUMS: u8,
        const ADDS: u8,
        const PRODUCTS: u8,
        const ALWAYS: u8,
    >(
        self,
        steps: Steps<WAY, SUMS, ADDS, PRODUCTS>,
        always: Option<Steps<WAY, { case::ANY }, { case::ANY }, ALWAYS>>,
        output: &mut [f32],
    ) {
        let Shape { inner, columns, .. } = *self.shape;
        let panels = panels(self.shape, self.operands[1]);
        let groups = output.par_chunks_mut(ROWS * columns);
        let rows = self.operands[0].par_chunks(ROWS * inner);
        groups.zip(rows).for_each(|(output, rows)| {
            // A missing row is made as the first one, and dropped.
            let rows: [&[f32]; ROWS] =
                std::array::from_fn(|r| rows.chunks_exact(inner).nth(r).unwrap_or(&rows[..inner]));
            for (at, panel) in panels.chunks_exact(inner).enumerate() {
                let (mut sums, beyond) = self.sums(steps, rows, panel);
                if let (true, Some(always)) = (beyond, always) {
                    (sums, _) = self.sums(always, rows, panel);
                }
                let first = at * COLUMNS;
                let width = COLUMNS.min(columns - first);
                for (row, sums) in output.chunks_exact_mut(columns).zip(&sums) {
                    for (output, &sum) in row[first..][..width].iter_mut().zip(sums) {
                        *output = one_nan(sum);
                    }
                }
            }
        });
    }

    /// The sums of some rows with the columns of a panel, and whether one went beyond the format.
    fn sums<const WAY: u8, const SUMS: u8, const ADDS: u8, const PRODUCTS: u8>(
        self,
        steps: Steps<WAY, SUMS, ADDS, PRODUCTS>,
        rows: [&[f32]; ROWS],
        panel: &[Line],
    ) -> (Numbers, bool) {
        let Order::Chunked { size, .. } = self.order else {
            // SAFETY: `run` has asked the CPU, for F and DQ among others.
            return unsafe {
                match self.order {
                    Order::Pairwise => pairwise(steps, rows, panel),
                    Order::Kahan => kahan(steps, rows, panel),
                    _ => sequential(steps, rows, panel),
                }
            };
        };
        let (mut sums, mut beyond) = ([[0.0; COLUMNS]; ROWS], false);
        for (at, panel) in panel.chunks(*size).enumerate() {
            let rows = rows.map(|row| &row[at * size..]);
            // SAFETY: as above.
            let (chunk, is_beyond) = unsafe { sequential(steps, rows, panel) };
            beyond |= is_beyond;
            let outer = self.formats.1;
            add_chunks(outer, sums.as_flattened_mut(), chunk.as_flattened());
        }
        (sums, beyond)
    }
}

/// Whether what is beyond a format becomes infinite.
fn is_infinite(format: &Float) -> bool {
    format.specials() == Specials::Ieee && !format.saturates()
}

/// The right matrix's columns, a few of all rows after one another, with zeros beyond the last.
fn panels(shape: &Shape, right: &[f32]) -> Vec<Line> {
    let Shape { inner, columns, .. } = *shape;
    let mut panels = vec![Line([0.0; COLUMNS]); columns.div_ceil(COLUMNS) * inner];
    let all = panels.par_chunks_mut(inner).enumerate();
    all.for_each(|(at, panel)| {
        let first = at * COLUMNS;
        let width = COLUMNS.min(columns - first);
        for (line, row) in panel.iter_mut().zip(right.chunks_exact(columns)) {
            line.0[..width].copy_from_slice(&row[first..][..width]);
        }
    });
    panels
}

impl Line {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn load(&self) -> [__m512; VECTORS] {
        let mut vectors = [_mm512_setzero_ps(); VECTORS];
        for (vector, numbers) in vectors.iter_mut().zip(self.0.as_chunks::<LANES>().0) {
            // SAFETY: these are sixteen numbers.
            *vector = unsafe { _mm512_loadu_ps(numbers.as_ptr()) };
        }
        vectors
    }
}

/// The numbers of sums.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn stored(sums: &Sums) -> Numbers {
    let mut numbers = [[0.0; COLUMNS]; ROWS];
    for (row, sums) in numbers.iter_mut().zip(sums) {
        for (vector, &sum) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            // SAFETY: these are sixteen numbers.
            unsafe { _mm512_storeu_ps(vector.as_mut_ptr(), sum) };
        }
    }
    numbers
}

/// Products one after another.
#[target_feature(enable = "avx512f,avx512dq")]
fn sequential<const WAY: u8, const SUMS: u8, const ADDS: u8, const PRODUCTS: u8>(
    steps: Steps<WAY, SUMS, ADDS, PRODUCTS>,
    rows: [&[f32]; ROWS],
    panel: &[Line],
) -> (Numbers, bool) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let mut peaks = [_mm512_setzero_ps(); VECTORS];
    let rows = rows.map(|row| &row[..panel.len()]);
    for (k, line) in panel.iter().enumerate() {
        let b = line.load();
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let a = _mm512_set1_ps(row[k]);
            for v in 0..VECTORS {
                sums[v] = steps.add_product(sums[v], [a, b[v]], &mut peaks[v]);
            }
        }
    }
    (stored(&sums), steps.is_beyond(&peaks))
}

/// Products one after another, compensated.
#[target_feature(enable = "avx512f,avx512dq")]
fn kahan<const WAY: u8, const SUMS: u8, const ADDS: u8, const PRODUCTS: u8>(
    steps: Steps<WAY, SUMS, ADDS, PRODUCTS>,
    rows: [&[f32]; ROWS],
    panel: &[Line],
) -> (Numbers, bool) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let mut peaks = [_mm512_setzero_ps(); VECTORS];
    let mut errors = sums;
    let rows = rows.map(|row| &row[..panel.len()]);
    for (k, line) in panel.iter().enumerate() {
        let b = line.load();
        // A step of all sums after the other: those of one sum wait for each other.
        let before = sums;
        for_each_row!(r, {
            let a = _mm512_set1_ps(rows[r][k]);
            for v in 0..VECTORS {
                errors[r][v] = steps.add_product(errors[r][v], [a, b[v]], &mut peaks[v]);
            }
        });
        for_each_row!(r, {
            for v in 0..VECTORS {
                sums[r][v] = steps.add(before[r][v], errors[r][v], &mut peaks[v]);
            }
        });
        // What was lost is no larger than what was added, and its error is small.
        let mut unwatched = _mm512_setzero_ps();
        let mut lost = before;
        for_each_row!(r, {
            for v in 0..VECTORS {
                lost[r][v] = steps.subtract(before[r][v], sums[r][v], &mut unwatched);
            }
        });
        for_each_row!(r, {
            for v in 0..VECTORS {
                errors[r][v] = steps.add(lost[r][v], errors[r][v], &mut unwatched);
            }
        });
    }
    (stored(&sums), steps.is_beyond(&peaks))
}

/// Products in pairs: neighbours are added as soon as both are there, after product `k + 1` as often as
/// that number is even. What is left over at last goes from the smaller sums to the larger.
#[target_feature(enable = "avx512f,avx512dq")]
fn pairwise<const WAY: u8, const SUMS: u8, const ADDS: u8, const PRODUCTS: u8>(
    steps: Steps<WAY, SUMS, ADDS, PRODUCTS>,
    rows: [&[f32]; ROWS],
    panel: &[Line],
) -> (Numbers, bool) {
    let zero = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    let mut waiting = [zero; LEVELS];
    let rows = rows.map(|row| &row[..panel.len()]);
    let mut peaks = [_mm512_setzero_ps(); VECTORS];
    let add = |before: &Sums, sums: &mut Sums, peaks: &mut [__m512; VECTORS]| {
        for (sums, before) in sums.iter_mut().zip(before) {
            for v in 0..VECTORS {
                sums[v] = steps.add(before[v], sums[v], &mut peaks[v]);
            }
        }
    };
    for (k, line) in panel.iter().enumerate() {
        let b = line.load();
        let mut sums = zero;
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let a = _mm512_set1_ps(row[k]);
            for v in 0..VECTORS {
                sums[v] = steps.add_product(sums[v], [a, b[v]], &mut peaks[v]);
            }
        }
        let level = k.trailing_ones() as usize;
        for before in &waiting[..level] {
            add(before, &mut sums, &mut peaks);
        }
        waiting[level] = sums;
    }
    let mut left = (0..LEVELS).filter(|level| panel.len() >> level & 1 == 1);
    let Some(first) = left.next() else {
        return (stored(&zero), false);
    };
    let mut sums = waiting[first];
    for level in left {
        add(&waiting[level], &mut sums, &mut peaks);
    }
    (stored(&sums), steps.is_beyond(&peaks))
}
