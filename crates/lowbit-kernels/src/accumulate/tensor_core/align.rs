//! Products brought to multiples of a power of two, and summed.

/// Products whose sum an i32 holds: each is below `2^(fraction_bits + 2)`, of at most 25 bits.
const WHOLE: usize = 16;

/// `2^exponent`, for exponents from -1022 to 1023.
#[inline(always)]
pub(super) fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// `2^exponent`, of exponents beyond f32's the nearest that it has.
#[inline(always)]
fn near_power(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent.clamp(-126, 127)) as u32) << 23)
}

/// How products are aligned and summed: those of a row and of columns, every `step`-th, each
/// times `2^up` and cut toward zero to a whole number.
pub(super) trait Align: Copy + Send + Sync {
    /// Whether a result may be among f32's subnormal numbers and between them.
    const SUBNORMAL: bool = false;

    fn sums<const T: usize>(
        left: &[f32],
        right: &[[f32; T]],
        step: usize,
        up: &[i32; T],
    ) -> [f64; T];
}

/// In f32, which holds the products and sums below 2^24.
#[derive(Clone, Copy)]
pub(super) struct Single;

impl Align for Single {
    #[inline(always)]
    fn sums<const T: usize>(
        left: &[f32],
        right: &[[f32; T]],
        step: usize,
        up: &[i32; T],
    ) -> [f64; T] {
        let mut scale = [0f32; T];
        for j in 0..T {
            scale[j] = near_power(up[j]);
        }
        let mut sums = [0f32; T];
        for k in (0..left.len()).step_by(step) {
            let (a, line) = (left[k], &right[k]);
            for j in 0..T {
                sums[j] += (a * line[j] * scale[j]).trunc();
            }
        }
        let mut wide = [0f64; T];
        for j in 0..T {
            wide[j] = f64::from(sums[j]);
        }
        wide
    }
}

/// An aligned product, cut toward zero. What `as` does with numbers beyond i32 would keep loops from
/// becoming vector code.
#[inline(always)]
#[allow(unsafe_code)]
fn whole(x: f32) -> i32 {
    // SAFETY: `product` takes this way only with finite numbers whose products f32 holds and whose
    // exponents are those that `up` was made of, so that `x` is below `2^(fraction_bits + 2)`.
    unsafe { x.to_int_unchecked() }
}

/// In f32, which holds the products, with sums in i32.
#[derive(Clone, Copy)]
pub(super) struct Whole;

impl Align for Whole {
    #[inline(always)]
    fn sums<const T: usize>(
        left: &[f32],
        right: &[[f32; T]],
        step: usize,
        up: &[i32; T],
    ) -> [f64; T] {
        let mut scale = [0f32; T];
        for j in 0..T {
            scale[j] = near_power(up[j]);
        }
        let mut all = [0f64; T];
        for first in (0..left.len()).step_by(WHOLE * step) {
            let mut sums = [0i32; T];
            let end = left.len().min(first + WHOLE * step);
            for k in (first..end).step_by(step) {
                let (a, line) = (left[k], &right[k]);
                for j in 0..T {
                    sums[j] = sums[j].wrapping_add(whole(a * line[j] * scale[j]));
                }
            }
            for j in 0..T {
                all[j] += f64::from(sums[j]);
            }
        }
        all
    }
}

/// In f64, which holds any product of two f32.
#[derive(Clone, Copy)]
pub(super) struct Double;

impl Align for Double {
    const SUBNORMAL: bool = true;

    #[inline(always)]
    fn sums<const T: usize>(
        left: &[f32],
        right: &[[f32; T]],
        step: usize,
        up: &[i32; T],
    ) -> [f64; T] {
        let mut scale = [0f64; T];
        for j in 0..T {
            scale[j] = power(up[j]);
        }
        let mut sums = [0f64; T];
        for k in (0..left.len()).step_by(step) {
            let (a, line) = (f64::from(left[k]), &right[k]);
            for j in 0..T {
                sums[j] += (a * f64::from(line[j]) * scale[j]).trunc();
            }
        }
        sums
    }
}
