//! The gradients of a convolution, by groups of images.

use rayon::prelude::*;

use super::bfloat16::InBfloat16;
use super::integers::{self, InIntegers};
use super::numbers::InNumbers;
use super::to_weight::add_up;
use super::{Forward, Shape, stacked};
use crate::packing::{self, Learned, Packing, RoundSlice, RoundingBackward};
use crate::parts::parts;
use crate::scratch;
use crate::tile::Terms;
use crate::vector::LANES;

/// Groups of images with sums of their own when weights are differentiated, and the numbers that
/// they may take together. Enough groups for the threads of large machines, and few enough that
/// adding their sums up takes little of the time.
const GROUPS: usize = 32;
const GROUP_NUMBERS: usize = 1 << 24;

/// Weights whose rounding a thread differentiates at a time.
const PART: usize = 1 << 14;

/// What [`backward`] shall make.
#[derive(Debug, Default)]
pub struct Wanted<'a> {
    /// Room for the gradient of the input, stored as the input.
    pub input: Option<&'a mut [f32]>,
    /// Whether the gradient of the weight is wanted.
    pub weight: bool,
    /// Whether the gradient of the bias is wanted.
    pub bias: bool,
    /// What the sums over products are made of.
    pub terms: Terms,
}

/// The gradients of [`forward`](super::forward), given `gradient`, that of its output: of the weight
/// (as the weight is stored), of the bias (both empty where not wanted), and the sums of what the two
/// `rounding_backwards` returned, for the input and for the weight. `roundings` are those of the input,
/// the weight and `gradient`, each made as the numbers are read; where the terms are products of
/// bfloat16, all three are rounded to that, too. There, an input that is infinite may make a gradient of
/// the weight NaN whose kernel does not reach it: where the width of the output is odd, its last pixel is
/// summed with the one that would follow, times zero.
///
/// # Panics
/// Where the shape is not [supported](Shape::is_supported), or a slice is not as long as it says.
pub fn backward(
    shape: &Shape,
    input: &[f32],
    weight: &[f32],
    gradient: &[f32],
    roundings: [Option<RoundSlice>; 3],
    rounding_backwards: [Option<RoundingBackward>; 2],
    wanted: Wanted,
) -> (Vec<f32>, Vec<f32>, [Learned; 2]) {
    shape.check(input, weight, gradient);
    let groups = Groups::new(
        shape,
        [weight, gradient],
        roundings,
        rounding_backwards[0],
        wanted.terms,
    );
    let outputs = shape.channels[1];
    let count = shape.batch.div_ceil(groups.images);
    // The sums of all groups, from this thread's memory: it adds them up.
    let mut weight_sums = wanted
        .weight
        .then(|| scratch::take(count * groups.weight_sums()));
    let mut bias_sums = wanted.bias.then(|| vec![0.0; count * outputs]);
    let to_input = groups.all(
        [input, gradient],
        Targets {
            input: wanted.input,
            weight: weight_sums.as_deref_mut(),
            bias: bias_sums.as_deref_mut(),
        },
    );
    let mut bias = vec![0.0; if wanted.bias { outputs } else { 0 }];
    for sums in bias_sums.iter().flat_map(|sums| sums.chunks(outputs)) {
        for (bias, sum) in bias.iter_mut().zip(sums) {
            *bias += sum;
        }
    }
    let Some(sums) = weight_sums else {
        return (Vec::new(), bias, [to_input, Learned::default()]);
    };
    let groups_sums: Vec<&[f32]> = sums.chunks(groups.weight_sums()).collect();
    let mut weights = add_up(shape, &groups.way.forward().taps, &groups_sums);
    let to_weight = rounding_backwards[1].map_or(Learned::default(), |backward| {
        let parts = weights.par_chunks_mut(PART).zip(weight.par_chunks(PART));
        let sums: Vec<Learned> = parts.map(|(grad, weight)| backward(weight, grad)).collect();
        packing::add_up(sums)
    });
    (weights, bias, [to_input, to_weight])
}

/// Where gradients go: that of the input, and the sums of groups for the weight and the bias.
struct Targets<'a> {
    input: Option<&'a mut [f32]>,
    weight: Option<&'a mut [f32]>,
    bias: Option<&'a mut [f32]>,
}

/// Images in groups, and how a group is differentiated.
///
/// The gradient of the weight is a sum over all images. Each group sums its own, one thread a group,
/// and the groups are then added in their order; how many there are depends on the shape alone, and
/// so does the sum.
struct Groups<'a> {
    shape: &'a Shape,
    way: Way<'a>,
    /// Where that is faster, and has the same bits.
    in_integers: Option<InIntegers<'a>>,
    /// Of the input, the weight and the gradient.
    roundings: [Option<RoundSlice<'a>>; 3],
    /// Of the input.
    of_input: Option<RoundingBackward<'a>>,
    /// Images in a group.
    images: usize,
    /// Images that are packed together.
    stack: usize,
}

