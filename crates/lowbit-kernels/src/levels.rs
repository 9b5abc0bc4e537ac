//! Rounding to at most sixteen levels.

// Vector instructions of the CPU, called where the CPU has been asked for them.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use crate::vector::Isa;
use crate::vector::{LANES, dispatch, isa};

/// At most sixteen levels that ascend from zero, and where each takes the place of the one below it.
///
/// A number is rounded by looking its level up: the first bound halves the levels, the next halves
/// what is left, and the fourth leaves one. A register holds all bounds that may be next, from which
/// one instruction takes sixteen (AVX-512) or eight (AVX2) at once; in tables of memory this would
/// take longer than comparing with every bound, which is what other instruction sets do.
#[derive(Debug, Clone)]
pub struct Levels {
    count: usize,
    /// The last one again where there are fewer.
    levels: [f32; LANES],
    /// The least number that is rounded to the level after each; infinite after the last.
    bounds: [f32; LANES],
    signed: bool,
}

/// What is done to a number before it is rounded: `(x - mean) factor`.
#[derive(Debug, Clone, Copy)]
pub struct Brought {
    /// What is subtracted.
    pub mean: f32,
    /// What the difference is multiplied by.
    pub factor: f32,
}

impl Levels {
    /// The levels, and the bounds: `bounds[i]` is the least number that is rounded to
    /// `levels[i + 1]`. With a sign, magnitudes are rounded and keep their signs; without one,
    /// numbers below zero are rounded to the first level.
    ///
    /// # Panics
    /// If there is no level, if there are more than sixteen, or if it is not one bound less.
    pub fn new(levels: &[f32], bounds: &[f32], signed: bool) -> Self {
        let count = levels.len();
        assert!((1..=LANES).contains(&count), "{count} levels");
        assert_eq!(bounds.len() + 1, count, "bounds between {count} levels");
        Self {
            count,
            levels: std::array::from_fn(|i| levels[i.min(count - 1)]),
            bounds: std::array::from_fn(|i| bounds.get(i).copied().unwrap_or(f32::INFINITY)),
            signed,
        }
    }

    /// The same bounds with each level times `factor`, which is positive.
    pub fn scaled(&self, factor: f32) -> Self {
        Self {
            levels: self.levels.map(|level| level * factor),
            ..*self
        }
    }

    /// `rounded[i]` is the level of `(x[i] - mean) factor`; NaN is rounded to the first level. On the
    /// calling thread.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn round(&self, brought: Brought, x: &[f32], rounded: &mut [f32]) {
        assert_eq!(x.len(), rounded.len(), "slices differ in length");
        match isa() {
            // SAFETY: what is in use is at most what the CPU was found to have.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if self.signed => unsafe {
                x86::round_512::<true>(self, brought, x, rounded);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::round_512::<false>(self, brought, x, rounded) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 if self.signed => unsafe {
                x86::round_256::<true>(self, brought, x, rounded);
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::round_256::<false>(self, brought, x, rounded) },
            _ => dispatch(
                #[inline(always)]
                || self.compare(brought, x, rounded),
            ),
        }
    }

    /// By comparing with every bound.
    #[inline(always)]
    fn compare(&self, brought: Brought, x: &[f32], rounded: &mut [f32]) {
        let steps = self.levels[1..].iter().zip(&self.bounds);
        for (x, rounded) in x.chunks(LANES).zip(rounded.chunks_mut(LANES)) {
            let mut v = [0.0; LANES];
            for (v, &x) in v.iter_mut().zip(x) {
                *v = (x - brought.mean) * brought.factor;
            }
            let mut made = [self.levels[0]; LANES];
            for (&level, &bound) in steps.clone().take(self.count - 1) {
                for (made, v) in made.iter_mut().zip(v) {
                    let magnitude = if self.signed { v.abs() } else { v };
                    *made = if magnitude >= bound { level } else { *made };
                }
            }
            for ((rounded, made), v) in rounded.iter_mut().zip(made).zip(v) {
                *rounded = if self.signed { made.copysign(v) } else { made };
            }
        }
    }
}

