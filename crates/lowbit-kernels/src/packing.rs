//! Images as the register tiles read them.

use crate::scratch::{self, Scratch};
use crate::vector::LANES;

/// Rounds numbers into another place, while they are packed: `round(x, rounded)`, both of the same
/// length. It is called with slices of any length, in any order and from several threads, so what a
/// number becomes may depend on that number alone.
pub type RoundSlice<'a> = &'a (dyn Fn(&[f32], &mut [f32]) + Sync);

/// Numbers as `rounding` makes them, for which there is room.
pub(crate) fn rounded<'a>(
    numbers: &'a [f32],
    rounding: Option<RoundSlice>,
    room: &'a mut Option<Scratch>,
) -> &'a [f32] {
    let Some(rounding) = rounding else {
        return numbers;
    };
    let rounded = room.insert(scratch::take(numbers.len()));
    rounding(numbers, rounded);
    rounded
}

/// The backward pass of a rounding: `backward(x, grad)`, where `grad` is the gradient of what the
/// numbers `x` were rounded to and becomes that of `x`. What it returns (parts of the gradients of a
/// step and an offset, say) is added up, in an order that depends on the shapes alone.
pub type RoundingBackward<'a> = &'a (dyn Fn(&[f32], &mut [f32]) -> Learned + Sync);

/// The gradients of what a rounding learns, at most two numbers.
pub type Learned = [f64; 2];

/// The sums, in their order.
pub(crate) fn add_up(parts: impl IntoIterator<Item = Learned>) -> Learned {
    let add = |sums: Learned, part: Learned| [sums[0] + part[0], sums[1] + part[1]];
    parts.into_iter().fold(Learned::default(), add)
}

/// Images packed as `[blocks of channels][rows][columns][block]`, zeros where the image ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) image: [usize; 2],
    pub(crate) channels: usize,
    /// Channels that lie together: all of them up to four, and where they are eight; or 16.
    pub(crate) block: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Where the image's first row and column go that are read.
    pub(crate) top: usize,
    pub(crate) left: usize,
    /// The image's first row and column that are read, and from one to the next.
    from: [usize; 2],
    step: [usize; 2],
}

impl Packing {
    /// An image and zeros around it, `before` above and to the left, in all so many rows and
    /// columns as `size` says.
    pub(crate) fn new(
        image: [usize; 2],
        channels: usize,
        size: [usize; 2],
        before: [usize; 2],
    ) -> Self {
        Self::every([1, 1], image, channels, size, before)
    }

    /// The same of every so-manieth row and column, counted with the zeros.
    pub(crate) fn every(
        step: [usize; 2],
        image: [usize; 2],
        channels: usize,
        size: [usize; 2],
        before: [usize; 2],
    ) -> Self {
        let first = [0, 1].map(|d| before[d].div_ceil(step[d]));
        Self {
            image,
            channels,
            block: match channels {
                0..=4 | 8 => channels,
                _ => LANES,
            },
            rows: size[0],
            columns: size[1],
            top: first[0],
            left: first[1],
            from: [0, 1].map(|d| first[d] * step[d] - before[d]),
            step,
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    pub(crate) fn row(&self) -> usize {
        self.columns * self.block
    }

    pub(crate) fn plane(&self) -> usize {
        self.rows * self.row()
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// The channels of the block that are there.
    pub(crate) fn filled(&self, block: usize) -> usize {
        (self.channels - block * self.block).min(self.block)
    }

    /// Packs `image`, `[height][width][channels]`, rounding it on the way.
    fn pack(&self, image: &[f32], packed: &mut [f32], rounding: Option<RoundSlice>) {
        let [height, width] = self.image;
        let there = |d: usize, length: usize| {
            let read = length.saturating_sub(self.from[d]).div_ceil(self.step[d]);
            read.min([self.rows, self.columns][d].saturating_sub([self.top, self.left][d]))
        };
        let (filled_rows, copied) = (there(0, height), there(1, width));
        if copied == 0 {
            packed.fill(0.0);
            return;
        }
        let line = copied * self.channels;
        // Only what is packed is rounded.
        let gathers = self.step[1] > 1 && rounding.is_some();
        let mut gathered = gathers.then(|| scratch::take(line));
        let mut rounded = rounding.map(|_| scratch::take(line));
        for row in 0..self.rows {
            if !(self.top..self.top + filled_rows).contains(&row) {
                for block in 0..self.blocks() {
                    packed[block * self.plane() + row * self.row()..][..self.row()].fill(0.0);
                }
                continue;
            }
            let source = self.from[0] + (row - self.top) * self.step[0];
            let source = &image[source * width * self.channels..][..width * self.channels];
            let mut source = source.get(self.from[1] * self.channels..).unwrap_or(&[]);
            if let Some(gathered) = &mut gathered {
                let pixels = source.chunks(self.step[1] * self.channels);
                for (to, from) in gathered.chunks_exact_mut(self.channels).zip(pixels) {
                    to.copy_from_slice(&from[..self.channels]);
                }
                source = &gathered[..];
            }
            let apart = if gathers { 1 } else { self.step[1] } * self.channels;
            // One block of whole pixels is rounded right into its place.
            let in_place = self.channels == self.block;
            if let (Some(rounded), Some(rounding), false) = (&mut rounded, rounding, in_place) {
                rounding(&source[..line], rounded);
                source = &rounded[..];
            }
            for block in 0..self.blocks() {
                let packed = &mut packed[block * self.plane() + row * self.row()..][..self.row()];
                let (left, rest) = packed.split_at_mut((self.left * self.block).min(packed.len()));
                let (middle, right) = rest.split_at_mut(copied * self.block);
                left.fill(0.0);
                right.fill(0.0);
                match rounding {
                    Some(rounding) if in_place => rounding(&source[..line], middle),
                    _ => self.pack_line(source, apart, middle, block),
                }
            }
        }
    }

    /// Packs images that follow each other.
    pub(crate) fn pack_all(
        &self,
        images: &[f32],
        packed: &mut [f32],
        rounding: Option<RoundSlice>,
    ) {
        let [height, width] = self.image;
        let images = images.chunks(height * width * self.channels);
        for (image, packed) in images.zip(packed.chunks_mut(self.len())) {
            self.pack(image, packed, rounding);
        }
    }

    /// Packs a block of the pixels that lie `apart` from each other. They are copied at once where a
    /// block is a whole pixel and the next follows it: eight channels of every second pixel lie a
    /// block of 16 apart, too.
    fn pack_line(&self, source: &[f32], apart: usize, packed: &mut [f32], block: usize) {
        let first = block * self.block;
        let filled = self.filled(block);
        if apart == self.block && self.channels == self.block {
            packed.copy_from_slice(&source[..packed.len()]);
        } else if filled == LANES {
            let (packed, _) = packed.as_chunks_mut::<LANES>();
            for (packed, source) in packed.iter_mut().zip(source[first..].chunks(apart)) {
                packed.copy_from_slice(&source[..LANES]);
            }
        } else {
            let packed = packed.chunks_exact_mut(self.block);
            for (packed, source) in packed.zip(source[first..].chunks(apart)) {
                packed[..filled].copy_from_slice(&source[..filled]);
                packed[filled..].fill(0.0);
            }
        }
    }
}