impl<'a> Groups<'a> {
    fn new(
        shape: &'a Shape,
        [weight, gradient]: [&[f32]; 2],
        roundings: [Option<RoundSlice<'a>>; 3],
        of_input: Option<RoundingBackward<'a>>,
        terms: Terms,
    ) -> Self {
        let way = Way::new(shape, weight, [roundings[0], roundings[1]], terms);
        let forward = way.forward();
        let numbers = weight_sums(forward, shape);
        let groups = (GROUP_NUMBERS / numbers.max(1))
            .clamp(1, GROUPS)
            .min(shape.batch.max(1));
        let images = shape.batch.div_ceil(groups).max(1);
        let stack = stacked(&forward.packing, numbers, shape.output)
            .min(stacked(way.packing(), numbers, shape.output))
            .min(images);
        Self {
            shape,
            way,
            in_integers: InIntegers::new(shape, [weight, gradient], roundings),
            roundings,
            of_input,
            images,
            stack,
        }
    }

    /// Numbers that a group sums for the weight.
    fn weight_sums(&self) -> usize {
        weight_sums(self.way.forward(), self.shape)
    }

    /// Differentiates all images. Returns the sum of what the backward pass of the input's rounding
    /// returned.
    fn all(&self, [input, gradient]: [&[f32]; 2], to: Targets) -> Learned {
        let shape = self.shape;
        let count = shape.batch.div_ceil(self.images);
        let sums: Vec<Learned> = input
            .par_chunks(self.images * shape.input_image())
            .zip(gradient.par_chunks(self.images * shape.output_image()))
            .zip(parts(to.input, self.images * shape.input_image(), count))
            .zip(parts(to.weight, self.weight_sums(), count))
            .zip(parts(to.bias, shape.channels[1], count))
            .map(|((((x, g), input), weight), bias)| {
                self.group(
                    x,
                    g,
                    Targets {
                        input,
                        weight,
                        bias,
                    },
                )
            })
            .collect();
        packing::add_up(sums)
    }

    /// The gradients of a group that are made in integers: of the input, of the weight.
    fn in_integers(&self, input: &[f32], gradient: &[f32], to: &mut Targets) -> [bool; 2] {
        let Some(in_integers) = &self.in_integers else {
            return [false; 2];
        };
        let wanted = integers::Wanted {
            input: to.input.as_deref_mut(),
            weight: to
                .weight
                .as_deref_mut()
                .map(|sums| (&self.way.forward().taps, sums)),
        };
        in_integers.images(input, gradient, wanted)
    }

    /// Differentiates the images of a group, a stack of them at a time. Its sums for the bias are
    /// zero at first; those for the weight may be anything.
    fn group(&self, input: &[f32], gradient: &[f32], mut to: Targets) -> Learned {
        let shape = self.shape;
        if let Some(sums) = &mut to.weight {
            sums.fill(0.0);
        }
        let [input_is_made, weight_is_made] = self.in_integers(input, gradient, &mut to);
        let makes_input = to.input.is_some() && !input_is_made;
        let makes_weight = to.weight.is_some() && !weight_is_made;
        let is_read = makes_input || makes_weight || to.bias.is_some();
        let rounding = self.roundings[2].filter(|_| is_read);
        let mut total = Learned::default();
        let inputs = input.chunks(self.stack * shape.input_image());
        let gradients = gradient.chunks(self.stack * shape.output_image());
        for (index, (input, gradient)) in inputs.zip(gradients).enumerate() {
            let mut room = None;
            let gradient = packing::rounded(gradient, rounding, &mut room);
            let start = index * self.stack * shape.input_image();
            let mut to_input = to
                .input
                .as_mut()
                .map(|all| &mut all[start..][..input.len()]);
            let sums = to.weight.as_deref_mut().filter(|_| makes_weight);
            let made = to_input.as_deref_mut().filter(|_| makes_input);
            self.way.images(input, gradient, made, sums);
            if let (Some(backward), Some(to_input)) = (self.of_input, to_input) {
                total = packing::add_up([total, backward(input, to_input)]);
            }
            if let Some(sums) = &mut to.bias {
                add_pixels(gradient, sums);
            }
        }
        total
    }
}

/// What gradients are made of.
enum Way<'a> {
    Numbers(Box<InNumbers<'a>>),
    Bfloat16(Box<InBfloat16<'a>>),
}

impl<'a> Way<'a> {
    fn new(
        shape: &'a Shape,
        weight: &[f32],
        roundings: [Option<RoundSlice<'a>>; 2],
        terms: Terms,
    ) -> Self {
        match terms {
            Terms::Numbers => Self::Numbers(InNumbers::new(shape, weight, roundings).into()),
            Terms::Bfloat16 => Self::Bfloat16(InBfloat16::new(shape, weight, roundings).into()),
        }
    }

    /// How the input is packed, and what is summed.
    fn forward(&self) -> &Forward {
        match self {
            Self::Numbers(way) => way.forward(),
            Self::Bfloat16(way) => way.forward(),
        }
    }

    /// How gradients of the output are packed.
    fn packing(&self) -> &Packing {
        match self {
            Self::Numbers(way) => way.packing(),
            Self::Bfloat16(way) => way.packing(),
        }
    }

    /// Makes the gradients of some images that there is room for: of the input, and sums that are added to
    /// the weight's.
    fn images(
        &self,
        input: &[f32],
        gradient: &[f32],
        to_input: Option<&mut [f32]>,
        to_weight: Option<&mut [f32]>,
    ) {
        match self {
            Self::Numbers(way) => way.images(input, gradient, to_input, to_weight),
            Self::Bfloat16(way) => way.images(input, gradient, to_input, to_weight),
        }
    }
}

/// Numbers that a group sums for the weight: for every number of the input under a pixel of the
/// output, the channels of the output in whole vectors.
fn weight_sums(forward: &Forward, shape: &Shape) -> usize {
    forward.taps.length * shape.channels[1].next_multiple_of(LANES)
}

/// Adds pixels of as many channels as there are sums.
fn add_pixels(pixels: &[f32], sums: &mut [f32]) {
    for pixel in pixels.chunks(sums.len()) {
        for (sum, number) in sums.iter_mut().zip(pixel) {
            *sum += number;
        }
    }
}
