"""Arrays of libraries that export them by DLPack."""

import ml_dtypes
import numpy as np
import pytest

import lowbit
from conftest import same


class Foreign:
    """An array of a library that has `__dlpack__` and its functions, and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        return Foreign

    @staticmethod
    def from_dlpack(exported):
        return Foreign(np.from_dlpack(exported))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int32, np.uint8])
def test_there_and_back(numbers, kind):
    x = np.nan_to_num(numbers[-960:], posinf=1.0, neginf=-1.0).astype(kind).reshape(4, 240)
    for view in [x, x[:, ::2], x.T, x[0]]:
        found = lowbit.quantize(Foreign(view), "e4m3")
        assert isinstance(found, Foreign) and same(found.array, lowbit.quantize(np.ascontiguousarray(view), "e4m3"))


def test_written_in_place(numbers):
    x = numbers.copy()
    foreign = Foreign(x)
    assert lowbit.quantize(foreign, "e4m3", out=foreign) is foreign
    assert same(x, lowbit.quantize(numbers, "e4m3"))


def test_without_functions_there_is_a_buffer(numbers):
    class Bare:
        def __dlpack__(self, **options):
            return numbers.__dlpack__(**options)

        def __dlpack_device__(self):
            return numbers.__dlpack_device__()

    found = lowbit.quantize(Bare(), "e4m3")
    assert isinstance(found, lowbit.Buffer)
    first, second = np.from_dlpack(found), np.from_dlpack(found)
    assert same(first, lowbit.quantize(numbers, "e4m3"))
    del found
    assert same(second, first)


def test_read_only_arrays_are_not_written(numbers):
    x = numbers.copy()
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        lowbit.quantize(Foreign(x), "e4m3", out=Foreign(x))
    assert same(lowbit.quantize(Foreign(x), "e4m3").array, lowbit.quantize(numbers, "e4m3"))


def test_types_without_rounding_are_refused():
    with pytest.raises(TypeError, match="cannot be rounded, expected float32"):
        lowbit.quantize(Foreign(np.zeros(3, np.complex64)), "e4m3")


def test_bfloat16_of_numpy_stays_itself(numbers):
    x = numbers[-100:].astype(ml_dtypes.bfloat16)
    assert lowbit.quantize(x, "e4m3").dtype == ml_dtypes.bfloat16
