//! What a module that is an object of its own has to bring: an allocator, and what becomes of a panic.

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi;

/// The number of the one module that is in the object.
static MODULE: AtomicU64 = AtomicU64::new(0);

pub(crate) fn set_module(module: u64) {
    MODULE.store(module, Ordering::Relaxed);
}

fn module() -> u64 {
    MODULE.load(Ordering::Relaxed)
}

/// The kernel's heap; what is taken is charged to the module.
struct Heap;

// SAFETY: the kernel's functions are an allocator.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size is not zero, by the caller.
        unsafe { abi::uk_alloc(module(), layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it came from `alloc`, with this layout, by the caller.
        unsafe { abi::uk_free(module(), pointer, layout.size(), layout.align()) };
    }
}

#[global_allocator]
static HEAP: Heap = Heap;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    crate::log::panic(module(), format_args!("{info}"))
}

macro_rules! say_versions {
    ($($name:ident: $version:literal),* $(,)?) => {
        $(const _: () = {
            const LINE: &str = concat!("symver=", stringify!($name), ":", $version, "\0");
            #[used]
            // SAFETY: strings go there.
            #[unsafe(link_section = ".modinfo")]
            static SAID: [u8; LINE.len()] = $crate::macros::bytes(LINE);
        };)*
    };
}
crate::for_each_service!(say_versions);
