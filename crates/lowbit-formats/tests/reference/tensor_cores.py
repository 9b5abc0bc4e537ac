"""Writes tensor_cores.txt: matrix products by microsoft/MMA-Sim (MIT), the reference model of tensor
cores and matrix cores of arXiv 2511.10909.

    git clone https://github.com/microsoft/MMA-Sim && git -C MMA-Sim checkout c785138
    pip install torch==2.15.0 && PYTHONPATH=MMA-Sim python tensor_cores.py > tensor_cores.txt

A line is: profile, format of the left matrix, format of the right one, products of a sum, products of a
chunk (0: no chunks), rows of the left matrix, columns of the right one, each as codes in hexadecimal
without spaces, and the results row by row as bits of f32. Vectors are joined by commas.
"""

import random

import torch
from mmasim.simulator.amd import mfma
from mmasim.simulator.nv_ptx import mma, tcgen05mma, wgmma

ROWS, COLUMNS = 9, 6

# Torch's type, mantissa bits, exponent bits, bits of a code; tf32 is held by f32.
FORMATS = {
    "fp16": (torch.float16, 10, 5, 16),
    "bf16": (torch.bfloat16, 7, 8, 16),
    "tf32": (torch.float32, 23, 8, 32),
    "e4m3": (torch.float8_e4m3fn, 3, 4, 8),
    "e5m2": (torch.float8_e5m2, 2, 5, 8),
    "e4m3fnuz": (torch.float8_e4m3fnuz, 3, 4, 8),
    "e5m2fnuz": (torch.float8_e5m2fnuz, 2, 5, 8),
}
INTEGERS = {8: torch.uint8, 16: torch.int16, 32: torch.int32}
NAMES = {"fp16": "f16", "bf16": "bf16", "tf32": "tf32", "e4m3": "e4m3", "e5m2": "e5m2"}
AMD = {"e4m3fnuz": "fp8", "e5m2fnuz": "bf8"}


def instructions():
    """Profile, formats, instruction."""
    f32 = lambda shape, a, b: f"{shape}.f32.{NAMES[a]}.{NAMES[b]}.f32"
    yield "volta-fp16", "fp16", "fp16", mma("Volta", f32("m8n8k4", "fp16", "fp16"))
    yield "turing-fp16", "fp16", "fp16", mma("Turing", f32("m16n8k8", "fp16", "fp16"))
    for chip, arch in [("ampere", "Ampere"), ("ada", "Ada Lovelace"), ("hopper", "Hopper"), ("blackwell", "Blackwell")]:
        for a, k in [("fp16", 16), ("bf16", 16), ("tf32", 8)]:
            yield f"{chip}-{a}", a, a, mma(arch, f32(f"m16n8k{k}", a, a))
    for a in ["e4m3", "e5m2"]:
        for b in ["e4m3", "e5m2"]:
            yield "ada-fp8", a, b, mma("Ada Lovelace", f32("m16n8k32", a, b))
            yield "hopper-fp8", a, b, wgmma("Hopper", f"m64n8k32.f32.{a}.{b}")
            yield "blackwell-fp8", a, b, tcgen05mma("Blackwell", f"m64n8k32.f32.{a}.{b}")
    yield "cdna3-fp16", "fp16", "fp16", mfma("CDNA3", "f32_16x16x16_f16")
    yield "cdna3-bf16", "bf16", "bf16", mfma("CDNA3", "f32_16x16x16_bf16")
    yield "cdna3-tf32", "tf32", "tf32", mfma("CDNA3", "f32_16x16x8_xf32")
    for a in ["e4m3fnuz", "e5m2fnuz"]:
        for b in ["e4m3fnuz", "e5m2fnuz"]:
            yield "cdna3-fp8", a, b, mfma("CDNA3", f"f32_16x16x32_{AMD[a]}_{AMD[b]}")


def of_codes(codes, name):
    dtype, _, _, bits = FORMATS[name]
    wrapped = [c - (1 << bits) if bits > 8 and c >> (bits - 1) else c for c in codes]
    return torch.tensor(wrapped, dtype=INTEGERS[bits]).view(dtype)


