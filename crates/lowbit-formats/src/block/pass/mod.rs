//! Passes for formats whose elements share a scale: a reduction over each block, then rounding,
//! while the block is in cache.
//!
//! Results do not depend on threads or chunks: the reductions are associative and commutative,
//! and a random word belongs to its element's index in the tensor.

mod lanes;

use rayon::prelude::*;

use crate::block::granularity::{Extent, Granularity};
use crate::error::FormatError;
use crate::kernel::{CHUNK, ChannelsLast, PARALLEL, as_uninit, map_random_images, stream};
use crate::rounding::Rounding;
use crate::rounding::philox::Philox;

/// A format whose elements share a scale.
///
/// The methods are `#[inline(always)]` and free of data-dependent branches, so that the passes
/// become vector code.
pub(crate) trait Shared: Copy + Send + Sync {
    /// What is gathered from a block to choose its scale, such as the largest magnitude.
    type Range: Copy + Send + Sync;

    /// What the elements of a block share.
    type Scale: Copy + Send + Sync;

    /// The block size for which there is a loop of its own.
    const BLOCK: usize;

    /// The range of no elements.
    const EMPTY: Self::Range;

    /// The range with one more element; associative with [`Shared::join`].
    fn include(range: Self::Range, x: f32) -> Self::Range;

    /// The range of the elements of both.
    fn join(a: Self::Range, b: Self::Range) -> Self::Range;

    /// The range of a whole block, by a faster way if there is one.
    #[inline(always)]
    fn gather(block: &[f32]) -> Self::Range {
        block.iter().fold(
            Self::EMPTY,
            #[inline(always)]
            |range, &x| Self::include(range, x),
        )
    }

    /// The scale of a block.
    fn scale(&self, range: Self::Range) -> Self::Scale;

    /// Whether a block's scale hangs on the ranges of all blocks.
    #[inline(always)]
    fn scales_together(&self) -> bool {
        false
    }

    /// The scales of all blocks.
    fn scales(&self, ranges: Vec<Self::Range>) -> Vec<Self::Scale> {
        ranges.into_iter().map(|range| self.scale(range)).collect()
    }

    /// The member of the block's set of numbers to which `x` is rounded.
    fn round(&self, x: f32, scale: Self::Scale, rounding: Rounding, random: u32) -> f32;
}

/// Runs from this length on are worth a loop of their own along a dimension.
const LONG_RUN: usize = 64;

/// `output[i]` is `input[i]` rounded with the scale of its block, with the random words that follow
/// `skipped` groups.
///
/// # Errors
///
/// [`FormatError::Length`], [`FormatError::Shape`], or [`FormatError::Parameter`] for the number
/// of random bits or an empty block.
pub(crate) fn quantize<S: Shared>(
    format: S,
    granularity: Granularity,
    input: &[f32],
    shape: &[usize],
    output: &mut [f32],
    rounding: Rounding,
    skipped: u64,
) -> Result<(), FormatError> {
    if input.len() != output.len() {
        return Err(FormatError::Length {
            input: input.len(),
            output: output.len(),
        });
    }
    run(
        format,
        granularity,
        shape,
        Buffer::Pair(input, output),
        rounding,
        skipped,
    )
}

/// As [`quantize`], in place.
///
/// # Errors
///
/// As [`quantize`].
pub(crate) fn quantize_in_place<S: Shared>(
    format: S,
    granularity: Granularity,
    data: &mut [f32],
    shape: &[usize],
    rounding: Rounding,
) -> Result<(), FormatError> {
    run(
        format,
        granularity,
        shape,
        Buffer::InPlace(data),
        rounding,
        0,
    )
}

/// As [`quantize`], out of place or in place, without random words; `None` for a format whose scales
/// go by the order of its blocks.
pub(crate) fn quantize_stored<S: Shared>(
    format: S,
    granularity: Granularity,
    buffer: Buffer<'_>,
    shape: &[usize],
    rounding: Rounding,
) -> Option<Result<(), FormatError>> {
    let ordered = format.scales_together() && granularity != Granularity::Tensor;
    (!ordered).then(|| run(format, granularity, shape, buffer, rounding, 0))
}

