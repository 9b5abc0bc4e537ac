from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any, Protocol, TypeVar, final, overload

import numpy as np
import numpy.typing as npt

class _Exports(Protocol):
    def __dlpack__(self) -> Any: ...

_Array = TypeVar("_Array", bound=_Exports)
_Nested = Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
_Integers = npt.NDArray[np.integer[Any]]
_Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

@final
class Rounding:
    """A rounding mode: "nearest-even", "nearest-away", "nearest-up", "toward-zero", "down", "up", "to-odd" or
    "stochastic", also as "stochastic(seed=1,stream=2,bits=8)"."""

    def __new__(cls, text: str | Rounding) -> Rounding: ...
    @classmethod
    def stochastic(cls, seed: int = 0, stream: int = 0, bits: int = 32) -> Rounding:
        """Up or down at random, so that the expected value is the number itself; 1 to 32 random bits decide."""
    @staticmethod
    def deterministic() -> list[Rounding]:
        """The modes that take no random numbers."""
    @property
    def is_stochastic(self) -> bool: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def stream(self) -> int | None: ...
    def with_randomness(self, seed: int | None = None, stream: int | None = None) -> Rounding:
        """The same mode with another seed or stream; ValueError for a mode without random numbers."""
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Facts:
    """What there is to know about a format."""

    @property
    def bits(self) -> int: ...
    @property
    def min(self) -> float: ...
    @property
    def max(self) -> float: ...
    @property
    def min_normal(self) -> float | None: ...
    @property
    def min_positive(self) -> float | None: ...
    @property
    def epsilon(self) -> float | None: ...
    @property
    def range_decades(self) -> float | None: ...
    @property
    def range_bits(self) -> float | None: ...
    @property
    def values(self) -> int: ...
    @property
    def infinity(self) -> bool: ...
    @property
    def nan(self) -> bool: ...
    @property
    def minus_zero(self) -> bool: ...

@final
class Code:
    """A code and what it stands for."""

    @property
    def code(self) -> int: ...
    @property
    def bits(self) -> str: ...
    @property
    def value(self) -> float: ...

@final
class Rounded:
    """What became of a number."""

    @property
    def input(self) -> float: ...
    @property
    def value(self) -> float: ...
    @property
    def code(self) -> int: ...
    @property
    def bits(self) -> str: ...
    @property
    def error_ulp(self) -> float | None: ...

@final
class Picture:
    """A picture as SVG, which notebooks show."""

    @property
    def svg(self) -> str: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    def _repr_svg_(self) -> str: ...

@final
class Noise:
    """The error of rounded numbers."""

    @property
    def elements(self) -> int: ...
    @property
    def max_error(self) -> float: ...
    @property
    def rms_error(self) -> float: ...
    @property
    def sqnr_db(self) -> float | None: ...
    @property
    def saturated(self) -> int: ...
    @property
    def overflowed(self) -> int: ...

@final
class Fit:
    """How a format does on some numbers."""

    @property
    def sample(self) -> str: ...
    @property
    def plain(self) -> Noise: ...
    @property
    def scaled(self) -> Noise: ...
    @property
    def scale_log2(self) -> int: ...

@final
class Comparison:
    """Formats side by side: a table that prints, and that notebooks show."""

    @property
    def formats(self) -> list[str]: ...
    @property
    def fits(self) -> list[list[Fit]]: ...
    def _repr_html_(self) -> str: ...

@final
class BlockCodes:
    """A tensor in a block format at its true size: packed codes of its elements, and the scales they share."""

    @property
    def format(self) -> str: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def bits(self) -> int: ...
    @property
    def elements(self) -> npt.NDArray[np.uint8]: ...
    @property
    def scales(self) -> dict[str, npt.NDArray[Any] | float]: ...

@final
class Buffer:
    """Numbers in row-major order, which any library with `from_dlpack` takes without a copy."""

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

@final
class Format:
    """A number format: Format("e4m3"), Format("fixed(8,6)"), Format("mxfp4"), Format("posit(8,1)")."""

    def __new__(cls, text: str | Format) -> Format: ...
    @property
    def bits(self) -> int:
        """Bits of a code; of a block format, of an element's."""
    @property
    def min(self) -> float:
        """The smallest number that rounding gives, minus infinity where the format has it."""
    @property
    def max(self) -> float:
        """The largest number that rounding gives, infinity where the format has it."""
    @property
    def is_block(self) -> bool:
        """Whether numbers share scales."""
    @property
    def unbounded(self) -> Format | None:
        """The same fixed-point numbers without a largest and a smallest one; None for other formats."""
    @property
    def facts(self) -> Facts: ...
    @overload
    def quantize(
        self,
        x: float,
        rounding: str | Rounding | None = None,
        *,
        seed: int | None = None,
        stream: int | None = None,
        out: None = None,
    ) -> float: ...
    @overload
    def quantize(
        self,
        x: _Integers,
        rounding: str | Rounding | None = None,
        *,
        seed: int | None = None,
        stream: int | None = None,
        out: None = None,
    ) -> npt.NDArray[np.float32]: ...
    @overload
    def quantize(
        self,
        x: _Array,
        rounding: str | Rounding | None = None,
        *,
        seed: int | None = None,
        stream: int | None = None,
        out: _Array | None = None,
    ) -> _Array: ...
    @overload
    def quantize(
        self,
        x: _Nested,
        rounding: str | Rounding | None = None,
        *,
        seed: int | None = None,
        stream: int | None = None,
        out: None = None,
    ) -> npt.NDArray[np.float64]: ...
    def values(self) -> list[float]:
        """All values in ascending order, infinities included; ValueError for formats of more than 16 bits."""
    def codes(self) -> list[Code]:
        """Every code in ascending order of values, NaN last; none for formats of more than 8 bits."""
    def round(
        self,
        *numbers: float | str,
        rounding: str | Rounding | None = None,
        seed: int | None = None,
        stream: int | None = None,
    ) -> list[Rounded]:
        """What became of numbers, each given as a float or as a decimal text, rounded once."""
    def plot(self) -> Picture: ...
    def _repr_html_(self) -> str: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@overload
