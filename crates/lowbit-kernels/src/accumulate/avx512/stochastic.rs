//! Sums rounded at random with AVX-512: eight lanes of an f64, and as many of a random word.

use std::arch::x86_64::{
    __m512d, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEG_INF, _MM_FROUND_TO_POS_INF,
    _MM_FROUND_TO_ZERO, _mm256_loadu_ps, _mm256_storeu_ps, _mm512_add_epi64, _mm512_add_round_pd,
    _mm512_and_epi64, _mm512_castpd_si512, _mm512_castsi512_pd, _mm512_cvtepu64_pd,
    _mm512_cvtpd_ps, _mm512_cvtps_pd, _mm512_fmadd_round_pd, _mm512_fnmadd_pd, _mm512_mask_mov_pd,
    _mm512_max_epu64, _mm512_max_pd, _mm512_mul_epu32, _mm512_reduce_max_pd, _mm512_set_epi64,
    _mm512_set1_epi64, _mm512_set1_pd, _mm512_setzero_pd, _mm512_setzero_si512, _mm512_srli_epi64,
    _mm512_sub_epi64, _mm512_ternarylogic_epi64, _mm512_testn_epi64_mask,
};

use crate::accumulate::stochastic::{Grid, LINE, Steps};
use crate::vector::{Isa, isa};

const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
const UP: i32 = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
const TO_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

const SIGN: i64 = i64::MIN;
const EXPONENT: i64 = 0x7FF << 52;

/// `(a & b) | c` and `a ^ b ^ c` of three operands' bits.
const AND_OR: i32 = 0xEA;
const XOR: i32 = 0x96;

/// Vectors of a line.
const VECTORS: usize = LINE / 8;

type Sums = [__m512d; VECTORS];

/// Rounding to a format at random: `floor(|x| / unit + word / 2^32)` units, whose power of two is known
/// from `x`. Each of the two sums is cut to an f64, which passes over no whole number of units; after the
/// second, `2^52` units large, its last place is one.
#[derive(Clone, Copy)]
struct Random {
    /// The exponent of the smallest normal number, in place.
    least: i64,
    /// Taken from an exponent, gives `unit / 2^32`.
    to_part: i64,
    lift: f64,
    kept: i64,
}

