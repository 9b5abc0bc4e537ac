//! Instruction sets: which one the CPU has, and loops compiled for each.

// A function that is compiled for an instruction set may only be called where the CPU has it; that
// is asked here and nowhere else.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// Instruction sets that loops are compiled for, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every CPU of the target has.
    #[cfg(not(target_arch = "aarch64"))]
    Portable,
    /// NEON: 32 registers of four `f32`.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 with FMA: 16 registers of eight `f32`.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, VL, DQ and BW, the parts that compilers use for plain loops), and AVX2 with FMA:
    /// 32 registers of sixteen `f32`.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Those of the target, the narrowest first.
    pub const ALL: &[Self] = &[
        #[cfg(not(target_arch = "aarch64"))]
        Self::Portable,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(not(target_arch = "aarch64"))]
            Self::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
        }
    }

    /// The one of this name, where this CPU has it; else which it has.
    pub fn named(name: &str) -> Result<Self, String> {
        let here = Self::ALL.iter().filter(|&&isa| isa <= Self::detected());
        let found = here.clone().find(|isa| isa.name() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = here.map(|isa| isa.name()).collect();
            format!("expected one that this CPU has: {}", names.join(", "))
        })
    }

    /// The widest that this CPU has.
    pub fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            // Every CPU with AVX-512 has AVX2 and FMA; asked for all the same, since loops for
            // AVX-512 use them.
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            if avx2 {
                return if avx512 { Self::Avx512 } else { Self::Avx2 };
            }
        }
        Self::ALL[0]
    }
}

/// Where the instruction set in use is in [`Isa::ALL`]; beyond its end until it is asked for.
static IN_USE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The instruction set in use: the widest that this CPU has, unless [`use_at_most`] says otherwise.
#[inline]
pub fn isa() -> Isa {
    match Isa::ALL.get(IN_USE.load(Ordering::Relaxed)) {
        Some(isa) => *isa,
        None => use_at_most(Isa::ALL[Isa::ALL.len() - 1]),
    }
}

/// Has this process use no wider instruction set than `isa`, for tests and measurements. Returns
/// the one in use from now on.
pub fn use_at_most(isa: Isa) -> Isa {
    let used = isa.min(Isa::detected());
    let place = Isa::ALL.iter().position(|&isa| isa == used);
    IN_USE.store(place.unwrap_or(0), Ordering::Relaxed);
    used
}

/// Work that is compiled for each instruction set. Mark `run`, and what it calls in its loops,
/// `#[inline(always)]`: only what ends up in one function is compiled for its instructions.
pub trait Kernel {
    /// What it makes.
    type Output;

    /// Does it.
    fn run(self) -> Self::Output;
}

/// A closure marked `#[inline(always)]`.
impl<T, F: FnOnce() -> T> Kernel for F {
    type Output = T;

    #[inline(always)]
    fn run(self) -> T {
        self()
    }
}

/// Runs `kernel` compiled for the instruction set in use. This is sound for any kernel, since
/// [`isa`] never names a set that the CPU lacks; a kernel that calls functions marked
/// `#[target_feature]` itself must ask [`isa`] before. Floating-point operations are never
/// contracted or reordered, so that the bits of its result do not depend on it.
///
/// A loop that writes a slice and reads tables or closures belongs into [`dispatch_on`].
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        match isa() {
            // SAFETY: what is in use is at most what `Isa::detected` found, which asked the CPU for
            // every feature that these functions are compiled for.
            Isa::Avx512 => return unsafe { avx512(kernel) },
            Isa::Avx2 => return unsafe { avx2(kernel) },
            Isa::Portable => {}
        }
    }
    // Elsewhere the compiler uses the widest registers anyway.
    kernel.run()
}

/// As [`dispatch`], for `work(input, output)`, a closure marked `#[inline(always)]` around a plain
/// loop.
///
/// What is read and what is written are arguments of the compiled function because the compiler
/// knows of arguments, and of nothing else, that no other pointer leads to what a `&mut` one leads
/// to. Held in a kernel's fields, each store might change the table that the next number is looked
/// up in, and the loop does not become vector code: `nf4` took seven times as long.
///
/// AVX-512 is that of Ice Lake and Zen 4 here, whose instructions for bits and bytes compilers use
/// (random numbers are made a tenth faster); CPUs before those, which lower their clock for registers
/// of 512 bits, take AVX2.
#[inline]
pub fn dispatch_on<I, O, T>(input: I, output: O, work: impl FnOnce(I, O) -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        #[target_feature(enable = "avx512cd,avx512vbmi,avx512vbmi2,avx512bitalg")]
        #[target_feature(enable = "avx512vpopcntdq,gfni")]
        unsafe fn avx512<I, O, T>(input: I, output: O, work: impl FnOnce(I, O) -> T) -> T {
            work(input, output)
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<I, O, T>(input: I, output: O, work: impl FnOnce(I, O) -> T) -> T {
            work(input, output)
        }
        match isa() {
            // SAFETY: as in `dispatch`, and the CPU was asked for the rest.
            Isa::Avx512 if has_bit_instructions() => {
                return unsafe { avx512(input, output, work) };
            }
            // SAFETY: as in `dispatch`; AVX-512 comes with AVX2 and FMA, which were asked for too.
            Isa::Avx512 | Isa::Avx2 => return unsafe { avx2(input, output, work) },
            Isa::Portable => {}
        }
    }
    // Elsewhere the compiler uses the widest registers anyway.
    work(input, output)
}

/// Whether the CPU has what [`dispatch_on`] compiles for beyond [`Isa::Avx512`].
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_bit_instructions() -> bool {
    is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512bitalg")
        && is_x86_feature_detected!("avx512vpopcntdq")
        && is_x86_feature_detected!("gfni")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of products in f32, which a fused instruction would change.
    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let x: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let run = || {
            let mut y = vec![0.0f32; x.len()];
            dispatch(
                #[inline(always)]
                || {
                    for (y, &x) in y.iter_mut().zip(&x) {
                        *y = x * x + 0.1 * x;
                    }
                },
            );
            y
        };
        let run_on = || {
            let mut y = vec![0.0f32; x.len()];
            dispatch_on(
                &x,
                &mut y,
                #[inline(always)]
                |x, y| {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x * x + 0.1 * x;
                    }
                },
            );
            y
        };
        let expected: Vec<f32> = x.iter().map(|&x| x * x + 0.1 * x).collect();
        let before = isa();
        for &isa in Isa::ALL {
            assert!(use_at_most(isa) <= isa);
            assert_eq!(run(), expected, "{isa:?}");
            assert_eq!(run_on(), expected, "{isa:?}");
        }
        use_at_most(before);
    }
}