def quantize(
    x: float,
    format: str | Format,
    rounding: str | Rounding | None = None,
    *,
    seed: int | None = None,
    stream: int | None = None,
    out: None = None,
) -> float: ...
@overload
def quantize(
    x: _Integers,
    format: str | Format,
    rounding: str | Rounding | None = None,
    *,
    seed: int | None = None,
    stream: int | None = None,
    out: None = None,
) -> npt.NDArray[np.float32]: ...
@overload
def quantize(
    x: _Array,
    format: str | Format,
    rounding: str | Rounding | None = None,
    *,
    seed: int | None = None,
    stream: int | None = None,
    out: _Array | None = None,
) -> _Array: ...
@overload
def quantize(
    x: _Nested,
    format: str | Format,
    rounding: str | Rounding | None = None,
    *,
    seed: int | None = None,
    stream: int | None = None,
    out: None = None,
) -> npt.NDArray[np.float64]:
    """Rounds numbers to a format.

    x: an array of numpy, a tensor of PyTorch, anything with `__dlpack__`, a list, or a number; float32, float64,
    float16, bfloat16 or integers, of any strides.
    format: a `Format` or its text, such as "e4m3", "fixed(8,6)", "mxfp4" or "posit(8,1)".
    rounding: a `Rounding` or its text, "nearest-even" unless given.
    seed, stream: of stochastic rounding; element i, counted in row-major order, takes random word i of them.
    out: where the result goes, an array of x's shape; x itself to round in place.

    Gives an array of x's library, shape and type; of integers float32, of lists float64, of a number a float.
    """

def encode(
    x: _Exports | _Nested | float,
    format: str | Format,
    rounding: str | Rounding | None = None,
    *,
    seed: int | None = None,
    stream: int | None = None,
) -> _Codes | BlockCodes:
    """Rounds numbers to a format and gives the codes of the results: uint8, uint16 or uint32 of x's shape; of a
    block format, `BlockCodes`. float64 and wide integers count as their nearest float32."""

def decode(
    codes: _Exports | Sequence[int] | BlockCodes, format: str | Format | None = None
) -> npt.NDArray[np.float32]:
    """The values of codes, of their shape; `BlockCodes` need no format."""

def pack(codes: _Exports | Sequence[int], bits: int) -> npt.NDArray[np.uint8]:
    """Packs the lowest bits of codes without padding, the lowest bit first."""

def unpack(packed: bytes | npt.NDArray[np.uint8], bits: int, count: int) -> _Codes:
    """The first `count` codes of so many bits of a packed stream."""

def compare(
    formats: str | Format | Iterable[str | Format],
    x: _Exports | Mapping[str, _Exports] | None = None,
    rounding: str | Rounding | None = None,
    *,
    seed: int | None = None,
) -> Comparison:
    """Compares formats: their facts, and the noise of rounding to them, on an array, arrays by name, or, without
    any, on normal, uniform and Laplace numbers of variance 1."""

def plot(formats: str | Format | Iterable[str | Format], limit: float | None = None) -> Picture:
    """Draws a number line of each format's values, and the relative error over magnitude."""

def posit_activation(x: _Exports | _Nested, function: str, bits: int) -> npt.NDArray[np.float32]:
    """"sigmoid", "tanh" or "tanh-enhanced" by the bit trick on posits of 8 or 16 bits without exponent bits (Gustafson
    and Yonemoto, "Beating Floating Point at its Own Game", 2017)."""

def formats() -> list[str]:
    """Texts of formats of every kind."""

def get_num_threads() -> int:
    """How many threads round a large array."""

def set_num_threads(threads: int) -> None:
    """Sets how many threads round a large array, 1 to 1024. Numbers do not depend on it."""

def quantize_at(
    format: Format,
    rounding: Rounding,
    kind: str,
    source: int,
    target: int,
    shape: Sequence[int],
    source_strides: Sequence[int] | None = None,
    target_strides: Sequence[int] | None = None,
) -> None:
    """Rounds numbers at an address to another: for `lowbit.torch`, which answers for the addresses."""
