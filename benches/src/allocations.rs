//! Counts what the allocator is asked for.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting each allocation and reallocation of the calling thread, and what it holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// Allocations of this thread so far.
    pub fn count() -> u64 {
        COUNT.with(Cell::get)
    }

    /// Bytes that this thread has asked for and not given back, so far.
    pub fn live() -> isize {
        LIVE.with(Cell::get)
    }
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
}

fn hold(bytes: usize) {
    LIVE.with(|live| live.set(live.get().wrapping_add_unsigned(bytes)));
}

fn give_back(bytes: usize) {
    LIVE.with(|live| live.set(live.get().wrapping_sub_unsigned(bytes)));
}

// SAFETY: every call goes to the system's allocator with the arguments unchanged; counting touches only a thread-local
// that needs no allocation.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size());
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        give_back(layout.size());
        hold(new_size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
