"""Convolutions, products and pools of integers by PyTorch, in float64, which holds them exactly.

    python operators.py > operators.jsonl

A line each: the operator, its input, weight and bias, its options as PyTorch names them, and the
output. Averages are multiplied with the number of elements that `scale` names before they are
written, so that they are integers.
"""

import json

import torch
import torch.nn.functional as F

torch.manual_seed(14)


def integers(*shape, low=-8, high=8):
    return torch.randint(low, high, shape).double()


def line(op, x, y, **more):
    def plain(v):
        if not isinstance(v, torch.Tensor):
            return v
        assert (v == v.round()).all()
        return {"shape": list(v.shape), "values": [int(k) for k in v.flatten().tolist()]}

    fields = {"op": op, "input": x[0], "output": y[0], **more}
    print(json.dumps({k: plain(v) for k, v in fields.items()}))


for channels, out, size, kernel, stride, padding, dilation, groups in [
    (3, 4, (5, 6), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    (4, 6, (7, 5), (3, 2), (2, 1), (1, 0), (1, 2), 2),
    (4, 4, (6, 6), (3, 3), (1, 2), (2, 1), (2, 1), 4),
    (3, 6, (4, 4), (1, 1), (2, 2), (0, 0), (1, 1), 3),
    (2, 5, (9,), (4,), (2,), (3,), (2,), 1),
    (6, 6, (8,), (3,), (1,), (1,), (1,), 6),
]:
    x, w, b = integers(1, channels, *size), integers(out, channels // groups, *kernel), integers(out)
    f = F.conv2d if len(size) == 2 else F.conv1d
    y = f(x, w, b, stride, padding, dilation, groups)
    line("conv", x, y, weight=w, bias=b, stride=stride, padding=padding, dilation=dilation, groups=groups)

for channels, out, size, kernel, stride, padding, extra, dilation, groups in [
    (3, 4, (4, 3), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1),
    (4, 6, (3, 4), (2, 3), (1, 3), (0, 2), (0, 2), (1, 1), 2),
    (2, 2, (3, 3), (3, 3), (2, 1), (0, 0), (0, 1), (1, 2), 2),
    (2, 3, (5,), (4,), (3,), (1,), (0,), (1,), 1),
]:
    x, w, b = integers(1, channels, *size), integers(channels, out // groups, *kernel), integers(out)
    f = F.conv_transpose2d if len(size) == 2 else F.conv_transpose1d
    y = f(x, w, b, stride, padding, extra, groups, dilation)
    line(
        "conv_transpose", x, y, weight=w, bias=b, stride=stride, padding=padding, dilation=dilation,
        groups=groups, output_padding=extra,
    )

x, w, b = integers(1, 7), integers(5, 7), integers(5)
line("linear", x, F.linear(x, w, b), weight=w, bias=b)
x = integers(1, 3, 7)
line("linear", x, F.linear(x, w, b), weight=w, bias=b)

x = integers(1, 2, 7, 6)
for kernel, stride, padding, dilation in [((3, 2), (2, 1), (1, 1), (1, 1)), ((2, 3), (1, 2), (0, 1), (2, 1))]:
    y = F.max_pool2d(x, kernel, stride, padding, dilation)
    line("max_pool", x, y, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
for kernel, stride, padding, include, scale in [
    ((3, 2), (2, 1), (1, 1), True, 6),
    ((3, 2), (2, 1), (1, 1), False, 12),
]:
    y = F.avg_pool2d(x, kernel, stride, padding, count_include_pad=include)
    y = (y * scale).round()
    line("avg_pool", x, y, kernel=kernel, stride=stride, padding=padding, include=include, scale=scale)
# Seven in three windows are 3 elements each, six in four windows 2.
for output, scale in [((1, 1), 42), ((3, 4), 6)]:
    y = (F.adaptive_avg_pool2d(x, output) * scale).round()
    line("adaptive_avg_pool", x, y, size=output, scale=scale)
    line("adaptive_max_pool", x, F.adaptive_max_pool2d(x, output), size=output)

x, w = torch.tensor([[3, 0, 2, 3]]), integers(4, 3)
line("embedding", x, F.embedding(x, w), weight=w)
