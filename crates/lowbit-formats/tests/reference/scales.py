"""Reference tables of formats with a float scale per block, and of how others store them.

- `bitsandbytes.txt`: NF4 and FP4 with a scale per block, plain and with scales quantized in their
  turn, and the 8-bit dynamic map. bitsandbytes really runs, on the CPU. Its CPU code takes two
  shortcuts that its GPU code does not: it finds an 8-bit code in a table of 65,536 entries, and parts
  the values of FP4 at their middles and not at the thresholds in its CUDA kernel. Those two rules
  are written down here from the constants in csrc/kernels.cu (`dQuantize`, `dQuantizeFP4`), and
  compared with the library wherever a number is not beside a threshold.
- `scaled.txt`: float8 with a scale per tensor, channel, run or tile from torchao, which really runs;
  DeepSeek's kernel for activations is Triton, for a GPU, and its three lines are written down here
  (inference/kernel.py, `act_quant_kernel`).
- `bitsandbytes.safetensors`, `torchao.safetensors`: files that the libraries write.
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 20230523  # the day of QLoRA
f32 = np.float32


def hexes(values):
    return "".join(f"{int(v):02x}" for v in np.asarray(values).reshape(-1))


def reciprocal(blocks):
    """x * (1 / absmax), both rounded to float32, as every backend of bitsandbytes but for its
    partial last block on a CPU."""
    absmax = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore"):
        inverse = np.where(absmax == 0, f32(0), f32(1) / absmax).astype(f32)
    return (blocks * inverse[:, None]).astype(f32), absmax


# csrc/kernels.cu, dQuantizeFP4: thresholds of magnitudes, and the code above each.
FP4 = [(0.00260417, 0b001), (0.0859375, 0b110), (0.20833333, 0b111), (0.29166667, 0b100),
       (0.4166667, 0b101), (0.583333, 0b010), (0.8333333, 0b011)]


def fp4_code(x):
    magnitude = 0
    for threshold, code in FP4:
        if abs(x) > f32(threshold):
            magnitude = code
    return magnitude | (8 if x < 0 else 0)


def dynamic_code(table, x):
    """csrc/kernels.cu, dQuantize<0>, as it searches."""
    pivot, upper_pivot, lower_pivot = 127, 255, 0
    lower, upper = f32(-1), f32(1)
    value = table[pivot]
    step = 64
    while step > 0:
        if x > value:
            lower_pivot, lower = pivot, value
            pivot += step
        else:
            upper_pivot, upper = pivot, value
            pivot -= step
        value = table[pivot]
        step >>= 1
    if upper_pivot == 255:
        upper = table[255]
    if lower_pivot == 0:
        lower = table[0]
    if x > value:
        return upper_pivot if x > f32(f32(upper + value) * f32(0.5)) else pivot
    return lower_pivot if x < f32(f32(lower + value) * f32(0.5)) else pivot


def around(points):
    """Each point and its neighbours, within -1 and 1."""
    points = np.asarray(points, f32)
    near = [np.nextafter(points, f32(-2)), points, np.nextafter(points, f32(2))]
    near = np.stack(near, 1).reshape(-1).astype(f32)
    return near[np.abs(near) <= 1]


def filled(numbers, size):
    """Blocks of a size whose largest magnitude is one, so that quotients are the numbers."""
    step = size - 1
    count = -(-len(numbers) // step)
    blocks = np.zeros((count, size), f32)
    blocks[:, 0] = 1
    numbers = np.concatenate([numbers, np.zeros(count * step - len(numbers), f32)])
    blocks[:, 1:] = numbers.reshape(count, step)
    return blocks


def nibbles(packed):
    packed = packed.reshape(-1).numpy()
    return np.stack([packed >> 4, packed & 15], 1).reshape(-1)


def four_bits(lines, bits):
    import torch
    from bitsandbytes import functional as F

    rng = np.random.default_rng(SEED)
    spread = rng.standard_normal((4, 128)) * 2.0 ** rng.integers(-30, 30, (4, 1))
    spread = spread.astype(f32)
    spread[3, 64:] = 0
    lines.append(f"input {' '.join(bits(spread.reshape(-1)))}")
    for name in ("nf4", "fp4"):
        code = F.get_4bit_type(name, device="cpu").numpy()
        for size in (64, 128):
            packed, state = F.quantize_4bit(torch.from_numpy(spread), blocksize=size, quant_type=name)
            codes = nibbles(packed)
            quotients, absmax = reciprocal(spread.reshape(-1, size))
            assert (absmax == state.absmax.numpy()).all()
            if name == "fp4":
                rule = np.array([fp4_code(x) for x in quotients.reshape(-1)])
                assert (code[rule] == code[codes]).all()
                # Zero and minus zero are one value; the library's sort of codes picks either.
                codes = rule
            back = F.dequantize_4bit(packed, state).numpy()
            assert (back.reshape(-1) == code[codes] * np.repeat(absmax, size)).all()
            lines.append(f"{name} {size} {' '.join(bits(absmax))} {hexes(codes[::2] << 4 | codes[1::2])}")
            lines.append(f"output {' '.join(bits(back.reshape(-1)))}")
    for name in ("nf4", "fp4"):
        # Beside every threshold, at a scale of one.
        code = F.get_4bit_type(name, device="cpu").numpy()
        middles = np.sort((np.sort(code)[:-1] + np.sort(code)[1:]) / f32(2))
        thresholds = middles if name == "nf4" else np.array([t for t, _ in FP4] + [-t for t, _ in FP4])
        edges = filled(around(thresholds), 64)
        packed, state = F.quantize_4bit(torch.from_numpy(edges), blocksize=64, quant_type=name)
        codes = nibbles(packed)
        if name == "fp4":
            codes = np.array([fp4_code(x) for x in edges.reshape(-1)])
        lines.append(f"input {' '.join(bits(edges.reshape(-1)))}")
        lines.append(f"{name} 64 {' '.join(bits(np.ones(len(edges))))} {hexes(codes[::2] << 4 | codes[1::2])}")


def dynamic(lines, bits):
    import torch
    from bitsandbytes import functional as F

    table = F.create_dynamic_map().numpy()
    lines.append(f"map {' '.join(bits(table))}")
    rng = np.random.default_rng(SEED + 1)
    random = (rng.standard_normal((2, 256)) * 10.0 ** np.array([[-6], [4]])).astype(f32)
    middles = (table[:-1] + table[1:]) * f32(0.5)
    for blocks in (random, filled(around(np.concatenate([middles[::7], table[::9]])), 256)):
        quotients, absmax = reciprocal(blocks)
        codes = np.array([dynamic_code(table, x) for x in quotients.reshape(-1)])
        theirs, state = F.quantize_blockwise(torch.from_numpy(blocks), blocksize=256)
        assert (state.absmax.numpy() == absmax).all()
        # The CPU's table has an entry each 2/65535.
        theirs = theirs.reshape(-1).numpy()
        error = np.abs(table[theirs] - quotients.reshape(-1))
        assert (error <= np.abs(table[codes] - quotients.reshape(-1)) + 4 / 65535).all()
        # The library's backend for other devices compares with each middle, and gives a number at
        # one to the lower value.
        plain, _ = torch.ops.bitsandbytes.quantize_blockwise.default.redispatch(
            torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd),
            torch.from_numpy(blocks), torch.from_numpy(table), 256)
        plain = plain.reshape(-1).numpy()
        at_middle = np.isin(quotients.reshape(-1), middles)
        assert ((plain == codes) | at_middle).all()
        print("8-bit codes:", len(codes), "at a middle:", at_middle.sum(), "that another",
              "backend gives:", (plain != codes).sum(), "that the CPU's table misses:",
              (theirs != codes).sum())
        lines.append(f"input {' '.join(bits(blocks.reshape(-1)))}")
        lines.append(f"dynamic 256 {' '.join(bits(absmax))} {hexes(codes)}")


def double(lines, bits):
    """Scales that are quantized in their turn. Their largest magnitudes are multiples of 1/64, so
    that the mean is the same in whatever order and precision they are summed."""
    import torch
    from bitsandbytes import functional as F

    table = F.create_dynamic_map().numpy()
    rng = np.random.default_rng(SEED + 2)
    count = 320  # two groups of scales, of which one is partial
    scales = (rng.integers(1, 512, count) / 64).astype(f32)
    blocks = np.zeros((count, 32), f32)
    blocks[:, 0] = scales
    blocks[:, 1:4] = (scales[:, None] * rng.uniform(-1, 1, (count, 3))).astype(f32)
    x = torch.from_numpy(blocks)
    packed, state = F.quantize_4bit(x, blocksize=32, quant_type="nf4", compress_statistics=True)
    plain = F.quantize_4bit(x, blocksize=32, quant_type="nf4")[1].absmax
    assert (plain.numpy() == scales).all()
    mean = scales.astype(np.float64).mean()
    assert f32(mean) == state.offset.numpy()
    rests = scales - f32(mean)
    groups = [rests[:256], rests[256:]]
    codes, largest = [], []
    for group in groups:
        quotients, absmax = reciprocal(group[None])
        codes += [dynamic_code(table, q) for q in quotients[0]]
        largest.append(absmax[0])
    assert (np.array(largest, f32) == state.state2.absmax.numpy()).all()
    theirs = state.absmax.numpy().astype(int)
    print("scales' codes that the CPU's table misses:", (theirs != codes).sum(), "of", count)
    # What the library makes of these codes.
    state.absmax = torch.tensor(codes, dtype=torch.uint8)
    back = F.dequantize_4bit(packed, state).numpy()
    lines.append(f"sparse {' '.join(bits(blocks[:, :4].reshape(-1)))}")
    lines.append(f"double {bits([mean])[0]} {' '.join(bits(largest))} {hexes(codes)}")
    lines.append(f"output {' '.join(bits(back[:, :4].reshape(-1)))}")


def torchao_float8(lines, bits):
    import torch
    from torchao.prototype.blockwise_fp8_training import kernels as training
    from torchao.quantization import quant_primitives as q

    rng = np.random.default_rng(SEED + 3)
    x = (rng.standard_normal((12, 32)) * 2.0 ** rng.integers(-12, 12, (12, 1))).astype(f32)
    x[5, 8:16] = 0
    t = torch.from_numpy(x)
    lines.append(f"input 12 32 {' '.join(bits(x.reshape(-1)))}")
    for name, dtype in (("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2)):
        for text, block in (("", (12, 32)), (",dim=0", (1, 32)), (",dim=1", (12, 1)),
                            (",block=8", (1, 8)), (",block=4x16", (4, 16)), (",block=4,dim=0", (4, 1))):
            # Without a lower bound a block of zeros would become NaN.
            scale = q._choose_scale_float8(t, list(block), dtype, hp_value_lb=1e-12)
            data = q._quantize_affine_float8(t, scale, dtype)
            back = q._dequantize_affine_float8(data, scale)
            codes = data.view(torch.uint8).numpy()
            lines.append(f"scaled({name}{text},eps=1e-12) {' '.join(bits(scale.numpy().reshape(-1)))} {hexes(codes)}")
            lines.append(f"output {' '.join(bits(back.numpy().reshape(-1)))}")
    # torchao's reference of its training kernels: the codes, by a product.
    data, _ = training.torch_blockwise_scale_act_quant_lhs(t, 8)
    lines.append(f"codes scaled(e4m3,block=8,eps=1e-12,reciprocal) {hexes(data.view(torch.uint8).numpy())}")
    square = t[:, :24].contiguous()
    data, _ = training.torch_blockwise_scale_weight_quant(square, 4)
    lines.append(f"input 12 24 {' '.join(bits(square.numpy().reshape(-1)))}")
    lines.append(f"codes scaled(e4m3,block=4x4,eps=1e-12,reciprocal) {hexes(data.view(torch.uint8).numpy())}")


def deepseek(lines, bits):
    """amax = max(|x|, 1e-4); s = amax / 448; y = e4m3(x / s)."""
    import torch

    rng = np.random.default_rng(SEED + 4)
    x = (rng.standard_normal((4, 128)) * f32(10.0) ** np.array([[0], [-3], [-5], [3]])).astype(f32)
    amax = np.maximum(np.abs(x).max(axis=1), f32(1e-4))
    scale = (amax / f32(448)).astype(f32)
    codes = torch.from_numpy((x / scale[:, None]).astype(f32)).to(torch.float8_e4m3fn)
    codes = codes.view(torch.uint8).numpy()
    lines.append(f"input 4 128 {' '.join(bits(x.reshape(-1)))}")
    lines.append(f"scaled(e4m3,block=128,eps=0.0001) {' '.join(bits(scale))} {hexes(codes)}")


def large_tiles(lines, bits):
    """Tiles of 128 by 128 of a weight that needs no table: multiples of 2^-20 from a multiplicative
    hash of the index; of the codes, their FNV-1a hash."""
    import torch
    from torchao.quantization import quant_primitives as q

    index = np.arange(256 * 384, dtype=np.uint64)
    word = (index * np.uint64(2654435761)) % np.uint64(1 << 32)
    x = ((word >> np.uint64(8)).astype(np.int64) - (1 << 23)).astype(f32) * f32(2.0**-20)
    t = torch.from_numpy(x.reshape(256, 384))
    scale = q._choose_scale_float8(t, [128, 128], torch.float8_e4m3fn)
    data = q._quantize_affine_float8(t, scale, torch.float8_e4m3fn).view(torch.uint8).numpy()
    hash = 0xCBF29CE484222325
    for byte in data.reshape(-1):
        hash = (hash ^ int(byte)) * 0x100000001B3 % (1 << 64)
    lines.append(f"hashed scaled(e4m3,block=128x128) {' '.join(bits(scale.numpy().reshape(-1)))} {hash:x}")


def files():
    """What the libraries write, with the tensor that it is made of."""
    import torch
    from bitsandbytes import functional as F
    from safetensors.torch import save_file
    from torchao.prototype.mx_formats.config import ScaleCalculationMode
    from torchao.prototype.mx_formats.mx_tensor import to_mx
    from torchao.quantization import quant_primitives as q

    rng = np.random.default_rng(SEED + 5)
    # Multiples of 1/64, so that the mean of largest magnitudes is exact.
    x = torch.from_numpy((rng.integers(-512, 512, (4, 128)) / 64).astype(f32))
    tensors = {"x": x}
    for name in ("nf4", "fp4"):
        for nested in (False, True):
            packed, state = F.quantize_4bit(x, blocksize=64, quant_type=name, compress_statistics=nested)
            prefix = f"{name}{'.double' if nested else ''}"
            tensors[prefix] = packed
            for key, value in state.as_dict(packed=True).items():
                tensors[f"{prefix}.{key}"] = value.clone()
            print(prefix, json.loads(bytes(value.tolist())))
    save_file(tensors, HERE / "bitsandbytes.safetensors")

    tensors = {"x": x}
    for name, dtype in (("e4m3", torch.float8_e4m3fn), ("e5m2", torch.float8_e5m2),
                        ("e2m1", torch.float4_e2m1fn_x2)):
        scale, data = to_mx(x, dtype, 32, ScaleCalculationMode.FLOOR)
        tensors[f"mx.{name}"] = data.view(dtype)
        tensors[f"mx.{name}_scale"] = scale.view(torch.float8_e8m0fnu)
    for name, block in (("tile", [2, 64]), ("row", [1, 128]), ("tensor", [4, 128])):
        scale = q._choose_scale_float8(x, block, torch.float8_e4m3fn)
        tensors[f"e4m3.{name}"] = q._quantize_affine_float8(x, scale, torch.float8_e4m3fn)
        tensors[f"e4m3.{name}_scale"] = scale.contiguous()
    save_file(tensors, HERE / "torchao.safetensors")


def scale_tables(write, bits):
    lines = ["# bitsandbytes 0.50.2, torch 2.15.0",
             "# input: float32 bits; FORMAT SIZE: largest magnitudes, packed codes; output: float32 bits",
             "# sparse: the first four of each 32, the rest zeros; double: mean, groups' scales, codes"]
    four_bits(lines, bits)
    dynamic(lines, bits)
    double(lines, bits)
    write("bitsandbytes.txt", lines)
    lines = ["# torch 2.15.0, torchao 0.18.0",
             "# input ROWS COLUMNS: float32 bits; FORMAT: scales, codes; output: float32 bits"]
    torchao_float8(lines, bits)
    deepseek(lines, bits)
    large_tiles(lines, bits)
    write("scaled.txt", lines)
    files()
