"""Quantizers whose step or range is learned, and DoReFa-Net's, as functions with the gradients of their papers.

Numbers are those of Lowbit's `tqt`, `lsq`, `pact`, `dorefa-weight` and `dorefa-activation`. They are computed in the
type of `x`, halves in float32, on any device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._functions import quantize_both

# A step that training has brought to zero or below counts as the least normal float32.
LEAST_STEP = torch.finfo(torch.float32).tiny

Number = float | Tensor


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent of whole numbers from -126 to 126, exactly, as float32; NaN of NaN."""
    bits = (exponent.to(torch.int32) + 127) << 23
    return bits.view(torch.float32) + (exponent - exponent)


def integer_range(bits: int, signed: bool | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest integer of a width: -2^(b-1) and 2^(b-1) - 1 with a sign, 0 and 2^b - 1 without."""
    sign = torch.as_tensor(signed, dtype=like.dtype, device=like.device)
    half = 2.0 ** (bits - 1)
    return -half * sign, 2.0 * half - 1.0 - half * sign


def along(parameter: Tensor, x: Tensor, axis: int) -> Tensor:
    """A parameter of one number, or of one for each index of an axis, in a shape that goes with `x`."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * x.dim()
    shape[axis] = parameter.numel()
    return parameter.reshape(shape)


def summed(gradient: Tensor, parameter: Tensor, axis: int) -> Tensor:
    """A gradient of the shape of `x`, summed to that of the parameter."""
    if parameter.numel() == 1:
        return gradient.sum().reshape(parameter.shape)
    others = [dim for dim in range(gradient.dim()) if dim != axis]
    return (gradient.sum(others) if others else gradient).reshape(parameter.shape)


def check(name: str, parameter: Tensor, x: Tensor, bits: int, widths: range, axis: int) -> None:
    """ValueError unless the width is one of `widths` and the parameter has one number, or one for each index; TypeError
    unless `x` is a tensor of floating-point numbers."""
    check_bits(bits, widths)
    check_float(x)
    count = parameter.numel()
    if count != 1 and (not -x.dim() <= axis < x.dim() or count != x.shape[axis]):
        raise ValueError(f"{name} has {count} numbers, expected 1 or one per index of axis {axis} of {list(x.shape)}")


def check_float(x: Tensor) -> None:
    """TypeError unless `x` is a tensor of floating-point numbers."""
    if not isinstance(x, Tensor) or not x.is_floating_point():  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"x is of {kind}, expected a tensor of floating-point numbers")


def check_bits(bits: int, widths: range) -> None:
    """ValueError unless the width is one of `widths`."""
    if bits not in widths:
        raise ValueError(f"bits is {bits}, expected {widths[0]} to {widths[-1]}")