/// As [`quantize`] with one scale for a whole tensor, in stochastic rounding, for images whose
/// channels lie side by side.
pub(crate) fn quantize_images<S: Shared>(
    format: S,
    buffer: Buffer<'_>,
    images: ChannelsLast,
    rounding: Rounding,
) {
    let Rounding::Stochastic { seed, stream, bits } = rounding else {
        unreachable!("the rounding is stochastic");
    };
    let scale = format.scales(vec![reduce::<S>(buffer.input())])[0];
    let (input, output) = buffer.parts();
    map_random_images(
        input,
        output,
        images,
        Philox::new(seed, stream),
        #[inline(always)]
        move |x, random| {
            let rounding = Rounding::Stochastic { seed, stream, bits };
            format.round(x, scale, rounding, random)
        },
    );
}

/// The range of every block, in the order of [`Granularity::scales`].
///
/// # Errors
///
/// As [`Granularity::check`].
pub(crate) fn ranges<S: Shared>(
    granularity: Granularity,
    input: &[f32],
    shape: &[usize],
) -> Result<Vec<S::Range>, FormatError> {
    granularity.check(input.len(), shape)?;
    let extent = granularity.extent(shape)?;
    if granularity == Granularity::Tensor {
        return Ok(vec![reduce::<S>(input); granularity.scales(shape)?]);
    }
    Ok(block_ranges::<S>(granularity, input, extent))
}

/// The range of every block of a tensor that fits.
fn block_ranges<S: Shared>(
    granularity: Granularity,
    input: &[f32],
    extent: Extent,
) -> Vec<S::Range> {
    let Some(last) = input.len().checked_sub(1) else {
        return Vec::new();
    };
    // The last element has the last scale.
    let mut ranges = vec![S::EMPTY; granularity.scale_of(extent, last) + 1];
    let mut done = 0;
    while done < input.len() {
        let end = done + granularity.same_scale(extent, done);
        let range = &mut ranges[granularity.scale_of(extent, done)];
        *range = S::join(*range, S::gather(&input[done..end]));
        done = end;
    }
    ranges
}

/// The range of all elements, in parallel.
pub(crate) fn reduce<S: Shared>(input: &[f32]) -> S::Range {
    if input.len() < PARALLEL {
        return lanes::reduce::<S>(input);
    }
    input
        .par_chunks(CHUNK)
        .map(lanes::reduce::<S>)
        .reduce(|| S::EMPTY, S::join)
}

/// Calls the passes with the rounding as a constant where speed matters most, so that these modes
/// are kernels of their own. The rest share one, which asks for the mode at each number: a kernel
/// for each would take minutes to compile.
fn run<S: Shared>(
    format: S,
    granularity: Granularity,
    shape: &[usize],
    buffer: Buffer<'_>,
    rounding: Rounding,
    skipped: u64,
) -> Result<(), FormatError> {
    rounding.validate()?;
    granularity.check(buffer.input().len(), shape)?;
    if buffer.input().is_empty() {
        return Ok(());
    }
    let extent = granularity.extent(shape)?;
    match rounding {
        Rounding::NearestEven => passes::<S, false>(
            format,
            granularity,
            extent,
            buffer,
            Philox::new(0, 0),
            #[inline(always)]
            move |x, scale, _| format.round(x, scale, Rounding::NearestEven, 0),
        ),
        Rounding::Stochastic { seed, stream, bits } => passes::<S, true>(
            format,
            granularity,
            extent,
            buffer,
            Philox::new(seed, stream).skip_groups(skipped),
            #[inline(always)]
            move |x, scale, random| {
                let rounding = Rounding::Stochastic { seed, stream, bits };
                format.round(x, scale, rounding, random)
            },
        ),
        _ => passes::<S, false>(
            format,
            granularity,
            extent,
            buffer,
            Philox::new(0, 0),
            #[inline(always)]
            move |x, scale, _| match rounding {
                Rounding::NearestAway => format.round(x, scale, Rounding::NearestAway, 0),
                Rounding::NearestUp => format.round(x, scale, Rounding::NearestUp, 0),
                Rounding::TowardZero => format.round(x, scale, Rounding::TowardZero, 0),
                Rounding::Down => format.round(x, scale, Rounding::Down, 0),
                Rounding::Up => format.round(x, scale, Rounding::Up, 0),
                _ => format.round(x, scale, Rounding::ToOdd, 0),
            },
        ),
    }
    Ok(())
}

