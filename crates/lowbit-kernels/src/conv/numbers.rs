//! The gradients of some images, in sums of products of `f32`.

use super::to_input::Transposed;
use super::to_weight::{Stored, add_products};
use super::{Forward, Shape};
use crate::packing::{Packing, RoundSlice};
use crate::scratch;
use crate::tile::{ProductsTiles, SumsTiles, Terms};
use crate::vector::LANES;

/// How gradients are made.
pub(super) struct InNumbers<'a> {
    shape: &'a Shape,
    /// Of the input.
    rounding: Option<RoundSlice<'a>>,
    forward: Forward,
    transposed: Transposed,
    sums_tiles: SumsTiles,
    products_tiles: ProductsTiles,
}

impl<'a> InNumbers<'a> {
    pub(super) fn new(
        shape: &'a Shape,
        weight: &[f32],
        roundings: [Option<RoundSlice<'a>>; 2],
    ) -> Self {
        Self {
            shape,
            rounding: roundings[0],
            forward: Forward::new(shape),
            // The gradient to the weight reads it in whole vectors.
            transposed: Transposed::new(shape, weight, roundings[1], true),
            sums_tiles: SumsTiles::new(LANES, Terms::Numbers),
            products_tiles: ProductsTiles::new(Terms::Numbers),
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
        if to_input.is_none() && to_weight.is_none() {
            return;
        }
        let shape = self.shape;
        let images = input.len() / shape.input_image();
        let mut room = None;
        // It is packed for the sums over it; without them, it can be read where it is.
        let as_it_is = match &to_input {
            Some(_) => None,
            None => Stored::as_it_is(shape, gradient),
        };
        let stored = as_it_is.unwrap_or_else(|| {
            let packing = &self.transposed.packing;
            let packed = room.insert(scratch::take(images * packing.len()));
            packing.pack_all(gradient, packed, None);
            Stored::packed(packing, packed)
        });
        if let Some(to_input) = to_input {
            self.transposed
                .images(shape, &self.sums_tiles, stored.gradient, to_input);
        }
        if let Some(sums) = to_weight {
            let packing = &self.forward.packing;
            let mut packed = scratch::take(images * packing.len());
            packing.pack_all(input, &mut packed, self.rounding);
            add_products(
                shape,
                &self.forward,
                &self.products_tiles,
                &packed,
                &stored,
                sums,
            );
        }
    }
}
