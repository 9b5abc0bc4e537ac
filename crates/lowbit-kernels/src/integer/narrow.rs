//! Sums brought to bytes.

use lowbit_formats::kernel::isa::dispatch_on;

/// `clamp(round(sum / 2^shift) + zero, least, greatest) - least`, a byte. A sum and half a unit of the
/// output together fit 31 bits.
///
/// Rounding is `(sum + add + (even & (sum >> shift)) - (away & sign)) >> shift`, which has no branch:
///
/// | rounding | `add` | `even` | `away` |
/// |---|---|---|---|
/// | down | 0 | 0 | 0 |
/// | to nearest, half up | `half` | 0 | 0 |
/// | to nearest, half away from zero | `half` | 0 | 1 |
/// | to nearest, half to even | `half - 1` | 1 | 0 |
///
/// with `half = 2^(shift - 1)`, and all of them 0 where the shift is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narrow {
    /// 0 to 30.
    pub shift: u32,
    /// What is added before the shift.
    pub add: i32,
    /// 1 if half goes to the even integer; `away` is 0 then.
    pub even: i32,
    /// 1 if half goes away from zero.
    pub away: i32,
    /// What is added after the shift.
    pub zero: i32,
    /// The least integer, stored as 0.
    pub least: i32,
    /// The greatest integer, by at most 255 above the least.
    pub greatest: i32,
}

impl Narrow {
    /// One sum.
    #[inline(always)]
    pub fn apply(&self, sum: i32) -> u8 {
        let even = self.even & (sum >> self.shift);
        let away = self.away & (sum >> 31);
        let rounded = (sum + self.add + even - away) >> self.shift;
        // `clamp` would be compiled to comparisons and masks.
        let byte = rounded + (self.zero - self.least);
        byte.max(0).min(self.greatest - self.least) as u8
    }

    /// Sums in lines of `line`, of which the first `count` are wanted, to bytes in lines of `count`.
    ///
    /// # Panics
    ///
    /// If there are not as many lines of both.
    pub fn lines(&self, sums: &[i32], line: usize, bytes: &mut [u8], count: usize) {
        let narrow = *self;
        assert_eq!(sums.len() / line, bytes.len() / count);
        if line == count {
            return narrow.slice(sums, bytes);
        }
        for (sums, bytes) in sums.chunks_exact(line).zip(bytes.chunks_exact_mut(count)) {
            narrow.slice(&sums[..count], bytes);
        }
    }

    /// A byte of `a m[0] + b m[1] + m[2]` for each of two slices' bytes. Those sums fit 31 bits, their
    /// terms 32.
    ///
    /// # Panics
    ///
    /// If the slices differ in length.
    pub fn sums_of(&self, a: &[u8], b: &[u8], m: [i32; 3], bytes: &mut [u8]) {
        let narrow = *self;
        assert_eq!([a.len(), b.len()], [bytes.len(); 2]);
        dispatch_on(
            (a, b),
            bytes,
            #[inline(always)]
            move |(a, b): (&[u8], &[u8]), bytes: &mut [u8]| match (narrow.even, m) {
                // Without what the usual case does not need.
                (1, [1, 1, c]) => pairs(narrow.half_even(), a, b, [1, 1, c], bytes),
                (_, [1, 1, c]) => pairs(narrow, a, b, [1, 1, c], bytes),
                _ => pairs(narrow, a, b, m, bytes),
            },
        );
    }

    /// The same, where it is known when this is compiled that half goes to the even integer.
    #[inline(always)]
    fn half_even(self) -> Self {
        Self {
            even: 1,
            away: 0,
            ..self
        }
    }

    fn slice(self, sums: &[i32], bytes: &mut [u8]) {
        dispatch_on(
            sums,
            bytes,
            #[inline(always)]
            move |sums: &[i32], bytes: &mut [u8]| match self.even {
                1 => singles(self.half_even(), sums, bytes),
                _ => singles(self, sums, bytes),
            },
        );
    }
}

#[inline(always)]
fn singles(narrow: Narrow, sums: &[i32], bytes: &mut [u8]) {
    for (byte, &sum) in bytes.iter_mut().zip(sums) {
        *byte = narrow.apply(sum);
    }
}

#[inline(always)]
fn pairs(narrow: Narrow, a: &[u8], b: &[u8], m: [i32; 3], bytes: &mut [u8]) {
    for ((byte, &a), &b) in bytes.iter_mut().zip(a).zip(b) {
        *byte = narrow.apply(i32::from(a) * m[0] + i32::from(b) * m[1] + m[2]);
    }
}