def in_float(x: Tensor) -> Tensor:
    """`x` in a type that the computation is exact enough in: halves as float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _TrainedThreshold(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, log2_t: Tensor, least: Tensor, greatest: Tensor, exponent: Tensor, axis: int
    ) -> Tensor:
        context.save_for_backward(x, log2_t, least, greatest, exponent)
        context.axis = axis
        numbers = in_float(x)
        step, per_step = _steps(exponent, numbers)
        return (numbers * per_step).round_().clamp_(least, greatest).mul_(step).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, log2_t, least, greatest, exponent = context.saved_tensors
        numbers = in_float(x)
        step, per_step = _steps(exponent, numbers)
        scaled = numbers * per_step
        nearest = torch.round(scaled)
        k = nearest.clamp(least, greatest)
        outside = nearest != k
        to_threshold = None
        if context.needs_input_grad[1]:
            # The end where it was clipped, what rounding added elsewhere.
            slope = k.sub_(scaled.masked_fill_(outside, 0.0)).mul_(step * math.log(2.0))
            to_threshold = summed(slope.mul_(in_float(gradient)), log2_t, context.axis).to(log2_t.dtype)
        return gradient.masked_fill(outside, 0.0), to_threshold, None, None, None, None


def _steps(exponent: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return power_of_two(exponent).to(x.dtype), power_of_two(-exponent).to(x.dtype)


def trained_threshold(x: Tensor, log2_t: Tensor, bits: int, signed: bool | Tensor = True, axis: int = 0) -> Tensor:
    """TQT: `x` on a grid whose step is a power of two, set by a threshold that is trained.

    With b bits and a sign, s = 2^(ceil(log2_t) - (b - 1)), n = -2^(b-1), p = 2^(b-1) - 1;
    without, s = 2^(ceil(log2_t) - b), n = 0, p = 2^b - 1 (Jain et al., arXiv 1903.08066):

    forward (equation 4): q = clip(round(x / s), n, p) s, ties to even;
    to log2_t (equation 7), summed: s ln 2 (round(x / s) - x / s) where n <= round(x / s) <= p, s ln 2 n below, s ln 2 p
    above;
    to x (equation 8): 1 where n <= round(x / s) <= p, 0 elsewhere.

    log2_t: one number, or one for each index of `axis`.
    bits: 2 to 24. signed: a bool, or a tensor of 1 or 0.

    ValueError for another width or number of thresholds.
    """
    check("log2_t", log2_t, x, bits, range(2, 25), axis)
    return to_threshold_grid(x, log2_t, bits, signed, axis)


def to_threshold_grid(x: Tensor, log2_t: Tensor, bits: int, signed: bool | Tensor, axis: int = 0) -> Tensor:
    """`trained_threshold` of any width: integers of more than 24 bits are those that the type of `x` holds."""
    numbers = in_float(x)
    least, greatest = integer_range(bits, signed, numbers)
    magnitude_bits = bits - torch.as_tensor(signed, dtype=torch.float32, device=x.device)
    exponent = (torch.ceil(log2_t.detach().float()) - magnitude_bits).clamp(-126.0, 126.0)
    return _TrainedThreshold.apply(x, log2_t, least, greatest, along(exponent, x, axis), axis)


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, step: Tensor, least: Tensor, greatest: Tensor, gradient_scale: Number, axis: int
    ) -> Tensor:
        context.save_for_backward(x, step, least, greatest)
        context.gradient_scale, context.axis = gradient_scale, axis
        numbers = in_float(x)
        size = along(_positive(step), x, axis).to(numbers.dtype)
        return (numbers / size).clamp_(least, greatest).round_().mul_(size).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, step, least, greatest = context.saved_tensors
        numbers = in_float(x)
        scaled = numbers / along(_positive(step), x, context.axis).to(numbers.dtype)
        outside = (scaled <= least).logical_or_(scaled >= greatest)
        to_step = None
        if context.needs_input_grad[1]:
            slope = scaled.clamp(least, greatest).round_().sub_(scaled.masked_fill_(outside, 0.0))
            to_step = summed(slope.mul_(in_float(gradient)), step, context.axis) * context.gradient_scale
            to_step = to_step.to(step.dtype)
        return gradient.masked_fill(outside, 0.0), to_step, None, None, None, None


def _positive(step: Tensor) -> Tensor:
    return torch.where(step <= 0.0, torch.full_like(step, LEAST_STEP), step)


def learned_step(
    x: Tensor,
    step: Tensor,
    bits: int,
    signed: bool | Tensor = True,
    gradient_scale: Number = 1.0,
    axis: int = 0,
) -> Tensor:
    """LSQ: multiples of a step that is learned.

    With b bits, Q_n = 2^(b-1), Q_p = 2^(b-1) - 1 with a sign, Q_n = 0, Q_p = 2^b - 1 without (Esser et al., arXiv
    1902.08153, section 2):

    forward: q = round(clip(x / s, -Q_n, Q_p)) s, ties to even;
    to the step, summed, times `gradient_scale`: round(x / s) - x / s where -Q_n < x / s < Q_p, -Q_n below, Q_p above;
    to x: 1 where -Q_n < x / s < Q_p, 0 elsewhere.

    step: one number, or one for each index of `axis`; zero and below count as the least normal float32.
    bits: 2 to 16. signed: a bool, or a tensor of 1 or 0.
    gradient_scale: the paper's is 1 / sqrt(N Q_p), with N the numbers of the weight, or of one sample (section 2.2).

    ValueError for another width or number of steps.
    """
    check("step", step, x, bits, range(2, 17), axis)
    least, greatest = integer_range(bits, signed, in_float(x))
    return _LearnedStep.apply(x, step, least, greatest, gradient_scale, axis)


class _LearnedClip(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, clip: Tensor, levels: float, axis: int) -> Tensor:
        context.save_for_backward(x, clip)
        context.axis = axis
        numbers = in_float(x)
        end = along(_positive(clip), x, axis).to(numbers.dtype)
        y = numbers.clamp(torch.zeros_like(end), end)
        return y.mul_(levels / end).round_().mul_(end / levels).to(x.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, clip = context.saved_tensors
        numbers = in_float(x)
        high = numbers >= along(_positive(clip), x, context.axis).to(numbers.dtype)
        to_clip = None
        if context.needs_input_grad[1]:
            to_clip = summed(in_float(gradient).masked_fill(~high, 0.0), clip, context.axis).to(clip.dtype)
        return gradient.masked_fill(high.logical_or_(numbers < 0.0), 0.0), to_clip, None, None


def learned_clip(x: Tensor, clip: Tensor, bits: int, axis: int = 0) -> Tensor:
    """PACT: 2^k values from 0 to a value that is learned, at which activations are clipped.

    Choi et al., arXiv 1805.06085, section 4:

    forward (equations 1 and 2): y = clip(x, 0, a), q = round(y (2^k - 1) / a) a / (2^k - 1), ties to even;
    to the clip (equation 3), summed: 1 where x >= a, 0 elsewhere;
    to x: 1 where 0 <= x < a, 0 elsewhere.

    clip: one number, or one for each index of `axis`; zero and below count as the least normal float32. bits: 1 to 16.

    ValueError for another width or number of clips.
    """
    check("clip", clip, x, bits, range(1, 17), axis)
    return _LearnedClip.apply(x, clip, 2.0**bits - 1.0, axis)


class _RoundStraight(torch.autograd.Function):
    """To the nearest integer, ties to even; the gradient passes."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


