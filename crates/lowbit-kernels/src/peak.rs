//! The most multiply-adds that the CPU can do.

// Vector instructions, asked for first.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crate::vector::{self, Isa, LANES, Vector};

/// Sums that do not wait for each other: more than an instruction takes cycles times the
/// instructions a cycle takes.
const SUMS: usize = 12;

/// How long a measurement takes at least.
const TIME: Duration = Duration::from_millis(500);

/// Rounds of one measurement.
const ROUNDS: usize = 4_000_000;

/// Multiplications and additions a second of all threads of the pool together, in a loop that
/// touches nothing but registers; the best of a few tries.
pub fn operations_per_second() -> f64 {
    most_per_second(ROUNDS * SUMS * LANES * 2, run)
}

/// Operations a second of all threads of the pool together, of which `run` makes so many on each; the
/// best of the tries of half a second, in which the threads find cores of their own.
pub(crate) fn most_per_second<T: Send>(operations: usize, run: impl Fn() -> T + Sync) -> f64 {
    let operations = (operations * rayon::current_num_threads()) as f64;
    let begin = Instant::now();
    let (mut best, mut tries) = (0.0f64, 0);
    while tries < 5 || begin.elapsed() < TIME {
        let start = Instant::now();
        let sums = rayon::broadcast(|_| run());
        let seconds = start.elapsed().as_secs_f64();
        std::hint::black_box(sums);
        best = best.max(operations / seconds);
        tries += 1;
    }
    best
}

fn run() -> f32 {
    /// # Safety
    /// The contract of [`Vector`], as of the two below: the CPU has the instructions.
    #[inline(always)]
    unsafe fn sums<T: Vector>() -> f32 {
        // SAFETY: the caller's; the arrays have sixteen numbers.
        unsafe {
            let factors = std::hint::black_box([[0.5f32; LANES], [0.25; LANES]]);
            let (a, b) = (T::load(factors[0].as_ptr()), T::load(factors[1].as_ptr()));
            let mut sums = [T::zero(); SUMS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = sum.multiply_add(a, b);
                }
            }
            let mut total = 0.0;
            for sum in sums {
                let mut numbers = [0.0; LANES];
                sum.store(numbers.as_mut_ptr());
                total += numbers.iter().sum::<f32>();
            }
            total
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512() -> f32 {
        unsafe { sums::<vector::Avx512>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2() -> f32 {
        unsafe { sums::<vector::Avx2>() }
    }
    // SAFETY: the instruction set in use is one that the CPU has.
    match vector::isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512() },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2() },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => unsafe { sums::<vector::Neon>() },
        #[cfg(not(target_arch = "aarch64"))]
        Isa::Portable => unsafe { sums::<vector::Portable>() },
    }
}
