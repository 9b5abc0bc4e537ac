//! Convolutions and gradients in sums of products of bfloat16.
//!
//! What is multiplied is rounded to bfloat16, once, and two numbers that follow each other in a sum are a
//! pair in the bits of one `f32`; from there on the sums are those of numbers, half as many of them: over
//! channels of the input, forward; over channels of the output, to the input; over the pixels of a row, to
//! the weight.

use super::to_image::ToImage;
use super::to_input::Transposed;
use super::to_weight::{Stored, add_products};
use super::{Forward, Shape};
use crate::bfloat16::{pair_channels, pair_pixels, pair_with_next};
use crate::packing::{Packing, RoundSlice, rounded};
use crate::scratch::{self, Scratch};
use crate::tile::{ProductsTiles, SumsTiles, Terms};

/// How gradients are made.
pub(super) struct InBfloat16<'a> {
    /// Whose channels of the output are pairs.
    of_channels: Shape,
    /// Whose pixels of a row of the output are pairs.
    of_pixels: Shape,
    /// Of the input.
    rounding: Option<RoundSlice<'a>>,
    /// From one pair of pixels to the next.
    forward: Forward,
    /// From a number of the packed input to the one it is a pair with.
    apart: usize,
    transposed: Transposed,
    sums_tiles: SumsTiles,
    products_tiles: ProductsTiles,
}

impl<'a> InBfloat16<'a> {
    pub(super) fn new(
        shape: &Shape,
        weight: &[f32],
        roundings: [Option<RoundSlice<'a>>; 2],
    ) -> Self {
        let [inputs, outputs] = shape.channels;
        let of_channels = Shape {
            channels: [inputs, outputs.div_ceil(2)],
            ..*shape
        };
        let [height, width] = shape.output;
        let of_pixels = Shape {
            output: [height, width.div_ceil(2)],
            ..*shape
        };
        let filter = weight.len() / outputs;
        let mut room = None;
        let weight = rounded(weight, roundings[1], &mut room);
        let mut pairs = scratch::take(of_channels.channels[1] * filter);
        pair_pixels(weight, [outputs, filter], &mut pairs);
        let mut forward = Forward::new(shape);
        let apart = forward.packing.block * forward.stride[1];
        forward.stride[1] *= 2;
        let transposed = Transposed::new(&of_channels, &pairs, None, false);
        let pixel = transposed.packing.block;
        Self {
            transposed,
            of_channels,
            of_pixels,
            rounding: roundings[0],
            forward,
            apart,
            sums_tiles: SumsTiles::new(pixel, Terms::Bfloat16),
            products_tiles: ProductsTiles::new(Terms::Bfloat16),
        }
    }

    /// How the input is packed, and what is summed.
    pub(super) fn forward(&self) -> &Forward {
        &self.forward
    }

    /// How gradients of the output are packed.
    pub(super) fn packing(&self) -> &Packing {
        &self.transposed.packing
    }

    /// Makes the gradients that there is room for: of the input, and sums that are added to the weight's.
    pub(super) fn images(
        &self,
        input: &[f32],
        gradient: &[f32],
        to_input: Option<&mut [f32]>,
        to_weight: Option<&mut [f32]>,
    ) {
        if let Some(to_input) = to_input {
            self.to_input(gradient, to_input);
        }
        if let Some(sums) = to_weight {
            self.to_weight(input, gradient, sums);
        }
    }

    fn to_input(&self, gradient: &[f32], to_input: &mut [f32]) {
        let packing = &self.transposed.packing;
        let images = to_input.len() / self.of_channels.input_image();
        let mut packed = scratch::take(images * packing.len());
        pack_pairs(
            packing,
            gradient,
            self.of_pixels.channels[1],
            None,
            &mut packed,
        );
        self.transposed
            .images(&self.of_channels, &self.sums_tiles, &packed, to_input);
    }

    fn to_weight(&self, input: &[f32], gradient: &[f32], sums: &mut [f32]) {
        let shape = &self.of_pixels;
        let images = input.len() / shape.input_image();
        let [height, _] = shape.output;
        let channels = shape.channels[1];
        let mut pairs = scratch::take(images * shape.output_image());
        let width = gradient.len() / (images * height * channels);
        pair_pixels(gradient, [width, channels], &mut pairs);
        let mut room = None;
        let stored = Stored::as_it_is(shape, &pairs).unwrap_or_else(|| {
            let packing = ToImage::packing(shape);
            let packed = room.insert(scratch::take(images * packing.len()));
            packing.pack_all(&pairs, packed, None);
            Stored::packed(&packing, packed)
        });
        let packing = &self.forward.packing;
        let mut of_input = scratch::take(images * packing.len());
        let mut packed = scratch::take(packing.len());
        let pairs = of_input.chunks_mut(packing.len());
        for (pairs, image) in pairs.zip(input.chunks(shape.input_image())) {
            packing.pack_all(image, &mut packed, self.rounding);
            pair_with_next(&packed, self.apart, pairs);
        }
        let tiles = &self.products_tiles;
        add_products(shape, &self.forward, tiles, &of_input, &stored, sums);
    }
}

/// The shape of a forward pass whose channels of the input are pairs.
pub(super) fn paired_inputs(shape: &Shape) -> Shape {
    let [inputs, outputs] = shape.channels;
    Shape {
        channels: [inputs.div_ceil(2), outputs],
        ..*shape
    }
}

/// The weights of a forward pass, pairs of which meet pairs of channels of the input.
pub(super) fn paired_weights(
    shape: &Shape,
    weight: &[f32],
    rounding: Option<RoundSlice>,
) -> Scratch {
    let [inputs, outputs] = shape.channels;
    let places: usize = shape.kernel.iter().product();
    let mut room = None;
    let weight = rounded(weight, rounding, &mut room);
    let mut pairs = scratch::take(outputs * inputs.div_ceil(2) * places);
    pair_pixels(weight, [inputs, places], &mut pairs);
    pairs
}

/// Packs images whose channels become pairs.
pub(super) fn pack_pairs(
    packing: &Packing,
    images: &[f32],
    channels: usize,
    rounding: Option<RoundSlice>,
    packed: &mut [f32],
) {
    let pixels = packing.image[0] * packing.image[1];
    let mut pairs = scratch::take(pixels * channels.div_ceil(2));
    let images = images.chunks(pixels * channels);
    for (image, packed) in images.zip(packed.chunks_mut(packing.len())) {
        let mut room = None;
        let image = rounded(image, rounding, &mut room);
        pair_channels(image, channels, &mut pairs);
        packing.pack_all(&pairs, packed, None);
    }
}
