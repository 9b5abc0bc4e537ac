//! Buffers that a thread keeps for its next image.

// Memory aligned to a cache line, seen as numbers.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Sixteen numbers in one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers that a thread keeps.
const KEPT: usize = 8;

/// A buffer of numbers left over from earlier use, aligned to a cache line, as a slice. It goes back
/// to the thread that drops it.
#[derive(Debug)]
pub struct Scratch<T = f32> {
    lines: Vec<Line>,
    length: usize,
    numbers: PhantomData<T>,
}

/// Numbers of which every pattern of bits is one.
pub trait Plain: sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($number:ty),*) => {
        $(impl sealed::Sealed for $number {}
        impl Plain for $number {})*
    };
}

plain!(f32, i32, u8);

/// A buffer of `length` numbers, which may be anything. A thread that asks for the same lengths
/// again touches no fresh memory.
pub fn take(length: usize) -> Scratch {
    take_of(length)
}

/// The same of other numbers.
pub fn take_of<T: Plain>(length: usize) -> Scratch<T> {
    let needed = (length * size_of::<T>()).div_ceil(size_of::<Line>());
    let mut lines = FREE.with_borrow_mut(|free| {
        // The smallest that is large enough; failing that, the largest grows.
        let fitting = (0..free.len())
            .filter(|&i| free[i].len() >= needed)
            .min_by_key(|&i| free[i].len());
        let chosen = fitting.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
        chosen.map_or_else(Vec::new, |i| free.swap_remove(i))
    });
    if lines.len() < needed {
        lines.resize(needed, Line([0.0; 16]));
    }
    Scratch {
        lines,
        length,
        numbers: PhantomData,
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that ends has nowhere to put it.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(lines);
            }
        });
    }
}

impl<T: Plain> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: a line is 64 bytes without padding, aligned for all of them, of which all are numbers;
        // there are as many lines as the numbers need.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: Plain> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}
