//! What is summed for one pixel.

use rayon::prelude::*;

use super::Shape;
use crate::packing::{Packing, RoundSlice};
use crate::scratch::{self, Scratch};
use crate::tile::{Run, channel_tiles, vectors_of};
use crate::vector::LANES;

/// A run of a packed input, and the weights it meets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    pub(super) run: Run,
    /// The first channel of its block.
    pub(super) channel: usize,
    pub(super) kernel: [usize; 2],
}

/// The runs of a packed input under one pixel of the output.
pub(super) struct Taps {
    block: usize,
    taps: Vec<Tap>,
    pub(super) runs: Vec<Run>,
    /// Sum of the lengths.
    pub(super) length: usize,
}

impl Taps {
    pub(super) fn new(block: usize, taps: Vec<Tap>) -> Self {
        let runs: Vec<Run> = taps.iter().map(|tap| tap.run).collect();
        let length = runs.iter().map(|run| run.length).sum();
        Self {
            block,
            taps,
            runs,
            length,
        }
    }

    /// The taps of the convolution itself. Where whole blocks follow each other along a row, they
    /// are one run.
    pub(super) fn forward(shape: &Shape, packing: &Packing) -> Self {
        let [height, width] = shape.kernel;
        let mut taps = Vec::new();
        for block in 0..packing.blocks() {
            let filled = packing.filled(block);
            let whole = shape.dilation[1] == 1 && filled == packing.block;
            for y in 0..height {
                let row = block * packing.plane() + y * shape.dilation[0] * packing.row();
                let columns = if whole { 1 } else { width };
                for x in 0..columns {
                    taps.push(Tap {
                        run: Run {
                            offset: row + x * shape.dilation[1] * packing.block,
                            length: if whole { width * packing.block } else { filled },
                        },
                        channel: block * packing.block,
                        kernel: [y, x],
                    });
                }
            }
        }
        Self::new(packing.block, taps)
    }

    /// For every number of the input under an output: its channel and its place in the kernel.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, [usize; 2])> {
        self.taps.iter().flat_map(|tap| {
            (0..tap.run.length).map(|j| {
                let kernel = [tap.kernel[0], tap.kernel[1] + j / self.block];
                (tap.channel + j % self.block, kernel)
            })
        })
    }

    /// Weights in the order of the taps, rounded: for each tile of channels, `[length][tile]`.
    /// `weight(channel, summed channel, kernel)` reads one.
    pub(super) fn pack_weights(
        &self,
        channels: usize,
        summed: usize,
        rounding: Option<RoundSlice>,
        weight: impl Fn(usize, usize, [usize; 2]) -> f32 + Sync,
    ) -> Scratch {
        let places: Vec<_> = self.places().collect();
        // Aligned: a vector in two cache lines takes two loads.
        let mut packed = scratch::take(vectors_of(channels) * LANES * self.length);
        packed.fill(0.0);
        let mut rest = &mut packed[..];
        let mut tiles = Vec::new();
        for tile in channel_tiles(channels) {
            let (this, others) = rest.split_at_mut(tile.width() * self.length);
            tiles.push((tile, this));
            rest = others;
        }
        tiles.into_par_iter().for_each(|(tile, packed)| {
            for (&(from, kernel), packed) in
                places.iter().zip(packed.chunks_exact_mut(tile.width()))
            {
                if from < summed {
                    for (v, packed) in packed[..tile.channels].iter_mut().enumerate() {
                        *packed = weight(tile.first + v, from, kernel);
                    }
                }
            }
            if let Some(rounding) = rounding {
                let mut source = scratch::take(packed.len());
                source.copy_from_slice(packed);
                rounding(&source, packed);
                // What is not there stays zero, whatever zero is rounded to.
                let lines = packed.chunks_exact_mut(tile.width());
                for (line, _) in lines.zip(&places).filter(|(_, (from, _))| *from >= summed) {
                    line.fill(0.0);
                }
            }
        });
        packed
    }
}
