"""Reads files of codes that Lowbit wrote with the libraries whose layouts they have, and compares the
numbers with those that Lowbit rounds the same tensors to. Run by hand:

    lowbit formats apply FORMAT x.safetensors -o codes.safetensors --codes --layout LAYOUT
    lowbit formats apply FORMAT x.safetensors -o rounded.safetensors
    .venv-scales/bin/python read_layouts.py codes.safetensors rounded.safetensors

FORMAT is one with scales along rows or in tiles (LAYOUT safetensors), or nf4 or fp4 (bitsandbytes).
"""

import sys

import torch
from safetensors.torch import load_file


def with_scales(tensors, name):
    """Elements times scales, each repeated over its block."""
    values = tensors[name]
    if values.dtype == torch.float4_e2m1fn_x2:
        from torchao.prototype.mx_formats.kernels import f4_unpacked_to_f32, unpack_uint4

        values = f4_unpacked_to_f32(unpack_uint4(values.view(torch.uint8)))
    values = values.to(torch.float32)
    for ending in ("_scale", "_scale_inv"):
        scale = tensors.get(name + ending)
        if scale is None:
            continue
        scale = scale.to(torch.float32)
        if name + "_scale_2" in tensors:
            scale = tensors[name + "_scale_2"] * scale
        for dim, extent in enumerate(values.shape):
            scale = scale.repeat_interleave(-(-extent // scale.shape[dim]), dim).narrow(dim, 0, extent)
        values = values * scale
    return values


def of_bitsandbytes(tensors, name):
    from bitsandbytes.functional import QuantState, dequantize_4bit

    state = {k: v for k, v in tensors.items() if k.startswith(name + ".")}
    return dequantize_4bit(tensors[name], QuantState.from_dict(state, torch.device("cpu")))


if __name__ == "__main__":
    codes, rounded = (load_file(path) for path in sys.argv[1:3])
    for name, expected in rounded.items():
        packed = any(key.startswith(name + ".quant_state.") for key in codes)
        numbers = (of_bitsandbytes if packed else with_scales)(codes, name)
        assert (numbers == expected.to(torch.float32)).all(), name
        print(f"{name}: {numbers.numel()} numbers are the same")
