//! Partial sums in floating point, rounded at random.
//!
//! Each sum with an exact product is made in f64, rounded to odd, and cut to the format with a random
//! word added below the last kept place. The word depends on the seed, the output and the rounding's
//! number alone, so that vectors go over outputs and draw for each of them.

use lowbit_formats::accumulate::{Order, Partial};
use lowbit_formats::float::Specials;
use lowbit_formats::kernel::isa::dispatch_on;
use lowbit_formats::{Accumulation, Float, Format, Rounding};
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::accumulate::avx512;
use crate::accumulate::odd::double_sum_to_odd as add_to_odd;
use crate::accumulate::operands::Extent;
use crate::accumulate::{Shape, one_nan};

/// Columns whose sums are made together.
pub(super) const LINE: usize = 32;

const FRACTION: u64 = (1 << 52) - 1;
const LOW: u64 = 0xFFFF_FFFF;

/// Rounding to a format at random.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    pub(super) mantissa: i32,
    /// The exponent of the smallest normal number.
    pub(super) least: i32,
    pub(super) max: f32,
    /// What a larger magnitude becomes.
    overflow: f32,
    /// The random bits that count.
    pub(super) kept: u32,
}

impl Grid {
    /// The rounding to a format with subnormals and minus zero, of which f64 has 32 bits below the last
    /// place.
    fn new(partial: &Partial, bits: u8) -> Option<Self> {
        let Partial::Format(Format::Float(format)) = partial else {
            return None;
        };
        let format: &Float = format;
        let max = format.max_finite();
        let overflow = match format.specials() {
            _ if format.saturates() => max,
            Specials::Finite => max,
            Specials::Ieee => f32::INFINITY,
            _ => f32::NAN,
        };
        let fits = format.has_subnormals()
            && format.specials() != Specials::Fnuz
            && (1..=20).contains(&format.mantissa());
        fits.then(|| Self {
            mantissa: format.mantissa().into(),
            least: (format.min_normal().to_bits() >> 23) as i32 - 127,
            max,
            overflow,
            kept: u32::MAX << (32 - u32::from(bits)),
        })
    }

    /// `x`, in f32's range, rounded away from zero with the probability that `random` gives it.
    #[inline(always)]
    fn round(self, x: f64, random: u32) -> f32 {
        let bits = x.to_bits();
        let own = (bits >> 52 & 0x7FF) as i32 - 1023;
        let exponent = own.max(self.least);
        let down = (exponent - own).min(63) as u64;
        let significand = (bits & FRACTION | 1 << 52) >> down;
        let cut = (52 - self.mantissa) as u64;
        let random = u64::from(random & self.kept) << (cut - 32);
        // At most 22 bits.
        let steps = ((significand + random) >> cut) as i32;
        let unit = f64::from_bits(((1023 + exponent - self.mantissa) as u64) << 52);
        let magnitude = (f64::from(steps) * unit) as f32;
        let magnitude = if magnitude > self.max {
            self.overflow
        } else {
            magnitude
        };
        let rounded = magnitude.copysign(x as f32);
        if x.is_finite() { rounded } else { x as f32 }
    }
}

/// The random words of four roundings, at the beginning of a cache line.
#[repr(align(64))]
struct Words([[u32; LINE]; 4]);

/// The random words of the outputs of a line, one rounding after another.
struct Draws {
    seed: u64,
    /// The place of the first output.
    output: u64,
    number: u64,
    words: Words,
}

impl Draws {
    #[inline(always)]
    fn new(seed: u64, output: u64) -> Self {
        Self {
            seed,
            output,
            number: 0,
            words: Words([[0; LINE]; 4]),
        }
    }

    #[inline(always)]
    fn next(&mut self) -> [u32; LINE] {
        let at = self.number % 4;
        if at == 0 {
            self.words = self.block(self.number / 4);
        }
        self.number += 1;
        self.words.0[at as usize]
    }

    /// A block of Philox 4x32-10 for each output: Salmon et al., "Parallel random numbers: as easy as
    /// 1, 2, 3", SC 2011. Words are the lower halves of 64-bit lanes, whose upper halves are ignored.
    #[inline(always)]
    fn block(&self, block: u64) -> Words {
        let mut c0 = [block; LINE];
        let mut c1 = [block >> 32; LINE];
        let mut c2: [u64; LINE] = std::array::from_fn(|lane| self.output.wrapping_add(lane as u64));
        let mut c3 = [0; LINE];
        for lane in 0..LINE {
            c3[lane] = c2[lane] >> 32;
        }
        let (mut k0, mut k1) = (self.seed as u32, (self.seed >> 32) as u32);
        for _ in 0..10 {
            for lane in 0..LINE {
                let p0 = (c0[lane] & LOW) * 0xD251_1F53;
                let p1 = (c2[lane] & LOW) * 0xCD9E_8D57;
                c0[lane] = (p1 >> 32) ^ c1[lane] ^ u64::from(k0);
                c2[lane] = (p0 >> 32) ^ c3[lane] ^ u64::from(k1);
                (c1[lane], c3[lane]) = (p1, p0);
            }
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        let mut words = Words([[0; LINE]; 4]);
        for (words, c) in words.0.iter_mut().zip([&c0, &c1, &c2, &c3]) {
            for lane in 0..LINE {
                words[lane] = c[lane] as u32;
            }
        }
        words
    }
}

/// How sums are made.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) grid: Grid,
    /// Products of a chunk and the rounding of the sums of chunks.
    pub(super) chunks: Option<(usize, Grid)>,
    pub(super) seed: u64,
}

