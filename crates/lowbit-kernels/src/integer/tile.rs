//! The register tile: some pixels by some vectors of sums, kept in registers from the first product
//! to the last.
//!
//! An instruction that adds products starts every cycle and takes four, so more than four sums are
//! made at once; sixteen of AVX-512's 32 registers hold sums, so that a load of weights meets 4 to 16
//! pixels, and the widths of usual images are whole tiles. Pixels lie a constant of the compiled tile
//! apart, where that is a usual one: then each one's address is an offset in the instruction.

use std::ops::Range;

use super::output::{Output, Place};
use super::quads::{Quads, WEIGHTS};
use super::sums::LANES;
#[cfg(target_arch = "aarch64")]
use super::sums::Neon;
#[cfg(not(target_arch = "aarch64"))]
use super::sums::Portable;
#[cfg(target_arch = "x86_64")]
use super::sums::{Avx2, Avx512};
use super::{Kind, Shape};

/// Fours of bytes that lie one after the other, or as far apart as the row says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Where they start, from the window's first byte.
    pub(super) offset: usize,
    /// How many.
    pub(super) quads: usize,
}

/// Vectors of sums that a tile makes together.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) first: usize,
    pub(super) vectors: usize,
    /// The channels that they read, in fours.
    pub(super) channels: Range<usize>,
    pub(super) runs: Vec<Run>,
}

impl Group {
    /// Fours of bytes in a window.
    pub(super) fn quads(&self) -> usize {
        self.run_quads().sum()
    }

    /// The same in pairs, of which the last of a run may have one.
    pub(super) fn pairs(&self) -> usize {
        self.run_quads().map(|quads| quads.div_ceil(2)).sum()
    }

    /// Fours of bytes of each run.
    pub(super) fn run_quads(&self) -> impl Iterator<Item = usize> {
        self.runs.iter().map(|run| run.quads)
    }
}

/// Where the weights of [`Weights`](super::weights::Weights) start.
#[derive(Clone, Copy)]
pub(super) enum Start {
    Bytes(*const i8),
    /// The row has one pixel.
    Nibbles(*const u8),
}

/// One row of the output.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// The first window's first byte.
    pub(super) image: *const u8,
    /// From one window to the next.
    pub(super) step: usize,
    /// From one four of a run to the next.
    pub(super) four: usize,
    /// Pixels of the row.
    pub(super) columns: usize,
    pub(super) groups: &'a [Group],
    pub(super) weights: Start,
    /// Of inputs that are counted as the instructions take them.
    pub(super) bias: *const i32,
}

/// The runs of a window, of some of its channels: its rows, or its elements where those lie apart.
fn runs(shape: &Shape, channels: &Range<usize>) -> Vec<Run> {
    let pixel = shape.pixel();
    let row = shape.image[1] * pixel;
    let mut runs = Vec::new();
    for ky in 0..shape.kernel[0] {
        let start = ky * shape.dilation[0] * row + channels.start;
        if shape.dilation[1] == 1 && channels.len() == pixel {
            runs.push(Run {
                offset: start,
                quads: shape.kernel[1] * pixel / 4,
            });
        } else {
            runs.extend((0..shape.kernel[1]).map(|kx| Run {
                offset: start + kx * shape.dilation[1] * pixel,
                quads: channels.len() / 4,
            }));
        }
    }
    runs
}

/// Groups of four vectors, then of two, then of one: the first and how many. Not more than so many are
/// together.
pub(super) fn together(vectors: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let count = match (vectors - first).min(most) {
            4.. => 4,
            2..=3 => 2,
            _ => 1,
        };
        first += count;
        (first <= vectors).then(|| (first - count, count))
    })
}

/// Groups of vectors whose inputs are together.
pub(super) fn groups(shape: &Shape) -> Vec<Group> {
    let [inputs, outputs] = [shape.inputs, shape.outputs].map(|n| n / shape.groups);
    let most = if shape.groups == 1 {
        4
    } else {
        outputs / LANES
    };
    let group = |(first, vectors): (usize, usize)| {
        let last = ((first + vectors) * LANES).min(shape.outputs) - 1;
        let from = first * LANES / outputs * inputs;
        let to = (last / outputs + 1) * inputs;
        let channels = from / 4 * 4..to.next_multiple_of(4);
        Group {
            first,
            vectors,
            runs: runs(shape, &channels),
            channels,
        }
    };
    together(shape.sums() / LANES, most).map(group).collect()
}

/// One group of vectors of a row.
#[derive(Clone, Copy)]
struct Vectors<'a, W> {
    row: Row<'a>,
    runs: &'a [Run],
    weights: *const W,
    bias: *const i32,
    /// The first of them.
    first: usize,
}

