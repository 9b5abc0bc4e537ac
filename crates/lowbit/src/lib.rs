//! Low-precision arithmetic and quantization-aware training on Burn.
