//! Random words for images whose channels lie side by side.

use rayon::prelude::*;

use crate::kernel::{BUFFER, CHUNK, Layout, PARALLEL, as_uninit, isa, lanes};
use crate::rounding::philox::{GROUP, Philox};

/// Images stored pixel after pixel: the element that comes `(image channels + channel) pixels + pixel`
/// -th in row-major order lies at `(image pixels + pixel) channels + channel`. A channel's pixels are
/// whole groups of random words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelsLast {
    channels: usize,
    pixels: usize,
}

impl ChannelsLast {
    /// Those that fill a slice in this layout.
    pub(crate) fn of(layout: &Layout, length: usize) -> Option<Self> {
        let (channels, pixels) = layout.channels_last()?;
        // A tile's words stay in the cache.
        let few = channels <= CHUNK / 8;
        let fits = few && pixels.is_multiple_of(GROUP) && length == layout.elements();
        fits.then_some(Self { channels, pixels })
    }

    /// Elements that have one group of words in each channel, which lie together.
    fn tile(&self) -> usize {
        GROUP * self.channels
    }

    /// The words of a tile, in the order in which its elements lie.
    fn fill(&self, philox: Philox, tile: usize, words: &mut [u32]) {
        let (channels, apart) = (self.channels, self.pixels / GROUP);
        let (image, place) = (tile / apart, tile % apart);
        let group = (image * channels * apart + place) as u64;
        isa::dispatch_on(
            (),
            words,
            #[inline(always)]
            move |(), words| philox.fill_columns(group, apart as u64, channels, words),
        );
    }
}

/// What happens to numbers and their words. In a type of its own, so that handing tiles to threads is
/// compiled once.
type Round<'a> = &'a (dyn Fn(&[f32], &mut [f32], &[u32]) + Sync);

/// `output[place] = f(input[place], r[i])` with the random words `r` of `philox`, where the element at
/// `place` is the `i`-th in row-major order; without an input, in place.
///
/// # Panics
///
/// If the slices differ in length, or do not hold whole images.
pub(crate) fn map_random_images(
    input: Option<&[f32]>,
    output: &mut [f32],
    images: ChannelsLast,
    philox: Philox,
    f: impl Fn(f32, u32) -> f32 + Sync + Send + Copy,
) {
    assert!(input.is_none_or(|input| input.len() == output.len()));
    assert!(output.len().is_multiple_of(images.channels * images.pixels));
    let size = images.tile();
    let round: Round<'_> = &|x, y, words| lanes::map_words(x, words, as_uninit(y), f);
    let work = |words: &mut Vec<u32>, (tile, y): (usize, &mut [f32])| {
        words.resize(size, 0);
        images.fill(philox, tile, words);
        if let Some(input) = input {
            return round(&input[tile * size..][..size], y, words);
        }
        let mut buffer = [0.0; BUFFER];
        for (y, words) in y.chunks_mut(BUFFER).zip(words.chunks(BUFFER)) {
            let x = &mut buffer[..y.len()];
            x.copy_from_slice(y);
            round(x, y, words);
        }
    };
    if output.len() < PARALLEL {
        let mut words = Vec::new();
        let tiles = output.chunks_mut(size).enumerate();
        return tiles.for_each(|tile| work(&mut words, tile));
    }
    let tiles = output.par_chunks_mut(size).enumerate();
    tiles
        .with_min_len(CHUNK.div_ceil(size))
        .for_each_init(Vec::new, work);
}