/// The sums of `P` pixels from `x` on, `V` vectors of each; pixels lie `STEP` bytes apart, or as the
/// row says where that is 0.
///
/// # Safety
/// - The contract of [`Quads`] and of [`Output`].
/// - The windows of the pixels lie in the image, and `weights` and `bias` reach as far as the row says.
#[inline(always)]
unsafe fn tile<T: Quads, O: Output, const P: usize, const V: usize, const STEP: usize>(
    t: &Vectors<i8>,
    output: O,
    x: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let step = if STEP == 0 { t.row.step } else { STEP };
        let window = t.row.image.add(x * step);
        let mut sums = [[T::load(t.bias); V]; P];
        for sums in &mut sums {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = T::load(t.bias.add(v * LANES));
            }
        }
        let mut weights = t.weights;
        for run in t.runs {
            let mut input = window.add(run.offset);
            for _ in 0..run.quads {
                let mut w = [T::weights(weights); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = T::weights(weights.add(v * WEIGHTS));
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = input.add(p * step).cast::<[u8; 4]>().read();
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = sum.add_products(x, w);
                    }
                }
                weights = weights.add(V * WEIGHTS);
                // Past the last four of all there is nothing.
                input = input.wrapping_add(t.row.four);
            }
        }
        let place = Place {
            x,
            pixels: P,
            vector: t.first,
        };
        output.put(&sums, place);
    }
}

/// All pixels of a row, in tiles of `P`, then one after the other.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn pixels<T: Quads, O: Output, const P: usize, const V: usize>(t: &Vectors<i8>, output: O) {
    // SAFETY: the caller's.
    unsafe {
        match t.row.step {
            4 => stepped::<T, O, P, V, 4>(t, output),
            16 => stepped::<T, O, P, V, 16>(t, output),
            32 => stepped::<T, O, P, V, 32>(t, output),
            64 => stepped::<T, O, P, V, 64>(t, output),
            _ => stepped::<T, O, P, V, 0>(t, output),
        }
    }
}

/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn stepped<T: Quads, O: Output, const P: usize, const V: usize, const STEP: usize>(
    t: &Vectors<i8>,
    output: O,
) {
    let mut x = 0;
    // SAFETY: the caller's; no pixel beyond the row's is made.
    unsafe {
        while x + P <= t.row.columns {
            tile::<T, O, P, V, STEP>(t, output, x);
            x += P;
        }
        while x < t.row.columns {
            tile::<T, O, 1, V, STEP>(t, output, x);
            x += 1;
        }
    }
}

/// The sums of the row's only pixel from weights of four bits, of fours of bytes in turn in two sums where
/// the registers are enough: an instruction then waits less for the one before it.
///
/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn pixel<T: Quads, O: Output, const V: usize>(t: &Vectors<u8>, output: O) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [[T::zero(); 2]; V];
        for (v, sums) in sums.iter_mut().enumerate() {
            sums[0] = T::load(t.bias.add(v * LANES));
        }
        let second = usize::from(T::WIDE);
        let mut weights = t.weights;
        for run in t.runs {
            let mut input = t.row.image.add(run.offset).cast::<[u8; 4]>();
            for _ in 0..run.quads / 2 {
                let x = [input.read(), input.add(1).read()];
                for (v, sums) in sums.iter_mut().enumerate() {
                    let [a, b] = T::nibbles(weights.add(v * WEIGHTS));
                    sums[0] = sums[0].add_products(x[0], a);
                    sums[second] = sums[second].add_products(x[1], b);
                }
                weights = weights.add(V * WEIGHTS);
                input = input.add(2);
            }
            if run.quads % 2 == 1 {
                for (v, sums) in sums.iter_mut().enumerate() {
                    let [a, _] = T::nibbles(weights.add(v * WEIGHTS));
                    sums[0] = sums[0].add_products(input.read(), a);
                }
                weights = weights.add(V * WEIGHTS);
            }
        }
        let mut total = [T::zero(); V];
        for (total, [one, other]) in total.iter_mut().zip(sums) {
            *total = one.plus(other);
        }
        let place = Place {
            x: 0,
            pixels: 1,
            vector: t.first,
        };
        output.put(&[total], place);
    }
}

/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn row<T: Quads, O: Output>(row: Row, output: O) {
    // SAFETY: the caller's.
    unsafe {
        match row.weights {
            Start::Bytes(weights) => of_bytes::<T, O>(row, weights, output),
            Start::Nibbles(weights) => of_nibbles::<T, O>(row, weights, output),
        }
    }
}

