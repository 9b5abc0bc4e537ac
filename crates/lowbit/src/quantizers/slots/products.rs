//! What a layer makes of its operands: sums, and products with their bias.

use burn::tensor::{Device, Tensor};

use super::Quantizers;
use crate::ops::{FakeQuantize, Operand, Operands, quantize_gradient};
use crate::quantizers::methods::{Of, Sums};
use crate::quantizers::shared_scale::SharedScale;
use crate::quantizers::slot::Slot;
use crate::quantizers::watch::{Taps, is_measuring, tap};
use lowbit_kernels::Terms;

/// Weight and bias of a layer that makes several sums with them in one pass: the weight is quantized
/// once, and of each the slot `gradient` quantizes the whole gradient, not each sum's part. The bias is
/// rounded for each sum, whose step may be another.
#[derive(Debug)]
pub(crate) struct Parameters<const W: usize> {
    /// How the weight is quantized tells the step of the sums.
    weight: Operand<W>,
    quantized: Tensor<W>,
    /// What it is rounded to may depend on the input.
    bias: Option<Tensor<1>>,
    /// While it is there, the bias has the scale that it shares.
    _scale: Option<SharedScale>,
}

impl Quantizers {
    /// The layer's result: the sum that `sum` computes from the operands, saturated to
    /// the accumulator's width, plus bias. Without an accumulator that can saturate, `sum` adds the
    /// bias itself.
    ///
    /// Where weight and input are integers times powers of two, a bias with a trained threshold is
    /// rounded to no finer a step than `s_input s_weight`, the sum's, so that sum and bias together
    /// are an integer of the accumulator (Jain et al., arXiv 1903.08066, section 4.3).
    pub fn accumulate<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        weight: Operand<W>,
        bias: Option<Tensor<1>>,
        sums: Sums,
        sum: impl FnOnce(Operand<I>, Operand<W>, Option<Operand<1>>) -> Tensor<O>,
    ) -> Tensor<O> {
        let (weight, _scale) = self.sharing(weight, bias.as_ref());
        let bias = bias.map(|bias| self.on_the_way_back(Slot::GRADIENT, bias));
        self.sum_of(input, weight, bias, sums, sum)
    }

    /// Weight and bias, for several sums of one pass.
    pub(crate) fn parameters<const W: usize>(
        &self,
        weight: Tensor<W>,
        bias: Option<Tensor<1>>,
    ) -> Parameters<W> {
        let (weight, scale) = self.sharing(self.weight(weight), bias.as_ref());
        Parameters {
            quantized: weight.clone().quantized(),
            weight,
            bias: bias.map(|bias| self.on_the_way_back(Slot::GRADIENT, bias)),
            _scale: scale,
        }
    }

    /// [`accumulate`](Self::accumulate) with such a weight and bias.
    pub(crate) fn accumulate_with<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        parameters: &Parameters<W>,
        sums: Sums,
        sum: impl FnOnce(Operand<I>, Operand<W>, Option<Operand<1>>) -> Tensor<O>,
    ) -> Tensor<O> {
        let (weight, bias) = (parameters.weight.clone(), parameters.bias.clone());
        let quantized = parameters.quantized.clone();
        let of_quantized = |input, _: Operand<W>, bias| sum(input, quantized.into(), bias);
        self.sum_of(input, weight, bias, sums, of_quantized)
    }

    /// The sum of an input's products with a weight whose scale is known, and a bias whose gradient is
    /// quantized.
    fn sum_of<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        weight: Operand<W>,
        bias: Option<Tensor<1>>,
        sums: Sums,
        sum: impl FnOnce(Operand<I>, Operand<W>, Option<Operand<1>>) -> Tensor<O>,
    ) -> Tensor<O> {
        let counted = self.accumulator.is_some() || self.slots.get(Slot::BIAS).is_some();
        let step = counted.then(|| sums.step(&input, &weight)).flatten();
        let bias =
            bias.map(|bias| self.seen_operand(Slot::BIAS, bias, Of::Parameter(step.as_ref())));
        let Some((accumulator, step)) = self.accumulator.as_ref().zip(step) else {
            return sum(input, weight, bias);
        };
        let measured = is_measuring() && accumulator.switch.is_on();
        let saturation = accumulator.saturation(&step);
        if saturation.is_none() && !measured {
            return sum(input, weight, bias);
        }
        let sum = sum(input, weight, None);
        let whole = measured.then(|| sum.clone());
        let saturated = match saturation {
            Some(saturation) => saturation.apply(sum, sums.axis),
            None => sum,
        };
        if let Some(whole) = whole {
            accumulator.measure(&step, sums.axis, &whole, &saturated);
        }
        match bias.map(Operand::quantized) {
            Some(bias) => {
                let mut shape = [1; O];
                shape[sums.axis] = bias.dims()[0];
                saturated + bias.reshape(shape)
            }
            None => saturated,
        }
    }

    /// The weight with the scale that it shares, and what gives the bias the same; the operand as it is
    /// where they share none, or one that is known.
    fn sharing<const D: usize>(
        &self,
        weight: Operand<D>,
        bias: Option<&Tensor<1>>,
    ) -> (Operand<D>, Option<SharedScale>) {
        if !self.awaits_scale(Slot::WEIGHT) {
            return (weight, None);
        }
        let weight = weight.quantized();
        let of_bias = bias.and_then(|bias| self.own_scale(Slot::BIAS, bias));
        let scale = self.share([self.own_scale(Slot::WEIGHT, &weight), of_bias]);
        let weight = self.operand(Slot::WEIGHT, weight, Of::Parameter(None));
        // It was seen when it came, before anything was known of its scale.
        tap::read(self.identity.id, Slot::WEIGHT, &weight);
        (weight, scale)
    }

    /// The output of a layer whose operands `product` multiplies: their sum as
    /// [`accumulate`](Self::accumulate) says, and then as [`output`](Self::output) does. `product`
    /// itself rounds the error that reaches it, where nothing is between and the rounding looks at one
    /// number at a time.
    pub(crate) fn product<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        weight: Operand<W>,
        bias: Option<Tensor<1>>,
        sums: Sums,
        product: impl FnOnce(Operands<I, W>) -> Tensor<O>,
    ) -> Tensor<O> {
        self.output_of(&input.device(), |error| {
            self.accumulate(input, weight, bias, sums, with_error(error, product))
        })
    }

    /// [`product`](Self::product) with such a weight and bias.
    pub(crate) fn product_with<const I: usize, const W: usize, const O: usize>(
        &self,
        input: Operand<I>,
        parameters: &Parameters<W>,
        sums: Sums,
        product: impl FnOnce(Operands<I, W>) -> Tensor<O>,
    ) -> Tensor<O> {
        self.output_of(&input.device(), |error| {
            self.accumulate_with(input, parameters, sums, with_error(error, product))
        })
    }

    /// The layer's output, of what `make` makes; it is given what it shall round of the error.
    fn output_of<const D: usize>(
        &self,
        device: &Device,
        make: impl FnOnce(ErrorSlot) -> Tensor<D>,
    ) -> Tensor<D> {
        let error = self.gradient(Slot::ERROR, device);
        // Taps see the error rounded.
        let is_result = self.accumulator.is_none() && self.get(Slot::OUTPUT).is_none();
        let is_made = is_result && error.is_pointwise() && !Taps::are_attached();
        let terms = error.terms();
        let (rounding, left) = match is_made {
            true => (error.rounding.map(FakeQuantize::of_gradient), None),
            false => (None, Some(error)),
        };
        let y = self.quantized_output(make(ErrorSlot { rounding, terms }));
        quantize_gradient(y, left.unwrap_or_default())
    }
}

/// What a product does with the error that reaches it.
struct ErrorSlot {
    /// What it rounds itself.
    rounding: Option<FakeQuantize>,
    /// What its sums over the error are made of.
    terms: Terms,
}

/// The sum of operands that `product` makes, with what it does with the error.
fn with_error<const I: usize, const W: usize, const O: usize>(
    error: ErrorSlot,
    product: impl FnOnce(Operands<I, W>) -> Tensor<O>,
) -> impl FnOnce(Operand<I>, Operand<W>, Option<Operand<1>>) -> Tensor<O> {
    move |input, weight, bias| {
        product(Operands {
            error: error.rounding,
            backward: error.terms,
            ..Operands::new(input, weight, bias)
        })
    }
}
