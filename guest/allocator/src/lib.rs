//! An allocator for guests, which run on one thread: small blocks that are freed are kept in free lists by their size,
//! in front of an allocator that merges what is freed and finds the best fit.
//!
//! A request takes some thirty small blocks and gives them back, much the same ones each time. From a free list a block
//! costs ten instructions and going back there as many, from the allocator behind several times that. The lists are
//! short: what is freed beyond that goes back, as else every size would keep what it took when it was most in demand,
//! and strangers choose sizes.

#![expect(unsafe_code, reason = "an allocator is made so; each place says why it is sound")]

#[cfg(any(target_family = "wasm", test))]
mod compare;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::UnsafeCell,
    ptr,
};

/// Blocks of so many bytes at most are kept.
const LARGEST: usize = STEP * (CLASSES - 1) + STEP / 2;

/// The sizes of blocks, in steps, half a step above each. WebAssembly's allocator, dlmalloc, puts four bytes before
/// each block and makes the whole a multiple of eight: what lies between two of these sizes takes no more room there
/// than here.
const STEP: usize = 8;
const CLASSES: usize = 33;

/// The least that a block has: room for an address anywhere.
const SMALLEST: usize = 12;

/// The greatest alignment that every block has.
const ALIGN: usize = 8;

/// So many free blocks of a size are kept at most.
const KEPT_MAX: u32 = 64;

/// Keeps freed blocks in front of the allocator `Inner`.
pub struct FreeLists<Inner> {
    inner: Inner,
    lists: [List; CLASSES],
}

/// The free blocks of one size. Each begins with the address of the next.
struct List {
    first: UnsafeCell<*mut u8>,
    length: UnsafeCell<u32>,
}

// SAFETY: without threads, which is what WebAssembly without atomics is, nobody shares it with another one.
#[cfg(all(target_family = "wasm", not(target_feature = "atomics")))]
unsafe impl<Inner> Sync for FreeLists<Inner> {}

impl FreeLists<System> {
    /// In front of the platform's allocator.
    pub const fn system() -> Self {
        Self::new(System)
    }
}

impl<Inner> FreeLists<Inner> {
    /// In front of another allocator.
    pub const fn new(inner: Inner) -> Self {
        Self {
            inner,
            lists: [const { List { first: UnsafeCell::new(ptr::null_mut()), length: UnsafeCell::new(0) } }; CLASSES],
        }
    }

    /// The list for blocks that this layout asks for. None: they are not kept.
    #[inline]
    fn list(&self, layout: Layout) -> Option<&List> {
        if layout.size() <= LARGEST && layout.align() <= ALIGN { self.lists.get(class(layout)) } else { None }
    }
}

/// Which size of blocks this is.
#[inline]
fn class(layout: Layout) -> usize {
    (layout.size() + STEP / 2 - 1) / STEP
}

/// A block for this layout, to the allocator behind.
fn block(layout: Layout) -> Layout {
    let block = Layout::from_size_align((STEP * class(layout) + STEP / 2).max(SMALLEST), ALIGN);
    // It is small.
    block.unwrap_or(layout)
}

impl<Inner: GlobalAlloc> FreeLists<Inner> {
    /// Asks the allocator behind. Apart from what happens each time, which then needs few registers, and saves few.
    ///
    /// # Safety
    /// As of [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn alloc_behind(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises; no block is empty.
        unsafe { self.inner.alloc(if self.list(layout).is_some() { block(layout) } else { layout }) }
    }

    /// Gives back to the allocator behind.
    ///
    /// # Safety
    /// As of [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn dealloc_behind(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; this is the layout for which it came from there.
        unsafe { self.inner.dealloc(pointer, if self.list(layout).is_some() { block(layout) } else { layout }) };
    }
}

impl List {
    /// Takes a block out.
    #[inline]
    fn take(&self) -> Option<*mut u8> {
        // SAFETY: on one thread nobody else looks at the list meanwhile. What is in it is free, and begins with an
        // address, as `keep` left it.
        unsafe {
            let first = *self.first.get();
            if first.is_null() {
                return None;
            }
            *self.first.get() = first.cast::<*mut u8>().read();
            *self.length.get() -= 1;
            Some(first)
        }
    }

    /// Puts a block in, if there is room for it.
    ///
    /// # Safety
    /// Nobody may use the block any more. It is aligned as all are, and holds an address.
    #[inline]
    unsafe fn keep(&self, block: *mut u8) -> bool {
        // SAFETY: as in `take`; the block is ours by what the caller promises.
        unsafe {
            if *self.length.get() >= KEPT_MAX {
                return false;
            }
            block.cast::<*mut u8>().write(*self.first.get());
            *self.first.get() = block;
            *self.length.get() += 1;
            true
        }
    }
}

// SAFETY: every block comes from the allocator behind, for a layout that holds what was asked for and that follows from
// it, so that it goes back there with the same one. A block is in a list or with a caller, never both.
unsafe impl<Inner: GlobalAlloc> GlobalAlloc for FreeLists<Inner> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(block) = self.list(layout).and_then(List::take) {
            return block;
        }
        // SAFETY: as the caller promises.
        unsafe { self.alloc_behind(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that the block came from here for this layout, and is done with it.
        unsafe {
            if !self.list(layout).is_some_and(|list| list.keep(pointer)) {
                self.dealloc_behind(pointer, layout);
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`; a block holds what its layout says.
        unsafe {
            if self.list(layout).is_none() {
                // Memory that was never used is known to be zero.
                return self.inner.alloc_zeroed(layout);
            }
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the block came from here for this layout, and that the new size is one with
        // its alignment.
        unsafe {
            let new_layout = Layout::from_size_align_unchecked(new_size, layout.align());
            match (self.list(layout), self.list(new_layout)) {
                (Some(list), Some(new_list)) if ptr::eq(list, new_list) => return pointer,
                (None, None) => return self.inner.realloc(pointer, layout, new_size),
                _ => {}
            }
            let new = self.alloc(new_layout);
            if !new.is_null() {
                new.copy_from_nonoverlapping(pointer, layout.size().min(new_size));
                self.dealloc(pointer, layout);
            }
            new
        }
    }
}

/// How two pieces of memory compare, as C has it. All comparisons of bytes that are not written out lead here.
///
/// # Safety
/// Both have so many bytes.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { compare::compare(one, other, count) }
}

#[cfg(test)]
mod tests;
