//! The inner loops of the block passes, compiled once per instruction set.

use crate::block::pass::Shared;
use crate::kernel::isa;
use crate::rounding::philox::Philox;

/// Columns a panel handles at a time, so that 32 rows of them stay in the second-level cache.
const TILE: usize = 256;

/// Random words that are made before they are used.
const WORDS: usize = 256;

pub(crate) fn reduce<S: Shared>(input: &[f32]) -> S::Range {
    isa::dispatch_on(
        input,
        (),
        #[inline(always)]
        move |input, ()| S::gather(input),
    )
}

/// Adds rows to the ranges of their columns.
pub(crate) fn include_rows<S: Shared>(ranges: &mut [S::Range], rows: &[f32]) {
    isa::dispatch_on(
        rows,
        ranges,
        #[inline(always)]
        move |rows, ranges| include_rows_inline::<S>(ranges, rows),
    )
}

#[inline(always)]
fn include_rows_inline<S: Shared>(ranges: &mut [S::Range], rows: &[f32]) {
    for row in rows.chunks(ranges.len()) {
        for (range, &x) in ranges.iter_mut().zip(row) {
            *range = S::include(*range, x);
        }
    }
}

/// Rounds a run that shares one scale; `first` is the index of its first element.
pub(crate) fn run<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    input: &[f32],
    output: &mut [f32],
    scale: S::Scale,
    philox: Philox,
    first: usize,
    f: F,
) {
    isa::dispatch_on(
        input,
        output,
        #[inline(always)]
        move |input, output| run_inline::<S, RANDOM, F>(input, output, scale, philox, first, &f),
    )
}

#[inline(always)]
fn run_inline<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    input: &[f32],
    output: &mut [f32],
    scale: S::Scale,
    philox: Philox,
    first: usize,
    f: &F,
) {
    if !RANDOM {
        for (y, &x) in output.iter_mut().zip(input) {
            *y = f(x, scale, 0);
        }
        return;
    }
    let mut words = [0; WORDS];
    let parts = input.chunks(WORDS).zip(output.chunks_mut(WORDS));
    for ((x, y), first) in parts.zip((first..).step_by(WORDS)) {
        let words = &mut words[..x.len()];
        philox.fill(first, words);
        for ((y, &x), &word) in y.iter_mut().zip(x).zip(&*words) {
            *y = f(x, scale, word);
        }
    }
}

/// Rounds a row whose elements have scales of their own.
pub(crate) fn columns<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    input: &[f32],
    output: &mut [f32],
    scales: &[S::Scale],
    philox: Philox,
    first: usize,
    f: F,
) {
    isa::dispatch_on(
        input,
        output,
        #[inline(always)]
        move |input, output| {
            columns_inline::<S, RANDOM, F>(input, output, scales, philox, first, &f)
        },
    )
}

#[inline(always)]
fn columns_inline<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    input: &[f32],
    output: &mut [f32],
    scales: &[S::Scale],
    philox: Philox,
    first: usize,
    f: &F,
) {
    if !RANDOM {
        for ((y, &x), &scale) in output.iter_mut().zip(input).zip(scales) {
            *y = f(x, scale, 0);
        }
        return;
    }
    let mut words = [0; WORDS];
    let parts = input.chunks(WORDS).zip(output.chunks_mut(WORDS));
    let parts = parts.zip(scales.chunks(WORDS));
    for (((x, y), scales), first) in parts.zip((first..).step_by(WORDS)) {
        let words = &mut words[..x.len()];
        philox.fill(first, words);
        for (((y, &x), &word), &scale) in y.iter_mut().zip(x).zip(&*words).zip(scales) {
            *y = f(x, scale, word);
        }
    }
}

/// Rounds contiguous blocks of `size` elements, the last of which may be shorter.
pub(crate) fn blocks<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    format: S,
    input: &[f32],
    output: &mut [f32],
    size: usize,
    philox: Philox,
    first: usize,
    f: F,
) {
    isa::dispatch_on(
        input,
        output,
        #[inline(always)]
        move |input, output| {
            blocks_inline::<S, RANDOM, F>(format, input, output, size, philox, first, f)
        },
    )
}

#[inline(always)]
fn blocks_inline<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    format: S,
    input: &[f32],
    output: &mut [f32],
    size: usize,
    philox: Philox,
    first: usize,
    f: F,
) {
    match (size, S::BLOCK) {
        (16, 16) => fixed_blocks::<S, RANDOM, 16, F>(format, input, output, philox, first, &f),
        (32, 32) => fixed_blocks::<S, RANDOM, 32, F>(format, input, output, philox, first, &f),
        _ => {
            let pairs = input.chunks(size).zip(output.chunks_mut(size));
            for ((x, y), first) in pairs.zip((first..).step_by(size)) {
                let scale = format.scale(S::gather(x));
                run_inline::<S, RANDOM, F>(x, y, scale, philox, first, &f);
            }
        }
    }
}

