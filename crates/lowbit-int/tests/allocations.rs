//! One image at a time, a network of bytes allocates nothing from the second call on.

// An allocator that counts, and hands on to the system's.
#![allow(unsafe_code)]

#[path = "../examples/int_speed/resnet20.rs"]
mod resnet20;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use lowbit_int::Engine;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_from_the_second_image_on() {
    let engine = Engine::new(resnet20::resnet20().unwrap().graph);
    assert_eq!(engine.plain_nodes().count(), 0);
    let image = vec![3; 3 * 32 * 32];
    let mut outputs = engine.run(&[&image]).unwrap();
    let first = outputs.clone();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..3 {
        engine.run_into(&[&image], &mut outputs).unwrap();
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!((allocations, outputs), (0, first));
}