fn passes<S: Shared, const RANDOM: bool>(
    format: S,
    granularity: Granularity,
    extent: Extent,
    buffer: Buffer<'_>,
    philox: Philox,
    f: impl Fn(f32, S::Scale, u32) -> f32 + Sync + Copy,
) {
    let Extent {
        outer,
        length,
        inner,
    } = extent;
    if format.scales_together() {
        let scales = format.scales(block_ranges::<S>(granularity, buffer.input(), extent));
        return given::<S, RANDOM>(&scales, granularity, extent, buffer, philox, f);
    }
    match granularity {
        Granularity::Tile { rows, columns } => {
            let tile = (rows as usize, columns as usize);
            tiles::<S, RANDOM>(format, extent, tile, buffer, philox, f);
        }
        Granularity::Tensor => {
            let scale = format.scale(reduce::<S>(buffer.input()));
            let elements = extent.elements();
            runs::<S, RANDOM>(&[scale], elements, buffer, philox, f);
        }
        // Short runs under one index each are blocks side by side.
        Granularity::Dimension(_) if outer == 1 && inner < LONG_RUN => {
            let rows = Extent {
                outer: length,
                length: inner,
                inner: 1,
            };
            blocks::<S, RANDOM>(format, rows, inner, buffer, philox, f);
        }
        Granularity::Dimension(_) if inner >= LONG_RUN => {
            let ranges = run_ranges::<S>(buffer.input(), length, inner);
            let scales: Vec<_> = ranges.into_iter().map(|r| format.scale(r)).collect();
            runs::<S, RANDOM>(&scales, inner, buffer, philox, f);
        }
        Granularity::Dimension(_) => {
            short_runs::<S, RANDOM>(format, extent, buffer, philox, f);
        }
        Granularity::Block { size, .. } => {
            blocks::<S, RANDOM>(format, extent, size as usize, buffer, philox, f);
        }
    }
}

/// Rounds runs of the same index that are too short for a loop of their own, row by row.
fn short_runs<S: Shared, const RANDOM: bool>(
    format: S,
    extent: Extent,
    buffer: Buffer<'_>,
    philox: Philox,
    f: impl Fn(f32, S::Scale, u32) -> f32 + Sync + Copy,
) {
    let Extent { length, inner, .. } = extent;
    let columns = length * inner;
    let ranges = column_ranges::<S>(buffer.input(), columns);
    let scale = |group: &[S::Range]| format.scale(group.iter().copied().fold(S::EMPTY, S::join));
    let scales: Vec<_> = ranges
        .chunks(inner)
        .flat_map(|group| std::iter::repeat_n(scale(group), inner))
        .collect();
    let rows = Cut {
        row: columns,
        piece: columns,
    };
    rows.for_each(buffer, &|first, input, output| {
        let rows = input.chunks(columns).zip(output.chunks_mut(columns));
        for ((input, output), first) in rows.zip((first..).step_by(columns)) {
            lanes::columns::<S, RANDOM, _>(input, output, &scales, philox, first, f);
        }
    });
}

/// Rounds blocks of `size` elements along the shared dimension.
fn blocks<S: Shared, const RANDOM: bool>(
    format: S,
    extent: Extent,
    size: usize,
    buffer: Buffer<'_>,
    philox: Philox,
    f: impl Fn(f32, S::Scale, u32) -> f32 + Sync + Copy,
) {
    let Extent { length, inner, .. } = extent;
    let size = size.min(length);
    let cut = Cut {
        row: length * inner,
        piece: size * inner,
    };
    cut.for_each(buffer, &|first, input, output| {
        // Where a row is not cut evenly, its last block is shorter: a row at a time.
        let even = length.is_multiple_of(size);
        let mut done = 0;
        while done < input.len() {
            let first = first + done;
            let rest = if even {
                usize::MAX
            } else {
                cut.row - first % cut.row
            };
            let end = input.len().min(done.saturating_add(rest));
            let (x, y) = (&input[done..end], &mut output[done..end]);
            if inner == 1 {
                lanes::blocks::<S, RANDOM, _>(format, x, y, size, philox, first, f);
            } else {
                let shape = (cut.piece, inner);
                lanes::panels::<S, RANDOM, _>(format, x, y, shape, philox, first, f);
            }
            done = end;
        }
    });
}