/// With registers as tables.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Brought, LANES, Levels};

    /// # Safety
    /// The CPU has AVX-512F, and the slices are of one length.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn round_512<const SIGNED: bool>(
        levels: &Levels,
        brought: Brought,
        x: &[f32],
        rounded: &mut [f32],
    ) {
        let table = |numbers: &[f32; LANES]| {
            // SAFETY: there are sixteen of them.
            unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
        };
        // Where the bound is that halves what `found`, the index of the least level that is left,
        // leaves: 8, then 4, 2 and 1 above it, the bound of a level being that before it.
        let bound = |above: usize| {
            let bounds: [f32; LANES] =
                std::array::from_fn(|found| levels.bounds[(found + above - 1) % LANES]);
            table(&bounds)
        };
        let (half, bounds) = (
            _mm512_set1_ps(levels.bounds[7]),
            [bound(4), bound(2), bound(1)],
        );
        let above = [4, 2, 1].map(|above| _mm512_set1_epi32(above));
        let values = table(&levels.levels);
        let (mean, factor) = (_mm512_set1_ps(brought.mean), _mm512_set1_ps(brought.factor));
        let sign = _mm512_set1_epi32(if SIGNED { i32::MIN } else { 0 });
        let level = |x: __m512| {
            let v = _mm512_castps_si512(_mm512_mul_ps(_mm512_sub_ps(x, mean), factor));
            let signs = _mm512_and_si512(v, sign);
            let magnitude = _mm512_castsi512_ps(_mm512_andnot_si512(sign, v));
            let at_least = |bound| _mm512_cmp_ps_mask::<_CMP_GE_OQ>(magnitude, bound);
            let mut found = _mm512_maskz_set1_epi32(at_least(half), 8);
            for (bounds, above) in bounds.into_iter().zip(above) {
                let bound = _mm512_permutexvar_ps(found, bounds);
                found = _mm512_mask_or_epi32(found, at_least(bound), found, above);
            }
            let value = _mm512_castps_si512(_mm512_permutexvar_ps(found, values));
            _mm512_castsi512_ps(_mm512_or_si512(value, signs))
        };
        let (blocks, x_rest) = x.as_chunks::<LANES>();
        let (to, rest) = rounded.as_chunks_mut::<LANES>();
        for (x, to) in blocks.iter().zip(to) {
            // SAFETY: both have sixteen numbers.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), level(_mm512_loadu_ps(x.as_ptr()))) };
        }
        let first: __mmask16 = (1 << x_rest.len()) - 1;
        // SAFETY: only the numbers that are there are read and written.
        unsafe {
            let x = _mm512_maskz_loadu_ps(first, x_rest.as_ptr());
            _mm512_mask_storeu_ps(rest.as_mut_ptr(), first, level(x));
        }
    }

    /// # Safety
    /// The CPU has AVX2, and the slices are of one length.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn round_256<const SIGNED: bool>(
        levels: &Levels,
        brought: Brought,
        x: &[f32],
        rounded: &mut [f32],
    ) {
        // A comparison gives -1 where it holds. What is found is counted with these, below zero, so
        // that place 0 of a table is for 0, place 7 for 1, place 6 for 2.
        let table = |number: &dyn Fn(usize) -> f32| {
            let numbers: [f32; 8] = std::array::from_fn(|place| number((8 - place) % 8));
            // SAFETY: there are eight of them.
            unsafe { _mm256_loadu_ps(numbers.as_ptr()) }
        };
        let bound = |i: usize| _mm256_set1_ps(levels.bounds[i]);
        let (half, quarters) = (bound(7), [bound(3), bound(11)]);
        let eighths = table(&|found| levels.bounds[(4 * found + 1) % LANES]);
        let sixteenths = table(&|found| levels.bounds[2 * found]);
        let values = [0, 8].map(|first| table(&|found| levels.levels[first + found]));
        let (mean, factor) = (_mm256_set1_ps(brought.mean), _mm256_set1_ps(brought.factor));
        let sign = _mm256_set1_epi32(if SIGNED { i32::MIN } else { 0 });
        let sign = _mm256_castsi256_ps(sign);
        let level = |x: __m256| {
            let v = _mm256_mul_ps(_mm256_sub_ps(x, mean), factor);
            let magnitude = _mm256_andnot_ps(sign, v);
            let at_least = |bound| _mm256_cmp_ps::<_CMP_GE_OQ>(magnitude, bound);
            let and_then = |found, next| {
                let twice = _mm256_add_epi32(found, found);
                _mm256_add_epi32(twice, _mm256_castps_si256(next))
            };
            let upper = at_least(half);
            let quarter = at_least(_mm256_blendv_ps(quarters[0], quarters[1], upper));
            let mut found = and_then(_mm256_castps_si256(upper), quarter);
            for bounds in [eighths, sixteenths] {
                found = and_then(found, at_least(_mm256_permutevar8x32_ps(bounds, found)));
            }
            let [low, high] = values.map(|values| _mm256_permutevar8x32_ps(values, found));
            let value = _mm256_blendv_ps(low, high, upper);
            _mm256_or_ps(value, _mm256_and_ps(sign, v))
        };
        let (blocks, x_rest) = x.as_chunks::<8>();
        let (to, rest) = rounded.as_chunks_mut::<8>();
        for (x, to) in blocks.iter().zip(to) {
            // SAFETY: both have eight numbers.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), level(_mm256_loadu_ps(x.as_ptr()))) };
        }
        let mut last = [0.0; 8];
        last[..x_rest.len()].copy_from_slice(x_rest);
        // SAFETY: it has eight numbers.
        unsafe { _mm256_storeu_ps(last.as_mut_ptr(), level(_mm256_loadu_ps(last.as_ptr()))) };
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::{Isa, use_at_most};

    /// Numbers on, just below and between bounds, and what is none, against the level after each bound
    /// that they reach; every count of levels, every instruction set, every length of a rest.
    #[test]
    fn every_instruction_set_finds_the_level() {
        let before = isa();
        for count in 1..=LANES {
            let all: Vec<f32> = (0..count).map(|i| (i * i) as f32 / 64.0).collect();
            let middles: Vec<f32> = all.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
            let mut x: Vec<f32> = middles
                .iter()
                .flat_map(|&b| [b, b.next_down(), b.next_up(), -b, -b.next_down()])
                .collect();
            x.extend([
                0.0,
                -0.0,
                9.0,
                -9.0,
                f32::INFINITY,
                f32::NEG_INFINITY,
                1e-30,
            ]);
            x.extend([f32::NAN, -f32::NAN]);
            let expected = |x: f32, signed: bool| {
                let magnitude = if signed { x.abs() } else { x };
                let level = all[middles.iter().filter(|&&b| magnitude >= b).count()];
                if signed { level.copysign(x) } else { level }
            };
            for (signed, &set) in [false, true]
                .iter()
                .flat_map(|s| Isa::ALL.iter().map(move |i| (*s, i)))
            {
                use_at_most(set);
                let levels = Levels::new(&all, &middles, signed);
                let same = Brought {
                    mean: 0.0,
                    factor: 1.0,
                };
                for length in 0..=x.len() {
                    let mut rounded = vec![7.0; length];
                    levels.round(same, &x[..length], &mut rounded);
                    for (&x, made) in x.iter().zip(rounded) {
                        let expected = expected(x, signed);
                        assert_eq!(made.to_bits(), expected.to_bits(), "{set:?} {count} {x}");
                    }
                }
            }
        }
        use_at_most(before);
    }

    /// Levels 0, 1 and 4 with bounds 0.5 and 2.5, of (x - 1) 2, times 3: 1.2 is 0.4, 2 is 2, 2.5 is 3.
    #[test]
    fn numbers_are_brought_and_levels_scaled() {
        let levels = Levels::new(&[0.0, 1.0, 4.0], &[0.5, 2.5], true).scaled(3.0);
        let brought = Brought {
            mean: 1.0,
            factor: 2.0,
        };
        let mut rounded = [0.0; 4];
        levels.round(brought, &[1.2, 2.0, 2.5, 0.0], &mut rounded);
        assert_eq!(rounded, [0.0, 3.0, 12.0, -3.0]);
    }
}
