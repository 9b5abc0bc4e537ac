"""Reference tables of affine integers from PyTorch's observers and fake-quantization.

`affine.txt`: for each case the input, its scale and zero point, and the dequantized result.
"""

import numpy as np

SEED = 8


def cases(rng):
    yield "normal", rng.standard_normal(24)
    yield "positive", rng.uniform(0.5, 3, 24)
    yield "negative", rng.uniform(-900, -20, 24)
    yield "skewed", rng.exponential(size=24) * 1e-3 - 2e-4


def grid(x, scale, zero_point, low, high):
    """PyTorch multiplies by the reciprocal of the scale; the table keeps to inputs where dividing
    by it gives the same integer, so that both formulas can be held against it."""
    divided = np.round(x / np.float32(scale))
    multiplied = np.round(x * (np.float32(1) / np.float32(scale)))
    assert (divided == multiplied).all()


def integer_tables(write, bits):
    import torch
    from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver

    rng = np.random.default_rng(SEED)
    lines = [
        "# torch 2.9.0",
        "# BITS SIGNED SCHEME (asymmetric | narrow: symmetric, lowest code unused) AXIS (-1: per tensor)",
        "# then lines: shape, input, scales (float32 bits), zero points, output (float32 bits)",
    ]
    for width in (2, 3, 4, 8):
        for signed in (True, False):
            low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
            for scheme in ("asymmetric", "narrow"):
                if scheme == "narrow" and not signed:
                    continue
                first = -high if scheme == "narrow" else low
                for axis in (-1, 0, 1):
                    for _, x in cases(rng):
                        x = x.astype(np.float32).reshape(4, 6)
                        t = torch.from_numpy(x)
                        kind = "affine" if scheme == "asymmetric" else "symmetric"
                        # Any container wide enough; quant_min and quant_max set the real range.
                        options = dict(dtype=torch.qint32, quant_min=first, quant_max=high, eps=2.0**-100)
                        if axis < 0:
                            observer = MinMaxObserver(qscheme=getattr(torch, f"per_tensor_{kind}"), **options)
                        else:
                            observer = PerChannelMinMaxObserver(
                                ch_axis=axis, qscheme=getattr(torch, f"per_channel_{kind}"), **options
                            )
                        observer(t)
                        scale, zero = observer.calculate_qparams()
                        if axis < 0:
                            grid(x, scale.item(), zero.item(), first, high)
                            y = torch.fake_quantize_per_tensor_affine(t, scale.item(), int(zero), first, high)
                        else:
                            shape = [1, 1]
                            shape[axis] = -1
                            grid(x, scale.numpy().reshape(shape), zero, first, high)
                            y = torch.fake_quantize_per_channel_affine(t, scale, zero.int(), axis, first, high)
                        lines.append(f"{width} {'signed' if signed else 'unsigned'} {scheme} {axis}")
                        lines.append("input " + " ".join(bits(x.flatten())))
                        lines.append("scales " + " ".join(bits(scale.numpy().reshape(-1))))
                        lines.append("zero_points " + " ".join(str(int(z)) for z in zero.reshape(-1)))
                        lines.append("output " + " ".join(bits(y.numpy().flatten())))
    write("affine.txt", lines)
