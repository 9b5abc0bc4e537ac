"""Comparing a network with a quantized one."""

from .cos import cosine_similarity
from .kl import kl_similarity

__all__ = ["cosine_similarity", "kl_similarity"]