def draw(name, kind, count):
    """Codes of a vector of a kind."""
    _, mantissa, exponents, bits = FORMATS[name]
    middle, top = 1 << (exponents - 1), (1 << exponents) - 2
    def code(low, high):
        exponent = random.randint(max(low, 0), min(high, top))
        return random.randint(0, 1) << (bits - 1) | exponent << mantissa | random.getrandbits(mantissa)
    spread = min(12, middle - 2)
    codes = [code(middle - spread, middle + spread) for _ in range(count)]
    if kind == "near":
        codes = [code(middle - 1, middle + 1) for _ in range(count)]
    elif kind == "subnormal":
        codes = [code(0, 1 if random.random() < 0.2 else 0) for _ in range(count)]
    elif kind == "cancel":
        for i in range(1, count, 2):
            codes[i] = codes[i - 1] ^ 1 << (bits - 1)
    elif kind == "pairs":
        for i in range(1, count, 2):
            codes[i] = codes[i - 1]
    elif kind == "sparse":
        zero = lambda: 0 if "fnuz" in name else random.randint(0, 1) << (bits - 1)
        codes = [c if random.random() < 0.15 else zero() for c in codes]
    elif kind == "all":
        codes = [code(0, top) for _ in range(count)]
    elif kind == "large":
        codes = [code(top - 2, top) for _ in range(count)]
    elif kind == "special":
        places = random.sample(range(count), random.randint(1, 2))
        for i in places:
            exponent = (1 << exponents) - 1
            codes[i] = random.randint(0, 1) << (bits - 1) | exponent << mantissa
            if name == "e4m3":
                codes[i] |= 7 if random.random() < 0.5 else 0
            elif "fnuz" in name:
                codes[i] = 0x80
    return codes


LEFT = ["mixed", "mixed", "near", "subnormal", "cancel", "sparse", "all", "large", "special"]
RIGHT = ["mixed", "near", "subnormal", "pairs", "sparse", "all"]


def multiply(instruction, left, right, products, chunk):
    k = instruction.k
    accumulate = lambda first, last: run(instruction, left, right, first, last, k)
    if not chunk:
        return accumulate(0, products)
    total = torch.zeros(ROWS, COLUMNS)
    for first in range(0, products, chunk):
        total = total + accumulate(first, min(products, first + chunk))
    return total


def run(instruction, left, right, first, last, k):
    sums = torch.zeros(ROWS, COLUMNS)
    for at in range(first, last, k):
        end = min(last, at + k)
        a = torch.zeros(ROWS, k).to(left.dtype)
        b = torch.zeros(COLUMNS, k).to(right.dtype)
        a[:, : end - at] = left[:, at:end]
        b[:, : end - at] = right[:, at:end]
        sums = instruction(a, b.T, sums)
    return sums


def main():
    random.seed(1)
    for profile, a, b, instruction in instructions():
        # The arithmetic of an element does not depend on how many there are.
        instruction.m, instruction.n = ROWS, COLUMNS
        k = instruction.k
        cases = [(2 * k, 0), (2 * k + 3, 0), (k // 2 + 1, 0)]
        if profile == "hopper-fp8":
            cases.append((4 * k, 2 * k))
        for products, chunk in cases:
            left = [draw(a, kind, products) for kind in LEFT]
            right = [draw(b, kind, products) for kind in RIGHT]
            stack = lambda rows, name: torch.stack([of_codes(row, name) for row in rows])
            sums = multiply(instruction, stack(left, a), stack(right, b), products, chunk)
            codes = lambda rows, name: ",".join(
                "".join(f"{c:0{FORMATS[name][3] // 4}x}" for c in row) for row in rows
            )
            bits = [f"{x & 0xFFFFFFFF:08x}" for x in sums.contiguous().view(torch.int32).flatten().tolist()]
            print(profile, a, b, products, chunk, codes(left, a), codes(right, b), ",".join(bits))


main()
