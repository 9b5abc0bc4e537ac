"""Models in low precision."""

from .auto_low import lower, sequential_lower

__all__ = ["lower", "sequential_lower"]
