"""Reference tables of the block formats.

- `microscaling.txt`: OCP MX blocks from torchao (scale rules floor, ceil, even, rceil), the floor
  rule cross-checked with, and MXINT8 taken from, gfloat's block formats.
- `nvfp4.txt`: NVFP4 with a per-tensor scale from torchao.
"""

import numpy as np

SEED = 20230928  # the day of the OCP Microscaling Formats specification


def mx_inputs():
    """Blocks of 32: several distributions and scales, ties, edges of the scale rules, zeros."""
    rng = np.random.default_rng(SEED)
    blocks = []
    for exponent in (0, 0, -40, 37):
        blocks.append(rng.standard_normal(32) * 2.0**exponent)
        blocks.append(rng.uniform(-1, 1, 32) * 2.0**exponent)
        blocks.append(rng.laplace(size=32) * 2.0**exponent)
    for spread in (4, 12, 40):
        # Magnitudes spread over many powers of two reach the elements' subnormals.
        blocks.append(rng.choice([-1, 1], 32) * 2.0 ** rng.uniform(-spread, 0, 32))
    for step in (2.0**-2, 2.0**-4, 2.0**-5):
        # Multiples of a power of two: many elements lie exactly between two neighbours.
        blocks.append(np.round(rng.standard_normal(32) / step) * step)
    for top in (1.0, 1.25, 1.4375, 1.5, 1.75, 1.8125, 1.875, 1.9375, 1.96875, 1.9999):
        # The largest magnitude decides the scale; these straddle the rules' thresholds.
        block = rng.uniform(-1, 1, 32)
        block[rng.integers(32)] = top * rng.choice([-1, 1])
        blocks.append(block * 2.0 ** int(rng.integers(-20, 20)))
    one = np.zeros(32)
    one[7] = -3.0
    blocks += [np.zeros(32), one]
    return np.array(blocks).astype(np.float32)


def microscaling(write, bits):
    import torch
    from gfloat import compute_scale_amax, decode_ndarray, encode_block
    from gfloat import formats as g
    from torchao.prototype.mx_formats.constants import DTYPE_FP6_E2M3, DTYPE_FP6_E3M2
    from torchao.prototype.mx_formats.kernels import unpack_uint4
    from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx

    formats = {
        "e4m3": (torch.float8_e4m3fn, g.format_info_mxfp8_e4m3),
        "e5m2": (torch.float8_e5m2, g.format_info_mxfp8_e5m2),
        "e3m2": (DTYPE_FP6_E3M2, g.format_info_mxfp6_e3m2),
        "e2m3": (DTYPE_FP6_E2M3, g.format_info_mxfp6_e2m3),
        "e2m1": (torch.float4_e2m1fn_x2, g.format_info_mxfp4_e2m1),
        "int8": (None, g.format_info_mxint8),
    }
    lines = ["# torch 2.9.0, torchao 0.15.0, gfloat 0.5.2",
             "# block: 32 float32 bits; then per element format and rule: E8M0 scale, 32 codes"]
    for block in mx_inputs():
        lines.append("block " + " ".join(bits(block)))
        for name, (dtype, info) in formats.items():
            scale = compute_scale_amax(info.etype.emax, block.astype(np.float64))
            codes = [int(c) for c in encode_block(info, scale, block.astype(np.float64) / scale)]
            lines_of = {"floor": codes}
            if dtype is not None:
                for mode in ScaleCalculationMode:
                    e8m0, data = to_mx(torch.from_numpy(block).reshape(1, 32), dtype, 32, mode)
                    if name == "e2m1":
                        data = unpack_uint4(data)
                    theirs = [int(e8m0.view(torch.uint8).item())] + data.view(torch.uint8).flatten().tolist()
                    if mode.value == "floor":
                        same_floor(name, info, codes, theirs, decode_ndarray)
                    lines_of[mode.value] = theirs
            for rule, result in lines_of.items():
                lines.append(f"{name} {rule} {result[0]:02x} " + "".join(f"{c:02x}" for c in result[1:]))
    write("microscaling.txt", lines)


def same_floor(name, info, ours, theirs, decode):
    """Stops the script where gfloat and torchao disagree on a block."""
    a = decode(info.etype, np.array(ours[1:]))
    b = decode(info.etype, np.array(theirs[1:]))
    # A zero's sign is kept by torchao and dropped by gfloat's scalar encoder in some versions.
    assert ours[0] == theirs[0] and (a == b).all(), (name, ours, theirs)


def nvfp4(write, bits):
    import torch
    from torchao.prototype.mx_formats.kernels import unpack_uint4
    from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize, per_tensor_amax_to_scale

    rng = np.random.default_rng(SEED + 1)
    lines = ["# torch 2.9.0, torchao 0.15.0",
             "# tensor: rows of 64 float32 bits; scale: the per-tensor float32; blocks: E4M3 scales; codes"]
    for size in (1.0, 2.0**-30, 2.0**25):
        x = (rng.standard_normal((4, 64)) * size).astype(np.float32)
        t = torch.from_numpy(x)
        scale = per_tensor_amax_to_scale(t.abs().amax())
        scales, data = nvfp4_quantize(t, 16, scale)
        codes = unpack_uint4(data).flatten().tolist()
        lines.append("tensor " + " ".join(bits(x.flatten())))
        lines.append("scale " + bits(scale.numpy().reshape(1))[0])
        lines.append("blocks " + " ".join(f"{int(s):02x}" for s in scales.view(torch.uint8).flatten()))
        lines.append("codes " + "".join(f"{int(c):x}" for c in codes))
    write("nvfp4.txt", lines)


def block_tables(write, bits):
    microscaling(write, bits)
    nvfp4(write, bits)