impl Steps {
    /// The sums of a row with the columns of a line, of which the first output has this place.
    #[inline(always)]
    fn sums(self, row: &[f32], columns: &[[f32; LINE]], output: u64, sums: &mut [f32; LINE]) {
        let mut draws = Draws::new(self.seed, output);
        let Some((size, outer)) = self.chunks else {
            return self.add(row, columns, &mut draws, sums);
        };
        for (row, columns) in row.chunks(size).zip(columns.chunks(size)) {
            let mut chunk = [0.0; LINE];
            self.add(row, columns, &mut draws, &mut chunk);
            let random = draws.next();
            for j in 0..LINE {
                let sum = add_to_odd(sums[j].into(), chunk[j].into());
                sums[j] = outer.round(sum, random[j]);
            }
        }
    }

    #[inline(always)]
    fn add(self, row: &[f32], columns: &[[f32; LINE]], draws: &mut Draws, sums: &mut [f32; LINE]) {
        let mut made = *sums;
        for (&a, line) in row.iter().zip(columns) {
            let random = draws.next();
            for j in 0..LINE {
                let product = f64::from(a) * f64::from(line[j]);
                let sum = add_to_odd(made[j].into(), product);
                made[j] = self.grid.round(sum, random[j]);
            }
        }
        *sums = made;
    }
}

/// The sums of a row with the columns of a line, of which the first output has this place.
fn line_of_sums(steps: Steps, row: &[f32], columns: &[[f32; LINE]], place: u64) -> [f32; LINE] {
    let mut sums = [0.0; LINE];
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::stochastic_sums(steps, (row, columns), place, &mut sums) {
            return sums;
        }
        sums = [0.0; LINE];
    }
    dispatch_on(
        (steps, row, columns, place),
        &mut sums,
        #[inline(always)]
        |(steps, row, columns, place), sums| steps.sums(row, columns, place, sums),
    );
    sums
}

/// Columns of the right matrix, line after line, with zeros beyond the last.
fn lines(shape: &Shape, right: &[f32]) -> Vec<[f32; LINE]> {
    let mut lines = vec![[0.0; LINE]; shape.columns.div_ceil(LINE) * shape.inner];
    for (at, lines) in lines.chunks_exact_mut(shape.inner).enumerate() {
        let first = at * LINE;
        let width = LINE.min(shape.columns - first);
        for (line, row) in lines.iter_mut().zip(right.chunks_exact(shape.columns)) {
            line[..width].copy_from_slice(&row[first..][..width]);
        }
    }
    lines
}

/// Makes the products, if the rounding is stochastic, the formats are floating-point ones, products are
/// exact, the order is sequential or in chunks, and sums do not come near f32's largest number.
pub(super) fn product(
    accumulation: &Accumulation,
    shape: &Shape,
    [left, right]: [&[f32]; 2],
    ([a, b], seed): ([Extent; 2], u64),
    output: &mut [f32],
) -> bool {
    let Rounding::Stochastic { bits, .. } = accumulation.rounding() else {
        return false;
    };
    let Some(grid) = Grid::new(accumulation.partial(), bits) else {
        return false;
    };
    let chunks = match accumulation.order() {
        Order::Sequential => None,
        Order::Chunked { size, outer } => {
            let outer = outer
                .as_ref()
                .map_or(Some(grid), |outer| Grid::new(outer, bits));
            let Some(outer) = outer else { return false };
            Some((*size, outer))
        }
        Order::Pairwise | Order::Kahan => return false,
    };
    let more = shape.inner.ilog2() as i32 + 3;
    if accumulation.product().is_some()
        || !a.finite()
        || !b.finite()
        || a.highest + b.highest + more > 126
    {
        return false;
    }
    let steps = Steps { grid, chunks, seed };
    let lines = lines(shape, right);
    let rows = output.par_chunks_mut(shape.columns).enumerate();
    rows.for_each(|(at, output)| {
        let row = &left[at * shape.inner..][..shape.inner];
        let outputs = output.chunks_mut(LINE).enumerate();
        for ((line, output), columns) in outputs.zip(lines.chunks_exact(shape.inner)) {
            let place = (at * shape.columns + line * LINE) as u64;
            let sums = line_of_sums(steps, row, columns, place);
            for (output, sum) in output.iter_mut().zip(sums) {
                *output = one_nan(sum);
            }
        }
    });
    true
}
