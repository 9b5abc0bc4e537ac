"""How ESP-DL rounds sums and averages.

    python targets_esp.py ESP32_P4 ESP32_S3 > targets_esp.json

Both arguments are programs that call ESP-DL's own `shift_and_round` and `round` (dl_tool.cpp), one built
with CONFIG_ROUND_HALF_EVEN_ENABLED, as for the ESP32-P4, and one without, as for the ESP32-S3. They
read `0 sum shift`, which is a convolution's sum, and `1 sum exponent exponent area`, which is the sum
of a window, the exponents of input and output, and the window's elements, whose average is a product
of floats, and print the integer of eight bits.

The result has for each shift the sums and both chips' integers; of averages, the same over windows of
8 elements. Of each shift there are all ties whose results have eight bits, and other sums.
"""

import json
import random
import subprocess
import sys

R = random.Random(14)
AREA = 8


def run(lines):
    text = "\n".join(lines)
    found = [subprocess.run([p], input=text, capture_output=True, text=True, check=True).stdout for p in sys.argv[1:]]
    return [[int(v) for v in output.split()] for output in found]


def sums(shift, most):
    unit = 2**shift
    ties = [k * unit + unit // 2 for k in range(-130, 130, 1 if shift < 4 else 5)]
    others = [R.randint(-140 * unit, 140 * unit) for _ in range(30)]
    return [s for s in ties + others if abs(s) <= most]


result = {"shifts": [], "averages": []}
for shift in range(12):
    of_shift = sums(shift, 2**18)
    p4, s3 = run([f"0 {s} {shift}" for s in of_shift])
    result["shifts"].append({"shift": shift, "sums": of_shift, "esp32_p4": p4, "esp32_s3": s3})
for coarser in range(4):
    of_shift = sums(3 + coarser, 127 * AREA)
    p4, s3 = run([f"1 {s} -5 {coarser - 5} {AREA}" for s in of_shift])
    result["averages"].append({"shift": 3 + coarser, "sums": of_shift, "esp32_p4": p4, "esp32_s3": s3})
print(json.dumps(result, separators=(",", ":")))
