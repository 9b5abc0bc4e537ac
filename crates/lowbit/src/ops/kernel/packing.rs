//! Images as the register tiles read them.

use super::scratch;
use super::vector::LANES;

/// Rounds numbers into another place, while they are packed.
pub(crate) type Rounding<'a> = &'a (dyn Fn(&[f32], &mut [f32]) + Sync);

/// Called with numbers and the gradient of what they were rounded to, which becomes that of the
/// numbers themselves; what it returns is added up.
pub(crate) type Unrounding<'a> = &'a (dyn Fn(&[f32], &mut [f32]) -> f64 + Sync);

/// Images packed as `[blocks of channels][rows][columns][block]`, zeros where the image ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    pub(super) image: [usize; 2],
    pub(super) channels: usize,
    /// Channels that lie together: 1, 4 or 16.
    pub(super) block: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) top: usize,
    pub(super) left: usize,
    /// Rows that are read: of each so many, the first so many.
    pub(super) read: [usize; 2],
}

impl Packing {
    pub(super) fn new(
        image: [usize; 2],
        channels: usize,
        size: [usize; 2],
        before: [usize; 2],
    ) -> Self {
        Self {
            image,
            channels,
            block: match channels {
                1 => 1,
                2..=4 => 4,
                _ => LANES,
            },
            rows: size[0],
            columns: size[1],
            top: before[0],
            left: before[1],
            read: [1, 1],
        }
    }

    pub(super) fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    pub(super) fn row(&self) -> usize {
        self.columns * self.block
    }

    pub(super) fn plane(&self) -> usize {
        self.rows * self.row()
    }

    pub(super) fn len(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// The channels of the block that are there.
    pub(super) fn filled(&self, block: usize) -> usize {
        (self.channels - block * self.block).min(self.block)
    }

    /// Packs `image`, `[height][width][channels]`, rounding it on the way.
    fn pack(&self, image: &[f32], packed: &mut [f32], rounding: Option<Rounding>) {
        let [height, width] = self.image;
        let copied = width.min(self.columns - self.left);
        let line = width * self.channels;
        let mut rounded = rounding.map(|_| scratch::take(line));
        for row in (0..self.rows).filter(|row| row % self.read[0] < self.read[1]) {
            if !(self.top..self.top + height).contains(&row) {
                for block in 0..self.blocks() {
                    packed[block * self.plane() + row * self.row()..][..self.row()].fill(0.0);
                }
                continue;
            }
            let mut source = &image[(row - self.top) * line..][..line];
            // One block of whole pixels is rounded right into its place.
            let in_place = self.channels == self.block && copied == width;
            if let (Some(rounded), Some(rounding), false) = (&mut rounded, rounding, in_place) {
                rounding(source, rounded);
                source = &rounded[..];
            }
            for block in 0..self.blocks() {
                let packed = &mut packed[block * self.plane() + row * self.row()..][..self.row()];
                let (left, rest) = packed.split_at_mut(self.left * self.block);
                let (middle, right) = rest.split_at_mut(copied * self.block);
                left.fill(0.0);
                right.fill(0.0);
                match rounding {
                    Some(rounding) if in_place => rounding(source, middle),
                    _ => self.pack_line(source, middle, block),
                }
            }
        }
    }

    /// Packs images that follow each other.
    pub(super) fn pack_all(&self, images: &[f32], packed: &mut [f32], rounding: Option<Rounding>) {
        let [height, width] = self.image;
        let images = images.chunks(height * width * self.channels);
        for (image, packed) in images.zip(packed.chunks_mut(self.len())) {
            self.pack(image, packed, rounding);
        }
    }

    fn pack_line(&self, source: &[f32], packed: &mut [f32], block: usize) {
        let first = block * self.block;
        let filled = self.filled(block);
        if self.channels == self.block {
            packed.copy_from_slice(&source[..packed.len()]);
        } else if filled == LANES {
            let (packed, _) = packed.as_chunks_mut::<LANES>();
            for (packed, source) in packed.iter_mut().zip(source[first..].chunks(self.channels)) {
                packed.copy_from_slice(&source[..LANES]);
            }
        } else {
            let packed = packed.chunks_exact_mut(self.block);
            for (packed, source) in packed.zip(source.chunks_exact(self.channels)) {
                packed[..filled].copy_from_slice(&source[first..first + filled]);
                packed[filled..].fill(0.0);
            }
        }
    }
}