/// Blocks whose scales are found side by side.
const BATCH: usize = 16;

/// Blocks of a size known to the compiler: first the ranges of a batch of them, then their scales
/// in vectors of blocks, then the elements.
#[inline(always)]
fn fixed_blocks<S: Shared, const RANDOM: bool, const N: usize, F: Fn(f32, S::Scale, u32) -> f32>(
    format: S,
    input: &[f32],
    output: &mut [f32],
    philox: Philox,
    first: usize,
    f: &F,
) {
    let (input, input_tail) = input.as_chunks::<N>();
    let (output, output_tail) = output.as_chunks_mut::<N>();
    let (batches, rest) = input.as_chunks::<BATCH>();
    let (output_batches, output_rest) = output.as_chunks_mut::<BATCH>();
    let firsts = (first..).step_by(BATCH * N);
    let mut words = [[0; N]; BATCH];
    for ((x, y), first) in batches.iter().zip(output_batches).zip(firsts) {
        let mut ranges = [S::EMPTY; BATCH];
        for (range, x) in ranges.iter_mut().zip(x) {
            *range = S::gather(x);
            one_block_at_a_time();
        }
        let scales = scales(format, &ranges);
        if RANDOM {
            philox.fill(first, words.as_flattened_mut());
        }
        for (((x, y), scale), words) in x.iter().zip(y).zip(scales).zip(&words) {
            for ((y, &x), &word) in y.iter_mut().zip(x).zip(words) {
                *y = f(x, scale, word);
            }
            one_block_at_a_time();
        }
    }
    let first = first + BATCH * N * batches.len();
    for ((x, y), first) in rest.iter().zip(output_rest).zip((first..).step_by(N)) {
        let scale = format.scale(S::gather(x));
        run_inline::<S, RANDOM, F>(x, y, scale, philox, first, f);
    }
    if !input_tail.is_empty() {
        let scale = format.scale(S::gather(input_tail));
        let first = first + N * rest.len();
        run_inline::<S, RANDOM, F>(input_tail, output_tail, scale, philox, first, f);
    }
}

/// Keeps a loop over blocks from becoming vector code that takes one element of each of 16 blocks,
/// by gathering and scattering, which is several times slower than vectors of a block's elements.
#[inline(always)]
fn one_block_at_a_time() {
    std::hint::black_box(());
}

/// The scales of several blocks. A plain loop, which becomes vector code; `map` of arrays does not.
#[inline(always)]
fn scales<S: Shared, const N: usize>(format: S, ranges: &[S::Range; N]) -> [S::Scale; N] {
    let mut scales = [format.scale(S::EMPTY); N];
    for (scale, &range) in scales.iter_mut().zip(ranges) {
        *scale = format.scale(range);
    }
    scales
}

/// Rounds panels of `shape.0` elements in rows of `shape.1`, whose columns are the blocks.
pub(crate) fn panels<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    format: S,
    input: &[f32],
    output: &mut [f32],
    shape: (usize, usize),
    philox: Philox,
    first: usize,
    f: F,
) {
    isa::dispatch_on(
        input,
        output,
        #[inline(always)]
        move |input, output| {
            panels_inline::<S, RANDOM, F>(format, input, output, shape, philox, first, f)
        },
    )
}

#[inline(always)]
fn panels_inline<S: Shared, const RANDOM: bool, F: Fn(f32, S::Scale, u32) -> f32>(
    format: S,
    input: &[f32],
    output: &mut [f32],
    shape: (usize, usize),
    philox: Philox,
    first: usize,
    f: F,
) {
    let (panel, inner) = shape;
    for (start, x) in (0..).step_by(panel).zip(input.chunks(panel)) {
        let y = &mut output[start..start + x.len()];
        for column in (0..inner).step_by(TILE) {
            let tile = column..inner.min(column + TILE);
            let mut ranges = [S::EMPTY; TILE];
            for row in x.chunks_exact(inner) {
                for (range, &x) in ranges.iter_mut().zip(&row[tile.clone()]) {
                    *range = S::include(*range, x);
                }
            }
            let scales = scales(format, &ranges);
            let rows = x.chunks_exact(inner).zip(y.chunks_exact_mut(inner));
            for ((x, y), row) in rows.zip((start..).step_by(inner)) {
                let first = first + row + column;
                let (x, y) = (&x[tile.clone()], &mut y[tile.clone()]);
                columns_inline::<S, RANDOM, F>(x, y, &scales, philox, first, &f);
            }
        }
    }
}
