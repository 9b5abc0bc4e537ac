"""What the layers of `wageubn` have in common: widths of words, and how strict inputs and outputs are."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .number import alldirectquant, directquant


class Words(nn.Module):
    """A layer whose tensors are rounded: of the tensor `weight`, `weight_dec_bit_width` counts the sign and the bits
    behind the point, `weight_all_bit_width` all.

    iostrict: whether words have an end, and whether inputs and outputs are rounded, too; it can be set at any time.
    """

    iostrict: bool

    def set_widths(self, iostrict: bool, **widths: tuple[int, int]) -> None:
        """Sets the widths of tensors, each "dec" and "all"."""
        self.iostrict = iostrict
        for name, (dec, all) in widths.items():
            setattr(self, f"{name}_dec_bit_width", dec)
            setattr(self, f"{name}_all_bit_width", all)

    @property
    def quant(self) -> Callable[[Tensor, int, int], Tensor]:
        """The function that rounds."""
        return alldirectquant if self.iostrict else directquant

    def quantized(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor by its widths."""
        return self.quant(tensor, getattr(self, f"{name}_dec_bit_width"), getattr(self, f"{name}_all_bit_width"))

    def quantized_bias(self, bias: Tensor | None) -> Tensor | None:
        """The bias by its widths, if there is one."""
        return None if bias is None else self.quantized("bias", bias)

    def strict(self, name: str, tensor: Tensor) -> Tensor:
        """An input or output by its widths, where that is strict."""
        return self.quantized(name, tensor) if self.iostrict else tensor