def round_straight(x: Tensor) -> Tensor:
    """To the nearest integer, ties to even; the gradient passes."""
    return _RoundStraight.apply(x)


class _SignTimesMean(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, w: Tensor) -> Tensor:
        mean = w.double().abs().mean().to(w.dtype)
        return torch.where(w < 0.0, -mean, mean)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


def dorefa_weight(w: Tensor, bits: int, scale: str = "one", maximum: str = "differentiated") -> Tensor:
    """DoReFa-Net's weights, through a hyperbolic tangent (Zhou et al., arXiv 1606.06160).

    1 bit (equation 7): sign(w) mean |w|, with sign(0) = 1; the gradient passes unchanged.
    k bits (equations 9 and 10): 2 round(n (tanh(w) / (2 m) + 1/2)) / n - 1, n = 2^k - 1, m = max |tanh(w)| of the
    tensor; the gradient is that of tanh(w) / m. Of zeros, tanh(w) / m and its gradient are 0.

    bits: 1 to 24.
    scale: "one", as in the paper, or "maximum": times m, as some implementations have it.
    maximum: "differentiated": m gets its gradient through the first weight of largest magnitude; or "constant".

    ValueError for another width or choice.
    """
    check_bits(bits, range(1, 25))
    check_float(w)
    check_choice("scale", scale, ("one", "maximum"))
    check_choice("maximum", maximum, ("differentiated", "constant"))
    numbers = in_float(w)
    if bits == 1:
        return _SignTimesMean.apply(numbers).to(w.dtype)
    tanh = torch.tanh(numbers)
    flat = tanh.reshape(-1)
    largest = flat[flat.detach().abs().argmax()].abs() if flat.numel() else flat.sum()
    if maximum == "constant":
        largest = largest.detach()
    is_zero = largest == 0.0
    half_inverse = 0.5 / torch.where(is_zero, torch.ones_like(largest), largest)
    unit = tanh * half_inverse * (~is_zero) + 0.5
    levels = 2.0**bits - 1.0
    rounded = 2.0 * (round_straight(levels * unit) / levels) - 1.0
    return (rounded * largest if scale == "maximum" else rounded).to(w.dtype)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(repr(choice) for choice in choices)}")


def dorefa_activation(x: Tensor, bits: int) -> Tensor:
    """DoReFa-Net's activations: round(n clip(x, 0, 1)) / n, n = 2^k - 1; the gradient is 0 where x was clipped (Zhou et
    al., arXiv 1606.06160, equations 5 and 11).

    bits: 1 to 16; ValueError for others.
    """
    check_bits(bits, range(1, 17))
    return quantize_both(x, (f"unit({bits})", ""), ("nearest-even", "nearest-even"), True, None)
