//! Memory for the results of operators, used again step after step.
//!
//! A training step makes the same tensors every time. Memory that goes back to the operating
//! system in between comes back as fresh pages, and touching each of them for the first time costs
//! more than the operator that writes it.

// Memory handed to tensors that live as long as they like and hand it back when they end.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use burn_std::{AccessError, AccessPolicy, AllocationController, AllocationProperty, Bytes};

/// A cache line: no vector that starts at a multiple of it lies in two.
const ALIGN: usize = 64;

/// Memory of a size that nobody has asked for during so many requests goes back to the system.
const FORGOTTEN: u64 = 1 << 14;

/// Blocks of one size.
struct Class {
    free: Vec<Block>,
    last_request: u64,
}

/// Free memory by size. A step asks for the same sizes as the one before, so what is free of a size
/// is kept for the next request of that size.
struct Pool {
    classes: BTreeMap<usize, Class>,
    requests: u64,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    classes: BTreeMap::new(),
    requests: 0,
});

/// Initialized memory that one owner has to itself.
struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: a block is plain memory with one owner.
unsafe impl Send for Block {}
// SAFETY: and shared references only read it.
unsafe impl Sync for Block {}

impl Block {
    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, ALIGN).expect("a tensor's size is far below the limit")
    }

    /// Zeroed memory of the operating system, which need not be touched until it is written.
    fn new(size: usize) -> Self {
        let layout = Self::layout(size);
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        let start = start.unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, size }
    }

    fn free(self) {
        // SAFETY: allocated with this layout, and `self` ends here.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.size)) }
    }
}

impl Pool {
    /// A free block of the size, if there is one; and blocks of sizes that are not asked for any
    /// more.
    fn take(&mut self, size: usize) -> (Option<Block>, Vec<Block>) {
        self.requests += 1;
        let class = self.classes.entry(size).or_insert(Class {
            free: Vec::new(),
            last_request: 0,
        });
        class.last_request = self.requests;
        if let Some(block) = class.free.pop() {
            return (Some(block), Vec::new());
        }
        let oldest = self.requests.saturating_sub(FORGOTTEN);
        let mut forgotten = Vec::new();
        self.classes.retain(|_, class| {
            let keep = class.last_request >= oldest;
            if !keep {
                forgotten.append(&mut class.free);
            }
            keep
        });
        (None, forgotten)
    }

    fn put(&mut self, block: Block) {
        let last_request = self.requests;
        let class = self.classes.entry(block.size).or_insert(Class {
            free: Vec::new(),
            last_request,
        });
        class.free.push(block);
    }
}

/// Numbers that are to become a tensor.
pub(crate) struct Buffer {
    /// Absent for no numbers at all.
    block: Option<Block>,
    length: usize,
}

impl Buffer {
    /// Room for `length` numbers, which may be anything.
    pub(crate) fn new(length: usize) -> Self {
        let size = (length * size_of::<f32>()).next_multiple_of(ALIGN);
        if size == 0 {
            return Self {
                block: None,
                length,
            };
        }
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, forgotten) = pool.take(size);
        drop(pool);
        forgotten.into_iter().for_each(Block::free);
        Self {
            block: Some(found.unwrap_or_else(|| Block::new(size))),
            length,
        }
    }

    /// The memory as a tensor's.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.block.is_none() {
            return Bytes::from_elems(Vec::<f32>::new());
        }
        let length = self.length * size_of::<f32>();
        // SAFETY: the first `length` bytes are initialized, as the whole block is.
        unsafe { Bytes::from_controller(Box::new(self), length) }
    }

    fn bytes(&self) -> &[MaybeUninit<u8>] {
        self.block.as_ref().map_or(&[], |block| {
            // SAFETY: the block has as many bytes.
            unsafe { std::slice::from_raw_parts(block.start.as_ptr().cast(), block.size) }
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            pool.put(block);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.block.as_ref().map_or(&[], |block| {
            // SAFETY: initialized, aligned to more than a number, and as long.
            unsafe { std::slice::from_raw_parts(block.start.as_ptr().cast(), self.length) }
        })
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.block.as_mut().map_or(&mut [], |block| {
            // SAFETY: as above, and borrowed mutably.
            unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr().cast(), self.length) }
        })
    }
}

impl AllocationController for Buffer {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        Ok(self.block.as_mut().map_or(&mut [], |block| {
            // SAFETY: the block has as many bytes, and is borrowed mutably.
            unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr().cast(), block.size) }
        }))
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        Ok(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_comes_back_is_used_again() {
        // A size that no other test asks for; three numbers more end in the same cache line.
        let length = 123_457;
        let first = Buffer::new(length);
        let start = first.as_ptr();
        assert_eq!(start.addr() % ALIGN, 0);
        drop(first.into_bytes());
        let again = Buffer::new(length + 3);
        assert_eq!(again.as_ptr(), start);
        assert_eq!(again.len(), length + 3);
        let other = Buffer::new(length);
        assert_ne!(other.as_ptr(), start);
    }

    #[test]
    fn bytes_hold_the_numbers_and_copies_are_apart() {
        let mut buffer = Buffer::new(3);
        buffer.copy_from_slice(&[1.0, 2.0, 3.0]);
        let mut bytes = buffer.into_bytes();
        let copy = bytes.clone();
        bytemuck::cast_slice_mut::<u8, f32>(&mut bytes)[0] = 9.0;
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&copy), [1.0, 2.0, 3.0]);
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&bytes), [9.0, 2.0, 3.0]);
        assert!(Buffer::new(0).into_bytes().is_empty());
    }
}