/// Rounds tiles of `tile.0` rows and `tile.1` columns.
fn tiles<S: Shared, const RANDOM: bool>(
    format: S,
    extent: Extent,
    tile: (usize, usize),
    buffer: Buffer<'_>,
    philox: Philox,
    f: impl Fn(f32, S::Scale, u32) -> f32 + Sync + Copy,
) {
    let Extent { length, inner, .. } = extent;
    let (rows, columns) = (tile.0.min(length), tile.1.min(inner));
    let cut = Cut {
        row: length * inner,
        piece: rows * inner,
    };
    cut.for_each(buffer, &|first, input, output| {
        let mut done = 0;
        while done < input.len() {
            let place = (first + done) % cut.row;
            let end = done + cut.piece.min(cut.row - place);
            let (x, y) = (&input[done..end], &mut output[done..end]);
            let mut ranges = vec![S::EMPTY; inner.div_ceil(columns)];
            for row in x.chunks(inner) {
                for (range, part) in ranges.iter_mut().zip(row.chunks(columns)) {
                    *range = S::join(*range, lanes::reduce::<S>(part));
                }
            }
            let scales = format.scales(ranges);
            let mut index = first + done;
            for (x, y) in x.chunks(inner).zip(y.chunks_mut(inner)) {
                let parts = x.chunks(columns).zip(y.chunks_mut(columns));
                for ((x, y), &scale) in parts.zip(&scales) {
                    lanes::run::<S, RANDOM, _>(x, y, scale, philox, index, f);
                    index += x.len();
                }
            }
            done = end;
        }
    });
}

/// Rounds with given scales.
fn given<S: Shared, const RANDOM: bool>(
    scales: &[S::Scale],
    granularity: Granularity,
    extent: Extent,
    buffer: Buffer<'_>,
    philox: Philox,
    f: impl Fn(f32, S::Scale, u32) -> f32 + Sync + Copy,
) {
    let pieces = Cut {
        row: extent.elements(),
        piece: extent.elements().min(stream::PART),
    };
    pieces.for_each(buffer, &|first, input, output| {
        let mut done = 0;
        while done < input.len() {
            let index = first + done;
            let end = input
                .len()
                .min(done + granularity.same_scale(extent, index));
            let scale = scales[granularity.scale_of(extent, index)];
            let (x, y) = (&input[done..end], &mut output[done..end]);
            lanes::run::<S, RANDOM, _>(x, y, scale, philox, index, f);
            done = end;
        }
    });
}

/// Rounds runs of `inner` elements that take the scales in turn.
fn runs<S: Shared, const RANDOM: bool>(
    scales: &[S::Scale],
    inner: usize,
    buffer: Buffer<'_>,
    philox: Philox,
    f: impl Fn(f32, S::Scale, u32) -> f32 + Sync + Copy,
) {
    let pieces = Cut {
        row: inner,
        piece: inner.min(stream::PART),
    };
    pieces.for_each(buffer, &|first, input, output| {
        let mut done = 0;
        while done < input.len() {
            let index = first + done;
            let end = input.len().min(done + inner - index % inner);
            let scale = scales[index / inner % scales.len()];
            let (x, y) = (&input[done..end], &mut output[done..end]);
            lanes::run::<S, RANDOM, _>(x, y, scale, philox, index, f);
            done = end;
        }
    });
}

/// The range of every index of a dimension whose runs have `inner` elements.
fn run_ranges<S: Shared>(input: &[f32], length: usize, inner: usize) -> Vec<S::Range> {
    let serial = input.len() < PARALLEL;
    let runs: Vec<S::Range> = if serial {
        input.chunks(inner).map(lanes::reduce::<S>).collect()
    } else {
        input.par_chunks(inner).map(reduce::<S>).collect()
    };
    let index = |i| {
        runs[i..]
            .iter()
            .step_by(length)
            .copied()
            .fold(S::EMPTY, S::join)
    };
    (0..length).map(index).collect()
}

/// The range of every column of a matrix with rows of `columns` elements.
fn column_ranges<S: Shared>(input: &[f32], columns: usize) -> Vec<S::Range> {
    let add = |mut ranges: Vec<S::Range>, rows: &[f32]| {
        lanes::include_rows::<S>(&mut ranges, rows);
        ranges
    };
    let empty = || vec![S::EMPTY; columns];
    if input.len() < PARALLEL {
        return add(empty(), input);
    }
    let join = |a: Vec<S::Range>, b: Vec<S::Range>| {
        a.into_iter().zip(b).map(|(a, b)| S::join(a, b)).collect()
    };
    let rows = CHUNK.div_ceil(columns);
    input
        .par_chunks(rows * columns)
        .fold(empty, add)
        .reduce(empty, join)
}

