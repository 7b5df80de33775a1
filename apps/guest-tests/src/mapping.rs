//! What tests of mapped files share: mappings, accesses that may end in SIGBUS, and files to map.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use crate::{check, check_eq, errno};

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// A mapping for reading.
pub const READ: i32 = libc::PROT_READ;
/// A mapping for both.
pub const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

static BUS_CODE: AtomicI32 = AtomicI32::new(0);
static BUS_ADDRESS: AtomicUsize = AtomicUsize::new(0);

/// Lets [`load`] and [`store`] go on behind an access that ends in SIGBUS.
pub fn catch_bus_errors() {
    extern "C" fn skip(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel gives both; the access is two bytes long, and the code after it reads `rdx`.
        unsafe {
            BUS_CODE.store((*info).si_code, Ordering::Relaxed);
            BUS_ADDRESS.store((*info).si_addr().addr(), Ordering::Relaxed);
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            registers[libc::REG_RIP as usize] += 2;
            registers[libc::REG_RDX as usize] = 1;
        }
    }
    // SAFETY: a zeroed `sigaction` is one without flags; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = skip;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        check_eq!(libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()), 0);
    }
}

/// Reads a byte of a mapping; `None` if that ends in SIGBUS.
pub fn load(at: *const u8) -> Option<u8> {
    let (value, failed): (u8, u64);
    // SAFETY: the tests name mapped memory; the handler skips the instruction if there is no page.
    unsafe { std::arch::asm!("mov al, [rdi]", in("rdi") at, out("al") value, inout("rdx") 0_u64 => failed) };
    (failed == 0).then_some(value)
}

/// Writes a byte of a mapping; false if that ends in SIGBUS.
pub fn store(at: *mut u8, value: u8) -> bool {
    let failed: u64;
    // SAFETY: as above.
    unsafe { std::arch::asm!("mov [rdi], al", in("rdi") at, in("al") value, inout("rdx") 0_u64 => failed) };
    failed == 0
}

/// A mapping of a file, unmapped at the end.
pub struct Mapping {
    /// Where it is.
    pub start: *mut u8,
    /// Its bytes.
    pub len: usize,
}

impl Mapping {
    /// The first pages of a file, mapped as the flags say.
    pub fn new(file: &File, pages: usize, protection: i32, flags: i32) -> Self {
        let len = pages * PAGE;
        // SAFETY: the kernel picks the place.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        check!(start != libc::MAP_FAILED);
        Self { start: start.cast(), len }
    }

    /// For reading and writing, shared with the file.
    pub fn shared(file: &File, pages: usize) -> Self {
        Self::new(file, pages, READ_WRITE, libc::MAP_SHARED)
    }

    /// For reading and writing, the app's own.
    pub fn private(file: &File, pages: usize) -> Self {
        Self::new(file, pages, READ_WRITE, libc::MAP_PRIVATE)
    }

    /// The address of a byte.
    pub fn at(&self, offset: usize) -> *mut u8 {
        check!(offset < self.len);
        self.start.wrapping_add(offset)
    }

    /// [`load`] at an offset.
    pub fn load(&self, offset: usize) -> Option<u8> {
        load(self.at(offset))
    }

    /// [`store`] at an offset.
    pub fn store(&self, offset: usize, value: u8) -> bool {
        store(self.at(offset), value)
    }

    /// Changes the protection of one page; answers the error.
    pub fn protect(&self, offset: usize, protection: i32) -> i32 {
        // SAFETY: the page is this mapping's.
        if unsafe { libc::mprotect(self.at(offset).cast(), PAGE, protection) } == 0 { 0 } else { errno() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing refers to it.
        check_eq!(unsafe { libc::munmap(self.start.cast(), self.len) }, 0);
    }
}

/// A file with this content, open for both.
pub fn new_file(folder: &Path, name: &str, content: &[u8]) -> File {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// A byte of the file, as a call reads it.
pub fn byte_at(file: &File, offset: usize) -> u8 {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).unwrap();
    byte[0]
}

/// What a call says that reads the byte, and one that writes it.
pub fn errors_of_calls(at: *mut u8) -> (i32, i32) {
    let mut pipe = [0; 2];
    // SAFETY: the array takes two descriptors; the addresses are meant to be bad.
    unsafe {
        check_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let reads = if libc::write(pipe[1], at.cast(), 1) == 1 { 0 } else { errno() };
        let writes = if libc::getrandom(at.cast(), 1, 0) == 1 { 0 } else { errno() };
        libc::close(pipe[0]);
        libc::close(pipe[1]);
        (reads, writes)
    }
}

/// Checks that no access reaches a page, and that each says so in its way.
pub fn check_is_no_page(mapping: &Mapping, offset: usize) {
    BUS_CODE.store(0, Ordering::Relaxed);
    check_eq!(mapping.load(offset), None);
    check_eq!(BUS_CODE.load(Ordering::Relaxed), 2 /* BUS_ADRERR */);
    check_eq!(BUS_ADDRESS.load(Ordering::Relaxed), mapping.at(offset).addr());
    check_no_store(mapping, offset);
    check_eq!(errors_of_calls(mapping.at(offset)), (libc::EFAULT, libc::EFAULT));
}

/// Writes a file to its disk and lets its pages in memory go.
pub fn forget_pages(file: &File) {
    file.sync_all().unwrap();
    // SAFETY: only the descriptor is used.
    check_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) }, 0);
}

/// Checks that a store ends in SIGBUS.
pub fn check_no_store(mapping: &Mapping, offset: usize) {
    BUS_CODE.store(0, Ordering::Relaxed);
    check!(!mapping.store(offset, b'!'));
    check_eq!(BUS_CODE.load(Ordering::Relaxed), 2 /* BUS_ADRERR */);
}
