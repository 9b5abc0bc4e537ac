//! Sixteen numbers at a time, in the widest registers that the CPU at run time has.
//!
//! Two kinds of work go through here. Register tiles are written against `Vector`, which has a file
//! for each instruction set; they decide by hand what stays in which register. Plain loops are a
//! [`Kernel`], which [`dispatch`] compiles once for each instruction set and leaves to the compiler.

// Vector instructions of the CPU, each called where the CPU has been asked for it.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(target_arch = "aarch64"))]
mod portable;

use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
#[cfg(not(target_arch = "aarch64"))]
pub(crate) use portable::Portable;

/// Numbers in a vector: a cache line of them, and the widest register there is. Narrower
/// instruction sets take several registers, so that what is packed, and the order in which sums are
/// made, is the same everywhere.
pub const LANES: usize = 16;

/// Sixteen `f32`.
///
/// # Safety
/// What holds for every method of every implementation, and is not said there again:
///
/// - It may only be called where the CPU has the implementation's instruction set, which [`isa`]
///   finds out. The methods are inlined into a function that is compiled for it
///   (`#[target_feature]`); that function is called behind a `match` on [`isa`] alone.
/// - `p` of [`splat`](Self::splat) is valid for reads of one number, `p` of [`load`](Self::load) for
///   reads of [`LANES`] numbers, `p` of [`store`](Self::store) for writes of as many, `p` of
///   [`store_first`](Self::store_first) for writes of `count`. Pointers are aligned to a number and
///   need no more.
/// - [`expect_store`](Self::expect_store) takes any address.
pub(crate) trait Vector: Copy {
    /// Sixteen zeros.
    unsafe fn zero() -> Self;
    /// The number at `p`, sixteen times.
    unsafe fn splat(p: *const f32) -> Self;
    /// The sixteen numbers from `p` on.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes the sixteen numbers from `p` on.
    unsafe fn store(self, p: *mut f32);
    /// Writes the first `count` numbers, at most sixteen, from `p` on.
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, count: usize) {
        let mut all = [0.0; LANES];
        // SAFETY: `all` has sixteen numbers, of which `count` are written where the caller says.
        unsafe {
            self.store(all.as_mut_ptr());
            p.copy_from_nonoverlapping(all.as_ptr(), count);
        }
    }

    /// `a * b + self`, rounded once where the instruction set has a fused instruction.
    unsafe fn multiply_add(self, a: Self, b: Self) -> Self;

    /// Says that the sixteen numbers from `p` on will be written soon.
    #[inline(always)]
    unsafe fn expect_store(_p: *const f32) {}
}

/// Instruction sets with kernels of their own, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every CPU of the target has.
    #[cfg(not(target_arch = "aarch64"))]
    Portable,
    /// NEON: 32 registers of four numbers.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// AVX2 with FMA: 16 registers of eight numbers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512: 32 registers of sixteen numbers.
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

    /// The widest that this CPU has.
    pub fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            // Every CPU with AVX-512 has AVX2 and FMA; asked for all the same, since `dispatch`
            // falls back to them under this answer.
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        // Every CPU of the target has it.
        Self::ALL[0]
    }
}

/// Where the instruction set in use is in [`Isa::ALL`]; beyond its end until it is asked for.
static IN_USE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The instruction set that kernels use: the widest that this CPU has, unless
/// [`use_at_most`] says otherwise.
#[inline]
pub fn isa() -> Isa {
    match Isa::ALL.get(IN_USE.load(Ordering::Relaxed)) {
        Some(isa) => *isa,
        None => use_at_most(Isa::ALL[Isa::ALL.len() - 1]),
    }
}

/// Has the kernels of this process use no wider instruction set than `isa`, for tests and
/// measurements. Returns the one they use from now on.
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

/// Runs `kernel` compiled for this CPU, so that plain loops in it use its widest registers.
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
            // SAFETY: the CPU has been asked for AVX-512F, and for the other parts just now.
            Isa::Avx512 if has_avx512_vectors() => return unsafe { avx512(kernel) },
            // SAFETY: both answers of `isa` say that the CPU has AVX2 and FMA.
            Isa::Avx512 | Isa::Avx2 => return unsafe { avx2(kernel) },
            Isa::Portable => {}
        }
    }
    // Elsewhere the compiler has the widest registers anyway.
    kernel.run()
}

/// Whether the CPU has the parts of AVX-512 that compilers use for plain loops.
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_avx512_vectors() -> bool {
    is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
}
