//! From the C runtime's start code to the program's `main`. The musl target's `_start` calls
//! `__libc_start_main`; a program without libc gets one from [`entry!`](crate::entry).

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{CStr, c_char};

use crate::env::{self, RawString};
use crate::sys;

/// Runs the program. For [`entry!`](crate::entry) only.
///
/// # Safety
///
/// `vector` must be the argument vector that the program was started with, `count` long.
pub unsafe fn run(count: i32, vector: *const *const c_char, main: extern "C" fn() -> i32) -> ! {
    env::set(count.max(0) as usize, vector);
    crate::logger::init();
    sys::exit(main())
}

/// The string at an index of the vector of arguments and environment.
pub(crate) fn string_at(vector: *const *const c_char, index: usize) -> Option<RawString> {
    // SAFETY: the vector came from `run`'s caller; callers stay within the arguments, or stop at the
    // null pointer that ends the environment.
    let string = unsafe { *vector.add(index) };
    // SAFETY: the strings lie on the first stack, end with a NUL, and are never changed here.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) })
}

/// Reports a panic and ends the program as `std` does.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::eprintln!("the program panicked: {info}");
    sys::exit(101)
}

/// Memory is taken from the kernel in pieces of at least this size.
const CHUNK_BYTES: usize = 64 * 1024;
/// Blocks up to 2^(ORDER - 1) bytes.
const ORDER: usize = 40;

/// The heap that [`entry!`](crate::entry) gives a program: it grows as it is used.
pub struct Heap(spin::Mutex<buddy_system_allocator::Heap<ORDER>>);

impl Heap {
    /// Makes an empty heap.
    pub const fn new() -> Self {
        Self(spin::Mutex::new(buddy_system_allocator::Heap::new()))
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: each method hands its obligations to the allocator, under a lock.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut heap = self.0.lock();
        if let Ok(block) = heap.alloc(layout) {
            return block.as_ptr();
        }
        // Blocks are powers of two, aligned to their size, so half of a chunk always holds one.
        let bytes = (layout.size().max(layout.align()).next_power_of_two() * 2).max(CHUNK_BYTES);
        let Ok(start) = sys::map(bytes) else { return core::ptr::null_mut() };
        // SAFETY: the kernel has just given this range to nobody else, and it stays mapped.
        unsafe { heap.add_to_heap(start.addr(), start.addr() + bytes) };
        heap.alloc(layout).map_or(core::ptr::null_mut(), core::ptr::NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = core::ptr::NonNull::new(pointer) {
            // SAFETY: by the caller, it was allocated here with this layout.
            unsafe { self.0.lock().dealloc(pointer, layout) };
        }
    }
}

/// Makes `fn() -> i32` the program's start, for programs with `#![no_std]` and `#![no_main]`: its
/// result is the exit code. Brings a heap (so `alloc` works), a panic handler, and the one function
/// of the C library that the start code calls. The function must not be called `main`: that name is taken for
/// what the start code calls. The crate's page shows a program.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[global_allocator]
        static UNIKERNEL_HEAP: $crate::start::Heap = $crate::start::Heap::new();

        #[panic_handler]
        fn unikernel_panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::start::panic(info)
        }

        // For `memcpy` and its like, which compiled code calls; nothing else of it is pulled in.
        #[link(name = "c")]
        unsafe extern "C" {}

        /// The start code passes the `main` below.
        // SAFETY: no other function has this name, since no C library is linked in.
        #[unsafe(no_mangle)]
        extern "C" fn __libc_start_main(
            main: extern "C" fn() -> i32,
            count: i32,
            vector: *const *const core::ffi::c_char,
        ) -> ! {
            // SAFETY: the start code passes what the kernel left on the stack.
            unsafe { $crate::start::run(count, vector, main) }
        }

        /// The prebuilt `alloc` refers to this and the next. Panics abort here, so nothing unwinds.
        // SAFETY: no other function has this name, since no unwinder is linked in.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            unreachable!("a panic does not unwind")
        }

        /// See `_Unwind_Resume`.
        // SAFETY: as there.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// Where debuggers stop, and what the start code refers to.
        // SAFETY: no other function has this name, since the program has no `main` of Rust's.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            $main()
        }
    };
}
