#![expect(
    clippy::undocumented_unsafe_blocks,
    reason = "SAFETY, of every block: it is used by the layout that it came with, by one thread"
)]

use std::{cell::RefCell, collections::BTreeMap};

use super::*;

/// Remembers which blocks it gave for which layouts, and sees to it that they come back so.
#[derive(Default)]
struct Watched(RefCell<BTreeMap<usize, Layout>>);

// SAFETY: it is the platform's allocator.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = unsafe { System.alloc(layout) };
        assert_eq!(self.0.borrow_mut().insert(block.addr(), layout), None);
        block
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        assert_eq!(self.0.borrow_mut().remove(&pointer.addr()), Some(layout));
        unsafe { System.dealloc(pointer, layout) };
    }
}

impl Watched {
    fn bytes(&self) -> usize {
        self.0.borrow().values().map(Layout::size).sum()
    }
}

/// A block in use, full of one byte.
struct Block {
    pointer: *mut u8,
    layout: Layout,
    byte: u8,
}

impl Block {
    fn check(&self, length: usize) {
        assert!(self.pointer.addr().is_multiple_of(self.layout.align()));
        // SAFETY: the block is in use and holds so many bytes.
        let bytes = unsafe { std::slice::from_raw_parts(self.pointer, length) };
        assert!(bytes.iter().all(|byte| *byte == self.byte), "{:?} is somebody else's too", self.layout);
    }

    fn fill(&self) {
        // SAFETY: as in `check`.
        unsafe { self.pointer.write_bytes(self.byte, self.layout.size()) };
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

#[test]
fn blocks_are_whole_aligned_and_nobody_elses_whatever_is_asked_for() {
    let lists = FreeLists::new(Watched::default());
    let mut blocks: Vec<Block> = Vec::new();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        // Knuth's constants.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..100_000 {
        let (size, align, byte) = (1 + random(2 * LARGEST), 1 << random(6), random(256) as u8);
        // SAFETY: no size is 0, and each block is given back for the layout that it has.
        unsafe {
            match random(5) {
                0 | 1 => {
                    let layout = layout(size, align);
                    blocks.push(Block { pointer: lists.alloc(layout), layout, byte });
                }
                2 => {
                    let block = Block {
                        pointer: lists.alloc_zeroed(layout(size, align)),
                        layout: layout(size, align),
                        byte: 0,
                    };
                    block.check(size);
                    blocks.push(Block { byte, ..block });
                }
                3 if !blocks.is_empty() => {
                    let at = random(blocks.len());
                    let Block { pointer, layout: old, byte } = blocks.swap_remove(at);
                    let block =
                        Block { pointer: lists.realloc(pointer, old, size), layout: layout(size, old.align()), byte };
                    block.check(size.min(old.size()));
                    blocks.push(block);
                }
                _ if !blocks.is_empty() => {
                    let at = random(blocks.len());
                    let block = blocks.swap_remove(at);
                    block.check(block.layout.size());
                    lists.dealloc(block.pointer, block.layout);
                    continue;
                }
                _ => continue,
            }
        }
        blocks.last().unwrap().fill();
    }
    for block in blocks {
        block.check(block.layout.size());
        // SAFETY: as above.
        unsafe { lists.dealloc(block.pointer, block.layout) };
    }
    assert!(lists.inner.0.borrow().values().all(|kept| kept.size() <= LARGEST), "only small blocks are kept");
}

#[test]
fn a_block_that_was_freed_is_the_next_of_its_size() {
    let lists = FreeLists::new(Watched::default());
    for size in 1..=LARGEST {
        // SAFETY: as above.
        unsafe {
            let first = lists.alloc(layout(size, 1));
            lists.dealloc(first, layout(size, 1));
            assert_eq!(lists.alloc(layout(size, ALIGN)), first, "{size}");
            lists.dealloc(first, layout(size, ALIGN));
        }
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let lists = FreeLists::new(Watched::default());
    for size in 1..=LARGEST {
        // SAFETY: as above.
        unsafe {
            let blocks: Vec<_> = (0..3 * KEPT_MAX).map(|_| lists.alloc(layout(size, 1))).collect();
            blocks.into_iter().for_each(|block| lists.dealloc(block, layout(size, 1)));
        }
    }
    let all_sizes: usize = (0..CLASSES).map(|class| (STEP * class + STEP / 2).max(SMALLEST)).sum();
    assert_eq!(lists.inner.bytes(), KEPT_MAX as usize * all_sizes);
    assert!(KEPT_MAX as usize * all_sizes < 300_000);
}
