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
pub unsafe fn run(count: i32, vector: *const *const c_char, main: fn() -> i32) -> ! {
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

/// Memory from the kernel, for the heap.
struct Mapped;

// SAFETY: `map` answers fresh, zeroed memory that nobody else has, and it is never given back.
unsafe impl dlmalloc::Allocator for Mapped {
    fn alloc(&self, bytes: usize) -> (*mut u8, usize, u32) {
        match sys::map(bytes) {
            Ok(start) => (start, bytes, 0),
            Err(_) => (core::ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// The heap that [`entry!`](crate::entry) gives a program.
pub struct Heap(spin::Mutex<dlmalloc::Dlmalloc<Mapped>>);

impl Heap {
    /// Makes an empty heap; it grows as it is used.
    pub const fn new() -> Self {
        Self(spin::Mutex::new(dlmalloc::Dlmalloc::new_with_allocator(Mapped)))
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
        // SAFETY: by the caller.
        unsafe { self.0.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller.
        unsafe { self.0.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller.
        unsafe { self.0.lock().free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: by the caller.
        unsafe { self.0.lock().realloc(pointer, layout.size(), layout.align(), new_size) }
    }
}

/// Makes `fn() -> i32` the program's start, for programs with `#![no_std]` and `#![no_main]`: its
/// result is the exit code. Brings a heap (so `alloc` works), a panic handler, and the one function
/// of the C library that the start code calls.
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

        /// The start code passes its own `main`, which is not used: the program's is known here.
        // SAFETY: no other function has this name, since no C library is linked in.
        #[unsafe(no_mangle)]
        extern "C" fn __libc_start_main(
            _main: usize,
            count: i32,
            vector: *const *const core::ffi::c_char,
        ) -> ! {
            let main: fn() -> i32 = $main;
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
