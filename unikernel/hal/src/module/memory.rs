//! Memory that modules share with devices. It is on a list with its owner, so that what a module forgets is taken back.

use alloc::vec::Vec;

use x86_64::PhysAddr;

use crate::arch::memory;
use crate::kmem::frames;
use crate::kmem::layout::{PAGE_BYTES, phys_to_virt};
use crate::sync::SpinLock;

/// Bytes that a module gets at once at most.
const MOST_BYTES: usize = 1 << 20;

struct Block {
    module: u64,
    physical: PhysAddr,
    pages: usize,
}

impl Block {
    fn start(&self) -> *mut u8 {
        phys_to_virt(self.physical).as_mut_ptr()
    }

    fn bytes(&self) -> usize {
        self.pages * PAGE_BYTES
    }

    /// Gives the memory back; answers how many bytes it was.
    fn free(self) -> usize {
        // SAFETY: it came from `alloc_block`, with as many pages, and is on the list no more. The module says that no device knows of it, or has ended, and then
        // its functions were kept from memory before.
        unsafe { frames::free_block(self.physical, self.pages) };
        self.bytes()
    }
}

static BLOCKS: SpinLock<Vec<Block>> = SpinLock::new(Vec::new());

/// Bytes of the whole pages that so many take; `None` if they are too many.
pub(super) fn whole(bytes: usize) -> Option<usize> {
    (1..=MOST_BYTES).contains(&bytes).then(|| bytes.next_multiple_of(PAGE_BYTES))
}

/// Takes whole pages, zeroed: where they are, and where for devices.
pub(super) fn alloc(module: u64, bytes: usize) -> Option<(*mut u8, u64)> {
    let pages = bytes / PAGE_BYTES;
    let mut blocks = BLOCKS.lock();
    blocks.try_reserve(1).ok()?;
    if !frames::can_devices_take(pages) || memory::is_refused() {
        return None;
    }
    let physical = frames::alloc_block(pages)?;
    frames::zero(physical, pages);
    let block = Block { module, physical, pages };
    let place = (block.start(), physical.as_u64());
    blocks.push(block);
    Some(place)
}

fn take(is_meant: impl Fn(&Block) -> bool) -> Option<Block> {
    let mut blocks = BLOCKS.lock();
    let place = blocks.iter().position(is_meant)?;
    Some(blocks.swap_remove(place))
}

/// Gives back what begins there, if it is the module's; answers how many bytes it was.
pub(super) fn free(module: u64, start: *mut u8) -> usize {
    take(|block| block.module == module && block.start() == start).map_or(0, Block::free)
}

/// The same with all that a module has.
pub(super) fn free_all(module: u64) -> usize {
    core::iter::from_fn(|| take(|block| block.module == module)).map(Block::free).sum()
}