impl<'a, W> Vectors<'a, W> {
    /// # Safety
    /// As of [`tile`].
    #[inline(always)]
    unsafe fn of(row: Row<'a>, group: &'a Group, weights: *const W) -> Self {
        Self {
            row,
            runs: &group.runs,
            weights,
            // SAFETY: the caller's.
            bias: unsafe { row.bias.add(group.first * LANES) },
            first: group.first,
        }
    }
}

/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn of_bytes<T: Quads, O: Output>(row: Row, mut weights: *const i8, output: O) {
    for group in row.groups {
        // SAFETY: the caller's: groups follow each other in the weights and the bias.
        unsafe {
            let t = &Vectors::of(row, group, weights);
            match (group.vectors, T::WIDE) {
                (4, true) => pixels::<T, O, 4, 4>(t, output),
                (2, true) => pixels::<T, O, 8, 2>(t, output),
                (_, true) => pixels::<T, O, 16, 1>(t, output),
                (4, false) => pixels::<T, O, 1, 4>(t, output),
                (2, false) => pixels::<T, O, 2, 2>(t, output),
                (_, false) => pixels::<T, O, 4, 1>(t, output),
            }
            weights = weights.add(group.quads() * group.vectors * WEIGHTS);
        }
    }
}

/// # Safety
/// As of [`tile`].
#[inline(always)]
unsafe fn of_nibbles<T: Quads, O: Output>(row: Row, mut weights: *const u8, output: O) {
    for group in row.groups {
        // SAFETY: as of `of_bytes`.
        unsafe {
            let t = &Vectors::of(row, group, weights);
            match group.vectors {
                4 => pixel::<T, O, 4>(t, output),
                2 => pixel::<T, O, 2>(t, output),
                _ => pixel::<T, O, 1>(t, output),
            }
            weights = weights.add(group.pairs() * group.vectors * WEIGHTS);
        }
    }
}

/// Vectors of sums of the loop that measures the peak.
pub(super) const PEAK_SUMS: usize = 12;

/// # Safety
/// The contract of [`Quads`].
#[inline(always)]
unsafe fn peak<T: Quads>(rounds: usize) -> i32 {
    // SAFETY: the caller's; the arrays have the sizes that are read and written.
    unsafe {
        let weights = std::hint::black_box([3i8; WEIGHTS]);
        let x = std::hint::black_box([5u8; 4]);
        let w = T::weights(weights.as_ptr());
        let mut sums = [T::load([0; LANES].as_ptr()); PEAK_SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = sum.add_products(x, w);
            }
        }
        let mut total = 0i32;
        for sum in sums {
            let mut lanes = [0; LANES];
            sum.store(lanes.as_mut_ptr());
            total = lanes.into_iter().fold(total, i32::wrapping_add);
        }
        total
    }
}

/// The row and the peak, compiled for one instruction set. They may only be called where the CPU has
/// it.
macro_rules! compiled {
    ($row:ident, $peak:ident, $quads:ty $(, $arch:literal, $features:literal)?) => {
        $(#[cfg(target_arch = $arch)]
        #[target_feature(enable = $features)])?
        unsafe fn $row<O: Output>(t: Row, output: O) {
            // SAFETY: the caller's, and this function is compiled for the instructions.
            unsafe { row::<$quads, O>(t, output) }
        }

        $(#[cfg(target_arch = $arch)]
        #[target_feature(enable = $features)])?
        pub(super) unsafe fn $peak(rounds: usize) -> i32 {
            // SAFETY: the caller's, and this function is compiled for the instructions.
            unsafe { peak::<$quads>(rounds) }
        }
    };
}

/// A row by instructions that the CPU has.
///
/// # Safety
/// As of [`tile`].
pub(super) unsafe fn run<O: Output>(kind: Kind, row: Row, output: O) {
    // SAFETY: the caller's.
    unsafe {
        match kind {
            #[cfg(target_arch = "x86_64")]
            Kind::Vnni => row_vnni(row, output),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => row_avx2(row, output),
            #[cfg(target_arch = "aarch64")]
            Kind::Dot => row_dot(row, output),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => row_neon(row, output),
            #[cfg(not(target_arch = "aarch64"))]
            Kind::Portable => row_portable(row, output),
        }
    }
}

compiled!(
    row_vnni,
    peak_vnni,
    Avx512,
    "x86_64",
    "avx512f,avx512bw,avx512vnni"
);
compiled!(row_avx2, peak_avx2, Avx2, "x86_64", "avx2");
#[cfg(not(target_arch = "aarch64"))]
compiled!(row_portable, peak_portable, Portable);
compiled!(row_neon, peak_neon, Neon<false>, "aarch64", "neon");
compiled!(row_dot, peak_dot, Neon<true>, "aarch64", "neon,dotprod");