/// A tensor cut into rows, and each row into pieces of which the last may be shorter.
#[derive(Clone, Copy)]
struct Cut {
    row: usize,
    piece: usize,
}

impl Cut {
    /// The offset of a piece.
    fn offset(&self, piece: usize) -> usize {
        let pieces = self.row.div_ceil(self.piece);
        piece / pieces * self.row + (piece % pieces * self.piece).min(self.row)
    }

    /// Calls `leaf` with consecutive pieces, in parallel: the offset of the first element, the
    /// input and the output.
    fn for_each(&self, buffer: Buffer<'_>, leaf: Leaf<'_>) {
        let elements = buffer.input().len();
        let pieces = elements / self.row * self.row.div_ceil(self.piece);
        let is_large = matches!(buffer, Buffer::Pair(..)) && stream::is_large::<f32>(elements);
        if elements < PARALLEL {
            buffer.leaf(|input, output| leaf(0, input, output));
        } else if is_large && self.piece <= stream::PART {
            self.split(buffer, 0, pieces, &|first, input, output| {
                self.streamed(first, input, output, leaf);
            });
        } else {
            self.split(buffer, 0, pieces, leaf);
        }
    }

    /// Rounds as many pieces at a time as fit into a part, and writes them past the caches.
    fn streamed(&self, start: usize, input: &[f32], output: &mut [f32], leaf: Leaf<'_>) {
        let mut buffer = [0.0; stream::PART];
        let mut done = 0;
        while done < input.len() {
            let place = start + done;
            let rest_of_row = self.row - place % self.row;
            let length = if self.row <= stream::PART {
                rest_of_row + (stream::PART - rest_of_row) / self.row * self.row
            } else {
                rest_of_row.min(stream::PART / self.piece * self.piece)
            };
            let length = length.min(input.len() - done);
            let part = &mut buffer[..length];
            leaf(place, &input[done..done + length], part);
            let output = &mut output[done..done + length];
            stream::copy(as_uninit(part), as_uninit(output));
            done += length;
        }
        stream::finish();
    }

    fn split(&self, buffer: Buffer<'_>, first: usize, end: usize, leaf: Leaf<'_>) {
        let start = self.offset(first);
        if end - first == 1 || buffer.input().len() <= CHUNK {
            return buffer.leaf(|input, output| leaf(start, input, output));
        }
        let middle = first + (end - first) / 2;
        let (left, right) = buffer.split_at(self.offset(middle) - start);
        rayon::join(
            || self.split(left, first, middle, leaf),
            || self.split(right, middle, end, leaf),
        );
    }
}

/// Rounds pieces, given the offset of the first element, the input and the output. It has no type of
/// its own, so that handing pieces to threads is compiled once and not for each kernel.
type Leaf<'a> = &'a (dyn Fn(usize, &[f32], &mut [f32]) + Sync);

/// Where a pass reads and writes. Not a trait, so that each pass is compiled once for both.
pub(crate) enum Buffer<'a> {
    Pair(&'a [f32], &'a mut [f32]),
    InPlace(&'a mut [f32]),
}

impl<'a> Buffer<'a> {
    /// The input, if it is apart, and the output.
    fn parts(self) -> (Option<&'a [f32]>, &'a mut [f32]) {
        match self {
            Self::Pair(input, output) => (Some(input), output),
            Self::InPlace(data) => (None, data),
        }
    }

    pub(crate) fn input(&self) -> &[f32] {
        match self {
            Self::Pair(input, _) => input,
            Self::InPlace(data) => data,
        }
    }

    fn split_at(self, middle: usize) -> (Self, Self) {
        match self {
            Self::Pair(input, output) => {
                let (x, input) = input.split_at(middle);
                let (y, output) = output.split_at_mut(middle);
                (Self::Pair(x, y), Self::Pair(input, output))
            }
            Self::InPlace(data) => {
                let (left, right) = data.split_at_mut(middle);
                (Self::InPlace(left), Self::InPlace(right))
            }
        }
    }

    /// In place, what is read is copied first: for one thread's share, which is in its cache, that
    /// costs little, and the passes need only one form.
    fn leaf(self, f: impl FnOnce(&[f32], &mut [f32])) {
        match self {
            Self::Pair(input, output) => f(input, output),
            Self::InPlace(data) => {
                let input = data.to_vec();
                f(&input, data);
            }
        }
    }
}