impl Random {
    fn new(grid: Grid) -> Self {
        let mantissa = i64::from(grid.mantissa);
        Self {
            least: (1023 + i64::from(grid.least)) << 52,
            to_part: (mantissa + 32) << 52,
            lift: (1u64 << (52 - mantissa)) as f64,
            kept: grid.kept.into(),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn round(self, x: __m512d, word: __m512i, peak: &mut __m512d) -> __m512d {
        let splat = |bits: i64| _mm512_set1_epi64(bits);
        let bits = _mm512_castpd_si512(x);
        let magnitude = _mm512_castsi512_pd(_mm512_and_epi64(bits, splat(!SIGN)));
        let exponent = _mm512_and_epi64(bits, splat(EXPONENT));
        let exponent = _mm512_max_epu64(exponent, splat(self.least));
        let part = _mm512_castsi512_pd(_mm512_sub_epi64(exponent, splat(self.to_part)));
        let word = _mm512_cvtepu64_pd(_mm512_and_epi64(word, splat(self.kept)));
        let sum = _mm512_fmadd_round_pd::<TO_ZERO>(word, part, magnitude);
        let (power, lift) = (_mm512_castsi512_pd(exponent), _mm512_set1_pd(self.lift));
        let lifted = _mm512_fmadd_round_pd::<TO_ZERO>(power, lift, sum);
        let rounded = _mm512_fnmadd_pd(power, lift, lifted);
        *peak = _mm512_max_pd(*peak, rounded);
        let made = _mm512_castpd_si512(rounded);
        _mm512_castsi512_pd(_mm512_ternarylogic_epi64::<AND_OR>(bits, splat(SIGN), made))
    }
}

/// The odd one of two neighbours.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn odd(down: __m512d, up: __m512d) -> __m512d {
    let even = _mm512_testn_epi64_mask(_mm512_castpd_si512(down), _mm512_set1_epi64(1));
    _mm512_mask_mov_pd(down, even, up)
}

/// The random words of the outputs of a line, one rounding after another.
struct Draws {
    /// The key of each round.
    keys: [[u64; 2]; 10],
    /// The place of the first output.
    output: u64,
    number: u64,
    words: [[__m512i; VECTORS]; 4],
}

impl Draws {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn new(seed: u64, output: u64) -> Self {
        let key = |half: u32, step: u32, round: u32| half.wrapping_add(step.wrapping_mul(round));
        let keys = std::array::from_fn(|round| {
            let first = key(seed as u32, 0x9E37_79B9, round as u32);
            let second = key((seed >> 32) as u32, 0xBB67_AE85, round as u32);
            [first, second].map(u64::from)
        });
        Self {
            keys,
            output,
            number: 0,
            words: [[_mm512_setzero_si512(); VECTORS]; 4],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn next(&mut self) -> [__m512i; VECTORS] {
        let at = self.number % 4;
        if at == 0 {
            self.words = self.block(self.number / 4);
        }
        self.number += 1;
        self.words[at as usize]
    }

    /// A block of Philox 4x32-10 for each output. Words are the lower halves of lanes, and products
    /// read nothing else.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn block(&self, block: u64) -> [[__m512i; VECTORS]; 4] {
        let splat = |word: u64| _mm512_set1_epi64(word as i64);
        let (m0, m1) = (splat(0xD251_1F53), splat(0xCD9E_8D57));
        let lanes = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
        let mut c0 = [splat(block); VECTORS];
        let mut c1 = [splat(block >> 32); VECTORS];
        let (mut c2, mut c3) = (c0, c1);
        for v in 0..VECTORS {
            c2[v] = _mm512_add_epi64(splat(self.output.wrapping_add(8 * v as u64)), lanes);
            c3[v] = _mm512_srli_epi64::<32>(c2[v]);
        }
        for [k0, k1] in self.keys {
            for v in 0..VECTORS {
                let (p0, p1) = (_mm512_mul_epu32(c0[v], m0), _mm512_mul_epu32(c2[v], m1));
                let (h0, h1) = (_mm512_srli_epi64::<32>(p0), _mm512_srli_epi64::<32>(p1));
                c0[v] = _mm512_ternarylogic_epi64::<XOR>(h1, c1[v], splat(k0));
                c2[v] = _mm512_ternarylogic_epi64::<XOR>(h0, c3[v], splat(k1));
                (c1[v], c3[v]) = (p1, p0);
            }
        }
        [c0, c1, c2, c3]
    }
}

/// The sums of a row with the columns of a line, of which the first output has this place. Returns
/// whether all are made: the CPU has AVX-512, and they are within the format.
pub(in crate::accumulate) fn stochastic_sums(
    steps: Steps,
    (row, columns): (&[f32], &[[f32; LINE]]),
    output: u64,
    sums: &mut [f32; LINE],
) -> bool {
    // SAFETY: the CPU is asked, for F and DQ among others.
    isa() == Isa::Avx512 && unsafe { make(steps, row, columns, output, sums) }
}

#[target_feature(enable = "avx512f,avx512dq")]
fn make(
    steps: Steps,
    row: &[f32],
    columns: &[[f32; LINE]],
    output: u64,
    sums: &mut [f32; LINE],
) -> bool {
    let mut draws = Draws::new(steps.seed, output);
    let grid = Random::new(steps.grid);
    let max = f64::from(steps.grid.max);
    let mut peak = _mm512_setzero_pd();
    let mut made = [_mm512_setzero_pd(); VECTORS];
    let Some((size, outer)) = steps.chunks else {
        add(grid, row, columns, &mut draws, (&mut made, &mut peak));
        store(&made, sums);
        return _mm512_reduce_max_pd(peak) <= max;
    };
    let of_chunks = Random::new(outer);
    let mut peak_of_chunks = peak;
    for (row, columns) in row.chunks(size).zip(columns.chunks(size)) {
        let mut chunk = [_mm512_setzero_pd(); VECTORS];
        add(grid, row, columns, &mut draws, (&mut chunk, &mut peak));
        let words = draws.next();
        for v in 0..VECTORS {
            let down = _mm512_add_round_pd::<DOWN>(made[v], chunk[v]);
            let up = _mm512_add_round_pd::<UP>(made[v], chunk[v]);
            made[v] = of_chunks.round(odd(down, up), words[v], &mut peak_of_chunks);
        }
    }
    store(&made, sums);
    let outer = f64::from(outer.max);
    _mm512_reduce_max_pd(peak) <= max && _mm512_reduce_max_pd(peak_of_chunks) <= outer
}

/// Adds the products of a row.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn add(
    grid: Random,
    row: &[f32],
    columns: &[[f32; LINE]],
    draws: &mut Draws,
    (sums, peak): (&mut Sums, &mut __m512d),
) {
    for (&a, line) in row.iter().zip(columns) {
        let words = draws.next();
        let a = _mm512_set1_pd(a.into());
        let numbers = line.as_chunks::<8>().0;
        for v in 0..VECTORS {
            // SAFETY: these are eight numbers.
            let b = unsafe { _mm512_cvtps_pd(_mm256_loadu_ps(numbers[v].as_ptr())) };
            // The product is exact.
            let down = _mm512_fmadd_round_pd::<DOWN>(a, b, sums[v]);
            let up = _mm512_fmadd_round_pd::<UP>(a, b, sums[v]);
            sums[v] = grid.round(odd(down, up), words[v], peak);
        }
    }
}

/// The numbers of sums, which f32 holds.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn store(sums: &Sums, numbers: &mut [f32; LINE]) {
    for (numbers, &sums) in numbers.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: these are eight numbers.
        unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), _mm512_cvtpd_ps(sums)) };
    }
}
