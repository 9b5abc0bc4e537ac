//! The gradients of some images, where their sums are exact.

use super::grid::Bytes;
use super::to_input::ToInput;
use super::to_weight::ToWeight;
use super::{integers, looks_on_grid, on_grid};
use crate::conv::Shape;
use crate::conv::taps::Taps;
use crate::integer;
use crate::packing::RoundSlice;

/// How gradients are made in integers. What the operands' numbers are, they are asked themselves.
pub(in crate::conv) struct InIntegers<'a> {
    shape: &'a Shape,
    /// Of the input, the weight and the gradient.
    roundings: [Option<RoundSlice<'a>>; 3],
    /// Where the weight is in bytes.
    to_input: Option<ToInput>,
}

/// What is made of some images: room for the gradient of the input, and for sums of the weight's in the
/// order of taps.
pub(in crate::conv) struct Wanted<'a> {
    pub(in crate::conv) input: Option<&'a mut [f32]>,
    pub(in crate::conv) weight: Option<(&'a Taps, &'a mut [f32])>,
}

impl<'a> InIntegers<'a> {
    /// `None` where the CPU multiplies floats as fast, or the gradient is seen to be on no grid.
    pub(in crate::conv) fn new(
        shape: &'a Shape,
        [weight, gradient]: [&[f32]; 2],
        roundings: [Option<RoundSlice<'a>>; 3],
    ) -> Option<Self> {
        let pays = integer::is_faster_than_floats() && looks_on_grid(gradient, roundings[2]);
        pays.then(|| Self {
            shape,
            roundings,
            to_input: to_input(shape, weight, roundings[1]),
        })
    }

    /// Makes the gradients of some images that have the bits of sums of floats: whether that of the input
    /// was made, and the sums for the weight.
    pub(in crate::conv) fn images(
        &self,
        input: &[f32],
        gradient: &[f32],
        wanted: Wanted,
    ) -> [bool; 2] {
        let to_input = self.to_input.as_ref().zip(wanted.input);
        if to_input.is_none() && wanted.weight.is_none() {
            return [false; 2];
        }
        let mut room = None;
        let Some((gradient, grid)) = on_grid(gradient, self.roundings[2], &mut room) else {
            return [false; 2];
        };
        let Some(signed) = grid.signed() else {
            return [false; 2];
        };
        let mut made = [false; 2];
        if let Some((way, to)) = to_input.filter(|(way, _)| way.is_exact(&grid)) {
            way.images(gradient, &signed, to);
            made[0] = true;
        }
        if let Some((taps, to)) = wanted.weight {
            made[1] = self.to_weight(input, (gradient, &grid), taps, to);
        }
        made
    }

    fn to_weight(
        &self,
        input: &[f32],
        gradient: (&[f32], &Bytes),
        taps: &Taps,
        to: &mut [f32],
    ) -> bool {
        let mut room = None;
        let Some((input, of_input)) = on_grid(input, self.roundings[0], &mut room) else {
            return false;
        };
        let images = input.len() / self.shape.input_image();
        let way = ToWeight::new(self.shape, images);
        way.sums((input, &of_input), gradient, taps, to)
    }
}

/// How the gradient of the input is made, where the weight's rounded numbers are integers of 8 bits.
fn to_input(shape: &Shape, weight: &[f32], rounding: Option<RoundSlice>) -> Option<ToInput> {
    let mut room = None;
    let (weight, grid) = on_grid(weight, rounding, &mut room)?;
    let weight = integers(weight, &grid.signed()?)?;
    Some(ToInput::new(shape, &weight, grid.step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::Forward;

    /// One pixel of so many images and channels.
    fn pixel(batch: usize, channels: [usize; 2]) -> Shape {
        Shape {
            batch,
            channels,
            input: [1, 1],
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            output: [1, 1],
        }
    }

    /// Which gradients are made of numbers that are all the same.
    fn made(shape: &Shape, [x, weight, gradient]: [f32; 3]) -> [bool; 2] {
        let [inputs, outputs] = shape.channels;
        let weight = vec![weight; inputs * outputs];
        let taps = Forward::new(shape).taps;
        let mut to_input = vec![f32::NAN; shape.batch * inputs];
        let mut to_weight = vec![0.0; taps.length * outputs.next_multiple_of(crate::vector::LANES)];
        let wanted = Wanted {
            input: Some(&mut to_input),
            weight: Some((&taps, &mut to_weight)),
        };
        let x = vec![x; shape.batch * inputs];
        let gradient = vec![gradient; shape.batch * outputs];
        let way = InIntegers::new(shape, [&weight, &gradient], [None; 3]);
        way.map_or([false; 2], |way| way.images(&x, &gradient, wanted))
    }

    /// 255 * 127 = 32,385 units a pixel: 518 pixels have less than 2^24. 127 * 127 = 16,129 units a
    /// channel: 1,040 have less.
    #[test]
    fn sums_of_2_to_the_24_are_left_to_floats() {
        if !integer::is_faster_than_floats() {
            println!("this CPU has no fast products of bytes: nothing was made");
            return;
        }
        let largest = [255.0 / 4.0, 127.0 / 8.0, -127.0];
        assert_eq!(made(&pixel(518, [1, 1]), largest), [true, true]);
        assert_eq!(made(&pixel(519, [1, 1]), largest), [true, false]);
        assert_eq!(made(&pixel(1, [1, 1_040]), largest), [true, true]);
        assert_eq!(made(&pixel(1, [1, 1_041]), largest), [false, true]);
        for (numbers, expected) in [
            ([0.1, 1.0, 1.0], [true, false]),
            ([1.0, 0.1, 1.0], [false, true]),
            ([1.0, 1.0, 0.1], [false, false]),
            ([1.0, 1.0, 129.0], [false, false]),
            ([1.0, 1.0, f32::NAN], [false, false]),
        ] {
            assert_eq!(made(&pixel(2, [3, 5]), numbers), expected, "{numbers:?}");
        }
    }
}
