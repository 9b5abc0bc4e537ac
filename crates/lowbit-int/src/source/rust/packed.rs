/// Weights of four bits, two a byte, the first in the low bits.
struct Packed(&'static [u8]);

impl<S: From<i8>> Weights<S> for Packed {
    fn at(&self, index: usize) -> S {
        let bits = self.0[index / 2] >> (index % 2 * 4) & 15;
        S::from((bits ^ 8) as i8 - 8)
    }
}
