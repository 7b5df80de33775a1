//! Loads and stores that may meet anything: where there is no memory, they answer so.

use std::arch::global_asm;
use std::ffi::{c_int, c_void};

global_asm!(
    ".globl fuzz_load",
    "fuzz_load: mov eax, dword ptr [rdi]",
    "ret",
    ".globl fuzz_store",
    "fuzz_store: mov dword ptr [rdi], esi",
    "xor eax, eax",
    "ret",
    ".globl fuzz_fault",
    "fuzz_fault: mov rax, -1",
    "ret",
);

unsafe extern "C" {
    fn fuzz_load(address: u64) -> i64;
    fn fuzz_store(address: u64, value: u32) -> i64;
    fn fuzz_fault() -> i64;
}

/// What lies there.
pub(crate) fn load(address: u64) -> Option<u32> {
    // SAFETY: a fault of its one instruction ends in `fuzz_fault`; any other result is 32 bits wide.
    u32::try_from(unsafe { fuzz_load(address) }).ok()
}

/// Writes there; the caller names memory that is a test's own, or nobody's.
pub(crate) fn store(address: u64, value: u32) {
    // SAFETY: as `load`; all addresses are in the arena or in a ring, which hold nothing of the program's.
    unsafe { fuzz_store(address, value) };
}

/// The handler of SIGSEGV and SIGBUS.
extern "C" fn on_fault(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands the context of what it has interrupted.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let rip = &mut registers[libc::REG_RIP as usize];
    if *rip == fuzz_load as *const () as i64 || *rip == fuzz_store as *const () as i64 {
        *rip = fuzz_fault as *const () as i64;
        return;
    }
    // SAFETY: the fault is the program's own: it recurs, and ends it.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Installs the handlers.
pub(crate) fn prepare() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: all zeros is a valid value, and the handler only changes the context that it is given.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
        }
    }
}
